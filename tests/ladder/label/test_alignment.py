"""The offset between an encode and its source."""

from pathlib import Path

import numpy as np
import pytest

from ladder.label.alignment import frame_offset, opening_frames
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange
from ladder.media.upright import Pixels
from tests.conftest import EXACT, MakeVideo
from tests.ladder.conftest import X264


def offset(encode: Path, source: Path) -> int:
    return frame_offset(opening_frames(probe(encode)), opening_frames(probe(source)))


def test_a_dropped_first_frame_is_found_in_encode_or_source(late: Path, source_video: Path) -> None:
    assert offset(late, source_video) == -1  # the encode leads
    assert offset(source_video, late) == 1


def test_two_dropped_frames_are_found_too(make_video: MakeVideo, source_video: Path) -> None:
    args = ("-vf", "trim=start_frame=2,setpts=PTS-STARTPTS", "-crf", "26", *X264)
    later = make_video("later.mp4", source_video, args)
    assert offset(later, source_video) == -2


def test_an_aligned_encode_has_no_offset(poor: Path, coarse: Path, source_video: Path) -> None:
    for encode in (poor, coarse, source_video):
        assert offset(encode, source_video) == 0


def test_a_still_scene_has_no_offset(make_video: MakeVideo) -> None:
    still = "testsrc2=size=96x64:rate=25:duration=0.04,loop=loop=23:size=1,setpts=N/25/TB"
    source = make_video("still.mp4", still, ("-frames:v", "24", *EXACT))
    encode = make_video("still-encode.mp4", source, ("-crf", "35", *X264))
    assert offset(encode, source) == 0


def test_a_very_short_clip_has_no_offset(make_video: MakeVideo, source_video: Path) -> None:
    short = make_video("four.mp4", source_video, ("-frames:v", "4", *EXACT))
    assert offset(short, short) == 0


def moving(count: int) -> Pixels:
    """Frames of noise, each unlike any other."""
    return np.random.default_rng(7).integers(16, 235, (count, 90, 160)).astype(np.uint8)


@pytest.mark.parametrize("lag", range(-8, 9))
def test_any_offset_up_to_eight_frames_is_found_exactly(lag: int) -> None:
    frames = moving(56)
    encoded, original = frames[max(0, -lag) :], frames[max(0, lag) :]
    assert frame_offset(encoded[:48], original[:48]) == lag


def test_an_offset_of_more_than_eight_frames_is_not_reported() -> None:
    frames = moving(64)
    assert frame_offset(frames[9:57], frames[:48]) == 0


def test_an_offset_needs_a_clearly_smaller_error() -> None:
    frames = moving(40)
    half_way = (frames[1:].astype(np.int16) + frames[:-1]) // 2  # as near to the next as to this
    assert frame_offset(half_way.astype(np.uint8), frames[:-1]) == 0


def test_the_opening_frames_stay_inside_the_first_time_range(
    source_video: Path,
) -> None:
    info = probe(source_video)
    whole = opening_frames(info)
    assert whole.shape == (24, 90, 160)
    time_range = TimeRange(0.2, 0.4)
    np.testing.assert_array_equal(opening_frames(info, (time_range,)), whole[5:15])
    np.testing.assert_array_equal(
        opening_frames(info, (time_range, TimeRange(0.72, 0.2))), whole[5:15]
    )
