"""The command ``kerashash evaluate``."""

from typing import Any

import click

from kerashash.cli import models
from kerashash.cli.completion import complete_data, complete_entry
from kerashash.cli.options import data_options, json_option, refuse_without_data
from kerashash.cli.printing import print_data, print_json, print_metrics


@click.command("evaluate")
@click.argument("model", metavar="MODEL", shell_complete=complete_entry)
@click.option(
    "--data",
    "name",
    metavar="NAME|FOLDER",
    help="A data set, or a folder with a subfolder a class.",
    shell_complete=complete_data,
)
@data_options
@click.option(
    "--definition",
    default="kerashash",
    metavar="NAME",
    help="Of mAP, such as dcdh@5000: a key of kerashash.evaluation.PROTOCOLS.",
)
@json_option
def _evaluate(
    model: str,
    name: str | None,
    protocol: str | None,
    seed: int,
    data_dir: str | None,
    definition: str,
    as_json: bool,
) -> None:
    """Measure how well a model retrieves.

    MODEL is a zoo entry or a .keras file. Without --data, the metrics of an
    entry are computed again, from the codes that it stores.
    """
    if name is None:
        refuse_without_data("protocol", "seed", "data_dir", "definition")
        result = _of_codes(model)
    else:
        from kerashash.evaluation.choices import PROTOCOLS

        if definition not in PROTOCOLS:
            raise ValueError(
                f"--definition must be one of {[*PROTOCOLS]}. Received: {definition!r}."
            )
        rows = models.load_rows(name, protocol, seed, data_dir)
        result = measured(models.load(model), rows, definition)
    result = {"model": model, **result}
    if as_json:
        print_json(result)
        return
    print_data(f"{model} on", result["data"])
    print_metrics(result["metrics"])
    if "definition" in result:
        print(f"  mAP by {result['definition']['source']}")


def measured(model: Any, rows: Any, definition: str = "kerashash") -> dict[str, Any]:
    """Measure a model on a data set.

    Args:
        model: `HashModel`.
        rows: `kerashash.data.RetrievalData`.
        definition: str; a key of `kerashash.evaluation.PROTOCOLS`.

    Returns:
        dict: ``data``, ``metrics``, a list of dicts as of cards, and ``definition``.

    Raises:
        ValueError: if the rows are not images or vectors with labels.
    """
    import kerashash
    from kerashash.data import RetrievalData

    if not isinstance(rows, RetrievalData):
        raise ValueError(
            "--data must be images with labels: a model of label distributions is "
            "measured by `kerashash evaluate ENTRY` and `kerashash zoo verify ENTRY`."
        )
    values = kerashash.evaluate(model, rows, definition)
    choices = values.pop("definition")
    of_map = {key: choices[key] for key in ("denominator", "ties", "empty", "database")}
    metrics = []
    for metric, value in values.items():
        row: dict[str, Any] = {"name": metric.partition(" (")[0], "value": value}
        if metric.startswith("mAP"):
            row |= of_map
        if metric.endswith("order of ties)"):
            row["ties"] = metric.partition(" (")[2].split()[0]
        metrics.append(row)
    data = {
        "name": rows.name,
        "protocol": rows.protocol,
        "seed": rows.seed,
        "query": rows.num_query,
        "database": rows.num_database,
    }
    return {"data": data, "metrics": metrics, "definition": choices}


def _of_codes(name: str) -> dict[str, Any]:
    """Compute an entry's metrics again from its codes."""
    from kerashash import zoo
    from kerashash.zoo import card_metrics, loading

    if name.endswith(".keras"):
        raise ValueError(f"--data must be given for a file. Received: {name!r}.")
    entry = zoo.entry(name)
    metrics = entry.card["metrics"]
    with loading.stored(entry) as (codes, bits):
        values = card_metrics.measure(metrics, codes, bits)
    about = entry.card.get("data", {})
    data = {
        "name": about.get("name", about.get("folder")),
        "protocol": about.get("protocol", entry.card.get("split", "default")),
        "seed": about.get("seed"),
        "query": len(codes["query_labels"]),
    }
    if "database_codes" in codes:
        data["database"] = len(codes["database_codes"])
    again = [
        {**metric, "value": value}
        for metric, value in zip(metrics, values, strict=True)
    ]
    return {"data": data, "metrics": again}


COMMANDS = (_evaluate,)
