"""Write results.csv, the card.md files and the tables of the pages from the cards.

python scripts/zoo_tables.py
"""

import csv
import json
import pathlib

import docs_tables

from kerashash.zoo import cards
from kerashash.zoo.front_matter import model_card

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "zoo"


def main():
    paths = sorted(FOLDER.glob("*/card.json"))
    entries = [json.loads(path.read_text()) for path in paths]
    for path, card in zip(paths, entries, strict=True):
        path.with_suffix(".md").write_text(model_card(card))
    rows = [row for card in entries for row in cards.rows(card)]
    with (FOLDER / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    docs_tables.main()


if __name__ == "__main__":
    main()
