"""Rungs: invalid values, unique names, sizes of encodes."""

import contextlib
import dataclasses
import itertools
import re
from fractions import Fraction
from typing import Any

import pytest

from ladder.codecs import CODECS
from ladder.encode.rungs import Rung
from ladder.encode.transcode import encoder_settings
from ladder.errors import LadderFileError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"height_px": 720}, "either bitrate_kbps or crf"),
        ({"height_px": 720, "crf": 20, "bitrate_kbps": 500}, "either bitrate_kbps or crf"),
        ({"height_px": 721, "crf": 20}, "height_px is 721"),
        ({"height_px": 14, "crf": 20}, "16 to 8192"),
        ({"height_px": 8194, "crf": 20}, "16 to 8192"),
        ({"height_px": 720.0, "crf": 20}, "height_px is 720.0"),
        ({"height_px": "720", "crf": 20}, "height_px is '720'"),
        ({"height_px": True, "crf": 20}, "height_px is True"),
        ({"height_px": 720, "crf": True}, "crf is True"),
        ({"height_px": 720, "crf": 0}, "crf is 0, not a whole number from 1 to 51"),
        ({"height_px": 720, "crf": 52}, "crf is 52, not a whole number from 1 to 51"),
        ({"height_px": 720, "crf": 64, "codec": "libsvtav1"}, "crf is 64, .* from 1 to 63"),
        ({"height_px": 720, "bitrate_kbps": 9}, "bitrate_kbps is 9, .* from 10 to 1000000"),
        ({"height_px": 720, "bitrate_kbps": 1_000_001}, "from 10 to 1000000"),
        ({"height_px": 720, "bitrate_kbps": 99.5}, "bitrate_kbps is 99.5"),
        ({"height_px": 720, "crf": 20, "maxrate_kbps": 9}, "maxrate_kbps is 9, .* from 10"),
        ({"height_px": 720, "crf": 20, "maxrate_kbps": "1M"}, "maxrate_kbps is '1M'"),
        ({"height_px": 720, "crf": 20, "maxrate_kbps": 500, "bufsize_kbps": 0}, "bufsize_kbps is"),
        ({"height_px": 720, "crf": 20, "codec": "x264"}, "codec is 'x264', not one of libx264"),
        ({"height_px": 720, "crf": 20, "bit_depth": 12}, "bit_depth is 12, not one of 8, 10"),
        ({"height_px": 720, "crf": 20, "bit_depth": 8.0}, "bit_depth is 8.0"),
        ({"height_px": 720, "crf": 20, "two_pass": 1}, "two_pass is 1, not one of true, false"),
        ({"height_px": 720, "crf": 20, "two_pass": "yes"}, "two_pass is 'yes'"),
        ({"height_px": 720, "crf": 20, "preset": "slowest"}, "preset is 'slowest', .* veryslow"),
        ({"height_px": 720, "crf": 20, "preset": "8"}, "preset is '8', not one of ultrafast"),
        ({"height_px": 720, "crf": 20, "preset": "14", "codec": "libsvtav1"}, "not one of 0, 1"),
        ({"height_px": 720, "crf": 20, "preset": 8, "codec": "libsvtav1"}, "preset is 8, not"),
        ({"height_px": 720, "crf": 20, "preset": "9", "codec": "libvpx-vp9"}, "7, 8$"),
        ({"height_px": 720, "crf": 20, "gop_s": 0}, "gop_s is 0, not a number from 0.1 to 60"),
        ({"height_px": 720, "crf": 20, "gop_s": 61}, "gop_s is 61"),
        ({"height_px": 720, "crf": 20, "reencode_crf": 52}, "reencode_crf is 52"),
        ({"height_px": 720, "crf": 20, "reencode_crf": 0}, "reencode_crf is 0"),
        ({"height_px": 720, "crf": 20, "gop_s": float("nan")}, "gop_s is nan"),
        ({"height_px": 720, "crf": 20, "gop_s": "2"}, "gop_s is '2'"),
        ({"height_px": 720, "crf": 20, "gop_s": True}, "gop_s is True"),
        ({"height_px": 720, "crf": 20, "two_pass": True}, "two_pass needs a bitrate_kbps"),
        ({"height_px": 720, "bitrate_kbps": 90, "bufsize_kbps": 90}, "bufsize_kbps needs a max"),
        (
            {"height_px": 720, "bitrate_kbps": 90, "maxrate_kbps": 89},
            "maxrate_kbps is 89, below the bitrate_kbps 90",
        ),
        (
            {"height_px": 720, "bitrate_kbps": 90, "maxrate_kbps": 99, "codec": "libsvtav1"},
            "libsvtav1 takes a maxrate_kbps only together with a crf",
        ),
        (
            {
                "height_px": 720, "crf": 20, "maxrate_kbps": 99, "bufsize_kbps": 99,
                "codec": "libvpx-vp9",
            },
            "libvpx-vp9 takes no bufsize_kbps together with a crf",
        ),
    ],
)  # fmt: skip
def test_an_invalid_rung_is_refused_with_the_reason(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(LadderFileError, match=message):
        Rung(**fields)


@pytest.mark.parametrize(
    ("rung", "name", "rate_mode"),
    [
        (Rung(height_px=720, bitrate_kbps=3000), "720p-3000k-x264", "vbr"),
        (Rung(height_px=540, crf=28, codec="libvpx-vp9"), "540p-crf28-vp9", "crf"),
        (Rung(height_px=234, crf=63, codec="libsvtav1"), "234p-crf63-svtav1", "crf"),
        (Rung(height_px=48, bitrate_kbps=10, codec="libx265"), "48p-10k-x265", "vbr"),
        (
            Rung(height_px=720, bitrate_kbps=3000, two_pass=True, bit_depth=10, codec="libx265"),
            "720p-3000k-2pass-x265-10bit",
            "two-pass",
        ),
        (
            Rung(height_px=720, crf=23, maxrate_kbps=4000, bufsize_kbps=8000, preset="slow"),
            "720p-crf23-max4000k-buf8000k-x264-slow",
            "capped-crf",
        ),
        (
            Rung(height_px=720, bitrate_kbps=900, maxrate_kbps=1200, gop_s=0.5, bit_depth=8),
            "720p-900k-max1200k-x264-8bit-gop0.5s",
            "vbr",
        ),
        (Rung(height_px=720, crf=30, codec="libsvtav1", preset="4"), "720p-crf30-svtav1-4", "crf"),
        (Rung(height_px=720, crf=30, gop_s=2), "720p-crf30-x264", "crf"),
        (Rung(height_px=720, crf=30, reencode_crf=14), "720p-crf30-x264-reencode14", "crf"),
    ],
)
def test_the_name_of_a_rung_holds_size_rate_codec_and_unusual_settings(
    rung: Rung, name: str, rate_mode: str
) -> None:
    assert (rung.name, rung.rate_mode) == (name, rate_mode)


def every_kind_of_rung() -> list[Rung]:
    """All combinations of two values of each field that are allowed, for every codec."""
    spending: list[dict[str, Any]] = [
        {"crf": 30}, {"crf": 31}, {"bitrate_kbps": 300}, {"bitrate_kbps": 310},
        {"crf": 30, "maxrate_kbps": 400}, {"crf": 30, "maxrate_kbps": 400, "bufsize_kbps": 800},
        {"bitrate_kbps": 300, "maxrate_kbps": 400},
        {"bitrate_kbps": 300, "maxrate_kbps": 400, "bufsize_kbps": 800},
        {"bitrate_kbps": 300, "two_pass": True},
        {"crf": 30, "reencode_crf": 14}, {"crf": 30, "reencode_crf": 18},
        {"bitrate_kbps": 300, "reencode_crf": 14},
    ]  # fmt: skip
    found = []
    for codec, spend, height, bits, gop in itertools.product(
        CODECS, spending, (360, 720), (None, 8, 10), (2, 4)
    ):
        for preset in (None, *CODECS[codec].presets[:2]):
            with contextlib.suppress(LadderFileError):
                rung = Rung(height_px=height, codec=codec, bit_depth=bits, gop_s=gop,
                            preset=preset, **spend)  # fmt: skip
                found.append(rung)
    return found


def test_rungs_that_differ_in_any_field_have_different_names() -> None:
    rungs = every_kind_of_rung()
    assert len(rungs) > 1000
    assert len({rung.name for rung in rungs}) == len(set(rungs)) == len(rungs)
    assert all(re.fullmatch(r"[a-z0-9.-]+", rung.name) for rung in rungs)
    for field in dataclasses.fields(Rung):  # a new one has to come into the list, and the name
        assert len({getattr(rung, field.name) for rung in rungs}) > 1, field.name


def test_svt_av1_never_gets_a_peak_together_with_a_bitrate() -> None:
    """It refuses one when it is started."""
    rungs = [rung for rung in every_kind_of_rung() if rung.codec == "libsvtav1"]
    assert {rung.rate_mode for rung in rungs} == {"crf", "capped-crf", "vbr", "two-pass"}
    for rung in rungs:
        settings = encoder_settings(rung, Fraction(25), is_10_bit=False)
        if rung.bitrate_kbps:
            assert not {"maxrate", "bufsize", "crf"} & set(settings), rung.name


@pytest.mark.parametrize("codec", CODECS)
def test_a_rung_takes_every_crf_and_preset_of_its_codec(codec: str) -> None:
    for crf in (1, CODECS[codec].max_crf):
        Rung(height_px=720, codec=codec, crf=crf)
    for preset in CODECS[codec].presets:
        Rung(height_px=720, codec=codec, crf=30, preset=preset)


@pytest.mark.parametrize(
    ("height_px", "display_size", "size"),
    [
        (720, (1920, 1080), (1280, 720)),
        (432, (1920, 1080), (768, 432)),
        (234, (1920, 1080), (416, 234)),
        (720, (1080, 1920), (720, 1280)),  # a phone held upright: the short side is the rung's
        (480, (640, 480), (640, 480)),
        (480, (1000, 1000), (480, 480)),
        (360, (2048, 858), (860, 360)),  # 859.3
        (64, (192, 108), (114, 64)),  # 113.8
        (48, (101, 997), (48, 474)),  # 473.8
    ],
)
def test_the_height_of_a_rung_is_the_short_side_of_the_encode(
    height_px: int, display_size: tuple[int, int], size: tuple[int, int]
) -> None:
    assert Rung(height_px=height_px, crf=30).size_for(display_size) == size


def test_every_size_is_even_for_any_aspect_ratio() -> None:
    rung = Rung(height_px=90, crf=30)
    sizes = [rung.size_for((width, 108)) for width in range(40, 400)]
    assert all(width % 2 == 0 and height % 2 == 0 for width, height in sizes)
    assert {min(size) for size in sizes} == {90}
