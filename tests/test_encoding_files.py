"""Image files into a store: found, compared, encoded and committed."""

import importlib.util
import os
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import kerashash
from kerashash import CodeStore, cli
from kerashash.data import read_images
from kerashash.data.finding import find_images, image_paths
from kerashash.methods.encoder import Encoder
from kerashash.store import filling
from kerashash.store.filling import Block, encode_files, fill

HAS_LANCE = importlib.util.find_spec("lancedb") is not None
ENGINES = [
    "folder",
    pytest.param(
        "lance",
        marks=pytest.mark.skipif(not HAS_LANCE, reason="lancedb is not installed"),
    ),
]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((8, 8, 3)), keras.layers.Flatten()]
    return kerashash.AdaLabelHash(keras.Sequential(layers), bits=12, num_classes=3)


@pytest.fixture
def photos(tmp_path):
    """Nine photographs, two of them damaged, and files that are no photographs."""
    rng = np.random.default_rng(0)
    for number in range(9):
        path = tmp_path / "photos" / ("deep" if number > 4 else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
        path.write_bytes(tf.io.encode_png(pixels).numpy())
    folder = tmp_path / "photos"
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:60])
    (folder / "deep" / "6.png").write_bytes(b"")
    (folder / "notes.txt").write_text("none")
    (folder / ".hidden.png").write_bytes((folder / "0.png").read_bytes())
    return folder


def names(files):
    return [os.path.basename(file.path) for file in files]


def rows(store):
    columns = {name: values.tolist() for name, values in store.columns().items()}
    return {**columns, "codes": store.codes().tolist()}


def test_images_are_found_once_in_order(photos, monkeypatch):
    everything = [f"{number}.png" for number in range(9)]
    files, faults = find_images(photos)
    assert names(files) == everything
    assert faults == {}
    status = (photos / "0.png").stat()
    assert files[0] == (str(photos / "0.png"), status.st_size, status.st_mtime_ns)
    again = [str(photos / "deep"), photos, f"{photos}/**/*.png"]
    assert names(find_images(again)[0]) == [*everything[5:], *everything[:5]]
    assert names(find_images(f"{photos}/*")[0]) == everything[:5] + everything[5:]
    assert names(find_images(photos / "notes.txt")[0]) == ["notes.txt"]
    assert find_images(iter([]))[0] == []
    # Keys are absolute, wherever a call is made.
    monkeypatch.chdir(photos)
    assert find_images("0.png")[0] == files[:1]
    assert find_images(["./deep/../0.png"])[0] == files[:1]


def test_a_name_with_brackets_is_a_name_first(photos):
    shutil.copy(photos / "0.png", photos / "a[1].png")
    shutil.copy(photos / "0.png", photos / "a1.png")
    assert names(find_images(photos / "a[1].png")[0]) == ["a[1].png"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("nowhere", "'nowhere', where there is nothing"),
        (["*.jpg"], r"'\*.jpg', which matches none"),
        ("s3://bucket/photos", "not at a URL"),
    ],
)
def test_paths_without_files_are_refused(paths, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        find_images(paths)
    with pytest.raises(TypeError, match="`paths` must hold paths"):
        find_images([3])


@pytest.mark.parametrize("pattern", ["**", "**/*", "**/*.png", "*/*", "*/**/*.png"])
def test_patterns_follow_no_links_to_folders(photos, pattern, monkeypatch):
    """With two loops, there would be more paths than atoms."""
    for name in ("loop", "deep/back"):
        (photos / name).symlink_to(photos)
    below = pattern.startswith("*/")
    everything = [f"{number}.png" for number in range(5 if below else 0, 9)]
    assert names(find_images(f"{photos}/{pattern}")[0]) == everything
    monkeypatch.chdir(photos)
    assert sorted(map(os.path.basename, image_paths(pattern))) == everything


def test_a_link_to_a_folder_that_is_named_is_followed(photos, tmp_path):
    (tmp_path / "link").symlink_to(photos / "deep")
    for path in ("link", "link/*.png", "link/**"):
        files, _ = find_images(tmp_path / path)
        assert names(files) == ["5.png", "6.png", "7.png", "8.png"]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_named(photos, kind):
    """To read it could take for ever."""
    if kind == "pipe":
        os.mkfifo(photos / "odd.png")
    else:
        (photos / "odd.png").symlink_to("/dev/zero")
    files, faults = find_images(photos)
    assert len(files) == 9
    assert faults == {str(photos / "odd.png"): "not a regular file"}
    with pytest.raises(ValueError, match=r"odd.png' \(not a regular file\)"):
        read_images([photos / "odd.png"], image_size=8)


def test_files_that_cannot_be_looked_at_are_named(photos):
    (photos / "broken.png").symlink_to("nowhere")
    pathlib.Path(os.fsdecode(os.fsencode(photos) + b"/caf\xe9.png")).touch()
    files, faults = find_images(photos)
    assert len(files) == 9
    assert [*faults.values()] == [
        "No such file or directory",
        "a name that is not UTF-8",
    ]
    assert [*faults] == [str(photos / "broken.png"), f"{photos}/caf\\udce9.png"]


@pytest.mark.parametrize("engine", ENGINES)
def test_new_and_changed_files_are_encoded_and_bad_ones_named(
    engine, photos, model, tmp_path
):
    store = CodeStore.create(tmp_path / "p.khs", model, engine=engine)
    encoded = encode_files(photos, store, batch_size=2)
    assert (encoded.new, encoded.changed, encoded.unchanged) == (7, 0, 0)
    assert encoded.skipped == {
        str(photos / "3.png"): "not an image, or truncated",
        str(photos / "deep" / "6.png"): "empty",
    }
    good = store.columns()["id"].tolist()
    assert good == [file.path for file in find_images(photos)[0] if file.path in good]
    np.testing.assert_array_equal(store.codes(), model.encode(good))
    sizes = [os.stat(path).st_size for path in good]
    assert store.columns()["size"].tolist() == sizes

    # Nothing is encoded twice; what was bad is tried again.
    before, versions = rows(store), store.versions()
    encoded = encode_files(photos, store)
    assert (encoded.new, encoded.changed, encoded.unchanged) == (0, 0, 7)
    assert len(encoded.skipped) == 2
    assert rows(store) == before
    assert store.versions() == versions

    shutil.copy(photos / "1.png", photos / "3.png")  # mended
    shutil.copy(photos / "1.png", photos / "0.png")  # changed
    os.utime(photos / "2.png", ns=(0, 5))  # changed in time alone
    encoded = encode_files(photos, store)
    assert (encoded.new, encoded.changed, encoded.unchanged) == (1, 2, 5)
    assert [*encoded.skipped] == [str(photos / "deep" / "6.png")]
    code = dict(zip(store.columns()["id"], store.codes().tolist(), strict=True))
    assert len(code) == len(store) == 8
    one = code[str(photos / "1.png")]
    assert code[str(photos / "0.png")] == code[str(photos / "3.png")] == one
    assert store.columns("mtime = 5")["id"].tolist() == [str(photos / "2.png")]


@pytest.mark.parametrize("engine", ENGINES)
def test_metadata_of_the_user_stay_when_a_file_is_encoded_again(
    engine, photos, model, tmp_path
):
    store = CodeStore.create(tmp_path / "p.khs", model, engine=engine)
    paths = [str(photos / f"{number}.png") for number in (0, 1, 2)]
    columns = {"year": [2000, 2001, 2002], "vector": np.eye(3, 2)}
    store.add(paths, columns=columns)  # whose sizes the store does not know
    encoded = encode_files(photos, store)
    assert (encoded.new, encoded.changed) == (4, 3)
    os.utime(paths[1], ns=(0, 5))
    assert encode_files(photos, store).changed == 1
    read = store.columns()
    at = [read["id"].tolist().index(path) for path in paths]
    assert read["year"][at].tolist() == columns["year"]
    assert read["vector"][at].tolist() == columns["vector"].tolist()
    assert read["mtime"][at[1]] == 5
    assert sum(year is None for year in read["year"]) == 4


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_store_will_not_take_is_named_before_images_are_read(
    engine, photos, model, tmp_path, monkeypatch
):
    numbered = CodeStore.create(tmp_path / "n.khs", model, engine=engine)
    numbered.add(np.zeros((1, 2), np.uint8))
    sized = CodeStore.create(tmp_path / "s.khs", model, engine=engine)
    sized.add(np.zeros((1, 2), np.uint8), ids=["x"], columns={"size": ["small"]})
    version = sized.versions()[-1].version
    old = CodeStore.open(sized.path, model, version=version)
    monkeypatch.setattr(filling, "encoded_batches", lambda *_, **__: 1 / 0)
    for store, message in (
        (numbered, "`ids` must"),
        (sized, r"`columns\['size'\]` must be of the store's type"),
        (old, "read-only"),
    ):
        with pytest.raises(ValueError, match=message):
            encode_files(photos, store)


def test_the_code_of_what_can_no_longer_be_read_stays_and_is_told(
    photos, model, tmp_path
):
    store = CodeStore.create(tmp_path / "p.khs", model)
    encode_files(photos, store)
    before = rows(store)
    (photos / "0.png").write_bytes(b"words")
    (photos / "1.png").unlink()
    os.mkfifo(photos / "1.png")
    encoded = encode_files(photos, store)
    stays = "; the store keeps the code of its old content"
    assert encoded.skipped == {
        str(photos / "0.png"): f"not a readable image{stays}",
        str(photos / "1.png"): f"not a regular file{stays}",
        str(photos / "3.png"): "not an image, or truncated",
        str(photos / "deep" / "6.png"): "empty",
    }
    assert (encoded.new, encoded.changed, encoded.unchanged) == (0, 0, 5)
    assert rows(store) == before


def test_an_index_of_nothing_is_refused_before_a_store_is_made(model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    for x in (tmp_path / "empty", [str(tmp_path / "empty")], f"{tmp_path}/empty/*"):
        with pytest.raises(ValueError, match=r"`x` must hold images.*empty"):
            model.index(x, tmp_path / "p.khs")
    assert not (tmp_path / "p.khs").exists()


def test_a_wrong_call_makes_no_store(photos, model, tmp_path, monkeypatch, capsys):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    vectors = kerashash.AdaLabelHash(network, bits=8, num_classes=2)
    paths = [str(photos / "0.png"), str(photos / "nope.png")]
    for call, error, message in [
        (lambda: model.index(paths, "p.khs"), ValueError, "`x` must be folders"),
        (lambda: vectors.index(paths[:1], "p.khs"), ValueError, "`x` must hold inputs"),
        (lambda: model.index(paths[:1], "p.khs", 1.5), TypeError, "`batch_size` must"),
    ]:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(error, match=message):
            call()
    kerashash.save_model(vectors, "v.keras")
    arguments = ["encode", str(photos), "--out", "p.khs", "--model", "v.keras"]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert "--model must be of a model that takes images of one size" in error
    assert not (tmp_path / "p.khs").exists()


def test_an_interrupted_call_is_completed_by_the_next(
    photos, model, tmp_path, monkeypatch
):
    whole = CodeStore.create(tmp_path / "whole.khs", model)
    encode_files(photos, whole)
    store = CodeStore.create(tmp_path / "p.khs", model)
    encode, calls = Encoder.encode, []

    def interrupted(*arguments, **options):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(*arguments, **options)

    monkeypatch.setattr(Encoder, "encode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        encode_files(photos, store, batch_size=2)
    assert len(store) == 3  # 3.png is damaged: all that had been encoded
    encoded = encode_files(photos, store, batch_size=2)
    assert (encoded.new, encoded.unchanged) == (4, 3)
    assert rows(store) == rows(whole)


def test_commits_are_due_after_rows_or_seconds(tmp_path, monkeypatch):
    store = CodeStore.create(tmp_path / "p.khs", bits=8)

    def blocks(count):
        for number in range(count):
            code = np.array([[number]], np.uint8)
            yield Block([f"{number}"], code, {"n": [number]}, {f"b{number}": "bad"})

    monkeypatch.setattr(filling, "_COMMIT_ROWS", 4)
    assert fill(store, blocks(10)) == {f"b{number}": "bad" for number in range(10)}
    assert [version.rows for version in store.versions()] == [0, 4, 8, 10]
    assert store.columns()["n"].tolist() == [*range(10)]
    monkeypatch.setattr(filling, "_COMMIT_SECONDS", -1.0)
    fill(store, blocks(2))
    assert [version.rows for version in store.versions()] == [0, 4, 8, 10, 10, 10]


def test_models_of_vectors_are_refused(photos, tmp_path):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    model = kerashash.AdaLabelHash(network, bits=8, num_classes=2)
    store = CodeStore.create(tmp_path / "p.khs", model)
    with pytest.raises(
        ValueError, match="`store` must be of a model that takes images"
    ):
        encode_files(photos, store)
    with pytest.raises(ValueError, match="created without a model"):
        encode_files(photos, CodeStore.create(tmp_path / "q.khs", bits=8))


def test_the_command_encodes_and_says_what_it_skipped(
    photos, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kerashash.save_model(model, "m.keras")
    arguments = ["encode", "photos", "--out", "p.khs", "--model", "m.keras"]
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Skipped 2:", f"  {photos}/3.png: not an image, or truncated"]
    assert lines[3] == (
        "p.khs: 7 new, 0 changed, 0 unchanged, 2 skipped; 7 images in all"
    )
    assert cli.main([*arguments[:1], f"{photos}/3.png", *arguments[2:]]) == 2
    captured = capsys.readouterr()
    assert "0 unchanged, 1 skipped" in captured.out
    assert captured.err == (
        "kerashash: PATH must hold images that can be read. All were skipped.\n"
    )
    name = photos / "line\nfeed.png"
    (photos / "3.png").rename(name)
    assert cli.main([*arguments[:1], f"{photos}/0.png", str(name), *arguments[2:]]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == rf"  {photos}/line\nfeed.png: not an image, or truncated"
    name.unlink()
    assert cli.main([*arguments[:2], f"{photos}/deep/*", *arguments[2:]]) == 0
    assert "0 new, 0 changed, 7 unchanged, 1 skipped" in capsys.readouterr().out
    store = CodeStore.open("p.khs", model)
    whole = CodeStore.create("whole.khs", model)
    encode_files(photos, whole)
    assert rows(store) == rows(whole)


def test_a_mistake_in_the_command_is_one_line(
    photos, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kerashash.save_model(model, "m.keras")
    (tmp_path / "nothing").mkdir()
    for arguments, message in [
        (["nowhere"], "where there is nothing"),
        (["nothing"], "PATH must hold images"),
        (["photos"], "--model must be given"),
        (["photos", "--model", "adalabel-cifar-48"], "`name` must be an entry"),
        (["photos", "--model", "none.keras"], "none.keras"),
        (["photos", "--model", "m.keras", "--actors", "2"], "--cluster"),
    ]:
        assert cli.main(["encode", *arguments, "--out", "p.khs"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("kerashash: ")
        assert error.count("\n") == 1
        assert message in error
        assert not (tmp_path / "p.khs").exists()
    CodeStore.create("p.khs", bits=8)
    assert cli.main(["encode", "photos", "--out", "p.khs"]) == 2
    assert "created without a model" in capsys.readouterr().err
