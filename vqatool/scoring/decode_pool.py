"""Processes that look at videos: a file that brings one down, or hangs it, is a row and no end.

They are forked from a server that has loaded torch once, and never from the process that scores,
whose threads a fork would not survive.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType

import torch
from pebble import ProcessExpired, ProcessPool

from ladder.media.ffmpeg import allocate_workers
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.segments import (
    SEGMENTS_PER_TASK,
    DecodedSegments,
    ScoreOptions,
    decode_first_segments,
    decode_segments,
)
from vqatool.scoring.server import start_server

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of glibc's malloc.h


_MOST_KEPT = 2**31 - 1  # bytes


class DecoderPool(AbstractContextManager["DecoderPool"]):
    """A pool of processes that look at videos; leaving the context ends them.

    Args:
        sight: what the model has to see.
        options: screen and segments.
        jobs: processes; None: one for each core, four at most.
        timeout_s: how long a process may take for `SEGMENTS_PER_TASK` segments.

    Raises:
        RuntimeError: processes cannot start, as from a script that is not fit to be imported.
    """

    def __init__(
        self,
        preprocessor: ClipPreprocessor,
        options: ScoreOptions,
        *,
        jobs: int | None,
        timeout_s: float,
    ) -> None:
        self._at_once, threads = allocate_workers(jobs)
        self._preprocessor, self._options = replace(preprocessor, threads=threads), options
        self._timeout_s = timeout_s
        start_server()
        context = multiprocessing.get_context("forkserver")
        _require_start(context)
        self._pool = ProcessPool(self._at_once, initializer=_settle, context=context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def decode(self, videos: Iterable[Path]) -> Iterator[Iterator[DecodedSegments]]:
        """For each video, in order, the looks at its parts, in order; the next ones are under way.

        What is under way is bounded, so memory grows neither with videos nor with their length.
        """
        waiting = iter(videos)
        ahead = deque(map(self._open, islice(waiting, self._at_once + 1)))

        def each() -> Iterator[Iterator[DecodedSegments]]:
            while ahead:
                yield self._parts(*ahead.popleft())
                ahead.extend(map(self._open, islice(waiting, 1)))

        return each()

    def _open(self, path: Path) -> tuple[ReportRow, Future[DecodedSegments]]:
        row = ReportRow(path=str(path), status="ok", display=self._options.screen)
        args = (path, self._preprocessor, self._options)
        return row, self._pool.schedule(decode_first_segments, args, timeout=self._timeout_s)

    def _parts(self, row: ReportRow, opened: Future[DecodedSegments]) -> Iterator[DecodedSegments]:
        """The looks at the parts of one video, until one fails."""
        first = self._outcome(row, opened)
        starts = iter(range(SEGMENTS_PER_TASK, first.count, SEGMENTS_PER_TASK))
        under_way = deque(
            self._decode_next(first, start) for start in islice(starts, self._at_once)
        )
        latest = first
        yield latest
        while under_way and latest.row.status == "ok":
            latest = self._outcome(first.row, under_way.popleft())
            under_way.extend(self._decode_next(first, start) for start in islice(starts, 1))
            yield latest
        for future in under_way:
            future.cancel()

    def _decode_next(self, first: DecodedSegments, start: int) -> Future[DecodedSegments]:
        args = (first.row, first.info, start, self._preprocessor, self._options)
        return self._pool.schedule(decode_segments, args, timeout=self._timeout_s)

    def _outcome(self, row: ReportRow, future: Future[DecodedSegments]) -> DecodedSegments:
        try:
            return future.result()
        except TimeoutError:
            code, why = "timeout", f"took over {self._timeout_s:g} s: raise --timeout"
        except ProcessExpired as error:
            code, why = "crashed", f"crashed its decoder ({_cause(error.exitcode)})"
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the other rows
            code, why = "internal", f"met a fault of vqatool, please report it: {error!r}"
        row = replace(row, status="error", error_code=code, error=f"{row.path} {why}")
        return DecodedSegments(row, None, [], 0, 0.0)


def _require_start(context: ForkServerContext) -> None:
    """Start one process by itself: a pool would start those that fail again and again."""
    process = context.Process(target=os.getpid)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(
            "the processes that read videos cannot start: a script that calls vqatool.score "
            "needs `if __name__ == '__main__':` before its work"
        )


def _settle() -> None:
    """What a process does first: as many of them as there are cores share the cores."""
    torch.set_num_threads(1)
    _keep_freed_memory()
    # Ctrl-C is for the process that scores, which ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_freed_memory() -> None:
    """The frames of a segment are 100 MB, as those of the last one were.

    The C library would give them back to the system each time, and to get them again, page by page,
    takes a quarter of all the work.
    """
    with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
        adjust = ctypes.CDLL(None).mallopt
        adjust(_MMAP_MAX, 0)
        adjust(_TRIM_THRESHOLD, _MOST_KEPT)


def _cause(exit_code: int) -> str:
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return f"exit status {exit_code}"
