"""Where entries of the zoo are found: folders, servers, the package itself.

Registries are those of the environment variable KERASHASH_ZOO, in order, then the
package's own. The first that has ``NAME/card.json`` wins. More: docs/zoo.md.
"""

import contextlib
import os
import pathlib
import re
import urllib.parse
import urllib.request

from kerashash import installed
from kerashash.zoo import remote

# Between ':' as separators, a URL keeps those of its scheme, IPv6 address and port.
_PLACE = re.compile(r"[\w+.-]+://(?:\[[^]]*\]|[^/:]*)(?::\d+(?=[/:]|$))?[^:]*|[^:]+")


def find(name):
    """The folder of an entry, fetched into the cache if it is on a server.

    Args:
        name: str, the name of an entry.

    Returns:
        `pathlib.Path` of a folder with card.json, or None if no registry has it. Of
        an entry on a server, all files that the card lists are there and are checked.

    Raises:
        ValueError: if KERASHASH_ZOO, a card or a fetched file is not what it must be.
        OSError: if a server does not answer and the cache does not hold the entry.

    Example:
        >>> find("adalabel-cifar10-48").name
        'adalabel-cifar10-48'
    """
    place, text = _card(name)
    if isinstance(place, str):
        return remote.entry(place, name, text)
    return place and place / name


def card(name):
    """An entry's card; its files are neither fetched nor checked.

    Args:
        name: str, the name of an entry.

    Returns:
        dict, or None if no registry has the entry.

    Raises:
        ValueError, OSError: as `find`.

    Example:
        >>> card("adalabel-cifar10-48")["bits"]
        48
    """
    place, text = _card(name)
    return place and remote.parsed(text, f"{place}/{name}/card.json", dict)


def names():
    """Names of the entries of all registries.

    Those on a server are in its ``index.json``, a list of names. Without it, and if
    the server does not answer, they are those in the cache.

    Returns:
        Sorted list of str.

    Raises:
        ValueError: if KERASHASH_ZOO or an index is not what it must be.
        OSError: if a server does not answer and the cache has no entry of it.

    Example:
        >>> "adalabel-cifar10-48" in names()
        True
    """
    found = set()
    for place in _places():
        if isinstance(place, str):
            found.update(remote.names(place))
        else:
            found.update(path.parent.name for path in place.glob("*/card.json"))
    return sorted(name for name in found if remote.is_plain(name))


def _places():
    """The registries in order: a path for a folder, a str for a URL."""
    value = os.environ.get("KERASHASH_ZOO", "")
    split = _PLACE.findall if os.pathsep == ":" else re.compile("[^;]+").findall
    for text in filter(None, map(str.strip, split(value))):
        url = urllib.parse.urlsplit(text) if "://" in text else None
        if url and url.scheme in ("http", "https") and not url.query + url.fragment:
            yield text.rstrip("/")
            continue
        if url and url.scheme == "file" and url.netloc in ("", "localhost"):
            text = urllib.request.url2pathname(url.path)
        folder = pathlib.Path(text).expanduser()
        # Not passed over: the entry of a later registry is another model.
        if not folder.is_dir():
            raise ValueError(
                "`KERASHASH_ZOO` must hold folders and http, https or file URLs, "
                f"separated by {os.pathsep!r}. Received: {text!r}, which is none."
            )
        yield folder
    yield installed.folder()


def _card(name):
    """The first registry that has an entry, and the entry's card as bytes."""
    for place in _places() if remote.is_plain(name) else ():
        if isinstance(place, str):
            with contextlib.suppress(FileNotFoundError):
                return place, remote.card(place, name)
        elif (place / name / "card.json").is_file():
            return place, (place / name / "card.json").read_bytes()
    return None, None
