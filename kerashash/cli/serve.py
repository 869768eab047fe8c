"""The command ``kerashash serve``."""

import click

from kerashash.cli.options import model_option


@click.command("serve")
@click.argument("path", metavar="STORE")
@click.option(
    "--images",
    metavar="FOLDER",
    help="Where the store's keys are paths; without it, no photograph is shown.",
)
@model_option("What made the codes, if it is none of the zoo: a .keras file.")
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=8000, help="0 takes any free one.")
@click.option(
    "--allow-host",
    metavar="NAME",
    multiple=True,
    help="A further name of the server, such as that of a proxy.",
)
@click.option("--allow-where", is_flag=True, help="Let clients send conditions in SQL.")
# The defaults are those of `kerashash.page.Limits`, whose import takes time.
@click.option("--batch", default=8, help="Most photographs encoded at once.")
@click.option("--queue", default=64, help="Most requests at work or waiting.")
@click.option("--megabytes", default=16.0, help="Largest request.")
@click.option("--megapixels", default=50.0, help="Largest photograph.")
@click.option("--seconds", default=30.0, help="Longest time for a request.")
@click.option("--most", default=1000, help="Most neighbours of a search.")
def _serve(
    path: str,
    images: str | None,
    model: str | None,
    host: str,
    port: int,
    allow_host: tuple[str, ...],
    allow_where: bool,
    batch: int,
    queue: int,
    megabytes: float,
    megapixels: float,
    seconds: float,
    most: int,
) -> None:
    """Search a store of photographs in the browser and over HTTP.

    STORE is a path or URL, such as photos.khs.
    """
    from kerashash.checks import check_integer, check_least
    from kerashash.page import Limits, app, server

    app.fastapi_package()
    check_least(0.01, **{"--seconds": seconds})
    limits = Limits(
        batch=check_integer("--batch", batch),
        queue=check_integer("--queue", queue),
        upload=_millions("--megabytes", megabytes),
        pixels=_millions("--megapixels", megapixels),
        seconds=seconds,
        k=check_integer("--most", most),
    )
    # Before TensorFlow is loaded, which takes seconds: the port may be taken.
    with server.listen(host, port) as taken:
        from kerashash.cli.models import load
        from kerashash.store import CodeStore

        store = CodeStore.open(path, model=load(model) if model else None)
        page = server.make_server(store, taken, images, limits, allow_host, allow_where)
        page.run([taken])


def _millions(option: str, number: float) -> int:
    """So many millions, of an option."""
    if not 1e-6 <= number <= 1e6:  # nor NaN
        raise ValueError(f"`{option}` must be from 1e-6 to 1e6. Received: {number}.")
    return round(number * 1e6)


COMMANDS = (_serve,)
