"""AdaLabelHash on CIFAR-10: train a head on a frozen backbone, and evaluate.

Takes about half an hour on 2 CPU cores. The entry `adalabel-cifar10-48` of the zoo
also trains the last blocks of the backbone: `kerashash train --recipe
adalabel-cifar10-48` does that.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="full")

backbone = kerashash.backbones.get("efficientnet-lite0", image_size=96)
backbone.trainable = False
model = kerashash.AdaLabelHash(
    backbone, bits=48, num_classes=data.num_classes, margin=12.0
)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(
    data.train.batch(128),
    epochs=3,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
for name, value in kerashash.evaluate(model, data).items():
    print(f"{name}: {value}")
model.save("adalabel-cifar10-48.keras")
