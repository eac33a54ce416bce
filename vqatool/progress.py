"""How far a stage is: a bar on a terminal, now and then a line elsewhere; all of it on stderr."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vqatool.terminal import shown

_LINE_EVERY_S = 10.0


class WorkProgress:
    """Progress of pieces of unlike weight; the time left follows the weight that is left."""

    def __init__(self, console: Console, what: str, costs: Mapping[str, float]) -> None:
        self._console, self._what = console, what
        self._costs = dict(costs)
        self._total = sum(costs.values()) or 1.0
        self._shares = dict.fromkeys(costs, 0.0)
        self._finished = 0
        self._started = self._said_at = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(what, total=self._total, count="", note="")

    def share(self, key: str, share: float) -> None:
        """Piece `key` is done to `share` (0 to 1); from any thread."""
        self._shares[key] = max(self._shares.get(key, 0.0), min(share, 1.0))
        self._show()

    def done(self, key: str, note: str = "") -> None:
        """Piece `key` is finished; `note` is shown behind the bar."""
        self._finished += 1
        self._shares[key] = 1.0
        self._bar.update(self._task, note=shown(note))
        self._show()

    def _show(self) -> None:
        done = sum(self._costs.get(key, 0.0) * share for key, share in self._shares.items())
        count = f"{self._finished}/{len(self._costs)}"
        self._bar.update(self._task, completed=done, count=count)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said_at > _LINE_EVERY_S:
            self._said_at = now
            part = done / self._total
            left = (now - self._started) * (1 - part) / part if part else 0.0
            self._console.print(
                f"{self._what}: {count}, {part:.0%}, about {left:.0f} s left", soft_wrap=True
            )

    def __enter__(self) -> "WorkProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


@contextmanager
def step_progress(console: Console, what: str) -> Iterator["StepProgress"]:
    """A bar whose total is learned on the way, for training."""
    progress = StepProgress(console, what)
    with progress.bar:
        yield progress


class StepProgress:
    """Counted steps of equal weight with a note, such as the current loss."""

    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what = console, what
        self._said_at = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=300,
        )
        self._task = self.bar.add_task(what, total=None, note="")

    def show(self, done: int, total: int, note: str = "", what: str | None = None) -> None:
        """`done` of `total` steps."""
        self._what = what or self._what
        self.bar.update(self._task, completed=done, total=total, note=note, description=self._what)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said_at > _LINE_EVERY_S:
            self._said_at = now
            self._console.print(f"{self._what}: {done}/{total} {note}", soft_wrap=True)
