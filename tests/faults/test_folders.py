"""Folders of images with links, locks, depths and dates that nobody expects."""

import os
import shutil
import sys
import traceback

import pytest
from PIL import Image

from kerashash import checks, recipes
from kerashash.data import from_directory, read_images
from kerashash.data.finding import find_images, image_paths
from kerashash.store.pictures import thumbnail, thumbnail_or_gray


def save(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path)


@pytest.fixture
def pets(tmp_path):
    """Two classes of four images each, half of them one folder deeper."""
    for label in ("cat", "dog"):
        for number in range(2):
            save(tmp_path / "pets" / label / f"{number}.png", number)
            save(tmp_path / "pets" / label / "deep" / f"{number}.png", number)
    return tmp_path / "pets"


@pytest.fixture
def lock(monkeypatch):
    """What makes a folder one that its user may not list, also if that is root."""
    scandir, lstat, stat = os.scandir, os.lstat, os.stat
    locked = []

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    def looked_at(look):
        def guarded(path, *arguments, **options):
            if isinstance(path, str) and os.path.dirname(path) in locked:
                refuse(path)
            return look(path, *arguments, **options)

        return guarded

    def listed(path="."):
        return refuse(path) if os.fspath(path) in locked else scandir(path)

    def lock(path):
        if not locked:
            monkeypatch.setattr(os, "scandir", listed)
            monkeypatch.setattr(os, "lstat", looked_at(lstat))
            monkeypatch.setattr(os, "stat", looked_at(stat))
        locked.append(str(path))

    return lock


@pytest.fixture
def few_calls():
    """Python with room for 150 calls within each other: to make and to remove a
    thousand folders takes seconds."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len([*traceback.walk_stack(None)]) + 150)
    yield
    sys.setrecursionlimit(limit)


def test_what_is_behind_a_link_and_two_dots_is_named_by_its_own_path(
    tmp_path, monkeypatch
):
    save(tmp_path / "disk" / "a.png", 1)
    save(tmp_path / "home" / "a.png", 2)
    (tmp_path / "disk" / "2024").mkdir()
    (tmp_path / "home" / "link").symlink_to(tmp_path / "disk" / "2024")
    save(tmp_path / "disk" / "2024" / "b.png", 3)
    disk = tmp_path.resolve() / "disk"
    monkeypatch.chdir(tmp_path)
    for named in (
        "home/link/../a.png",
        "home/link/../*.png",
        "home/*/../../disk/a.png",
    ):
        if "home/*" in named:  # links that a pattern matches are not followed
            (tmp_path / "home" / "sub").mkdir()
        files, faults = find_images(named)
        assert [file.path for file in files] == [str(disk / "a.png")]
        assert faults == {}
    found = [file.path for file in find_images("home/link/..")[0]]
    assert found == [str(disk / "a.png"), str(disk / "2024" / "b.png")]
    # Links that no `..` follows keep their names.
    (link,) = find_images("home/link/b.png")[0]
    assert link.path == str(tmp_path / "home" / "link" / "b.png")
    assert find_images("home/../home/link/b.png")[0] == [link]


def test_a_folder_that_a_pattern_cannot_list_is_no_empty_one(pets, lock):
    lock(pets / "dog")
    for pattern in (
        "*/*.png",
        "*",
        "**/*.png",
        "**",
        "[d]og/**",
        "*/0.png",
        "*/deep/*",
    ):
        with pytest.raises(PermissionError, match="pets/dog"):
            find_images(f"{pets}/{pattern}")
    assert len(find_images(f"{pets}/c*")[0]) == 4
    # Nor is one that cannot be looked into a place where there is nothing.
    for path in ("dog/0.png", "dog/deep", "dog/none.png"):
        with pytest.raises(PermissionError, match=f"pets/{path}"):
            find_images(pets / path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list all folders")
def test_a_locked_folder_is_named(pets):
    (pets / "dog").chmod(0)
    try:
        for path in (pets, f"{pets}/*/*.png", pets / "dog" / "0.png"):
            with pytest.raises(PermissionError, match="pets/dog"):
                find_images(path)
        with pytest.raises(PermissionError, match="pets/dog"):
            from_directory(pets)
    finally:
        (pets / "dog").chmod(0o700)


def test_a_link_to_a_locked_image_is_one_fault(pets, lock, monkeypatch):
    save(pets / ".raw" / "0.png")
    (pets / "cat" / "9.png").symlink_to("../.raw/0.png")
    lock(pets / ".raw")
    target, stat = str(pets / "cat" / "9.png"), os.stat

    def follow(path, *arguments, **options):
        return stat(f"{pets}/.raw/0.png" if path == target else path)

    monkeypatch.setattr(os, "stat", follow)
    for path in (f"{pets}/cat/*.png", f"{pets}/*/9.png", target, pets / "cat"):
        assert find_images(path)[1] == {target: "Permission denied"}


def test_a_pattern_of_many_parts_finds_each_folder_once(pets):
    assert len(find_images(f"{pets}/{'**/' * 20}*.png")[0]) == 8


def test_folders_of_any_depth(pets, few_calls):
    path = str(pets / "cat")
    for _ in range(200):  # `os.makedirs` calls itself, too
        path += "/e"
        os.mkdir(path)
    shutil.copy(pets / "cat" / "0.png", f"{path}/a.png")
    assert f"{path}/a.png" in [*image_paths(pets)]
    assert [*image_paths(f"{pets}/**/a.png")] == [f"{path}/a.png"]
    assert len(find_images(f"{pets}/cat{'/*' * 201}")[0]) == 1
    data = from_directory(pets, query_share=0.25)
    assert len(data.x) == 9
    assert f"cat{'/e' * 200}/a.png" in data.names


def test_folders_deeper_than_paths_are_long(pets, monkeypatch):
    path = str(pets / "cat")
    monkeypatch.chdir(path)
    names = ["e" * 250] * 20
    for name in names:
        os.mkdir(name)
        os.chdir(name)
    try:
        for find in (
            find_images,
            from_directory,
            lambda path: find_images(f"{path}/**"),
        ):
            with pytest.raises(OSError, match=r"File name too long: '.*/cat/eee"):
                find(pets)
    finally:
        for name in names:
            os.chdir("..")
            os.rmdir(name)


def test_unlisted_folders_of_a_class_are_no_empty_ones(pets, lock):
    lock(pets / "cat" / "deep")
    with pytest.raises(PermissionError, match="cat/deep"):
        from_directory(pets)
    lock(pets)
    with pytest.raises(PermissionError, match="pets"):
        from_directory(pets)


@pytest.mark.parametrize(
    ("target", "link"),
    [("../.raw", "cat/more"), (".", "cat/loop"), ("../..", "dog/deep/up.png")],
)
def test_a_link_to_a_folder_in_a_class_is_refused(pets, target, link):
    """To follow it could take for ever; to leave it, images."""
    save(pets / ".raw" / "0.png")
    (pets / link).symlink_to(target)
    with pytest.raises(ValueError, match=f"not behind links to folders.* {link}"):
        from_directory(pets, corrupt="skip")
    assert len(find_images(pets)[0]) == 8


def test_a_class_may_be_a_link(pets):
    (pets / "dog").rename(pets / ".dogs")
    (pets / "dog").symlink_to(".dogs")
    assert len(from_directory(pets, query_share=0.25).x) == 8
    # Not out of the folder, and there nothing is listed.
    (pets / "dog").unlink()
    (pets / "dog").symlink_to("/")
    with pytest.raises(ValueError, match=r"file outside of it: 'dog'"):
        from_directory(pets)


@pytest.mark.parametrize("kind", ["broken", "loop", "pipe", "sparse"])
def test_names_of_images_without_one_are_corrupt(pets, kind):
    path = pets / "cat" / "f.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 43)  # holes, which take no place
    else:
        path.symlink_to("nowhere.png" if kind == "broken" else "f.png")
    reason = {
        "broken": "No such file or directory",
        "loop": "Too many levels of symbolic links",
        "pipe": "not a regular file",
        "sparse": "larger than 1 GiB",
    }[kind]
    with pytest.raises(ValueError, match=rf"1 file: cat/f\.png \({reason}\)"):
        from_directory(pets)
    with pytest.warns(UserWarning, match=rf"1 file: cat/f\.png \({reason}\)"):
        data = from_directory(pets, query_share=0.25, corrupt="skip")
    assert len(data.x) == 8
    reason = "no such file" if kind == "broken" else reason
    with pytest.raises(ValueError, match=rf"1 file: '.*cat/f\.png' \({reason}\)"):
        read_images([pets / "cat" / "0.png", path], 8)


NAME = "b.png (empty)\n2 files \x1b[31m\u2028.png"
ESCAPED = r"b\.png \(empty\)\\n2 files \\x1b\[31m\\u2028\.png"


def test_names_of_images_begin_no_line(pets):
    (pets / "cat" / NAME).touch()
    for use, name in (
        (lambda: from_directory(pets), rf"1 file: cat/{ESCAPED} \(empty\)\.$"),
        (lambda: read_images([pets / "cat" / NAME], 8), rf"{ESCAPED}' \(empty\)\.$"),
        (lambda: thumbnail(pets / "cat" / NAME), rf"{ESCAPED}': empty\.$"),
        (lambda: find_images(pets / NAME), rf"Received: '.*{ESCAPED}', w"),
    ):
        with pytest.raises(ValueError, match=name) as raised:
            use()
        assert len(str(raised.value).splitlines()) == 1
    # Of folders, links and a table, too.
    (pets / "cat" / NAME).unlink()
    (pets / "cat" / f"l{NAME}").symlink_to("deep")
    folder = pets.rename(pets.with_name(NAME))
    table = folder / NAME
    for text in (None, "name\n", "file,labels\n\n", "file,labels\ncat/9.png,a\n"):
        if text is not None:
            table.write_text(text)
        with pytest.raises(ValueError, match=ESCAPED) as raised:
            from_directory(folder, None if text is None else table)
        assert len(str(raised.value).splitlines()) == 1


def test_names_of_several_lines_are_names(pets):
    save(pets / "cat" / NAME, 9)
    broken = pets / "dog" / NAME
    broken.symlink_to("nowhere.png")
    files, faults = find_images(pets)
    assert str(pets / "cat" / NAME) in [file.path for file in files]
    # By the key that a store has of it.
    assert faults == {str(broken): "No such file or directory"}
    broken.unlink()
    data = from_directory(pets, query_share=0.25)
    assert f"cat/{NAME}" in data.names
    folder = pets.rename(pets.with_name("pe\nts"))
    assert r"pe\nts" in recipes.for_folder(folder, bits=12)


def test_a_listing_is_one_line_of_few_names():
    assert checks.listing(["a\r\nb", 1]) == r"2 files: a\r\nb, 1"


def test_a_locale_without_utf_8_is_named(pets, monkeypatch):
    """As that of LC_ALL=C, where names in UTF-8 are none in the locale's encoding."""
    name = os.fsdecode(os.fsencode(pets / "cat") + b"/caf\xe9.png")
    os.close(os.open(name, os.O_CREAT))
    for encoding, reason in (
        ("ascii", "not ascii, as names are in this locale; with PYTHONUTF8=1"),
        ("utf-8", "not UTF-8"),
    ):
        monkeypatch.setattr(sys, "getfilesystemencoding", lambda e=encoding: e)
        (fault,) = find_images(pets)[1].values()
        assert reason in fault
        for use in (
            lambda: from_directory(pets),
            lambda: recipes.for_folder(name),
            # A name that a store has, and that is none here.
            lambda: read_images(["\ud800.png"], 8),
            lambda: thumbnail("\ud800.png"),
        ):
            with pytest.raises(ValueError, match=reason):
                use()
    assert thumbnail_or_gray("\ud800.png", "2 bits")[1] == "2 bits, not readable"


def test_times_fit_into_a_store(pets):
    for name, time in (("0.png", 10**19), ("1.png", -(10**19))):
        os.utime(pets / "cat" / name, ns=(0, time))
    if os.stat(pets / "cat" / "0.png").st_mtime_ns < 2**63:
        pytest.skip("this file system has no such times")
    files, _ = find_images([pets / "cat" / "0.png", pets / "cat" / "1.png"])
    earliest = max(os.stat(pets / "cat" / "1.png").st_mtime_ns, -(2**63))
    assert [file.mtime for file in files] == [2**63 - 1, earliest]
