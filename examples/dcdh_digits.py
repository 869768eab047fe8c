"""DCDH on handwritten digits: learned codes, resumed training, and ranking.

It needs no download and takes seconds.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("digits")
network = keras.Sequential(
    [keras.Input((64,)), keras.layers.Dense(256, activation="relu")]
)
model = kerashash.DCDH(
    network,
    bits=32,
    num_classes=data.num_classes,
    num_train=data.num_train,
    label_units=(256,),
    fusion_units=(256,),
)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(
    data.train.batch(64),
    epochs=10,
    callbacks=kerashash.callbacks.monitor(data, "logs"),
)

# The learned codes B are part of the model: they are saved and loaded with it, and
# training continues from them.
kerashash.save_model(model, "dcdh-digits-32.keras")
model = kerashash.load_model("dcdh-digits-32.keras")
model.fit(data.train.batch(64), epochs=2)

print("encoded database:", kerashash.evaluate(model, data)["mAP@ALL"])
print("learned database:", kerashash.evaluate(model, data, "dcdh")["mAP@ALL"])

ranker = kerashash.HammingRanker(model.encode(data.database), bits=32)
distances, indices = ranker.top_k(model.encode(data.query.take(1)), k=5)
print("nearest to the first query:", indices[0], "at distances", distances[0])
