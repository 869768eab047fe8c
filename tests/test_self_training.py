"""Self-training: pseudo-labels by hand, the training data, and the gain in mAP."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import mlp

import kerashash
from kerashash.maths import losses
from kerashash.methods import DSRE, AdaLabelHash, self_training


def test_rules_by_hand():
    scores = np.log([[0.5, 0.1, 0.3, 0.06, 0.04], [0.2, 0.2, 0.2, 0.2, 0.2]])
    labels, confidence, predicted = self_training.pseudo_labels(scores)
    assert labels.tolist() == [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(confidence, [0.5, 0.2])
    assert predicted.tolist() == [0, 0]
    labels, confidence, _ = self_training.pseudo_labels(scores, "multi", 2, 1)
    assert labels[0].tolist() == [1, -1, 1, -1, 0]
    np.testing.assert_allclose(confidence[0], 0.4)
    # round(0.8 * 5) = 4 would leave no label unknown.
    labels, _, _ = self_training.pseudo_labels(scores, "multi")
    assert labels[0].tolist() == [1, 0, -1, 0, 0]
    _, sharp, _ = self_training.pseudo_labels(scores, temperature=0.1)
    assert sharp[0] > 0.99
    with pytest.raises(ValueError, match=r"`scores` must have shape"):
        self_training.pseudo_labels([1.0, 2.0])
    with pytest.raises(ValueError, match=r"`scores` must be finite.*rows \[1\]"):
        self_training.pseudo_labels([[1.0, 2.0], [np.nan, 2.0]])


def test_most_confident_takes_a_share_of_each_label(rng):
    confidence, predicted = rng.random(300), rng.integers(0, 3, 300)
    predicted[confidence > 0.9] = 0  # the most confident images have one label
    selected = self_training.most_confident(confidence, predicted, 0.25)
    for label in range(3):
        of_label = predicted == label
        assert selected[of_label].sum() == round(0.25 * of_label.sum())
        kept = confidence[of_label & selected]
        dropped = confidence[of_label & ~selected]
        assert kept.min() >= dropped.max()


def test_unknown_labels_have_no_loss_and_no_gradient(rng):
    scores = tf.Variable(rng.normal(size=(4, 6)))
    labels = np.array([[1, 0, -1, -1, 0, 0]] * 3 + [[-1] * 6])
    with tf.GradientTape() as tape:
        loss = losses.codeword_hinge(tf.constant(labels), scores, margin=9.0)
    gradient = tape.gradient(loss, scores).numpy()
    assert (gradient[labels == -1] == 0).all()
    assert (gradient[:3, 0] != 0).all()


def few_labels(data, per_class=10):
    x, labels = data.arrays("train")
    rows = np.concatenate([np.flatnonzero(c)[:per_class] for c in labels.T])
    rest = np.setdiff1d(np.arange(len(x)), rows)
    return (x[rows], labels[rows]), x[rest]


def build(width=64):
    model = AdaLabelHash(mlp(width), bits=48, num_classes=10, margin=1.0)
    model.compile(optimizer=keras.optimizers.Adam(1e-3))
    return model


def test_self_training_beats_the_labelled_images_alone(digits):
    labelled, unlabelled = few_labels(digits)
    model = build()
    model.fit(*labelled, batch_size=32, epochs=30, verbose=0)
    labelled_only = kerashash.evaluate(model, digits, verbose=0)["mAP@ALL"]
    history = model.self_train(
        labelled, unlabelled, epochs=4, first_epochs=0, batch_size=32, verbose=0
    )
    self_trained = kerashash.evaluate(model, digits, verbose=0)["mAP@ALL"]
    assert self_trained > labelled_only + 0.02
    assert history.epoch == list(range(12))
    pseudo_labelled = history.history["pseudo_labelled"]
    n = len(unlabelled)
    assert len(pseudo_labelled) == 12
    np.testing.assert_allclose(
        pseudo_labelled[::4], [0.3 * n, 0.6 * n, 0.9 * n], atol=10
    )
    assert len(history.history["loss"]) == 12


@pytest.mark.parametrize("batched", [False, True])
def test_labels_stay_with_their_images_in_a_data_set_that_reshuffles(batched):
    """Each image equals its label row, so a wrong pairing shows in a batch."""
    x = np.repeat(np.eye(4, dtype=np.float32), 25, axis=0)
    y = np.repeat(np.arange(4), 25)
    model = AdaLabelHash(
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)]), 8, 4
    )
    model.compile(optimizer=keras.optimizers.Adam(1e-2), run_eagerly=True)
    unlabelled = kerashash.data.indexed(tf.data.Dataset.from_tensor_slices(x))
    unlabelled = unlabelled.shuffle(100)
    labelled = tf.data.Dataset.from_tensor_slices((x[::5], np.eye(4)[y[::5]]))
    if batched:
        unlabelled, labelled = unlabelled.batch(7), labelled.batch(7)
    model.fit(np.tile(x[::5], (60, 1)), np.tile(y[::5], 60), batch_size=20, verbose=0)
    seen, step = [], model.train_step

    def watched(data):
        seen.extend((data[0].numpy() == data[1].numpy()).all(axis=1))
        return step(data)

    model.train_step, model.train_function = watched, None
    model.self_train(
        labelled, unlabelled, epochs=2, first_epochs=0, quantile=1.0, verbose=0
    )
    # Rounds with 1/3, 2/3 and all of the 25 images of each of the 4 labels.
    assert len(seen) == 2 * (3 * 20 + 4 * (8 + 17 + 25))
    assert all(seen)


def test_threshold_keeps_what_is_probable(digits):
    labelled, unlabelled = few_labels(digits)
    model = build()
    model.fit(*labelled, batch_size=32, epochs=20, verbose=0)
    p = tf.nn.softmax(model.codewords(model.continuous_codes(unlabelled))).numpy()
    p = np.sort(p.max(axis=1))
    options = {"select": "threshold", "rounds": 1, "first_epochs": 0, "verbose": 0}
    for threshold, expected in ((p[-200:-198].mean(), 199), (1.0, 0)):
        history = model.self_train(
            labelled, unlabelled, 1, threshold=threshold, **options
        )
        assert abs(history.history["pseudo_labelled"][-1] - expected) <= 1
    history = model.self_train(
        labelled, unlabelled, 1, threshold=0.9, temperature=1e-6, **options
    )
    assert history.history["pseudo_labelled"] == [len(unlabelled)]


def test_several_labels(digit_pairs):
    x, labels, queries = digit_pairs
    x, labels = x[queries:], labels[queries:]
    model = build(128)
    history = model.self_train(
        (x[:300], labels[:300]), x[300:], epochs=2, rule="multi", verbose=0
    )
    assert history.history["pseudo_labelled"][-1] == pytest.approx(720, abs=10)


def test_presets():
    assert AdaLabelHash("features", 48, 3).margin == 12.0
    assert AdaLabelHash("features", 48, 3, preset="paper").margin == 1.0
    assert AdaLabelHash("features", 48, 3, margin=2.0, preset="paper").margin == 2.0
    with pytest.raises(ValueError, match="`preset` must be one of"):
        AdaLabelHash("features", 48, 3, preset="papers")


@pytest.mark.parametrize(("preset", "floor"), [("paper", True), ("default", False)])
def test_loss_is_equation_1_by_hand(rng, preset, floor):
    """Images with several labels, of which some are unknown."""
    n, bits, classes = 9, 6, 5
    model = AdaLabelHash(
        keras.Sequential([keras.Input((3,)), keras.layers.Identity()]),
        bits,
        classes,
        preset=preset,
        floor=floor,
    )
    z = rng.normal(size=(classes, bits)).astype(np.float32)
    model.codewords.embedding.embeddings.assign(z)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    labels = rng.integers(-1, 2, (n, classes))
    u = np.tanh(x @ model.hash_head.kernel.numpy() + model.hash_head.bias.numpy())
    scores = u @ np.tanh(z).T
    margin = 1.0 if preset == "paper" else bits / 4
    terms = []
    for row, s in zip(labels, scores, strict=True):
        hardest = max([*s[row == 0], 0.0 if floor else -1e9])
        terms += [max(0.0, margin - score + hardest) for score in s[row == 1]]
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    history = model.fit(x, labels, batch_size=n, verbose=0).history
    np.testing.assert_allclose(history["loss"], [np.mean(terms)], rtol=1e-5)


def test_self_training_of_the_paper_selects_by_threshold(digits):
    """At a threshold of 0 it takes all images, at 1 none."""
    labelled, unlabelled = few_labels(digits)
    model, counts = build(), []
    for threshold in (0.0, 1.0):
        options = {"preset": "paper", "threshold": threshold, "first_epochs": 0}
        history = model.self_train(
            labelled, unlabelled[:90], 1, rounds=1, verbose=0, **options
        )
        counts.append(history.history["pseudo_labelled"][-1])
    assert counts == [90, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "papers"}, "`preset` must be one of"),
        ({"select": "best"}, "`select` must be one of"),
        ({"rule": "several"}, "`rule` must be one of"),
        ({"quantile": 1.5}, r"`quantile` must be in \[0, 1\]"),
        ({"threshold": -1}, r"`threshold` must be in \[0, 1\]"),
        ({"temperature": 0}, "`temperature` must be above 0"),
        ({"rule": "multi", "top_k": 0}, "`top_k` must be at least 1"),
        ({"rule": "multi", "top_k": 8, "bottom_k": 3}, "must together be at most"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
    ],
)
def test_bad_arguments_are_named(digits, options, message):
    labelled, unlabelled = few_labels(digits)
    with pytest.raises(ValueError, match=message):
        build().self_train(labelled, unlabelled, **options)


def test_bad_data_is_named(digits):
    labelled, unlabelled = few_labels(digits)
    images = tf.data.Dataset.from_tensor_slices(unlabelled)
    model = build()
    with pytest.raises(ValueError, match=r"`kerashash.data.indexed\(images\)` adds"):
        model.self_train(labelled, images)
    with pytest.raises(TypeError, match="`labelled` must be a tf"):
        model.self_train(labelled[0], unlabelled)
    with pytest.raises(ValueError, match="`labelled` must have one row for each"):
        model.self_train((labelled[0], labelled[1][:3]), unlabelled)
    with pytest.raises(ValueError, match=r"`labelled` must hold labels .*\['labels'\]"):
        model.self_train((labelled[0], {"labels": labelled[1]}), unlabelled)
    with pytest.raises(ValueError, match=r"`unlabelled` must have shape \(n, 64\)"):
        model.self_train(labelled, unlabelled[:, :5])
    endless = tf.data.Dataset.from_tensor_slices(labelled).repeat()
    with pytest.raises(ValueError, match="`labelled` must be finite"):
        model.self_train(endless, unlabelled)
    endless = kerashash.data.indexed(images).repeat()
    with pytest.raises(ValueError, match="`unlabelled` must be finite"):
        model.self_train(labelled, endless)


def test_takes_batches_of_class_ids(digits):
    labelled, unlabelled = few_labels(digits)
    x, ids = labelled
    batched = tf.data.Dataset.from_tensor_slices((x, ids)).batch(16)
    history = build().self_train(batched, unlabelled, epochs=1, rounds=1, verbose=0)
    assert history.history["pseudo_labelled"][1] > 0


def test_takes_labels_in_a_dict_as_fit_does(digits):
    (x, ids), unlabelled = few_labels(digits)
    labelled = (x, {"label": ids})
    history = build().self_train(labelled, unlabelled, epochs=1, rounds=0, verbose=0)
    assert history.history["pseudo_labelled"] == [0]


@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        ({"labelled": 0}, {}, ValueError, "`labelled` must have rows"),
        ({"unlabelled": 0}, {}, ValueError, "`unlabelled` must have rows"),
        ({}, {"rounds": 1.5}, TypeError, "`rounds` must be an integer"),
        ({}, {"rounds": -1}, ValueError, "`rounds` must be at least 0"),
        ({}, {"first_epochs": -1}, ValueError, "`first_epochs` must be at least 0"),
        ({}, {"rule": "multi", "top_k": 2.5}, TypeError, "`top_k` must be an integer"),
        ({}, {"quantile": "a"}, TypeError, "`quantile` must be a number"),
        ({}, {"temperature": "a"}, TypeError, "`temperature` must be a number"),
    ],
)
def test_empty_data_and_wrong_types_are_named(digits, data, options, error, message):
    (x, y), unlabelled = few_labels(digits)
    labelled = (x[: data.get("labelled")], y[: data.get("labelled")])
    options = {"epochs": 1, "verbose": 0, **options}
    with pytest.raises(error, match=message):
        build().self_train(labelled, unlabelled[: data.get("unlabelled")], **options)


def test_backups_of_single_rounds_are_refused(digits, tmp_path):
    labelled, unlabelled = few_labels(digits)
    for backup in (
        kerashash.callbacks.Backup(tmp_path / "one"),
        keras.callbacks.BackupAndRestore(tmp_path / "two"),
    ):
        with pytest.raises(
            ValueError, match=rf"`callbacks`.*{type(backup).__name__}\."
        ):
            build().self_train(labelled, unlabelled, callbacks=backup)
    with pytest.raises(TypeError, match="`callbacks` must be a list"):
        build().self_train(labelled, unlabelled, callbacks=["backup"])


def test_a_model_without_scores_is_named(digits):
    labelled, unlabelled = few_labels(digits)
    model = DSRE(mlp(64), bits=8, num_classes=10)
    with pytest.raises(TypeError, match=r"`model` must be.*`scores`.*Received: DSRE"):
        self_training.self_train(model, labelled, unlabelled)


def test_an_index_of_batches_is_refused(digits):
    labelled, unlabelled = few_labels(digits)
    batches = tf.data.Dataset.from_tensor_slices(unlabelled).batch(4)
    with pytest.raises(ValueError, match="`unlabelled` must have examples of shape"):
        build().self_train(
            labelled, kerashash.data.indexed(batches), epochs=1, verbose=0
        )
