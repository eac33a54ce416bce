"""What tests of the command line share: the program, its tables, a ladder file of two rungs."""

import csv
from pathlib import Path

from click.testing import CliRunner, Result

from vqatool.cli import cli

RUNGS = """
[[rung]]
height_px = 90
crf = 30

[[rung]]
height_px = 46
bitrate_kbps = 50
"""


def vqatool(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args], catch_exceptions=False)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
