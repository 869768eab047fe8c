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
from kerashash.checks import said
from kerashash.files import check_place, remove_link, replacing
from kerashash.zoo import cards
from kerashash.zoo.cards import check, is_plain, parse_json
from kerashash.zoo.fetching import fetch_file, fetch_text, is_whole, make_way

# Most bytes of a file that a card may state: of more, no download has a deadline.
_MAX_FILE_BYTES = 1 << 40


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

    The cache gives the card last fetched, and none before it. That of a version may be
    in the cache as the entry's own, of the time when it was the newest.

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
    cached = None if strict else _last_fetched(base, name)
    url = _url(base, name, "card.json")
    try:
        card_bytes = fetch_text(url, patient=cached is None)
        content: dict[str, Any] = parse_json(card_bytes, url, dict)
        listed_files(content, url)
        check(content, url, name)
    # Not a card: such as the page of a proxy that wants a password.
    except (ConnectionError, ValueError) as error:
        if cached is None:
            raise
        damaged = _damaged(cached)
        if damaged is None:
            return cards.content(cached)
        # Not an older one in its place: nobody would know.
        kind = ConnectionError if isinstance(error, ConnectionError) else ValueError
        raise kind(
            f"{said(error)}. The cache cannot take its place: {damaged} is damaged or "
            "missing, and is fetched again when the server answers."
        ) from error
    path = _cache(base) / name / version_of(card_bytes) / "card.json"
    # The server may have gone back to an earlier card.
    if _has_content(path, card_bytes):
        with contextlib.suppress(OSError):
            os.utime(path)
    return card_bytes


def entry(base: str, name: str, card_bytes: bytes) -> pathlib.Path:
    """Complete the cached folder of an entry: fetch the files that it lacks.

    Each version of a card has a folder of its own: while a newer one is fetched, the
    older one stays whole for those who read it. Symbolic links below the folder of the
    server are replaced.

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
    for versions in _version_folders(base, name):
        folder = versions / version_of(card_bytes)
        for place in (versions, folder):
            remove_link(place)
        if _has_content(folder / "card.json", card_bytes):
            break
    if not (folder / "card.json").is_file():  # there is something to fetch
        check_place(folder, "KERASHASH_CACHE")
    url = _url(base, name, "card.json")
    files, shared = listed_files(parse_json(card_bytes, url, dict), url)
    for file, expected in shared.items():
        if not _is_in_package(file, expected):
            # Outside the entry's folder: fetched once for all entries of the server.
            path = _cache(base) / "shared" / file
            remove_link(path.parent)
            fetch_file(_url(base, "shared", file), path, **expected)
    for file, expected in files.items():
        path = folder / file
        if not path.exists():
            _link_from_older_version(versions, path, expected)
        fetch_file(_url(base, name, file), path, **expected)
    path = folder / "card.json"
    if not _has_content(path, card_bytes):
        # Written last, so that a folder with a card is a whole entry.
        folder.mkdir(parents=True, exist_ok=True)
        make_way(path)
        with replacing(path) as stream:
            stream.write(card_bytes)
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
    rule = (
        f"`files` of {source} must map plain file names to their sha256 and bytes, at "
        f"most {_MAX_FILE_BYTES}."
    )
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
            or not 0 <= size <= _MAX_FILE_BYTES
        ):
            raise ValueError(f"{rule} Received: {file!r}: {description!r}.")
        expected[file] = {"sha256": sha256, "size": size}
    return expected


def _version_folders(base: str, name: str) -> list[pathlib.Path]:
    """The folders of the cache that may hold an entry, or a version of it.

    The last one is that of the name. What was fetched as the newest version of an entry
    is in the folder of the entry, whatever the server calls it now.
    """
    own, _ = cards.split_name(name)
    return [_cache(base) / folder for folder in dict.fromkeys((own, name))]


def _last_fetched(base: str, name: str) -> pathlib.Path | None:
    """The card of an entry in the cache that was fetched last, whole or not."""
    _, number = cards.split_name(name)
    found = []
    for versions in _version_folders(base, name):
        for folder in versions.glob("*"):
            path = folder / "card.json"
            with contextlib.suppress(OSError):  # there is none, or none any more
                modified = path.lstat().st_mtime_ns
                if versions.name == name or _is_version(path, number):
                    found.append((modified, path))
    return max(found)[1] if found else None


def _is_version(card_path: pathlib.Path, number: int | None) -> bool:
    """Whether a card of the cache is that of a certain version."""
    try:
        content = parse_json(cards.content(card_path), card_path, dict)
    except (ValueError, OSError):
        return False
    return cards.version(content) == number


def _damaged(card_path: pathlib.Path) -> pathlib.Path | None:
    """What of an entry in the cache is not as it was fetched; None if all is."""
    folder = card_path.parent
    shared_folder = folder.parent.parent / "shared"
    try:
        card_bytes = cards.content(card_path)
        content = parse_json(card_bytes, card_path, dict)
        files, shared = listed_files(content, card_path)
    except (ValueError, OSError):
        return card_path
    if version_of(card_bytes) != folder.name:
        return card_path
    expected_files = {folder / file: expected for file, expected in files.items()}
    for file, expected in shared.items():
        if not _is_in_package(file, expected):
            expected_files[shared_folder / file] = expected
    for path in (folder.parent, folder, card_path, *{p.parent for p in expected_files}):
        if path.is_symlink():
            return path
    for path, expected in expected_files.items():
        if not is_whole(path, **expected):
            return path
    return None


def _has_content(path: pathlib.Path, content: bytes) -> bool:
    """Whether a file of the cache, and no link to one, is a certain card."""
    try:
        return not path.is_symlink() and cards.content(path) == content
    except (ValueError, OSError):
        return False


def _is_in_package(file: str, expected: _Expected) -> bool:
    """Whether the package has a shared network, which is then not fetched."""
    path = installed.network(file)
    return path is not None and is_whole(path, **expected, linked=True)


def _url(base: str, *parts: str) -> str:
    # "@", before the number of a version, needs no quotes in a path.
    return "/".join([base, *(urllib.parse.quote(part, safe="@") for part in parts)])


def _cache(base: str) -> pathlib.Path:
    """The folder of a server's entries, named by its host and a digest of its URL."""
    host = re.sub(r"[^\w.-]", "_", urllib.parse.urlsplit(base).netloc)
    digest = hashlib.sha256(base.encode()).hexdigest()[:8]
    return installed.cache() / "zoo" / f"{host}-{digest}"
