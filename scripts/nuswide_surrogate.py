r"""Train entries for NUS-WIDE without its photographs, and say so in their cards.

    python scripts/nuswide_surrogate.py dcdh-nuswide-48 [adalabel-nuswide-48 ...] \
        --labels FOLDER --cache-dir FOLDER --root zoo [--seeds 3]

The labels of NUS-WIDE are to be had, its photographs are not. So codes are learned from
the labels of the 195,834 images that have one of its 21 most frequent concepts: for
DCDH those of label rows, by its label stream with its exact S and discrete step; for
AdaLabelHash the codewords of concepts. Then an image network learns, on photographs of
MIRFlickr-25k, to give the codes that go with their labels: 13 of the 21 concepts are
known of these, and what depends on the others is left out of the loss.
"""

import argparse
import pathlib
import tomllib
import warnings

import keras
import numpy as np
import tensorflow as tf

from kerashash import backbones, codes, data, methods, zoo
from kerashash.data.builders.nus_wide import CONCEPTS, read_ground_truth
from kerashash.maths import losses
from kerashash.zoo import card_metrics

UNITS, EPOCHS = 1024, 10
#: Concepts of NUS-WIDE-21 and the labels of MIRFlickr-25k that stand for them.
KNOWN = {
    "sky": ["sky"],
    "clouds": ["clouds"],
    "person": ["people"],
    "water": ["water"],
    "animal": ["animals"],
    "plants": ["plant_life"],
    "buildings": ["structures"],
    "lake": ["lake"],
    "ocean": ["sea"],
    "flowers": ["flower"],
    "sunset": ["sunset"],
    "vehicle": ["transport", "car"],
    "tree": ["tree"],
}


def label_codes(labels, bits):
    """Codes of the distinct label rows, and the label stream that gives them.

    The label stream alone is DCDH's variant V with label rows in place of images.
    """
    stream = methods.DCDH(
        keras.Sequential(
            [
                keras.Input(labels.shape[1:]),
                keras.layers.Dense(256, "relu"),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(256, "relu"),
                keras.layers.Dropout(0.5),
            ]
        ),
        bits,
        labels.shape[1],
        len(labels),
        variant="V",
    )
    stream.compile(keras.optimizers.Adam(1e-3))
    stream.fit(labels, labels, batch_size=1024, epochs=5, verbose=2)
    patterns, first, counts = np.unique(
        labels, axis=0, return_index=True, return_counts=True
    )
    return stream, patterns, counts, stream.learned_codes()[first]


def image_network(x, labels, known, patterns, counts, pattern_codes, seed):
    """An image network on features, and its classifier of concepts.

    Args:
        x: float32 ``(n, width)``.
        labels: float32 ``(n, 21)``; 0 where a concept is not known.
        known: bool ``(21,)``.
        patterns, counts, pattern_codes: of the distinct label rows, p of them.
        seed: int, of the order of the rows.
    """
    bits = pattern_codes.shape[1]
    inputs = keras.Input(x.shape[1:])
    hidden = keras.layers.Dense(UNITS, "relu", name="hidden")(inputs)
    u = keras.layers.Dense(bits, "tanh", name="code")(hidden)
    network = keras.Model(inputs, [u, keras.layers.Dense(len(known))(u)])
    weights = tf.constant(counts / counts.sum(), tf.float32)
    # Without a known concept in common, one of the others may still be common.
    maybe = tf.constant((patterns[:, ~known] > 0).any(axis=1))
    patterns = tf.constant(patterns * known, tf.float32)
    pattern_codes = tf.constant(pattern_codes, tf.float32)
    columns = np.flatnonzero(known)

    def shares(weight):
        return weight / (tf.reduce_sum(weight, axis=1, keepdims=True) + 1e-9)

    def terms(labels):
        """S of a batch, how much each pair counts, and the codes to be given.

        Of an image's pairs both kinds weigh the same. Its code to be given is the mean
        of those of the rows with the same known concepts; S alone leaves half of the
        bits the same for all images. The last is 0 for an image without such rows.
        """
        common = tf.matmul(labels, patterns, transpose_b=True)
        similar = tf.cast(common > 0, tf.float32)
        different = tf.cast((common == 0) & ~maybe, tf.float32)
        weight = shares(weights * similar) + shares(weights * different)
        its, theirs = tf.reduce_sum(labels, axis=1), tf.reduce_sum(patterns, axis=1)
        same = (common == its[:, None]) & (common == theirs)
        goal = tf.matmul(shares(weights * tf.cast(same, tf.float32)), pattern_codes)
        there = tf.cast(tf.reduce_any(same, axis=1), tf.float32)
        return 2 * similar - 1, weight / 2, goal, there

    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * -(-len(x) // 128))
    )

    @tf.function(jit_compile=True)
    def losses_of(x, labels):
        u, logits = network(x, training=True)
        s, weight, goal, there = terms(labels)
        fit = weight * (s - tf.matmul(u, pattern_codes, transpose_b=True) / bits) ** 2
        gap = there * tf.reduce_mean((u - goal) ** 2, axis=1)
        focal = losses.sigmoid_focal(
            tf.gather(labels, columns, axis=1), tf.gather(logits, columns, axis=1)
        )
        return tf.reduce_mean(tf.reduce_sum(fit, axis=1) + gap) + focal

    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            loss = losses_of(x, labels)
        variables = network.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    batches = tf.data.Dataset.from_tensor_slices((x, labels))
    batches = batches.shuffle(len(x), seed).batch(128, drop_remainder=True)
    for epoch in range(EPOCHS):
        loss = np.mean([step(*batch) for batch in batches])
        print(f"epoch {epoch + 1}: loss {loss:.4f}", flush=True)
    return network


def dcdh(bits, labels, x, mapped, known, seed):
    """A DCDH model on features, arrays to keep, and a code of each concept.

    Args:
        bits: int.
        labels: float32 ``(n, 21)``, of NUS-WIDE.
        x, mapped: float32 ``(m, width)`` and ``(m, 21)``, features and labels of
            photographs of MIRFlickr-25k; 0 where a concept is not known.
        known: bool ``(21,)``.
        seed: int.
    """
    stream, patterns, counts, its = label_codes(labels, bits)
    network = image_network(x, mapped, known, patterns, counts, its, seed)
    hidden = network.get_layer("hidden")
    vector = keras.Input(x.shape[1:])
    model = methods.DCDH(
        keras.Model(vector, hidden(vector)),
        bits,
        labels.shape[1],
        len(patterns),
        variant="S",
        label_units=(256, 256),
    )
    model.hash_head.set_weights(network.get_layer("code").get_weights())
    model.label_net.set_weights(
        [*stream.backbone.get_weights(), *stream.hash_head.get_weights()]
    )
    model.train_codes.assign(its)
    kept = {"label_rows": patterns.astype(np.uint8), "label_row_codes": codes.pack(its)}
    # Of the rows that have a concept alone.
    alone = {
        int(row.argmax()): code
        for row, code in zip(patterns, its, strict=True)
        if row.sum() == 1
    }
    return model, hidden, kept, alone


def adalabel(bits, labels, x, mapped, known, seed):
    """The same with AdaLabelHash."""
    rows = methods.AdaLabelHash(
        keras.Sequential(
            [keras.Input(labels.shape[1:]), keras.layers.Dense(256, "relu")]
        ),
        bits,
        labels.shape[1],
    )
    rows.compile(keras.optimizers.Adam(1e-3))
    rows.fit(labels, labels, batch_size=1024, epochs=5, verbose=2)

    hidden = keras.layers.Dense(UNITS, "relu", name="hidden")
    model = methods.AdaLabelHash(
        keras.Sequential([keras.Input(x.shape[1:]), hidden]), bits, labels.shape[1]
    )
    model.codewords.set_weights(rows.codewords.get_weights())
    model.codewords.trainable = False
    steps = EPOCHS * -(-len(x) // 128)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    unknown = np.where(known, mapped, -1)
    model.fit(x, unknown, batch_size=128, epochs=EPOCHS, verbose=2)
    return model, hidden, {}, dict(enumerate(model.codewords.hash_codes().numpy()))


def neighbours(names, alone):
    """The three concepts whose codes are nearest to each one's."""
    found = {}
    for column, code in sorted(alone.items(), key=lambda item: names[item[0]]):
        distances = {
            names[other]: int((code != its).sum())
            for other, its in sorted(alone.items())
            if other != column
        }
        near = sorted(distances.items(), key=lambda item: item[1])[:3]
        found[names[column]] = dict(near)
    return found


def random_codes(metrics, kept, bits):
    """What is to be said of codes drawn at random, with the same labels."""
    random = np.random.default_rng(0)
    drawn = {
        f"{split}_codes": codes.pack(
            random.choice([-1, 1], (len(kept[f"{split}_codes"]), bits))
        )
        for split in ("query", "database")
    }
    values = card_metrics.measure(metrics, {**kept, **drawn}, bits)
    return ", ".join(
        f"{metric['name']} {value:.4f} (empty {metric['empty']})"
        for metric, value in zip(metrics, values, strict=True)
        if value is not None
    )


def nuswide_labels(folder):
    """The 21 most frequent concepts of NUS-WIDE, and the label rows that have one."""
    truth = read_ground_truth(folder).labels
    top = np.sort(np.argsort(-truth.sum(axis=0, dtype=int), kind="stable")[:21])
    labels = truth[:, top]
    return [CONCEPTS[column] for column in top], labels[labels.any(axis=1)]


def photographs(names):
    """MIRFlickr-25k, and its labels as those of the concepts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = data.load("mirflickr25k", allow_missing=True)
    columns = {name: column for column, name in enumerate(images.class_names)}
    mapped = np.zeros((len(images.labels), len(names)), np.float32)
    for concept, its in KNOWN.items():
        of = images.labels[:, [columns[name] for name in its]]
        mapped[:, names.index(concept)] = of.max(axis=1)
    return images, mapped


METHODS = {"dcdh": dcdh, "adalabel": adalabel}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", help="<method>-nuswide-<bits>")
    parser.add_argument("--labels", required=True, help="folder of Groundtruth")
    parser.add_argument("--cache-dir", required=True, type=pathlib.Path)
    parser.add_argument("--root", required=True, type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=1, help="the first one is kept")
    options = parser.parse_args()

    names, labels = nuswide_labels(options.labels)
    images, mapped = photographs(names)
    known = np.isin(names, [*KNOWN])
    backbone = backbones.get("efficientnet-lite0", image_size=128)
    zoo.round_weights(backbone)
    x = data.cache_features(images, backbone, options.cache_dir).x
    rows = images.splits["train"]
    rows = rows[mapped[rows].any(axis=1)]

    def trained(method, bits, seed):
        """A model behind its backbone, its codes with their labels, and a code of each
        concept."""
        keras.utils.set_random_seed(seed)
        model, hidden, kept, alone = METHODS[method](
            bits, labels.astype(np.float32), x[rows], mapped[rows], known, seed
        )
        zoo.round_weights(model)
        for split in ("query", "database"):
            kept[f"{split}_codes"] = model.encode(x[images.splits[split]], verbose=0)
            kept[f"{split}_labels"] = mapped[images.splits[split]].astype(np.uint8)
        whole = keras.Sequential([backbone, hidden])
        return model.with_backbone(whole), kept, alone

    for name in options.names:
        method, _, bits = name.split("-")
        model, kept, alone = trained(method, int(bits), 0)
        about = {
            **card(name, images, len(rows), labels),
            "nearest_concepts": neighbours(names, alone),
        }
        if method == "dcdh":
            about["choices"] = (
                "the image network's loss, on 1,500 training photographs held out"
            )
        metrics = about["metrics"]
        about["random_codes"] = random_codes(metrics, kept, int(bits))
        by_seed = [card_metrics.measure(metrics, kept, int(bits))]
        for seed in range(1, options.seeds):
            _, other, _ = trained(method, int(bits), seed)
            by_seed.append(card_metrics.measure(metrics, other, int(bits)))
        for metric, values in zip(metrics, zip(*by_seed, strict=True), strict=True):
            if options.seeds > 1 and None not in values:
                metric["by_seed"] = list(values)
        text = zoo.recipe_path(name).read_text()
        entry = zoo.save(model, name, about, kept, text, options.root, overwrite=True)
        print(name, entry.card["metrics"], flush=True)


def card(name, images, trained, labels):
    """What is to be said of a surrogate."""
    recipe = tomllib.loads(zoo.recipe_path(name).read_text())
    common = {"denominator": "relevant", "ties": "expected", "database": "encoded"}
    on = "1,700 queries and 18,300 photographs of MIRFlickr-25k, 13 mapped concepts"
    return {
        "surrogate": True,
        "paper": recipe["entry"]["paper"],
        "paper_value": "not comparable: the paper trains and measures on NUS-WIDE",
        "trained_on": "no photograph of NUS-WIDE: codes of the labels of "
        f"{len(labels):,} images of NUS-WIDE ({len(np.unique(labels, axis=0)):,} "
        f"distinct rows of 21 concepts); network on {trained:,} photographs of "
        f"MIRFlickr-25k with 13 of these concepts ({', '.join(KNOWN)}); backbone: "
        "ImageNet-1k",
        "licence": "Apache-2.0 (weights); no photograph is here",
        "use": "retrieval of photographs that share one of the 13 concepts; of the "
        "other eight it saw no photograph",
        "data": {"name": "mirflickr25k", "seed": images.seed, "allow_missing": True},
        "counts": {
            "train": trained,
            "query": images.num_query,
            "database": images.num_database,
        },
        "backbone": {
            "name": "efficientnet-lite0",
            "image_size": 128,
            "hidden_units": UNITS,
        },
        "seed": 0,
        "metrics": [
            {"name": "mAP@ALL", **common, "empty": "zero", "on": on},
            {"name": "mAP@ALL", **common, "empty": "skip", "on": on},
            {"name": "mAP@ALL on NUS-WIDE", "measured": False},
        ],
    }


if __name__ == "__main__":
    main()
