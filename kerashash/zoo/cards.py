"""Cards of zoo entries: read and checked, rendered as Markdown and rows of a table."""

import datetime
import json
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, TypeVar

from kerashash import files, notebook
from kerashash.checks import said

T = TypeVar("T")

#: What is measured where nothing else is said.
DEFAULT_METRIC = {
    "name": "mAP@ALL",
    "denominator": "relevant",
    "ties": "expected",
    "empty": "zero",
    "database": "encoded",
}

# No path, nothing hidden, and no halves of characters, which UTF-8 does not have.
_PLAIN = re.compile(r"[^./\\:\x00-\x1f\ud800-\udfff][^/\\:\x00-\x1f\ud800-\udfff]*")
# File systems allow 255 bytes, and work files have longer names.
_MAX_NAME_BYTES = 200
#: Most bytes of a card, wherever it comes from.
MAX_CARD_BYTES = 1 << 22
# Fields that are dicts where a card has them.
_DICTS = ("training", "counts", "data", "backbone", "versions", "nearest_concepts")
#: What the cards of the zoo say of a training: what it minimises, what trained its
#: backbone, the data on which choices were made, and what another seed changes.
TRAINING_FACTS = ("objective", "backbone_trained_by", "chosen_on", "seeds_vary")

# The name of a new entry: method, data set and code length, if there are codes.
_NAME = re.compile(r"[a-z0-9_]+(?:-[a-z0-9_]+)+-([1-9][0-9]*)")
_NAME_WITHOUT_BITS = re.compile(
    r"[a-z0-9_]+(?:-[a-z0-9_]+)*-[a-z0-9_]*[a-z_][a-z0-9_]*"
)
# The name of a version of an entry.
_VERSIONED = re.compile(r"(.+)@([1-9][0-9]{0,8})", re.DOTALL)

#: What is best, for metrics of which readers may not know. Of the others, 1 is.
BEST = {
    "chebyshev": 0,
    "clark": 0,
    "canberra": 0,
    "kl": 0,
    "cosine": 1,
    "intersection": 1,
}
# Control characters but tabs and ends of lines, those that turn the direction of text,
# and halves of characters: a terminal acts on them, and no file can have the last.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
# Keys of a metric that do not belong to its definition.
_NOT_DEFINITION = ("name", "at", "value", "by_seed", "measured", "recomputed")


class Card(dict[str, Any]):
    """The content of a card.json; a notebook shows it as tables.

    Example:
        >>> from kerashash import zoo
        >>> isinstance(zoo.entry("adalabel-cifar10-48").card, Card)
        True
    """

    def _repr_html_(self) -> str:
        head = self["name"]
        if self.get("surrogate"):
            head += " (a surrogate: it has not seen the data of its name)"
        columns = ("metric", "definition", "value", "over_seeds")
        metrics = [[row[name] for name in columns] for row in rows(self)]
        names = [name.replace("_", " ") for name in columns]
        return (
            notebook.table(["", head], facts(self).items())
            + "\n"
            + notebook.table(names, metrics)
        )


def read(path: pathlib.Path) -> dict[str, Any]:
    """Read the card of an entry's folder.

    Args:
        path: `pathlib.Path` of a card.json.

    Returns:
        dict, a card that `check` accepts.

    Raises:
        ValueError: if it is not a card; the error names the file.

    Example:
        >>> from kerashash import zoo
        >>> read(zoo.entry("adalabel-cifar10-48").path / "card.json")["bits"]
        48
    """
    try:
        card: dict[str, Any] = parse_json(content(path), path, dict)
        check(card, path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not a card: {said(error)}.") from error
    return card


def content(path: pathlib.Path) -> bytes:
    """Read the bytes of a card, however large its file is.

    Args:
        path: `pathlib.Path` of a card.json.

    Returns:
        bytes.

    Raises:
        ValueError: if there are more than `MAX_CARD_BYTES`, or it is no regular file.
        OSError: if the file cannot be read.

    Example:
        >>> _ = pathlib.Path("card.json").write_text("{}")
        >>> content(pathlib.Path("card.json"))
        b'{}'
    """
    return files.read_regular(path, MAX_CARD_BYTES)


def check(
    card: Mapping[str, Any], source: str | pathlib.Path, name: str | None = None
) -> None:
    """Check that a card has what the functions of the zoo read.

    Args:
        card: dict, the content of a card.json.
        source: str or path, where the card is from, to be named in an error.
        name: str or None, the name that the entry must have, such as "a-b-12" or, for
            its version 2, "a-b-12@2"; None for any plain one.

    Raises:
        ValueError: if a field is missing or wrong.

    Example:
        >>> check({"name": ".."}, "a.json")
        Traceback (most recent call last):
        ValueError: a.json must have a `name` that is a folder name. Received: '..'.
    """

    def require(valid: object, field: str, rule: str, value: object) -> None:
        if not valid:
            raise ValueError(
                f"{source} must have {field} that is {rule}. "
                f"Received: {repr(value)[:200]}."
            )

    own = card.get("name")
    require(is_plain(own), "a `name`", "a folder name", own)
    if name is not None:
        required, number = split_name(name)
        require(own == required, "a `name`", f"that of its folder, {name!r}", own)
        fits = number in (None, version(card))
        require(fits, "a `version`", f"that of its folder, {name!r}", version(card))
    for field, least in (("bits", 1), ("bit_imbalance", 0)):
        value = card.get(field, least)
        require(_is_number(value) and value >= least, f"`{field}`", "a number", value)
    bits = card.get("bits", 1)
    require(isinstance(bits, int), "`bits`", "an integer", bits)
    method = card.get("method", "")
    require(isinstance(method, str), "a `method`", "a str", method)
    check_texts(card, source)
    surrogate = card.get("surrogate", False)
    require(isinstance(surrogate, bool), "`surrogate`", "true or false", surrogate)
    for field in _DICTS:
        value = card.get(field, {})
        require(isinstance(value, dict), f"`{field}`", "a dict", value)
    of = card.get("backbone", {}).get("of", "")
    require(isinstance(of, str), "a `backbone`", "`of` an entry, a str", of)
    for value in card.get("nearest_concepts", {}).values():
        require(isinstance(value, dict), "`nearest_concepts`", "dicts", value)
    metrics = card.get("metrics")
    require(isinstance(metrics, list) and metrics, "`metrics`", "a list", metrics)
    for metric in metrics or ():
        require(isinstance(metric, dict), "`metrics`", "a list of dicts", metric)
        named = isinstance(metric.get("name"), str)
        require(named, "`metrics`", "of dicts with a `name`", metric)
        value, by_seed = metric.get("value", ""), metric.get("by_seed", [])
        valued = value is None or _is_number(value)
        require(valued, "`metrics`", "of dicts with a `value`", metric)
        measured = metric.get("measured", True)
        stated = measured is True or (measured is False and value is None)
        rule = "of dicts whose `value` is null where `measured` is false"
        require(stated, "`metrics`", rule, metric)
        seeds = isinstance(by_seed, list) and all(map(_is_number, by_seed))
        require(seeds, "`metrics`", "with numbers `by_seed`", metric)
    _check_history(card, require)
    files, shared = card.get("files"), card.get("shared", [])
    valid = isinstance(files, dict) and all(isinstance(f, dict) for f in files.values())
    require(valid, "`files`", "a dict of dicts", files)
    valid = isinstance(shared, list) and all(
        isinstance(item, dict) and is_plain(item.get("file")) for item in shared
    )
    require(valid, "`shared`", "a list of dicts with a plain `file`", shared)


def check_texts(card: Mapping[str, Any], source: str | pathlib.Path) -> None:
    """Check what a card, or the table `entry` of a recipe, says of the training.

    Args:
        card: dict, with any of `TRAINING_FACTS` and ``note``.
        source: str or path, where the card is from, to be named in an error.

    Raises:
        ValueError: if one of these is not a text.

    Example:
        >>> check_texts({"seeds_vary": 3}, "a.json")
        Traceback (most recent call last):
        ValueError: a.json must have a `seeds_vary` that is a text. Received: 3.
    """
    for field in (*TRAINING_FACTS, "note"):
        value = card.get(field, "not said")
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{source} must have a `{field}` that is a text. "
                f"Received: {repr(value)[:200]}."
            )


def _check_history(
    card: Mapping[str, Any], require: Callable[[object, str, str, object], None]
) -> None:
    """Check the version of an entry, and what changed from version to version."""
    newest = version(card)
    whole = isinstance(newest, int) and not isinstance(newest, bool) and newest >= 1
    require(whole, "a `version`", "an integer from 1 on", newest)
    changes = card.get("changes", [])
    rule = f"a list of dicts with a `version` of 1 to {newest}, a `date` such as "
    rule += "2026-01-31, and a `text`"
    for change in changes if isinstance(changes, list) else [None]:
        fields = change if isinstance(change, dict) else {}
        at, text = fields.get("version"), fields.get("text")
        valid = isinstance(at, int) and not isinstance(at, bool) and 1 <= at <= newest
        valid = valid and isinstance(text, str) and _is_date(fields.get("date"))
        require(valid, "`changes`", rule, change)


def _is_date(value: object) -> bool:
    """Whether a value is a date, such as 2026-01-31."""
    try:
        return datetime.date.fromisoformat(str(value)).isoformat() == value
    except ValueError:
        return False


def version(card: Mapping[str, Any]) -> int:
    """The version of an entry: 1 if its card does not say it.

    Args:
        card: dict, the content of a card.json.

    Returns:
        int, from 1 on.

    Example:
        >>> version({"name": "dcdh-mine-48"}), version({"version": 2})
        (1, 2)
    """
    number: int = card.get("version", 1)
    return number


def split_name(name: str) -> tuple[str, int | None]:
    """Split the name of a version of an entry.

    Args:
        name: str, such as "dcdh-mine-48@2".

    Returns:
        ``(name, version)``: str, the entry's name; and int, or None if `name` names no
        version.

    Example:
        >>> split_name("dcdh-mine-48@2"), split_name("dcdh-mine-48")
        (('dcdh-mine-48', 2), ('dcdh-mine-48', None))
    """
    match = _VERSIONED.fullmatch(name)
    # Neither a version of a version nor one of a path.
    if match is None or _VERSIONED.fullmatch(match[1]) or not is_plain(match[1]):
        return name, None
    return match[1], int(match[2])


def head_of(card: Mapping[str, Any]) -> str | None:
    """The entry whose backbone an entry uses as it is: then it is only a head.

    Args:
        card: dict, the content of a card.json.

    Returns:
        str, the name of the other entry; or None.

    Example:
        >>> from kerashash import zoo
        >>> head_of(zoo.entry("dsre-cifar10-12").card)
        'adalabel-5k-cifar10-48'
    """
    name: str | None = card.get("backbone", {}).get("of")
    return name


def _is_number(value: object) -> bool:
    """Whether a value of JSON is a finite number."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -(2**63) < value < 2**64
        and math.isfinite(value)
    )


def is_plain(name: Any) -> TypeGuard[str]:
    """Whether a name is that of a visible file or folder, without any path.

    Args:
        name: object, usually a str.

    Returns:
        bool.

    Example:
        >>> is_plain("dcdh-cifar10-48"), is_plain("../x"), is_plain(".hidden")
        (True, False, False)
    """
    return (
        isinstance(name, str)
        and _PLAIN.fullmatch(name) is not None
        and len(name.encode()) <= _MAX_NAME_BYTES
    )


def check_name(name: object, bits: int | None, argument: str = "name") -> str:
    """Check the name of an entry that is to be written.

    Args:
        name: object, usually a str.
        bits: int, the entry's code length; None if its model has no codes.
        argument: str, the argument to name in the error.

    Returns:
        str, `name`.

    Raises:
        ValueError: if `name` is not ``<method>-<dataset>-<bits>``, or
            ``<method>-<dataset>`` without codes.

    Example:
        >>> check_name("dcdh-my_photos-48", bits=48)
        'dcdh-my_photos-48'
        >>> check_name("cpnn-movie", bits=None)
        'cpnn-movie'
    """
    if bits is None:
        plain = _NAME_WITHOUT_BITS.fullmatch(name) if is_plain(name) else None
        if plain is None:
            raise ValueError(
                f"`{argument}` must be <method>-<dataset>, in lower-case letters, "
                "digits and underscores, and end with no number, as the model has no "
                f"codes. Received: {name!r}."
            )
        return plain[0]
    match = _NAME.fullmatch(name) if is_plain(name) else None
    if match is None or int(match[1]) != bits:
        raise ValueError(
            f"`{argument}` must be <method>-<dataset>-<bits>, in lower-case letters, "
            f"digits and underscores, and end with the model's {bits} bits. "
            f"Received: {name!r}."
        )
    return match[0]


def has_recipe(card: Mapping[str, Any]) -> bool:
    """Whether an entry says how it was trained; its recipe.toml may be empty.

    Args:
        card: dict, the content of a card.json.

    Returns:
        bool.

    Example:
        >>> has_recipe({"files": {"recipe.toml": {"bytes": 0}}})
        False
    """
    return card.get("files", {}).get("recipe.toml", {}).get("bytes") != 0


def parse_json(text: bytes, source: str | pathlib.Path, expected_type: type[T]) -> T:
    """Parse JSON whose value must be of a certain type.

    Args:
        text: bytes, the JSON.
        source: str or path, where `text` is from, to be named in an error.
        expected_type: type that the value must have.

    Returns:
        The value.

    Raises:
        ValueError: if `text` is not JSON, or its value has another type.

    Example:
        >>> parse_json(b"[1, 2]", "numbers.json", list)
        [1, 2]
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} must be JSON. Received: {error}.") from error
    if not isinstance(value, expected_type):
        raise ValueError(
            f"{source} must hold a {expected_type.__name__}. "
            f"Received: {type(value).__name__}."
        )
    return value


def printable(text: object) -> str:
    """Escape what a terminal would not print but act on, such as colours.

    Args:
        text: str of a stranger's card; anything else is turned into one.

    Returns:
        str, with escapes as in Python; tabs and ends of lines stay.

    Example:
        >>> printable("red: \\x1b[31m")
        'red: \\\\x1b[31m'
    """
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], str(text))


def markdown(card: Mapping[str, Any]) -> str:
    """Render an entry's card for people to read.

    Args:
        card: dict, the content of a card.json.

    Returns:
        str, Markdown that `printable` has passed.

    Example:
        >>> from kerashash import zoo
        >>> print(markdown(zoo.entry("adalabel-cifar10-48").card).splitlines()[0])
        # adalabel-cifar10-48
    """
    lines = [f"# {card['name']}", ""]
    if card.get("surrogate"):
        lines += ["**A surrogate: it has not seen the data of its name.**", ""]
    if head_of(card):
        lines += [f"**A head on the backbone of {head_of(card)}.**", ""]
    lines += [f"- {name}: {value}" for name, value in facts(card).items()]
    lines += ["", "| metric | definition | value | over seeds |", "|---|---|---|---|"]
    for row in rows(card):
        lines.append(
            f"| {row['metric']} | {row['definition']} | {row['value']} | "
            f"{row['over_seeds']} |"
        )
    lines += ["", f"Recompute: `kerashash zoo verify {card['name']}`."]
    if has_recipe(card):
        lines[-1] += (
            f" Train {'the real one' if card.get('surrogate') else 'again'}: "
            f"`kerashash train --recipe {card['name']}`."
        )
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
    if card.get("changes"):
        lines += ["", "Changes:", ""]
        for change in sorted(card["changes"], key=lambda c: c["date"], reverse=True):
            lines.append(
                f"- version {change['version']}, {change['date']}: {change['text']}"
            )
    return printable("\n".join(lines) + "\n")


def facts(card: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what a card says of its entry, without the metrics.

    Args:
        card: dict, the content of a card.json.

    Returns:
        dict of values by what they are.

    Example:
        >>> from kerashash import zoo
        >>> facts(zoo.entry("adalabel-cifar10-48").card)["bits"]
        48
    """
    training, counts = card.get("training", {}), card.get("counts", {})
    backbone = card.get("backbone", {})
    # What a card of images leaves out is the usual way.
    usual = "squash" if {"of", "image_size"} & {*backbone} else None
    values = {
        "version": card.get("version"),
        "method": card.get("method"),
        "paper": card.get("paper"),
        "the paper's value": card.get("paper_value"),
        "beside the paper": card.get("difference"),
        "random codes": card.get("random_codes"),
        "bits": card.get("bits"),
        "bit imbalance": f"{card['bit_imbalance']:.3f} (0: each bit halves the "
        "database's codes; 1: all are equal)"
        if "bit_imbalance" in card
        else None,
        "data": _as_text(card.get("data", {})),
        "split": card.get("split"),
        "rows": _as_text(counts),
        "backbone": _as_text(backbone),
        "images that are no squares": card.get("image_fit", usual),
        "in 8-bit integers": card.get("int8"),
        "with mirror images averaged": card.get("mirrored"),
        "objective": card.get("objective"),
        "trained on": card.get("trained_on"),
        "the backbone was trained by": card.get("backbone_trained_by"),
        "use": card.get("use"),
        "note": card.get("note"),
        "choices": card.get("choices"),
        "chosen on": card.get("chosen_on"),
        "licence": card.get("licence"),
        "seed": card.get("seed"),
        "another seed changes": card.get("seeds_vary"),
        "training": training
        and f"{training.get('minutes')} min, {training.get('machine')}",
        "versions": _as_text(card.get("versions", {})),
    }
    return {name: value for name, value in values.items() if value or value == 0}


def rows(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """Render an entry's metrics as rows of a table.

    Args:
        card: dict, the content of a card.json.

    Returns:
        List of dicts of str: entry, metric, definition, value, over_seeds; all of
        them `printable`.

    Example:
        >>> from kerashash import zoo
        >>> rows(zoo.entry("adalabel-cifar10-48").card)[0]["value"]
        '0.9707'
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
                "entry": printable(card["name"]),
                "metric": printable(metric["name"]),
                "definition": printable(_as_text(definition)),
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
    return " and ".join(map(str, value)) if isinstance(value, list) else value


def _as_text(values: Mapping[str, Any]) -> str:
    """Format a dict as "key value, key value"."""
    return ", ".join(
        f"{key.replace('_', ' ')} {joined(value)}" for key, value in values.items()
    )
