"""DDH on CIFAR-10: codes from neighbourhoods, no labels.

Takes about ten minutes on 2 CPU cores, later runs one or two: features are kept.
Fetches CIFAR-10 through TensorFlow Datasets. The labels serve the evaluation alone.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="full")

# The backbone is not trained: each image passes through it once, then the features
# are read from the folder.
backbone = kerashash.backbones.get("efficientnet-lite0", image_size=128)
data = kerashash.data.cache_features(data, backbone, "features")

hidden = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(512, "relu")])
model = kerashash.DDH(
    hidden,
    bits=32,
    num_train=data.num_train,
    neighbour_backbone="features",  # as they come; None is behind `hidden`
)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
# Labels and all: DDH passes them over. `indexed` numbers images that have none.
model.fit(
    data.train.batch(256),
    epochs=10,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for name, value in kerashash.evaluate(model, data, "ddh-cifar10").items():
    print(f"{name}: {value}")

# With the backbone it takes images again.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
model.save("ddh-cifar10-32.keras")
