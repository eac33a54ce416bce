"""What `pip install vqatool` alone can do: these tests need no more than that install."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import MakeVideo

ROOT = Path(__file__).parent.parent.parent
EXTRAS = (
    "torch",
    "timm",
    "accelerate",
    "safetensors",
    "scipy",
    "matplotlib",
    "pandas",
    "ray",
    "obstore",
    "fsspec",
    "boto3",
)

WITHOUT_EXTRAS = f"""
import json, sys
for name in {EXTRAS}:
    sys.modules[name] = None  # an import of it fails as if it were not installed
from click.testing import CliRunner
from vqatool.cli import cli
for args in json.loads(sys.argv[1]):
    done = CliRunner().invoke(cli, args)
    print(json.dumps([done.exit_code, done.stdout, done.stderr]))
"""
"""Runs several commands in one process, and prints a line of JSON for each."""

REMEMBERING = """
import atexit, sys
@atexit.register
def tell():
    print("LOADED", *(name for name in sys.modules if "." not in name), file=sys.stderr)
from vqatool.cli import cli
cli()
"""


def run_script(script: str, *args: object) -> "subprocess.CompletedProcess[str]":
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=here)


class Done(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str


def run_without_extras(*commands: Sequence[object]) -> list[Done]:
    """What each of the commands came to."""
    done = run_script(WITHOUT_EXTRAS, json.dumps([list(map(str, args)) for args in commands]))
    assert done.returncode == 0, done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]


def outputs_without_extras(*commands: Sequence[object]) -> list[str]:
    """What each of the commands, which must succeed, prints."""
    found = run_without_extras(*commands)
    assert [done.exit_code for done in found] == [0] * len(commands), found
    return [done.stdout for done in found]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_command_that_lacks_an_extra_names_the_line_to_install_it(
    source_video: Path, tmp_path: Path
) -> None:
    out, model = ("-o", str(tmp_path / "r.csv")), ("-o", str(tmp_path / "out.safetensors"))
    video, score = str(source_video), "score"
    extras = {
        "train": (
            ["train"],
            ["evaluate"],
            ["study"],
            ["pretrain", "--data", "x=.", *model],
            ["export", video],
            ["import", video, *model],
        ),
        "cloud": (
            [score, "s3://bucket/in/", *out],
            [score, "https://host/a.mp4", *out],
            [score, "memory://a.mp4", *out],
        ),
        "parquet": ([score, video, "-o", str(tmp_path / "report.parquet")],),
        "cluster": ([score, video, *out, "--on", "ray"],),
    }
    commands = [(extra, args) for extra, each in extras.items() for args in each]
    found = run_without_extras(*(args for _, args in commands))
    for (extra, args), done in zip(commands, found, strict=True):
        assert done.exit_code == 6, args
        assert f"pip install 'vqatool[{extra}]'" in done.stderr, args
        assert "Traceback" not in done.stderr, args


def test_score_report_explain_and_doctor_need_no_extra(source_video: Path, tmp_path: Path) -> None:
    report, why, page = (tmp_path / name for name in ("report.csv", "why.html", "page.html"))
    _, explained, _, checked = outputs_without_extras(
        ["score", source_video, "-o", report],
        ["explain", source_video, "-o", why, "--json"],
        ["report", report, "-o", page],
        ["doctor"],
    )
    (row,) = rows_of(report)
    assert 0 <= float(row["score"]) <= 100
    found = json.loads(explained)
    assert f"{found['score']:.4f}" == row["score"]
    assert len(found["contributions"]) == 4
    assert b"data:image/jpeg" in why.read_bytes()
    assert b"data:image/jpeg" in page.read_bytes()
    if importlib.util.find_spec("torch") is None:
        assert "pip install 'vqatool[train]'" in checked.replace("\n", " ")


def test_ladder_and_label_need_no_extra(source_video: Path, tmp_path: Path) -> None:
    rungs, folder = tmp_path / "one.toml", tmp_path / "work"
    rungs.write_text('[[rung]]\nheight_px = 90\ncrf = 30\ncodec = "libx264"\n')
    drawing, encode = tmp_path / "frames.svg", folder / "source" / "90p-crf30-x264.mp4"
    *_, measured = outputs_without_extras(
        ["ladder", source_video, "-o", folder, "--rungs", rungs],
        ["label", folder],
        ["label", "--source", source_video, encode, "--plot", drawing, "--json"],
    )
    (row,) = rows_of(folder / "labels.csv")
    assert row["encode_path"] == "source/90p-crf30-x264.mp4"
    assert 0 < float(row["vmaf"]) <= 100
    assert json.loads(measured)["vmaf"] == float(row["vmaf"])
    assert "<svg" in drawing.read_text()


def test_recommend_and_bdrate_need_no_extra(source_video: Path, tmp_path: Path) -> None:
    folder, grid = tmp_path / "work", ("--sizes", 108, "--rates", "16,28,40", "--max-rungs", 2)
    ladders = folder / "ladders"
    _, compared = outputs_without_extras(
        ["recommend", source_video, "-o", folder, *grid],
        ["bdrate", folder, ladders / "source.json"],
    )
    assert (ladders / "source.svg").exists()
    assert "no verdict" in compared


def test_score_loads_nothing_that_it_does_not_need(make_video: MakeVideo, tmp_path: Path) -> None:
    video = make_video("half-a-second.mp4", "testsrc2=size=320x180:rate=25:duration=0.5")
    done = run_script(REMEMBERING, "score", video, "-o", tmp_path / "report.csv")
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.rpartition("LOADED")[2].split())
    assert {"onnxruntime", "av", "numpy"} <= loaded
    assert not loaded & set(EXTRAS)


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is not None,
    reason="tests/vqatool/cli/test_demo.py runs the demo where everything is installed",
)
def test_the_demo_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vqatool", "demo", "-o", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "demo" / "report.csv")
    assert len(rows) > 3
    assert all(row["status"] == "ok" for row in rows)
