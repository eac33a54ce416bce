"""How far a stage is: a bar on a terminal, a line every ten seconds elsewhere; all on stderr."""

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vqatool.terminal import console, cut_middle, is_json, is_quiet, print_note, shown

_LINE_EVERY_S = 10.0

_MIN_NOTE, _CLOCKS = 12, 34  # columns of the note, and of the times with a short bar
_WIDE = 100  # columns from which on the bar has room for a rate


class Progress:
    """Progress of one stage, shown while the `with` block runs; `-q` hides it.

    A stage whose work is known in advance gives the cost of each part and calls `update` and
    `finish`. A stage that counts steps calls `show`.

    Args:
        name: what is shown in front, such as `encoding`.
        costs: work in each part by its key, in any one unit; the time left follows the cost left.
        count: number of parts that all cost the same, instead of costs.
        unit: what parts are called, to show how many are finished in a second; empty: not shown.
        output: where to show it; None: stderr.
    """

    def __init__(
        self,
        name: str,
        costs: Mapping[str, float] | None = None,
        *,
        count: int = 0,
        unit: str = "",
        output: Console | None = None,
    ) -> None:
        self._name, self._costs, self._unit = name, dict(costs or {}), unit
        self._count = len(self._costs) or count
        self._total = sum(self._costs.values()) or float(count)
        self._done, self._num_finished = 0.0, 0
        self._shares: dict[str, float] = {}
        self._lock = threading.Lock()
        self._console = output or console()
        self._is_narrow = self._console.is_interactive and self._console.width < _WIDE
        self._started_at = self._line_at = time.monotonic()
        self._name_shown, self._done_before = name, 0.0
        self._bar = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            disable=is_quiet() or is_json() or not self._console.is_interactive,
            speed_estimate_period=120,
        )
        self._task = self._bar.add_task(name, total=self._total or None, count="", note="")

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

    def update(self, key: str, share: float) -> None:
        """The share (0 to 1) of the part `key` that is done; callable from any thread."""
        self._add(key, min(share, 1.0))
        self._show_parts()

    def finish(self, key: str) -> None:
        """The part `key` is finished."""
        self._num_finished += 1
        if self._costs:
            self._add(key, 1.0)
        else:
            self._done += 1.0
        self._show_parts(key)

    def _add(self, key: str, share: float) -> None:
        with self._lock:
            if (more := share - self._shares.get(key, 0.0)) > 0:
                self._shares[key] = share
                self._done += self._costs.get(key, 0.0) * more

    def show(self, name: str, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of equal cost; `note` is shown behind, such as the loss."""
        self._show(name, done, total, f"{done}/{total}", note)

    def _show_parts(self, note: str = "") -> None:
        done, total = self._done, self._total or 1.0
        count = f"{self._num_finished}/{self._count}, {done / total:.0%} of the work"
        if self._unit and self._num_finished and not self._is_narrow:
            spent_s = max(time.monotonic() - self._started_at, 0.001)
            count += f", {self._num_finished / spent_s:.2f} {self._unit}/s"
        self._show(self._name, done, total, count, note)

    def _show(self, name: str, done: float, total: float, count: str, note: str) -> None:
        room = max(_MIN_NOTE, self._console.width - len(name) - len(count) - _CLOCKS)
        short = cut_middle(shown(note), room)
        self._bar.update(
            self._task, description=name, completed=done, total=total, count=count, note=short
        )
        now = time.monotonic()
        if name != self._name_shown:
            self._name_shown, self._started_at, self._done_before = name, now, done
        has_bar = self._console.is_interactive and not is_json()
        if is_quiet() or has_bar or now - self._line_at <= _LINE_EVERY_S:
            return
        self._line_at = now
        done_here = done - self._done_before  # a resumed training did the rest in an earlier run
        left_s = (now - self._started_at) * (total - done) / done_here if done_here else 0.0
        line = f"{name}: {count}, about {left_s:.0f} s left"
        line = f"{line}, {note}" if note else line
        if is_json():
            print_note(line)
        else:
            self._console.print(shown(line), soft_wrap=True)
