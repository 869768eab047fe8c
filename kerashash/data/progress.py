"""A progress bar for long work."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import keras

Item = TypeVar("Item")
# Seconds of work after which the bar appears by itself.
_PATIENCE = 2.0


def progress(
    iterable: Iterable[Item],
    total: int | None,
    title: str,
    verbose: str | int = "auto",
    count: Callable[[Item], int] = len,  # type: ignore[assignment]
    unit: str = "image",
) -> Iterator[Item]:
    """Iterate with a progress bar, which by default appears on long work only.

    The bar appears before the first item, and counts rows, not batches. Where the
    output is no terminal, there is one line at the beginning and one at the end.

    Args:
        iterable: what to iterate over.
        total: int or None; the number of rows in all, None if unknown.
        title: str; printed above the bar.
        verbose: "auto", 0, 1 or 2; "auto" and 2 show the bar once the work has taken
            two seconds, 1 always, 0 never.
        count: function of an item; the number of its rows.
        unit: str; what a row is.

    Yields:
        The items of `iterable`.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0 or 1. Received: {verbose!r}.")
    bar = _Bar(total, title, unit)
    # A thread shows the bar while the first batch is still on its way.
    timer = threading.Timer(_PATIENCE, bar.show)
    timer.daemon = True
    if verbose == 1:
        bar.show()
    elif verbose:
        timer.start()
    try:
        for item in iterable:
            yield item
            bar.add(count(item))
        bar.close()
    finally:
        timer.cancel()


class _Bar:
    """A progress bar, on a terminal, or a line at both ends of the work."""

    def __init__(self, total: int | None, title: str, unit: str) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._done, self._start = 0, time.monotonic()
        self._bar: Any = None
        self._is_shown = False
        self._lock = threading.Lock()

    def show(self) -> None:
        with self._lock:
            self._is_shown = True
            of = "" if self._total is None else f"{self._total:,} {self._unit}s"
            if not sys.stdout.isatty():
                print(f"{self._title}: {of}" if of else self._title, flush=True)
                return
            print(self._title, flush=True)
            self._bar = keras.utils.Progbar(self._total, unit_name=self._unit)
            self._bar.update(self._done, finalize=False)

    def add(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            if self._bar is not None:
                self._bar.update(self._done, finalize=False)

    def close(self) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.target = self._done
                self._bar.update(self._done, finalize=True)
            elif self._is_shown:
                seconds = time.monotonic() - self._start
                print(
                    f"{self._title}: {self._done:,} {self._unit}s in {seconds:.0f} s",
                    flush=True,
                )
