"""DDH-LDL on Movie: hash codes that predict how viewers rate a film.

    python examples/ddh_ldl_movie.py Movie.mat

Each row is a film. Its label distribution holds the shares of its viewers who give it
one, two, three, four or five points. One `fit` trains the code network, solves for the
rotation, and trains the function network. Encoding new films needs only the function
network.
"""

import argparse

import keras
import numpy as np

import kerashash
from kerashash.evaluation import label_distribution

parser = argparse.ArgumentParser()
parser.add_argument("path", help="Movie.mat, as its authors publish it")
path = parser.parse_args().path

data = kerashash.data.load_distributions(path, seed=0)  # 90 % train, 10 % query
n, classes = data.d_train.shape

# Genres and the like are columns of 0 and 1. Three columns are numeric; most of their
# values are close together.
encoding = kerashash.backbones.QuantileEncoding()
encoding.adapt(data.x_train)
backbone = keras.Sequential([keras.Input((data.x_train.shape[1],)), encoding])

model = kerashash.DDHLDL(backbone, bits=128, num_classes=classes, num_train=n)
schedule = keras.optimizers.schedules.CosineDecay(
    1e-3, decay_steps=10 * (n // 1024 + 1)
)
model.compile(optimizer=keras.optimizers.Adam(schedule))
model.fit(
    data.x_train,
    data.d_train,
    batch_size=1024,
    epochs=13,  # 10 for the code network, 3 for the function network
    callbacks=[keras.callbacks.TensorBoard("logs")],
)

predictions = {
    "mean of the training rows": np.tile(
        data.d_train.mean(axis=0), (len(data.x_query), 1)
    ),
    "AA-kNN": label_distribution.knn_distribution(
        data.x_query, data.x_train, data.d_train, k=30
    ),
    "DDH-LDL, 128 bits": model.predict_distribution(data.x_query, k=30),
}
print("0 is best; of cosine and intersection, 1 is")
for name, predicted in predictions.items():
    measures = label_distribution.measures(data.d_query, predicted)
    print(f"{name:27}", *(f"{key} {value:.4f}" for key, value in measures.items()))

kerashash.save_model(model, "ddh-ldl-movie-128.keras")
