"""The command ``kerashash train``."""

import os
import pathlib
import tempfile
import tomllib
import zipfile
from typing import TYPE_CHECKING, Any

import click

from kerashash.cli.completion import complete_recipe
from kerashash.cli.printing import print_metrics
from kerashash.notes import note

if TYPE_CHECKING:
    from kerashash.zoo import Entry

# Those of `kerashash.recipes.for_folder`, whose import takes time.
_METHODS = (
    *("adalabel", "dcdh", "ddh", "dsre", "ssdh"),
    *("cnnh", "dhn", "dish", "dpsh", "dsdh", "dtsh", "hashnet", "ninh"),
)


@click.command("train")
@click.option(
    "--recipe",
    metavar="NAME|FILE",
    help="Of a zoo entry, or a file recipe.toml.",
    shell_complete=complete_recipe,
)
@click.option(
    "--data", metavar="FOLDER", help="In its place: photographs, a subfolder a class."
)
@click.option(
    "--method",
    metavar="NAME",
    type=click.Choice(_METHODS),
    help="With --data: if not adalabel.",
)
@click.option("--bits", type=int, help="With --data: the code length, if not 48.")
@click.option(
    "--backbone", metavar="NAME", help="With --data: if not efficientnet-lite0."
)
@click.option("--epochs", type=int, help="With --data: if not 30.")
@click.option(
    "--fit",
    type=click.Choice(("squash", "crop", "pad")),
    help="With --data: how photographs become squares, if not squash.",
)
@click.option(
    "--out", metavar="PATH", help="With --data: folder of an entry, or .keras file."
)
@click.option("--root", metavar="FOLDER", help="With --recipe: where entries lie.")
@click.option(
    "--data-dir",
    metavar="FOLDER",
    help="With --recipe: of TensorFlow Datasets, or of its images.",
)
@click.option("--seed", type=int, help="In place of the recipe's.")
@click.option("--seeds", default=1, help="How many seeds to train.")
@click.option("--cache-dir", metavar="FOLDER", help="For features, used again later.")
@click.option("--log-dir", metavar="FOLDER", help="For TensorBoard.")
def _train(
    recipe: str | None,
    data: str | None,
    out: str | None,
    root: str | None,
    data_dir: str | None,
    **options: Any,
) -> None:
    """Train an entry from a recipe, or on photographs of your own.

    Example: kerashash train --data pets --method dcdh --bits 48
    """
    names = ("method", "bits", "backbone", "epochs", "fit")
    choices = {name: options.pop(name) for name in names}
    choices = {name: value for name, value in choices.items() if value is not None}
    for one, other, given in (
        ("--recipe", "--data", data is not None),
        ("--recipe", ", ".join(f"--{name}" for name in choices), bool(choices)),
        ("--recipe", "--out", out is not None),
    ):
        if recipe is not None and given:
            raise click.UsageError(f"{one} and {other} exclude one another.")
    if data is None:
        if recipe is None:
            raise click.UsageError("--recipe or --data must be given.")
        _report(_from_recipe(recipe, root, data_dir, **options))
        return
    for name, value in (("--root", root), ("--data-dir", data_dir)):
        if value is not None:
            raise click.UsageError(f"--data and {name} exclude one another.")
    _on_folder(data, out, choices, **options)


def _from_recipe(
    recipe: str, root: str | None, data_dir: str | None, **options: Any
) -> "Entry":
    from kerashash import files, recipes, zoo

    path = files.as_path(recipe, "--recipe")
    if not path.is_file():
        path = zoo.recipe_path(recipe)
    return recipes.train(path, pathlib.Path(root or "."), data_dir=data_dir, **options)


def _on_folder(
    folder: str, out: str | None, choices: dict[str, Any], **options: Any
) -> None:
    """Write a recipe for a folder and train it: an entry, or a file of its model."""
    from kerashash import files, recipes, zoo
    from kerashash.recipes import runs
    from kerashash.saving import save_model

    if options["seed"] is not None:
        choices["seed"] = options["seed"]
    is_file = out is not None and out.endswith(".keras")
    if out is not None and not is_file:
        if pathlib.Path(out).suffix:
            raise ValueError(
                "`--out` must end in .keras, for the file of a model, or be the folder "
                f"of an entry, <method>-<dataset>-<bits>. Received: {out!r}."
            )
        choices["name"] = pathlib.Path(out).name
    text = recipes.for_folder(folder, **choices)
    name = tomllib.loads(text)["entry"]["name"]
    target = files.as_path(out or name, "--out")
    # Before the training, which takes long.
    if is_file:
        _check_file(target, folder)
    else:
        runs.check_apart(target, files.as_path(folder, "--data"), "--out")
        runs.check_entry_folder(target, "--out")
        if target.exists() and not _is_of(target / "recipe.toml", folder):
            raise ValueError(
                "`--out` must be new, or an entry of the same photographs, which is "
                f"replaced. Received: {os.fspath(target)!r}, whose recipe has others."
            )
    if target.exists():
        note(f"{target} is of the same photographs, and will be replaced.")
    with tempfile.TemporaryDirectory() as temporary:
        recipe = pathlib.Path(temporary, "recipe.toml")
        recipe.write_text(text, "utf-8")
        root = temporary if is_file else target.parent
        entry = recipes.train(recipe, root, **options)
        if is_file:
            save_model(zoo.load(entry.path), target)
            with files.replacing(target.with_suffix(".toml")) as file:
                file.write(text.encode())
            print(f"Wrote {target}, and its recipe {target.with_suffix('.toml')}")
            print_metrics(entry.card["metrics"])
        else:
            _report(entry)
    print(
        f"Next: kerashash encode PHOTOS --out my.khs --model "
        f"{target if is_file else entry.path}"
    )


def _check_file(target: pathlib.Path, folder: str) -> None:
    """Check that a model's file and its recipe replace nothing else than those of the
    same photographs."""
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        raise ValueError(
            "`--out` must lie in a folder in which one can write. Received: "
            f"{os.fspath(target)!r}."
        )
    if os.path.lexists(target) and not _is_model(target):
        raise ValueError(
            "`--out` must be new or the file of a model, which is replaced. Received: "
            f"{os.fspath(target)!r}."
        )
    recipe = target.with_suffix(".toml")
    is_ours = _is_of(recipe, folder)
    if os.path.lexists(recipe) and not is_ours:
        raise ValueError(
            f"`--out` must have no other {recipe.name} beside it than a recipe for the "
            f"same photographs, which is replaced. Received: {os.fspath(recipe)!r}."
        )
    if os.path.lexists(target) and not is_ours:
        raise ValueError(
            "`--out` must be new, or a model of the same photographs, which is "
            f"replaced. Received: {os.fspath(target)!r}, which has no {recipe.name} "
            "beside it that names them."
        )


def _is_of(recipe: pathlib.Path, folder: str) -> bool:
    """Whether a file is a recipe for the photographs of a folder."""
    from kerashash import recipes

    try:
        named = recipes.read(recipe).data.get("folder")
    except (TypeError, ValueError):
        return False
    return bool(named == os.fspath(pathlib.Path(folder).expanduser().resolve()))


def _is_model(path: pathlib.Path) -> bool:
    """Whether a file is that of a model, by the names of what is in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {"config.json", "model.weights.h5"} <= {*archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False


def _report(entry: "Entry") -> None:
    print(f"Wrote {entry.path}")
    print_metrics(entry.card["metrics"])


COMMANDS = (_train,)
