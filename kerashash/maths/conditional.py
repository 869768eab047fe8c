"""A network of an input and a label, whose output is the label's log-probability."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from kerashash.maths.precision import Floats, check_rows, floats

__all__ = ["conditional_logits", "divergence_and_gradients", "resilient_step"]
__dir__ = __all__.copy  # what completion offers

Arrays = dict[str, npt.NDArray[Any]]
# Factors of steps after a gradient of the same and of the other sign, and the limits.
_UP, _DOWN, _LEAST, _MOST = 1.2, 0.5, 1e-7, 1.0
_NAMES = ("kernel", "label", "bias", "output", "places")


def conditional_logits(
    x: npt.ArrayLike, weights: Mapping[str, npt.ArrayLike]
) -> tuple[Floats, Floats]:
    """The network's output for each label.

    Formula:
        f(x, y) = v . sigmoid(A^T x + w t_y + c),  t_y from 0 to 1

    Args:
        x: float array ``(n, d)``.
        weights: dict of arrays: "kernel" ``(d, units)``, A; "label" ``(units,)``, w;
            "bias" ``(units,)``, c; "output" ``(units,)``, v; and "places"
            ``(classes,)``, t.

    Returns:
        ``(logits, hidden)``: float arrays ``(n, classes)`` and ``(n, classes, units)``.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if a shape is wrong, or `weights` lacks an array.

    Example:
        >>> names = {"kernel": (2, 3), "label": 3, "bias": 3, "output": 3, "places": 4}
        >>> weights = {name: np.ones(shape) for name, shape in names.items()}
        >>> conditional_logits(np.zeros((5, 2)), weights)[0].shape
        (5, 4)
    """
    return _logits(*_checked(x, weights))


def _checked(
    x: npt.ArrayLike, weights: Mapping[str, npt.ArrayLike]
) -> tuple[Floats, Arrays]:
    """The arrays of `conditional_logits`."""
    x = floats(x, "x", (None, None))
    missing = [name for name in _NAMES if name not in weights]
    if missing:
        raise ValueError(
            f"`weights` must have the arrays {list(_NAMES)}. Received no {missing}."
        )
    arrays = {name: floats(weights[name], name) for name in _NAMES}
    units = arrays["kernel"].shape[-1:]
    shapes = dict.fromkeys(_NAMES, units)
    shapes |= {"kernel": (x.shape[1], *units), "places": (None,)}
    return x, {name: floats(arrays[name], name, shapes[name]) for name in _NAMES}


def _logits(x: Floats, weights: Arrays) -> tuple[Floats, Floats]:
    """`conditional_logits` of checked arrays."""
    of_input = x @ weights["kernel"] + weights["bias"]  # (n, units)
    of_label = np.outer(weights["places"], weights["label"])  # (classes, units)
    hidden = scipy.special.expit(of_input[:, None] + of_label)
    return hidden @ weights["output"], hidden


def divergence_and_gradients(
    x: npt.ArrayLike, d: npt.ArrayLike, weights: Mapping[str, npt.ArrayLike]
) -> tuple[float, Arrays]:
    """The divergence of the network from label distributions, and its gradients.

    Formula:
        mean over rows of sum_y d_y ln(d_y / p_y),  p = softmax of f(x, .)

    Args:
        x: float array ``(n, d)``.
        d: float array ``(n, classes)``; label distributions.
        weights: dict of arrays, as for `conditional_logits`.

    Returns:
        ``(divergence, gradients)``: float, and a dict of arrays by name, without
        "places".

    Raises:
        TypeError, ValueError: as `conditional_logits`; and if `d` does not match, or
            there are no rows.

    Example:
        >>> names = {"kernel": (2, 3), "label": 3, "bias": 3, "output": 3, "places": 2}
        >>> weights = {name: np.zeros(shape) for name, shape in names.items()}
        >>> d = np.array([[0.5, 0.5]])
        >>> divergence_and_gradients(np.ones((1, 2)), d, weights)[0]
        0.0
    """
    x, weights = _checked(x, weights)
    check_rows(x, "x")
    d = floats(d, "d", (len(x), len(weights["places"])))
    logits, hidden = _logits(x, weights)
    logs = scipy.special.log_softmax(logits, axis=1)
    value = (scipy.special.xlogy(d, d) - d * logs).sum(axis=1).mean()
    error = (np.exp(logs) - d) / len(x)  # (n, classes), as d sums to 1
    inner = error[:, :, None] * weights["output"] * hidden * (1.0 - hidden)
    of_input = inner.sum(axis=1)  # (n, units)
    return float(value), {
        "kernel": x.T @ of_input,
        "label": weights["places"] @ inner.sum(axis=0),
        "bias": of_input.sum(axis=0),
        "output": np.einsum("nc,ncu->u", error, hidden),
    }


def resilient_step(
    value: npt.ArrayLike,
    gradient: npt.ArrayLike,
    last: npt.ArrayLike,
    steps: npt.ArrayLike,
) -> tuple[Floats, Floats, Floats]:
    """One step of resilient propagation: the signs of gradients alone count.

    A step grows while its gradient keeps the sign. Where the sign changes, it shrinks,
    and the weight waits for one iteration.

    Args:
        value: float array; the weights.
        gradient: float array of that shape.
        last: float array of that shape; the gradient before, or 0 for none.
        steps: float array of that shape; the lengths of the steps, above 0.

    Returns:
        ``(value, last, steps)``: the new ones.

    Raises:
        TypeError: if an array does not hold numbers.
        ValueError: if the shapes differ.

    Example:
        >>> one = np.ones(1)
        >>> value, last, steps = resilient_step(one, one, one, 0.1 * one)
        >>> round(value.item(), 2), round(steps.item(), 2)
        (0.88, 0.12)

    Reference:
        M. Riedmiller, H. Braun, A direct adaptive method for faster backpropagation
        learning: the RPROP algorithm, ICNN 1993.
    """
    value = floats(value, "value")
    gradient = floats(gradient, "gradient", value.shape)
    last = floats(last, "last", value.shape)
    steps = floats(steps, "steps", value.shape)
    sign = np.sign(gradient) * np.sign(last)  # their product could underflow
    factors = np.where(sign > 0, _UP, np.where(sign < 0, _DOWN, 1.0))
    steps = np.clip(steps * factors, _LEAST, _MOST)
    gradient = np.where(sign < 0, 0.0, gradient)
    return value - np.sign(gradient) * steps, gradient, steps
