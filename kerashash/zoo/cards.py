"""Cards of zoo entries, rendered as Markdown and as rows of a table."""

from collections.abc import Mapping
from typing import Any

# Keys of a metric that do not belong to its definition.
_NOT_DEFINITION = ("name", "at", "value", "by_seed", "measured", "recomputed")


def markdown(card: Mapping[str, Any]) -> str:
    """Render an entry's card for people to read.

    Args:
        card: dict, the content of a card.json.

    Returns:
        str, Markdown.

    Example:
        >>> from kerashash import zoo
        >>> print(markdown(zoo.entry("adalabel-cifar10-48").card).splitlines()[0])
        # adalabel-cifar10-48
    """
    training, counts = card.get("training", {}), card.get("counts", {})
    lines = [f"# {card['name']}", ""]
    if card.get("surrogate"):
        lines += ["**A surrogate: it has not seen the data of its name.**", ""]
    facts = {
        "method": card["method"],
        "paper": card.get("paper"),
        "the paper's value": card.get("paper_value"),
        "beside the paper": card.get("difference"),
        "random codes": card.get("random_codes"),
        "bits": card["bits"],
        "bit imbalance": f"{card['bit_imbalance']:.3f} (0: each bit halves the "
        "database's codes; 1: all are equal)"
        if "bit_imbalance" in card
        else None,
        "data": _as_text(card.get("data", {})),
        "rows": _as_text(counts),
        "backbone": _as_text(card.get("backbone", {})),
        "trained on": card.get("trained_on"),
        "use": card.get("use"),
        "choices": card.get("choices"),
        "licence": card.get("licence"),
        "seed": card.get("seed"),
        "training": training and f"{training['minutes']} min, {training['machine']}",
        "versions": _as_text(card.get("versions", {})),
    }
    lines += [f"- {name}: {v}" for name, v in facts.items() if v or v == 0]
    lines += ["", "| metric | definition | value | over seeds |", "|---|---|---|---|"]
    for row in rows(card):
        lines.append(
            f"| {row['metric']} | {row['definition']} | {row['value']} | "
            f"{row['over_seeds']} |"
        )
    lines += [
        "",
        f"Recompute: `kerashash zoo verify {card['name']}`. Train "
        f"{'the real one' if card.get('surrogate') else 'again'}: "
        f"`kerashash train --recipe {card['name']}`.",
    ]
    if "nearest_concepts" in card:
        lines += [
            "",
            "Concepts and those with the nearest codes (bits that differ):",
            "",
        ]
        for name, distances in card["nearest_concepts"].items():
            nearest = ", ".join(
                f"{other} ({bits})" for other, bits in distances.items()
            )
            lines.append(f"- {name}: {nearest}")
    return "\n".join(lines) + "\n"


def rows(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """Render an entry's metrics as rows of a table.

    Args:
        card: dict, the content of a card.json.

    Returns:
        List of dicts of str: entry, metric, definition, value, over_seeds.

    Example:
        >>> from kerashash import zoo
        >>> rows(zoo.entry("adalabel-cifar10-48").card)[0]["value"]
        '0.9630'
    """
    table = []
    for metric in card["metrics"]:
        definition = {
            key: value for key, value in metric.items() if key not in _NOT_DEFINITION
        }
        values = metric.get("by_seed", [])
        spread = ""
        if values:
            mean = sum(values) / len(values)
            spread = (
                f"{mean:.4f} ({min(values):.4f} to {max(values):.4f}, {len(values)})"
            )
        table.append(
            {
                "entry": card["name"],
                "metric": metric["name"],
                "definition": _as_text(definition),
                "value": number(metric["value"]),
                "over_seeds": spread,
            }
        )
    return table


def number(value: float | None) -> str:
    """Format a metric's value for a table.

    Args:
        value: float, or None for a metric that was not measured.

    Returns:
        str.

    Example:
        >>> number(0.5), number(None)
        ('0.5000', 'not measured')
    """
    return "not measured" if value is None else f"{value:.4f}"


def joined(value: Any) -> Any:
    """Join several names for a table.

    Args:
        value: list of str; anything else is returned as it is.

    Returns:
        str, or `value`.

    Example:
        >>> joined("cnn-f"), joined(["cnn-f", "features"])
        ('cnn-f', 'cnn-f and features')
    """
    return " and ".join(value) if isinstance(value, list) else value


def _as_text(values: Mapping[str, Any]) -> str:
    """Format a dict as "key value, key value"."""
    return ", ".join(
        f"{key.replace('_', ' ')} {joined(value)}" for key, value in values.items()
    )
