"""The numbers a model takes from what a stream says of its coding."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.media.headers import CodedPicture
from ladder.media.probe import VideoInfo, probe
from vqatool.inputs.bitstream import STEP_ORIGIN, UNKNOWN_BITSTREAM, bitstream_features

KEY = CodedPicture(size_bytes=800, is_key=True, log2_step=3.0)
INTER = CodedPicture(size_bytes=100, is_key=False, log2_step=4.0)


@pytest.fixture
def info(real_clips: list[Path]) -> VideoInfo:
    """An H.264 stream of 100 x 80 at 30 fps."""
    made = probe(real_clips[0])
    return replace(made, width_px=100, height_px=80, fps=Fraction(30), codec="h264")


def test_sizes_are_bits_a_pixel_as_logarithms(info: VideoInfo) -> None:
    facts = bitstream_features(info, [KEY, INTER, INTER, INTER], (200, 160))
    assert facts.key_bits_per_pixel == pytest.approx(math.log2(6400 / 8000))
    assert facts.inter_bits_per_pixel == pytest.approx(math.log2(800 / 8000))
    assert facts.bits_per_pixel == pytest.approx(math.log2(8800 / 4 / 8000))
    assert facts.bits_per_display_pixel == pytest.approx(facts.bits_per_pixel - 2)
    assert facts.coded_to_display == -1
    assert facts.key_share == pytest.approx(800 / 1100)
    assert (facts.is_h264, facts.is_hevc, facts.is_known, facts.fps) == (1, 0, 1, 0)


def test_steps_are_told_apart_by_kind_of_picture(info: VideoInfo) -> None:
    facts = bitstream_features(info, [KEY, INTER], (100, 80))
    assert facts.has_step == 1
    assert facts.step_key == 3.0 - STEP_ORIGIN
    assert facts.step_inter == 4.0 - STEP_ORIGIN
    assert facts.step_mean == 3.5 - STEP_ORIGIN
    assert facts.step_by_bits == pytest.approx((3 * 8 + 4) / 9 - STEP_ORIGIN)
    assert (facts.step_min, facts.step_max) == (facts.step_key, facts.step_inter)


def test_unknown_steps_are_zero_and_flagged(info: VideoInfo) -> None:
    silent = [replace(KEY, log2_step=None), replace(INTER, log2_step=None)]
    facts = bitstream_features(info, silent, (100, 80))
    assert facts.has_step == 0
    assert facts.step_mean == 0
    assert facts.bits_per_pixel < 0


def test_a_stream_that_was_not_read_is_unknown(info: VideoInfo) -> None:
    assert bitstream_features(info, [], (100, 80)) == UNKNOWN_BITSTREAM
    assert set(UNKNOWN_BITSTREAM) == {0.0}


def test_a_stream_of_one_kind_of_picture_has_all_its_facts(info: VideoInfo) -> None:
    for picture in (KEY, INTER, replace(INTER, size_bytes=0)):
        facts = bitstream_features(info, [picture], (100, 80))
        assert all(map(math.isfinite, facts))
