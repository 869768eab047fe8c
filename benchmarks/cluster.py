"""How fast actors of Ray encode photographs, and how fast one process commits them.

    python -m benchmarks cluster FOLDER [--model adalabel-cifar10-48] [--images 1600]

The photographs of FOLDER are encoded by one actor with one core, by one with two, and
by two with one core each, in turns. `per_s` is the rate in the second half: in the
first, one actor may start before the other, and its blocks wait for their turn. `ratio`
is the rate beside that of one actor with one core. On a machine that others use, both
depend on them; `cpu_ms`, the processor time for an image, does less.
"""

import argparse
import importlib.util
import itertools
import os
import pathlib
import tempfile
import time

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import ray

import kerashash
from benchmarks.table import Table, versioned
from kerashash import cluster
from kerashash.data.finding import find_images
from kerashash.store import filling

RESULTS = Table("cluster.csv", "what")
CONFIGURATIONS = {  # actors, cores of each
    "1 actor, 1 core": (1, 1),
    "1 actor, 2 cores": (1, 2),
    "2 actors, 1 core each": (2, 1),
}
ticks = {}  # of each process, also of actors that have ended


def processor_seconds():
    """Processor time of this process and of all actors that have encoded."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                ticks[entry.name] = int(stat[11]) + int(stat[12])
        except OSError:
            continue
    return sum(os.times()[:2]) + sum(ticks.values()) / os.sysconf("SC_CLK_TCK")


def measure(files, store, configuration):
    """Images a second, and processor milliseconds for an image."""
    marks = []
    upsert = store.upsert

    def marked(*arguments, **options):
        upsert(*arguments, **options)
        marks.append((len(store), time.perf_counter(), processor_seconds()))

    store.upsert = marked
    filling._COMMIT_ROWS = 1
    options = {"batch_size": 32, "verbose": 0}
    actors, cpus = configuration
    cluster.encode_files(files, store, actors=actors, cpus=cpus, **options)
    rows, start, used = next(m for m in marks if m[0] > len(files) // 2)
    last_rows, end, last_used = marks[-1]
    count = last_rows - rows
    return count / (end - start), 1000 * (last_used - used) / count


def actors(options):
    files = [file.path for file in find_images(options.folder)[0]][: options.images]
    model = kerashash.zoo.load(options.model)
    model.encode(files[:32], verbose=0)  # compile
    measured = {name: [] for name in CONFIGURATIONS}
    codes = []
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    for number, name in itertools.product(range(options.rounds), CONFIGURATIONS):
        with tempfile.TemporaryDirectory() as folder:
            store = kerashash.CodeStore.create(f"{folder}/{number}.khs", model)
            measured[name].append(measure(files, store, CONFIGURATIONS[name]))
            codes.append(store.codes().copy())
        print(name, measured[name][-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    ray.shutdown()
    assert all(np.array_equal(codes[0], other) for other in codes)
    medians = {name: np.median(values, axis=0) for name, values in measured.items()}
    for name, (rate, milliseconds) in medians.items():
        RESULTS.add(
            {
                "what": f"encode by {versioned(options.model)}, {name}",
                "rows": len(files),
                "per_s": f"{rate:.1f}",
                "ratio": f"{rate / medians['1 actor, 1 core'][0]:.2f}",
                "cpu_ms": f"{milliseconds:.1f}",
                "load": f"{os.getloadavg()[1]:.0f}",
            }
        )


def commits(count=200_000, rows=4096):
    """Rows a second that one process commits, with keys that are new."""
    engines = ["folder", *(["lance"] if importlib.util.find_spec("lancedb") else [])]
    codes = np.random.default_rng(0).integers(0, 256, (count, 6), np.uint8)
    names = [f"/photographs/of/somebody/{number:09}.jpg" for number in range(count)]
    for engine in engines:
        with tempfile.TemporaryDirectory() as folder:
            store = kerashash.CodeStore.create(
                f"{folder}/s.khs", bits=48, engine=engine
            )
            begun, used = time.perf_counter(), processor_seconds()
            for start in range(0, count, rows):
                part = slice(start, start + rows)
                columns = {"size": [100_000] * len(codes[part])}
                columns["mtime"] = [10**18] * len(codes[part])
                store.upsert(codes[part], ids=names[part], columns=columns)
            seconds = time.perf_counter() - begun
            RESULTS.add(
                {
                    "what": f"commit {rows} rows at a time, {engine}",
                    "rows": count,
                    "per_s": f"{count / seconds:.0f}",
                    "ratio": "",
                    "cpu_ms": f"{1000 * (processor_seconds() - used) / count:.4f}",
                    "load": f"{os.getloadavg()[1]:.0f}",
                }
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder")
    parser.add_argument("--model", default="adalabel-cifar10-48")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    commits()
    actors(options)
