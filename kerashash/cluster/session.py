"""The Ray that this process uses: a running cluster, or one for the moment."""

import contextlib
import os
import socket
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from kerashash.checks import check_integer


@contextlib.contextmanager
def session(address: str) -> Iterator[None]:
    """Connect to Ray, unless this process is connected.

    Args:
        address: str; "auto" is the cluster of ``RAY_ADDRESS`` or on this machine, and
            otherwise this machine alone. Or the address of a cluster, ``host:port``.

    Raises:
        ImportError: if Ray is not installed.
        ConnectionError: if there is no cluster at `address`.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield
        return
    _probe(address)
    # Whoever encodes photographs has not asked to report that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with warnings.catch_warnings():
        # It starts processes; LanceDB warns of forks that go on in Python, which these
        # do not.
        warnings.filterwarnings("ignore", "lancedb fork support", RuntimeWarning)
        ray.init(
            address=None if address == "auto" else address,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Connect to an address ``host:port``: Ray would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or "/" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"`address` must be of a running cluster. Received: {address!r}: {error}."
        ) from error


def import_ray() -> Any:
    """Import Ray, or say how to install it.

    Returns:
        The module `ray`.

    Raises:
        ImportError: if Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError(
            'A cluster needs the package ray. Install it by: pip install "kerashash'
            '[cluster]".'
        ) from error
    return ray


def actors_that_fit(actors: int | None, cpus: int, gpus: float = 0) -> int:
    """Check what each actor needs, and count how many the cluster has room for.

    Args:
        actors: int or None; how many are wanted. None is as many as there is room for.
        cpus: int; the processor cores of an actor.
        gpus: float; its GPUs, or its share of one.

    Returns:
        int; `actors`, if given.

    Raises:
        ValueError: if no node of the cluster has so much.
    """
    check_integer("cpus", cpus)
    if actors is not None:
        check_integer("actors", actors)
    if not gpus >= 0:
        raise ValueError(f"`gpus` must be at least 0. Received: {gpus}.")
    nodes = [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
    room = 0
    for node in nodes:
        fitting = int(node.get("CPU", 0) // cpus)
        if gpus:
            fitting = min(fitting, int(node.get("GPU", 0) // gpus))
        room += fitting
    if not room:
        raise ValueError(
            "`cpus` and `gpus` must be what a node of the cluster has. Received: "
            f"{cpus} and {gpus}, with nodes of "
            f"{[(node.get('CPU', 0), node.get('GPU', 0)) for node in nodes]}."
        )
    return actors or room


def set_threads(count: int) -> None:
    """Limit TensorFlow in this process, which has imported it and not yet used it.

    Args:
        count: int; the threads of one operation, and the operations at a time.
    """
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)
    for gpu in tf.config.list_physical_devices("GPU"):
        # Actors may share one.
        tf.config.experimental.set_memory_growth(gpu, True)
