"""The objective of each method by hand, as the first step of `fit` reports it.

No two weights are equal, all rows are one batch, and a learning rate of 0 leaves the
model as it was, so that each option must do what its name says.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerashash.baselines import (
    CNNH,
    DHN,
    DISH,
    DPSH,
    DSDH,
    DTSH,
    NINH,
    SSDH,
    HashNet,
)
from kerashash.maths import discrete, label_graph, losses, similarity
from kerashash.methods import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash

N, BITS, CLASSES = 24, 6, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5)).astype(np.float32)
#: One or two labels a row.
LABELS = np.eye(CLASSES)[np.arange(N) % CLASSES]
LABELS[::3, 1] = 1.0
SIMILAR = LABELS @ LABELS.T > 0
DISTRIBUTIONS = RNG.dirichlet(np.full(CLASSES, 0.5), N).astype(np.float32)


def network(units=7):
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(units, "tanh")])


def first_step(model, y=LABELS, epochs=1):
    """The values that `fit` reports for each epoch, by name."""
    # One step: tracing a graph would take longer.
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    return model.fit(X, y, batch_size=N, epochs=epochs, verbose=0).history


def check(history, **expected):
    for name, value in expected.items():
        np.testing.assert_allclose(history[name][0], value, rtol=2e-4, err_msg=name)


def continuous(model):
    return model.continuous_codes(X, verbose=0).astype(float)


def signs(u):
    return np.where(u >= 0, 1.0, -1.0)


def log1p_exp(t):
    return np.logaddexp(0, t)


# ---------------------------------------------------------------- AdaLabelHash


@pytest.mark.parametrize(
    ("options", "margin", "floor"),
    [
        ({"margin": 2.5}, 2.5, True),
        ({"margin": 2.5, "floor": False}, 2.5, False),
        ({}, BITS / 4, True),
        ({"preset": "paper"}, 1.0, True),
    ],
)
def test_adalabel(options, margin, floor):
    labels = LABELS.copy()
    labels[1, 2] = -1
    model = AdaLabelHash(network(), BITS, CLASSES, **options)
    codewords = 2 * RNG.normal(size=(CLASSES, BITS))
    model.codewords.set_weights([codewords])
    scores = continuous(model) @ np.tanh(codewords).T
    hinges = []
    for row, score in zip(labels, scores, strict=True):
        hardest = score[row == 0].max()
        if floor:
            hardest = max(hardest, 0)
        hinges += [max(0, margin - s + hardest) for s in score[row == 1]]
    check(first_step(model, labels), loss=np.mean(hinges))
    config = model.get_config()
    assert (config["margin"], config["floor"]) == (margin, floor)


# ------------------------------------------------------------------------ SSDH


@pytest.mark.parametrize("classification", ["softmax", "hinge"])
def test_ssdh(classification):
    weights = (0.7, 1.3, 2.1)
    names = ("classification_weight", "binary_weight", "balance_weight")
    options = dict(zip(names, weights, strict=True))
    model = SSDH(network(), BITS, CLASSES, classification=classification, **options)
    a = (1 + continuous(model)) / 2
    kernel, bias = model.classifier.get_weights()
    scores = a @ kernel + bias
    labels = LABELS
    if classification == "softmax":
        labels = np.eye(CLASSES)[np.arange(N) % CLASSES]
        p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        class_loss = -np.log(p[labels == 1]).mean()
    else:
        gap = np.where(labels == 1, np.maximum(1 - scores, 0), np.maximum(scores, 0))
        class_loss = (gap**2 / 2).sum(axis=1).mean()
    terms = {
        "class_loss": class_loss,
        "binary_loss": -((a - 0.5) ** 2).mean(),
        "balance_loss": ((a.mean(axis=1) - 0.5) ** 2).mean(),
    }
    expected = np.dot(weights, [*terms.values()])
    check(first_step(model, labels), loss=expected, **terms)


# ----------------------------------------------------- Pairs and triplets of a batch


OFF = ~np.eye(N, dtype=bool)


def quantization(u):
    return ((u - signs(u)) ** 2).mean()


def triplets(values):
    """Mean of values[i, j, k] over similar i, j and dissimilar i, k, by loops."""
    return np.mean(
        [
            values[i, j, k]
            for i in range(N)
            for j in range(N)
            for k in range(N)
            if i != j and SIMILAR[i, j] and not SIMILAR[i, k]
        ]
    )


def test_dpsh():
    model = DPSH(network(), BITS, CLASSES, quantization_weight=0.7)
    u = continuous(model)
    kernel, bias = model.hash_head.get_weights()  # a linear layer
    np.testing.assert_allclose(u, model.backbone(X) @ kernel + bias, atol=1e-5)
    t = u @ u.T / 2
    pairs = (log1p_exp(t) - SIMILAR * t)[OFF].mean()
    terms = {"pair_loss": pairs, "quantization_loss": quantization(u)}
    check(first_step(model), loss=pairs + 0.7 * quantization(u), **terms)


def test_dhn():
    model = DHN(network(), BITS, CLASSES, quantization_weight=1.7)
    u = continuous(model)
    assert abs(u).max() < 1  # tanh
    t = u @ u.T
    pairs = (log1p_exp(t) - SIMILAR * t)[OFF].mean()
    prior = np.log(np.cosh(abs(u) - 1)).mean()
    terms = {"pair_loss": pairs, "quantization_loss": prior}
    check(first_step(model), loss=pairs + 1.7 * prior, **terms)


def test_dtsh():
    model = DTSH(network(), BITS, CLASSES, margin=2.5, quantization_weight=0.7)
    u = continuous(model)
    t = u @ u.T / 2
    order = triplets(log1p_exp(2.5 - t[:, :, None] + t[:, None, :]))
    terms = {"triplet_loss": order, "quantization_loss": quantization(u)}
    check(first_step(model), loss=order + 0.7 * quantization(u), **terms)


@pytest.mark.parametrize("epsilon", [0.5, 0.1])
def test_ninh(epsilon):
    model = NINH(network(), BITS, CLASSES, margin=0.8, units=3, epsilon=epsilon)
    u = continuous(model)
    # Each bit sees the three features of its own slice.
    divide, bias = model.hash_head.divide.get_weights()
    kernel, offset = model.hash_head.kernel.numpy(), model.hash_head.bias.numpy()
    hidden = np.maximum(model.backbone(X) @ divide + bias, 0).reshape(N, BITS, 3)
    a = 1 / (1 + np.exp(-np.einsum("iku,ku->ik", hidden, kernel) - offset))
    if epsilon == 0.1:
        a = np.where(a < 0.4, 0, np.where(a > 0.6, 1, a))
        assert {0, 1} < {*a.ravel()}
    np.testing.assert_allclose(u, 2 * a - 1, atol=1e-5)
    d = ((a[:, None] - a) ** 2).sum(axis=2)
    loss = triplets(np.maximum(0.8 + d[:, :, None] - d[:, None, :], 0))
    check(first_step(model), loss=loss)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.3, "growth": 0.7, "continuous_similarity": True},
        {"weighted": False, "growth": 0.0},
    ],
)
def test_hashnet(options):
    model = HashNet(network(), BITS, CLASSES, **options)
    z = continuous(model)
    weight = np.ones((N, N))
    if options.get("weighted", True):
        share = SIMILAR[OFF].mean()
        weight = np.where(SIMILAR, 1 / share, 1 / (1 - share))
    if "continuous_similarity" in options:
        either = (LABELS[:, None] + LABELS > 0).sum(axis=2)
        weight = weight * np.where(SIMILAR, LABELS @ LABELS.T / either, 1)
        assert len({*np.round(weight[SIMILAR], 3)}) == 3  # 1, 1/2 and 2/2 of two
    # The second epoch is the second step: tanh is sharper.
    history = first_step(model, epochs=2)
    for step in (0, 1):
        u = np.tanh((1 + options.get("growth", 0.005) * step) ** 0.5 * z)
        t = options.get("scale", 10 / BITS) * u @ u.T
        expected = (weight * (log1p_exp(t) - SIMILAR * t))[OFF].mean()
        np.testing.assert_allclose(history["loss"][step], expected, rtol=2e-4)


def test_cnnh():
    model = CNNH(network(), BITS, CLASSES, N)
    history = first_step(model)
    u, b = continuous(model), model.learned_codes()
    assert (abs(b) == 1).all()
    # Rows with the same labels have one code; rows that share none have others.
    for row in range(N):
        np.testing.assert_array_equal(b[row], b[row % 12])
    check(history, loss=((u - b) ** 2).mean())


@pytest.mark.parametrize(
    ("method", "options", "sizes"),
    [
        (
            DSDH,
            {"divergence": None, "b_update": "dcc", "w_update": "ridge"},
            {"num_train": N},
        ),
        (DISH, {"divergence": "kl"}, {}),
    ],
)
def test_dsdh_and_dish_are_dsre_with_these_options(method, options, sizes):
    weights = {
        "classification_weight": 0.7,
        "quantization_weight": 0.4,
        "classifier_penalty": 0.03,
    }
    if method is DISH:
        weights |= {"divergence_weight": 1.9, "perplexity": 4.0}
    models = [
        method(network(), BITS, CLASSES, **sizes, **weights),
        DSRE(network(), BITS, CLASSES, **sizes, **weights, **options),
    ]
    models[1].set_weights(models[0].get_weights())
    histories = [first_step(model) for model in models]
    assert {*models[0].reported} == {*histories[0]} - {"learned_bit_flips"}
    assert histories[0] == histories[1]


# ------------------------------------------------------------------------ DSRE


@pytest.mark.parametrize(
    ("divergence", "options"),
    [
        ("js", {}),
        ("kl", {"p_features": "penultimate"}),
        ("kl", {"preset": "paper"}),
        (None, {}),
        (None, {"b_update": "dcc", "w_update": "ridge", "num_train": N}),
    ],
)
def test_dsre(divergence, options):
    alpha, beta, eta, lam = 0.7, 1.9, 0.4, 0.03
    model = DSRE(
        network(),
        BITS,
        CLASSES,
        divergence=divergence,
        classification_weight=alpha,
        divergence_weight=beta,
        quantization_weight=eta,
        classifier_penalty=lam,
        perplexity=4.0,
        **options,
    )
    model.classifier.set_weights([RNG.normal(size=(BITS, CLASSES))])
    history = first_step(model)
    u = continuous(model)
    if "preset" in options:  # a linear hash layer
        kernel, bias = model.hash_head.get_weights()
        np.testing.assert_allclose(u, model.backbone(X) @ kernel + bias, atol=1e-5)
    b = signs(u)
    classified = u
    if "b_update" in options:
        # W solves ridge regression on the first codes, and B follows after the epoch.
        classified = b
        penalty = N * lam / alpha * np.eye(BITS)
        w = np.linalg.solve(b.T @ b + penalty, b.T @ LABELS)
    else:
        w = model.classifier.get_weights()[0]
    t = u @ u.T / 2
    pairs = (log1p_exp(t) - SIMILAR * t)[~np.eye(N, dtype=bool)]
    terms = {
        "pair_loss": pairs.mean(),
        "class_loss": ((LABELS - classified @ w) ** 2).sum(axis=1).mean(),
        "quantization_loss": ((u - b) ** 2).mean(),
    }
    expected = np.dot([1, alpha, eta], [*terms.values()]) + lam * (w**2).sum()
    if divergence:
        features = model.backbone(X) if "p_features" in options else X
        p = similarity.gaussian_affinity(tf.constant(features), 4.0).numpy()
        q = similarity.student_t_affinity(tf.constant(u, tf.float32)).numpy()
        off = ~np.eye(N, dtype=bool)
        p, q = p[off].astype(float) + 1e-12, q[off].astype(float) + 1e-12
        if divergence == "kl":
            value = (p * np.log(p / q)).sum()
        else:
            m = (p + q) / 2
            value = (p * np.log(p / m)).sum() / 2 + (q * np.log(q / m)).sum() / 2
        terms["divergence_loss"] = value
        expected += beta * value
    check(history, loss=expected, **terms)


# ------------------------------------------------------------------------- DDH


@pytest.mark.parametrize("mode", ["bank", "batch"])
@pytest.mark.parametrize(
    ("options", "lam", "lam_2"),
    [
        ({"quantization_weight": 0.9, "head_penalty": 0.2}, 0.9, 0.2),
        ({"quantization_weight": 0.9, "pair_weight": "uniform"}, 0.9, 1e-5),
        ({"similarity": "labels", "num_classes": CLASSES}, 0.05, 1e-5),
        ({"preset": "paper"}, 15 * BITS / N, 1e-5 / N**2),
    ],
)
def test_ddh(mode, options, lam, lam_2):
    searched = network(3)
    model = DDH(
        network(),
        BITS,
        N,
        mode=mode,
        neighbours=4,
        lists=2,
        neighbour_backbone=searched,
        **options,
    )
    kernel, bias = (RNG.normal(size=w.shape) for w in model.hash_head.get_weights())
    model.hash_head.set_weights([kernel, bias])
    z = continuous(model)
    np.testing.assert_allclose(z, model.backbone(X) @ kernel + bias, atol=1e-4)
    if "similarity" in options:
        similar = SIMILAR
    else:
        similar = similarity.expanded_neighbours(searched(X), 4, 2).toarray()
    weight = np.ones((N, N))
    if options.get("pair_weight") != "uniform" and "preset" not in options:
        share = similar.mean()
        weight = np.where(similar, 0.5 / share, 0.5 / (1 - share))
    pairs = (weight * (z @ z.T / BITS - np.where(similar, 1, -1)) ** 2).mean() / 2
    error = ((z - signs(z)) ** 2).mean()
    penalty = (kernel**2).sum() + (bias**2).sum()
    check(
        first_step(model),
        loss=pairs + lam / 2 * error + lam_2 / 2 * penalty,
        pair_loss=pairs,
        quantization_loss=error,
    )


# ------------------------------------------------------------------------ DCDH


def dcdh(**options):
    """With one stream only, whose network has no dropout."""
    options = {"label_units": (9,), "fusion_units": (8,), "variant": "V", **options}
    return DCDH(network(), BITS, CLASSES, N, **options)


@pytest.mark.parametrize(
    ("options", "dissimilar"),
    [
        ({}, -SIMILAR.sum() / (~SIMILAR).sum()),
        ({"s_mode": "pm1"}, -1),
        ({"preset": "paper"}, -1),
    ],
)
def test_dcdh_squares(options, dissimilar):
    alpha = 31.0
    model = dcdh(quantization_weight=alpha, **options)
    first_step(model)
    b, u = model.learned_codes().astype(float), continuous(model)
    # This epoch starts with the codes that the one before it has learned.
    history = first_step(model)
    s = np.where(SIMILAR, 1, dissimilar)
    squares = ((u @ b.T - BITS * s) ** 2).sum() + alpha * ((b - u) ** 2).sum()
    check(history, loss=squares / (N**2 * BITS**2))


def test_dcdh_average_precision():
    """Of hash codes: the codes that are ranked are those that are learned."""
    alpha = 31.0
    model = dcdh(
        pair_loss="average_precision", code_rate=0.0, quantization_weight=alpha
    )
    history = first_step(model)
    b, u = model.learned_codes().astype(np.float32), continuous(model)
    similar = tf.constant(SIMILAR, tf.float32)
    u32 = tf.constant(u, tf.float32)
    ranking = losses.average_precision_loss(u32, tf.constant(b), similar, tf.ones(N))
    quantization = alpha * ((b - u) ** 2).sum() / (N**2 * BITS**2)
    check(history, loss=ranking + quantization)


@pytest.mark.parametrize("b_update", ["epoch", "batch"])
def test_dcdh_codes_minimise_the_weighted_sum_of_all_streams(b_update):
    """Eq. 9 with S of +-1: no single bit can be turned to lower it."""
    lam, mu, alpha = 0.05, 4.0, 31.0
    model = dcdh(
        variant="full",
        s_mode="pm1",
        b_update=b_update,
        label_loss_weight=lam,
        fusion_loss_weight=mu,
        quantization_weight=alpha,
    )
    for layer in (*model.label_net.layers, *model.fusion_net.layers):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    first_step(model, epochs=6)
    u = model.streams(X, tf.constant(LABELS, tf.float32), training=False)[0].numpy()
    s = np.where(SIMILAR, 1, -1)

    def objective(b):
        return sum(
            weight * (((v @ b.T - BITS * s) ** 2).sum() + alpha * ((b - v) ** 2).sum())
            for weight, v in zip((1, lam, mu), np.moveaxis(u, 1, 0), strict=True)
        )

    b = model.learned_codes().astype(float)
    least = objective(b)
    for row, bit in np.ndindex(N, BITS):
        turned = b.copy()
        turned[row, bit] *= -1
        assert objective(turned) > (1 - 1e-6) * least


def test_dcdh_streams():
    """The widths of the streams, and the outer product of label and image."""
    labels = tf.constant(LABELS, tf.float32)
    model = dcdh(variant="full")
    widths = [
        [layer.units for layer in net.layers if isinstance(layer, keras.layers.Dense)]
        for net in (model.label_net, model.fusion_net)
    ]
    assert widths == [[9, BITS], [8, BITS]]
    u, logits = model.streams(X, labels, training=False)
    visual, label, fused = tf.unstack(u, axis=1)
    np.testing.assert_allclose(visual, continuous(model), atol=1e-6)
    outer = np.einsum("ni,nj->nij", label, visual).reshape(N, -1)
    np.testing.assert_allclose(fused, model.fusion_net(outer), atol=1e-5)
    np.testing.assert_allclose(logits, model.classifier(fused), atol=1e-5)


@pytest.mark.parametrize("detach", [False, True])
def test_dcdh_may_stop_the_gradient_of_the_fusion_stream(detach):
    model = dcdh(variant="full", detach_fusion=detach)
    with tf.GradientTape() as tape:
        u, _ = model.streams(X, tf.constant(LABELS, tf.float32), training=False)
        fused = tf.reduce_sum(u[:, 2])
    sources = [model.hash_head.kernel.value, model.label_net.layers[0].kernel.value]
    for gradient in tape.gradient(fused, sources):
        assert (gradient is None or not np.any(gradient)) == detach


# --------------------------------------------------------------------- DDH-LDL


def ddh_ldl(**options):
    small = {"code_units": (9, 8), "function_units": (7,), "code_epochs": 1}
    return DDHLDL("features", BITS, CLASSES, N, **{**small, **options})


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.filterwarnings("ignore:The function network")
@pytest.mark.parametrize(
    ("options", "adjacency", "threshold"),
    [
        ({"adjacency": "sym", "threshold": 0.8}, "sym", 0.8),
        ({"adjacency": "row", "threshold": 0.8}, "row", 0.8),
        ({"adjacency": "raw", "threshold": 0.3}, "raw", 0.3),
        ({"adjacency": "row", "threshold": 0.8, "target": "cosine"}, "row", 0.8),
        ({"gcn": False, "threshold": 0.8}, None, 0.8),
        ({"preset": "paper"}, "raw", 0.5),
        ({}, "sym", 0.95),
    ],
)
def test_ddh_ldl_code_network(options, adjacency, threshold):
    model = ddh_ldl(**options)
    history = first_step(model, DISTRIBUTIONS)
    aggregated = X
    if adjacency:
        aggregated = label_graph.aggregate(DISTRIBUTIONS, X, threshold, adjacency)
    h = model.code_network([tf.constant(X), tf.constant(aggregated)], training=True)
    target = cosines(DISTRIBUTIONS)
    if options.get("target") != "cosine":
        target[target < threshold] = 0.0
    expected = ((cosines(h.numpy()) - target) ** 2).mean()
    check(history, code_loss=expected)


@pytest.mark.parametrize(
    ("options", "training", "label_weight", "iterations"),
    [
        ({"teacher": "train", "label_weight": 0.3, "dom_iterations": 3}, True, 0.3, 3),
        ({"teacher": "inference", "label_weight": 3.0}, False, 3.0, 10),
        ({"preset": "paper"}, True, 10.0, 100),
        ({"preset": "authors"}, True, 10.0, 1),
    ],
)
def test_ddh_ldl_rotation_and_function_network(
    options, training, label_weight, iterations
):
    model = ddh_ldl(gcn=False, dropout=0.0, **options)
    history = first_step(model, DISTRIBUTIONS, epochs=2)
    # In this order: a call with `training=True` moves the moving statistics.
    u = model.continuous_codes(X)
    np.testing.assert_array_equal(model.learned_codes(), signs(u))
    x = tf.constant(X)
    h = model.code_network([x, x], training=training)
    distributions = np.maximum(DISTRIBUTIONS, 1e-6)
    rotation = discrete.label_rotation(h, distributions, label_weight, iterations)[0]
    matrix = model.hash_head.layers[-1].matrix
    np.testing.assert_allclose(matrix, rotation, atol=1e-4)
    error = model.hash_head(x, training=True) - h @ rotation
    check(history, function_loss=np.mean(error**2))


# --------------------------------------------------------------------- Presets

DDH_LDL_PAPER = {
    "code_epochs": 20,
    "adjacency": "raw",
    "target": "thresholded",
    "teacher": "train",
    "threshold": 0.5,
    "dom_iterations": 100,
    "dropout": 0.0,
    "code_units": (2048, 1024, 512),
    "function_units": (2048, 1024),
}
DDH_LDL_DEFAULT = {
    "code_epochs": 10,
    "adjacency": "sym",
    "target": "thresholded",
    "teacher": "inference",
    "threshold": 0.95,
    "dom_iterations": 10,
    "dropout": 0.3,
    "code_units": (512, 256),
    "function_units": (1024, 512),
}


@pytest.mark.parametrize(
    ("method", "preset", "options"),
    [
        (AdaLabelHash, "default", {"margin": 12.0}),
        (AdaLabelHash, "paper", {"margin": 1.0}),
        (DSRE, "default", {"hash_activation": "tanh"}),
        (DSRE, "paper", {"hash_activation": "linear"}),
        (DCDH, "default", {"s_mode": "balanced", "focal": "sigmoid"}),
        (DCDH, "paper", {"s_mode": "pm1", "focal": "softmax"}),
        (DDHLDL, "default", DDH_LDL_DEFAULT),
        (DDHLDL, "paper", DDH_LDL_PAPER),
        (DDHLDL, "authors", {**DDH_LDL_PAPER, "target": "cosine", "dom_iterations": 1}),
    ],
)
def test_a_preset_is_its_options(method, preset, options):
    sizes = {} if method is AdaLabelHash else {"num_train": 9}
    arguments = {"backbone": "features", "bits": 48, "num_classes": 3, **sizes}
    models = [method(**arguments, preset=preset), method(**arguments, **options)]
    configs = [model.get_config() | {"name": ""} for model in models]
    for config in configs:
        config.pop("backbone")
    assert configs[0] == configs[1]
    # And each option on its own replaces the preset's value.
    other = "paper" if preset == "default" else "default"
    mixed = method(**arguments, preset=other, **options).get_config()
    assert {name: mixed[name] for name in options} == {
        name: configs[0][name] for name in options
    }


# --------------------------------------------------------------- The hash layer


def test_options_of_the_hash_layer():
    features = network()(X).numpy()
    options = {"hash_activation": None, "hash_initializer": "ones"}
    model = AdaLabelHash("features", BITS, CLASSES, **options)
    u = model.continuous_codes(features)
    expected = np.repeat(features.sum(axis=1, keepdims=True), BITS, axis=1)
    np.testing.assert_allclose(u, expected, atol=1e-5)
    options["hash_activation"] = "tanh"
    u = AdaLabelHash("features", BITS, CLASSES, **options).continuous_codes(features)
    np.testing.assert_allclose(u, np.tanh(expected), atol=1e-5)
