"""Compare where DCDH's discrete step runs: in each training step, or after each epoch.

    python -m benchmarks dcdh_discrete_step [--seeds 0 1 2 3]

Trains 16 bits on scikit-learn's handwritten digits for 8 epochs of batches of 64, on
two dense layers with and without dropout between them. The streams of labels and of
their fusion with images have dropout in either case. Writes
benchmarks/results/dcdh_discrete_step.csv.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import kerashash
from benchmarks.table import Table

parser = argparse.ArgumentParser()
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
options = parser.parse_args()

data = kerashash.data.load("digits")
table = Table("dcdh_discrete_step.csv", "b_update", "dropout", "seed")
for seed in options.seeds:
    for dropout in (0.0, 0.5):
        for b_update in ("epoch", "batch"):
            if (b_update, dropout, seed) in table:
                continue
            keras.utils.set_random_seed(seed)
            layers = [
                keras.layers.Dense(256, "relu"),
                *([keras.layers.Dropout(dropout)] if dropout else []),
                keras.layers.Dense(256, "relu"),
            ]
            model = kerashash.DCDH(
                keras.Sequential([keras.Input((64,)), *layers]),
                bits=16,
                num_classes=data.num_classes,
                num_train=data.num_train,
                b_update=b_update,
                label_units=(256,),
                fusion_units=(256,),
            )
            model.compile(keras.optimizers.Adam(1e-3))
            history = model.fit(data.train.batch(64), epochs=8, verbose=0)
            table.add(
                {
                    "b_update": b_update,
                    "dropout": dropout,
                    "seed": seed,
                    **{
                        f"mAP@ALL {database}": round(
                            kerashash.evaluate(model, data, database=database)[
                                "mAP@ALL"
                            ],
                            4,
                        )
                        for database in ("encoded", "learned")
                    },
                    "loss": round(history.history["loss"][-1], 4),
                }
            )
