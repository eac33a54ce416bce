"""Every method through the whole pipeline, by the commands a user types."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from ladder.media.decode import Pixels, frames_at
from ladder.media.probe import VideoInfo, probe
from tests.vqatool.program import read_rows, vqatool
from tests.vqatool.shapes import SMALL
from vqatool.inference.model_file import Checkpoint, ModelCard, load_checkpoint, save_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inputs.clip import Clip, FrameGroup
from vqatool.methods import Method, recipe_for
from vqatool.methods.distillation import distilled
from vqatool.methods.recipe import Recipe
from vqatool.models.quality import Quality, TrainingOutput
from vqatool.training.run import train
from vqatool.training.step import TrainStep
from vqatool.training.trainer import TrainConfig

BRIEF = ["--epochs", 1, "--rungs", 2, "--clip-frames", 2, "--device", "cpu"]


def shaped(method: Method) -> list[str]:
    pairs = (f"{name}={value}" for name, value in SMALL[method].items())
    return [part for pair in pairs for part in ("--shape", pair)]


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
    assert all(row["score"] for row in read_rows(work_folder / "evaluation.csv"))
    videos, report = sorted(work_folder.rglob("*.mp4"))[:3], work_folder / "report.csv"
    done = vqatool("score", *videos, "-m", model, "-o", report, "--display", "native")
    assert done.exit_code == 0, done.output
    rows = read_rows(report)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert {row["model"] for row in rows} == {load_checkpoint(model).name}
    assert rows[0]["model"].startswith(method.value)


@pytest.mark.parametrize("method", Method)
def test_a_score_of_a_video_alone_is_that_in_a_batch(labelled: Path, method: Method) -> None:
    predictor = _untrained(method).predictor
    videos = sorted(labelled.rglob("*.mp4"))[:3]
    clips = [predictor.preprocessor.load_views(probe(video), None) for video in videos]
    alone = [float(predictor.predict([clip]).score_B) for clip in clips]
    assert predictor.predict(clips).score_B.tolist() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("method", Method)
def test_scores_keep_fine_steps_where_a_model_computes_in_bfloat16(
    labelled: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqatool.inference.device.fast_precision", lambda device: "bf16")
    predictor = _untrained(method).predictor
    video = sorted(labelled.rglob("*.mp4"))[0]
    quality = predictor.predict([predictor.preprocessor.load_views(probe(video), None)])
    scores = [quality.score_B, quality.frame_score_BT]
    scores += [score for each in quality.branches for score in (each.score_B, each.frame_score_BT)]
    for score in scores:
        assert not torch.equal(score, score.bfloat16().float())


@pytest.mark.parametrize("method", Method)
def test_a_method_takes_a_clip_of_one_frame(method: Method, labelled: Path) -> None:
    predictor = _untrained(method).predictor
    info = probe(sorted(labelled.rglob("*.mp4"))[0])
    views = predictor.preprocessor.load_views(info, None, start_s=0.0, length_s=float(1 / info.fps))
    assert predictor.predict([views]).score_B.isfinite().all()


@pytest.mark.parametrize("method", Method)
def test_one_decoding_serves_all_views(
    method: Method, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(info: VideoInfo, times_s: Sequence[float], *rest: Any) -> Pixels:
        asked.append(len(times_s))
        return frames_at(info, times_s, *rest)

    monkeypatch.setattr("vqatool.inputs.preprocessor.frames_at", counted)
    preprocessor = _untrained(method).predictor.preprocessor
    preprocessor.load_views(probe(sorted(labelled.rglob("*.mp4"))[0]), None)
    assert asked == [preprocessor.num_frame_groups * preprocessor.frame_group.num_frames]


class Seen(Exception):
    """Frames in the first view of a step."""


@pytest.mark.parametrize(
    ("method", "num_frame_groups"),
    [
        (Method.COARSE_TO_FINE, 1),
        (Method.SAMA, 3),
        (Method.ZOOM_VQA, 1),
        (Method.Q_MAMBA, 1),
        (Method.INTERN_VQA, 3),
    ],
)
def test_a_step_sees_whole_clips_where_their_bursts_belong_together(
    method: Method, num_frame_groups: int, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(train_step: TrainStep, views: Sequence[Tensor], *rest: Any, **more: Any) -> None:
        raise Seen(views[0].shape[1])

    monkeypatch.setattr(TrainStep, "step", stop)
    config = TrainConfig(
        method=method.value, shape=_recipe(method).shape, rungs=2, clip_frames=3, step_frames=1
    )
    # a score looks at 3 bursts, and what those of a step never show would stay unlearned
    with pytest.raises(Seen) as seen:
        train(work_folder, work_folder / "m.safetensors", config, device="cpu")
    frames = _recipe(method).frame_group.num_frames if method is Method.SAMA else 1
    assert seen.value.args == (num_frame_groups * frames,)


def test_an_image_model_of_sama_sees_and_learns_as_published() -> None:
    recipe = recipe_for(Method.SAMA, {"kind": "image", "size": "pico"})
    assert recipe.frame_group == FrameGroup(1)
    assert recipe.shape["grid"] == 8
    score, label, none = torch.rand(4), torch.rand(4), torch.full((4, 1), torch.nan)
    output = TrainingOutput(Quality(score, score[:, None], score[:, None]))
    terms = recipe.loss(output, label, torch.zeros(4), none)
    assert {name for name, value in terms.items() if value != 0} == {"quality"}


@pytest.mark.slow
def test_a_student_of_one_method_learns_from_a_teacher_of_another(work_folder: Path) -> None:
    teacher = trained(work_folder, Method.COARSE_TO_FINE)
    student = trained(work_folder, Method.INTERN_VQA, "--teacher", teacher)
    course = read_rows(work_folder / "intern-vqa-metrics.csv")
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
    for asked, output in (
        (["--method", "sama", "--shape", "mask=none"], "mask 'none' of kind video is none of"),
        (["--method", "sama", "--shape", "colour=red"], "colour"),
        (["--tune", "prompts"], "has no prompts to tune"),
        (["--method", "sama", "--shape", "burst_frames=3"], "burst_frames is even"),
        (["--init", "scratch", "--shape", "has_stream=no"], 'has_stream is like true, not "no"'),
        (["--init", "default", "--size", "pico"], "add --init scratch"),
        (["--init", "scratch", "--tune", "head"], "add --init FILE"),
    ):
        done = vqatool("train", work_folder, *asked, *BRIEF)
        assert done.exit_code == 2, done.output
        assert output in done.output


def test_weights_of_another_method_or_shape_are_told_before_anything_is_decoded(
    work_folder: Path,
) -> None:
    model = work_folder / "sama.safetensors"
    save_checkpoint(_untrained(Method.SAMA).checkpoint, model)
    for command in ("train", "pretrain"):
        asked = ["--data", f"made={work_folder}"] if command == "pretrain" else [work_folder]
        done = vqatool(command, *asked, "--init", model, "-o", work_folder / "out.safetensors")
        assert done.exit_code == 2, done.output
        assert "add --method sama" in done.output.replace("\n", " ")
    done = vqatool("train", work_folder, "--shape", "features=64", *BRIEF)
    assert done.exit_code == 2, done.output
    assert "do not fit" in done.output
    assert not (work_folder / "cached-inputs").exists()


@pytest.mark.parametrize("method", Method)
def test_training_the_head_leaves_frozen_layers_without_dropout(method: Method) -> None:
    model = _untrained(method).checkpoint.model().train()
    model.freeze_except("head")
    learns = {name for name, value in model.named_parameters() if value.requires_grad}
    share = sum(value.numel() for value in model.parameters() if value.requires_grad)
    assert learns
    assert share < 0.5 * sum(value.numel() for value in model.parameters())
    frozen = {name.rpartition(".")[0] for name, _ in model.named_parameters()} - {
        name.rpartition(".")[0] for name in learns
    }
    assert model.training
    assert not any(model.get_submodule(name).training for name in frozen if name)
    assert all(model.get_submodule(name.rpartition(".")[0]).training for name in learns)


@pytest.mark.parametrize("method", Method)
def test_last_layers_contain_the_head_and_more(method: Method) -> None:
    model = _untrained(method).checkpoint.model()
    heads = {id(p) for layer in model.head_layers() for p in layer.parameters()}
    last = {id(p) for layer in model.last_layers() for p in layer.parameters()}
    assert heads < last < {id(p) for p in model.parameters()}


@pytest.mark.parametrize("teacher", Method)
@pytest.mark.parametrize("student", Method)
def test_any_method_can_be_the_teacher_of_any_other(student: Method, teacher: Method) -> None:
    both = distilled(_recipe(student), _recipe(teacher))
    frames = 2 * both.frame_group.num_frames
    pixels = torch.arange(frames, dtype=torch.uint8)[:, None, None, None]
    clip = Clip(pixels.expand(-1, 3, 128, 128), both.frame_group.num_frames)
    for own, inputs in ((student, both.inputs), (teacher, both.teacher_inputs)):
        frame_group = _recipe(own).frame_group
        shown = inputs[0].view(clip, generator=None)[:, 0, 0, 0].tolist()
        every = frame_group.stride // both.frame_group.stride if frame_group.num_frames > 1 else 1
        taken = [
            start + every * i
            for start in (0, both.frame_group.num_frames)
            for i in range(frame_group.num_frames)
        ]
        assert shown in (taken, taken[:: frame_group.num_frames])


def _recipe(method: Method) -> Recipe:
    return recipe_for(method, SMALL[method])


class Untrained(NamedTuple):
    checkpoint: Checkpoint

    @property
    def predictor(self) -> Predictor:
        return Predictor(self.checkpoint, "cpu", batch=8)


def _untrained(method: Method) -> Untrained:
    torch.manual_seed(3)
    recipe = _recipe(method)
    card = ModelCard(method=method.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1")
    return Untrained(Checkpoint(card, recipe.build().state_dict()))
