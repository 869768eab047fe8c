import json
import pathlib
import tomllib

import numpy as np
import pytest
from conftest import METRIC

from kerashash import cli, recipes, zoo
from kerashash.zoo import card_metrics, cards, front_matter

ROOT = pathlib.Path(__file__).parent.parent / "zoo"
CARDS = {
    path.parent.name: json.loads(path.read_text()) for path in ROOT.glob("*/card.json")
}
CARD = {"name": "dcdh-mine-48", "metrics": [{**METRIC, "value": 0.5}], "files": {}}


def test_every_entry_and_recipe_says_what_it_is():
    paths = [*ROOT.glob("*/recipe.toml"), *ROOT.glob("recipes/*.toml")]
    tables = [tomllib.loads(path.read_text())["entry"] for path in paths]
    assert len(tables) > len(CARDS) > 0
    for about in (*CARDS.values(), *tables):
        cards.check_texts(about, about["name"])
        assert set(cards.TRAINING_FACTS) <= set(about), about["name"]


def test_a_recipe_for_a_folder_says_what_it_is():
    entry = tomllib.loads(recipes.for_folder("photos", "dcdh"))["entry"]
    cards.check_texts(entry, "the recipe")
    assert set(cards.TRAINING_FACTS) <= set(entry)


def test_heads_are_called_heads():
    heads = {name for name, card in CARDS.items() if cards.head_of(card)}
    assert {"dsre-cifar10-12", "dcdh-full-cifar10-48"} <= heads
    assert not heads & {"adalabel-cifar10-48", "dcdh-ap-mirflickr-48"}
    table = (ROOT.parent / "docs" / "zoo-table.md").read_text().splitlines()
    for name in heads:
        assert "head" in CARDS[name]["backbone_trained_by"]
        recipe = tomllib.loads((ROOT / name / "recipe.toml").read_text())
        varies = "the head alone"
        if "seed" not in recipe["data"]:  # each seed draws its own splits
            varies = "the split, the backbone and the head"
        assert CARDS[name]["seeds_vary"].startswith(varies)
        assert f"**A head on the backbone of {cards.head_of(CARDS[name])}.**" in (
            (ROOT / name / "card.md").read_text()
        )
        (row,) = [line for line in table if line.startswith(f"| `{name}` ")]
        assert "| a head on that of `" in row


def test_entries_trained_with_more_images_say_that_fewer_did_better():
    alone, more = (
        CARDS[name]["metrics"][0]["by_seed"]
        for name in ("adalabel-5k-cifar10-48", "adalabel-semi-cifar10-48")
    )
    # Each pair has the same split and backbone.
    assert all(a > b for a, b in zip(alone, more, strict=True))
    for name in CARDS:
        if name.startswith("adalabel-semi-cifar10"):
            for values in (alone, more):
                assert f"{sum(values) / 3:.4f}" in CARDS[name]["note"]
            assert CARDS[name]["note"] in (ROOT / name / "card.md").read_text()


@pytest.mark.parametrize("field", [*cards.TRAINING_FACTS, "note"])
@pytest.mark.parametrize("value", [None, 3, " ", ["the head"]])
def test_what_a_card_says_of_the_training_is_a_text(field, value):
    with pytest.raises(ValueError, match=rf"a\.json must have a `{field}`"):
        cards.check({**CARD, field: value}, "a.json")
    cards.check({**CARD, field: "the head"}, "a.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 0),
        ("version", True),
        ("version", "2"),
        ("changes", {"version": 1}),
        ("changes", ["new"]),
        ("changes", [{"version": 2, "date": "2026-01-31", "text": "new"}]),
        ("changes", [{"version": 1, "date": "20260131", "text": "new"}]),
        ("changes", [{"version": 1, "date": "2026-01-32", "text": "new"}]),
        ("changes", [{"version": 1, "date": "2026-01-31"}]),
        ("backbone", {"of": 3}),
    ],
)
def test_versions_and_changes_are_checked(field, value):
    with pytest.raises(ValueError, match=rf"a\.json must have .*`{field}`.*Received"):
        cards.check({**CARD, field: value}, "a.json")


def test_a_card_shows_what_changed_the_newest_first():
    changes = [
        {"version": 1, "date": "2026-01-31", "text": "first"},
        {"version": 2, "date": "2026-03-01", "text": "codes of a larger backbone"},
    ]
    card = {**CARD, "version": 2, "changes": changes}
    cards.check(card, "a.json")
    text = cards.markdown(card)
    assert "- version: 2\n" in text
    new, old = (text.index(f"- version {n}, 2026") for n in (2, 1))
    assert new < old
    assert "version 2, 2026-03-01: codes of a larger backbone" in text


def test_card_md_is_made_from_card_json():
    for name, card in CARDS.items():
        text = (ROOT / name / "card.md").read_text()
        assert text == front_matter.model_card(card), name


def test_hubs_read_the_front_matter_of_every_entry():
    hub = pytest.importorskip("huggingface_hub")
    for name, card in CARDS.items():
        about = hub.ModelCard((ROOT / name / "card.md").read_text()).data
        measured = [m for m in card["metrics"] if m["value"] is not None]
        results = about.eval_results
        assert [r.metric_value for r in results] == [m["value"] for m in measured]
        assert [r.metric_type for r in results] == [m["name"] for m in measured]
        assert about.model_name == name
        assert about.library_name == "kerashash"
        assert about.license == "apache-2.0"
        assert about.datasets == [card["data"]["name"].replace("/", "-")]
        assert f"{card['bits']}-bit" in about.tags
        assert ("surrogate" in about.tags) == bool(card.get("surrogate"))
    of_head = front_matter.metadata(CARDS["dsre-cifar10-12"])
    assert of_head["base_model"] == ["adalabel-5k-cifar10-48"]
    of_columns = front_matter.metadata(CARDS["ddh-ldl-movie-128"])
    assert of_columns["pipeline_tag"] == "feature-extraction"
    assert "base_model" not in of_columns


def test_any_text_of_a_card_is_text_in_the_front_matter():
    hub = pytest.importorskip("huggingface_hub")
    awkward = [
        "yes",
        "1e3",
        "a: b",
        "- c",
        '"',
        "\n---\n",
        "é \x85\u2028\ufeff",
        "#",
        "",
    ]
    for text in awkward:
        metric = {**METRIC, "name": text, "value": 1e-7}
        card = {**CARD, "metrics": [metric], "data": {"name": text}, "method": text}
        cards.check(card, "a.json")
        about = hub.ModelCard(front_matter.model_card(card)).data
        assert about.eval_results[0].metric_type == text
        assert about.eval_results[0].metric_value == 1e-7
        assert about.datasets == [text]
        assert about.license is None
    for licence, expected in [("MIT", "mit"), ("Apache-2.0 (x)", "apache-2.0")]:
        assert (
            front_matter.metadata({**CARD, "licence": licence})["license"] == expected
        )
    assert front_matter.metadata({**CARD, "licence": "ask us"})["license"] == "other"


def test_a_metric_that_was_not_measured_is_not_in_the_model_index():
    card = {**CARD, "metrics": [{**METRIC, "value": None}]}
    about = front_matter.metadata(card)
    assert "model-index" not in about
    assert about["metrics"] == ["mAP@ALL"]


def test_info_prints_the_card_without_front_matter(capsys):
    assert cli.main(["zoo", "info", "dsre-cifar10-12"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# dsre-cifar10-12\n")
    assert text == cards.markdown(zoo.entry("dsre-cifar10-12").card)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"At": 5}, r"'mAP@ALL' must have no other keys.*Received: .*At"),
        ({"k": 5}, r"no other keys.*Received: .*k"),
        ({"at": 5}, r"`metrics.name` must be one of \['mAP@5', .*at=5.*'mAP@ALL'"),
        ({"name": "accuracyy"}, r"`metrics.name` must be one of \['mAP@ALL', 'cheb"),
        ({"ties": "bogus"}, r"`metrics.ties` must be one of"),
        ({"first_labels": [1]}, r"`metrics.first_labels` must be an integer"),
        ({"measured": "no"}, r"`metrics.measured` must be true or false"),
    ],
)
def test_metrics_say_what_is_measured(change, message):
    metric = {**METRIC, **change}
    with pytest.raises((TypeError, ValueError), match=message):
        card_metrics.check([METRIC, metric])
    with pytest.raises((TypeError, ValueError), match=message):
        card_metrics.check_recipe([METRIC, metric])


def test_more_may_be_said_of_a_measured_metric():
    measured = {**METRIC, "on": "MIRFlickr", "value": 0.5, "by_seed": [0.5, 0.6]}
    none = {"name": "mAP@ALL of the real images", "measured": False}
    card_metrics.check([measured, none])
    card_metrics.check_recipe([METRIC, none])
    for key in ("on", "value", "by_seed"):
        with pytest.raises(ValueError, match=rf"must have no other keys.*\['{key}'\]"):
            card_metrics.check_recipe([{**METRIC, key: measured[key]}])


def test_metrics_of_earlier_cards_are_measured_as_ever():
    rows = np.eye(3, dtype=np.uint8)
    codes = {"query_codes": rows[:, :1], "query_labels": rows}
    codes |= {"database_codes": rows[:, :1], "database_labels": rows}
    metric = {**METRIC, "name": "mAP", "at": 3, "runs": 7}
    (value,) = card_metrics.measure([metric], codes, bits=8)
    expected = [METRIC | {"name": "mAP@3", "at": 3}]
    assert [value] == card_metrics.measure(expected, codes, bits=8)
