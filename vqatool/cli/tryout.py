"""Does it work here, and what does it do: doctor and demo."""

from pathlib import Path

import click

from vqatool.cli.options import (
    NO_CAPABILITY,
    exit_on_failures,
    ffmpeg_option,
    listed,
    predictor_for,
)


@click.command()
@ffmpeg_option
def doctor(ffmpeg_path: Path | None) -> None:
    """Try everything vqatool needs and say how to mend what does not work.

    \b
    Example:
        vqatool doctor
    """
    from rich.table import Table

    from vqatool.doctor import examine
    from vqatool.terminal import console

    table = Table(title="vqatool doctor", title_justify="left")
    for heading in ("what", "works", "found"):
        table.add_column(heading, overflow="fold")
    checks = list(examine(ffmpeg_path))
    for check in checks:
        mark = "yes" if check.works else "no" if check.is_required else "no (optional)"
        found = check.found if check.works else f"{check.found}\nremedy: {check.remedy}"
        table.add_row(check.what, mark, found)
    console(is_result=True).print(table)
    if any(check.is_required and not check.works for check in checks):
        raise click.exceptions.Exit(NO_CAPABILITY)


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
    from ladder.ffmpeg import find_ffmpeg
    from ladder.label import LabelOptions
    from ladder.ladders import ladder_named
    from ladder.probe import probe
    from ladder.vmaf_models import model_names
    from vqatool.demo import DEMO_LADDER, compare, demo_clip, demo_table
    from vqatool.live import run_label, run_ladder, run_score
    from vqatool.scoring.look import ScoreOptions
    from vqatool.scoring.run import Audit
    from vqatool.scoring.write import Report
    from vqatool.terminal import console, say

    clip, ffmpeg = demo_clip(), find_ffmpeg(ffmpeg_path)
    report = folder / "report.csv"
    encodes = run_ladder([clip], ladder_named(DEMO_LADDER), folder, ffmpeg)
    labels = run_label(folder, ffmpeg, LabelOptions(models=model_names(["v0"])))
    options = ScoreOptions(display=probe(clip).display_size)
    made = [folder / row.encode_path for row in encodes if row.status == "ok"]
    scored = run_score(made, Report(report), Audit(predictor_for(None, "auto"), options))
    console(is_result=True).print(demo_table(compare(encodes, labels, scored, folder)))
    say("wrote " + listed([folder / "encodes.csv", folder / "labels.csv", report]))
    exit_on_failures([*encodes, *labels, *scored])
