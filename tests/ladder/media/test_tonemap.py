"""Tone mapping: numpy gives what ffmpeg's filters give, and files are read as they are tagged."""

import math
from pathlib import Path

import numpy as np
import pytest

from ladder.errors import CapabilityError
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.filters import compile_arguments, output, video_input
from ladder.media.probe import Hdr, VideoInfo, probe
from ladder.media.tonemap import to_sdr
from ladder.media.upright import Pixels
from tests.conftest import EXACT, MakeVideo
from tests.hdr import TRANSFERS, as_hdr

SIZE = (192, 108)


def by_ffmpeg(info: VideoInfo, ffmpeg: Ffmpeg, folder: Path) -> Pixels:
    """The first frame of a video as ffmpeg's own filters tone-map it."""
    scale = {"in_color_matrix": "bt709", "in_range": "tv", "out_range": "pc"}
    exact = "bicubic+accurate_rnd+full_chroma_int"
    rgb = video_input(info).filter("scale", flags=exact, **scale).filter("format", "rgb24")
    run(ffmpeg, compile_arguments([output(rgb, folder / "rgb", format="rawvideo", vframes=1)]))
    return np.fromfile(folder / "rgb", np.uint8).reshape(SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("hdr", list(TRANSFERS))
def test_both_ways_give_the_same_picture_which_is_like_the_one_before_hdr(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, hdr: str
) -> None:
    smooth = "gradients=size=192x108:rate=25:duration=0.12:seed=1:c0=0xc09070:c1=0x30405a"
    sdr = make_video("gradients.mp4", smooth, EXACT)
    info = probe(as_hdr(make_video, sdr, hdr), tonemap=True)
    assert (info.hdr, info.hdr_of_frames, info.is_tonemapped) == (hdr, "", True)
    (ours,) = frames_at(info, [0.0], SIZE).astype(int)
    assert np.abs(ours - by_ffmpeg(info, ffmpeg, tmp_path)).mean() < 1.5  # of 255
    (before,) = frames_at(probe(sdr), [0.0], SIZE).astype(int)
    (untouched,) = frames_at(probe(info.path), [0.0], SIZE).astype(int)
    error, wrong = np.abs(ours - before).mean(), np.abs(untouched - before).mean()
    assert error < wrong / 2


def test_dark_tones_are_kept_and_bright_ones_end_at_the_peak() -> None:
    """Codes of BT.2100: PQ 0.5807 is 203 cd/m2, 0.7518 is 1000 cd/m2; HLG 1 is the peak."""

    def grey(code: float, hdr: Hdr) -> int:
        picture = np.full((1, 1, 3), round(code * 65535), np.uint16)
        (value,) = np.unique(to_sdr(picture, hdr))
        return int(value)

    def sdr(light: float) -> int:
        return round(255 * math.pow(light, 1 / 2.4))

    assert grey(0, Hdr.PQ) == grey(0, Hdr.HLG) == 0
    assert grey(0.7518, Hdr.PQ) == grey(1, Hdr.PQ) == grey(1, Hdr.HLG) == 255
    assert grey(0.4401, Hdr.PQ) == sdr(50 / 203)  # 50 cd/m2, below the knee
    assert sdr(0.7) < grey(0.5807, Hdr.PQ) < sdr(0.8)  # white makes room for what is brighter
    levels = [grey(code / 100, Hdr.PQ) for code in range(76)]
    assert levels == sorted(levels)


@pytest.mark.parametrize("hdr", list(TRANSFERS))
def test_the_tags_of_a_container_suffice(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, hdr: str
) -> None:
    tagged = as_hdr(make_video, source_video, hdr)
    vui = "colour_primaries=2:transfer_characteristics=2:matrix_coefficients=2"
    bare = ("-map", "0:v", "-c", "copy", "-bsf:v", f"hevc_metadata={vui}")
    stripped = make_video(f"{hdr}-stripped.mkv", tagged, (*bare, "-color_trc", TRANSFERS[hdr]))
    info = probe(stripped, tonemap=True)
    assert info.is_tonemapped
    expected = probe(tagged, tonemap=True)
    np.testing.assert_array_equal(frames_at(info, [0], SIZE), frames_at(expected, [0], SIZE))
    np.testing.assert_array_equal(
        by_ffmpeg(info, ffmpeg, tmp_path), by_ffmpeg(expected, ffmpeg, tmp_path)
    )


def test_sdr_is_left_alone(make_video: MakeVideo) -> None:
    plain = make_video("plain-sdr.mp4", "testsrc2=size=96x64:rate=25:duration=0.2", EXACT)
    assert probe(plain, tonemap=True) == probe(plain)


def test_an_ffmpeg_without_zscale_is_refused(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ffmpeg.require_filters(("zscale", "tonemap"))
    small = tmp_path / "ffmpeg"
    small.write_text('#!/bin/sh\necho " ... tonemap  V->V  Map."\n')
    small.chmod(0o755)
    with pytest.raises(CapabilityError, match="no filter zscale: install"):
        Ffmpeg(str(small), "option").require_filters(("zscale", "tonemap"))
