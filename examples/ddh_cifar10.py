"""DDH on CIFAR-10: codes from neighbourhoods, no labels.

Takes about twenty minutes on 2 CPU cores, most of them in the frozen backbone. Fetches
CIFAR-10 through TensorFlow Datasets. The labels serve the evaluation alone.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="full")

backbone = kerashash.backbones.get("efficientnet-lite0", image_size=96)
backbone.trainable = False
model = kerashash.DDH(backbone, bits=32, num_train=data.num_train)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
# Labels and all: DDH passes them over. `indexed` numbers images that have none.
model.fit(
    data.train.batch(256),
    epochs=2,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for name, value in kerashash.evaluate(model, data, "ddh-cifar10").items():
    print(f"{name}: {value}")
model.save("ddh-cifar10-32.keras")
