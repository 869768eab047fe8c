"""The time from a command to the first result of `kerashash search`.

    python -m benchmarks search QUERY.jpg [--entry NAME] [--codes N] [--repeat N]

Each run is a process of its own, which searches a store of random codes of an entry
for one photograph. Its import of TensorFlow is timed apart. "first" is the first search
ever, which builds the entry's model and keeps its graph. "later" ones load that graph,
as does the first search of a store that `kerashash encode` has filled.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np

import kerashash
from benchmarks.table import Table, versioned
from kerashash import zoo

RESULTS = Table("search.csv", "entry", "codes", "run")
PROGRAM = """
import json, sys, time
from kerashash.cli.quiet import quiet_tensorflow
quiet_tensorflow()

def timed(action):
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return [time.perf_counter() - wall, time.process_time() - cpu]

times = timed(lambda: __import__("tensorflow"))
from kerashash.cli import main
times += timed(lambda: main(["search", *sys.argv[1:]]))
print(json.dumps(times))
"""


def make_store(folder, entry, codes):
    """A store of random codes, with keys and metadata as `kerashash encode` makes."""
    store = kerashash.CodeStore.create(folder, entry)
    width = -(-store.bits // 8)
    rng = np.random.default_rng(0)
    block = 250_000
    for start in range(0, codes, block):
        rows = range(start, min(start + block, codes))
        store.add(
            rng.integers(0, 256, (len(rows), width), np.uint8),
            ids=[f"photos/{row // 1000:05}/IMG_{row:08}.jpg" for row in rows],
            columns={"size": rows, "mtime": rows},
        )


def search(query, store, cache):
    """Seconds of the import of TensorFlow and of the rest: elapsed, and processor."""
    command = [sys.executable, "-c", PROGRAM, query, "--in", str(store)]
    environment = {**os.environ, "KERASHASH_CACHE": str(cache)}
    output = subprocess.run(command, env=environment, capture_output=True, check=True)
    return json.loads(output.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("query", type=os.path.abspath)
    parser.add_argument("--entry", default="dcdh-cifar10-48", choices=zoo.list())
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, cache = pathlib.Path(folder, "s.khs"), pathlib.Path(folder, "cache")
        make_store(store, options.entry, options.codes)
        for run, repeat in (("first", 1), ("later", options.repeat)):
            times = [search(options.query, store, cache) for _ in range(repeat)]
            medians = [statistics.median(column) for column in zip(*times, strict=True)]
            names = ("tensorflow_s", "tensorflow_cpu_s", "search_s", "search_cpu_s")
            row = {"entry": versioned(options.entry)}
            row |= {"codes": options.codes, "run": run}
            row |= {n: f"{m:.2f}" for n, m in zip(names, medians, strict=True)}
            RESULTS.add({**row, "runs": repeat})


if __name__ == "__main__":
    main()
