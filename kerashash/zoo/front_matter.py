"""Cards as model hubs read them: Markdown with front matter in YAML.

The fields are those of https://huggingface.co/docs/hub/model-cards.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kerashash.zoo import cards

# Licences that hubs know, by the names that the Software Package Data Exchange gives.
_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0"),
    *("lgpl-3.0", "agpl-3.0", "mpl-2.0", "isc", "unlicense", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
)
# Text that needs no quotes in YAML, and words that do: they stand for other values.
_BARE = re.compile(r"[A-Za-z][\w./@+-]*", re.ASCII)
_RESERVED = re.compile("true|false|yes|no|on|off|null|y|n", re.IGNORECASE)
# Characters that a document in YAML must escape, and JSON leaves as they are.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def model_card(card: Mapping[str, Any]) -> str:
    """Render the file card.md of an entry: for model hubs, and for people to read.

    Args:
        card: dict, the content of a card.json.

    Returns:
        str, Markdown with front matter.

    Example:
        >>> from kerashash import zoo
        >>> text = model_card(zoo.entry("ssdh-digits-48").card)
        >>> text.splitlines()[:3]
        ['---', 'license: apache-2.0', 'library_name: kerashash']
    """
    return "\n".join(["---", *_yaml(metadata(card)), "---", "", cards.markdown(card)])


def metadata(card: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what the front matter of an entry's card says.

    Metrics that were not measured are left out.

    Args:
        card: dict, the content of a card.json.

    Returns:
        dict of str, numbers, lists and dicts.

    Example:
        >>> from kerashash import zoo
        >>> about = metadata(zoo.entry("dsre-cifar10-12").card)
        >>> about["pipeline_tag"], about["base_model"], about["datasets"]
        ('image-feature-extraction', ['adalabel-5k-cifar10-48'], ['cifar10'])
    """
    backbone, data = card.get("backbone", {}), card.get("data", {})
    images = "of" in backbone or "image_size" in backbone
    bases = backbone.get("of", backbone.get("name", []))
    bases = bases if isinstance(bases, list) else [bases]
    # Numbers that are no images have a network "features", which does nothing.
    base_model = [base for base in bases if isinstance(base, str) and images]
    measured = [metric for metric in card["metrics"] if metric["value"] is not None]
    about: dict[str, Any] = {}
    if card.get("licence"):
        about["license"] = _licence(card["licence"])
    about["library_name"] = "kerashash"
    about["pipeline_tag"] = (
        "image-feature-extraction" if images else "feature-extraction"
    )
    # Without bits, a model predicts label distributions, and has no codes.
    codes = ["learning-to-hash", "hash-codes"] if "bits" in card else []
    about["tags"] = [
        "keras",
        *(codes or ["label-distribution-learning"]),
        *(["image-retrieval"] if images else []),
        *([card["method"].lower()] if card.get("method") else []),
        *([f"{card['bits']}-bit"] if codes else []),
        *(["surrogate"] if card.get("surrogate") else []),
    ]
    if isinstance(data.get("name"), str):
        about["datasets"] = [data["name"].replace("/", "-")]
    if base_model:
        about["base_model"] = base_model
    about["metrics"] = [*dict.fromkeys(metric["name"] for metric in card["metrics"])]
    if measured:
        about["model-index"] = [{"name": card["name"], "results": [_results(card)]}]
    return about


def _results(card: Mapping[str, Any]) -> dict[str, Any]:
    """The measured metrics of a card, as a hub's model index holds them."""
    data, rows = card.get("data", {}), cards.rows(card)
    name = str(data.get("name", data.get("folder", card["name"])))
    if data.get("protocol"):
        name += f", protocol {data['protocol']}"
    metrics = []
    for metric, row in zip(card["metrics"], rows, strict=True):
        if metric["value"] is None:
            continue
        definition = f" ({row['definition']})" if row["definition"] else ""
        full_name = f"{metric['name']}{definition}"
        metrics.append(
            {"type": metric["name"], "value": metric["value"], "name": full_name}
        )
    task = {"type": "image-retrieval", "name": "Retrieval by hash codes"}
    if card["metrics"][0]["name"] in cards.BEST:
        by_neighbours = " by neighbours" if "bits" in card else ""
        task = {
            "type": "tabular-regression",
            "name": f"Label distributions{by_neighbours}",
        }
    return {
        "task": task,
        "dataset": {
            "type": str(data.get("name", "own")).replace("/", "-"),
            "name": name,
        },
        "metrics": metrics,
    }


def _licence(text: object) -> str:
    """The name that hubs have for a licence, or "other"."""
    first = re.split(r"[\s(;,]", str(text).strip(), maxsplit=1)[0].lower()
    return first if first in _LICENCES else "other"


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """The lines of a dict, whose values are dicts, lists of them, or of scalars."""
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{indent}{key}:"
            yield from _yaml(item, indent + "  ")
        elif isinstance(item, list):
            yield f"{indent}{key}:"
            for element in item:
                if isinstance(element, dict):
                    first, *rest = _yaml(element, indent + "  ")
                    yield f"{indent}- {first.lstrip()}"
                    yield from rest
                else:
                    yield f"{indent}- {_scalar(element)}"
        else:
            yield f"{indent}{key}: {_scalar(item)}"


def _scalar(value: str | float) -> str:
    """A text or a number."""
    if isinstance(value, str):
        if _BARE.fullmatch(value) and not _RESERVED.fullmatch(value):
            return value
        quoted = json.dumps(value, ensure_ascii=False)
        return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
    text = repr(value)
    # "1e-05" is a text in YAML 1.1, where a number has a point.
    return text if "." in text or "e" not in text else text.replace("e", ".0e")
