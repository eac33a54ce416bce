"""Where the tasks of a stage run: in threads of this program, or where another runner has them run.

A stage gives a runner its tasks and what does them, and writes the results itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from ladder.media.ffmpeg import OnProgress, allocate_workers, run_parallel

T = TypeVar("T")
R = TypeVar("R")

Prepare = Callable[[OnProgress | None], Callable[[T], R]]
"""Makes what does a task; called once in each process that does some.

It is given where to report progress, or None on another machine: nobody would see it there, and
programs have to be found and checked anew.
"""

OnLost = Callable[[T, str], R]
"""Makes the result of a task that ended its process each time, with the reason."""


def no_progress(key: str, share: float) -> None:
    """Nobody wants to know how far an encode is."""


class Runner(Protocol):
    """Runs tasks side by side. What ends a process costs the task its result, and no other task."""

    def allocate(self, most: int | None = None) -> tuple[int, int]:
        """(tasks at once, threads of each); at most `most` tasks, if that is known."""

    def spare(self, num_tasks: int) -> int:
        """Processes that one of so many tasks may have side by side, where it can be divided."""

    def run(
        self,
        prepare: Prepare[T, R],
        tasks: Sequence[T],
        on_lost: OnLost[T, R],
        *,
        on_progress: OnProgress = no_progress,
        needs: Sequence[Path] = (),
    ) -> Iterator[R]:
        """The results of the tasks, in order of completion.

        Args:
            prepare: makes what does them; on other machines it arrives by pickling, as tasks do.
            tasks: all of them.
            on_lost: makes the result of a task that ended its process.
            on_progress: called with an encode's path and its finished share, where that is known.
            needs: files and folders that each machine must reach, such as the work folder.
        """


@dataclass(frozen=True)
class LocalRunner:
    """Runs tasks in threads, each of which waits for its own ffmpeg process.

    `jobs` is the number of tasks at once; None: one for each core, at most four.
    """

    jobs: int | None = None

    def allocate(self, most: int | None = None) -> tuple[int, int]:
        """(tasks at once, threads of each) that use all cores: few tasks get more threads each."""
        at_once, threads = allocate_workers(self.jobs)
        return (at_once, threads) if most is None else allocate_workers(max(1, min(at_once, most)))

    def spare(self, num_tasks: int) -> int:
        """The share of a task in the processes at once; 0: less than one."""
        return self.allocate()[0] // max(1, num_tasks)

    def run(
        self,
        prepare: Prepare[T, R],
        tasks: Sequence[T],
        on_lost: OnLost[T, R],
        *,
        on_progress: OnProgress = no_progress,
        needs: Sequence[Path] = (),
    ) -> Iterator[R]:
        """The results of the tasks; none is lost, for an ffmpeg that crashes is an error row."""
        return run_parallel(prepare(on_progress), tasks, self.allocate()[0])


def run_groups(
    runner: Runner,
    prepare: Prepare[Sequence[T], list[R]],
    groups: Sequence[Sequence[T]],
    on_lost: OnLost[T, R],
    *,
    on_progress: OnProgress = no_progress,
    needs: Sequence[Path] = (),
) -> Iterator[R]:
    """The results of all members of groups; of a group that is lost, each member is tried alone."""
    alone: list[Sequence[T]] = []

    def keep(group: Sequence[T], reason: str) -> list[R]:
        if len(group) == 1:
            return [on_lost(group[0], reason)]
        alone.extend([member] for member in group)
        return []

    while groups:
        for results in runner.run(prepare, groups, keep, on_progress=on_progress, needs=needs):
            yield from results
        groups, alone[:] = list(alone), []
