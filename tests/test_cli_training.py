"""`kerashash train` on a folder of photographs, and what follows."""

import json
import os
import shutil
import tomllib
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import cli, recipes, zoo
from kerashash.recipes.folders import SHORT_NAMES


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own: searches keep a graph of their model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASHASH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def pets(tmp_path_factory):
    """Eight pictures of each of three classes: spots in the class's colour."""
    folder = tmp_path_factory.mktemp("data") / "My Pets"
    rng = np.random.default_rng(0)
    for name, colour in (("cat", "red"), ("dog", "lime"), ("[bird]", "blue")):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            image = Image.new("RGB", (60, 50), "white")
            for x, y in rng.integers(0, 40, (4, 2)).tolist():
                image.paste(colour, (x, y, x + 12, y + 9))
            image.save(folder / name / f"{number}.jpg")
    return folder


@pytest.mark.slow
def test_a_folder_becomes_a_model_that_encodes_and_a_recipe(
    pets, tmp_path, monkeypatch, capsys
):
    layers = [keras.Input((16, 16, 3)), keras.layers.Rescaling(1 / 255)]
    tiny = keras.Sequential([*layers, keras.layers.Flatten()], name="tiny")
    get = kerashash.backbones.get
    monkeypatch.setattr(
        "kerashash.backbones.get", lambda name: tiny if name == "tiny" else get(name)
    )
    monkeypatch.chdir(tmp_path)
    words = ["train", "--data", str(pets), "--bits", "16", "--backbone", "tiny"]
    words += ["--cache-dir", "cache", "--out", "mine/adalabel-pets-16"]
    assert cli.main(words) == 0
    output = capsys.readouterr().out
    entry = zoo.entry("mine/adalabel-pets-16")
    assert "Wrote mine/adalabel-pets-16\n  mAP@ALL  " in output
    assert "denominator relevant, ties expected" in output
    assert entry.card["method"] == "AdaLabelHash"
    assert entry.card["counts"] == {"train": 21, "query": 3, "database": 21}
    assert entry.card["metrics"][0]["value"] > 0.6
    # The same again from the recipe that it wrote.
    recipe = str(entry.path / "recipe.toml")
    words = ["train", "--recipe", recipe, "--root", "again", "--cache-dir", "cache"]
    assert cli.main(words) == 0
    with (
        np.load(entry.path / "codes.npz") as first,
        np.load("again/adalabel-pets-16/codes.npz") as second,
    ):
        assert {*first} == {*second}
        for name in first:
            assert np.array_equal(first[name], second[name])
    capsys.readouterr()
    words = ["encode", str(pets), "--model", "mine/adalabel-pets-16", "--out", "p.khs"]
    assert cli.main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "store": "p.khs",
        "images": 24,
        "new": 24,
        "changed": 0,
        "unchanged": 0,
        "skipped": [],
    }
    # The store finds its model from another folder too.
    name = kerashash.CodeStore.open("p.khs").model_identity["name"]
    assert name == str(entry.path.absolute())
    monkeypatch.chdir(pets)
    words = ["search", "[bird]/3.jpg", "--in", str(tmp_path / "p.khs"), "--top", "1"]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "0"


def test_a_file_in_place_of_an_entry(pets, tmp_path, monkeypatch, capsys):
    digits = zoo.entry("ssdh-digits-48")
    trained = []

    def train(path, root, **options):
        trained.append((path.read_text(), options))
        return digits

    monkeypatch.setattr(recipes, "train", train)
    file = tmp_path / "a[b].keras"
    words = ["train", "--data", str(pets), "--method", "ssdh", "--out", str(file)]
    words += ["--fit", "crop"]
    assert cli.main([*words, "--seed", "4", "--log-dir", "logs"]) == 0
    x = kerashash.data.load("digits").arrays("query")[0]
    expected = zoo.load(digits.name).encode(x)
    assert np.array_equal(kerashash.load_model(file).encode(x), expected)
    ((text, options),) = trained
    assert (tmp_path / "a[b].toml").read_text() == text
    assert recipes.read(tmp_path / "a[b].toml").seed == 4
    assert text == recipes.for_folder(pets, "ssdh", 48, seed=4, fit="crop")
    data = {"folder": str(pets), "seed": 4, "fit": "crop"}
    assert recipes.read(tmp_path / "a[b].toml").data == data
    assert options == {"seed": 4, "seeds": 1, "cache_dir": None, "log_dir": "logs"}
    assert f"--model {file}" in capsys.readouterr().out
    # Another of the same photographs replaces both, and says so.
    assert cli.main([*words, "--bits", "16"]) == 0
    assert f"{file} is of the same photographs, and will" in capsys.readouterr().err
    assert recipes.read(tmp_path / "a[b].toml").model["bits"] == 16
    # Of others, or one that says of none, it does not.
    (tmp_path / "a[b].toml").unlink()
    before = file.read_bytes()
    assert cli.main(words) == 2
    assert "`--out` must be new, or a model of the same" in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_tilde_is_the_home_folder(pets, tmp_path, monkeypatch):
    digits = zoo.entry("ssdh-digits-48")
    monkeypatch.setattr(recipes, "train", lambda path, root, **_: digits)
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(pets, tmp_path / "pets")
    assert cli.main(["train", "--data", "~/pets", "--out", "~/my.keras"]) == 0
    assert recipes.read("~/my.toml").data["folder"] == str(tmp_path / "pets")
    assert kerashash.load_model(tmp_path / "my.keras").bits == 48


@pytest.fixture
def untrained(monkeypatch):
    """Fails a test that trains."""
    monkeypatch.setattr(recipes, "train", lambda *_, **__: pytest.fail("it trains"))


def tree(folder):
    """The files below a folder, with what is in them."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "out", ["x-photos-16", "x-photos-16/cat/a-b-16", "a/../x-p-16"]
)
def test_an_entry_does_not_take_the_place_of_its_photographs(
    pets, out, tmp_path, untrained, monkeypatch, capsys
):
    name = "x-p-16" if "p-16" in out and ".." in out else "x-photos-16"
    shutil.copytree(pets, tmp_path / name)
    before = tree(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    words = ["train", "--data", name, "--bits", "16", "--out", out]
    assert cli.main(words) == 2
    assert "`--out` must be a place apart from the images" in capsys.readouterr().err
    # As seen from a folder of it.
    assert cli.main([*words[:2], f"{name}/cat", *words[3:5], "--out", name]) == 2
    assert "nothing else is replaced" in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_an_entry_replaces_one_of_the_same_photographs(
    pets, tmp_path, monkeypatch, capsys
):
    digits = zoo.entry("ssdh-digits-48")
    target = tmp_path / "x-pets-16"
    shutil.copytree(digits.path, target)
    words = ["train", "--data", str(pets), "--bits", "16", "--out", str(target)]
    trained = []
    monkeypatch.setattr(
        recipes, "train", lambda path, root, **_: trained.append(path) or digits
    )
    assert cli.main(words) == 2
    assert "`--out` must be new, or an entry of the same" in capsys.readouterr().err
    assert not trained
    text = recipes.for_folder(pets, bits=16, name="x-pets-16")
    (target / "recipe.toml").write_text(text)
    assert cli.main(words) == 0
    assert f"{target} is of the same photographs, and" in capsys.readouterr().err
    assert len(trained) == 1


def test_an_entry_replaces_entries_alone(pets, tmp_path, untrained, capsys):
    (tmp_path / "x-notes-16").mkdir()
    (tmp_path / "x-notes-16" / "novel.txt").write_text("Chapter 1")
    words = ["train", "--data", str(pets), "--bits", "16"]
    assert cli.main([*words, "--out", str(tmp_path / "x-notes-16")]) == 2
    assert "nothing else is replaced" in capsys.readouterr().err
    assert cli.main([*words, "--out", str(tmp_path / "x-notes-16/novel.txt/a-b-16")])
    assert "`--out` must lie in a folder" in capsys.readouterr().err
    assert (tmp_path / "x-notes-16" / "novel.txt").read_text() == "Chapter 1"


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("none/my.keras", "`--out` must lie in a folder in which one can write"),
        ("folder.keras", "`--out` must be new or the file of a model"),
        ("text.keras", "`--out` must be new or the file of a model"),
        ("zip.keras", "`--out` must be new or the file of a model"),
        ("settings.keras", "no other settings.toml beside it than a recipe for"),
        ("other.keras", "no other other.toml beside it than a recipe for"),
    ],
)
def test_a_file_replaces_only_its_like(
    pets, out, message, tmp_path, untrained, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "text.keras").write_text("my thesis")
    with zipfile.ZipFile(tmp_path / "zip.keras", "w") as archive:
        archive.writestr("thesis.txt", "my thesis")
    (tmp_path / "settings.toml").write_text("colour = 'red'")
    (tmp_path / "other.toml").write_text(recipes.for_folder(tmp_path, bits=16))
    before = tree(tmp_path)
    words = ["train", "--data", str(pets), "--bits", "16", "--out", out]
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err
    assert tree(tmp_path) == before


@pytest.mark.parametrize("method", SHORT_NAMES)
def test_recipes_of_folders_are_recipes(method, pets, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(recipes.for_folder(pets, method, 24, epochs=7, seed=5))
    recipe = recipes.read(path)
    assert recipe.name == f"{method}-my_pets-24"
    assert recipe.method.__name__ == SHORT_NAMES[method]
    assert recipe.data == {"folder": str(pets), "seed": 5}
    assert (recipe.training.epochs, recipe.seed, recipe.model["bits"]) == (7, 5, 24)
    assert method in cli.train._METHODS


def test_names_of_folders_are_kept_whole(tmp_path):
    folder = tmp_path / 'a "quoted" \\ \x7f\té folder'
    table = tomllib.loads(recipes.for_folder(folder))
    assert table["data"]["folder"] == str(folder)
    assert table["entry"]["name"] == "adalabel-a_quoted_folder-48"


def test_names_of_folders_are_those_of_all_languages(tmp_path):
    for name in ("\U0001f4f7 photos", "\u5199\u771f", "\u2028\x85\x01\ufeff"):
        folder = tmp_path / name
        table = tomllib.loads(recipes.for_folder(folder))
        assert table["data"]["folder"] == str(folder)
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ValueError, match=r"`folder` must have a path in UTF-8.*udce9"):
        recipes.for_folder(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--recipe or --data must be given"),
        (["--recipe", "x", "--data", "y"], "--recipe and --data exclude"),
        (["--recipe", "x", "--bits", "8"], "--recipe and --bits exclude"),
        (["--recipe", "x", "--out", "y"], "--recipe and --out exclude"),
        (["--data", "x", "--root", "y"], "--data and --root exclude"),
        (["--data", "x", "--data-dir", "y"], "--data and --data-dir exclude"),
        (["--data", "x", "--method", "ddhldl"], "'adalabel', 'dcdh', 'ddh', 'dsre'"),
        (["--data", "x", "--out", "my-entry"], "`name` must be <method>-<dataset>"),
        (["--data", "x", "--out", "m.h5"], "`--out` must end in .keras"),
        (["--data", "x", "--out", "dcdh-x-48"], "`name` must not be that of another"),
        (["--data", "x", "--epochs", "0"], "`epochs` must be at least 1"),
        (["--data", "none"], "`path` must be a folder"),
        (["--data", ".", "--out", "x.keras"], "`path` must hold a folder for each"),
        (["--data", "."], "`--out` must be a place apart from the images"),
    ],
)
def test_mistakes_are_named(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
