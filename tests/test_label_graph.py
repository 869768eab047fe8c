import numpy as np
import pytest
import tensorflow as tf

from kerashash.maths import label_graph
from kerashash.methods import ddh_ldl
from kerashash.methods.layers import GraphConvolution


@pytest.fixture
def rows(rng):
    d = rng.dirichlet(np.ones(5), 40).astype(np.float32)
    return d, rng.normal(size=(40, 7)).astype(np.float32)


def dense_graph(d, threshold):
    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    cosines = unit @ unit.T
    return np.where(cosines < threshold, 0.0, cosines)


def product_by_us(d, x, threshold, adjacency):
    return label_graph.aggregate(d, x, threshold, adjacency)


def product_by_spektral(d, x, threshold, adjacency):
    blocks = label_graph.adjacency_blocks(d, threshold, adjacency)
    return ddh_ldl.pass_messages(tf.constant(x), blocks)


@pytest.mark.parametrize("block", [7, 40, 1024])
@pytest.mark.parametrize("adjacency", ["raw", "row", "sym"])
@pytest.mark.parametrize("product", [product_by_us, product_by_spektral])
def test_aggregates_equal_the_graph_in_full(
    rows, product, adjacency, block, monkeypatch
):
    monkeypatch.setattr(label_graph, "_BLOCK_ROWS", block)
    monkeypatch.setattr(ddh_ldl, "_MESSAGE_WIDTH", 3)  # of 7 columns
    # A shape of its own for each block size: an earlier trace would keep the old size.
    d, x = (values[: 33 + block % 8] for values in rows)
    s = dense_graph(d, 0.7)
    assert 0.1 < (s > 0).mean() < 0.9
    degrees = s.sum(axis=1)
    a = {
        "raw": s,
        "row": s / degrees[:, None],
        "sym": s / np.sqrt(np.outer(degrees, degrees)),
    }[adjacency]
    actual = product(d, x, 0.7, adjacency)
    assert actual.shape == x.shape
    np.testing.assert_allclose(actual, a @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adjacency": "bogus"}, "`adjacency` must be one of"),
        ({"threshold": "x"}, "`threshold` must be a number"),
        ({"threshold": 1.5}, "`threshold` must be in"),
        ({"threshold": float("nan")}, "`threshold` must be in"),
        ({"d": np.zeros((0,))}, "`d` must have shape"),
        ({"d": np.ones((40, 5))}, "`d` must have rows that sum to 1"),
        ({"x": np.ones((39, 7))}, r"`x` must have shape \(n, any\)"),
        ({"x": np.full((40, 7), np.nan)}, "`x` must be finite"),
    ],
)
def test_wrong_arguments_are_named(rows, arguments, message):
    d, x = rows
    with pytest.raises((TypeError, ValueError), match=message):
        label_graph.aggregate(**{"d": d, "x": x, **arguments})


def test_graph_convolution_needs_no_graph(rows):
    """Rows of A X, in batches, give what Spektral's layer gives with all of A."""
    d, x = rows
    layer = GraphConvolution(3, activation="tanh", use_bias=False)
    whole = layer([tf.constant(x), tf.constant(dense_graph(d, 0.5))])
    aggregated = label_graph.aggregate(d, x, 0.5, "raw")
    parts = [layer([aggregated[start : start + 16]]) for start in (0, 16, 32)]
    np.testing.assert_allclose(tf.concat(parts, 0), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("threshold", [None, 0.0, 0.7])
def test_relation_loss_and_gradient_equal_the_dense_ones(rows, threshold):
    d, x = rows
    target = dense_graph(d, -1.0 if threshold is None else threshold)
    h = tf.constant(np.tanh(x))

    def dense(h):
        unit = tf.math.l2_normalize(h, axis=1)
        return tf.reduce_mean((tf.matmul(unit, unit, transpose_b=True) - target) ** 2)

    def ours(h):
        return label_graph.relation_loss(h, tf.constant(d), threshold)

    values = []
    for function in (dense, ours):
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = function(h)
        values.append((value.numpy(), tape.gradient(value, h).numpy()))
    np.testing.assert_allclose(values[0][0], values[1][0], rtol=1e-5)
    np.testing.assert_allclose(values[0][1], values[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("adjacency", ["raw", "row", "sym"])
@pytest.mark.parametrize("classes", [5, 300])
def test_rows_are_as_similar_as_can_be_to_themselves_and_equal_ones(
    adjacency, classes, rng
):
    d = rng.dirichlet(np.ones(classes), 50)
    d = np.concatenate([d, d[:20]])
    a = np.concatenate([*label_graph.adjacency_blocks(d, 1.0, adjacency)])
    equal = np.eye(50)[np.r_[:50, :20]]
    equal = equal @ equal.T
    share = 1.0 if adjacency == "raw" else 1.0 / equal.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(a, equal * share, rtol=1e-5)
    x = rng.normal(size=(70, 3))
    actual = label_graph.aggregate(d, x, 1.0, adjacency)
    np.testing.assert_allclose(actual, (equal * share) @ x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("adjacency", ["raw", "row", "sym"])
def test_no_rows_aggregate_to_none(adjacency):
    none = label_graph.aggregate(
        np.zeros((0, 3)), np.zeros((0, 2)), adjacency=adjacency
    )
    assert none.shape == (0, 2)
