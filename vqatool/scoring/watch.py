"""Score what arrives in folders: find files that are complete, and that are not in the report."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ladder.errors import RemoteError
from ladder.media.discover import ALL, FileFilter, find_videos
from vqatool.inference.predictor import Predictor
from vqatool.scoring.report_file import Resumed, write_report
from vqatool.scoring.rows import FileStamp, ReportRow
from vqatool.scoring.segments import ScoreConfig

_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    stamp: FileStamp
    since_s: float  # monotonic


@dataclass
class Arrivals:
    """The files below some folders that are complete, each once for each content.

    A file is complete once its size and its time of change have stayed the same for `settle_s`
    seconds. One that was last changed longer ago than that is complete at first sight.

    Attributes:
        folders: to look in, with the folders below them; files may be among them.
        wanted: which files count.
        settle_s: seconds without a change.
    """

    folders: Sequence[Path]
    wanted: FileFilter = ALL
    settle_s: float = 5.0
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _given: dict[Path, FileStamp] = field(default_factory=dict)

    def complete(self) -> list[Path]:
        """The complete files that were not given before as they are now."""
        now_s, paths = time.monotonic(), find_videos(self.folders, self.wanted).videos
        seen: dict[Path, _Seen] = {}
        found = []
        for path in paths:
            try:
                stamp, age_s = FileStamp.of(path), time.time() - path.stat().st_mtime
            except (OSError, RemoteError):
                continue  # gone, or not readable yet
            before = self._seen.get(path)
            is_same = before is not None and before.stamp == stamp
            seen[path] = before if before and is_same else _Seen(stamp, now_s)
            is_still = now_s - seen[path].since_s >= self.settle_s or age_s >= self.settle_s
            if is_still and self._given.get(path) != stamp:
                found.append(path)
                self._given[path] = stamp
        self._seen = seen
        return found


def watch(
    arrivals: Arrivals,
    out: Path,
    predictor: Predictor,
    config: ScoreConfig,
    *,
    interval_s: float,
    stop: threading.Event,
    is_once: bool = False,
    per_segment: Path | None = None,
    on_start: Callable[[Resumed], None] = lambda resumed: None,
    on_change: Callable[[], None] = lambda: None,
) -> Iterator[ReportRow]:
    """Score complete files as they arrive; yields the row of each that the report lacked.

    The report keeps the rows of all files, also of those that are gone.

    Args:
        arrivals: where files arrive.
        out: the report; files that it holds as they are now are not scored again.
        predictor: the model.
        config: how to score.
        interval_s: seconds between two looks.
        stop: ends it, after the few files that are being scored.
        is_once: end after one look.
        per_segment: a second file, with one row for each segment.
        on_start: called before each few files are scored.
        on_change: called after each look that found something, when the report is written.

    Raises:
        ReportError: the report holds something else, cannot be written, or another run writes it.
        RemoteError: a bucket cannot be listed at the first look; at later ones it is left out.
    """
    has_looked = False
    while True:
        waiting = _complete(arrivals, is_first=not has_looked)
        has_looked = True
        for first in range(0, len(waiting), _FILES_AT_ONCE):
            if stop.is_set():
                return
            few = waiting[first : first + _FILES_AT_ONCE]
            yield from _new_rows(few, out, predictor, config, per_segment, on_start)
        if waiting:
            on_change()
        if is_once or stop.wait(interval_s):
            return


def _complete(arrivals: Arrivals, *, is_first: bool) -> list[Path]:
    """What has arrived; a bucket that cannot be listed was there before, and may be there again."""
    try:
        return arrivals.complete()
    except RemoteError as error:
        if is_first:
            raise
        _log.warning("%s; looking again later", error)
        return []


_FILES_AT_ONCE = 32
"""Who stops a watch waits for no more files than these."""


def _new_rows(
    paths: Sequence[Path],
    out: Path,
    predictor: Predictor,
    config: ScoreConfig,
    per_segment: Path | None,
    on_start: Callable[[Resumed], None],
) -> Iterator[ReportRow]:
    kept: list[int] = []

    def start(resumed: Resumed) -> None:
        kept.append(resumed.num_kept)
        on_start(resumed)

    rows = write_report(
        paths,
        out,
        predictor,
        config,
        per_segment=per_segment,
        keeps_others=True,
        on_start=start,
    )
    for number, row in enumerate(rows):
        if number >= kept[0]:  # those that are kept come first
            yield row
