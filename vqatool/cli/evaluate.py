"""Stage 4 on the command line, the model judged: evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    MODEL_NAME,
    SOME_FAILED,
    device_option,
    listed,
    model_option,
    predictor_for,
    work_folder,
)

if TYPE_CHECKING:  # for annotations alone
    from vqatool.evaluate import Evaluation
    from vqatool.groups import LabelledEncode


@click.command()
@work_folder
@model_option
@click.option("--split", type=click.Choice(["test", "val", "train", "all"]),
              help="Which sources.  [default: test if there is any, val, all]")  # fmt: skip
@click.option("-o", "--out", type=click.Path(path_type=Path),
              help="Stem of the files to write.  [default: FOLDER/evaluation]")  # fmt: skip
@click.option("--by-pixels", is_flag=True,
              help="Hide what streams say of their coding from the model.")  # fmt: skip
@device_option
def evaluate(
    folder: Path,
    model: Path | None,
    split: str | None,
    out: Path | None,
    by_pixels: bool,
    device: str,
) -> None:
    """Compare predictions with the labels in FOLDER (default: encodes).

    Cheap baselines are judged beside the model: the bitrate alone, and a regression on what the
    file says. Without --model it judges FOLDER/model.safetensors if `vqatool train` left one there,
    else the packaged model.

    \b
    Example:
        vqatool evaluate encodes -m model.safetensors --split test
    """
    from vqatool.evaluate import evaluate as judge
    from vqatool.evaluate import write_evaluation
    from vqatool.groups import labelled_of, training_side
    from vqatool.live import run_predict
    from vqatool.terminal import say

    trained = folder / MODEL_NAME
    asked = model or (trained if trained.exists() else None)
    predictor = predictor_for(asked, device, by_pixels=by_pixels)
    predictions, reasons = run_predict(labelled_of(folder, split), predictor)
    training = training_side(folder)
    found = judge(predictions, training, band=predictor.card.band)
    _tell(found, training)
    paths = write_evaluation(found, out or folder / "evaluation")
    for reason in reasons:
        say(f"left out: {reason}")
    told = f"{len(predictions)} encodes of {found.figures[0].sources} sources"
    told += f", {len(reasons)} left out" if reasons else ""
    say(f"{predictor.name}, {told}: wrote {listed(paths)}")
    if reasons:
        raise click.exceptions.Exit(SOME_FAILED)


def _tell(found: "Evaluation", training: "list[LabelledEncode]") -> None:
    from vqatool.evaluation.verdict import agreement_table, baseline_table, remarks, verdict
    from vqatool.terminal import console, say

    console().print(agreement_table(found.figures))
    console().print()
    console().print(baseline_table(found.figures))
    console().print()
    if training:
        sources = len({encode.source for encode in training})
        say(f"the regression learned from {len(training)} encodes of {sources} training sources")
    else:
        say("the folder has no training side: the regression left one source out at a time")
    for sentence in [*remarks(found.figures), *verdict(found.figures)]:
        say(sentence)
