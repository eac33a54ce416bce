"""The table of codecs, and that one entry is all a new encoder needs."""

from pathlib import Path

import pytest

import ladder
from ladder.codecs import (
    AV1,
    CODECS,
    H264,
    HEVC,
    VP9,
    Codec,
    CodedFormat,
    RateTarget,
    Settings,
    still_codings,
)
from ladder.encode.ladders import Ladder, with_codecs
from ladder.encode.rungs import Rung
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from ladder.recommend.adaptive import expected_vmaf
from tests.ladder.works import made


def mpeg2_rate(rate: RateTarget) -> Settings:
    return {"q:v": rate.crf} if rate.crf else {"b:v": f"{rate.bitrate_kbps}k"}


MPEG2 = Codec(
    encoder="mpeg2video",
    short_name="mpeg2",
    format=CodedFormat(name="mpeg2video"),
    max_crf=31,
    presets=("0",),
    default_preset="0",
    encode_cost=0.5,
    bitrate_factor=2.0,
    preset_settings=lambda preset: {"trellis": int(preset)},
    rate_settings=mpeg2_rate,
)


@pytest.mark.parametrize("number_of_passes", [1, 2])
def test_a_new_encoder_needs_one_entry_in_the_table(
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number_of_passes: int,
) -> None:
    monkeypatch.setitem(CODECS, MPEG2.encoder, MPEG2)
    rungs = [
        Rung(height_px=48, codec="mpeg2video", crf=8),
        Rung(height_px=48, codec="mpeg2video", bitrate_kbps=90, two_pass=number_of_passes == 2),
    ]
    rows = made([source_video], rungs, tmp_path, ffmpeg)
    assert [(row.codec, row.error) for row in rows] == [("mpeg2video", "")] * 2
    assert {row.rung for row in rows} >= {"48p-crf8-mpeg2"}
    for row in rows:
        assert probe(tmp_path / row.encode_path).codec == "mpeg2video"
    assert expected_vmaf(rungs[0], (192, 108), 25) > 0
    (carried,) = with_codecs(Ladder((Rung(height_px=48, crf=51),)), ["mpeg2video"]).rungs
    assert (carried.codec, carried.crf) == ("mpeg2video", 31)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_the_fields_of_an_entry_agree(codec: Codec) -> None:
    assert CODECS[codec.encoder] is codec
    assert codec.default_preset in codec.presets
    assert all(1 <= crf <= codec.max_crf for crf in codec.training_crfs)
    assert codec.short_name.isalnum()
    assert codec.encode_cost >= 1
    assert 0 < codec.bitrate_factor <= 1


def test_no_two_codecs_share_a_name() -> None:
    assert len({codec.short_name for codec in CODECS.values()}) == len(CODECS)


def test_distortion_levels_get_worse() -> None:
    for coding in still_codings().values():
        assert sorted(set(coding.levels)) == list(coding.levels)


def test_quantiser_steps_follow_the_specifications() -> None:
    assert H264.quantiser
    assert HEVC.quantiser
    assert VP9.quantiser
    assert AV1.quantiser
    assert H264.quantiser.log2_step(4) == 0
    doubled = HEVC.quantiser.log2_step(34) - HEVC.quantiser.log2_step(28)
    assert doubled == pytest.approx(1)
    # entries of the AC table of 8 bit VP9 and AV1, in eighths of a sample
    for index, entry in {1: 8, 95: 102, 120: 152, 137: 203, 150: 255, 255: 1828}.items():
        assert 8 * 2 ** AV1.quantiser.log2_step(index) == pytest.approx(entry, rel=0.03)
        assert VP9.quantiser.log2_step(index) == AV1.quantiser.log2_step(index)


def test_the_package_offers_every_name_of_its_list() -> None:
    assert set(ladder._MODULES) == set(ladder.__all__)
    assert all(getattr(ladder, name) is not None for name in ladder.__all__)
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = ladder.nothing_of_this_name  # type: ignore[attr-defined]
