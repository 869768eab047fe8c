"""Text for a person: notes on the standard error, and names that cannot act."""

import contextlib
import sys
import unicodedata

# Categories of Unicode of what is not shown: it acts on what is around it, as controls
# and marks of direction do, or is no valid text.
_ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Formats that names have in some scripts and in emoji: zero width (non-)joiners.
_JOINERS = "\u200c\u200d"


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


def one_line(text: object) -> str:
    """Return text in which nothing moves the cursor, begins a line or turns it round.

    Args:
        text: any value, such as the name of a file.

    Returns:
        str that can be printed and encoded; control and format characters, and what is
        no valid text, are escaped.

    Example:
        >>> one_line("a\\nb \\x1b[31m.jpg")
        'a\\\\nb \\\\x1b[31m.jpg'
    """
    return "".join(
        letter.encode("unicode_escape").decode()
        if unicodedata.category(letter) in _ACTING and letter not in _JOINERS
        else letter
        for letter in str(text)
    )
