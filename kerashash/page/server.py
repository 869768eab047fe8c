"""Run the page's application: one process, one port."""

import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any

from kerashash.checks import check_integer, said
from kerashash.page.app import create_app
from kerashash.page.limits import Limits

if TYPE_CHECKING:
    from kerashash.store import CodeStore

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# Connections at a time, which bounds files that are open.
_CONNECTIONS = 512
# What is being answered when the server is told to stop gets this long.
_GRACE_SECONDS = 3


def listen(host: str, port: int) -> socket.socket:
    """Take a port, which refuses connections until the server runs.

    Args:
        host: str; the address to bind to.
        port: int; 0 takes any free one.

    Returns:
        Socket that is bound.

    Raises:
        OSError: if the port is taken or the address is not one of this machine.
        TypeError, ValueError: if `port` is no number of a port.
    """
    check_integer("port", port, least=0, most=65535)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(
            f"`host` must be an address of this machine: {said(error)}."
        ) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        taken.close()
        raise OSError(
            f"`host` and `port` must be free to listen on: {host}, {port}: "
            f"{said(error)}."
        ) from error
    return taken


def make_server(
    store: "CodeStore",
    taken: socket.socket,
    images: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] = (),
    allow_where: bool = False,
) -> Any:
    """Make a server of a store, warmed up.

    Args:
        store: `CodeStore` with a model of images.
        taken: socket of `listen`.
        images, limits, allow_where: as for `create_app`.
        hosts: names by which clients may call the server. On the loopback interface,
            they are added to its own; elsewhere, () is any.

    Returns:
        `uvicorn.Server`, to be run on `[taken]`. It prints its address when it answers.

    Raises:
        ValueError, NotADirectoryError, ImportError: as `create_app`.
    """
    address, port = taken.getsockname()[:2]
    is_loopback = ipaddress.ip_address(address).is_loopback
    known = (*_LOOPBACK, *hosts) if is_loopback else hosts or None
    app = create_app(store, images, limits, known, allow_where)
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            shown = f"[{address}]" if ":" in address else address
            print(f"{store!r}\nhttp://{shown}:{port}/  (Ctrl-C stops it)", flush=True)

    return Server(config)
