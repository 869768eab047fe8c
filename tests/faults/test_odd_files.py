"""Pipes, devices, links in a circle and damage, where a regular file is expected."""

import json
import os

import pytest

import kerashash
from kerashash import archives, cached_files, files, recipes, zoo
from kerashash.comparison import values
from kerashash.mat_files import read_mat
from kerashash.zoo import cards

READERS = [
    files.read_regular,
    files.sha256,
    archives.read_npz,
    read_mat,
    recipes.read,
    cards.read,
    values.read,
    values.repair,
    lambda path: kerashash.backbones.get("cnn-f", weights=path),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_only_regular_files_are_read(read, kind, tmp_path):
    """A pipe would be waited for without an end, and the device has none."""
    path = tmp_path / "odd"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"odd.* must be a regular file"):
        read(path)


def test_a_recipe_of_any_length_is_not_read(tmp_path):
    path = tmp_path / "long.toml"
    path.touch()
    os.truncate(path, 1 << 40)  # holes, which take no place
    with pytest.raises(ValueError, match=r"long\.toml must have at most 1048576 bytes"):
        recipes.read(path)


def test_an_entry_of_a_link_to_itself(tmp_path):
    folder = zoo.export("ssdh-digits-48", tmp_path).path
    (folder / "codes.npz").unlink()
    (folder / "codes.npz").symlink_to("codes.npz")
    with pytest.raises(ValueError, match=r"codes\.npz is missing"):
        zoo.load(folder)


@pytest.mark.parametrize("about", [{"rows": 17}, {"rows": "16"}, {}, [], None])
def test_a_cached_file_with_another_first_line_is_damaged(tmp_path, about):
    file = tmp_path / "a"
    cached_files.write(file, "letters 1", {"rows": 16, "speed": 0.1}, b"Hello")
    assert cached_files.read(file, "letters 1") == (
        {"rows": 16, "speed": 0.1},
        b"Hello",
    )
    assert cached_files.read(file, "letters 2") is None
    kind, head, content = file.read_bytes().split(b"\n")
    changed = json.loads(head)
    changed = {**changed, **about} if about else about
    file.write_bytes(b"\n".join((kind, json.dumps(changed).encode(), content)))
    assert cached_files.read(file, "letters 1") is None


def test_no_file_is_proposed_in_place_of_itself(tmp_path):
    (tmp_path / "a.keras").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"a\.keras', which does not exist\.$"):
        kerashash.load_model(tmp_path / "a.keras")
    (tmp_path / "b.keras").touch()
    with pytest.raises(ValueError, match=r"b\.keras', which is not one\.$"):
        kerashash.load_model(tmp_path / "b.keras")
