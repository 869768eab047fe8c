"""Output that several commands share."""

import base64
import json
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


def print_json(value: Any) -> None:
    """Print a value as JSON; arrays as lists, bytes in base 64."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value.tolist()

    print(json.dumps(value, indent=1, default=plain))
