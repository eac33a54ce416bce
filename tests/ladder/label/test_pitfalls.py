"""Pitfalls of comparing pictures: the VMAF one gets without care, how wrong it is, and ours.

Each wrong figure comes from a plain graph written by hand, and so does the right one. Ours is the
label's, with what it warns of. Those of pairing frames stand in `test_pitfalls_time`.
"""

import re
from pathlib import Path

import pytest

from ladder.encode.ladders import Ladder
from ladder.encode.plan import plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.label.run import LabelOptions, plan_labels
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.probe import probe
from tests.conftest import EXACT, MakeVideo
from tests.hdr import as_hdr
from tests.ladder.conftest import BY_HAND, V0, X264, label, label_of, vmaf_by_hand, work_folder

PLAIN = f"[0:v][1:v]{BY_HAND}"
DEEP = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")


def test_swapped_inputs(coarse: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    right = vmaf_by_hand(coarse, source_video, PLAIN, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(source_video, coarse, PLAIN, ffmpeg, tmp_path)
    assert abs(wrong - right) > 2
    row = label_of(coarse, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_a_source_scaled_down_to_its_encode(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    up = f"[0:v]scale=192:108:flags=bicubic[e];[e][1:v]{BY_HAND}"
    down = f"[1:v]scale=96:54:flags=bicubic[s];[0:v][s]{BY_HAND}"
    right = vmaf_by_hand(poor, source_video, up, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(poor, source_video, down, ffmpeg, tmp_path)
    assert wrong > right + 10
    row = label_of(poor, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.scale == "192x108 bicubic"


def test_a_scaler_that_is_not_bicubic(
    poor: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    graph = f"[0:v]scale=192:108:flags=bilinear[e];[e][1:v]{BY_HAND}"
    wrong = vmaf_by_hand(poor, source_video, graph, ffmpeg, tmp_path)
    row = label_of(poor, source_video, ffmpeg, tmp_path)
    assert row.vmaf is not None
    assert wrong < row.vmaf - 2


@pytest.fixture
def full_range(make_video: MakeVideo, source_video: Path) -> Path:
    args = ("-vf", "scale=in_range=tv:out_range=pc,format=yuvj420p", "-crf", "10", *X264[:4])
    return make_video("full-range.mp4", source_video, args)


@pytest.fixture
def wrongly_tagged(make_video: MakeVideo, full_range: Path) -> Path:
    tag = ("-bsf:v", "h264_metadata=video_full_range_flag=0", "-color_range", "tv")
    return make_video("full-range-untold.mp4", full_range, ("-c", "copy", *tag))


def test_pixels_in_full_range(
    full_range: Path, wrongly_tagged: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    assert probe(full_range).is_full_range
    graph = f"[0:v]scale=in_range=pc:out_range=tv,format=yuv420p[e];[e][1:v]{BY_HAND}"
    right = vmaf_by_hand(full_range, source_video, graph, ffmpeg, tmp_path)
    # the same pixels taken for limited ones: better than their source's own copy
    wrong = vmaf_by_hand(wrongly_tagged, source_video, PLAIN, ffmpeg, tmp_path)
    assert wrong > right + 1.5
    row = label_of(full_range, source_video, ffmpeg, tmp_path, LabelOptions())
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.warnings == ""
    row = label_of(source_video, full_range, ffmpeg, tmp_path)  # the other way round
    assert row.vmaf is not None
    assert 90 < row.vmaf < 99.5


def test_full_range_pixels_tagged_as_limited(
    wrongly_tagged: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """The pixels alone do not tell: the plain model likes the contrast, and the label warns."""
    assert not probe(wrongly_tagged).is_full_range
    row = label_of(wrongly_tagged, source_video, ffmpeg, tmp_path, LabelOptions())
    assert row.vmaf is not None
    assert row.vmaf_neg is not None
    assert row.psnr_y is not None
    assert row.vmaf > 99.5
    assert row.psnr_y < 32  # of limited pixels it is above 40
    assert row.vmaf > row.vmaf_neg + 6
    assert row.warnings == "enhanced"


@pytest.mark.parametrize("change", ["unsharp=5:5:1.5", "eq=contrast=1.3"])
def test_an_encode_that_was_enhanced(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, change: str
) -> None:
    name = change.partition("=")[0]
    changed = make_video(f"{name}.mp4", source_video, ("-vf", change, "-crf", "30", *X264))
    honest = make_video("honest.mp4", source_video, ("-crf", "30", *X264))
    plain = vmaf_by_hand(honest, source_video, PLAIN, ffmpeg, tmp_path)
    won = vmaf_by_hand(changed, source_video, PLAIN, ffmpeg, tmp_path)
    assert won > plain + 3  # from a picture that is further from its source
    row = label_of(changed, source_video, ffmpeg, tmp_path, LabelOptions())
    assert row.vmaf_neg is not None
    assert row.vmaf_neg < won - 6
    assert row.warnings == "enhanced"
    row = label_of(honest, source_video, ffmpeg, tmp_path, LabelOptions())
    assert row.warnings == ""


def test_eight_bits_against_ten(make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    # texture finer than a step of 8 bits, which the encode lost
    texture = "geq=lum='400+X/4+2*mod(X+Y+N,2)':cb=512:cr=512"
    scene = f"color=size=192x108:rate=25,format=yuv420p10le,{texture}"
    source = make_video("deep.mp4", scene, ("-frames:v", "6", "-crf", "0", *DEEP))
    encode = make_video("flat.mp4", source, ("-crf", "24", *X264))
    assert (probe(encode).bit_depth, probe(source).bit_depth) == (8, 10)

    def both_in(pix_fmt: str) -> float:
        graph = f"[0:v]format={pix_fmt}[e];[1:v]format={pix_fmt}[s];[e][s]{BY_HAND}"
        return vmaf_by_hand(encode, source, graph, ffmpeg, tmp_path)

    right, wrong = both_in("yuv420p10le"), both_in("yuv420p")
    assert abs(wrong - right) > 2
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.pix_fmt == "yuv420p10le"


def test_pixels_that_are_not_square(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-vf", "scale=96:108,setsar=2", *EXACT)
    source = make_video("anamorphic.mp4", source_video, args)
    to_square = ("-vf", "scale=192:108,setsar=1", "-crf", "30", *X264)
    encode = make_video("anamorphic-encode.mp4", source, to_square)
    scaled_input = f"[1:v]scale=192:108:flags=bicubic,setsar=1[s];[0:v][s]{BY_HAND}"
    stored = f"[0:v]scale=96:108:flags=bicubic[e];[1:v]setsar=1[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, source, scaled_input, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(encode, source, stored, ffmpeg, tmp_path)
    assert abs(wrong - right) > 2
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.scale == "192x108 bicubic"


def test_a_rotated_source(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    turned = make_video("turned.mp4", source_video, ("-c", "copy"), ["-display_rotation", "90"])
    upright = make_video("turned-encode.mp4", turned, ("-crf", "30", *X264))
    assert (probe(turned).rotation, probe(upright).rotation) == (90, 0)
    right = vmaf_by_hand(upright, turned, PLAIN, ffmpeg, tmp_path)
    round_to_half = f"[1:v]scale=108:192[s];[0:v][s]{BY_HAND}"
    wrong = vmaf_by_hand(upright, turned, round_to_half, ffmpeg, tmp_path, ("-noautorotate",))
    assert wrong < right - 40
    row = label_of(upright, turned, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.scale == "108x192 bicubic"
    assert (row.offset_frames, row.warnings) == (0, "")


def test_an_interlaced_source(make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    scene = "mandelbrot=size=192x108:rate=50:start_scale=0.6:end_pts=60,tinterlace=interleave_top"
    fields = ("-flags", "+ildct+ilme", "-x264-params", "tff=1", "-vf", "setfield=tff")
    source = make_video("fields.mp4", scene, ("-frames:v", "24", *fields, *EXACT))
    assert probe(source).is_interlaced
    bwdif = "bwdif=mode=send_frame:deint=all"
    args = ("-vf", f"{bwdif},setfield=prog", "-crf", "24", *X264)
    encode = make_video("fields-encode.mp4", source, args)
    assert not probe(encode).is_interlaced
    right = vmaf_by_hand(encode, source, f"[1:v]{bwdif}[s];[0:v][s]{BY_HAND}", ffmpeg, tmp_path)
    wrong = vmaf_by_hand(encode, source, PLAIN, ffmpeg, tmp_path)
    assert wrong < right - 10
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.warnings, row.frames_compared, row.pairing) == ("interlaced", 24, "index")


def test_hdr_against_sdr(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    to_pq = (
        "setparams=color_trc=bt709:color_primaries=bt709:colorspace=bt709:range=tv,"
        "zscale=t=linear:npl=100,format=gbrpf32le,"
        "zscale=t=smpte2084:m=bt2020nc:p=bt2020:r=tv,format=yuv420p10le"
    )
    tags = ("-color_trc", "smpte2084", "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    hdr = make_video("hdr.mp4", source_video, ("-vf", to_pq, "-crf", "8", *DEEP, *tags))
    assert probe(hdr).hdr == "pq"
    graph = f"[1:v]format=yuv420p10le[s];[0:v][s]{BY_HAND}"
    wrong = vmaf_by_hand(hdr, source_video, graph, ffmpeg, tmp_path)
    assert wrong < 70  # for a picture that looks the same
    row = label_of(hdr, source_video, ffmpeg, tmp_path)
    assert (row.status, row.vmaf, row.psnr_y) == ("error", None, None)
    assert "the encode is pq, its source SDR" in row.error
    row = label_of(source_video, hdr, ffmpeg, tmp_path)
    assert (row.status, row.vmaf) == ("error", None)
    row = label_of(hdr, hdr, ffmpeg, tmp_path)
    assert (row.status, row.warnings) == ("ok", "hdr")


@pytest.mark.parametrize("hdr", ["pq", "hlg"])
def test_hdr_that_is_compared_as_sdr(
    make_video: MakeVideo,
    source_video: Path,
    coarse: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    hdr: str,
) -> None:
    """Of the same damage VMAF gives what it gives without the way through HDR."""
    source, encode = (as_hdr(make_video, video, hdr) for video in (source_video, coarse))
    sdr = label_of(coarse, source_video, ffmpeg, tmp_path).vmaf
    folder = work_folder(tmp_path / "work", source, {"hdr": encode, "sdr": coarse})
    options = LabelOptions(models=(V0,), tonemap=True)
    rows = label(folder, ffmpeg, options)
    assert {row.error for row in rows.values()} == {""}
    # the SDR version that was made without it names no matrix
    assert rows["hdr"].warnings == "tonemapped"
    assert rows["sdr"].warnings == "matrix:bt709>unknown;tonemapped"
    assert plan_labels(folder, options).jobs == ()
    plain = label(folder, ffmpeg)
    assert (plain["hdr"].error, plain["hdr"].warnings) == ("", "hdr")
    assert "--tonemap compares both as SDR" in plain["sdr"].error
    right, wrong = rows["hdr"].vmaf, plain["hdr"].vmaf
    assert sdr is not None
    assert right is not None
    assert wrong is not None
    assert abs(right - sdr) < min(4, abs(wrong - sdr))
    assert {row.rung for row in plan_labels(folder, options).jobs} == {"hdr", "sdr"}


def test_an_encode_that_was_tone_mapped_is_compared_with_its_source_as_sdr(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = as_hdr(make_video, source_video, "pq")
    rungs = Ladder((Rung(height_px=108, crf=10), Rung(height_px=108, crf=40)))
    plan = plan_ladder([source], rungs, tmp_path, tonemap=True)
    list(make_encodes(plan, tmp_path, ffmpeg, jobs=1))
    rows = label(tmp_path, ffmpeg)
    assert {(row.error, row.warnings) for row in rows.values()} == {("", "tonemapped")}
    good, poor = rows["108p-crf10-x264"].vmaf, rows["108p-crf40-x264"].vmaf
    assert good is not None
    assert poor is not None
    assert good > 90 > poor + 20
    assert plan_labels(tmp_path, LabelOptions(models=(V0,))).jobs == ()


def test_an_encode_that_is_its_source(source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    """Which VMAF does not call 100."""
    right = vmaf_by_hand(source_video, source_video, PLAIN, ffmpeg, tmp_path)
    row = label_of(source_video, source_video, ffmpeg, tmp_path, LabelOptions())
    assert (row.status, row.warnings, row.frames_compared) == ("ok", "", 24)
    assert row.vmaf == pytest.approx(right, abs=1e-3)
    assert right > 95


def test_a_video_of_one_frame(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source = make_video("one.mp4", source_video, ("-frames:v", "1", *EXACT))
    encode = make_video("one-encode.mp4", source, ("-crf", "30", *X264))
    right = vmaf_by_hand(encode, source, PLAIN, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path, LabelOptions(sync=True))
    assert (row.status, row.warnings, row.frames_compared, row.vmaf_std) == ("ok", "", 1, 0)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.vmaf == row.vmaf_min == row.vmaf_p1 == row.vmaf_p10


def cover_first(path: Path) -> bytes:
    """An MP4 with cover art, the box that holds it moved before the tracks."""
    whole = path.read_bytes()

    def boxes(start: int, end: int) -> dict[bytes, bytes]:
        found = {}
        while start < end:
            size = int.from_bytes(whole[start : start + 4])
            found[whole[start + 4 : start + 8]] = whole[start : start + size]
            start += size
        return found

    moov = boxes(0, len(whole))[b"moov"]
    at = whole.index(moov)
    inside = boxes(at + 8, at + len(moov))
    order = (b"mvhd", b"udta", b"trak")
    assert set(inside) == set(order)
    moved = moov[:8] + b"".join(inside[name] for name in order)
    return whole.replace(moov, moved)


def test_cover_art_beside_the_video(
    make_video: MakeVideo, coarse: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    cover, both = tmp_path / "cover.png", tmp_path / "both.mp4"
    args = ["-f", "lavfi", "-i", "testsrc2=size=64x64", "-frames:v", "1"]
    run(ffmpeg, [*args, "-update", "1", str(cover)])
    args = ["-i", str(coarse), "-i", str(cover), "-map", "0", "-map", "1", "-c", "copy"]
    run(ffmpeg, [*args, "-disposition:v:1", "attached_pic", str(both)])
    encode = tmp_path / "covered.mp4"
    encode.write_bytes(cover_first(both))
    right = vmaf_by_hand(coarse, source_video, PLAIN, ffmpeg, tmp_path)
    graph = f"[0:v:0]scale=192:108,setsar=1,format=yuv420p[e];[e][1:v]{BY_HAND}"
    wrong = vmaf_by_hand(encode, source_video, graph, ffmpeg, tmp_path)
    assert wrong < right - 20
    row = label_of(encode, source_video, ffmpeg, tmp_path)
    assert (row.status, row.frames_compared) == ("ok", 24)
    assert row.vmaf == pytest.approx(right, abs=0.01)


@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_an_encode_that_is_damaged_in_its_middle(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, container: str
) -> None:
    whole = make_video(f"to-damage.{container}", source_video, ("-crf", "20", *X264))
    content = bytearray(whole.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    distort = tmp_path / f"damaged.{container}"
    distort.write_bytes(content)
    right = vmaf_by_hand(whole, source_video, PLAIN, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(distort, source_video, PLAIN, ffmpeg, tmp_path)  # and exit code 0
    assert 20 < wrong < right - 5
    row = label_of(distort, source_video, ffmpeg, tmp_path)
    assert (row.status, row.vmaf, row.psnr_y, row.frames_compared) == ("error", None, None, None)
    assert re.match(rf"\S+one\.{container} is damaged after 0\.[1-8]\d s: make it anew", row.error)
    row = label_of(whole, distort, ffmpeg, tmp_path)  # as a source
    assert row.error.startswith(f"{distort} is damaged after 0.")


def test_a_file_name_with_graph_characters(
    coarse: Path, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    odd = tmp_path / "a'b,c;d[1:v]=e\\:f%d.mp4"
    odd.write_bytes(source_video.read_bytes())
    right = vmaf_by_hand(coarse, source_video, PLAIN, ffmpeg, tmp_path)
    row = label_of(coarse, odd, ffmpeg, tmp_path, LabelOptions(models=(V0,)))
    assert row.vmaf == pytest.approx(right, abs=0.01)


CHANGES = {
    "size": ["-vf", "scale=128:72:flags=bicubic,setsar=1"],
    "format": ["-pix_fmt", "yuv420p10le"],
    "range": ["-vf", "scale=out_range=full,format=yuv420p", "-color_range", "pc"],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_source_that_changes_midway(
    change: str, make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    fine = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "8")
    first = make_video("first.ts", source_video, (*fine, "-frames:v", "12"))
    rest = (*CHANGES[change], *fine)
    second = make_video(f"second-{change}.ts", source_video, rest, ("-ss", "0.48"))
    source = tmp_path / "joined.ts"
    joined = f"concat:{first}|{second}"
    run(ffmpeg, ["-i", joined, "-c", "copy", "-y", str(source)])
    # every frame as it is shown, without loss and of one kind
    shown = "scale=192:108:flags=bicubic:in_range=auto:out_range=tv,format=yuv420p,setsar=1"
    plain = tmp_path / "plain.mkv"
    read = ["-reinit_filter", "0", "-i", str(source), "-vf", shown, "-fps_mode", "passthrough"]
    run(ffmpeg, [*read, "-c:v", "ffv1", str(plain)])
    encode = make_video(f"of-{change}.mp4", plain, ("-crf", "34", *X264))
    by_index = "settb=1/25,setpts=N"
    graph = f"[0:v]{by_index}[e];[1:v]{by_index}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, plain, graph, ffmpeg, tmp_path)
    row = label_of(encode, source, ffmpeg, tmp_path)
    assert row.frames_compared == 24, row.error
    assert row.vmaf == pytest.approx(right, abs=0.01)


def test_full_range_that_only_the_container_of_a_stream_without_ranges_names(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """VP8 has no range, and FFmpeg's decoder calls it limited; browsers take the container's."""
    full = "scale=in_range=tv:out_range=pc,format=yuv420p,setparams=range=tv"
    untold = make_video("vp8.webm", source_video, ("-vf", full, "-c:v", "libvpx", "-b:v", "2M"))
    told = make_video("vp8-full.webm", untold, ("-c", "copy", "-color_range", "pc"))
    info = probe(told)
    assert (info.is_full_range, info.has_two_ranges) == (True, True)
    graph = f"[0:v]setparams=range=pc,scale=out_range=tv,format=yuv420p[e];[e][1:v]{BY_HAND}"
    right = vmaf_by_hand(told, source_video, graph, ffmpeg, tmp_path)
    wrong = vmaf_by_hand(told, source_video, PLAIN, ffmpeg, tmp_path)
    assert wrong > right + 1
    row = label_of(told, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert row.warnings == "range"
    # what a model sees is the source's contrast, and not more of it
    middle = [0.5]
    seen, taken, meant = (
        frames_at(probe(path), middle, (192, 108)).astype(int)
        for path in (told, untold, source_video)
    )
    assert abs(seen - meant).mean() < 4 < abs(taken - meant).mean()
    assert probe(untold).has_two_ranges is False


def test_ranges_that_differ_are_told_where_the_stream_names_one(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    told = make_video("vp9-full.webm", source_video, ("-c:v", "libvpx-vp9", "-b:v", "1M"))
    odd = make_video("vp9-odd.webm", told, ("-c", "copy", "-color_range", "pc"))
    right = vmaf_by_hand(odd, source_video, PLAIN, ffmpeg, tmp_path)
    row = label_of(odd, source_video, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.warnings, probe(odd).is_full_range) == ("range", False)


def test_interlace_that_begins_later(
    interlaced_later: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-i", str(interlaced_later), "-crf", "30", *X264, "-flags", "-ildct-ilme")
    encode = tmp_path / "of-both.mp4"
    run(ffmpeg, [*args, str(encode)])
    by_index = "settb=1/25,setpts=N"
    graph = f"[0:v]{by_index}[e];[1:v]{by_index}[s];[e][s]{BY_HAND}"
    right = vmaf_by_hand(encode, interlaced_later, graph, ffmpeg, tmp_path)
    assert not probe(interlaced_later).is_interlaced
    row = label_of(encode, interlaced_later, ffmpeg, tmp_path)
    assert row.vmaf == pytest.approx(right, abs=0.01)
    assert (row.warnings, row.frames_compared) == ("partly_interlaced", 48)


@pytest.mark.parametrize("names", [("same", "other", "untold"), ("untold", "other", "same")])
def test_a_label_does_not_depend_on_the_matrix_of_its_neighbours(
    names: tuple[str, ...],
    make_video: MakeVideo,
    source_video: Path,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
) -> None:
    """libvmaf's inputs agree on a matrix: in one graph the first encode's became that of all."""
    to_709 = ("-vf", "scale=out_color_matrix=bt709", "-colorspace", "bt709")
    source = make_video("709.mp4", source_video, (*to_709, "-c:v", "libx264", "-qp", "0"))
    coarse = ("-c:v", "libx264", "-crf", "38")
    encodes = {
        "same": make_video("709-coarse.mp4", source, coarse),
        "other": make_video("601-coarse.mp4", source, (*coarse, "-colorspace", "bt470bg")),
        "untold": make_video("untold-coarse.avi", source, ("-c:v", "mpeg4", "-q:v", "20")),
    }
    assert [probe(encodes[name]).matrix for name in ("same", "other", "untold")] == [
        "bt709", "bt470bg", "unknown",
    ]  # fmt: skip
    folder = work_folder(tmp_path / "work", source, {name: encodes[name] for name in names})
    rows = label(folder, ffmpeg)
    for name, encode in encodes.items():
        right = vmaf_by_hand(encode, source, PLAIN, ffmpeg, tmp_path)
        assert rows[name].vmaf == pytest.approx(right, abs=0.001), name
    assert {name: row.warnings for name, row in rows.items()} == {
        "same": "", "other": "matrix:bt709>bt470bg", "untold": "matrix:bt709>unknown",
    }  # fmt: skip
