"""DCDH on CIFAR-10: image, label and fused streams share discrete codes.

The first run takes about ten minutes on 2 CPU cores, later runs one or two, because the
features are cached. CIFAR-10 is downloaded by TensorFlow Datasets.

The entry `dcdh-cifar10-48` of the zoo is such a head on a better backbone, which the
entry `adalabel-5k-cifar10-48` fine-tuned: `kerashash train --recipe dcdh-cifar10-48`
trains it.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="5k-train")

# The backbone is frozen: each image passes through it once, and its features are cached
# in the folder.
backbone = kerashash.backbones.get("efficientnet-lite0", image_size=128)
data = kerashash.data.cache_features(data, backbone, "features")

hidden = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(512, "relu")])
model = kerashash.DCDH(
    hidden,
    bits=48,
    num_classes=data.num_classes,
    num_train=data.num_train,
    label_units=(256, 256),
    fusion_units=(256, 256),
)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(
    data.train.batch(128),
    epochs=20,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for database in ("encoded", "learned"):
    print(kerashash.evaluate(model, data, database=database))

# Put the model behind the backbone, so that it takes images again.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
kerashash.save_model(model, "dcdh-cifar10-48.keras")
