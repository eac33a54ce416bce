"""What `vqatool.score` does: the audit for other programs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ladder.find import find_videos
from vqatool.checkpoint import default_checkpoint, load_checkpoint
from vqatool.predict import Predictor
from vqatool.scoring.look import Display, ScoreOptions
from vqatool.scoring.rows import ReportRow, as_written
from vqatool.scoring.run import Audit, score_videos
from vqatool.scoring.write import Report, write_report


def rows_of(
    paths: Iterable[Path],
    out: Path | None,
    model: Path | None,
    display: Display,
    segment_s: float,
    device: str,
    *,
    jobs: int | None,
    timeout_s: float,
) -> Iterator[ReportRow]:
    """The rows of the videos behind `paths`; arguments and errors are those of `vqatool.score`."""
    predictor = Predictor(load_checkpoint(model) if model else default_checkpoint(), device)
    audit = Audit(predictor, ScoreOptions(display, segment_s), jobs, timeout_s)
    videos = find_videos(paths).videos
    if out:
        return write_report(videos, Report(out), audit)
    return (as_written(scored.row) for scored in score_videos(videos, audit))
