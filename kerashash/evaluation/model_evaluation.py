"""Evaluation of a model, or of given codes, by a named protocol."""

from kerashash import codes as hash_codes
from kerashash.evaluation.average_precision import Ranked
from kerashash.evaluation.choices import check_at, define


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
    definition = define(protocol, choices, n)
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
    definition = define(protocol, choices, data.num_database)
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
