"""Metrics of a run for Prometheus: a file of its textfile collector, written while the run goes on.

The collector of Prometheus's node exporter reads all `*.prom` of a folder. Each run has a file of
its own, whose name without suffix is the label `run` of its series, so that no two files have the
same ones. Counters count this run alone: a new run begins at 0, as Prometheus expects of a restart.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ladder.errors import OutputError
from ladder.storage import atomic_write
from vqatool import __version__

SUFFIX = ".prom"
"""The suffix that the collector looks for."""

NO_CODE = "unspecified"
"""The code of failures in stages whose rows have a reason and no code."""

_WRITE_EVERY_S = 5.0

_log = logging.getLogger(__name__)

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class FinishedRow(Protocol):
    """A row of a stage that handles files: `score`, `label` or `ladder`."""

    @property
    def status(self) -> str: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def duration_s(self) -> float | None: ...


@dataclass
class StageCounts:
    """What one stage has done in this run; `kept` files were done by earlier runs."""

    expected: int = 0
    kept: int = 0
    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    size_bytes: int = 0
    video_s: float = 0.0
    work_s: float = 0.0

    def add(self, row: FinishedRow) -> None:
        """Count one file that is finished, or has failed."""
        if row.status == "error":
            self.failed[getattr(row, "error_code", "") or NO_CODE] += 1
        else:
            self.done += 1
        self.size_bytes += row.size_bytes or 0
        self.video_s += row.duration_s or 0.0
        self.work_s += spent_s(row)


def spent_s(row: FinishedRow) -> float:
    """The seconds that the row says its file took."""
    columns = ("score_s", "label_s", "encode_s")
    return next((value for name in columns if (value := getattr(row, name, None))), 0.0)


class RunMetrics:
    """The metrics of one run and their file.

    Args:
        path: the file, which ends in `SUFFIX`.
        command: the command that runs, such as `score`.
    """

    def __init__(self, path: Path, command: str) -> None:
        self._path, self._command = path, command
        self._started_at = time.time()
        self._ended_at: float | None = None
        self._exit_code = 0
        self._written_at = -_WRITE_EVERY_S  # of the monotonic clock
        self._stages: dict[str, StageCounts] = {}

    def begin(self, stage: str, expected: int, kept: int) -> StageCounts:
        """Expect so many more files in a stage, and write; returns what to count them with.

        Raises:
            OutputError: the file cannot be written.
        """
        counts = self._stages.setdefault(stage, StageCounts())
        counts.expected += expected
        counts.kept += kept
        self._write()
        return counts

    def touch(self) -> None:
        """Write what has been counted since, unless that was done a moment ago."""
        if time.monotonic() - self._written_at >= _WRITE_EVERY_S:
            self._try_to_write()

    def end(self, exit_code: int) -> None:
        """Write the outcome of the run."""
        self._ended_at, self._exit_code = time.time(), exit_code
        self._try_to_write()

    def text(self) -> str:
        """The file's content, in Prometheus's text format."""
        return "".join(line for line in self._lines())

    def _try_to_write(self) -> None:
        try:
            self._write()
        except OutputError as error:  # what is measured matters more than how far it is
            _log.warning("metrics: %s", error)

    def _write(self) -> None:
        self._written_at = time.monotonic()
        with atomic_write(self._path) as file:
            file.write(self.text().encode("utf-8", "replace"))

    def _lines(self) -> Iterator[str]:
        run = {"run": self._path.stem}
        about = {**run, "command": self._command, "version": __version__}
        yield from _metric("run_info", "gauge", "The command that runs.", [(about, 1)])
        yield from _metric(
            "run_in_progress",
            "gauge",
            "1 until the run has ended.",
            [(run, self._ended_at is None)],
        )
        yield from _metric(
            "run_start_time_seconds", "gauge", "When the run began, in Unix time.",
            [(run, self._started_at)],
        )  # fmt: skip
        if self._ended_at is not None:
            yield from _metric(
                "run_end_time_seconds", "gauge", "When the run ended, in Unix time.",
                [(run, self._ended_at)],
            )  # fmt: skip
            yield from _metric(
                "run_exit_code", "gauge", "How the run ended: 0 is success.",
                [(run, self._exit_code)],
            )  # fmt: skip
        stages = [({**run, "stage": name}, counts) for name, counts in self._stages.items()]
        for name, kind, about_it, of in _STAGE_METRICS:
            yield from _metric(
                name, kind, about_it, [(labels, of(each)) for labels, each in stages]
            )
        yield from _metric(
            "files_failed_total", "counter", "Files that failed, by the code of the reason.",
            [
                ({**labels, "code": code}, count)
                for labels, each in stages
                for code, count in sorted(each.failed.items())
            ],
        )  # fmt: skip


_STAGE_METRICS: tuple[tuple[str, str, str, Callable[[StageCounts], float]], ...] = (
    ("files_expected", "gauge", "Files that the run has to do, with those it keeps.",
     lambda counts: counts.expected),
    ("files_kept", "gauge", "Files that earlier runs did.", lambda counts: counts.kept),
    ("files_done_total", "counter", "Files that are done.", lambda counts: counts.done),
    ("file_size_bytes_total", "counter", "Size of the files that are finished.",
     lambda counts: counts.size_bytes),
    ("video_seconds_total", "counter", "Length of the videos that are finished.",
     lambda counts: counts.video_s),
    ("work_seconds_total", "counter", "Time that the files took, of all processes together.",
     lambda counts: counts.work_s),
)  # fmt: skip


def _metric(name: str, kind: str, about: str, samples: list[Sample]) -> Iterator[str]:
    if not samples:
        return
    yield f"# HELP vqatool_{name} {about}\n# TYPE vqatool_{name} {kind}\n"
    for labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = f"{value:.3f}" if isinstance(value, float) else f"{int(value)}"
        yield f"vqatool_{name}{{{pairs}}} {number}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
