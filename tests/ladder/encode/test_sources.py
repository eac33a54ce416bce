"""Stage 1 on sources of every kind: 10 bit, HDR, VFR, interlaced, rotated, anamorphic."""

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from ladder.codecs import CODECS
from ladder.encode.ladders import Ladder
from ladder.encode.plan import LadderPlan, plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.lengths import count_frames, frame_times
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange, TrimSpec
from tests.conftest import EXACT, MakeVideo
from tests.hdr import as_hdr
from tests.ladder.works import NUMBERED, files_in, made, numbered, numbers_in

CLIP = "testsrc2=size=96x64:rate=25:duration=0.4"
EVERY_CODEC = [Rung(height_px=NUMBERED, codec=codec, crf=30) for codec in CODECS]


def encode_of(source: Path, rung: Rung, folder: Path, ffmpeg: Ffmpeg) -> Path:
    (row,) = made([source], [rung], folder, ffmpeg)
    assert row.error == ""
    return folder / row.encode_path


# ---- depth and HDR


def hdr_source(make_video: MakeVideo, transfer: str) -> Path:
    tags = f"setparams=color_trc={transfer}:color_primaries=bt2020:colorspace=bt2020nc"
    args = ("-vf", tags, "-c:v", "libx265", "-x265-params", "log-level=error", "-crf", "10")
    return make_video(f"hdr-{transfer}.mp4", CLIP, (*args, "-pix_fmt", "yuv420p10le"))


@pytest.mark.parametrize(("transfer", "hdr"), [("smpte2084", "pq"), ("arib-std-b67", "hlg")])
def test_an_hdr_source_stays_hdr_in_10_bits_with_every_codec(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, transfer: str, hdr: str
) -> None:
    rows = made([hdr_source(make_video, transfer)], EVERY_CODEC, tmp_path, ffmpeg)
    assert [row.error for row in rows] == [""] * len(CODECS)
    for row in rows:
        info = probe(tmp_path / row.encode_path)
        assert (info.hdr, info.bit_depth, info.pix_fmt) == (hdr, 10, "yuv420p10le"), row.rung
        with av.open(str(tmp_path / row.encode_path)) as container:
            context = container.streams.video[0].codec_context
            assert (context.color_primaries, context.colorspace) == (9, 9), row.rung  # BT.2020


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_hdr_that_only_the_container_tells_stays_hdr(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, suffix: str
) -> None:
    """HEVC says that its transfer function is unknown, and ffmpeg believes it."""
    coder = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none")
    plain = make_video("ten-bit-source.mkv", CLIP, coder)
    tags = ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    source = make_video(f"pq-by-container.{suffix}", plain, ("-c", "copy", *tags))
    rungs = [Rung(height_px=48, crf=30), Rung(height_px=48, crf=30, reencode_crf=30)]
    for row in made([source], rungs, tmp_path, ffmpeg):
        assert (row.error, probe(tmp_path / row.encode_path).hdr) == ("", "pq")


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_mastering_display_of_hdr_is_told_by_every_encode(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, suffix: str
) -> None:
    """The stream tells it in MP4, the container alone in Matroska."""
    display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    tags = "hdr10=1:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    params = f"log-level=none:{tags}:master-display={display}:max-cll=1000,400"
    coder = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", params)
    source = make_video("mastered.mp4", CLIP, coder)
    if suffix == "mkv":
        silent = ("-c", "copy", "-bsf:v", "filter_units=remove_types=39")
        source = make_video("mastered.mkv", source, silent)
    codecs = ("libx264", "libx265", "libsvtav1")
    rungs = [Rung(height_px=NUMBERED, codec=codec, crf=30) for codec in codecs]
    rungs += [Rung(height_px=NUMBERED, codec="libx265", crf=40)]
    rows = made([source], rungs, tmp_path, ffmpeg)
    assert [row.error for row in rows] == [""] * len(rungs)
    for row in rows:
        with av.open(str(tmp_path / row.encode_path)) as container:
            told = next(container.decode(video=0)).side_data
        for kind in (Type.MASTERING_DISPLAY_METADATA, Type.CONTENT_LIGHT_LEVEL):
            assert told[kind], row.rung  # type: ignore[typeddict-item]


def test_hdr_in_8_bits_is_refused_and_the_other_rungs_are_made(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    coarse = Rung(height_px=48, crf=30, bit_depth=8)
    source = hdr_source(make_video, "smpte2084")
    rows = made([source], [coarse, Rung(height_px=48, crf=30)], tmp_path, ffmpeg)
    said = {row.rung: row.error for row in rows}
    assert "is HDR (pq)" in said.pop(coarse.name)
    assert said == {"48p-crf30-x264": ""}
    assert files_in(tmp_path) == {"encodes.csv", "hdr-smpte2084/48p-crf30-x264.mp4"}


def test_an_hdr_source_becomes_sdr_on_request_and_hdr_again_without(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source, rung = as_hdr(make_video, source_video, "pq"), Rung(height_px=108, crf=8)
    again = Rung(height_px=54, crf=20, reencode_crf=12)
    ladder = Ladder((rung, again, Rung(height_px=108, crf=30, bit_depth=10)))

    def plan(*, tonemap: bool) -> LadderPlan:
        return plan_ladder([source], ladder, tmp_path, tonemap=tonemap)

    rows = list(make_encodes(plan(tonemap=True), tmp_path, ffmpeg, jobs=1))
    assert [(row.error, row.tonemap) for row in rows] == [("", "mobius")] * 3
    of_rung = {row.rung: tmp_path / row.encode_path for row in rows}
    infos = {name: probe(path) for name, path in of_rung.items()}
    assert {(info.hdr, info.bit_depth) for info in infos.values()} == {("", 8), ("", 10)}
    with av.open(str(of_rung[rung.name])) as container:
        context = container.streams.video[0].codec_context
        assert (context.color_primaries, context.colorspace, context.color_trc) == (1, 1, 1)
    (shown,) = frames_at(infos[rung.name], [0.0], (192, 108)).astype(int)
    (mapped,) = frames_at(probe(source, tonemap=True), [0.0], (192, 108)).astype(int)
    (untouched,) = frames_at(probe(source), [0.0], (192, 108)).astype(int)
    assert 2 * np.abs(shown - mapped).mean() < np.abs(shown - untouched).mean()
    assert len(plan(tonemap=True).done) == 3
    assert len(plan(tonemap=False).jobs) == 3


@pytest.mark.parametrize(("bit_depth", "depth"), [(None, 10), (8, 8)])
def test_the_rung_decides_the_bit_depth_of_a_10_bit_sdr_source(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, bit_depth: int | None, depth: int
) -> None:
    is_10_bit = make_video(
        "deep-source.mp4", CLIP, ("-c:v", "libx264", "-crf", "5", "-pix_fmt", "yuv420p10le")
    )
    rung = Rung(height_px=48, crf=30, bit_depth=bit_depth)
    info = probe(encode_of(is_10_bit, rung, tmp_path, ffmpeg))
    assert (info.bit_depth, info.hdr) == (depth, "")


def test_a_full_range_source_becomes_limited_range(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    full = ("-vf", "scale=out_range=pc,format=yuv420p", "-color_range", "pc", *EXACT)
    source = probe(make_video("full-range-source.mp4", CLIP, full))
    assert source.is_full_range
    info = probe(encode_of(source.path, Rung(height_px=64, crf=1), tmp_path, ffmpeg))
    assert not info.is_full_range
    before, after = (frames_at(video, [0.0], (96, 64)).astype(int) for video in (source, info))
    assert np.abs(before - after).mean() < 3


# ---- frames and their times


@pytest.mark.parametrize(
    "keep",
    ["not(between(n,10,14))", "lt(mod(n,8),3)", "lt(n,6)+gt(n,12)*not(mod(n,3))"],
    ids=["gap", "bursts", "mixed"],
)
def test_a_variable_frame_rate_keeps_every_frame_and_its_time_with_every_codec(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, keep: str
) -> None:
    name = f"vfr-{len(keep)}.mkv"
    source = probe(numbered(make_video, name, frames=30, keep=keep))
    assert source.is_vfr
    numbers = numbers_in(source.path)
    assert 5 < len(numbers) < 30
    times = frame_times(source.path, source.fps)
    assert times == pytest.approx([(n - numbers[0]) / 25 for n in numbers], abs=0.001)
    rows = made([source.path], EVERY_CODEC, tmp_path, ffmpeg)
    for row in rows:
        assert row.error == ""
        encode = tmp_path / row.encode_path
        assert numbers_in(encode) == numbers, row.rung
        assert frame_times(encode, source.fps) == pytest.approx(times, abs=0.0011), row.rung


def test_a_screen_recording_is_as_long_as_its_last_frame_says(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """Its average rate is one frame in seconds, which is how long its last frame does not stay."""
    keep = "eq(n,0)+eq(n,3)+eq(n,90)+eq(n,95)+gt(n,200)*not(mod(n,20))"
    source = probe(numbered(make_video, "screen-recording.mp4", frames=256, keep=keep))
    (row,) = made([source.path], EVERY_CODEC[:1], tmp_path, ffmpeg)
    assert row.duration_s == pytest.approx(source.duration_s, abs=0.05)
    assert source.duration_s < 10.5


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_irregular_frame_times_are_kept_with_every_codec(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, suffix: str
) -> None:
    """A telephone's: now and then two frames come within a third of the usual step."""
    args = ("-enc_time_base", "1:1000", "-bf", "3", *EXACT)
    times = "settb=1/1000,setpts='floor(N*1000/30+11*mod(N*7,3))'"
    steady = numbered(make_video, "steady.mp4", "30", frames=30)
    recipe = ("-vf", times, "-fps_mode", "passthrough", *args)
    source = probe(make_video(f"telephone.{suffix}", steady, recipe))
    before = frame_times(source.path, source.fps)
    assert min(after - time for time, after in pairwise(before)) < 0.015
    for row in made([source.path], EVERY_CODEC, tmp_path, ffmpeg):
        assert row.error == ""
        encode = tmp_path / row.encode_path
        assert numbers_in(encode) == list(range(30)), row.rung
        assert frame_times(encode, source.fps) == pytest.approx(before, abs=0.0006), row.rung


@pytest.mark.parametrize("rung", [Rung(height_px=64, crf=30, reencode_crf=30)])
def test_sound_may_be_the_first_track(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, rung: Rung
) -> None:
    tone = ("-f", "lavfi", "-i", "sine=duration=1")
    both = ("-map", "0:a", "-map", "1:v", "-c:v", "copy", "-c:a", "aac")
    steady = numbered(make_video, "steady.mp4", "30", frames=30)
    source = make_video("sound-is-first.mp4", steady, both, tone)
    (row,) = made([source], [rung], tmp_path, ffmpeg)
    assert (row.error, row.frame_count) == ("", 30)


@pytest.mark.parametrize("start_s", [2, 21])
@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_a_part_is_counted_from_the_first_frame_where_sound_begins_earlier(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, suffix: str, start_s: int
) -> None:
    steady = numbered(make_video, "slow-steady.mp4", "10", frames=250, args=(*EXACT, "-g", "20"))
    tone = ("-f", "lavfi", "-i", "sine=duration=26", "-itsoffset", "0.2")
    both = ("-map", "1:v", "-map", "0:a", "-c:v", "copy", "-c:a", "aac")
    source = probe(make_video(f"sound-first.{suffix}", steady, both, tone))
    (row,) = made(
        [source.path],
        [Rung(height_px=64, crf=1)],
        tmp_path,
        ffmpeg,
        TrimSpec(TimeRange(start_s, 1)),
    )
    assert row.error == ""
    assert numbers_in(tmp_path / row.encode_path) == list(range(10 * start_s, 10 * start_s + 10))


@pytest.mark.parametrize("share", ["0.99", "0.8"])
def test_a_rate_other_than_the_stated_one_keeps_every_frame_with_every_codec(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, share: str
) -> None:
    steady = numbered(make_video, "steady.mp4", "30", frames=30)
    faster = f"setts=pts=round(PTS*{share}):dts=round(PTS*{share})"
    source = probe(make_video(f"faster-{share}.mkv", steady, ("-c", "copy", "-bsf:v", faster)))
    before = frame_times(source.path, source.fps)
    for row in made([source.path], EVERY_CODEC, tmp_path, ffmpeg):
        assert row.error == ""
        encode = tmp_path / row.encode_path
        assert numbers_in(encode) == list(range(30)), row.rung
        assert frame_times(encode, source.fps) == pytest.approx(before, abs=0.0011), row.rung


@pytest.mark.parametrize("rate", ["30000/1001", "60", "24000/1001", "5"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_no_frame_is_dropped_or_repeated_by_rounded_timestamps(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, rate: str, suffix: str
) -> None:
    args = ("-c:v", "libx264", "-qp", "0", "-bf", "3", "-pix_fmt", "yuv420p")
    name = f"even-{rate.replace('/', '-')}.{suffix}"
    source = numbered(make_video, name, rate, frames=20, args=args)
    rung = Rung(height_px=NUMBERED, crf=30)
    assert numbers_in(encode_of(source, rung, tmp_path, ffmpeg)) == list(range(20))


def test_an_interlaced_source_gives_one_frame_per_frame(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    fields = ("-vf", "interlace", "-flags", "+ilme+ildct", *EXACT)
    source = make_video("laced.mp4", "testsrc2=size=96x64:rate=50:duration=0.4", fields)
    assert probe(source).is_interlaced
    (row,) = made([source], [Rung(height_px=48, crf=30)], tmp_path, ffmpeg)
    assert (row.error, row.frame_count, row.fps) == ("", 10, Fraction(25))
    assert not probe(tmp_path / row.encode_path).is_interlaced


def packet_times(video: Path) -> list[tuple[float, bool]]:
    """(seconds, whether it is a key frame) in the order of decoding."""
    with av.open(str(video)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    return [(round(float((p.pts or 0) * p.time_base), 2), p.is_keyframe) for p in packets]


def key_times(video: Path) -> list[float]:
    return [time_s for time_s, is_key in packet_times(video) if is_key]


def pictures_from(video: Path, time_s: float) -> list[tuple[float, bytes]]:
    """(seconds, luma) of every frame that a player shows which jumps to `time_s`."""
    with av.open(str(video)) as container:
        if time_s:
            container.seek(int(time_s * av.time_base))
        return [
            (round(frame.time or 0, 2), np.asarray(frame.to_ndarray(format="gray")).tobytes())
            for frame in container.decode(video=0)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("codec", CODECS)
def test_groups_are_closed_two_seconds_long_and_can_be_played_alone(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    source = make_video("cuts.mp4", "testsrc2=size=96x64:rate=5:duration=5")
    encode = encode_of(source, Rung(height_px=64, codec=codec, crf=40), tmp_path, ffmpeg)
    assert key_times(encode) == [0.0, 2.0, 4.0]
    packets = packet_times(encode)
    for place, (time_s, is_key) in enumerate(packets):
        # in an open group pictures from before the key frame come after it
        assert not is_key or time_s == min(packets[place:])[0]
    whole = pictures_from(encode, 0)
    assert len(whole) == 25
    for key_s in (2.0, 4.0):
        assert pictures_from(encode, key_s) == [each for each in whole if each[0] >= key_s]


def test_the_rung_decides_the_distance_of_key_frames(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = make_video("cuts.mp4", "testsrc2=size=96x64:rate=5:duration=5")
    encode = encode_of(source, Rung(height_px=64, crf=40, gop_s=1), tmp_path, ffmpeg)
    assert key_times(encode) == [0.0, 1.0, 2.0, 3.0, 4.0]


# ---- shapes


def corner(make_video: MakeVideo, name: str, size: str, args: Sequence[str]) -> Path:
    """Black, with a white quarter at the top left."""
    scene = f"color=black:size={size}:rate=25:duration=0.2,format=yuv444p"
    return make_video(name, f"{scene},drawbox=w=iw/2:h=ih/2:color=white:t=fill", args)


@pytest.mark.parametrize(
    ("sar", "size"), [("4/3", (86, 64)), ("64/45", (90, 64)), ("1/2", (64, 128))]
)
def test_pixels_that_are_not_square_become_square(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, sar: str, size: tuple[int, int]
) -> None:
    stored = "96x96" if sar != "1/2" else "128x128"
    args = ["-vf", f"setsar={sar},format=yuv420p", *EXACT]
    source = corner(make_video, f"sar-{size[0]}.mp4", stored, args)
    info = probe(encode_of(source, Rung(height_px=64, crf=10), tmp_path, ffmpeg))
    assert (info.width_px, info.height_px, info.sar) == (*size, Fraction(1))
    (shown_HWC,) = frames_at(info, [0.0], size)
    rows, cols = np.nonzero(shown_HWC[..., 0] > 128)
    # the white quarter is still one
    assert (cols.mean() * 4, rows.mean() * 4) == pytest.approx(size, abs=6)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_source_is_encoded_upright(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, degrees: int
) -> None:
    flat = corner(make_video, "corner-flat.mp4", "96x64", ["-vf", "format=yuv420p", *EXACT])
    turned = make_video(
        f"corner-turned-{degrees}.mp4", flat, ["-c", "copy"], ["-display_rotation", str(degrees)]
    )
    info = probe(encode_of(turned, Rung(height_px=48, crf=10), tmp_path, ffmpeg))
    size = (72, 48) if degrees == 180 else (48, 72)
    assert (info.width_px, info.height_px, info.rotation) == (*size, 0)
    (shown_HWC,) = frames_at(info, [0.0], size)
    (original_HWC,) = frames_at(probe(turned), [0.0], size)
    assert np.abs(shown_HWC.astype(int) - original_HWC).mean() < 6


@pytest.mark.parametrize("chroma", ["yuv420p", "yuv444p"])
def test_an_odd_size_is_encoded_even_with_every_codec(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, chroma: str
) -> None:
    args = ("-vf", f"format=yuv444p,crop=853:479,format={chroma}", "-c:v", "ffv1")
    source = make_video(f"odd-{chroma}.mkv", "testsrc2=size=854x480:rate=25:duration=0.08", args)
    assert (probe(source).width_px, probe(source).height_px) == (853, 479)
    rungs = [*EVERY_CODEC, *(Rung(height_px=h, crf=30) for h in (478, 480))]
    rows = made([source], rungs, tmp_path, ffmpeg)
    assert [row.error for row in rows] == [""] * len(rows)
    sizes = {(row.width_px, row.height_px) for row in rows if row.height_px == 64}
    assert sizes == {(114, 64)}
    assert {row.frame_count for row in rows} == {2}


def telecined(stream: bytes) -> bytes:
    """An MPEG-2 stream of film whose flags repeat a field of every second picture: 3:2 pulldown.

    H.262, sections 6.3.3, 6.3.5 and 6.3.10: 29.97 fps, no progressive sequence, then the flags
    top_field_first and repeat_first_field.
    """
    data, patterns = bytearray(stream), itertools.cycle([(1, 1), (0, 0), (0, 1), (1, 0)])
    for found in re.finditer(rb"\x00\x00\x01([\xb3\xb5])", stream):
        at = found.end()
        if found[1] == b"\xb3":
            data[at + 3] = data[at + 3] & 0xF0 | 4
        elif data[at] >> 4 == 1:
            data[at + 1] &= ~0x08
        elif data[at] >> 4 == 8:
            top_first, repeats = next(patterns)
            data[at + 3] = data[at + 3] & ~0x82 | top_first << 7 | repeats << 1 | 1
            data[at + 4] |= 0x80
    return bytes(data)


@pytest.mark.parametrize("suffix", ["m2v", "mpg", "vob", "mkv"])
def test_film_in_a_stream_of_fields_keeps_its_frames(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, suffix: str
) -> None:
    args = ("-c:v", "mpeg2video", "-q:v", "2", "-g", "12", "-bf", "0" if suffix == "mkv" else "2")
    stream = numbered(make_video, f"film-for-{suffix}.m2v", "24", frames=36, args=args)
    video = tmp_path / "film.m2v"
    video.write_bytes(telecined(stream.read_bytes()))
    if suffix != "m2v":
        raw, video = video, tmp_path / f"film.{suffix}"
        fields = "floor(N*5/2)*20020"  # in ticks of 1/1200000 s
        timed = ("-bsf:v", f"setts=pts={fields}:dts={fields}") if suffix == "mkv" else ()
        run(ffmpeg, ["-i", str(raw), "-c", "copy", *timed, str(video)])
    (row,) = made([video], [Rung(height_px=NUMBERED, crf=20)], tmp_path / "work", ffmpeg)
    assert row.error == ""
    encode = tmp_path / "work" / row.encode_path
    assert numbers_in(encode) == numbers_in(video) == list(range(36))
    assert count_frames(encode) == count_frames(video) == 36


# ---- what goes wrong with one source


def test_a_video_that_begins_late_is_a_row_and_the_next_source_is_encoded(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    good = make_video("to-join.ts", "testsrc2=size=96x64:rate=25:duration=1.6", EXACT)
    other = ("-c", "copy", "-mpegts_start_pid", "0x200", "-mpegts_pmt_start_pid", "0x1100")
    second = make_video("to-join-2.ts", good, (*other, "-output_ts_offset", "3"))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(good.read_bytes() + second.read_bytes())
    rows = made([joined, good], [Rung(height_px=64, crf=30)], tmp_path / "work", ffmpeg)
    by_source = {row.source: row for row in rows}
    assert "PID 0x200" in by_source["joined"].error
    assert (by_source["to-join"].error, by_source["to-join"].frame_count) == ("", 40)
