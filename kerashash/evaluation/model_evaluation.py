"""Evaluation of a model, or of given codes, by a named protocol."""

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from kerashash import codes as hash_codes
from kerashash.checks import renamed
from kerashash.evaluation.average_precision import Ranking
from kerashash.evaluation.choices import check_at, metric_name, resolve_protocol

if TYPE_CHECKING:
    from kerashash.data import RetrievalData
    from kerashash.methods import HashModel


def evaluate_codes(
    query_codes: npt.ArrayLike,
    query_labels: npt.ArrayLike,
    database_codes: npt.ArrayLike,
    database_labels: npt.ArrayLike,
    bits: int | None = None,
    protocol: str = "kerashash",
    **choices: Any,
) -> dict[str, Any]:
    """Measure the retrieval of given codes.

    Args:
        query_codes, query_labels, database_codes, database_labels, bits: as in
            `mean_average_precision`.
        protocol, **choices: as in `evaluate`. ``database`` is recorded in the
            definition and has no other effect: it states what the given codes are.

    Returns:
        dict, as `evaluate`.

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> codes = [[1, 1], [1, -1], [-1, -1]]
        >>> result = evaluate_codes(codes[:1], [0], codes, [0, 1, 0])
        >>> round(result["mAP@ALL"], 3), result["definition"]["ties"]
        (0.833, 'expected')
    """
    database_codes, bits = hash_codes.as_packed(database_codes, bits, "database_codes")
    database_size = len(database_codes)
    definition = resolve_protocol(protocol, choices, database_size)
    ranking = Ranking(query_codes, query_labels, database_codes, database_labels, bits)
    name, at = metric_name(definition["at"]), check_at(definition["at"], database_size)

    def mean_average_precision(ties: str) -> float:
        return ranking.mean_average_precision(
            at, definition["denominator"], ties, definition["empty"]
        )

    result: dict[str, Any] = {name: mean_average_precision(definition["ties"])}
    if definition["ties"] == "expected":
        for order in ("best", "worst"):
            result[f"{name} ({order} order of ties)"] = mean_average_precision(order)
    rank, radius = min(100, database_size), min(2, bits)
    curve = ranking.precision_recall([rank])
    result[f"P@{rank}"] = float(curve["precision_at"][0])
    result["P@H<=2"] = float(curve["precision_within"][radius])
    definition |= {"queries": len(ranking.query), "database size": database_size}
    return {**result, "definition": definition}


def evaluate(
    model: "HashModel",
    data: "RetrievalData",
    protocol: str = "kerashash",
    *,
    batch_size: int = 128,
    verbose: str | int = "auto",
    **choices: Any,
) -> dict[str, Any]:
    """Measure a model's retrieval on a data set's queries and database.

    Args:
        model: `HashModel`.
        data: `kerashash.data.RetrievalData`.
        protocol: str, a key of `PROTOCOLS`.
        batch_size, verbose: as in `HashModel.encode`.
        **choices: ``at``, ``denominator``, ``ties``, ``empty`` or ``database``, to
            override the protocol's choices; `kerashash.evaluation` explains them.

    Returns:
        dict of float, and of one dict:

        - "mAP@ALL" or "mAP@R": the mAP;
        - with expected ties, also "mAP@... (best order of ties)" and
          "mAP@... (worst order of ties)";
        - "P@100": precision at rank 100, or at the last rank n, as "P@n", of a
          database of n < 100 items;
        - "P@H<=2": precision within Hamming radius 2;
        - "definition": dict, the choices that were made, by name, and the numbers of
          queries and database items.

    Raises:
        TypeError, ValueError: if an argument is invalid or two do not match.

    Example:
        >>> import kerashash
        >>> data = kerashash.data.load("digits")
        >>> model = kerashash.AdaLabelHash("features", bits=16, num_classes=10)
        >>> sorted(evaluate(model, data))[:2]
        ['P@100', 'P@H<=2']
    """
    if not hasattr(data, "num_database") or not hasattr(data, "query"):
        raise TypeError(
            "`data` must be a kerashash.data.RetrievalData. Received type: "
            f"{type(data).__name__}. `model.evaluate(x, y)` computes the method's loss "
            "on arrays; `kerashash.evaluation.evaluate_codes` measures given codes."
        )
    # Encoding takes long: every check that does not need the codes comes before it.
    definition = resolve_protocol(protocol, choices, data.num_database)
    if isinstance(model, str) or not hasattr(model, "encode"):
        raise TypeError(
            f"`model` must be a HashModel. Received type: {type(model).__name__}."
        )
    learned = None
    if definition["database"] == "learned":
        learned = hash_codes.pack(model.learned_codes())
        if len(learned) != data.num_train:
            raise ValueError(
                "`model` must have learned the codes of the data set's "
                f"{data.num_train} training rows. Received a model with "
                f"{len(learned)}: was it trained on another protocol?"
            )

    with renamed("x", "data"):
        query = model.encode(data.query, batch_size, verbose=verbose)
        database = model.encode(data.database, batch_size, verbose=verbose)
    if learned is not None:
        in_database = data.train_rows >= 0
        database[data.train_rows[in_database]] = learned[in_database]
    return evaluate_codes(
        query,
        data.query_labels,
        database,
        data.database_labels,
        model.bits,
        protocol,
        **choices,
    )
