"""The documentation: its code runs, its commands exist, its tables are the results."""

import configparser
import contextlib
import functools
import importlib.util
import io
import pathlib
import re
import shlex
import textwrap

import browser
import click
import numpy as np
import pytest
from PIL import Image

import kerashash
from kerashash import cli, comparison

ROOT = pathlib.Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
}
# A block, whether it is marked as not to be run, and what the page says that it prints.
BLOCK = re.compile(
    r"^(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)^```\n"
    r"(\nIt prints:\n\n```text\n(.*?)^```)?",
    re.M | re.S,
)
SHELL = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.M | re.S)
BLOCKS = {page: BLOCK.findall(text) for page, text in PAGES.items()}


def script(name):
    """Import a script of the maintainers, none of which is installed."""
    path = ROOT / "scripts" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of small photographs, one subfolder a class, and a query."""
    folder = tmp_path_factory.mktemp("docs")
    rng = np.random.default_rng(0)
    lines = ["file,labels"]
    for name, colour in (("cat", (200, 120, 40)), ("dog", (40, 120, 200))):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(1, 7):
            noise = rng.integers(-40, 40, (32, 32, 3))
            image = Image.fromarray(np.uint8(np.clip(noise + colour, 0, 255)))
            image.save(folder / "photos" / name / f"{number}.jpg")
            lines.append(f"{name}/{number}.jpg,{name};animal")
    image.save(folder / "query.jpg")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page, blocks in BLOCKS.items() if not all(b[0] for b in blocks)]
)
def test_blocks_of_code_run(page, photographs, tmp_path, monkeypatch):
    for source in photographs.rglob("*.*"):
        target = tmp_path / source.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kerashash.zoo, "load", load)
    names = {"__name__": "__main__"}
    for mark, code, says, expected in BLOCKS[page]:
        if mark:
            continue
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(code, page, "exec"), names)
        if says:
            assert output.getvalue() == expected


_load = functools.cache(kerashash.zoo.load)


def load(name):
    """Load a model once for all pages; a small one in place of a large one."""
    return _load({"dcdh-ap-mirflickr-48": "adalabel-cifar10-48"}.get(name, name))


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_blocks_of_code_compile(page):
    assert len(BLOCKS[page]) == PAGES[page].count("```python\n")
    for _, code, *_ in BLOCKS[page]:
        compile(textwrap.dedent(code), page, "exec")


def commands(text):
    """Find the commands of blocks of shell, each a list of words."""
    for block in SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            yield words


def parse(command, words, name="kerashash"):
    """Parse a command as kerashash does, without running it."""
    with command.make_context(name, [*words]) as context:
        if isinstance(command, click.Group):
            words = [*context._protected_args, *context.args]
            name, inner, words = command.resolve_command(context, words)
            parse(inner, words, name)


@pytest.mark.parametrize("page", [page for page in PAGES if "```bash" in PAGES[page]])
def test_commands_are_those_of_kerashash(page, photographs, monkeypatch):
    monkeypatch.chdir(photographs)
    for words in commands(PAGES[page]):
        if words[:1] == ["kerashash"]:
            parse(cli._commands, words[1:])


@pytest.mark.parametrize("page", [p for p in PAGES if p != "CHANGELOG.md"])
def test_commands_in_the_text_exist(page):
    """Those in backticks are often only a part of one."""
    for text in re.findall(r"`(kerashash [a-z][^`]*)`", PAGES[page]):
        words = [word for word in text.split()[1:] if not word.startswith("...")]
        incomplete = click.MissingParameter, click.BadParameter, click.BadOptionUsage
        with contextlib.suppress(*incomplete, click.exceptions.Exit):
            parse(cli._commands, words)


def test_wrong_commands_are_seen():
    with pytest.raises(click.UsageError, match="No such command"):
        parse(cli._commands, ["encodes", "photos"])
    with pytest.raises(click.UsageError, match="No such option"):
        parse(cli._commands, ["encode", "photos", "--out", "x.khs", "--modell", "y"])


@pytest.mark.parametrize("page", PAGES)
def test_programs_extras_and_links_exist(page):
    text = PAGES[page]
    for program in re.findall(r"python ((?:\w+/)+\w+\.py)", text):
        assert (ROOT / program).is_file(), program
    for name in re.findall(r"python -m benchmarks (\w+)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    for names in re.findall(r"pip install \S*\[([\w,]+)\]", text):
        assert {*names.split(",")} <= {*setup["options.extras_require"]}
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / link).exists(), link


def test_tables_are_those_of_the_results():
    tables = script("docs_tables")
    marked = set()
    for page in tables.pages():
        text = page.read_text()
        marked |= {name for _, name, _ in tables.MARKED.findall(text)}
        assert text == tables.filled(text), f"run scripts/docs_tables.py: {page}"
    assert marked == {*tables.TABLES}


def test_papers_tables_say_what_was_run(tmp_path, monkeypatch):
    tables = script("docs_tables")
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert "Not measured, for the data were not to be had: NUS-WIDE (" in (
        tables.comparison("dsre-1")
    )
    full = comparison.table("dsre-1")
    (tmp_path / "comparison").mkdir()
    rows = {row.name: row for row in full.rows}
    for name, bits, seed, value in (
        ("ITQ", 12, 0, 0.25),
        ("ITQ", 12, 1, 0.35),
        ("DSRE (paper preset)", 48, 0, 0.5),
    ):
        task = comparison.values.Task(full.parts[0], rows[name], bits, seed)
        cell = comparison.cells.Cell({"mAP": value, "mAP, ties averaged": 0}, 1.0, 1.0)
        file = tmp_path / "comparison" / "dsre-1.csv"
        comparison.values.append(file, "dsre-1", task, cell)
    text = tables.comparison("dsre-1")
    ((*_, methods),) = commands(text)
    assert methods == "ITQ,DSRE (paper preset)"
    assert "--seeds 2 " in text
    assert " ".join(full.note.split()) in " ".join(text.split())
    plain = " ".join(text.split())
    assert "`cifar10`, protocol `5k-train`; features: efficientnet-lite0" in plain
    assert "1 to 2 seeds; 2 CPU cores, no GPU." in plain
    assert "| ITQ | 0.162 / 0.300 ± 0.071 | 0.169 / – |" in text
    assert "| DSRE (paper preset) | – / – | – / – | – / – | – / 0.500 |" in text
    assert "Not run: SH, ITQ at 24/32/48 bits, LFH," in plain
    assert "Printed only, for the library has none: DQN." in plain


def test_pages_that_would_change_are_named(tmp_path, monkeypatch):
    tables = script("docs_tables")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    page = tmp_path / "README.md"
    old = "Kept by hand.\n<!-- table: loading -->old<!-- end -->\nThis too.\n"
    page.write_text(old)
    monkeypatch.setattr("sys.argv", ["docs_tables.py", "--check"])
    with pytest.raises(SystemExit, match=r"README\.md"):
        tables.main()
    assert page.read_text() == old
    monkeypatch.setattr("sys.argv", ["docs_tables.py"])
    tables.main()
    assert page.read_text() == old.replace("old", tables.loading())
    monkeypatch.setattr("sys.argv", ["docs_tables.py", "--check"])
    tables.main()


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/speed.md"])
def test_speeds_are_not_typed_by_hand(page):
    marked = script("docs_tables").MARKED
    text = re.sub(r"^```.*?^```", "", marked.sub("", PAGES[page]), flags=re.M | re.S)
    speed = r"[\d.]+ ?(?:x|ms|s|[GM]B|GB/s|milliseconds|times|images a second)\b"
    assert not re.search(speed, text), re.search(speed, text)
    assert re.search(speed, "It takes 1.9 ms.")


def test_the_readme_begins_with_the_two_commands():
    text = PAGES["README.md"]
    assert text.index("pip install . && kerashash demo") < 800
    assert text.index("pip install '.[test]' && pytest") < 900
    assert len(text.split()) < 900


ROWS = (("b", 2, ""), ("c", 10, "0.5"), ("a", 9, "0.1"))


@pytest.mark.slow
@pytest.mark.skipif(
    not (browser.DRIVER and browser.CHROMIUM),
    reason="Chromium is not installed: apt-get install chromium chromium-driver",
)
def test_tables_are_sorted_by_keyboard(tmp_path):
    rows = "".join(
        f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in ROWS
    )
    code = (ROOT / "docs" / "javascripts" / "sort.js").read_text()
    (tmp_path / "table.html").write_text(
        "<div class=sortable><table><thead><tr><th>name<th>bits<th>value</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><script>{code}</script>"
    )
    with browser.Browser(400, 400, tmp_path / "profile") as page:
        page.open((tmp_path / "table.html").as_uri())

        def order(column):
            buttons = "document.querySelectorAll('.sortable th button')"
            page.run(f"{buttons}[{column}].focus()")
            page.press("\ue007")  # Enter
            names = "[...document.querySelectorAll('tbody tr')].map(r => r.cells[0]"
            return "".join(page.run(f"return {names}.textContent)"))

        assert [order(0), order(0)] == ["abc", "cba"]
        assert [order(1), order(1)] == ["bac", "cab"]  # 10 is more than 9
        assert [order(2), order(2)] == ["acb", "cab"]  # an empty cell is last
        sorts = "[...document.querySelectorAll('th')].map(head => head.ariaSort)"
        assert page.run(f"return {sorts}") == [None, None, "descending"]
        assert not page.log()


def test_the_reference_has_every_public_name():
    pytest.importorskip("mkdocs")
    pytest.importorskip("griffe")
    pages = script("docs_hooks").api_pages()
    text = "\n".join(pages.values())
    for name in (ROOT / "tests" / "data" / "public_names.txt").read_text().split():
        module = is_module(name)
        assert module or f"::: {name}\n" in text or f"| `{name}` |" in text, name
    configuration = (ROOT / "mkdocs.yml").read_text()
    assert all(f"api/{room}.md" in configuration for room in pages)


def is_module(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return name in ("kerashash.callbacks", "kerashash.plots")
