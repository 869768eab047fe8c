"""Compare TensorFlow with and without the operators of oneDNN, in two processes.

    python -m benchmarks onednn [--turns 5]

TensorFlow itself uses them on processors with AVX-512 alone; the command line lets it
use them on all x86 processors. One process has them, the other not. They do the same
work in alternating turns: codes of images in memory, by TensorFlow, and ten epochs of a
head on cached features. Codes of both must be equal. Medians are written to
benchmarks/results/onednn.csv.
"""

import argparse
import json
import os
import subprocess
import sys

from benchmarks.table import Table
from benchmarks.turns import take_turns

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SWITCH = "TF_ENABLE_ONEDNN_OPTS"
ENTRY = "adalabel-cifar10-48"
IMAGES, ROWS = 1024, 5000


def work():
    """Read names of calls, do them, and answer each with a line."""
    import keras
    import numpy as np

    import kerashash
    from kerashash.recipes import fitting

    rng = np.random.default_rng(0)
    model = kerashash.zoo.load(ENTRY)
    images = rng.integers(0, 256, (IMAGES, 32, 32, 3), np.uint8)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, ROWS)]
    vectors = rng.normal(size=(ROWS, 1280)).astype(np.float32)
    head = kerashash.AdaLabelHash(fitting.network(vectors), bits=48, num_classes=10)
    head.compile(keras.optimizers.Adam(1e-3), steps_per_execution=32)
    calls = {
        "encode": lambda: model.encode(images, engine="tensorflow", verbose=0),
        "head": lambda: head.fit(vectors, labels, batch_size=128, epochs=10, verbose=0),
    }
    for line in sys.stdin:
        result = calls[line.strip()]()
        text = result.tobytes().hex() if line.strip() == "encode" else ""
        print(json.dumps(text), file=sys.__stdout__, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    workers = {
        name: subprocess.Popen(
            [sys.executable, "-m", "benchmarks.onednn", "--work"],
            env={**os.environ, SWITCH: value},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, value in (("with", "1"), ("without", "0"))
    }

    def ask(name, call):
        print(call, file=workers[name].stdin, flush=True)
        return json.loads(workers[name].stdout.readline())

    results = Table("onednn.csv", "what", "isa")
    for call, units in (("encode", IMAGES), ("head", 10 * ROWS)):
        codes = [ask(name, call) for name in workers]  # traced before it is timed
        if codes[0] != codes[1]:
            raise SystemExit(f"{call}: the codes differ")
        times = take_turns(
            {name: lambda name=name, call=call: ask(name, call) for name in workers},
            options.turns,
        )
        results.add(
            {
                "what": call,
                "with_a_second": f"{units / times.median('with'):.4g}",
                "without_a_second": f"{units / times.median('without'):.4g}",
                "times as fast": f"{times.ratio('without', 'with'):.3g}",
                "turns": options.turns,
            }
        )
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    main()
