"""Old names that still work, with a `DeprecationWarning`, for one minor version."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings

#: Modules of version 0.1 by their old paths, and where they are now.
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
#: The version that drops the old names.
REMOVED_IN = "0.3"


def warn_deprecated(old, new, stacklevel=2):
    """Say that a name is deprecated and what replaces it.

    Args:
        old: str, the name that was used.
        new: str, the name to use.
        stacklevel: int, as of `warnings.warn`; 2 is the caller of this function.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_deprecated("kerashash.losses", "kerashash.maths.losses")
        >>> print(caught[0].message)
        `kerashash.losses` is deprecated and goes in 0.3: use `kerashash.maths.losses`.
    """
    warnings.warn(
        f"`{old}` is deprecated and goes in {REMOVED_IN}: use `{new}`.",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def moved_names(module, homes):
    """A ``__getattr__`` for a module from which names have moved.

    Args:
        module: str, the module's name.
        homes: dict of str: for each name that has moved, the module that has it now.

    Returns:
        Function from a name to its value.

    Example:
        >>> homes = {"sign": "kerashash.maths.discrete"}
        >>> getattr_ = moved_names("kerashash.old", homes)
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     getattr_("sign").__name__
        'sign'
    """

    def __getattr__(name):
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn_deprecated(f"{module}.{name}", f"{homes[name]}.{name}")
        return getattr(importlib.import_module(homes[name]), name)

    return __getattr__


class _Alias(importlib.abc.Loader):
    """Gives a moved module under its old name: the same object."""

    def __init__(self, target):
        self._target = target

    def create_module(self, spec):
        # `warnings` passes over the frames of the import system: the line that is
        # named is the user's import statement.
        warn_deprecated(spec.name, self._target)
        module = importlib.import_module(self._target)
        self._spec = module.__spec__
        return module

    def exec_module(self, module):
        # It has run already. The import system has given it the alias' spec.
        module.__spec__ = self._spec


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in MOVED_MODULES:
            return None
        loader = _Alias(MOVED_MODULES[fullname])
        return importlib.machinery.ModuleSpec(fullname, loader)


def install():
    """Let the old paths of moved modules be imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
