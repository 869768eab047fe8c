"""Output that several commands share."""

from typing import Any


def print_metrics(metrics: list[dict[str, Any]]) -> None:
    """Print one line for each metric of a card: name, value, definition."""
    from kerashash.zoo import cards

    for row in cards.rows({"name": "", "metrics": metrics}):
        best = cards.BEST.get(row["metric"])
        parts = [row["definition"], "" if best is None else f"{best} is best"]
        definition = ", ".join(part for part in parts if part)
        definition = definition and f"  ({definition})"
        print(f"  {row['metric']:10} {row['value']}{definition}")
