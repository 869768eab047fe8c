"""Your own folder of images: learn codes for it, then search it by image.

    python examples/own_images.py FOLDER QUERY.jpg

FOLDER has one subfolder per class. A thousand images take less than a minute on 2 CPU
cores.
"""

import argparse

import keras

import kerashash

parser = argparse.ArgumentParser()
parser.add_argument("folder", help="a folder with one subfolder of images per class")
parser.add_argument("query", help="an image, which need not be in the folder")
folder, query = vars(parser.parse_args()).values()

keras.utils.set_random_seed(0)
data = kerashash.data.from_directory(folder, image_size=128)

# The backbone is frozen: each image passes through it once, and its features are cached
# in the folder.
backbone = kerashash.backbones.get("efficientnet-lite0", image_size=128)
features = kerashash.data.cache_features(data, backbone, "features")

hidden = keras.Sequential([keras.Input((1280,)), keras.layers.Dense(512, "relu")])
model = kerashash.AdaLabelHash(hidden, bits=48, num_classes=data.num_classes)
model.compile(optimizer=keras.optimizers.Adam(1e-3))
model.fit(features.train.batch(64), epochs=10)
print(kerashash.evaluate(model, features))

# Put the model behind the backbone, so that it takes images and paths of images.
model = model.with_backbone(keras.Sequential([backbone, hidden]))
kerashash.save_model(model, "own-images.keras")

ranker = kerashash.HammingRanker(model.encode(data.database), bits=48)
distances, rows = ranker.top_k(model.encode([query]), k=5)
names = data.names[data.splits["database"]]
for distance, row in zip(distances[0], rows[0], strict=True):
    print(f"{distance:2d} bits differ: {names[row]}")
