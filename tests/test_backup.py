"""Resuming training with `kerashash.callbacks.Backup`."""

import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
from conftest import mlp
from keras.optimizers import Adam
from keras.optimizers.schedules import CosineDecay

from kerashash.methods import DSRE, AdaLabelHash
from kerashash.monitoring.callbacks import Backup

EPOCHS = 6
X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
Y = np.arange(8) % 2


class Stop(keras.callbacks.Callback):
    """Interrupts training at the beginning of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise InterruptedError


def make(bits=8, units=(4,), method=AdaLabelHash, optimizer="adam", **options):
    keras.utils.set_random_seed(1)
    model = method(mlp(4, units), bits=bits, num_classes=2, **options)
    # Eager: tracing a graph takes longer than this training.
    model.compile(optimizer, run_eagerly=True)
    return model


def fit(model, folder, *callbacks, epochs=EPOCHS, **options):
    backup = Backup(folder, **options)
    return model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[backup, *callbacks],
    )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a training of six epochs that has done four."""
    folder = tmp_path_factory.mktemp("backup") / "four"
    with pytest.raises(InterruptedError):
        fit(make(), folder, Stop(4))
    assert sorted(os.listdir(folder)) == ["epoch-3", "epoch-4"]
    return folder


@pytest.fixture(scope="module")
def undisturbed():
    model = make()
    return model.fit(X, Y, batch_size=4, epochs=EPOCHS, shuffle=False, verbose=0), model


@pytest.fixture
def folder(stopped, tmp_path):
    return pathlib.Path(shutil.copytree(stopped, tmp_path / "backup"))


def same(model, other):
    for one, two in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(one, two)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zero_tail(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def test_training_resumes_bit_for_bit(folder, undisturbed):
    history, expected = undisturbed
    model = make()
    resumed = fit(model, folder)
    assert resumed.epoch == [4, 5]
    assert resumed.history["loss"] == history.history["loss"][4:]
    same(model, expected)
    assert int(model.optimizer.iterations) == 2 * EPOCHS
    assert not folder.exists()


@pytest.mark.parametrize("file", ["backup.json", "model.weights.h5"])
@pytest.mark.parametrize("damage", [cut, zero_tail, flip, pathlib.Path.unlink, pipe])
def test_a_damaged_backup_is_passed_over(folder, undisturbed, file, damage):
    damage(folder / "epoch-4" / file)
    model = make()
    with pytest.warns(UserWarning, match=f"epoch-4 is damaged .*{file}"):
        resumed = fit(model, folder, Stop(4), epochs=4)
    assert resumed.epoch == [3]
    history, _ = undisturbed
    assert resumed.history["loss"] == history.history["loss"][3:4]


def test_without_a_whole_backup_training_begins_again(folder, undisturbed):
    for epoch in (3, 4):
        flip(folder / f"epoch-{epoch}" / "backup.json")
    model = make()
    with pytest.warns(UserWarning, match="is damaged") as warned:
        resumed = fit(model, folder)
    assert sum("is damaged" in str(w.message) for w in warned) == 2
    assert resumed.epoch == [*range(EPOCHS)]
    same(model, undisturbed[1])


def test_a_damaged_backup_does_not_displace_whole_ones(folder):
    flip(folder / "epoch-4" / "model.weights.h5")
    with pytest.warns(UserWarning, match="epoch-4 is damaged"):  # noqa: SIM117
        with pytest.raises(InterruptedError):  # killed again before the next backup
            fit(make(), folder, Stop(3))
    assert os.listdir(folder) == ["epoch-3"]
    with pytest.raises(InterruptedError):
        fit(make(), folder, Stop(4))
    assert sorted(os.listdir(folder)) == ["epoch-3", "epoch-4"]


def test_what_killed_writers_have_left_is_removed(folder):
    (folder / ".epoch-9.kerashash-01234567").mkdir()
    (folder / ".epoch-9.kerashash-01234567" / "model.weights.h5").write_bytes(b"half")
    fit(make(), folder)
    assert not folder.exists()


def test_every_and_keep(tmp_path):
    model = make()
    with pytest.raises(InterruptedError):
        fit(model, tmp_path / "backup", Stop(5), every=2, keep=True)
    assert sorted(os.listdir(tmp_path / "backup")) == ["epoch-2", "epoch-4"]
    (tmp_path / "backup" / "notes.txt").write_text("mine")
    resumed = fit(make(), tmp_path / "backup", epochs=5, every=2, keep=True)
    assert resumed.epoch == [4]
    assert sorted(os.listdir(tmp_path / "backup")) == [
        "epoch-4",
        "epoch-5",
        "notes.txt",
    ]
    model = make()
    assert fit(model, tmp_path / "backup", epochs=5).epoch == []
    assert int(model.optimizer.iterations) == 10
    assert os.listdir(tmp_path / "backup") == ["notes.txt"]  # it is not ours


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"bits": 12}, "config.bits = 8; this one has 12"),
        ({"method": DSRE}, "class = 'AdaLabelHash'; this one has 'DSRE'"),
        ({"units": (5,)}, "units = 4; this one has 5"),
        ({"units": (4, 4)}, "number of config.backbone.config.layers = 2"),
        ({"optimizer": "sgd"}, "optimizer = 'Adam'; this one has 'SGD'"),
        ({"margin": 0.5}, r"config\.margin = "),
        ({"dtype": "bfloat16"}, r"dtype\.name = 'float32'; this one has 'bfloat16'"),
        ({"optimizer": Adam(1e-3, amsgrad=True)}, "amsgrad = False; this one has True"),
        ({"optimizer": Adam(1e-3, 0.5)}, r"beta_1 = 0\.9; this one has 0\.5"),
        (
            {"optimizer": Adam(CosineDecay(1e-3, 9))},
            "learning_rate = 'a number'; this one has {",
        ),
    ],
)
def test_the_backup_of_another_model_is_refused(folder, options, difference):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=f"`folder` must hold.*{difference}"):
        fit(make(**options), folder)
    assert sorted(folder.rglob("*")) == before


def test_the_learning_rate_of_the_backup_goes_on(folder):
    model = make(optimizer=Adam(0.5))
    fit(model, folder)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


def test_the_schedule_of_a_backup_is_that_of_the_model(tmp_path):
    for optimizer in (keras.optimizers.LossScaleOptimizer, lambda inner: inner):
        folder = tmp_path / optimizer.__name__
        with pytest.raises(InterruptedError):
            fit(make(optimizer=optimizer(Adam(CosineDecay(1e-3, 9)))), folder, Stop(1))
        for rate, shown in ((CosineDecay(1e-3, 8), "decay_steps = 9"), (1e-3, "= {")):
            with pytest.raises(ValueError, match=f"learning_rate.*{shown}"):
                fit(make(optimizer=optimizer(Adam(rate))), folder)
        model = make(optimizer=optimizer(Adam(CosineDecay(1e-3, 9))))
        assert fit(model, folder, epochs=2).epoch == [1]


# ------------------------------------------------------------------- other callbacks

# Best after 3 epochs; then one waits for less.
VALUES = [5.0, 4.0, 3.0, 3.5, 3.4, 3.3, 3.2, 3.1, 1.0]


def watching(folder):
    options = {"monitor": "value", "mode": "min"}
    return [
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(value=VALUES[epoch])
        ),
        keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.5, **options),
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True, **options),
        keras.callbacks.ModelCheckpoint(
            folder / "best.keras", save_best_only=True, **options
        ),
    ]


def watched(folder, dtype, *callbacks, backup=True, patience=3, **options):
    keras.utils.set_random_seed(1)
    layers = [keras.Input((4,)), keras.layers.Dense(4, dtype=dtype)]
    model = AdaLabelHash(keras.Sequential(layers), bits=8, num_classes=2)
    model.compile(Adam(0.01), run_eagerly=True)
    before = [Backup(folder / "backup", **options)] if backup else []
    watches = watching(folder)
    watches[2].patience = patience
    history = model.fit(
        X,
        Y,
        batch_size=4,
        epochs=len(VALUES),
        shuffle=False,
        verbose=0,
        # Its place in the list does not matter.
        callbacks=[*before, *watches, *callbacks],
    )
    return history.epoch, model, watches


class StopAtTheEnd(keras.callbacks.Callback):
    def on_train_end(self, logs=None):
        raise InterruptedError


@pytest.mark.parametrize(
    ("kill", "dtype"), [(Stop(4), "float32"), (StopAtTheEnd(), "bfloat16")]
)
def test_callbacks_that_watch_a_value_go_on(tmp_path, kill, dtype):
    epochs, expected, _ = watched(tmp_path, dtype, backup=False)
    assert epochs == [*range(6)]
    assert float(expected.optimizer.learning_rate) == np.float32(0.005)
    with pytest.raises(InterruptedError):
        watched(tmp_path, dtype, kill)
    best = (tmp_path / "best.keras").read_bytes()
    epochs, model, watches = watched(tmp_path, dtype)
    assert epochs == [*range(getattr(kill, "epoch", 6), 6)]
    same(model, expected)
    for one, two in zip(
        model.optimizer.variables, expected.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert watches[-1].best == 3.0
    assert (tmp_path / "best.keras").read_bytes() == best


def test_a_training_that_was_stopped_is_complete(tmp_path):
    epochs, expected, _ = watched(tmp_path, "float32", keep=True)
    assert epochs == [*range(6)]
    for _ in "12":
        epochs, model, _ = watched(tmp_path, "float32", keep=True)
        assert epochs == []
        same(model, expected)
    assert watched(tmp_path, "float32", patience=9)[0] == [6, 7, 8]


def test_the_weights_that_callbacks_remember_have_checksums(tmp_path):
    with pytest.raises(InterruptedError):
        watched(tmp_path, "float32", Stop(4))
    flip(tmp_path / "backup" / "epoch-4" / "callbacks.npz")
    with pytest.warns(UserWarning, match=r"epoch-4 is damaged \(callbacks\.npz"):
        assert watched(tmp_path, "float32")[0] == [3, 4, 5]


def test_averaged_weights_in_a_model_are_known_as_such(tmp_path):
    def averaged(*callbacks):
        model = make(optimizer=Adam(0.1, use_ema=True, ema_momentum=0.5))
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        fit(model, tmp_path / "backup", swap, *callbacks)
        return model

    expected = averaged()
    with pytest.raises(InterruptedError):
        averaged(Stop(4))
    same(averaged(), expected)


class Count(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.epochs, self.options = 0, ["of the user"]

    def on_epoch_end(self, epoch, logs=None):
        self.epochs += 1


class Collect(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses = []

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])


def test_callbacks_that_begin_anew_are_named(tmp_path):
    with pytest.raises(InterruptedError):
        fit(make(), tmp_path / "backup", Count(), Stop(2), Collect())
    with pytest.warns(UserWarning, match=r"begin anew: Count, Collect\.$"):
        assert fit(make(), tmp_path / "backup", Count(), epochs=3).epoch == [2]


def test_names_that_keras_counts_make_no_difference(folder):
    keras.Sequential([keras.layers.Dense(1), keras.layers.Softmax()])
    assert fit(make(), folder).epoch == [4, 5]


def test_wrong_arguments(tmp_path):
    for every, error in ((0, ValueError), (1.5, TypeError), ("epoch", TypeError)):
        with pytest.raises(error, match="`every` must be"):
            Backup(tmp_path, every=every)
    model = keras.Sequential([keras.layers.Dense(1)])
    backup = Backup(tmp_path / "none")
    backup.set_model(model)
    with pytest.raises(ValueError, match="`model` must be built"):
        backup.on_train_begin()


@pytest.mark.parametrize("keep", [False, True])
def test_folders_that_are_no_backups_stay(tmp_path, keep):
    """Also those with the name of one, which is refused before the training."""
    for name in ("epoch-02", "epoch-0", "epochs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    fit_plain(Backup(tmp_path, keep=keep))
    assert {*(path.parent.name for path in tmp_path.glob("*/notes.txt"))} == {
        "epoch-02",
        "epoch-0",
        "epochs",
    }
    other = tmp_path / "other"
    (other / "epoch-1").mkdir(parents=True)
    (other / "epoch-1" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"`folder` must hold backups alone.*notes"):
        fit_plain(Backup(other))
    assert (other / "epoch-1" / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    steps = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_: steps.append(1)
    )
    with pytest.raises(ValueError, match="`folder` must be a folder in which one can"):
        fit_plain(count, Backup(tmp_path / "file"))
    assert not steps
    with pytest.raises(TypeError, match="`folder` must be a path"):
        Backup(None)


def fit_plain(*callbacks):
    model = AdaLabelHash("features", bits=8, num_classes=3)
    model.build((None, 4))
    model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    model.fit(np.ones((6, 4)), np.arange(6) % 3, callbacks=[*callbacks], verbose=0)
