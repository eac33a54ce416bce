"""`vqatool explain`: the scores of one video over time, and the places they come from."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    ParsedType,
    device_option,
    display_option,
    join_paths,
    model_option,
    predictor_for,
    tonemap_option,
)

if TYPE_CHECKING:  # for annotations alone
    from ladder.media.time_ranges import TimeRange
    from vqatool.scoring.segments import Display


@click.command()
@click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              help="Folder to write to.  [default: explained/NAME of the video]")  # fmt: skip
@click.option(
    "--clip",
    type=ParsedType("START+LENGTH", "parse_time_range"),
    help="Part of the video, in seconds, such as 120+10.  [default: the whole video]",
)
@model_option
@display_option
@tonemap_option("Explain an HDR video as SDR; else it is refused.")
@device_option
def explain(
    video: Path,
    folder: Path | None,
    clip: "TimeRange | None",
    model: Path | None,
    display: "Display",
    tonemap: bool,
    device: str,
) -> None:
    """Show a model's scores of one video over time.

    Every method has a curve over the frames it reads. zoom-vqa adds the score of each of its
    branches and pictures of how much each patch of a frame counts.

    \b
    Example:
        vqatool explain film.mp4 --clip 120+10 -m zoom-vqa.safetensors -o explained/film
    """
    from vqatool.inputs.decode_pool import start_server

    start_server()  # the server loads what the worker needs while this process loads the model

    from ladder.media.time_ranges import TrimSpec
    from vqatool.reporting.explanation import ALL, write_explanation
    from vqatool.reporting.explanation import explain as explain_video
    from vqatool.terminal import print_message

    predictor = predictor_for(model, device)
    found = explain_video(predictor, video, display, TrimSpec(clip), tonemap=tonemap)
    written = write_explanation(found, folder or Path("explained") / video.name)
    for part, score in found.scores.items():
        print_message(f"score {score:.1f}" if part == ALL else f"{part} alone {score:.1f}")
    print_message(
        f"wrote {join_paths(written[:1])}"
        + (f" and {len(found.attention_maps)} pictures" * bool(found.attention_maps))
    )
