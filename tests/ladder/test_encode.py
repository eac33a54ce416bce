"""Stage 1: arguments by value, then small real ladders, of bad sources and after crashes too."""

import csv
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from ladder.codecs import GOP_S
from ladder.errors import CapabilityError
from ladder.ffmpeg import ENCODERS, Ffmpeg, find_ffmpeg, run
from ladder.probe import VideoInfo, count_frames, probe
from ladder.rungs import Rung
from ladder.tables import EncodeRow
from ladder.transcode import (
    encodes_table,
    make_encodes,
    plan_ladder,
    shell_commands,
    transcode_args,
)
from tests.conftest import MakeVideo

CHEAP = (Rung(height_px=48, crf=40),)
EVERY_CODEC = tuple(
    rung
    for codec in ENCODERS
    for rung in (
        Rung(height_px=48, codec=codec, crf=35),
        Rung(height_px=64, codec=codec, bitrate_kbps=60),  # below it SVT-AV1 has no VBR
    )
)

ODD_NAMES = [
    "two words", "quote's", 'double "quote"', "comma, semi;colon", "co:lon", "two\nlines",
    "\U0001f3ac", "-dash", "100%d", "[0:v]", "back\\slash", "$HOME", ".hidden",
]  # fmt: skip


def ladder(
    sources: Iterable[Path], rungs: Sequence[Rung], folder: Path, ffmpeg: Ffmpeg
) -> list[EncodeRow]:
    """Plan and make; the rows in the order of the finished table."""
    rows = list(make_encodes(plan_ladder(sources, rungs, folder), folder, ffmpeg, jobs=1))
    return sorted(rows, key=lambda row: row.key)


def files_in(folder: Path) -> set[str]:
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return files - {".lock"}


# ---- arguments


@pytest.fixture
def info(source_video: Path) -> VideoInfo:
    return dataclasses.replace(probe(source_video), path=Path("/films/in.mp4"))


def options(args: Sequence[str]) -> dict[str, str]:
    """Output options by name."""
    between = args[args.index("-map") :]
    return {name: value for name, value in pairwise(between) if name.startswith("-")}


RATE_OPTIONS = {"-crf", "-b:v", "-maxrate", "-bufsize"}


@pytest.mark.parametrize(
    ("codec", "crf", "bitrate_kbps", "rate"),
    [
        ("libx264", 30, None, {"-crf": "30"}),
        ("libx265", 30, None, {"-crf": "30"}),
        ("libsvtav1", 30, None, {"-crf": "30"}),
        ("libvpx-vp9", 30, None, {"-crf": "30", "-b:v": "0"}),  # else the CRF is only a cap
        ("libx264", None, 300, {"-b:v": "300k", "-maxrate": "600k", "-bufsize": "600k"}),
        ("libx265", None, 300, {"-b:v": "300k", "-maxrate": "600k", "-bufsize": "600k"}),
        ("libsvtav1", None, 300, {"-b:v": "300k"}),  # it refuses a cap outside of CRF
        ("libvpx-vp9", None, 300, {"-b:v": "300k", "-maxrate": "600k", "-bufsize": "600k"}),
    ],
)
def test_each_codec_spends_bits_the_way_it_understands(
    info: VideoInfo, codec: str, crf: int | None, bitrate_kbps: int | None, rate: dict[str, str]
) -> None:
    rung = Rung(height_px=64, codec=codec, crf=crf, bitrate_kbps=bitrate_kbps)
    args = transcode_args(info, rung, Path("/out/e.mp4.part"), threads=2)
    given = options(args)
    assert {name: given[name] for name in RATE_OPTIONS & set(given)} == rate
    assert given["-c:v"] == codec
    assert given["-threads"] == "2"
    assert given["-fps_mode"] == "passthrough"
    assert given["-map_metadata"] == "-1"
    assert given["-f"] == "mp4"  # the suffix is .part
    assert "-xerror" in args
    assert "-y" in args


def test_input_and_output_are_files_whatever_they_are_called(info: VideoInfo) -> None:
    odd = dataclasses.replace(info, path=Path("/films/-i http:[0:v],x'.mp4"))
    args = transcode_args(odd, CHEAP[0], Path("/out/a b.mp4.part"))
    assert args[args.index("-i") + 1] == "file:/films/-i http:[0:v],x'.mp4"
    assert "file:/out/a b.mp4.part" in args
    assert args[args.index("-protocol_whitelist") + 1] == "file,crypto,data"
    assert "films" not in args[args.index("-filter_complex") + 1]


def test_the_picture_is_scaled_bicubic_to_limited_range_and_square_pixels(info: VideoInfo) -> None:
    args = transcode_args(info, Rung(height_px=64, crf=30), Path("/out/e.mp4"))
    assert args[args.index("-filter_complex") + 1] == (
        "[0:V:0]scale=114:64:flags=bicubic:in_range=auto:out_range=tv[s0];"
        "[s0]setsar=1[s1];[s1]format=yuv420p[s2]"
    )
    assert options(args)["-map"] == "[s2]"


def test_a_deep_source_stays_deep_and_an_interlaced_one_is_deinterlaced(info: VideoInfo) -> None:
    special = dataclasses.replace(info, bit_depth=10, is_interlaced=True)
    args = transcode_args(special, CHEAP[0], Path("/out/e.mp4"))
    graph = args[args.index("-filter_complex") + 1]
    assert "format=yuv420p10le" in graph
    assert graph.startswith("[0:V:0]bwdif=")
    assert "mode=send_frame" in graph  # one frame out for one frame in: labels count on it


@pytest.mark.parametrize(
    ("fps", "frames"),
    [(Fraction(25), 50), (Fraction(30000, 1001), 60), (Fraction(60), 120), (Fraction(24), 48)],
)
def test_key_frames_stand_every_two_seconds(info: VideoInfo, fps: Fraction, frames: int) -> None:
    assert GOP_S == 2
    by_codec = {
        codec: options(
            transcode_args(
                dataclasses.replace(info, fps=fps),
                Rung(height_px=64, codec=codec, crf=30),
                Path("/out/e.mp4"),
            )
        )
        for codec in ENCODERS
    }
    assert by_codec["libx264"]["-g"] == by_codec["libx264"]["-keyint_min"] == str(frames)
    assert by_codec["libx264"]["-sc_threshold"] == "0"
    assert by_codec["libx265"]["-x265-params"].startswith(
        f"keyint={frames}:min-keyint={frames}:scenecut=0:open-gop=0"
    )
    assert by_codec["libsvtav1"]["-g"] == by_codec["libvpx-vp9"]["-g"] == str(frames)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ENCODERS)
def test_key_frames_of_a_real_encode_stand_every_two_seconds(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path, codec: str
) -> None:
    source = make_video("cuts.mp4", "testsrc2=size=96x64:rate=5:duration=5")
    (row,) = ladder([source], [Rung(height_px=64, codec=codec, crf=40)], tmp_path, ffmpeg)
    assert row.error == ""
    with av.open(str(tmp_path / row.encode_path)) as container:
        keys = [p.pts for p in container.demux(video=0) if p.is_keyframe and p.pts is not None]
        time_base = container.streams.video[0].time_base
    assert time_base is not None
    assert [round(float((pts - keys[0]) * time_base), 2) for pts in keys] == [0.0, 2.0, 4.0]


# ---- real ladders


@pytest.fixture(scope="module")
def short_source(make_video: MakeVideo, source_video: Path) -> Path:
    """The first ten frames of `source_video`."""
    return make_video("short.mp4", source_video, ["-frames:v", "10", "-c", "copy"])


@pytest.mark.slow
def test_a_ladder_over_every_codec_is_made_measured_and_then_found_done(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    told: dict[str, list[float]] = {}
    plan = plan_ladder([source_video], EVERY_CODEC, tmp_path)
    assert [job.row.rung for job in plan.jobs] == [rung.name for rung in EVERY_CODEC]
    assert files_in(tmp_path) == set()  # a plan writes nothing
    assert all(job.cost > 0 for job in plan.jobs)

    rows = list(
        make_encodes(
            plan,
            tmp_path,
            ffmpeg,
            jobs=1,
            on_progress=lambda key, share: told.setdefault(key, []).append(share),
        )
    )

    assert [row.error for row in rows] == [""] * len(EVERY_CODEC)
    for row, rung in zip(rows, EVERY_CODEC, strict=True):
        encode = tmp_path / row.encode_path
        made = probe(encode)
        assert row.status == "ok"
        assert row.encode_path == f"source/{rung.name}.mp4"
        assert (row.codec, row.rate_mode, row.crf) == (rung.codec, rung.rate_mode, rung.crf)
        assert row.target_kbps == rung.bitrate_kbps
        assert (row.width_px, row.height_px) == rung.size_for((192, 108))
        assert (made.width_px, made.height_px) == (row.width_px, row.height_px)
        assert (row.display_width_px, row.display_height_px) == (192, 108)
        assert (row.fps, row.frame_count) == (Fraction(25), 24)
        assert count_frames(encode) == 24
        assert row.duration_s == pytest.approx(0.96)
        assert row.size_bytes == encode.stat().st_size
        assert row.bitrate_kbps == pytest.approx(encode.stat().st_size * 8 / 1000 / 0.96, abs=1e-3)
        assert row.ffmpeg_version == ffmpeg.version
        assert row.encode_s is not None
        assert row.encode_s > 0
    assert set(told) == {row.key for row in rows}
    assert all(0 <= share <= 1 for shares in told.values() for share in shares)
    assert files_in(tmp_path) == {"encodes.csv", *(row.encode_path for row in rows)}

    again = plan_ladder([source_video], EVERY_CODEC, tmp_path)
    assert (again.jobs, again.failed) == ((), ())
    assert {row.key for row in again.done} == {row.key for row in rows}
    before = (tmp_path / "encodes.csv").read_bytes()
    assert list(make_encodes(again, tmp_path, ffmpeg)) == []
    assert (tmp_path / "encodes.csv").read_bytes() == before
    with (tmp_path / "encodes.csv").open(newline="") as file:
        keys = [row["encode_path"] for row in csv.DictReader(file)]
    assert keys == sorted(keys)


def test_a_row_is_yielded_only_when_it_stands_in_the_table(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rungs = [Rung(height_px=48, crf=crf) for crf in (30, 40)]
    rows = make_encodes(plan_ladder([short_source], rungs, tmp_path), tmp_path, ffmpeg, jobs=1)
    first = next(rows)
    assert [row.key for row in encodes_table(tmp_path).rows()] == [first.key]
    assert (tmp_path / first.encode_path).is_file()
    rows.close()  # type: ignore[attr-defined]  # it is a generator
    assert not list(tmp_path.rglob("*.part"))
    assert [job.row.rung for job in plan_ladder([short_source], rungs, tmp_path).jobs] == [
        "48p-crf40-x264"
    ]


@pytest.mark.parametrize("harm", ["deleted", "truncated"])
def test_an_encode_that_is_gone_or_cut_is_made_again(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, harm: str
) -> None:
    rungs = [Rung(height_px=48, crf=crf) for crf in (30, 40)]
    first, second = ladder([short_source], rungs, tmp_path, ffmpeg)
    encode = tmp_path / first.encode_path
    if harm == "deleted":
        encode.unlink()
    else:
        os.truncate(encode, 100)

    plan = plan_ladder([short_source], rungs, tmp_path)

    assert [job.row.key for job in plan.jobs] == [first.key]
    assert [row.key for row in plan.done] == [second.key]
    (made,) = make_encodes(plan, tmp_path, ffmpeg)
    assert encode.stat().st_size == made.size_bytes == first.size_bytes
    assert [row.key for row in encodes_table(tmp_path).rows()] == [first.key, second.key]


def test_a_new_rung_adds_only_itself(short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    ladder([short_source], CHEAP, tmp_path, ffmpeg)
    rungs = [*CHEAP, Rung(height_px=48, crf=30)]
    (row,) = ladder([short_source], rungs, tmp_path, ffmpeg)
    assert row.rung == "48p-crf30-x264"
    assert len(encodes_table(tmp_path).rows()) == 2


@pytest.mark.parametrize(
    ("kind", "says"),
    [("text", "cannot be opened"), ("empty", "no bytes"), ("gone", "not a file")],
)
def test_a_source_that_is_no_video_is_an_error_row_and_leaves_no_file(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, kind: str, says: str
) -> None:
    bad = tmp_path / f"{kind}.mp4"
    if kind != "gone":
        bad.write_text("I am no video.\n" * (kind == "text") * 100)
    folder = tmp_path / "encodes"
    rows = ladder([bad, short_source], CHEAP, folder, ffmpeg)
    errors = [row for row in rows if row.status == "error"]
    assert [(row.source, row.source_path) for row in errors] == [(kind, str(bad))]
    assert says in errors[0].error
    assert errors[0].bitrate_kbps is None
    assert {row.status for row in rows} == {"ok", "error"}  # the others are made
    assert encodes_table(folder).rows() == rows
    assert files_in(folder) == {"encodes.csv", "short/48p-crf40-x264.mp4"}


def test_a_source_that_was_mended_leaves_no_error_row(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source, folder = tmp_path / "late.mp4", tmp_path / "encodes"
    source.write_text("still being copied")
    assert [row.status for row in ladder([source], CHEAP, folder, ffmpeg)] == ["error"]
    source.write_bytes(short_source.read_bytes())
    assert [row.status for row in ladder([source], CHEAP, folder, ffmpeg)] == ["ok"]
    assert [row.status for row in encodes_table(folder).rows()] == ["ok"]


def test_a_source_that_breaks_off_is_an_error_row_and_not_a_short_encode(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    whole = make_video("fast.mp4", "testsrc2=size=96x64:rate=10:duration=4", args)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    folder = tmp_path / "encodes"
    (row,) = ladder([cut], CHEAP, folder, ffmpeg)
    assert row.status == "error"
    assert row.error
    assert (row.bitrate_kbps, row.frame_count, row.encode_s) == (None, None, None)
    assert files_in(folder) == {"encodes.csv"}
    # tried again, in case it was mended
    assert len(plan_ladder([cut], CHEAP, folder).jobs) == 1


def test_a_source_below_every_rung_or_in_hdr_is_an_error_row_that_says_so(
    make_video: MakeVideo, short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    args = ("-vf", tags, "-c:v", "libx264", "-pix_fmt", "yuv420p10le")
    hdr = make_video("hdr.mp4", "testsrc2=size=96x64:rate=25:duration=0.2", args)
    rows = ladder([hdr, short_source], [Rung(height_px=720, crf=30)], tmp_path, ffmpeg)
    said = {row.source: row.error for row in rows}
    assert "HDR (pq)" in said["hdr"]
    assert "192x108" in said["short"]
    assert "720" in said["short"]


def test_rungs_above_the_source_are_left_out_of_the_plan(
    short_source: Path, tmp_path: Path
) -> None:
    rungs = [Rung(height_px=h, crf=30) for h in (48, 108, 110, 720)]
    plan = plan_ladder([short_source], rungs, tmp_path)
    assert [job.rung.height_px for job in plan.jobs] == [48, 108]


def test_half_written_files_of_an_earlier_run_are_removed(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    for name in ("gone/64p.mp4.part", "encodes.csv.part"):
        (tmp_path / name).write_bytes(b"half")
    ladder([short_source], CHEAP, tmp_path, ffmpeg)
    assert files_in(tmp_path) == {"encodes.csv", "short/48p-crf40-x264.mp4"}


def test_a_torn_table_is_mended_and_only_the_lost_row_is_made_again(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rungs = [Rung(height_px=48, crf=crf) for crf in (30, 40)]
    rows = ladder([short_source], rungs, tmp_path, ffmpeg)
    table = tmp_path / "encodes.csv"
    os.truncate(table, table.stat().st_size - 7)
    plan = plan_ladder([short_source], rungs, tmp_path)
    assert [job.row.key for job in plan.jobs] == [rows[1].key]
    list(make_encodes(plan, tmp_path, ffmpeg))
    assert [row.key for row in encodes_table(tmp_path).rows()] == [row.key for row in rows]


@pytest.mark.slow
def test_any_file_name_can_be_a_source_twice(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    sources = [tmp_path / f"{name}.mp4" for name in ODD_NAMES]
    for source in sources:
        source.write_bytes(short_source.read_bytes())
    folder = tmp_path / "encodes"
    rows = ladder(sources, CHEAP, folder, ffmpeg)
    errors = {row.source_path: row.error for row in rows}
    assert errors == dict.fromkeys(map(str, sources), "")
    for row in rows:
        assert count_frames(folder / row.encode_path) == 10
    assert len(encodes_table(folder).rows()) == len(ODD_NAMES)

    plan = plan_ladder(sources, [*CHEAP, Rung(height_px=48, crf=30)], folder)
    assert (len(plan.done), len(plan.jobs)) == (len(ODD_NAMES), len(ODD_NAMES))
    (row,) = make_encodes(dataclasses.replace(plan, jobs=plan.jobs[:1]), folder, ffmpeg)
    assert row.status == "ok"


@pytest.mark.parametrize(
    "name",
    ["...mp4", "..mp4", "x.part.mp4", "encodes.csv.mp4", "encodes.csv.part.mp4", ".lock.mp4"],
)
def test_no_source_is_named_so_that_its_encodes_leave_the_folder_or_hit_the_table(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, name: str
) -> None:
    source = tmp_path / "films" / name
    source.parent.mkdir()
    source.write_bytes(short_source.read_bytes())
    folder = tmp_path / "films" / "encodes"
    for crf in (30, 40):
        (row,) = ladder([source], [Rung(height_px=48, crf=crf)], folder, ffmpeg)
        assert row.error == ""
        assert (folder / row.encode_path).resolve().is_relative_to(folder)
    assert len(encodes_table(folder).rows()) == 2
    assert {path.name for path in source.parent.iterdir()} == {name, "encodes"}


def test_two_sources_of_one_name_do_not_collide_in_this_run_or_the_next(
    make_video: MakeVideo, short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    other = make_video("other.mp4", "testsrc2=size=96x64:rate=25:duration=0.2")
    sources = [
        tmp_path / "a" / "clip.mp4",
        tmp_path / "b" / "clip.mp4",
        tmp_path / "a" / "clip.mkv",
    ]
    for path, content in zip(sources, [short_source, other, other], strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.read_bytes())
    folder = tmp_path / "encodes"
    rows = ladder(sources, CHEAP, folder, ffmpeg)
    assert len({row.source for row in rows}) == 3
    assert len({row.encode_path for row in rows}) == 3
    widths = {row.source_path: row.width_px for row in rows}
    assert widths == {str(sources[0]): 86, str(sources[1]): 72, str(sources[2]): 72}
    for order in (sources, sources[::-1], sources[1:]):
        plan = plan_ladder(order, CHEAP, folder)
        assert plan.jobs == ()
        assert [row.source_path for row in plan.done] == [str(path) for path in order]


def test_a_missing_encoder_is_said_before_anything_is_made(
    short_source: Path, tmp_path: Path
) -> None:
    small = tmp_path / "ffmpeg"
    small.write_text("#!/bin/sh\necho ffmpeg version small\necho ' V....D libx264 '\n")
    small.chmod(0o755)
    folder = tmp_path / "encodes"
    rungs = [*CHEAP, Rung(height_px=48, crf=40, codec="libx265")]
    with pytest.raises(CapabilityError, match="libx265"):
        ladder([short_source], rungs, folder, find_ffmpeg(small))
    assert files_in(folder) == set()


def test_a_dry_run_prints_commands_that_work(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    plan = plan_ladder([short_source], CHEAP, tmp_path)
    (command,) = shell_commands(plan, ffmpeg)
    program, *args = shlex.split(command)
    assert program == ffmpeg.path
    (tmp_path / "short").mkdir()
    run(ffmpeg, args)
    assert count_frames(tmp_path / "short" / "48p-crf40-x264.mp4") == 10


MAKE = """
import sys
from pathlib import Path
from ladder import find_ffmpeg, make_encodes, plan_ladder
from ladder.rungs import Rung

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
rungs = [Rung(height_px=48, crf=crf) for crf in range(30, 36)]
for row in make_encodes(plan_ladder([source], rungs, folder), folder, find_ffmpeg(), jobs=2):
    print(row.key, flush=True)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_table_as_one_that_was_not(
    source_video: Path, tmp_path: Path
) -> None:
    def start(folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", MAKE, str(source_video), str(folder)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def table(folder: Path) -> list[EncodeRow]:
        return [dataclasses.replace(row, encode_s=None) for row in encodes_table(folder).rows()]

    with start(tmp_path / "smooth") as smooth:
        assert len(list(smooth.stdout or ())) == 6
    with start(tmp_path / "killed") as killed:
        assert killed.stdout
        killed.stdout.readline()
        time.sleep(0.02)  # into the middle of the next
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert len(table(tmp_path / "killed")) < 6
    with start(tmp_path / "killed") as resumed:
        made = list(resumed.stdout or ())
    assert resumed.returncode == 0
    assert 0 < len(made) < 6  # what was done is not made again
    assert table(tmp_path / "killed") == table(tmp_path / "smooth")
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "smooth")


def test_a_source_is_the_same_by_whatever_way_it_is_named(
    source_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "clip.mp4").symlink_to(source_video)
    ways = [source_video, Path("..") / "clip.mp4"]
    paths = {plan_ladder([way], CHEAP, tmp_path).jobs[0].row.source_path for way in ways}
    assert paths == {str(source_video.resolve())}
