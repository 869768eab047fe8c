r"""Train surrogates for entries on NUS-WIDE, without its photographs.

    python scripts/nuswide_surrogate.py dcdh-nuswide-48 [adalabel-nuswide-48 ...] \
        --labels FOLDER --cache-dir FOLDER --root zoo [--seeds 3]

The labels of NUS-WIDE are available, its photographs are not. Therefore codes are
learned from the labels of the 195,834 images that have one of the 21 most frequent
concepts. For DCDH these are the codes of label rows, learned by the label stream with
its exact S and discrete step; for AdaLabelHash they are the codewords of the concepts.

Then an image network learns, on photographs of MIRFlickr-25k, to output the codes that
belong to their labels. MIRFlickr-25k has labels for 13 of the 21 concepts; what depends
on the others is left out of the loss. The cards of the entries say all this.
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
#: Concepts of NUS-WIDE-21, and the labels of MIRFlickr-25k that stand for each.
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
    """Learn codes of the distinct label rows.

    The label stream alone is DCDH's variant V with label rows in place of images.

    Args:
        labels: float32 ``(n, 21)``, 0 or 1.
        bits: int, the code length.

    Returns:
        ``(stream, patterns, counts, pattern_codes)``: the trained label stream; the
        distinct label rows ``(p, 21)``; how many rows are equal to each, ``(p,)``; and
        the learned codes of the patterns, ``(p, bits)``.
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
        b_update="epoch",
    )
    stream.compile(keras.optimizers.Adam(1e-3))
    stream.fit(labels, labels, batch_size=1024, epochs=5, verbose=2)
    patterns, first, counts = np.unique(
        labels, axis=0, return_index=True, return_counts=True
    )
    return stream, patterns, counts, stream.learned_codes()[first]


def image_network(x, labels, known, patterns, counts, pattern_codes, seed):
    """Train a network from features to codes, with a classifier of the concepts.

    Args:
        x: float32 ``(n, width)``, features of photographs.
        labels: float32 ``(n, 21)``; 0 for unknown concepts.
        known: bool ``(21,)``; which concepts are known.
        patterns, counts, pattern_codes: as `label_codes` returns them.
        seed: int, for the order of the rows.

    Returns:
        `keras.Model` with layers "hidden" and "code" and the outputs continuous codes
        ``(batch, bits)`` and logits ``(batch, 21)``.
    """
    bits = pattern_codes.shape[1]
    inputs = keras.Input(x.shape[1:])
    hidden = keras.layers.Dense(UNITS, "relu", name="hidden")(inputs)
    u = keras.layers.Dense(bits, "tanh", name="code")(hidden)
    network = keras.Model(inputs, [u, keras.layers.Dense(len(known))(u)])
    weights = tf.constant(counts / counts.sum(), tf.float32)
    # A pattern with unknown concepts may be similar to an image with which it shares no
    # known concept.
    uncertain = tf.constant((patterns[:, ~known] > 0).any(axis=1))
    patterns = tf.constant(patterns * known, tf.float32)
    pattern_codes = tf.constant(pattern_codes, tf.float32)
    columns = np.flatnonzero(known)

    def normalized(weight):
        """Scale rows to a sum of 1."""
        return weight / (tf.reduce_sum(weight, axis=1, keepdims=True) + 1e-9)

    def targets(labels):
        """Compute the targets of a batch.

        The similar and the dissimilar pairs of an image have the same total weight. The
        target code of an image is the mean code of the patterns with the same known
        concepts: S alone leaves half of the bits the same for all images.

        Returns:
            ``(s, weight, code, has_code)``: S and the weights of the pairs of images
            and patterns, both ``(batch, p)``; target codes ``(batch, bits)``; and 1 or
            0, ``(batch,)``, for whether an image has a target code.
        """
        common = tf.matmul(labels, patterns, transpose_b=True)  # (batch, p)
        similar = tf.cast(common > 0, tf.float32)
        dissimilar = tf.cast((common == 0) & ~uncertain, tf.float32)
        weight = normalized(weights * similar) + normalized(weights * dissimilar)
        num_labels = tf.reduce_sum(labels, axis=1, keepdims=True)  # (batch, 1)
        same = (common == num_labels) & (common == tf.reduce_sum(patterns, axis=1))
        code_weights = normalized(weights * tf.cast(same, tf.float32))  # (batch, p)
        code = tf.matmul(code_weights, pattern_codes)  # (batch, bits)
        has_code = tf.cast(tf.reduce_any(same, axis=1), tf.float32)
        return 2 * similar - 1, weight / 2, code, has_code

    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-3, EPOCHS * -(-len(x) // 128))
    )

    @tf.function(jit_compile=True)
    def batch_loss(x, labels):
        u, logits = network(x, training=True)
        s, weight, code, has_code = targets(labels)
        inner = tf.matmul(u, pattern_codes, transpose_b=True)  # (batch, p)
        pair_loss = tf.reduce_sum(weight * (s - inner / bits) ** 2, axis=1)
        code_loss = has_code * tf.reduce_mean((u - code) ** 2, axis=1)
        focal = losses.sigmoid_focal(
            tf.gather(labels, columns, axis=1), tf.gather(logits, columns, axis=1)
        )
        return tf.reduce_mean(pair_loss + code_loss) + focal

    @tf.function
    def step(x, labels):
        with tf.GradientTape() as tape:
            loss = batch_loss(x, labels)
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
    """Train a DCDH model on features.

    Args:
        bits: int, the code length.
        labels: float32 ``(n, 21)``, label rows of NUS-WIDE.
        x, mapped: float32 ``(m, width)`` and ``(m, 21)``, features and labels of
            photographs of MIRFlickr-25k; 0 for unknown concepts.
        known: bool ``(21,)``; which concepts are known.
        seed: int.

    Returns:
        ``(model, hidden, arrays, concept_codes)``: the model; its hidden layer; arrays
        to store in the entry; and a dict of concepts' columns to their codes.
    """
    stream, patterns, counts, pattern_codes = label_codes(labels, bits)
    network = image_network(x, mapped, known, patterns, counts, pattern_codes, seed)
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
    model.train_codes.assign(pattern_codes)
    arrays = {
        "label_rows": patterns.astype(np.uint8),
        "label_row_codes": codes.pack(pattern_codes),
    }
    # The code of a concept is that of the label row that has no other concept.
    concept_codes = {
        int(row.argmax()): code
        for row, code in zip(patterns, pattern_codes, strict=True)
        if row.sum() == 1
    }
    return model, hidden, arrays, concept_codes


def adalabel(bits, labels, x, mapped, known, seed):
    """Train an AdaLabelHash model on features; arguments and result as of `dcdh`."""
    label_model = methods.AdaLabelHash(
        keras.Sequential(
            [keras.Input(labels.shape[1:]), keras.layers.Dense(256, "relu")]
        ),
        bits,
        labels.shape[1],
    )
    label_model.compile(keras.optimizers.Adam(1e-3))
    label_model.fit(labels, labels, batch_size=1024, epochs=5, verbose=2)

    hidden = keras.layers.Dense(UNITS, "relu", name="hidden")
    model = methods.AdaLabelHash(
        keras.Sequential([keras.Input(x.shape[1:]), hidden]), bits, labels.shape[1]
    )
    model.codewords.set_weights(label_model.codewords.get_weights())
    model.codewords.trainable = False
    steps = EPOCHS * -(-len(x) // 128)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate))
    with_unknown = np.where(known, mapped, -1)
    model.fit(x, with_unknown, batch_size=128, epochs=EPOCHS, verbose=2)
    return model, hidden, {}, dict(enumerate(model.codewords.hash_codes().numpy()))


def nearest_concepts(names, concept_codes):
    """Map each concept to the distances of the three with the nearest codes."""
    nearest = {}
    for column, code in sorted(concept_codes.items(), key=lambda item: names[item[0]]):
        distances = {
            names[other]: int((code != other_code).sum())
            for other, other_code in sorted(concept_codes.items())
            if other != column
        }
        closest = sorted(distances.items(), key=lambda item: item[1])[:3]
        nearest[names[column]] = dict(closest)
    return nearest


def describe_random_codes(metrics, arrays, bits):
    """Describe the metrics of random codes with the same labels, for the card."""
    rng = np.random.default_rng(0)
    random_codes = {
        f"{split}_codes": codes.pack(
            rng.choice([-1, 1], (len(arrays[f"{split}_codes"]), bits))
        )
        for split in ("query", "database")
    }
    values = card_metrics.measure(metrics, {**arrays, **random_codes}, bits)
    return ", ".join(
        f"{metric['name']} {value:.4f} (empty {metric['empty']})"
        for metric, value in zip(metrics, values, strict=True)
        if value is not None
    )


def nuswide_labels(folder):
    """Return the 21 most frequent concepts of NUS-WIDE and all label rows with one."""
    truth = read_ground_truth(folder).labels
    by_frequency = np.argsort(-truth.sum(axis=0, dtype=int), kind="stable")
    columns = np.sort(by_frequency[:21])
    labels = truth[:, columns]
    return [CONCEPTS[column] for column in columns], labels[labels.any(axis=1)]


def photographs(names):
    """Return MIRFlickr-25k, and its labels mapped to the concepts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = data.load("mirflickr25k", allow_missing=True)
    columns = {name: column for column, name in enumerate(images.class_names)}
    mapped = np.zeros((len(images.labels), len(names)), np.float32)
    for concept, label_names in KNOWN.items():
        labels = images.labels[:, [columns[name] for name in label_names]]
        mapped[:, names.index(concept)] = labels.max(axis=1)
    return images, mapped


METHODS = {"dcdh": dcdh, "adalabel": adalabel}
# What the cards say of the two.
OBJECTIVES = {
    "dcdh": "codes of label rows: the paper's squares, by the stream of labels alone, "
    "with balanced S; image network: a loop of its own, not DCDH's `fit`, with squares "
    "between its codes and these, and a focal loss of sigmoids, of the known concepts",
    "adalabel": "the paper's, with a margin of bits / 4 in place of 1: codewords on "
    "rows of labels; then the image network on these, with unknown concepts left out",
}
CHOSEN_ON = {
    "dcdh": "1,500 training photographs held out: the image network's loss",
    "adalabel": "nothing: widths and epochs are those of dcdh-nuswide-*",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="+", help="<method>-nuswide-<bits>")
    parser.add_argument(
        "--labels", required=True, help="the Groundtruth folder of NUS-WIDE"
    )
    parser.add_argument("--cache-dir", required=True, type=pathlib.Path)
    parser.add_argument("--root", required=True, type=pathlib.Path)
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="number of seeds (default: 1); the entry is that of the first",
    )
    options = parser.parse_args()

    names, labels = nuswide_labels(options.labels)
    images, mapped = photographs(names)
    known = np.isin(names, [*KNOWN])
    backbone = backbones.get("efficientnet-lite0", image_size=128)
    zoo.round_weights(backbone)
    x = data.cache_features(images, backbone, options.cache_dir).x
    rows = images.splits["train"]
    rows = rows[mapped[rows].any(axis=1)]

    def train(method, bits, seed):
        """Train a model behind its backbone.

        Returns:
            ``(model, arrays, concept_codes)``, as of `dcdh`; the arrays include the
            codes and labels of queries and database.
        """
        keras.utils.set_random_seed(seed)
        model, hidden, arrays, concept_codes = METHODS[method](
            bits, labels.astype(np.float32), x[rows], mapped[rows], known, seed
        )
        zoo.round_weights(model)
        for split in ("query", "database"):
            split_rows = images.splits[split]
            arrays[f"{split}_codes"] = model.encode(x[split_rows], verbose=0)
            arrays[f"{split}_labels"] = mapped[split_rows].astype(np.uint8)
        model = model.with_backbone(keras.Sequential([backbone, hidden]))
        return model, arrays, concept_codes

    for name in options.names:
        method, _, bits = name.split("-")
        model, arrays, concept_codes = train(method, int(bits), 0)
        card = {
            **card_of(name, images, len(rows), labels),
            "nearest_concepts": nearest_concepts(names, concept_codes),
        }
        if method == "dcdh":
            card["choices"] = (
                "the image network's loss, on 1,500 training photographs held out"
            )
        metrics = card["metrics"]
        card["random_codes"] = describe_random_codes(metrics, arrays, int(bits))
        by_seed = [card_metrics.measure(metrics, arrays, int(bits))]
        for seed in range(1, options.seeds):
            _, seed_arrays, _ = train(method, int(bits), seed)
            by_seed.append(card_metrics.measure(metrics, seed_arrays, int(bits)))
        for metric, values in zip(metrics, zip(*by_seed, strict=True), strict=True):
            if options.seeds > 1 and None not in values:
                metric["by_seed"] = list(values)
        recipe = zoo.recipe_path(name).read_text()
        entry = zoo.save(
            model, name, card, arrays, recipe, options.root, overwrite=True
        )
        print(name, entry.card["metrics"], flush=True)


def card_of(name, images, num_train, labels):
    """Build the card of a surrogate, without what depends on its codes.

    Args:
        name: str, the entry's name.
        images: `kerashash.data.RetrievalData`, MIRFlickr-25k.
        num_train: int, the number of photographs that the network is trained on.
        labels: array ``(n, 21)``, label rows of NUS-WIDE.
    """
    recipe = tomllib.loads(zoo.recipe_path(name).read_text())
    common = {"denominator": "relevant", "ties": "expected", "database": "encoded"}
    on = "1,700 queries and 18,300 photographs of MIRFlickr-25k, 13 mapped concepts"
    return {
        "surrogate": True,
        "paper": recipe["entry"]["paper"],
        "paper_value": "not comparable: the paper trains and measures on NUS-WIDE",
        "trained_on": "no photograph of NUS-WIDE: codes of the labels of "
        f"{len(labels):,} images of NUS-WIDE ({len(np.unique(labels, axis=0)):,} "
        f"distinct rows of 21 concepts); network on {num_train:,} photographs of "
        f"MIRFlickr-25k with 13 of these concepts ({', '.join(KNOWN)}); backbone: "
        "ImageNet-1k",
        "objective": OBJECTIVES[name.split("-")[0]],
        "backbone_trained_by": "ImageNet-1k classification; frozen",
        "chosen_on": CHOSEN_ON[name.split("-")[0]],
        "seeds_vary": "the codes of labels and the image network above the backbone; "
        "the split stays that of seed 0",
        "licence": "Apache-2.0 (weights); no photograph is here",
        "use": "retrieval of photographs that share one of the 13 concepts; of the "
        "other eight it saw no photograph",
        "data": {"name": "mirflickr25k", "seed": images.seed, "allow_missing": True},
        "counts": {
            "train": num_train,
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
