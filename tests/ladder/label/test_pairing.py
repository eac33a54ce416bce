"""How ffmpeg converts frame rates: the frames that it shows, and those that we pair with."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ladder.label.pairing import Conversion, Pairing, conversion_of, partners
from ladder.media.ffmpeg import Ffmpeg, file_url, run
from ladder.media.lengths import count_frames, frame_times
from tests.conftest import EXACT, MakeVideo

BITS = "geq=lum='if(mod(floor(N/pow(2,floor(X/8))),2),200,40)':cb=128:cr=128"
COUNT = 50


def numbers_shown(path: Path, ffmpeg: Ffmpeg, folder: Path) -> list[int]:
    """The numbers that the frames of a video have as their picture."""
    raw = folder / "raw.gray"
    options = ("-pix_fmt", "gray", "-f", "rawvideo", "-fps_mode", "passthrough")
    run(ffmpeg, ["-i", file_url(path), *options, file_url(raw)])
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
