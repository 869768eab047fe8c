"""Notes on the standard error: what a person may read, and no work depends on."""

import contextlib
import sys


def note(text: str, end: str = "\n") -> None:
    """Print to the standard error, if it takes it.

    A full disk, or a terminal that has gone, is no reason to lose an hour's work.

    Args:
        text: str.
        end: str; what follows it.

    Example:
        >>> note("Encoding: 2,000 images")
    """
    with contextlib.suppress(OSError, ValueError):  # full or gone; closed
        print(text, end=end, file=sys.stderr, flush=True)
