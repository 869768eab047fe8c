import itertools

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import kerashash
from kerashash import evaluation
from kerashash.evaluation import mean_average_precision as mean_ap
from kerashash.evaluation import tied_ranks

# One query, ranked: relevance [1, 0, 1, 0 | 1, 0] at distances 0 to 5.
QUERY = np.ones((1, 5), np.int8)
DATABASE = np.where(np.arange(5) < np.arange(6)[:, None], -1, 1).astype(np.int8)
LABELS = np.array([1, 0, 1, 0, 1, 0])
RANKED = (QUERY, [1], DATABASE, LABELS)
S4 = 1 + 2 / 3
S6 = S4 + 3 / 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"denominator": "relevant"}, S6 / 3),  # A
        ({"at": 4, "denominator": "retrieved"}, S4 / 2),  # B
        ({"at": 4, "denominator": "min"}, S4 / 3),  # C
        ({"at": 4, "denominator": "relevant"}, S4 / 3),  # D
        ({"at": 2, "denominator": "min"}, 1 / 2),  # C with R below the relevant
        ({"at": 2, "denominator": "relevant"}, 1 / 3),  # D
        ({"at": 2, "denominator": "first"}, S4 / 2),  # E
    ],
)
def test_definitions_by_hand(options, expected):
    assert mean_ap(*RANKED, ties="stable", **options) == pytest.approx(expected)
    if options["denominator"] not in ("first", "retrieved"):
        # No ties here: their rule makes no difference.
        for ties in ("best", "worst"):
            assert mean_ap(*RANKED, ties=ties, **options) == pytest.approx(expected)


def test_queries_without_relevant_items_count_or_are_skipped():  # A', B'
    queries, labels = np.repeat(QUERY, 2, 0), [1, 7]
    ranked = (queries, labels, DATABASE, LABELS)
    assert mean_ap(*ranked, ties="stable") == pytest.approx(S6 / 6)
    assert mean_ap(*ranked, ties="stable", empty="skip") == pytest.approx(S6 / 3)
    assert mean_ap(queries, [7, 7], DATABASE, LABELS, empty="skip") == 0.0


def test_reranking_by_continuous_codes():  # F, G
    query = [[1.0, 1.0]]
    database = [[0.1, 0.1], [0.9, 0.9], [0.5, -0.1], [0.5, -0.9], [-1.0, -1.0]]
    ranked = (query, [1], database, [0, 1, 0, 1, 1])
    # Order 1, 0, 2, 3, 4: relevance [1, 0, 0, 1, 1].
    rerank = evaluation.reranked_mean_average_precision
    assert rerank(*ranked) == pytest.approx((1 + 2 / 4 + 3 / 5) / 3)
    # Within radius 1, by inner product: 1, 2, 0, 3 with 0.4, 0.2, -0.4.
    assert rerank(*ranked, radius=0) == pytest.approx(1.0)
    assert rerank(*ranked, radius=1) == pytest.approx((1 + 2 / 4) / 2)
    far = ([[1.0, -1.0]], [1], [[-1.0, 1.0]], [1])
    assert rerank(*far, radius=1) == 0.0


@pytest.mark.parametrize("bits", [8, 32, 48, 63])
def test_equal_items_are_in_order_and_no_query_changes_another(rng, bits):  # F, G
    queries = rng.normal(size=(9, bits)).astype(np.float32)
    database, labels = np.repeat(queries[:1], 41, axis=0), rng.integers(0, 2, 41)
    ranks = np.flatnonzero(labels) + 1
    expected = (np.arange(1, len(ranks) + 1) / ranks).mean()
    for radius in (None, bits):
        for n in range(1, 10):
            found = evaluation.reranked_mean_average_precision(
                queries[:n], [1] * n, database, labels, radius=radius
            )
            assert found == pytest.approx(expected, abs=1e-12)


def test_continuous_codes_keep_their_signs():  # F, G
    # The first item has the larger product, and is farther by a bit.
    ranked = [[1.0, 1.0]], [1], [[9.0, -1e-50], [1e-60, 1e-50]], [0, 1]
    for radius in (None, 0):
        found = evaluation.reranked_mean_average_precision(*ranked, radius=radius)
        assert found == 1.0


def test_area_under_the_radius_curve_by_hand():  # H
    # Precision 1, 1/2, 2/3, 1/2, 3/5, 1/2 at recall 1/3, 1/3, 2/3, 2/3, 1, 1.
    expected = (1 + 0 + (1 / 2 + 2 / 3) / 2 + 0 + (1 / 2 + 3 / 5) / 2 + 0) / 3
    assert evaluation.area_under_radius_curve(*RANKED) == pytest.approx(expected)


def permuted(distances, relevance, at, denominator):
    """AP of all orders of tied items."""
    groups = [np.flatnonzero(distances == d) for d in np.unique(distances)]
    values = []
    for order in itertools.product(*(itertools.permutations(g) for g in groups)):
        ranked = relevance[np.concatenate(order)][:at]
        precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
        values.append((precision * ranked).sum() / denominator)
    return values


@settings(max_examples=60, deadline=None)
@given(
    distances=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    bits=st.integers(0, 63),
    at=st.integers(1, 6),
)
def test_ties_equal_all_permutations(distances, bits, at):  # I
    n = len(distances)
    at = min(at, n)
    relevance = np.array([bits >> i & 1 for i in range(n)], bool)
    codes = np.where(np.arange(3) < np.array(distances)[:, None], -1, 1)
    ranked = (np.ones((1, 3)), [1], codes, relevance.astype(int))
    denominator = max(1, min(int(relevance.sum()), at))
    values = permuted(np.array(distances), relevance, at, denominator)
    for ties, expected in (
        ("expected", np.mean(values)),
        ("best", max(values)),
        ("worst", min(values)),
    ):
        assert mean_ap(*ranked, at=at, ties=ties) == pytest.approx(expected, abs=1e-9)


def test_expected_equals_monte_carlo_on_a_larger_ranking(rng):
    query, database = rng.choice([-1, 1], (1, 4)), rng.choice([-1, 1], (200, 4))
    labels = rng.integers(0, 2, 200)
    distances = (query != database).sum(axis=1)
    shuffled = rng.permuted(np.tile(np.arange(200), (4000, 1)), axis=1)
    order = np.lexsort((shuffled, np.broadcast_to(distances, shuffled.shape)))
    sums, retrieved = tied_ranks.stable_sums(labels[order] == 1, at=200)
    values = sums / retrieved
    assert mean_ap(query, [1], database, labels) == pytest.approx(
        np.mean(values), abs=1e-3
    )


def test_blocks_make_no_difference(rng, monkeypatch):
    ranked = (
        rng.choice([-1, 1], (23, 10)),
        rng.integers(0, 3, 23),
        rng.choice([-1, 1], (40, 10)),
        rng.integers(0, 3, 40),
    )
    whole = [mean_ap(*ranked, ties=t) for t in ("expected", "stable")]
    curve = evaluation.precision_recall(*ranked, at=[3, 40])
    monkeypatch.setattr("kerashash.evaluation.average_precision._BLOCK", 100)
    monkeypatch.setattr("kerashash.evaluation.counts._BYTES", 136)
    assert [mean_ap(*ranked, ties=t) for t in ("expected", "stable")] == whole
    for name, values in evaluation.precision_recall(*ranked, at=[3, 40]).items():
        np.testing.assert_array_equal(values, curve[name])


def test_multi_label_relevance_is_to_share_one():
    codes = np.ones((3, 4))
    rows = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert mean_ap(codes[:1], [[1, 1, 0]], codes, rows, ties="best") == 1.0
    none = mean_ap(codes[:1], [[0, 0, 0]], codes, rows)
    assert none == 0.0


def test_precision_and_recall_by_hand():
    curve = evaluation.precision_recall(*RANKED, at=[1, 4])
    np.testing.assert_allclose(curve["precision_at"], [1, 1 / 2])
    np.testing.assert_allclose(curve["recall_at"], [1 / 3, 2 / 3])
    np.testing.assert_allclose(
        curve["precision_within"], [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5, 1 / 2]
    )
    np.testing.assert_allclose(
        curve["recall_within"], [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1]
    )
    # An empty ball has precision 0.
    curve = evaluation.precision_recall(QUERY, [1], -QUERY, [1])
    assert curve["precision_within"].tolist() == [0, 0, 0, 0, 0, 1]


def test_retrieved_relevant_of_ties():
    total, relevant = np.array([[2, 4]]), np.array([[1, 3]])
    for ties, expected in (("expected", 1 + 1.5), ("best", 3), ("worst", 2)):
        assert tied_ranks.retrieved_relevant(total, relevant, 4, ties) == expected


def test_evaluate_states_its_definition(digits):
    model = kerashash.AdaLabelHash("features", bits=16, num_classes=10)
    result = kerashash.evaluate(model, digits)
    codes = model.encode(digits.query), model.encode(digits.database)
    assert result["mAP@ALL"] == mean_ap(
        codes[0], digits.query_labels, codes[1], digits.database_labels, bits=16
    )
    near = kerashash.HammingRanker(codes[1], 16).distances(codes[0]) <= 2
    relevant = digits.query_labels @ digits.database_labels.T > 0
    precision = (near & relevant).sum(axis=1) / np.maximum(near.sum(axis=1), 1)
    assert result["P@H<=2"] == pytest.approx(precision.mean())
    worst, best = (
        result[f"mAP@ALL ({name} order of ties)"] for name in ("worst", "best")
    )
    assert worst < result["mAP@ALL"] < best
    assert result["definition"]["ties"] == "expected"
    assert result["definition"]["database size"] == 1497

    result = kerashash.evaluate(model, digits, "ddh-cifar10")
    assert "mAP@1000" in result
    assert result["definition"]["denominator"] == "retrieved"
    assert "mAP@10" in kerashash.evaluate(model, digits, at=10)
    with pytest.raises(ValueError, match="learns no codes"):
        kerashash.evaluate(model, digits, "dcdh")


@pytest.mark.parametrize("name", evaluation.PROTOCOLS)
def test_every_protocol_can_be_computed(name):
    choices = evaluation.PROTOCOLS[name]
    options = {k: choices[k] for k in ("denominator", "ties", "empty")}
    assert 0 < mean_ap(*RANKED, at=choices["at"] and 6, **options) <= 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"bits": 4}, ValueError, "`query_codes`.*bits=4"),
        ({"at": 0}, ValueError, "`at` must be between 1 and the database size 6"),
        ({"at": 7}, ValueError, "`at` must be between.*at=7"),
        ({"at": 2.0}, TypeError, "`at` must be an integer"),
        ({"denominator": "all"}, ValueError, "`denominator` must be one of.*'all'"),
        ({"ties": "random"}, ValueError, "`ties` must be one of"),
        ({"empty": "one"}, ValueError, "`empty` must be one of"),
        ({"at": 3, "denominator": "retrieved"}, ValueError, "`ties` must be 'stable'"),
        ({"denominator": "first"}, ValueError, "`ties` must be 'stable'"),
        ({"query_labels": [1, 2]}, ValueError, "`query_labels`.*one row for each"),
        ({"database_labels": LABELS[:3]}, ValueError, "`database_labels`.*6 inputs"),
        ({"query_labels": [[1, 0]]}, ValueError, "same number of classes"),
        ({"query_labels": [np.nan]}, ValueError, "`query_labels`"),
        ({"query_labels": ["cat"]}, ValueError, "`query_labels`"),
        ({"database_codes": DATABASE[:, :4]}, ValueError, "`database_codes`.*bits=5"),
        ({"database_codes": DATABASE * 2}, ValueError, "`database_codes`.*-1 and"),
        ({"query_codes": QUERY[:0]}, ValueError, "`query_codes`.*at least one row"),
    ],
)
def test_bad_input_is_named(change, error, message):
    names = ("query_codes", "query_labels", "database_codes", "database_labels")
    with pytest.raises(error, match=message):
        mean_ap(**{**dict(zip(names, RANKED, strict=True)), **change})


def test_unknown_protocol_is_named(digits):
    with pytest.raises(ValueError, match="`protocol` must be one of"):
        kerashash.evaluate(None, digits, "coco")
    with pytest.raises(TypeError, match=r"`\*\*choices` must be among"):
        kerashash.evaluate(None, digits, R=10)
    for model in (None, "adalabel-cifar10-48", np.eye(2)):
        with pytest.raises(TypeError, match="`model` must be a HashModel"):
            kerashash.evaluate(model, digits, at=np.int64(10))
    definition = evaluation.evaluate_codes(*RANKED, at=np.int64(3))["definition"]
    assert type(definition["at"]) is int  # as JSON takes it


def test_svm_accuracy_counts_right_labels():
    # The first bit tells the class of all rows but the last of the test.
    codes = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    rows = codes, [0, 0, 1, 1]
    test = codes, np.eye(2)[[0, 0, 1, 0]]
    assert evaluation.svm_accuracy(rows, rows, test) == 3 / 4
    packed = (kerashash.codes.pack(codes), [0, 0, 1, 1])
    assert evaluation.svm_accuracy(packed, packed, packed, bits=2) == 1.0
    with pytest.raises(ValueError, match="`test` must have one label for each row"):
        evaluation.svm_accuracy(rows, rows, (codes, np.ones((4, 2))))
    with pytest.raises(ValueError, match=r"`validation` must .* shape \(3,\)"):
        evaluation.svm_accuracy(rows, (codes, [0, 0, 1]), rows)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (([[1, 1], [1, -1]], [1, 1]), "two classes or more"),
        ((np.zeros((0, 2)), np.zeros(0, int)), "must have codes"),
        (([[1, 1], [1, -1]], [0.0, np.nan]), "integer class ids or label rows"),
        (([[1, 1], [1, -1]], [[1, 0], [0, 2]]), "must contain only 0, 1"),
        (([[1, 1], [1, -1]], [[1, 0], [1]]), "must be one array"),
        (([[1, 1], [1, -1]], [0, -1]), "class ids of at least 0. Received: -1"),
    ],
)
def test_svm_accuracy_names_what_it_cannot_learn_from(train, message):
    rows = [[1, 1], [1, -1]], [0, 1]
    with pytest.raises(ValueError, match=f"`train` .*{message}"):
        evaluation.svm_accuracy(train, rows, rows)


@pytest.mark.parametrize(
    ("database", "labels", "expected"),
    [
        # Nothing relevant within radius 0 or 1: the curve starts at precision 0.
        ([[1, 1, 1], [-1, -1, 1]], [0, 1], 0.25),
        # Nothing at all within radius 0 or 1: it starts at radius 2.
        ([[-1, -1, 1], [-1, -1, 1]], [0, 1], 0.5),
        ([[1, 1, 1], [-1, -1, 1]], [0, 0], 0.0),
    ],
)
def test_radii_of_irrelevant_items_count(database, labels, expected):
    area = evaluation.area_under_radius_curve([[1, 1, 1]], [1], database, labels)
    assert area == pytest.approx(expected)


@pytest.mark.parametrize("multiple", [False, True])
def test_pairwise_labels_are_right_where_two_images_share_a_label(rng, multiple):
    n = 40
    similar = rng.random((n, n)) < 0.2
    similar |= similar.T
    if multiple:
        labels = (rng.random((n, 5)) < 0.2).astype(np.uint8)  # some have none
        share = labels @ labels.T > 0
    else:
        labels = rng.integers(0, 5, n)
        share = labels[:, None] == labels
    others = ~np.eye(n, dtype=bool)
    expected = {
        "precision": share[similar & others].mean(),
        "recall": similar[share & others].mean(),
        "similar": (similar & others).sum() / n,
    }
    for diagonal in (False, True):
        np.fill_diagonal(similar, diagonal)
        found = evaluation.pairwise_label_precision(
            scipy.sparse.csr_array(similar), labels
        )
        assert found == pytest.approx(expected)


def test_no_pairs_have_no_precision():
    nothing = scipy.sparse.csr_array((3, 3), dtype=bool)
    assert evaluation.pairwise_label_precision(nothing, [0, 1, 2]) == {
        "precision": 0.0,
        "recall": 0.0,
        "similar": 0.0,
    }
    with pytest.raises(ValueError, match="`similar` must have shape"):
        evaluation.pairwise_label_precision(nothing[:2], [0, 1])
    twice = scipy.sparse.csr_array(
        (np.ones(4, bool), np.array([1, 1, 0, 0]), np.array([0, 2, 4])), shape=(2, 2)
    )
    listed = (np.ones(4, int), ([0, 0, 1, 1], [1, 1, 0, 0]))
    for pairs in (twice, scipy.sparse.coo_array(listed, shape=(2, 2))):
        assert evaluation.pairwise_label_precision(pairs, [0, 0])["recall"] == 1.0
    with pytest.raises(ValueError, match="`similar` must hold 0 and 1"):
        evaluation.pairwise_label_precision(np.full((2, 2), np.nan), [0, 1])
    with pytest.raises(ValueError, match="`similar` must have shape"):
        evaluation.pairwise_label_precision([1, 2], [0, 1])
    with pytest.raises(ValueError, match="`similar` must have shape"):
        evaluation.pairwise_label_precision(np.zeros((0, 0)), [])
    with pytest.raises(
        ValueError, match="`labels` must have one row for each of the 3"
    ):
        evaluation.pairwise_label_precision(nothing, [0, 1])


def test_pairs_are_similar_or_not():
    """DDH's S has -1 for pairs that are not, and no image has 3 others here."""
    signs = np.where(np.eye(4) + np.eye(4)[::-1] > 0, 1, -1)
    for wrong in (signs, signs * 1.0, 2 * np.eye(4), 0.5 * np.eye(4)):
        for make in (np.array, scipy.sparse.csr_array, scipy.sparse.coo_array):
            with pytest.raises(
                ValueError, match=r"`similar` must hold 0 and 1.* values"
            ):
                evaluation.pairwise_label_precision(make(wrong), [0, 1, 1, 0])
    for right in (signs > 0, 1 * (signs > 0), scipy.sparse.csr_array(signs > 0)):
        found = evaluation.pairwise_label_precision(right, [0, 1, 1, 0])
        assert found == {"precision": 1.0, "recall": 1.0, "similar": 1.0}
