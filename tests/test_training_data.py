"""The forms of data that `fit`, `evaluate` and `encode` take, and cached features."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash
from kerashash.baselines import SSDH

N = 22
X = np.random.default_rng(0).normal(size=(N, 6)).astype(np.float32)
IDS = np.arange(N) % 3
ROWS = np.eye(3, dtype=np.float32)[IDS]
DSDH = {"divergence": None, "b_update": "dcc", "w_update": "ridge", "num_train": N}
SMALL = {"num_train": N, "label_units": (4,), "fusion_units": (4,)}


def network(*more, frozen=False):
    net = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
        ]
    )
    net.trainable = not frozen
    return keras.Sequential([net, *more]) if more else net


def build(method, backbone=network, eager=True, **options):
    keras.utils.set_random_seed(0)
    model = method(backbone(), bits=8, num_classes=3, **options)
    model.compile(keras.optimizers.SGD(0.05), run_eagerly=eager)
    return model


class Batches(keras.utils.PyDataset):
    def __init__(self, x=X, y=IDS, size=8, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, number):
        rows = slice(number * self.size, (number + 1) * self.size)
        return self.x[rows], self.y[rows]


class Shuffled(Batches):
    def on_epoch_end(self):
        pass


class Indexed(Shuffled):
    def __getitem__(self, number):
        x, y = super().__getitem__(number)
        start = number * self.size
        return x, {"label": y, "index": np.arange(start, start + len(x))}


def trained(model, *data, **kwargs):
    history = model.fit(*data, epochs=2, verbose=0, shuffle=False, **kwargs)
    weights = [w.ravel() for w in model.hash_head.get_weights()]
    return np.concatenate([history.history["loss"], *weights])


def test_class_ids_and_label_rows_are_the_same_in_every_form():
    slices = tf.data.Dataset.from_tensor_slices
    model = build(SSDH, lambda: network(frozen=True), eager=False)
    model.compile(keras.optimizers.SGD(0.0))  # it stays as it is
    expected = model.evaluate(X, ROWS, batch_size=8, verbose=0, return_dict=True)
    stream = ((X[s : s + 8], IDS[s : s + 8]) for s in range(0, N, 8))
    for source, options in (
        ((X, IDS), {"batch_size": 8}),
        ((slices((X, IDS)).batch(8),), {}),
        ((kerashash.data.indexed(slices((X, np.int32(IDS)))).batch(8),), {}),
        ((Batches(),), {}),
        ((stream,), {"steps": 3}),
    ):
        values = model.evaluate(*source, verbose=0, return_dict=True, **options)
        assert values == pytest.approx(expected, rel=1e-5)
    for data in ((X, IDS), slices((X, IDS)).batch(8)):
        validated = model.fit(X, IDS, 8, validation_data=data, verbose=0).history
        assert validated["val_class_loss"] == pytest.approx([expected["class_loss"]])
        assert model.fit(slices((X, IDS)).batch(8), verbose=0).history["loss"]


@pytest.mark.parametrize("wrong", [np.array([3] * N), np.array([-1] * N)])
def test_wrong_class_ids_of_validation_data_are_named(wrong):
    model = build(SSDH, eager=False)
    dataset = tf.data.Dataset.from_tensor_slices((X, wrong)).batch(8)
    for data in ((X, wrong), dataset, Batches(y=wrong)):
        with pytest.raises(ValueError, match="must hold class ids from 0"):
            model.fit(X, IDS, validation_data=data, verbose=0)
    with pytest.raises(ValueError, match="must hold class ids from 0"):
        model.evaluate(dataset, verbose=0)
    with pytest.raises(ValueError, match="`validation_data` must be a pair"):
        model.fit(X, IDS, validation_data=(X, IDS, IDS), verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` is not supported"):
        model.evaluate(X, IDS, sample_weight=np.ones(N))


@pytest.mark.parametrize(("method", "options"), [(AdaLabelHash, {}), (DSRE, DSDH)])
def test_a_py_dataset_trains_as_arrays_do(method, options):
    expected = trained(build(method, **options), X, IDS, batch_size=8)
    for data in (Batches(workers=2), Indexed()):
        values = trained(build(method, **options), data)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    if method is not AdaLabelHash:
        return
    stream = ((X[s : s + 8], ROWS[s : s + 8]) for _ in "12" for s in range(0, N, 8))
    values = trained(build(method), stream, steps_per_epoch=3)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)


def test_a_shuffled_py_dataset_keeps_rows_and_codes_together():
    """`fit` shuffles batches by default: the index goes with them."""
    model = build(DSRE, **DSDH)
    model.fit(Batches(), epochs=2, verbose=0)
    np.testing.assert_array_equal(model.rows.labels, ROWS)


@pytest.mark.parametrize(
    ("method", "data", "message"),
    [
        (DCDH, Shuffled(), "PyDataset with `on_epoch_end` may change their order"),
        (DCDH, (batch for batch in Batches()), "can be read only once"),
        (DCDH, Batches(x=X[:8], y=IDS[:8]), "num_train=22, but an epoch holds 8"),
        (SSDH, Batches(y=5 + IDS), "`label` must hold class ids from 0"),
        (SSDH, iter([(X, ROWS, np.ones(N))]), "takes no sample weights"),
        (SSDH, iter([X]), "needs labels"),
        (SSDH, Batches(x=X[:, :5]), r"`x` must have shape \(n, 6\)"),
        (SSDH, Batches(x=X * np.nan), "`x` must be finite"),
    ],
)
def test_batches_that_do_not_fit_are_named(method, data, message):
    options = {"label_units": (4,), "fusion_units": (4,), "num_train": N}
    model = build(method, **options if method is DCDH else {})
    with pytest.raises(ValueError, match=message):
        model.fit(data, verbose=0)


def test_batches_of_several_sizes_have_no_index():
    class Uneven(Batches):
        def __getitem__(self, number):
            x, y = super().__getitem__(number)
            return (x[:5], y[:5]) if number == 1 else (x, y)

    with pytest.raises(ValueError, match=r"batches of one size.*5 rows in batch 1"):
        build(DSRE, **DSDH).fit(Uneven(), verbose=0)


def test_encode_takes_batches_by_number_or_one_after_the_other():
    class Loader:
        def __iter__(self):
            return iter(Batches()[i] for i in range(3))

    model = build(SSDH)
    expected = model.encode(X)
    sources = [Batches(), (x for x, _ in Batches()), Loader(), iter(X), Loader()]
    for source in sources:
        np.testing.assert_array_equal(model.encode(source, batch_size=5), expected)
    for empty in ([], (), np.zeros((0, 6)), iter([])):
        assert model.encode(empty).shape == (0, 1)
        assert model.encode(empty, packed=False).shape == (0, 8)
    with pytest.raises(ValueError, match=r"`x` must have shape \(n, 6\)"):
        model.encode(iter([X[:, :5]]))


class Seen(keras.layers.Layer):
    """Counts the rows that pass."""

    rows = 0

    def call(self, x):
        def add(x):
            Seen.rows += len(x)
            return x

        return tf.ensure_shape(tf.numpy_function(add, [x], tf.float32), x.shape)

    def compute_output_shape(self, shape):
        return shape


def data_set():
    return kerashash.data.indexed(tf.data.Dataset.from_tensor_slices((X, ROWS)))


HEAD = [keras.layers.Dense(7, "tanh"), keras.layers.Dropout(0.3)]
KINDS = [
    (SSDH, {}, lambda: network(*map(clone, HEAD), frozen=True)),
    (DSRE, DSDH, lambda: network(frozen=True)),
    (
        DCDH,
        {"num_train": N, "label_units": (4,), "fusion_units": (4,)},
        lambda: nested(network(frozen=True)),
    ),
]


def clone(layer):
    return type(layer).from_config(layer.get_config())


def nested(frozen):
    """The usual form of transfer learning: a frozen network within a network."""
    x = keras.Input((6,))
    return keras.Model(x, keras.layers.Dense(7, "tanh")(frozen(x)))


@pytest.mark.parametrize(("method", "options", "backbone"), KINDS)
def test_training_on_cached_features_is_the_same(method, options, backbone):
    sources = [(data_set().batch(8),)]
    sources += [(X, IDS), (Batches(),)] if method is SSDH else []
    expected = trained(build(method, backbone, **options), X, IDS, batch_size=8)
    for source in sources:
        model = build(method, backbone, **options)
        size = {"batch_size": 8} if len(source) == 2 else {}
        values = trained(model, *source, cache_features=True, **size)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
    # The model is whole again.
    assert np.isfinite(trained(model, X, IDS)).all()


def test_cached_features_pass_each_image_once_and_keep_the_order_of_shuffling():
    def seen():
        net = keras.Sequential([keras.Input((6,)), Seen(), network(frozen=True)])
        net.trainable = False
        return net

    results = []
    for cached in (False, True):
        model = build(SSDH, seen, eager=False)
        Seen.rows = 0
        history = model.fit(
            X, IDS, batch_size=8, epochs=3, verbose=0, cache_features=cached
        )
        results.append(history.history["loss"])
        # The first batch also as in training, to see that this is the same.
        assert Seen.rows == (N + 8 if cached else 3 * N)
    np.testing.assert_allclose(*results, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options", "backbone", "data", "message"),
    [
        (SSDH, {}, network, (X, IDS), "begins with frozen layers"),
        (SSDH, {}, lambda: "features", (X, IDS), None),
        (
            SSDH,
            {},
            lambda: keras.Sequential(
                [keras.Input((6,)), keras.layers.Dropout(0.5), network(frozen=True)]
            ),
            (X, IDS),
            "training changes what 'dropout",
        ),
        (
            SSDH,
            {},
            lambda: network(frozen=True),
            (tf.data.Dataset.from_tensor_slices((X, ROWS)).batch(8),),
            "`cache_features` needs 'index'",
        ),
        (SSDH, {}, lambda: network(frozen=True), (iter([]),), "only once"),
        (
            DSRE,
            {"p_features": "input"},
            lambda: network(frozen=True),
            (X, IDS),
            "`cache_features` must be False for a `DSRE`",
        ),
        (
            SSDH,
            {},
            lambda: network(frozen=True),
            (data_set().skip(3).batch(8),),
            "each of the numbers from 0 on",
        ),
        (
            SSDH,
            {},
            lambda: network(frozen=True),
            (data_set().repeat().batch(8),),
            "repeats",
        ),
    ],
)
def test_features_that_cannot_be_cached_are_named(
    method, options, backbone, data, message
):
    model = build(method, backbone, **options)
    if message is None:  # nothing to gain, nothing wrong
        model.fit(*data, cache_features=True, verbose=0)
        return
    with pytest.raises(ValueError, match=message):
        model.fit(*data, cache_features=True, verbose=0)
    if len(data) == 2:
        model.fit(*data, verbose=0)


class Doubled(keras.layers.Layer):
    """Augments in training, without a random generator of Keras."""

    def call(self, x, training=False):
        return 2.0 * x if training else x


@pytest.mark.parametrize(
    "layer",
    [
        Doubled,
        lambda: keras.layers.Dense(4, activity_regularizer="l2"),
        lambda: keras.layers.SpectralNormalization(keras.layers.Dense(4)),
    ],
)
def test_frozen_layers_that_act_otherwise_in_training_are_not_cached(layer):
    net = keras.Sequential([keras.Input((6,)), layer(), keras.layers.Dense(4)])
    net.trainable = False
    model = build(SSDH, lambda: net)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"`cache_features` must be False.*frozen"):
        model.fit(X, IDS, cache_features=True, verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("cached", [False, True])
def test_arrays_may_have_their_own_index(cached):
    order = np.random.default_rng(1).permutation(N)
    data = X[order], {"label": ROWS[order], "index": order}
    model, other = (build(DSRE, lambda: network(frozen=True), **DSDH) for _ in "12")
    received = trained(model, *data, batch_size=8, cache_features=cached)
    expected = trained(other, tf.data.Dataset.from_tensor_slices(data).batch(8))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(model.rows.labels, ROWS)
    np.testing.assert_array_equal(model.learned_codes(), other.learned_codes())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (np.zeros(N), r"`index` must be integers of shape \(22,\)"),
        (np.arange(N - 1), r"`index` must be integers of shape \(22,\)"),
        (np.arange(N)[:, None], r"`index` must be integers of shape \(22,\)"),
        (np.arange(N) // 2, "`index` must hold each training row once"),
        (np.arange(N) + 2**32, "`index` must lie in 0 to num_train - 1"),
    ],
)
def test_a_wrong_index_of_arrays_is_named(index, message):
    with pytest.raises(ValueError, match=message):
        build(DSRE, **DSDH).fit(X, {"label": IDS, "index": index}, verbose=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"verbose": "x"}, ValueError, "`verbose` must be one of .*Received: 'x'"),
        ({"verbose": 9}, ValueError, "`verbose` must be one of .*Received: 9"),
        ({"shuffle": "x"}, ValueError, "`shuffle` must be one of .*Received: 'x'"),
        ({"shuffle": None}, ValueError, "`shuffle` must be one of .*Received: None"),
        ({"cache_features": "no"}, TypeError, "`cache_features` must be True or"),
    ],
)
def test_wrong_options_of_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        build(SSDH).fit(X, IDS, **{"verbose": 0, **options})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "mse"),
        ("metrics", ["accuracy"]),
        ("weighted_metrics", ["accuracy"]),
        ("loss_weights", [1.0]),
    ],
)
def test_compile_takes_no_losses_or_metrics(name, value):
    model = build(SSDH)
    with pytest.raises(ValueError, match=f"`{name}` must be None.*Received: {name}="):
        model.compile("sgd", **{name: value})
    with pytest.raises(ValueError, match="`optimizer` must be"):
        model.compile(optimizer=None)
    # Version 0.1 took them, and its models load.
    model.compile_from_config({"optimizer": "adam", name: value})
    assert isinstance(model.optimizer, keras.optimizers.Adam)


@pytest.mark.slow
def test_several_steps_an_execution_train_the_same():
    losses = []
    for steps in (1, 2):
        model = build(DSRE, **DSDH)
        model.compile(keras.optimizers.SGD(0.05), steps_per_execution=steps)
        losses.append(trained(model, X, IDS, batch_size=8))
    np.testing.assert_allclose(*losses, rtol=1e-4, atol=1e-5)


def test_methods_without_a_loss_on_other_data_say_what_to_use():
    model = build(DDHLDL, num_train=N, code_units=(4,), function_units=(4,))
    with pytest.raises(ValueError, match=r"label_distribution\.measures"):
        model.evaluate(X, ROWS, verbose=0)

    class Own(kerashash.HashModel):
        pass

    with pytest.raises(ValueError, match=r"`Own` has no loss.*kerashash.evaluate"):
        build(Own).evaluate(X, IDS)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # of unknown size
@pytest.mark.parametrize("jit_compile", [False, True])
def test_losses_are_means_over_rows_however_they_are_batched(jit_compile):
    """A last batch of few rows counts by these, and the end of the data not at all."""
    keras.utils.set_random_seed(0)
    model = AdaLabelHash(network(frozen=True), bits=8, num_classes=3)
    model.compile(keras.optimizers.SGD(0.0), jit_compile=jit_compile)
    pairs = tf.data.Dataset.from_tensor_slices((X, IDS))
    truth = np.mean(
        [model.evaluate(X[i : i + 1], IDS[i : i + 1], verbose=0) for i in range(N)]
    )
    unknown = pairs.filter(lambda x, y: True).batch(9)
    assert unknown.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert N % 9
    assert N % 16
    stream = ((X[rows], IDS[rows]) for rows in (slice(0, 21), slice(21, N)))
    for data in ((X, IDS, 16), (unknown,), (pairs.batch(N).take(1),)):
        np.testing.assert_allclose(model.evaluate(*data, verbose=0), truth, rtol=1e-5)
    fitted = model.fit(unknown, validation_data=unknown, verbose=0).history
    np.testing.assert_allclose([fitted["loss"], fitted["val_loss"]], truth, rtol=1e-5)
    received = model.evaluate(stream, verbose=0)
    np.testing.assert_allclose(received, truth, rtol=1e-5)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (AdaLabelHash, {}),
        (DSRE, {}),
        (DSRE, DSDH),
        (DCDH, SMALL),
        (DCDH, {"variant": "V", **SMALL}),
        (DCDH, {"variant": "S", "balance_weight": 1.0, **SMALL}),
        (SSDH, {}),
    ],
)
def test_evaluation_gives_each_value_once(method, options):
    model = build(method, **options)
    history = model.fit(X, IDS, validation_data=(X, IDS), verbose=0).history
    names = model.metrics_names
    assert names[0] == "loss"
    assert len({*names}) == len(names)
    epoch_values = {"learned_bit_flips"}
    expected = {*names, *(f"val_{name}" for name in names)}
    assert {*history} - epoch_values == expected
    by_name = model.evaluate(X, IDS, verbose=0, return_dict=True)
    for values in (model.evaluate(X, IDS, verbose=0), model.test_on_batch(X, IDS)):
        assert isinstance(values, float if len(names) == 1 else list)
        received = dict(zip(names, np.atleast_1d(values), strict=True))
        assert received == pytest.approx(by_name, rel=1e-5)


def from_generator(rank, index_rank=None):
    """Batches whose inputs, or index, have no known number of dimensions."""
    rows = {"label": ROWS, "index": np.arange(N)}
    shapes = ([None] * rank if rank else None), ([None] if index_rank else None)
    dataset = tf.data.Dataset.from_generator(
        lambda: iter([(X, rows)]),
        output_signature=(
            tf.TensorSpec(shapes[0], tf.float32),
            {
                "label": tf.TensorSpec((None, 3), tf.float32),
                "index": tf.TensorSpec(shapes[1], tf.int64),
            },
        ),
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(1))


@pytest.mark.parametrize(
    ("method", "options"),
    [(AdaLabelHash, {}), (DDH, {"num_train": N}), (DSRE, DSDH)],
)
def test_an_unknown_number_of_dimensions_is_named(method, options):
    model = build(method, **options)
    model.compile(keras.optimizers.SGD(0.05), jit_compile=False)
    with pytest.raises(ValueError, match="`x` must have a known number of dimensions"):
        model.fit(from_generator(None, 1), verbose=0)
    # That of the index is known anyway.
    loss = model.fit(from_generator(2), verbose=0).history["loss"]
    expected = build(method, **options).fit(X, ROWS, batch_size=N, verbose=0).history
    np.testing.assert_allclose(loss, expected["loss"], rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "options"),
    [(AdaLabelHash, {}), (DSRE, {}), (DCDH, {"num_train": N}), (SSDH, {})],
)
def test_evaluation_has_the_penalties_of_layers(method, options):
    penalty = keras.regularizers.L2(0.5)
    net = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(8, kernel_regularizer=penalty)]
    )
    model = build(method, lambda: net, **options)
    model.optimizer.learning_rate = 0.0
    model.fit(X, IDS, batch_size=N, verbose=0)
    kernel = net.layers[0].kernel
    with_penalty = model.evaluate(X, IDS, batch_size=N, verbose=0, return_dict=True)
    expected = 0.5 * float(np.sum(kernel.numpy() ** 2))
    kernel.regularizer = None
    without = model.evaluate(X, IDS, batch_size=N, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        with_penalty["loss"] - without["loss"], expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("value", "eager"),
    [(np.nan, False), pytest.param(np.inf, True, marks=pytest.mark.long)],
)
def test_data_sets_must_be_finite(value, eager):
    """ReLU hides NaN from the loss, and every weight before it is lost."""
    x = np.where(np.arange(N)[:, None] == 9, np.float32(value), X)
    data = tf.data.Dataset.from_tensor_slices((x, IDS)).batch(8)
    model = build(AdaLabelHash, eager=eager)
    for call in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"`x` must be finite\. Received NaN"):
            call(data, verbose=0)
    with pytest.raises(ValueError, match=r"`x` must be finite\. Received NaN"):
        kerashash.baselines.ITQ("features", bits=4).fit(data, verbose=0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint64", "int64"])
def test_an_index_has_any_type_of_integers(dtype):
    y = {"label": ROWS, "index": np.arange(N).astype(dtype)}
    data = tf.data.Dataset.from_tensor_slices((X, y)).batch(8)
    model = build(DCDH, num_train=N)
    model.fit(data, verbose=0)
    assert model.learned_codes().shape == (N, 8)


def pairs(x=X, y=IDS):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ((pairs(X[:, :5]),), {}, r"`x` must yield batches of shape \(None, 6\)"),
        (
            (pairs(y=IDS.astype("float32")),),
            {},
            "class ids that are integers.*float32",
        ),
        ((pairs({"a": X, "b": X}),), {}, "where x is one tensor"),
        ((pairs((X, X)),), {}, "where x is one tensor"),
        ((X, None), {}, "`y` must hold labels for a `AdaLabelHash`. Received: None"),
        ((X, {"labels": IDS}), {}, r"`y` must hold labels .* Received: \['labels'\]"),
        ((X, [[0], [1, 2]] * 11), {}, "`y` must be one array"),
        (([(X, IDS), (X, IDS)],), {}, "`x` must be one array"),
        ((X, IDS), {"validation_data": X}, r"`validation_data` must be a pair .* 22"),
        (
            (X, IDS),
            {"validation_data": (X[:, :2], IDS)},
            r"`validation_data\[0\]` must",
        ),
        ((X, IDS), {"validation_data": (X, IDS + 3)}, r"`validation_data\[1\]` must"),
        ((X, IDS), {"batch_size": 0}, "`batch_size` must be at least 1"),
        ((X, IDS), {"epochs": -1}, "`epochs` must be at least 0"),
        ((X, IDS), {"steps_per_epoch": 0}, "`steps_per_epoch` must be at least 1"),
        ((X.astype(float) * 1e300, IDS), {}, "out of the range of float32"),
        ((np.ma.masked_equal(X, X[3, 0]), IDS), {}, r"`x` must have .* rows \[3\]"),
        ((X, np.ma.masked_equal(IDS, 2)), {}, "`y` must have a value everywhere"),
        ((X, IDS), {"callbacks": ["tensorboard"]}, "`callbacks` must be a list of"),
        ((X, IDS), {"callbacks": [None]}, "`callbacks` must be a list of"),
        ((X, IDS), {"callbacks": keras.callbacks.History}, "`callbacks` must be"),
        ((X, IDS), {"initial_epoch": 0.5}, "`initial_epoch` must be an integer"),
        ((X, IDS), {"initial_epoch": -3}, "`initial_epoch` must be at least 0"),
        ((X, IDS), {"validation_freq": 0}, "`validation_freq` must be at least 1"),
        ((X, IDS), {"validation_batch_size": -1}, "`validation_batch_size` must be"),
    ],
)
def test_mistakes_in_data_are_named(data, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        build(AdaLabelHash).fit(*data, verbose=0, **options)


def test_masked_inputs_are_not_encoded():
    masked = np.ma.masked_equal(X, X[3, 0])
    with pytest.raises(ValueError, match=r"`x` must have a value .* rows \[3\]"):
        build(AdaLabelHash).encode(masked, verbose=0)


def test_single_batches_are_for_methods_that_need_no_others():
    model = build(AdaLabelHash)
    model.optimizer.learning_rate = 0.0
    expected = model.evaluate(X, IDS, verbose=0)
    assert model.test_on_batch(X, IDS) == pytest.approx(expected)
    model.entry = "adalabel-digits-48"
    assert model.train_on_batch(X, ROWS, return_dict=True).keys() == {"loss"}
    assert isinstance(model.train_on_batch(X, ROWS), float)
    assert model.entry is None  # it is no longer that of the zoo
    for method, options in ((DCDH, {"num_train": N}), (DSRE, DSDH)):
        with pytest.raises(ValueError, match="`train_on_batch` is not supported by"):
            build(method, **options).train_on_batch(X, IDS)
    with pytest.raises(ValueError, match="`ITQ`, which first passes over all"):
        kerashash.baselines.ITQ("features", bits=4).train_on_batch(X)
