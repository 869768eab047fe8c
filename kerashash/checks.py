"""What arguments may be: checks that name what is wrong, and presets."""

import numbers

import numpy as np

# How many names an error spells out.
_SPELLED_OUT = 10
# The least value of a class wherever a measure divides or takes a logarithm.
FLOOR = 1e-6


def check_integer(name, value, least=1, most=None):
    """Refuse what is not an integer in a range.

    Args:
        name: str, the argument to name in an error.
        value: what was received.
        least, most: int; None for no limit.

    Returns:
        int.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is out of range.

    Example:
        >>> check_integer("epochs", 3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"`{name}` must be an integer. Received: {name}={value!r}.")
    if value < least:
        raise ValueError(
            f"`{name}` must be at least {least}. Received: {name}={value}."
        )
    if most is not None and value > most:
        raise ValueError(f"`{name}` must be at most {most}. Received: {name}={value}.")
    return int(value)


def check_least(least, **values):
    """Refuse numbers, given by name, that are below a limit or NaN."""
    for name, value in values.items():
        if not value >= least:
            raise ValueError(
                f"`{name}` must be at least {least}. Received: {name}={value}."
            )


def check_choices(allowed, **values):
    """Refuse values, given by name, that are not among those allowed for the name."""
    for name, value in values.items():
        if value not in allowed[name]:
            raise ValueError(
                f"`{name}` must be one of {allowed[name]}. Received: {value!r}."
            )


def from_preset(presets, preset, **options):
    """Options of a method, those left at None taken from a preset.

    Args:
        presets: dict of dicts, the options of each preset.
        preset: str, its name.
        **options: the user's values; None where the preset is to decide.

    Returns:
        dict of the options.

    Raises:
        ValueError: if there is no such preset.

    Example:
        >>> from_preset({"paper": {"margin": 1.0}}, "paper", margin=None)
        {'margin': 1.0}
    """
    check_choices({"preset": [*presets]}, preset=preset)
    chosen = presets[preset]
    return {k: chosen[k] if v is None else v for k, v in options.items()}


def listing(names):
    """The first ten names and how many there are, for an error.

    Example:
        >>> listing(["im1.jpg", "im2.jpg"])
        '2 files: im1.jpg, im2.jpg'
        >>> listing(range(12))
        '12 files: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more'
    """
    names = [str(name) for name in names]
    rest = len(names) - _SPELLED_OUT
    noun = "file" if len(names) == 1 else "files"
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"{len(names):,} {noun}: {', '.join(names[:_SPELLED_OUT])}{more}"


def check_array(x, shape=None, name="x"):
    """Validate images or feature vectors given as one array.

    Args:
        x: array-like ``(n, ...)`` of integers or floats.
        shape: tuple or None; the shape to demand, None where free.
        name: str, the argument to name in an error.

    Returns:
        uint8 or float32 array.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a value is not finite.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "uif":
        raise TypeError(
            f"`{name}` must hold integers or floats. Received dtype: {x.dtype}."
        )
    fits = shape is None or (
        x.ndim == len(shape)
        and all(want in (None, got) for want, got in zip(shape, x.shape, strict=True))
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in ("n", *shape[1:]))
        raise ValueError(
            f"`{name}` must have shape ({wanted}). Received shape: {x.shape}."
        )
    if x.dtype != np.uint8:
        x = x.astype(np.float32, copy=False)
        finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            raise ValueError(
                f"`{name}` must be finite. Received NaN or infinity in rows "
                f"{np.flatnonzero(~finite)[:5].tolist()}."
            )
    return x


def check_labels(y, num_classes, n=None, unknown=False, name="y"):
    """Validate labels given as one array.

    Args:
        y: integer array ``(n,)`` of class ids, or array ``(n, num_classes)``
            with 1 where an image has the label and 0 where not.
        num_classes: int, the number of labels.
        n: int or None, the number of rows to demand.
        unknown: bool, whether -1 ("not known") is a value too.
        name: str, the argument to name in an error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        ValueError: if the shape or a value is wrong.
    """
    y = np.asarray(y)
    if n is not None and (y.ndim == 0 or len(y) != n):
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. "
            f"Received shape: {y.shape}."
        )
    if y.ndim == 1 and y.dtype.kind in "ui":
        if y.size and (y.min() < 0 or y.max() >= num_classes):
            raise ValueError(
                f"`{name}` must hold class ids from 0 to num_classes - 1 = "
                f"{num_classes - 1}. Received ids from {y.min()} to {y.max()}."
            )
        return np.eye(num_classes, dtype=np.float32)[y]
    if y.ndim != 2 or y.shape[1] != num_classes:
        raise ValueError(
            f"`{name}` must be integer class ids of shape (n,) or label rows of "
            f"shape (n, num_classes={num_classes}). Received shape: {y.shape}, "
            f"dtype: {y.dtype}."
        )
    allowed = (0, 1, -1) if unknown else (0, 1)
    valid = np.isin(y, allowed)
    if not valid.all():
        raise ValueError(
            f"`{name}` must contain only {', '.join(map(str, allowed))}. "
            f"Received values: {np.unique(y[~valid])[:5]}."
        )
    return y.astype(np.float32)


def check_distributions(d, num_classes=None, n=None, name="d"):
    """Validate label distributions.

    Args:
        d: array ``(n, num_classes)``: finite, at least 0, rows that sum to 1 within
            1e-3.
        num_classes: int or None, the width to demand.
        n: int or None, the number of rows to demand.
        name: str, the argument to name in an error.

    Returns:
        float32 array ``(n, num_classes)``.

    Raises:
        TypeError: if the values are not numbers.
        ValueError: if the shape is wrong or a row is no distribution.
    """
    d = check_array(d, (None, num_classes), name)
    if n is not None and len(d) != n:
        raise ValueError(
            f"`{name}` must have one row for each of the {n} inputs. "
            f"Received shape: {d.shape}."
        )
    negative = (d < 0).any(axis=1)
    if negative.any():
        raise ValueError(
            f"`{name}` must be at least 0. Received negative values in rows "
            f"{np.flatnonzero(negative)[:5].tolist()}."
        )
    sums = d.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1.0) > 1e-3
    if wrong.any():
        raise ValueError(
            f"`{name}` must have rows that sum to 1. Received the sums "
            f"{sums[wrong][:5].round(4).tolist()} in rows "
            f"{np.flatnonzero(wrong)[:5].tolist()}."
        )
    return d.astype(np.float32, copy=False)
