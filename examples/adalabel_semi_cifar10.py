"""AdaLabelHash on CIFAR-10, semi-supervised: 5,000 labelled, 54,000 unlabelled images.

The first run takes about ten minutes on 2 CPU cores, later runs one or two, because the
features are cached. CIFAR-10 is downloaded by TensorFlow Datasets.
"""

import keras

import kerashash

keras.utils.set_random_seed(0)
data = kerashash.data.load("cifar10", protocol="semi")

# The backbone is frozen: each image passes through it once, and its features are cached
# in the folder.
backbone = kerashash.backbones.get("efficientnet-lite0", image_size=128)
data = kerashash.data.cache_features(data, backbone, "features")

hidden = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(512, "relu")])
model = kerashash.AdaLabelHash(hidden, bits=48, num_classes=data.num_classes)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(data.train.batch(128), epochs=5)
before = kerashash.evaluate(model, data)["mAP@ALL"]

# Each round predicts the labels of the unlabelled images anew, and trains on the images
# with the most confident predictions.
model.compile(optimizer=keras.optimizers.Adam(3e-4))
model.self_train(
    data.train,
    data.unlabelled,
    first_epochs=0,  # epochs on the labelled images alone: done above
    epochs=1,
    rounds=3,
    quantile=0.3,  # share of the unlabelled images in the last round
    batch_size=256,
    callbacks=[keras.callbacks.TensorBoard("logs")],
)
after = kerashash.evaluate(model, data)["mAP@ALL"]
print(f"mAP@ALL, 5,000 labelled images: {before:.4f}, and 54,000 more: {after:.4f}")

# Put the model behind the backbone, so that it takes images again.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
kerashash.save_model(model, "adalabel-semi-cifar10-48.keras")
