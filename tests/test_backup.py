"""Resuming training with `kerashash.callbacks.Backup`."""

import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
from conftest import mlp

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
    ],
)
def test_the_backup_of_another_model_is_refused(folder, options, difference):
    before = sorted(folder.rglob("*"))
    with pytest.raises(ValueError, match=f"`folder` must hold.*{difference}"):
        fit(make(**options), folder)
    assert sorted(folder.rglob("*")) == before


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
