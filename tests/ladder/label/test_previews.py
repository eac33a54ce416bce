"""Previews are those of the frames that they are numbered after."""

from fractions import Fraction
from pathlib import Path

import pytest

from ladder.label.libvmaf import write_previews
from ladder.label.pairing import Pairing
from ladder.label.previews import PreviewFiles, Previews
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo

COUNT = 900


def frames_of(previews: Previews) -> list[int]:
    """The numbers that the planes show, of 50."""
    levels = previews.planes.astype(float).mean(1) * 219 / 255  # of limited range
    return [round(level / 4) for level in levels]


@pytest.mark.parametrize(
    ("length_s", "spacing", "window", "step"),
    [(9, COUNT, COUNT, 1), (36, COUNT, COUNT, 3), (500, 781, 400, 3)],
)
def test_the_numbers_of_previews(
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    length_s: int,
    spacing: int,
    window: int,
    step: int,
) -> None:
    scene = "nullsrc=size=64x64:rate=25,format=yuv420p,geq=lum='16+4*mod(N,50)':cb=128:cr=128"
    info = probe(make_video("levels.mp4", scene, ("-frames:v", str(COUNT), *EXACT)))
    files = PreviewFiles(tmp_path, info, Fraction(length_s))
    pairing = Pairing(frames_source=COUNT, frames_encode=COUNT)
    write_previews(info, info, pairing, files, ffmpeg)
    # of the encode, nothing that lies 5 s behind the end of the source
    limit = (length_s + 5) * 25
    source, encode = files.read_source(), files.read_encode(0, info.fps)
    numbers = [number for number in range(COUNT) if number % spacing < window]
    assert source.numbers.tolist() == numbers
    assert encode.numbers.tolist() == [number for number in numbers if number < limit][::step]
    for previews in (source, encode):
        assert frames_of(previews) == [number % 50 for number in previews.numbers]
