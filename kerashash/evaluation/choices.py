"""The choices behind a retrieval metric: allowed values and named protocols.

`kerashash.evaluation` explains what each choice means.
"""

from typing import Any

import numpy as np

from kerashash import checks

CHOICES = {
    "denominator": ("relevant", "retrieved", "min", "first"),
    "ties": ("expected", "stable", "best", "worst"),
    "empty": ("zero", "skip"),
    "database": ("encoded", "learned"),
}


def check_choices(**choices: str) -> None:
    """Raise ValueError unless each choice, given by name, has an allowed value."""
    checks.check_choices(CHOICES, **choices)


def check_at(at: int | None, database_size: int) -> int:
    """R as an integer; None stands for the database size."""
    if at is None:
        return database_size
    if isinstance(at, bool) or not isinstance(at, int | np.integer):
        raise TypeError(f"`at` must be an integer or None. Received: at={at!r}.")
    if not 1 <= at <= database_size:
        raise ValueError(
            f"`at` must be between 1 and the database size {database_size}. "
            f"Received: at={at}."
        )
    return int(at)


def check_ties(ties: str, denominator: str, at: int, database_size: int) -> None:
    """Raise ValueError if the tie rule is not defined for the denominator."""
    if ties == "stable" or denominator in ("relevant", "min"):
        return
    if denominator == "first" or at < database_size:
        limit = "" if denominator == "first" else f" and at={at} below {database_size}"
        raise ValueError(
            f"`ties` must be 'stable' with denominator={denominator!r}{limit}. "
            f"Received: ties={ties!r}. The denominators 'min' and 'relevant' allow "
            "every tie rule."
        )


def metric_name(at: int | None) -> str:
    """Name of the mAP over the first `at` ranks.

    Example:
        >>> metric_name(None), metric_name(1000)
        ('mAP@ALL', 'mAP@1000')
    """
    return "mAP@ALL" if at is None else f"mAP@{at}"


def _protocol(
    at: int | None, denominator: str, ties: str, empty: str, database: str, source: str
) -> dict[str, Any]:
    return {
        "at": at,
        "denominator": denominator,
        "ties": ties,
        "empty": empty,
        "database": database,
        "source": source,
    }


#: Definitions of mAP by name: kerashash's own, and those of published papers. Each is
#: a dict of the five choices and the ``source`` that they were taken from.
PROTOCOLS: dict[str, dict[str, Any]] = {
    "kerashash": _protocol(
        None, "min", "expected", "zero", "encoded", "kerashash's own default"
    ),
    "adalabelhash-cifar10": _protocol(
        None, "relevant", "stable", "zero", "encoded", "AdaLabelHash, eq. 2"
    ),
    "adalabelhash-nuswide": _protocol(
        50_000, "retrieved", "stable", "zero", "encoded", "AdaLabelHash, table 5"
    ),
    "dcdh": _protocol(
        None, "relevant", "stable", "zero", "learned", "DCDH, published code"
    ),
    "dcdh@5000": _protocol(
        5_000, "retrieved", "stable", "zero", "learned", "DCDH, published code"
    ),
    "ddh-cifar10": _protocol(
        1_000, "retrieved", "stable", "skip", "encoded", "DDH, table 2"
    ),
    "ddh-nuswide": _protocol(
        5_000, "retrieved", "stable", "skip", "encoded", "DDH, table 3"
    ),
    "dsre-cifar10": _protocol(
        None, "relevant", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
    "dsre-nuswide": _protocol(
        5_000, "retrieved", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
    "dsre-nuswide-full": _protocol(
        50_000, "retrieved", "stable", "zero", "encoded", "DSRE, by lineage; unverified"
    ),
}

# The protocol by which a method's paper measures on a data set; the second part of a
# data set's name is the protocol that splits it, where the paper measures by that.
_OF_PAPERS = {
    ("AdaLabelHash", "cifar10"): "adalabelhash-cifar10",
    ("AdaLabelHash", "nus_wide"): "adalabelhash-nuswide",
    ("DCDH", "mirflickr25k"): "dcdh",
    ("DCDH", "nus_wide"): "dcdh",
    ("DDH", "cifar10"): "ddh-cifar10",
    ("DDH", "nus_wide"): "ddh-nuswide",
    ("DSRE", "cifar10"): "dsre-cifar10",
    ("DSRE", "nus_wide"): "dsre-nuswide",
    ("DSRE", "nus_wide/21-full"): "dsre-nuswide-full",
}


def paper_protocol(method: str, data_name: str, data_protocol: str) -> str | None:
    """The protocol by which a method's paper measures on a data set.

    Args:
        method: str; the name of the method's class.
        data_name: str; the data set, as in `RetrievalData.name`.
        data_protocol: str; how it is split, as in `RetrievalData.protocol`.

    Returns:
        str, a key of `PROTOCOLS`; None if there is none.

    Example:
        >>> paper_protocol("DSRE", "nus_wide", "21-full")
        'dsre-nuswide-full'
    """
    whole = _OF_PAPERS.get((method, data_name))
    return _OF_PAPERS.get((method, f"{data_name}/{data_protocol}"), whole)


def resolve_protocol(
    protocol: str, overrides: dict[str, Any], database_size: int
) -> dict[str, Any]:
    """The choices of a protocol after a user's overrides, checked.

    Args:
        protocol: str, a key of `PROTOCOLS`.
        overrides: dict of choices that replace the protocol's.
        database_size: int, the number of database items.

    Returns:
        dict: ``protocol``, the five choices, and ``source``.

    Raises:
        TypeError: if an override is no choice, or ``at`` is not an integer.
        ValueError: if a value is not allowed, or two do not go together.

    Example:
        >>> definition = resolve_protocol("ddh-cifar10", {"at": 10}, 5000)
        >>> definition["at"], definition["empty"], definition["source"]
        (10, 'skip', 'DDH, table 2, with other choices')
    """
    checks.check_choices({"protocol": [*PROTOCOLS]}, protocol=protocol)
    unknown = sorted(set(overrides) - {"at", *CHOICES})
    if unknown:
        raise TypeError(
            f"`**choices` must be among {['at', *CHOICES]}. Received: {unknown}."
        )
    definition = {"protocol": protocol, **PROTOCOLS[protocol], **overrides}
    if overrides:
        definition["source"] += ", with other choices"
    check_choices(**{name: definition[name] for name in CHOICES})
    at = check_at(definition["at"], database_size)
    if definition["at"] is not None:
        definition["at"] = at  # Python's own integer, which JSON takes
    check_ties(definition["ties"], definition["denominator"], at, database_size)
    return definition
