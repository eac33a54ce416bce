"""What work that starts processes takes: time, processor time, memory."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Cost:
    """What a way of working took."""

    wall_s: float
    cpu_s: float
    peak_mb: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_mb, other.peak_mb),
        )


def measured(work: Callable[[], object]) -> Cost:
    """Run `work`, which starts processes, and add up what they took.

    Memory is the proportional set size: what processes share counts once.
    """
    stop = threading.Event()
    peak_mb, spent_s = [0.0], [0.0]
    before_s = _reaped_s()

    def watch() -> None:
        while not stop.wait(0.1):
            memory_mb, live_s = _of_children()
            peak_mb[0] = max(peak_mb[0], memory_mb)
            # exact at this moment: those that ended count with those that waited for them
            spent_s[0] = max(spent_s[0], live_s + _reaped_s() - before_s)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.monotonic()
    work()
    wall_s = time.monotonic() - started
    stop.set()
    watcher.join()
    return Cost(wall_s, max(spent_s[0], _reaped_s() - before_s), peak_mb[0])


def _reaped_s() -> float:
    """Processor time of children that have ended, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def _of_children() -> tuple[float, float]:
    """Memory (MB) and processor time (s) of all processes below this one."""
    memory, spent_s = 0, 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times, info = process.cpu_times(), process.memory_full_info()
            memory += int(getattr(info, "pss", info.rss))
            spent_s += times.user + times.system + times.children_user + times.children_system
    return memory / 2**20, spent_s
