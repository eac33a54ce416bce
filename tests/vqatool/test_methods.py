"""Every method through the whole pipeline, by the commands a user types."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ladder.probe import probe
from tests.vqatool.program import rows_of, vqatool
from vqatool.checkpoint import Card, Checkpoint, load_checkpoint
from vqatool.methods import Method
from vqatool.predict import Predictor
from vqatool.recipes import recipe_for

SMALL: dict[Method, list[str]] = {
    Method.COARSE_TO_FINE: ["grid=2", "features=32"],
    Method.SAMA: ["grid=2"],
    Method.ZOOM_VQA: ["grid=2", "crop_px=64", "still_short_px=90", "run_short_px=96"],
    Method.Q_MAMBA: ["patch=64"],
    Method.INTERN_VQA: ["grid=2"],
}
BRIEF = ["--epochs", 1, "--rungs", 2, "--clip-frames", 2, "--device", "cpu"]


def shaped(method: Method) -> list[str]:
    return ["--size", "pico", *(part for each in SMALL[method] for part in ("--shape", each))]


def trained(folder: Path, method: Method, *more: object) -> Path:
    out = folder / f"{method.value}.safetensors"
    asked = ["--method", method.value, "--init", "scratch", *shaped(method), *BRIEF]
    done = vqatool("train", folder, *asked, "-o", out, *more)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_a_method_trains_evaluates_and_scores(work_folder: Path, method: Method) -> None:
    model = trained(work_folder, method)
    judged = vqatool("evaluate", work_folder, "-m", model, "--split", "all", "--device", "cpu")
    assert judged.exit_code == 0, judged.output
    assert all(row["score"] for row in rows_of(work_folder / "evaluation.csv"))
    videos, report = sorted(work_folder.rglob("*.mp4"))[:3], work_folder / "report.csv"
    done = vqatool("score", *videos, "-m", model, "-o", report, "--display", "native")
    assert done.exit_code == 0, done.output
    rows = rows_of(report)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert {row["model"] for row in rows} == {load_checkpoint(model).name}
    assert rows[0]["model"].startswith(method.value)


@pytest.mark.parametrize("method", Method)
def test_a_score_of_a_video_alone_is_that_in_a_batch(labelled: Path, method: Method) -> None:
    predictor = _untrained(method)
    videos = sorted(labelled.rglob("*.mp4"))[:3]
    clips = [predictor.sight.look_at(probe(video), None) for video in videos]
    alone = [predictor.score([clip])[0] for clip in clips]
    assert predictor.score(clips) == pytest.approx(alone, abs=0.01)


@pytest.mark.parametrize("method", Method)
def test_a_method_takes_a_clip_of_one_frame(method: Method, labelled: Path) -> None:
    predictor = _untrained(method)
    info = probe(sorted(labelled.rglob("*.mp4"))[0])
    views = predictor.sight.look_at(info, None, start_s=0.0, length_s=float(1 / info.fps))
    assert 0 <= predictor.score([views])[0] <= 100


@pytest.mark.slow
def test_a_student_of_one_method_learns_from_a_teacher_of_another(work_folder: Path) -> None:
    teacher = trained(work_folder, Method.COARSE_TO_FINE)
    student = trained(work_folder, Method.INTERN_VQA, "--teacher", teacher)
    course = rows_of(work_folder / "intern-vqa-metrics.csv")
    assert float(course[-1]["teacher"]) > 0
    assert float(course[-1]["feature"]) > 0
    # it goes without its teacher: neither its weights nor what it sees are needed
    assert len(load_checkpoint(student).recipe.views) == 1
    report = work_folder / "report.csv"
    video = sorted(work_folder.rglob("*.mp4"))[0]
    assert vqatool("score", video, "-m", student, "-o", report).exit_code == 0


@pytest.mark.slow
def test_prompts_are_tuned_and_the_backbone_stays(work_folder: Path) -> None:
    bare = trained(work_folder, Method.Q_MAMBA)
    tuned = work_folder / "tuned.safetensors"
    asked = ["--init", bare, "--shape", "prompts=2", "--tune", "prompts", "--lr", 1e-2, *BRIEF]
    done = vqatool("train", work_folder, "--method", "q-mamba", *asked, "-o", tuned)
    assert done.exit_code == 0, done.output
    before, after = load_checkpoint(bare).weights, load_checkpoint(tuned).weights
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(name.startswith("_head.") for name in moved)
    assert any("_prompts." in name for name in after)
    assert not any("_prompts." in name for name in before)


def test_what_a_method_does_not_have_is_a_usage_error(work_folder: Path) -> None:
    for asked, said in (
        (["--method", "sama", "--shape", "mask=none"], "mask 'none' of kind video is none of"),
        (["--method", "sama", "--shape", "colour=red"], "colour"),
        (["--method", "sama", "--tune", "prompts"], "has no prompts to tune"),
        (["--init", "default", "--size", "pico"], "add --init scratch"),
    ):
        done = vqatool("train", work_folder, *asked, *BRIEF)
        assert done.exit_code == 2, done.output
        assert said in done.output


def _untrained(method: Method) -> Predictor:
    torch.manual_seed(3)
    shape: dict[str, Any] = {"size": "pico"}
    shape |= dict(map(_pair, SMALL[method]))
    recipe = recipe_for(method, shape)
    card = Card(method=method.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1")
    return Predictor(Checkpoint(card, recipe.build().state_dict()), "cpu", batch=8)


def _pair(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    return name, int(value)
