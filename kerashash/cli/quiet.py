"""TensorFlow without the lines that it writes while it is imported."""

import contextlib
import gc
import importlib.abc
import importlib.machinery
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any


def quiet_tensorflow() -> None:
    """Let TensorFlow be imported silently, whenever that will be.

    Its libraries write to the file of standard error before any setting is read, which
    would bury a command's own output. Later it warns of functions that are traced again
    and again, which is what happens where a command makes one model after another.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        # It makes very many objects that stay: to look for garbage among them takes
        # time, now and whenever it is looked for again.
        collects = gc.isenabled()
        gc.disable()
        try:
            with _silent():
                self._loader.exec_module(module)
        finally:
            if collects:
                gc.freeze()
                gc.enable()
        logging.getLogger("tensorflow").addFilter(
            lambda record: "triggered tf.function retracing" not in record.getMessage()
        )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what is written to the file of standard error. Exceptions are not."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
