"""Load models from entries of the zoo, and verify entries against their cards."""

import contextlib
import importlib.metadata
import math
import os
import pathlib
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash import archives
from kerashash.checks import said
from kerashash.codes import bit_imbalance
from kerashash.zoo import cards, hub, weight_files
from kerashash.zoo.entries import Entry, reading, shared_files

if TYPE_CHECKING:  # it imports TensorFlow
    from kerashash.methods import HashModel

#: Another machine may round a predicted label distribution in another way, by less.
MOST_DIFFERENCE = 1e-4
#: What every entry with codes stores.
REQUIRED_ARRAYS = (
    "query_codes",
    "query_labels",
    "database_codes",
    "database_labels",
)
# Most layers of one sequence, which Keras builds anew with each. An entry has 24.
_MAX_SEQUENTIAL = 200


def load(name: str | os.PathLike[str], strict: bool = False) -> "HashModel":
    """Load a trained model, ready to `encode` or, without codes, to predict.

    Sizes and digests of all files are checked in any case. A warning is given for a
    surrogate: a model that has not seen the data of its name.

    Args:
        name: str, a name of `kerashash.zoo.list`; a version of one, such as
            "dcdh-cifar10-48@3"; the path of an entry's folder; or, of an entry on the
            Hugging Face Hub, ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.
        strict: bool; True gives exactly what the registry holds, or an error. It
            refuses a surrogate; an entry whose card names no version of kerashash, or
            one newer than this; a model whose codes of the golden inputs are not those
            of the entry; whatever would give a warning; and the cache in place of a
            server that does not answer.

    Returns:
        A `HashModel` of the entry's method with its trained weights.

    Raises:
        TypeError, ValueError, OSError, WeightsUnavailableError: as
            `kerashash.zoo.entry`; ValueError also if `strict` refuses the entry.

    Example:
        >>> model = load("adalabel-cifar10-48")
        >>> model.encode(np.zeros((1, 32, 32, 3), np.uint8), verbose=0).shape
        (1, 6)
    """
    build = _build_strictly if strict else build_model
    found, model = reading(name, lambda found: (found, build(found)), strict)
    warn_of_surrogate(found)
    # No path: it can be loaded from anywhere.
    if hub.is_address(name) or (
        isinstance(name, str) and cards.split_name(name)[0] == found.name
    ):
        model.entry = name
    return model


def _build_strictly(found: Entry) -> "HashModel":
    """Build the model of an entry, with an error in place of a warning."""
    from packaging.version import InvalidVersion, Version

    own = importlib.metadata.version("kerashash")
    if found.card.get("surrogate"):
        raise ValueError(
            f"`name` must be no surrogate with strict=True. Received: {found.name!r}, "
            f"trained on {cards.printable(found.card.get('trained_on'))}."
        )
    stated = found.card.get("versions", {}).get("kerashash")
    try:
        later = Version(stated) > Version(own)
    except (TypeError, InvalidVersion):
        later = True
    if later:
        raise ValueError(
            f"`name` must be an entry of kerashash {own} or older with "
            f"strict=True. Received: {found.name!r}, whose card says {stated!r}."
        )
    with _warnings_of_this_thread() as given:
        model = build_model(found)
    if given:
        raise given[0]
    check_golden(model, found.path)
    return model


# Filters of warnings are of the whole process: two threads would keep each other's.
_watching = threading.Lock()


@contextlib.contextmanager
def _warnings_of_this_thread() -> Iterator[list[Warning]]:
    """Collect the `UserWarning`s of a block, and leave those of other threads."""
    own, given = threading.get_ident(), []
    with _watching, warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.simplefilter("always", UserWarning)

        def show(message: Any, category: Any, *where: Any) -> None:
            if threading.get_ident() == own and issubclass(category, UserWarning):
                given.append(message)
            else:
                shown(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield given


def verify(
    name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
) -> list[dict[str, Any]]:
    """Check an entry's files and model, and recompute its metrics from its codes.

    The files must be those of the card, the model must give the codes of the few golden
    inputs, and the codes that are stored must give the metrics of the card. With
    `data_dir`, all data of the entry are encoded again as well, and each code is
    compared with the stored one (`compare_codes`, which also says how many are equal).
    A model without codes has label distributions in their place.
    A warning is given for a surrogate, as by `load`.

    Args:
        name: str, as for `kerashash.zoo.entry`.
        data_dir: path or None; the folder of the entry's data, as for `compare_codes`.
            None leaves the data out.

    Returns:
        List of dicts, the card's metrics, each with ``recomputed`` next to ``value``.

    Raises:
        TypeError, OSError, WeightsUnavailableError: as `kerashash.zoo.entry`.
        ValueError: as `kerashash.zoo.entry`; or if a metric or the bit imbalance is not
            what the card says; or if the model's codes of its golden inputs are not
            those of the entry; or, with `data_dir`, as `compare_codes`.
        DatasetUnavailableError: if `data_dir` does not hold the data.

    Example:
        >>> first = verify("ddh-ldl-movie-128")[0]
        >>> first["name"], bool(abs(first["value"] - first["recomputed"]) < 1e-6)
        ('kl', True)
    """
    from kerashash.zoo import encoding

    encoding.check_data_dir(data_dir)
    found, model, codes, results = reading(name, _recomputed)
    warn_of_surrogate(found)
    if data_dir is not None:
        encoding.compare_with_data(found, model, codes, None, data_dir, "auto")
    return results


def _recomputed(
    found: Entry,
) -> tuple[Entry, "HashModel", dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
    """An entry with its model, its codes, and the metrics that these give; raises an
    error unless they are those of its card."""
    from kerashash.zoo import card_metrics

    _, path, card = found
    model = build_model(found)
    check_golden(model, path)
    required = "database_codes" if model.has_codes else "query_distributions"
    codes = _arrays(path / "codes.npz", (required,))

    def check(name: str, stated: float, computed: float) -> None:
        # Written so that NaN is refused.
        if not abs(computed - stated) < 1e-6:
            raise ValueError(
                f"{path / 'card.json'} says {cards.printable(name)} = {stated:.6f}. "
                f"codes.npz gives {computed:.6f}."
            )

    if "bit_imbalance" in card:
        with naming(path / "codes.npz"):
            imbalance = bit_imbalance(codes["database_codes"], model.bits)
        check("bit_imbalance", card["bit_imbalance"], imbalance)
    with naming(path / "card.json", "codes.npz"):
        bits = model.bits if model.has_codes else None
        values = card_metrics.measure(card["metrics"], codes, bits)
    results = []
    for metric, value in zip(card["metrics"], values, strict=True):
        if value is not None:
            stated = math.nan if metric["value"] is None else metric["value"]
            check(metric["name"], stated, value)
        results.append({**metric, "recomputed": value})
    return found, model, codes, results


def check_golden(model: "HashModel", path: pathlib.Path) -> None:
    """Check that a model gives the codes of the golden inputs of its entry.

    Args:
        model: `HashModel`, of the entry.
        path: `pathlib.Path` of the entry's folder.

    Raises:
        ValueError: if it gives others, or there are none.
    """
    kind = "codes" if model.has_codes else "distributions"
    golden = _arrays(path / "golden.npz", ("inputs", kind))
    with naming(path / "golden.npz", "config.json"):
        # Called, not encoded: for four inputs, tracing a graph would take longer.
        values = model(golden["inputs"], training=False).numpy()
        # Nothing could differ in no rows, or next to a NaN.
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"{len(values)} rows, or not all of them finite")
        if model.has_codes:
            values = np.packbits(values >= 0, axis=1)
        else:
            values /= values.sum(axis=1, keepdims=True)
        if values.shape != golden[kind].shape:
            raise ValueError(f"{kind} of shape {golden[kind].shape}")
        if model.has_codes:
            different = values != golden["codes"]
        else:
            difference = np.abs(values - golden["distributions"])
            different = ~(difference <= MOST_DIFFERENCE)  # NaN is different
        wrong = np.flatnonzero(different.any(axis=1))
    if wrong.size:
        raise ValueError(
            f"{path / 'golden.npz'} holds other {kind} than model.weights.h5 and "
            f"config.json give, in rows {wrong.tolist()}."
        )


def warn_of_surrogate(found: Entry) -> None:
    """Warn the caller's caller of an entry that has not seen the data of its name.

    Args:
        found: `Entry`.
    """
    if found.card.get("surrogate"):
        trained_on = cards.printable(found.card.get("trained_on"))
        warnings.warn(
            f"{found.name} is a surrogate, trained on {trained_on}.", stacklevel=3
        )


def build_model(zoo_entry: Entry) -> "HashModel":
    """Build the model of an entry.

    Args:
        zoo_entry: `Entry`.

    Returns:
        `HashModel` with the entry's weights.

    Raises:
        ValueError: if a file is not that of an entry.
    """
    import keras

    from kerashash import saving
    from kerashash.backbones.images import dtype_policy
    from kerashash.forks import check_not_forked
    from kerashash.methods import HashModel

    check_not_forked()
    _, path, card = zoo_entry
    config_file, weights = path / "config.json", path / "model.weights.h5"
    networks = shared_files(path, card)
    config = cards.parse_json(config_file.read_bytes(), config_file, dict)
    # Before Keras opens any of them: some of its versions follow links to other files.
    values = sum(archives.check_hdf5(file) for file in (weights, *networks))
    try:
        if "compile_config" in config:
            raise ValueError("a compile_config")
        saving.check_config(config, max_sequential=_MAX_SEQUENTIAL)
        # Not Keras' setting, where the config says nothing: codes would be others.
        limited = saving.limited_weights(values, weight_files.TRAINING_VALUES)
        with limited, dtype_policy("float32"):
            model = keras.saving.deserialize_keras_object(config)
    except Exception as error:  # Keras and TensorFlow have types of their own
        raise ValueError(
            f"{config_file} must be the config of a hashing model. Received: "
            f"{type(error).__name__}: {saving.cause(error).rstrip('.')}."
        ) from error
    if not isinstance(model, HashModel):
        raise ValueError(
            f"{config_file} must be the config of a hashing model. Received: that of a "
            f"{type(model).__name__}."
        )
    of_model = {
        "method": type(model).__name__,
        "bits": model.bits,
        "image_fit": model.image_fit,
    }
    for field, value in of_model.items():
        if card.get(field, value) != value:
            raise ValueError(
                f"{path / 'card.json'} says {field} = {card[field]!r}. {config_file} "
                f"says {value!r}."
            )
    weight_files.load(model, weights, networks)
    return model


def code_length(found: Entry) -> int:
    """The code length that the card of an entry says.

    Args:
        found: `Entry`, whose model has codes.

    Returns:
        int.

    Raises:
        ValueError: if it says none.

    Example:
        >>> from kerashash import zoo
        >>> code_length(zoo.entry("adalabel-cifar10-24"))
        24
    """
    if "bits" not in found.card:
        raise ValueError(
            f"{found.path / 'card.json'} must have `bits`, the length of the entry's "
            "codes. Received none."
        )
    bits: int = found.card["bits"]
    return bits


@contextlib.contextmanager
def stored(
    found: Entry,
) -> Iterator[tuple[dict[str, npt.NDArray[Any]], int | None]]:
    """Read what an entry stores, and name its files in the errors of the block.

    Args:
        found: `Entry`.

    Yields:
        ``(arrays, bits)``: dict of arrays, those that `kerashash.zoo.save` takes as
        `codes`; and int, the code length, or None of a model without codes.

    Raises:
        ValueError: if an array or the code length is missing, or the block raises an
            error.

    Example:
        >>> from kerashash import zoo
        >>> with stored(zoo.entry("adalabel-cifar10-24")) as (arrays, bits):
        ...     arrays["query_codes"].shape, bits
        ((10000, 3), 24)
    """
    file, bits = found.path / "codes.npz", None
    if "bits" not in found.card and "query_distributions" in archives.read_npz(file):
        arrays = _arrays(file, ("query_labels", "query_distributions"))
    else:
        bits = code_length(found)
        arrays = _arrays(file, REQUIRED_ARRAYS)
    with naming(found.path / "card.json", "codes.npz"):
        yield arrays, bits


def _arrays(
    path: pathlib.Path, required: tuple[str, ...]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of an entry."""
    arrays = archives.read_npz(path)
    missing = sorted({*required} - {*arrays})
    if missing:
        raise ValueError(f"{path} must hold the arrays {required}. Missing: {missing}.")
    return arrays


@contextlib.contextmanager
def naming(path: pathlib.Path, *others: str) -> Iterator[None]:
    """Name files of an entry in the errors of the block: their content is of no use.

    Args:
        path: `pathlib.Path` of a file.
        *others: str; the names of further files of its folder.

    Raises:
        ValueError: if the block raises an error.

    Example:
        >>> with naming(pathlib.Path("card.json")):
        ...     {}["bits"]  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: card.json must hold what fits the entry's model. Received: ...
    """
    names = " and ".join((str(path), *others))
    try:
        yield
    except Exception as error:  # of NumPy, Keras and TensorFlow
        raise ValueError(
            f"{names} must hold what fits the entry's model. Received: "
            f"{type(error).__name__}: {said(error)}."
        ) from error
