"""The contract of the shallow methods, which fit a hash function to features."""

import itertools

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from conftest import mlp
from sklearn.tree import DecisionTreeClassifier

import kerashash
from kerashash import evaluation
from kerashash.baselines import COSDISH, ITQ, KSH, LFH, LSH, PCAH, SDH, SH, FastH, SpH
from kerashash.maths import (
    cosdish,
    fasth,
    itq,
    ksh,
    lfh,
    projections,
    sdh,
    spectral,
    spherical,
)

#: A case for each method: options that make it fast, and the least mAP@ALL on digits
#: at 16 bits, where random codes have 0.10.
SHALLOW = [
    (LSH, {}, 0.25),
    (PCAH, {}, 0.3),
    (ITQ, {}, 0.45),
    (SH, {}, 0.3),
    (SpH, {}, 0.3),
    (SDH, {"anchors": 100}, 0.8),
    (KSH, {"anchors": 100, "pair_rows": 500}, 0.7),
    (LFH, {"columns": 100}, 0.6),
    (COSDISH, {}, 0.6),
    (FastH, {"trees": 10, "tree_features": 16}, 0.8),
]
CASES = pytest.mark.parametrize(
    ("method", "options"), [case[:2] for case in SHALLOW], ids=lambda value: str(value)
)
#: What the base class does is the same for all: a case without labels, and one with.
BASE = pytest.mark.parametrize(
    ("method", "options"), [(ITQ, {}), (SDH, {})], ids=lambda value: str(value)
)
ROWS, WIDTH, CLASSES = 60, 8, 3


def build(method, backbone=None, bits=6, classes=CLASSES, **options):
    return method(backbone or "features", bits, classes, **options)


@pytest.fixture(scope="module")
def rows():
    """Vectors of three classes, and their labels."""
    rng = np.random.default_rng(0)
    ids = np.arange(ROWS) % CLASSES
    x = rng.normal(size=(CLASSES, WIDTH))[ids] + 0.3 * rng.normal(size=(ROWS, WIDTH))
    return x.astype(np.float32), np.eye(CLASSES, dtype=np.float32)[ids]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options", "least"), SHALLOW)
def test_learns_digits(method, options, least, digits):
    model = build(method, bits=16, classes=10, **options)
    x, labels = digits.arrays("train")
    history = model.fit(x, labels, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert kerashash.evaluate(model, digits)["mAP@ALL"] > least


@CASES
def test_saves_and_changes_its_backbone(method, options, rows, tmp_path):
    x, labels = rows
    model = build(method, mlp(WIDTH, (9,)), **options)
    model.fit(x, labels, epochs=3, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = kerashash.load_model(tmp_path / "model.keras")
    codes = model.encode(x, packed=False)
    assert (codes != codes[0]).any()
    np.testing.assert_array_equal(loaded.encode(x, packed=False), codes)
    configs = [m.get_config() | {"backbone": None} for m in (model, loaded)]
    assert configs[0] == configs[1]
    moved = model.with_backbone(model.backbone)
    np.testing.assert_array_equal(moved.encode(x, packed=False), codes)
    # Nothing of it is trained: an optimizer has nothing to keep.
    assert not loaded.hash_head.trainable_variables
    assert not any(m.optimizer.built for m in (model, loaded))


def test_an_interrupted_fit_keeps_no_features(rows):
    model = build(ITQ)

    def interrupt(epoch, logs):
        assert model._work is not None
        raise KeyboardInterrupt

    callback = keras.callbacks.LambdaCallback(on_epoch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(*rows, epochs=2, callbacks=callback, verbose=0)
    assert model._work is None


@CASES
def test_goes_on_from_a_file_as_if_not_interrupted(method, options, rows, tmp_path):
    x, labels = rows
    whole, half = build(method, **options), build(method, **options)
    epochs = min(whole.default_epochs, 4)
    losses = whole.fit(x, labels, epochs=epochs, verbose=0).history["loss"]
    first = half.fit(x, labels, epochs=epochs // 2, verbose=0).history.get("loss", [])
    half.save(tmp_path / "model.keras")
    resumed = kerashash.load_model(tmp_path / "model.keras")
    more = {"initial_epoch": epochs // 2, "epochs": epochs}
    last = resumed.fit(x, labels, verbose=0, **more).history["loss"]
    assert first + last == losses
    for new, old in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    # Other rows are another training, which `initial_epoch` does not begin.
    if epochs > 1:
        with pytest.raises(ValueError, match="`x` must be the training data on which"):
            resumed.fit(x[::-1], labels, verbose=0, initial_epoch=1, epochs=2)
    new = build(method, **options).fit(x[:40], labels[:40], epochs=1, verbose=0)
    again = resumed.fit(x[:40], labels[:40], epochs=1, verbose=0)
    assert again.history == new.history


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.rows = x, y

    def __len__(self):
        return 3

    def __getitem__(self, number):
        return tuple(value[number * 20 : (number + 1) * 20] for value in self.rows)


@BASE
def test_takes_all_forms_of_data(method, options, rows):
    x, labels = rows
    numbered = {"label": labels, "index": np.arange(ROWS, dtype=np.int32)}
    dataset = tf.data.Dataset.from_tensor_slices((x, numbered))
    sources = [
        (x, labels.argmax(axis=1)),
        (dataset.shuffle(ROWS, seed=1).batch(7),),
        (Batches(x, labels),),
    ]
    models = [build(method, **options) for _ in sources]
    for model, source in zip(models, sources, strict=True):
        model.fit(*source, epochs=2, verbose=0)
    for model in models[1:]:
        for new, old in zip(model.get_weights(), models[0].get_weights(), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-4)


@BASE
def test_backbones_of_low_precision_and_callbacks(method, options, rows):
    x, labels = rows
    backbone = keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Dense(9, dtype="mixed_bfloat16")]
    )
    before = backbone.get_weights()
    model, epochs = build(method, backbone, dtype="mixed_bfloat16", **options), []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append((epoch, *logs))
    )
    model.compile(keras.optimizers.Adam(), jit_compile=True, steps_per_execution=2)
    model.fit(x, labels, epochs=2, callbacks=watch, cache_features=True, verbose=0)
    assert epochs[0] == (0, "loss")
    assert model(x).dtype == "float32"
    for new, old in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_wrong_backbones_and_data_are_named(rows):
    x, labels = rows
    maps = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match=r"`backbone` must give features of shape"):
        LSH(maps, 6)
    broken = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(6)])
    broken.set_weights([np.full_like(w, np.nan) for w in broken.get_weights()])
    with pytest.raises(ValueError, match="`x` must give finite features"):
        LSH(broken, 6).fit(x, verbose=0)
    with pytest.raises(ValueError, match="can be read only once"):
        LSH("features", 6).fit(iter([(x, labels)]), verbose=0)
    unbatched = tf.data.Dataset.from_tensor_slices((x, labels))
    with pytest.raises(ValueError, match=r"must be batched.*\(8,\)"):
        LSH(mlp(WIDTH), 6).fit(unbatched, verbose=0)
    with pytest.raises(TypeError, match="`LSH` has no argument `hash_activation`"):
        LSH("features", 6, hash_activation="tanh")
    with pytest.raises(ValueError, match="`seed` must be at least 0"):
        ITQ("features", 6, seed=-1)
    for method in (PCAH, ITQ):
        with pytest.raises(ValueError, match=r"`bits` must be at most the width.*8"):
            method("features", 9).fit(x, verbose=0)
    for method, name in ((SDH, "anchors"), (KSH, "pair_rows"), (COSDISH, "turns")):
        with pytest.raises(ValueError, match=f"`{name}` must be at least 1"):
            method("features", 6, CLASSES, **{name: 0})
    for method, name in ((SDH, "bandwidth"), (LFH, "beta"), (COSDISH, "penalty")):
        with pytest.raises(ValueError, match=f"`{name}` must be above 0 and finite"):
            method("features", 6, CLASSES, **{name: 0.0})
    with pytest.raises(TypeError, match="`num_classes` must be an integer"):
        KSH("features", 6, None)
    with pytest.raises(ValueError, match=r"rows that differ, in .* `ranges` must"):
        SH("features", 6).fit(np.ones((9, 4)), verbose=0)
    with pytest.raises(ValueError, match="`validation_data` is not supported"):
        LSH("features", 6).fit(x, validation_data=(x, labels), verbose=0)


# -------------------------------------------------------------- LSH, PCAH and ITQ


EQUAL = np.concatenate(
    [np.zeros((13, WIDTH)), np.random.default_rng(1).normal(size=(11, WIDTH))]
)


@pytest.mark.parametrize(
    ("method", "x"),
    [
        (SpH, EQUAL),  # of which more than half are equal
        (SpH, np.repeat(EQUAL[-3:], 5, axis=0)),
        (KSH, np.ones((9, WIDTH))),
        (FastH, EQUAL[-1:]),
        (ITQ, EQUAL * 1e20),
        (SH, EQUAL * 1e20),
    ],
)
def test_rows_without_a_solution_are_refused(method, x):
    model = build(method)
    with pytest.raises(
        ValueError, match=f"`x` must give features from which `{method.__name__}` can"
    ):
        model.fit(x, np.arange(len(x)) % CLASSES, verbose=0)


def test_a_model_that_is_not_fitted_does_not_encode():
    model = build(ITQ)
    model.build((None, WIDTH))
    with pytest.raises(ValueError, match="`ITQ` must be fitted before it encodes"):
        model.encode(EQUAL)


def test_lsh_bits_differ_in_proportion_to_the_angle():
    x = np.array([[1.0, 0.0], [np.cos(1.0), np.sin(1.0)], [-1.0, 0.0]], np.float32)
    model = LSH("features", 4000, center=False)
    model.fit(x, verbose=0)
    codes = model.encode(x, packed=False)
    shares = (codes[0] != codes[1:]).mean(axis=1)
    np.testing.assert_allclose(shares, [1 / np.pi, 1.0], atol=0.02)


def test_principal_components_are_those_of_the_largest_variance(rng):
    x = rng.normal(size=(50, 6)) * np.arange(1, 7) + 1000
    mean, components, variances = projections.principal_components(x, 3)
    _, values, vectors = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(
        np.abs(components.T @ vectors[:3].T), np.eye(3), atol=1e-3
    )
    np.testing.assert_allclose(variances, values**2 / 50, rtol=1e-3)


def test_principal_components_of_float64_are_computed_in_float64():
    x = np.array([[0.0, 1.0], [0.0, -1.0], [0.5, 0.0], [-0.5, 0.0]])
    mean, components, variances = projections.principal_components(1e8 + x, 1)
    np.testing.assert_array_equal(mean, [1e8, 1e8])
    np.testing.assert_allclose(components, [[0.0], [1.0]], atol=1e-12)
    np.testing.assert_allclose(variances, [0.5, 0.125])
    narrow = projections.principal_components(x.astype(np.float32), 1)
    assert [array.dtype.name for array in narrow] == ["float32", "float32", "float64"]


def test_ridge_regression_of_float16_does_not_overflow():
    x, y = np.full((1000, 1), 10, np.float16), np.full((1000, 1), 20, np.float16)
    w = projections.ridge_regression(x, y, 1.0)
    assert w.dtype == np.float16
    assert w == 2.0


def test_itq_loss_never_rises_and_each_step_is_the_best(rng):
    v = rng.normal(size=(80, 5)) * [5, 3, 2, 1, 0.3]
    rotation = projections.random_rotation(5, seed=3)
    losses = [itq.quantization_loss(v, rotation)]
    for _ in range(30):
        codes = projections.signs(v @ rotation)
        new = itq.rotation_step(v, rotation)
        np.testing.assert_allclose(new @ new.T, np.eye(5), atol=1e-9)
        best = ((codes - v @ new) ** 2).sum()
        for seed in range(20):  # no other rotation is better for these codes
            other = projections.random_rotation(5, seed)
            assert best <= ((codes - v @ other) ** 2).sum()
        rotation = new
        losses.append(itq.quantization_loss(v, rotation))
    assert (np.diff(losses) <= 1e-12).all()
    assert losses[-1] < 0.9 * losses[0]


def test_integers_are_taken_as_the_numbers_they_are(rng):
    v = rng.integers(-9, 9, size=(30, 3))
    rotation, x = projections.random_rotation(3, seed=0), rng.normal(size=(30, 2))
    for of_integers, of_floats in (
        (itq.quantization_loss(v, rotation), itq.quantization_loss(1.0 * v, rotation)),
        (itq.rotation_step(v, rotation), itq.rotation_step(1.0 * v, rotation)),
        (
            projections.ridge_regression(v, x, 0.5),
            projections.ridge_regression(1.0 * v, x, 0.5),
        ),
        (
            projections.principal_components(v, 2)[1],
            projections.principal_components(1.0 * v, 2)[1],
        ),
    ):
        np.testing.assert_array_equal(of_integers, of_floats)
    with pytest.raises(TypeError, match="`v` must hold numbers"):
        itq.quantization_loss(v.astype(str), rotation)
    with pytest.raises(ValueError, match="`penalty` must be above 0"):
        projections.ridge_regression(v, x, 0)


def test_itq_of_faiss_differs_by_a_transposed_factor(rng):
    faiss = pytest.importorskip("faiss")
    v = (rng.normal(size=(500, 6)) * [5, 3, 2, 2, 1, 1]).astype(np.float32)
    start = projections.random_rotation(6, seed=3)
    anchor = faiss.ITQMatrix(6)
    anchor.max_iter = 1
    # faiss multiplies rows by the transpose of what it is given, column by column.
    faiss.copy_array_to_vector(start.T.ravel("F").copy(), anchor.init_rotation)
    anchor.train(v)
    theirs = faiss.vector_to_array(anchor.A).reshape(6, 6)
    u, _, w = np.linalg.svd(projections.signs(v @ start).T @ v.astype(np.float64))
    np.testing.assert_allclose(itq.rotation_step(v, start), (u @ w).T, atol=1e-5)
    # Signs of singular vectors are free: U V^T does not depend on them, U V does.
    np.testing.assert_allclose(np.abs(u.T @ theirs), np.abs(w.T), atol=1e-4)


@pytest.mark.slow
def test_itq_is_at_least_as_good_as_that_of_faiss(digits):
    faiss = pytest.importorskip("faiss")
    x, labels = digits.arrays("database")
    queries, query_labels = digits.arrays("query")
    x, queries = (np.ascontiguousarray(v, np.float32) for v in (x, queries))

    def mean_ap(encode):
        return evaluation.mean_average_precision(
            encode(queries), query_labels, encode(x), labels, bits=16
        )

    # faiss centres vectors and scales them to length 1 before the rotation.
    mean = x.mean(axis=0)
    x, queries = ((v - mean) for v in (x, queries))
    x, queries = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, queries))
    ours, theirs = [], []
    for seed in range(4):  # which rotation is found depends on the first
        model = ITQ("features", 16, seed=seed)
        model.fit(x, verbose=0)
        # Its own first rotation has a fixed seed: with columns in another order, it is
        # another one.
        order = np.random.default_rng(seed).permutation(x.shape[1])
        anchor = faiss.ITQTransform(x.shape[1], 16, True)
        anchor.train(x[:, order].copy())

        def transform(rows, anchor=anchor, order=order):
            return anchor.apply(rows[:, order].copy())

        ours.append(mean_ap(model.encode))
        theirs.append(mean_ap(lambda rows, to=transform: np.packbits(to(rows) >= 0, 1)))
        # Of one length, the vectors with the larger |u| are those nearer to codes.
        assert np.abs(model.continuous_codes(x)).sum() > np.abs(transform(x)).sum()
    assert np.mean(ours) > np.mean(theirs) - 0.01


# ----------------------------------------------------------------------- SH and SpH


def test_smoothest_modes_are_those_of_the_smallest_eigenvalues():
    ranges = np.array([3.0, 0.0, 5.0, 1.3])
    directions, frequencies = spectral.smoothest_modes(ranges, 6)
    every = sorted(
        (1 - np.exp(-((k * np.pi / r) ** 2) / 2), i)
        for i, r in enumerate(ranges)
        if r
        for k in range(1, 30)
    )[:6]
    np.testing.assert_array_equal(directions, [i for _, i in every])
    np.testing.assert_allclose(
        1 - np.exp(-(frequencies**2) / 2), [value for value, _ in every]
    )


def test_sh_bits_are_waves_of_a_box(rng):
    x = (rng.uniform(size=(4000, 2)) * [4.0, 0.5]).astype(np.float32)
    model = SH("features", 4)
    model.fit(x, verbose=0)
    codes = model.encode(x, packed=False)
    # Along the long side: one, two, three and four halves of a wave.
    phase = np.pi * x[:, 0] / 4
    for bit, column in enumerate(codes.T, start=1):
        wanted = np.where(np.cos(bit * phase) >= 0, 1, -1)
        assert (
            abs((column == wanted).mean() - 0.5) > 0.48
        )  # a direction may be reversed


def test_sph_balls_share_a_quarter_of_the_rows(rng):
    x = rng.normal(size=(500, 6)).astype(np.float32)
    model = SpH("features", 8)
    losses = model.fit(x, verbose=0).history["loss"]
    assert losses[0] > 0.15
    assert losses[-1] <= 0.1
    assert len(losses) < 100
    inside = model.encode(x, packed=False) > 0
    np.testing.assert_allclose(inside.mean(axis=0), 0.5, atol=0.01)
    shared = inside.T.astype(float) @ inside / len(x)
    shared = shared[np.triu_indices(8, 1)]
    np.testing.assert_allclose(np.abs(4 * shared - 1).mean(), losses[-1], atol=0.01)


def test_spherical_forces_by_hand(rng):
    pivots, overlaps = rng.normal(size=(4, 3)), rng.uniform(0, 0.5, (4, 4))
    wanted = pivots.copy()
    for i in range(4):
        forces = [
            0.5 * (overlaps[i, j] - 0.25) / 0.25 * (pivots[i] - pivots[j])
            for j in range(4)
        ]
        wanted[i] += np.sum(forces, axis=0) / 4
    np.testing.assert_allclose(spherical.move(pivots, overlaps), wanted)


# ------------------------------------------------------------------------------ SDH


def every_code(bits):
    return np.array([*itertools.product((-1, 1), repeat=bits)], np.int8)


def test_sdh_code_step_never_raises_the_objective_and_is_nearly_the_best(rng):
    n, bits, classes, weight = 40, 6, 4, 0.3
    optimal = 0
    labels = np.eye(classes)[rng.integers(0, classes, n)]
    codes = projections.signs(rng.normal(size=(n, bits)))
    continuous = rng.normal(size=(n, bits))
    classifier = sdh.classifier_step(codes, labels, 1.0)
    new = sdh.code_step(codes, labels, classifier, continuous, weight)
    every = every_code(bits)
    for row in range(n):
        values = ((labels[row] - every @ classifier) ** 2).sum(axis=1)
        values += weight * ((every - continuous[row]) ** 2).sum(axis=1)
        before, after = (
            values[(every == code).all(axis=1)].item()
            for code in (codes[row], new[row])
        )
        assert after <= before + 1e-9
        flips = (every != new[row]).sum(axis=1)
        assert (values[flips == 1] >= after - 1e-9).all()
        optimal += after <= values.min() + 1e-9
    assert optimal > 0.8 * n


def test_sdh_classifier_step_is_the_best(rng):
    codes = projections.signs(rng.normal(size=(30, 4)))
    labels = rng.normal(size=(30, 3))
    w = sdh.classifier_step(codes, labels, 2.0)

    def value(w):
        return sdh.sdh_objective(labels, codes, w, np.zeros((30, 4)), 2.0, 0.0)

    for _ in range(20):
        assert value(w) < value(w + 0.01 * rng.normal(size=w.shape))


def test_sdh_objective_never_rises(digit_pairs):
    x, labels, _ = digit_pairs
    for weight in (1e-5, 0.1):
        model = SDH("features", 12, 10, anchors=150, fit_weight=weight)
        losses = model.fit(x, labels, epochs=6, verbose=0).history["loss"]
        assert (np.diff(losses) <= 1e-5 * losses[0]).all()
        assert losses[-1] < losses[0]


# ------------------------------------------------------------------------------ KSH


def test_ksh_directions_are_greedy_and_near_the_best(rng):
    n, anchors = 9, 3
    kernel = rng.normal(size=(n, anchors))
    kernel -= kernel.mean(axis=0)
    r = rng.normal(size=(n, n))
    r += r.T
    a = ksh.best_direction(kernel, r)
    h = np.where(kernel @ a >= 0, 1, -1)
    # All bits that some direction of three numbers gives.
    every = {
        tuple(np.where(kernel @ v >= 0, 1, -1)) for v in rng.normal(size=(20000, 3))
    }
    values = [np.array(b) @ r @ np.array(b) for b in every]
    assert h @ r @ h > np.quantile(values, 0.9)


@pytest.mark.slow
@pytest.mark.long
def test_ksh_residual_falls_with_every_bit(digit_pairs):
    x, labels, _ = digit_pairs
    model = KSH("features", 8, 10, anchors=60, pair_rows=300)
    losses = model.fit(x, labels, verbose=0).history["loss"]
    assert len(losses) == 8
    # Without a bit the residual is r S, whose mean square is 1 after division by r.
    assert (np.diff([1.0, *losses]) < 0).all()
    # Bits that no epoch has added are 1, and a later `fit` adds them.
    part = KSH("features", 8, 10, anchors=60, pair_rows=300)
    part.fit(x, labels, epochs=3, verbose=0)
    assert (part.encode(x[:9], packed=False)[:, 3:] == 1).all()
    part.fit(x, labels, verbose=0)
    np.testing.assert_array_equal(part.encode(x), model.encode(x))


# ------------------------------------------------------------------- LFH and COSDISH


@pytest.mark.parametrize("columns", [5, 25])
def test_lfh_likelihood_never_falls(columns, rng):
    labels = np.eye(3)[rng.integers(0, 3, 25)]
    u = rng.normal(size=(25, 4))
    drawn = rng.choice(25, columns, replace=False)
    similar = labels @ labels[drawn].T
    values = [lfh.negative_log_likelihood(u, drawn, similar, 30.0)]
    for _ in range(40):
        u = lfh.factor_step(u, drawn, similar, 30.0)
        values.append(lfh.negative_log_likelihood(u, drawn, similar, 30.0))
    assert (np.diff(values) <= 1e-9).all()
    assert values[-1] < 0.5 * values[0]
    # Nothing is left to gain: the objective is flat in every direction.
    for _ in range(400):
        u = lfh.factor_step(u, drawn, similar, 30.0)
    for _ in range(10):
        step = rng.normal(size=u.shape)
        higher, lower = (
            lfh.negative_log_likelihood(u + sign * step, drawn, similar, 30.0)
            for sign in (1e-4, -1e-4)
        )
        assert abs(higher - lower) / 2e-4 < 0.25


def test_lfh_likelihood_by_hand(rng):
    u, drawn = rng.normal(size=(6, 3)), np.array([4, 1])
    similar = rng.integers(0, 2, (6, 2)).astype(float)
    wanted = (u**2).sum() / (2 * 7.0)
    for i in range(6):
        for column, j in enumerate(drawn):
            if i != j:
                p = 1 / (1 + np.exp(-u[i] @ u[j] / 2))
                wanted -= np.log(p if similar[i, column] else 1 - p)
    value = lfh.negative_log_likelihood(u, drawn, similar, 7.0)
    np.testing.assert_allclose(value, wanted)


def test_cosdish_other_codes_are_the_best(rng):
    similarity = np.where(rng.random((12, 7)) < 0.4, 1.0, -1.0)
    codes, sampled = (projections.signs(rng.normal(size=(n, 5))) for n in (12, 7))
    new = cosdish.other_codes(similarity, codes, sampled)
    every = every_code(5)
    for row in range(12):
        values = np.abs(5 * similarity[row] - every @ sampled.T.astype(int)).sum(axis=1)
        assert values[(every == new[row]).all(axis=1)].item() == values.min()


def test_cosdish_sampled_codes_never_raise_the_objective(rng):
    optimal = 0
    for _ in range(10):
        labels = np.eye(3)[rng.integers(0, 3, 17)]
        similarity = (2 * labels @ labels[:5].T - 1).astype(np.float32)
        within, between = similarity[:5], similarity[5:]
        codes, sampled = (projections.signs(rng.normal(size=(n, 3))) for n in (12, 5))

        def value(c, codes=codes, within=within, between=between):
            return cosdish.pair_error(between, codes, c) + cosdish.pair_error(
                within, c, c
            )

        new = cosdish.sampled_codes(between, within, codes, sampled)
        assert value(new) <= value(sampled)
        # With all bits but one fixed, what does each of the 32 values of that bit give?
        for k in range(3):
            values = []
            for bit in every_code(5):
                changed = new.copy()
                changed[:, k] = bit
                values.append(value(changed))
            optimal += value(new) <= min(values) + 1e-3
    assert optimal >= 20


def test_cosdish_no_flip_of_the_last_bit_improves_sampled_codes(rng):
    for _ in range(20):
        within = rng.normal(size=(15, 15))
        within = (within + within.T).astype(np.float32)
        between = rng.normal(size=(9, 15)).astype(np.float32)
        codes, sampled = (projections.signs(rng.normal(size=(n, 4))) for n in (9, 15))
        new = cosdish.sampled_codes(between, within, codes, sampled)

        def value(c, codes=codes, within=within, between=between):
            return cosdish.pair_error(between, codes, c) + cosdish.pair_error(
                within, c, c
            )

        # Bits before the last were solved while others had other values.
        for row in range(15):
            flipped = new.copy()
            flipped[row, -1] *= -1
            assert value(flipped) >= value(new) - 1e-2


# ---------------------------------------------------------------------------- FastH


def test_fasth_pairs_are_of_both_kinds_and_each_is_drawn_once(rng):
    labels = np.eye(3)[np.arange(40) % 3]
    pairs, similar = fasth.draw_pairs(labels, 4, seed=0)
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()
    np.testing.assert_array_equal(similar, pairs[:, 0] % 3 == pairs[:, 1] % 3)
    for kind in (similar, ~similar):
        assert (np.bincount(pairs[kind].ravel(), minlength=40) >= 4).all()


def test_fasth_costs_are_what_a_bit_changes_in_the_loss():
    for bits in range(5):
        for distance in range(bits + 1):
            for similar in (True, False):
                d, s = np.array([distance]), np.array([similar])
                equal, unequal = (
                    fasth.hinge_loss(d + more, s, bits + 1) for more in (0, 1)
                )
                assert fasth.pair_costs(d, s, bits) == 4 * (equal - unequal)


def quadratic(costs, z):
    return int(z.astype(int) @ costs @ z.astype(int))


def test_fasth_bit_of_one_block_is_the_best_and_no_block_raises_the_objective(rng):
    for _ in range(20):
        # A block and some rows outside it, which fix what it wants.
        costs = rng.integers(-4, 5, (8, 8))
        costs[:5, :5] = -np.abs(costs[:5, :5])
        costs = np.triu(costs, 1)
        costs += costs.T
        start = projections.signs(rng.normal(size=8))
        sparse = scipy.sparse.csr_array(costs)
        new = fasth.infer_bit(sparse, [np.arange(5)], start, 1, rng)
        np.testing.assert_array_equal(new[5:], start[5:])
        every = [np.append(z, start[5:]) for z in every_code(5)]
        assert quadratic(costs, new) == min(quadratic(costs, z) for z in every)
        # Blocks overlap, and together hold all rows.
        blocks = [np.arange(5), np.array([0, 1]), *np.arange(5, 8)[:, None]]
        values = [quadratic(costs, start)]
        for _ in range(3):
            start = fasth.infer_bit(sparse, blocks, start, 1, rng)
            values.append(quadratic(costs, start))
        assert (np.diff(values) <= 0).all()
        final = fasth.infer_bit(sparse, blocks, start, 100, rng)
        for row in range(8):
            flipped = np.where(np.arange(8) == row, -final, final)
            assert quadratic(costs, final) <= quadratic(costs, flipped)


def test_fasth_tree_is_that_of_scikit_learn(rng):
    x = rng.normal(size=(60, 5)).astype(np.float32)
    bins, cuts = fasth.quantize(x)
    # There are more cuts than rows, so no threshold is missed.
    bit = projections.signs(x[:, 1] * x[:, 3] + 0.1 * rng.normal(size=60))
    tree = fasth.boosted_trees(bins, cuts, bit, 1, 2, 5, rng)
    theirs = DecisionTreeClassifier(max_depth=2, random_state=0).fit(x[:57], bit[:57])
    # A tree learns from the heaviest 95% of rows; all weigh the same at first.
    ours = fasth.tree_sums(x[:57], tree)
    assert (projections.signs(ours) == bit[:57]).mean() == theirs.score(
        x[:57], bit[:57]
    )
    assert tree.features[0, 0] == theirs.tree_.feature[0]


def test_fasth_trees_never_raise_the_loss_of_boosting(rng):
    x = rng.normal(size=(200, 6)).astype(np.float32)
    bins, cuts = fasth.quantize(x)
    bit = projections.signs(x[:, 0] * x[:, 1] + x[:, 2])
    trees = fasth.boosted_trees(bins, cuts, bit, 30, 3, 4, rng)
    sums = np.zeros(200)
    losses = [1.0]
    for number in range(30):
        one = fasth.Trees(*(part[number : number + 1] for part in trees))
        sums += fasth.tree_sums(x, one)
        losses.append(np.exp(-bit * sums).mean())
    assert (np.diff(losses) <= 1e-6).all()
    assert losses[-1] < 0.05
    assert (projections.signs(sums) == bit).all()


@pytest.mark.slow
@pytest.mark.long
def test_fasth_codes_are_those_of_its_trees(digit_pairs):
    x, labels, _ = digit_pairs
    labels = labels.copy()
    labels[:3] = 0  # rows without a label are similar to none
    model = FastH("features", 6, 10, trees=20, tree_features=32)
    losses = model.fit(x, labels, verbose=0).history["loss"]
    assert len(losses) == 6
    state = model.training_state()
    trees = [fasth.Trees(*(state[n][k] for n in fasth.Trees._fields)) for k in range(6)]
    sums = np.stack([fasth.tree_sums(x, tree) for tree in trees], axis=1)
    np.testing.assert_allclose(model.continuous_codes(x), sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(model.encode(x, packed=False), state["codes"])
    # Bits that no epoch has added are 1, and a later `fit` adds them.
    part = FastH("features", 6, 10, trees=20, tree_features=32)
    part.fit(x, labels, epochs=2, verbose=0)
    assert (part.encode(x[:9], packed=False)[:, 2:] == 1).all()
    part.fit(x, labels, verbose=0)
    np.testing.assert_array_equal(part.encode(x), model.encode(x))
