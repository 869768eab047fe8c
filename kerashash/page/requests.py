"""What a client sends: a request's query and options, checked."""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash.checks import check_integer
from kerashash.codes import check_packed
from kerashash.page.limits import Refused

if TYPE_CHECKING:
    from starlette.requests import Request

DEFAULT_K = 10
# An integer in a form or an address, of which few digits are read.
_DIGITS = re.compile(r"\s*[+-]?\d{1,99}\s*")
_OPTIONS = ("k", "radius", "where")
# Those of forms: that of browsers, and those that libraries name by default.
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii", b"iso-8859-1")
# What the schema says of requests; they are read by `read`.
_IMAGE = {"type": "string", "format": "binary", "description": "an image file"}
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _IMAGE},
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"image": _IMAGE}}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "image": {"type": "string", "description": "base64"},
                        "code": {"type": "string", "description": "hexadecimal"},
                        "id": {"description": "a key of the store"},
                    },
                }
            },
        },
    }
}
SEARCH = {
    **BODY,
    "parameters": [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": text}
        for name, kind, text in (
            ("k", "integer", f"how many neighbours; {DEFAULT_K} by default"),
            ("radius", "integer", "their largest distance in bits"),
            ("where", "string", "an SQL condition on the store's columns, if allowed"),
        )
    ],
}


def query(request: "Request") -> dict[str, str]:
    """The query of a request's address, in which each name occurs once.

    Args:
        request: `starlette.requests.Request`.

    Returns:
        dict of str by name.

    Raises:
        Refused: if a name occurs twice.
    """
    return _once(request.query_params.multi_items())


def _once(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of pairs, which does not lose one in silence."""
    values: dict[str, Any] = {}
    for name, value in given:
        if name in values:
            raise Refused(400, f"`{name:.100}` must be given once.")
        values[name] = value
    return values


async def read(request: "Request") -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a request.

    Args:
        request: `starlette.requests.Request`.

    Returns:
        ``(query, options)``: what it looks for, {"image": bytes}, {"code": value} or
        {"id": value}; and those of "k", "radius" and "where" that it gives. All values
        but the image are as they were sent.

    Raises:
        Refused: if it looks for nothing or for several things, has other options or one
            of them twice, or is no whole form or JSON.
    """
    from starlette.datastructures import UploadFile

    media_type = request.headers.get("content-type", "").partition(";")[0]
    media_type = media_type.strip().lower()
    given: dict[str, Any]
    if media_type == "multipart/form-data":
        whole = await _whole_form(request)
        most = 1 + len(_OPTIONS)
        async with whole.form(max_files=most, max_fields=most) as form:
            given = _once(form.multi_items())
            for name, value in given.items():
                if isinstance(value, UploadFile) != (name == "image"):
                    kind = "a file" if name == "image" else "text, not a file"
                    raise Refused(400, f"`{name:.100}` must be {kind}.")
            if "image" in given:
                given["image"] = await given["image"].read()
    elif media_type == "application/json":
        given = _json(await request.body())
    elif media_type.startswith("image/") or media_type in (
        "",
        "application/octet-stream",
        "application/x-www-form-urlencoded",  # what curl --data-binary says
    ):
        given = {"image": await request.body()}
    else:
        raise Refused(415, f"No photograph is read from {media_type!r:.100}.")
    sent = [*query(request).items()]
    sent += [(name, given.pop(name)) for name in _OPTIONS if name in given]
    options = _once((name, value) for name, value in sent if value not in (None, ""))
    if len(given) != 1 or not {*given} <= {"image", "code", "id"}:
        raise Refused(
            400,
            "A request must have one of `image`, `code` and `id`. Received: "
            f"{sorted(given)!r:.200}.",
        )
    if not {*options} <= {*_OPTIONS}:
        raise Refused(
            400,
            "A request may have `k`, `radius` and `where`. Received: "
            f"{sorted(options)!r:.200}.",
        )
    if given.get("image") == b"":
        raise Refused(400, "`image` must be an image file. It is empty.")
    return given, options


async def _whole_form(request: "Request") -> "Request":
    """A request of a form from its first boundary to the last, both of which it has.

    There may be text before and after them, which is of no account, and Starlette does
    not take. Of a part without an end, it would say nothing. And of encodings, it takes
    any codec of Python by the name that a client sends; here, those that can be read in
    no time.
    """
    from python_multipart.multipart import parse_options_header
    from starlette.requests import Request

    options = parse_options_header(request.headers["content-type"])[1]
    charset = options.get(b"charset", b"utf-8")
    if charset.lower() not in _CHARSETS:
        received = charset.decode("latin-1")
        raise Refused(
            400, f"A form must be in UTF-8. Received: charset={received!r:.100}."
        )
    # A boundary is a line of its own; the first may be the first line.
    body, line = (
        b"\r\n" + await request.body(),
        b"\r\n--" + options.get(b"boundary", b""),
    )
    start, end = body.find(line), body.find(line + b"--")
    if start < 0 or end < 0:
        raise Refused(400, "The form must be whole. It is empty, or cut off.")
    form = body[start + 2 : end] + line + b"--\r\n"

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": form, "more_body": False}

    return Request(request.scope, receive)


def _json(body: bytes) -> dict[str, Any]:
    """A body in JSON, its image decoded."""
    try:
        given = json.loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "The body must be JSON.") from error
    if not isinstance(given, dict):
        raise Refused(400, "The body must be an object in JSON.")
    if "image" in given:
        try:
            given["image"] = base64.b64decode(given["image"], validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise Refused(400, "`image` must be a file in base64.") from error
    return given


def code(text: Any, bits: int) -> npt.NDArray[np.uint8]:
    """Read the code of a client.

    Args:
        text: what was sent; it must be hexadecimal digits.
        bits: int; the code length.

    Returns:
        uint8 array ``(ceil(bits / 8),)``; the packed code.

    Raises:
        Refused: if it is none.

    Example:
        >>> code("fff0", bits=12)
        array([255, 240], dtype=uint8)
    """
    try:
        packed = np.frombuffer(bytes.fromhex(text), np.uint8)
        return check_packed(packed[None], bits, "code")[0]
    except (TypeError, ValueError) as error:
        raise Refused(
            400, f"`code` must be {bits} bits as hexadecimal digits, padded with 0."
        ) from error


def integer(name: str, value: Any, least: int, most: int) -> int:
    """Read the integer of a client.

    Args:
        name: str; the argument to name in an error.
        value: what was sent: an integer of JSON, or digits.
        least, most: int; what it must be at least and at most.

    Returns:
        int.

    Raises:
        Refused: if it is none, or too small or large.

    Example:
        >>> integer("k", " 12", least=1, most=100)
        12
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    try:
        return check_integer(name, value, least, most)
    except (TypeError, ValueError) as error:
        raise Refused(400, str(error)) from error
