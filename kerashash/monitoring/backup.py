"""A Keras callback that resumes training after an interruption of any kind."""

import collections
import contextlib
import hashlib
import json
import os
import pathlib
import re
import warnings
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kerashash import files
from kerashash.checks import check_integer
from kerashash.methods import replicas

_STATE, _WEIGHTS = "backup.json", "model.weights.h5"
_ARRAYS = "callbacks.npz"  # if callbacks have some
_GENERATION = re.compile(r"epoch-([1-9][0-9]*)")
_GENERATIONS = 2  # that are kept
# What has names of layers in a config of Keras.
_NAMING = ("name", "keras_history", "input_layers", "output_layers")
# What callbacks of Keras count and remember in `fit`, and begin anew in the next.
_REMEMBERED: dict[type[keras.callbacks.Callback], tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: (
        "wait",
        "stopped_epoch",
        "best",
        "best_epoch",
        "best_weights",
    ),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving"),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
}


class Backup(keras.callbacks.Callback):
    """Backs up the state of training after each epoch, and resumes from it.

    The next `fit` of a model like this one, with the same folder, begins after the last
    epoch that was backed up: with the weights, the optimizer and what else the model
    saves with them. It ends where the interrupted one would have ended; a model of
    kerashash then has the same weights, bit for bit, if the data come in the same
    order.

    In a `fit` of kerashash's models, it comes after all other callbacks, wherever it is
    in the list, and keeps what those of Keras count and remember: `EarlyStopping`,
    `ReduceLROnPlateau`, `ModelCheckpoint` and `SwapEMAWeights`. A callback of another
    class begins anew; if it had counted or collected something, a `UserWarning` names
    it. In a `fit` of other models of Keras, all callbacks begin anew.

    A learning rate that is a number is part of the state, for callbacks change it: that
    of the backup goes on, whatever the optimizer has now.

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
            complete, or that `EarlyStopping` has ended, is then not repeated, but loads
            the result.

    Raises:
        TypeError, ValueError: if `folder` is no path or `every` not a number of epochs.
            In `fit`, if the folder cannot be written or has a folder of that name which
            is no backup, or the backups are of another model: of another class, with
            other options, weights or dtype policies, or another optimizer, with other
            options or another schedule of its learning rate.

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
        # `fit` of kerashash's models sets them.
        self.backed_up_callbacks: list[keras.callbacks.Callback] = []
        self._marks: list[dict[str, Any]] = []
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
        self._marks = [_marks(callback) for callback in self.backed_up_callbacks]
        if path is None:
            return
        state = _read_state(path)
        _check_same(path, state["model"], _description(model))
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        model.load_weights(path / _WEIGHTS)
        self._epoch = self._saved_epoch = epoch
        self._remind(path, state)
        if any(map(_has_stopped, self.backed_up_callbacks)):
            epoch = max(epoch, (self.params or {}).get("epochs", 0))
        model._initial_epoch = epoch

    def _remind(self, path: pathlib.Path, state: dict[str, Any]) -> None:
        """Restore what other callbacks remembered; warn of what is lost."""
        for name, (callback, _) in _remembering(self.backed_up_callbacks).items():
            for attribute, value in state["callbacks"].get(name, {}).items():
                if isinstance(value, list):  # the weights of the model, in the arrays
                    value = _arrays(path, value, self.model.get_weights())
                setattr(callback, attribute, value)
        if state["lost"]:
            warnings.warn(
                f"The backup {path} does not hold what these callbacks had counted or "
                f"collected, and they begin anew: {', '.join(state['lost'])}.",
                stacklevel=2,
            )

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
            callbacks = self.backed_up_callbacks
            remembered, arrays = _state_of(callbacks)
            if arrays:
                np.savez(folder / _ARRAYS, allow_pickle=False, **arrays)
            marked = zip(callbacks, self._marks, strict=True)
            state = {
                "epoch": self._epoch,
                "model": _description(self.model),
                "callbacks": remembered,
                "lost": [type(c).__name__ for c, old in marked if _differ(c, old)],
                "sha256": files.sha256(folder / _WEIGHTS),
                "arrays_sha256": files.sha256(folder / _ARRAYS) if arrays else None,
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
    own = {_STATE, _WEIGHTS, _ARRAYS}
    others = sorted({file.name for file in path.iterdir()} - own)
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
        state = json.loads(text)
        for name, key in ((_WEIGHTS, "sha256"), (_ARRAYS, "arrays_sha256")):
            if state.get(key) and files.sha256(path / name) != state[key]:
                return f"{name} does not match its checksum"
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _read_state(path: pathlib.Path) -> dict[str, Any]:
    """The state in a backup that is whole."""
    state: dict[str, Any] = json.loads(_state_text(path).partition("\n")[2])
    return state


def _state_text(path: pathlib.Path) -> str:
    return files.read_regular(path / _STATE).decode()


def _remembering(
    callbacks: list[keras.callbacks.Callback],
) -> dict[str, tuple[keras.callbacks.Callback, tuple[str, ...]]]:
    """Callbacks whose state is backed up, and its attributes, by a name for each.

    The name is the same in the next run, whatever other callbacks there are.
    """
    found = {}
    count = collections.Counter[str]()
    for callback in callbacks:
        for kind, attributes in _REMEMBERED.items():
            if isinstance(callback, kind):
                name = f"{type(callback).__name__} {getattr(callback, 'monitor', '')}"
                count[name] += 1
                found[f"{name} {count[name]}"] = (callback, attributes)
    return found


def _state_of(
    callbacks: list[keras.callbacks.Callback],
) -> tuple[dict[str, dict[str, Any]], dict[str, npt.NDArray[Any]]]:
    """What callbacks remember, as JSON with the keys of arrays, and the arrays."""
    state: dict[str, dict[str, Any]] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, (callback, attributes) in _remembering(callbacks).items():
        state[name] = {}
        for attribute in attributes:
            value = getattr(callback, attribute)
            if isinstance(value, list):
                keys = [str(len(arrays) + i) for i in range(len(value))]
                arrays.update(zip(keys, value, strict=True))
                value = keys
            elif value is not None:
                value = np.asarray(value).item()
            state[name][attribute] = value
    return state, arrays


def _arrays(
    path: pathlib.Path, keys: list[str], like: list[npt.NDArray[Any]]
) -> list[npt.NDArray[Any]]:
    """Arrays of a backup, with the dtypes of others: NumPy's files have no bfloat16."""
    with np.load(path / _ARRAYS) as stored:
        pairs = zip(keys, like, strict=True)
        return [stored[key].view(other.dtype) for key, other in pairs]


def _marks(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """The attributes of a callback, and how long they are; none if it is known."""
    package = type(callback).__module__.partition(".")[0]
    if package in ("keras", "kerashash") or isinstance(callback, (*_REMEMBERED,)):
        return {}
    return {
        name: (value, len(value) if isinstance(value, list | dict | set) else None)
        for name, value in vars(callback).items()
        if name not in ("params", "_model")
    }


def _differ(callback: keras.callbacks.Callback, marks: dict[str, Any]) -> bool:
    """Whether a callback has changed since its marks were made."""
    now = _marks(callback)
    return now.keys() != marks.keys() or any(
        now[name][0] is not value or now[name][1] != length
        for name, (value, length) in marks.items()
    )


def _has_stopped(callback: keras.callbacks.Callback) -> bool:
    """Whether it has ended the training that was backed up. With more patience, not."""
    return (
        isinstance(callback, keras.callbacks.EarlyStopping)
        and callback.stopped_epoch > 0
        and callback.wait >= callback.patience
    )


def _description(model: keras.Model) -> dict[str, Any]:
    """What must be the same in a model that goes on from a backup."""
    optimizer = model.optimizer
    description = {
        "class": type(model).__name__,
        "config": _config(model),
        "weights": [[*variable.shape] for variable in model.variables],
        "optimizer": None if optimizer is None else type(optimizer).__name__,
        "optimizer_config": _without_rates(_config(optimizer)),
    }
    # As it is read: JSON has no tuples and no keys that are numbers.
    return json.loads(json.dumps(description, default=lambda x: type(x).__name__))


def _config(item: Any) -> Any:
    """The config of a model or optimizer; None of one that cannot be saved."""
    try:
        return _without_names(keras.saving.serialize_keras_object(item)["config"])
    except (NotImplementedError, TypeError):
        return None


def _without_rates(config: Any) -> Any:
    """The config of an optimizer without the values of learning rates, which callbacks
    may change; that of a schedule stays."""
    if isinstance(config, dict):
        return {
            key: "a number"
            if key == "learning_rate" and isinstance(value, int | float)
            else _without_rates(value)
            for key, value in config.items()
        }
    return [*map(_without_rates, config)] if isinstance(config, list) else config


def _without_names(config: Any) -> Any:
    """A config with the numbers of its names: Keras counts the layers of a process, so
    that the same network has other names in the next."""
    names: dict[str, str] = {}

    def is_policy(item: dict[str, Any]) -> bool:  # its name is what it is
        return str(item.get("class_name")).endswith("DTypePolicy")

    def collect(item: Any) -> None:
        if isinstance(item, dict) and is_policy(item):
            return
        if isinstance(item, dict):
            if isinstance(item.get("name"), str):
                names.setdefault(item["name"], f"name {len(names)}")
            item = [*item.values()]
        if isinstance(item, list | tuple):
            for value in item:
                collect(value)

    def replace(item: Any, is_name: bool = False) -> Any:
        if isinstance(item, dict) and is_policy(item):
            return item["config"]
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
