"""Does it work here, and what does it do: doctor and demo."""

from pathlib import Path

import click

from vqatool.cli.options import (
    exit_on_failures,
    ffmpeg_option,
    listed,
    predictor_for,
)


@click.command()
@click.option("-o", "--out", "folder", type=click.Path(file_okay=False, path_type=Path),
              default=Path("vqatool-demo"), show_default=True, help="Work folder.")  # fmt: skip
@ffmpeg_option
def demo(folder: Path, ffmpeg_path: Path | None) -> None:
    """Run the whole pipeline on a real clip: ladder, labels, scores, side by side.

    \b
    Example:
        vqatool demo -o /tmp/demo
    """
    from ladder.encode.ladders import ladder_named
    from ladder.label.metrics import model_names
    from ladder.label.run import LabelOptions
    from ladder.media.ffmpeg import find_ffmpeg
    from ladder.media.probe import probe
    from vqatool.cli.demo_table import DEMO_LADDER, compare, demo_clip, demo_table
    from vqatool.cli.live import run_label, run_ladder, run_score
    from vqatool.scoring.report_file import Report
    from vqatool.scoring.run import ScoreConfig
    from vqatool.scoring.segments import ScoreOptions
    from vqatool.terminal import console, print_message

    clip, ffmpeg = demo_clip(), find_ffmpeg(ffmpeg_path)
    report = folder / "report.csv"
    encodes = run_ladder([clip], ladder_named(DEMO_LADDER), folder, ffmpeg)
    labels = run_label(folder, ffmpeg, LabelOptions(models=model_names(["v0"])))
    options = ScoreOptions(display=probe(clip).display_size)
    made = [folder / row.encode_path for row in encodes if row.status == "ok"]
    scored = run_score(made, Report(report), ScoreConfig(predictor_for(None, "auto"), options))
    console(is_result=True).print(demo_table(compare(encodes, labels, scored, folder)))
    print_message("wrote " + listed([folder / "encodes.csv", folder / "labels.csv", report]))
    exit_on_failures([*encodes, *labels, *scored])
