"""AdaLabelHash on CIFAR-10, semi-supervised: 5,000 labelled images, 54,000 without.

Takes about half an hour on 2 CPU cores, most of it in the frozen backbone. Fetches
CIFAR-10 through TensorFlow Datasets.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="semi")

backbone = kerashash.backbones.get("efficientnet-lite0", image_size=96)
backbone.trainable = False
model = kerashash.AdaLabelHash(backbone, bits=48, num_classes=data.num_classes)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(data.train.batch(128), epochs=5)
before = kerashash.evaluate(model, data)["mAP@ALL"]

# Each round labels the unlabelled images anew and keeps the most confident.
model.compile(optimizer=keras.optimizers.Adam(3e-4))
model.self_train(
    data.train,
    data.unlabelled,
    first_epochs=0,  # the labelled images alone: done above
    epochs=1,
    rounds=2,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
after = kerashash.evaluate(model, data)["mAP@ALL"]
print(f"mAP@ALL, 5,000 labelled images: {before:.4f}, and 54,000 more: {after:.4f}")
model.save("adalabel-semi-cifar10-48.keras")
