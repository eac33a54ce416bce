"""What `vqatool.score` does: the audit for other programs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from ladder.media.discover import find_videos
from vqatool.inference.model_file import default_checkpoint, load_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.scoring.report_file import Report, write_report
from vqatool.scoring.rows import ReportRow, as_stored
from vqatool.scoring.run import ScoreConfig, score_videos
from vqatool.scoring.segments import Display, ScoreOptions


def score_paths(
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
    config = ScoreConfig(predictor, ScoreOptions(display, segment_s), jobs, timeout_s)
    videos = find_videos(paths).videos
    if out:
        return write_report(videos, Report(out), config)
    return (as_stored(scored.row) for scored in score_videos(videos, config))
