"""Requests that arrive one by one, worked on in batches."""

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import Any

from kerashash.checks import check_integer


class Batcher:
    """One thread that applies a function to all that waits, up to a number of items.

    It does not wait for a batch to fill: what arrives while one batch is at work is the
    next one.

    Args:
        function: list of n items -> sequence of n results.
        most: int; the largest n.

    Raises:
        TypeError, ValueError: if `most` is not a positive integer.

    Example:
        >>> batcher = Batcher(lambda items: [10 * item for item in items], most=8)
        >>> batcher.submit(3).result()
        30
        >>> batcher.close()
    """

    def __init__(self, function: Callable[[list[Any]], Any], most: int) -> None:
        self._function, self._most = function, check_integer("most", most)
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closing, self._is_closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def submit(self, item: Any) -> "concurrent.futures.Future[Any]":
        """Put an item into the next batch.

        Args:
            item: what `function` takes.

        Returns:
            `concurrent.futures.Future` of its result. If `function` fails, of its
            error. It can be cancelled while the item waits, and is after `close`.
        """
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        with self._closing:  # nothing may come after the end, where nobody reads it
            if self._is_closed:
                future.cancel()
            else:
                self._waiting.put((item, future))
        return future

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._closing:
            self._is_closed = True
            self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch = [self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get())
            if None in batch:
                batch, open_ = batch[: batch.index(None)], False
            self._apply(
                [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            )

    def _apply(self, batch: list[Any]) -> None:
        if not batch:
            return
        try:
            results = self._function([item for item, _ in batch])
        except Exception as error:  # the thread goes on with the next batch
            for _, future in batch:
                future.set_exception(error)
        else:
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)
