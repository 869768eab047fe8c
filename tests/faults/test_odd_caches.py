"""Caches of servers that are damaged, or hold links and folders in place of files."""

import errno
import json
import os
import pathlib
import shutil
import time

import pytest
from test_registry import (  # noqa: F401
    NAME,
    _settings,
    edit,
    make,
    make_versions,
    same,
    server,
)
from test_servers import raw  # noqa: F401

from kerashash import zoo
from kerashash.zoo import fetching, registry

WEIGHTS = "model.weights.h5"


def flip(path):
    content = path.read_bytes()
    path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])


def relabel(path):
    """A card that is one still, and another."""
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6"))


def link(path):
    """A link in place of a file, to an equal one elsewhere."""
    shutil.copy(path, path.parent.parent / "elsewhere")
    path.unlink()
    path.symlink_to(path.parent.parent / "elsewhere")


def folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    ("card.json", relabel),
    ("card.json", link),
    ("card.json", folder),
    (WEIGHTS, flip),
    (WEIGHTS, pathlib.Path.unlink),
    (WEIGHTS, link),
    (WEIGHTS, folder),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_no_older_entry_takes_the_place_of_a_damaged_one(server, rng, file, damage):  # noqa: F811
    zoo.entry(NAME)
    time.sleep(0.02)  # the times of files tell them apart
    shutil.rmtree(server.root / NAME)
    make(server.root, rng, version=2)
    path = zoo.entry(NAME).path / file
    damage(path)
    for call in (zoo.entry, registry.card):
        server.failures = [503]
        with pytest.raises(ConnectionError, match=r"503.*cache cannot take") as caught:
            call(NAME)
        assert f"{path} is damaged or missing" in str(caught.value)
    assert same(zoo.entry(NAME).path, server.root / NAME)
    assert not path.is_symlink()
    server.failures = [503]
    assert zoo.entry(NAME).card["version"] == 2


def test_a_version_of_the_past_is_found_in_the_cache(server, rng):  # noqa: F811
    first = zoo.entry(NAME)
    server.stop()
    assert zoo.entry(f"{NAME}@1") == first
    with pytest.raises(ConnectionError):
        zoo.entry(f"{NAME}@1", strict=True)
    with pytest.raises(ConnectionError):
        zoo.entry(f"{NAME}@2")
    flip(first.path / WEIGHTS)
    with pytest.raises(ConnectionError, match=rf"{WEIGHTS} is damaged"):
        zoo.entry(f"{NAME}@1")


def test_a_version_does_not_become_the_newest_by_its_use(server, rng):  # noqa: F811
    first = zoo.entry(NAME)
    time.sleep(0.02)
    shutil.rmtree(server.root)
    make_versions(server.root, rng)
    newest = zoo.entry(NAME)
    # The server has another one of this name; the cache has that of before.
    assert zoo.entry(f"{NAME}@1").path not in (first.path, newest.path)
    shutil.rmtree(first.path.parent.with_name(f"{NAME}@1"))
    server.stop()
    assert zoo.entry(f"{NAME}@1") == first
    assert zoo.entry(NAME) == zoo.entry(f"{NAME}@3") == newest


def test_a_version_that_was_the_newest_is_not_fetched_again(server, rng):  # noqa: F811
    path = zoo.entry(NAME).path
    (server.root / NAME).rename(server.root / f"{NAME}@1")
    make(server.root, rng, version=2)
    server.requests.clear()
    assert zoo.entry(f"{NAME}@1").path == path
    assert server.requests == [(f"/{NAME}@1/card.json", None)]


def test_links_to_folders_in_the_cache_are_replaced(server, tmp_path, rng):  # noqa: F811
    content = rng.bytes(100)
    (server.root / "shared").mkdir()
    (server.root / "shared" / "net.weights.h5").write_bytes(content)
    expected = {"sha256": fetching.hashlib.sha256(content).hexdigest(), "bytes": 100}
    edit(server.root / NAME, shared=[{"file": "net.weights.h5", **expected}])
    path = zoo.entry(NAME).path
    for place in (path, path.parent, path.parent.parent / "shared"):
        shutil.rmtree(place)
        target = tmp_path / f"of {place.name}"
        target.mkdir()
        (target / "thesis").write_bytes(b"my thesis")
        place.symlink_to(target)
        assert same(zoo.entry(NAME).path, server.root / NAME)
        assert os.listdir(target) == ["thesis"]
        assert not place.is_symlink()
        # Nor is anything read through one.
        shutil.rmtree(target)
        shutil.move(place, target)
        place.symlink_to(target)
        server.failures = [503]
        with pytest.raises(ConnectionError, match="cache cannot take") as caught:
            zoo.entry(NAME)
        assert f"{place} is damaged" in str(caught.value)
    # The cache itself, and all above the folder of the server, is the user's choice.
    cache = tmp_path / "cache"
    shutil.rmtree(cache)
    for place in (cache, cache / "zoo"):
        (tmp_path / f"for {place.name}").mkdir()
        place.symlink_to(tmp_path / f"for {place.name}")
    path = zoo.entry(NAME).path
    server.failures = [503]
    assert zoo.entry(NAME).path == path
    assert (cache / "zoo").is_symlink()


@pytest.mark.parametrize("name", ["card.json", ".lock", WEIGHTS, f"{WEIGHTS}.part"])
def test_folders_in_place_of_files_are_named(server, name):  # noqa: F811
    entry = zoo.entry(NAME)
    digest = entry.card["files"][WEIGHTS]["sha256"][:8]
    place = entry.path / name.replace(".part", f".{digest}.part")
    for file in {place, entry.path / WEIGHTS}:
        file.unlink(missing_ok=True)
    place.mkdir()  # nothing is lost by its removal
    assert same(zoo.entry(NAME).path, server.root / NAME)
    for file in {place, entry.path / WEIGHTS}:
        file.unlink(missing_ok=True)
    place.mkdir()
    (place / "thesis").write_bytes(b"my thesis")
    with pytest.raises(OSError, match=r"must be a file.*delete or move it") as caught:
        zoo.entry(NAME)
    assert str(place) in str(caught.value)
    assert (place / "thesis").read_bytes() == b"my thesis"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_in_the_cache_are_replaced(server):  # noqa: F811
    path = zoo.entry(NAME).path
    for name in ("card.json", ".lock", WEIGHTS):
        (path / name).unlink()
        os.mkfifo(path / name)
    assert same(zoo.entry(NAME).path, server.root / NAME)


def test_a_full_disk_names_the_file(server, monkeypatch):  # noqa: F811
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching, "_append", full)
    with pytest.raises(OSError, match=r"No space left.*config\.json") as caught:
        zoo.entry(NAME)
    assert caught.value.errno == errno.ENOSPC


def test_a_circle_of_redirects_is_one_line(raw):  # noqa: F811
    head = f"HTTP/1.0 302 Found\r\nLocation: {raw['url']}/{NAME}/card.json\r\n\r\n"
    raw["pieces"] = [head.encode()]
    with pytest.raises(ConnectionError, match="infinite loop") as caught:
        zoo.entry(NAME)
    assert "\n" not in str(caught.value)


def test_compression_that_was_not_asked_for_is_named(raw, tmp_path):  # noqa: F811
    raw["pieces"] = [b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\nabcd"]
    for call in (
        lambda: zoo.entry(NAME),
        lambda: fetching.fetch_file(raw["url"], tmp_path / "x", "0" * 64, 4),
    ):
        with pytest.raises(ValueError, match=r"as it is.*Content-Encoding: gzip"):
            call()
    # Names of encodings that change nothing are no reason to refuse a file.
    raw["pieces"] = [b"HTTP/1.0 200 OK\r\nContent-Encoding: aws-chunked\r\n\r\n{}"]
    assert json.loads(fetching.fetch_text(raw["url"])) == {}
