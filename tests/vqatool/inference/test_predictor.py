"""Predictions: the inputs of a model, and its output for several clips."""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from tests.vqatool.conftest import SHAPE
from vqatool.inference import torch_engine
from vqatool.inference.card import ModelCard
from vqatool.inference.engine import Limits, Output
from vqatool.inference.model_file import Checkpoint, load_checkpoint
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM
from vqatool.methods import Method, recipe_for


@pytest.fixture
def encode(labelled: Path) -> Path:
    return next(path for path in sorted(labelled.rglob("*.mp4")) if "crf40" in path.name)


def test_bitstream_features_are_hidden_with_pixels_only(encode: Path) -> None:
    recipe = recipe_for(Method.COARSE_TO_FINE, SHAPE)  # of every view
    card = ModelCard(
        method="coarse-to-fine", shape=recipe.shape, clip_frames=2, label="vmaf_v0.6.1"
    )
    engine = TorchEngine(Checkpoint(card, recipe.build().state_dict()), "cpu")
    info = probe(encode)
    *pixels, features = Predictor(engine).preprocessor.load_views(info, None)
    *same_pixels, hidden = Predictor(engine, pixels_only=True).preprocessor.load_views(info, None)
    assert len(pixels) == 4  # and motion, probing and deep features
    assert all(map(np.array_equal, pixels, same_pixels))
    assert np.abs(features).sum() > 0
    assert hidden.tolist() == list(UNKNOWN_BITSTREAM)


def test_each_part_of_a_video_has_frames_of_its_own(
    small_model: Path, real_clips: list[Path]
) -> None:
    predictor, info = (
        Predictor(TorchEngine(load_checkpoint(small_model), "cpu")),
        probe(real_clips[0]),
    )
    half_s = info.duration_s / 2
    first, second = (
        predictor.preprocessor.load_views(info, None, TimeRange(start_s, half_s))
        for start_s in (0.0, half_s)
    )
    assert not np.array_equal(first[0], second[0])
    assert predictor.predict([first]).score_B != predictor.predict([second]).score_B


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_the_output_of_several_batches_is_one_output(
    small_model: Path, encode: Path, real_clips: list[Path], batch: int
) -> None:
    predictor = Predictor(TorchEngine(load_checkpoint(small_model), "cpu"), batch=batch)
    clips = [predictor.preprocessor.load_views(probe(p), None) for p in (encode, real_clips[0])]
    quality = predictor.predict([clips[0], clips[1], clips[0]])
    assert quality.score_B.shape == (3,)
    assert quality.frame_score_BT.shape == (3, 2)
    assert quality.features_BD.shape[0] == 3
    alone = [predictor.predict([clip]) for clip in clips]
    expected = [float(alone[i].score_B[0]) for i in (0, 1, 0)]
    assert quality.score_B.tolist() == pytest.approx(expected, abs=1e-4)
    assert np.allclose(quality.features_BD[1], alone[1].features_BD[0], atol=1e-4)
    assert to_label_scale(np.array([-1.0, 0.5, 2.0])) == [0, 50, 100]
    assert np.isnan(to_label_scale(np.array([np.nan, np.inf, -np.inf]))).all()


def test_the_threads_of_a_program_use_a_model_of_torch_one_after_the_other(
    small_model: Path, encode: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, inside = TorchEngine(load_checkpoint(small_model), "cpu"), list[int]()

    @contextlib.contextmanager
    def counted() -> Iterator[None]:
        inside.append(1)
        time.sleep(0.05)  # long enough for the other thread to come
        assert len(inside) == 1
        yield
        inside.clear()

    monkeypatch.setattr(torch_engine, "_cores_left_for_decoding", counted)
    predictor = Predictor(engine)
    clip = predictor.preprocessor.load_views(probe(encode), None)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(predictor.predict, [[clip], [clip]])
    assert first.score_B == second.score_B


def test_a_band_follows_the_spread_of_each_video(small_model: Path) -> None:
    checkpoint = load_checkpoint(small_model)
    unit = np.ones(2, np.float32)
    spread_B = np.array([0.01, 0.2], np.float32)
    output = Output(unit, unit[:, None], unit[:, None], spread_B=spread_B)
    assert Predictor(TorchEngine(checkpoint, "cpu")).bands(output) == [7.0, 7.0]  # of the card
    card = replace(checkpoint.card, band_per_spread=2.0)
    predictor = Predictor(TorchEngine(replace(checkpoint, card=card), "cpu"))
    assert predictor.bands(output) == pytest.approx([2.0, 40.0])
    assert predictor.bands(output._replace(spread_B=None)) == [7.0, 7.0]


@pytest.mark.parametrize(
    ("distances", "is_inside"),
    [([1.0], True), ([3.0], False), ([1.0, 3.0], True), ([1.0, 3.0, 3.0], False),
     ([1.0, 1.0, float("nan")], False)],
)  # fmt: skip
def test_the_median_clip_is_inside_the_limits_and_what_is_no_number_is_not(
    distances: list[float], is_inside: bool
) -> None:
    one = np.ones(1, np.float32)
    clips = [
        Output(one, one[:, None], one[:, None], distance_B=np.array([each], np.float32))
        for each in distances
    ]
    assert Limits(2.0, float("inf")).contains(clips) is is_inside
