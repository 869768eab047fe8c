"""A registry on a server: its entries' cards, and their files in the cache."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import tempfile
import urllib.parse

from kerashash import installed
from kerashash.zoo.fetching import fetch_file, fetch_text, is_whole


def is_plain(name):
    """Whether a name is that of a file or folder, not hidden, in any folder."""
    pattern = r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]*"
    return isinstance(name, str) and re.fullmatch(pattern, name) is not None


def card(base, name):
    """An entry's card as it is on the server, or if that is down in the cache.

    Args:
        base: str, the URL of the registry.
        name: str, the name of an entry.

    Returns:
        bytes.

    Raises:
        FileNotFoundError: if the server does not have the entry.
        ConnectionError: if it does not answer, and the cache has no whole entry.
    """
    cached = (_cache(base) / name).glob("*/card.json")
    cached = sorted(cached, key=lambda path: path.stat().st_mtime, reverse=True)
    try:
        return fetch_text(_url(base, name, "card.json"), patient=not cached)
    except ConnectionError:
        for path in filter(_is_whole_entry, cached):
            return path.read_bytes()
        raise


def entry(base, name, text):
    """The folder in the cache with the entry of a card; what it lacks is fetched.

    There is one for each version of the card: while a newer one is fetched, the older
    one stays whole for those who read it.

    Args:
        base: str, the URL of the registry.
        name: str, the name of an entry.
        text: bytes, its card.

    Returns:
        `pathlib.Path`.

    Raises:
        ValueError: if the card lists no files as it must, or a file on the server is
            not the one that it lists.
        OSError: as `fetch_file`.
    """
    versions = _cache(base) / name
    folder = versions / hashlib.sha256(text).hexdigest()[:16]
    files, shared = _files(text, _url(base, name, "card.json"))
    for file, stated in shared.items():
        if _in_package(file, stated):
            continue
        # Once for all entries of the server.
        url = _url(base, "shared", file)
        fetch_file(url, _cache(base) / "shared" / file, **stated)
    for file, stated in files.items():
        path = folder / file
        for older in versions.glob("*") if not path.exists() else ():
            if is_whole(older / file, **stated):
                folder.mkdir(exist_ok=True)
                with contextlib.suppress(OSError):  # no links here: it is fetched
                    os.link(older / file, path)
                break
        fetch_file(_url(base, name, file), path, **stated)
    path = folder / "card.json"
    if not path.is_file() or path.read_bytes() != text:
        # Last, so that a folder with a card is a whole entry.
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=folder, prefix="card.json.", suffix=".part", delete=False
        ) as stream:
            stream.write(text)
        os.chmod(stream.name, 0o644)  # caches may be shared; it is made 0o600
        os.replace(stream.name, path)
    return folder


def names(base):
    """Names in the index of a server; without it or if it is down, in the cache.

    Args:
        base: str, the URL of the registry.

    Returns:
        Collection of str.

    Raises:
        ValueError: if the index is no list of names.
        ConnectionError: if the server does not answer, and the cache has no entry.
    """
    cached = {path.parent.parent.name for path in _cache(base).glob("*/*/card.json")}
    url = f"{base}/index.json"
    try:
        listed = parsed(fetch_text(url, patient=not cached), url, list)
    except FileNotFoundError:
        return cached
    except ConnectionError:
        if not cached:
            raise
        return cached
    wrong = [name for name in listed if not is_plain(name)]
    if wrong:
        raise ValueError(f"{url} must list names of entries. Received: {wrong[:5]}.")
    return listed


def parsed(text, where, kind):
    """What JSON holds, which must be of a type; `where` is to be named if not."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where} must be JSON. Received: {error}.") from error
    if not isinstance(value, kind):
        raise ValueError(
            f"{where} must hold a {kind.__name__}. Received: {type(value).__name__}."
        )
    return value


def _files(text, where):
    """The files that a card lists, its own and the shared ones: two dicts of names with
    sha256 and size."""
    card = parsed(text, where, dict)
    rule = f"`files` of {where} must map plain file names to their sha256 and bytes."
    files, shared = card.get("files"), card.get("shared", [])
    lists = isinstance(shared, list) and all(isinstance(s, dict) for s in shared)
    if not isinstance(files, dict) or not lists:
        raise ValueError(f"{rule} Received: {files!r}, `shared`: {shared!r}.")
    return tuple(
        {file: _stated(file, stated, rule) for file, stated in listed}
        for listed in (files.items(), [(s.get("file"), s) for s in shared])
    )


def _stated(file, stated, rule):
    """What a card says of a file, checked."""
    known = stated if isinstance(stated, dict) else {}
    sha256, size = str(known.get("sha256")), known.get("bytes")
    if (
        not is_plain(file)
        or file.lower() == "card.json"
        or not re.fullmatch("[0-9a-f]{64}", sha256)
        or type(size) is not int
        or size < 0
    ):
        raise ValueError(f"{rule} Received: {file!r}: {stated!r}.")
    return {"sha256": sha256, "size": size}


def _is_whole_entry(path):
    try:
        files, shared = _files(path.read_bytes(), path)
    except ValueError:
        return False
    folder = path.parent.parent.parent / "shared"
    return all(is_whole(path.parent / file, **files[file]) for file in files) and all(
        is_whole(folder / file, **stated) or _in_package(file, stated)
        for file, stated in shared.items()
    )


def _in_package(file, stated):
    """Whether the package has the shared network, which is not fetched then."""
    path = installed.network(file)
    return path is not None and is_whole(path, **stated)


def _url(base, *parts):
    return "/".join([base, *map(urllib.parse.quote, parts)])


def _cache(base):
    """The folder of a server's entries: its host, readable, and a digest of its URL."""
    root = pathlib.Path(os.environ.get("KERASHASH_CACHE") or "~/.cache/kerashash")
    host = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(base).netloc)
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    return root.expanduser() / "zoo" / f"{host}-{digest}"
