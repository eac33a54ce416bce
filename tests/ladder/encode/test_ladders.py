"""Named ladders, ladder files, and conversion to other codecs and sources."""

from pathlib import Path

import pytest

from ladder.codecs import CODECS
from ladder.encode.ladders import LADDERS, Ladder, fitting, ladder_named, with_codecs
from ladder.encode.rungs import Rung
from ladder.errors import LadderFileError

PUBLISHED = {  # kbit/s and height in the order of the papers, on 16:9
    "apple-hls": [
        (145, 234), (365, 360), (730, 432), (1100, 432), (2000, 540),
        (3000, 720), (4500, 720), (6000, 1080), (7800, 1080),
    ],
    "netflix-2015": [
        (235, 240), (375, 288), (560, 384), (750, 384), (1050, 480),
        (1750, 480), (2350, 720), (3000, 720), (4300, 1080), (5800, 1080),
    ],
    # support.google.com/youtube/answer/1722171: SDR, 24 to 30 fps; the low end of 35-45 for 4K
    # is not taken, its middle is
    "youtube": [
        (1000, 360), (2500, 480), (5000, 720), (8000, 1080), (16000, 1440), (40000, 2160),
    ],
}  # fmt: skip


def ladder(*rungs: Rung) -> Ladder:
    return Ladder(rungs)


def file_of(folder: Path, text: str) -> str:
    file = folder / "my.toml"
    file.write_text(text)
    return str(file)


# ---- names


@pytest.mark.parametrize("name", LADDERS)
def test_a_named_ladder_has_each_rung_once(name: str) -> None:
    names = [rung.name for rung in LADDERS[name].rungs]
    assert len(set(names)) == len(names) > 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_ladders_have_the_published_rungs(name: str) -> None:
    rungs = ladder_named(name).rungs
    assert ladder_named(name).num_rungs is None
    assert [(rung.bitrate_kbps, rung.height_px) for rung in rungs] == PUBLISHED[name]
    assert {rung.codec for rung in rungs} == {"libx264"}
    assert {rung.rate_mode for rung in rungs} == {"vbr"}


def test_the_training_ladder_has_every_codec_in_both_rate_modes() -> None:
    kinds = {(rung.codec, rung.rate_mode) for rung in LADDERS["training"].rungs}
    assert kinds == {(codec, mode) for codec in CODECS for mode in ("crf", "vbr")}
    assert 4 <= (LADDERS["training"].num_rungs or 0) <= len(LADDERS["training"].rungs)


def test_the_training_ladder_has_every_codec_from_2160p_to_108p() -> None:
    for codec in CODECS:
        heights = {rung.height_px for rung in LADDERS["training"].rungs if rung.codec == codec}
        assert (max(heights), min(heights)) == (2160, 108)
        assert len(heights) == 8


def test_the_crf_sweep_has_one_size_and_one_codec() -> None:
    rungs = LADDERS["crf-sweep"].rungs
    assert {(rung.height_px, rung.codec, rung.rate_mode) for rung in rungs} == {
        (540, "libx264", "crf")
    }
    assert [rung.crf for rung in rungs] == [18, 23, 28, 33, 38, 43, 48]


# ---- files


def test_a_ladder_file_gives_its_rungs_in_order(tmp_path: Path) -> None:
    text = (
        "[[rung]]\nheight_px = 720\nbitrate_kbps = 3000\n\n"
        '[[rung]]\ncodec = "libsvtav1"\ncrf = 35\nheight_px = 540\n'
    )
    assert ladder_named(file_of(tmp_path, text)) == ladder(
        Rung(height_px=720, codec="libx264", bitrate_kbps=3000),
        Rung(height_px=540, codec="libsvtav1", crf=35),
    )


def test_a_ladder_file_may_set_every_field_of_a_rung(tmp_path: Path) -> None:
    text = """
        [[rung]]
        height_px = 720
        codec = "libx265"
        bitrate_kbps = 3000
        maxrate_kbps = 4000
        bufsize_kbps = 6000
        two_pass = true
        bit_depth = 10
        preset = "slow"
        gop_s = 4

        [[rung]]
        height_px = 540
        codec = "libsvtav1"
        crf = 35
        maxrate_kbps = 900
        preset = 6
        gop_s = 0.5
    """
    assert ladder_named(file_of(tmp_path, text)) == ladder(
        Rung(
            height_px=720, codec="libx265", bitrate_kbps=3000, maxrate_kbps=4000,
            bufsize_kbps=6000, two_pass=True, bit_depth=10, preset="slow", gop_s=4,
        ),
        Rung(height_px=540, codec="libsvtav1", crf=35, maxrate_kbps=900, preset="6", gop_s=0.5),
    )  # fmt: skip


def test_rungs_override_the_defaults_of_the_ladder_file(tmp_path: Path) -> None:
    text = """
        num_rungs = 4
        [default]
        codec = "libvpx-vp9"
        height_px = 360
        preset = 2
        [[rung]]
        crf = 20
        [[rung]]
        crf = 30
        height_px = 540
        [[rung]]
        crf = 40
        preset = 3
        [[rung]]
        crf = 40
        codec = "libsvtav1"
    """
    found = ladder_named(file_of(tmp_path, text))
    assert found.num_rungs == 4
    assert [rung.name for rung in found.rungs] == [
        "360p-crf20-vp9-2", "540p-crf30-vp9-2", "360p-crf40-vp9-3", "360p-crf40-svtav1-2",
    ]  # fmt: skip


GOOD = "[[rung]]\nheight_px = 720\ncrf = 20\n"
FOUR = "".join(f"[[rung]]\nheight_px = 720\ncrf = {crf}\n" for crf in range(20, 24))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + "[[rung]]\nheigth_px = 9\ncrf = 30\n", [
            "rung 2", "'heigth_px'", "height_px, codec, bitrate_kbps, crf"
        ]),
        (GOOD + "[[rung]]\ncrf = 30\n", ["rung 2", "height_px is missing"]),
        (GOOD + "[[rung]]\nheight_px = 540\ncrf = 99\n", ["rung 2", "99", "from 1 to 51"]),
        (GOOD + GOOD, ["720p-crf20-x264", "twice"]),
        ('[[rung]]\nheight_px = 720\ncrf = 20\ncodec = "h264"\n', [
            "rung 1", "'h264'", *CODECS
        ]),
        ('[[rung]]\nheight_px = 720\ncrf = 20\ncodec = ["libx264"]\n', ["rung 1", *CODECS]),
        ('[[rung]]\nheight_px = 720\ncrf = "20"\n', ["rung 1", "'20'", "from 1 to 51"]),
        (GOOD + "preset = \"turbo\"\n", ["rung 1", "preset is 'turbo'", "veryslow"]),
        (GOOD + "preset = 5\n", ["rung 1", "preset is '5'", "ultrafast"]),
        (GOOD + "bit_depth = 9\n", ["rung 1", "bit_depth is 9", "8, 10"]),
        (GOOD + "gop_s = 0\n", ["rung 1", "gop_s is 0", "from 0.1 to 60"]),
        (GOOD + "two_pass = true\n", ["rung 1", "two_pass", "bitrate_kbps"]),
        (GOOD + "bitrate_kbps = 300\n", ["rung 1", "either bitrate_kbps or crf"]),
        ("[[rung]\nheight_px = 720\n", ["cannot be read"]),
        ("", ["[[rung]]"]),
        ("rung = []\n", ["[[rung]]"]),
        ("rung = [720]\n", ["rung 1", "not a table but 720"]),
        ("[rung]\nheight_px = 720\ncrf = 20\n", ["[[rung]]"]),
        ("rungs = 3\n" + GOOD, ["unknown key 'rungs'", "num_rungs, default, rung"]),
        ("default = 3\n" + GOOD, ["default", "not a table but 3"]),
        ("[default]\nheight = 720\n" + GOOD, ["default", "unknown key 'height'", "height_px"]),
        ("[default]\ngop_s = 99\n" + GOOD, ["rung 1", "gop_s is 99", "from 0.1 to 60"]),
        ("[default]\nbitrate_kbps = 300\n" + GOOD, ["rung 1", "either bitrate_kbps or crf"]),
        ("num_rungs = 3\n" + FOUR, ["num_rungs is 3", "from 4 to the 4 rungs"]),
        ("num_rungs = 5\n" + FOUR, ["num_rungs is 5", "from 4 to the 4 rungs"]),
        ("num_rungs = 4.0\n" + FOUR, ["num_rungs is 4.0", "whole number"]),
        ("num_rungs = true\n" + FOUR, ["num_rungs is True", "whole number"]),
        ('num_rungs = "4"\n' + FOUR, ["num_rungs is '4'", "whole number"]),
    ],
)  # fmt: skip
def test_an_invalid_ladder_file_is_refused_with_file_rung_and_allowed_values(
    tmp_path: Path, text: str, says: list[str]
) -> None:
    file = file_of(tmp_path, text)
    with pytest.raises(LadderFileError) as error:
        ladder_named(file)
    for words in [file, *says]:
        assert words in str(error.value)


def test_a_missing_or_binary_ladder_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LadderFileError, match=r"gone\.toml"):
        ladder_named(str(tmp_path / "gone.toml"))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00rung")
    with pytest.raises(LadderFileError, match=r"binary\.toml"):
        ladder_named(str(tmp_path / "binary.toml"))


def test_an_unknown_ladder_name_is_refused_with_the_known_names() -> None:
    with pytest.raises(LadderFileError) as error:
        ladder_named("apple")
    assert all(name in str(error.value) for name in LADDERS)


# ---- codecs and sources


def test_with_codecs_repeats_every_rung_for_every_codec() -> None:
    some = Ladder(
        (Rung(height_px=720, bitrate_kbps=3000), Rung(height_px=540, bitrate_kbps=900)), num_rungs=4
    )
    chosen = with_codecs(some, ["libx265", "libsvtav1"])
    assert [rung.name for rung in chosen.rungs] == [
        "720p-3000k-x265", "720p-3000k-svtav1", "540p-900k-x265", "540p-900k-svtav1",
    ]  # fmt: skip
    assert chosen.num_rungs == 4
    assert with_codecs(some, []) == some


def test_with_codecs_converts_the_crf_to_the_scale_of_the_codec() -> None:
    # 51 is x264's last, 63 is AV1's and VP9's: 34 / 51 = 42 / 63
    (rung,) = with_codecs(ladder(Rung(height_px=720, crf=34)), ["libsvtav1"]).rungs
    assert rung.crf == 42
    for crf in range(1, 52):
        with_codecs(ladder(Rung(height_px=720, crf=crf)), CODECS)  # none leaves its scale
    for crf in range(1, 64):
        with_codecs(ladder(Rung(height_px=720, crf=crf, codec="libvpx-vp9")), CODECS)


def test_with_codecs_gives_each_rung_once() -> None:
    mixed = ladder(Rung(height_px=540, crf=51), Rung(height_px=540, crf=63, codec="libsvtav1"))
    assert with_codecs(mixed, ["libx264", "libx264"]).rungs == mixed.rungs[:1]


def test_with_codecs_keeps_a_preset_only_for_its_own_codec() -> None:
    slow = ladder(Rung(height_px=540, crf=30, preset="slow", bit_depth=10, gop_s=4))
    names = [rung.name for rung in with_codecs(slow, ["libx264", "libvpx-vp9"]).rungs]
    assert names == ["540p-crf30-x264-10bit-slow-gop4s", "540p-crf37-vp9-10bit-gop4s"]


def test_with_codecs_refuses_a_rate_mode_that_the_codec_lacks() -> None:
    capped = ladder(Rung(height_px=540, bitrate_kbps=900, maxrate_kbps=1200))
    with pytest.raises(LadderFileError, match=r"540p-900k-max1200k-x264 .*with libsvtav1.*crf"):
        with_codecs(capped, ["libx265", "libsvtav1"])


def test_rungs_larger_than_the_source_are_left_out() -> None:
    apple = LADDERS["apple-hls"]
    assert {rung.height_px for rung in fitting(apple, (1280, 720))} == {234, 360, 432, 540, 720}
    assert fitting(apple, (720, 1280)) == fitting(apple, (1280, 720))
    assert fitting(apple, (1920, 1080)) == apple.rungs
    assert fitting(apple, (320, 180)) == ()


# ---- former keys


def test_the_former_keys_of_a_ladder_file_are_read_with_a_warning(tmp_path: Path) -> None:
    text = f"points = 4\n[default]\nlaundered_crf = 14\n{FOUR}"
    with pytest.warns(FutureWarning) as warned:
        found = ladder_named(file_of(tmp_path, text))
    messages = sorted(str(warning.message) for warning in warned)
    assert len(messages) == 2
    assert "my.toml: the key laundered_crf is called reencode_crf now" in messages[0]
    assert "my.toml: the key points is called num_rungs now" in messages[1]
    assert found.num_rungs == 4
    assert {rung.reencode_crf for rung in found.rungs} == {14}


def test_a_former_key_together_with_its_new_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LadderFileError, match="points is the old name of num_rungs"):
        ladder_named(file_of(tmp_path, f"points = 4\nnum_rungs = 4\n{FOUR}"))
