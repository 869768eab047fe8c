"""What every request and response of the server goes through."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kerashash.page.limits import BUSY, Limits, Refused

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_HOST = re.compile(r"(\[[^\]]+\]|[^:]+)(:\d+)?")
_HEADERS = {
    # The page uses nothing but its own files: what an attacker puts into a key of a
    # store could not load anything.
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
}


class Guard:
    """An ASGI application that bounds the bodies of requests to another one.

    It also refuses requests that call the server by a name that is not its own: a page
    of another site, whose name is made to point to this machine, sends its own name.
    It adds the headers that keep browsers from using responses elsewhere, and answers
    HEAD as GET, without the body.

    Args:
        app: ASGI application.
        limits: `Limits`; `upload` is of one body, and `queue` times as much of all that
            are there at a time, be they still on their way. That bounds memory, and
            slow uploads, of which little has arrived, take little of it.
        hosts: tuple of str, the server's names; None takes any.
    """

    def __init__(self, app: Any, limits: Limits, hosts: tuple[str, ...] | None) -> None:
        self._app, self._upload = app, limits.upload
        self._most_held, self._held = limits.queue * limits.upload, 0
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        is_head = scope["method"] == "HEAD"
        if is_head:
            scope = {**scope, "method": "GET"}

        async def send_guarded(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS.items()]
            elif is_head:
                message["body"] = b""
            await send(message)

        received = 0

        async def receive_bounded() -> _Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held += size
            if received > self._upload:
                raise self._too_large()
            if self._held > self._most_held:
                raise Refused(503, BUSY)
            return message

        headers = dict(scope["headers"])
        try:
            self._check_host(headers.get(b"host", b"").decode("latin-1"))
            # Before anything of the body is read.
            length = headers.get(b"content-length", b"0")
            if not length.isdigit() or int(length) > self._upload:
                raise self._too_large()
        except Refused as error:
            from starlette.responses import JSONResponse

            response = JSONResponse({"error": error.message}, error.status)
            await response(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, receive_bounded, send_guarded)
        finally:
            self._held -= received

    def _check_host(self, host: str) -> None:
        match = _HOST.fullmatch(host.lower())
        name = match[1].removesuffix(".") if match else None
        if self._hosts is not None and name not in self._hosts:
            raise Refused(
                403,
                "This server is not called so. Start it with --allow-host to add a "
                "name.",
            )

    def _too_large(self) -> Refused:
        return Refused(
            413, f"A request must have at most {self._upload / 1e6:g} million bytes."
        )
