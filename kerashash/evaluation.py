"""Retrieval evaluation, with every choice that papers leave open made by name.

A number called mAP says little: codes of few bits tie, and the order of ties alone
moves it by tenths; so does what the sum of precisions is divided by. Here every mAP
has

- ``at``: R, the ranks that count; None is all of them, "mAP@ALL";
- ``denominator``: "relevant" items in the database, "retrieved" relevant items in the
  first R ranks, "min" of R and the relevant items, or "first": the sum then runs over
  the first min(R, relevant) relevant items of the whole ranking;
- ``ties``: "expected", the mean over all orders of tied items; "best" and "worst"
  order; or "stable", by index in the database;
- ``empty``: a query without relevant items counts "zero", or "skip" leaves it out;
- ``database``: codes are "encoded" by the network, or the training images have the
  codes "learned" in training.

Relevant means: shares at least one label.
"""

import functools

import numpy as np

from kerashash import codes as hash_codes
from kerashash.average_precision import (
    Ranked,
    area_under_radius_curve,
    mean_average_precision,
    precision_recall,
    reranked_mean_average_precision,
)
from kerashash.metric_choices import CHOICES, check_at, check_choices, check_ties

__all__ = [
    "CONVENTIONS",
    "PROTOCOLS",
    "area_under_radius_curve",
    "evaluate",
    "evaluate_codes",
    "mean_average_precision",
    "precision_recall",
    "reranked_mean_average_precision",
    "svm_accuracy",
]


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

#: What programs compute under the name of mAP; each is called with codes and labels
#: (F and G with continuous codes), B, B', C, D and E with ``at=R`` as well.
CONVENTIONS = {
    **{
        name: functools.partial(
            mean_average_precision, denominator=denominator, ties=ties, empty=empty
        )
        for name, denominator, ties, empty in (
            ("A", "relevant", "stable", "zero"),
            ("A'", "relevant", "stable", "skip"),
            ("B", "retrieved", "stable", "zero"),
            ("B'", "retrieved", "stable", "skip"),
            ("C", "min", "stable", "zero"),
            ("D", "relevant", "stable", "zero"),
            ("E", "first", "stable", "zero"),
            ("I", "relevant", "expected", "zero"),
        )
    },
    "F": functools.partial(reranked_mean_average_precision, radius=2),
    "G": reranked_mean_average_precision,
    "H": area_under_radius_curve,
}


def evaluate_codes(
    query_codes,
    query_labels,
    database_codes,
    database_labels,
    bits=None,
    protocol="kerashash",
    **choices,
):
    """Measure the retrieval of given codes.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.
        protocol, **choices: as in `evaluate`; ``database`` only says what the codes
            are.

    Returns:
        dict, as `evaluate`.

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> result = evaluate_codes(codes[:1], [0], codes, [0, 1, 0])
        >>> round(result["mAP@ALL"], 3), result["definition"]["ties"]
        (0.833, 'expected')
    """
    database_codes, bits = hash_codes.as_packed(database_codes, bits, "database_codes")
    n = len(database_codes)
    definition = _define(protocol, choices, n)
    ranked = Ranked(query_codes, query_labels, database_codes, database_labels, bits)
    at = definition["at"]
    name = "mAP@ALL" if at is None else f"mAP@{at}"
    choice = check_at(at, n), definition["denominator"]
    ties, empty = definition["ties"], definition["empty"]
    result = {name: ranked.mean_average_precision(*choice, ties, empty)}
    if ties == "expected":
        for order in ("best", "worst"):
            result[f"{name} ({order} order of ties)"] = ranked.mean_average_precision(
                *choice, order, empty
            )
    first = min(100, n)
    curve = ranked.precision_recall([first])
    result[f"P@{first}"] = float(curve["precision_at"][0])
    result["P@H<=2"] = float(curve["precision_within"][min(2, bits)])
    definition |= {"queries": len(query_codes), "database size": n}
    return {**result, "definition": definition}


def evaluate(
    model, data, protocol="kerashash", *, batch_size=128, verbose="auto", **choices
):
    """Measure a model's retrieval on a data set's queries and database.

    Args:
        model: `HashModel`.
        data: `kerashash.data.RetrievalData`.
        protocol: str, a key of `PROTOCOLS`.
        batch_size, verbose: as in `HashModel.encode`.
        **choices: ``at``, ``denominator``, ``ties``, ``empty`` or ``database`` in place
            of the protocol's.

    Returns:
        dict: the mAP under its name, "mAP@ALL" or "mAP@R"; for expected ties also its
        "best" and "worst" order; "P@H<=2"; "P@100" (if the database has as many); and
        "definition", the choices that were made, by name.

    Raises:
        TypeError, ValueError: if an argument is wrong or two do not match.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> model = kerashash.AdaLabelHash("features", bits=16, num_classes=10)
        >>> sorted(evaluate(model, data))[:2]
        ['P@100', 'P@H<=2']
    """
    # Encoding takes long: what can be refused is refused before it.
    definition = _define(protocol, choices, data.num_database)
    learned = None
    if definition["database"] == "learned":
        learned = hash_codes.pack(model.learned_codes())
        if len(learned) != data.num_train:
            raise ValueError(
                "`model` must have learned the codes of the data set's "
                f"{data.num_train} training rows. Received a model with "
                f"{len(learned)}: was it trained on another protocol?"
            )

    queries = model.encode(data.query, batch_size, verbose=verbose)
    database = model.encode(data.database, batch_size, verbose=verbose)
    if learned is not None:
        inside = data.train_rows >= 0
        database[data.train_rows[inside]] = learned[inside]
    ranked = (queries, data.query_labels, database, data.database_labels)
    return evaluate_codes(*ranked, model.bits, protocol, **choices)


def svm_accuracy(train, validation, test, bits=None):
    """How many labels a linear support vector machine gets right from hash codes.

    Its penalty is the one of 1e-5, 1e-4, ..., 1 that does best on the validation rows,
    the least of equals.

    Args:
        train, validation, test: pairs of hash codes, packed or not as in
            `mean_average_precision`, and labels, one for each row: class ids ``(n,)``
            or label rows ``(n, num_classes)``.
        bits: int, the code length; may be left out for unpacked codes.

    Returns:
        float in [0, 1], on the test rows.

    Raises:
        TypeError, ValueError: if codes or labels are not what they must be.

    Example:
        >>> rows = [[1, 1], [1, -1], [-1, 1], [-1, -1]], [0, 0, 1, 1]
        >>> svm_accuracy(rows, rows, rows)
        1.0

    Reference:
        DDH (Song et al., ECML PKDD 2017), on Oxford Flowers-17.
    """
    from sklearn.svm import SVC

    parts = []
    for name, (its, labels) in zip(
        ("train", "validation", "test"), (train, validation, test), strict=True
    ):
        its, bits = hash_codes.as_packed(its, bits, name)
        labels = np.asarray(labels)
        if labels.ndim == 2:
            several = np.flatnonzero(np.count_nonzero(labels, axis=1) != 1)
            if several.size:
                raise ValueError(
                    f"`{name}` must have one label for each row. Received none or "
                    f"several in rows {several[:5].tolist()}."
                )
            labels = labels.argmax(axis=1)
        if labels.shape != (len(its),):
            raise ValueError(
                f"`{name}` must have as many labels as codes. Received: {len(its)} "
                f"codes and labels of shape {labels.shape}."
            )
        parts.append((hash_codes.unpack(its, bits).astype(np.float32), labels))
    train, validation, test = parts
    machines = (SVC(kernel="linear", C=c).fit(*train) for c in 10.0 ** np.arange(-5, 1))
    return float(max(machines, key=lambda svm: svm.score(*validation)).score(*test))


def _define(protocol, choices, n):
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
