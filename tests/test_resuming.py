"""Interrupted training goes on exactly, with the losses and codes of one long `fit`."""

import copy
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash.baselines import CNNH, DTSH, SSDH, HashNet
from kerashash.methods import DCDH, DDH, DSRE, AdaLabelHash
from kerashash.zoo import weight_files

ROWS, WIDTH, CLASSES, BATCH, EPOCHS = 16, 6, 3, 10, 3
DCDH_SMALL = {"label_units": (8,), "fusion_units": (8,)}  # with dropout
DSDH = {"divergence": None, "b_update": "dcc", "w_update": "ridge"}
NEIGHBOURS = {"neighbours": 4, "lists": 2}
SUPERVISED = {"similarity": "labels", "num_classes": CLASSES}


def schedule():
    return keras.optimizers.schedules.CosineDecay(0.02, 12)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.02),
    "adamw": lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    "schedule": lambda: keras.optimizers.Adam(schedule()),
    "accumulation": lambda: keras.optimizers.Adam(0.02, gradient_accumulation_steps=3),
    "momentum": lambda: keras.optimizers.SGD(schedule(), momentum=0.9),
}

CASES = [
    (AdaLabelHash, {}, "accumulation"),
    (SSDH, {}, "schedule"),
    (DTSH, {}, "adamw"),
    (HashNet, {"growth": 0.5}, "adam"),
    (CNNH, {"num_train": ROWS}, "momentum"),
    (DSRE, {"num_train": ROWS}, "adamw"),
    (DSRE, {"num_train": ROWS, **DSDH}, "adam"),
    (DCDH, {**DCDH_SMALL, "b_update": "epoch"}, "adam"),
    (DCDH, {**DCDH_SMALL, "b_update": "batch"}, "adamw"),
    (DCDH, {"variant": "V"}, "accumulation"),
    (DCDH, {"variant": "S", "label_units": (8,), "preset": "paper"}, "momentum"),
    (DCDH, {**DCDH_SMALL, "pair_loss": "average_precision"}, "schedule"),
    (DDH, NEIGHBOURS, "adam"),
    (DDH, {**NEIGHBOURS, "mode": "batch", "neighbour_backbone": True}, "accumulation"),
    (DDH, {**NEIGHBOURS, "frozen": True}, "momentum"),
    (DDH, SUPERVISED, "adamw"),
]


def network():
    return keras.Sequential(
        [
            keras.Input((WIDTH,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
        ]
    )


def build(method, options, optimizer, seed):
    keras.utils.set_random_seed(seed)
    options, backbone = dict(options), network()
    if options.pop("frozen", False):
        backbone.trainable = False
    if options.get("neighbour_backbone"):
        # As in a new process: the same network, however the model starts.
        inner = keras.layers.Dense(5, kernel_initializer=keras.initializers.Ones())
        options["neighbour_backbone"] = keras.Sequential([keras.Input((WIDTH,)), inner])
    if method is not DDH:
        options["num_classes"] = CLASSES
    if method in (DCDH, DDH):
        options["num_train"] = ROWS
    model = method(backbone, bits=4, **options)
    # Eager: to trace a graph would take longer than to train.
    model.compile(OPTIMIZERS[optimizer](), run_eagerly=True)
    return model


def training_data(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, ROWS)]
    return x, labels


def ordered(x, labels):
    rows = {"label": labels, "index": np.arange(ROWS, dtype=np.int32)}
    return tf.data.Dataset.from_tensor_slices((x, rows)).batch(BATCH)


def results(model, logs):
    """What a run has come to: all logs of all epochs, and all codes."""
    x, _ = training_data()
    learned = None if model.train_codes is None else model.learned_codes()
    return logs, model.continuous_codes(x), learned


def assert_equal(received, expected):
    assert received[0] == expected[0]  # to the bit
    for a, b in zip(received[1:], expected[1:], strict=True):
        np.testing.assert_array_equal(a, b)


class Log(keras.callbacks.Callback):
    """Keeps the logs of all epochs, whoever trains them."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append((epoch, dict(logs)))


class Kill(keras.callbacks.Callback):
    """Ends training at the end of its first epoch, as a crash would."""

    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def undisturbed(case, folder):
    """One long `fit`, and a file of the model after each epoch."""
    model, log = build(*case, seed=1), Log()
    files = keras.callbacks.ModelCheckpoint(folder / "{epoch}.keras")
    model.fit(
        ordered(*training_data()), epochs=EPOCHS, callbacks=[log, files], verbose=0
    )
    return results(model, log.rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    CASES,
    ids=lambda case: f"{case[0].__name__}-{[*case[1].values()]}-{case[2]}",
)
def test_training_that_is_interrupted_after_every_epoch_goes_on_exactly(case, tmp_path):
    expected = undisturbed(case, tmp_path)
    x, labels = training_data()

    # By `BackupAndRestore`: killed after each epoch, resumed by a new model.
    log = Log()
    for epoch in range(EPOCHS):
        model = build(*case, seed=10 + epoch if epoch else 1)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        callbacks = [log, backup, *([Kill()] if epoch < EPOCHS - 1 else [])]
        try:
            model.fit(ordered(x, labels), epochs=EPOCHS, callbacks=callbacks, verbose=0)
        except KeyboardInterrupt:
            assert epoch < EPOCHS - 1
    assert_equal(results(model, log.rows), expected)

    # From the file of the first epoch, by a `fit` for each further one.
    keras.utils.set_random_seed(20)
    model, log = kerashash.load_model(tmp_path / "1.keras"), Log()
    for epoch in range(1, EPOCHS):
        model.fit(
            *(x, labels) if model.needs_labels else (x,),
            batch_size=BATCH,
            shuffle=False,
            epochs=epoch + 1,
            initial_epoch=epoch,
            callbacks=log,
            verbose=0,
        )
    logs, *codes = expected
    assert_equal(results(model, log.rows), (logs[1:], *codes))


def fit(model, x, labels, **options):
    """Losses of a `fit` in order."""
    return model.fit(ordered(x, labels), verbose=0, **options).history.get("loss")


@pytest.mark.slow
def test_training_goes_on_exactly_in_a_new_process(tmp_path):
    """As graphs, and after `save`, which also saves the states of dropout."""
    x, labels = training_data()
    model = build(DCDH, DCDH_SMALL, "schedule", seed=1)
    model.compile(keras.optimizers.Adam(schedule()))
    files = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    loss = fit(model, x, labels, epochs=4, callbacks=files)
    np.savez(tmp_path / "data.npz", x=x, labels=labels)
    code = """
import kerashash, numpy as np, tensorflow as tf
data = np.load("data.npz")
rows = {"label": data["labels"], "index": np.arange(len(data["x"]), dtype=np.int32)}
dataset = tf.data.Dataset.from_tensor_slices((data["x"], rows)).batch(10)
model = kerashash.load_model("2.keras")
history = model.fit(dataset, initial_epoch=2, epochs=4, verbose=0).history
np.savez("r.npz", loss=history["loss"], codes=model.continuous_codes(data["x"]),
         learned=model.learned_codes())
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    received = np.load(tmp_path / "r.npz")
    assert received["loss"].tolist() == loss[2:]
    np.testing.assert_array_equal(received["codes"], model.continuous_codes(x))
    np.testing.assert_array_equal(received["learned"], model.learned_codes())


STATEFUL = [
    (DCDH, DCDH_SMALL),
    (DCDH, {**DCDH_SMALL, "pair_loss": "average_precision"}),
    (DDH, NEIGHBOURS),
    (DDH, SUPERVISED),
]
# Of these, the codes or nothing but the labels is needed.
LABELLED = [
    (DSRE, {"num_train": ROWS}),
    (DSRE, {"num_train": ROWS, **DSDH}),
    (CNNH, {"num_train": ROWS}),
]


@pytest.mark.parametrize(("method", "options"), STATEFUL)
def test_no_row_passes_the_network_again_when_training_resumes(
    method, options, tmp_path, monkeypatch
):
    x, labels = training_data()
    model = build(method, options, "adam", seed=1)
    fit(model, x, labels)
    model.save(tmp_path / "model.keras")
    resumed = kerashash.load_model(tmp_path / "model.keras")
    calls = []
    call = type(resumed.backbone).call

    def counted(self, *args, training=None, **kwargs):
        if self.input_shape == (None, WIDTH):  # not the other streams
            calls.append(training)
        return call(self, *args, training=training, **kwargs)

    monkeypatch.setattr(type(resumed.backbone), "call", counted)
    # A discrete step takes a pass without dropout in each training step.
    resumed.without_dropout = lambda x, labels, u: u
    fit(resumed, x, labels, initial_epoch=1, epochs=2)
    assert calls == [True] * 2
    fit(build(method, options, "adam", seed=1), x, labels)
    derives_from_u = options.get("pair_loss") is None
    assert (False in calls) == derives_from_u  # a new training does


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), [*STATEFUL, *LABELLED])
def test_other_training_rows_begin_a_new_training(method, options):
    x, labels = training_data()
    model = build(method, options, "adam", seed=1)
    fit(model, x, labels, epochs=2)
    other_x, other_labels = training_data(seed=5)
    unlabelled = method is DDH and options is NEIGHBOURS
    if unlabelled:
        with pytest.warns(UserWarning, match="`x` is not what it was"):
            fit(model, other_x, labels, initial_epoch=2, epochs=3)
    else:
        # Of other images with the same labels nobody can tell: they may be augmented.
        fit(model, other_x, labels, initial_epoch=2, epochs=3)
        before = None if model.train_codes is None else model.learned_codes()
        for _ in "12":
            with pytest.raises(ValueError, match=r"`x` must be the training data.*r"):
                fit(model, x, other_labels, initial_epoch=3, epochs=4)
        if before is not None:
            np.testing.assert_array_equal(model.learned_codes(), before)

    # What is derived is what a model without a state would derive.
    fresh = build(method, options, "adam", seed=3)
    fresh.set_weights(model.get_weights())
    if fresh.train_codes is not None:
        fresh.train_codes.assign(np.zeros((ROWS, 4)))
    for each in (model, fresh):
        keras.utils.set_random_seed(7)
        fit(each, other_x, other_labels, epochs=0)
    expected = fresh.training_state()
    for name, received in model.training_state().items():
        np.testing.assert_array_equal(received, expected[name])
    if fresh.train_codes is not None:
        np.testing.assert_array_equal(model.learned_codes(), fresh.learned_codes())


def test_restored_weights_of_an_earlier_epoch_keep_their_codes():
    """As `EarlyStopping` restores them: the real numbers of B are those of the last."""
    x, labels = training_data()
    options = {**DCDH_SMALL, "pair_loss": "average_precision", "code_rate": 100.0}
    model = build(DCDH, options, "adam", seed=1)
    fit(model, x, labels)
    weights, codes = model.get_weights(), model.learned_codes()
    fit(model, x, labels, epochs=8)
    assert (model.learned_codes() != codes).any()
    model.set_weights(weights)
    fit(model, x, labels, epochs=0)
    np.testing.assert_array_equal(model.learned_codes(), codes)


def test_files_without_a_training_state_are_loaded(tmp_path):
    """As files of 0.1 are, and those of a network with another dropout."""
    x, labels = training_data()
    model = build(DCDH, DCDH_SMALL, "adam", seed=1)
    fit(model, x, labels)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        state = file["_training_state/vars"]
        assert {*state} == {"data", "u", "seeds"}
        assert state["u"].shape == (ROWS, 3, 4)
        del file["_training_state"]
    resumed = build(DCDH, DCDH_SMALL, "adam", seed=2)
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(path)
    fit(resumed, x, labels, epochs=0)
    np.testing.assert_array_equal(resumed.learned_codes(), model.learned_codes())


@pytest.mark.parametrize(("method", "options"), LABELLED)
def test_files_without_a_fingerprint_of_the_labels_are_loaded(
    method, options, tmp_path
):
    x, labels = training_data()
    model = build(method, options, "adam", seed=1)
    fit(model, x, labels)
    path = tmp_path / "m.weights.h5"
    model.save_weights(path)
    with h5py.File(path, "a") as file:
        assert {*file["_training_state/vars"]} == {"data", "seeds"}
        del file["_training_state/vars"]["data"]
    resumed = build(method, options, "adam", seed=2)
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(path)
    fit(resumed, x, labels, initial_epoch=1, epochs=1)
    np.testing.assert_array_equal(resumed.learned_codes(), model.learned_codes())


def test_entries_of_the_zoo_hold_no_training_state(tmp_path):
    x, labels = training_data()
    model = build(DCDH, DCDH_SMALL, "adam", seed=1)
    fit(model, x, labels)
    path = tmp_path / "model.weights.h5"
    weight_files.save(model, path, tmp_path)
    with h5py.File(path) as file:
        assert not any("training_state" in name for name in [*file])
    loaded = DCDH.from_config(model.get_config())
    weight_files.load(loaded, path, [])
    assert not loaded.has_state_to_resume
    np.testing.assert_array_equal(loaded.learned_codes(), model.learned_codes())


def test_a_copy_and_a_loaded_model_save_the_state_again(tmp_path):
    x, labels = training_data()
    model = build(DDH, NEIGHBOURS, "adam", seed=1)
    fit(model, x, labels)
    expected = model.training_state()
    for _ in range(2):
        model.save(tmp_path / "model.keras")
        model = kerashash.load_model(tmp_path / "model.keras")
    copied = copy.deepcopy(model)
    for other in (model, copied):
        received = other._training_state.arrays()
        assert received.keys() == expected.keys() == {"data", "z", "offsets", "columns"}
        for name, array in expected.items():
            np.testing.assert_array_equal(received[name], array)


def test_a_backbone_of_unknown_width_is_built_before_callbacks_restore(tmp_path):
    x, labels = training_data()
    expected = None
    for stop_at in (None, 1, 2):  # in one go; interrupted; resumed
        keras.utils.set_random_seed(1)
        model = DCDH("features", 4, CLASSES, ROWS, **DCDH_SMALL)
        model.compile("adam", run_eagerly=True)
        backup = keras.callbacks.BackupAndRestore(
            tmp_path / "backup", delete_checkpoint=False
        )
        callbacks = [] if stop_at is None else [backup]
        fit(model, x, labels, epochs=stop_at or 2, callbacks=callbacks)
        if expected is None:
            expected = model.continuous_codes(x)
    np.testing.assert_array_equal(model.continuous_codes(x), expected)
    # The epoch that a callback restored does not count in a later `fit`.
    assert len(fit(model, x, labels, epochs=1)) == 1
