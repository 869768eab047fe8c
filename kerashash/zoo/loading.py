"""Entries of the zoo as models, and whether they are what their cards say."""

import json
import warnings

import numpy as np

from kerashash.codes import bit_imbalance
from kerashash.zoo import weight_files
from kerashash.zoo.entries import entry, shared_files


def load(name):
    """A trained model, ready to `encode`.

    It warns of a surrogate: a model that has not seen the data of its name.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        A `HashModel` of the entry's method with its trained weights.

    Raises:
        ValueError: as `entry`.

    Example:
        >>> model = load("adalabel-cifar10-48")
        >>> model.encode(np.zeros((1, 32, 32, 3), np.uint8)).shape
        (1, 6)
    """
    import keras

    import kerashash.methods  # registers the classes  # noqa: F401

    found = entry(name)
    if found.card.get("surrogate"):
        about = f"{found.name} is a surrogate, trained on {found.card['trained_on']}."
        warnings.warn(about, stacklevel=2)
    config = json.loads((found.path / "config.json").read_text())
    model = keras.saving.deserialize_keras_object(config)
    shared = shared_files(found.path, found.card)
    weight_files.load(model, found.path / "model.weights.h5", shared)
    return model


def verify(name):
    """Check an entry's files and recompute its metrics from its codes.

    Args:
        name: str, a name of `list()`, or a path of an entry's folder.

    Returns:
        List of dicts, the card's metrics, each with ``recomputed`` beside
        ``value``.

    Raises:
        ValueError: as `entry`, or if a metric or the bit imbalance is not what the card
            says, or the model gives its golden inputs other codes.
    """
    from kerashash.zoo import card_metrics

    found = entry(name)
    with np.load(found.path / "golden.npz", allow_pickle=False) as golden:
        # Called, not encoded: for four inputs a graph would take longer to trace.
        continuous = load(found.path)(golden["inputs"], training=False).numpy()
        codes = np.packbits(continuous >= 0, axis=1)
        wrong = np.flatnonzero((codes != golden["codes"]).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"{found.path / 'golden.npz'} holds other codes than the model gives, in "
            f"rows {wrong.tolist()}."
        )
    with np.load(found.path / "codes.npz", allow_pickle=False) as stored:
        codes = dict(stored)
    bits = found.card["bits"]

    def check(name, said, value):
        if not abs(value - said) < 1e-6:
            raise ValueError(
                f"{found.path / 'card.json'} says {name} = {said:.6f}. Its codes give "
                f"{value:.6f}."
            )

    if "bit_imbalance" in found.card:
        value = bit_imbalance(codes["database_codes"], bits)
        check("bit_imbalance", found.card["bit_imbalance"], value)
    results = []
    values = card_metrics.measure(found.card["metrics"], codes, bits)
    for metric, value in zip(found.card["metrics"], values, strict=True):
        if value is not None:
            check(metric["name"], metric["value"], value)
        results.append({**metric, "recomputed": value})
    return results
