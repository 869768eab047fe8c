"""Servers that are slow, silent or broken, and values that are no registry."""

import json
import socket
import threading
import time

import pytest
from test_registry import NAME, _settings, make, server  # noqa: F401

from kerashash import cli, zoo
from kerashash.zoo import fetching, registry


@pytest.fixture
def raw(monkeypatch):
    """A server that sends what a test says, in pieces with pauses; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    answer, stopped = {"pieces": [], "pause": 0.0, "asked": 0}, threading.Event()

    def serve(connection):
        with connection:
            try:
                connection.recv(10_000)
                for piece in answer["pieces"]:
                    connection.sendall(piece)
                    if stopped.wait(answer["pause"]):
                        return
                if not answer["pieces"]:
                    stopped.wait(60)
            except OSError:
                pass

    threads = []

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            answer["asked"] += 1
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    answer["url"] = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("KERASHASH_ZOO", answer["url"])
    yield answer
    stopped.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for thread in (acceptor, *threads):
        thread.join()


OK = b"HTTP/1.0 200 OK\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [OK[i : i + 1] for i in range(len(OK))] * 100,
        [OK + b"Content-Length: 4000\r\n\r\n"] + [b" "] * 4000,
        [OK + b"\r\n"] + [b" "] * 4000,
    ],
    ids=["silent", "slow headers", "slow", "slow and endless"],
)
def test_a_slow_server_does_not_hold_its_caller(raw, monkeypatch, pieces, tmp_path):
    monkeypatch.setattr(fetching, "_TOTAL_TIMEOUT", 0.6)
    raw.update(pieces=pieces, pause=0.02)
    for call in (
        lambda: zoo.entry(NAME),
        lambda: fetching.fetch_file(raw["url"], tmp_path / "x", "0" * 64, 4000),
    ):
        started = time.monotonic()
        with pytest.raises(ConnectionError, match=raw["url"]):
            call()
        assert time.monotonic() - started < 5


def test_nobody_waits_for_ever_for_another_process(server, monkeypatch):  # noqa: F811
    folder = zoo.entry(NAME).path
    (folder / "codes.npz").unlink()
    monkeypatch.setattr(fetching, "_TOTAL_TIMEOUT", 0.2)
    started = time.monotonic()
    with (
        fetching._locked(folder, started + 9),
        pytest.raises(ConnectionError, match=r"another process.*in time"),
    ):
        zoo.entry(NAME)
    assert time.monotonic() - started < 5
    assert zoo.entry(NAME).path == folder


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        (b"200 OK\r\nContent-Length: abc", ValueError, "Received: abc bytes"),
        (b"200 OK\r\nContent-Length: -1", ValueError, "Received: -1 bytes"),
        (b"302 Found\r\nLocation: http://[::1", ConnectionError, "cannot be fetched"),
        (b"302 Found\r\nLocation: http://h:x/", ConnectionError, "cannot be fetched"),
        (b"302 Found\r\nLocation: file:///etc/x", ConnectionError, "cannot be fetched"),
        (b"302 Found\r\nLocation: http://" + b"h" * 300, ConnectionError, "be fetched"),
        (b"abc", ConnectionError, "cannot be fetched"),
        (b"200 OK\r\nTransfer-Encoding: chunked", ConnectionError, "cannot be fetched"),
    ],
)
def test_broken_answers_are_named(raw, tmp_path, head, error, message):
    raw["pieces"] = [b"HTTP/1.1 " + head + b"\r\n\r\nabcd"]
    with pytest.raises(error, match=message) as caught:
        fetching.fetch_file(raw["url"], tmp_path / "x", "0" * 64, 9)
    assert raw["url"] in str(caught.value)
    assert error is ValueError or raw["asked"] <= fetching._MAX_FAILURES


@pytest.mark.parametrize(
    "value",
    [
        "~nobody-of-that-name",
        "http://[::1",
        "http://h:99999",
        "http://",
        "http://ä/z",
        "x" * 5000,
    ],
)
def test_values_that_are_no_registry_are_named(monkeypatch, value):
    monkeypatch.setenv("KERASHASH_ZOO", value)
    for call in (zoo.list, lambda: zoo.entry(NAME)):
        with pytest.raises(ValueError, match="`KERASHASH_ZOO` must hold"):
            call()


@pytest.mark.parametrize("page", ["<html>Password, please</html>", "{}", "null"])
def test_a_page_in_place_of_a_card_or_index_is_no_entry(server, page):  # noqa: F811
    path = zoo.entry(NAME).path
    card = (server.root / NAME / "card.json").read_bytes()
    (server.root / NAME / "card.json").write_text(page)
    (server.root / "index.json").write_text(page)
    assert zoo.entry(NAME).path == path
    assert registry.card(NAME) == json.loads(card)
    assert NAME in zoo.list()
    (path / "codes.npz").unlink()  # the cache has no whole entry any more
    with pytest.raises(ValueError, match=r"card\.json must"):
        zoo.entry(NAME)


@pytest.mark.parametrize("code", [403, 503])
def test_a_server_that_refuses_is_stood_in_for_by_the_cache(server, code):  # noqa: F811
    path = zoo.entry(NAME).path
    server.failures = [code]
    assert zoo.entry(NAME).path == path


def test_a_card_of_another_name_is_not_fetched(server, rng, tmp_path):  # noqa: F811
    for name in ("../../outside", "/tmp/outside", "adalabel-other-12"):
        card = json.loads((server.root / NAME / "card.json").read_text())
        (server.root / NAME / "card.json").write_text(
            json.dumps({**card, "name": name})
        )
        with pytest.raises(ValueError, match=r"card\.json must have a `name`"):
            zoo.export(NAME, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert not (tmp_path / "cache").exists()


def test_a_server_is_asked_only_for_what_it_lists(server, rng, capsys):  # noqa: F811
    make(server.root, rng, "adalabel-noise-24")
    (server.root / "index.json").write_text(json.dumps([NAME]))
    server.requests.clear()
    assert cli.main(["zoo", "list"]) == 0
    asked = [path for path, _ in server.requests]
    assert {*asked} == {"/index.json", f"/{NAME}/card.json"}
    assert asked.count(f"/{NAME}/card.json") == 1
    out = capsys.readouterr().out
    assert NAME in out
    assert "adalabel-cifar10-48" in out
