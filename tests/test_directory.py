import copy
import fractions
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import kerashash
from kerashash.data import from_directory


def write(path, color, size=(12, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), color, np.uint8)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(image).numpy())


@pytest.fixture
def pets(tmp_path):
    """20 cats, 10 dogs and 4 newts, each image of one colour, by class and number."""
    for c, (label, count) in enumerate({"cat": 20, "dog": 10, "newt": 4}.items()):
        for i in range(count):
            write(tmp_path / "pets" / label / f"{i:02}.png", (10 * c, 10 * i, 0))
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "pets" / ".cache").mkdir()
    return tmp_path / "pets"


def test_class_folders_are_split_by_class(pets):
    data = from_directory(pets, image_size=16, query_share=0.25)
    assert data.class_names == ("cat", "dog", "newt")
    assert data.query_labels.sum(axis=0).tolist() == [5, 2, 1]
    assert data.database_labels.sum(axis=0).tolist() == [15, 8, 3]
    assert not {*data.splits["query"]} & {*data.splits["database"]}
    assert data.splits["train"] is data.splits["database"]
    for row in (0, 20, 33):
        label = data.class_names[data.labels[row].argmax()]
        assert data.names[row].startswith(f"{label}/")


def test_images_are_decoded_as_they_are_read(pets):
    data = from_directory(pets, image_size=16, query_share=0.25)
    for split in ("query", "database"):
        x, labels = data.arrays(split)
        assert (x.shape[1:], x.dtype) == ((16, 16, 3), np.uint8)
        # Red tells the class.
        np.testing.assert_array_equal(x[:, 0, 0, 0] // 10, labels.argmax(axis=1))
        for batch, y in getattr(data, split).batch(5):
            rows = y["index"].numpy()
            np.testing.assert_array_equal(batch, x[rows])
            np.testing.assert_array_equal(y["label"], labels[rows])
    colors = {tuple(x[0, 0]) for x, _ in data.train.as_numpy_iterator()}
    assert len(colors) == data.num_train


def test_the_draw_depends_on_names_and_seed_alone(pets, tmp_path):
    pets.rename(tmp_path / "moved")
    first, again, other = (
        from_directory(tmp_path / "moved", query_share=0.25, seed=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.splits["query"], again.splits["query"])
    assert {*first.splits["query"]} != {*other.splits["query"]}


def test_a_table_gives_several_labels(pets, tmp_path):
    table = tmp_path / "labels.csv"
    names = [f"cat/{i:02}.png" for i in range(20)]
    labels = ["tabby;old", "tabby", "", " old "] * 5
    rows = [f"{a},{b}\n" for a, b in zip(names, labels, strict=True)]
    table.write_text("file,labels\n" + "".join(rows) + "\n")
    data = from_directory(pets, table, query_share=0.2)
    assert data.class_names == ("old", "tabby")
    assert data.num_query + data.num_database == 20
    assert (data.query_labels.sum(axis=0) >= 2).all()
    assert (data.query_labels.sum(axis=1) == 0).sum() == 1
    counts = data.labels.sum(axis=0) + 0
    assert counts.tolist() == [10, 10]


def test_a_model_trains_and_encodes(pets, tmp_path):
    data = from_directory(pets, image_size=16, query_share=0.25)
    net = keras_network()
    features = kerashash.data.cache_features(data, net, tmp_path / "features")
    np.testing.assert_allclose(features.x, net.predict(data.x[:], verbose=0), atol=1e-5)
    model = kerashash.AdaLabelHash(net, bits=8, num_classes=3)
    model.compile("adam")
    model.fit(data.train.batch(8), verbose=0)
    assert 0 <= kerashash.evaluate(model, data)["mAP@ALL"] <= 1
    # The file of an image that has changed is another one.
    write(pets / "cat" / "00.png", (99, 99, 99))
    changed = from_directory(pets, image_size=16, query_share=0.25)
    kerashash.data.cache_features(changed, net, tmp_path / "features")
    assert len([*(tmp_path / "features").iterdir()]) == 2


@pytest.mark.parametrize("damage", ["removed", "cut", "no image"])
def test_a_file_that_is_lost_after_it_was_found_is_named(pets, tmp_path, damage):
    data = from_directory(pets, image_size=16, query_share=0.25)
    net = keras_network()
    model = kerashash.AdaLabelHash(net, bits=8, num_classes=3)
    model.compile("adam")
    for split in ("train", "query"):
        file = pets / str(data.names[data.splits[split][1]])
        content = file.read_bytes()
        file.unlink()
        if damage != "removed":
            file.write_bytes(content[:-20] if damage == "cut" else b"hello")
    name = r"`(x|data)` must hold images that can be read\. Received: '(cat|dog|newt)/"
    for use in (
        lambda: model.fit(data.train.batch(8), verbose=0),
        lambda: model.evaluate(data.train.batch(8), verbose=0),
        lambda: model.encode(data.query, verbose=0),
        lambda: model.predict(data.query.batch(8), verbose=0),
        lambda: kerashash.evaluate(model, data),
        lambda: data.arrays("query"),
        lambda: kerashash.data.cache_features(data, net, tmp_path / "features"),
    ):
        with pytest.raises(ValueError, match=name):
            use()


def test_another_error_is_not_that_of_a_file_that_was_lost_before(pets):
    data = from_directory(pets, image_size=16, query_share=0.25)
    assert data.x[:3].shape == (3, 16, 16, 3)
    for file in pets.rglob("*.png"):
        file.unlink()
    model = kerashash.AdaLabelHash(keras_network(), bits=8, num_classes=3)
    model.compile("adam")
    images = np.zeros((8, 16, 16, 3), "float32")
    batches = tf.data.Dataset.from_tensors((images, [[2.0, 0.0, 0.0]] * 8))
    with pytest.raises(ValueError, match="`label` must contain only 0, 1"):
        model.fit(batches, validation_data=batches, verbose=0)
    assert len(data.x) == 34  # still there


def test_images_are_read_from_where_they_were_found(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(pets.parent)
    data = from_directory("pets", image_size=16, query_share=0.25)
    expected = data.x[:3]
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(data.x[:3], expected)


def test_images_are_read_after_pickling(pets):
    data = from_directory(pets, image_size=16, query_share=0.25)
    assert data.train is data.train  # one of TensorFlow's, which is not pickled
    again = pickle.loads(pickle.dumps(data))
    assert len(again.train) == len(copy.deepcopy(data).train) == data.num_train
    assert repr(again) == repr(data)
    assert again.x.stamp == data.x.stamp
    for split in ("query", "database"):
        for one, other in zip(data.arrays(split), again.arrays(split), strict=True):
            np.testing.assert_array_equal(one, other)
    again.x.check_unchanged()
    write(pets / "cat" / "00.png", (99, 99, 99), (9, 9))
    with pytest.raises(ValueError, match=r"Changed since: 1 file: cat/00\.png"):
        again.x.check_unchanged()


def keras_network():
    import keras

    return keras.Sequential(
        [keras.Input((16, 16, 3)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )


def test_corrupt_images_are_named(pets):
    whole = (pets / "dog" / "03.png").read_bytes()
    (pets / "dog" / "03.png").write_bytes(whole[:-20])
    (pets / "cat" / "05.png").write_bytes(b"")
    (pets / "newt" / "00.png").write_text("GIF, I say")
    message = r"3 files: cat/05\.png \(empty\), dog/03\.png \(not an image, or trunc"
    with pytest.raises(ValueError, match=message):
        from_directory(pets)
    with pytest.warns(UserWarning, match="Left out of .*: 3 files: cat/05"):
        data = from_directory(pets, query_share=0.25, corrupt="skip")
    assert data.labels.sum(axis=0).tolist() == [19, 9, 3]


def test_missing_files_are_listed_by_name(pets, tmp_path):
    table = tmp_path / "labels.csv"
    lines = [f"cat/{i}.png,cat\n" for i in range(100, 112)]
    table.write_text("file,labels\n" + "".join(lines))
    with pytest.raises(ValueError, match=r"12 files: cat/100.*cat/109\.png and 2 more"):
        from_directory(pets, table)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the header file,labels.*nothing"),
        ("name,labels\n", "must have the header file,labels.*name,labels"),
        ("file,labels\ncat/00.png\n", r"line 2 must be a file and its labels"),
        ("file,labels\ncat/00.png,a,b\n", r"line 2 must be .*'cat/00\.png,a,b'"),
        ("file,labels\ncat/00.png,a\ncat/00.png,b\n", "Received again in line 3"),
        ("file,labels\ncat/00.png,\ncat/01.png,\n", "2 images, 0 labels"),
        ('file,labels\ncat/00.png,a\ndog/02.png,"b\ncat/01.png,a\n', "line 3 .*end of"),
        ('file,labels\ndog/02.png,"b\ncat/01.png,"a"\n', r"line 2 \('"),
        ('file,labels\n"ca\nt/00.png",a\n', "line 2 .*a field with a line end"),
        ("file,labels\ncat/00.png,a\u2028b\n", "line 2 .*a field with a line end"),
        ("file,labels\ncat/00.png,a\x85b\n", "line 2 .*a field with a line end"),
        ("file,labels\ncat/00.png,a\fb\n", "line 2 .*a field with a line end"),
        ('file,labels\ncat/00.png,"a\n"\n', "line 2 .*a field with a line end"),
        ("file,labels\n\ncat/00.png,a\0b\n", "line 3 .*a field with a line end or NUL"),
    ],
)
def test_a_wrong_table_is_named(pets, tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        from_directory(pets, tmp_path / "labels.csv")


def test_a_table_may_have_the_line_ends_of_any_system(pets, tmp_path):
    table = tmp_path / "labels.csv"
    for end in ("\r\n", "\r"):
        lines = ["\ufefffile,labels", *(f'"cat/{i:02}.png","a;b"' for i in range(5))]
        table.write_bytes(end.join(lines).encode())
        assert from_directory(pets, table).class_names == ("a", "b")


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
def test_a_table_that_never_ends_is_refused(pets, tmp_path, kind):
    table = tmp_path / "labels.csv"
    os.mkfifo(table) if kind == "pipe" else table.symlink_to(kind)
    with pytest.raises(ValueError, match=r"`labels` must be .*not a regular file"):
        from_directory(pets, table)


def test_files_that_have_changed_give_no_features(pets, tmp_path):
    data = from_directory(pets, image_size=16)
    net, folder = keras_network(), tmp_path / "features"
    kerashash.data.cache_features(data, net, folder)
    write(pets / "cat" / "00.png", (99, 99, 99), (9, 9))
    message = r"`data` must hold the images that were found.* 1 file: cat/00\.png"
    with pytest.raises(ValueError, match=message):
        kerashash.data.cache_features(data, net, folder)
    # One that changes while the features are computed.
    data = from_directory(pets, image_size=16)
    data.x._read, read = (
        lambda rows: write(pets / "cat" / "00.png", 7, (5, 5)) or read(rows),
        data.x._read,
    )
    before = {*folder.iterdir()}
    with pytest.raises(ValueError, match=message):
        kerashash.data.cache_features(data, net, folder)
    assert {*folder.iterdir()} == before
    again = from_directory(pets, image_size=16)
    x = kerashash.data.cache_features(again, net, folder).x
    np.testing.assert_allclose(x, net.predict(again.x[:], verbose=0), atol=1e-5)


def test_images_of_no_class_are_counted(pets):
    write(pets / "stray.png", (0, 0, 0))
    write(pets / ".hidden.png", (0, 0, 0))
    write(pets / "cat" / "20.jpe", (0, 0, 0))
    with pytest.warns(UserWarning, match=r"in no class folder: 1 file: stray\.png"):
        data = from_directory(pets, query_share=fractions.Fraction(1, 4))
    assert "cat/20.jpe" in data.names
    assert data.num_query == 8


def test_bad_arguments_are_named(pets, tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be a folder.*nowhere"):
        from_directory(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`path` must be a"):
        from_directory("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`path` must hold a folder for each class"):
        from_directory(tmp_path / "empty")
    (pets / "bird").mkdir()
    with pytest.raises(ValueError, match=r"without images in \['bird'\]"):
        from_directory(pets)
    with pytest.raises(ValueError, match="`labels` must be a CSV file"):
        from_directory(pets, tmp_path / "labels.csv")
    for path in (None, 3, b"pets", ["pets"]):
        with pytest.raises(TypeError, match="`path` must be a path"):
            from_directory(path)
        if path is not None:
            with pytest.raises(TypeError, match="`labels` must be a path"):
                from_directory(pets, labels=path)
    for options, name in (
        ({"query_share": 1.0}, "query_share"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": 4097}, "image_size"),
        ({"seed": -1}, "seed"),
        ({"corrupt": "ignore"}, "corrupt"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            from_directory(pets, **options)


def test_hidden_files_and_folders_do_not_count(pets):
    for hidden in ("cat/.ipynb_checkpoints", "cat/sub/.trash/x", ".git", "__MACOSX"):
        write(pets / hidden / "0.png", (0, 0, 0))
    write(pets / "cat" / "._00.png", (0, 0, 0))
    (pets / "cat" / "folder.png").mkdir()
    data = from_directory(pets, image_size=16)
    assert data.class_names == ("cat", "dog", "newt")
    assert len(data.x) == 34


def test_one_image_a_class_leaves_none_for_queries(tmp_path):
    for label in ("a", "b"):
        write(tmp_path / label / "0.png", (0, 0, 0))
    with pytest.raises(ValueError, match="`path` must hold two or more images of a"):
        from_directory(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.png", r"file outside of it: '\.\./secret\.png'"),
        ("../nothing.png", "file outside of it"),
        ("cat/../../secret.png", "file outside of it"),
        ("/etc/hostname", "file outside of it"),
        ("{parent}/secret.png", "file outside of it"),
        ("cat/link.png", r"file outside of it: 'cat/link\.png'"),
        ("linked/secret.png", "file outside of it"),
        ("cat/../cat/00.png", r"two names: 'cat/\.\./cat/00\.png', 'cat/00\.png'"),
        ("./cat/00.png", "Received again in line 3"),
        ("{parent}/pets/cat/00.png", "one file under two names"),
        ("cat/again.png", "one file under two names"),
        ("cat/\0.png", "`labels` must"),
        ("x" * 5000, "`labels` must"),
    ],
)
def test_a_table_names_files_of_the_folder_once(pets, tmp_path, name, message):
    write(tmp_path / "secret.png", (0, 0, 0))
    (pets / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    (pets / "cat" / "again.png").symlink_to(pets / "cat" / "00.png")
    (pets / "linked").symlink_to(tmp_path)
    table = tmp_path / "labels.csv"
    name = name.format(parent=tmp_path)
    table.write_text(f"file,labels\ncat/00.png,a\n{name},b\n")
    with pytest.raises(ValueError, match=message):
        from_directory(pets, table)


def test_links_out_of_the_folder_are_not_followed(pets, tmp_path):
    write(tmp_path / "secret.png", (0, 0, 0))
    (pets / "cat" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"`path` must hold images.*'cat/link\.png'"):
        from_directory(pets)


def test_images_are_left_to_train_on(tmp_path, rng):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    with pytest.raises(ValueError, match=r"`query_share` must leave images.*0\.95"):
        kerashash.data.from_directory(tmp_path, query_share=0.95)
