r"""Train surrogates for entries on NUS-WIDE, without its photographs.

    python scripts/nuswide_surrogate.py dcdh-nuswide-48 [adalabel-nuswide-48 ...] \
        --labels FOLDER --cache-dir FOLDER --root zoo [--seeds 3]

The labels of NUS-WIDE are available, its photographs are not. Therefore codes are
learned from the labels of images that have one of the 21 most frequent concepts. For
DCDH they are those of its label stream, trained on label rows alone; for AdaLabelHash
they are the codewords of the concepts.

Then the method itself is trained on photographs of MIRFlickr-25k, with the label
stream, or the codewords, as they are: the image stream must agree with them. Labels of
MIRFlickr-25k stand for 13 of the 21 concepts. The others are unknown, -1. The recipe of
the entry, which trains the real one, says all options. The cards say all this.

With ``--hold-out N``, N training photographs are the queries and the rest of them the
database; nothing is written. All options were chosen in this way.
"""

import argparse
import pathlib
import warnings

import keras
import numpy as np

from kerashash import backbones, codes, data, methods, recipes, zoo
from kerashash.data.builders.nus_wide import CONCEPTS, read_ground_truth
from kerashash.recipes import fitting, runs
from kerashash.zoo import card_metrics

#: Label rows of NUS-WIDE, drawn at random, from which codes are learned.
LABEL_ROWS = 20_000
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


#: What is minimised, for the cards.
OBJECTIVES = {
    "dcdh": "an extension, not the paper's squares: the average precision of the "
    "ranking, with one learned code for each distinct row of labels, and the balance "
    "of the bits. First by the stream of labels alone, on label rows of NUS-WIDE, then "
    "by all streams on photographs, with this stream of labels and labels of -1 for "
    "unknown concepts",
    "adalabel": "the paper's, with a margin of bits / 4 in place of 1, and the balance "
    "of the bits, an extension: first on label rows of NUS-WIDE in place of images, "
    "then on photographs with the codewords that these gave, and labels of -1 for "
    "unknown concepts",
}


def label_stream(recipe, labels):
    """Train the label stream of DCDH on label rows.

    Alone, it is DCDH's variant V with label rows in place of images.

    Args:
        recipe: `kerashash.recipes.recipe.Recipe`.
        labels: float32 ``(n, 21)``, 0 or 1.

    Returns:
        `kerashash.DCDH`: label rows -> codes.
    """
    layers = [keras.Input(labels.shape[1:])]
    for units in recipe.model["label_units"]:
        layers += [keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.2)]
    bits = recipe.model["bits"]
    stream = methods.DCDH(
        keras.Sequential(layers),
        bits,
        labels.shape[1],
        len(labels),
        variant="V",
        pair_loss="average_precision",
        quantization_weight=len(labels) * bits / 10,
    )
    fitting.fit_vectors(
        stream, labels, labels, epochs=4, batch_size=256, learning_rate=1e-3
    )
    return stream


def dcdh(recipe, network, labels, mapped):
    """Make a DCDH model whose label stream is that of NUS-WIDE.

    Args:
        recipe: `kerashash.recipes.recipe.Recipe`.
        network: `keras.Model`, the layers from features to the hash layer.
        labels: float32 ``(n, 21)``, label rows of NUS-WIDE.
        mapped: float32 ``(m, 21)``, labels of photographs; -1 for unknown.

    Returns:
        ``(model, concept_codes, encode_labels)``: the model, to be trained; int8 ``(21,
        bits)``, the codes of label rows with one concept; and a function of label rows
        ``(k, 21)`` that returns their codes.
    """
    stream = label_stream(recipe, labels)
    bits = recipe.model["bits"]

    def encode_labels(rows):
        return codes.unpack(stream.encode(rows, verbose=0), bits)

    weight = len(mapped) * bits / 10  # that of the recipe is for another number of rows
    options = {**recipe.model, "quantization_weight": weight}
    model = methods.DCDH(
        network, num_classes=labels.shape[1], num_train=len(mapped), **options
    )
    model.label_net.set_weights(
        [*stream.backbone.get_weights(), *stream.hash_head.get_weights()]
    )
    model.label_net.trainable = False
    # B starts with the codes that NUS-WIDE gives the labels that are known.
    model.train_codes.assign(encode_labels(np.maximum(mapped, 0)))
    concepts = np.eye(labels.shape[1], dtype=np.float32)
    return model, encode_labels(concepts), encode_labels


def adalabel(recipe, network, labels, mapped):
    """Make an AdaLabelHash model with the codewords of NUS-WIDE, as `dcdh` does.

    The codes of the concepts are the codewords. Label rows have no codes of their own.
    """
    classes = labels.shape[1]
    hidden = keras.Sequential(
        [keras.Input((classes,)), keras.layers.Dense(256, "relu")]
    )
    label_model = methods.AdaLabelHash(hidden, num_classes=classes, **recipe.model)
    fitting.fit_vectors(
        label_model, labels, labels, epochs=20, batch_size=256, learning_rate=1e-3
    )
    model = methods.AdaLabelHash(network, num_classes=classes, **recipe.model)
    model.codewords.set_weights(label_model.codewords.get_weights())
    model.codewords.trainable = False

    return model, model.codewords.hash_codes().numpy(), None


def nearest_concepts(names, concept_codes):
    """Map each concept to the distances of the three with the nearest codes."""
    distances = (concept_codes[:, None] != concept_codes).sum(axis=-1)
    nearest = {}
    for column in np.argsort(names):
        closest = np.argsort(distances[column], kind="stable")
        closest = closest[closest != column][:3]
        nearest[names[column]] = {
            names[other]: int(distances[column, other]) for other in closest
        }
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
    """Return MIRFlickr-25k, and its labels mapped to the concepts; -1 for unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = data.load("mirflickr25k", allow_missing=True)
    columns = {name: column for column, name in enumerate(images.class_names)}
    mapped = np.full((len(images.labels), len(names)), -1.0, np.float32)
    for concept, label_names in KNOWN.items():
        labels = images.labels[:, [columns[name] for name in label_names]]
        mapped[:, names.index(concept)] = labels.max(axis=1)
    return images, mapped


def held_out(images, count):
    """Splits of the training photographs: `count` queries, the others the database."""
    rows = np.random.default_rng(0).permutation(images.splits["train"])
    query, rest = np.sort(rows[:count]), np.sort(rows[count:])
    return {"train": rest, "query": query, "database": rest}


METHODS = {"dcdh": dcdh, "adalabel": adalabel}


def train(recipe, labels, x, mapped, splits, seed):
    """Train a model on features.

    Args:
        recipe: `kerashash.recipes.recipe.Recipe`.
        labels: uint8 ``(n, 21)``, label rows of NUS-WIDE.
        x, mapped: float32 ``(m, width)`` and ``(m, 21)``, features of photographs, and
            their labels.
        splits: dict of row numbers: "train", "query" and "database".
        seed: int.

    Returns:
        ``(model, layers, arrays, concept_codes)``: the model; its layers between
        features and hash layer; arrays of the entry, with the codes and labels of
        queries and database; and the codes of the concepts.
    """
    keras.utils.set_random_seed(seed)
    some = np.random.default_rng(seed).choice(len(labels), LABEL_ROWS, replace=False)
    rows = splits["train"]
    rows = rows[(mapped[rows] > 0).any(axis=1)]
    layers = runs.feature_layers(x[rows], recipe.backbone)
    make = METHODS[recipe.name.split("-")[0]]
    model, concept_codes, encode_labels = make(
        recipe,
        fitting.network(x, layers),
        labels[some].astype(np.float32),
        mapped[rows],
    )
    training = {**vars(recipe.training)}
    fitting.fit_vectors(model, x[rows], mapped[rows], **training)
    zoo.round_weights(model)
    arrays = {}
    if encode_labels is not None:
        patterns = np.unique(labels, axis=0)
        arrays["label_row_labels"] = patterns
        label_codes = encode_labels(patterns.astype(np.float32))
        arrays["label_row_codes"] = codes.pack(label_codes)
    for split in ("query", "database"):
        arrays[f"{split}_codes"] = model.encode(x[splits[split]], verbose=0)
        present = np.maximum(mapped[splits[split]], 0).astype(np.uint8)
        arrays[f"{split}_labels"] = present
    return model, layers, arrays, concept_codes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "names",
        nargs="+",
        help="<method>-nuswide-<bits>, or the path of a recipe of that name",
    )
    parser.add_argument(
        "--labels", required=True, help="the Groundtruth folder of NUS-WIDE"
    )
    parser.add_argument("--cache-dir", required=True, type=pathlib.Path)
    parser.add_argument("--root", type=pathlib.Path)
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="number of seeds (default: 1); the entry is that of the first",
    )
    parser.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="measure on N training photographs that are held out; write nothing",
    )
    options = parser.parse_args()
    if (options.root is None) == (options.hold_out is None):
        parser.error("either --root or --hold-out is needed")

    names, labels = nuswide_labels(options.labels)
    images, mapped = photographs(names)
    splits = images.splits
    if options.hold_out is not None:
        splits = held_out(images, options.hold_out)
    for name in options.names:
        is_path = name.endswith(".toml")
        recipe = recipes.read(name if is_path else zoo.recipe_path(name))
        backbone = backbones.get(**recipe.backbone.network)
        zoo.round_weights(backbone)
        x = data.cache_features(images, backbone, options.cache_dir).x
        card = card_of(recipe, images, splits, mapped, labels)
        metrics, bits = card["metrics"], recipe.model["bits"]
        by_seed = []
        for seed in range(options.seeds):
            trained = train(recipe, labels, x, mapped, splits, seed)
            _, _, arrays, concept_codes = trained
            by_seed.append(card_metrics.measure(metrics, arrays, bits))
            distances = (concept_codes[:, None] != concept_codes).sum(axis=-1)
            print(
                f"{recipe.name} seed {seed}: mAP {by_seed[-1]}, bit imbalance "
                f"{codes.bit_imbalance(arrays['database_codes'], bits):.3f}, nearest "
                f"concepts {distances[np.triu_indices(len(names), 1)].min()} bits",
                flush=True,
            )
            if seed == 0:
                first = trained
        if options.hold_out is not None:
            continue
        model, layers, arrays, concept_codes = first
        card["nearest_concepts"] = nearest_concepts(names, concept_codes)
        card["random_codes"] = describe_random_codes(metrics, arrays, bits)
        for metric, values in zip(metrics, zip(*by_seed, strict=True), strict=True):
            if options.seeds > 1 and None not in values:
                metric["by_seed"] = list(values)
        model = model.with_backbone(keras.Sequential([backbone, *layers]))
        root = options.root
        zoo.save(model, recipe.name, card, arrays, recipe.text, root, overwrite=True)


def card_of(recipe, images, splits, mapped, labels):
    """Build the card of a surrogate, without what depends on its codes.

    Args:
        recipe: `kerashash.recipes.recipe.Recipe`.
        images: `kerashash.data.RetrievalData`, MIRFlickr-25k.
        splits: dict of row numbers: "train", "query" and "database".
        mapped: float32 ``(m, 21)``, labels of the photographs.
        labels: array ``(n, 21)``, label rows of NUS-WIDE.
    """
    common = {"denominator": "relevant", "ties": "expected", "database": "encoded"}
    num_train = int((mapped[splits["train"]] > 0).any(axis=1).sum())
    num_query, num_database = len(splits["query"]), len(splits["database"])
    on = (
        f"{num_query:,} queries and {num_database:,} photographs of MIRFlickr-25k, 13 "
        "mapped concepts"
    )
    learned = {"dcdh": "codes", "adalabel": "codewords"}[recipe.name.split("-")[0]]
    return {
        "surrogate": True,
        "paper": recipe.entry["paper"],
        "paper_value": "not comparable: the paper trains and measures on NUS-WIDE",
        "trained_on": f"no photograph of NUS-WIDE: {learned} of its labels "
        f"({LABEL_ROWS:,} rows drawn from the {len(labels):,} images with one of 21 "
        f"concepts); network on {num_train:,} photographs of MIRFlickr-25k with 13 of "
        f"these concepts ({', '.join(KNOWN)}), the other eight unknown; backbone: "
        "ImageNet-1k",
        "licence": "Apache-2.0 (weights); no photograph is here",
        "use": "retrieval of photographs that share one of the 13 concepts; of the "
        "other eight it saw no photograph that was labelled",
        "objective": OBJECTIVES[recipe.name.split("-")[0]],
        "backbone_trained_by": "ImageNet-1k classification; frozen",
        "chosen_on": "up to 1,500 training photographs held out, at 48 bits",
        "seeds_vary": "the label rows, their codes and the layers above the backbone; "
        "the split stays that of seed 0",
        "data": {"name": "mirflickr25k", "seed": images.seed, "allow_missing": True},
        "counts": {"train": num_train, "query": num_query, "database": num_database},
        "backbone": recipe.backbone.table(),
        "seed": 0,
        "metrics": [
            {"name": "mAP@ALL", **common, "empty": "zero", "on": on},
            {"name": "mAP@ALL", **common, "empty": "skip", "on": on},
            {"name": "mAP@ALL on NUS-WIDE", "measured": False},
        ],
    }


if __name__ == "__main__":
    main()
