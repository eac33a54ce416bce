"""`vqatool explain`: why one video has its score, as a page, tables and JSON."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vqatool.cli.options import (
    FileType,
    HereType,
    ParsedType,
    device_option,
    display_option,
    jobs_option,
    model_option,
    predictor_for,
    segment_option,
    timeout_option,
    tonemap_option,
)

if TYPE_CHECKING:  # for annotations alone
    from ladder.media.time_ranges import TimeRange
    from vqatool.reporting.explanation import Explanation
    from vqatool.reporting.explanation_page import ExplanationFiles
    from vqatool.scoring.segments import Display


@click.command()
@click.argument("video", type=FileType(exists=True, is_report=False))
@click.option("-o", "--out", type=HereType(path_type=Path),
              help="Page to write, .html, with tables and JSON beside it; or a folder for them.  "
              "[default: explained/NAME of the video.html]")  # fmt: skip
@click.option("--json", "is_json", is_flag=True,
              help="Print all figures on stdout as a line of JSON; without -o, no file is "
              "written.")  # fmt: skip
@click.option(
    "--clip",
    type=ParsedType("START+LENGTH", "parse_time_range"),
    help="Part of the video whose moments to show, in seconds, such as 120+10.  [default: the "
    "worst moments of all]",
)
@model_option
@display_option
@tonemap_option("Explain an HDR video as SDR; else it is refused.")
@segment_option
@timeout_option
@jobs_option
@device_option
def explain(
    video: Path,
    out: Path | None,
    is_json: bool,
    clip: "TimeRange | None",
    model: Path | None,
    display: "Display",
    tonemap: bool,
    segment_s: float,
    timeout_s: float,
    jobs: int | None,
    device: str,
) -> None:
    """Show why a video has its score.

    The score and its segments are those of `score`. The page has their timeline, how many points
    each input of the model adds (bitstream, motion, detail, pixels), the frames of the worst
    moments, the figures that the model read beside those of a typical clip, and the training
    contents that the video is nearest to. zoom-vqa adds the scores of its branches and how much
    each patch of a frame counts.

    \b
    Example:
        vqatool explain film.mp4 --segment 2 -o why.html
        vqatool explain film.mp4 --clip 120+10 -m zoom-vqa.safetensors
        vqatool explain film.mp4 --json | jq .contributions
    """
    from vqatool.inputs.decode_pool import start_server
    from vqatool.memory import return_freed_memory

    return_freed_memory()
    start_server()  # the server loads what workers need while this process loads the model

    from vqatool.cli.progress import Progress
    from vqatool.cli.tables import explanation_table
    from vqatool.reporting.explanation import explain as explain_video
    from vqatool.scoring.segments import ScoreConfig
    from vqatool.terminal import console, print_note

    files = _files(video, out, is_json)
    predictor = predictor_for(model, device)
    config = ScoreConfig(display, segment_s, jobs, timeout_s, tonemap=tonemap)
    print_note(f"explaining {video}")
    with Progress("segments") as progress:
        found = explain_video(
            predictor, video, config, shown=clip, on_segment=partial(progress.show, "segments")
        )
    if is_json:
        _print_json(found)
    else:
        console(is_result=True).print(explanation_table(found))
    _tell(found, files, jobs=jobs, tonemap=tonemap)


def _files(video: Path, out: Path | None, is_json: bool) -> "ExplanationFiles | None":
    """Where to write; None: nowhere."""
    from vqatool.reporting.explanation_page import ExplanationFiles
    from vqatool.scoring.formats import is_page

    if out is None and is_json:
        return None
    page = f"{video.name}.html"
    if out is None:
        out = Path("explained") / page
    if not is_page(out) and not out.is_dir() and (out.suffix or str(out) == "-"):
        raise click.UsageError(
            f"-o {out} is neither a page, which ends in .html, nor a folder: --json prints the "
            "figures on stdout"
        )
    files = ExplanationFiles(out if is_page(out) else out / page)
    files.require_own()
    return files


def _print_json(found: "Explanation") -> None:
    from vqatool.reporting.explanation_page import explanation_json

    click.echo(f"{explanation_json(found)}\n".encode(), nl=False)


def _tell(
    found: "Explanation", files: "ExplanationFiles | None", *, jobs: int | None, tonemap: bool
) -> None:
    """Write the files, and say on stderr what was found and where it is."""
    from vqatool.reporting.explanation_page import reasons, write_explanation
    from vqatool.reporting.nearest_contents import NOT_KNOWN
    from vqatool.terminal import print_note

    row = found.row
    print_note(
        f"{row.path}: {row.score:.1f} {row.verdict} ({row.score_low:.0f} to {row.score_high:.0f}); "
        f"model {row.model}; display {row.display}"
    )
    for reason in reasons(found):
        print_note(reason)
    if not found.points:
        print_note(
            "what each input adds is not known: the model has one kind of input, or its file is "
            "older, so export it again (vqatool export)"
        )
    if not found.nearest:
        print_note(NOT_KNOWN)
    if files:
        size = write_explanation(found, files, jobs=jobs, tonemap=tonemap)
        print_note(f"{files.page}: page, {size / 1e6:.2f} MB; tables and JSON beside it")
