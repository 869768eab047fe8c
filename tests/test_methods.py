"""The contract of every method, and the properties of AdaLabelHash and DCDH."""

import itertools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash import evaluation, zoo
from kerashash.baselines import (
    CNNH,
    COSDISH,
    DHN,
    DISH,
    DPSH,
    DSDH,
    DTSH,
    ITQ,
    KSH,
    LFH,
    LSH,
    NINH,
    PCAH,
    SDH,
    SH,
    SSDH,
    FastH,
    HashNet,
    SpH,
)
from kerashash.maths import discrete
from kerashash.methods import DCDH, DDH, DDHLDL, DSRE, AdaLabelHash
from kerashash.methods.learned_codes import SolvedCodes
from kerashash.methods.trainable import Batch

SMALL_NAMES = ("label", "fusion")
SMALL = {"label_units": (64,), "fusion_units": (64,)}
DSDH_OPTIONS = {"divergence": None, "b_update": "dcc", "w_update": "ridge"}


def build(method, width, classes, n, bits=16, **options):
    if method is DCDH:
        options = {"num_train": n, **SMALL, **options}
    if method is DDHLDL:
        small = {"code_units": (128, 64), "function_units": (128,), "code_epochs": 2}
        options = {"num_train": n, **small, **options}
    if method is DDH:
        options = {"num_train": n, "neighbours": min(15, n - 1), **options}
    if method in (CNNH, DSDH) or (method is DSRE and "b_update" in options):
        options = {"num_train": n, **options}
    model = method(mlp(width), bits=bits, num_classes=classes, **options)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


def rows_for(method, labels):
    """Label rows, or label distributions if the method learns from those."""
    if method is DDHLDL:
        return labels / labels.sum(axis=1, keepdims=True)
    return labels


def loss_of(history):
    """The loss of all epochs, or of the epochs of the last stage."""
    return history.history.get("function_loss", history.history["loss"])


def mean_ap(model, x, labels, queries):
    return evaluation.mean_average_precision(
        model.encode(x[:queries]),
        labels[:queries],
        model.encode(x[queries:]),
        labels[queries:],
        bits=model.bits,
    )


METHODS = pytest.mark.parametrize(
    ("method", "options"),
    [
        (AdaLabelHash, {}),
        (DCDH, {}),
        (DCDH, {"variant": "V", "b_update": "epoch"}),
        (DCDH, {"variant": "S"}),
        (DCDH, {"focal": "softmax", "detach_fusion": True}),
        (DCDH, {"pair_loss": "average_precision"}),
        (DSRE, {}),
        (DSRE, {"divergence": "kl"}),
        (DSRE, DSDH_OPTIONS),
        (DDH, {}),
        (DDH, {"mode": "batch"}),
        (DDH, {"similarity": "labels"}),
        (DDHLDL, {}),
        (DDHLDL, {"gcn": False, "target": "cosine", "teacher": "train"}),
        (SSDH, {}),
        *(
            pytest.param(method, {}, marks=pytest.mark.slow)
            for method in (DPSH, DHN, DTSH, HashNet, DSDH, DISH)
        ),
        (NINH, {}),
        (CNNH, {}),
    ],
)


# A subset with one case for each method and kind of training data.
KINDS = pytest.mark.parametrize(
    ("method", "options"),
    [
        (AdaLabelHash, {}),
        (DCDH, {}),
        (DSRE, {}),
        (DSRE, DSDH_OPTIONS),
        (DDH, {}),
        (DDH, {"similarity": "labels"}),
        (DDHLDL, {}),
        (SSDH, {}),
        (NINH, {}),
        (CNNH, {}),
    ],
)

# Those of which tests/test_shallow.py has the rest of the contract.
SHALLOW = [
    (method, {}) for method in (LSH, PCAH, ITQ, SH, SpH, SDH, KSH, LFH, COSDISH, FastH)
]


def with_shallow(parameters):
    names, cases = parameters.args
    return pytest.mark.parametrize(names, [*cases, *SHALLOW])


def sgd():
    """An optimizer with state, whose graph is faster to build than Adam's."""
    return keras.optimizers.SGD(0.05, momentum=0.9)


@pytest.mark.slow
@METHODS
def test_learns_digits_from_a_data_set(method, options, digits):
    model = build(method, 64, 10, digits.num_train, **options)
    loss = loss_of(model.fit(digits.train.batch(64), epochs=6, verbose=0))
    assert loss[-1] < 0.95 * loss[0]
    assert kerashash.evaluate(model, digits)["mAP@ALL"] > 0.4  # random codes: 0.10


@METHODS
def test_saves_and_resumes(method, options, digit_pairs, tmp_path):
    x, labels, _ = digit_pairs
    x, labels = x[:200], rows_for(method, labels[:200])
    model = build(method, 128, 10, 200, **options)
    model.compile(optimizer=sgd())
    first = loss_of(model.fit(x, labels, batch_size=32, epochs=3, verbose=0))[0]
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    configs = [m.get_config() | {"backbone": None} for m in (model, loaded)]
    assert configs[0] == configs[1]
    if model.train_codes is not None:
        before = model.learned_codes()
        np.testing.assert_array_equal(loaded.learned_codes(), before)
        # A new `fit` starts from the learned codes, not from new ones.
        loaded.prepare([(x, {"label": labels, "index": np.arange(200)})], verbose=0)
        np.testing.assert_array_equal(loaded.learned_codes(), before)
    assert loss_of(loaded.fit(x, labels, batch_size=32, verbose=0))[0] < first


@pytest.mark.parametrize(
    "load",
    [
        "import keras, kerashash; m = keras.saving.load_model('m.keras')",
        # Keras is imported after kerashash, so no class has been registered.
        pytest.param(
            "import kerashash; import keras; m = kerashash.load_model('m.keras')",
            marks=pytest.mark.long,
        ),
    ],
)
def test_load_model_in_a_fresh_process(load, tmp_path, rng):
    x = rng.normal(size=(30, 128)).astype(np.float32)
    model = build(SSDH, 128, 10, 30)
    model.fit(x, np.arange(30) % 10, verbose=0)
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "x.npz", x=x, codes=model.encode(x))
    code = f"{load}; import numpy as np; d = np.load('x.npz');"
    code += "assert (m.encode(d['x']) == d['codes']).all()"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_load_model_names_files_that_hold_no_model(tmp_path):
    mlp(4).save(tmp_path / "network.keras")
    (tmp_path / "text.keras").write_text("text")
    for name, received in (
        ("network.keras", "which holds a Sequential"),
        ("text.keras", "which is not one"),
        ("none.keras", "which does not exist"),
    ):
        with pytest.raises(ValueError, match=f"`path` must be.*{name}.*{received}"):
            kerashash.load_model(tmp_path / name)
    for name, hint in (
        ("networks.keras", r"Did you mean \['network\.keras'\]"),
        (zoo.entry("ssdh-digits-48").path, r"loaded by `kerashash\.zoo\.load`"),
    ):
        with pytest.raises(ValueError, match=hint):
            kerashash.load_model(tmp_path / name)


def test_from_preset_takes_entries_of_its_class():
    model = SSDH.from_preset("ssdh-digits-48")
    assert isinstance(model, SSDH)
    assert isinstance(kerashash.HashModel.from_preset("ssdh-digits-48"), SSDH)
    with pytest.raises(ValueError, match=r"`name` must be an entry of DSRE.*of SSDH"):
        DSRE.from_preset("ssdh-digits-48")
    assert SSDH.from_preset("ssdh-digits-48", strict=True).bits == 48
    with pytest.raises(ValueError, match=r"no surrogate with strict=True"):
        kerashash.DCDH.from_preset("dcdh-nuswide-12", strict=True)


@pytest.mark.filterwarnings("error:Gradients do not exist")
@pytest.mark.parametrize(
    ("method", "argument"), [(DSRE, "p_features"), (DDH, "neighbour_backbone")]
)
def test_consulted_networks_are_saved_and_never_trained(
    method, argument, digit_pairs, tmp_path
):
    x, labels, _ = digit_pairs
    x, labels = x[:100], labels[:100]
    network = mlp(128, (8,))
    model = build(method, 128, 10, 100, **{argument: network})
    tracked = {id(v) for v in model.variables}
    assert not tracked & {id(v) for v in network.variables}
    before = network.get_weights()
    model.fit(x, labels, verbose=0)
    assert len(model.optimizer.variables) < 3 * len(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = kerashash.load_model(tmp_path / "model.keras")
    moved = model.with_backbone(model.backbone)
    for other in (model, loaded, moved):
        after = getattr(other, argument).get_weights()
        for old, new in zip(before, after, strict=True):
            np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@pytest.mark.long
# DDH with neighbours cannot be compiled, and Keras says so.
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`")
@KINDS
def test_steps_per_execution_and_jit(method, options, digit_pairs):
    x, labels, _ = digit_pairs
    x, labels = x[:128], rows_for(method, labels[:128])
    model = build(method, 128, 10, 128, **options)
    model.compile(optimizer=sgd(), steps_per_execution=2, jit_compile=True)
    loss = loss_of(model.fit(x, labels, batch_size=32, epochs=5, verbose=0))
    assert loss[-1] < loss[0]


@pytest.mark.filterwarnings("ignore:The function network, which encodes, is not")
@KINDS
def test_the_training_step_is_traced_once(method, options, digit_pairs, monkeypatch):
    x, labels, _ = digit_pairs
    x, labels = x[:32], rows_for(method, labels[:32])
    step, traces = method.train_step, []

    def counted(self, data):
        traces.append(method)
        return step(self, data)

    monkeypatch.setattr(method, "train_step", counted)
    model = build(method, 128, 10, 32, **options)
    model.compile(optimizer="adam")
    model.fit(x, labels, batch_size=32, verbose=0)
    assert len(traces) == 1
    assert len(model.optimizer.variables) >= 2 + 2 * len(model.trainable_variables)


@pytest.mark.slow
@METHODS
def test_fit_with_mixed_precision(method, options, digit_pairs):
    x, labels, _ = digit_pairs
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(method, 128, 10, 200, **options)
        model.compile(optimizer=sgd())
        rows = rows_for(method, labels[:200])
        loss = loss_of(model.fit(x[:200], rows, batch_size=32, epochs=4, verbose=0))
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    assert loss[-1] < loss[0]


@pytest.mark.parametrize("method", [DCDH, DSRE, DDH, DDHLDL])
def test_presets(method, digit_pairs):
    x, labels, _ = digit_pairs
    x, labels = x[:64], rows_for(method, labels[:64])
    model = build(method, 128, 10, 64, preset="paper")
    rebuilt = method.from_config(model.get_config())
    assert rebuilt.options == model.options
    assert model.options != build(method, 128, 10, 64).options
    # Few steps: tracing a graph would take longer.
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    history = model.fit(x, labels, batch_size=64, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(ValueError, match="`preset` must be one of"):
        build(method, 128, 10, 64, preset="papers")


@pytest.mark.filterwarnings("ignore:The function network")
@with_shallow(KINDS)
def test_wrong_training_data_is_named(method, options, rng):
    x = rng.normal(size=(12, 4)).astype(np.float32)
    y = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    model = build(method, 4, 3, 12, **options)

    def dataset(label=y, index=None):
        index = np.arange(12, dtype=np.int32) if index is None else index
        rows = (x, {"label": label, "index": index})
        return tf.data.Dataset.from_tensor_slices(rows).batch(4)

    cases = [
        ((x[:, :3], y), r"`x` must have shape \(n, 4\)"),
        ((np.where(x > 1, np.nan, x), y), "`x` must be finite"),
        ((dataset().unbatch(),), "must be batched"),
        ((dataset().map(lambda x, y: x),), r"pairs \(x, y\)"),
        ((dataset(), y), "`y` must be None"),
    ]
    if model.needs_labels:
        unlabelled = dataset().map(lambda x, y: (x, {"index": y["index"]}))
        cases += [
            ((x, y[:5]), "one row for each of the 12 inputs"),
            ((dataset(y[:, :2]),), "num_classes=3. Received width: 2"),
            ((unlabelled,), "needs 'label'"),
        ]
    if model.needs_labels and method is not DDHLDL:
        cases += [
            ((x, y[:, :2]), r"num_classes=3.*\(12, 2\)"),
            ((x, y + 0.5), "contain only"),
            ((x, np.arange(12)), "class ids from 0 to num_classes - 1 = 2"),
        ]
    if model.needs_index:
        cases += [
            (
                (dataset().map(lambda x, y: (x, y["label"])),),
                f"`{method.__name__}`.*'index'.*adds it",
            ),
            ((dataset().take(2),), "num_train=12, but an epoch holds 8.*missing is 8"),
            ((dataset(index=np.arange(12) % 5),), r"again: \[0, 1, 2\]|again: \[0, 1"),
            ((dataset(index=np.arange(12) + 1),), "num_train - 1 = 11"),
            ((dataset().repeat(),), "repeats"),
            ((x[:6], y[:6]), "num_train=12, but an epoch holds 6"),
        ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            model.fit(*arguments, verbose=0)
    for name in ("sample_weight", "class_weight", "validation_split"):
        with pytest.raises(ValueError, match=f"`{name}` is not supported"):
            model.fit(x, y, **{name: 0.5})
    model.fit(x, y, verbose=0)  # the model still works after the errors


def test_adalabel_takes_unknown_labels(digit_pairs):
    x, labels, queries = digit_pairs
    partly = labels.astype(int)
    partly[np.random.default_rng(0).random(labels.shape) < 0.3] = -1
    model = build(AdaLabelHash, 128, 10, len(x), margin=4.0)
    model.fit(x[queries:], partly[queries:], epochs=10, verbose=0)
    assert mean_ap(model, x, labels, queries) > 0.6  # random codes: 0.34


def test_adalabel_balances_its_bits(rng):
    rows = tf.constant(np.eye(3)[[0] * 7 + [1]], tf.float32)
    u = tf.constant(rng.random((8, 6)), tf.float32)
    plain, weighted = (
        build(AdaLabelHash, 4, 3, 8, bits=6, balance_weight=weight)
        for weight in (0.0, 2.5)
    )
    weighted.set_weights(plain.get_weights())
    difference = weighted.compute_hash_loss(u, rows) - plain.compute_hash_loss(u, rows)
    expected = 2.5 * (u.numpy().mean(axis=0) ** 2).mean()
    np.testing.assert_allclose(difference, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`balance_weight` must be at least 0"):
        build(AdaLabelHash, 4, 3, 8, balance_weight=-1.0)


@pytest.mark.parametrize(
    "pair_loss",
    ["squares", pytest.param("average_precision", marks=pytest.mark.long)],
)
def test_dcdh_takes_unknown_labels(pair_loss, digit_pairs):
    x, labels, queries = digit_pairs
    partly = labels[queries:].astype(int)
    partly[np.random.default_rng(0).random(partly.shape) < 0.3] = -1
    weight = {"squares": 200.0, "average_precision": len(partly) * 1.6}[pair_loss]
    model = build(
        DCDH, 128, 10, len(partly), pair_loss=pair_loss, quantization_weight=weight
    )
    model.fit(x[queries:], partly, epochs=8, batch_size=64, verbose=0)
    assert (
        mean_ap(model, x, labels, queries) > 0.48
    )  # random codes: 0.34; all labels: 0.56


def test_dcdh_ranks_no_code_whose_similarity_is_unknown(digit_pairs):
    x, labels, _ = digit_pairs
    x, labels = x[:40], labels[:40].astype(int)
    labels[20:, 0] = -1  # similar or not to the images of class 0, by that label
    options = {"pair_loss": "average_precision", "quantization_weight": 0.0}
    model = build(DCDH, 128, 10, 40, variant="V", **options)
    model.fit(x, labels, epochs=1, verbose=0)
    codes, real = model.shared_codes, model.shared_codes.real
    patterns = codes.similarity.patterns.numpy()
    row = np.eye(10, dtype=np.float32)[:1]  # class 0 and no other
    with tf.GradientTape() as tape:
        loss = codes.loss_of(row)(tf.fill((1, model.bits), 0.3))
    slope = tf.convert_to_tensor(tape.gradient(loss, real)).numpy()
    unknown = patterns[:, 0] == -1
    assert unknown.any()
    assert not slope[unknown].any()
    assert slope[~unknown].any()


@pytest.mark.parametrize("margin", [0, -1.0])
def test_adalabel_refuses_margins(margin):
    with pytest.raises(ValueError, match="`margin` must be above 0"):
        AdaLabelHash("features", 8, 3, margin=margin)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "L"}, "`variant` must be one of"),
        ({"b_update": "never"}, "`b_update` must be one of"),
        ({"s_mode": "01"}, "`s_mode` must be one of"),
        ({"focal": "hinge"}, "`focal` must be one of"),
        ({"pair_loss": "hinge"}, "`pair_loss` must be one of"),
        ({"code_rate": -1}, "`code_rate` must be at least 0"),
        ({"balance_weight": -1}, "`balance_weight` must be at least 0"),
        ({"label_loss_weight": -1}, "`label_loss_weight` must be at least 0"),
        ({"num_train": None}, "`num_train` must be an integer"),
        ({"num_train": 0}, "`num_train` must be at least 1"),
    ],
)
def test_dcdh_names_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        DCDH("features", **{"bits": 8, "num_classes": 3, "num_train": 9, **options})


def test_untrained_dcdh_has_no_learned_codes():
    model = build(DCDH, 4, 3, 9)
    with pytest.raises(ValueError, match="no learned codes before `fit`"):
        model.learned_codes()
    with pytest.raises(ValueError, match="not fitted in this process"):
        model.evaluate(np.zeros((3, 4)), np.eye(3), verbose=0)


def joint_objective(model, labels):
    """The objective of B as in the paper, eq. 3 to 5 and 8, over all n x n pairs."""
    share = labels.astype(float) @ labels.T > 0
    s = np.where(share, 1.0, -model.shared_codes.similarity.dissimilar)
    b = model.learned_codes().astype(float)
    value = 0.0
    for stream, weight in enumerate(model.stream_weights):
        u = model.shared_codes.u.numpy()[:, stream].astype(float)
        similarity = ((u @ b.T - model.bits * s) ** 2).sum()
        value += weight * (similarity + 200.0 * ((b - u) ** 2).sum())
    return value


@pytest.mark.parametrize("s_mode", ["balanced", "pm1"])
@pytest.mark.parametrize("b_update", ["epoch", "batch"])
def test_dcdh_joint_objective_never_increases_in_the_b_step(
    digit_pairs, b_update, s_mode, monkeypatch
):
    x, labels, _ = digit_pairs
    x, labels = x[:300], labels[:300]
    model = build(DCDH, 128, 10, 300, b_update=b_update, s_mode=s_mode)
    name = "solve" if b_update == "epoch" else "update_rows"
    step, changes = getattr(SolvedCodes, name), []

    def watched(solved, *arguments):
        if model.shared_codes is None:  # the first step, which makes B
            return step(solved, *arguments)
        before = joint_objective(model, labels)
        step(solved, *arguments)
        changes.append(joint_objective(model, labels) / before - 1)

    monkeypatch.setattr(SolvedCodes, name, watched)
    model.compile(optimizer="adam", run_eagerly=True)
    model.fit(x, labels, batch_size=100, epochs=4, verbose=0)
    assert len(changes) >= 4
    assert max(changes) < 1e-6
    assert min(changes) < -1e-4


def test_dcdh_loss_equals_the_objective_in_full(digit_pairs):
    x, labels, _ = digit_pairs
    x, labels = x[:120], labels[:120]
    model = build(DCDH, 128, 10, 120)
    model.fit(x, labels, epochs=1, verbose=0)
    u = model.shared_codes.u
    codes = tf.cast(model.train_codes.value, tf.float32)
    rows = tf.cast(labels, tf.float32)
    values = model.compute_losses(u, None, rows, codes)
    total = joint_objective(model, labels) / (120**2 * 16**2)
    np.testing.assert_allclose(values["loss"], total, rtol=1e-4)


def test_dcdh_balance_is_that_of_the_image_stream(digit_pairs):
    x, labels, _ = digit_pairs
    x, rows = x[:60], labels[:60].astype(np.float32)
    plain, weighted = (
        build(DCDH, 128, 10, 60, balance_weight=weight) for weight in (0.0, 0.7)
    )
    weighted.set_weights(plain.get_weights())
    for model in (plain, weighted):
        model.compile(keras.optimizers.Adam(0.0))
        model.fit(x, rows, epochs=1, verbose=0)
    u, logits = plain.streams(x, rows, training=False)
    codes = tf.cast(plain.train_codes.value, tf.float32)
    before, after = (
        model.compute_losses(u, logits, rows, codes) for model in (plain, weighted)
    )
    balance = 0.7 * (u[:, 0].numpy().mean(axis=0) ** 2).mean()
    np.testing.assert_allclose(after["balance_loss"], balance, rtol=1e-5)
    np.testing.assert_allclose(after["loss"], before["loss"] + balance, rtol=1e-5)
    assert "balance_loss" not in before


@pytest.mark.parametrize("focal", ["sigmoid", "softmax"])
def test_dcdh_loss_is_equation_8_by_hand(focal, digit_pairs):
    """With S of +-1, and weights of which no two are equal."""
    x, labels, _ = digit_pairs
    x, labels = x[:60], labels[:60].astype(np.float32)
    alpha, lam, mu, w, gamma = 50.0, 0.3, 0.7, 1.9, 3.0
    model = build(
        DCDH,
        128,
        10,
        60,
        s_mode="pm1",
        focal=focal,
        quantization_weight=alpha,
        label_loss_weight=lam,
        fusion_loss_weight=mu,
        focal_weight=w,
        focal_gamma=gamma,
    )
    model.fit(x, labels, epochs=1, verbose=0)
    u, logits = model.streams(x, labels, training=False)
    b = model.learned_codes().astype(np.float32)
    s = np.where(labels @ labels.T > 0, 1, -1)
    terms = [
        (((v @ b.T - 16 * s) ** 2).sum() + alpha * ((b - v) ** 2).sum())
        / (60**2 * 16**2)
        for v in np.moveaxis(u.numpy(), 1, 0).astype(float)
    ]
    z = logits.numpy().astype(float)
    if focal == "softmax":
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        class_weight = 1.0
    else:
        p = 1 / (1 + np.exp(-z))
        class_weight = np.where(labels == 1, 0.25, 0.75)
    p_true = np.where(labels == 1, p, 1 - p)
    entries = class_weight * (1 - p_true) ** gamma * -np.log(p_true)
    terms.append(w * entries.sum(axis=1).mean())
    visual, label, fusion, focal_term = terms
    expected = [visual + lam * label + mu * (fusion + focal_term), *terms]
    values = model.compute_losses(u, logits, tf.constant(labels), tf.constant(b))
    np.testing.assert_allclose([*values.values()], expected, rtol=1e-4)


@pytest.mark.parametrize("b_update", ["epoch", "batch"])
def test_dcdh_discrete_step_of_the_paper_is_equations_9_to_11_by_hand(b_update, rng):
    """Bit by bit in a loop, and against every code that a row could have."""
    n, bits, classes, alpha, weights = 14, 5, 3, 3.0, (1.0, 0.3, 0.7)
    labels = (rng.random((n, classes)) < 0.4).astype(np.float32)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    options = {"label_loss_weight": weights[1], "fusion_loss_weight": weights[2]}
    model = build(
        DCDH,
        4,
        classes,
        n,
        bits=bits,
        preset="paper",
        b_update=b_update,
        quantization_weight=alpha,
        **options,
    )
    model.prepare([(x, {"label": labels, "index": np.arange(n)})], verbose=0)
    old = np.where(rng.random((n, bits)) < 0.5, -1, 1)
    u = np.tanh(rng.normal(size=(n, 3, bits))).astype(np.float32)
    solved = model.shared_codes
    model.train_codes.assign(old)
    if b_update == "epoch":
        rows = np.arange(n)
        solved.u.assign(u)
        model.epoch_step()
    else:
        rows = np.array([2, 3, 7, 11])
        u[np.setdiff1d(np.arange(n), rows)] = solved.u.numpy()[
            np.setdiff1d(np.arange(n), rows)
        ]
        batch = Batch(x[rows], tf.constant(labels[rows]), tf.constant(rows))
        solved.store(batch, tf.constant(u[rows]))
    b = model.train_codes.numpy().astype(int)
    np.testing.assert_array_equal(np.delete(b, rows, 0), np.delete(old, rows, 0))

    s = np.where(labels @ labels.T > 0, 1.0, -1.0)
    streams = [(w, u[:, k].astype(float)) for k, w in enumerate(weights)]
    # Eq. 10, q, with alpha for its gamma; and eq. 11 with the sign of the minimiser.
    q = sum(w * (bits * s @ u_w + alpha * u_w) for w, u_w in streams)
    expected = old.copy()
    for i in rows:
        for _ in range(3):
            for k in range(bits):
                others = np.delete(np.arange(bits), k)
                coupling = sum(
                    w * u_w[:, others].T @ u_w[:, k] for w, u_w in streams
                )  # U'^T u
                expected[i, k] = np.sign(q[i, k] - expected[i, others] @ coupling)
    np.testing.assert_array_equal(b, expected)

    def objective(codes):  # eq. 9, over all pairs
        return sum(
            w
            * (
                ((u_w @ codes.T - bits * s) ** 2).sum()
                + alpha * ((codes - u_w) ** 2).sum()
            )
            for w, u_w in streams
        )

    every = np.array([*itertools.product((-1, 1), repeat=bits)])
    optimal = 0
    for i in rows:
        values = []
        for code in every:
            changed = b.copy()
            changed[i] = code
            values.append(objective(changed))
        flips = (every != b[i]).sum(axis=1)
        assert (np.array(values)[flips == 1] > values[np.argmin(flips)]).all()
        optimal += np.argmin(values) == np.argmin(flips)
    assert optimal >= 0.75 * len(rows)


@pytest.mark.parametrize("dropout", ["none", "backbone", "label", "fusion"])
def test_dcdh_solves_the_rows_of_a_batch_in_its_step_without_dropout(dropout, rng):
    x = rng.normal(size=(24, 4)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    backbone = mlp(4, (8,))
    if dropout == "backbone":
        backbone.add(keras.layers.Dropout(0.5))
    units = {f"{name}_units": (8,) if name == dropout else () for name in SMALL_NAMES}
    model = DCDH(backbone, 6, 3, 24, b_update="batch", **units)
    # The weights stay: U of each batch is that of all.
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    passes, streams = [], model.streams

    def watched(x, labels, training, *known):
        passes.append((training, [u is not None for u in known]))
        return streams(x, labels, training, *known)

    model.streams = watched
    before, codes = [], []
    model.fit(
        x,
        labels,
        batch_size=8,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs: passes.clear(),
            on_epoch_begin=lambda epoch, logs: (
                model.train_codes.assign(-model.train_codes.numpy()),
                before.append(model.train_codes.numpy()),
            ),
            on_train_batch_end=lambda batch, logs: codes.append(
                model.train_codes.numpy()
            ),
        ),
    )
    for batch in range(3):  # of the first epoch
        np.testing.assert_array_equal(
            codes[batch][8 * (batch + 1) :], before[0][8 * (batch + 1) :]
        )
        rows = slice(8 * batch, 8 * (batch + 1))
        assert (codes[batch][rows] != before[0][rows]).any()
    u = streams(x, labels, training=False)[0]
    np.testing.assert_allclose(model.shared_codes.u, u, atol=1e-6)
    # What is not random takes no second pass.
    second = {
        "none": [],
        "backbone": [(False, [False, True])],
        "label": [(False, [True, False])],
        "fusion": [(False, [True, True])],
    }
    in_steps = [each for each in passes if each[0] or each[1]]
    assert in_steps == [(True, []), *second[dropout]] * 6


def test_dcdh_penalties_are_those_of_the_training_pass(rng):
    """Not of the pass without dropout that follows, which has no gradient."""
    x = rng.normal(size=(8, 4)).astype(np.float32)
    backbone = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(8, activity_regularizer=keras.regularizers.L2(5.0)),
        ]
    )
    model = DCDH(backbone, 6, 3, 8, variant="V", b_update="batch")
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    before = np.linalg.norm(backbone.layers[1].kernel)
    logs = model.fit(x, np.arange(8) % 3, epochs=4, verbose=0).history
    penalties = np.subtract(logs["loss"], logs["visual_loss"])
    assert (penalties > 0).all()
    assert np.linalg.norm(backbone.layers[1].kernel) < 0.75 * before


def test_dcdh_running_statistics_are_those_of_u_and_b(digit_pairs):
    x, labels, _ = digit_pairs
    model = build(DCDH, 128, 10, 200, b_update="batch")
    model.epoch_step = lambda: {}  # it would recompute the statistics
    model.fit(x[:200], labels[:200], epochs=3, verbose=0)
    solved = model.shared_codes
    names = ("gram", "sums", "code_gram", "code_sums")
    running = {name: getattr(solved, name).numpy() for name in names}
    solved.recompute()
    for name in names:
        np.testing.assert_allclose(
            running[name], getattr(solved, name), rtol=1e-3, atol=1e-2, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.long
def test_dcdh_needs_the_right_solver(digit_pairs, monkeypatch):
    """Coordinate descent is better than sgn(U), and sgn(U) is better than the bit
    update with the sign that eq. 11 prints."""
    x, labels, queries = digit_pairs
    x, labels = x[:1200], labels[:1200]

    def sign_only(solved, old, labels, u):
        return tf.cast(discrete.sign(solved._weighted(u)), tf.int8)

    def wrong_sign(solved, *arguments):
        return -descent(solved, *arguments)

    descent, values = SolvedCodes._solved, {}
    for solver in (descent, sign_only, wrong_sign):
        keras.utils.set_random_seed(0)
        monkeypatch.setattr(SolvedCodes, "_solved", solver)
        model = build(DCDH, 128, 10, len(x) - queries, s_mode="pm1")
        model.fit(x[queries:], labels[queries:], batch_size=64, epochs=6, verbose=0)
        values[solver] = mean_ap(model, x, labels, queries)
    assert values[descent] > values[sign_only] + 0.03
    assert values[sign_only] > values[wrong_sign] + 0.03


@pytest.mark.parametrize(
    "options",
    [
        {"pair_loss": "average_precision", "code_rate": 0},
        {"code_start": "labels", "b_update": "epoch"},
    ],
    ids=str,
)
def test_dcdh_starts_with_similar_codes_for_similar_labels(
    options, digit_pairs, monkeypatch
):
    x, labels, _ = digit_pairs
    x, labels = x[:400], labels[:400]
    monkeypatch.setattr(SolvedCodes, "solve", SolvedCodes.recompute)
    model = build(DCDH, 128, 10, 400, bits=64, variant="V", **options)
    model.fit(x, labels, epochs=1, verbose=0)
    codes = model.learned_codes().astype(float)
    assert abs(codes.mean(axis=0)).max() < 0.5  # each bit splits the rows
    inner = codes @ codes.T
    same = (labels[:, None] == labels).all(axis=2)
    share = labels @ labels.T > 0
    assert (inner[same] == 64).all()
    assert inner[share & ~same].mean() > inner[~share].mean() + 16


@pytest.mark.slow
def test_dcdh_ranking_moves_learned_codes_towards_a_better_ranking(digit_pairs):
    x, labels, _ = digit_pairs
    x, labels = x[:400], labels[:400]
    mean_ap_of = {}
    for rate in (0, 20):
        keras.utils.set_random_seed(0)
        options = {"pair_loss": "average_precision", "code_rate": rate, "variant": "V"}
        model = build(DCDH, 128, 10, 400, **options)
        history = model.fit(x, labels, batch_size=40, epochs=8, verbose=0).history
        assert any(history["learned_bit_flips"]) == (rate > 0)
        mean_ap_of[rate] = evaluation.mean_average_precision(
            model.encode(x), labels, model.learned_codes(), labels, bits=16
        )
    assert mean_ap_of[20] > mean_ap_of[0] + 0.01


def test_dcdh_evaluates_validation_data_and_learned_codes(digits):
    model = build(DCDH, 64, 10, digits.num_train)
    history = model.fit(
        digits.train.batch(64),
        epochs=2,
        validation_data=digits.query.batch(64),
        verbose=0,
    ).history
    assert np.isfinite(history["val_loss"]).all()
    assert 0 < history["learned_bit_flips"][0] < 1
    learned = kerashash.evaluate(model, digits, "dcdh")
    assert learned["definition"]["database"] == "learned"
    encoded = kerashash.evaluate(model, digits, "dcdh", database="encoded")
    assert learned["mAP@ALL"] != encoded["mAP@ALL"]


@with_shallow(KINDS)
def test_a_model_that_is_built_is_not_built_again(method, options):
    model = build(method, 4, 2, 20, **options)
    before = model.get_weights()
    model.build((None, 4))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    with pytest.raises(ValueError, match="shape"):
        model.build((None, 5))
    assert model._batch_shape() == (None, 4)


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
@pytest.mark.parametrize("method", [AdaLabelHash, DCDH, DSRE, DDH, SSDH])
def test_codes_are_float32_whatever_the_head_gives(method, dtype, rng):
    x = rng.normal(size=(20, 4)).astype(np.float32)
    head = keras.layers.Dense(16, dtype=dtype)
    model = build(method, 4, 2, 20, head=head)
    # Few steps: tracing a graph would take longer.
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    history = model.fit(x, np.arange(20) % 2, batch_size=20, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    u = model(x)
    assert u.dtype == tf.float32
    np.testing.assert_array_equal(model.encode(x, packed=False), discrete.sign(u))


@with_shallow(METHODS)
def test_training_without_rows_is_refused(method, options):
    model = build(method, 4, 2, 20, **options)
    labels = np.zeros((0, 2), np.float32)
    y = None if not model.needs_labels else labels
    with pytest.raises(ValueError, match=r"`x` must have rows.*\(0, 4\)"):
        model.fit(np.zeros((0, 4)), y, verbose=0)
    rows = {"label": labels, "index": np.zeros(0, np.int32)}
    data = tf.data.Dataset.from_tensor_slices((np.zeros((0, 4)), rows)).batch(2)
    with pytest.raises(ValueError, match="`x` must have batches"):
        model.fit(data, verbose=0)
