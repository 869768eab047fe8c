"""Give damaged files to every loader, and count how it takes them.

A loader may accept a file or refuse it by name: with a ValueError, TypeError or OSError
that says which file is wrong. Anything else is a fault: another error, a crash of the
process, more than some seconds or more memory than a limit.

    python tests/faults/fuzz.py --inputs 10000           # a row a loader in faults.csv
    python tests/faults/fuzz.py --target ranker --first 17 --inputs 1    # one input

Inputs are numbered: one number is one damage, on every machine.
"""

import argparse
import contextlib
import copy
import faulthandler
import functools
import hashlib
import importlib.util
import io
import json
import multiprocessing
import os
import pathlib
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import numpy as np

SECONDS = 20  # for one input
GIBIBYTES = 6  # of address space above that of the libraries
CHUNK = 2500  # inputs of a process
NAME = "adalabel-noise-12"
HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
HAS_LANCEDB = importlib.util.find_spec("lancedb") is not None
IMAGES = ("avif", "bmp", "gif", "jpeg", "png", "tiff", "webp", *["heif"] * HAS_HEIF)
STRANGE = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -1.5, 1e308, float("nan")),
    *("", "x", "../x", "/etc/passwd", "a\0b", "x" * 300, "\ud800", [], {}),
    *([[]], [0], {"x": 1}, [None], "imagenet", "MobileNetV2"),
)


# Damage


def damage_bytes(content, rng):
    """Change, cut, repeat or put in bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(data) + 1))
        length = int(rng.choice([1, 2, 4, 8, 64]))
        kind = rng.integers(7)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at : at + length] = rng.bytes(length)
        elif kind == 2:
            data[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f"]) * length
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.bytes(length)
        elif kind == 5:
            data[at:at] = data[at : at + 16 * length]
        else:
            del data[at:]
    return bytes(data)


def damage_json(content, rng):
    """Change values, keys and text of JSON."""
    if rng.random() < 0.25:
        return damage_bytes(content, rng)
    value = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        nodes = []

        def visit(item, nodes=nodes):
            if isinstance(item, dict | list):
                keys = item if isinstance(item, dict) else range(len(item))
                for key in keys:
                    nodes.append((item, key))
                    visit(item[key])

        visit(value)
        if not nodes:
            break
        parent, key = nodes[rng.integers(len(nodes))]
        kind = rng.integers(4)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent, dict):
            parent[str(rng.choice(["name", "files", "x", "config"]))] = parent.pop(key)
        elif kind == 2:
            parent[key] = [parent[key]] * int(rng.integers(1, 4))
        else:
            # A copy: what is put into it must not be there in the next input.
            parent[key] = copy.deepcopy(STRANGE[rng.integers(len(STRANGE))])
    return json.dumps(value).encode()


def damage_npz(content, rng):
    """Change arrays, headers or the archive."""
    if rng.random() < 0.4:
        return damage_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members])
    array = np.load(io.BytesIO(members[name]))
    kind = rng.integers(6)
    if kind == 0:
        members[name] = damage_bytes(members[name], rng)
    elif kind == 1:
        del members[name]
    else:
        dtypes = ("u1", "i8", "f4", "f8", "?", "U3", "c8", "M8[s]")
        if kind == 2:
            array = array.astype("S5" if array.dtype.kind == "U" else "U3")
        elif kind == 3:
            array = array.ravel()[: rng.integers(array.size + 1)]
        elif kind == 4:
            array = np.zeros(rng.integers(0, 9, rng.integers(0, 4)), rng.choice(dtypes))
        else:
            array = np.zeros(1 << int(rng.integers(20, 23)), "u1")
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array)
        members[name] = buffer.getvalue()
    out = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(out, "w", methods[rng.integers(3)]) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def damage_hdf5(content, rng):
    """Change arrays, links or bytes of a file of weights."""
    if rng.random() < 0.5:
        return damage_bytes(content, rng)
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names = []
        file.visititems(
            lambda name, item: (
                names.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
        name = names[rng.integers(len(names))]
        array = file[name][()]
        del file[name]
        kind = rng.integers(7)
        if kind == 0:
            file[name] = h5py.SoftLink("/" + names[0])
        elif kind == 1:
            file[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif kind == 2:
            file[name] = array[..., None]
        elif kind == 3:
            file[name] = array.astype("S3")
        elif kind == 4:
            file.create_dataset(name, (1 << 40,), "f4", chunks=(1 << 10,))
        elif kind == 5:
            file.create_dataset(name, (4,), "u1", external=[("/etc/passwd", 0, 4)])
    return buffer.getvalue()


def damage_keras(content, rng):
    """Change the archive of a model, its config or its weights."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([*members])
    if rng.random() < 0.1:
        del members[name]
    else:
        change = damage_hdf5 if name.endswith(".h5") else damage_json
        members[name] = change(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def damage_toml(content, rng):
    """Change lines and values of TOML."""
    if rng.random() < 0.3:
        return damage_bytes(content, rng)
    lines = content.decode().splitlines()
    for _ in range(rng.integers(1, 4)):
        at = rng.integers(len(lines))
        kind = rng.integers(4)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(rng.integers(len(lines)), lines[at])
        elif "=" in lines[at]:
            values = ("-1", "nan", '""', "[]", "{}", "true", "9" * 30, "[" * 500, "1.5")
            lines[at] = f"{lines[at].split('=')[0]}= {rng.choice(values)}"
        else:
            lines[at] = lines[at].replace("[", "[x.")
        if not lines:
            break
    return "\n".join(lines).encode()


def damage_sqlite(content, rng):
    """Change bytes, values, rows, tables or what SQLite runs by itself."""
    if rng.random() < 0.4:
        return damage_bytes(content, rng)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    values = (-1, 0, 1, 2**40, 2**63 - 1, -(2**63), 0.5, 1e308, "x", "", b"\0\xff")
    values += (b"x" * 5000, "\udcff".encode(errors="surrogateescape"))
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(content)
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(10)
        table = str(rng.choice(["meta", "versions", "rows"]))
        of_table = connection.execute(f"SELECT name FROM pragma_table_info('{table}')")
        names = [name for (name,) in of_table] or ["row"]
        column = names[rng.integers(len(names))]
        at = int(rng.integers(12))
        value = values[rng.integers(len(values))]
        with contextlib.suppress(sqlite3.Error):
            if kind < 3:
                strange = json.dumps(STRANGE[rng.integers(len(STRANGE))])
                connection.execute(
                    "UPDATE meta SET value = ? WHERE rowid = ?", (strange, at % 7 + 1)
                )
            elif kind < 6:
                connection.execute(
                    f'UPDATE OR REPLACE {table} SET "{column}" = ? '
                    f"WHERE rowid IN (SELECT rowid FROM {table} LIMIT 1 OFFSET ?)",
                    (value, at),
                )
            elif kind == 6:
                connection.execute(f"DELETE FROM {table} WHERE rowid >= ?", (at,))
            elif kind == 7:
                connection.execute(f"ALTER TABLE {table} RENAME TO stolen")
                select = "SELECT * FROM stolen"
                if rng.random() < 0.5:
                    select = f"{endless} SELECT i AS row, i AS id FROM n"
                connection.execute(f"CREATE VIEW {table} AS {select}")
            elif kind == 8:
                event = rng.choice(["INSERT", "UPDATE", "DELETE"])
                connection.execute(
                    f"CREATE TRIGGER x AFTER {event} ON {table} BEGIN "
                    f"DELETE FROM rows; DELETE FROM versions; END"
                )
            else:
                changes = (
                    f"DROP TABLE {table}",
                    "DROP INDEX live_ids",
                    "DROP INDEX removed_rows",
                    f"ALTER TABLE {table} ADD COLUMN x",
                    f'ALTER TABLE {table} RENAME COLUMN "{column}" TO y',
                )
                connection.execute(changes[rng.integers(len(changes))])
    data = connection.serialize()
    connection.close()
    return data


# Loaders


def sign(folder, file):
    """Let the card describe a file as it is."""
    path = folder / "card.json"
    card = json.loads(path.read_text())
    content = (folder / file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    card["files"][file] = {"sha256": digest, "bytes": len(content)}
    path.write_text(json.dumps(card))


def prepare(root):
    """Write one good file of each kind, small enough to be read in milliseconds."""
    import keras
    import scipy.io

    import kerashash
    from kerashash import zoo

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    backbone = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model = kerashash.AdaLabelHash(backbone, bits=12, num_classes=2)
    zoo.round_weights(model)
    x = rng.normal(size=(12, 6)).astype(np.float32)
    labels = np.eye(2, dtype=np.uint8)[np.arange(12) % 2]
    codes = {
        "query_codes": model.encode(x[:4], verbose=0),
        "query_labels": labels[:4],
        "database_codes": model.encode(x[4:], verbose=0),
        "database_labels": labels[4:],
    }
    metric = {"name": "mAP@ALL", "denominator": "relevant", "ties": "expected"}
    card = {"metrics": [{**metric, "empty": "zero", "database": "encoded"}]}
    text = zoo.recipe_path("ssdh-digits-48").read_text()
    recipe = text.replace("ssdh-digits-48", NAME).replace("bits = 48", "bits = 12")
    zoo.save(model, NAME, card, codes, recipe, root)
    (root / "index.json").write_text(json.dumps([NAME, "adalabel-noise-24"]))
    model.compile("adam")
    kerashash.save_model(model, root / "some.keras")
    kerashash.HammingRanker(model.encode(x, verbose=0), 12).save(root / "codes.ranker")
    arrays = {"features": x, "labels": labels.astype(float), "name": "noise"}
    arrays["net"] = {"layers": np.array([{"x": 1.0}, "cell"], object)}
    scipy.io.savemat(root / "some.mat", arrays, do_compression=False)
    scipy.io.savemat(root / "packed.mat", arrays, do_compression=True)
    store = kerashash.CodeStore.create(root / "codes.khs", bits=12)
    columns = {"name": [f"x{i}" for i in range(12)], "label": np.arange(12) % 3}
    store.add(model.encode(x, verbose=0), columns=columns | {"scores": x})
    store.delete("label = 2 AND id > 6")
    if HAS_LANCEDB:
        few = kerashash.CodeStore.create(root / "few.khs", bits=12, engine="lance")
        few.add(model.encode(x, verbose=0), columns=columns | {"scores": x})
        few.create_index(partitions=2)
        few.delete("label = 2 AND id > 6")
        # LanceDB writes those that are more than 5,000 in another format.
        many = kerashash.CodeStore.create(root / "many.khs", bits=12, engine="lance")
        many.add(np.zeros((6000, 2), np.uint8))
        many.delete("id > 6")
    write_images(root)


def write_images(root):
    """Write a photograph and its kind in each format, beside one that stays good."""
    from PIL import Image

    from kerashash.data.image_reading import known_formats

    known_formats()  # Pillow then knows HEIF
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise.repeat(4, axis=0).repeat(4, axis=1))
    tags = Image.Exif()
    tags[0x0112] = 6
    for name in IMAGES:
        folder = root / "images" / name / "all"
        folder.mkdir(parents=True)
        picture.save(folder / "good.png")
        picture.save(folder / f"some.{name}", exif=tags)


def load_index(root):
    from kerashash.zoo import remote

    os.environ["KERASHASH_CACHE"] = str(root / "cache")
    remote.names(root.as_uri())


def load_recipe(root):
    from kerashash import recipes

    recipes.read(root / NAME / "recipe.toml")


def load_packed_mat(root):
    load_mat(root, "packed.mat")


def load_mat(root, name="some.mat"):
    from kerashash.data.builders import ldl
    from kerashash.mat_files import read_mat

    read_mat(root / name, squeeze=True)
    ldl.read_mat(root / name)


def load_ranker(root):
    from kerashash import HammingRanker

    HammingRanker.load(root / "codes.ranker")


def load_model(root):
    import kerashash

    kerashash.load_model(root / "some.keras")


def load_entry(root):
    from kerashash import zoo
    from kerashash.zoo import cards

    entry = zoo.entry(root / NAME)
    cards.markdown(entry.card)


def verify(root):
    from kerashash import zoo

    zoo.verify(root / NAME)


def verify_arrays(root):
    """`verify` where the model is whole: it is built once, which takes most time."""
    from kerashash.zoo import loading

    model = _good_model(root / NAME)
    with mock.patch.object(loading, "build_model", return_value=model):
        verify(root)


def load_store(root, name="codes.khs", where="label = 1"):
    """Read all of a store, then write to it, in a copy; every step may refuse."""
    from kerashash import CodeStore, codes

    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copytree(root / name, pathlib.Path(folder) / name)
        store = CodeStore.open(path)
        queries = np.zeros((2, codes.packed_width(store.bits)), np.uint8)
        steps = (
            *(len, CodeStore.versions, CodeStore.codes, CodeStore.columns),
            *(lambda s: s.search(queries, k=3), lambda s: s.within(queries, radius=1)),
            *(lambda s: s.columns(where), lambda s: s.add(queries)),
            lambda s: s.upsert(queries, ids=[3, 4], columns={"label": [7, 8]}),
            *(lambda s: s.delete("id = 4"), CodeStore.check, CodeStore.compact),
            *(CodeStore.check, lambda s: s.search(queries, k=3)),
        )
        if name == "few.khs":  # of LanceDB, with an index of codes
            steps = (lambda s: s.search(queries, k=3, nprobes=1), *steps)
        refusals = []
        for step in steps:
            try:
                step(store)
            except (ValueError, TypeError, OSError) as error:
                if name not in str(error):
                    raise
                refusals.append(error)
    if refusals:
        raise refusals[0]


def load_image(root, name):
    """Read a photograph as a path, as one of a folder and in a graph: all alike."""
    from kerashash import data
    from kerashash.data import image_reading

    folder = root / "images" / name
    file = folder / "all" / f"some.{name}"
    try:
        data.read_images([file], 16)
    except ValueError:
        with contextlib.suppress(ValueError):
            data.from_directory(folder, verbose=0)
            raise RuntimeError("a folder takes what a path does not") from None
        raise
    data.from_directory(folder, verbose=0)
    content = file.read_bytes()
    in_graph = image_reading.decode_tensor(content).numpy()
    if not np.array_equal(in_graph, image_reading.decode(content)):
        raise RuntimeError("other pixels in a graph")


@functools.cache
def _good_model(path):
    from kerashash import zoo

    return zoo.load(path)


#: By name: a store of LanceDB, and a pattern of the file, of which the first is taken.
LANCE = {
    "versions in LanceDB": ("few", "_versions/*.manifest"),
    "rows in LanceDB": ("few", "data/*.lance"),
    "removed rows in LanceDB": ("few", "_deletions/*.arrow"),
    "many removed rows in LanceDB": ("many", "_deletions/*.bin"),
    "index of keys in LanceDB": ("few", "_indices/*/page_data.lance"),
    "index of codes in LanceDB": ("few", "_indices/*/auxiliary.idx"),
}
#: By name: the file, how it is damaged, and what reads it.
TARGETS = {
    "card.json": (f"{NAME}/card.json", damage_json, load_entry),
    "config.json": (f"{NAME}/config.json", damage_json, verify),
    "model.weights.h5": (f"{NAME}/model.weights.h5", damage_hdf5, verify),
    "codes.npz": (f"{NAME}/codes.npz", damage_npz, verify_arrays),
    "golden.npz": (f"{NAME}/golden.npz", damage_npz, verify_arrays),
    "recipe.toml": (f"{NAME}/recipe.toml", damage_toml, load_recipe),
    "ranker": ("codes.ranker", damage_npz, load_ranker),
    "mat": ("some.mat", damage_bytes, lambda root: load_mat(root, "some.mat")),
    "packed mat": (
        "packed.mat",
        damage_bytes,
        lambda root: load_mat(root, "packed.mat"),
    ),
    "some.keras": ("some.keras", damage_keras, load_model),
    "index.json": ("index.json", damage_json, load_index),
    "rows of a store": ("codes.khs/rows.sqlite", damage_sqlite, load_store),
    "codes of a store": ("codes.khs/codes-0.bin", damage_bytes, load_store),
    **{
        name: (
            f"images/{name}/all/some.{name}",
            damage_bytes,
            functools.partial(load_image, name=name),
        )
        for name in IMAGES
    },
    **{
        name: (
            f"{store}.khs/codes.lance/{pattern}",
            damage_bytes,
            # A name of metadata may change, that of keys may not.
            functools.partial(load_store, name=f"{store}.khs", where="id = 1"),
        )
        for name, (store, pattern) in LANCE.items()
        if HAS_LANCEDB
    },
}


@contextlib.contextmanager
def time_limit():
    """Raise an error in a call that takes too long."""

    def late(*_):
        raise RuntimeError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fuzz(root, target, numbers):
    """Give damaged files to a loader.

    Args:
        root: path of the folder that `prepare` filled.
        target: str, of `TARGETS`.
        numbers: iterable of int, the numbers of the inputs.

    Returns:
        dict of the counts "refused by name" and "accepted", and a list "other errors"
        of pairs: the number of the input, and the error.
    """
    relative, damage, load = TARGETS[target]
    path = min(root.glob(relative))
    # A store is a folder, and is named as one.
    stores = [parent.name for parent in path.parents if parent.suffix == ".khs"]
    named = stores[0] if stores else path.name
    good, card = path.read_bytes(), (root / NAME / "card.json").read_bytes()
    counts = {"refused by name": 0, "accepted": 0, "other errors": []}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(root)  # undamaged, or every refusal would say nothing
        for number in numbers:
            seed = [number, *target.encode()]
            path.write_bytes(damage(good, np.random.default_rng(seed)))
            if path.parent.name == NAME and path.name != "card.json":
                sign(path.parent, path.name)
            try:
                with time_limit(), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    load(root)
                counts["accepted"] += 1
            except (ValueError, TypeError, OSError) as error:
                if named in str(error):
                    counts["refused by name"] += 1
                else:
                    counts["other errors"].append((number, traceback.format_exc()))
            except Exception:
                counts["other errors"].append((number, traceback.format_exc()))
            (root / NAME / "card.json").write_bytes(card)
    finally:
        path.write_bytes(good)
        (root / NAME / "card.json").write_bytes(card)
    return counts


def _in_process(root, target, first, count, results):
    """What a process of its own does: `fuzz` with a limit of memory."""
    import kerashash
    import kerashash.data.builders
    import kerashash.recipes
    import kerashash.zoo

    kerashash.zoo.verify(root / NAME)  # imports and traces all that there is
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (GIBIBYTES << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in range(first, first + count):
        # Ends the process where no signal does.
        faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
        results.put((number, fuzz(root, target, [number])))


def fuzz_apart(root, target, first, count):
    """`fuzz` in processes of its own; a crash is an error of the input it was at."""
    total = {"refused by name": 0, "accepted": 0, "other errors": []}
    context = multiprocessing.get_context("spawn")
    position = first
    while position < first + count:
        chunk = min(CHUNK, first + count - position)
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "files"
            shutil.copytree(root, copy)
            results = context.SimpleQueue()
            process = context.Process(
                target=_in_process, args=(copy, target, position, chunk, results)
            )
            process.start()
            end = position + chunk
            while position < end and (process.is_alive() or not results.empty()):
                if results.empty():
                    time.sleep(0.01)
                    continue
                number, counts = results.get()
                for name, value in counts.items():
                    total[name] += value
                position = number + 1
            process.join()
        if position < end:
            crash = f"the process ended with {process.exitcode}"
            total["other errors"].append((position, crash))
            position += 1
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=300, help="inputs a loader")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first input"
    )
    parser.add_argument("--target", choices=TARGETS, help="one loader alone")
    options = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    from benchmarks.table import Table

    table = Table("faults.csv", "harness", "target")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        prepare(root)
        for target in [options.target] if options.target else TARGETS:
            started = time.monotonic()
            counts = fuzz_apart(root, target, options.first, options.inputs)
            faults = counts.pop("other errors")
            for number, error in faults[:5]:
                print(f"{target}, input {number}: ...{error[-1500:]}", file=sys.stderr)
            row = {
                "harness": "fuzz",
                "target": target,
                "runs": options.inputs,
                "outcomes": ", ".join(f"{n} {name}" for name, n in counts.items()),
                "faults": len(faults),
                "seconds": round(time.monotonic() - started),
            }
            print(*row.values(), sep="; ", flush=True)
            if options.inputs >= 1000 and not options.first:
                table.add(row)


if __name__ == "__main__":
    main()
