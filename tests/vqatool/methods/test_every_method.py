"""Every method through the whole pipeline, with the commands of the program."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from ladder.media.decode import each_frame_at
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import TimeRange
from ladder.media.upright import Pixels
from tests.vqatool.program import read_rows, vqatool
from tests.vqatool.shapes import SMALL
from vqatool.inference.card import ModelCard
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.clip import Clip, FrameGroup
from vqatool.methods import Method, recipe_for
from vqatool.methods.distillation import distilled
from vqatool.methods.recipe import Recipe
from vqatool.models.quality import Quality, TrainingOutput
from vqatool.training.run import train
from vqatool.training.step import TrainStep
from vqatool.training.trainer import TrainConfig

BRIEF = ["--epochs", 1, "--rungs", 2, "--clip-frames", 2, "--device", "cpu", "--no-export"]


def shape_options(method: Method) -> list[str]:
    pairs = (f"{name}={value}" for name, value in SMALL[method].items())
    return [part for pair in pairs for part in ("--shape", pair)]


def trained(folder: Path, method: Method, *more: object) -> Path:
    out = folder / f"{method.value}.safetensors"
    arguments = ["--method", method.value, "--init", "scratch", *shape_options(method), *BRIEF]
    done = vqatool("train", folder, *arguments, "-o", out, *more)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", Method)
def test_a_method_trains_evaluates_and_scores(decoded_folder: Path, method: Method) -> None:
    work_folder = decoded_folder  # for the first method: the others have other views
    model = trained(work_folder, method)
    evaluated = vqatool("evaluate", work_folder, "-m", model, "--split", "all", "--device", "cpu")
    assert evaluated.exit_code == 0, evaluated.output
    assert all(row["score"] for row in read_rows(work_folder / "evaluation.csv"))
    videos, report = sorted(work_folder.rglob("*.mp4"))[:3], work_folder / "report.csv"
    done = vqatool("score", *videos, "-m", model, "-o", report, "--display", "native")
    assert done.exit_code == 0, done.output
    rows = read_rows(report)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert {row["model"] for row in rows} == {load_checkpoint(model).name}
    assert rows[0]["model"].startswith(method.value)


@pytest.mark.parametrize("method", Method)
def test_a_score_does_not_depend_on_the_batch(labelled: Path, method: Method) -> None:
    predictor = _untrained(method).predictor
    videos = sorted(labelled.rglob("*.mp4"))[:3]
    clips = [predictor.preprocessor.load_views(probe(video), None) for video in videos]
    single = [float(predictor.predict([clip]).score_B[0]) for clip in clips]
    assert predictor.predict(clips).score_B.tolist() == pytest.approx(single, abs=1e-4)


@pytest.mark.parametrize("method", Method)
def test_scores_are_float32_even_if_a_model_computes_in_bfloat16(
    labelled: Path, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqatool.inference.device.fast_precision", lambda device: "bf16")
    predictor = _untrained(method).predictor
    video = sorted(labelled.rglob("*.mp4"))[0]
    quality = predictor.predict([predictor.preprocessor.load_views(probe(video), None)])
    scores = [quality.score_B, quality.frame_score_BT]
    scores += [
        score for branch in quality.branches for score in (branch.score_B, branch.frame_score_BT)
    ]
    for score in map(torch.from_numpy, scores):
        assert score.dtype == torch.float32
        assert not torch.equal(score, score.bfloat16().float())


@pytest.mark.parametrize("method", Method)
def test_a_method_takes_a_clip_of_one_frame(method: Method, labelled: Path) -> None:
    predictor = _untrained(method).predictor
    video = probe(sorted(labelled.rglob("*.mp4"))[0])
    views = predictor.preprocessor.load_views(video, None, TimeRange(0.0, float(1 / video.fps)))
    assert np.isfinite(predictor.predict([views]).score_B).all()


@pytest.mark.parametrize("method", Method)
def test_one_decoding_serves_all_views(
    method: Method, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_counts: list[int] = []

    def frames_and_count(info: VideoInfo, times_s: Sequence[float], *rest: Any) -> Iterator[Pixels]:
        frame_counts.append(len(times_s))
        return each_frame_at(info, times_s, *rest)

    monkeypatch.setattr("vqatool.inputs.preprocessor.each_frame_at", frames_and_count)
    preprocessor = _untrained(method).predictor.preprocessor
    preprocessor.load_views(probe(sorted(labelled.rglob("*.mp4"))[0]), None)
    assert frame_counts == [preprocessor.num_frame_groups * preprocessor.frame_group.num_frames]


class FirstStep(Exception):
    """Ends a training at its first step; its argument is the number of frames of the first view."""


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
def test_a_step_gets_all_frame_groups_if_the_method_compares_them(
    method: Method, num_frame_groups: int, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(train_step: TrainStep, views: Sequence[Tensor], *rest: Any, **more: Any) -> None:
        raise FirstStep(views[0].shape[1])

    monkeypatch.setattr(TrainStep, "step", stop)
    config = TrainConfig(
        method=method.value, shape=_recipe(method).shape, rungs=2, clip_frames=3, step_frames=1
    )
    # a score uses 3 frame groups; weights for frame groups that no step has would stay untrained
    with pytest.raises(FirstStep) as caught:
        train(work_folder, work_folder / "m.safetensors", config, device="cpu")
    frames = _recipe(method).frame_group.num_frames if method is Method.SAMA else 1
    assert caught.value.args == (num_frame_groups * frames,)


def test_an_image_model_of_sama_has_the_published_view_and_loss() -> None:
    recipe = recipe_for(Method.SAMA, {"kind": "image", "size": "pico"})
    assert recipe.frame_group == FrameGroup(1)
    assert recipe.shape["grid"] == 8
    score, label, none = torch.rand(4), torch.rand(4), torch.full((4, 1), torch.nan)
    output = TrainingOutput(Quality(score, score[:, None], score[:, None]))
    terms = recipe.loss(output, label, torch.zeros(4), none)
    assert {name for name, value in terms.items() if value != 0} == {"quality"}


@pytest.mark.slow
def test_a_student_of_one_method_learns_from_a_teacher_of_another(decoded_folder: Path) -> None:
    work_folder = decoded_folder
    teacher = trained(work_folder, Method.COARSE_TO_FINE)
    student = trained(work_folder, Method.INTERN_VQA, "--teacher", teacher)
    history = read_rows(work_folder / "intern-vqa-metrics.csv")
    assert float(history[-1]["teacher"]) > 0
    assert float(history[-1]["feature"]) > 0
    # the student is stored without weights and views of the teacher
    assert len(load_checkpoint(student).recipe.views) == 1
    report = work_folder / "report.csv"
    video = sorted(work_folder.rglob("*.mp4"))[0]
    assert vqatool("score", video, "-m", student, "-o", report).exit_code == 0


@pytest.mark.slow
def test_tuning_prompts_leaves_the_backbone_unchanged(work_folder: Path) -> None:
    base = trained(work_folder, Method.Q_MAMBA)
    tuned = work_folder / "tuned.safetensors"
    arguments = ["--init", base, "--shape", "prompts=2", "--tune", "prompts", "--lr", 1e-2, *BRIEF]
    done = vqatool("train", work_folder, "--method", "q-mamba", *arguments, "-o", tuned)
    assert done.exit_code == 0, done.output
    before, after = load_checkpoint(base).weights, load_checkpoint(tuned).weights
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("_head.") for name in changed)
    assert any("_prompts." in name for name in after)
    assert not any("_prompts." in name for name in before)


def test_an_option_that_a_method_lacks_is_a_usage_error(work_folder: Path) -> None:
    for arguments, message in (
        (["--method", "sama", "--shape", "mask=none"], "mask 'none' of kind video is none of"),
        (["--method", "sama", "--shape", "colour=red"], "colour"),
        (["--tune", "prompts"], "has no prompts to tune"),
        (["--method", "sama", "--tune", "figures"], "add --init FILE"),
        (["--method", "sama", "--shape", "burst_frames=3"], "burst_frames is even"),
        (["--init", "scratch", "--shape", "has_stream=no"], 'has_stream is like true, not "no"'),
        (["--init", "default", "--size", "pico"], "add --init scratch"),
        (["--init", "scratch", "--tune", "head"], "add --init FILE"),
    ):
        done = vqatool("train", work_folder, *arguments, *BRIEF)
        assert done.exit_code == 2, done.output
        assert message in done.output


def test_weights_of_another_method_or_shape_are_refused_before_decoding(
    work_folder: Path,
) -> None:
    model = work_folder / "sama.safetensors"
    save_checkpoint(_untrained(Method.SAMA).checkpoint, model)
    for command in ("train", "pretrain"):
        arguments = ["--data", f"set={work_folder}"] if command == "pretrain" else [work_folder]
        done = vqatool(command, *arguments, "--init", model, "-o", work_folder / "out.safetensors")
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
    pixels = np.arange(frames, dtype=np.uint8)[:, None, None, None]
    clip = Clip(np.broadcast_to(pixels, (frames, 3, 128, 128)), both.frame_group.num_frames)
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
        return Predictor(TorchEngine(self.checkpoint, "cpu"), batch=8)


def _untrained(method: Method) -> Untrained:
    torch.manual_seed(3)
    recipe = _recipe(method)
    card = ModelCard(method=method.value, shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1")
    return Untrained(Checkpoint(card, recipe.build().state_dict()))
