"""Stages run with their progress on the terminal; what is said goes to stderr, results do not."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ladder.adaptive import ladder_rounds
from ladder.encode.ladders import Ladder
from ladder.encode.plan import EncodeRow, LadderPlan
from ladder.encode.run import make_encodes
from ladder.label.rows import LabelRow
from ladder.label.run import AUTO_VMAF, LabelOptions, LabelPlan, make_labels, plan_labels
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.time_ranges import FULL, TrimSpec
from vqatool.cli.progress import StepProgress, WorkProgress
from vqatool.errors import TrainingDataError
from vqatool.terminal import console, print_message

if TYPE_CHECKING:  # torch takes seconds to load, and stages 1 and 2 need none
    from vqatool.data.labels import LabelledEncode
    from vqatool.evaluation.run import Prediction
    from vqatool.inference.model_file import Checkpoint
    from vqatool.inference.predictor import Predictor
    from vqatool.scoring.report_file import Report
    from vqatool.scoring.rows import ReportRow
    from vqatool.scoring.run import ScoreConfig
    from vqatool.training.initialization import Initialization
    from vqatool.training.trainer import Progress, TrainConfig


def run_ladder(
    videos: Sequence[Path],
    ladder: Ladder,
    folder: Path,
    ffmpeg: Ffmpeg,
    *,
    trim: TrimSpec = FULL,
    jobs: int | None = None,
) -> list[EncodeRow]:
    """Stage 1; the rows of what was asked for, made now or before."""
    rows: list[EncodeRow] = []
    for number, each in enumerate(ladder_rounds(videos, ladder, folder, trim=trim), 1):
        which = f" (round {number})" if each.to_label else ""
        rows += _encoded(each.plan, folder, ffmpeg, jobs, f"encoding{which}")
        if each.to_label:
            labels = plan_labels(folder, AUTO_VMAF, only=each.keys)
            _labelled(labels, folder, ffmpeg, jobs, f"labelling{which}")
    return rows


def run_label(
    folder: Path, ffmpeg: Ffmpeg, options: LabelOptions = AUTO_VMAF, *, jobs: int | None = None
) -> list[LabelRow]:
    """Stage 2; the labels of every good encode in the folder, made now or before."""
    plan = plan_labels(folder, options)
    if not plan.jobs and not plan.done:
        raise TrainingDataError(
            f"{folder} holds no encodes: run `vqatool ladder SRC... -o {folder}` first"
        )
    return _labelled(plan, folder, ffmpeg, jobs, "labelling")


def _encoded(
    plan: LadderPlan, folder: Path, ffmpeg: Ffmpeg, jobs: int | None, what: str
) -> list[EncodeRow]:
    if plan.done:
        print_message(f"{what}: {len(plan.done)} encodes are there already")
    rows = list(plan.done)
    costs = {job.row.key: job.cost for job in plan.jobs}
    with WorkProgress(console(), what, costs) as progress:
        for row in make_encodes(plan, folder, ffmpeg, jobs=jobs, on_progress=progress.share):
            progress.done(row.key)
            rows.append(row)
    return rows


def _labelled(
    plan: LabelPlan, folder: Path, ffmpeg: Ffmpeg, jobs: int | None, what: str
) -> list[LabelRow]:
    if plan.done:
        print_message(f"{what}: {len(plan.done)} labels are there already")
    rows = list(plan.done)
    costs = {row.key: float(row.frame_count or 1) for row in plan.jobs}
    with WorkProgress(console(), what, costs) as progress:
        for row in make_labels(plan, folder, ffmpeg, jobs=jobs, on_progress=progress.share):
            progress.done(row.key)
            rows.append(row)
    return rows


def run_training(
    folder: Path, out: Path, config: "TrainConfig", initialization: "Initialization", device: str
) -> "Checkpoint":
    """Stage 4; the model in `out`."""
    from vqatool.training.run import train

    with StepProgress(console(), "training") as progress:

        def show(now: "Progress") -> None:
            progress.show("training", now.step, now.steps, _note(now))

        return train(
            folder,
            out,
            config,
            initialization=initialization,
            device=device,
            on_progress=show,
            on_decoded=lambda done, total: progress.show("decoding", done, total),
        )


def _note(now: "Progress") -> str:
    loss = f"loss {sum(now.terms.values()):.3f}"
    if now.found is None:
        return loss
    inside = now.found.in_group_srcc
    groups = "" if math.isnan(inside) else f" ({inside:.3f} in groups)"
    return f"{loss}, val SRCC {now.found.srcc:.3f}{groups}, {now.data_wait_share:.0%} data wait"


def run_score(
    videos: Sequence[Path], report: "Report", config: "ScoreConfig", *, is_forced: bool = False
) -> "list[ReportRow]":
    """Stage 5; the rows of the report."""
    from vqatool.scoring.report_file import write_report

    rows = []
    costs = {str(path): 1.0 for path in videos}
    with WorkProgress(console(), "scoring", costs) as progress:
        for row in write_report(videos, report, config, is_forced=is_forced):
            progress.done(row.path)
            rows.append(row)
    return rows


def run_predict(
    encodes: "Sequence[LabelledEncode]", predictor: "Predictor"
) -> "tuple[list[Prediction], list[str]]":
    """Predictions of the encodes that can be decoded, and the reasons why others cannot."""
    from vqatool.evaluation.run import predict_labelled

    reasons: list[str] = []
    costs = {str(encode.path): 1.0 for encode in encodes}
    with WorkProgress(console(), "predicting", costs) as progress:

        def leave_out(encode: "LabelledEncode", reason: str) -> None:
            progress.done(str(encode.path))
            reasons.append(reason)

        predictions = []
        for prediction in predict_labelled(encodes, predictor, leave_out):
            progress.done(str(prediction.encode.path))
            predictions.append(prediction)
    if not predictions:
        raise TrainingDataError(
            f"none of the {len(encodes)} labelled encodes can be decoded; the first: {reasons[0]}"
        )
    return predictions, reasons
