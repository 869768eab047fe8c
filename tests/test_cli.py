import json
import os
import pathlib
import shutil
import subprocess
import sys
import types
import warnings

import matplotlib.image
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import CodeStore, cli, recipes, zoo
from kerashash.cli import completion
from kerashash.cli.printing import print_json
from kerashash.page import Limits


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of its own: searches keep a graph of their model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASHASH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.slow
@pytest.mark.long
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


@pytest.mark.skipif(sys.platform != "linux", reason="no folder that root cannot write")
def test_demo_needs_a_folder_that_can_be_written(capsys):
    assert cli.main(["demo", "--output", "/proc/self"]) == 2
    captured = capsys.readouterr()
    assert not captured.out  # not after a training
    assert "must be a folder that can be written" in captured.err


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
    assert cli.main(["zoo", "verify", "adalabel-cifar-48"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kerashash: `name` must be an entry")
    assert error.count("\n") == 1
    assert cli.main(["train", "--recipe", "none.toml"]) == 2
    assert cli.main(["zoo", "verify"]) == 2
    assert "one entry, or --all" in capsys.readouterr().err
    for mistake, expected in (
        (["fly"], "kerashash: No such command 'fly'"),
        (["search", "a.jpg"], "kerashash search: Missing option '--in'"),
        (["zoo", "info", "x", "--jsn"], "kerashash zoo info: No such option"),
        (["duplicates", "a[b].khs", "--radius", "[/red]"], "'[/red]' is not a valid"),
    ):
        assert cli.main(mistake) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
        assert " --help` says more.\n" in error


def test_without_a_command_there_is_help(capsys):
    for words in ([], ["zoo"]):
        assert cli.main(words) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("Usage: kerashash")


def test_a_mistake_of_ours_says_so_and_debug_shows_where(monkeypatch, capsys):
    monkeypatch.setattr(zoo, "entry", lambda name: [][0])
    assert cli.main(["zoo", "info", "adalabel-cifar10-48"]) == 1
    assert (
        "IndexError: list index out of range\nThis is a mist" in capsys.readouterr().err
    )
    with pytest.raises(IndexError):
        cli.main(["--debug", "zoo", "info", "adalabel-cifar10-48"])


@pytest.mark.parametrize("words", ["zoo list", "--help"])
def test_a_reader_that_stops_is_no_error(tmp_path, words):
    command = f"{sys.executable} -m kerashash {words} | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path
    )
    assert (result.stdout, result.stderr) == ("0\n", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["zoo list", "--help", "--version"])
def test_an_output_that_is_full_is_one_line(tmp_path, words):
    result = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m kerashash {words} >/dev/full"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 2
    assert result.stderr == "kerashash: [Errno 28] No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_an_error_that_nobody_can_read_has_its_status(tmp_path):
    command = f"{sys.executable} -m kerashash nonsense 2>/dev/full"
    assert subprocess.run(["bash", "-c", command], cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(("name", "status"), [("adalabel-cifar10-48", 0), ("no", 2)])
def test_files_take_no_place_of_an_output_that_is_closed(tmp_path, name, status):
    """What a command opens is not standard output, which would be written into it."""
    program = f"""
import os, sys
from kerashash import cli
status = cli.main(["zoo", "info", "{name}"])
os._exit(status if os.open("some", os.O_CREAT) > 2 else 99)
"""
    (tmp_path / "program.py").write_text(program)
    command = f"{sys.executable} program.py <&- >&- 2>&-"
    result = subprocess.run(["bash", "-c", command], cwd=tmp_path)
    assert result.returncode == status


def test_json_is_valid_whatever_the_numbers(capsys):
    value = {"a": [np.float64("nan"), 1.5, (np.arange(2),)], "b": np.array([np.inf])}
    print_json([value, {"c": b"x", "d": None}])
    expected = [{"a": [None, 1.5, [[0, 1]]], "b": [None]}, {"c": "eA==", "d": None}]
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == expected


@pytest.mark.slow
def test_commands_keep_tensorflow_quiet_and_nothing_else(tmp_path):
    program = """
import gc, sys
from kerashash.cli import main
status = main(["train", "--recipe", "none-12"])
assert "tensorflow" in sys.modules
assert gc.isenabled() and gc.get_freeze_count() > 100_000
import tensorflow as tf
for _ in range(8):
    tf.function(lambda x: x)(tf.zeros(()))
sys.exit(status)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert result.returncode == 2
    assert result.stderr.startswith("kerashash: `name` must be")
    assert result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A store of six images, two of which are copies, made where the images lie."""
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for number in range(6):
        low = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
        image = Image.fromarray(low).resize((90, 60))
        image.save(folder / f"{number % 5 if number else 'a & b'}{number}.png")
    shutil.copy(folder / "22.png", folder / "copy.png")
    paths = sorted(path.name for path in folder.iterdir())
    store = kerashash.CodeStore.create(folder / "p.khs", "adalabel-cifar10-48")
    codes = store.model.encode([folder / path for path in paths], verbose=0)
    store.add(codes, ids=paths, columns={"year": range(len(paths))})
    return folder, store, paths


def test_search_prints_the_neighbours_that_the_store_finds(photographs, capsys):
    folder, store, paths = photographs
    query = str(folder / "22.png")
    where = [query, "--in", str(folder / "p.khs")]
    assert cli.main(["search", *where, "--top", "3"]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == f"{query}: 3 of {len(paths)}, by distance in bits"
    expected = store.search([query], 3).rows(0)
    assert [line.split(maxsplit=1) for line in lines] == [
        [str(row["distance"]), row["id"]] for row in expected
    ]
    assert [row["id"] for row in expected[:2]] == ["22.png", "copy.png"]
    options = ["--radius", str(expected[2]["distance"]), "--json"]
    assert cli.main(["search", *where, *options]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["neighbours"][:3] == expected
    radius = expected[2]["distance"] - 1
    options = ["--radius", str(radius), "--where", "year >= 1", "--json"]
    assert cli.main(["search", query, *where, *options]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first == second
    assert first["neighbours"] == [
        {"id": path, "distance": 0, "year": paths.index(path)}
        for path in ("22.png", "copy.png")
    ]


def test_names_of_files_are_printed_on_one_line(photographs, tmp_path, capsys):
    """Whatever they hold: an escape sequence could clear the screen, and a mark of
    direction show another suffix."""
    folder, store, _ = photographs
    some = CodeStore.create(tmp_path / "some.khs", "adalabel-cifar10-48")
    names = ["a\nb", "c\x1b[2J", "d\u2028\x9b é", "\u202egpj.exe", "\u2066\u200b\xad"]
    # A name in Persian, and an emoji of several people.
    names.append(joined := "می\u200cخواهم \U0001f468\u200d\U0001f469.jpg")
    some.add(store.codes()[:6], ids=names)
    query = shutil.copy(folder / "22.png", f"{tmp_path}/q\n\x1b.png")
    assert cli.main(["search", query, "--in", some.path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/q\\n\\x1b.png: 6 of 6")
    assert {line.split(maxsplit=1)[1] for line in lines[1:]} == {
        "a\\nb",
        "c\\x1b[2J",
        "d\\u2028\\x9b é",
        "\\u202egpj.exe",
        "\\u2066\\u200b\\xad",
        joined,
    }
    assert cli.main(["duplicates", some.path, "--radius", "48"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 8


def test_search_draws_the_neighbours(photographs, tmp_path, monkeypatch, capsys):
    folder, _, _ = photographs
    where = [str(folder / "22.png"), "--in", str(folder / "p.khs")]
    images = ["--images", str(folder)]
    for options in ([], ["--radius", "0", "--where", "year = 0"]):
        file = str(tmp_path / "sheet.png")
        assert cli.main(["search", *where, *images, *options, "--png", file]) == 0
        assert matplotlib.image.imread(file).shape[2] == 4
    file = tmp_path / "page.html"
    assert cli.main(["search", *where, *images, "--html", str(file)]) == 0
    page = file.read_text()
    assert page.count("<img ") == 8
    assert "bits: a &amp; b0.png" in page
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert cli.main(["search", *where, "--png", "none.png"]) == 2
    assert "No thumbnail of '22.png'" in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_a_sheet_that_is_too_large_is_refused_before_it_is_drawn(
    photographs, tmp_path, monkeypatch, capsys
):
    folder, _, _ = photographs
    monkeypatch.setattr("kerashash.monitoring.plots.MOST_NEIGHBOURS", 5)
    monkeypatch.setattr("kerashash.store.pictures.thumbnail", None)
    where = [str(folder / "22.png"), "--in", str(folder / "p.khs")]
    file = tmp_path / "sheet.png"
    assert cli.main(["search", *where, "--png", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("kerashash: --png takes at most 490 queries, with 5 neigh")
    assert error.endswith(" Received: 1, with 7 each.\n")
    assert not file.exists()


def test_photographs_are_searched_in_the_home_folder(
    photographs, tmp_path, monkeypatch, capsys
):
    folder, _, _ = photographs
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))  # of Windows
    monkeypatch.chdir(tmp_path)
    words = ["search", "~/22.png", "--in", "~/p.khs", "--images", "~"]
    assert cli.main([*words, "--top", "1"]) == 0
    assert capsys.readouterr().out.endswith("    0  22.png\n")
    assert cli.main([*words, "--html", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert (page.count("<img "), page.count("not readable")) == (8, 0)
    for option, name in (("--png", "page.png"), ("--html", "page.html")):
        assert cli.main([*words, f"{option}=~/{name}"]) == 0
        (folder / name).unlink()


def test_a_neighbour_that_is_missing_leaves_the_others(
    photographs, tmp_path, monkeypatch
):
    folder, _, paths = photographs
    some = shutil.copytree(folder, tmp_path / "some")
    (some / paths[0]).unlink()
    monkeypatch.chdir(some)
    where = ["22.png", "--in", "p.khs"]
    assert cli.main(["search", *where, "--html", "page.html"]) == 0
    page = (some / "page.html").read_text()
    assert page.count("<img ") == 8
    assert page.count(", not readable</figcaption>") == 1
    assert cli.main(["search", *where, "--png", "sheet.png"]) == 0
    assert matplotlib.image.imread("sheet.png").shape[2] == 4


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--png", "out/result"),
        ("--png", "page.jpg"),
        ("--png", "folder.png"),
        ("--png", ""),
        ("--html", "folder.png"),
        ("--html", ""),
    ],
)
def test_a_picture_is_written_under_its_name_or_refused(
    photographs, tmp_path, monkeypatch, capsys, option, name
):
    folder, _, _ = photographs
    monkeypatch.chdir(tmp_path)
    for made in ("out", "folder.png"):
        (tmp_path / made).mkdir()
    where = [str(folder / "22.png"), "--in", str(folder / "p.khs")]
    assert cli.main(["search", *where, "--images", str(folder), option, name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"kerashash: {option} must be the name of a file")
    assert error.endswith(f" Received: {name!r}.\n")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder.png", "out"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("search q.jpg --in none.khs --png", "no/such/x.png"),
        ("search q.jpg --in none.khs --html", "no/such/x.html"),
        ("search q.jpg --in none.khs --html", "dangling"),
        ("plot none-12 --out", "no/such/a.png"),
    ],
)
def test_a_folder_that_is_missing_is_named_before_the_work(
    tmp_path, monkeypatch, capsys, words, name
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling").symlink_to("no/such/x")
    assert cli.main([*words.split(), name]) == 2
    error = capsys.readouterr().err
    option, folder = words.split()[-1], os.path.realpath("no/such")
    assert error.startswith(f"kerashash: {option} must be the name of a file in a fold")
    assert error.endswith(f" Received: {name!r}, in {folder!r}.\n")


def test_duplicates_prints_groups(photographs, capsys):
    folder, store, paths = photographs
    assert cli.main(["duplicates", str(folder / "p.khs")]) == 0
    groups = store.duplicates()
    assert ["22.png", "copy.png"] in groups
    output = capsys.readouterr().out
    assert "22.png\ncopy.png\n\n" in output
    assert f"{len(groups)} group" in output
    assert (
        cli.main(["duplicates", str(folder / "p.khs"), "--radius", "48", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out) == [paths]
    assert cli.main(["duplicates", str(folder / "none.khs")]) == 2
    assert "none.khs' is" not in (error := capsys.readouterr().err)
    assert "none.khs', which does not exist" in error


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


def commands(command=cli._commands, path=()):
    """Yield the words of each command of the program."""
    yield [*path]
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_fits_a_screen(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*words, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(" ".join(["Usage: kerashash", *words]))
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    assert not any(line.endswith("...") and "Usage" not in line for line in lines)


def test_help_and_completion_import_neither_tensorflow_nor_numpy(tmp_path):
    code = (
        "import sys, os, kerashash.cli\n"
        "kerashash.cli.main(['--help'])\n"
        "assert not {'tensorflow', 'keras', 'numpy', 'rich'} & {*sys.modules}\n"
        "os.environ |= {'_KERASHASH_COMPLETE': 'bash_complete', 'COMP_CWORD': '3',\n"
        "  'COMP_WORDS': 'kerashash encode --model dcdh-nus'}\n"
        "try:\n kerashash.cli.main([])\n"
        "finally:\n assert not {'tensorflow', 'keras'} & {*sys.modules}"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "demo" in result.stdout
    assert "plain,dcdh-nuswide-48\n" in result.stdout


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("platform.machine = lambda: 'x86_64'", "1"),
        ("platform.machine = lambda: 'arm64'", "None"),
        ("os.environ['TF_ENABLE_ONEDNN_OPTS'] = '0'", "0"),
        ("sys.modules['tensorflow'] = None", "None"),  # it has read the variable
    ],
)
def test_tensorflow_uses_onednn_unless_told_otherwise(before, expected):
    code = (
        f"import os, platform, sys, kerashash.cli; {before}\n"
        "kerashash.cli.main(['--help'])\n"
        "sys.exit(str(os.environ.get('TF_ENABLE_ONEDNN_OPTS')))"
    )
    variables = {**os.environ}
    variables.pop("TF_ENABLE_ONEDNN_OPTS", None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True
    )
    assert result.stderr.strip() == expected


def complete(line, monkeypatch, capsys):
    words = line.split(" ")
    for name, value in {
        "_KERASHASH_COMPLETE": "bash_complete",
        "COMP_CWORD": str(len(words) - 1),
        "COMP_WORDS": line,
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.main([])
    return [tuple(row.split(",")) for row in capsys.readouterr().out.splitlines()]


def test_names_are_completed(monkeypatch, capsys):
    def values(line):
        return [value for _, value in complete(line, monkeypatch, capsys)]

    assert values("kerashash dup") == ["duplicates"]
    assert values("kerashash zoo ver") == ["verify"]
    assert "--radius" in values("kerashash duplicates --")
    entry = ["adalabel-semi-cifar10-48"]
    for line in ("encode photos --model", "zoo info", "train --recipe"):
        assert values(f"kerashash {line} adalabel-semi-cifar10-4") == entry
    assert values("kerashash train --recipe dsre-nuswide-1") == ["dsre-nuswide-12"]
    # Where no name begins so, the shell completes files.
    photographs = complete("kerashash serve p.khs --model my.ke", monkeypatch, capsys)
    assert photographs == [("file", "my.ke")]
    monkeypatch.setenv("KERASHASH_ZOO", "/none")
    assert complete("kerashash zoo info a", monkeypatch, capsys) == [("file", "a")]


def test_completion_is_installed_once(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    latin = b"# caf\xe9\n"  # of no UTF-8
    (tmp_path / ".zshrc").write_bytes(latin)
    (tmp_path / ".bashrc").write_text("alias ll='ls -l'\n")
    for shell in ("bash", "bash", "zsh", "fish"):
        monkeypatch.setenv("SHELL", f"/bin/{shell}")
        assert cli.main(["--install-completion"]) == 0
    script = tmp_path / ".local/share/kerashash/complete.bash"
    startup = (tmp_path / ".bashrc").read_text()
    assert startup.startswith("alias ll='ls -l'\n")
    assert startup.count(f"source {script}\n") == 1
    check = f"source {tmp_path / '.bashrc'} && complete -p kerashash"
    result = subprocess.run(["bash", "-c", check], capture_output=True, text=True)
    assert "-F _kerashash_completion kerashash" in result.stdout
    zsh = (tmp_path / ".zshrc").read_bytes()
    assert zsh.startswith(latin)
    assert b"compinit" in zsh
    fish = tmp_path / ".config/fish/completions/kerashash.fish"
    assert "complete --no-files --command kerashash" in fish.read_text()
    monkeypatch.setenv("SHELL", "/bin/csh")
    capsys.readouterr()
    assert cli.main(["--install-completion"]) == 2
    assert "$SHELL must be bash, zsh or fish" in capsys.readouterr().err


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.skipif(sys.platform != "linux", reason="names must be text elsewhere")
@pytest.mark.parametrize(
    ("name", "variables"), [(b"caf\xe9", {}), ("caf\u00e9".encode(), ASCII)]
)
def test_completion_is_installed_in_a_home_of_any_name(name, variables, tmp_path):
    home = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
    os.mkdir(home)
    environment = {**os.environ, **variables, "HOME": home, "SHELL": "/bin/bash"}
    environment.pop("XDG_DATA_HOME", None)
    words = [sys.executable, "-m", "kerashash", "--install-completion"]
    for _ in range(2):
        subprocess.run(words, env=environment, check=True, cwd=tmp_path)
    startup = pathlib.Path(home, ".bashrc").read_bytes()
    assert startup.count(b"source ") == 1
    check = "source ~/.bashrc && complete -p kerashash"
    subprocess.run(["bash", "-c", check], env=environment, check=True)


def test_completion_that_cannot_be_installed_leaves_nothing(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    (tmp_path / ".bashrc").mkdir()
    assert cli.main(["--install-completion"]) == 2
    assert f"'{tmp_path / '.bashrc'}'\n" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [tmp_path / ".bashrc"]


@pytest.mark.parametrize(("kind", "status"), [(RuntimeError, 2), (KeyError, 1)])
def test_options_that_do_all_report_as_commands_do(kind, status, monkeypatch, capsys):
    def fail(shell):
        raise kind("no\x1bhome")

    monkeypatch.setattr(completion, "get_completion_class", fail)
    assert cli.main(["--install-completion"]) == status
    error = capsys.readouterr().err
    assert error.startswith("kerashash: ")
    assert ("This is a mistake in kerashash" in error) == (status == 1)
    assert "\x1b" not in error
    with pytest.raises(kind):
        cli.main(["--debug", "--install-completion"])


@pytest.mark.skipif(sys.platform == "win32", reason="such a folder stays there")
@pytest.mark.parametrize(
    "words",
    [
        ["duplicates", "p.khs"],
        ["search", "a.jpg", "--in", "p.khs", "--png", "a.png"],
        ["plot", "adalabel-cifar10-48", "--out", "a.png"],
        ["zoo", "export", "adalabel-cifar10-48", "a"],
    ],
    ids=lambda words: words[0],
)
def test_a_working_folder_that_is_removed_is_named(
    words, monkeypatch, tmp_path, capsys
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error == "kerashash: The working folder has been removed. Go to another.\n"


def test_warnings_are_one_line(monkeypatch, capsys):
    before = warnings.formatwarning

    def list_cards():
        print(warnings.formatwarning("a surrogate", UserWarning, "plot.py", 90))
        return {}, {}

    monkeypatch.setattr(zoo.registry, "list_cards", list_cards)
    assert cli.main(["zoo", "list"]) == 0
    assert capsys.readouterr().out.startswith("kerashash: a surrogate\n\n")
    assert warnings.formatwarning is before


def test_the_limits_of_the_page_are_its_defaults():
    options = {option.name: option.default for option in cli.serve._serve.params}
    limits = Limits(
        batch=options["batch"],
        queue=options["queue"],
        upload=int(options["megabytes"] * 1e6),
        pixels=int(options["megapixels"] * 1e6),
        seconds=options["seconds"],
        k=options["most"],
    )
    assert limits == Limits()


def test_an_interrupt_has_its_own_status(monkeypatch, capsys):
    def interrupt(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo, "entry", interrupt)
    assert cli.main(["zoo", "info", "adalabel-cifar10-48"]) == 130
    assert capsys.readouterr().err == ""


def test_an_interrupted_encode_says_how_it_goes_on(
    photographs, monkeypatch, tmp_path, capsys
):
    def interrupt(paths, store, engine):
        raise KeyboardInterrupt

    folder, _, _ = photographs
    monkeypatch.setattr("kerashash.store.filling.encode_files", interrupt)
    words = ["encode", str(folder), "--out", str(folder / "p.khs")]
    assert cli.main(words) == 130
    error = capsys.readouterr().err
    assert (
        error == f"{folder / 'p.khs'} has what was encoded; the same command goes on.\n"
    )


def test_zoo_prints_one_json_document(capsys):
    assert cli.main(["zoo", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert [name for name, row in rows.items() if row["trained"]] == zoo.list()
    assert rows["dsre-nuswide-12"] == {"name": "dsre-nuswide-12", "trained": False}
    name = "adalabel-cifar10-48"
    assert cli.main(["zoo", "info", name, "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card == zoo.entry(name).card
    assert rows[name]["metrics"] == card["metrics"]


def test_errors_move_no_cursor(capsys):
    assert cli.main(["zoo", "info", "no\x1b[2Jsuch"]) == 2
    error = capsys.readouterr().err
    assert "\x1b" not in error
    assert "\\x1b[2J" in error
    assert error.startswith("kerashash: `name` must be")
