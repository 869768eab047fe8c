"""The command ``kerashash doctor``."""

import importlib.metadata
import os
import pathlib
import platform
import re
import shutil
from collections.abc import Iterator
from typing import Any

import click

from kerashash.cli import data
from kerashash.cli.options import json_option
from kerashash.cli.printing import print_json
from kerashash.notes import one_line

# What the extras of the installation are for.
_USES = {
    "cluster": "encoding on several machines",
    "hub": "entries on Hugging Face",
    "heif": "photographs in HEIF and HEIC",
    "litert": "encoders for LiteRT",
    "onnx": "encoders for ONNX Runtime",
    "openvino": "encoders for OpenVINO",
    "int8": "encoders in 8-bit integers",
    "serve": "the search page",
    "store": "stores on object storage",
}
# What kerashash makes in a cache, and the folders in which some of it is.
_CACHED = re.compile(
    r"(encoders|engines)/[0-9a-f]{16}"
    r"|zoo/.+-[0-9a-f]{8}"  # of servers
    r"|[0-9a-f]{16}(-mirrored)?\.npy(\.part)?"  # features
    r"|seed-\d+-[0-9a-f]{16}|.+-unfinished/[0-9a-f]{16}"  # of training
)
_FOLDER = re.compile("encoders|engines|zoo|.+-unfinished")


@click.command("doctor")
@click.option("--data-dir", metavar="FOLDER", help="Of TensorFlow Datasets.")
@json_option
def _doctor(data_dir: str | None, as_json: bool) -> None:
    """Say what is installed, what is missing, and what brings it."""
    root = data.folder_of(data_dir)
    report = {
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "required": _packages(None),
        "optional": {extra: _packages(extra) for extra in _USES},
        "keras_backend": _keras_backend(),
        "devices": _devices(),
        "caches": _caches(),
        "registries": _registries(),
        "data": {name: data.state(name, root) for name in data.DATASETS},
        "data_folder": os.fspath(root),
    }
    if as_json:
        print_json(report)
    else:
        _print(report)


def _packages(extra: str | None) -> dict[str, dict[str, Any]]:
    """Versions of the packages that an extra needs, or the installation itself."""
    from packaging.requirements import Requirement

    packages = {}
    for text in importlib.metadata.requires("kerashash") or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if (marker is None) != (extra is None):
            continue
        if marker is not None and not marker.evaluate({"extra": extra or ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = None
        packages[requirement.name] = {
            "version": version,
            "needed": str(requirement.specifier),
            "fits": version is not None
            and requirement.specifier.contains(version, prereleases=True),
        }
    return packages


def _keras_backend() -> str:
    """The backend of Keras, or what sets another."""
    from kerashash import keras_backend

    try:
        keras_backend.check()
    except ImportError as error:
        return str(error)
    return "tensorflow"


def _devices() -> dict[str, Any]:
    """What computes, as TensorFlow sees it."""
    devices: dict[str, Any] = {"cpu_cores": os.cpu_count(), "gpus": []}
    try:
        import tensorflow as tf
    except Exception as error:  # whatever a broken installation raises
        return {**devices, "error": f"{type(error).__name__}: {error}"}
    for gpu in tf.config.list_physical_devices("GPU"):
        details = tf.config.experimental.get_device_details(gpu)
        devices["gpus"].append(details.get("device_name", gpu.name))
    if not devices["gpus"] and shutil.which("nvidia-smi"):
        devices["error"] = (
            "there is a driver of NVIDIA, and TensorFlow sees no GPU: "
            'pip install "tensorflow[and-cuda]"'
        )
    return devices


def _caches() -> dict[str, int | str]:
    """Sizes in bytes of what may be deleted at any time, or why a cache is of no use.

    A folder that holds something else too, as may a home folder, is not among them, but
    what kerashash has made there.
    """
    from kerashash import files, installed

    used = os.environ.get("KERASHASH_CACHE") or installed.USUAL_CACHE
    caches: dict[str, int | str] = {}
    for name in dict.fromkeys([installed.USUAL_CACHE, used]):
        try:
            folder = pathlib.Path(name).expanduser()
            if name == used:
                files.check_place(folder, "KERASHASH_CACHE")
            paths = [*_parts(folder)] if folder.is_dir() else []
            ours = [
                path
                for path in paths
                if _CACHED.fullmatch(path.relative_to(folder).as_posix())
            ]
            for path in [folder] if ours == paths else ours:
                caches[os.fspath(path)] = _size(path)
        except (OSError, RuntimeError, ValueError) as error:  # Runtime-, of no home
            caches[name] = str(error)
    return caches


def _parts(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """What a cache holds, one by one."""
    for path in sorted(folder.iterdir()):
        if _FOLDER.fullmatch(path.name) and path.is_dir():
            yield from sorted(path.iterdir())
        else:
            yield path


def _size(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    paths = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in paths if not file.is_dir())


def _registries() -> dict[str, int | str]:
    """The number of entries of each registry, or why it cannot be read."""
    from kerashash.zoo import registry

    try:
        return {str(location): len(names) for location, names in registry.listed()}
    except (OSError, ValueError) as error:
        return {os.environ.get("KERASHASH_ZOO", ""): str(error)}


def _print(report: dict[str, Any]) -> None:
    print(f"Python {report['python']} on {report['system']}")
    for name, package in report["required"].items():
        if not package["fits"]:
            print(
                f'  {name} {package["version"]}: pip install "{name}'
                f'{package["needed"]}"'
            )
    versions = ["kerashash", "tensorflow", "keras", "numpy"]
    print("  " + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in versions))
    backend = report["keras_backend"]
    if backend == "tensorflow":
        backend = f"backend of Keras: {backend}"
    print(f"  {one_line(backend)}")

    devices = report["devices"]
    print("\nDevices")
    print(f"  {devices['cpu_cores']} CPU cores")
    for gpu in devices["gpus"]:
        print(f"  GPU {gpu}")
    if not devices["gpus"]:
        print("  no GPU")
    if "error" in devices:
        print(f"  {one_line(devices['error'])}")

    print("\nOptional")
    for extra, packages in report["optional"].items():
        there = ", ".join(f"{name} {p['version']}" for name, p in packages.items())
        if not packages or not all(package["fits"] for package in packages.values()):
            there = f'missing: pip install "kerashash[{extra}]"'
        print(f"  {_USES[extra]:28}  {there}")

    print("\nCaches, which may be deleted")
    for folder, size in report["caches"].items():
        about = size if isinstance(size, str) else f"{size / 1e6:,.1f} MB"
        print(one_line(f"  {about}  {folder}"))

    print("\nRegistries of the zoo, in order; $KERASHASH_ZOO adds others")
    for location, entries in report["registries"].items():
        about = entries if isinstance(entries, str) else f"{entries} entries"
        print(one_line(f"  {about}  {location}"))

    print(f"\nData sets in {one_line(report['data_folder'])}")
    by_state: dict[str, list[str]] = {}
    for name, state in report["data"].items():
        by_state.setdefault(state, []).append(name)
    hints = {
        data.FILES: "`kerashash data prepare NAME`",
        data.DOWNLOAD: "`kerashash data prepare NAME`",
        data.BY_HAND: "`kerashash data info NAME`",
        data.INCOMPLETE: "from a part of the photographs",
    }
    for state, names in by_state.items():
        hint = f" ({hints[state]})" if state in hints else ""
        title = f"  {state}{hint}: "
        print(_wrapped(title, names))


def _wrapped(title: str, names: list[str]) -> str:
    import textwrap

    width = min(shutil.get_terminal_size().columns, 80)
    return textwrap.fill(title + ", ".join(names), width, subsequent_indent="    ")


COMMANDS = (_doctor,)
