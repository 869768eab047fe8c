"""Kill processes while they write, and check what they leave.

Each process first checks what the one before it has left, then writes, and is killed:
at one of its accesses to files, or some milliseconds after it. Nothing half-written may
be accepted, nothing old be lost, and no temporary file survive the next run that is not
killed. Training must go on where it was, and end as if nothing had happened.

    python tests/faults/kills.py --kills 200              # a row a target in faults.csv
    python tests/faults/kills.py --target fit --kills 9   # some targets alone

The moments are drawn with a seed. The processes are forked from one that has imported
TensorFlow and has run none of its operations: importing takes longer than most of what
is killed here.
"""

import argparse
import contextlib
import functools
import http.server
import io
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

NAME = "adalabel-noise-12"
SECONDS = 900  # for one process, on a busy machine
EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
EPOCHS = 4
TARGETS = {}  # by name: the function that a process runs
SHARES = {}  # by name: the share of the kills


def target(name, share):
    def add(function):
        TARGETS[name], SHARES[name] = function, share
        return function

    return add


# What is killed. Each function checks what is in its folder, calls `start`, from where
# on it may be killed, and writes. What it returns, it says once it is complete.


def small_model(number=0):
    import keras

    import kerashash

    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    model = kerashash.AdaLabelHash(net, bits=12, num_classes=2)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, number, np.float32))
    return model


def one_of(value, numbers):
    assert value in numbers, f"{value} is none of {numbers}"


@target("save_model", 6)
def save_model(folder, start, numbers):
    import kerashash

    path = folder / "m.keras"
    if path.exists():
        loaded = kerashash.load_model(path)
        one_of(loaded.hash_head.get_weights()[0].flat[0], numbers)
    else:
        assert numbers[0] is None, "the old file is lost"
    model = small_model(numbers[-1])
    start()
    kerashash.save_model(model, path)


@target("zoo.save", 6)
def zoo_save(folder, start, numbers):
    from kerashash import zoo

    if numbers[0] is not None:
        entry = zoo.entry(folder / NAME)
        one_of(entry.card["number"], numbers)
        model = zoo.load(folder / NAME)
        one_of(model.hash_head.get_weights()[0].flat[0], [entry.card["number"]])
    model = small_model(numbers[-1])
    labels = np.eye(2, dtype=np.uint8)[np.arange(4) % 2]
    codes = {"query_codes": np.arange(8, dtype=np.uint8).reshape(4, 2) & 0xF0}
    codes |= {"database_codes": codes["query_codes"], "query_labels": labels}
    codes |= {"database_labels": labels}
    metric = {"name": "mAP@ALL", "denominator": "relevant", "ties": "expected"}
    metric |= {"empty": "zero", "database": "encoded"}
    card = {"metrics": [metric], "number": numbers[-1]}
    start()
    zoo.save(model, NAME, card, codes, "", folder, overwrite=True)


@target("HammingRanker.save", 6)
def ranker_save(folder, start, numbers):
    from kerashash import HammingRanker

    path = folder / "codes.ranker"
    if numbers[0] is not None:
        one_of(len(HammingRanker.load(path)), [1000 + n for n in numbers])
    ranker = HammingRanker(np.ones((1000 + numbers[-1], 64), np.int8))
    start()
    ranker.save(path)


@target("to_saved_model", 2)
def to_saved_model(folder, start, numbers):
    import tensorflow as tf

    from kerashash import HammingRanker

    path = folder / "search"
    if path.exists():
        loaded = tf.saved_model.load(path)
        assert loaded.search(np.zeros((1, 6), np.float32))[0].shape == (1, 3)
        shutil.rmtree(path)
    model = small_model()
    ranker = HammingRanker(np.ones((20, 12), np.int8))
    start()
    ranker.to_saved_model(model, path, k=3)


@target("cache_features", 5)
def cache_features(folder, start, numbers):
    import keras

    import kerashash

    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    labels = np.eye(2, dtype=np.uint8)[np.arange(400) % 2]
    rows = np.arange(400)
    data = kerashash.data.RetrievalData(
        x=x,
        labels=labels,
        name="noise",
        protocol="none",
        seed=0,
        class_names=("a", "b"),
        splits={"train": rows, "query": rows[:9], "database": rows[9:]},
    )
    net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3000, "relu")])
    net.layers[0].set_weights(
        [rng.normal(size=(6, 3000)).astype(np.float32), np.zeros(3000, np.float32)]
    )
    start()
    found = kerashash.data.cache_features(data, net, folder, 10, verbose=0).x
    np.testing.assert_allclose(found, net(x), rtol=1e-5, atol=1e-6)
    (path,) = folder.iterdir()
    path.unlink()


def train(folder, start, model):
    """Train, or go on with it, and return a digest of all weights."""
    import hashlib

    import keras

    from kerashash.monitoring.callbacks import Backup

    class Log(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            note(f"begin {epoch}")

        def on_epoch_end(self, epoch, logs=None):
            note(f"end {epoch}")

    def note(text):
        with (folder / "log.txt").open("a") as file:
            file.write(f"{text}\n")

    log = folder / "log.txt"
    ended = [line.split()[1] for line in log.read_text().splitlines() if "end" in line]
    note("start")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 6)).astype(np.float32), np.arange(12) % 2
    start()
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[Backup(folder / "backup"), Log()],
    )
    if ended and history.epoch:
        # Epochs are not repeated once they are backed up, which is after their entry in
        # the log.
        first, last = history.epoch[0], int(ended[-1])
        whole = (0,) if last == EPOCHS - 1 else ()
        one_of(first, (last, last + 1, *whole))
    log.unlink()
    assert not (folder / "backup").exists()
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


@target("fit", 8)
def fit(folder, start, numbers):
    import keras

    import kerashash

    (folder / "log.txt").touch()
    keras.utils.set_random_seed(0)
    layers = [keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dropout(0.2)]
    model = kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=2)
    model.compile("adam")
    return train(folder, start, model)


@target("fit of DCDH", 4)
def fit_dcdh(folder, start, numbers):
    import keras

    import kerashash

    (folder / "log.txt").touch()
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8)])
    model = kerashash.DCDH(
        net, bits=8, num_classes=2, num_train=12, label_units=(8,), fusion_units=(8,)
    )
    model.compile("adam")
    return train(folder, start, model)


RECIPE = """
[entry]
name = "adalabel-small-12"
method = "AdaLabelHash"
licence = "Apache-2.0"
[[entry.metrics]]
name = "mAP@ALL"
denominator = "relevant"
ties = "expected"
empty = "zero"
database = "encoded"
[data]
name = "cifar10"
[backbone]
name = "efficientnet-lite0"
image_size = 32
[model]
bits = 12
[training]
seed = 3
fine_tune_after = "block6d"
batch_size = 8
weight_decay = 1e-4
shift = 0
[[training.rounds]]
epochs = 2
warmup_epochs = 0.5
learning_rate = 1e-3
augment = true
[[training.rounds]]
epochs = 1
warmup_epochs = 0
learning_rate = 1e-3
augment = false
[training.head]
epochs = 2
batch_size = 8
learning_rate = 1e-3
"""


@target("train --recipe", 1)
def train_recipe(folder, start, numbers):
    from unittest import mock

    import kerashash
    from kerashash import cli, zoo

    rng = np.random.default_rng(0)
    rows = np.arange(24)
    data = kerashash.data.RetrievalData(
        x=rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8),
        labels=np.eye(10, dtype=np.uint8)[rows % 10],
        name="cifar10",
        protocol="none",
        seed=0,
        class_names=tuple("abcdefghij"),
        splits={"train": rows[:12], "query": rows[12:16], "database": rows[16:]},
    )
    (folder / "recipe.toml").write_text(RECIPE)
    if numbers[0] is not None:
        zoo.verify(folder / "zoo" / "adalabel-small-12")
    arguments = ["train", "--recipe", str(folder / "recipe.toml")]
    arguments += ["--root", str(folder / "zoo"), "--cache-dir", str(folder / "cache")]
    start()
    with mock.patch.object(kerashash.data, "load", return_value=data):
        assert cli.main(arguments) == 0
    zoo.verify(folder / "zoo" / "adalabel-small-12")
    assert not [*(folder / "cache").glob("*unfinished")]


@target("downloads", 6)
def downloads(folder, start, numbers):
    from kerashash import zoo

    os.environ["KERASHASH_ZOO"] = (folder / "url.txt").read_text()
    os.environ["KERASHASH_CACHE"] = str(folder / "cache")
    start()
    entry = zoo.entry(NAME)
    assert entry.card["name"] == NAME
    left = [path.name for path in entry.path.iterdir() if path.suffix == ".part"]
    assert not left, left
    shutil.rmtree(folder / "cache")


ROWS = 7  # of a commit


def numbered_codes(numbers):
    """Codes of 32 bits that tell a number each."""
    return np.asarray(numbers, ">u4")[:, None].view(np.uint8)


def opened_store(path, engine):
    """The store at a path, checked; a new one if nothing was ever completed there."""
    from kerashash import CodeStore

    if not path.exists():
        return CodeStore.create(path, bits=32, engine=engine)
    store = CodeStore.open(path)
    store.check()
    return store


def store_add(folder, start, numbers, engine):
    path, log = folder / "codes.khs", folder / "log.txt"
    assert numbers[0] is None or path.exists(), "the store is lost"
    store = opened_store(path, engine)
    ids = store.columns()["id"].astype(int).tolist()
    np.testing.assert_array_equal(store.codes(), numbered_codes(ids))
    # Whole commits, once each, in order, and all that were known to be made.
    assert ids == [*range(len(ids))]
    assert len(ids) % ROWS == 0, "half a commit"
    made = log.stat().st_size if log.exists() else 0
    assert made * ROWS <= len(ids), f"{made} commits, {len(ids)} rows"
    start()
    for first in range(len(ids), len(ids) + 5 * ROWS, ROWS):
        keys = [*range(first, first + ROWS)]
        store.add(numbered_codes(keys), ids=keys, columns={"text": ["some"] * ROWS})
        with log.open("ab") as file:
            file.truncate(first // ROWS)  # the last commits may not be in it
            file.write(b".")


def store_compact(folder, start, numbers, engine):
    path = folder / "codes.khs"
    keys = np.arange(400)
    if numbers[0] is None:
        store = opened_store(path, engine)
        store.add(numbered_codes(keys), ids=keys, columns={"run": [0] * 400})
    store = opened_store(path, engine)
    columns = store.columns()
    ids, runs = columns["id"].astype(int), columns["run"].astype(int)
    assert sorted(ids) == [*keys]
    np.testing.assert_array_equal(store.codes(), numbered_codes(ids + 1000 * runs))
    assert not runs[ids % 2 == 1].any()
    (run,) = {*runs[ids % 2 == 0].tolist()}  # all were replaced, or none
    one_of(run, [number or 0 for number in numbers])
    start()
    even, run = keys[::2], numbers[-1]
    store.upsert(
        numbered_codes(even + 1000 * run), ids=even, columns={"run": [run] * len(even)}
    )
    store.compact()
    assert len(store) == 400


for _engine, _of in (("folder", ""), ("lance", " of LanceDB")):
    for _name, _function in (("add", store_add), ("compact", store_compact)):
        target(f"store.{_name}{_of}", 3)(functools.partial(_function, engine=_engine))


# The process that forks the others


def killer(folder, moment):
    """Count the accesses to files of a folder, and kill the process at one of them."""
    count, place = 0, str(folder)

    def hook(event, arguments):
        nonlocal count
        if event not in EVENTS or not any(
            isinstance(a, str | os.PathLike) and str(a).startswith(place)
            for a in arguments
        ):
            return
        count += 1
        if moment is not None and count == moment[0]:
            if not moment[1]:
                os.kill(os.getpid(), signal.SIGKILL)
            # Ends the process as a kill does: nothing of Python sees it.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, moment[1])

    def start():
        sys.addaudithook(hook)

    return start, lambda: count


def run_forked(job):
    """In the forked process: run a target, and write what came of it."""
    folder, report = pathlib.Path(job["folder"]), pathlib.Path(job["report"])
    start, accesses = killer(folder, job["moment"])
    output = os.open(report.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        result = TARGETS[job["target"]](folder, start, job["numbers"])
        answer = {"result": result, "accesses": accesses()}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    report.write_text(json.dumps(answer))
    os._exit(0)


def serve():
    """Fork a process for each line of the input, and write how it ended."""
    import kerashash.cli
    import kerashash.data
    import kerashash.methods
    import kerashash.monitoring
    import kerashash.recipes
    import kerashash.retrieval
    import kerashash.saving  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            with open(os.devnull) as nothing:
                os.dup2(nothing.fileno(), 0)
            run_forked(json.loads(line))
        deadline = time.monotonic() + SECONDS
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        late = time.monotonic() > deadline
        status = "late" if late else os.waitstatus_to_exitcode(ended[1])
        print(json.dumps(status), flush=True)


# The harness


class Server:
    """The process that forks the others.

    Its `run` gives None for a process that was killed, else what it said.
    """

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder.name,
        )
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()

    def run(self, name, folder, moment, numbers):
        report = pathlib.Path(self.folder.name) / "report.json"
        report.unlink(missing_ok=True)
        job = {"target": name, "folder": str(folder), "report": str(report)}
        job |= {"moment": moment, "numbers": numbers}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        status = json.loads(self.process.stdout.readline())
        if status in (-signal.SIGKILL, -signal.SIGALRM):
            return None
        if status != 0 or not report.exists():
            log = report.with_suffix(".log").read_text()
            return {"error": f"the process ended with {status}: {log[-2000:]}"}
        return json.loads(report.read_text())


@contextlib.contextmanager
def registry(folder):
    """Serve an entry over HTTP, slowly, and write its address into a file."""
    import hashlib

    from kerashash.zoo.entries import FILES

    rng = np.random.default_rng(0)
    files = {file: rng.bytes(100) for file in FILES}
    files["model.weights.h5"] = rng.bytes(300_000)
    described = {
        file: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for file, content in files.items()
    }
    card = {"name": NAME, "metrics": [{"name": "mAP@ALL", "value": 0.5}]}
    files["card.json"] = json.dumps({**card, "files": described}).encode()
    resumed = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.get(self.path.rpartition("/")[2])
            if content is None:
                return self.send_error(404)
            byte_range = self.headers.get("Range")
            first = int(byte_range[6:-1]) if byte_range else 0
            self.send_response(206 if first else 200)
            if first:
                resumed.append(first)
                self.send_header(
                    "Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            stream = io.BytesIO(content[first:])
            with contextlib.suppress(OSError):  # of a client that was killed
                while piece := stream.read(20_000):
                    self.wfile.write(piece)
                    time.sleep(0.002)
            return None

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    (folder / "url.txt").write_text(f"http://127.0.0.1:{server.server_port}")
    try:
        yield resumed
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def stray(folder):
    """Temporary files of any kind in a folder."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if ".kerashash-" in path.name or path.suffix in (".part", ".tmp")
    ]


def kill(server, name, kills, seed=0):
    """Kill processes of a target until there are so many kills.

    Returns:
        dict of the counts "kills", "completed" and "resumed" (of downloads), and the
        list "faults".
    """
    rng = random.Random(f"{seed} {name}")
    counts = {"kills": 0, "completed": 0, "faults": []}
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = pathlib.Path(temporary)
        if name == "downloads":
            resumed = stack.enter_context(registry(folder))
        # The first is not killed: what it writes is the old file of the next.
        numbers, moment = [None, 0], None
        while True:
            answer = server.run(name, folder, moment, numbers)
            if answer is None:
                counts["kills"] += 1
                numbers.append(numbers[-1] + 1)
            elif "error" in answer:
                counts["faults"].append(answer["error"])
                shutil.rmtree(folder)  # begin again
                folder.mkdir()
                if name == "downloads":
                    break
                numbers, moment = [None, 0], None
                if len(counts["faults"]) > 5:
                    break
                continue
            else:
                counts["completed"] += 1
                if moment is None:
                    expected, accesses = answer["result"], answer["accesses"]
                elif answer["result"] != expected:
                    counts["faults"].append(
                        "the result differs from an undisturbed one"
                    )
                if stray(folder):
                    counts["faults"].append(f"left behind: {stray(folder)}")
                numbers = [numbers[-1], numbers[-1] + 1]
                if counts["kills"] >= kills:
                    break
            wait = 0 if rng.random() < 0.5 else rng.expovariate(1 / 0.01)
            moment = (rng.randint(1, accesses), wait)
            if counts["kills"] >= kills:
                moment = (10**9, 0)  # the last one is not killed either
        if name == "downloads":
            counts["resumed"] = len(resumed)
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--kills", type=int, default=20, help="kills in all")
    parser.add_argument("--target", choices=TARGETS, nargs="+", help="some alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))
    from benchmarks.table import Table

    table = Table("faults.csv", "harness", "target")
    names = options.target or [*TARGETS]
    shares = sum(SHARES[name] for name in names)
    with Server() as server:
        for name in names:
            started = time.monotonic()
            kills = -(-options.kills * SHARES[name] // shares)
            counts = kill(server, name, kills, options.seed)
            faults = counts.pop("faults")
            for fault in faults:
                print(f"{name}: {fault[-3000:]}", file=sys.stderr, flush=True)
            row = {
                "harness": "kills",
                "target": name,
                "runs": counts.pop("kills"),
                "outcomes": ", ".join(f"{n} {what}" for what, n in counts.items()),
                "faults": len(faults),
                "seconds": round(time.monotonic() - started),
            }
            print(*row.values(), sep="; ", flush=True)
            if options.kills >= 200 or (options.target and kills >= 10):
                table.add(row)
    return None


if __name__ == "__main__":
    main()
