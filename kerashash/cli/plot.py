"""The command ``kerashash plot``: the figures of papers, of entries."""

import math
import re
from typing import TYPE_CHECKING, Any

import click

from kerashash.cli.completion import complete_entry
from kerashash.cli.printing import check_output

if TYPE_CHECKING:
    import numpy.typing as npt

    from kerashash.zoo import Entry

# Items that are drawn at random where all would take minutes.
_ITEMS = {"tsne": 2000, "neighbours": 5000}
_FEWEST = 10
# Curves of neighbourhoods: K of the nearest neighbours, and K2, the lists, of DDH.
_NEAREST = (2, 5, 10, 15, 20, 30, 50, 100, 200)
_LISTS = (1, 2, 4, 6, 10, 20, 40)
# Images that are decoded at a time.
_BLOCK = 1024


@click.command("plot")
@click.argument(
    "names", nargs=-1, required=True, metavar="ENTRY...", shell_complete=complete_entry
)
@click.option("--out", required=True, metavar="FILE", help="The PNG file to write.")
@click.option(
    "--kind",
    type=click.Choice(["pr", "pn", "bits", "tsne", "codewords", "neighbours"]),
    default="pr",
    help="What to draw.",
)
@click.option("--top", type=click.IntRange(2), help="With pn: the largest N.")
@click.option(
    "--items",
    type=click.IntRange(_FEWEST),
    help="With tsne and neighbours: how many are drawn. [2000, 5000]",
)
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="With tsne, codewords and neighbours: of TensorFlow Datasets.",
)
def _plot(
    names: tuple[str, ...],
    out: str,
    kind: str,
    top: int | None,
    items: int | None,
    data_dir: str | None,
) -> None:
    """Draw a figure of entries, from the codes that they store.

    \b
    pr          precision and recall
    pn          precision of the N nearest, against N
    bits        mAP against the code length, and what the paper prints
    tsne        t-SNE of the codes of queries of one class, of one entry
    codewords   which labels of an AdaLabelHash entry have near codewords
    neighbours  how right labels are that neighbours give, on an entry's data
    """
    context = click.get_current_context()
    for option, kinds in (
        ("top", ("pn",)),
        ("items", (*_ITEMS,)),
        ("data_dir", ("tsne", "codewords", "neighbours")),
    ):
        if context.params[option] is not None and kind not in kinds:
            flag = option.replace("_", "-")
            raise click.UsageError(f"--{flag} goes with {', or '.join(kinds)}.")
    check_output("--out", out)
    from kerashash import zoo

    entries = [zoo.entry(name) for name in dict.fromkeys(names)]
    if kind in ("tsne", "codewords", "neighbours") and len(entries) > 1:
        raise click.UsageError(f"--kind {kind} takes one ENTRY.")
    for entry in entries:
        _check_retrieval(entry)
    if kind in ("pr", "pn"):
        _curves(entries, kind, out, top)
    elif kind == "bits":
        _bits(entries, out)
    elif kind == "tsne":
        _tsne(entries[0], out, items or _ITEMS[kind], data_dir)
    elif kind == "codewords":
        _codewords(entries[0], out, data_dir)
    else:
        _neighbours(entries[0], out, items or _ITEMS[kind], data_dir)
    print(f"Wrote {out}")
    databases = {_data_words(entry.card) for entry in entries}
    if kind in ("pr", "pn") and len(databases) > 1:
        print("The entries are on different data: their curves do not compare.")


def _check_retrieval(entry: "Entry") -> None:
    from kerashash.evaluation import label_distribution

    measured = {metric["name"] for metric in entry.card["metrics"]}
    if measured & {*label_distribution.MEASURES}:
        raise ValueError(
            "ENTRY must be measured by retrieval. Received: "
            f"{entry.name!r}, which predicts label distributions."
        )


def _data_words(card: Any) -> str:
    """The data of an entry, in words."""
    about = card.get("data", {})
    named = about.get("name", about.get("folder", "data that are not named"))
    words = [str(named), str(about.get("protocol", "")), f"seed {about.get('seed', 0)}"]
    return ", ".join(word for word in words if word)


# ------------------------------------------------------------------------- curves


def _curves(entries: list["Entry"], kind: str, out: str, top: int | None) -> None:
    """Draw precision, against recall or N."""
    import numpy as np

    from kerashash import evaluation
    from kerashash.monitoring.curves import retrieval_curves
    from kerashash.zoo import loading

    curves: dict[str, dict[str, Any]] = {}
    for entry in entries:
        with loading.stored(entry) as (codes, bits):
            size = len(codes["database_codes"])
            # At least 1: that the database is empty is said below.
            last = max(1, min(top or size, size))
            spaced = np.linspace if top else np.geomspace
            ranks = np.unique(spaced(1, last, 200).round().astype(int))
            curve = evaluation.precision_recall(
                codes["query_codes"],
                codes["query_labels"],
                codes["database_codes"],
                codes["database_labels"],
                bits=bits,
                at=ranks,
            )
        curves[entry.card["name"]] = {"ranks": ranks, **curve}
    databases = {_data_words(entry.card) for entry in entries}
    title = databases.pop() if len(databases) == 1 else ""
    scale = "linear" if top else "log"
    retrieval_curves(curves, kind, out, scale=scale, title=title)


# --------------------------------------------------------------------------- bits


def _bits(entries: list["Entry"], out: str) -> None:
    """Draw the metric of the paper against the code length, a panel a series."""
    import statistics

    from kerashash.monitoring.bits_curves import against_bits
    from kerashash.zoo import loading

    series: dict[str, list[tuple[int, Any]]] = {}
    for entry in entries:
        bits = loading.code_length(entry)
        name = str(entry.card["name"]).removesuffix(f"-{bits}")
        series.setdefault(name, []).append((bits, entry.card))
    panels: dict[tuple[str, str], dict[str, list[float]]] = {}
    for name, cards in series.items():
        for bits, card in sorted(cards, key=lambda item: item[0]):
            metric = _metric_of_paper(card)
            learned = ", learned codes" * (metric.get("database") == "learned")
            panel = panels.setdefault((name, f"{metric['name']}{learned}"), {})
            only = metric["value"]
            # None, of a metric that was not measured, is not drawn.
            values = metric.get("by_seed") or [math.nan if only is None else only]
            for key, value in (
                ("bits", bits),
                ("measured", statistics.fmean(values)),
                ("spread", statistics.stdev(values) if len(values) > 1 else 0.0),
                ("printed", _printed(card, metric["name"])),
            ):
                panel.setdefault(key, []).append(value)
    metrics = {metric for _, metric in panels}
    if len(metrics) == 1:
        named = {name: panel for (name, _), panel in panels.items()}
        against_bits(named, "", metrics.pop(), out)
    else:
        named = {"\n".join(key): panel for key, panel in panels.items()}
        against_bits(named, "", "value", out)


def _metric_of_paper(card: Any) -> Any:
    """The metric of a card that is nearest to the definition of its paper."""
    from kerashash.evaluation.choices import PROTOCOLS, metric_name, paper_protocol

    about = card.get("data", {})
    protocol = paper_protocol(
        card.get("method", ""), str(about.get("name")), about.get("protocol", "")
    )
    if protocol is None:
        return card["metrics"][0]
    paper = PROTOCOLS[protocol]

    def likeness(metric: Any) -> tuple[bool, bool, int]:
        return (
            metric["name"] == metric_name(paper["at"]),
            metric.get("database") == paper["database"],
            sum(metric.get(k) == paper[k] for k in ("denominator", "ties", "empty")),
        )

    return max(card["metrics"], key=likeness)


def _printed(card: Any, metric: str) -> float:
    """What the paper prints for an entry, or NaN."""
    text = str(card.get("paper_value"))  # a stranger's may be anything
    found = re.match(rf"{re.escape(metric)} (\d*\.?\d+)", text)
    return float(found[1]) if found else math.nan


# -------------------------------------------------------------------------- codes


def _tsne(entry: "Entry", out: str, items: int, data_dir: str | None) -> None:
    """Draw the codes of queries that have one label."""
    import numpy as np

    from kerashash.checks import check_labels
    from kerashash.codes import as_packed
    from kerashash.monitoring.code_map import code_map
    from kerashash.zoo import loading

    card = entry.card
    with loading.stored(entry) as (stored, bits):
        codes, bits = as_packed(stored["query_codes"], bits, "query_codes")
        labels = stored["query_labels"]
        if labels.ndim != 2:
            raise ValueError(
                "`query_labels` must be label rows (n, classes). Received shape: "
                f"{labels.shape}."
            )
        check_labels(labels, labels.shape[1], len(codes), name="query_labels")
        single = np.flatnonzero(labels.sum(axis=1) == 1)
    names = _class_names(entry, labels.shape[1], data_dir)
    if len(single) < _FEWEST:
        raise ValueError(
            f"ENTRY must have {_FEWEST} or more queries of one class. Received: "
            f"{entry.name!r}, which has {len(single)}."
        )
    size = min(items, len(single))
    chosen = np.random.default_rng(0).choice(single, size, replace=False)
    several = "" if len(single) == len(codes) else ", with one label each"
    number = f"{size:,} of {len(codes):,}" if size < len(codes) else f"all {size:,}"
    title = (
        f"{card['name']}: codes of {number} queries{several}\n"
        f"{_data_words(card)}; t-SNE of Hamming distances"
    )
    code_map(
        codes[chosen],
        labels[chosen],
        names,
        title,
        out,
        bits=bits,
        perplexity=min(30.0, size / 4),
    )


def _codewords(entry: "Entry", out: str, data_dir: str | None) -> None:
    """Draw the relations among the codewords of an entry."""
    from kerashash.monitoring.codeword_graph import codeword_graph
    from kerashash.zoo import loading

    model: Any = loading.build_model(entry)
    loading.warn_of_surrogate(entry)
    if not hasattr(model, "codewords"):
        raise ValueError(
            "ENTRY must be of AdaLabelHash, which has codewords. Received: "
            f"{entry.name!r}, of {type(model).__name__}."
        )
    codewords = model.codewords.hash_codes().numpy()
    names = _class_names(entry, len(codewords), data_dir)
    codeword_graph(codewords, names, f"{entry.card['name']}: codewords", out)


def _class_names(entry: "Entry", count: int, data_dir: str | None) -> list[str]:
    """The names of an entry's labels, in the order of their columns; their numbers, if
    its data are not said, or have others."""
    from kerashash.data.sources import known_class_names
    from kerashash.zoo import encoding

    # A surrogate has the labels of other data than those that it encoded.
    concepts = [*entry.card.get("nearest_concepts", {})]
    if len(concepts) == count:
        return concepts
    numbers = [*map(str, range(count))]
    about = entry.card.get("data")
    if not about:
        return numbers
    name = str(about.get("name"))
    known = known_class_names(name)
    if name == "mirflickr25k":
        known = known[:count]  # the potential labels are the first
    if len(known) == count:
        return [*known]
    names = getattr(encoding.data_of(entry, data_dir), "class_names", ())
    return [*names] if len(names) == count else numbers


# --------------------------------------------------------------------- neighbours


def _neighbours(entry: "Entry", out: str, items: int, data_dir: str | None) -> None:
    """Draw the precision of the labels that neighbours in the features give."""
    import numpy as np
    import scipy.sparse

    from kerashash.checks import check_integer
    from kerashash.evaluation import pairwise_label_precision
    from kerashash.maths.similarity import expanded_neighbours, nearest_neighbours
    from kerashash.monitoring.neighbourhoods import neighbourhood_precision
    from kerashash.zoo import cards, loading

    file = entry.path / "config.json"
    config = cards.parse_json(file.read_bytes(), file, dict)
    with loading.naming(file):
        # K1 of the entry, if it is one of DDH; else that of the paper.
        k1 = check_integer("neighbours", config["config"].get("neighbours", 15))
    features, labels = _features(entry, items, data_dir)
    n = len(features)
    neighbours = min(k1, n - 1)
    nearest = nearest_neighbours(features, min(max(_NEAREST), n - 1))
    curves: dict[str, dict[str, list[float]]] = {}

    def add(name: str, k: int, similar: Any) -> None:
        curve = curves.setdefault(name, {"k": [], "similar": [], "precision": []})
        measured = pairwise_label_precision(similar, labels)
        curve["k"].append(k)
        for key in ("similar", "precision"):
            curve[key].append(measured[key])

    for k in (k for k in _NEAREST if k < n):
        rows = np.repeat(np.arange(n), k + 1)
        ones = np.ones(len(rows), bool)
        columns = nearest[:, : k + 1].ravel()
        similar = scipy.sparse.csr_array((ones, (rows, columns)), shape=(n, n))
        add("K1 nearest neighbours", k, similar.maximum(similar.T).tocsr())
    for lists in (k for k in _LISTS if k < n):
        similar = expanded_neighbours(features, neighbours, lists)
        add(f"K1 = {neighbours}, expanded by K2 lists", lists, similar)
    title = f"{_data_words(entry.card)}: {n:,} training images"
    neighbourhood_precision(curves, title, out)


def _features(
    entry: "Entry", items: int, data_dir: str | None
) -> tuple["npt.NDArray[Any]", "npt.NDArray[Any]"]:
    """Features of some training images of an entry, by the frozen network of its
    recipe, and their labels."""
    import numpy as np

    from kerashash import backbones
    from kerashash.backbones.images import input_size
    from kerashash.data.images import EncodedImages
    from kerashash.data.resizing import FITS
    from kerashash.recipes import fitting, recipe
    from kerashash.zoo import encoding, loading

    data = encoding.data_of(entry, data_dir)
    with loading.naming(entry.path / "card.json"):
        rows = data.splits["train"]  # not of label distributions
    if len(rows) > items:
        rows = np.sort(np.random.default_rng(0).choice(rows, items, replace=False))
    x = data.x
    if len(x.shape) == 2:  # vectors
        return x[rows], data.labels[rows]
    made_by = recipe.read(entry.path / "recipe.toml")
    options, wrong = made_by.backbone.network, ""
    if "name" not in options:
        wrong = f"a head on that of {options.get('of')!r}"
    elif isinstance(made_by.training, recipe.FineTuning):
        wrong = "which fine-tuned it"
    if wrong:
        raise ValueError(
            "ENTRY must have a frozen backbone, whose features know no labels. "
            f"Received: {entry.name!r}, {wrong}."
        )
    network = backbones.get(**options)
    if made_by.backbone.mirrored:
        network = backbones.mirrored(network)
    if isinstance(x, EncodedImages):
        x = x.as_taken(input_size(network), x.fit or FITS[0])
    blocks = [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
    features = [fitting.outputs(network, x[block]) for block in blocks]
    return np.concatenate(features), data.labels[rows]


COMMANDS = (_plot,)
