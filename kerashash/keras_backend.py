"""The backend of Keras, which must be TensorFlow."""

import importlib.abc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

_NEEDED = "tensorflow"


def check(loaded: str | None = None) -> None:
    """Check the backend that Keras has, or will have once it is imported.

    Args:
        loaded: str or None; the backend of the Keras that has been imported, if one
            has.

    Raises:
        ImportError: if the backend is not TensorFlow. The error names what sets it.

    Example:
        >>> check("tensorflow")
        >>> check("jax")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ImportError: The backend of Keras must be TensorFlow for kerashash. Received...
    """
    name, received, mend = _setting()
    if loaded is not None and loaded != name:
        name = loaded
        received = f"Keras was imported with {loaded!r}"
        mend = "Set KERAS_BACKEND=tensorflow before"
    if name != _NEEDED:
        raise ImportError(
            "The backend of Keras must be TensorFlow for kerashash. Received: "
            f"{received}. {mend}."
        )


def _setting() -> tuple[Any, str, str]:
    """The backend that Keras will take; what sets it, and how that is mended."""
    # Keras itself says this after it has imported the backend, which may fail.
    name = os.environ.get("KERAS_BACKEND")
    mend = "Set KERAS_BACKEND=tensorflow"
    if name:
        return name, f"KERAS_BACKEND={name!r}", mend
    file = _file()
    try:
        import json

        with open(file) as stream:
            value = json.load(stream).get("backend", _NEEDED)
    except (OSError, ValueError, AttributeError):  # no file, or none that says it
        return _NEEDED, "", ""
    return value, f'"backend": {value!r} in {file}', f"{mend}, or change the file"


def _file() -> str:
    """Path of the file of settings, where Keras looks for it."""
    folder = os.environ.get("KERAS_HOME")
    if folder is None:
        home = os.path.expanduser("~")
        folder = os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    return os.path.expanduser(os.path.join(folder, "keras.json"))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds nothing; checks the backend before kerashash imports Keras.

    Any of its modules may be the first to do so, and stores of codes need no Keras. To
    others, who may use stores beside another backend, it does nothing.
    """

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        # TensorFlow imports Keras too, and goes on without it after an ImportError.
        if fullname == "keras" and _is_ours(sys._getframe(1)):
            check()
        return None


def _is_ours(frame: FrameType | None) -> bool:
    """Whether an import is one of kerashash, or of a module that it is importing."""
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package == "kerashash":
            return True
        if package != "importlib" and frame.f_code.co_name != "<module>":
            return False
        frame = frame.f_back
    return False


def install() -> None:
    """Let the backend be checked before kerashash imports Keras."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
