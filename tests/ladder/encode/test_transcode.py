"""Arguments of ffmpeg for encodes of one source, by value, and progress."""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ladder.codecs import CODECS
from ladder.encode.rungs import GOP_S, Rung
from ladder.encode.transcode import shell_command, transcode, transcode_args
from ladder.errors import LadderError
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import Hdr, VideoInfo, probe

OUT = Path("/out/e.mp4.part")


@pytest.fixture
def info(source_video: Path) -> VideoInfo:
    return dataclasses.replace(probe(source_video), path=Path("/films/in.mp4"))


def pairs_of(args: Sequence[str]) -> dict[str, str]:
    """Output options by name."""
    between = args[args.index("-map") :]
    return {
        name: value for name, value in pairwise(between) if name[:1] == "-" and name[1:2].isalpha()
    }


def options(source: VideoInfo, rung: Rung, **asked: Any) -> dict[str, str]:
    return pairs_of(transcode_args(source, {OUT: rung}, **asked))


def graph_of(args: Sequence[str]) -> str:
    return args[args.index("-filter_complex") + 1]


# ---- rate

RATE_OPTIONS = {"-crf", "-b:v", "-maxrate", "-bufsize"}
CAPPED = {"-maxrate": "500k", "-bufsize": "500k"}
VBR = {"-b:v": "300k", "-maxrate": "600k", "-bufsize": "600k"}
TIGHT = {"-b:v": "300k", "-maxrate": "400k", "-bufsize": "800k"}


@pytest.mark.parametrize(
    ("codec", "spending", "rate"),
    [
        ("libx264", {"crf": 30}, {"-crf": "30"}),
        ("libx265", {"crf": 30}, {"-crf": "30"}),
        ("libsvtav1", {"crf": 30}, {"-crf": "30"}),
        ("libvpx-vp9", {"crf": 30}, {"-crf": "30", "-b:v": "0"}),  # else the CRF is only a cap
        ("libx264", {"crf": 30, "maxrate_kbps": 500}, {"-crf": "30", **CAPPED}),
        ("libx265", {"crf": 30, "maxrate_kbps": 500}, {"-crf": "30", **CAPPED}),
        ("libsvtav1", {"crf": 30, "maxrate_kbps": 500}, {"-crf": "30", **CAPPED}),
        ("libvpx-vp9", {"crf": 30, "maxrate_kbps": 500}, {"-crf": "30", "-b:v": "500k"}),
        (
            "libx264",
            {"crf": 30, "maxrate_kbps": 500, "bufsize_kbps": 900},
            {"-crf": "30", "-maxrate": "500k", "-bufsize": "900k"},
        ),
        ("libx264", {"bitrate_kbps": 300}, VBR),
        ("libx265", {"bitrate_kbps": 300}, VBR),
        ("libsvtav1", {"bitrate_kbps": 300}, {"-b:v": "300k"}),  # it takes a cap in CRF alone
        ("libvpx-vp9", {"bitrate_kbps": 300}, VBR),
        ("libx264", {"bitrate_kbps": 300, "maxrate_kbps": 400, "bufsize_kbps": 800}, TIGHT),
        ("libx265", {"bitrate_kbps": 300, "maxrate_kbps": 400, "bufsize_kbps": 800}, TIGHT),
        ("libvpx-vp9", {"bitrate_kbps": 300, "maxrate_kbps": 400, "bufsize_kbps": 800}, TIGHT),
    ],
)
def test_each_codec_gets_its_own_rate_options(
    info: VideoInfo, codec: str, spending: Mapping[str, int], rate: dict[str, str]
) -> None:
    rung = Rung(height_px=64, codec=codec, **spending)  # type: ignore[arg-type]
    args = transcode_args(info, {OUT: rung}, threads=8)
    given = pairs_of(args)
    assert {name: given[name] for name in RATE_OPTIONS & set(given)} == rate
    assert given["-c:v"] == codec
    assert given["-fps_mode"] == "passthrough"
    assert given["-map_metadata"] == "-1"
    assert given["-f"] == "mp4"  # the suffix is .part
    assert not {"-pass", "-passlogfile"} & set(given)
    assert {"-xerror", "-y"} <= set(args)


@pytest.mark.parametrize("codec", CODECS)
def test_two_passes_share_a_log_and_the_first_writes_no_file(info: VideoInfo, codec: str) -> None:
    rung = Rung(height_px=64, codec=codec, bitrate_kbps=300, two_pass=True)
    single = options(info, dataclasses.replace(rung, two_pass=False))
    runs = [transcode_args(info, {OUT: rung}, pass_number=number) for number in (1, 2)]
    given = [pairs_of(args) for args in runs]
    assert [each["-f"] for each in given] == ["null", "mp4"]
    assert [args[-1] for args in runs] == ["-", f"file:{OUT}"]
    for number, each in enumerate(given, 1):
        if codec == "libx265":  # it has no -pass
            passes = f":pass={number}:stats=pass.log"
            assert each["-x265-params"] == single["-x265-params"] + passes
            assert "-pass" not in each
        else:
            assert (each["-pass"], each["-passlogfile"]) == (str(number), "pass")
        # the first pass that differs from the second in anything else misleads it
        own = {"-f", "-pass", "-passlogfile", "-x265-params"}
        assert {k: v for k, v in each.items() if k not in own} == {
            k: v for k, v in single.items() if k not in own
        }


def test_only_a_two_pass_command_runs_in_a_temporary_folder(
    info: VideoInfo, ffmpeg: Ffmpeg
) -> None:
    rung = Rung(height_px=64, bitrate_kbps=300)
    assert shell_command(info, {OUT: rung}, (), ffmpeg).startswith(f"{ffmpeg.path} -xerror -y ")
    twice = dataclasses.replace(rung, two_pass=True)
    command = shell_command(info, {OUT: twice}, (), ffmpeg)
    assert command.startswith(f'(cd "$(mktemp -d)" && {ffmpeg.path} ')
    assert command.count(ffmpeg.path) == 2
    assert command.index("-pass 1") < command.index(" && ", 30) < command.index("-pass 2")


# ---- picture


def test_input_and_output_are_file_urls_for_any_name(info: VideoInfo) -> None:
    odd = dataclasses.replace(info, path=Path("/films/-i http:[0:v],x'.mp4"))
    args = transcode_args(odd, {Path("/out/a b.mp4.part"): Rung(height_px=48, crf=40)})
    assert args[args.index("-i") + 1] == "file:/films/-i http:[0:v],x'.mp4"
    assert "file:/out/a b.mp4.part" in args
    assert args[args.index("-protocol_whitelist") + 1] == "file,crypto,data"
    assert "films" not in graph_of(args)


def test_the_picture_is_scaled_bicubic_to_limited_range_and_square_pixels(info: VideoInfo) -> None:
    args = transcode_args(info, {OUT: Rung(height_px=64, crf=30)})
    assert graph_of(args) == (
        "[0:0]setpts=PTS-STARTPTS[s0];[s0]scale=114:64:flags=bicubic:in_range=auto:out_range=tv[s1];"
        "[s1]setsar=1[s2];[s2]format=yuv420p[s3]"
    )
    assert pairs_of(args)["-map"] == "[s3]"


def test_several_encodes_share_one_input_and_each_gets_its_own_settings(info: VideoInfo) -> None:
    outputs = {
        Path(f"/out/{height}.mp4"): Rung(height_px=height, crf=height) for height in (32, 48)
    }
    args = transcode_args(info, outputs, threads=8)
    assert args.count("-i") == 1
    assert graph_of(args).startswith("[0:0]setpts=PTS-STARTPTS[s0];[s0]split=2")
    assert [args[i + 1] for i, arg in enumerate(args) if arg == "-crf"] == ["32", "48"]
    assert [arg for arg in args if arg.startswith("file:/out")] == [f"file:{o}" for o in outputs]
    # x264 spends its bits differently with another number of threads
    alone = options(info, outputs[Path("/out/32.mp4")], threads=8)["-threads"]
    assert {args[i + 1] for i, arg in enumerate(args[args.index("-map") :], args.index("-map"))
            if arg == "-threads"} == {alone} == {"2"}  # fmt: skip


def test_an_interlaced_source_is_deinterlaced_to_as_many_frames(info: VideoInfo) -> None:
    fields = dataclasses.replace(info, is_interlaced=True)
    graph = graph_of(transcode_args(fields, {OUT: Rung(height_px=48, crf=40)}))
    assert graph.startswith("[0:0]bwdif=")
    assert "mode=send_frame" in graph  # one frame out for one frame in: labels count on it


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    ("source_bits", "bit_depth", "pix_fmt"),
    [
        (8, None, "yuv420p"),
        (10, None, "yuv420p10le"),
        (12, None, "yuv420p10le"),
        (10, 8, "yuv420p"),
        (8, 10, "yuv420p10le"),
    ],
)
def test_the_bit_depth_is_that_of_the_rung_or_of_the_source(
    info: VideoInfo, codec: str, source_bits: int, bit_depth: int | None, pix_fmt: str
) -> None:
    source = dataclasses.replace(info, bit_depth=source_bits)
    rung = Rung(height_px=48, crf=40, codec=codec, bit_depth=bit_depth)
    args = transcode_args(source, {OUT: rung})
    assert f"format={pix_fmt}[" in graph_of(args)
    assert pairs_of(args)["-pix_fmt"] == pix_fmt


def test_an_8_bit_rung_of_an_hdr_source_is_refused_with_alternatives(info: VideoInfo) -> None:
    hdr = dataclasses.replace(info, bit_depth=10, hdr=Hdr.PQ)
    rung = Rung(height_px=48, crf=40, bit_depth=8)
    with pytest.raises(LadderError, match=r"HDR \(pq\).*48p-crf40-x264-8bit.*bit_depth") as error:
        transcode_args(hdr, {OUT: rung})
    assert str(hdr.path) in str(error.value)
    for fits in (None, 10):
        transcode_args(hdr, {OUT: dataclasses.replace(rung, bit_depth=fits)})


# ---- effort and key frames


OTHER_PRESET = {"libx264": "veryslow", "libsvtav1": "12", "libvpx-vp9": "7"}


DEFAULT_PRESET = {name: codec.default_preset for name, codec in CODECS.items()}


@pytest.mark.parametrize(("codec", "preset"), [*DEFAULT_PRESET.items(), *OTHER_PRESET.items()])
def test_each_codec_gets_its_own_preset_options(info: VideoInfo, codec: str, preset: str) -> None:
    asked = None if preset == DEFAULT_PRESET[codec] else preset
    given = options(info, Rung(height_px=48, crf=40, codec=codec, preset=asked))
    if codec == "libvpx-vp9":
        assert (given["-cpu-used"], given["-deadline"], given["-row-mt"]) == (preset, "good", "1")
        assert "-preset" not in given
    else:
        assert given["-preset"] == preset


@pytest.mark.parametrize(
    ("fps", "gop_s", "frames"),
    [
        (Fraction(25), GOP_S, 50),
        (Fraction(30000, 1001), GOP_S, 60),
        (Fraction(60), GOP_S, 120),
        (Fraction(24), GOP_S, 48),
        (Fraction(25), 4, 100),
        (Fraction(24000, 1001), 0.5, 12),
        (Fraction(1), 0.1, 1),  # never none
    ],
)
def test_the_distance_of_key_frames_is_two_seconds_by_default(
    info: VideoInfo, fps: Fraction, gop_s: float, frames: int
) -> None:
    assert GOP_S == 2
    source = dataclasses.replace(info, fps=fps)
    by_codec = {
        codec: options(source, Rung(height_px=64, codec=codec, crf=30, gop_s=gop_s))
        for codec in CODECS
    }
    x264 = by_codec["libx264"]
    assert x264["-g"] == x264["-keyint_min"] == str(frames)
    assert (x264["-sc_threshold"], x264["-flags"]) == ("0", "+cgop")
    assert by_codec["libx265"]["-x265-params"].startswith(
        f"keyint={frames}:min-keyint={frames}:scenecut=0:open-gop=0"
    )
    assert by_codec["libsvtav1"]["-g"] == by_codec["libvpx-vp9"]["-g"] == str(frames)


# ---- what comes out


def test_progress_grows_to_1_over_both_passes(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    shares: list[float] = []
    rung = Rung(height_px=48, bitrate_kbps=60, two_pass=True)
    outputs = {tmp_path / "e.mp4": rung}
    transcode(probe(source_video), outputs, (), ffmpeg, on_share=shares.append)
    assert shares == sorted(shares)
    assert shares[0] <= 0.5 < shares[-1] <= 1
    assert list(tmp_path.iterdir()) == [tmp_path / "e.mp4"]  # the log of the passes is gone
