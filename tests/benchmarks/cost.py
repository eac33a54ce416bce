"""What work that starts processes takes: time, processor time, memory."""

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
    """Run `work`, which starts processes, and add up what they took."""
    stop, peak = threading.Event(), [0.0]

    def watch() -> None:
        while not stop.wait(0.05):
            peak[0] = max(peak[0], _memory_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, wall = os.times(), time.monotonic()
    work()
    wall_s = time.monotonic() - wall
    after = os.times()
    stop.set()
    watcher.join()
    # of children that have ended, and of theirs
    spent = (after.children_user - cpu.children_user) + (
        after.children_system - cpu.children_system
    )
    return Cost(wall_s, spent, peak[0])


def _memory_mb() -> float:
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += int(process.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total / 2**20
