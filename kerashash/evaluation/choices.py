"""What the choices of a metric may be; what they mean is said in
`kerashash.evaluation`."""

import numpy as np

from kerashash import checks

CHOICES = {
    "denominator": ("relevant", "retrieved", "min", "first"),
    "ties": ("expected", "stable", "best", "worst"),
    "empty": ("zero", "skip"),
    "database": ("encoded", "learned"),
}


def check_choices(**choices):
    """Refuse values, given by name, that a choice cannot have."""
    checks.check_choices(CHOICES, **choices)


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


def _protocol(at, denominator, ties, empty, database, source):
    return {
        "at": at,
        "denominator": denominator,
        "ties": ties,
        "empty": empty,
        "database": database,
        "source": source,
    }


#: What papers and programs call mAP. A paper's name gives its choice.
PROTOCOLS = {
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


def define(protocol, choices, n):
    """The choices of a protocol, with others in their place, for n items."""
    if protocol not in [*PROTOCOLS]:  # a list is no key, and no protocol
        raise ValueError(
            f"`protocol` must be one of {[*PROTOCOLS]}. Received: {protocol!r}."
        )
    unknown = sorted(set(choices) - {"at", *CHOICES})
    if unknown:
        raise TypeError(
            f"Choices of a protocol are {['at', *CHOICES]}. Received: {unknown}."
        )
    definition = {"protocol": protocol, **PROTOCOLS[protocol], **choices}
    if choices:
        definition["source"] += ", with other choices"
    check_choices(**{name: definition[name] for name in CHOICES})
    at = check_at(definition["at"], n)
    check_ties(definition["ties"], definition["denominator"], at, n)
    return definition
