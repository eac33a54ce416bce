"""Encodes of `source_video` that labels are tested with, and their VMAF."""

from pathlib import Path

import pytest

from ladder.ffmpeg import Ffmpeg
from ladder.probe import count_frames, probe
from ladder.vmaf import Pairing, measure, parse_log, pool
from tests.conftest import MakeVideo

V0 = "vmaf_v0.6.1"
NEG = "vmaf_v0.6.1neg"
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-fps_mode", "passthrough")


@pytest.fixture(scope="session")
def poor(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` with all its frames, at half its size and visibly worse."""
    args = ("-vf", "scale=96:54:flags=bicubic,setsar=1", "-crf", "32", *X264)
    return make_video("poor.mp4", source_video, args)


@pytest.fixture(scope="session")
def coarse(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` at its own size and visibly worse."""
    return make_video("coarse.mp4", source_video, ("-crf", "36", *X264))


@pytest.fixture(scope="session")
def late(make_video: MakeVideo, source_video: Path) -> Path:
    """`source_video` without its first frame."""
    args = ("-vf", "trim=start_frame=1,setpts=PTS-STARTPTS", "-crf", "26", *X264)
    return make_video("late.mp4", source_video, args)


def vmaf(
    encode: Path, source: Path, ffmpeg: Ffmpeg, pairing: Pairing | None = None, subsample: int = 1
) -> float:
    by = pairing or Pairing(frames_source=count_frames(source), frames_encode=count_frames(encode))
    log = measure(probe(encode), probe(source), by, [V0], ffmpeg, subsample=subsample)
    return pool(parse_log(log).metrics["vmaf_v0_6_1"]).mean
