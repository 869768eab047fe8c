"""DDH: its losses in closed form, its memory bank and its options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash.maths import similarity
from kerashash.methods import DDH

VARIANTS = pytest.mark.parametrize("kind", ["neighbours", "labels"])


def fitted(x, kind, labels=None, **options):
    if kind == "labels":
        options["num_classes"] = 10
    model = DDH(mlp(64), 8, len(x), similarity=kind, neighbours=5, **options)
    model.compile(optimizer=keras.optimizers.SGD(0.01))
    model.fit(x, labels if kind == "labels" else None, epochs=2, verbose=0)
    return model


@VARIANTS
@pytest.mark.parametrize("pair_weight", ["balanced", "uniform"])
def test_losses_equal_the_sums_over_all_pairs(digits, kind, pair_weight):
    x, labels = (a[:120] for a in digits.arrays("train"))
    identity = keras.Sequential([keras.Input((64,)), keras.layers.Identity()])
    model = fitted(
        x, kind, labels, neighbour_backbone=identity, pair_weight=pair_weight
    )
    if kind == "labels":
        similar = labels @ labels.T > 0
    else:
        similar = similarity.expanded_neighbours(x, 5, 6).toarray()
    share = similar.mean()
    weight = np.where(similar, 0.5 / share, 0.5 / (1 - share))
    if pair_weight == "uniform":
        weight = np.ones_like(weight)
    s = np.where(similar, 1.0, -1.0)
    index = np.random.default_rng(0).permutation(120)[:32]
    z = model.continuous_codes(x)[index].astype(float)

    bank = model.bank.z.numpy().astype(float)
    expected = (weight[index] * (z @ bank.T / 8 - s[index]) ** 2).mean()
    arguments = (tf.constant(z, tf.float32), tf.constant(index))
    np.testing.assert_allclose(model._bank_pairs(*arguments), expected, rtol=1e-4)

    block = np.ix_(index, index)
    expected = (weight[block] * (z @ z.T / 8 - s[block]) ** 2).mean()
    np.testing.assert_allclose(model._batch_pairs(*arguments), expected, rtol=1e-4)


def test_paper_preset_is_the_papers_sum(digits):
    """Eq. 12 with lambda_1 = 15 and lambda_2 = 1e-5, divided by N^2."""
    x, _ = (a[:120] for a in digits.arrays("train"))
    identity = keras.Sequential([keras.Input((64,)), keras.layers.Identity()])
    model = fitted(x, "neighbours", neighbour_backbone=identity, preset="paper")
    model.hash_head.kernel.assign(100 * model.hash_head.kernel)  # a penalty that counts
    z = model.continuous_codes(x).astype(float)
    model.bank.z.assign(z)
    model.epoch_step()
    s = np.where(similarity.expanded_neighbours(x, 5, 6).toarray(), 1.0, -1.0)
    b = np.where(z >= 0, 1, -1)
    weights = [w.astype(float) for w in model.hash_head.get_weights()]
    expected = (
        ((z @ z.T / 8 - s) ** 2).sum() / 2
        + 15 / 2 * ((z - b) ** 2).sum()
        + 1e-5 / 2 * sum((w**2).sum() for w in weights)
    )
    values = model.compute_losses(tf.constant(z, tf.float32), tf.range(120))
    np.testing.assert_allclose(values["loss"], expected / 120**2, rtol=1e-4)
    assert model.options["head_penalty"] == pytest.approx(1e-5 / 120**2)


def test_statistics_of_the_bank_are_those_of_its_rows(digits, monkeypatch):
    x = digits.arrays("train")[0][:200]
    model = DDH(mlp(64), 8, 200)
    model.compile(optimizer="adam")
    recompute = model.epoch_step
    model.fit(x, epochs=1, verbose=0)
    bank = model.bank
    monkeypatch.setattr(model, "prepare", lambda *a: None)
    monkeypatch.setattr(model, "epoch_step", dict)  # it would recompute the statistics
    model.fit(x, epochs=3, verbose=0)
    running = bank.gram.numpy(), bank.total.numpy()
    recompute()
    np.testing.assert_allclose(running[0], bank.gram, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(running[1], bank.total, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("mode", ["bank", "batch"])
def test_learns_without_labels_and_does_not_collapse(digits, mode):
    x, _ = digits.arrays("train")
    standard = keras.layers.Normalization()
    standard.adapt(x)
    network = keras.Sequential([keras.Input((64,)), standard, *mlp(64).layers])
    model = DDH(network, 16, len(x), mode=mode)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    model.fit(x, batch_size=64, epochs=25, verbose=0)
    codes = model.encode(x, packed=False)
    assert np.abs(codes.mean(axis=0)).mean() < 0.5
    assert kerashash.evaluate(model, digits)["mAP@ALL"] > 0.5  # random codes: 0.10


def test_labels_are_ignored_if_neighbours_define_similarity(digits):
    data = digits.train.batch(64)
    results = []
    for dataset in (data, data.map(lambda x, y: (x, {"index": y["index"]}))):
        keras.utils.set_random_seed(0)
        model = DDH(mlp(64), 8, digits.num_train)
        model.compile(optimizer="adam")
        # The same order for both; a data set shuffles anew in each pass.
        model.fit(dataset.take(0).concatenate(dataset), epochs=1, verbose=0)
        results.append(model.history.history["loss"][0])
    assert abs(results[0] - results[1]) < 0.05


def test_paper_preset_scales_its_quantization():
    model = DDH("features", 32, 50_000, preset="paper")
    assert model.options["pair_weight"] == "uniform"
    assert model.options["quantization_weight"] == pytest.approx(15 * 32 / 50_000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "pixels"}, "`similarity` must be one of"),
        ({"mode": "all"}, "`mode` must be one of"),
        ({"pair_weight": "none"}, "`pair_weight` must be one of"),
        ({"preset": "papers"}, "`preset` must be one of"),
        ({"neighbours": 9}, "`neighbours` must be below num_train=9"),
        ({"neighbours": 0}, "`neighbours` must be at least 1"),
        ({"lists": 0}, "`lists` must be at least 1"),
        ({"quantization_weight": -1}, "`quantization_weight` must be at least 0"),
        ({"similarity": "labels"}, "`num_classes` must be an integer"),
        ({"num_train": 0}, "`num_train` must be at least 1"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DDH("features", 8, **{"num_train": 9, "neighbours": 3, **options})


def test_validation_loss_is_refused_by_name(digits):
    x = digits.arrays("train")[0][:50]
    model = DDH(mlp(64), 8, 50)
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="`validation_data` is not supported"):
        model.fit(x, validation_data=(x, None), verbose=0)
    model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="no loss on images outside"):
        model.evaluate(x, verbose=0)
