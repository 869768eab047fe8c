"""What the choices of a metric may be; what they mean is said in
`kerashash.evaluation`."""

import numpy as np

from kerashash import options

CHOICES = {
    "denominator": ("relevant", "retrieved", "min", "first"),
    "ties": ("expected", "stable", "best", "worst"),
    "empty": ("zero", "skip"),
    "database": ("encoded", "learned"),
}


def check_choices(**choices):
    """Refuse values, given by name, that a choice cannot have."""
    options.check_choices(CHOICES, **choices)


def check_at(at, n):
    """R as an integer, n for None, given a database of n items."""
    if at is None:
        return n
    if isinstance(at, bool) or not isinstance(at, int | np.integer):
        raise TypeError(f"`at` must be an integer or None. Received: at={at!r}.")
    if not 1 <= at <= n:
        raise ValueError(
            f"`at` must lie in 1 to the database size {n}. Received: at={at}."
        )
    return int(at)


def check_ties(ties, denominator, at, n):
    """Whether there is a closed form, if one is asked for."""
    if ties == "stable" or denominator in ("relevant", "min"):
        return
    if denominator == "first" or at < n:
        raise ValueError(
            f"`ties` must be 'stable' with denominator={denominator!r}"
            f"{'' if denominator == 'first' else f' and at={at} below {n}'}. Received: "
            f"ties={ties!r}; 'min' and 'relevant' go with every tie rule."
        )
