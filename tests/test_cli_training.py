"""`kerashash train` on a folder of photographs, and what follows."""

import json
import tomllib

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
        (["--data", "x", "--epochs", "0"], "`epochs` must be at least 1"),
        (["--data", "none"], "`path` must be a folder"),
        (["--data", "."], "`path` must hold a folder for each class"),
    ],
)
def test_mistakes_are_named(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []
