"""The search page and its HTTP API, on a real server on the loopback interface."""

import base64
import concurrent.futures
import contextlib
import http.client
import importlib.util
import io
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib

import browser
import keras
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import CodeStore, cli
from kerashash.page import Limits
from kerashash.page.batching import Batcher
from kerashash.page.limits import Gate, Refused

HAS_SERVER = all(
    importlib.util.find_spec(name)
    for name in ("fastapi", "uvicorn", "python_multipart")
)
needs_server = pytest.mark.skipif(
    not HAS_SERVER, reason='pip install "kerashash[serve]" has not been run'
)
BITS, SIDE, COUNT = 20, 16, 12
#: A file outside of the folder that is served.
SECRET = b"top secret"


def photograph(seed, size=(40, 30)):
    """A JPEG file of a few random areas."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    net = keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten(), keras.layers.Dense(8)]
    )
    return kerashash.AdaLabelHash(net, bits=BITS, num_classes=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs in a folder, and what is not to be served beside it."""
    place = tmp_path_factory.mktemp("serve")
    folder = place / "photos"
    (folder / "sub dir").mkdir(parents=True)
    for number in range(COUNT):
        name = f"{number}.jpg" if number else "sub dir/ü & 100%.jpg"
        (folder / name).write_bytes(photograph(number))
    (place / "secret.txt").write_bytes(SECRET)
    (place / "secret.jpg").write_bytes(photograph(77))
    (place / "photos-more").mkdir()
    (place / "photos-more" / "secret.jpg").write_bytes(photograph(78))
    return folder


@pytest.fixture(scope="module")
def store(model, folder):
    store = CodeStore.create(folder.parent / "photos.khs", model=model)
    paths = sorted(folder.rglob("*.jpg"))
    keys = [path.relative_to(folder).as_posix() for path in paths]
    columns = {
        "number": np.arange(COUNT),
        "weight": np.where(np.arange(COUNT) == 3, np.nan, 0.5),
        "label": np.eye(COUNT, 3, dtype=np.float32),
        "raw": [b"\xff\x00"] * COUNT,
    }
    store.add(paths, ids=keys, columns=columns)
    return store


@contextlib.contextmanager
def served(store, images=None, **options):
    """A running server, as the port it listens on."""
    from kerashash.page import server

    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        running = server.make_server(store, taken, images, **options)
        thread = threading.Thread(target=running.run, args=([taken],))
        thread.start()
        while not running.started:
            time.sleep(0.01)
        try:
            yield port
        finally:
            running.should_exit = True
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def port(store, folder):
    with served(store, folder, limits=Limits(upload=200_000, pixels=1_000_000)) as port:
        yield port


def ask(port, method, path, body=None, **headers):
    """The status, the body (of JSON, its value) and the headers of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        chunked = "Transfer-Encoding" in names
        connection.request(method, path, body, names, encode_chunked=chunked)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    if response.headers.get_content_type() == "application/json":
        content = json.loads(content)
    return response.status, content, response.headers


def post(port, body, query="", kind="application/octet-stream"):
    if isinstance(body, dict):
        body, kind = json.dumps(body), "application/json"
    return ask(port, "POST", f"/v1/search{query}", body, Content_Type=kind)[:2]


def multipart(**fields):
    """A body of multipart/form-data, and its type; bytes are files."""
    parts = []
    for name, value in fields.items():
        file = '; filename="a.jpg"' if isinstance(value, bytes) else ""
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        value = value if isinstance(value, bytes) else str(value).encode()
        parts.append(head.encode() + value + b"\r\n")
    return b"".join(parts) + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def expected(store, model, data, tmp_path, k=10, radius=BITS):
    """The keys and distances of the neighbours of a photograph, and its code."""
    (tmp_path / "query.jpg").write_bytes(data)
    code = model.encode([tmp_path / "query.jpg"], verbose=0)
    rows = store.search(code, k).rows(0)
    pairs = [(row["id"], row["distance"]) for row in rows]
    return [pair for pair in pairs if pair[1] <= radius], code


@needs_server
def test_search_is_that_of_the_store(port, store, model, tmp_path):
    for seed, k, share in ((3, 10, 1.0), (50, 5, 1.0), (51, 100, 0.5), (52, 100, 0.0)):
        data = photograph(seed)
        distances = [pair[1] for pair in expected(store, model, data, tmp_path, 100)[0]]
        assert distances[0] < distances[-1]
        radius = int(distances[0] + share * (distances[-1] - distances[0]))
        pairs, code = expected(store, model, data, tmp_path, k, radius)
        assert (len(pairs) < min(k, COUNT)) == (share < 1)
        options = {"k": k, "radius": radius}
        body, kind = multipart(image=data, **options)
        status, answer = post(port, body, kind=kind)
        assert status == 200
        found = [(row["id"], row["distance"]) for row in answer["neighbours"]]
        assert found == pairs
        assert answer["code"]["hex"] == code.tobytes().hex()
        bits = kerashash.codes.unpack(code, BITS)[0]
        assert answer["code"]["bits"] == "".join("1" if b > 0 else "0" for b in bits)
        assert {*answer["milliseconds"]} == {"decode", "encode", "search", "total"}
        for other in (
            post(port, data, f"?k={k}&radius={radius}"),
            post(port, data, f"?k={k}&radius={radius}", kind="image/jpeg"),
            post(port, data, f"?k={k}&radius={radius}", kind="Image/JPEG"),
            post(port, {"image": base64.b64encode(data).decode(), **options}),
            post(port, {"code": answer["code"]["hex"], **options}),
        ):
            assert other[0] == 200
            assert other[1]["neighbours"] == answer["neighbours"]
    status, answer, _ = ask(port, "POST", "/v1/encode", data)
    assert (status, answer["code"]["hex"]) == (200, code.tobytes().hex())
    assert "neighbours" not in answer


@needs_server
def test_a_row_finds_its_neighbours_and_metadata(port, store):
    key = "sub dir/ü & 100%.jpg"
    status, answer = post(port, {"id": key, "k": 3})
    assert status == 200
    assert {"id": key, "distance": 0} in [
        {"id": row["id"], "distance": row["distance"]} for row in answer["neighbours"]
    ]
    code = np.frombuffer(bytes.fromhex(answer["code"]["hex"]), np.uint8)[None]
    assert store.search(code, 3).ids[0].tolist() == [
        row["id"] for row in answer["neighbours"]
    ]
    key = store.columns()["id"][3]
    _, answer = post(port, {"id": key, "k": COUNT})
    columns = {row["id"]: row["columns"] for row in answer["neighbours"]}
    expected = {"number": 3, "weight": None, "label": [0, 0, 0], "raw": "/wA="}
    assert columns[key] == expected


@needs_server
def test_what_is_wrong_is_said(port):
    data = photograph(1)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    header = b"IHDR" + struct.pack(">IIBBBBB", 9000, 20000, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    wide = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + checksum
    wide += b"\0\0\0\x63IDAT" + bytes(103)
    form = multipart(image=data)[0]
    assert post(port, form, "", f"{FORM[1]}; charset=UTF-8")[0] == 200
    cases = [
        (415, "no image file", post(port, b"words, not pixels")),
        (415, "no image file", post(port, eps)),
        (415, "cannot be read", post(port, data[:-99])),
        (
            415,
            "No photograph is read from 'text/html'",
            post(port, b"a", "", "text/html"),
        ),
        (413, "at most 1 million pixels", post(port, wide)),
        (400, "`image` must be an image file. It is empty", post(port, b"")),
        (400, "must be JSON", post(port, b"{", "", "application/json")),
        (400, "must be JSON", post(port, b"[" * 9999, "", "application/json")),
        (400, "an object in JSON", post(port, b"[1]", "", "application/json")),
        (400, "in base64", post(port, {"image": "%%"})),
        (400, "in base64", post(port, {"image": 5})),
        (400, "`code` must be 20 bits", post(port, {"code": "00"})),
        (400, "`code` must be 20 bits", post(port, {"code": "ffffff"})),
        (400, "`code` must be 20 bits", post(port, {"code": None})),
        (404, "no row with the key 'none.jpg'", post(port, {"id": "none.jpg"})),
        (404, "no row with the key", post(port, {"id": {"$ne": 1}})),
        (404, "no row with the key", post(port, {"id": "' OR 1=1 --"})),
        (400, "one of `image`, `code` and `id`", post(port, {})),
        (
            400,
            "one of `image`, `code` and `id`",
            post(port, {"id": "1.jpg", "code": ""}),
        ),
        (400, "may have `k`, `radius`", post(port, data, "?image=1")),
        (400, "`k` must be at least 1", post(port, data, "?k=0")),
        (400, "`k` must be at most 1000", post(port, data, "?k=1001")),
        (400, "`k` must be an integer", post(port, data, "?k=many")),
        (400, "`k` must be an integer", post(port, {"id": "1.jpg", "k": True})),
        (400, "`radius` must be at most 20", post(port, data, "?radius=21")),
        (400, "`radius` must be at least 0", post(port, data, "?radius=-1")),
        (400, "`k` must be at most 1000", post(port, data, f"?k={'9' * 30}")),
        (403, "`where` is not allowed", post(port, data, "?where=number%3D1")),
        (400, "`image` must be a file", post(port, *_form(image="text"))),
        (400, "`k` must be text, not a file", post(port, *_form(image=data, k=b"5"))),
        (400, "`id` must be text, not a file", post(port, *_form(id=b"1.jpg"))),
        (400, "It is empty, or cut off", post(port, _form(image=data)[0][:-20], *FORM)),
        (400, "", post(port, b"--edge", "", "multipart/form-data; boundary=edge")),
        # Codecs that fail, or take minutes.
        (400, "in UTF-8", post(port, form, "", f"{FORM[1]}; charset=undefined")),
        (400, "in UTF-8", post(port, form, "", f'{FORM[1]}; charset="PUNYCODE"')),
        (400, "", post(port, b"", "", "multipart/form-data")),
        (400, "/v1/encode takes no `k`", ask(port, "POST", "/v1/encode?k=1", data)),
        (404, "Not Found", ask(port, "GET", "/v1/none")),
        (405, "Method Not Allowed", ask(port, "GET", "/v1/search")),
        (404, "no such photograph", ask(port, "GET", "/v1/photograph")),
        (400, "`side` must be", ask(port, "GET", "/v1/photograph?id=1.jpg&side=9999")),
        (400, "`radius` must be", ask(port, "GET", "/v1/duplicates?radius=x")),
        (
            400,
            "`radius` must be at least 0",
            ask(port, "GET", "/v1/duplicates?radius=-3"),
        ),
    ]
    for number, (status, message, answer) in enumerate(cases):
        assert (answer[0], [*answer[1]]) == (status, ["error"]), number
        assert message in answer[1]["error"], number
    assert ask(port, "GET", "/health")[:2] == (200, {"status": "ok"})


@needs_server
def test_nothing_is_given_twice(port):
    """Of two, one would be searched in silence."""
    data = photograph(1)
    form = multipart(image=data, k=2)[0]
    two = form.replace(b"--edge--\r\n", multipart(image=photograph(2))[0])
    again = form.replace(b"--edge--\r\n", multipart(k=3)[0])
    cases = [
        ("image", post(port, two, *FORM)),
        ("k", post(port, again, *FORM)),
        ("k", post(port, form, "?k=1", FORM[1])),
        ("k", post(port, data, "?k=1&k=2")),
        ("k", post(port, {"id": "1.jpg", "k": 2}, "?k=1")),
        ("id", post(port, b'{"id": "1.jpg", "id": "2.jpg"}', "", "application/json")),
        ("radius", ask(port, "GET", "/v1/duplicates?radius=0&radius=1")),
        ("id", ask(port, "GET", "/v1/photograph?id=1.jpg&id=2.jpg")),
    ]
    for name, answer in cases:
        assert answer[:2] == (400, {"error": f"`{name}` must be given once."})


@needs_server
def test_a_form_may_have_text_before_and_after_it(port):
    form = multipart(image=photograph(1), k=2)[0]
    status, answer = post(port, form, *FORM)
    assert status == 200
    for whole in (
        b"This is a message of several parts.\r\n" + form,
        form + b"the end\r\n--edge\r\nno more",
        b"before --edge\r\n" + form + b"after",
        form.removesuffix(b"\r\n"),
    ):
        status, found = post(port, whole, *FORM)
        assert (status, found.get("neighbours")) == (200, answer["neighbours"])
    for cut in (form[1:], form[:-4], b"--edge--\r\n", b"x"):
        assert post(port, cut, *FORM)[0] == 400


#: The query and media type of `_form`.
FORM = ("", "multipart/form-data; boundary=edge")


def _form(**fields):
    body, kind = multipart(**fields)
    return body, "", kind


@needs_server
def test_conditions_are_sql_that_only_reads(store):
    code = store.codes()[0].tobytes().hex()
    with served(store, allow_where=True) as port:
        status, answer = post(port, {"code": code, "where": "number < 2"})
        assert (status, len(answer["neighbours"])) == (200, 2)
        long = "number < 2 OR " * 800 + "number < 2"
        for where in (5, [1], {}, True, "1) OR (1", "no_such = 1", "\ud800", long):
            status, answer = post(port, {"code": code, "where": where})
            assert status == 400, where
            assert "`where` must" in answer["error"]


@needs_server
def test_a_slow_condition_is_ended_and_stops_no_one_else(model, tmp_path):
    store = CodeStore.create(tmp_path / "many.khs", model=model)
    store.add(np.zeros((2000, 3), np.uint8))
    slow = " OR ".join(["hex(randomblob(9900)) IS NULL"] * 100)  # many seconds
    queries = [{"code": "000000", "where": slow}] * (2 * (os.cpu_count() or 1))
    with (
        served(store, limits=Limits(seconds=1.0), allow_where=True) as port,
        concurrent.futures.ThreadPoolExecutor(len(queries)) as pool,
    ):
        late = [pool.submit(post, port, query) for query in queries]
        while not all(future.done() for future in late):
            assert post(port, {"code": "000000"})[0] == 200
            assert ask(port, "GET", "/health")[0] == 200
            assert ask(port, "GET", "/v1/info")[0] == 200
        for future in late:
            assert future.result()[0] == 504
        # They have been interrupted, and leave their threads to others.
        query = {"code": "000000", "where": "id = 3", "k": 1}
        assert post(port, query)[1]["neighbours"][0]["id"] == 3


@needs_server
def test_no_client_waits_for_a_ranker(model, folder, store, monkeypatch):
    store = CodeStore.open(store.path, model=model)
    with served(store) as port:
        monkeypatch.setattr(kerashash.HammingRanker, "__init__", None)
        assert post(port, {"code": "000000"})[0] == 200


@needs_server
@pytest.mark.parametrize("path", ["/", "/page.css", "/v1/info", "/v1/none"])
def test_head_is_answered_as_get_without_a_body(port, path):
    heads, bodies = [], []
    for method in (b"HEAD", b"GET"):
        answer = raw(port, path.encode(), method=method)
        head, _, body = answer.partition(b"\r\n\r\n")
        heads.append([line for line in head.splitlines() if b"date:" not in line])
        bodies.append(body)
    assert heads[0] == heads[1]
    assert bodies[0] == b"" != bodies[1]


@needs_server
def test_requests_that_are_too_large_are_refused(port):
    large = bytes(200_001)
    chunked = iter([large[:100_000], large[:100_000], b"1"])
    for answer in (
        ask(port, "POST", "/v1/search", large),
        ask(port, "POST", "/v1/search", chunked, Transfer_Encoding="chunked"),
        post(port, *_form(image=large)),
        ask(port, "GET", "/health", large),
    ):
        assert answer[0] == 413
        assert "at most 0.2 million bytes" in answer[1]["error"]
    # Answered before the body has been sent.
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999"
            b"\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def raw(port, target, headers=b"Host: localhost", method=b"GET"):
    """The response to a request line that no client would send, as bytes."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(
            method
            + b" "
            + target
            + b" HTTP/1.1\r\n"
            + headers
            + b"\r\nConnection: close\r\n\r\n"
        )
        return b"".join(iter(lambda: connection.recv(65536), b""))


@needs_server
def test_no_file_is_served_but_photographs(port, folder):
    """Paths that try to leave the folder, byte for byte."""
    outside = str(folder.parent / "secret.jpg").encode()
    inside = str(folder / "1.jpg").encode()
    up = [
        b"../secret.txt",
        b"../secret.jpg",
        b"..%2fsecret.jpg",
        b"..%2Fsecret.txt",
        b"%2e%2e/secret.jpg",
        b"%2e%2e%2fsecret.jpg",
        b"..%252fsecret.jpg",
        b"%252e%252e%252fsecret.jpg",
        b"..%5csecret.jpg",
        b"..\\secret.jpg",
        b"..%c0%afsecret.jpg",
        b"....//secret.jpg",
        b"./../secret.jpg",
        b"sub%20dir/../../secret.jpg",
        b"1.jpg/../../secret.jpg",
        b"1.jpg%00.txt",
        b"%00",
        b"../photos-more/secret.jpg",
        b"/etc/passwd",
        b"//etc/passwd",
        b"file:///etc/passwd",
        b"%ff%fe",
        b".",
        b"",
        b"*",
        outside,
        inside,  # not a key: keys are relative here
        b"..%2f" * 12 + b"etc%2fpasswd",
    ]
    photographs = [photograph(77), photograph(78), SECRET, b"root:"]
    for path in up:
        answers = {raw(port, b"/v1/photograph?id=" + path)}
        for base in (b"/", b"/v1/", b"/v1/photograph/", b"/page.css/../", b"/files/"):
            answers.add(raw(port, base + path.lstrip(b"/")))
        for answer in answers - {raw(port, b"/")}:
            status = answer.split(b" ")[1] if answer else b""
            home = status == b"200" and b"<title>Search photographs" in answer
            assert home or status in (b"400", b"403", b"404"), (path, answer)
            assert not any(content in answer for content in photographs)
            assert b"Traceback" not in answer


@needs_server
def test_keys_that_lead_elsewhere_are_refused(folder, model, tmp_path):
    place = tmp_path / "photos"
    place.mkdir()
    (place / "real.jpg").write_bytes(photograph(1))
    (place / "inner.jpg").symlink_to("real.jpg")
    (place / "link.jpg").symlink_to(folder.parent / "secret.jpg")
    (place / "linked").symlink_to(folder.parent)
    (place / "loop.jpg").symlink_to("loop.jpg")
    (place / "words.jpg").write_bytes(SECRET)
    (place / "sub.jpg").mkdir()
    os.mkfifo(place / "pipe.jpg")
    shown = ["real.jpg", "inner.jpg", str(place / "real.jpg"), "./sub.jpg/../real.jpg"]
    refused = [
        "link.jpg",
        "linked/secret.jpg",
        "linked/photos/1.jpg",
        "loop.jpg",
        "sub.jpg",
        "pipe.jpg",
        "gone.jpg",
        "../photos/../secret.jpg",
        f"../../{folder.parent.name}/secret.jpg",
        str(folder.parent / "secret.jpg"),
        str(folder / "1.jpg"),
        "/dev/zero",
        "/etc/passwd",
        "a\0b",
        "x" * 5000,
        ".",
    ]
    keys = [*shown, *refused, "words.jpg"]
    store = CodeStore.create(tmp_path / "hostile.khs", model=model)
    store.add(np.zeros((len(keys), 3), np.uint8), ids=keys)
    with served(store, place) as port:
        for key, status in (
            *((key, 200) for key in shown),
            *((key, 404) for key in refused),
            ("words.jpg", 415),
        ):
            query = urllib.parse.urlencode({"id": key})
            answer = ask(port, "GET", f"/v1/photograph?{query}")
            assert answer[0] == status, key
            assert SECRET not in bytes(str(answer[1]), "utf-8"), key
        # SQL, by which codes are found, ends there.
        status, answer = post(port, {"id": "a\0b"})
        assert (status, [*answer]) == (400, ["error"])


@needs_server
def test_one_photograph_in_the_folder_is_enough(folder, model, tmp_path):
    """Whatever its code is: 200 others are nearer to black, which is asked first."""
    from kerashash.page.app import create_app

    store = CodeStore.create(tmp_path / "many.khs", model=model)
    black = model.encode(np.zeros((1, SIDE, SIDE, 3), np.uint8), verbose=0)
    codes = np.repeat(black, 201, axis=0)
    codes[200] ^= np.array([255, 255, 240], np.uint8)
    store.add(codes, ids=[f"gone{number}.jpg" for number in range(200)] + ["1.jpg"])
    create_app(store, folder)
    store.delete("id = '1.jpg'")
    with pytest.raises(ValueError, match=r"`images` must be.*like 'gone0\.jpg'"):
        create_app(store, folder)


@needs_server
def test_a_refusal_at_the_start_leaves_nothing_behind(
    folder, model, store, tmp_path, monkeypatch
):
    from kerashash.page import app
    from kerashash.page.app import create_app

    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "batches"]

    before = threads()
    read = CodeStore.columns
    asked = []

    def columns(self, where=None, names=None):
        asked.append(names)
        return read(self, where, names)

    def load(*_):
        raise AssertionError("the model was loaded in vain")

    monkeypatch.setattr(CodeStore, "columns", columns)
    with monkeypatch.context() as patch:
        patch.setattr(app, "Searcher", load)
        with pytest.raises(NotADirectoryError, match="`images` must be a folder"):
            create_app(store, tmp_path / "no_such")
        with pytest.raises(ValueError, match="`images` must be the folder of the"):
            create_app(store, tmp_path)
    assert asked == [["id"]]
    monkeypatch.setattr(app.Searcher, "warm_up", load)
    with pytest.raises(AssertionError, match="in vain"):
        create_app(store, folder)
    assert threads() == before


@needs_server
def test_photographs_are_small_upright_and_bare(port, folder, model, tmp_path):
    image = Image.effect_noise((300, 200), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "written by the camera"
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "deep.png")
    Image.new("RGBA", (50, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    gray = Image.fromarray(np.full((40, 50), 128 << 8, np.uint16))
    gray.save(tmp_path / "gray.png")
    names = ["turned.jpg", "deep.png", "clear.png", "gray.png"]
    store = CodeStore.create(tmp_path / "some.khs", model=model)
    store.add(np.zeros((4, 3), np.uint8), ids=names)
    pictures = {}
    with served(store, tmp_path) as port:
        for name in names:
            path = f"/v1/photograph?id={name}&side=100"
            status, data, headers = ask(port, "GET", path)
            assert (status, headers["Content-Type"]) == (200, "image/jpeg"), name
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert b"camera" not in data
            assert ask(port, "GET", path)[1] == data
            pictures[name] = Image.open(io.BytesIO(data))
        image.rotate(90).save(tmp_path / "turned.jpg")  # not what is remembered
        assert ask(port, "GET", "/v1/photograph?id=turned.jpg&side=100")[1] != data
    assert pictures["turned.jpg"].size == (67, 100)
    assert pictures["deep.png"].size == (100, 67)
    assert pictures["clear.png"].getpixel((20, 20)) == (255, 255, 255)
    assert abs(pictures["gray.png"].getpixel((20, 20))[0] - 128) < 3


@needs_server
def test_other_names_of_the_server_are_refused(port, store):
    for host in (b"localhost", b"LOCALHOST.:1", b"127.0.0.1:8000", b"[::1]:80"):
        assert raw(port, b"/health", b"Host: " + host).startswith(b"HTTP/1.1 200 ")
    for host in (b"evil.example", b"localhost.evil.example", b"127.0.0.1.nip.io", b""):
        assert raw(port, b"/v1/info", b"Host: " + host).startswith(b"HTTP/1.1 403 ")
    with served(store, hosts=("photos.example",)) as port:
        answer = raw(port, b"/", b"Host: photos.example")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"content-security-policy: default-src 'self'" in answer
        assert ask(port, "GET", "/v1/photograph?id=1.jpg")[0] == 404  # no folder


@needs_server
def test_a_store_that_changes_is_noticed(model, folder, tmp_path):
    store = CodeStore.create(tmp_path / "new.khs", model=model)
    with served(store, folder, allow_where=True) as port:
        assert post(port, photograph(1))[1]["neighbours"] == []
        assert ask(port, "GET", "/v1/duplicates")[1] == {"groups": [], "count": 0}
        before = ask(port, "GET", "/v1/info")[1]
        other = CodeStore.open(tmp_path / "new.khs", model=model)  # as another process
        other.add([folder / "1.jpg", folder / "2.jpg"], ids=["1.jpg", "2.jpg"])
        assert post(port, photograph(1))[1]["neighbours"][0]["id"] == "1.jpg"
        after = ask(port, "GET", "/v1/info")[1]
        assert (before["count"], after["count"]) == (0, 2)
        assert before["version"] < after["version"]
        assert after["model"] == kerashash.store.identity.model_identity(model)
        other.delete("id = '1.jpg'")
        assert [r["id"] for r in post(port, photograph(1))[1]["neighbours"]] == [
            "2.jpg"
        ]
        status, answer = post(port, {"id": "2.jpg", "where": "id > '5'"})
        assert (status, answer["neighbours"]) == (200, [])
        status, answer = post(port, {"id": "2.jpg", "where": "DROP TABLE rows"})
        assert status == 400
        assert "`where` must be an SQL condition" in answer["error"]


@needs_server
def test_a_damaged_store_is_no_fault_of_a_condition(model, tmp_path, capfd):
    store = CodeStore.create(tmp_path / "damaged.khs", model=model)
    store.add(np.zeros((2, 3), np.uint8), ids=["1.jpg", "2.jpg"])
    with served(store, allow_where=True) as port:
        os.truncate(tmp_path / "damaged.khs" / "codes-0.bin", 1)
        query = {"code": "000000", "where": "id = '1.jpg'"}
        assert post(port, query) == (500, {"error": "The server has failed."})
    assert "is too short for its 2 codes" in capfd.readouterr().err


class Held:
    """A model whose `encode` waits until it is let go, and notes its batches."""

    def __init__(self, model):
        self.backbone, self.bits, self.model = model.backbone, model.bits, model
        self.image_fit = model.image_fit
        self.batches, self.free = [], threading.Event()
        self.free.set()

    def encode(self, x, **options):
        self.batches.append(len(x))
        assert self.free.wait(60)
        return self.model.encode(x, **options)


@pytest.fixture
def held(model, store):
    held = Held(model)
    store = CodeStore.open(store.path, model=model)
    store._model = held
    return held, store


def wait(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it does not happen")


@needs_server
def test_waiting_requests_are_encoded_together(held, port):
    model, store = held
    data = [photograph(seed) for seed in range(30, 42)]
    alone = [post(port, one)[1] for one in data]
    with (
        served(store, limits=Limits(batch=8)) as port,
        concurrent.futures.ThreadPoolExecutor(len(data)) as pool,
    ):
        del model.batches[:]
        model.free.clear()
        first = pool.submit(post, port, data[0])
        wait(lambda: model.batches)
        rest = [pool.submit(post, port, one) for one in data[1:]]
        time.sleep(0.5)  # all of them wait
        model.free.set()
        answers = [future.result()[1] for future in (first, *rest)]
    assert model.batches == [1, 8, 3]
    for one, together in zip(alone, answers, strict=True):
        assert together["code"] == one["code"]
        assert together["neighbours"] == one["neighbours"]


@needs_server
def test_a_full_queue_and_a_slow_answer_are_said(held):
    model, store = held
    limits = Limits(queue=2, seconds=1.0)
    with (
        served(store, limits=limits) as port,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        model.free.clear()
        late = [pool.submit(post, port, photograph(seed)) for seed in (1, 2)]
        wait(lambda: len(model.batches) > 3)  # three are of the warm-up
        time.sleep(0.2)
        status, answer, headers = ask(port, "POST", "/v1/search", photograph(3))
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "busy" in answer["error"]
        assert ask(port, "GET", "/health")[0] == 200
        for future in late:
            assert future.result() == (
                504,
                {"error": "This took more than 1 seconds."},
            )
        model.free.set()
        assert post(port, photograph(4))[0] == 200


@contextlib.contextmanager
def uploading(port, content):
    """A search of which more has still to be sent."""
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 1000\r\n\r\n" + content
        )
        yield connection


@needs_server
def test_uploads_take_no_place_until_they_have_arrived_and_bounded_memory(store):
    words = b"words, not pixels" * 20
    with (
        served(store, limits=Limits(queue=2, upload=1000, seconds=20)) as port,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(6):
            stack.enter_context(uploading(port, b"1"))
        time.sleep(0.2)
        assert post(port, photograph(1, (8, 6)))[0] == 200
        with uploading(port, bytes(900)), uploading(port, bytes(900)):
            # Together, they are nearly as large as two of the largest.
            wait(lambda: post(port, words)[0] == 503)
            assert post(port, b"words")[0] == 415
        wait(lambda: post(port, words)[0] == 415)


@needs_server
def test_a_failing_server_says_no_more_than_that(held, capfd):
    model, store = held
    with served(store) as port:
        model.encode = lambda x, **_: [][len(x)]
        status, answer = post(port, photograph(1))
        assert (status, answer) == (500, {"error": "The server has failed."})
        del model.encode
        assert post(port, photograph(1))[0] == 200  # the next batch is another
    assert "IndexError" in capfd.readouterr().err


@needs_server
def test_a_client_that_goes_away_leaves_nothing(port, capfd):
    for body in (b"", photograph(1)):
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 5000\r\n\r\n" + body
            )
    assert post(port, photograph(1))[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_batches_keep_order_and_survive_errors():
    free, batches = threading.Event(), []

    def function(items):
        batches.append(items)
        assert free.wait(20)
        if "bad" in items:
            raise ValueError("a bad one")
        return [item * 2 for item in items]

    batcher = Batcher(function, most=3)
    first = batcher.submit("a")
    wait(lambda: batches)
    futures = [batcher.submit(item) for item in ("b", "c", "d", "bad", "e")]
    assert futures[1].cancel()
    free.set()
    assert (first.result(20), futures[0].result(20), futures[2].result(20)) == (
        "aa",
        "bb",
        "dd",
    )
    for future in futures[3:]:
        with pytest.raises(ValueError, match="a bad one"):
            future.result(20)
    last = batcher.submit("f")
    batcher.close()
    assert last.result(0) == "ff"
    assert not batcher.is_alive
    assert batcher.submit("late").cancelled()
    assert batches[:3] == [["a"], ["b", "d"], ["bad", "e"]]
    with pytest.raises(ValueError, match="`most` must be at least 1"):
        Batcher(function, most=0)


def test_limits_and_gates():
    for name in ("batch", "queue", "upload", "pixels", "k", "seconds"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            Limits(**{name: 0})
    gate = Gate(2)
    with gate, gate, pytest.raises(Refused, match="busy"), gate:
        pass
    with gate, gate:
        pass


@needs_server
def test_the_api_and_the_page_list_duplicates(model, folder, tmp_path, monkeypatch):
    store = CodeStore.create(tmp_path / "twins.khs", model=model)
    codes = np.array([[0] * 3, [0, 0, 16], *[[255, 0, 0]] * 3], np.uint8)
    keys = ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"]
    store.add(codes, ids=keys)
    with served(store, folder) as port:
        groups = [{"size": 3, "ids": keys[2:]}]
        answer = {"groups": groups, "count": 1}
        assert ask(port, "GET", "/v1/duplicates")[:2] == (200, answer)
        answer = {"groups": [*groups, {"size": 2, "ids": keys[:2]}], "count": 2}
        assert ask(port, "GET", "/v1/duplicates?radius=1")[:2] == (200, answer)
        monkeypatch.setattr("kerashash.page.searching._MOST_COMPARED", 3)
        status, answer, _ = ask(port, "GET", "/v1/duplicates?radius=2")
        assert status == 400
        assert "`radius` must be at most 1 in a store" in answer["error"]


@needs_server
def test_mistakes_at_the_start_are_one_line(store, model, folder, tmp_path, capsys):
    def error(*arguments):
        assert cli.main(["serve", "--port", "0", *map(str, arguments)]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert captured.out == ""
        return captured.err

    other = kerashash.AdaLabelHash(
        keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Flatten()]),
        BITS,
        3,
    )
    other.save(tmp_path / "other.keras")
    model.save(tmp_path / "model.keras")
    model_is = ("--model", tmp_path / "model.keras")
    assert "which does not exist" in error(tmp_path / "none.khs")
    assert "needs its model" in error(store.path)
    assert "of another weights" in error(
        store.path, "--model", tmp_path / "other.keras"
    )
    assert "`images` must be a folder" in error(
        store.path, *model_is, "--images", tmp_path / "none"
    )
    message = error(store.path, *model_is, "--images", tmp_path)
    assert "`images` must be the folder of the store's photographs" in message
    CodeStore.create(tmp_path / "codes.khs", bits=BITS)
    assert "was created without a model" in error(tmp_path / "codes.khs")
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    vectors = kerashash.AdaLabelHash(net, BITS, 3)
    vectors.save(tmp_path / "vectors.keras")
    CodeStore.create(tmp_path / "vectors.khs", model=vectors)
    assert "must have a model of images" in error(
        tmp_path / "vectors.khs", "--model", tmp_path / "vectors.keras"
    )
    for name in ("batch", "queue", "most", "seconds"):
        assert f"`--{name}` must be at least" in error(store.path, f"--{name}", 0)
    for name in ("megabytes", "megapixels"):
        for number in ("inf", "nan", "-1", "0", "1e300"):
            message = error(store.path, f"--{name}", number)
            assert f"`--{name}` must be from 1e-6 to 1e6. Received: " in message
    assert "`port` must be at most 65535" in error(store.path, "--port", 70000)
    assert "`host` must be" in error(store.path, "--host", "no host")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "must be free to listen on" in error(store.path, "--port", port)


def test_the_packages_that_are_missing_are_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "photos.khs"]) == 2
    error = capsys.readouterr().err
    assert 'pip install "kerashash[serve]"' in error
    assert error.count("\n") == 1


@needs_server
@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(store, model, folder, tmp_path):
    model.save(tmp_path / "model.keras")
    program = "import sys; from kerashash import cli; sys.exit(cli.main())"
    command = [sys.executable, "-c", program, "serve", store.path, "--port", "0"]
    command += ["--model", str(tmp_path / "model.keras"), "--images", str(folder)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        # In the background, a shell lets its programs ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert "12 rows" in process.stdout.readline()
        address = urllib.parse.urlsplit(process.stdout.readline().split()[0])
        assert address.hostname == "127.0.0.1"
        assert post(address.port, (folder / "3.jpg").read_bytes())[0] == 200
        with socket.create_connection(("127.0.0.1", address.port)):  # stays open
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors


@needs_server
@pytest.mark.slow
@pytest.mark.skipif(
    not (browser.DRIVER and browser.CHROMIUM),
    reason="Chromium is not installed: apt-get install chromium chromium-driver",
)
def test_the_page_in_a_browser(port, folder, store, model, tmp_path):
    query, words = folder / "5.jpg", tmp_path / "words.jpg"
    words.write_bytes(SECRET)
    pairs, code = expected(store, model, query.read_bytes(), tmp_path, k=4)
    with browser.Browser(390, 800, tmp_path / "profile") as page:

        def status():
            return page.run("return document.getElementById('status').textContent")

        def says(text):
            page.wait(lambda: text in status())

        def shown():
            page.wait(
                lambda: page.run(
                    "return [...document.querySelectorAll('.photographs img')]"
                    ".every(image => image.complete && image.naturalWidth > 0)"
                )
            )
            return page.run(
                "return [...document.querySelectorAll('.photographs figure')].map("
                "figure => [figure.querySelector('img').alt, figure.innerText])"
            )

        page.open(f"http://127.0.0.1:{port}/")
        page.wait(lambda: page.run("return document.documentElement.dataset.ready"))
        page.run("document.getElementById('k').value = 4")
        page.keys("#file", query)
        says("4 photographs in ")
        for (alt, text), (key, distance) in zip(shown(), pairs, strict=True):
            assert alt == pathlib.PurePath(key).name
            assert text.startswith(f"{distance} bit")
        # A name that runs from right to left turns nothing around it.
        assert (
            page.run("return document.querySelectorAll('figcaption bdi').length") == 4
        )
        bits = page.run("return document.getElementById('bits').ariaLabel")
        assert bits.endswith("".join(map(str, np.unpackbits(code[0])[:BITS])))
        width = "document.documentElement.scrollWidth"
        assert page.run(f"return {width} <= window.innerWidth")
        unnamed = "img:not([alt]), button:empty, input:not([id])"
        assert page.run(f"return document.querySelectorAll('{unnamed}').length") == 0
        # By keyboard: from one result to the next, on from it, and back.
        page.run("document.querySelector('.photographs button').focus()")
        page.press("\ue004", "\ue007")  # Tab, Enter
        page.wait(
            lambda: (
                page.run("return document.getElementById('name').innerText")
                == pairs[1][0]
            )
        )
        assert shown()[0][1].startswith("0 bits")
        page.run("document.getElementById('radius').value = 0")
        page.run("document.getElementById('duplicates').click()")
        groups = store.duplicates()
        says(f"{len(groups)} group{'s' * (len(groups) > 1)} with equal codes.")
        assert len(shown()) == sum(map(len, groups))
        # Back through all of it: the row, the file, and the start.
        shown_name = "return document.getElementById('name').innerText"
        for name in (pairs[1][0], query.name):
            page.run("history.back()")
            says(" in ")
            page.wait(lambda name=name: page.run(shown_name) == name)
        page.run("history.back()")
        page.wait(lambda: page.run("return document.getElementById('query').hidden"))
        assert status() == ""
        assert page.run("return document.querySelectorAll('.photographs').length") == 0
        page.run("history.forward()")
        says(" in ")
        page.run("location.hash = '#null'")  # no key
        page.wait(lambda: status() == "")
        page.keys("#file", words)
        says("This is no image file that is read here")
        assert page.run("return document.querySelectorAll('.photographs').length") == 0
        # Only the refusal itself: no error of a script, nothing blocked or missing.
        assert all("415" in message for message in page.log())
        with served(store, folder, limits=Limits(k=3)) as other:
            page.open(f"http://127.0.0.1:{other}/")
            page.wait(lambda: page.run("return document.documentElement.dataset.ready"))
            page.keys("#file", query)
            says("3 photographs in ")
