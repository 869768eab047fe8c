import json
import os
import pathlib
import shutil
import sys

import numpy as np
import pytest
from hub_server import TOKEN, Hub
from test_zoo import make

from kerashash import cli, zoo
from kerashash.zoo import hub as hub_entries
from kerashash.zoo import weight_files

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
utils = pytest.importorskip("huggingface_hub.utils")
NAME, REPOSITORY = "adalabel-noise-12", "me/noise"
ADDRESS = f"hf://{REPOSITORY}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub, its own cache, and the token to write to it."""
    server = Hub()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", server.base)
    template = server.base + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    utils.disable_progress_bars()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small entry that shares its network; its model, and inputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_files, "_LARGE_PARAMETERS", 50)
        root = tmp_path_factory.mktemp("made")
        model, x, _, entry = make(root, np.random.default_rng(0))
        assert entry.card["shared"]
        yield model, x, root


@pytest.fixture
def entry(made, tmp_path):
    """A copy of the entry, in the folder "mine"; its model, and inputs."""
    model, x, root = made
    shutil.copytree(root, tmp_path / "mine")
    return model, x, zoo.entry(tmp_path / "mine" / NAME)


def change(hub, **files):
    """Change files of the newest commit."""
    names = {"card": "card.json", "weights": "model.weights.h5"}
    _, newest = hub.commits[REPOSITORY][-1]
    changes = {names[key]: edit(newest[names[key]]) for key, edit in files.items()}
    return hub.commit(REPOSITORY, changes)


def test_an_entry_goes_to_the_hub_and_back(hub, entry, tmp_path):
    model, x, entry = entry
    address = zoo.push(entry.path, REPOSITORY)
    ((commit, files),) = hub.commits[REPOSITORY]
    assert address == f"{ADDRESS}@{commit}"
    (shared,) = (tmp_path / "mine" / "shared").iterdir()
    assert files[f"shared/{shared.name}"] == shared.read_bytes()
    about = huggingface_hub.ModelCard(files["README.md"].decode())
    assert about.data.library_name == "kerashash"
    assert f'kerashash.zoo.load("{ADDRESS}")' in about.text

    (tmp_path / "mine").rename(tmp_path / "away")  # the hub has all that is needed
    for name in (ADDRESS, address, f"{ADDRESS}@main"):
        loaded = zoo.load(name, strict=True)
        np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
        assert loaded.entry == name
    assert zoo.entry(ADDRESS).name == NAME
    assert zoo.verify(ADDRESS)[0]["value"] == entry.card["metrics"][0]["value"]
    copy = zoo.export(ADDRESS, tmp_path / "copy")
    assert copy.path == tmp_path / "copy" / NAME
    assert (tmp_path / "copy" / "shared" / shared.name).is_file()


def test_each_revision_is_what_it_was(hub, entry):
    *_, entry = entry
    first = zoo.push(entry.path, REPOSITORY)
    card = json.loads((entry.path / "card.json").read_text())
    (entry.path / "card.json").write_text(json.dumps({**card, "version": 2}))
    second = zoo.push(entry.path, REPOSITORY)
    assert first != second
    versions = [
        zoo.entry(name).card.get("version", 1) for name in (first, second, ADDRESS)
    ]
    assert versions == [1, 2, 2]


def test_backbones_of_the_package_travel(hub):
    address = zoo.push("ddh-cifar10-16", "me/unsupervised")
    found = zoo.entry(address)
    assert found.name == "ddh-cifar10-16"
    names = [f"efficientnet-{size}.weights.h5" for size in ("lite0", "lite2")]
    networks = zoo.entries.shared_files(found.path, found.card)
    assert [*networks] == [found.path / "shared" / name for name in names]
    assert found.card["shared"] == zoo.entry("ddh-cifar10-16").card["shared"]


def test_a_backbone_that_was_another_file_travels(hub, tmp_path):
    source = zoo.entry("ddh-cifar10-16")
    backbone = pathlib.Path(source.path.parent) / "backbones/efficientnet-lite0.json"
    (formerly,) = json.loads(backbone.read_text())["formerly"]
    copy = tmp_path / source.name
    copy.mkdir()
    for path in source.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shared, *others = source.card["shared"]
    card = {**source.card, "shared": [{**shared, **formerly}, *others]}
    (copy / "card.json").write_text(json.dumps(card))
    found = zoo.entry(zoo.push(copy, "me/old"))
    assert found.card["shared"] == source.card["shared"]


def test_offline_the_cache_serves(hub, entry, monkeypatch):
    model, x, entry = entry
    address = zoo.push(entry.path, REPOSITORY)
    zoo.entry(ADDRESS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    np.testing.assert_array_equal(zoo.load(ADDRESS).encode(x), model.encode(x))
    zoo.load(address, strict=True)  # a commit is always the same
    with pytest.raises(ConnectionError, match="offline mode"):
        zoo.load(ADDRESS, strict=True)
    for name in ("hf://me/other", f"{ADDRESS}@v2"):
        with pytest.raises(ConnectionError, match="is not in the cache"):
            zoo.load(name)
    with pytest.raises(ConnectionError):
        zoo.push(entry.path, REPOSITORY)
    assert len(hub.requests) == before


def test_a_hub_that_does_not_answer(hub, entry, monkeypatch):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    found = zoo.entry(ADDRESS)
    hub.status = 501
    with pytest.raises(ConnectionError, match="does not answer"):
        zoo.entry("hf://me/other")
    hub.stop()
    assert zoo.entry(ADDRESS) == found
    with pytest.raises(ConnectionError, match="does not answer"):
        zoo.entry(ADDRESS, strict=True)


def test_what_is_not_on_the_hub(hub, entry, monkeypatch):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    for name in ("hf://me/other", f"{ADDRESS}@v9", f"{ADDRESS}@{'0' * 40}"):
        with pytest.raises(ValueError, match=f"there is on the hub.*'{name}'"):
            zoo.load(name)
    hub.commit("me/empty", {"README.md": b"nothing"})
    with pytest.raises(ValueError, match=r"there is on the hub.*me/empty"):
        zoo.load("hf://me/empty")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match=r"hub"):
        zoo.push(entry.path, REPOSITORY)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "hf://",
            "hf://me",
            "hf://me/a/b",
            "hf://me/a@",
            "hf://me/a@b@c",
            "hf://../a/b",
        ),
        *("hf://me/a b", "hf://me/ä", "hf:///a", "hf://me/a\n", "hf://me/a@b c"),
    ],
)
def test_names_that_are_none_of_the_hub(name):
    with pytest.raises(ValueError, match="`name` must be hf://OWNER/NAME"):
        zoo.load(name)
    with pytest.raises(ValueError, match="`repository` must be OWNER/NAME"):
        zoo.push("ssdh-digits-48", name.removeprefix("hf://") + "@")


@pytest.mark.parametrize("name", ["hf://me/..", "hf://-me/a", "hf://me/a--b"])
def test_names_that_the_hub_does_not_allow(hub, name):
    with pytest.raises(ValueError, match="on the hub"):
        zoo.load(name)


def test_another_content_on_the_hub_is_refused(hub, entry):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    change(hub, weights=lambda content: content[:-1] + b"?")
    with pytest.raises(ValueError, match=r"weights\.h5 is not the file"):
        zoo.load(ADDRESS)
    change(hub, card=lambda content: content[:-9])
    with pytest.raises(ValueError, match="is not a card"):
        zoo.load(ADDRESS)


@pytest.mark.parametrize("file", ["../card.json", "card.json", "a/b", ".."])
def test_a_card_on_the_hub_that_lists_other_files_is_refused(hub, entry, file):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)

    def listing(content):
        card = json.loads(content)
        card["files"][file] = card["files"]["config.json"]
        return json.dumps(card).encode()

    change(hub, card=listing)
    before = len(hub.requests)
    with pytest.raises(ValueError, match="must map plain file names"):
        zoo.load(ADDRESS)
    assert not [line for line in hub.requests[before:] if "config.json" in line]


def test_only_files_of_the_card_are_downloaded(hub, entry):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    hub.commit(REPOSITORY, {"large.bin": b"x" * 99, "shared/other.weights.h5": b"y"})
    found = zoo.entry(ADDRESS)
    names = {path.name for path in found.path.rglob("*")}
    assert not names & {"large.bin", "other.weights.h5", "README.md"}


def test_links_out_of_the_repository_in_the_cache_are_refused(hub, entry, tmp_path):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    path = zoo.entry(ADDRESS).path
    secret = tmp_path / "secret.npz"
    secret.write_bytes((path / "golden.npz").read_bytes())
    (path / "golden.npz").unlink()
    (path / "golden.npz").symlink_to(secret)
    with pytest.raises(ValueError, match=r"golden\.npz must be a file of its folder"):
        zoo.load(ADDRESS)


def test_a_damaged_file_of_the_hubs_cache_is_downloaded_again(hub, entry, monkeypatch):
    model, x, entry = entry
    zoo.push(entry.path, REPOSITORY)
    path = zoo.entry(ADDRESS).path
    (shared,) = path.glob("shared/*")
    for file in (path / "card.json", path / "model.weights.h5", shared):
        whole = file.read_bytes()
        file.resolve().write_bytes(whole[:50])
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ConnectionError, match="in the cache of the hub") as caught:
            zoo.load(ADDRESS)
        assert str(file) in str(caught.value)
        assert f"delete {hub_entries.links(path)}" in str(caught.value)
        assert "force_download" not in str(caught.value)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        np.testing.assert_array_equal(zoo.load(ADDRESS).encode(x), model.encode(x))
        assert file.read_bytes() == whole
        # As it is where there are no symbolic links.
        file.unlink()
        file.write_bytes(whole[:50])
        assert zoo.entry(ADDRESS).path == path
        assert file.read_bytes() == whole
    before = len(hub.requests)
    zoo.entry(ADDRESS)
    assert not [line for line in hub.requests[before:] if line.startswith("GET /me")]


def test_a_file_that_the_hub_lacks_is_named(hub, entry):
    *_, entry = entry
    zoo.push(entry.path, REPOSITORY)
    del hub.commits[REPOSITORY][-1][1]["codes.npz"]
    with pytest.raises(ValueError, match=r"(?s)on the hub.*codes\.npz") as caught:
        zoo.entry(ADDRESS)
    assert "does not answer" not in str(caught.value)


@pytest.mark.parametrize("noted", [b"\xff\xfe", b"zzz", b""])
def test_a_damaged_revision_of_the_hubs_cache_is_named(hub, entry, monkeypatch, noted):
    *_, entry = entry
    address = zoo.push(entry.path, REPOSITORY)
    path = zoo.entry(ADDRESS).path
    main = hub_entries.links(path) / "refs" / "main"
    main.write_bytes(noted)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"must hold a commit.*Delete the file") as e:
        zoo.entry(ADDRESS)
    assert str(main) in str(e.value)
    assert zoo.entry(address).path == path
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    if noted == b"\xff\xfe":
        with pytest.raises(ValueError, match="must hold a commit"):
            zoo.entry(ADDRESS)
        main.unlink()
    assert zoo.entry(ADDRESS).path == path


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: zoo.load(ADDRESS),
        lambda: zoo.push("ssdh-digits-48", REPOSITORY),
    ):
        with pytest.raises(ImportError, match=r'pip install "kerashash\[hub\]"'):
            call()


def test_push_on_the_command_line(hub, entry, capsys):
    *_, entry = entry
    assert cli.main(["zoo", "push", str(entry.path), REPOSITORY]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    address = line.removeprefix("Wrote ")
    assert cli.main(["zoo", "info", address]) == 0
    assert capsys.readouterr().out.startswith(f"# {NAME}\n")
    assert hub_entries.parse(address)[0] == REPOSITORY
    assert os.environ["HF_TOKEN"] == TOKEN
