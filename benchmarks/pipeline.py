"""Images per second of the input pipeline, beside what a backbone consumes.

    python benchmarks/pipeline.py [--name mirflickr25k] [--size 128]

Reads training images in random order from the prepared data set, decodes and resizes
them, and batches them; then runs batches through EfficientNet-Lite0. Medians of
alternating passes in one process, in benchmarks/results/pipeline.csv.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from table import Table

import kerashash

PASSES = 5


def rate(function, batches):
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
    ready = [*batches.take(8)]
    run(ready[0])
    rates = {"pipeline": [], "backbone": []}
    for _ in range(PASSES):
        rates["pipeline"].append(rate(lambda x: x, batches.take(64)))
        rates["backbone"].append(rate(lambda x: run(x).numpy(), ready))
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
