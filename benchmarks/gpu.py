"""Run what TensorFlow compiles, without TensorFlow, on a GPU: searches and training.

    python -m benchmarks gpu export FOLDER [--small]     # needs kerashash
    python -m benchmarks gpu run FOLDER [--out FOLDER]   # needs jax and numpy only

`export` writes compiled programs of kerashash as StableHLO, with inputs and the outputs
that the processor gave. `run` loads them with JAX, wherever that runs: it compares the
outputs and takes the time. Databases to search are drawn on the device, and a search of
one is checked by counting. Where CuPy and PyTorch are installed, the usual way to
search, by distances and `topk`, takes its turn. Results go to gpu.csv, row by row, and
to the terminal. An item that fails is a row with its error. The committed gpu.csv joins
three runs, each with its own speed of a copy: the second measured searches, the first
what they are made of, the third training steps.
"""

import argparse
import concurrent.futures
import csv
import functools
import json
import os
import pathlib
import statistics
import sys
import time
import unittest.mock
import warnings

# Set before TensorFlow or JAX is imported. Training steps are compared with those of a
# processor, whose products are float32; CuPy and PyTorch need memory of the GPU too.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.6")

import numpy as np

# `python -m benchmarks --output FOLDER` writes elsewhere.
FOLDER = pathlib.Path(
    os.environ.get("BENCHMARKS_OUTPUT", pathlib.Path(__file__).parent / "results")
)
COLUMNS = (
    *("item", "n", "bits", "queries", "k", "ms", "GB/s", "of_copy"),
    *("equal", "max_difference", "compile_s", "error"),
)
K = 100
# Databases are multiples of 2^20 codes: they fill their chunks.
SIZES = (1, 10, 96)
SMALL_SIZES = (1,)
# Queries that a program takes; more of them are several calls.
BLOCKS = (1, 64)
QUERIES = (1, 64, 1024)


# ---------------------------------------------------------------------- export


class Exporter:
    """Writes programs, their inputs and their outputs to a folder."""

    def __init__(self, folder, only=("",)):
        self.folder, self.only = folder, only
        folder.mkdir(parents=True, exist_ok=True)
        self.items = []

    def wants(self, name):
        return any(part in name for part in self.only)

    def program(self, name, function, specs, **properties):
        """Write a compiled `tf.function` of static shapes, without values."""
        if not self.wants(name):
            return None
        concrete = function.get_concrete_function(*specs)
        text = concrete_ir(concrete, specs)
        (self.folder / f"{name}.mlir").write_bytes(text)
        self.items.append({"name": name, **properties})
        return concrete

    def example(self, name, function, inputs, outputs=None, **properties):
        """Write a compiled `tf.function`, with inputs, captured values and outputs."""
        import tensorflow as tf

        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, inputs)
        concrete = self.program(name, function, specs, kind="example", **properties)
        if concrete is None:
            return
        # Read first: a call changes variables. They are the last arguments.
        flat = [x.numpy() for x in tf.nest.flatten(inputs)]
        flat += [value_of(x) for x in concrete.captured_inputs]
        if outputs is None:
            outputs = [x.numpy() for x in tf.nest.flatten(function(*inputs))]
        arrays = {f"in_{i}": x for i, x in enumerate(flat)}
        arrays |= {f"out_{i}": np.asarray(x) for i, x in enumerate(outputs)}
        np.savez_compressed(self.folder / f"{name}.npz", **arrays)

    def close(self):
        import keras
        import tensorflow as tf

        versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
        manifest = {"versions": versions, "items": self.items}
        (self.folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def concrete_ir(concrete, specs):
    """StableHLO of a concrete function, as a portable artifact."""
    import tensorflow as tf
    from tensorflow.python.eager.polymorphic_function import compiler_ir

    lower = compiler_ir.from_concrete_function(concrete, tf.nest.flatten(specs))
    return lower(stage="stablehlo_serialized", platform_name="CPU")


def value_of(captured):
    """The value of what a function has captured: a tensor, or a variable's handle."""
    import tensorflow as tf

    if captured.dtype != tf.resource:
        return captured.numpy()
    data = captured._handle_data.shape_and_type[0]
    return tf.raw_ops.ReadVariableOp(
        resource=captured, dtype=tf.as_dtype(data.dtype)
    ).numpy()


def export(folder, small, variants, only):
    exporter = Exporter(folder, only)
    export_searches(exporter, small)
    export_counts(exporter, small)
    export_dcc(exporter, small)
    for name, make in training_steps(small).items():
        if exporter.wants(name):
            export_step(exporter, name, *make())
    if variants:
        export_variants(exporter, small)
    exporter.close()


def export_searches(exporter, small):
    """Searches of a small database with their results, and of large ones without."""
    import kerashash
    from kerashash.retrieval import program

    rng = np.random.default_rng(0)
    cases = [(12, 64, 100), (64, 1, 1), (64, 1, 100), (100, 9, 10), (128, 64, 100)]
    n = 40_013
    if small:
        cases, n = [(12, 1, 5), (100, 3, 20)], 3_000
    for bits, q, k in cases:
        database = kerashash.codes.pack(rng.choice([-1, 1], (n, bits)))
        queries = kerashash.codes.pack(rng.choice([-1, 1], (q, bits)))
        block = program.AcceleratorBlock(database, 0)
        inputs = program.as_words(queries, q), block.codes, np.int32(n)
        exporter.example(
            f"nearest_{bits}_bits_{q}_queries_k_{k}",
            program._program(bits, k),
            inputs,
            kerashash.HammingRanker(database, bits).top_k(queries, k),
        )
    for size in SMALL_SIZES if small else SIZES:
        for bits in (64,) if small else (64, 128):
            for q in BLOCKS[:1] if small else BLOCKS:
                export_search(exporter, size, bits, q)


def export_search(exporter, size, bits, q, variant="", dtype="uint64"):
    """The search of `size` times 2^20 codes."""
    import tensorflow as tf

    from kerashash.retrieval import program

    words, rows = bits // int(dtype[4:]), size << 20
    function = tf.function(
        lambda queries, codes, n: program.nearest(queries, codes, n, bits, K),
        jit_compile=True,
        autograph=False,
    )
    specs = (
        tf.TensorSpec((words, q), dtype),
        tf.TensorSpec((words, rows), dtype),
        tf.TensorSpec((), tf.int32),
    )
    name = f"search_{size}M_{bits}_bits_{q}_queries" + variant
    properties = {"rows": rows, "bits": bits, "queries": q, "variant": variant}
    exporter.program(name, function, specs, kind="search", dtype=dtype, **properties)


def export_variants(exporter, small):
    """Other kernels: of the scan alone, and of the whole search."""
    import tensorflow as tf

    from kerashash.retrieval import program

    hamming = program.hamming

    def broadcast(queries, codes, chunk):
        """One broadcast and one reduction for all queries."""
        chunks = tf.reshape(codes, (codes.shape[0], -1, chunk))
        return tf.reduce_min(hamming(queries[:, :, None, None], chunks[:, None]), 2)

    def by_row(queries, codes, chunk):
        """Codes row by row: the words of a code are neighbours."""
        chunks = tf.reshape(codes, (-1, chunk, codes.shape[1]))
        rows = tf.transpose(queries)[:, None, None]
        differ = tf.bitwise.bitwise_xor(chunks[None], rows)
        counts = tf.cast(tf.raw_ops.PopulationCount(x=differ), tf.int32)
        return tf.reduce_min(tf.reduce_sum(counts, axis=3), axis=2)

    def add(name, function, size, bits, q, chunk, dtype="uint64", rows_first=False):
        words, rows = bits // int(dtype[4:]), size << 20
        shape = (rows, words) if rows_first else (words, rows)
        specs = tf.TensorSpec((words, q), dtype), tf.TensorSpec(shape, dtype)
        compiled = tf.function(
            lambda queries, codes: function(queries, codes, chunk),
            jit_compile=True,
            autograph=False,
        )
        properties = {"rows": rows, "bits": bits, "queries": q, "shape": shape}
        name = f"scan_{name}_chunk_{chunk}_{size}M_{bits}_bits_{q}_queries"
        exporter.program(name, compiled, specs, kind="scan", dtype=dtype, **properties)

    size = 1 if small else SIZES[-1]
    if small:
        add("broadcast", broadcast, size, 64, 2, 1024)
        add("rows", by_row, size, 128, 2, 1024, rows_first=True)
        return
    unrolled = program.chunk_minima
    for q in BLOCKS:
        for chunk in (256, 512, 1024, 4096):
            add("unrolled", unrolled, size, 64, q, chunk)
        add("unrolled_uint32", unrolled, size, 64, q, 1024, "uint32")
    add("broadcast", broadcast, size, 64, 64, 1024)
    add("unrolled", unrolled, size, 128, 1, 1024)
    add("rows", by_row, size, 128, 1, 1024, rows_first=True)

    def patched(size, q, variant, **values):
        """The search with other values of the program's settings."""
        with unittest.mock.patch.multiple(program, **values):
            export_search(exporter, size, 64, q, variant)

    wide = {"_GROUP_SIZES": (64, 1024)}
    for q in (1, 8, 64):
        # Whether to select by comparisons of all keys, or by a sort.
        patched(size, q, "_compared", _MOST_COMPARISONS=1 << 40)
        patched(size, q, "_sorted", _MOST_COMPARISONS=0)
        patched(size, q, "_sorted_groups_64", _MOST_COMPARISONS=0, **wide)
    for q in BLOCKS:
        patched(size, q, "_chunk_256", _CHUNK_SIZES=(64, 256))
        export_search(exporter, size, 64, q, "_uint32", dtype="uint32")
    patched(size, 1, "_groups_64", **wide)
    patched(SIZES[0], 1, "_sorted", _MOST_COMPARISONS=0)
    # One selection from all of few codes, or from all of few minima.
    patched(SIZES[0], 1, "_no_chunks", _CHUNK_SIZES=(1 << 20, 1 << 20))
    patched(SIZES[0], 1, "_no_groups", _GROUP_SIZES=(1 << 20, 1 << 20))


def export_counts(exporter, small):
    """How many items lie at each distance, of which how many are relevant."""
    import tensorflow as tf

    import kerashash
    from kerashash.evaluation import compiled_counts, relevance
    from kerashash.retrieval import layout

    rng = np.random.default_rng(1)
    bits, q, n = 48, 8 if small else 64, 3_000 if small else 190_000
    labels = [np.eye(21, dtype=np.uint8)[rng.integers(0, 21, m)] for m in (q, n)]
    packed = [kerashash.codes.pack(rng.choice([-1, 1], (m, bits))) for m in (q, n)]
    judge = relevance.Relevance(*labels, num_queries=q, num_items=n)
    queries = np.hstack([packed[0], judge.query])
    items = np.hstack([packed[1], judge.database])
    count = compiled_counts._counter(bits, queries.shape[1], judge.single, False)
    chunks = layout.round_up_chunks(-(-n // layout.LANES))
    inputs = (
        queries,
        layout.chunked(items, chunks),
        np.zeros((0, 0), bool),
        np.int32(n),
    )
    total, relevant = compiled_counts.histograms(*packed, bits, judge)
    exporter.example(
        f"counts_{q}_queries_{n}_items",
        tf.function(lambda *arguments: count(*arguments), jit_compile=True),
        inputs,
        [np.stack([total - relevant, relevant], axis=1).astype(np.int32)],
    )


def export_dcc(exporter, small):
    """The discrete solver, from random codes."""
    import tensorflow as tf

    from kerashash.maths import discrete

    rng = np.random.default_rng(2)
    n, bits = (50, 8) if small else (20_000, 48)
    gram = rng.integers(-8, 9, (bits, bits)).astype(np.float32)
    gram = gram @ gram.T
    # Small integers: their sums are exact in float32, in whatever order.
    target = rng.integers(-512, 513, (n, bits)).astype(np.float32)
    codes = rng.choice([-1, 1], (n, bits)).astype(np.int8)
    solve = tf.function(
        lambda codes, gram, target: discrete.dcc(codes, gram, target), jit_compile=True
    )
    exporter.example(f"dcc_{n}_codes_{bits}_bits", solve, (codes, gram, target))


def export_step(exporter, name, model, inputs):
    """One training step, as a function of the variables and a batch.

    The outputs are what the step reports, then all variables after it.
    """
    import tensorflow as tf

    unique = {}
    for variable in [*model.variables, *model.optimizer.variables]:
        if variable.dtype != "string":
            unique.setdefault(id(variable), variable)
    for metric in model.metrics:
        for variable in metric.variables:
            unique.setdefault(id(variable), variable)
    variables = list(unique.values())

    def step(values, x, rows):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        reported = model.train_step((x, rows))
        return (
            [tf.convert_to_tensor(reported[key]) for key in sorted(reported)],
            [tf.convert_to_tensor(variable.value) for variable in variables],
        )

    values = [variable.numpy() for variable in variables]
    exporter.example(name, tf.function(step, jit_compile=True), (values, *inputs))


def training_steps(small):
    """Functions by name that make a model in the midst of training, and a batch."""
    import keras

    from kerashash import methods

    size, n, bits, classes = (4, 8, 8, 4) if small else (32, 96, 48, 10)
    side = 16 if small else 64

    def network():
        """A small network on images, which it resizes."""
        return keras.Sequential(
            [
                keras.Input((side, side, 3)),
                keras.layers.Rescaling(1 / 127.5, -1),
                keras.layers.Resizing(side // 2, side // 2),
                keras.layers.Conv2D(8, 3, strides=2, use_bias=False),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.GlobalAveragePooling2D(),
            ]
        )

    def trained(method, labels=None, epochs=1, **options):
        def make():
            keras.utils.set_random_seed(0)
            rng = np.random.default_rng(3)
            x = rng.integers(0, 256, (n, side, side, 3)).astype(np.float32)
            y = np.eye(classes, dtype=np.float32)[rng.integers(0, classes, n)]
            y = y if labels is None else labels(rng, n, classes)
            model = method(network(), bits, num_classes=classes, **options)
            # With a small epsilon, rounding would decide the first step of a weight
            # whose gradient is almost 0.
            optimizer = keras.optimizers.Adam(1e-3, epsilon=1e-3)
            model.compile(optimizer, jit_compile=False)
            # `fit` makes what a step needs besides its batch. DDH-LDL drops its rows at
            # the end.
            rows = {}
            keep = keras.callbacks.LambdaCallback(
                on_epoch_end=lambda *_: rows.update(rows=getattr(model, "rows", None))
            )
            with warnings.catch_warnings():
                # Of DDH-LDL in stage 1: what encodes is not trained yet.
                warnings.simplefilter("ignore", UserWarning)
                model.fit(
                    x, y, batch_size=size, epochs=epochs, verbose=0, callbacks=[keep]
                )
            if rows["rows"] is not None:
                model.rows = rows["rows"]
            index = np.arange(size, dtype=np.int32)
            return model, (x[:size], {"index": index, "label": y[:size]})

        return make

    def distributions(rng, n, classes):
        return rng.dirichlet(np.ones(classes), n).astype(np.float32)

    units = {"label_units": (128, 64), "fusion_units": (128, 64)}
    ldl = {"num_train": n, "code_units": (64,), "function_units": (64,)}
    average = {"variant": "V", "pair_loss": "average_precision"}
    return {
        "step_adalabel": trained(methods.AdaLabelHash),
        "step_dcdh_squares": trained(methods.DCDH, num_train=n, **units),
        "step_dcdh_average_precision": trained(methods.DCDH, num_train=n, **average),
        "step_dsre": trained(methods.DSRE),
        "step_ddh": trained(methods.DDH, num_train=n, similarity="labels"),
        "step_ddh_ldl_codes": trained(
            methods.DDHLDL, labels=distributions, code_epochs=3, **ldl
        ),
        "step_ddh_ldl_function": trained(
            methods.DDHLDL, labels=distributions, epochs=2, code_epochs=1, **ldl
        ),
    }


# ------------------------------------------------------------------------- run


def load(path):
    """Compile a StableHLO artifact for JAX's first device.

    Returns a function from a list of arrays to a list of arrays.
    """
    import jax
    from jax._src import compiler
    from jax._src.lib import xla_client
    from jax.extend import mlir
    from jax.interpreters.mlir import make_ir_context
    from jaxlib.mlir import ir

    device = jax.devices()[0]
    settings = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    with make_ir_context():
        module = mlir.deserialize_portable_artifact(path.read_bytes())
        # A step would take the memory of the variables, which are needed again.
        aliases = "mhlo.input_output_alias"
        module.operation.attributes[aliases] = ir.ArrayAttr.get([])
        drop_copies(module)
        executable = device.client.compile_and_load(
            module, xla_client.DeviceList((device,)), settings
        )
    return executable.execute


def drop_copies(module):
    """Use a value where a copy of it was used.

    TensorFlow returns copies of variables. They are no operations of StableHLO.
    """
    from jaxlib.mlir import ir

    copies = []

    def collect(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(collect)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


def timed(function, repeats=7, budget=2.0):
    """Median milliseconds of calls after two that warm up, and the last result."""
    import jax

    for _ in range(2):
        result = jax.block_until_ready(function())
    times, stop = [], time.perf_counter() + budget
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() < stop):
        start = time.perf_counter()
        result = jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times), result


class Results:
    """Rows of results: printed and written one by one."""

    def __init__(self, folder, device):
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / "gpu.csv").open("w", newline="")
        self.file.write(f"# {device}\n")
        self.writer = csv.DictWriter(self.file, COLUMNS)
        self.writer.writeheader()
        self.failed = 0
        print(device, flush=True)

    def add(self, **row):
        row = {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
        self.failed += "error" in row or row.get("equal") is False
        self.writer.writerow(row)
        self.file.flush()
        print(*(f"{key}={value}" for key, value in row.items()), flush=True)


def machine():
    """The device and the versions, in a line."""
    import jax
    import jaxlib

    device = jax.devices()[0]
    return (
        f"{device.device_kind} ({device.platform}), jax {jax.__version__}, jaxlib "
        f"{jaxlib.__version__}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}"
    )


def copy_speed(size):
    """GB/s of reading and writing an array of `size` bytes."""
    import jax
    import jax.numpy as jnp

    source = jnp.arange(size // 4, dtype=jnp.uint32)
    copy = jax.jit(lambda x: x ^ 1)
    ms, _ = timed(lambda: copy(source))
    return 2 * size / ms / 1e6


def run(folder, out, small, only, seconds):
    import jax

    jax.config.update("jax_enable_x64", True)  # words are uint64
    stop = time.perf_counter() + seconds
    results = Results(out, machine())
    manifest = json.loads((folder / "manifest.json").read_text())
    items = [i for i in manifest["items"] if any(p in i["name"] for p in only)]
    copy = copy_speed(1 << 24 if small else 1 << 31)
    results.add(item="copy", **{"GB/s": copy})
    runners = {"search": run_search, "example": run_example, "scan": run_scan}
    # Compilation takes longer than the runs, and several cores.
    for kind in runners:
        compiled = {}
        chosen = [item for item in items if item["kind"] == kind]
        # Those of one database follow one another, for it to be drawn once.
        chosen.sort(
            key=lambda i: (i.get("bits", 0), i.get("rows", 0), i.get("dtype", ""))
        )
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for item in chosen if time.perf_counter() < stop else []:
                compiled[item["name"]] = pool.submit(compile_item, folder, item)
            concurrent.futures.wait(compiled.values())
        for item in chosen:
            if time.perf_counter() > stop:
                results.add(item=item["name"], error="no time left")
                continue
            try:
                program, compile_s = compiled[item["name"]].result()
                runners[kind](results, folder, item, program, compile_s, copy)
            except Exception as error:  # a finding as well
                text = f"{type(error).__name__}: {error}"
                results.add(item=item["name"], error=" ".join(text.split())[:500])
        if kind == "search":
            for bits, rows in sorted({(i["bits"], i["rows"]) for i in chosen}):
                run_rivals(results, bits, rows, copy, stop)
    results.file.close()
    return results.failed


def compile_item(folder, item):
    start = time.perf_counter()
    program = load(folder / f"{item['name']}.mlir")
    return program, time.perf_counter() - start


def run_example(results, folder, item, program, compile_s, copy):
    """Compare the outputs of a program with those of the processor."""
    import jax

    with np.load(folder / f"{item['name']}.npz") as file:
        arrays = dict(file)
    count = sum(name.startswith("in_") for name in arrays)
    inputs = [jax.device_put(arrays[f"in_{i}"]) for i in range(count)]
    outputs = [arrays[f"out_{i}"] for i in range(len(arrays) - count)]
    ms, actual = timed(lambda: program(inputs))
    equal, most = True, 0.0
    for expected, value in zip(outputs, actual, strict=False):
        value = np.asarray(value)
        equal &= value.shape == expected.shape and value.dtype == expected.dtype
        difference = np.abs(value.astype(np.float64) - expected)
        most = max(most, float(np.max(difference, initial=0.0)))
        if expected.dtype.kind == "f":
            equal &= bool(np.allclose(value, expected, rtol=1e-3, atol=1e-4))
        else:
            equal &= bool(np.array_equal(value, expected))
    results.add(
        item=item["name"], ms=ms, equal=equal, max_difference=most, compile_s=compile_s
    )


@functools.lru_cache(maxsize=1)
def draw(shape, dtype, seed=0):
    """Random words on the device; the database drawn last is kept."""
    import jax

    return jax.random.bits(jax.random.key(seed), shape, dtype)


def draw_queries(words, count, dtype="uint64"):
    import jax

    return jax.random.bits(jax.random.key(1), (words, count), dtype)


def run_search(results, folder, item, program, compile_s, copy):
    """Time a search and check the results of its first and last query."""
    import jax

    bits, rows, block, dtype = (
        item[name] for name in ("bits", "rows", "queries", "dtype")
    )
    words = bits // int(dtype[4:])
    codes = draw((words, rows), dtype)
    n = jax.device_put(np.int32(rows))
    for count in [block] if block == 1 or item["variant"] else [block, 1024]:
        queries = draw_queries(words, count, dtype)
        parts = [queries[:, i : i + block] for i in range(0, count, block)]

        def search(parts=parts):
            return [program([part, codes, n]) for part in parts]

        ms, found = timed(search)
        equal = all(
            bool(is_nearest(codes, part[:, i], *(x[i] for x in result)))
            for part, result in ((parts[0], found[0]), (parts[-1], found[-1]))
            for i in (0, -1)
        )
        add_speed(
            results,
            item["name"],
            rows,
            bits,
            count,
            K,
            ms,
            copy,
            equal=equal,
            compile_s=compile_s,
        )


def add_speed(results, name, rows, bits, queries, k, ms, copy, **values):
    """A row of a search. A query counts as one reading of the database."""
    speed = queries * rows * bits / 8 / ms / 1e6
    results.add(
        item=name, n=rows, bits=bits, queries=queries, k=k, ms=ms,
        **{"GB/s": speed, "of_copy": speed / copy}, **values,
    )  # fmt: skip


@functools.cache
def _is_nearest():
    """Whether distances and indices are the k nearest, found by counting."""
    import jax
    import jax.numpy as jnp

    def check(codes, query, distances, indices):
        all_distances = jnp.bitwise_count(codes ^ query[:, None]).astype(jnp.int32)
        all_distances = all_distances.sum(axis=0, dtype=jnp.int32)
        position = jnp.arange(codes.shape[1], dtype=jnp.int32)
        keys = distances.astype(jnp.int64) << 32 | indices
        last = keys[-1]
        before = (all_distances.astype(jnp.int64) << 32 | position) <= last
        return (
            (all_distances[indices] == distances).all()
            & (jnp.diff(keys) > 0).all()
            & (before.sum() == len(keys))
        )

    return jax.jit(check)


def is_nearest(*arguments):
    return _is_nearest()(*arguments)


def run_scan(results, folder, item, program, compile_s, copy):
    """Time one way to find the smallest distance in each chunk."""
    codes = draw(tuple(item["shape"]), item["dtype"])
    words = item["bits"] // (64 if item["dtype"] == "uint64" else 32)
    queries = draw_queries(words, item["queries"], item["dtype"])
    ms, (minima,) = timed(lambda: program([queries, codes]))
    equal = None
    if codes.shape[0] == words:
        equal = bool((chunk_minima()(queries, codes, minima) == 0).all())
    add_speed(
        results,
        item["name"],
        item["rows"],
        item["bits"],
        item["queries"],
        0,
        ms,
        copy,
        equal=equal,
        compile_s=compile_s,
    )


@functools.cache
def chunk_minima():
    """Difference from the smallest distances of the last query."""
    import jax
    import jax.numpy as jnp

    def check(queries, codes, minima):
        differ = jnp.bitwise_count(codes ^ queries[:, -1:]).astype(jnp.int32)
        distances = differ.sum(axis=0, dtype=jnp.int32)
        return distances.reshape(minima.shape[1], -1).min(axis=1) - minima[-1]

    return jax.jit(check)


def run_rivals(results, bits, rows, copy, stop):
    """The usual ways: all distances, then the smallest of them."""
    import jax
    import jax.numpy as jnp

    codes = draw((bits // 64, rows), "uint64")
    queries = draw_queries(bits // 64, 64)

    def jax_topk(count):
        @jax.jit
        def search(codes, query):
            differ = jnp.bitwise_count(codes ^ query[:, None]).astype(jnp.int32)
            return jax.lax.top_k(-differ.sum(axis=0, dtype=jnp.int32), K)

        return lambda: [search(codes, queries[:, i]) for i in range(count)]

    def cupy_and_torch(count):
        import cupy
        import torch

        kernel = cupy.ElementwiseKernel(
            "raw uint64 codes, raw uint64 query, int32 words, int64 n",
            "int32 distance",
            "distance = 0;"
            "for (int w = 0; w < words; ++w)"
            "  distance += __popcll(codes[w * n + i] ^ query[w]);",
            "hamming",
        )
        cupy_codes = cupy.from_dlpack(codes)
        cupy_queries = [cupy.from_dlpack(queries[:, i]) for i in range(count)]
        distance = cupy.empty(rows, cupy.int32)
        tensor = torch.from_dlpack(distance)

        def search():
            for query in cupy_queries:
                kernel(cupy_codes, query, bits // 64, rows, distance)
                cupy.cuda.get_current_stream().synchronize()
                torch.topk(tensor, K, largest=False)
            torch.cuda.synchronize()

        return search

    for name, make, counts in (
        ("jax_topk", jax_topk, [1]),
        ("cupy_and_torch_topk", cupy_and_torch, [1, 64]),
    ):
        for count in counts:
            if time.perf_counter() > stop:
                return
            try:
                ms, _ = timed(make(count), repeats=3, budget=1.0)
            except Exception as error:
                results.add(item=name, error=f"{type(error).__name__}: {error}"[:200])
                break
            add_speed(results, name, rows, bits, count, K, ms, copy)


# ------------------------------------------------------------------------ main


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["export", "run"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--small", action="store_true", help="small sizes, for a test")
    parser.add_argument(
        "--variants", action="store_true", help="export other kernels as well"
    )
    parser.add_argument("--out", type=pathlib.Path, default=FOLDER)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of items' names")
    parser.add_argument("--seconds", type=float, default=330, help="of a run, at most")
    arguments = parser.parse_args()
    if arguments.action == "export":
        export(arguments.folder, arguments.small, arguments.variants, arguments.only)
        return 0
    failed = run(
        arguments.folder,
        arguments.out,
        arguments.small,
        arguments.only,
        arguments.seconds,
    )
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
