"""What work that starts processes takes: time, processor time, memory."""

import contextlib
import itertools
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
    before_s, beat = _reaped_s(), itertools.count()

    def watch() -> None:
        while not stop.wait(0.1):
            # exact at this moment: those that ended count with those that waited for them
            spent_s[0] = max(spent_s[0], _live_s() + _reaped_s() - before_s)
            # to read a process's memory holds it up, and a large one for long
            if not next(beat) % 10:
                peak_mb[0] = max(peak_mb[0], _memory_mb())

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


def _live_s() -> float:
    """Processor time of all processes below this one, and of those they waited for."""
    spent_s = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            spent_s += times.user + times.system + times.children_user + times.children_system
    return spent_s


def _memory_mb() -> float:
    """What all processes below this one have, what they share counted once."""
    memory = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            info = process.memory_full_info()
            memory += int(getattr(info, "pss", info.rss))
    return memory / 2**20
