"""Numbers of every type give what the same numbers give in float64, in every function
of `kerashash.maths`; and what is no number is named."""

import inspect

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

from kerashash import maths
from kerashash.maths import (
    communities,
    conditional,
    cosdish,
    discrete,
    entropy,
    factorization,
    fasth,
    itq,
    kernels,
    ksh,
    label_graph,
    lfh,
    losses,
    projections,
    sdh,
    similarity,
    spectral,
    spherical,
    svr,
)
from kerashash.retrieval import hashed_distribution, knn_distribution

RNG = np.random.default_rng(0)
# Whole numbers, which every type holds.
X, Y = RNG.integers(-3, 4, (6, 4)), RNG.integers(-3, 4, (6, 3))
B, C = RNG.choice([-1, 1], (6, 4)), RNG.choice([-1, 1], (3, 4))
LABELS = np.eye(3)[[0, 1, 2, 0, 1, 2]]
SHARE = LABELS @ LABELS.T
GRAM = X.T @ X
SIGNED = 2 * SHARE - 1
BINS, CUTS = fasth.quantize(X)
TREES = fasth.boosted_trees(BINS, CUTS, B[:, 0], 2, 2, 2, np.random.default_rng(0))
WEIGHTS = {
    "kernel": X[:4, :2],
    "label": X[4, :2],
    "bias": X[5, :2],
    "output": Y[0, :2],
    "places": Y[1],
}
P = LABELS[0]
PATTERNS = similarity.LabelSimilarity(LABELS, balanced=True)


def of_weights(x, **weights):
    return conditional.conditional_logits(x, weights)


def gradients_of(x, d, **weights):
    return conditional.divergence_and_gradients(x, d, weights)


def bit_of(costs, bit):
    blocks, random = [[0, 3], [1, 4], [2, 5]], np.random.default_rng(0)
    return fasth.infer_bit(scipy.sparse.csr_array(costs), blocks, bit, 2, random)


def trees_of(bins, cuts, bit):
    return fasth.boosted_trees(bins, cuts, bit, 2, 2, 2, np.random.default_rng(0))


def blocks_of(d):
    return list(label_graph.adjacency_blocks(d))


def similarity_of(labels):
    return similarity.LabelSimilarity(labels, balanced=True).patterns


#: Arrays of each function, and its other arguments. An array that must have integers
#: is among the others.
CASES = {
    communities.find_communities: ({"weights": SHARE}, {}),
    communities.modularity: ({"weights": SHARE}, {"groups": [0, 1, 2, 0, 1, 2]}),
    of_weights: ({"x": X, **WEIGHTS}, {}),
    gradients_of: ({"x": X, "d": LABELS, **WEIGHTS}, {}),
    conditional.resilient_step: (
        {"value": X, "gradient": 40 * X, "last": 2 * X[::-1], "steps": X**2 + 1},
        {},
    ),
    cosdish.pair_error: ({"similarity": X[:, :3], "codes": B, "sampled": C}, {}),
    cosdish.other_codes: ({"similarity": X[:, :3], "codes": B, "sampled": C}, {}),
    cosdish.sampled_codes: (
        {"between": X[:, :3], "within": SIGNED[:3, :3], "codes": B, "sampled": C},
        {},
    ),
    discrete.code_objective: ({"codes": B, "gram": GRAM, "target": X}, {}),
    discrete.dcc: ({"codes": B, "gram": GRAM, "target": X}, {}),
    discrete.label_rotation: ({"continuous": X, "labels": LABELS}, {}),
    discrete.procrustes_rotation: ({"codes": B, "continuous": X}, {}),
    discrete.ridge: ({"x": X, "y": Y}, {"penalty": 1.0}),
    discrete.sign: ({"x": X}, {}),
    entropy.likelihood: ({"g": X, "d": LABELS, "weights": Y[:4]}, {}),
    entropy.scaling_step: ({"g": X, "d": LABELS, "weights": Y[:4]}, {}),
    factorization.similarity_codes: ({"labels": LABELS}, {"bits": 3}),
    trees_of: ({"cuts": CUTS.round(), "bit": B[:, 0]}, {"bins": BINS}),
    fasth.draw_pairs: ({"labels": LABELS}, {"pairs": 2, "seed": 0}),
    fasth.hinge_loss: ({"similar": P}, {"distances": [1, 2, 3], "bits": 6}),
    fasth.pair_costs: ({"similar": P}, {"distances": [1, 2, 3], "bits": 6}),
    bit_of: ({"bit": B[:, 0]}, {"costs": np.int8(-2 * SHARE + 2 * np.eye(6))}),
    fasth.quantize: ({"x": X}, {}),
    fasth.tree_sums: ({"x": X}, {"trees": TREES}),
    itq.quantization_loss: ({"v": X, "rotation": np.eye(4)}, {}),
    itq.rotation_step: ({"v": X, "rotation": np.eye(4)}, {}),
    kernels.squared_distances: ({"x": X, "anchors": X[:2]}, {}),
    kernels.gaussian: ({"x": X, "anchors": X[:2]}, {"precision": 0.1}),
    kernels.choose_anchors: ({"x": X}, {"anchors": 3, "bandwidth": 1.0, "seed": 0}),
    ksh.pair_residual: ({"similarity": SIGNED, "codes": B}, {"bits": 100}),
    ksh.best_direction: ({"kernel": X[:, :1], "residual": SIGNED}, {}),
    label_graph.aggregate: ({"d": LABELS, "x": X}, {}),
    blocks_of: ({"d": LABELS}, {}),
    label_graph.graph_product: ({"d": LABELS, "x": X}, {"threshold": 0.5}),
    label_graph.relation_loss: ({"h": X, "d": LABELS}, {"threshold": 0.5}),
    lfh.factor_step: (
        {"u": X, "similar": SHARE[:, :3]},
        {"columns": [0, 1, 2], "beta": 1.0},
    ),
    lfh.negative_log_likelihood: (
        {"u": X, "similar": SHARE[:, :3]},
        {"columns": [0, 1, 2], "beta": 1.0},
    ),
    losses.average_precision_loss: (
        {"u": B, "codes": C, "similar": SHARE[:, :3], "counts": P + 1},
        {},
    ),
    losses.bit_balance: ({"u": X}, {}),
    losses.codeword_hinge: ({"labels": LABELS, "scores": Y}, {}),
    losses.cross_entropy: ({"labels": LABELS, "logits": Y}, {}),
    losses.js_divergence: ({"p": P, "q": P[::-1]}, {}),
    losses.kl_divergence: ({"p": P, "q": P[::-1]}, {}),
    losses.log_cosh_quantization: ({"u": X}, {}),
    losses.pairwise_likelihood: ({"u": X, "similar": SHARE, "weights": SHARE + 1}, {}),
    losses.sigmoid_focal: ({"labels": LABELS, "logits": Y}, {}),
    losses.similarity_regression: (
        {
            "u": X,
            "code_gram": GRAM,
            "similarity_codes": B,
            "similarity_squares": X[:, 0] ** 2,
        },
        {"n": 6},
    ),
    losses.softmax_focal: ({"labels": LABELS, "logits": Y}, {}),
    losses.squared_hinge: ({"labels": LABELS, "scores": Y}, {}),
    losses.triplet_hinge: ({"u": X, "similar": SHARE}, {}),
    losses.triplet_likelihood: ({"u": X, "similar": SHARE}, {}),
    projections.principal_components: ({"x": X}, {"dim": 2}),
    projections.ridge_regression: ({"x": X, "y": Y}, {"penalty": 1.0}),
    projections.signs: ({"x": X}, {}),
    sdh.classifier_step: ({"codes": B, "labels": LABELS}, {"penalty": 1.0}),
    sdh.code_step: (
        {"codes": B, "labels": LABELS, "classifier": Y[:4], "continuous": X},
        {"fit_weight": 1.0},
    ),
    sdh.sdh_objective: (
        {"codes": B, "labels": LABELS, "classifier": Y[:4], "continuous": X},
        {"penalty": 1.0, "fit_weight": 1.0},
    ),
    similarity_of: ({"labels": LABELS}, {}),
    PATTERNS.sum_by_pattern: ({"rows": 40 * X}, {}),
    PATTERNS.product: ({"labels": LABELS, "pattern_sums": X[:3]}, {}),
    PATTERNS.square_sum: ({"labels": LABELS}, {}),
    similarity.expanded_neighbours: ({"features": X}, {"neighbours": 2, "lists": 2}),
    similarity.gaussian_affinity: ({"x": X}, {}),
    similarity.may_share_label: ({"labels": -LABELS, "other_labels": LABELS}, {}),
    similarity.nearest_neighbours: ({"features": X}, {"k": 2}),
    similarity.neighbourhood_agreement: ({"first": SHARE, "second": SHARE[::-1]}, {}),
    similarity.shares_label: ({"labels": LABELS, "other_labels": LABELS}, {}),
    similarity.squared_distances: ({"x": X}, {}),
    similarity.student_t_affinity: ({"u": X}, {}),
    spectral.smoothest_modes: ({"ranges": X[:, 0] ** 2}, {"bits": 3}),
    spherical.first_pivots: ({"x": X}, {"bits": 2, "seed": 0}),
    spherical.move: ({"pivots": X, "overlaps": SHARE}, {}),
    spherical.spheres: ({"x": X, "pivots": X[:2]}, {}),
    svr.svr_objective: (
        {"kernel": SHARE, "targets": Y, "beta": X[:, :3], "bias": P},
        {"penalty": 2.0, "epsilon": 0.1},
    ),
    svr.svr_step: (
        {"kernel": SHARE, "targets": Y, "beta": X[:, :3], "bias": P},
        {"penalty": 2.0, "epsilon": 0.1},
    ),
    knn_distribution: ({"queries": X, "x": X[::-1], "d": LABELS}, {"k": 2}),
    hashed_distribution: ({"queries": B, "codes": B[::-1], "d": LABELS}, {"k": 2}),
}
FUNCTIONS = pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
TYPES = {
    "float16": lambda a: a.astype(np.float16),
    "int8": lambda a: a.astype(np.int8),
    "int64": lambda a: a.astype(np.int64),
    "uint8": lambda a: a.astype(np.uint8),
    "bool": lambda a: a.astype(bool),
    "list": lambda a: a.tolist(),
    "list of integers": lambda a: a.astype(int).tolist(),
    "tensor": lambda a: tf.constant(a, tf.float32),
    "frame": lambda a: pd.DataFrame(a) if a.ndim == 2 else pd.Series(a),
}


def parts(result):
    """The arrays and numbers of a result."""
    if isinstance(result, dict):
        result = tuple(result.values())
    if isinstance(result, tuple | list):
        return [part for value in result for part in parts(value)]
    if scipy.sparse.issparse(result):
        result = result.toarray()
    return [np.asarray(result).astype(np.float64)]


@FUNCTIONS
def test_every_type_of_number_gives_the_same(function):
    arrays, others = CASES[function]
    arrays = {name: np.asarray(a, np.float64) for name, a in arrays.items()}
    expected = parts(function(**arrays, **others))
    assert all(np.isfinite(value).all() for value in expected)
    for name, array in arrays.items():
        for kind, convert in TYPES.items():
            if kind in ("bool", "uint8") and (array < 0).any():
                continue
            if kind == "bool" and (array.max() > 1 or name == "d"):
                continue
            actual = parts(function(**arrays | {name: convert(array)}, **others))
            assert len(actual) == len(expected)
            for value, right in zip(actual, expected, strict=True):
                # Of float16, results may be; and L-BFGS ends a little elsewhere.
                rough = kind == "float16" or function is ksh.best_direction
                tolerance = 2e-3 if rough else 2e-5
                np.testing.assert_allclose(
                    value,
                    right,
                    rtol=tolerance,
                    atol=tolerance * max(1, abs(right).max(initial=0)),
                    err_msg=f"{name}: {kind}",
                )


@FUNCTIONS
def test_what_is_no_number_is_named(function):
    arrays, others = CASES[function]
    arrays = {name: np.asarray(a, np.float64) for name, a in arrays.items()}
    for name in arrays:
        with pytest.raises((TypeError, ValueError), match=f"`{name}` must"):
            function(**arrays | {name: np.full(arrays[name].shape, "a")}, **others)


NAN, INF = float("nan"), float("inf")
CODES, ONES = np.ones((2, 4), np.int8), np.ones((2, 2))


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (
            cosdish.sampled_codes,
            (ONES, [[1, -1], [1, 1]], CODES, CODES),
            "`within` must be sy",
        ),
        (
            cosdish.sampled_codes,
            (ONES * NAN, ONES, CODES, CODES),
            "`between` must be finite",
        ),
        (
            cosdish.sampled_codes,
            (ONES, ONES * NAN, CODES, CODES),
            "`within` must be finite",
        ),
        (
            cosdish.sampled_codes,
            (ONES, ONES, CODES, CODES * 0),
            "`sampled` must contain only",
        ),
        (
            cosdish.other_codes,
            (ONES * NAN, CODES, CODES),
            "`similarity` must be finite",
        ),
        (itq.rotation_step, ([[1.0, INF], [2.0, 3.0]], np.eye(2)), "`v` must be fin"),
        (itq.rotation_step, (np.full((9, 2), 1e308), np.eye(2)), "`v` must hold numbe"),
        (itq.rotation_step, (np.zeros((0, 2)), np.eye(2)), "`v` must have rows"),
        (itq.rotation_step, (np.eye(2), np.eye(3)), r"`rotation` must have shape \(2,"),
        (projections.principal_components, (np.zeros((0, 3)), 1), "`x` must have rows"),
        (projections.principal_components, (np.eye(3) * 1e200, 1), "`x` must hold num"),
        (projections.ridge_regression, (np.eye(2), np.eye(3), 1), "`y` must have shap"),
        (projections.ridge_regression, ([1.0, 2.0], [1, 2], 1), "`x` must have shape"),
        (projections.ridge_regression, (ONES * NAN, ONES, 1), "`x` must be finite"),
        (spectral.smoothest_modes, ([0.0, 0.0], 3), "`ranges` must be at least 0, and"),
        (spectral.smoothest_modes, ([-1.0, 2.0], 3), "`ranges` must be at least 0"),
        (spectral.smoothest_modes, ([NAN, 2.0], 3), "`ranges` must be finite"),
        (spectral.smoothest_modes, ([1.0, 2.0], -3), "`bits` must be at least 1"),
        (ksh.best_direction, (ONES * INF, ONES), "`kernel` must be finite"),
        (ksh.best_direction, (ONES, np.eye(3)), "`residual` must have shape"),
        (
            sdh.code_step,
            (CODES, ONES, np.ones((4, 2)), CODES * NAN, 1.0),
            "`continuous` must",
        ),
        (lfh.factor_step, (ONES, [2], ONES[:, :1], 1.0), "`columns` must hold integ"),
        (lfh.factor_step, (ONES, [0.5], ONES[:, :1], 1.0), "`columns` must hold integ"),
        (svr.svr_step, (ONES, ONES * NAN, ONES, [0, 0], 1, 0), "`targets` must be fin"),
        (spherical.spheres, (np.zeros((0, 3)), np.ones((1, 3))), "`x` must have rows"),
        (kernels.choose_anchors, (np.zeros((0, 3)), 1, 1.0, 0), "`x` must have rows"),
        (fasth.quantize, (np.zeros((0, 3)),), "`x` must have rows"),
        (fasth.draw_pairs, (np.zeros((0, 3)), 1, 0), "`labels` must have rows"),
        (fasth.hinge_loss, ([], [], 3), "`distances` must be those of pairs"),
        (fasth.pair_costs, ([0.5], [1], 3), "`distances` must hold integers"),
        (bit_of, (np.ones((6, 6), int), B[:, 0]), "`costs` must be at most 0 within"),
        (bit_of, (-np.ones((6, 6)), B[:, 0]), "`costs` must hold integers"),
        (bit_of, (np.full((6, 6), -(2**31)), B[:, 0]), "`costs` must have sums within"),
        (bit_of, (-np.ones((5, 6), int), B[:, 0]), r"`costs` must have shape \(6, 6"),
        (trees_of, (BINS + 64, CUTS, B[:, 0]), "`bins` must have shape"),
        (trees_of, (BINS, CUTS, B[:, 0] > 0), "`bit` must hold numbers"),
        (fasth.tree_sums, (np.ones((2, 0)), TREES), "`x` must have the feature"),
        (conditional.conditional_logits, (X, {}), "`weights` must have the arrays"),
        (
            conditional.conditional_logits,
            (Y, WEIGHTS),
            r"`kernel` must have shape \(3,",
        ),
        (similarity.gaussian_affinity, (X, 2.0, 1.5), "`steps` must be an integer"),
        (discrete.dcc, (B, GRAM, X, 1.5), "`sweeps` must be an integer"),
        (discrete.label_rotation, (X, LABELS, 1.0, 0), "`iterations` must be at least"),
        (discrete.sign, (np.array([0, 3], np.uint8),), "`x` must hold numbers with a"),
        (knn_distribution, ([[NAN]], [[1.0]], [[1.0]], 1), "`queries` must be finite"),
    ],
)
def test_arguments_without_a_solution_are_named(function, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        function(*arguments)


def test_no_function_is_left_out():
    public = {
        getattr(module, name)
        for module in (getattr(maths, part) for part in maths.__all__)
        for name in module.__all__
        if inspect.isfunction(getattr(module, name))
    }
    through = {
        conditional.conditional_logits,
        conditional.divergence_and_gradients,
        fasth.infer_bit,
        fasth.boosted_trees,
        label_graph.adjacency_blocks,
    }
    no_arrays = {projections.random_rotation}
    assert public == {*CASES} & public | through | no_arrays


def test_no_rows_have_no_sums():
    assert fasth.tree_sums(np.zeros((0, 4)), TREES).shape == (0,)


def test_options_are_integers_of_every_type():
    """`tf.function` and NumPy take some of these for what they are not."""
    for function, others in (
        (discrete.dcc, {"sweeps": 3}),
        (discrete.label_rotation, {"iterations": 3}),
        (factorization.similarity_codes, {"bits": 3, "sweeps": 2, "seed": 1}),
        (fasth.draw_pairs, {"pairs": 2, "seed": 1}),
        (fasth.pair_costs, {"distances": [1, 2, 3], "bits": 255}),
        (kernels.choose_anchors, {"anchors": 3, "bandwidth": 1.0, "seed": 1}),
        (ksh.pair_residual, {"bits": 100}),
        (projections.principal_components, {"dim": 2}),
        (sdh.code_step, {"fit_weight": 1.0, "sweeps": 3}),
        (similarity.gaussian_affinity, {"steps": 9}),
        (spectral.smoothest_modes, {"bits": 3}),
        (spherical.first_pivots, {"bits": 2, "seed": 1}),
    ):
        arrays, _ = CASES[function]
        expected = parts(function(**arrays, **others))
        for kind in (np.uint8, np.int64):
            options = {
                name: kind(value) if isinstance(value, int) else value
                for name, value in others.items()
            }
            for value, right in zip(
                parts(function(**arrays, **options)), expected, strict=True
            ):
                np.testing.assert_array_equal(value, right)


def test_neighbours_told_apart_by_float64_alone():
    x = np.array([[1e8], [1e8 + 1], [1e8 + 2]])
    for scale in (1.0, 1e200, 1e-200):
        nearest = knn_distribution(scale * x[2:], scale * x, np.eye(3), k=1)
        assert nearest.tolist() == [[0, 0, 1]]
