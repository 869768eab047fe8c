"""A Keras callback that resumes training after an interruption of any kind."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import warnings
from typing import Any

import keras

from kerashash import files
from kerashash.checks import check_integer
from kerashash.methods import replicas

_STATE, _WEIGHTS = "backup.json", "model.weights.h5"
_GENERATION = re.compile(r"epoch-([1-9][0-9]*)")
_GENERATIONS = 2  # that are kept
# What has names of layers in a config of Keras.
_NAMING = ("name", "keras_history", "input_layers", "output_layers")


class Backup(keras.callbacks.Callback):
    """Backs up the state of training after each epoch, and resumes from it.

    The next `fit` of a model like this one, with the same folder, begins after the last
    epoch that was backed up: with the weights, the optimizer and what else the model
    saves with them. It ends where the interrupted one would have ended; a model of
    kerashash then has the same weights, bit for bit, if the data come in the same
    order.

    A backup is written in one piece and has checksums, and the one before it is kept.
    So whenever the process is killed, and if the newest backup is damaged later, there
    is a whole one: `fit` resumes from the newest of these, and warns of those that are
    damaged. When `fit` ends, the backups are removed. Each training needs a folder of
    its own.

    Of several processes that train one model (`tf.distribute`), the first has its
    backups in the folder itself, and each other one in ``worker-1`` and so on inside
    it; all begin after the last epoch of which all have a backup.

    `keras.callbacks.BackupAndRestore` has the same purpose. It writes over its only
    copy, and does not see damage.

    Args:
        folder: path of the folder for the backups of this training; it is made if it
            does not exist.
        every: int; the number of epochs from one backup to the next.
        keep: bool; whether the last backup stays when `fit` ends. A `fit` that is
            complete is then not repeated, but loads the result.

    Raises:
        TypeError, ValueError: if `folder` is no path or `every` not a number of epochs.
            In `fit`, if the folder cannot be written or has a folder of that name which
            is no backup, or the backups are of another model: of another class, with
            other options, weights or optimizer.

    Example:
        >>> import numpy as np
        >>> import kerashash
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
        >>> model = kerashash.AdaLabelHash(net, bits=12, num_classes=3)
        >>> model.compile("adam")
        >>> x, y = np.ones((6, 4)), np.arange(6) % 3
        >>> backup = Backup("unfinished")
        >>> history = model.fit(x, y, epochs=2, callbacks=backup, verbose=0)
        >>> os.path.exists("unfinished")  # training is complete
        False
    """

    def __init__(
        self, folder: str | os.PathLike[str], every: int = 1, keep: bool = False
    ) -> None:
        super().__init__()
        check_integer("every", every)
        self.folder = self._own_folder = files.as_path(folder, "folder")
        self.every = every
        self.keep = keep
        self._epoch = self._saved_epoch = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        if not model.built:
            raise ValueError(
                "`model` must be built before `fit`, to be backed up: call it on a "
                f"batch. Received: {model.name}, which is not."
            )
        strategy = model.distribute_strategy
        number = replicas.process_number(strategy)
        self._own_folder = self.folder / f"worker-{number}" if number else self.folder
        self._epoch = self._saved_epoch = 0
        files.make_folder(self._own_folder, "folder")
        for folder in self._generations():
            _check_own(folder)
        epoch, path = self._newest(None)
        common = int(replicas.of_all_processes(strategy, epoch).min())
        if common < epoch:
            epoch, path = self._newest(common)
        if path is None:
            return
        _check_same(path, _read_state(path)["model"], _description(model))
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(path / _WEIGHTS)
        self._epoch = self._saved_epoch = epoch
        model._initial_epoch = epoch

    def _newest(self, last: int | None) -> tuple[int, pathlib.Path | None]:
        """The newest whole backup, of the epoch `last` or before; 0 and None if none.

        Damaged and later ones are removed.
        """
        for path in self._generations():
            problem = _damage(path)
            if problem:
                warnings.warn(
                    f"The backup {path} is damaged ({problem}). Training goes on from "
                    "an earlier one, or from the beginning if there is none.",
                    stacklevel=2,
                )
                # It must not pass for the newest once training has gone on.
                files.remove_folder(path)
                continue
            epoch = int(_read_state(path)["epoch"])
            if last is None or epoch <= last:
                return epoch, path
            files.remove_folder(path)
        return 0, None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch + 1
        if self._epoch % self.every == 0:
            self._save()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.keep:
            if self._saved_epoch != self._epoch:
                self._save()
            return
        # The newest last: killed meanwhile, training is still complete.
        for path in reversed(self._generations()):
            files.remove_folder(path)
        for folder in (self._own_folder, self.folder):
            with contextlib.suppress(OSError):  # another process has backups in it
                folder.rmdir()

    def _save(self) -> None:
        with files.staging(self._own_folder / f"epoch-{self._epoch}") as folder:
            self.model.save_weights(folder / _WEIGHTS)
            state = {
                "epoch": self._epoch,
                "model": _description(self.model),
                "sha256": files.sha256(folder / _WEIGHTS),
            }
            text = json.dumps(state)
            digest = hashlib.sha256(text.encode()).hexdigest()
            (folder / _STATE).write_text(f"{digest}\n{text}\n")
        self._saved_epoch = self._epoch
        for path in self._generations()[_GENERATIONS:]:
            files.remove_folder(path)

    def _generations(self) -> list[pathlib.Path]:
        """The folders of backups, the newest first."""
        if not self._own_folder.is_dir():
            return []
        files.recover_all(self._own_folder)
        files.remove_all_stale(self._own_folder)
        found = [
            (int(match[1]), path)
            for path in self._own_folder.iterdir()
            if (match := _GENERATION.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found, reverse=True)]


def _check_own(path: pathlib.Path) -> None:
    """Refuse what has the name of a backup and is none: it would be removed."""
    if path.is_symlink() or not path.is_dir():
        raise ValueError(
            f"`folder` must hold backups alone under such names. Received: {path}, "
            "which is no folder."
        )
    others = sorted({file.name for file in path.iterdir()} - {_STATE, _WEIGHTS})
    if others:
        raise ValueError(
            f"`folder` must hold backups alone under such names. Received: {path}, "
            f"with {others[0]!r}."
        )


def _damage(path: pathlib.Path) -> str | None:
    """Say what is wrong with a backup; None if it is whole."""
    try:
        digest, _, text = _state_text(path).partition("\n")
        if hashlib.sha256(text.rstrip("\n").encode()).hexdigest() != digest:
            return f"{_STATE} does not match its checksum"
        if files.sha256(path / _WEIGHTS) != json.loads(text)["sha256"]:
            return f"{_WEIGHTS} does not match its checksum"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _read_state(path: pathlib.Path) -> dict[str, Any]:
    """The state in a backup that is whole."""
    state: dict[str, Any] = json.loads(_state_text(path).partition("\n")[2])
    return state


def _state_text(path: pathlib.Path) -> str:
    return files.read_regular(path / _STATE).decode()


def _description(model: keras.Model) -> dict[str, Any]:
    """What must be the same in a model that goes on from a backup."""
    try:
        config = _without_names(keras.saving.serialize_keras_object(model)["config"])
    except (NotImplementedError, TypeError):  # a model that cannot be saved
        config = None
    optimizer = model.optimizer
    description = {
        "class": type(model).__name__,
        "config": config,
        "weights": [[*variable.shape] for variable in model.variables],
        "optimizer": None if optimizer is None else type(optimizer).__name__,
    }
    # As it is read: JSON has no tuples and no keys that are numbers.
    return json.loads(json.dumps(description, default=lambda x: type(x).__name__))


def _without_names(config: Any) -> Any:
    """A config with the numbers of its names: Keras counts the layers of a process, so
    that the same network has other names in the next."""
    names: dict[str, str] = {}

    def collect(item: Any) -> None:
        if isinstance(item, dict):
            if isinstance(item.get("name"), str):
                names.setdefault(item["name"], f"name {len(names)}")
            item = [*item.values()]
        if isinstance(item, list | tuple):
            for value in item:
                collect(value)

    def replace(item: Any, is_name: bool = False) -> Any:
        if isinstance(item, dict):
            return {
                key: replace(value, key in _NAMING)
                for key, value in item.items()
                if key != "shared_object_id"  # an address in the process
            }
        if isinstance(item, list | tuple):
            return [replace(value, is_name) for value in item]
        return names.get(item, item) if is_name and isinstance(item, str) else item

    collect(config)
    return replace(config)


def _check_same(path: pathlib.Path, saved: Any, current: Any) -> None:
    """Refuse the backup of another model."""
    difference = _difference("", saved, current)
    if difference:
        where, old, new = difference
        raise ValueError(
            f"`folder` must hold backups of this model, or none. Received: {path}, of "
            f"a model with {where} = {old!r:.80}; this one has {new!r:.80}."
        )


def _difference(where: str, old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """The first difference between two values of JSON: its place, and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            place = f"{where}.{key}" if where else key
            if found := _difference(place, old.get(key), new.get(key)):
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, pair in enumerate(zip(old, new, strict=True)):
            if found := _difference(f"{where}[{number}]", *pair):
                return found
        return None
    if old == new:
        return None
    if isinstance(old, list) and isinstance(new, list):
        return f"number of {where}", len(old), len(new)
    return where, old, new
