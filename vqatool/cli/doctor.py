"""Does it work here, and what does it do: doctor and demo."""

from pathlib import Path

import click

from vqatool.cli.options import (
    NO_CAPABILITY,
    ffmpeg_option,
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

    from vqatool.cli.checks import examine
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
