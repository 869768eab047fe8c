"""Output that several commands share."""

import base64
import json
import math
import os
from typing import Any

from kerashash.notes import one_line


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
    print(one_line(f"{title} {data['name']}, seed {data['seed']}"))
    print(f"  {one_line(data['protocol'])}")
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


def check_output(option: str, path: str | None, suffix: str = "") -> None:
    """Check the name of a file to write, before the work that takes time.

    Args:
        option: str; the option to name in the error, such as "--out".
        path: str or None; its value. None, that it was not given, is right.
        suffix: str; how the name must end.

    Raises:
        ValueError: if no file can be written there.

    Example:
        >>> check_output("--html", "")
        Traceback (most recent call last):
        ValueError: --html must be the name of a file. Received: ''.
    """
    if path is None:
        return
    path = os.path.expanduser(path)
    is_other = os.path.exists(path) and not os.path.isfile(path)
    if not path or not path.lower().endswith(suffix) or is_other:
        ending = f" that ends in {suffix}" if suffix else ""
        raise ValueError(
            f"{option} must be the name of a file{ending}. Received: {path!r}."
        )
    folder = os.path.dirname(os.path.realpath(path))  # a link is written through
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(
            f"{option} must be the name of a file in a folder in which one can write. "
            f"Received: {path!r}, in {folder!r}."
        )
