"""Stage 1 with ffmpeg: small ladders, bad sources and rungs, interrupted runs."""

import csv
import dataclasses
import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from ladder.codecs import CODECS
from ladder.encode.plan import EncodeRow, encodes_table
from ladder.encode.run import make_encodes, shell_commands
from ladder.encode.rungs import Rung
from ladder.errors import CapabilityError, LockedError
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg, run
from ladder.media.lengths import count_frames
from ladder.media.probe import probe
from ladder.media.time_ranges import TimeRange, TrimSpec
from ladder.storage import work_lock
from tests.conftest import EXACT, MakeVideo
from tests.ladder.works import files_in, made, planned

CHEAP = (Rung(height_px=48, crf=40),)
TWO = tuple(Rung(height_px=48, crf=crf) for crf in (30, 40))
EVERY_MODE = tuple(
    rung
    for codec in CODECS
    for rung in (
        Rung(height_px=48, codec=codec, crf=35),
        Rung(height_px=48, codec=codec, crf=35, bit_depth=10),
        Rung(height_px=64, codec=codec, crf=20, maxrate_kbps=120),
        Rung(height_px=64, codec=codec, bitrate_kbps=90),
        Rung(height_px=64, codec=codec, bitrate_kbps=90, two_pass=True),
    )
)
TOO_MUCH = Rung(height_px=48, codec="libsvtav1", bitrate_kbps=1_000_000)
"""SVT-AV1 accepts at most 100 Mbit/s and refuses more when it starts."""


@pytest.fixture(scope="module")
def short_source(make_video: MakeVideo, source_video: Path) -> Path:
    """The first ten frames of `source_video`."""
    return make_video("ten.mp4", source_video, ["-frames:v", "10", "-c", "copy"])


@pytest.mark.slow
def test_every_codec_and_rate_mode_is_encoded_and_found_done_in_the_next_run(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    progress: dict[str, list[float]] = {}
    plan = planned([source_video], EVERY_MODE, tmp_path)
    assert [job.row.rung for job in plan.jobs] == [rung.name for rung in EVERY_MODE]

    rows = list(
        make_encodes(
            plan,
            tmp_path,
            ffmpeg,
            jobs=1,
            on_progress=lambda key, share: progress.setdefault(key, []).append(share),
        )
    )

    assert [row.error for row in rows] == [""] * len(EVERY_MODE)
    by_name = {row.rung: row for row in rows}
    for rung in EVERY_MODE:
        row = by_name[rung.name]
        encode = tmp_path / row.encode_path
        info = probe(encode)
        assert row.status == "ok"
        assert row.encode_path == f"source/{rung.name}.mp4"
        assert (row.codec, row.rate_mode, row.crf) == (rung.codec, rung.rate_mode, rung.crf)
        assert row.target_kbps == rung.bitrate_kbps
        assert (row.width_px, row.height_px) == rung.size_for((192, 108))
        assert (info.width_px, info.height_px) == (row.width_px, row.height_px)
        assert (row.display_width_px, row.display_height_px) == (192, 108)
        assert (info.bit_depth, info.hdr) == (rung.bit_depth or 8, "")
        assert (row.fps, row.frame_count) == (Fraction(25), 24)
        assert count_frames(encode) == 24
        assert row.duration_s == pytest.approx(0.96)
        assert row.size_bytes == encode.stat().st_size
        assert row.bitrate_kbps == pytest.approx(encode.stat().st_size * 8 / 1000 / 0.96, abs=1e-3)
        assert row.ffmpeg_version == ffmpeg.version
        assert (row.encode_s or 0) > 0
        assert row.pieces == ""
    assert set(progress) == {row.key for row in rows}
    assert all(0 <= share <= 1 for shares in progress.values() for share in shares)
    assert files_in(tmp_path) == {"encodes.csv", *(row.encode_path for row in rows)}

    again = planned([source_video], EVERY_MODE, tmp_path)
    assert (again.jobs, again.failed) == ((), ())
    assert {row.key for row in again.done} == {row.key for row in rows}
    before = (tmp_path / "encodes.csv").read_bytes()
    assert list(make_encodes(again, tmp_path, ffmpeg)) == []
    assert (tmp_path / "encodes.csv").read_bytes() == before
    with (tmp_path / "encodes.csv").open(newline="") as file:
        keys = [row["encode_path"] for row in csv.DictReader(file)]
    assert keys == sorted(keys)


def test_encodes_of_one_process_are_byte_equal_to_encodes_made_alone(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """The file of one encode depends on the rung and the source, not on what else was asked for."""
    rungs = [
        *(Rung(height_px=height, crf=30) for height in (108, 64, 48)),
        Rung(height_px=64, bitrate_kbps=90),
        Rung(height_px=64, crf=30, bit_depth=10),
    ]
    together = made([short_source], rungs, tmp_path / "together", ffmpeg)
    for rung in rungs:
        made([short_source], [rung], tmp_path / "alone", ffmpeg)
    assert len(together) == len(rungs)
    for row in together:
        digests = {
            hashlib.sha256((tmp_path / how / row.encode_path).read_bytes()).hexdigest()
            for how in ("together", "alone")
        }
        assert len(digests) == 1, row.rung


def test_a_row_is_yielded_after_it_is_written(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rows = make_encodes(planned([short_source], TWO, tmp_path), tmp_path, ffmpeg, jobs=2)
    first = next(rows)
    assert [row.key for row in encodes_table(tmp_path).rows()] == [first.key]
    assert (tmp_path / first.encode_path).is_file()
    rows.close()  # type: ignore[attr-defined]  # it is a generator
    assert not list(tmp_path.rglob("*.part"))
    left = [job.row.rung for job in planned([short_source], TWO, tmp_path).jobs]
    assert left == [rung.name for rung in TWO if rung.name != first.rung]


# ---- what cannot be made


def test_a_rung_that_fails_leaves_the_others_unharmed(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rows = made([short_source], [*TWO, TOO_MUCH], tmp_path, ffmpeg)
    errors = {row.rung: row.error for row in rows}
    assert "libsvtav1" in errors.pop(TOO_MUCH.name)
    assert errors == {rung.name: "" for rung in TWO}
    (bad,) = (row for row in rows if row.error)
    assert bad.error.startswith("ffmpeg exited with")  # the source is whole, and not to blame
    assert (bad.status, bad.size_bytes, bad.encode_s) == ("error", None, None)
    assert files_in(tmp_path) == {"encodes.csv", *(f"ten/{rung.name}.mp4" for rung in TWO)}
    # only this one is tried again
    (job,) = planned([short_source], [*TWO, TOO_MUCH], tmp_path).jobs
    assert job.rung == TOO_MUCH


def test_an_encode_that_cannot_be_moved_to_its_place_is_an_error_row(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "ten" / f"{TWO[0].name}.mp4"
    in_the_way.mkdir(parents=True)
    rows = made([short_source], TWO, tmp_path, ffmpeg)
    assert [row.status for row in rows] == ["error", "ok"]
    assert str(in_the_way) in rows[0].error
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("kind", "says"),
    [("text", "cannot be opened"), ("empty", "no bytes"), ("gone", "not a file")],
)
def test_a_source_that_is_not_a_video_is_an_error_row_without_files(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path, kind: str, says: str
) -> None:
    bad = tmp_path / f"{kind}.mp4"
    if kind != "gone":
        bad.write_text("I am no video.\n" * (kind == "text") * 100)
    folder = tmp_path / "encodes"
    rows = made([bad, short_source], CHEAP, folder, ffmpeg)
    errors = [row for row in rows if row.status == "error"]
    assert [(row.source, row.source_path) for row in errors] == [(kind, str(bad))]
    assert says in errors[0].error
    assert errors[0].bitrate_kbps is None
    assert {row.status for row in rows} == {"ok", "error"}  # the others are made
    assert encodes_table(folder).rows() == rows
    assert files_in(folder) == {"encodes.csv", "ten/48p-crf40-x264.mp4"}


def test_a_source_that_makes_the_reader_fail_is_an_error_row_and_the_others_are_made(
    short_source: Path, make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """Two transport streams with other PIDs in one file: PyAV raises an IndexError."""
    scene = "testsrc2=size=96x64:rate=25:duration=1"
    late = ("-mpegts_start_pid", "0x200", "-mpegts_pmt_start_pid", "0x1100",
            "-output_ts_offset", "2")  # fmt: skip
    first = make_video("pid-100.ts", scene, (*EXACT, "-mpegts_start_pid", "0x100"))
    second = make_video("pid-200.ts", scene, (*EXACT, *late))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    rows = made([joined, short_source], CHEAP, tmp_path / "work", ffmpeg)
    (good,) = [row for row in rows if row.status == "ok"]
    assert good.source == "ten"
    for row in rows:
        assert row is good or "joined.ts" in row.error


def test_a_source_whose_folder_cannot_be_made_is_an_error_row(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    (tmp_path / "ten").write_text("a file is in the way")
    rows = made([short_source], TWO, tmp_path, ffmpeg)
    assert [row.status for row in rows] == ["error", "error"]
    assert all(str(tmp_path / "ten") in row.error for row in rows)


def test_a_repaired_source_leaves_no_error_row(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    source, folder = tmp_path / "late.mp4", tmp_path / "encodes"
    source.write_text("still being copied")
    assert [row.status for row in made([source], CHEAP, folder, ffmpeg)] == ["error"]
    source.write_bytes(short_source.read_bytes())
    assert [row.status for row in made([source], CHEAP, folder, ffmpeg)] == ["ok"]
    assert [row.status for row in encodes_table(folder).rows()] == ["ok"]


def test_a_truncated_source_is_an_error_row_and_not_a_short_encode(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    args = ("-c:v", "libx264", "-crf", "10", "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    whole = make_video("fast.mp4", "testsrc2=size=96x64:rate=10:duration=4", args)
    trim = tmp_path / "cut.mp4"
    trim.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    folder = tmp_path / "encodes"
    rows = made([trim], TWO, folder, ffmpeg)
    assert [row.status for row in rows] == ["error", "error"]
    assert all(row.error for row in rows)
    assert {(row.bitrate_kbps, row.frame_count, row.encode_s) for row in rows} == {(None,) * 3}
    assert files_in(folder) == {"encodes.csv"}
    # tried again, in case it was mended
    assert len(planned([trim], TWO, folder).jobs) == 2


def cut_of(make_video: MakeVideo, suffix: str, folder: Path, more: int = 0) -> Path:
    """The first 24 of 40 frames, and some bytes `more`."""
    args = ("-c:v", "libx264", "-g", "5", "-bf", "0", "-pix_fmt", "yuv420p")
    whole = make_video(f"ends-early.{suffix}", "testsrc2=size=96x64:rate=10:duration=4", args)
    with av.open(str(whole)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    cut = folder / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: starts[24] + more])
    return cut


@pytest.mark.parametrize(
    ("suffix", "what"), [("mkv", "ends at"), ("flv", "ends at"), ("avi", "has ")]
)
def test_a_source_that_ends_early_is_encoded_and_named(
    make_video: MakeVideo,
    ffmpeg: Ffmpeg,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    suffix: str,
    what: str,
) -> None:
    cut = cut_of(make_video, suffix, tmp_path)
    (row,) = made([cut], TWO[:1], tmp_path / "encodes", ffmpeg)
    assert row.error == ""
    assert row.frame_count == 24
    assert f"{cut} {what}" in caplog.text


def test_the_error_of_a_source_that_ends_inside_a_frame_says_so(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    cut = cut_of(make_video, "wmv", tmp_path, more=50)
    (row,) = made([cut], TWO[:1], tmp_path / "encodes", ffmpeg)
    assert row.error.startswith(f"{cut} has {cut.stat().st_size} bytes, its header states ")
    assert "make it anew" in row.error


def test_the_error_of_a_broadcast_that_ends_inside_a_frame_has_a_command_that_helps(
    make_video: MakeVideo, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    """A transport stream states no end, and a recorder stops at any packet."""
    coder = ("-c:v", "mpeg2video", "-b:v", "2M", "-g", "12", "-bf", "2")
    whole = make_video("recorded.ts", "testsrc2=size=192x108:rate=25:duration=3", coder)
    with av.open(str(whole)) as container:
        starts = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    cut = tmp_path / "cut.ts"
    cut.write_bytes(whole.read_bytes()[: (starts[60] + starts[61]) // 2 // 188 * 188])
    (row,) = made([cut], TWO[:1], tmp_path / "encodes", ffmpeg)
    assert row.error.startswith(f"{cut} ends inside a frame")
    (command,) = re.findall(r"\(ffmpeg (.*?)\)", row.error)
    run(ffmpeg, command.split(), cwd=tmp_path)
    (row,) = made([tmp_path / "cut-2.mkv"], TWO[:1], tmp_path / "copied", ffmpeg)
    assert row.error == ""
    assert 50 < (row.frame_count or 0) <= 60


def test_a_missing_encoder_is_an_error_before_the_first_encode(
    short_source: Path, tmp_path: Path
) -> None:
    small = tmp_path / "ffmpeg"
    small.write_text("#!/bin/sh\necho ffmpeg version small\necho ' V....D libx264 '\n")
    small.chmod(0o755)
    folder = tmp_path / "encodes"
    rungs = [*CHEAP, Rung(height_px=48, crf=40, codec="libx265")]
    with pytest.raises(CapabilityError, match="libx265"):
        made([short_source], rungs, folder, find_ffmpeg(small))
    assert files_in(folder) == set()


# ---- after a crash, beside another run


def test_partial_files_of_an_earlier_run_are_removed(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    for name in ("gone/64p.mp4.vqatool.part", "encodes.csv.vqatool.part"):
        (tmp_path / name).write_bytes(b"half")
    made([short_source], CHEAP, tmp_path, ffmpeg)
    assert files_in(tmp_path) == {"encodes.csv", "ten/48p-crf40-x264.mp4"}


def test_a_torn_table_is_repaired_and_only_the_lost_encode_is_made_again(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    rows = made([short_source], TWO, tmp_path, ffmpeg)
    table = tmp_path / "encodes.csv"
    os.truncate(table, table.stat().st_size - 7)
    plan = planned([short_source], TWO, tmp_path)
    assert [job.row.key for job in plan.jobs] == [rows[1].key]
    list(make_encodes(plan, tmp_path, ffmpeg))
    assert [row.key for row in encodes_table(tmp_path).rows()] == [row.key for row in rows]


def test_a_folder_in_use_by_another_run_is_not_changed(
    short_source: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    plan = planned([short_source], CHEAP, tmp_path)
    with work_lock(tmp_path), pytest.raises(LockedError, match="in use by another run"):
        list(make_encodes(plan, tmp_path, ffmpeg))
    assert files_in(tmp_path) == set()


MAKE = """
import sys
from pathlib import Path
from ladder import Ladder, Rung, find_ffmpeg, make_encodes, plan_ladder

folder, sources = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
rungs = Ladder(tuple(Rung(height_px=48, crf=crf) for crf in (30, 40)))
for row in make_encodes(plan_ladder(sources, rungs, folder), folder, find_ffmpeg(), jobs=1):
    print(row.key, flush=True)
    sys.stdin.readline()  # what began already goes on
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_table_as_an_uninterrupted_run(
    source_video: Path, tmp_path: Path
) -> None:
    sources = [tmp_path / f"{name}.mp4" for name in "abc"]  # a process for each
    for source in sources:
        source.write_bytes(source_video.read_bytes())

    def start(folder: Path, stdin: int = subprocess.DEVNULL) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", MAKE, str(folder), *map(str, sources)]
        return subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, text=True)

    def table(folder: Path) -> list[EncodeRow]:
        return [dataclasses.replace(row, encode_s=None) for row in encodes_table(folder).rows()]

    with start(tmp_path / "smooth") as smooth:
        assert len(list(smooth.stdout or ())) == 6
    with start(tmp_path / "killed", stdin=subprocess.PIPE) as killed:  # waits after one encode
        assert killed.stdout
        killed.stdout.readline()
        time.sleep(0.02)  # perhaps into the middle of the next
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert len(table(tmp_path / "killed")) < 6
    with start(tmp_path / "killed") as resumed:
        again = list(resumed.stdout or ())
    assert resumed.returncode == 0
    assert 0 < len(again) < 6  # what was done is not made again
    assert table(tmp_path / "killed") == table(tmp_path / "smooth")
    assert files_in(tmp_path / "killed") == files_in(tmp_path / "smooth")


# ---- a dry run


@pytest.mark.parametrize(
    "trim", [TrimSpec(), TrimSpec(clip=TimeRange(0.2, 0.4)), TrimSpec(segments=(2, 0.2))], ids=str
)
def test_the_commands_of_a_dry_run_make_the_same_files(
    source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path, trim: TrimSpec
) -> None:
    source = tmp_path / "it's $HOME.mp4"
    source.write_bytes(source_video.read_bytes())
    rungs = [*TWO, Rung(height_px=48, bitrate_kbps=60, two_pass=True)]
    pasted, run = tmp_path / "pasted here", tmp_path / "run"
    commands = list(shell_commands(planned([source], rungs, pasted, trim), ffmpeg, jobs=1))
    assert len(commands) == 2
    (pasted / source.stem).mkdir(parents=True)
    for command in commands:
        subprocess.run(["bash", "-ec", command], check=True, cwd=tmp_path, capture_output=True)
    for row in made([source], rungs, run, ffmpeg, trim):
        assert row.error == ""
        assert (pasted / row.encode_path).read_bytes() == (run / row.encode_path).read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {source.name, "pasted here", "run"}
