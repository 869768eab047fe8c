import contextlib
import errno
import functools
import hashlib
import http.server
import json
import os
import pathlib
import re
import shutil
import sys
import threading
import time

import pytest

from kerashash import cli, files, installed, zoo
from kerashash.zoo import fetching, registry
from kerashash.zoo.entries import FILES

NAME = "adalabel-noise-12"
WEIGHTS = f"/{NAME}/model.weights.h5"


def make(root, rng, name=NAME, **changes):
    """Write an entry whose files are random bytes, and return its folder."""
    folder = root / name
    folder.mkdir(parents=True)
    files = {}
    for file in FILES:
        content = rng.bytes(300_000 if file == "model.weights.h5" else 100)
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files[file] = {"sha256": digest, "bytes": len(content)}
    metric = {"name": "mAP@ALL", "value": 0.5}
    card = {"name": name, "metrics": [metric], "files": files, **changes}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def edit(folder, **changes):
    path = folder / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        byte_range = self.headers.get("Range")
        server.requests.append((self.path, byte_range))
        path = server.root / self.path.lstrip("/")
        mode = server.mode if path.name == "model.weights.h5" else "good"
        if server.failures:
            return self.send_error(server.failures.pop())
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        if mode == "wrong byte":
            content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        if mode == "shorter":
            content = content[:-1000]
        start = 0
        if byte_range and mode not in ("no range", "cut, no range"):
            start = int(re.fullmatch(r"bytes=(\d+)-", byte_range)[1])
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            end = f"{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        else:
            self.send_response(200)
        content = content[start:]
        if mode != "endless":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if mode.startswith("cut"):
            content = (
                content[: (len(content) + 1) // 2] if len(content) > 9 else content
            )
        if mode == "endless":
            content += b"more"
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _settings(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KERASHASH_ZOO", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetching, "_FIRST_PAUSE", 1e-3)


@pytest.fixture
def server(tmp_path, rng, monkeypatch):
    """A server of a registry with one entry; KERASHASH_ZOO names it."""
    make(tmp_path / "served", rng)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.root, server.mode = tmp_path / "served", "good"
    server.requests, server.failures = [], []
    server.base = f"http://127.0.0.1:{server.server_port}"

    @functools.cache
    def stop():
        server.shutdown()
        server.server_close()
        thread.join()

    server.stop = stop
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("KERASHASH_ZOO", server.base)
    yield server
    stop()


def cached(tmp_path):
    """Names of the files in the cache."""
    files = (p for p in (tmp_path / "cache").rglob("*") if p.is_file())
    return sorted(file.name for file in files if file.name != ".lock")


def same(copy, folder):
    """Whether two folders of an entry have the same content."""
    return all(
        (copy / file).read_bytes() == (folder / file).read_bytes()
        for file in (*FILES, "card.json")
    )


# Folders


def test_the_first_folder_that_has_an_entry_wins(tmp_path, rng, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    make(first, rng, "a-b-1"), make(second, rng, "a-b-1"), make(second, rng, "c-d-2")
    monkeypatch.setenv("KERASHASH_ZOO", os.pathsep.join(map(str, (first, second))))
    assert zoo.entry("a-b-1").path == first / "a-b-1"
    assert zoo.entry("c-d-2").path == second / "c-d-2"
    assert zoo.entry("adalabel-cifar10-48").card["bits"] == 48
    assert {"a-b-1", "adalabel-cifar10-48", "c-d-2"} <= {*zoo.list()}
    monkeypatch.setenv("KERASHASH_ZOO", os.pathsep.join(map(str, (second, first))))
    assert zoo.entry("a-b-1").path == second / "a-b-1"
    assert not (tmp_path / "cache").exists()


def test_ones_own_entry_comes_before_that_of_the_package(tmp_path, rng, monkeypatch):
    folder = make(tmp_path / "mine", rng, "adalabel-cifar10-48")
    assert zoo.entry("adalabel-cifar10-48").path != folder
    monkeypatch.setenv("KERASHASH_ZOO", str(tmp_path / "mine"))
    assert zoo.entry("adalabel-cifar10-48").path == folder


def test_a_file_url_is_a_folder(tmp_path, rng, monkeypatch):
    folder = make(tmp_path / "with space", rng)
    monkeypatch.setenv("KERASHASH_ZOO", (tmp_path / "with space").as_uri())
    assert zoo.entry(NAME).path == folder
    assert NAME in zoo.list()


@pytest.mark.skipif(os.pathsep != ":", reason="other separators are not part of URLs")
@pytest.mark.parametrize(
    ("value", "locations"),
    [
        ("", []),
        ("::", []),
        ("/a:/b:/a/c", ["/a", "/b", "/a/c"]),
        ("https://h/z", ["https://h/z"]),
        ("https://h/z/:/a", ["https://h/z", "/a"]),
        ("/a:https://h:8080/z:/b", ["/a", "https://h:8080/z", "/b"]),
        ("http://h:1:http://h:2", ["http://h:1", "http://h:2"]),
        ("http://h:/a", ["http://h", "/a"]),
        ("http://[::1]:80/z:/a", ["http://[::1]:80/z", "/a"]),
        ("file:///a:/b:file://localhost/c%20d", ["/a", "/b", "/c d"]),
        ("HTTPS://h/z:http://u/v", ["HTTPS://h/z", "http://u/v"]),
    ],
)
def test_registries_are_separated_as_in_path(value, locations, monkeypatch):
    monkeypatch.setenv("KERASHASH_ZOO", value)
    monkeypatch.setattr(pathlib.Path, "is_dir", lambda self: True)
    assert [str(location) for location in registry._locations()][:-1] == locations


@pytest.mark.parametrize(
    "value", ["/no/such", "s3://bucket", "https://h/z?a=b", "file://other/z", "8080"]
)
def test_what_is_not_a_registry_is_refused(value, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERASHASH_ZOO", value)
    for call in (zoo.list, lambda: zoo.entry(NAME)):
        with pytest.raises(ValueError, match=f"`KERASHASH_ZOO` must.*{value[:4]}"):
            call()


@pytest.mark.parametrize("name", ["..", ".", "", ".hidden", "a/b", "a\\b", "c:d", None])
def test_names_that_no_registry_has(name, server):
    assert registry.find(name) is None
    assert registry.card(name) is None
    assert server.requests == []


# Servers


def test_an_entry_is_fetched_once(server, tmp_path):
    entry = zoo.entry(NAME)
    assert same(entry.path, server.root / NAME)
    assert cached(tmp_path) == sorted((*FILES, "card.json"))
    assert len(server.requests) == 6
    assert zoo.entry(NAME) == entry
    assert server.requests[6:] == [(f"/{NAME}/card.json", None)]


def test_a_shared_network_is_fetched_once_for_all_entries(server, tmp_path, rng):
    content = rng.bytes(100)
    digest = hashlib.sha256(content).hexdigest()
    (server.root / "shared").mkdir()
    (server.root / "shared" / "net.weights.h5").write_bytes(content)
    shared = {"file": "net.weights.h5", "sha256": digest, "bytes": len(content)}
    for name in ("adalabel-noise-24", "adalabel-noise-32"):
        make(server.root, rng, name, shared=[shared])
        zoo.entry(name)
    requested = [path for path, _ in server.requests if path.startswith("/shared/")]
    assert requested == ["/shared/net.weights.h5"]
    server.stop()
    path = zoo.entry("adalabel-noise-32").path
    (path.parent.parent / "shared" / "net.weights.h5").unlink()
    with pytest.raises(ConnectionError):
        zoo.entry("adalabel-noise-32")


def test_a_network_of_the_package_is_not_fetched(server, rng):
    (file, *_) = installed.backbones()
    content = file.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    shared = {"file": file.name, "sha256": digest, "bytes": len(content)}
    make(server.root, rng, "other", shared=[shared])
    assert zoo.entry("other").card["shared"] == [shared]
    assert not [path for path, _ in server.requests if "shared" in path]
    server.stop()
    assert zoo.entry("other").card["shared"] == [shared]


def test_two_servers_do_not_share_a_cache(server, tmp_path, rng, monkeypatch):
    make(tmp_path / "served" / "deep", rng)
    first = zoo.entry(NAME).path
    monkeypatch.setenv("KERASHASH_ZOO", f"{server.base}/deep/:{server.base}")
    assert same(zoo.entry(NAME).path, server.root / "deep" / NAME)
    assert same(first, server.root / NAME)


def test_the_cache_stands_in_for_a_server_that_is_down(server):
    path = zoo.entry(NAME).path
    server.stop()
    assert zoo.entry(NAME).path == path
    assert zoo.list()[0] < NAME in zoo.list()
    (path / "codes.npz").write_bytes(b"no")
    with pytest.raises(OSError, match=r"card\.json cannot be fetched.*KERASHASH_ZOO"):
        zoo.entry(NAME)


def test_a_server_that_is_down_and_not_cached_is_an_error(server, tmp_path, capsys):
    server.stop()
    for call in (zoo.list, lambda: zoo.entry(NAME)):
        with pytest.raises(ConnectionError, match=f"{server.base}/.*Try again"):
            call()
    assert cached(tmp_path) == []
    assert cli.main(["zoo", "info", NAME]) == 2
    assert "cannot be fetched" in capsys.readouterr().err


def test_a_damaged_file_of_the_cache_is_fetched_again(server):
    path = zoo.entry(NAME).path
    server.requests.clear()
    (path / "codes.npz").write_bytes(bytes(100))
    (path / "card.json").write_bytes(b"{")
    assert same(zoo.entry(NAME).path, server.root / NAME)
    assert [p for p, _ in server.requests] == [
        f"/{NAME}/card.json",
        f"/{NAME}/codes.npz",
    ]


def test_a_cut_download_is_resumed(server, tmp_path):
    server.mode = "cut"
    assert same(zoo.entry(NAME).path, server.root / NAME)
    ranges = [r for path, r in server.requests if path == WEIGHTS]
    assert ranges[:3] == [None, "bytes=150000-", "bytes=225000-"]
    assert cached(tmp_path) == sorted((*FILES, "card.json"))


def test_a_later_call_resumes_a_download(server, tmp_path):
    server.mode = "cut, no range"
    with pytest.raises(ConnectionError, match="cut after 150000 of 300000 bytes"):
        zoo.entry(NAME)
    # One request that brought bytes, then as many failures as are allowed.
    requested = [path for path, _ in server.requests if path == WEIGHTS]
    assert len(requested) == 1 + fetching._MAX_FAILURES
    assert "card.json" not in cached(tmp_path)
    assert "model.weights.h5" not in cached(tmp_path)
    server.mode = "good"
    server.requests.clear()
    assert same(zoo.entry(NAME).path, server.root / NAME)
    assert (WEIGHTS, "bytes=150000-") in server.requests
    assert cached(tmp_path) == sorted((*FILES, "card.json"))


def test_a_server_that_ignores_ranges_starts_over(server, tmp_path):
    server.mode = "cut, no range"
    with pytest.raises(ConnectionError):
        zoo.entry(NAME)
    server.mode = "no range"
    assert same(zoo.entry(NAME).path, server.root / NAME)
    assert server.requests[-4][0] == WEIGHTS


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("wrong byte", "must be the file.*sha256 {sha256}.*Received: sha256"),
        ("shorter", "must have the 300000 bytes.*Received: 299000"),
        ("endless", "must have the 300000 bytes.*Received: 300004"),
    ],
)
def test_a_wrong_file_is_refused_and_not_kept(server, tmp_path, mode, message):
    card = json.loads((server.root / NAME / "card.json").read_text())
    message = message.format(**card["files"]["model.weights.h5"])
    server.mode = mode
    with pytest.raises(ValueError, match=f"{WEIGHTS} {message}"):
        zoo.entry(NAME)
    assert cached(tmp_path) == ["config.json"]
    server.mode = "good"
    assert same(zoo.entry(NAME).path, server.root / NAME)


@pytest.mark.parametrize("part_bytes", [1000, 299_500, 300_000, 300_001])
@pytest.mark.parametrize("mode", ["good", "no range", "shorter", "wrong byte"])
def test_a_partial_file_may_be_wrong(server, mode, part_bytes):
    folder = zoo.entry(NAME).path
    sha256 = zoo.entry(NAME).card["files"]["model.weights.h5"]["sha256"]
    (folder / "model.weights.h5").unlink()
    part = folder / f"model.weights.h5.{sha256[:8]}.part"
    part.write_bytes(bytes(part_bytes))
    server.mode = mode
    if mode in ("shorter", "wrong byte"):
        with pytest.raises(ValueError, match=WEIGHTS):
            zoo.entry(NAME)
    else:
        assert same(zoo.entry(NAME).path, server.root / NAME)
    assert not part.exists()


def test_busy_servers_are_asked_again_and_refusals_are_not(server):
    server.failures = [503, 429, 500]
    assert zoo.entry(NAME).name == NAME
    server.requests.clear()
    server.failures = [403]
    with pytest.raises(ConnectionError, match="403"):
        fetching.fetch_text(f"{server.base}/x")
    assert len(server.requests) == 1


def test_an_entry_or_file_that_the_server_lacks(server, tmp_path):
    with pytest.raises(ValueError, match="`name` must be an entry of the zoo"):
        zoo.entry("adalabel-noise-13")
    assert zoo.entry("adalabel-cifar10-48").card["bits"] == 48
    (server.root / NAME / "codes.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"codes\.npz does not exist"):
        zoo.entry(NAME)
    assert "card.json" not in cached(tmp_path)


def test_a_newer_version_leaves_the_older_one_whole(server, rng):
    old = zoo.entry(NAME)
    server.requests.clear()
    edit(server.root / NAME, licence="MIT")
    new = zoo.entry(NAME)
    assert new.card["licence"] == "MIT"
    assert server.requests == [(f"/{NAME}/card.json", None)]  # the files are the same
    shutil.rmtree(server.root / NAME)
    make(server.root, rng)
    server.mode = "wrong byte"
    with pytest.raises(ValueError, match=WEIGHTS):
        zoo.entry(NAME)
    assert zoo.entry(old.path) == old
    server.stop()
    os.utime(old.path / "card.json", (0, 0))
    assert zoo.entry(NAME) == new


@pytest.mark.parametrize(
    ("file", "description"),
    [
        (file, {"sha256": "0" * 64, "bytes": 1})
        for file in (
            *("../a", "/a", "a/b", "a\\b", "..", "", ".a", "c:a", "card.json"),
            *("\ud800", "a\udfff"),
        )
    ]
    + [
        ("a", description)
        for description in (
            None,
            {},
            {"sha256": "0" * 64},
            {"sha256": "0" * 63, "bytes": 1},
            {"sha256": "../" + "0" * 61, "bytes": 1},
            {"sha256": "0" * 64, "bytes": -1},
            {"sha256": "0" * 64, "bytes": True},
            {"sha256": "0" * 64, "bytes": "1"},
            {"sha256": "0" * 64, "bytes": 10**30},
            {"sha256": "0" * 64, "bytes": (1 << 40) + 1},
        )
    ],
)
def test_cards_with_invalid_files_are_refused(server, tmp_path, file, description):
    card = json.loads((server.root / NAME / "card.json").read_text())
    edit(server.root / NAME, files={**card["files"], file: description})
    with pytest.raises(ValueError, match=r"`files` of .*card\.json must map plain"):
        zoo.entry(NAME)
    assert len(server.requests) == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"files": 3}',
        '{"files": {}, "shared": {"file": "a"}}',
        '{"files": {}, "shared": ["a"]}',
        '{"files": {}, "shared": [{"file": "../a"}]}',
        "<html>",
    ],
)
def test_what_is_not_a_card_is_refused(server, tmp_path, text):
    (server.root / NAME / "card.json").write_text(text)
    with pytest.raises(ValueError, match=rf"{NAME}/card\.json must"):
        zoo.entry(NAME)
    assert not (tmp_path / "cache").exists()


def test_a_card_of_any_length_is_not_read(server):
    (server.root / NAME / "card.json").write_bytes(bytes(fetching._MAX_TEXT_BYTES + 1))
    with pytest.raises(ValueError, match="must have at most"):
        zoo.entry(NAME)


def test_an_index_lists_the_entries_of_a_server(server, capsys):
    assert NAME not in zoo.list()
    (server.root / "index.json").write_text(json.dumps([NAME]))
    assert NAME in zoo.list()
    with pytest.raises(ValueError, match=rf"Did you mean \['{NAME}'"):
        zoo.entry("adalabel-noises-12")
    server.requests.clear()
    assert cli.main(["zoo", "list"]) == 0
    assert re.search(rf"{NAME} +mAP@ALL 0\.5000\n", capsys.readouterr().out)
    # Nothing of the package's own entries, nor any file but the card.
    assert {path for path, _ in server.requests} == {
        "/index.json",
        f"/{NAME}/card.json",
    }
    for index in (["../x"], [3], {}, [[]]):
        (server.root / "index.json").write_text(json.dumps(index))
        with pytest.raises(ValueError, match=r"index\.json must"):
            zoo.list()
    (server.root / "index.json").write_text('["no-such-1"]')
    assert cli.main(["zoo", "list"]) == 2
    assert "lists it, but has no such entry" in capsys.readouterr().err


def test_concurrent_calls_fetch_an_entry_once(server, tmp_path):
    server.mode = "cut"
    entries = []
    threads = [
        threading.Thread(target=lambda: entries.append(zoo.entry(NAME)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(entries) == 6
    assert same(entries[0].path, server.root / NAME)
    assert cached(tmp_path) == sorted((*FILES, "card.json"))
    assert len([path for path, r in server.requests if path == WEIGHTS and not r]) == 1


def test_a_full_disk_is_not_asked_of_the_server_again(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, contextlib.suppress(OSError):
        patch.setattr(fetching.os, "replace", full)
        zoo.entry(NAME)
    assert [p for p, _ in server.requests][1:] == [f"/{NAME}/config.json"]
    assert not {"card.json", *FILES} & set(cached(tmp_path))
    assert same(zoo.entry(NAME).path, server.root / NAME)


def test_progress_of_large_files_is_shown_on_a_terminal(server, monkeypatch, capsys):
    monkeypatch.setattr(fetching, "_PROGRESS_BYTES", 1000)
    monkeypatch.setattr(fetching.sys.stderr, "isatty", lambda: True, raising=False)
    zoo.entry(NAME)
    assert capsys.readouterr().err == "\rFetching model.weights.h5: 0 of 0 MiB\n"


# Versions


def make_versions(root, rng):
    """Write version 3 of an entry, versions 1 and 2 beside it, and another entry."""
    make(root, rng, version=3)
    for number in (1, 2):
        folder = make(root, rng, f"{NAME}@{number}")
        edit(folder, name=NAME, version=number)
    edit(root / f"{NAME}@1", version=1)
    make(root, rng, "other-noise-12")
    return root


def test_a_version_is_found_beside_the_newest(tmp_path, rng, monkeypatch):
    root = make_versions(tmp_path / "mine", rng)
    monkeypatch.setenv("KERASHASH_ZOO", str(root))
    assert zoo.versions(NAME) == [1, 2, 3]
    assert zoo.entry(NAME).path == zoo.entry(f"{NAME}@3").path == root / NAME
    for number in (1, 2):
        entry = zoo.entry(f"{NAME}@{number}")
        assert entry.path == root / f"{NAME}@{number}"
        assert (entry.name, entry.card["version"]) == (NAME, number)
        assert zoo.entry(entry.path).card == entry.card
    # A card that says no version is the first.
    assert zoo.versions("other-noise-12") == [1]
    assert zoo.entry("other-noise-12@1").path == root / "other-noise-12"
    assert {NAME, "other-noise-12"} <= {*zoo.list()}
    assert not [name for name in zoo.list() if "@" in name]
    assert NAME in registry.list_cards()[0]
    assert cli.main(["zoo", "info", f"{NAME}@2"]) == 0


def test_a_version_that_no_registry_has_is_an_error(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("KERASHASH_ZOO", str(make_versions(tmp_path / "mine", rng)))
    with pytest.raises(ValueError, match=r"that there is: \[1, 2, 3\]\. .*@4'"):
        zoo.load(f"{NAME}@4")
    for name in (f"{NAME}@0", f"{NAME}@", f"{NAME}@latest", "no-such-12@1"):
        with pytest.raises(ValueError, match="must be an entry of the zoo"):
            zoo.load(name)
    assert zoo.versions("no-such-12") == []
    for name in (f"{NAME}@1@2", ".a@1"):
        with pytest.raises(ValueError, match=f"entry of the zoo.*{name}'"):
            zoo.load(name)


def test_the_first_registry_that_has_a_version_gives_it(tmp_path, rng, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"
    make(first, rng, version=2)
    make(second, rng), make(first, rng, "c-d-2")
    monkeypatch.setenv("KERASHASH_ZOO", os.pathsep.join(map(str, (first, second))))
    assert zoo.versions(NAME) == [1, 2]
    assert zoo.entry(NAME).path == zoo.entry(f"{NAME}@2").path == first / NAME
    assert zoo.entry(f"{NAME}@1").path == second / NAME


def test_the_folder_of_a_version_holds_that_version(tmp_path, rng, monkeypatch):
    root = make_versions(tmp_path / "mine", rng)
    monkeypatch.setenv("KERASHASH_ZOO", str(root))
    edit(root / f"{NAME}@1", version=2)
    with pytest.raises(ValueError, match=r"have a `version` that is that of its fold"):
        zoo.entry(f"{NAME}@1")
    with pytest.raises(ValueError, match=r"its folder's name.*12', version 2"):
        zoo.entry(root / f"{NAME}@1")
    edit(root / f"{NAME}@2", name="other-noise-12")
    with pytest.raises(ValueError, match=r"have a `name` that is that of its folder"):
        zoo.entry(f"{NAME}@2")


def test_a_server_has_versions_too(server, tmp_path, rng):
    shutil.rmtree(server.root)
    make_versions(server.root, rng)
    entry = zoo.entry(f"{NAME}@2")
    assert (entry.name, entry.card["version"]) == (NAME, 2)
    assert same(entry.path, server.root / f"{NAME}@2")
    assert same(zoo.entry(f"{NAME}@3").path, server.root / NAME)
    index = [NAME, f"{NAME}@1", f"{NAME}@2", "other-noise-12"]
    (server.root / "index.json").write_text(json.dumps(index))
    assert zoo.versions(NAME) == [1, 2, 3]
    assert not [name for name in zoo.list() if "@" in name]
    copies = tmp_path / "copies"
    assert zoo.export(f"{NAME}@2", copies).path == copies / f"{NAME}@2"
    assert zoo.export(NAME, copies).path == copies / NAME
    server.stop()
    assert zoo.entry(f"{NAME}@2").path == entry.path
    with pytest.raises(ConnectionError):
        zoo.entry(f"{NAME}@1")


def test_strictly_the_cache_does_not_take_the_place_of_the_server(server):
    path = zoo.entry(NAME, strict=True).path
    server.stop()
    assert zoo.entry(NAME).path == path
    with pytest.raises(ConnectionError):
        zoo.entry(NAME, strict=True)
    with pytest.raises(ConnectionError):
        zoo.load(NAME, strict=True)


def test_the_version_last_fetched_is_used_offline(server):
    """A registry may go back to an earlier card."""
    path = server.root / NAME / "card.json"
    first = path.read_bytes()
    zoo.entry(NAME)
    edit(server.root / NAME, note="a mistake")
    assert zoo.entry(NAME).card["note"] == "a mistake"
    time.sleep(0.02)  # the times of files tell them apart
    path.write_bytes(first)
    zoo.entry(NAME)
    server.stop()
    assert "note" not in zoo.entry(NAME).card


def test_a_cache_that_cannot_be_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERASHASH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="`KERASHASH_CACHE` must lie in a folder"):
        zoo.entry(NAME)


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks")
def test_two_processes_do_not_write_to_one_folder(tmp_path, monkeypatch):
    now = time.monotonic()
    with (
        fetching._locked(tmp_path, now),
        pytest.raises(ConnectionError, match="written to by another process"),
        fetching._locked(tmp_path, now),
    ):
        pass

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    # A file system without locks.
    monkeypatch.setattr(files.fcntl, "flock", flock)
    with fetching._locked(tmp_path, now), open(tmp_path / ".lock") as other:
        assert not files.lock(other.fileno(), now)


def test_nothing_is_written_through_a_link_in_the_cache(server, tmp_path):
    """Whoever can write to a cache must not reach other files by it."""
    folder = zoo.entry(NAME).path
    digest = json.loads((folder / "card.json").read_text())["files"][
        "model.weights.h5"
    ]["sha256"]
    names = ("card.json", f"model.weights.h5.{digest[:8]}.part", ".lock")
    (folder / "model.weights.h5").unlink()
    for name in names:
        thesis = tmp_path / f"{name}.txt"
        thesis.write_bytes(b"my thesis")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(thesis)
    assert same(zoo.entry(NAME).path, server.root / NAME)
    for name in names:
        assert (tmp_path / f"{name}.txt").read_bytes() == b"my thesis"
        assert not (folder / name).is_symlink()


@pytest.mark.parametrize("user", ["u:p", "u", ""])
def test_a_url_with_a_password_is_refused_and_not_shown(user, monkeypatch):
    monkeypatch.setenv("KERASHASH_ZOO", f"https://{user}@example.org:8080/zoo")
    with pytest.raises(ValueError, match=r"`KERASHASH_ZOO` .*user or a pass") as caught:
        zoo.list()
    assert "'https://***@example.org:8080/zoo'" in str(caught.value)


def test_versions_are_those_of_a_name():
    for name in (None, 5, b"adalabel-cifar10-48"):
        with pytest.raises(TypeError, match="`name` must be a str"):
            zoo.versions(name)
    with pytest.raises(ValueError, match="without that of a version"):
        zoo.versions("adalabel-cifar10-48@2")
    for name in ("hf://me/x", "../x", "a/b@1", "", ".a", "\ud800"):
        with pytest.raises(ValueError, match="neither a path nor an address") as caught:
            zoo.versions(name)
        assert repr(name) in str(caught.value)


def test_a_cache_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("KERASHASH_CACHE", "~nobodyx/c")
    with pytest.raises(ValueError, match=r"`KERASHASH_CACHE` must be .*nobodyx"):
        installed.cache()
