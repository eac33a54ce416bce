"""Shapley values of groups of inputs, by scores that can be computed by hand."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from vqatool.inference.card import ModelCard
from vqatool.inference.contributions import contributions
from vqatool.inference.engine import Floats, Limits, Loaded, TypicalInput
from vqatool.inference.onnx_engine import typical_facts
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import typical_inputs
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM
from vqatool.inputs.clip import Array, Clip, collate
from vqatool.inputs.preprocessor import preprocess
from vqatool.methods import Method, recipe_for

SHAPE = {"size": "pico", "has_probing": False, "has_deep": False}  # frames, motion, bitstream
FRAMES = 8


def one(value: float) -> Floats:
    return np.array([value], np.float32)


class ByHand:
    """An engine whose score is `bitstream * motion`, and `share` of the mean of the frames."""

    batch, max_batch = 1, None

    def __init__(self, share: float = 0.0) -> None:
        shape = recipe_for(Method.COARSE_TO_FINE, SHAPE).shape
        card = ModelCard(
            method="coarse-to-fine", shape=shape, clip_frames=FRAMES, label="vmaf_v0.6.1"
        )
        self.model = Loaded(card, "by-hand", Limits(1.0, 1.0))
        self.typical = (
            None,
            TypicalInput(one(0.5), one(1.0), one(0.25)),
            TypicalInput(one(0.8), one(1.0)),
        )
        self._share = share
        self.frames_seen: list[int] = []

    def load(self) -> None:
        """There is nothing to load."""

    def run(self, views: Sequence[Floats]) -> Mapping[str, Floats]:
        frames_BTCHW, motion_BTK, stream_BK = views
        self.frames_seen.append(frames_BTCHW.shape[1])
        moved_B = motion_BTK.mean((1, 2)) + motion_BTK.std((1, 2))
        score_B = stream_BK[:, 0] * moved_B + self._share * frames_BTCHW.mean((1, 2, 3, 4))
        return {"score": score_B, "features": stream_BK, "frame_scores": motion_BTK[..., 0]}


def a_clip() -> list[Array]:
    frames = np.arange(FRAMES, dtype=np.uint8).repeat(3 * 4).reshape(FRAMES, 3, 2, 2)
    motion = np.linspace(0.1, 0.3, FRAMES, dtype=np.float32)[:, None]
    return [frames, motion, np.array([0.4], np.float32)]


def test_points_are_shapley_values_and_add_up_to_the_score() -> None:
    engine, clip = ByHand(), a_clip()
    predictor = Predictor(engine)
    output = predictor.predict_finished([clip])
    found = contributions(predictor, clip, output)
    assert found is not None
    moved, stream = float(clip[1].mean() + clip[1].std()), 0.4
    assert found.base == pytest.approx(100 * 0.8 * 0.75, abs=1e-3)
    # two factors: each adds the mean of what it does with the other known and not known
    expected = {
        "motion": 50 * ((moved - 0.75) * 0.8 + (moved - 0.75) * stream),
        "bitstream": 50 * ((stream - 0.8) * 0.75 + (stream - 0.8) * moved),
    }
    assert found.points == pytest.approx(expected, abs=1e-3)
    score = 100 * float(output.score_B[0])
    assert found.base + sum(found.points.values()) == pytest.approx(score, abs=1e-6)


def test_frames_are_left_out_where_they_do_not_move_the_score_alone() -> None:
    clip, without, with_frames = a_clip(), ByHand(), ByHand(share=0.1)
    for engine in (without, with_frames):
        predictor = Predictor(engine)
        contributions(predictor, clip, predictor.predict_finished([clip]))
    assert without.frames_seen == [FRAMES, *[2] * 4]
    assert with_frames.frames_seen == [FRAMES, 2, *[FRAMES] * 3]


def test_without_a_typical_clip_nothing_is_told() -> None:
    engine, clip = ByHand(), a_clip()
    engine.typical = ()  # type: ignore[assignment]  # as of a model without figures
    predictor = Predictor(engine)
    assert contributions(predictor, clip, predictor.predict_finished([clip])) is None


@pytest.mark.parametrize("frames", [2, 3, 8])
def test_a_typical_input_has_the_mean_and_the_deviation_of_its_kind(frames: int) -> None:
    typical = TypicalInput(np.array([1, 2], np.float32), None, np.array([0.5, 0], np.float32))
    view = typical.like(np.zeros((frames, 2)))
    assert view.mean(0) == pytest.approx([1.0, 2.0])
    assert view.std(0) == pytest.approx([0.5, 0.0], abs=1e-6)
    assert typical.like(np.zeros((1, 2))).tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("shape", [{}, SHAPE, {"size": "pico", "has_motion": False}])
def test_a_typical_clip_has_the_mean_figures_of_the_training(shape: dict[str, object]) -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, {"size": "pico"} | shape)
    views = [torch.from_numpy(collate([view])[0]) for view in preprocess(recipe.views, a_video())]
    model = recipe.build()
    network = model.figure_network
    assert network is not None
    assert model.typical_views() == ()  # it is not fitted
    figures, deep = model.clip_figures(views)
    network.get_buffer("share").fill_(1)
    network.get_buffer("mean").copy_(figures)
    network.get_buffer("deep_mean").copy_(deep)
    facts = json.loads(typical_facts(typical_inputs(model)))
    typical = [entry and typical_input(**entry) for entry in facts]
    assert [entry is None for entry in typical] == [True] + [False] * (len(views) - 1)
    clip = [
        torch.from_numpy(np.array(entry.like(view.numpy()))) if entry else view
        for entry, view in zip(typical, views, strict=True)
    ]
    found_figures, found_deep = model.clip_figures(clip)
    assert found_figures.numpy() == pytest.approx(figures.numpy(), rel=1e-4, abs=1e-4)
    assert found_deep.numpy() == pytest.approx(deep.numpy(), rel=1e-4, abs=1e-4)


def typical_input(
    mean_K: list[float], deviation_K: list[float] | None, swing_K: list[float] | None
) -> TypicalInput:
    deviation, swing = (
        None if each is None else np.array(each, np.float32) for each in (deviation_K, swing_K)
    )
    return TypicalInput(np.array(mean_K, np.float32), deviation, swing)


def a_video() -> Clip:
    """Four frame groups of two frames of noise, each brighter than the one before."""
    noise = np.random.default_rng(0).integers(60, size=(8, 3, 256, 256), dtype=np.uint8)
    bright = 20 * np.arange(8, dtype=np.uint8)[:, None, None, None]
    known = UNKNOWN_BITSTREAM._replace(is_known=1.0, step_mean=1.5, key_share=0.25)
    return Clip(noise + bright, 2, known)
