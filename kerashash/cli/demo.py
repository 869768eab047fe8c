"""kerashash demo."""

import pathlib


def add(commands):
    """Add the command to the parser's."""
    demo = commands.add_parser(
        "demo", help="train, evaluate, save and rank on embedded data, offline"
    )
    demo.add_argument(
        "--output",
        type=pathlib.Path,
        default=pathlib.Path("kerashash-demo"),
        help="folder for logs, model and pictures (default: ./kerashash-demo)",
    )
    demo.set_defaults(run=_run)


def _run(options):
    from kerashash import demo

    demo.run(options.output)
