"""Draw queries of an entry and their nearest photographs, from its stored codes.

    python scripts/retrieval_sheet.py dcdh-nuswide-48 sheet.png [--data-dir FOLDER]

No model runs: the codes are those of the entry, the photographs those of its data set.
The photographs of MIRFlickr-25k are under Creative Commons licences of their
photographers, whom `mirflickr/meta/license` names: credit them where you show a sheet.
"""

import argparse

import numpy as np

from kerashash import HammingRanker, codes, data, zoo
from kerashash.monitoring import plots


def sheet(entry, images, num_queries=8, num_neighbours=8, seed=0):
    """Choose queries at random, and find their neighbours.

    Args:
        entry: `kerashash.zoo.Entry`, with codes of queries and a database.
        images: `kerashash.data.RetrievalData`, the data set of these codes.
        num_queries, num_neighbours: int.
        seed: int.

    Returns:
        dict of arguments of `kerashash.plots.retrieval_grid`.
    """
    with np.load(entry.path / "codes.npz") as file:
        stored = {name: file[name] for name in file.files}
    rows = {split: images.splits[split] for split in ("query", "database")}
    for split, numbers in rows.items():
        if len(numbers) != len(stored[f"{split}_codes"]):
            raise ValueError(
                f"The data set must have the rows of the entry, "
                f"{len(stored[f'{split}_codes']):,} in `{split}`. Received: "
                f"{len(numbers):,}."
            )
    # Queries that have a label: for others, nothing is relevant.
    labelled = np.flatnonzero(stored["query_labels"].any(axis=1))
    queries = np.random.default_rng(seed).choice(labelled, num_queries, replace=False)
    ranker = HammingRanker(stored["database_codes"], entry.card["bits"])
    distances, indices = ranker.top_k(stored["query_codes"][queries], num_neighbours)
    common = np.einsum(
        "qc,qkc->qk",
        stored["query_labels"][queries].astype(int),
        stored["database_labels"][indices].astype(int),
    )
    neighbours = rows["database"][indices]
    return {
        "queries": np.concatenate([images.x[[row]] for row in rows["query"][queries]]),
        "neighbours": np.stack(
            [np.concatenate([images.x[[row]] for row in near]) for near in neighbours]
        ),
        "relevant": common > 0,
        "captions": np.vectorize(codes.in_bits, otypes=[object])(distances),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("entry", help="name of an entry, or path of its folder")
    parser.add_argument("out", help="the PNG file")
    parser.add_argument("--data-dir", help="of TensorFlow Datasets")
    parser.add_argument("--seed", type=int, default=0, help="which queries to draw")
    options = parser.parse_args()
    entry = zoo.entry(options.entry)
    images = data.load(**entry.card["data"], data_dir=options.data_dir)
    title = f"{entry.card['name']}: queries, nearest photographs, distances"
    chosen = sheet(entry, images, seed=options.seed)
    plots.retrieval_grid(**chosen, path=options.out, title=title)


if __name__ == "__main__":
    main()
