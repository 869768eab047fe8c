"""`kerashash evaluate`, `compare` and `plot`."""

import importlib
import json
import warnings

import matplotlib.image
import numpy as np
import pytest
from conftest import METRIC, mlp

import kerashash
from kerashash import archives, cli, evaluation, zoo
from kerashash.monitoring.curves import retrieval_curves

ENTRY = "ssdh-digits-48"


def run_json(capsys, *words):
    assert cli.main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits.keras"
    kerashash.save_model(zoo.load(ENTRY), path)
    return path


def test_evaluate_computes_the_metrics_of_stored_codes_again(capsys, monkeypatch):
    card = zoo.entry(ENTRY).card
    result = run_json(capsys, "evaluate", ENTRY)
    assert result["model"] == ENTRY
    assert (result["data"]["query"], result["data"]["database"]) == (300, 1497)
    for metric, expected in zip(result["metrics"], card["metrics"], strict=True):
        assert metric.pop("value") == pytest.approx(expected["value"], abs=1e-6)
        assert metric.items() <= expected.items()
    # They come from the codes, not from the card.
    codes = archives.read_npz(zoo.entry(ENTRY).path / "codes.npz")
    reversed_codes = {**codes, "query_codes": ~codes["query_codes"]}
    monkeypatch.setattr(archives, "read_npz", lambda path: reversed_codes)
    other = run_json(capsys, "evaluate", ENTRY)
    assert other["metrics"][0]["value"] < 0.2


def test_evaluate_measures_a_model_on_data(saved, capsys):
    data = kerashash.data.load("digits", seed=3)
    expected = kerashash.evaluate(zoo.load(ENTRY), data, "ddh-cifar10")
    words = ["--data", "digits", "--seed", "3", "--definition", "ddh-cifar10"]
    for model in (ENTRY, saved):
        result = run_json(capsys, "evaluate", model, *words)
        values = {metric["name"]: metric["value"] for metric in result["metrics"]}
        assert values == {k: v for k, v in expected.items() if k != "definition"}
        assert result["definition"] == expected["definition"]
        assert result["metrics"][0]["denominator"] == "retrieved"
    assert cli.main(["evaluate", ENTRY, "--data", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{ENTRY} on digits, seed 0", "  default"]
    assert lines[2] == "  300 queries, 1,497 in the database"
    assert [line.split()[0] for line in lines[3:]] == [
        *["mAP@ALL"] * 3,
        "P@100",
        "P@H<=2",
        "mAP",
    ]
    assert "ties best" in lines[4]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "my.keras"], "--data must be given for a file"),
        (["evaluate", ENTRY, "--data", "digit"], "Did you mean ['digits']"),
        (["evaluate", ENTRY, "--data", ".", "--protocol", "full"], "a folder."),
        (["evaluate", ENTRY, "--data", "digits", "--definition", "x"], "'dcdh@5000'"),
        (["compare", ENTRY, "my.keras"], "--data must be given for a file"),
        (["plot", ENTRY, "ddh-ldl-movie-128", "--out", "x.png"], "label distributions"),
        (["plot", "none-12", "--out", "x.png"], "`name` must be an entry"),
        (["plot", ENTRY, "--out", "x.png", "--top", "9"], "--top goes with pn."),
        (
            ["plot", ENTRY, "--out", "x.png", "--items", "99"],
            "--items goes with tsne, or neighbours.",
        ),
        (
            ["plot", ENTRY, "ddh-cifar10-16", "--out", "x.png", "--kind", "tsne"],
            "--kind tsne takes one ENTRY.",
        ),
        (
            ["plot", ENTRY, "--out", "x.png", "--kind", "codewords"],
            "of AdaLabelHash, which has codewords. Received: 'ssdh-digits-48', of SSDH",
        ),
    ],
)
def test_mistakes_are_named(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_compare_prints_entries_side_by_side(capsys, monkeypatch):
    names = ["dcdh-cifar10-48", "dsre-cifar10-12", "ddh-cifar10-16"]
    cards = [zoo.entry(name).card for name in names]
    columns = run_json(capsys, "compare", *names)
    for column, name, card in zip(columns, names, cards, strict=True):
        assert (column["name"], column["bits"]) == (name, card["bits"])
        assert column["bytes"] == -(-card["bits"] // 8)
        assert column["metrics"] == card["metrics"]
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main(["compare", *names]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    first, second, notes = text.split("\n\n")
    assert first.split("\n")[0].split() == names[:2]
    assert second.split("\n")[0].split() == names[2:]
    values = {
        line[:14].strip(): line[14:].split() for line in first.splitlines() if line
    }
    assert values["bits"] == ["48", "12"]
    # Two metrics of one name, by two definitions, are two rows.
    stated = {
        tuple(metric.get(key) for key in ("ties", "database")): metric["value"]
        for metric in cards[0]["metrics"]
        if metric["name"] == "mAP@ALL"
    }
    number = notes.split("database learned")[0].count("\n") + 1
    assert values[f"mAP@ALL [{number}]"] == [f"{stated['expected', 'learned']:.4f}"]


def test_compare_measures_on_data_and_how_fast(saved, capsys):
    columns = run_json(
        capsys, "compare", ENTRY, saved, "--data", "digits", "--seed", "1", "--rate"
    )
    assert [column["name"] for column in columns] == [ENTRY, str(saved)]
    assert columns[0]["metrics"] == columns[1]["metrics"]
    expected = kerashash.evaluate(
        zoo.load(ENTRY), kerashash.data.load("digits", seed=1)
    )
    assert columns[0]["metrics"][0]["value"] == expected["mAP@ALL"]
    assert min(column["images_per_second"] for column in columns) > 100
    assert cli.main(["compare", ENTRY, "--data", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "On digits, seed 0"
    assert lines[2] == "  300 queries, 1,497 in the database"
    assert lines[4].split() == [ENTRY]
    assert not any(line.startswith(("data", "protocol")) for line in lines)


def test_compare_measures_how_fast_a_model_of_features_is(tmp_path, capsys):
    model = kerashash.AdaLabelHash("features", bits=12, num_classes=10)
    model.encode(np.zeros((2, 64), np.float32), verbose=0)
    kerashash.save_model(model, tmp_path / "a.keras")
    words = ["compare", tmp_path / "a.keras", "--data", "digits", "--rate"]
    (column,) = run_json(capsys, *words)
    assert column["images_per_second"] > 100


def test_plot_draws_the_curves_of_stored_codes(capsys, tmp_path, monkeypatch):
    drawn = []

    def draw(curves, kind, path, **options):
        drawn.append((curves, kind))
        assert options == {"scale": "log", "title": "digits, seed 0"}
        return retrieval_curves(curves, kind, path, **options)

    monkeypatch.setattr("kerashash.monitoring.curves.retrieval_curves", draw)
    file = tmp_path / "curves.png"
    for kind in ("pr", "pn"):
        assert cli.main(["plot", ENTRY, ENTRY, "--out", str(file), "--kind", kind]) == 0
        assert matplotlib.image.imread(file).shape[2] == 4
    assert "different data" not in capsys.readouterr().out
    ((name, curve),) = drawn[0][0].items()
    assert name == ENTRY
    assert (curve["ranks"][0], curve["ranks"][-1]) == (1, 1497)
    codes = archives.read_npz(zoo.entry(ENTRY).path / "codes.npz")
    expected = evaluation.precision_recall(
        *(codes[f"{split}_{what}"] for split in ("query", "database")
          for what in ("codes", "labels")), bits=48, at=[1, 1497]
    )  # fmt: skip
    for key in ("precision_at", "recall_at"):
        assert curve[key][[0, -1]] == pytest.approx(expected[key])
    assert [kind for _, kind in drawn] == ["pr", "pn"]


def test_curves_differ_in_more_than_colour():
    curve = {"precision_at": [1.0, 0.5], "recall_at": [0.5, 1.0], "ranks": [1, 10]}
    for kind in ("pr", "pn"):
        figure = retrieval_curves({f"curve {i}": curve for i in range(28)}, kind)
        lines = figure.axes[0].get_lines()
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 28
        assert len({line.get_linestyle() for line in lines[:4]}) == 4
        (legend,) = figure.legends
        figure.draw_without_rendering()
        boxes = legend.get_window_extent(), figure.axes[0].get_tightbbox()
        assert not boxes[0].overlaps(boxes[1])
        assert [text.get_text() for text in legend.get_texts()][:2] == [
            "curve 0",
            "curve 1",
        ]
    assert np.array_equal(lines[0].get_xdata(), [1, 10])


@pytest.mark.parametrize(
    ("curves", "kind", "message"),
    [
        ({}, "pr", "one or more curves"),
        ({"a": {"precision_at": [1.0]}}, "pr", r"Missing in 'a': \['recall_at'\]"),
        ({"a": {"precision_at": [1.0], "ranks": [1, 2]}}, "pn", r"\(2,\) and \(1,\)"),
        ({"a": {}}, "roc", "`kind` must be"),
    ],
)
def test_curves_that_do_not_fit_are_named(curves, kind, message):
    with pytest.raises(ValueError, match=message):
        retrieval_curves(curves, kind)


def drawn_by(monkeypatch, function):
    """What the command gives a function that draws, and what that draws."""
    module, _, name = function.rpartition(".")
    draw = getattr(importlib.import_module(module), name)
    calls = []

    def wrapped(*arguments, **options):
        figure = draw(*arguments, **options)
        calls.append((arguments, options, figure))
        return figure

    monkeypatch.setattr(function, wrapped)
    return calls


def test_plot_draws_the_first_ranks(tmp_path, monkeypatch):
    calls = drawn_by(monkeypatch, "kerashash.monitoring.curves.retrieval_curves")
    words = ["plot", ENTRY, "--out", str(tmp_path / "x.png"), "--kind", "pn"]
    assert cli.main([*words, "--top", "100"]) == 0
    ((curves, *_), _, figure), *_ = calls
    np.testing.assert_array_equal(curves[ENTRY]["ranks"], np.arange(1, 101))
    assert figure.axes[0].get_xscale() == "linear"


def test_plot_draws_metrics_against_bits(tmp_path, monkeypatch, capsys):
    calls = drawn_by(monkeypatch, "kerashash.monitoring.bits_curves.against_bits")
    names = ["ddh-cifar10-64", "ddh-cifar10-16", "dcdh-mirflickr-12"]
    words = ["plot", *names, "--out", str(tmp_path / "x.png"), "--kind", "bits"]
    assert cli.main(words) == 0
    (((methods, *_), _, figure),) = calls
    assert [axis.get_title() for axis in figure.axes] == [
        "ddh-cifar10\nmAP@1000",
        "dcdh-mirflickr\nmAP@ALL, learned codes",
    ]
    ddh, dcdh = methods.values()
    assert ddh["bits"] == [16, 64]
    assert ddh["printed"] == [0.447, 0.535]
    assert dcdh["printed"] == [0.8758]
    # The paper's metric: the denominator is what was retrieved, and not the first row.
    by_seed = zoo.entry("ddh-cifar10-16").card["metrics"][1]["by_seed"]
    assert ddh["measured"][0] == pytest.approx(np.mean(by_seed))
    assert ddh["spread"][0] == pytest.approx(np.std(by_seed, ddof=1))
    assert "different data" not in capsys.readouterr().out
    assert cli.main([*words[:2], *words[4:]]) == 0
    assert calls[1][0][2] == "mAP@1000"  # of one metric, the axis has its name


def test_plot_draws_codes_of_queries(tmp_path, monkeypatch):
    calls = drawn_by(monkeypatch, "kerashash.monitoring.code_map.code_map")
    words = ["plot", ENTRY, "--out", str(tmp_path / "x.png"), "--kind", "tsne"]
    assert cli.main([*words, "--items", "60"]) == 0
    (((codes, labels, names, title, _), _, figure),) = calls
    assert codes.shape == (60, 6)
    assert names == [*"0123456789"]
    assert title.startswith(f"{ENTRY}: codes of 60 of 300 queries\ndigits, seed 0")
    stored = archives.read_npz(zoo.entry(ENTRY).path / "codes.npz")
    pairs = {
        (code.tobytes(), label.tobytes())
        for code, label in zip(
            stored["query_codes"], stored["query_labels"], strict=True
        )
    }
    assert {(c.tobytes(), y.tobytes()) for c, y in zip(codes, labels, strict=True)} <= (
        pairs
    )
    assert sum(len(group.get_offsets()) for group in figure.axes[0].collections) == 60


def test_plot_draws_queries_with_one_label_of_several(tmp_path, monkeypatch):
    calls = drawn_by(monkeypatch, "kerashash.monitoring.code_map.code_map")
    out = str(tmp_path / "x.png")
    assert cli.main(["plot", "dcdh-mirflickr-12", "--kind", "tsne", "--out", out]) == 0
    (((codes, labels, names, title, _), _, _),) = calls
    assert (labels.sum(axis=1) == 1).all()
    assert len(names) == 38
    assert names[:2] == ["animals", "baby"]
    assert f"{len(codes)} of 1,700 queries, with one label each" in title


@pytest.mark.parametrize(
    ("entry", "first", "count"),
    [("adalabel-cifar10-24", "airplane", 10), ("adalabel-nuswide-24", "animal", 21)],
)
def test_plot_draws_relations_of_codewords(entry, first, count, tmp_path, monkeypatch):
    calls = drawn_by(monkeypatch, "kerashash.monitoring.codeword_graph.codeword_graph")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a surrogate says so
        words = ["plot", entry, "--kind", "codewords", "--out", str(tmp_path / "x.png")]
        assert cli.main(words) == 0
    (((codewords, names, *_), _, figure),) = calls
    assert (codewords.shape, names[0], len(names)) == ((count, 24), first, count)
    nearest = zoo.entry(entry).card.get("nearest_concepts", {})
    for name, near in nearest.items():
        row = codewords[names.index(name)]
        for other, distance in near.items():
            assert (row != codewords[names.index(other)]).sum() == distance
    assert [text.get_text() for text in figure.axes[0].texts] == names


@pytest.mark.parametrize("data", [{}, {"name": "digits"}])
def test_plot_numbers_classes_that_have_no_names(data, tmp_path, rng, monkeypatch):
    """The card does not say which data, or some that have other classes."""
    model = kerashash.AdaLabelHash(mlp(6), bits=12, num_classes=3)
    zoo.round_weights(model)
    codes = model.encode(rng.normal(size=(12, 6)).astype(np.float32), verbose=0)
    labels = np.eye(3, dtype=np.uint8)[np.arange(12) % 3]
    arrays = {
        f"{split}_{what}": array
        for split in ("query", "database")
        for what, array in (("codes", codes), ("labels", labels))
    }
    card = {"metrics": [METRIC], "data": data}
    path = zoo.save(model, "adalabel-noise-12", card, arrays, root=tmp_path).path
    drawn = []
    for kind, function in (
        ("tsne", "code_map.code_map"),
        ("codewords", "codeword_graph.codeword_graph"),
    ):
        monkeypatch.setattr(
            f"kerashash.monitoring.{function}", lambda *args, **_: drawn.append(args)
        )
        words = ["plot", str(path), "--kind", kind, "--out", str(tmp_path / "x.png")]
        assert cli.main(words) == 0
    (_, _, of_codes, *_), (_, of_codewords, *_) = drawn
    assert of_codes == of_codewords == ["0", "1", "2"]


def test_plot_draws_the_precision_of_neighbourhoods(tmp_path, monkeypatch):
    function = "kerashash.monitoring.neighbourhoods.neighbourhood_precision"
    calls = drawn_by(monkeypatch, function)
    words = ["plot", ENTRY, "--kind", "neighbours", "--out", str(tmp_path / "x.png")]
    assert cli.main([*words, "--items", "600"]) == 0
    (((curves, title, _), _, _),) = calls
    assert title == "digits, seed 0: 600 training images"
    nearest, expanded = curves.values()
    assert nearest["k"] == [2, 5, 10, 15, 20, 30, 50, 100, 200]
    assert sorted(nearest["similar"]) == nearest["similar"]
    assert sorted(nearest["precision"], reverse=True) == nearest["precision"]
    # One list expands nothing: it is that of the image itself.
    at = nearest["k"].index(15)
    for key in ("similar", "precision"):
        assert expanded[key][0] == pytest.approx(nearest[key][at])
    assert 0.6 < expanded["precision"][3] < 1
    # Of few images, there are not as many neighbours.
    assert cli.main([*words, "--items", "12"]) == 0
    assert [curve["k"] for curve in calls[1][0][0].values()] == [
        [2, 5, 10],
        [1, 2, 4, 6, 10],
    ]


@pytest.mark.parametrize("command", ["evaluate", "compare"])
@pytest.mark.parametrize("option", ["--protocol", "--seed", "--data-dir"])
def test_options_without_effect_are_refused(command, option, capsys):
    assert cli.main([command, "ssdh-digits-48", option, "7"]) == 2
    assert f"{option} goes with --data" in capsys.readouterr().err


def test_a_definition_goes_with_data(capsys):
    assert cli.main(["evaluate", "ssdh-digits-48", "--definition", "dcdh@5000"]) == 2
    assert "--definition goes with --data" in capsys.readouterr().err
