"""Times of calls that are compared with each other, which take turns in one process.

Another program that runs for some seconds slows all of them alike, as what is said of
two calls is the median of the ratios within a turn.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass
class Times:
    """Times of calls, in seconds for a unit of work: a list for each, a time a turn.

    Attributes:
        wall: dict[str, list[float]]; times by the clock.
        processor: dict[str, list[float]]; times of the processor, of all threads.
    """

    wall: dict[str, list[float]]
    processor: dict[str, list[float]]

    def median(self, name: str) -> float:
        """Seconds by the clock for a unit of work."""
        return statistics.median(self.wall[name])

    def processor_median(self, name: str) -> float:
        """Seconds of the processor for a unit of work."""
        return statistics.median(self.processor[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times as long as `other` a call takes, by the clock."""
        return _ratio(self.wall[name], self.wall[other])

    def processor_ratio(self, name: str, other: str) -> float:
        """How many times as much of the processor's time as `other` a call takes."""
        return _ratio(self.processor[name], self.processor[other])


def take_turns(
    calls: Mapping[str, Callable[[], Any]],
    turns: int,
    *,
    fewer: Mapping[str, int] | None = None,
    units: Mapping[str, float] | None = None,
    pause: float = 0.0,
    warm_up: bool = False,
) -> Times:
    """Time calls in alternating turns, each second one in the opposite order.

    Args:
        calls: dict[str, callable]; what takes turns. Compile what must be compiled
            before.
        turns: int; the number of turns.
        fewer: dict[str, int]; numbers of turns of slow calls, which take part in the
            first ones.
        units: dict[str, float]; how much work a call does, such as its queries, where
            it is not 1. Times are divided by it.
        pause: float; seconds before each call, in which threads of the call before it
            stop waiting for work.
        warm_up: bool; whether a call that is not timed precedes each, after the pause.
            It wakes the threads, and fills the caches.

    Returns:
        `Times`.

    Example:
        >>> times = take_turns({"sum": lambda: sum(range(99)), "one": lambda: 1}, 3)
        >>> times.ratio("sum", "one") > 1
        True
    """
    fewer, units = fewer or {}, units or {}
    times = Times({name: [] for name in calls}, {name: [] for name in calls})
    for turn in range(turns):
        for name in [*calls][:: -1 if turn % 2 else 1]:
            if turn >= fewer.get(name, turns):
                continue
            time.sleep(pause)
            if warm_up:
                calls[name]()
            _, wall, processor = timed(calls[name])
            times.wall[name].append(wall / units.get(name, 1))
            times.processor[name].append(processor / units.get(name, 1))
    return times


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result of a call, its seconds by the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - processor


def _ratio(times: list[float], others: list[float]) -> float:
    pairs = zip(times, others, strict=False)  # one of them may have fewer turns
    return statistics.median(time / other for time, other in pairs)
