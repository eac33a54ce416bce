"""Rungs, the named ladders, and ladder files."""

from pathlib import Path
from typing import Any

import pytest

from ladder.errors import LadderFileError
from ladder.ffmpeg import ENCODERS
from ladder.rungs import LADDERS, Rung, fitting, ladder_named, with_codecs

PUBLISHED = {  # kbit/s and height in the order of the papers, on 16:9
    "apple-hls": [
        (145, 234), (365, 360), (730, 432), (1100, 432), (2000, 540),
        (3000, 720), (4500, 720), (6000, 1080), (7800, 1080),
    ],
    "netflix-2015": [
        (235, 240), (375, 288), (560, 384), (750, 384), (1050, 480),
        (1750, 480), (2350, 720), (3000, 720), (4300, 1080), (5800, 1080),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "says"),
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
        ({"height_px": 720, "crf": 0}, "crf is 0, not 1 to 51"),
        ({"height_px": 720, "crf": 52}, "crf is 52, not 1 to 51"),
        ({"height_px": 720, "crf": 64, "codec": "libsvtav1"}, "crf is 64, not 1 to 63"),
        ({"height_px": 720, "bitrate_kbps": 9}, "bitrate_kbps is 9, not 10 to 1000000"),
        ({"height_px": 720, "bitrate_kbps": 1_000_001}, "not 10 to 1000000"),
        ({"height_px": 720, "bitrate_kbps": 99.5}, "bitrate_kbps is 99.5"),
        ({"height_px": 720, "crf": 20, "codec": "x264"}, "codec is 'x264', not one of libx264"),
    ],
)
def test_a_rung_that_cannot_be_encoded_is_refused_with_the_reason(
    fields: dict[str, Any], says: str
) -> None:
    with pytest.raises(LadderFileError, match=says):
        Rung(**fields)


@pytest.mark.parametrize(
    ("rung", "name", "rate_mode"),
    [
        (Rung(height_px=720, bitrate_kbps=3000), "720p-3000k-x264", "vbr"),
        (Rung(height_px=540, crf=28, codec="libvpx-vp9"), "540p-crf28-vp9", "crf"),
        (Rung(height_px=234, crf=63, codec="libsvtav1"), "234p-crf63-svtav1", "crf"),
        (Rung(height_px=48, bitrate_kbps=10, codec="libx265"), "48p-10k-x265", "vbr"),
    ],
)
def test_a_rung_is_named_by_size_spending_and_codec(rung: Rung, name: str, rate_mode: str) -> None:
    assert (rung.name, rung.rate_mode) == (name, rate_mode)


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
def test_an_encode_keeps_the_aspect_and_the_rung_gives_the_short_side(
    height_px: int, display_size: tuple[int, int], size: tuple[int, int]
) -> None:
    assert Rung(height_px=height_px, crf=30).size_for(display_size) == size


def test_every_size_is_even_whatever_the_aspect() -> None:
    rung = Rung(height_px=90, crf=30)
    sizes = [rung.size_for((width, 108)) for width in range(40, 400)]
    assert all(width % 2 == 0 and height % 2 == 0 for width, height in sizes)
    assert {min(size) for size in sizes} == {90}


@pytest.mark.parametrize("name", LADDERS)
def test_no_rung_stands_twice_in_a_named_ladder(name: str) -> None:
    names = [rung.name for rung in LADDERS[name]]
    assert len(set(names)) == len(names) > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ladders_have_the_published_rungs(name: str) -> None:
    rungs = ladder_named(name)
    assert [(rung.bitrate_kbps, rung.height_px) for rung in rungs] == PUBLISHED[name]
    assert {rung.codec for rung in rungs} == {"libx264"}


def test_the_training_ladder_has_every_codec_in_both_rate_modes() -> None:
    kinds = {(rung.codec, rung.rate_mode) for rung in LADDERS["training"]}
    assert kinds == {(codec, mode) for codec in ENCODERS for mode in ("crf", "vbr")}


def test_a_ladder_file_gives_its_rungs_in_order(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(
        '[[rung]]\nheight_px = 720\nbitrate_kbps = 3000\n\n'
        '[[rung]]\ncodec = "libsvtav1"\ncrf = 35\nheight_px = 540\n'
    )  # fmt: skip
    assert ladder_named(str(file)) == (
        Rung(height_px=720, codec="libx264", bitrate_kbps=3000),
        Rung(height_px=540, codec="libsvtav1", crf=35),
    )


GOOD = "[[rung]]\nheight_px = 720\ncrf = 20\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "[[rung]]\nheigth_px = 9\ncrf = 30\n", [
            "rung 2", "'heigth_px'", "height_px, codec, bitrate_kbps, crf"
        ]),
        (GOOD + "[[rung]]\ncrf = 30\n", ["rung 2", "height_px is missing"]),
        (GOOD + "[[rung]]\nheight_px = 540\ncrf = 99\n", ["rung 2", "99", "1 to 51"]),
        (GOOD + GOOD, ["720p-crf20-x264", "twice"]),
        ('[[rung]]\nheight_px = 720\ncrf = 20\ncodec = "h264"\n', [
            "rung 1", "'h264'", *ENCODERS
        ]),
        ('[[rung]]\nheight_px = 720\ncrf = 20\ncodec = ["libx264"]\n', ["rung 1", *ENCODERS]),
        ('[[rung]]\nheight_px = 720\ncrf = "20"\n', ["rung 1", "'20'", "1 to 51"]),
        ("[[rung]\nheight_px = 720\n", ["cannot be read"]),
        ("", ["[[rung]]"]),
        ("rung = []\n", ["[[rung]]"]),
        ("rung = [720]\n", ["rung 1", "[[rung]]"]),
        ("[rung]\nheight_px = 720\ncrf = 20\n", ["[[rung]]"]),
    ],
)  # fmt: skip
def test_a_bad_ladder_file_is_refused_with_its_name_the_rung_and_what_is_allowed(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    file = tmp_path / "my.toml"
    file.write_text(text)
    with pytest.raises(LadderFileError) as error:
        ladder_named(str(file))
    for words in [str(file), *says]:
        assert words in str(error.value)


def test_a_ladder_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LadderFileError, match=r"gone\.toml"):
        ladder_named(str(tmp_path / "gone.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00rung")
    with pytest.raises(LadderFileError, match=r"binary\.toml"):
        ladder_named(str(tmp_path / "binary.toml"))


def test_an_unknown_ladder_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(LadderFileError) as error:
        ladder_named("apple")
    assert all(name in str(error.value) for name in LADDERS)


def test_with_codecs_repeats_every_rung_for_every_codec() -> None:
    ladder = (Rung(height_px=720, bitrate_kbps=3000), Rung(height_px=540, bitrate_kbps=900))
    chosen = with_codecs(ladder, ["libx265", "libsvtav1"])
    assert [rung.name for rung in chosen] == [
        "720p-3000k-x265", "720p-3000k-svtav1", "540p-900k-x265", "540p-900k-svtav1",
    ]  # fmt: skip
    assert with_codecs(ladder, []) == ladder


def test_with_codecs_carries_a_crf_over_to_the_other_scale() -> None:
    # 51 is x264's last, 63 is AV1's and VP9's: 34 / 51 = 42 / 63
    (rung,) = with_codecs((Rung(height_px=720, crf=34),), ["libsvtav1"])
    assert rung.crf == 42
    for crf in range(1, 52):
        with_codecs((Rung(height_px=720, crf=crf),), ENCODERS)  # none leaves its scale
    for crf in range(1, 64):
        with_codecs((Rung(height_px=720, crf=crf, codec="libvpx-vp9"),), ENCODERS)


def test_with_codecs_leaves_no_rung_twice() -> None:
    mixed = (Rung(height_px=540, crf=51), Rung(height_px=540, crf=63, codec="libsvtav1"))
    assert with_codecs(mixed, ["libx264", "libx264"]) == (mixed[0],)


def test_rungs_above_the_source_are_left_out() -> None:
    ladder = LADDERS["apple-hls"]
    assert {rung.height_px for rung in fitting(ladder, (1280, 720))} == {234, 360, 432, 540, 720}
    assert fitting(ladder, (720, 1280)) == fitting(ladder, (1280, 720))
    assert fitting(ladder, (320, 180)) == ()
