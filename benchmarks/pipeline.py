"""Measure images per second of the input pipeline and of a backbone.

    python -m benchmarks pipeline [--name mirflickr25k] [--size 128]

The pipeline reads training images in random order from the prepared data set, decodes,
resizes and batches them. The backbone is EfficientNet-Lite0, on batches in memory. Both
take alternating turns in one process. Medians are written to
benchmarks/results/pipeline.csv.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import kerashash
from benchmarks.table import Table
from benchmarks.turns import take_turns

PASSES = 5


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", default="mirflickr25k")
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args()
    data = kerashash.data.load(
        options.name, image_size=options.size, allow_missing=True
    )
    backbone = kerashash.backbones.get("efficientnet-lite0", image_size=options.size)
    run = tf.function(lambda x: backbone(x, training=False))
    batches = data.train.map(lambda x, y: x).batch(128, drop_remainder=True)
    batches_in_memory = [*batches.take(8)]
    run(batches_in_memory[0])  # traced before it is timed
    calls = {
        "pipeline": lambda: sum(len(batch) for batch in batches.take(64)),
        "backbone": lambda: [run(batch).numpy() for batch in batches_in_memory],
    }
    units = {
        "pipeline": calls["pipeline"](),
        "backbone": sum(map(len, batches_in_memory)),
    }
    times = take_turns(calls, PASSES, units=units)
    Table("pipeline.csv", "data", "size").add(
        {
            "data": options.name,
            "size": options.size,
            "pipeline_images_per_s": round(1 / times.median("pipeline")),
            "backbone_images_per_s": round(1 / times.median("backbone")),
            "median_ratio": round(times.ratio("backbone", "pipeline"), 2),
            "passes": PASSES,
        }
    )


if __name__ == "__main__":
    main()
