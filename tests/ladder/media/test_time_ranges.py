"""Clips and segments: their text form, their frames, and the encodes made of these frames."""

import dataclasses
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from ladder.codecs import CODECS
from ladder.encode.plan import encodes_table
from ladder.encode.rungs import Rung
from ladder.errors import LadderError
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.lengths import frame_times
from ladder.media.probe import VideoInfo, probe
from ladder.media.time_ranges import (
    FULL,
    TimeRange,
    TrimSpec,
    format_time_ranges,
    frame_aligned,
    parse_segments,
    parse_time_range,
    parse_time_ranges,
)
from tests.conftest import MakeVideo
from tests.ladder.works import NUMBERED, made, number_of, numbered, numbers_in, planned

RUNG = Rung(height_px=NUMBERED, crf=30)
NTSC = Fraction(30000, 1001)
REAL_GOPS = ("-c:v", "libx264", "-qp", "0", "-bf", "3", "-g", "30", "-pix_fmt", "yuv420p")


@pytest.fixture
def info(source_video: Path) -> VideoInfo:
    return dataclasses.replace(probe(source_video), duration_s=60.0)


# ---- text form


@pytest.mark.parametrize(
    ("text", "time_range"),
    [
        ("30+10", TimeRange(30, 10)),
        ("0+1", TimeRange(0, 1)),
        ("0.5+2.25", TimeRange(0.5, 2.25)),
        (" 30+10 ", TimeRange(30, 10)),
    ],
)
def test_a_clip_is_start_plus_length(text: str, time_range: TimeRange) -> None:
    assert parse_time_range(text) == time_range


@pytest.mark.parametrize(
    "text",
    ["", "30", "+10", "30+", "30-10", "-1+10", "30+-1", "30+0", "30+0.0", "a+b", "1e3+1", "1+2+3",
     "30 + 10", "0:30+10", "nan+1", "30+inf", ".5+1", "30,5+1"],
)  # fmt: skip
def test_an_invalid_clip_is_an_error_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"not START\+LENGTH in seconds, such as 30\+10") as error:
        parse_time_range(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "segments"),
    [("3x10", (3, 10.0)), ("1x0.5", (1, 0.5)), ("3 x 10", (3, 10.0)), (" 2x1 ", (2, 1.0))],
)
def test_segments_are_count_times_length(text: str, segments: tuple[int, float]) -> None:
    assert parse_segments(text) == segments


@pytest.mark.parametrize(
    "text",
    ["", "3", "x10", "3x", "0x10", "3x0", "3.5x10", "-3x10", "3x-1", "3*10", "3x10x2", "ax1"],
)
def test_invalid_segments_are_an_error_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="not NxSECONDS, such as 3x10") as error:
        parse_segments(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    "time_ranges",
    [
        (),
        (TimeRange(30, 10),),
        (TimeRange(0.5, 2.25), TimeRange(7, 2.25)),
        (TimeRange(12345.678, 10),),  # three and a half hours after the start
        (TimeRange(1234.567, 1000.004),),
        (TimeRange(0.00002, 0.04),),
    ],
)
def test_a_table_cell_keeps_time_ranges_exact_to_the_frame(
    time_ranges: tuple[TimeRange, ...],
) -> None:
    assert parse_time_ranges(format_time_ranges(time_ranges)) == time_ranges
    assert format_time_ranges((TimeRange(30, 10), TimeRange(0.5, 2.25))) == "30+10 0.5+2.25"


# ---- time ranges of a source


def test_a_whole_source_has_no_time_ranges(info: VideoInfo) -> None:
    assert FULL.ranges_of(info) == ()


def test_a_clip_never_ends_after_the_source(info: VideoInfo) -> None:
    assert TrimSpec(clip=TimeRange(30, 10)).ranges_of(info) == (TimeRange(30, 10),)
    assert TrimSpec(clip=TimeRange(55, 10)).ranges_of(info) == (TimeRange(55, 5),)
    (last_frame,) = TrimSpec(clip=TimeRange(59.96, 10)).ranges_of(info)
    assert (last_frame.start_s, last_frame.length_s) == pytest.approx((59.96, 0.04))


@pytest.mark.parametrize("start_s", [59.97, 60, 61, 1e6])
def test_the_error_for_a_clip_past_the_end_has_both_times(info: VideoInfo, start_s: float) -> None:
    with pytest.raises(LadderError, match=r"is 60\.00 s long, the clip .*\+10 begins after") as e:
        TrimSpec(clip=TimeRange(start_s, 10)).ranges_of(info)
    assert str(info.path) in str(e.value)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_segments_are_evenly_spaced_with_gaps_at_both_ends(info: VideoInfo, count: int) -> None:
    time_ranges = TrimSpec(segments=(count, 4.0)).ranges_of(info)
    assert [time_range.length_s for time_range in time_ranges] == [4.0] * count
    ends = [0.0, *(t for p in time_ranges for t in (p.start_s, p.start_s + p.length_s)), 60.0]
    gaps = [after - before for before, after in list(pairwise(ends))[::2]]
    assert gaps == pytest.approx([(60 - 4 * count) / (count + 1)] * (count + 1), abs=0.002)


@pytest.mark.parametrize("segments", [(3, 20.0), (1, 60.0), (2, 45.0), (100, 10.0)])
def test_a_source_no_longer_than_its_segments_is_encoded_whole(
    info: VideoInfo, segments: tuple[int, float]
) -> None:
    assert TrimSpec(segments=segments).ranges_of(info) == ()


@pytest.mark.parametrize(
    "trim", [TrimSpec(clip=TimeRange(0, 1)), TrimSpec(segments=(2, 1.0))], ids=str
)
def test_the_error_for_trimming_a_stream_without_timestamps_names_the_remedy(
    info: VideoInfo, trim: TrimSpec
) -> None:
    bare = dataclasses.replace(info, is_bare=True)
    with pytest.raises(LadderError, match=r"no timestamps.*-c copy"):
        trim.ranges_of(bare)
    assert FULL.ranges_of(bare) == ()
    assert TrimSpec(segments=(2, 30.0)).ranges_of(bare) == ()


# ---- frames of a time range


@pytest.mark.parametrize(
    ("time_range", "fps", "first", "count"),
    [
        (TimeRange(0, 1), Fraction(25), 0, 25),
        (TimeRange(1, 1), Fraction(25), 25, 25),
        (TimeRange(0.02, 1), Fraction(25), 1, 25),  # begins inside frame 0: starts with frame 1
        (TimeRange(0.04, 0.01), Fraction(25), 1, 1),  # at least one
        (TimeRange(1.2, 0.36), Fraction(25), 30, 9),  # 1.2 * 25 is a little above 30 in floats
        (TimeRange(1, 1), NTSC, 30, 30),  # 29.97
        (TimeRange(2.002, 1.001), NTSC, 60, 30),
        (TimeRange(10, 10), NTSC, 300, 300),  # 299.7 and 299.7
        (TimeRange(1 / 3, 0.1), Fraction(60), 20, 6),
    ],
)
def test_a_time_range_begins_and_ends_half_a_frame_before_a_frame(
    time_range: TimeRange, fps: Fraction, first: int, count: int
) -> None:
    start, length = frame_aligned(time_range, fps)
    assert start == max(0, (first - Fraction(1, 2)) / fps)
    assert start + length == (first + count - Fraction(1, 2)) / fps


@pytest.mark.parametrize("fps", [Fraction(25), NTSC, Fraction(24000, 1001), Fraction(60)], ids=str)
def test_the_number_of_frames_in_a_time_range_does_not_depend_on_its_start(fps: Fraction) -> None:
    frames = range(10 * 60)
    for step in range(150):
        start, length = frame_aligned(TimeRange(step * 0.037, 1.5), fps)
        # Matroska rounds to milliseconds
        times = [Fraction(round(1000 * n / fps), 1000) for n in frames]
        inside = [
            n for n, time in zip(frames, times, strict=True) if start <= time < start + length
        ]
        assert len(inside) == round(Fraction(1.5) * fps)
        assert inside == list(range(inside[0], inside[-1] + 1))
        assert inside[0] / fps >= step * 0.037 - 0.001


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("rate", "fps"), [("25", Fraction(25)), ("30000/1001", NTSC)])
@pytest.mark.parametrize(
    "time_range", [TimeRange(0, 0.4), TimeRange(1.3, 0.52), TimeRange(2.01, 0.5)], ids=str
)
def test_a_clip_has_exactly_the_frames_of_its_time_range(
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    suffix: str,
    rate: str,
    fps: Fraction,
    time_range: TimeRange,
) -> None:
    """The times lie between key frames, and the source has reordered frames."""
    name = f"gops-{fps.numerator}.{suffix}"
    source = numbered(make_video, name, rate, args=REAL_GOPS)
    (row,) = made([source], [RUNG], tmp_path, ffmpeg, TrimSpec(clip=time_range))
    assert row.error == ""
    start, length = frame_aligned(time_range, fps)
    expected = [n for n in range(125) if start <= n / fps < start + length]
    assert len(expected) == round(Fraction(time_range.length_s) * fps)
    assert numbers_in(tmp_path / row.encode_path) == expected
    assert row.frame_count == len(expected)
    assert row.pieces == str(time_range)
    assert row.duration_s == pytest.approx(float(len(expected) / fps), abs=0.002)


def test_a_clip_up_to_the_end_has_the_last_frame(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = numbered(make_video, "gops-25.mp4", args=REAL_GOPS)
    (row,) = made([source], [RUNG], tmp_path, ffmpeg, TrimSpec(clip=TimeRange(4.6, 10)))
    assert (row.error, numbers_in(tmp_path / row.encode_path)) == ("", list(range(115, 125)))


NO_B = ("libx264", "-crf", "5", "-bf", "0")
X264, MPEG2, MPEG4 = ("libx264", "-crf", "5"), ("mpeg2video", "-q:v", "2"), ("mpeg4", "-q:v", "2")


@pytest.mark.parametrize(
    ("coder", "container"),
    [
        (X264, "avi"), (X264, "mkv"), (X264, "wmv"), (X264, "mxf"), (X264, "vob"),
        (NO_B, "avi"), (NO_B, "wmv"), (MPEG2, "asf"), (MPEG2, "mxf"),
        (MPEG4, "avi"), (MPEG4, "mkv"), (MPEG4, "wmv"),
    ],
)  # fmt: skip
def test_frames_that_are_stored_out_of_order_are_found(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, coder: tuple[str, ...], container: str
) -> None:
    """AVI and ASF have no times of showing, an MXF of H.264 those of decoding, VOB a few."""
    args = ("-bf", "2", "-b_strategy", "0", "-g", "25", "-pix_fmt", "yuv420p", "-c:v", *coder)
    name = f"reordered{''.join(coder)}.{container}"
    source = numbered(make_video, name, args=args)
    info = probe(source)
    assert frame_times(source, info.fps) == pytest.approx([n / 25 for n in range(125)], abs=0.001)
    assert info.duration_s == pytest.approx(5, abs=0.001)
    assert not info.is_vfr
    (row,) = made(
        [source], [Rung(height_px=NUMBERED, crf=10)], tmp_path, ffmpeg,
        TrimSpec(clip=TimeRange(3.0, 0.4)),
    )  # fmt: skip
    assert (row.error, numbers_in(tmp_path / row.encode_path)) == ("", list(range(75, 85)))
    shown = (0, 1, 2, 3, 26, 27, 112, 113, 123, 124)
    pictures = frames_at(info, [n / 25 + 0.02 for n in shown], (128, NUMBERED))
    assert tuple(number_of(picture[:, :, 1]) for picture in pictures) == shown


def test_a_clip_of_a_variable_frame_rate_keeps_its_frames_and_intervals(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    keep = "not(between(n,30,45))*not(between(n,60,64))"
    source = numbered(make_video, "uneven.mp4", keep=keep, args=REAL_GOPS)
    info, time_range = probe(source), TimeRange(0.9, 2)
    assert info.is_vfr
    (row,) = made([source], [RUNG], tmp_path, ffmpeg, TrimSpec(clip=time_range))
    assert row.error == ""
    encode = tmp_path / row.encode_path
    start, length = frame_aligned(time_range, info.fps)
    expected = [n for n in numbers_in(source) if start <= Fraction(n, 25) < start + length]
    assert numbers_in(encode) == expected
    assert 20 < len(expected) < 40
    steps = [after - before for before, after in pairwise(frame_times(encode, info.fps))]
    assert steps == pytest.approx([(b - a) / 25 for a, b in pairwise(expected)], abs=0.001)


def test_a_clip_may_begin_between_two_distant_frames(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """A screen recording without a new frame from 1.2 s to 2.44 s."""
    source = numbered(make_video, "screen.mp4", keep="not(between(n,30,60))", args=REAL_GOPS)
    info, time_range = probe(source), TimeRange(1.6, 1.6)
    (row,) = made([source], [RUNG], tmp_path, ffmpeg, TrimSpec(clip=time_range))
    start, length = frame_aligned(time_range, info.fps)
    expected = [n for n in range(61, 125) if Fraction(n, 25) < start + length]
    assert (row.error, row.frame_count) == ("", len(expected))
    assert numbers_in(tmp_path / row.encode_path) == expected


@pytest.mark.parametrize(("rate", "fps"), [("25", Fraction(25)), ("30000/1001", NTSC)])
@pytest.mark.parametrize("segments", [(2, 1.0), (3, 0.5)])
def test_segments_are_joined_without_losing_or_repeating_a_frame(
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    rate: str,
    fps: Fraction,
    segments: tuple[int, float],
) -> None:
    source = numbered(make_video, f"gops-{fps.numerator}.mp4", rate, args=REAL_GOPS)
    rungs = [RUNG, Rung(height_px=NUMBERED, crf=35)]  # decoded once for both
    rows = made([source], rungs, tmp_path, ffmpeg, TrimSpec(segments=segments))
    each = round(segments[1] * fps)
    for row in rows:
        assert row.error == ""
        encode = tmp_path / row.encode_path
        found = numbers_in(encode)
        assert len(found) == row.frame_count == segments[0] * each
        time_ranges = parse_time_ranges(row.pieces)
        assert len(time_ranges) == segments[0]
        for index, time_range in enumerate(time_ranges):
            first = round(float(frame_aligned(time_range, fps)[0] * fps) + 0.5)
            part = found[index * each : (index + 1) * each]
            assert part == list(range(first, first + each))
        times = frame_times(encode, fps)
        assert times == pytest.approx([n / float(fps) for n in range(len(found))], abs=0.001)


def test_joined_segments_of_a_variable_frame_rate_have_a_constant_rate(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = numbered(make_video, "numbered-bursts.mp4", keep="lt(mod(n,8),3)", args=REAL_GOPS)
    (row,) = made([source], [RUNG], tmp_path, ffmpeg, TrimSpec(segments=(2, 1.0)))
    assert row.error == ""
    encode, fps = tmp_path / row.encode_path, probe(source).fps
    found = numbers_in(encode)
    assert len(found) == len(set(found)) == row.frame_count
    assert frame_times(encode, fps) == pytest.approx(
        [n / float(fps) for n in range(len(found))], abs=0.001
    )


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_encodes_joined_segments_in_one_and_two_passes(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    source = numbered(make_video, "gops-25.mp4", args=REAL_GOPS)
    rungs = [
        Rung(height_px=NUMBERED, codec=codec, crf=30),
        Rung(height_px=NUMBERED, codec=codec, bitrate_kbps=400, two_pass=True),
    ]
    # 1.36 to 1.64 and 3.32 to 3.6: frames 34 to 41 (to 1.68) and 83 to 90
    for row in made([source], rungs, tmp_path, ffmpeg, TrimSpec(segments=(2, 0.32))):
        assert row.error == ""
        starts = [
            frame_aligned(time_range, Fraction(25))[0] * 25
            for time_range in parse_time_ranges(row.pieces)
        ]
        expected = [round(start + Fraction(1, 2)) + n for start in starts for n in range(8)]
        assert numbers_in(tmp_path / row.encode_path) == expected


def test_another_clip_repeats_the_encode(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = numbered(make_video, "gops-25.mp4", args=REAL_GOPS)
    cuts = [
        TrimSpec(clip=TimeRange(0, 0.4)),
        TrimSpec(clip=TimeRange(1, 0.4)),
        FULL,
        TrimSpec(segments=(2, 0.2)),
    ]
    for trim in cuts:
        (row,) = made([source], [RUNG], tmp_path, ffmpeg, trim)
        assert row.error == ""
        assert planned([source], [RUNG], tmp_path, trim).jobs == ()
        (kept,) = encodes_table(tmp_path).rows()
        assert kept.pieces == format_time_ranges(trim.ranges_of(probe(source)))
        assert len(numbers_in(tmp_path / row.encode_path)) == (125 if trim == FULL else 10)


def test_a_source_that_is_too_short_for_the_clip_does_not_stop_the_others(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    long = numbered(make_video, "gops-25.mp4", args=REAL_GOPS)
    rows = made([source_video, long], [RUNG], tmp_path, ffmpeg, TrimSpec(clip=TimeRange(3, 0.4)))
    assert {row.source: row.status for row in rows} == {"source": "error", "gops-25": "ok"}
    assert "begins after its end" in next(row.error for row in rows if row.source == "source")
