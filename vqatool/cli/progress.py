"""How far a stage is: a bar on a terminal, now and then a line elsewhere; all of it on stderr."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vqatool.terminal import shown

_LINE_EVERY_S = 10.0


class _Bar:
    """A bar that is gone when it is done; without a terminal, a line every ten seconds."""

    def __init__(self, console: Console, what: str, total: float | None) -> None:
        self._console = console
        self._started = self._said_at = time.monotonic()
        self._what_shown, self._done_before = what, 0.0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(what, total=total, count="", note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def _show(self, what: str, done: float, total: float, count: str, note: str = "") -> None:
        self._bar.update(
            self._task, description=what, completed=done, total=total, count=count, note=shown(note)
        )
        now = time.monotonic()
        if what != self._what_shown:
            self._what_shown, self._started, self._done_before = what, now, done
        if self._console.is_terminal or now - self._said_at <= _LINE_EVERY_S:
            return
        self._said_at = now
        here = done - self._done_before  # a resumed training has not done the rest itself
        left_s = (now - self._started) * (total - done) / here if here else 0.0
        line = f"{what}: {count}, about {left_s:.0f} s left"
        self._console.print(f"{line}, {note}" if note else line, soft_wrap=True)


class WorkProgress(_Bar):
    """Progress of pieces of unlike weight; the time left follows the weight that is left."""

    def __init__(self, console: Console, what: str, costs: Mapping[str, float]) -> None:
        self._what, self._costs = what, dict(costs)
        self._total = sum(costs.values()) or 1.0
        self._shares = dict.fromkeys(costs, 0.0)
        self._finished = 0
        super().__init__(console, what, self._total)

    def share(self, key: str, share: float) -> None:
        """TimeRange `key` is done to `share` (0 to 1); from any thread."""
        self._shares[key] = max(self._shares.get(key, 0.0), min(share, 1.0))
        self._tell()

    def done(self, key: str) -> None:
        """TimeRange `key` is finished."""
        self._finished += 1
        self._shares[key] = 1.0
        self._tell(key)

    def _tell(self, note: str = "") -> None:
        shares = tuple(self._shares.items())  # other threads may add to it
        done = sum(self._costs.get(key, 0.0) * share for key, share in shares)
        count = f"{self._finished}/{len(self._costs)}, {done / self._total:.0%}"
        self._show(self._what, done, self._total, count, note)


class StepProgress(_Bar):
    """Progress of steps of equal weight, whose number is learned on the way."""

    def __init__(self, console: Console, what: str) -> None:
        super().__init__(console, what, None)

    def show(self, what: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps; a note such as the current loss."""
        self._show(what, done, total, f"{done}/{total}", note)
