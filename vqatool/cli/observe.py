"""What a run tells of each file that is finished: metrics for Prometheus, and a line of the log."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vqatool.cli.options import HereType, exit_code_of

if TYPE_CHECKING:  # for annotations alone
    from vqatool.run_metrics import FinishedRow, RunMetrics

C = TypeVar("C", bound=Callable[..., Any])
R = TypeVar("R", bound="FinishedRow")

_log = logging.getLogger(__name__)


def metrics_option(command: C) -> C:
    """--metrics, which every `Watch` of the command then fills."""
    return click.option(
        "--metrics",
        type=HereType(dir_okay=False, path_type=Path),
        metavar="FILE.prom",
        expose_value=False,
        callback=_start_metrics,
        help="File for the textfile collector of Prometheus: files done and failed, seconds, "
        "bytes; kept up to date during the run.",
    )(command)


def _start_metrics(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    from vqatool.files import require_own_texts
    from vqatool.run_metrics import SUFFIX, RunMetrics

    if path.suffix != SUFFIX:
        raise click.BadParameter(f"{path} must end in {SUFFIX}: collectors read no other file")
    require_own_texts([path])
    ctx.meta[__name__] = metrics = RunMetrics(path, ctx.info_name or "")
    ctx.with_resource(_tells_its_end(metrics))


@contextlib.contextmanager
def _tells_its_end(metrics: "RunMetrics") -> Iterator[None]:
    """Tells the metrics with which exit code the run ends."""
    try:
        yield
    finally:
        # some versions of click do not pass the error on
        metrics.end(exit_code_of(sys.exception()))


class Watch:
    """One stage of a run: counts each row as it comes, and logs it.

    Args:
        stage: its name in the metrics, such as `score`.
        expected: number of files, with those that are kept.
        kept: number of files that earlier runs did, whose rows do not come.
    """

    def __init__(self, stage: str, expected: int, kept: int = 0) -> None:
        context = click.get_current_context(silent=True)
        self._metrics: RunMetrics | None = context.meta.get(__name__) if context else None
        self._counts = self._metrics.begin(stage, expected, kept) if self._metrics else None
        self._num_skipped = 0

    def skip(self, kept: int) -> None:
        """The first so many rows are those of earlier runs."""
        self._num_skipped = kept
        if self._counts:
            self._counts.kept += kept

    def rows(self, source: Iterable[R]) -> Iterator[R]:
        """The rows of `source`, each counted when it comes."""
        for index, row in enumerate(source):
            if index >= self._num_skipped:
                self._finish(row)
            yield row

    def _finish(self, row: "FinishedRow") -> None:
        from vqatool.run_metrics import spent_s

        name = getattr(row, "key", "")
        outcome = f"failed: {getattr(row, 'error', '')}" if row.status == "error" else "done"
        if not getattr(row, "error_code", ""):  # scoring has logged it with its code
            _log.info("%s: %s, %.1f s", name, outcome, spent_s(row), extra={"file": name})
        if self._metrics and self._counts:
            self._counts.add(row)
            self._metrics.touch()
