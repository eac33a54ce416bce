"""What tests of the command line share: the program, its tables, a ladder file of two rungs."""

import csv
import os
import signal
import subprocess
import sys
import threading
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


_HELD = """
import threading
from vqatool.cli import cli
from vqatool.scoring.report_file import ReportFile

append, rows = ReportFile.append, []

def append_three(self, row):
    if len(rows) == 3:
        print("held", flush=True)
        threading.Event().wait(600)
    rows.append(row)
    return append(self, row)

ReportFile.append = append_three
cli()
"""


def kill_after_three_rows(*args: object, **environment: str) -> None:
    """Run the program, which must be about to write the fourth row of a report, and kill it."""
    root = str(Path(__file__).parent.parent.parent)
    here = {**os.environ, "PYTHONPATH": root, **environment}
    command = [sys.executable, "-c", _HELD, *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=here, text=True) as process:
        assert process.stdout
        limit = threading.Timer(300, process.kill)
        limit.start()
        assert "held\n" in process.stdout
        process.send_signal(signal.SIGKILL)
        limit.cancel()
    assert process.returncode == -signal.SIGKILL


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
