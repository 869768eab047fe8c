"""The HTTP API and the page, as an ASGI application."""

import asyncio
import base64
import concurrent.futures
import contextlib
import math
import os
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kerashash.page import requests
from kerashash.page.guard import Guard
from kerashash.page.limits import Gate, Limits, Refused
from kerashash.page.photographs import Photographs
from kerashash.page.searching import Searcher

if TYPE_CHECKING:
    from kerashash.store import CodeStore

_FILES = pathlib.Path(__file__).parent / "files"
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
# Groups of duplicates, and photographs of each, that are listed.
_GROUPS, _OF_GROUP = 100, 24
_DEFAULT_SIDE = 240
# Characters of a condition. LanceDB ends the process at one of 300,000.
_MOST_WHERE = 10_000


def create_app(
    store: "CodeStore",
    images: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] | None = None,
    allow_where: bool = False,
) -> Any:
    """Make the application, warmed up.

    Args:
        store: `CodeStore` with a model of images.
        images: path of the folder with the photographs, or None to show none.
        limits: `Limits`; None is the defaults.
        hosts: tuple of str; the names by which clients may call the server, or None for
            any.
        allow_where: bool; whether clients may send conditions in SQL.

    Returns:
        ASGI application.

    Raises:
        ValueError: if the store has no model of images, or none of its photographs is
            in the folder.
        NotADirectoryError: if `images` is no folder.
        ImportError: if FastAPI is not installed.
    """
    fastapi = fastapi_package()
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response

    limits = limits or Limits()
    # First what takes no time: to load the model and warm it up takes seconds.
    photographs = None if images is None else Photographs(store, images, limits)
    if photographs:
        keys = store.columns(names=["id"])["id"]
        if len(keys) and not photographs.has_any(keys):
            raise ValueError(
                "`images` must be the folder of the store's photographs, whose keys "
                f"are paths in it. Received: '{images}', which has none like "
                f"{keys[0]!r}."
            )
    with contextlib.ExitStack() as unwinding:
        searcher = Searcher(store, limits)
        unwinding.callback(searcher.close)
        searcher.warm_up()
        closing = unwinding.pop_all()
    cores = os.cpu_count() or 1
    # Threads for short work; what runs long has its own, and so has what must be
    # answered at once. Conditions leave half of the cores to others.
    work = concurrent.futures.ThreadPoolExecutor(cores, "requests")
    selected = concurrent.futures.ThreadPoolExecutor(max(1, cores // 2), "conditions")
    told = concurrent.futures.ThreadPoolExecutor(1, "store")
    shown = concurrent.futures.ThreadPoolExecutor(cores, "photographs")
    compared = concurrent.futures.ThreadPoolExecutor(1, "duplicates")
    for pool in (work, selected, told, shown, compared):
        closing.callback(pool.shutdown, wait=False, cancel_futures=True)
    gates = {"search": Gate(limits.queue), "show": Gate(4 * limits.queue)}
    gates["compare"] = Gate(2)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        with closing:
            yield

    app = fastapi.FastAPI(
        title="kerashash",
        summary="Search photographs by hash codes.",
        version=_version(),
        lifespan=lifespan,
        redirect_slashes=False,
        # They would load scripts from other servers.
        docs_url=None,
        redoc_url=None,
    )

    _answer_errors(app, limits)

    async def run(pool: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, function, *arguments)

    async def encoded(query: dict[str, Any], clock: _Clock) -> Any:
        """The packed code that a request brings or asks for."""
        if "code" in query:
            return requests.code(query["code"], store.bits)
        if "id" in query:
            return await run(work, searcher.code_of, query["id"])
        pixels = await run(work, searcher.decode, query["image"])
        clock.lap("decode")
        code = await asyncio.wrap_future(searcher.submit(pixels))
        clock.lap("encode")
        return code

    def answer(code: npt.NDArray[np.uint8], clock: _Clock) -> dict[str, Any]:
        bits = "".join(map(str, np.unpackbits(code)[: store.bits]))
        times = {**clock.times, "total": sum(clock.times.values())}
        return {
            "code": {"hex": code.tobytes().hex(), "bits": bits},
            "milliseconds": {name: round(time, 2) for name, time in times.items()},
        }

    @app.post("/v1/encode", openapi_extra=requests.BODY)
    async def encode(request: Request) -> Response:
        """The code of a photograph."""
        async with asyncio.timeout(limits.seconds):
            query, options = await requests.read(request)
            if options:
                raise Refused(400, f"/v1/encode takes no `{min(options)}`.")
            with gates["search"]:  # not before: a slow upload would keep a place
                clock = _Clock()
                code = await encoded(query, clock)
                return JSONResponse(answer(code, clock))

    @app.post("/v1/search", openapi_extra=requests.SEARCH)
    async def search(request: Request) -> Response:
        """The neighbours of a photograph, a code, or a row of the store."""
        until = time.monotonic() + limits.seconds
        async with asyncio.timeout(limits.seconds):
            query, options = await requests.read(request)
            k = requests.integer("k", options.get("k", requests.DEFAULT_K), 1, limits.k)
            radius, where = options.get("radius"), options.get("where")
            if radius is not None:
                radius = requests.integer("radius", radius, 0, store.bits)
            if where is not None and not allow_where:
                raise Refused(403, "`where` is not allowed here: --allow-where.")
            if not isinstance(where, str | None):
                raise Refused(400, f"`where` must be text. Received: {where!r:.100}.")
            if where is not None and len(where) > _MOST_WHERE:
                raise Refused(
                    400,
                    f"`where` must have at most {_MOST_WHERE:,} characters. Received: "
                    f"{len(where):,}.",
                )
            with gates["search"]:
                clock = _Clock()
                code = await encoded(query, clock)
                pool = work if where is None else selected
                rows = await run(pool, searcher.search, code, k, radius, where, until)
                clock.lap("search")
                neighbours = [*map(_neighbour, rows)]
                return JSONResponse({"neighbours": neighbours, **answer(code, clock)})

    @app.get("/v1/duplicates")
    async def duplicates(request: Request) -> Response:
        """Groups of photographs whose codes differ in at most `radius` bits."""
        radius = requests.query(request).get("radius", 0)
        radius = requests.integer("radius", radius, 0, store.bits)
        with gates["compare"]:
            async with asyncio.timeout(limits.seconds):
                groups = await run(compared, searcher.duplicates, radius)
        listed = [
            {"size": len(group), "ids": group[:_OF_GROUP]} for group in groups[:_GROUPS]
        ]
        return JSONResponse({"groups": listed, "count": len(groups)})

    @app.get("/v1/photograph")
    async def photograph(request: Request) -> Response:
        """A photograph of the store, as a small JPEG file."""
        if photographs is None:
            raise Refused(404, "The server was started without --images.")
        asked = requests.query(request)
        side = requests.integer(
            "side", asked.get("side", _DEFAULT_SIDE), 1, limits.side
        )
        key = asked.get("id")
        with gates["show"]:
            async with asyncio.timeout(limits.seconds):
                data = await run(shown, photographs.jpeg, key, side)
        headers = {"Cache-Control": "private, max-age=300"}
        return Response(data, media_type="image/jpeg", headers=headers)

    @app.get("/v1/info")
    async def info() -> Response:
        """The store, its model, and what the server takes."""
        async with asyncio.timeout(limits.seconds):
            return JSONResponse(await run(told, described))

    def described() -> dict[str, Any]:
        version = store.versions()[-1]
        return {
            "store": os.path.basename(os.path.normpath(store.path)),
            "count": version.rows,
            "version": version.version,
            "bits": store.bits,
            "model": store.model_identity,
            "photographs": photographs is not None,
            "where": allow_where,
            "limits": {
                "upload": limits.upload,
                "pixels": limits.pixels,
                "k": limits.k,
                "seconds": limits.seconds,
            },
        }

    @app.get("/health")
    async def health() -> Response:
        """Whether the server encodes and reads its store."""
        if not searcher.is_alive:
            raise Refused(503, "The server cannot encode any more.")
        async with asyncio.timeout(limits.seconds):
            await run(told, store.__len__)
        return JSONResponse({"status": "ok"})

    def add_file(route: str, name: str) -> None:
        file = _FILES / name
        content, media_type = file.read_bytes(), _MEDIA_TYPES[file.suffix]

        @app.get(route, include_in_schema=False)
        async def send() -> Response:
            headers = {"Cache-Control": "no-cache"}
            return Response(content, media_type=media_type, headers=headers)

    for route in ("/", "/page.css", "/page.js"):
        add_file(route, route[1:] or "page.html")
    return Guard(app, limits, hosts)


def _answer_errors(app: Any, limits: Limits) -> None:
    """Let an application answer errors in JSON, {"error": message}."""
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def wrong(_: Request, error: HTTPException) -> Response:
        content = {"error": str(error.detail)}
        return JSONResponse(content, error.status_code, error.headers)

    @app.exception_handler(TimeoutError)
    async def late(_: Request, error: TimeoutError) -> Response:
        message = f"This took more than {limits.seconds:g} seconds."
        return JSONResponse({"error": message}, 504)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # The traceback is printed on the server's side.
        return JSONResponse({"error": "The server has failed."}, 500)


def _neighbour(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the store, as JSON can hold it."""
    columns = {
        name: _plain(value)
        for name, value in row.items()
        if name not in ("id", "distance")
    }
    return {"id": row["id"], "distance": row["distance"], "columns": columns}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(number) for number in value.tolist()]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class _Clock:
    """Milliseconds by name."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap."""
        now = time.perf_counter()
        self.times[name] = 1000 * (now - self._last)
        self._last = now


def _version() -> str:
    import kerashash

    return kerashash.__version__


def fastapi_package() -> Any:
    """FastAPI, and what it needs here.

    Raises:
        ImportError: if a package is not installed; the error says which to install.
    """
    try:
        import fastapi
        import python_multipart  # noqa: F401, Starlette asks for it late
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The page needs FastAPI, Uvicorn and python-multipart. Install them by: "
            'pip install "kerashash[serve]".'
        ) from error
    return fastapi
