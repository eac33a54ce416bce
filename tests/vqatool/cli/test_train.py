"""The program as people use it: what it writes and how it exits."""

import inspect
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click
import pytest

import vqatool as package
from ladder import Ffmpeg
from ladder.codecs import CODECS
from ladder.media.ffmpeg import run
from ladder.storage import work_lock
from tests.vqatool.program import RUNGS, score_paths, vqatool
from vqatool.cli import cli
from vqatool.inference.model_file import load_checkpoint
from vqatool.losses import Contrast
from vqatool.methods.recipe import LossWeights
from vqatool.scoring.gates import GATE_FIGURES
from vqatool.scoring.run import TIMEOUT_S
from vqatool.scoring.segments import SEGMENTS_PER_TASK
from vqatool.training.trainer import TrainConfig


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
    assert vqatool("train").exit_code == 0
    assert vqatool("evaluate").exit_code == 0
    made = {path.name for path in (tmp_path / "encodes").iterdir()}
    expected = {"encodes.csv", "labels.csv", "splits.csv", "model.safetensors", "vmaf"}
    expected |= {"model-metrics.csv", "model.png"}
    expected |= {"evaluation.csv", "evaluation-figures.csv"}
    expected |= {"evaluation.png", "evaluation-features.png"}
    assert expected <= made
    labels = score_paths(tmp_path / "encodes" / "labels.csv")
    assert len(labels) == 3 * 2  # apple-hls has two rungs up to 360p
    assert all(0 < float(row["vmaf"]) <= 100 for row in labels)


def test_stages_with_options_and_a_ladder_file(tmp_path: Path, real_clips: list[Path]) -> None:
    rungs, folder, model = tmp_path / "two.toml", tmp_path / "work", tmp_path / "m.safetensors"
    rungs.write_text(RUNGS)
    asked = ["ladder", *real_clips, "-o", folder, "--rungs", rungs, "--jobs", 1]
    assert vqatool(*asked, "--codec", "libx265").exit_code == 0
    assert {row["codec"] for row in score_paths(folder / "encodes.csv")} == {"libx265"}
    assert vqatool("label", folder, "--vmaf", "--vmaf-model", "v0,neg").exit_code == 0
    assert all(row["vmaf_neg"] for row in score_paths(folder / "labels.csv"))
    small = ["--init", "scratch", "--size", "pico", "--shape", "has_conv_stem=false", "--epochs", 1]
    losses = ["--contrast", "tta", "--margin", "label", "--temperature", 0.2, "--frame-weight", 0]
    train = ["train", folder, *small, *losses, "--patience", 9, "-o", model, "--device", "cpu"]
    assert vqatool(*train).exit_code == 0
    weights = load_checkpoint(model).card.training["weights"]
    assert (weights["contrast"], weights["margin"], weights["frame"]) == ("tta", "label", 0)
    assert load_checkpoint(model).card.shape["has_conv_stem"] is False
    judged = vqatool("evaluate", folder, "-m", model, "--split", "all", "-o", tmp_path / "e")
    assert judged.exit_code == 0
    assert (tmp_path / "e.csv").exists()


def test_labelling_a_folder_that_is_not_there_does_not_make_it(tmp_path: Path) -> None:
    assert vqatool("label", tmp_path / "nowhere", "--vmaf").exit_code == 2
    assert not (tmp_path / "nowhere").exists()


def test_two_runs_never_write_the_same_folder(tmp_path: Path, real_clips: list[Path]) -> None:
    rungs = tmp_path / "two.toml"
    rungs.write_text(RUNGS)
    (tmp_path / "w").mkdir()
    with work_lock(tmp_path / "w"):
        done = vqatool("ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", rungs)
    assert done.exit_code == 2
    assert "in use by another run" in done.stderr
    assert vqatool("ladder", real_clips[0], "-o", tmp_path / "w", "--rungs", rungs).exit_code == 0


def test_encodes_are_not_taken_for_sources(
    tmp_path: Path, real_clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(RUNGS)
    Path("a.mp4").write_bytes(real_clips[0].read_bytes())
    for _ in range(2):
        assert vqatool("ladder", ".", "--rungs", "two.toml").exit_code == 0
        assert {row["source"] for row in score_paths(Path("encodes") / "encodes.csv")} == {"a"}


def test_an_evaluation_leaves_out_what_it_cannot_decode_and_exits_4(
    work_folder: Path, small_model: Path
) -> None:
    broken, gone, *_, good = sorted(work_folder.rglob("*.mp4"))
    broken.write_text("no video\n" * 100)
    gone.unlink()
    asked = ["evaluate", work_folder, "-m", small_model, "--split", "all", "--device", "cpu"]
    done = vqatool(*asked)
    assert done.exit_code == 4
    for path in (broken, gone):
        assert f"left out: {path}" in done.stderr
    assert "10 encodes of 3 sources, 2 left out" in done.stderr
    assert "too few to tell whether the model beats the bitrate" in done.stderr
    assert score_paths(work_folder / "evaluation-figures.csv")[0]["count"] == "10"
    assert str(good) in (work_folder / "evaluation.csv").read_text()


def test_an_evaluation_of_nothing_that_can_be_decoded_is_refused(
    work_folder: Path, small_model: Path
) -> None:
    for row in score_paths(work_folder / "encodes.csv"):
        (work_folder / row["encode_path"]).unlink()
    done = vqatool("evaluate", work_folder, "-m", small_model, "--split", "all")
    assert done.exit_code == 2
    assert "none of the 12 labelled encodes" in done.stderr
    assert not (work_folder / "evaluation.csv").exists()


def test_a_folder_without_video_exits_5(tmp_path: Path, small_model: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    assert vqatool("score", tmp_path, "-m", small_model).exit_code == 5
    assert vqatool("ladder", tmp_path, "-o", tmp_path / "w").exit_code == 5


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
    ("args", "said"),
    [
        (["ladder", "x.mp4", "--rungs", "no-such"], "apple-hls"),
        (["label"], "--vmaf"),
        (["label", "--vmaf", "--subsample", "2"], "odd"),
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
def test_bad_use_exits_2_and_says_what_to_do(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.mp4").touch()
    Path("bad.safetensors").write_text("x")
    done = vqatool(*args)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("name", cli.commands)
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = vqatool(name, "--help")
    assert done.exit_code == 0
    assert f"vqatool {name}" in done.stdout.split("Example:")[1]


def test_options_are_a_promise() -> None:
    """A renamed option breaks people's scripts: change this list knowingly."""
    options = {
        name: {opt for param in command.params for opt in param.opts if opt.startswith("--")}
        for name, command in cli.commands.items()
    }
    assert options == {
        "ladder": {
            "--out", "--rungs", "--codec", "--clip", "--segments", "--dry-run", "--jobs",
            "--ffmpeg",
        },
        "label": {
            "--vmaf", "--vmaf-model", "--features", "--subsample", "--sync", "--jobs", "--ffmpeg",
        },
        "pretrain": {
            "--data", "--out", "--init", "--method", "--size", "--shape", "--steps", "--batch",
            "--max-hours", "--lr", "--test-share", "--seed", "--device",
        },
        "train": {
            "--out", "--method", "--init", "--teacher", "--detach-teacher", "--tune", "--size",
            "--shape",
            "--stream-features", "--clip-frames", "--step-frames",
            "--epochs", "--max-hours",
            "--patience", "--sources", "--rungs", "--lr", "--plcc-weight", "--group-weight",
            "--rank-weight", "--frame-weight", "--pixels-weight", "--contrast", "--temperature",
            "--margin",
            "--val-share", "--validations", "--seed", "--licence", "--device",
        },
        "import": {"--out", "--licence"},
        "study": {
            "--of", "--out", "--seeds", "--size", "--epochs", "--lr", "--init", "--teacher",
            "--cost", "--device",
        },
        "evaluate": {"--model", "--split", "--out", "--by-pixels", "--device"},
        "score": {
            "--out", "--per-segment", "--include", "--exclude", "--model", "--display", "--segment",
            "--fail-under", "--gate-on", "--junit", "--shard", "--force", "--timeout", "--batch",
            "--jobs", "--device",
        },
        "merge": {"--out"},
        "explain": {"--out", "--clip", "--model", "--display", "--device"},
        "doctor": {"--ffmpeg"},
        "demo": {"--out", "--ffmpeg"},
    }  # fmt: skip


def test_choices_written_down_for_a_fast_help_are_those_of_the_stages() -> None:
    def choices(command: str, name: str) -> list[str]:
        (param,) = [param for param in cli.commands[command].params if param.name == name]
        assert isinstance(param.type, click.Choice)
        return list(param.type.choices)

    assert choices("ladder", "codecs") == list(CODECS)
    assert choices("train", "contrast") == list(get_args(Contrast))
    assert choices("score", "gate_on") == list(GATE_FIGURES)


def test_defaults_written_down_for_a_fast_help_are_those_of_the_stages() -> None:
    settings = asdict(TrainConfig()) | asdict(LossWeights())
    settings |= {f"{name}_weight": settings[name] for name in ("plcc", "group", "rank", "frame")}
    given = {param.name: param.default for param in cli.commands["train"].params}
    same = set(given) & set(settings) - {"lr"}  # None is the stage's to choose
    assert same >= {"epochs", "rungs", "contrast", "temperature", "margin", "frame_weight"}
    unsaid = {name for name, value in settings.items() if value is None or value is False}
    for name in same - unsaid - {"shape"}:
        assert given[name] == settings[name], name


def test_a_file_is_given_up_after_the_same_time_by_the_command_and_by_the_function() -> None:
    (asked,) = [param for param in cli.commands["score"].params if param.name == "timeout_s"]
    assert asked.default == TIMEOUT_S
    assert inspect.signature(package.score).parameters["timeout_s"].default == TIMEOUT_S
    assert isinstance(asked, click.Option)
    assert f"{SEGMENTS_PER_TASK} segments" in (asked.help or "")


def test_the_doctor_finds_everything_here() -> None:
    done = vqatool("doctor")
    assert done.exit_code == 0
    for found in ("ffmpeg", "encoder libsvtav1", "VMAF v0", "device", "default model"):
        assert found in done.stdout


def test_the_doctor_names_the_remedy_for_what_is_missing(tmp_path: Path) -> None:
    bare = tmp_path / "ffmpeg"
    bare.write_text("#!/bin/sh\necho ffmpeg version 9-bare\n")
    bare.chmod(0o755)
    done = vqatool("doctor", "--ffmpeg", bare)
    assert done.exit_code == 6
    assert "remedy" in done.stdout
    assert "imageio-ffmpeg" in done.stdout


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_like_a_whole_one(
    tmp_path: Path, labelled: Path, small_model: Path
) -> None:
    def asked(out: Path) -> list[str]:
        options = ["-m", str(small_model), "--device", "cpu", "--jobs", "1"]
        return ["score", str(labelled), "-o", str(out), *options]

    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    assert vqatool(*asked(whole)).exit_code == 0
    command = [sys.executable, "-m", "vqatool", *asked(broken)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (broken.exists() and len(broken.read_bytes()) > 500):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(score_paths(broken)) < len(score_paths(whole))
    assert vqatool(*asked(broken)).exit_code == 0

    def timeless(path: Path) -> list[dict[str, str]]:
        return [row | {"score_s": ""} for row in score_paths(path)]

    assert timeless(broken) == timeless(whole)
    assert not list(tmp_path.glob("*.part"))


def test_the_program_and_the_module_are_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vqatool", "--version"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("vqatool, version")
    assert isinstance(cli, click.Group)
