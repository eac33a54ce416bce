"""`vqatool evaluate`: predictions of a model against the labels."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    MODEL_NAME,
    HereType,
    device_option,
    is_given,
    join_paths,
    model_option,
    predictor_for,
    work_folder,
)
from vqatool.errors import ExitCode, TrainingDataError

if TYPE_CHECKING:  # only for annotations
    from vqatool.data.labels import LabelledEncode
    from vqatool.evaluation.run import Evaluation, Prediction
    from vqatool.inference.predictor import Predictor


@click.command()
@work_folder
@model_option
@click.option(
    "--split",
    type=click.Choice(["test", "val", "train", "all"]),
    help="Sources to evaluate on.  [default: the first that exists of test, val, all]",
)
@click.option("-o", "--out", type=HereType(path_type=Path),
              help="Files to write, without suffix.  [default: FOLDER/evaluation]")  # fmt: skip
@click.option("--by-pixels", "pixels_only", is_flag=True,
              help="Hide the bitstream features from the model.")  # fmt: skip
@device_option
def evaluate(
    folder: Path,
    model: Path | None,
    split: str | None,
    out: Path | None,
    pixels_only: bool,
    device: str,
) -> None:
    """Compare a model's predictions with labels.

    The labels are those in FOLDER (default: encodes). Two baselines are evaluated beside the model:
    the bitrate alone, and a regression on bitstream features. Without --model, the command takes
    FOLDER/model.safetensors if `vqatool train` wrote one there, else the packaged model. No other
    command can use FOLDER meanwhile.

    \b
    Example:
        vqatool evaluate encodes -m model.safetensors --split test
    """
    from vqatool.inputs.decode_pool import start_server

    start_server()  # the server loads what workers need while this process loads the model

    from ladder.storage import work_lock
    from vqatool.data.splits import encodes_of_split, training_encodes
    from vqatool.evaluation.run import evaluate as evaluate_predictions
    from vqatool.evaluation.run import output_paths, write_evaluation
    from vqatool.terminal import print_message, print_note

    stem = out or folder / "evaluation"
    output_paths(stem)  # refuses to overwrite files of others before the work
    if not is_given("model") and (folder / MODEL_NAME).exists():
        model = folder / MODEL_NAME
    predictor = predictor_for(model, device, pixels_only=pixels_only)
    # a folder that cannot be written has no other run to wait for
    with work_lock(folder) if os.access(folder, os.W_OK) else nullcontext():
        predictions, reasons = _run_predict(encodes_of_split(folder, split), predictor)
        training = training_encodes(folder)
        evaluation = evaluate_predictions(predictions, training)
        _print_tables(evaluation, training)
        if model:  # the packaged one has not learned from this folder
            _warn_of_known_sources(predictions, training)
        paths = write_evaluation(evaluation, stem, predictor.name)
    for reason in reasons:
        print_message(f"left out: {reason}")
    sources = evaluation.metric_rows[0].sources
    message = f"{len(predictions)} encodes of {sources} source{'s' * (sources != 1)}"
    message += f", {len(reasons)} left out" if reasons else ""
    print_note(f"{predictor.name}, {message}: wrote {join_paths(paths)}")
    if reasons:
        raise click.exceptions.Exit(ExitCode.SOME_FAILED)


def _run_predict(
    encodes: "Sequence[LabelledEncode]", predictor: "Predictor"
) -> "tuple[list[Prediction], list[str]]":
    """Predictions of the encodes that can be decoded, and the reasons why the others cannot.

    Raises:
        TrainingDataError: none of them can be decoded.
    """
    from vqatool.cli.progress import Progress
    from vqatool.evaluation.run import predict_labelled

    reasons: list[str] = []
    costs = {str(encode.path): 1.0 for encode in encodes}
    with Progress("predicting", costs) as progress:

        def leave_out(encode: "LabelledEncode", reason: str) -> None:
            progress.finish(str(encode.path))
            reasons.append(reason)

        predictions = []
        for prediction in predict_labelled(encodes, predictor, leave_out):
            progress.finish(str(prediction.encode.path))
            predictions.append(prediction)
    if not predictions:
        raise TrainingDataError(
            f"none of the {len(encodes)} labelled encodes can be decoded; the first: {reasons[0]}"
        )
    return predictions, reasons


def _warn_of_known_sources(
    predictions: "Sequence[Prediction]", training: "Sequence[LabelledEncode]"
) -> None:
    from vqatool.terminal import print_message

    judged = {prediction.encode.source for prediction in predictions}
    known = judged & {encode.source for encode in training}
    if known:
        print_message(
            f"warning: {len(known)} of {len(judged)} sources are on the training side of the "
            "split: a model that was trained here knows them, and all figures above are better "
            "than on new videos. Held-out sources: --split test or --split val"
        )


def _print_tables(evaluation: "Evaluation", training: "list[LabelledEncode]") -> None:
    from vqatool.cli.tables import (
        agreement_table,
        baseline_table,
        fitted_table,
        order_table,
        raw_error_table,
    )
    from vqatool.evaluation.summary import remarks, summary_sentences
    from vqatool.terminal import console, print_note

    tables = (raw_error_table, order_table, agreement_table, fitted_table, baseline_table)
    out = console(is_result=True)
    for table in tables:
        out.print(table(evaluation.metric_rows))
        out.print()
    if training:
        sources = len({encode.source for encode in training})
        print_note(
            f"the regression was fitted to {len(training)} encodes of {sources} training sources"
        )
    else:
        print_note(
            "the folder has no training split: the regression was fitted with one source left out "
            "at a time"
        )
    for sentence in [*remarks(evaluation.metric_rows), *summary_sentences(evaluation.metric_rows)]:
        print_note(sentence)
