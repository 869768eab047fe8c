"""Registries, where entries are found: folders, servers and the package itself.

They are those of the environment variable KERASHASH_ZOO, in its order, then the
package's own. The first one that has ``NAME/card.json`` wins. More: docs/zoo.md.
"""

import contextlib
import os
import pathlib
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from kerashash import files, installed
from kerashash.zoo import cards, remote

# One item of KERASHASH_ZOO where ':' separates the items: a URL keeps the colons of
# its scheme, IPv6 address and port, and of a password, to be refused as a whole.
_ITEM = re.compile(
    r"[\w+.-]+://(?:[^/@]*@)?(?:\[[^]]*\]|[^/:]*)(?::\d+(?=[/:]|$))?[^:]*|[^:]+"
)
_USER = re.compile("://[^/@]*@")


def find(name: str, strict: bool = False) -> pathlib.Path | None:
    """Find the folder of an entry; one on a server is first fetched into the cache.

    Args:
        name: str, the name of an entry, or of a version of it, such as "a-b-12@2".
        strict: bool; whether a server that does not answer is an error, even if the
            cache holds the entry.

    Returns:
        `pathlib.Path` of a folder with a card.json, or None if no registry has the
        entry. For an entry on a server, all files that the card lists have been
        fetched and checked.

    Raises:
        ValueError: if KERASHASH_ZOO, a card or a fetched file is invalid.
        OSError: if a server does not answer and the cache does not hold the entry, or
            must not serve.

    Example:
        >>> find("adalabel-cifar10-48").name
        'adalabel-cifar10-48'
    """
    located = _locate(name, strict)
    if located is None:
        return None
    location, folder, card_bytes = located
    if isinstance(location, str):
        return remote.entry(location, folder, card_bytes)
    return location / folder


def card(name: str) -> dict[str, Any] | None:
    """Read an entry's card; the entry's files are neither fetched nor checked.

    Args:
        name: str, as for `find`.

    Returns:
        dict, or None if no registry has the entry.

    Raises:
        ValueError, OSError: as `find`.

    Example:
        >>> card("adalabel-cifar10-48")["bits"]
        48
    """
    located = _locate(name)
    if located is None:
        return None
    return _parsed(*located)


def names() -> list[str]:
    """List the entries of all registries.

    A server lists its entries in ``index.json``. Without that file, or if the server
    does not answer, they are the entries of the server that are in the cache.

    Returns:
        Sorted list of str, the entries' names.

    Raises:
        ValueError: if KERASHASH_ZOO or an index is invalid.
        OSError: if a server does not answer and the cache has no entry of it.

    Example:
        >>> "adalabel-cifar10-48" in names()
        True
    """
    return sorted({name for _, names in listed() for name in names})


def versions(name: str) -> list[int]:
    """List the versions of an entry that the registries have.

    The folder ``NAME`` of a registry holds one; older ones are beside it, in folders
    ``NAME@1``, ``NAME@2`` and so on. A server names these in its ``index.json``.

    Args:
        name: str, the name of an entry.

    Returns:
        Sorted list of int; empty if no registry has the entry.

    Raises:
        TypeError: if `name` is no str.
        ValueError, OSError: as `names`; ValueError also if a card is invalid, or `name`
            is that of one version, a path or an address on the hub.

    Example:
        >>> versions("adalabel-cifar10-48"), versions("no-such-entry-48")
        ([2], [])
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a str. Received: name={name!r}.")
    if cards.split_name(name)[1] is not None:
        raise ValueError(
            "`name` must be the name of an entry, without that of a version. "
            f"Received: {name!r}."
        )
    if not cards.is_plain(name):
        raise ValueError(
            "`name` must be the name of an entry in a registry, such as "
            "'dcdh-mine-48': neither a path nor an address on the hub. "
            f"Received: {name!r}."
        )
    numbers = set()
    for location in _locations():
        folders = {name, *_folders(location)}
        for folder in folders:
            own, number = cards.split_name(folder)
            card_bytes = _card_at(location, folder) if own == name else None
            if card_bytes is not None:
                newest = cards.version(_parsed(location, folder, card_bytes))
                numbers.add(number or newest)
    return sorted(numbers)


def list_cards() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Read the cards of all entries that `names` lists.

    A server is asked for the entries that it lists alone, and not for those of the
    registries after it. A card that cannot be read hides no other.

    Returns:
        ``(cards, unread)``: dict of cards by name, and dict of str by name: why a card
        cannot be read. Both are sorted.

    Raises:
        ValueError, OSError: as `names`.

    Example:
        >>> read, unread = list_cards()
        >>> read["adalabel-cifar10-48"]["bits"], unread
        (48, {})
    """
    read: dict[str, dict[str, Any]] = {}
    unread: dict[str, str] = {}
    for location, entries in listed():
        # An entry has its name from the first registry, whatever is there.
        for name in {*entries} - {*read} - {*unread}:
            try:
                card_bytes = _card_at(location, name)
                if card_bytes is None:
                    raise ValueError(f"{location} lists it, but has no such entry.")
                read[name] = _parsed(location, name, card_bytes)
            except (ValueError, OSError) as error:
                unread[name] = str(error)
    return dict(sorted(read.items())), dict(sorted(unread.items()))


def listed() -> Iterator[tuple[pathlib.Path | str, list[str]]]:
    """Name the registries in order, each with the entries that it lists.

    Yields:
        ``(location, names)``: path of a folder, or str, the URL of a server; and list
        of str.

    Raises:
        ValueError, OSError: as `names`.

    Example:
        >>> *_, (location, entries) = listed()
        >>> "adalabel-cifar10-48" in entries
        True
    """
    for location in _locations():
        entries = _folders(location)
        # Versions in folders of their own are found by name, and are not listed.
        yield location, [n for n in entries if cards.split_name(n)[1] is None]


def _folders(location: pathlib.Path | str) -> list[str]:
    """The folders of the entries and their versions in a registry."""
    if isinstance(location, str):
        entries = [*remote.names(location)]
    else:
        files.recover_all(location)
        entries = [path.parent.name for path in location.glob("*/card.json")]
    return [name for name in entries if cards.is_plain(name)]


def _locations() -> Iterator[pathlib.Path | str]:
    """The registries in order: a path for a folder, a str for a server's URL."""
    value = os.environ.get("KERASHASH_ZOO", "")
    split = _ITEM.findall if os.pathsep == ":" else re.compile("[^;]+").findall
    for text in filter(None, map(str.strip, split(value))):
        try:
            location = _location(text)
        # No such user, no valid address or port, a name too long, and the like.
        except (ValueError, RuntimeError, OSError) as error:
            why, location = f": {error}", None
        else:
            why = ""
        # An error, not skipped: under the same name, the entry of a later registry is
        # another model.
        if location is None:
            shown = _USER.sub("://***@", text)  # not a password
            raise ValueError(
                "`KERASHASH_ZOO` must hold folders and http, https or file URLs, "
                f"separated by {os.pathsep!r}. Received: {shown!r}, which is none{why}."
            )
        yield location
    yield installed.folder()


def _location(text: str) -> pathlib.Path | str | None:
    """A registry as `_locations` gives it, or None if there is none."""
    url = urllib.parse.urlsplit(text) if "://" in text else None
    if url and "@" in url.netloc:
        raise ValueError("it has a user or a password, which are not sent")
    if url and url.scheme in ("http", "https") and not url.query + url.fragment:
        _ = url.port  # raises ValueError if it is no port
        text.encode("ascii")
        return text.rstrip("/") if url.hostname else None
    if url and url.scheme == "file" and url.netloc in ("", "localhost"):
        text = urllib.request.url2pathname(url.path)
    folder = pathlib.Path(text).expanduser()
    # An entry that was found is still there when the process changes its folder.
    return folder.absolute() if folder.is_dir() else None


def _locate(
    name: str, strict: bool = False
) -> tuple[pathlib.Path | str, str, bytes] | None:
    """The first registry that has an entry, the folder there, and the entry's card."""
    if not cards.is_plain(name):
        return None
    own, number = cards.split_name(name)
    for location in _locations():
        # A version has a folder of its own, or is that of the folder without a number.
        for folder in dict.fromkeys((name, own)):
            card_bytes = _card_at(location, folder, strict)
            if card_bytes is None:
                continue
            parsed = number and _parsed(location, folder, card_bytes)
            if not parsed or cards.version(parsed) == number:
                return location, folder, card_bytes
    return None


def _card_at(
    location: pathlib.Path | str, name: str, strict: bool = False
) -> bytes | None:
    """The content of an entry's card, or None if a registry does not have the entry."""
    if isinstance(location, str):
        with contextlib.suppress(FileNotFoundError):
            return remote.card(location, name, strict)
        return None
    files.recover(location / name)
    path = location / name / "card.json"
    return cards.content(path) if path.is_file() else None


def _parsed(
    location: pathlib.Path | str, name: str, card_bytes: bytes
) -> dict[str, Any]:
    """A card as a dict that `cards.check` accepts."""
    source = f"{location}/{name}/card.json"
    content: dict[str, Any] = cards.parse_json(card_bytes, source, dict)
    cards.check(content, source, name)
    return content
