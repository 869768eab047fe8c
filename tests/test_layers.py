"""Layers: each computes its formula, and survives a round trip of its config."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerashash.backbones import QuantileEncoding, Whitening
from kerashash.methods.layers import (
    GraphConvolution,
    HashHead,
    LabelCodewords,
    OuterProductFusion,
)


def round_trip(layer, *inputs):
    """The layer rebuilt from its configuration, with the same weights."""
    layer(*inputs)
    config = keras.saving.serialize_keras_object(layer)
    other = keras.saving.deserialize_keras_object(config)
    other(*inputs)
    other.set_weights(layer.get_weights())
    return other


def test_hash_head_stays_in_float32_under_mixed_precision():
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        head = HashHead(5)
        assert head(tf.ones((2, 3), tf.bfloat16)).dtype == tf.float32
    finally:
        keras.mixed_precision.set_dtype_policy(policy)


def test_hash_head_round_trip():
    x = tf.random.normal((4, 3))
    head = HashHead(5, activation=None)
    np.testing.assert_array_equal(round_trip(head, x)(x), head(x))


@pytest.mark.parametrize("bits", [0, -3, 2.5, "8"])
def test_hash_head_refuses_bits(bits):
    with pytest.raises((TypeError, ValueError), match="`bits`"):
        HashHead(bits)


def test_label_codewords_score_by_inner_product():
    u = tf.random.normal((4, 6))
    layer = LabelCodewords(num_classes=3, bits=6)
    scores = layer(u).numpy()
    z = layer.embedding.embeddings.numpy()
    assert np.abs(z).max() <= 0.05
    np.testing.assert_allclose(scores, u.numpy() @ np.tanh(z).T, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(layer.hash_codes(), np.where(z >= 0, 1, -1))
    np.testing.assert_array_equal(round_trip(layer, u)(u), scores)


def test_label_codewords_take_hash_codes():
    layer = LabelCodewords(num_classes=3, bits=6)
    codes = np.where(np.eye(4, 6), 1, -1)
    expected = layer(codes.astype(np.float32))
    for dtype in (np.int8, np.int64, bool):
        found = layer(codes.astype(dtype))
        assert found.dtype == tf.float32
        if dtype is not bool:
            np.testing.assert_array_equal(found, expected)
    assert layer(keras.Input((6,), dtype="int8")).shape == (None, 3)


@pytest.mark.parametrize("integer", [np.uint8, np.int64])
def test_integers_of_numpy_are_integers(integer):
    for layer in (HashHead(integer(4)), LabelCodewords(integer(3), bits=integer(4))):
        layer(tf.zeros((2, 4)))
        config = keras.saving.serialize_keras_object(layer)["config"]
        assert type(config["bits"]) is int
        assert layer.compute_output_shape((2, 4))[1] in (3, 4)


def test_outer_product_fusion_is_the_outer_product(rng):
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 5))
    fused = OuterProductFusion()([tf.constant(a), tf.constant(b)])
    expected = [np.outer(x, y).ravel() for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(fused, expected, rtol=1e-6)


@pytest.mark.parametrize("sparse", [False, True])
def test_graph_convolution_is_the_formula(rng, sparse):
    x = rng.normal(size=(6, 4)).astype(np.float32)
    a = (rng.random((6, 6)) < 0.4).astype(np.float32)
    layer = GraphConvolution(3, activation="tanh", use_bias=False)
    adjacency = tf.sparse.from_dense(a) if sparse else tf.constant(a)
    output = layer([tf.constant(x), adjacency])
    expected = np.tanh(a @ x @ layer.get_weights()[0])
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("use_bias", [False, True])
def test_graph_convolution_of_aggregates_equals_one_with_the_graph(rng, use_bias):
    x = rng.normal(size=(6, 4)).astype(np.float32)
    a = rng.random((6, 6)).astype(np.float32)
    layer = GraphConvolution(
        3, activation="tanh", use_bias=use_bias, bias_initializer="normal"
    )
    expected = layer([tf.constant(x), tf.constant(a)])
    output = layer([tf.constant(a @ x)])
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_graph_convolution_trains_and_round_trips(rng):
    x = rng.normal(size=(1, 8, 4)).astype(np.float32)
    a = np.eye(8, dtype=np.float32)[None]
    nodes, graph = keras.Input((8, 4)), keras.Input((8, 8))
    layer = GraphConvolution(2)
    model = keras.Model([nodes, graph], layer([nodes, graph]))
    model.compile("adam", "mse")
    before = layer.get_weights()[0]
    model.fit([x, a], np.ones((1, 8, 2)), verbose=0)
    assert not np.array_equal(before, layer.get_weights()[0])
    np.testing.assert_array_equal(round_trip(layer, [x, a])([x, a]), layer([x, a]))


NODES, GRAPH = np.ones((3, 2), "float32"), np.eye(3, dtype="float32")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GraphConvolution(0), "`channels` must be at least 1"),
        (lambda: GraphConvolution("4"), "`channels` must be an integer"),
        (lambda: GraphConvolution(4)(NODES), "a list of 1 or 2 inputs"),
        (lambda: GraphConvolution(4)([NODES, GRAPH, GRAPH]), "a list of 1 or 2 inputs"),
        (lambda: GraphConvolution(4)([NODES, np.eye(4)]), "a column for each node"),
        (lambda: GraphConvolution(4).compute_output_shape((3, 2)), "1 or 2 inputs"),
        (lambda: LabelCodewords(0, 8), "`num_classes` must be at least 1"),
        (lambda: LabelCodewords(3, None), "`bits` must be an integer"),
        (lambda: LabelCodewords(3, 8)(NODES), r"expected axis -1 .* value 8"),
        (lambda: OuterProductFusion()(NODES), "a list of 2 inputs"),
        (lambda: OuterProductFusion()([NODES, NODES, NODES]), "a list of 2 inputs"),
        (lambda: OuterProductFusion()([NODES, NODES[:2]]), r"shapes \(batch, p\) and"),
        (lambda: OuterProductFusion()([NODES, NODES[None]]), r"shapes \(batch, p\)"),
        (lambda: OuterProductFusion().compute_output_shape((3, 2)), "list of 2 inputs"),
    ],
)
def test_wrong_calls_are_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(3, 2), (5, 3)], (5, 4)),
        ([(None, 8, 2), (None, 8, 8)], (None, 8, 4)),
        ([(None, 2)], (None, 4)),
    ],
)
def test_graph_convolution_tells_the_shape_of_its_output(shapes, expected):
    assert GraphConvolution(4).compute_output_shape(shapes) == expected


def table():
    rng = np.random.default_rng(0)
    x = np.stack([rng.random(200) > 0.5, rng.exponential(size=200)], axis=1)
    return x.astype("float32")


def test_quantile_encoding_standardizes_and_cuts_numeric_columns_only():
    x = table()
    layer = QuantileEncoding(steps=4)
    layer.adapt(x)
    found = layer(x).numpy()
    np.testing.assert_array_equal(found[:, 0], x[:, 0])
    np.testing.assert_allclose(found[:, 1].mean(), 0, atol=1e-5)
    np.testing.assert_allclose(found[:, 1].std(), 1, rtol=1e-4)
    # A quarter of the rows each: 0, 1, 2 or 3 of the quantiles lie below.
    assert np.bincount(found[:, 2:].sum(axis=1).astype(int)).tolist() == [50] * 4
    rank = x[:, 1].argsort().argsort()
    np.testing.assert_array_equal(found[:, 2:].sum(axis=1), rank // 50)


def test_quantile_encoding_of_binary_columns_is_the_table():
    x = table()[:, :1]
    layer = QuantileEncoding()
    layer.adapt(x)
    np.testing.assert_array_equal(layer(x), x)
    assert layer.compute_output_shape((None, 1)) == (None, 1)


def test_quantile_encoding_is_saved_with_what_it_found(tmp_path):
    x = table()
    layer = QuantileEncoding(steps=3)
    layer.adapt(x)
    model = keras.Sequential([keras.Input((2,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_quantiles_are_saved_by_few_digits():
    x = table()
    layer = QuantileEncoding(steps=3)
    layer.adapt(x)
    (quantiles,) = layer.get_config()["adapted"]["quantiles"]
    assert all(len(repr(q).lstrip("-0.")) <= 12 for q in quantiles)


def test_quantile_encoding_refuses_what_it_cannot_encode():
    x = table()
    with pytest.raises(ValueError, match="steps"):
        QuantileEncoding(steps=1)
    layer = QuantileEncoding()
    with pytest.raises(ValueError, match="needs `adapt`"):
        layer(x)
    with pytest.raises(ValueError, match="shape"):
        layer.adapt(x[0])
    layer.adapt(x)
    with pytest.raises(ValueError, match="2 columns"):
        layer(x[:, :1])
    layer(x)
    with pytest.raises(ValueError, match="before"):
        layer.adapt(x)


@pytest.mark.parametrize(
    ("center", "spread"), [(2e4, 5.0), (0.0, 1e-25), (0.0, 1e25), (0.0, 3e-39)]
)
def test_statistics_are_right_at_every_scale(center, spread):
    rng = np.random.default_rng(0)
    rows = np.float32(center + spread * rng.normal(size=(200_000, 2)))
    layer = QuantileEncoding(steps=2)
    layer.adapt(rows)
    exact = rows.astype(np.float64)
    np.testing.assert_allclose(
        layer.adapted["mean"], exact.mean(axis=0), rtol=1e-6, atol=1e-9 * spread
    )
    standardized = layer(rows[:1000]).numpy()[:, :2]
    assert np.isfinite(standardized).all()
    if spread > 1e-30:
        assert standardized.std() == pytest.approx(1.0, abs=0.05)
        np.testing.assert_allclose(layer.adapted["scale"], exact.std(axis=0), rtol=1e-6)


def features(n=300):
    """Rows that vary in 3 directions, little in 2 more, and not in the last column."""
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 5))
    columns = 50.0 + 10.0 ** np.arange(5) * (mixed + 0.01 * rng.normal(size=(n, 5)))
    return np.concatenate([columns, np.full((n, 1), 0.1)], axis=1).astype("float32")


def test_whitening_gives_uncorrelated_components_of_variance_one():
    x = features()
    layer = Whitening(components=3)
    layer.adapt(x)
    found = layer(x).numpy().astype("float64")
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(found.T, bias=True), np.eye(3), atol=1e-4)
    assert layer.compute_output_shape((None, 6)) == (None, 3)
    assert not layer.trainable_variables


def test_whitening_keeps_the_directions_of_largest_variance():
    x = features()[:, :5].astype("float64")
    layer = Whitening(components=3)
    layer.adapt(x)
    standardized = (x - x.mean(axis=0)) / x.std(axis=0)
    left, _, _ = np.linalg.svd(standardized, full_matrices=False)
    expected = left[:, :3] * np.sqrt(len(x))
    found = layer(x).numpy()
    # Equal but for the sign of each component.
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=2e-3)
    largest = np.abs(layer.projection.numpy() * x.std(axis=0)[:, None]).argmax(axis=0)
    assert (layer.projection.numpy()[largest, range(3)] > 0).all()


def test_whitening_is_saved_with_what_it_found(tmp_path):
    x = features()
    layer = Whitening(components=2)
    layer.adapt(x)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded(x).numpy().any()


def test_whitening_refuses_what_it_cannot_whiten():
    x = features()
    with pytest.raises(ValueError, match="components"):
        Whitening(components=0)
    layer = Whitening(components=6)
    with pytest.raises(ValueError, match="needs `adapt`"):
        layer(x)
    with pytest.raises(ValueError, match="vary in 5 directions"):
        layer.adapt(x)
    with pytest.raises(ValueError, match="vary in 3 directions"):
        layer.adapt(x[:4])
    with pytest.raises(ValueError, match="vary in 0 directions"):
        layer.adapt(x[:0])
    with pytest.raises(ValueError, match="shape"):
        layer.adapt(x[0])
    layer = Whitening(components=5)
    layer.adapt(x)
    with pytest.raises(ValueError, match="before"):
        layer.adapt(x)
