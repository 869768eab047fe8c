import pathlib
import subprocess
import sys
import types

import matplotlib.image
import pytest

from kerashash import cli, recipes, zoo


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    assert cli.main(["demo", "--output", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    rows = {
        line[:34].strip(): float(line.split()[-2])
        for line in output.splitlines()
        if line.startswith(("random", "cosine", "DCDH"))
    }
    random, cosine, learned = rows.values()
    assert random < 0.15 < cosine < learned
    assert learned > 0.95
    assert f"tensorboard --logdir {tmp_path / 'logs'}" in output
    assert "recomputed" in output
    assert (tmp_path / "dcdh-digits-48.keras").is_file()
    height, width, _ = matplotlib.image.imread(tmp_path / "retrieval.png").shape
    assert min(height, width) > 500
    (logs,) = (tmp_path / "logs").iterdir()
    assert {path.name for path in logs.iterdir()} >= {"train", "retrieval"}


def test_zoo_commands(capsys):
    assert cli.main(["zoo", "list"]) == 0
    listed = capsys.readouterr().out
    assert "adalabel-cifar10-48" in listed
    assert ["dsre-nuswide-12", "recipe", "only"] in map(str.split, listed.splitlines())
    assert cli.main(["zoo", "info", "adalabel-cifar10-48"]) == 0
    assert "- licence: Apache-2.0" in capsys.readouterr().out
    assert cli.main(["zoo", "verify", "dcdh-cifar10-48"]) == 0
    assert "mAP@ALL" in capsys.readouterr().out


def test_a_user_s_mistake_is_one_line(capsys):
    assert cli.main(["zoo", "verify", "adalabel-cifar-48"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("kerashash: `name` must be an entry")
    assert error.count("\n") == 1
    assert cli.main(["train", "--recipe", "none.toml"]) == 1
    assert cli.main(["zoo", "verify"]) == 1
    assert "one entry, or --all" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["fly"])


def test_train_passes_its_options_on(monkeypatch, tmp_path, capsys):
    trained = []

    def train(*arguments, **options):
        trained.append((*arguments, options))
        return types.SimpleNamespace(path="entry", card={"metrics": []})

    monkeypatch.setattr(recipes, "train", train)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("")
    options = {"seed": 4, "seeds": 2}
    options |= {name: f"a {name}" for name in ("cache_dir", "data_dir", "log_dir")}
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    arguments = ["train", "--recipe", str(recipe), "--root", str(tmp_path), *words]
    assert cli.main(arguments) == 0
    assert cli.main(["train", "--recipe", "ssdh-digits-48"]) == 0
    nothing = dict.fromkeys(options) | {"seeds": 1}
    installed = zoo.recipe_path("ssdh-digits-48")
    assert trained == [
        (recipe, tmp_path, options),
        (installed, pathlib.Path("."), nothing),
    ]
    assert "Wrote entry" in capsys.readouterr().out


def test_help_imports_no_tensorflow():
    code = (
        "import sys, kerashash.cli\n"
        "try:\n kerashash.cli.main(['--help'])\n"
        "except SystemExit:\n sys.exit('tensorflow' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert "demo" in result.stdout
