"""TensorFlow does not work in a fork of a process in which it has run."""

import os

from tensorflow.python.eager import context as tf_context

# The process in which the first model was made; or, in a fork, that TensorFlow had run
# before it.
_process: int | None = None
_BEFORE_FORK = -1


def _after_fork() -> None:
    """Remember, in a fork, that TensorFlow had run, if it was without a model."""
    global _process
    if _process is None and tf_context.context()._context_handle is not None:
        _process = _BEFORE_FORK


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_not_forked() -> None:
    """Refuse to go on in a fork of the process in which TensorFlow has run.

    TensorFlow's threads are not in the fork, and an operation may wait for them for
    ever.

    Raises:
        RuntimeError: if this is such a fork.
    """
    global _process
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        raise RuntimeError(
            "A process that was forked after TensorFlow has run cannot use models: "
            "TensorFlow does not work in it. Start processes by "
            "multiprocessing.get_context('spawn'), and load the model there."
        )
