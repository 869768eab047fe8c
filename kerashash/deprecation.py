"""Old names, which work for one more minor version with a `DeprecationWarning`."""

import importlib
import importlib.abc
import sys
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from typing import Any

#: The new path of each module that has moved since version 0.1, by its old path.
MOVED_MODULES = {
    "kerashash.callbacks": "kerashash.monitoring.callbacks",
    "kerashash.discrete": "kerashash.maths.discrete",
    "kerashash.hash_model": "kerashash.methods.hash_model",
    "kerashash.label_distribution": "kerashash.evaluation.label_distribution",
    "kerashash.label_graph": "kerashash.maths.label_graph",
    "kerashash.layers": "kerashash.methods.layers",
    "kerashash.losses": "kerashash.maths.losses",
    "kerashash.plots": "kerashash.monitoring.plots",
    "kerashash.ranker": "kerashash.retrieval.ranker",
    "kerashash.similarity": "kerashash.maths.similarity",
}
#: The version that removes the old names.
REMOVED_IN = "0.3"


def warn_deprecated(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn that a name is deprecated, and name its replacement.

    Args:
        old: str; the name that was used.
        new: str; the name to use instead.
        stacklevel: int; as if the caller of this function called `warnings.warn` with
            it: 2 points at the caller's caller.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_deprecated("old", "new")
        >>> print(caught[0].message)
        `old` is deprecated and will be removed in 0.3. Use `new` instead.
    """
    warnings.warn(
        f"`{old}` is deprecated and will be removed in {REMOVED_IN}. "
        f"Use `{new}` instead.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def moved_names(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module from which names have moved.

    Args:
        module: str; the name of the module.
        homes: dict of str; the new module of each name that has moved.

    Returns:
        Function from a name to its value, which warns.

    Example:
        >>> homes = {"sign": "kerashash.maths.discrete"}
        >>> getattr_ = moved_names("kerashash.old", homes)
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     getattr_("sign").__name__
        'sign'
    """

    def __getattr__(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_deprecated(f"{module}.{name}", f"{homes[name]}.{name}")
        return getattr(importlib.import_module(homes[name]), name)

    return __getattr__


class _Alias(importlib.abc.Loader):
    """Loads the old path of a moved module as the same object as the new path."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        # `warnings` skips the frames of the import system, so the warning points at
        # the import statement of the user.
        warn_deprecated(spec.name, self._target)
        module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        # The module has run already; the import system has given it the alias' spec.
        module.__spec__ = self._spec


class _Finder(importlib.abc.MetaPathFinder):
    """Finds moved modules by their old paths."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in MOVED_MODULES:
            return None
        return ModuleSpec(fullname, _Alias(MOVED_MODULES[fullname]))


def install() -> None:
    """Make the old paths of moved modules importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
