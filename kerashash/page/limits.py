"""What a server takes, and how it says no."""

import dataclasses
from typing import Self

from kerashash.checks import check_integer, check_least

#: What a client is told by status 503.
BUSY = "The server is busy. Try again in a second."


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Args:
        batch: int; photographs that are encoded at once. 1 encodes each alone.
        queue: int; requests at work or waiting, once their bodies have arrived. One
            more is answered by 503, as is a body when all that are there together are
            larger than so many of the largest.
        upload: int; bytes of a request's body. A larger one is answered by 413.
        pixels: int; pixels of a photograph, encoded or shown. A larger one is answered
            by 413.
        seconds: float; time for a request. It is then answered by 504.
        k: int; neighbours of a search.
        side: int; the side in pixels of a photograph that is shown.

    Raises:
        TypeError, ValueError: if a limit is not a positive number.

    Example:
        >>> Limits(batch=4).queue
        64
    """

    batch: int = 8
    queue: int = 64
    upload: int = 16_000_000
    pixels: int = 50_000_000
    seconds: float = 30.0
    k: int = 1000
    side: int = 1024

    def __post_init__(self) -> None:
        for name in ("batch", "queue", "upload", "pixels", "k", "side"):
            check_integer(name, getattr(self, name))
        check_least(0.01, seconds=self.seconds)


class Refused(Exception):
    """What a client asked for and does not get.

    Args:
        status: int; the status code of HTTP.
        message: str; what the client is told.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Gate:
    """Lets a number of requests in at a time, as a context of each.

    Used in one thread, that of the event loop.

    Args:
        most: int; how many are let in.

    Example:
        >>> gate = Gate(1)
        >>> with gate, gate:
        ...     pass
        Traceback (most recent call last):
        ...
        kerashash.page.limits.Refused: The server is busy. Try again in a second.
    """

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0

    def __enter__(self) -> Self:
        if self._inside >= self._most:
            raise Refused(503, BUSY)
        self._inside += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._inside -= 1
