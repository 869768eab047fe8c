"""What a choice means, and that a wrong one is refused before work is done."""

import dataclasses
import types

import numpy as np
import pytest

import kerashash
from kerashash import evaluation
from kerashash.evaluation import mean_average_precision as mean_ap

CODES = np.array([[1, 1, 1], [1, 1, -1], [1, -1, -1]])


class Encoder:
    """Random codes, and a count of how often they were asked for."""

    bits = 16
    calls = 0
    learned = 1497

    def encode(self, dataset, batch_size=128, packed=True, verbose="auto"):
        self.calls += 1
        n = int(dataset.cardinality())
        return np.random.default_rng(n).integers(0, 256, (n, 2), dtype=np.uint8)

    def learned_codes(self):
        return np.ones((self.learned, 16), np.int8)


def test_the_same_name_is_the_same_number_everywhere(digits):
    model = Encoder()
    expected = mean_ap(
        model.encode(digits.query),
        digits.query_labels,
        model.encode(digits.database),
        digits.database_labels,
        bits=16,
        at=10,
    )
    assert kerashash.evaluate(model, digits, at=10)["mAP@10"] == expected
    callback = kerashash.callbacks.RetrievalEvaluation(digits, at=10)
    callback.set_model(
        types.SimpleNamespace(
            continuous_codes=lambda x, *_, **__: unpacked(model, x),
            _frozen_features=None,
        )
    )
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs["mAP@10"] == expected


def unpacked(model, dataset):
    return kerashash.codes.unpack(model.encode(dataset), 16).astype(np.float32)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"at": 0}, ValueError, "`at` must be between"),
        ({"at": 1498}, ValueError, "`at` must be between.*1497"),
        ({"protocol": "ddh-nuswide"}, ValueError, "`at` must be between.*5000"),
        ({"protocol": ["dcdh"]}, ValueError, "`protocol` must be one of"),
        ({"denominator": "first"}, ValueError, "`ties` must be 'stable'"),
        ({"denominator": "retrieved", "at": 5}, ValueError, "at=5 below 1497"),
        ({"protocol": "dcdh", "learned": 40}, ValueError, "1497 training.*with 40"),
    ],
)
def test_wrong_choice_is_refused_before_encoding(digits, options, error, message):
    model = Encoder()
    model.learned = options.pop("learned", 1497)
    with pytest.raises(error, match=message):
        kerashash.evaluate(model, digits, **options)
    assert model.calls == 0


def test_learned_codes_take_the_place_of_encoded_ones(digits):
    """Where the database has the training images, in the database's order."""
    model, rng = Encoder(), np.random.default_rng(0)
    splits = dict(digits.splits)
    order = rng.permutation(digits.num_train)
    # A part of the training images, in another order, is not in the database.
    splits["train"] = splits["train"][order]
    splits["database"] = splits["database"][100:]
    data = dataclasses.replace(digits, splits=splits)
    learned = rng.choice(np.array([-1, 1], np.int8), (digits.num_train, 16))
    model.learned_codes = lambda: learned
    of_image = dict(zip(splits["train"].tolist(), learned, strict=True))
    database = np.array([of_image[image] for image in splits["database"].tolist()])
    for database_choice, codes in (
        ("learned", database),
        ("encoded", unpacked(model, data.database)),
    ):
        result = kerashash.evaluate(model, data, "dcdh", database=database_choice)
        assert result["mAP@ALL"] == mean_ap(
            unpacked(model, data.query),
            data.query_labels,
            codes,
            data.database_labels,
            ties="stable",
        )


def test_protocols_are_those_of_their_papers():
    names = ("at", "denominator", "ties", "empty", "database")
    actual = {
        name: tuple(protocol[choice] for choice in names)
        for name, protocol in evaluation.PROTOCOLS.items()
    }
    assert actual == {
        "kerashash": (None, "min", "expected", "zero", "encoded"),
        "adalabelhash-cifar10": (None, "relevant", "stable", "zero", "encoded"),
        "adalabelhash-nuswide": (50_000, "retrieved", "stable", "zero", "encoded"),
        "dcdh": (None, "relevant", "stable", "zero", "learned"),
        "dcdh@5000": (5_000, "retrieved", "stable", "zero", "learned"),
        "ddh-cifar10": (1_000, "retrieved", "stable", "skip", "encoded"),
        "ddh-nuswide": (5_000, "retrieved", "stable", "skip", "encoded"),
        "dsre-cifar10": (None, "relevant", "stable", "zero", "encoded"),
        "dsre-nuswide": (5_000, "retrieved", "stable", "zero", "encoded"),
        "dsre-nuswide-full": (50_000, "retrieved", "stable", "zero", "encoded"),
    }


def test_class_ids_may_be_any_large_number():
    labels = [7, 10**15, 7]
    for ties in ("expected", "stable"):
        assert mean_ap(CODES[:1], [7], CODES, labels, ties=ties) == pytest.approx(5 / 6)


@pytest.mark.parametrize("ties", ["best", "worst", "expected"])
def test_retrieved_has_no_closed_form_below_the_database_size(ties):
    ranked = (CODES[:1], [1], CODES, [1, 0, 1])
    options = {"denominator": "retrieved", "ties": ties}
    assert mean_ap(*ranked, **options) == pytest.approx(5 / 6)
    with pytest.raises(ValueError, match="`ties` must be 'stable' with"):
        mean_ap(*ranked, at=2, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mean_ap(CODES, [0, 1, -1], CODES, [0, 1, 1]), ValueError, "least 0"),
        (lambda: mean_ap(CODES, [0.0] * 3, CODES, [0] * 3), ValueError, "integer"),
        (
            lambda: evaluation.precision_recall(CODES, [0] * 3, CODES, [0] * 3, at=2),
            TypeError,
            "`at` must be a list",
        ),
        *(
            (
                lambda at=at: evaluation.precision_recall(
                    CODES, [0] * 3, CODES, [0] * 3, at=at
                ),
                TypeError,
                "`at` must be",
            )
            for at in ([None], [1, None], np.array(2), None, [2.0], [[1], [1, 2]])
        ),
        (lambda: rerank(radius=-1), ValueError, "`radius` must be at least 0"),
        (lambda: rerank(radius=True), TypeError, "`radius` must be an integer"),
        (lambda: rerank(radius="2"), TypeError, "`radius` must be an integer"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def rerank(radius):
    values = CODES * 0.5
    return evaluation.reranked_mean_average_precision(
        values, [0] * 3, values, [0] * 3, radius=radius
    )


def test_codes_give_what_their_model_gives(digits):
    model = Encoder()
    codes = model.encode(digits.query), model.encode(digits.database)
    result = evaluation.evaluate_codes(
        codes[0], digits.query_labels, codes[1], digits.database_labels, 16, at=10
    )
    assert result == kerashash.evaluate(model, digits, at=10)


# Relevance [1, 0, 1, 0, 1], no ties; R = 4; and a query without relevant items.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A", (1 + 2 / 3 + 3 / 5) / 3 / 2),
        ("A'", (1 + 2 / 3 + 3 / 5) / 3),
        ("B", (1 + 2 / 3) / 2 / 2),
        ("B'", (1 + 2 / 3) / 2),
        ("C", (1 + 2 / 3) / 3 / 2),
        ("D", (1 + 2 / 3) / 3 / 2),
        ("E", (1 + 2 / 3 + 3 / 5) / 3 / 2),
        ("F", (1 + 2 / 3) / 2 / 2),
        ("G", (1 + 2 / 3 + 3 / 5) / 3 / 2),
        # It halves both axes: the curve ends at recall 1 / 2.
        ("H", (1 + (1 / 2 + 2 / 3) / 2 + (1 / 2 + 3 / 5) / 2) / 3 / 4),
        ("I", (1 + 2 / 3 + 3 / 5) / 3 / 2),
    ],
)
def test_conventions_by_hand(name, expected):
    query = np.ones((2, 4))
    database = np.where(np.arange(4) < np.arange(5)[:, None], -1, 1)
    options = {"at": 4} if name[0] in "BCDE" else {}
    actual = evaluation.CONVENTIONS[name](
        query, [1, 7], database, [1, 0, 1, 0, 1], **options
    )
    assert actual == pytest.approx(expected)
