"""Load models from entries of the zoo, and verify entries against their cards."""

import json
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from kerashash.codes import bit_imbalance
from kerashash.zoo import weight_files
from kerashash.zoo.entries import Entry, entry, shared_files

if TYPE_CHECKING:  # it imports TensorFlow
    from kerashash.methods import HashModel


def load(name: str | os.PathLike[str]) -> "HashModel":
    """Load a trained model, ready to `encode`.

    A warning is given for a surrogate: a model that has not seen the data of its name.

    Args:
        name: str, a name of `kerashash.zoo.list`, or the path of an entry's folder.

    Returns:
        A `HashModel` of the entry's method with its trained weights.

    Raises:
        TypeError, ValueError, OSError, WeightsUnavailableError: as
            `kerashash.zoo.entry`.

    Example:
        >>> model = load("adalabel-cifar10-48")
        >>> model.encode(np.zeros((1, 32, 32, 3), np.uint8), verbose=0).shape
        (1, 6)
    """
    return _build_model(entry(name))


def verify(name: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Check an entry's files and model, and recompute its metrics from its codes.

    A warning is given for a surrogate, as by `load`.

    Args:
        name: str, a name of `kerashash.zoo.list`, or the path of an entry's folder.

    Returns:
        List of dicts, the card's metrics, each with ``recomputed`` next to ``value``.

    Raises:
        TypeError, OSError, WeightsUnavailableError: as `kerashash.zoo.entry`.
        ValueError: as `kerashash.zoo.entry`; or if a metric or the bit imbalance is not
            what the card says; or if the model's codes of its golden inputs are not
            those of the entry.

    Example:
        >>> first = verify("ddh-ldl-movie-128")[0]
        >>> first["name"], bool(abs(first["value"] - first["recomputed"]) < 1e-6)
        ('kl', True)
    """
    from kerashash.zoo import card_metrics

    zoo_entry = entry(name)
    _, path, card = zoo_entry
    model = _build_model(zoo_entry)
    with np.load(path / "golden.npz", allow_pickle=False) as golden:
        # Called, not encoded: for four inputs, tracing a graph would take longer.
        continuous = model(golden["inputs"], training=False).numpy()
        golden_codes = np.packbits(continuous >= 0, axis=1)
        wrong = np.flatnonzero((golden_codes != golden["codes"]).any(axis=1))
    if wrong.size:
        raise ValueError(
            f"{path / 'golden.npz'} holds other codes than the model gives, in "
            f"rows {wrong.tolist()}."
        )
    with np.load(path / "codes.npz", allow_pickle=False) as arrays:
        codes = dict(arrays)

    def check(name: str, stated: float, computed: float) -> None:
        # Written so that NaN is refused.
        if not abs(computed - stated) < 1e-6:
            raise ValueError(
                f"{path / 'card.json'} says {name} = {stated:.6f}. Its codes give "
                f"{computed:.6f}."
            )

    if "bit_imbalance" in card:
        imbalance = bit_imbalance(codes["database_codes"], card["bits"])
        check("bit_imbalance", card["bit_imbalance"], imbalance)
    values = card_metrics.measure(card["metrics"], codes, card["bits"])
    results = []
    for metric, value in zip(card["metrics"], values, strict=True):
        if value is not None:
            check(metric["name"], metric["value"], value)
        results.append({**metric, "recomputed": value})
    return results


def _build_model(zoo_entry: Entry) -> "HashModel":
    """The model of an entry; a surrogate's warning points at the caller's caller."""
    import keras

    # Both register their classes with Keras.
    import kerashash.baselines
    import kerashash.methods  # noqa: F401

    name, path, card = zoo_entry
    if card.get("surrogate"):
        warnings.warn(
            f"{name} is a surrogate, trained on {card['trained_on']}.", stacklevel=3
        )
    config = json.loads((path / "config.json").read_text())
    model = keras.saving.deserialize_keras_object(config)
    networks = shared_files(path, card)
    weight_files.load(model, path / "model.weights.h5", networks)
    return model
