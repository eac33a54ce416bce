"""How ffmpeg converts frame rates: the frames that it shows, and those that we pair with."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ladder.label.pairing import (
    Conversion,
    Pairing,
    conversion_of,
    conversions_by_time,
    paired_source,
    partners,
)
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.filters import compile_arguments, output, video_input
from ladder.media.lengths import count_frames, frame_lasts, frame_times, start_gap
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo

BITS = "geq=lum='if(mod(floor(N/pow(2,floor(X/8))),2),200,40)':cb=128:cr=128"
COUNT = 50


def numbers_shown(path: Path, ffmpeg: Ffmpeg, folder: Path) -> list[int]:
    """The numbers that the frames of a video have as their picture."""
    raw = folder / "raw.gray"
    options = ("-pix_fmt", "gray", "-f", "rawvideo", "-fps_mode", "passthrough")
    run(ffmpeg, ["-i", file_url(path), *options, "-y", file_url(raw)])
    middle = np.fromfile(raw, np.uint8).reshape(-1, 64, 64)[:, 32, 4::8]
    return [int(np.packbits(row > 120, bitorder="little")[0]) for row in middle]


@pytest.mark.parametrize("how", ["-vf", "-r"])
@pytest.mark.parametrize(
    ("rate", "new_rate"),
    [("24", "30"), ("60", "30"), ("25", "50"), ("30", "24"), ("24000/1001", "30"), ("25", "24")],
)
def test_each_frame_is_paired_with_the_one_that_ffmpeg_shows(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, rate: str, new_rate: str, how: str
) -> None:
    name = rate.replace("/", "-")
    scene = f"nullsrc=size=64x64:rate={rate},format=yuv420p,{BITS}"
    source = make_video(f"counted-{name}.mp4", scene, ("-frames:v", str(COUNT), *EXACT))
    args = (how, f"fps={new_rate}" if how == "-vf" else new_rate, *EXACT)
    encode = make_video(f"counted-{name}-{new_rate}{how}.mp4", source, args)
    ratio = Fraction(new_rate) / Fraction(rate)
    count = count_frames(encode)
    conversion = conversion_of(COUNT, count, ratio)
    assert (conversion == Conversion.DROP) == (how == "-r" and ratio < 1)
    pairing = Pairing(frames_source=COUNT, frames_encode=count, conversion=conversion, ratio=ratio)
    fps = Fraction(rate)
    ours = partners(pairing, frame_times(source, fps), [], fps)
    shown = numbers_shown(encode, ffmpeg, tmp_path)
    # at its end, where frames are left over, -r shows what it has
    assert ours[: count - 2].tolist() == shown[: count - 2]


UNEVEN = {
    "dropped": "select='gt(random(7),0.3)'",
    "jitter": "setpts='PTS+(random(3)-0.5)*0.02/TB'",
    "pauses": "setpts='PTS+(0.41*gt(N,10)+0.63*gt(N,30))/TB'",
}


@pytest.mark.parametrize("new_rate", ["15", "25", "60"])
@pytest.mark.parametrize("how", ["-vf", "-r"])
@pytest.mark.parametrize(
    ("uneven", "name"), [("dropped", "b.mp4"), ("jitter", "b.mkv"), ("pauses", "b-late.mp4")]
)
def test_each_frame_of_a_variable_rate_is_paired_with_the_one_that_ffmpeg_shows(
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    uneven: str,
    name: str,
    how: str,
    new_rate: str,
) -> None:
    scene = f"nullsrc=size=64x64:rate=30,format=yuv420p,{BITS},settb=1/90000,{UNEVEN[uneven]}"
    # MP4 states how long frames last in the order they are decoded, Matroska one length for all
    timed = ("-fps_mode", "vfr", "-enc_time_base", "1:90000", "-x264-params", "b-adapt=0:bframes=3")
    coder = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p", *timed)
    source = make_video(f"counted-{uneven}.{name[-3:]}", scene, ("-frames:v", "50", *coder))
    if "late" in name:
        sound = ("-f", "lavfi", "-i", "sine=d=2", "-itsoffset", "0.02")
        both = ("-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", "pcm_s16le", "-f", "mov")
        source = make_video(f"counted-{uneven}-late.mp4", source, both, sound)
    gap_s = start_gap(source)
    assert (gap_s > 0) == ("late" in name)
    info = probe(source)
    own = numbers_shown(source, ffmpeg, tmp_path)
    args = (how, f"fps={new_rate}" if how == "-vf" else new_rate, *EXACT, "-an")
    encode = make_video(f"counted-{uneven}-{name[2:-4]}-{new_rate}{how}.mp4", source, args)
    shown = numbers_shown(encode, ffmpeg, tmp_path)
    stated = Pairing(
        frames_source=len(own), frames_encode=len(shown), ratio=Fraction(new_rate) / info.fps
    )
    times, lasts = frame_times(source, info.fps), frame_lasts(source)
    by_fps, by_r = conversions_by_time(stated, times, lasts, info.fps, gap_s)
    pairing = by_fps if how == "-vf" else by_r
    ours = partners(pairing, times, [], info.fps)
    assert [own[min(number, len(own) - 1)] for number in ours] == shown
    # and so does the graph
    converted = tmp_path / "converted.mkv"
    stream = paired_source(video_input(info), info, pairing)
    lossless = {"vcodec": "ffv1", "fps_mode": "passthrough"}
    run(ffmpeg, compile_arguments([output(stream, converted, **lossless)]))
    graphs = numbers_shown(converted, ffmpeg, tmp_path)
    assert graphs[: len(shown)] == shown


def test_halves_go_up_or_down() -> None:
    pairing = Pairing(frames_source=9, frames_encode=10, ratio=Fraction(5, 4))
    shown = {}
    for conversion in (Conversion.UP, Conversion.DOWN):
        given = Pairing(**{**vars(pairing), "conversion": conversion})
        shown[conversion] = partners(given, [], [], Fraction(24)).tolist()
    assert shown[Conversion.UP] == [0, 1, 1, 2, 3, 4, 5, 5, 6, 7]
    assert shown[Conversion.DOWN] == [0, 1, 2, 2, 3, 4, 5, 6, 6, 7]


def test_by_time_each_frame_has_the_nearest() -> None:
    pairing = Pairing(frames_source=4, frames_encode=3)
    times = [0.0, 0.04, 0.08, 0.12]
    assert partners(pairing, times, [0.0, 0.05, 0.12], Fraction(25)).tolist() == [0, 1, 3]
    late = Pairing(frames_source=4, frames_encode=5)  # beyond the end they are counted on
    seconds = [0.0, 0.08, 0.12, 0.16, 0.24]
    assert partners(late, times, seconds, Fraction(25)).tolist() == [0, 2, 3, 4, 6]


def test_a_converted_encode_with_frames_in_front_begins_where_the_pattern_does() -> None:
    pairing = Pairing(
        frames_source=96,
        frames_encode=127,
        offset=6,
        conversion=Conversion.FILE,
        ratio=Fraction(5, 4),
    )
    in_source, in_encode = pairing.skips
    assert in_encode % 5 == 0
    assert in_encode / pairing.ratio - in_source == 6
