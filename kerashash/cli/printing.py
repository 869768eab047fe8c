"""Output that several commands share."""

import base64
import json
import math
import unicodedata
from typing import Any


def print_metrics(metrics: list[dict[str, Any]]) -> None:
    """Print one line for each metric of a card: name, value, definition."""
    from kerashash.zoo import cards

    rows = cards.rows({"name": "", "metrics": metrics})
    width = max((len(row["metric"]) for row in rows), default=0)
    for row in rows:
        best = cards.BEST.get(row["metric"])
        parts = [row["definition"], "" if best is None else f"{best} is best"]
        definition = ", ".join(part for part in parts if part)
        print(f"  {row['metric']:{width}}  {row['value']}  {definition}".rstrip())


def print_data(title: str, data: dict[str, Any]) -> None:
    """Print on what a model was measured: name, seed, protocol, sizes."""
    print(f"{title} {data['name']}, seed {data['seed']}")
    print(f"  {data['protocol']}")
    database = f", {data['database']:,} in the database" if "database" in data else ""
    print(f"  {data['query']:,} queries{database}")


def print_json(value: Any) -> None:
    """Print a value as JSON; arrays as lists, bytes in base 64, NaN as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return plain(value.tolist()) if hasattr(value, "tolist") else value

    print(json.dumps(plain(value), indent=1))


def one_line(text: Any) -> str:
    """Return text in which nothing moves the cursor or begins a line.

    Args:
        text: any value, such as the name of a file.

    Returns:
        str; control characters, and what is no valid text, are escaped.

    Example:
        >>> one_line("a\\nb \\x1b[31m.jpg")
        'a\\\\nb \\\\x1b[31m.jpg'
    """
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")
        else letter
        for letter in str(text)
    )


def lines(text: Any) -> str:
    """Return text of several lines, each as `one_line` gives it.

    Args:
        text: any value, such as an error that quotes a stranger's file.

    Returns:
        str.

    Example:
        >>> lines("a \\x1b[2J\\nb")
        'a \\\\x1b[2J\\nb'
    """
    return "\n".join(map(one_line, str(text).split("\n")))
