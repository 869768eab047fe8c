"""The contract of the shallow methods, which fit a hash function to features."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import evaluation
from kerashash.baselines import ITQ, LSH, PCAH
from kerashash.maths import itq, projections

#: A case for each method: options that make it fast, and the least mAP@ALL on digits
#: at 16 bits, where random codes have 0.10.
SHALLOW = [(LSH, {}, 0.25), (PCAH, {}, 0.3), (ITQ, {}, 0.45)]
CASES = pytest.mark.parametrize(
    ("method", "options"), [case[:2] for case in SHALLOW], ids=lambda value: str(value)
)
#: What the base class does is the same for all: a case without labels, and one with.
BASE = pytest.mark.parametrize(
    ("method", "options"), [(ITQ, {})], ids=lambda value: str(value)
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
    assert not loaded.optimizer.built


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
    with pytest.raises(ValueError, match="`validation_data` is not supported"):
        LSH("features", 6).fit(x, validation_data=(x, labels), verbose=0)


# -------------------------------------------------------------- LSH, PCAH and ITQ


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
