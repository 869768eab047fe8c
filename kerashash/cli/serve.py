"""The command ``kerashash serve``."""

import argparse


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser."""
    from kerashash.page.limits import Limits

    serve = commands.add_parser(
        "serve", help="search a store of photographs in the browser and over HTTP"
    )
    serve.add_argument("store", help="path or URL of the store, such as photos.khs")
    serve.add_argument(
        "--images",
        metavar="FOLDER",
        help="folder of the photographs, in which the store's keys are paths; without "
        "it, none is shown",
    )
    serve.add_argument(
        "--model",
        help="the model that made the codes, if it is none of the zoo: a .keras file",
    )
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    serve.add_argument(
        "--port", type=int, default=8000, help="0 takes any free one (default: 8000)"
    )
    serve.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="a further name of the server, such as that of a proxy before it",
    )
    serve.add_argument(
        "--allow-where",
        action="store_true",
        help="let clients send conditions in SQL, which may take long",
    )
    default = Limits()
    for option, kind, value, text in (
        ("--batch", int, default.batch, "photographs encoded at once"),
        ("--queue", int, default.queue, "requests at work or waiting"),
        ("--megabytes", float, default.upload / 1e6, "size of a request"),
        ("--megapixels", float, default.pixels / 1e6, "size of a photograph"),
        ("--seconds", float, default.seconds, "time for a request"),
        ("--most", int, default.k, "neighbours of a search"),
    ):
        serve.add_argument(
            option, type=kind, default=value, help=f"{text}, at most (default: {value})"
        )
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    from kerashash.page import Limits, app, server

    app.fastapi_package()
    limits = Limits(
        batch=options.batch,
        queue=options.queue,
        upload=int(options.megabytes * 1e6),
        pixels=int(options.megapixels * 1e6),
        seconds=options.seconds,
        k=options.most,
    )
    # Before TensorFlow is loaded, which takes seconds: the port may be taken.
    with server.listen(options.host, options.port) as taken:
        from kerashash.saving import load_model
        from kerashash.store import CodeStore

        model = load_model(options.model) if options.model else None
        store = CodeStore.open(options.store, model=model)
        hosts = tuple(options.allow_host)
        page = server.make_server(
            store, taken, options.images, limits, hosts, options.allow_where
        )
        page.run([taken])
