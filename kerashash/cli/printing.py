"""Output that several commands share."""

from typing import Any


def print_metrics(metrics: list[dict[str, Any]]) -> None:
    """Print one line for each metric of a card: name, value, definition."""
    from kerashash.zoo import cards

    for row in cards.rows({"name": "", "metrics": metrics}):
        definition = row["definition"] and f"  ({row['definition']})"
        print(f"  {row['metric']:10} {row['value']}{definition}")
