"""The whole program: its options, exit codes, verbosity and errors."""

import configparser
import errno
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner, Result

import vqatool as package
from ladder import Ffmpeg
from ladder.codecs import CODECS
from ladder.media.ffmpeg import run
from ladder.storage import Table
from tests.conftest import CloseFolder
from tests.vqatool.program import RUNGS, read_rows, vqatool
from vqatool.cli import cli
from vqatool.cli.options import verbosity_options
from vqatool.inference.model_file import load_checkpoint
from vqatool.losses import Contrast
from vqatool.scoring.gates import GATE_FIGURES
from vqatool.scoring.rows import ReportRow

ROOT = Path(package.__file__).parent.parent


def read_entry_point() -> tuple[str, str]:
    """The module and the function that the program `vqatool` calls."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"]
    module, _, function = scripts.partition("=")[2].strip().partition(":")
    return module, function


@pytest.mark.slow
def test_the_pipeline_runs_with_no_argument_but_its_sources(
    tmp_path: Path, ffmpeg: Ffmpeg, real_clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for clip in real_clips:
        scaled = ["-vf", "scale=640:360", "-frames:v", "8", "-crf", "10"]
        run(ffmpeg, ["-i", str(clip), *scaled, str(tmp_path / clip.name)])
    monkeypatch.chdir(tmp_path)
    assert vqatool("ladder", *(clip.name for clip in real_clips)).exit_code == 0
    assert vqatool("label", "--vmaf").exit_code == 0
    brief = {"epochs": 2, "clip_frames": 2}
    for param in cli.commands["train"].params:
        if param.name in brief:
            monkeypatch.setattr(param, "default", brief[param.name])
    assert vqatool("train", "--no-export").exit_code == 0
    assert vqatool("evaluate").exit_code == 0
    made = {path.name for path in (tmp_path / "encodes").iterdir()}
    expected = {"encodes.csv", "labels.csv", "splits.csv", "model.safetensors", "vmaf"}
    expected |= {"model-metrics.csv", "model.png"}
    expected |= {"evaluation.csv", "evaluation-figures.csv"}
    expected |= {"evaluation.png", "evaluation-features.png"}
    assert expected <= made
    labels = read_rows(tmp_path / "encodes" / "labels.csv")
    assert len(labels) == 3 * 2  # apple-hls has two rungs up to 360p
    assert all(0 < float(row["vmaf"]) <= 100 for row in labels)


def test_stages_with_options_and_a_ladder_file(tmp_path: Path, real_clips: list[Path]) -> None:
    rungs, folder, model = tmp_path / "two.toml", tmp_path / "work", tmp_path / "m.safetensors"
    rungs.write_text(RUNGS)
    arguments = ["ladder", *real_clips, "-o", folder, "--rungs", rungs, "--jobs", 1]
    assert vqatool(*arguments, "--codec", "libx265").exit_code == 0
    assert {row["codec"] for row in read_rows(folder / "encodes.csv")} == {"libx265"}
    assert vqatool("label", folder, "--vmaf", "--vmaf-model", "v0,neg").exit_code == 0
    assert all(row["vmaf_neg"] for row in read_rows(folder / "labels.csv"))
    small = ["--init", "scratch", "--size", "pico", "--shape", "has_conv_stem=false"]
    small += ["--epochs", "1", "--clip-frames", "2"]
    losses = ["--contrast", "tta", "--margin", "label", "--temperature", 0.2, "--frame-weight", 0]
    train = ["train", folder, *small, *losses, "--patience", 9, "-o", model, "--no-export"]
    assert vqatool(*train).exit_code == 0
    weights = load_checkpoint(model).card.training["weights"]
    assert (weights["contrast"], weights["margin"], weights["frame"]) == ("tta", "label", 0)
    assert load_checkpoint(model).card.shape["has_conv_stem"] is False
    evaluated = vqatool("evaluate", folder, "-m", model, "--split", "all", "-o", tmp_path / "e")
    assert evaluated.exit_code == 0
    assert (tmp_path / "e.csv").exists()


def test_a_folder_without_video_exits_5(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert vqatool("score", tmp_path, "-m", small_model).exit_code == 5
    assert vqatool("ladder", tmp_path, "-o", tmp_path / "w").exit_code == 5


def test_a_ladder_names_a_folder_without_access_and_exits_4(
    tmp_path: Path, source_video: Path, close_folder: CloseFolder
) -> None:
    close_folder(tmp_path / "src", source_video)
    rungs, folder = tmp_path / "two.toml", tmp_path / "w"
    rungs.write_text(RUNGS)
    arguments = ["ladder", tmp_path / "src", "-o", folder, "--rungs", rungs]
    for extra in ([], ["--dry-run"]):
        done = vqatool(*arguments, *extra)
        assert done.exit_code == 4
        assert f"failed: {tmp_path / 'src' / 'closed'}: the folder cannot be read" in done.stderr
    assert {row["source"] for row in read_rows(folder / "encodes.csv")} == {"open"}
    done = vqatool("ladder", tmp_path / "src" / "closed", "-o", folder)
    assert done.exit_code == 5
    assert "the folder cannot be read" in done.stderr


def test_a_missing_capability_exits_6_with_the_remedy(
    tmp_path: Path, real_clips: list[Path], labelled: Path
) -> None:
    done = vqatool("ladder", *real_clips, "--ffmpeg", "/no/such/ffmpeg", "-o", tmp_path / "w")
    assert done.exit_code == 6
    assert "pip install" in done.stderr
    bare = tmp_path / "ffmpeg"
    bare.write_text("#!/bin/sh\necho ffmpeg version 9-bare\n")
    bare.chmod(0o755)
    done = vqatool("label", labelled, "--vmaf", "--ffmpeg", bare)
    assert done.exit_code == 6
    assert "libvmaf" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["ladder", "x.mp4", "--rungs", "no-such"], "apple-hls"),
        (["label"], "vqatool ladder"),
        (["label", "--subsample", "2"], "odd"),
        (["label", "--vmaf"], "vqatool ladder"),
        (["ladder", "x.mp4", "--clip", "ten"], "30+10"),
        (["ladder", "x.mp4", "--clip", "1+0"], "30+10"),
        (["ladder", "x.mp4", "--segments", "3*10"], "3x10"),
        (["ladder", "x.mp4", "--segments", "3x1", "--clip", "1+1"], "use one"),
        (["label", "--vmaf", "--features", "psnr,ssum"], "psnr, ssim, cambi"),
        (["label", "--vmaf", "--vmaf-model", ","], "no model"),
        (["train"], "vqatool ladder"),
        (["train", "--size", "pico"], "--init scratch"),
        (["study", "--of", "tune"], "--init FILE"),
        (["study", "--of", "methods", "--size", "micro"], "--method zoom-vqa: size 'micro'"),
        (["train", "--margin", "lable"], "not a valid float range"),
        (["train", "--contrast", "other"], "'ours', 'tta', 'supcon'"),
        (["train", "--device", "abacus"], "abacus"),
        (["evaluate"], "vqatool ladder"),
        (["score", "x.mp4", "--display", "large"], "1920x1080"),
        (["score", "x.mp4", "-m", "bad.safetensors"], "bad.safetensors"),
    ],
)
def test_wrong_use_exits_2_and_names_the_next_step(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.mp4").touch()
    Path("bad.safetensors").write_text("x")
    done = vqatool(*args)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = CliRunner().invoke(cli, [name, "--help"], env={"COLUMNS": "80"})
    assert done.exit_code == 0
    assert f"vqatool {name}" in done.stdout.split("Example:")[1]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_option_names_do_not_change() -> None:
    """A renamed option breaks people's scripts: change this list knowingly."""
    cluster = ("--on", "--workers", "--worker-cpus", "--worker-gpus")
    options = {
        name: {opt for param in command.params for opt in param.opts if opt.startswith("--")}
        - {"--verbose", "--quiet", "--log", "--log-json"}
        for name, command in cli.commands.items()
    }
    assert options == {
        "ladder": {
            "--out", "--rungs", "--codec", "--clip", "--segments", "--tonemap", "--json",
            "--dry-run", "--jobs", "--ffmpeg", "--metrics", *cluster,
        },
        "label": {
            "--vmaf", "--source", "--match", "--pairs", "--out", "--rung-by", "--json", "--plot",
            "--vmaf-model", "--features", "--subsample", "--sync", "--tonemap", "--range-s",
            "--jobs", "--ffmpeg", "--metrics", *cluster,
        },
        "recommend": {
            "--out", "--sizes", "--by", "--rates", "--codec", "--preset", "--clip", "--segments",
            "--spacing", "--top-vmaf", "--bottom-vmaf", "--min-kbps", "--max-kbps", "--max-rungs",
            "--pool", "--against", "--tonemap", "--no-encode", "--jobs", "--ffmpeg",
        },
        "bdrate": {
            "--rate", "--quality", "--source", "--only-a", "--only-b", "--log-vmaf",
            "--min-overlap", "--out",
        },
        "train": {
            "--out", "--method", "--init", "--teacher", "--detach-teacher", "--tune", "--size",
            "--shape", "--stream-features", "--clip-frames", "--step-frames", "--epochs",
            "--max-hours", "--patience", "--sources", "--rungs", "--lr", "--plcc-weight",
            "--group-weight", "--rank-weight", "--frame-weight", "--tile-weight", "--pixels-weight",
            "--contrast", "--temperature", "--margin", "--val-share", "--outliers", "--validations",
            "--seed", "--licence", "--export", "--device",
        },
        "evaluate": {"--model", "--split", "--out", "--by-pixels", "--device"},
        "score": {
            "--out", "--json", "--append", "--per-segment", "--include", "--exclude", "--model",
            "--display", "--tonemap", "--segment", "--fail-under", "--threshold", "--fail-on",
            "--trust", "--gate-on", "--junit", "--ci", "--shard", "--force", "--timeout", "--batch",
            "--hwaccel", "--jobs", "--device", "--sample", "--skim", "--metrics", *cluster,
        },
        "watch": {
            "--out", "--include", "--exclude", "--settle", "--interval", "--once", "--model",
            "--display", "--tonemap", "--segment", "--jobs", "--device",
        },
        "compare": {
            "--by", "--out", "--per-segment", "--json", "--fail-on-drop", "--fail-on-missing",
            "--thumbnails", "--jobs",
        },
        "report": {
            "--out", "--per-segment", "--fail-under", "--threshold", "--fail-on", "--trust",
            "--gate-on", "--thumbnails", "--jobs",
        },
        "merge": {"--out"},
        "explain": {
            "--out", "--json", "--clip", "--model", "--display", "--tonemap", "--segment",
            "--timeout", "--jobs", "--device",
        },
        "study": {
            "--of", "--out", "--seeds", "--size", "--epochs", "--lr", "--init", "--teacher",
            "--cost", "--device",
        },
        "pretrain": {
            "--data", "--out", "--init", "--method", "--size", "--shape", "--steps", "--batch",
            "--max-hours", "--lr", "--test-share", "--seed", "--device",
        },
        "import": {"--out", "--licence"},
        "export": {"--out"},
        "doctor": {"--ffmpeg", "--json"},
        "demo": {"--out", "--ffmpeg"},
        "config": {"--all"},
        "completion": set(),
    }  # fmt: skip


def test_choices_in_the_help_are_those_of_the_stages() -> None:
    def choices(command: str, name: str) -> list[str]:
        (param,) = [param for param in cli.commands[command].params if param.name == name]
        assert isinstance(param.type, click.Choice)
        return list(param.type.choices)

    assert choices("ladder", "codecs") == list(CODECS)
    assert choices("train", "contrast") == list(get_args(Contrast))
    assert choices("score", "gate_on") == list(GATE_FIGURES)


def test_the_program_and_the_module_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vqatool", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("vqatool, version")
    assert isinstance(cli, click.Group)


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_takes_verbosity(name: str) -> None:
    options = {opt for param in cli.commands[name].params for opt in param.opts}
    assert {"-v", "--verbose", "-q", "--quiet"} <= options


def test_verbosity_is_accepted_before_and_after_the_command(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    ask = ["ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", two_rungs, "--dry-run"]
    plain = vqatool(*ask)
    assert plain.stderr == ""
    for args in (["-v", *ask], [*ask, "-v"], ["--verbose", *ask]):
        done = vqatool(*args)
        assert done.stderr.startswith("info: ffmpeg ")
        assert "debug" not in done.stderr
        assert done.stdout == plain.stdout
    for args in (["-vv", *ask], ["-v", *ask, "-v"], [*ask, "-vv"]):
        assert vqatool(*args).stderr.startswith("debug: versions: python ")
    assert vqatool("-v", *ask, "-q").stderr == ""


def test_each_verbosity_of_an_encode(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    ask = ["ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", two_rungs]
    commands = [line for line in vqatool("-vv", *ask).stderr.splitlines() if "debug: run: " in line]
    assert any("libx264" in line for line in commands)
    assert "encoding: 2 encodes exist already" in vqatool(*ask).stderr
    assert "encodes.csv: 2 encoded" in vqatool(*ask).stderr
    assert vqatool("-q", *ask).stderr == ""


def run_failing(
    error: BaseException, *args: str, name: str = "failing", before: Sequence[str] = ()
) -> Result:
    """The result of the program if a command raises this error."""

    @click.command(name)
    def failing() -> None:
        raise error

    program = verbosity_options(type(cli)(commands=[failing]))
    return CliRunner().invoke(program, [*before, name, *args], catch_exceptions=False)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left", "/d/r.csv"),
            "/d/r.csv cannot be written: No space",
        ),
        (OSError(errno.ENOSPC, "No space left"), "an output file cannot be written: No space left"),
        (PermissionError(errno.EACCES, "no", "/d/r.csv"), "/d/r.csv cannot be written: no"),
        (FileNotFoundError(errno.ENOENT, "no", "/d/x"), "/d/x cannot be read or written: no"),
        (FileNotFoundError(errno.ENOENT, "no", b"/d/x"), "/d/x cannot be read or written: no"),
    ],
)
def test_a_path_that_fails_is_named_without_a_traceback(error: OSError, message: str) -> None:
    done = run_failing(error)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {message}")


@pytest.mark.parametrize("error", [KeyError("x"), OSError(errno.EBADF, "bad"), OSError("odd")])
def test_an_unexpected_error_keeps_its_traceback_and_asks_for_a_report(error: Exception) -> None:
    done = run_failing(error)
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert "report it" in done.stderr.splitlines()[-1]


def test_an_interrupt_exits_130() -> None:
    done = run_failing(KeyboardInterrupt())
    assert done.exit_code == 130
    assert "run the same command again to continue" in done.stderr


@pytest.mark.parametrize("module", ["vqatool.cli", "numpy", "click"])
def test_an_interrupt_while_the_program_loads_exits_130(module: str) -> None:
    interrupting = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in the background
        "class Interrupting:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
    )
    entry = read_entry_point()
    start = f"from {entry[0]} import {entry[1]}\nsys.argv = ['vqatool', 'score', '.']\n{entry[1]}()"
    done = subprocess.run(
        [sys.executable, "-c", interrupting + start], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "Error: interrupted: run the same command again to continue\n"


def test_an_interrupt_of_what_keeps_nothing_does_not_promise_to_continue() -> None:
    done = run_failing(KeyboardInterrupt(), name="explain")
    assert done.exit_code == 130
    assert "nothing is kept, and the same command begins anew" in done.stderr


@pytest.mark.parametrize("folder", ["/proc/none", "notes.txt/w"])
def test_an_output_that_cannot_be_written_is_named(
    folder: str, tmp_path: Path, real_clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").touch()
    done = vqatool("ladder", real_clips[0], "-o", folder)
    assert done.exit_code == 2
    assert f"{folder.removesuffix('/w')}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_disk_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    """A limit on the size of files simulates a full disk."""
    part = tmp_path / "part.csv"
    Table(part, ReportRow).rewrite([ReportRow(path="a.mp4", status="error", shard="1/1")])
    program = f"{shlex.quote(sys.executable)} -m vqatool"
    script = f"ulimit -f 0; exec {program} merge part.csv -o out.csv"
    here = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=here
    )
    assert run.returncode == 2, run.stderr
    assert "out.csv cannot be written (File too large)" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_closed_output_pipe_ends_the_program_silently(
    tmp_path: Path, real_clips: list[Path], two_rungs: Path
) -> None:
    program = [sys.executable, "-m", "vqatool", "ladder", str(real_clips[0]), "--dry-run"]
    program += ["--rungs", str(two_rungs)]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=here, text=True
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    process.wait()
