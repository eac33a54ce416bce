import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.media.probe import Size
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION, baseline_predictions

CODECS = {"libx264": 0.0, "libx265": 8.0, "libsvtav1": 13.0}


def make_encode(source: int, height_px: int, kbps: float, codec: str) -> LabelledEncode:
    """An encode whose VMAF follows the regression: 60 + 6 ln(bits per pixel) + 40 h/H + codec."""
    display = (640, 360) if source % 2 else (360, 640)
    bits_per_pixel = kbps * 1000 / (640 * 360 * 25)
    vmaf = 60 + 6 * math.log(bits_per_pixel) + 40 * height_px / 360 + CODECS[codec]
    return LabelledEncode(
        path=Path(f"{source}-{height_px}-{kbps}-{codec}.mp4"),
        source=f"s{source}",
        rung="r",
        codec=codec,
        vmaf=vmaf,
        display=Size(*display),
        bitrate_kbps=kbps,
        height_px=height_px,
        rate_mode="vbr",
        fps=25.0,
    )


def encodes_of(sources: range) -> list[LabelledEncode]:
    return [
        make_encode(source, height, kbps * (1 + source / 7), codec)
        for source in sources
        for height in (90, 180, 360)
        for kbps in (50.0, 400.0)
        for codec in CODECS
    ]


TRAINING, EVALUATED = encodes_of(range(4)), encodes_of(range(4, 7))
LABELS = np.array([encode.vmaf for encode in EVALUATED])


def test_the_bitrate_baseline_predicts_the_logarithm_of_the_bitrate() -> None:
    predicted = baseline_predictions(EVALUATED, TRAINING)[BITRATE]
    assert np.exp(predicted) == pytest.approx([encode.bitrate_kbps for encode in EVALUATED])


def test_the_regression_is_exact_on_unseen_sources_that_follow_its_formula() -> None:
    assert baseline_predictions(EVALUATED, TRAINING)[REGRESSION] == pytest.approx(LABELS)


def test_without_training_encodes_each_source_is_predicted_from_the_others() -> None:
    assert baseline_predictions(EVALUATED, [])[REGRESSION] == pytest.approx(LABELS)
    # labels of a source that does not follow the formula do not change its own prediction
    odd = [
        replace(encode, vmaf=encode.vmaf - 50) if encode.source == "s4" else encode
        for encode in EVALUATED
    ]
    own = [number for number, encode in enumerate(odd) if encode.source == "s4"]
    predicted = baseline_predictions(odd, [])[REGRESSION]
    assert predicted[own] == pytest.approx(LABELS[own])


def test_without_training_encodes_sources_of_one_origin_are_predicted_from_others_alone() -> None:
    odd = [
        replace(encode, vmaf=encode.vmaf - 50, origin="film") if encode.source != "s6" else encode
        for encode in EVALUATED
    ]
    own = [number for number, encode in enumerate(odd) if encode.origin]
    predicted = baseline_predictions(odd, [])[REGRESSION]
    assert predicted[own] == pytest.approx(LABELS[own])


def test_a_single_source_has_no_regression() -> None:
    alone = encodes_of(range(1))
    assert np.isnan(baseline_predictions(alone, [])[REGRESSION]).all()


def test_an_unseen_codec_counts_as_the_mean_of_the_seen_ones() -> None:
    other = [replace(encode, codec="libvpx-vp9") for encode in EVALUATED]
    predicted = baseline_predictions(other, TRAINING)[REGRESSION]
    codec_terms = np.array([CODECS[encode.codec] for encode in EVALUATED])
    assert predicted == pytest.approx(LABELS - codec_terms + np.mean(list(CODECS.values())))


def test_an_encode_with_unknown_bitrate_fps_and_size_has_a_prediction() -> None:
    bare = replace(EVALUATED[0], bitrate_kbps=0.0, fps=0.0, display=Size(0, 0))
    assert np.isfinite(baseline_predictions([bare], TRAINING)[REGRESSION]).all()
