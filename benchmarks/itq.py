"""Compare iterative quantization with that of faiss, on the same features.

    pip install faiss-cpu
    python -m benchmarks itq [--seeds 3] [--cache-dir FOLDER]

The features are those of table 1 of DSRE: CIFAR-10's protocol of 5,000 training images,
by a frozen EfficientNet-Lite0. faiss centres vectors and scales them to length 1, so
ITQ gets them as such. For each seed, which draws the split, and each length: mAP@ALL
of both; how much of faiss's projections lies in the principal components, 1 if it
projects to the same space; and the quantization loss of both rotations, eq. 2 of the
paper, of the same projections, scaled to a variance of 1.

The rotation of faiss is not the paper's. Of the singular value decomposition U S V^T it
takes U V, where the best rotation is U V^T: it multiplies by the transpose of what the
decomposition returns as V^T already. So its loss may rise. "faiss mAP, U V^T" is
that of faiss's own projections and first rotation, with the right product in each
iteration. Results are written to benchmarks/results/itq.csv.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import faiss
import numpy as np

from benchmarks.table import Table
from kerashash import baselines, evaluation
from kerashash.comparison import cells, table
from kerashash.maths import itq

DATA = os.environ.get("TFDS_DATA_DIR")
ITERATIONS = 50  # of both


def compare(bits, seed, splits):
    """Fit both, and return a row of results."""
    (x, _), (queries, query_labels), (database, labels) = splits
    model = baselines.ITQ("features", bits, seed=seed)
    model.fit(x, epochs=ITERATIONS, verbose=0)
    anchor = faiss.ITQTransform(x.shape[1], bits, True)
    anchor.itq.max_iter = ITERATIONS
    anchor.train(x)

    def mean_ap(project):
        codes = (
            np.packbits(project(rows) >= 0, axis=1) for rows in (queries, database)
        )
        query_codes, database_codes = codes
        return evaluation.mean_average_precision(
            query_codes, query_labels, database_codes, labels, bits=bits
        )

    centred = x - x.mean(axis=0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:bits].T  # (columns, bits)
    v = centred @ components
    v /= v.std()
    ours = np.linalg.lstsq(v, model.continuous_codes(x), rcond=None)[0]
    ours /= np.linalg.norm(ours, axis=0)
    # faiss multiplies rows by A^T, whose columns are orthonormal.
    matrix = faiss.vector_to_array(anchor.pca_then_itq.A).reshape(bits, -1)
    theirs = components.T @ matrix.T
    mean = faiss.vector_to_array(anchor.mean)

    def unit(rows):
        rows = rows - mean
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    right = matrix.T @ corrected(anchor, unit(x) @ matrix.T)
    return {
        "bits": bits,
        "seed": seed,
        "mAP": f"{mean_ap(model.continuous_codes):.4f}",
        "faiss mAP": f"{mean_ap(anchor.apply):.4f}",
        "faiss mAP, U V^T": f"{mean_ap(lambda rows: unit(rows) @ right):.4f}",
        "in the components": f"{np.linalg.norm(theirs) ** 2 / bits:.4f}",
        "loss": f"{itq.quantization_loss(v, ours):.4f}",
        "faiss loss": f"{itq.quantization_loss(v, theirs):.4f}",
    }


def corrected(anchor, rotated):
    """What to multiply faiss's rotated projections by, to have the paper's rotation."""
    bits = anchor.d_out
    own = faiss.vector_to_array(anchor.itq.A).reshape(bits, bits)
    projections = rotated @ own
    # Without an iteration, its rotation is the first one.
    start = faiss.ITQMatrix(bits)
    start.max_iter = 0
    start.train(np.ascontiguousarray(projections, np.float32))
    rotation = faiss.vector_to_array(start.A).reshape(bits, bits).T.astype(np.float64)
    for _ in range(ITERATIONS):
        rotation = itq.rotation_step(projections, rotation)
    return own @ rotation


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks itq")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache-dir", default="~/.cache/kerashash")
    options = parser.parse_args()
    cache_dir = pathlib.Path(options.cache_dir).expanduser()
    part = table("dsre-1").parts[0]
    results = Table("itq.csv", "bits", "seed")
    for seed in range(options.seeds):
        rows = cells.load(part, seed, cache_dir, DATA)
        splits = [rows.arrays(split) for split in ("train", "query", "database")]
        x = splits[0][0]
        mean, deviation = x.mean(axis=0), x.std(axis=0)
        unit = []
        for features, labels in splits:
            centred = (features - mean) / deviation
            centred /= np.linalg.norm(centred, axis=1, keepdims=True)
            unit.append((np.ascontiguousarray(centred, np.float32), labels))
        for bits in part.bits:
            results.add(compare(bits, seed, unit))


if __name__ == "__main__":
    main()
