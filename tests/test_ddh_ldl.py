"""DDH-LDL: its three stages, its predictions and its options."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from spektral.layers import GCNConv

import kerashash
from kerashash.evaluation import label_distribution as ld
from kerashash.maths import discrete, label_graph
from kerashash.methods import DDHLDL

SMALL = {"code_units": (64, 32), "function_units": (64,), "threshold": 0.5}


@pytest.fixture(scope="module")
def smooth():
    """Features and label distributions that depend on them; 40 rows are queries."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 8)).astype(np.float32)
    d = np.exp(x @ rng.normal(size=(8, 4)))
    return x, (d / d.sum(axis=1, keepdims=True)).astype(np.float32)


def build(n, bits=32, code_epochs=10, **options):
    options = {**SMALL, **options}
    model = DDHLDL("features", bits, 4, n, code_epochs=code_epochs, **options)
    model.compile(optimizer=keras.optimizers.Adam(5e-3))
    return model


@pytest.mark.parametrize(
    ("options", "batch_size"),
    [
        ({}, 50),
        ({"gcn": False}, 50),
        ({"rotation": False}, 50),
        pytest.param({"preset": "paper"}, 200, marks=pytest.mark.long),
    ],
)
def test_beats_the_mean_distribution(smooth, options, batch_size):
    x, d = smooth
    epochs = 30 if batch_size == 200 else 10
    model = build(200, code_epochs=epochs, **options)
    history = model.fit(
        x[40:], d[40:], batch_size=batch_size, epochs=3 * epochs, verbose=0
    ).history
    assert len(history["code_loss"]) == epochs
    assert len(history["function_loss"]) == 2 * epochs
    assert history["code_loss"][-1] < 0.5 * history["code_loss"][0]
    assert history["function_loss"][-1] < history["function_loss"][0]
    predicted = ld.measures(d[:40], model.predict_distribution(x[:40], k=10))
    mean = ld.measures(d[:40], np.tile(d[40:].mean(axis=0), (40, 1)))
    assert predicted["kl"] < 0.5 * mean["kl"]
    assert predicted["intersection"] > mean["intersection"]


def test_training_rows_and_queries_are_encoded_alike(smooth):
    x, d = smooth
    model = build(200, code_epochs=2)
    model.fit(x[40:], d[40:], epochs=5, verbose=0)
    encoded = model.encode(x[40:], packed=False)
    np.testing.assert_array_equal(model.learned_codes(), encoded)
    expected = ld.hashed_distribution(
        model.encode(x[:40]), np.packbits(encoded > 0, axis=1), d[40:], 30, 32
    )
    np.testing.assert_allclose(model.predict_distribution(x[:40]), expected, atol=2e-6)


def test_codes_are_those_of_the_rotated_function_network(smooth):
    x, d = smooth
    model = build(200, code_epochs=3)
    model.fit(x[40:], d[40:], epochs=6, verbose=0)
    *network, rotation = model.hash_head.layers
    matrix = rotation.matrix.numpy()
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(32), atol=1e-4)
    assert not np.allclose(matrix, np.eye(32), atol=0.1)
    continuous = tf.constant(x)
    for layer in network:
        continuous = layer(continuous, training=False)
    np.testing.assert_array_equal(
        model.encode(x, packed=False), discrete.sign(continuous @ matrix)
    )
    without = build(200, code_epochs=3, rotation=False)
    without.fit(x[40:], d[40:], epochs=4, verbose=0)
    np.testing.assert_array_equal(without.hash_head.layers[-1].matrix, np.eye(32))


@pytest.mark.filterwarnings("ignore:The function network")
def test_stages_train_their_own_network_only(smooth):
    x, d = smooth
    model = build(200, code_epochs=2)
    model.fit(x[40:], d[40:], epochs=1, verbose=0)
    networks = (model.code_network, model.hash_head)
    for fixed in (1, 0):
        before = [[w.numpy() for w in n.trainable_variables] for n in networks]
        model.fit(x[40:], d[40:], epochs=1, verbose=0)
        after = [[w.numpy() for w in n.trainable_variables] for n in networks]
        same = [
            all(np.array_equal(a, b) for a, b in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]
        assert same == [fixed == 0, fixed == 1]


def schedule():
    return keras.optimizers.schedules.CosineDecay(0.02, 9)


OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.Adam(
        schedule(), gradient_accumulation_steps=2
    ),
    "average": lambda: keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True),
    "nadam": lambda: keras.optimizers.Nadam(0.02),
}


class Log(keras.callbacks.Callback):
    """Keeps the losses of all epochs, and ends training early as a crash would."""

    def __init__(self, kill=False):
        super().__init__()
        self.losses, self.kill = [], kill

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append((epoch, logs))
        if self.kill:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:Can save best model only")
def test_the_best_loss_is_that_of_a_network_that_encodes(smooth, tmp_path):
    """That of the code network is smaller, and would be taken for the best."""
    x, d = (values[:40] for values in smooth)
    keras.utils.set_random_seed(0)
    units = {"code_units": (8, 8), "function_units": (8,)}
    model = build(40, 6, code_epochs=2, teacher="train", **units)
    model.compile(keras.optimizers.Adam(1e-4), run_eagerly=True)
    path = tmp_path / "best.keras"
    best = keras.callbacks.ModelCheckpoint(path, monitor="loss", save_best_only=True)
    history = model.fit(x, d, epochs=4, callbacks=best, verbose=0).history
    assert [len(history[name]) for name in ("code_loss", "loss")] == [2, 2]
    assert max(history["code_loss"]) < min(history["loss"])
    assert int(kerashash.load_model(path).epochs_done.numpy()) > 2


@pytest.mark.filterwarnings("ignore:The function network")
@pytest.mark.parametrize(
    ("optimizer", "code_epochs"),
    [pytest.param("accumulation", 2, marks=pytest.mark.long), ("average", 1)],
)
def test_interrupted_training_goes_on_exactly(smooth, tmp_path, optimizer, code_epochs):
    """In both stages, and at the change."""
    n, epochs = 40, 2 * code_epochs
    x, d = (values[:n] for values in smooth)

    def new(seed):
        keras.utils.set_random_seed(seed)
        units = {"code_units": (8, 8), "function_units": (8,)}
        model = build(n, 6, code_epochs, teacher="train", **units)
        model.compile(OPTIMIZERS[optimizer](), run_eagerly=True)
        return model

    def fit(model, callbacks, end=epochs, begin=0):
        options = {"batch_size": 16, "shuffle": False, "verbose": 0}
        model.fit(x, d, epochs=end, initial_epoch=begin, callbacks=callbacks, **options)

    whole, log = new(1), Log()
    files = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(whole, [log, files])
    expected = log.losses

    def check(model, losses):
        assert losses == expected[-len(losses) :]  # to the bit
        for a, b in zip(model.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    losses = []
    for epoch in range(epochs):
        model, log = new(1 if epoch == 0 else 10), Log(kill=epoch < epochs - 1)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        try:
            fit(model, [backup, log])
        except KeyboardInterrupt:
            assert log.kill
        assert model.rows is None  # the features of all rows
        losses += log.losses
    check(model, losses)
    for epoch in range(1, epochs):
        model, log = kerashash.load_model(tmp_path / f"{epoch}.keras"), Log()
        fit(model, [log], begin=epoch)
        check(model, log.losses)
    if optimizer == "average":
        return  # the end of a `fit` sets weights to their averages
    model, log = new(1), Log()
    for epoch in range(epochs):
        fit(model, [log], epoch + 1, epoch)
    check(model, log.losses)


@pytest.mark.filterwarnings("ignore:The function network")
def test_other_distributions_begin_again_with_stage_1(smooth):
    x, d = (values[:40] for values in smooth)
    other = np.roll(d, 1, axis=1)
    model = build(40, 6, 1)
    model.compile("adam", run_eagerly=True)
    fit = functools.partial(model.fit, verbose=0)
    fit(x, d, epochs=2)
    before = model.learned_codes()
    with pytest.raises(ValueError, match=r"`x` must be the training data.*resume"):
        fit(x, other, initial_epoch=2, epochs=3)
    np.testing.assert_array_equal(model.learned_codes(), before)
    assert "code_loss" not in fit(x, d, initial_epoch=2, epochs=3).history
    assert "loss" not in fit(x, other).history
    np.testing.assert_allclose(model.train_distributions, other, atol=1e-6)
    with pytest.raises(ValueError, match="no learned codes yet"):  # before were of d
        model.learned_codes()
    assert "code_loss" not in fit(x, other).history
    assert model.learned_codes().all()


@pytest.mark.filterwarnings("ignore:The function network")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_stage_3_begins_with_a_new_optimizer(smooth, optimizer):
    x, d = (values[:40] for values in smooth)
    model = build(40, 6, 1)
    model.compile(OPTIMIZERS[optimizer](), run_eagerly=True)
    model.fit(x, d, batch_size=9, epochs=1, verbose=0)
    new = OPTIMIZERS[optimizer]()
    new.build(model.trainable_variables)
    for a, b in zip(model.optimizer.variables, new.variables, strict=True):
        if "average" not in a.name:  # set again by the end of `fit`
            np.testing.assert_array_equal(a, b)


def test_distributions_are_not_predicted_before_the_function_network(smooth):
    x, d = smooth
    model = build(200)
    with pytest.raises(ValueError, match="no learned codes before `fit`"):
        model.predict_distribution(x)
    with pytest.warns(UserWarning, match=r"function network.* is not trained yet"):
        model.fit(x[40:], d[40:], epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"has done 1 epochs.*code_epochs=10"):
        model.predict_distribution(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adjacency": "random"}, "`adjacency` must be one of"),
        ({"target": "raw"}, "`target` must be one of"),
        ({"teacher": "test"}, "`teacher` must be one of"),
        ({"threshold": 1.5}, r"`threshold` must be in \[0, 1\]"),
        ({"label_weight": -1.0}, "`label_weight` must be at least 0"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\)"),
        ({"code_epochs": 0}, "`code_epochs` must be at least 1"),
        ({"dom_iterations": 0}, "`dom_iterations` must be at least 1"),
        ({"code_units": ()}, "`code_units` must hold"),
        ({"function_units": (0,)}, "`function_units` must be at least 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(200, **options)


def test_bad_training_data_is_named(smooth):
    x, d = smooth
    model = build(240)
    cases = [
        ((x, d * 2), "`y` must have rows that sum to 1"),
        ((x, d[:, :3]), r"`y` must have shape \(n, 4\)"),
        ((x, d - 0.5), "`y` must be at least 0"),
        ((x, d.argmax(axis=1)), r"`y` must have shape \(n, 4\)"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            model.fit(*arguments, verbose=0)
    rows = tf.data.Dataset.from_tensor_slices(
        (x, {"label": 2 * d, "index": np.arange(240, dtype=np.int32)})
    )
    with pytest.raises(ValueError, match="`label` must have rows that sum to 1"):
        model.fit(rows.batch(60), verbose=0)
    with pytest.raises(ValueError, match="`validation_data` is not supported"):
        model.fit(x, d, validation_data=(x, d), verbose=0)


@pytest.mark.filterwarnings("ignore:The function network")
def test_arrays_are_one_batch_up_to_1024_rows(rng):
    x, d = rng.normal(size=(100, 4)), rng.dirichlet([1.0, 1.0], 100)
    model = DDHLDL("features", bits=8, num_classes=2, num_train=100)
    model.compile(keras.optimizers.SGD(0.01))
    model.fit(x, d, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == 2
    model.fit(x, d, batch_size=50, epochs=1, verbose=0)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.filterwarnings("ignore:The function network")
@pytest.mark.parametrize("adjacency", ["raw", "row", "sym"])
def test_spektral_passes_the_messages(smooth, adjacency, monkeypatch):
    """`GCNConv.call` sees the whole graph once, and the learned kernel in each step."""
    x, d = smooth
    calls, call = [], GCNConv.call

    def watched(layer, inputs, mask=None):
        calls.append((layer, *inputs))
        return call(layer, inputs)

    monkeypatch.setattr(GCNConv, "call", watched)
    monkeypatch.setattr(label_graph, "_BLOCK_ROWS", 100)
    model = build(240, adjacency=adjacency)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    model.fit(x, d, batch_size=90, epochs=1, shuffle=False, verbose=0)
    messages = [(x, a) for layer, x, a in calls if layer is not model.code_network.gcn]
    blocks = [*label_graph.adjacency_blocks(d, 0.5, adjacency)]
    assert [a.shape for _, a in messages] == [(100, 240), (100, 240), (40, 240)]
    for (nodes, a), block in zip(messages, blocks, strict=True):
        np.testing.assert_array_equal(nodes, x)
        np.testing.assert_allclose(a, block, rtol=1e-5)
    sums = label_graph.aggregate(d, x, 0.5, adjacency)
    steps = [nodes for layer, nodes, _ in calls if layer is model.code_network.gcn]
    assert [len(nodes) for nodes in steps] == [90, 90, 60]
    np.testing.assert_allclose(
        tf.concat(steps, axis=0)[:, 0], sums, rtol=1e-5, atol=1e-5
    )


def by_hand(layers, x, moments):
    """Dense layers with batch normalization and tanh."""
    dense, normalization, _ = layers[:3]
    x = x @ dense.kernel.numpy().astype(float)
    mean, variance = moments(normalization, x)
    x = (x - mean) / np.sqrt(variance + 1e-5)
    x = np.tanh(x * normalization.gamma.numpy() + normalization.beta.numpy())
    return by_hand(layers[3:], x, moments) if layers[3:] else x


def of_batch(normalization, x):
    return x.mean(axis=0), x.var(axis=0)


def moving(normalization, x):
    return normalization.moving_mean.numpy(), normalization.moving_variance.numpy()


@pytest.mark.parametrize("preset", ["default", "paper", "authors"])
def test_objective_is_equations_1_to_11_by_hand(smooth, preset):
    n, bits, alpha, beta = 40, 4, 3.0, 0.8
    x, d = (values[:n].astype(float) for values in smooth)
    keras.utils.set_random_seed(3)
    model = DDHLDL(
        "features",
        bits,
        4,
        n,
        code_epochs=1,
        threshold=beta,
        label_weight=alpha,
        dropout=0.0,
        code_units=(6, 5),
        function_units=(7,),
        preset=preset,
    )
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    history = model.fit(x, d, epochs=2, verbose=0).history

    unit = d / np.linalg.norm(d, axis=1, keepdims=True)
    cosines = unit @ unit.T
    s = np.where(cosines < beta, 0.0, cosines)  # eq. 2
    assert 0.2 < (s > 0).mean() < 0.8
    degrees = s.sum(axis=1)
    a = s / np.sqrt(np.outer(degrees, degrees)) if preset == "default" else s
    network = model.code_network

    def dense(layer, x):
        return x @ layer.kernel.numpy() + layer.bias.numpy()

    def codes(moments):
        mlp = by_hand(network.mlp.layers, x, moments)  # eq. 1
        gcn = np.tanh(a @ x @ network.gcn.kernel.numpy())  # eq. 3
        fused = dense(network.mlp_fusion, mlp) + dense(network.gcn_fusion, gcn)
        return np.tanh(dense(network.code, fused))  # eq. 4

    h = codes(of_batch)
    h_unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    target = cosines if preset == "authors" else s
    code_loss = ((h_unit @ h_unit.T - target) ** 2).mean()  # eq. 5
    np.testing.assert_allclose(history["code_loss"], [code_loss], rtol=1e-4)

    h = codes(moving if preset == "default" else of_batch)
    b = np.where(h >= 0, 1.0, -1.0)
    for _ in range(1 if preset == "authors" else 100):
        p = np.linalg.pinv(d) @ b  # eq. 9
        left, _, right = np.linalg.svd(b.T @ h)
        r = right.T @ left.T  # eq. 10
        b = np.where(h @ r + alpha * d @ p >= 0, 1.0, -1.0)  # eq. 11
    *layers, rotation = model.hash_head.layers
    np.testing.assert_allclose(rotation.matrix, r, atol=1e-4)
    g = by_hand(layers, x, of_batch)
    function_loss = ((g - h) ** 2).mean()  # eq. 6
    np.testing.assert_allclose(history["function_loss"], [function_loss], rtol=1e-3)
    expected = np.where(by_hand(layers, x, moving) @ r >= 0, 1, -1)
    assert (model.learned_codes() == expected).mean() > 0.99
