"""Files of data sets that are cut or changed: named, never read as other data."""

import json
import shutil

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from conftest import mlp
from test_builders import TinyFlowers17, build, write_flowers17

import kerashash
from kerashash.data import DatasetUnavailableError, load_distributions, sources
from kerashash.data.builders import mirflickr25k

IMAGES = 3000


@pytest.fixture
def annotations(tmp_path, rng):
    """The folder of the label files, each of 2 to 30 percent of the images."""
    folder = tmp_path / "mirflickr25k_annotations_v080"
    folder.mkdir()
    for column, label in enumerate(mirflickr25k.LABELS):
        shuffled = rng.permutation(IMAGES) + 1
        ids = np.sort(shuffled[: IMAGES * (2 + column % 29) // 100])
        (folder / f"{label}.txt").write_text("".join(f"{i}\n" for i in ids))
    return folder


@pytest.mark.parametrize("complete", [False, True])
def test_a_cut_label_file_is_named(annotations, complete):
    read = mirflickr25k.read_annotations
    labels = read(annotations.parent, IMAGES, complete)
    for label in ("animals", "tree_r1"):
        file = annotations / f"{label}.txt"
        content = file.read_bytes()
        for share in (0, 0.01, 0.3, 0.6):
            lines = content[: round(share * len(content))].splitlines(keepends=True)
            cuts = [b"".join(lines[:-1]), b"".join(lines)]  # at a line end, or anywhere
            for cut in (*cuts, cuts[0].replace(b"\n", b"\r\n")):
                file.write_bytes(cut)
                with pytest.raises(ValueError, match=f"{label}.*it has been cut"):
                    read(annotations.parent, IMAGES, complete)
        # The line end alone is missing: nothing else is.
        file.write_bytes(content[:-1])
        np.testing.assert_array_equal(
            read(annotations.parent, IMAGES, complete), labels
        )
        file.write_bytes(content)


def test_the_start_of_the_last_id_is_no_id(annotations):
    file = annotations / "sky.txt"
    content = file.read_text()
    *_, before, last = content.split()
    assert len(last) == 4
    file.write_text(content[:-2])
    message = rf"sky\.txt must end with a line end.*Received last: '{last[:3]}'"
    with pytest.raises(ValueError, match=message):
        mirflickr25k.read_annotations(annotations.parent, IMAGES)
    assert int(last[:3]) < int(before)


def test_labels_of_the_first_images_alone_are_not_those_of_all(annotations):
    for file in annotations.iterdir():
        ids = [line for line in file.read_text().split() if int(line) <= 2400]
        file.write_text("\n".join([*ids, ""]))
    labels = mirflickr25k.read_annotations(annotations.parent, IMAGES)
    assert labels[:2400].any(axis=0).all()
    assert not labels[2400:].any()
    with pytest.raises(ValueError, match=r"\.txt must hold ids .* to about 3000"):
        mirflickr25k.read_annotations(annotations.parent, IMAGES, complete=True)


ROWS = [[i + 0.5, 2.0 * i, 0.25, 0.75] for i in range(1, 9)]


def table(rows, header=""):
    return header + "".join(",".join(map(str, row)) + "\n" for row in rows)


@pytest.mark.parametrize("first", ["", "NA", "1.S", "n/a", " ", '"1,5"', "1_5"])
@pytest.mark.parametrize("header", ["", "a,b,c,d\n", ",1_1,x_2,NA\n", "\n"])
def test_a_cell_without_a_number_is_named_in_every_line(tmp_path, first, header):
    path = tmp_path / "t.csv"
    path.write_text(table(ROWS, header))
    data = load_distributions(path, num_classes=2, query_share=0.25)
    assert data.num_train + data.num_query == len(ROWS)
    for row in (0, 1, 7):
        changed = [list(values) for values in ROWS]
        changed[row][0] = first
        path.write_text(table(changed, header))
        # Below a header; without one, the first row is none.
        line = row + 1 + header.count("\n")
        message = rf"t\.csv must hold numbers.*in line {line}: "
        with pytest.raises(ValueError, match=message):
            load_distributions(path, num_classes=2, query_share=0.25)


def test_a_line_of_another_length_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(table([*ROWS, [1, 0.5]]))
    with pytest.raises(ValueError, match=r"as many .* in line 9: 2; before: 4"):
        load_distributions(path, num_classes=2)


def damages(content):
    """Names of what can happen to a file, and what is left of it: None if nothing."""
    yield "missing", None
    yield "empty", b""
    yield "cut", content[: len(content) // 2]
    for place in (0.001, 0.6):
        changed = bytearray(content)
        changed[int(place * len(content))] ^= 0x55
        yield f"changed at {place}", bytes(changed)
    if content.startswith(b"{"):
        yield "BOM", b"\xef\xbb\xbf" + content
        yield "UTF-16", content.decode().encode("utf-16")
        yield "{}", b"{}"
        yield "deep", b"[" * 100_000


def is_read_or_named(read, expected, file, damage, content):
    """Whether a damaged file is read as before, or an error names its folder."""
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    try:
        found = read()
    except DatasetUnavailableError as error:
        (line,) = str(error).splitlines()
        assert f"cannot be read from {file.parent}: " in line, damage
        assert line.endswith("`kerashash.data.load` prepares the data set anew.")
        assert len(line) < 500
        assert "{{" not in line
        return False
    for actual, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(actual, right, err_msg=damage)
    return True


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flowers")
    write_flowers17(folder / "manual")
    build(TinyFlowers17, folder / "manual", folder)
    return folder


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    manual = folder / "downloads" / "manual" / "ldl"
    manual.mkdir(parents=True)
    rng = np.random.default_rng(0)
    arrays = {
        "features": rng.normal(size=(213, 243)),
        "labels": rng.dirichlet(np.ones(6), 213),
    }
    scipy.io.savemat(manual / "SJAFFE.mat", arrays)
    kerashash.data.load("ldl/sjaffe", data_dir=folder)
    return folder


def read_flowers(folder):
    source = sources.photographs("tiny_flowers17", folder, image_size=8)
    return source.x[:], source.labels, source.names


def read_faces(folder):
    return kerashash.data.load("ldl/sjaffe", data_dir=folder)[:4]


@pytest.mark.parametrize("name", ["flowers", "faces"])
def test_damaged_prepared_data_sets_are_named(name, request, tmp_path):
    shutil.copytree(request.getfixturevalue(name), tmp_path, dirs_exist_ok=True)

    def read():
        return {"flowers": read_flowers, "faces": read_faces}[name](tmp_path)

    expected = read()
    (info,) = tmp_path.rglob("dataset_info.json")
    for file in sorted(info.parent.iterdir()):
        if file.name in ("features.json", "label.labels.txt"):
            continue  # what the code says already is not read from files
        whole = file.read_bytes()
        for damage, content in damages(whole):
            same = is_read_or_named(read, expected, file, damage, content)
            assert not same or damage.startswith("changed"), damage
            file.write_bytes(whole)


@pytest.mark.parametrize("key", ["missing", "expected"])
@pytest.mark.parametrize("value", [None, "1", 3])
def test_the_number_of_missing_images_must_be_right(flowers, tmp_path, key, value):
    shutil.copytree(flowers, tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.glob("tiny_flowers17/*/*/metadata.json")
    metadata = json.loads(file.read_text())
    file.write_text(json.dumps({**metadata, key: value}))
    with pytest.raises(DatasetUnavailableError, match=r"metadata\.json must say how"):
        read_flowers(tmp_path)


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_damage_while_images_are_read_names_the_folder(flowers, tmp_path, how):
    shutil.copytree(flowers, tmp_path, dirs_exist_ok=True)
    source = sources.photographs("tiny_flowers17", tmp_path, image_size=8)
    splits = {"train": np.arange(12), "query": np.arange(12, 17)}
    splits["database"] = splits["train"]
    data = source.retrieval_data("flowers", "all", 0, splits)
    model = kerashash.AdaLabelHash(mlp(8, units=()), bits=8, num_classes=17)
    (file,) = tmp_path.glob("tiny_flowers17/*/*/*.array_record*")
    with open(file, "r+b") as stream:
        content = bytearray(stream.read())
        if how == "cut":
            stream.truncate(100)
        else:
            content[100:-65536:50] = bytes(len(content[100:-65536:50]))
            stream.seek(0)
            stream.write(content)
    pixels = data.query.map(lambda x, y: x[:, 0, 0] / 255).batch(4)
    for read in (lambda: source.x[:], lambda: model.encode(pixels)):
        with pytest.raises(DatasetUnavailableError, match="cannot be read from") as e:
            read()
        assert str(file.parent) in str(e.value)


def test_lack_of_memory_is_no_damage(flowers, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", fail)
    with pytest.raises(MemoryError):
        read_flowers(flowers)
