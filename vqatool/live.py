"""Stages run with their progress on the terminal; what is said goes to stderr, results do not."""

from collections.abc import Sequence
from pathlib import Path

from ladder.ffmpeg import Ffmpeg
from ladder.label import make_labels, plan_labels
from ladder.rungs import Rung
from ladder.tables import EncodeRow, LabelRow
from ladder.transcode import make_encodes, plan_ladder
from vqatool.errors import TrainingDataError
from vqatool.predict import Predictor
from vqatool.progress import WorkProgress
from vqatool.score import ReportRow, ScoreOptions, write_report
from vqatool.terminal import console, say


def run_ladder(
    videos: Sequence[Path], rungs: Sequence[Rung], folder: Path, ffmpeg: Ffmpeg, jobs: int | None
) -> list[EncodeRow]:
    """Stage 1; the rows of what was asked for, made now or before."""
    plan = plan_ladder(videos, rungs, folder)
    if plan.done:
        say(f"{len(plan.done)} encodes are there already")
    rows = list(plan.done)
    costs = {job.row.key: job.cost for job in plan.jobs}
    with WorkProgress(console(), "encoding", costs) as progress:
        for row in make_encodes(plan, folder, ffmpeg, jobs=jobs, on_progress=progress.share):
            progress.done(row.key)
            rows.append(row)
    return rows


def run_label(
    folder: Path, ffmpeg: Ffmpeg, models: Sequence[str], jobs: int | None, subsample: int = 1
) -> list[LabelRow]:
    """Stage 2; the labels of every good encode in the folder, made now or before."""
    plan = plan_labels(folder, models)
    if not plan.jobs and not plan.done:
        raise TrainingDataError(
            f"{folder} holds no encodes: run `vqatool ladder SRC... -o {folder}` first"
        )
    if plan.done:
        say(f"{len(plan.done)} labels are there already")
    rows = list(plan.done)
    costs = {row.key: float(row.frame_count or 1) for row in plan.jobs}
    with WorkProgress(console(), "labelling", costs) as progress:
        made = make_labels(
            plan, folder, ffmpeg, models, jobs=jobs, subsample=subsample, on_progress=progress.share
        )
        for row in made:
            progress.done(row.key)
            rows.append(row)
    return rows


def run_score(
    videos: Sequence[Path],
    predictor: Predictor,
    options: ScoreOptions,
    out: Path,
    *,
    jobs: int | None = None,
    is_forced: bool = False,
) -> list[ReportRow]:
    """Stage 5; the rows of `out`."""
    rows = []
    costs = {str(path): 1.0 for path in videos}
    with WorkProgress(console(), "scoring", costs) as progress:
        made = write_report(videos, predictor, options, out, jobs=jobs or 2, is_forced=is_forced)
        for row in made:
            progress.done(row.path)
            rows.append(row)
    return rows
