"""Write results.csv, card.md and the zoo's table in README.md from the entries' cards.

python zoo/tables.py
"""

import csv
import json
import pathlib

from kerashash import cards

FOLDER = pathlib.Path(__file__).parent
README = FOLDER.parent / "README.md"
START, END = "<!-- zoo/tables.py -->\n", "<!-- end -->\n"


def results(entries):
    """All metrics of all entries, as text of a CSV file's rows."""
    return [row for card in entries for row in cards.rows(card)]


def table(entries):
    """A row for each entry, in Markdown."""
    columns = ("entry", "data", "backbone", "mAP@ALL", "learned", "over seeds", "paper")
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for card in entries:
        # The first definition is kerashash's own: expected over the orders of ties.
        maps = [m for m in card["metrics"] if m["name"] == "mAP@ALL"]
        learned = [f"{m['value']:.4f}" for m in maps if m["database"] == "learned"]
        backbone, data = card["backbone"], card["data"]
        lines.append(
            _line(
                (
                    f"`{card['name']}`" + " (surrogate)" * ("surrogate" in card),
                    f"{data['name']} {data.get('protocol', '')}",
                    backbone.get("name") or f"that of `{backbone['of']}`",
                    f"{maps[0]['value']:.4f}",
                    "".join(learned),
                    cards.rows(card)[0]["over_seeds"],
                    card["paper_value"],
                )
            )
        )
    return "\n".join(lines) + "\n"


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def main():
    paths = sorted(FOLDER.glob("*/card.json"))
    entries = [json.loads(path.read_text()) for path in paths]
    for path, card in zip(paths, entries, strict=True):
        path.with_suffix(".md").write_text(cards.markdown(card))
    rows = results(entries)
    with (FOLDER / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    before, rest = README.read_text().split(START)
    after = rest.split(END)[1]
    README.write_text(before + START + table(entries) + END + after)


if __name__ == "__main__":
    main()
