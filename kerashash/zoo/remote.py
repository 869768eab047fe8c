"""A registry on a server: cards of its entries, and their files in the local cache."""

import contextlib
import hashlib
import os
import pathlib
import re
import urllib.parse
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypedDict

from kerashash import installed
from kerashash.files import check_place, remove_link, replacing
from kerashash.zoo import cards
from kerashash.zoo.cards import check, is_plain, parse_json
from kerashash.zoo.fetching import fetch_file, fetch_text, is_whole


class _Expected(TypedDict):
    """What a card says of a file's content."""

    sha256: str
    size: int


def version_of(card_bytes: bytes) -> str:
    """The name of the cached folder of an entry's version, from a digest of its card.

    Args:
        card_bytes: bytes, the content of the entry's card.

    Returns:
        str, 16 hexadecimal digits.

    Example:
        >>> version_of(b"{}")
        '44136fa355b3678a'
    """
    return hashlib.sha256(card_bytes).hexdigest()[:16]


def card(base: str, name: str, strict: bool = False) -> bytes:
    """Read an entry's card from the server, or from the cache if the server is down.

    Args:
        base: str, the URL of the registry.
        name: str, the name of an entry, or of a version of it.
        strict: bool; whether the cache must not take the place of the server.

    Returns:
        bytes, the content of the card.

    Raises:
        FileNotFoundError: if the server does not have the entry.
        ConnectionError: if the server does not answer and the cache does not have the
            whole entry.
        ValueError: if what the server sends is no card of that name, and the cache does
            not have the whole entry.
    """
    newest_first = sorted(
        (_cache(base) / name).glob("*/card.json"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    url = _url(base, name, "card.json")
    try:
        card_bytes = fetch_text(url, patient=strict or not newest_first)
        content: dict[str, Any] = parse_json(card_bytes, url, dict)
        listed_files(content, url)
        check(content, url, name)
        return card_bytes
    # Not a card: such as the page of a proxy that wants a password.
    except (ConnectionError, ValueError):
        for path in filter(_is_whole_entry, () if strict else newest_first):
            return cards.content(path)
        raise


def entry(base: str, name: str, card_bytes: bytes) -> pathlib.Path:
    """Complete the cached folder of an entry: fetch the files that it lacks.

    Each version of a card has a folder of its own: while a newer one is fetched, the
    older one stays whole for those who read it.

    Args:
        base: str, the URL of the registry.
        name: str, the name of an entry.
        card_bytes: bytes, the content of the entry's card.

    Returns:
        `pathlib.Path` of the folder.

    Raises:
        ValueError: if the card's list of files is invalid, or a file on the server is
            not the one that the card describes.
        OSError: as `fetch_file`.
    """
    versions = _cache(base) / name
    folder = versions / version_of(card_bytes)
    if not (folder / "card.json").is_file():  # there is something to fetch
        check_place(folder, "KERASHASH_CACHE")
    url = _url(base, name, "card.json")
    files, shared = listed_files(parse_json(card_bytes, url, dict), url)
    for file, expected in shared.items():
        if not _is_in_package(file, expected):
            # Outside the entry's folder: fetched once for all entries of the server.
            path = _cache(base) / "shared" / file
            fetch_file(_url(base, "shared", file), path, **expected)
    for file, expected in files.items():
        path = folder / file
        if not path.exists():
            _link_from_older_version(versions, path, expected)
        fetch_file(_url(base, name, file), path, **expected)
    path = folder / "card.json"
    if not path.is_file() or cards.content(path) != card_bytes:
        # Written last, so that a folder with a card is a whole entry.
        folder.mkdir(parents=True, exist_ok=True)
        remove_link(path)
        with replacing(path) as stream:
            stream.write(card_bytes)
    else:  # the server may have gone back to an earlier card
        with contextlib.suppress(OSError):
            os.utime(path)
    return folder


def names(base: str) -> Collection[str]:
    """List the entries of a server.

    The names are read from ``index.json``; without that file, or if the server is down,
    from the cache.

    Args:
        base: str, the URL of the registry.

    Returns:
        Collection of str.

    Raises:
        ValueError: if the index is not a list of names, and the cache has no entry.
        ConnectionError: if the server does not answer and the cache has no entry of it.
    """
    cached = {path.parent.parent.name for path in _cache(base).glob("*/*/card.json")}
    url = f"{base}/index.json"
    try:
        listed = parse_json(fetch_text(url, patient=not cached), url, list)
        wrong = [name for name in listed if not is_plain(name)]
        if wrong:
            raise ValueError(
                f"{url} must list names of entries. Received: {wrong[:5]}."
            )
        return listed
    except FileNotFoundError:
        return cached
    except (ConnectionError, ValueError):
        if not cached:
            raise
        return cached


def _link_from_older_version(
    versions: pathlib.Path, path: pathlib.Path, expected: _Expected
) -> None:
    """Hard-link a file that an older version of the entry has with the same content."""
    for older in versions.glob("*"):
        if is_whole(older / path.name, **expected):
            path.parent.mkdir(exist_ok=True)
            # Where the file system has no links, the file is fetched again.
            with contextlib.suppress(OSError):
                os.link(older / path.name, path)
            return


def listed_files(
    card: Mapping[str, Any], source: str | pathlib.Path
) -> tuple[dict[str, _Expected], dict[str, _Expected]]:
    """Check the list of files of a card.

    Args:
        card: dict, the content of a card.json.
        source: str or path, where the card is from, to be named in an error.

    Returns:
        ``(files, shared)``: dicts of sha256 and size by plain names; those of the
        entry's own files, and of the networks that it shares.

    Raises:
        ValueError: if the list is invalid.
    """
    rule = f"`files` of {source} must map plain file names to their sha256 and bytes."
    files, shared = card.get("files"), card.get("shared", [])
    if (
        not isinstance(files, dict)
        or not isinstance(shared, list)
        or not all(isinstance(item, dict) for item in shared)
    ):
        raise ValueError(f"{rule} Received: {files!r}, `shared`: {shared!r}.")
    return (
        _expected_files(files.items(), rule),
        _expected_files([(item.get("file"), item) for item in shared], rule),
    )


def _expected_files(
    listed: Iterable[tuple[Any, Any]], rule: str
) -> dict[str, _Expected]:
    """Check what a card says of files; `rule` begins the message of an error."""
    expected: dict[str, _Expected] = {}
    for file, description in listed:
        fields = description if isinstance(description, dict) else {}
        sha256, size = str(fields.get("sha256")), fields.get("bytes")
        if (
            not is_plain(file)
            or file.lower() == "card.json"
            or not re.fullmatch("[0-9a-f]{64}", sha256)
            or type(size) is not int
            or size < 0
        ):
            raise ValueError(f"{rule} Received: {file!r}: {description!r}.")
        expected[file] = {"sha256": sha256, "size": size}
    return expected


def _is_whole_entry(card_path: pathlib.Path) -> bool:
    """Whether the cache has all files that a cached card lists."""
    try:
        content = parse_json(cards.content(card_path), card_path, dict)
        files, shared = listed_files(content, card_path)
    except ValueError:
        return False
    folder = card_path.parent
    shared_folder = folder.parent.parent / "shared"
    return all(
        is_whole(folder / file, **expected) for file, expected in files.items()
    ) and all(
        is_whole(shared_folder / file, **expected) or _is_in_package(file, expected)
        for file, expected in shared.items()
    )


def _is_in_package(file: str, expected: _Expected) -> bool:
    """Whether the package has a shared network, which is then not fetched."""
    path = installed.network(file)
    return path is not None and is_whole(path, **expected)


def _url(base: str, *parts: str) -> str:
    # "@", before the number of a version, needs no quotes in a path.
    return "/".join([base, *(urllib.parse.quote(part, safe="@") for part in parts)])


def _cache(base: str) -> pathlib.Path:
    """The folder of a server's entries, named by its host and a digest of its URL."""
    host = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(base).netloc)
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    return installed.cache() / "zoo" / f"{host}-{digest}"
