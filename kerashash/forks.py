"""TensorFlow does not work in a fork of a process in which it has run."""

import os
import sys

# Whether this process is a fork of one in which TensorFlow had run.
_is_forked = False


def _after_fork() -> None:
    """Remember, in a fork, whether TensorFlow had run."""
    global _is_forked
    # Not imported here: most that is forked needs no TensorFlow. It makes its threads
    # together with this handle, when it first runs.
    module = sys.modules.get("tensorflow.python.eager.context")
    context = getattr(module, "_context", None)
    if getattr(context, "_context_handle", None) is not None:
        _is_forked = True


def install() -> None:
    """Look, in each fork from now on, whether TensorFlow had run."""
    if hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Say whether TensorFlow had run before this process was forked.

    Returns:
        bool; True where `check_not_forked` raises an error.

    Example:
        >>> is_forked()
        False
    """
    return _is_forked


def check_not_forked() -> None:
    """Refuse to go on in a fork of a process in which TensorFlow has run.

    TensorFlow's threads are not in the fork, and an operation may wait for them for
    ever. Call it before what may need them: it costs next to nothing.

    Raises:
        RuntimeError: if this is such a fork.

    Example:
        >>> check_not_forked()
    """
    if _is_forked:
        raise RuntimeError(
            "A process that was forked after TensorFlow has run cannot use it: it "
            "would wait for threads that are not there. Start processes by "
            "multiprocessing.get_context('spawn'), and load models and data there."
        )
