"""Measure images per second of the input pipeline and of a backbone.

    python -m benchmarks pipeline [--name mirflickr25k] [--size 128]

The pipeline reads training images in random order from the prepared data set, decodes,
resizes and batches them. The backbone is EfficientNet-Lite0, on batches in memory. Both
take alternating passes in one process. Medians are written to
benchmarks/results/pipeline.csv.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

import kerashash
from benchmarks.table import Table

PASSES = 5


def images_per_second(function, batches):
    start, images = time.perf_counter(), 0
    for batch in batches:
        images += len(function(batch))
    return images / (time.perf_counter() - start)


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
    rates = {"pipeline": [], "backbone": []}
    for _ in range(PASSES):
        rates["pipeline"].append(images_per_second(lambda x: x, batches.take(64)))
        rates["backbone"].append(
            images_per_second(lambda x: run(x).numpy(), batches_in_memory)
        )
    pairs = zip(*rates.values(), strict=True)
    Table("pipeline.csv", "data", "size").add(
        {
            "data": options.name,
            "size": options.size,
            "pipeline_images_per_s": round(statistics.median(rates["pipeline"])),
            "backbone_images_per_s": round(statistics.median(rates["backbone"])),
            "median_ratio": round(statistics.median(a / b for a, b in pairs), 2),
            "passes": PASSES,
        }
    )


if __name__ == "__main__":
    main()
