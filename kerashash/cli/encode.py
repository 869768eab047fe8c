"""The command ``kerashash encode``."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kerashash.store import CodeStore


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    encode = commands.add_parser(
        "encode", help="encode photographs into a store, those that are new or changed"
    )
    encode.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="folder, image file or quoted pattern, such as 'photos/**/*.jpg'",
    )
    encode.add_argument(
        "--out",
        required=True,
        metavar="STORE",
        help="the store, such as photos.khs; made if it does not exist",
    )
    encode.add_argument(
        "--model",
        help="name of a zoo entry, or path of a .keras file; a store of a zoo entry "
        "knows it",
    )
    encode.add_argument(
        "--cluster",
        default="none",
        metavar="ADDRESS",
        help="encode on Ray: address of a cluster, or auto for the one that runs here "
        "or, without one, this machine (default: none)",
    )
    encode.add_argument(
        "--actors", type=int, help="processes on the cluster (default: what it has)"
    )
    encode.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from kerashash.data.finding import find_images
    from kerashash.store import encode_files

    files, faults = find_images(options.paths)
    if not files and not faults:
        raise ValueError(
            f"PATH must hold images. Received: {' '.join(options.paths)}, without any."
        )
    if options.actors is not None and options.cluster == "none":
        raise ValueError("--actors must come with --cluster.")
    store = _store(options)
    if options.cluster == "none":
        encoded = encode_files(options.paths, store)
    else:
        from kerashash import cluster

        encoded = cluster.encode_files(
            options.paths, store, actors=options.actors, address=options.cluster
        )
    if encoded.skipped:
        print(f"Skipped {len(encoded.skipped)}:")
        for path, reason in encoded.skipped.items():
            print(f"  {path}: {reason}")
    print(
        f"{options.out}: {encoded.new} new, {encoded.changed} changed, "
        f"{encoded.unchanged} unchanged, {len(encoded.skipped)} skipped; "
        f"{len(store)} images in all"
    )


def _store(options: argparse.Namespace) -> "CodeStore":
    """The store at --out, which may be new, with the model of --model."""
    from kerashash import zoo
    from kerashash.saving import load_model
    from kerashash.store import CodeStore

    name, model = options.model, None
    if name is not None:
        model = load_model(name) if name.endswith(".keras") else zoo.load(name)
    try:
        return CodeStore.open(options.out, model)
    except FileNotFoundError:
        if model is None:
            raise ValueError(
                f"--model must be given: '{options.out}' does not exist yet."
            ) from None
        # By its name, a store can load an entry of the zoo again.
        return CodeStore.create(options.out, model if name.endswith(".keras") else name)
