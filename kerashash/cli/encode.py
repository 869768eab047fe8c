"""The command ``kerashash encode``."""

import os
import pathlib
from typing import TYPE_CHECKING

import click

from kerashash.cli.options import json_option, model_option
from kerashash.cli.printing import print_json
from kerashash.notes import note, one_line

if TYPE_CHECKING:
    from kerashash.store import CodeStore, Encoded


@click.command("encode")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out",
    required=True,
    metavar="STORE",
    help="The store, such as photos.khs; made if it does not exist.",
)
@model_option("Zoo entry or .keras file. A store of a zoo entry knows it.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "tensorflow", "openvino", "litert"]),
    default="auto",
    show_default=True,
    help="What runs the network; auto takes the fastest that gives the same codes.",
)
@click.option(
    "--cluster",
    default="none",
    metavar="ADDRESS",
    help="Encode on Ray: its address, or auto for the one that runs here or, without "
    "one, this machine.",
)
@click.option(
    "--actors", type=int, help="Processes on the cluster, if not as many as fit."
)
@json_option
def _encode(
    paths: tuple[str, ...],
    out: str,
    model: str | None,
    engine: str,
    cluster: str,
    actors: int | None,
    as_json: bool,
) -> None:
    """Encode photographs into a store, new and changed ones.

    PATH is a folder, an image file or a quoted pattern, such as 'photos/**/*.jpg'.
    What is interrupted is completed by the same command.
    """
    from kerashash.data.finding import find_images
    from kerashash.store import encode_files
    from kerashash.store.kept_encoder import keep

    files, faults = find_images(paths)
    if not files and not faults:
        raise ValueError(
            f"PATH must hold images. Received: {' '.join(paths)}, without any."
        )
    if actors is not None and cluster == "none":
        raise ValueError("--actors must come with --cluster.")
    if engine != "auto" and cluster != "none":
        raise ValueError("--engine must not come with --cluster.")
    if cluster != "none":
        from kerashash.cluster.session import import_ray

        import_ray()  # or say that it is not installed, before a store is made
    store = _store(out, model)
    try:
        if cluster == "none":
            encoded = encode_files(paths, store, engine=engine)
        else:
            from kerashash import cluster as ray_cluster

            encoded = ray_cluster.encode_files(
                paths, store, actors=actors, address=cluster
            )
    except KeyboardInterrupt:
        note(f"{out} has what was encoded; the same command goes on.")
        raise
    keep(store)  # for the first search
    if as_json:
        print_json(
            {
                "store": out,
                "images": len(store),
                "new": encoded.new,
                "changed": encoded.changed,
                "unchanged": encoded.unchanged,
                "skipped": [
                    {"path": path, "reason": reason}
                    for path, reason in encoded.skipped.items()
                ],
            }
        )
    else:
        _print_counts(out, encoded, len(store))
    if len(encoded.skipped) and not encoded.new + encoded.changed + encoded.unchanged:
        raise ValueError("PATH must hold images that can be read. All were skipped.")


def _print_counts(out: str, encoded: "Encoded", count: int) -> None:
    """Print what became of images, and how many a store has."""
    if encoded.skipped:
        print(f"Skipped {len(encoded.skipped)}:")
        for path, reason in encoded.skipped.items():
            print(f"  {one_line(path)}: {one_line(reason)}")
    print(
        f"{out}: {encoded.new} new, {encoded.changed} changed, "
        f"{encoded.unchanged} unchanged, {len(encoded.skipped)} skipped; "
        f"{count} images in all"
    )


def _store(path: str, name: str | None) -> "CodeStore":
    """The store at a path, which may be new, with the model of a name."""
    from kerashash.cli.models import load
    from kerashash.store import CodeStore
    from kerashash.store.code_store import open_or_create
    from kerashash.store.filling import images_side

    if name is None:
        try:
            return CodeStore.open(path)
        except FileNotFoundError:
            raise ValueError(
                f"--model must be given: '{path}' does not exist yet."
            ) from None
    model = load(name)
    images_side(model, "--model must be of a model that takes images of one size")
    if name.endswith(".keras"):
        return open_or_create(path, model, model)
    from kerashash import zoo

    # By its name, a store can load an entry again; from anywhere by a whole path.
    in_zoo = name in zoo.list()
    whole = name if in_zoo else os.fspath(pathlib.Path(name).absolute())
    return open_or_create(path, model, whole)


COMMANDS = (_encode,)
