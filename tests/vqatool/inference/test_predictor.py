"""How a model is asked: what it is shown, and what is kept from it."""

from pathlib import Path

import pytest
import torch

from ladder.media.probe import probe
from vqatool.inference.model_file import load_checkpoint
from vqatool.inference.predictor import Predictor
from vqatool.inputs.bitstream import UNKNOWN_BITSTREAM


@pytest.fixture
def encode(labelled: Path) -> Path:
    return next(path for path in sorted(labelled.rglob("*.mp4")) if "crf40" in path.name)


def test_a_hybrid_sees_the_stream_and_by_pixels_it_does_not(
    small_model: Path, encode: Path
) -> None:
    checkpoint, info = load_checkpoint(small_model), probe(encode)
    *pixels, facts = Predictor(checkpoint, "cpu").preprocessor.load_views(info, None)
    *same_pixels, nothing = Predictor(checkpoint, "cpu", pixels_only=True).preprocessor.load_views(
        info, None
    )
    assert len(pixels) == 2  # and motion
    assert all(map(torch.equal, pixels, same_pixels))
    assert facts.abs().sum() > 0
    assert torch.equal(nothing, torch.tensor(UNKNOWN_BITSTREAM))


def test_a_part_of_a_video_has_frames_and_facts_of_its_own(
    small_model: Path, real_clips: list[Path]
) -> None:
    predictor, info = Predictor(load_checkpoint(small_model), "cpu"), probe(real_clips[0])
    half_s = info.duration_s / 2
    first, second = (
        predictor.preprocessor.load_views(info, None, start_s=start_s, length_s=half_s)
        for start_s in (0.0, half_s)
    )
    assert not torch.equal(first[0], second[0])
    assert predictor.score([first]) != predictor.score([second])


def test_scores_come_with_the_features_they_were_read_from(small_model: Path, encode: Path) -> None:
    predictor = Predictor(load_checkpoint(small_model), "cpu")
    views = predictor.preprocessor.load_views(probe(encode), None)
    scores, features = predictor.score_with_features([views, views])
    assert scores == pytest.approx(predictor.score([views, views]), abs=1e-3)
    assert torch.allclose(features[0], features[1], atol=1e-5)
    assert features[0].ndim == 1
