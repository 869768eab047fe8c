"""Write results.csv, the card.md files and the zoo's table in README.md from the cards.

python scripts/zoo_tables.py
"""

import csv
import json
import pathlib

from kerashash.zoo import cards

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER, README = ROOT / "zoo", ROOT / "README.md"
START, END = "<!-- scripts/zoo_tables.py -->\n", "<!-- end -->\n"


def table(entries):
    """Build the Markdown table, with the first metric of each entry as its row."""
    columns = ("entry", "data", "backbone", "metric", "value", "learned", "over seeds")
    columns = (*columns, "paper")
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for card in entries:
        first, data, backbone = card["metrics"][0], card["data"], card["backbone"]
        # The first of them has the definition of the first metric, ties "expected".
        learned = [
            cards.number(metric["value"])
            for metric in card["metrics"]
            if metric["name"] == first["name"] and metric.get("database") == "learned"
        ]
        if "name" in backbone:
            backbone_text = cards.joined(backbone["name"])
        elif "of" in backbone:
            backbone_text = f"that of `{backbone['of']}`"
        else:
            backbone_text = "none: columns"
        lines.append(
            _line(
                (
                    f"`{card['name']}`" + " (surrogate)" * ("surrogate" in card),
                    f"{data['name']} {data.get('protocol', '')}".strip(),
                    backbone_text,
                    first["name"],
                    cards.number(first["value"]),
                    "".join(learned[:1]),
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
    rows = [row for card in entries for row in cards.rows(card)]
    with (FOLDER / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    before, rest = README.read_text().split(START)
    after = rest.split(END)[1]
    README.write_text(before + START + table(entries) + END + after)


if __name__ == "__main__":
    main()
