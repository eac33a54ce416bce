import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ladder.media.probe import Size
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.baselines import BITRATE, REGRESSION, baseline_predictions

CODECS = {"libx264": 0.0, "libx265": 8.0, "libsvtav1": 13.0}


def encode(source: int, height_px: int, kbps: float, codec: str) -> LabelledEncode:
    """Its VMAF is just what the regression assumes: 30 + 6 ln(bits per pixel) + 40 h/H + codec."""
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
        encode(source, height, kbps * (1 + source / 7), codec)
        for source in sources
        for height in (90, 180, 360)
        for kbps in (50.0, 400.0)
        for codec in CODECS
    ]


TRAINING, JUDGED = encodes_of(range(4)), encodes_of(range(4, 7))
LABELS = np.array([each.vmaf for each in JUDGED])


def test_the_bitrate_alone_orders_by_bitrate() -> None:
    found = baseline_predictions(JUDGED, TRAINING)[BITRATE]
    assert np.exp(found) == pytest.approx([each.bitrate_kbps for each in JUDGED])


def test_the_regression_finds_the_law_it_assumes_on_sources_it_never_saw() -> None:
    assert baseline_predictions(JUDGED, TRAINING)[REGRESSION] == pytest.approx(LABELS)


def test_without_a_training_side_each_source_is_told_by_the_others() -> None:
    assert baseline_predictions(JUDGED, [])[REGRESSION] == pytest.approx(LABELS)
    # a source with other labels than the law's cannot pull its own prediction towards them
    odd = [replace(each, vmaf=each.vmaf - 50) if each.source == "s4" else each for each in JUDGED]
    own = [number for number, each in enumerate(odd) if each.source == "s4"]
    found = baseline_predictions(odd, [])[REGRESSION]
    assert found[own] == pytest.approx(LABELS[own])


def test_a_lone_source_has_nothing_to_be_told_by() -> None:
    alone = encodes_of(range(1))
    assert np.isnan(baseline_predictions(alone, [])[REGRESSION]).all()


def test_a_codec_the_regression_never_saw_counts_as_the_mean_of_those_it_saw() -> None:
    other = [replace(each, codec="libvpx-vp9") for each in JUDGED]
    found = baseline_predictions(other, TRAINING)[REGRESSION]
    shares = np.array([CODECS[each.codec] for each in JUDGED])
    assert found == pytest.approx(LABELS - shares + np.mean(list(CODECS.values())))


def test_an_encode_of_which_little_is_known_is_still_predicted() -> None:
    bare = replace(JUDGED[0], bitrate_kbps=0.0, fps=0.0, display=Size(0, 0))
    assert np.isfinite(baseline_predictions([bare], TRAINING)[REGRESSION]).all()
