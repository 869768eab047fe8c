"""DDH on CIFAR-10: codes learned from neighbourhoods, without labels.

The first run takes about ten minutes on 2 CPU cores, later runs one or two, because the
features are cached. CIFAR-10 is downloaded by TensorFlow Datasets. The
labels are only used to evaluate.
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
model = kerashash.DDH(
    hidden,
    bits=32,
    num_train=data.num_train,
    neighbour_backbone="features",  # not those behind `hidden`, as None would
)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
# DDH ignores the labels in the batches, but needs the index, which
# `kerashash.data.indexed` adds to images without labels.
model.fit(
    data.train.batch(256),
    epochs=10,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for name, value in kerashash.evaluate(model, data, "ddh-cifar10").items():
    print(f"{name}: {value}")

# Put the model behind the backbone, so that it takes images again.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
kerashash.save_model(model, "ddh-cifar10-32.keras")
