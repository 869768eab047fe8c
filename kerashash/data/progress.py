"""A progress bar for long work."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from kerashash.notes import note

if TYPE_CHECKING:
    from rich.progress import Task
    from rich.text import Text

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

    It counts rows, not batches, with their rate and the time left, and is written to
    the standard error of a terminal, or into a notebook. Elsewhere ``verbose=1`` writes
    a line at the beginning and one at the end, and "auto" nothing.

    Args:
        iterable: what to iterate over.
        total: int or None; the number of rows in all, None if unknown.
        title: str; what is done.
        verbose: "auto", 0, 1 or 2; "auto" and 2 show the bar once the work has taken
            two seconds, 1 always, 0 never.
        count: function of an item; the number of its rows.
        unit: str; what a row is.

    Yields:
        The items of `iterable`.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0 or 1. Received: {verbose!r}.")
    bar = _Bar(total, title, unit, in_lines=verbose == 1)
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
        bar.complete()
    finally:
        timer.cancel()
        bar.close()


class _Bar:
    """A progress bar on a terminal or in a notebook, or a line at both ends."""

    def __init__(
        self, total: int | None, title: str, unit: str, in_lines: bool
    ) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._in_lines = in_lines
        self._done, self._start = 0, time.monotonic()
        self._bar: Any = None
        self._is_closed = False
        self._lock = threading.Lock()

    def show(self) -> None:
        from rich.console import Console

        with self._lock:
            console = Console(stderr=True)
            if self._is_closed:
                return
            if console.is_interactive or console.is_jupyter:
                self._bar = _rich_bar(console)
                self._bar.add_task(
                    self._title,
                    total=self._total,
                    completed=self._done,
                    unit=self._unit,
                )
                self._bar.start()
            elif self._in_lines:
                of = "" if self._total is None else f": {self._total:,} {self._unit}s"
                note(f"{self._title}{of}")

    def add(self, rows: int) -> None:
        with self._lock:
            self._done += rows
            if self._bar is not None:
                self._bar.advance(self._bar.task_ids[0], rows)

    def complete(self) -> None:
        """Say that the work is done, and of how many rows it was."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], total=self._done)
            elif self._in_lines:
                seconds = time.monotonic() - self._start
                note(f"{self._title}: {self._done:,} {self._unit}s in {seconds:.0f} s")

    def close(self) -> None:
        """Give the terminal back, whatever ended the work."""
        with self._lock:
            self._is_closed = True
            if self._bar is not None:
                self._bar.stop()


def _rich_bar(console: Any) -> Any:
    """A bar with the rows, their rate and the time left."""
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Rows(ProgressColumn):
        """What has been done, and what is to come."""

        def render(self, task: "Task") -> "Text":
            """Describe a task."""
            return Text(_described(task))

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        Rows(),
        console=console,
        refresh_per_second=4,
        # What the program prints may go to a file while the bar is on a terminal.
        redirect_stdout=False,
    )


def _described(task: "Task") -> str:
    unit = task.fields["unit"]
    if task.finished:
        return f"{task.completed:,.0f} {unit}s in {_clock(task.finished_time or 0)}"
    of = "" if task.total is None else f" of {task.total:,.0f}"
    parts = [f"{task.completed:,.0f}{of} {unit}s"]
    if task.speed:
        rate = f"{task.speed:,.0f}" if task.speed >= 10 else f"{task.speed:.1f}"
        parts.append(f"{rate}/s")
    if task.time_remaining is not None:
        parts.append(f"{_clock(task.time_remaining)} left")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
