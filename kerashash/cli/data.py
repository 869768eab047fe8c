"""The commands ``kerashash data list | info | prepare``."""

import json
import os
import pathlib
import textwrap
from typing import Any, NamedTuple

import click

import kerashash
from kerashash.cli.completion import complete_data
from kerashash.cli.options import json_option
from kerashash.cli.printing import print_json


class About(NamedTuple):
    """What is said of a data set without its builder, whose import takes seconds.

    Attributes:
        rows: int; the number of images, or of rows.
        content: str; what they are.
        files: tuple of str; paths in TFDS's manual folder, of which one holds the
            publisher's files. Empty for what comes with scikit-learn, or is downloaded.
    """

    rows: int
    content: str
    files: tuple[str, ...] = ()


def _table(file: str, rows: int, content: str) -> About:
    return About(rows, content, (f"ldl/{file}.mat",))


#: The data sets of `kerashash.data.list`.
DATASETS = {
    "digits": About(1797, "digits of 8 x 8 pixels, 10 classes"),
    "cifar10": About(60_000, "images of 32 x 32 pixels, 10 classes"),
    "mirflickr25k": About(25_000, "photographs, 38 labels", ("mirflickr25k",)),
    "nus_wide": About(
        269_648, "photographs, 81 concepts", ("nus_wide", "nuswide", "NUS-WIDE")
    ),
    "flowers17": About(1360, "photographs, 17 classes", ("flowers17",)),
    "ldl/movie": _table("Movie", 7755, "films, and the ratings of their viewers"),
    "ldl/scut_fbp": _table("SCUT_FBP", 1500, "faces, and ratings of their beauty"),
    "ldl/emotion6": _table("emotion6", 1980, "images, and the emotions they evoke"),
    "ldl/sbu_3dfe": _table("SBU_3DFE", 2500, "faces, and their emotions"),
    "ldl/sjaffe": _table("SJAFFE", 213, "faces, and their emotions"),
    "ldl/m2b": _table("M2B", 1240, "faces, and ratings of their beauty"),
    "ldl/natural_scene": _table("Natural_Scene", 2000, "scenes, and what they show"),
    "ldl/yeast_alpha": _table("Yeast_alpha", 2465, "genes, when they are expressed"),
    "ldl/raf_ml": _table("RAF_ML", 4908, "faces, and their emotions"),
    "ldl/fbp5500": _table("fbp5500", 5500, "faces, and ratings of their beauty"),
    "ldl/flickr_ldl": _table("Flickr_ldl", 11_150, "photos, emotions they evoke"),
}
# States of a data set, from there to not there.
PREPARED, INCOMPLETE, FILES = "prepared", "incomplete", "files found"
DOWNLOAD, BY_HAND = "downloads", "by hand"

_data_dir = click.option(
    "--data-dir",
    metavar="FOLDER",
    help="Of TensorFlow Datasets, if not $TFDS_DATA_DIR or ~/tensorflow_datasets.",
)
_name = click.argument("name", metavar="NAME", shell_complete=complete_data)


def folder_of(data_dir: str | None) -> pathlib.Path:
    """The folder of TensorFlow Datasets.

    Args:
        data_dir: str or None; where it is, if not in its usual place.

    Returns:
        `pathlib.Path`.
    """
    usual = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(data_dir or usual).expanduser()


def state(name: str, root: pathlib.Path) -> str:
    """Say how far a data set is there.

    Args:
        name: str; a key of `DATASETS`.
        root: path of the folder of TensorFlow Datasets.

    Returns:
        str: "prepared"; "incomplete", prepared from a part of its images; "files
        found", its publisher's, but not prepared; "downloads", when it is first used;
        or "by hand", if its files must be downloaded by the user.
    """
    if name == "digits":
        return PREPARED
    # One level more than the version, for data sets of photographs: complete or not.
    infos = {
        *(root / name).glob("*/dataset_info.json"),
        *(root / name).glob("*/*/dataset_info.json"),
    }
    configs = {info.relative_to(root / name).parts[0] for info in infos}
    if configs - {"incomplete"}:
        return PREPARED
    if configs:
        return INCOMPLETE
    manual = root / "downloads" / "manual"
    if any((manual / file).exists() for file in DATASETS[name].files):
        return FILES
    return BY_HAND if DATASETS[name].files else DOWNLOAD


def protocols(name: str) -> dict[str, dict[str, int]]:
    """The sizes of splits of a data set, by protocol, without reading it.

    Args:
        name: str; a key of `DATASETS`.

    Returns:
        dict of dicts; the default protocol first.
    """
    if name.startswith("ldl/"):
        query = DATASETS[name].rows // 10
        train = DATASETS[name].rows - query
        return {"90-10": {"train": train, "query": query, "database": train}}
    package = pathlib.Path(kerashash.__file__).parent
    manifest = package / "data" / "manifests" / f"{name}.json"
    sizes: dict[str, dict[str, int]] = {}
    for draw, splits in json.loads(manifest.read_text()).items():
        counts = {split: about["count"] for split, about in splits.items()}
        sizes.setdefault(draw.partition(",")[0], counts)
    return sizes


@click.group("data")
def _data() -> None:
    """List, describe and prepare data sets."""


@_data.command("list")
@_data_dir
@json_option
def _list(data_dir: str | None, as_json: bool) -> None:
    """List data sets, and whether each is there."""
    root = folder_of(data_dir)
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "state": state(name, root),
            "rows": about.rows,
            "content": about.content,
            "protocols": [*protocols(name)],
        }
        for name, about in DATASETS.items()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{row['name']:17}  {row['state']:11}  {row['rows']:7,} {row['content']}")
    print(f"\nFolder: {root}\n`kerashash data info NAME` says where files come from.")


@_data.command("info")
@_name
@_data_dir
@json_option
def _info(name: str, data_dir: str | None, as_json: bool) -> None:
    """Describe a data set: protocols, licence, files."""
    _check_name(name)
    root = folder_of(data_dir)
    about: dict[str, Any] = {
        "name": name,
        "state": state(name, root),
        "rows": DATASETS[name].rows,
        "content": DATASETS[name].content,
        "protocols": protocols(name),
    }
    if name == "digits":
        about["source"] = "scikit-learn, which has been installed with kerashash"
    else:
        about |= _from_builder(name, root)
    if as_json:
        print_json(about)
        return
    print(f"{name}: {about['rows']:,} {about['content']}\n")
    print(f"State    {about['state']}")
    for key in ("folder", "manual", "source", "licence"):
        if about.get(key):
            print(f"{key.capitalize():8} {about[key]}")
    print(f"\n{'Protocol':16}{'train':>9}{'query':>9}{'database':>10}  other")
    for protocol, sizes in about["protocols"].items():
        sizes = dict(sizes)
        three = [sizes.pop(split) for split in ("train", "query", "database")]
        others = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
        row = f"{protocol:16}{three[0]:9,}{three[1]:9,}{three[2]:10,}  {others}"
        print(row.rstrip())
    if about.get("instructions"):
        print(f"\n{about['instructions']}")


def _from_builder(name: str, root: pathlib.Path) -> dict[str, Any]:
    """What the builder of a data set says."""
    import tensorflow_datasets as tfds

    from kerashash.data import builders, sources  # noqa: F401, registers them

    options: dict[str, Any] = {}
    if state(name, root) == INCOMPLETE:
        options["allow_missing"] = True
    with sources.reading(name, root / name):
        builder = tfds.builder(name, data_dir=root, **options)
    about: dict[str, Any] = {
        "folder": os.fspath(builder.data_dir),
        "source": builder.info.homepage,
        "licence": builder.info.redistribution_info.license or "see its source",
    }
    files = DATASETS[name].files
    if files:
        about["manual"] = os.fspath(root / "downloads" / "manual" / files[0])
        instructions = textwrap.dedent(builder.MANUAL_DOWNLOAD_INSTRUCTIONS).strip()
        about["instructions"] = instructions
    return about


@_data.command("prepare")
@_name
@_data_dir
@click.option("--allow-missing", is_flag=True, help="Take the photographs there are.")
def _prepare(name: str, data_dir: str | None, allow_missing: bool) -> None:
    """Make a data set ready, of its publisher's files or by download.

    Every file is checked. What is missing is named, and where it comes from.
    """
    _check_name(name)
    from kerashash import data

    root = folder_of(data_dir)
    rows = data.load(name, data_dir=root, allow_missing=allow_missing)
    counts = {
        split: getattr(rows, f"num_{split}") for split in ("train", "query", "database")
    }
    first = next(iter(protocols(name)))
    print(f"{name} is ready in {root}")
    print(
        f"  {first}: {counts['train']:,} training rows, {counts['query']:,} queries, "
        f"{counts['database']:,} in the database"
    )


def _check_name(name: str) -> None:
    from kerashash.checks import close_names

    if name not in DATASETS:
        raise ValueError(
            f"NAME must be a data set of `kerashash data list`. Received: {name!r}."
            f"{close_names(name, DATASETS)}"
        )


COMMANDS = (_data,)
