"""Check and list the contents of the wheel and of the source distribution.

    python -m build --outdir FOLDER
    python scripts/check_distributions.py FOLDER

The wheel must have every module and every data file of the repository's package and
registry, and nothing else: no tests, no scripts, no caches. The source distribution
must have everything that the wheel is built from.
"""

import collections
import pathlib
import subprocess
import sys
import tarfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files of the registry that only people read, not the code.
NOT_INSTALLED = ("card.md", "results.csv")


def tracked():
    """List the files that git tracks, relative to the repository."""
    result = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


def expected():
    """Yield the files that the wheel must have, besides its metadata."""
    for file in tracked():
        if file.startswith("kerashash/"):
            yield file
        elif file.startswith("zoo/") and not file.endswith(NOT_INSTALLED):
            yield f"kerashash/pretrained/{file.removeprefix('zoo/')}"


def check(name, actual, required, exact):
    """Print the differences between two sets of files, and return their number."""
    missing = sorted(required - actual)
    extra = sorted(actual - required) if exact else []
    for file in missing:
        print(f"{name}: lacks {file}")
    for file in extra:
        print(f"{name}: should not have {file}")
    return len(missing) + len(extra)


def main():
    """Check the distributions in the folder that the command line names."""
    folder = pathlib.Path(sys.argv[1])
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        members = archive.infolist()
    sizes = collections.Counter()
    for member in members:
        sizes["/".join(member.filename.split("/")[:2])] += member.compress_size
    for part, size in sorted(sizes.items()):
        print(f"{size / 1e6:8.2f} MB  {part}")
    print(f"{wheel.name}: {len(members)} files, {wheel.stat().st_size / 1e6:.1f} MB")

    files = {m.filename for m in members if ".dist-info/" not in m.filename}
    faults = check(wheel.name, files, {*expected()}, exact=True)
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    required = {
        "setup.cfg",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        *(file.replace("kerashash/pretrained/", "zoo/") for file in expected()),
    }
    faults += check(source.name, names, required, exact=False)
    unwanted = [
        name
        for name in (*files, *names)
        if "__pycache__" in name or name.endswith((".pyc", ".npy", ".part", ".keras"))
    ]
    for name in unwanted:
        print(f"should not be distributed: {name}")
    return 1 if faults or unwanted else 0


if __name__ == "__main__":
    sys.exit(main())
