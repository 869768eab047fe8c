"""AdaLabelHash on CIFAR-10: train a head on a frozen backbone, and evaluate it.

The first run takes about ten minutes on 2 CPU cores, later runs one or two, because the
features are cached. CIFAR-10 is downloaded by TensorFlow Datasets.

The entry `adalabel-cifar10-48` of the zoo also trains most layers of a larger backbone:
`kerashash train --recipe adalabel-cifar10-48` does that, in hours.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="full")

# The backbone is frozen: each image passes through it once, and its features are cached
# in the folder.
backbone = kerashash.backbones.get("efficientnet-lite0", image_size=128)
data = kerashash.data.cache_features(data, backbone, "features")

hidden = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(512, "relu")])
model = kerashash.AdaLabelHash(hidden, bits=48, num_classes=data.num_classes)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(
    data.train.batch(128),
    epochs=3,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for name, value in kerashash.evaluate(model, data).items():
    print(f"{name}: {value}")

# Put the model behind the backbone, so that it takes images again.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
kerashash.save_model(model, "adalabel-cifar10-48.keras")
