"""CSV tables: every value comes back, and a crash costs no more than the row it tore."""

import contextlib
import csv
import dataclasses
import fcntl
import math
import os
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import pytest

from ladder.encode.plan import EncodeRow
from ladder.encode.rungs import RateMode
from ladder.errors import LockedError, OutputError, TableError
from ladder.label.files import LabelFiles
from ladder.label.pairing import PairingMode
from ladder.label.rows import LabelRow
from ladder.storage import (
    Table,
    atomic_write,
    locked,
    part_of,
    remove_parts,
    require_writable,
    work_lock,
)

NASTY_NAMES = [
    "plain",
    "comma, and; semicolon",
    'a "quoted" name',
    '"',
    "two\nlines",
    "carriage\rreturn\r\n",
    "\U0001f3ac film \N{COMBINING ACUTE ACCENT}",
    " spaces ",
    "=1+1",
    "+1",
    "-1-name",
    "@SUM(A1)",
    "\t=1",
    "'=1+1",
    "''@x",
    "'quoted'",
    os.fsdecode(b"latin-1 \xe9\xff.mp4"),  # no valid UTF-8: comes as surrogates
]


def encode_row(name: str = "clip", rung: str = "64p-crf30-x264", **values: object) -> EncodeRow:
    row = EncodeRow(
        source=name,
        source_path=f"/films/{name}.mp4",
        encode_path=f"{name}/{rung}.mp4",
        rung=rung,
        codec="libx264",
        rate_mode=RateMode.CRF,
    )
    return dataclasses.replace(row, **values)  # type: ignore[arg-type]


FULL_ENCODE = encode_row(
    target_kbps=300,
    bitrate_kbps=287.5,
    width_px=114,
    height_px=64,
    display_width_px=192,
    display_height_px=108,
    fps=Fraction(30000, 1001),
    frame_count=24,
    duration_s=0.8008,
    size_bytes=28779,
    ffmpeg_version="7.0.2-static",
    encode_s=0.25,
    crf=30,
    pieces="30+10 60.5+10",
)
FULL_LABEL = LabelRow(
    encode_path="clip/64p-crf30-x264.mp4",
    source="clip",
    rung="64p-crf30-x264",
    vmaf=76.6689,
    vmaf_hmean=76.5,
    vmaf_min=0.0,
    vmaf_p1=70.25,
    vmaf_p5=71.125,
    vmaf_std=1.0625,
    vmaf_neg=75.0,
    vmaf_v1=None,
    psnr_y=30.5,
    frames_source=24,
    frames_encode=24,
    frames_compared=24,
    pairing=PairingMode.INDEX,
    scale="192x108 bicubic",
    pix_fmt="yuv420p",
    vmaf_model="vmaf_v0.6.1",
    libvmaf_version="3.0.0",
    warnings="vfr;shifted:-1",
    label_s=1.5,
)


def encodes(folder: Path) -> Table[EncodeRow]:
    return Table(folder / "encodes.csv", EncodeRow)


def test_a_full_row_comes_back_as_it_was(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    table.append(FULL_ENCODE)
    assert table.rows() == [FULL_ENCODE]
    labels = Table(tmp_path / "labels.csv", LabelRow)
    labels.append(FULL_LABEL)
    assert labels.rows() == [FULL_LABEL]


def test_a_row_without_figures_has_empty_cells_and_comes_back_as_none(tmp_path: Path) -> None:
    row = encode_row(status="error", error="ffmpeg exited with status 1\n  command: …")
    table = encodes(tmp_path)
    table.append(row)
    assert table.rows() == [row]
    assert table.rows()[0].bitrate_kbps is None
    text = table.path.read_text(encoding="utf-8")
    assert f",crf{',' * 13}error," in text  # target_kbps to encode_s
    assert "None" not in text
    assert "nan" not in text.lower()


def test_a_figure_without_a_meaning_is_an_empty_cell(tmp_path: Path) -> None:
    table = Table(tmp_path / "labels.csv", LabelRow)
    table.append(dataclasses.replace(FULL_LABEL, vmaf_hmean=math.nan))
    assert b"nan" not in table.path.read_bytes()
    assert [row.vmaf_hmean for row in table.rows()] == [None]


def test_append_gives_the_row_as_a_later_run_will_read_it(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    given = table.append(encode_row(bitrate_kbps=23.3666666, duration_s=1 / 3))
    assert (given.bitrate_kbps, given.duration_s) == (23.3667, 0.3333)
    assert table.rows() == [given]


@pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
def test_any_file_name_survives_the_round_trip(tmp_path: Path, name: str) -> None:
    rows = [encode_row(name), encode_row("next", error=name)]
    table = encodes(tmp_path)
    for row in rows:
        table.append(row)
    assert table.rows() == rows
    assert os.fsencode(table.rows()[0].source_path) == os.fsencode(f"/films/{name}.mp4")
    table.rewrite(rows)
    assert table.rows() == rows


def test_columns_are_those_of_the_design_with_new_ones_at_the_end() -> None:
    encode_columns = (
        "source,source_path,encode_path,rung,codec,rate_mode,target_kbps,bitrate_kbps,width_px,"
        "height_px,display_width_px,display_height_px,fps,frame_count,duration_s,size_bytes,"
        "ffmpeg_version,encode_s,status,error"
    )
    label_columns = (
        "encode_path,source,rung,vmaf,vmaf_hmean,vmaf_min,vmaf_p1,vmaf_p5,vmaf_std,vmaf_neg,"
        "vmaf_v1,psnr_y,frames_source,frames_encode,frames_compared,pairing,scale,pix_fmt,"
        "vmaf_model,libvmaf_version,warnings,label_s,status,error"
    )
    assert ",".join(Table(Path("-"), EncodeRow).columns).startswith(encode_columns)
    assert ",".join(Table(Path("-"), LabelRow).columns).startswith(label_columns)


def test_a_table_without_a_file_has_no_rows_and_makes_no_file(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    table.repair()
    assert table.rows() == []
    assert list(tmp_path.iterdir()) == []


def test_the_later_of_two_rows_with_one_key_counts(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    first = encode_row(status="error", error="disk full")
    other = encode_row("other")
    again = encode_row(bitrate_kbps=99.0)
    for row in (first, other, again):
        table.append(row)
    assert table.rows() == [again, other]


def test_rewrite_replaces_every_row_and_leaves_no_other_file(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    for name in "cba":
        table.append(encode_row(name))
    table.rewrite([encode_row("a"), encode_row("b")])
    assert table.rows() == [encode_row("a"), encode_row("b")]
    assert list(tmp_path.iterdir()) == [table.path]


def test_a_table_cut_at_any_byte_gives_its_whole_rows_and_goes_on_after_mending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a thousand of them take their time
    table = encodes(tmp_path)
    rows = [
        encode_row('a "quoted", name\nof two lines', error="line one\nline two"),
        encode_row(NASTY_NAMES[-1]),
        encode_row('\U0001f3ac ends in a quote "', fps=Fraction(25), crf=30),
    ]
    ends = [0]
    for row in rows:
        table.append(row)
        ends.append(table.path.stat().st_size)
    whole = table.path.read_bytes()
    new = encode_row("new")
    for trim in range(len(whole) + 1):
        table.path.write_bytes(whole[:trim])
        kept = [row for row, end in zip(rows, ends[1:], strict=True) if end <= trim]
        assert table.rows() == kept, f"cut at {trim}"
        table.repair()
        assert table.rows() == kept, f"cut at {trim}, mended"
        table.append(new)
        assert table.rows() == [*kept, new], f"cut at {trim}, mended and appended"


def test_mending_a_whole_table_changes_nothing(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    table.append(FULL_ENCODE)
    before = table.path.read_bytes(), table.path.stat().st_mtime_ns
    table.repair()
    assert (table.path.read_bytes(), table.path.stat().st_mtime_ns) == before


OLD_ENCODES = (  # as the version before clips wrote it
    "source,source_path,encode_path,rung,codec,rate_mode,target_kbps,bitrate_kbps,width_px,"
    "height_px,display_width_px,display_height_px,fps,frame_count,duration_s,size_bytes,"
    "ffmpeg_version,encode_s,status,error\n"
    "clip,/films/clip.mp4,clip/64p-300k-x264.mp4,64p-300k-x264,libx264,vbr,300,287.5000,114,64,"
    "192,108,30000/1001,24,0.8008,28779,7.0.2-static,0.2500,ok,\n"
)


def test_a_table_of_an_older_version_is_read_and_gets_the_latest_columns_when_mended(
    tmp_path: Path,
) -> None:
    table = encodes(tmp_path)
    table.path.write_text(OLD_ENCODES)
    (row,) = table.rows()
    assert (row.crf, row.pieces) == (None, "")
    assert (row.target_kbps, row.fps, row.encode_s) == (300, Fraction(30000, 1001), 0.25)
    assert table.path.read_text() == OLD_ENCODES  # reading changes nothing

    table.repair()
    lines = table.path.read_text().splitlines()
    assert lines[0] == ",".join(table.columns)
    assert lines[0].startswith(OLD_ENCODES.splitlines()[0])
    assert lines[1].startswith(OLD_ENCODES.splitlines()[1])
    assert table.rows() == [row]
    new = table.append(encode_row("new", crf=30, pieces="30+10"))
    assert table.rows() == [row, new]
    assert list(tmp_path.iterdir()) == [table.path]


def test_an_older_table_that_was_torn_is_mended_and_upgraded_at_once(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    table.path.write_text(OLD_ENCODES + OLD_ENCODES.splitlines()[1][:40])
    table.repair()
    assert [row.rung for row in table.rows()] == ["64p-300k-x264"]
    table.append(encode_row("new"))
    assert len(table.rows()) == 2


def test_older_labels_are_read_too(tmp_path: Path) -> None:
    labels = Table(tmp_path / "labels.csv", LabelRow)
    labels.append(FULL_LABEL)
    count = labels.columns.index("error") + 1
    header, line = (text.split(",") for text in labels.path.read_text().splitlines())
    labels.path.write_text(f"{','.join(header[:count])}\n{','.join(line[:count])}\n")
    assert labels.rows() == [FULL_LABEL]
    labels.repair()
    assert labels.path.read_text().splitlines()[0] == ",".join(labels.columns)
    assert labels.rows() == [FULL_LABEL]


@pytest.mark.parametrize(
    "header",
    [
        "encode_path,mos",
        "source",
        "source,source_path,encode_path,rung,codec",  # all we have, but too few to be ours
        "source,source_path,encode_path,rung,codec,rate_mode,mos",
        ",".join("abcdefghijklmnopqrstu"),
        "",
    ],
)
def test_a_table_of_another_program_is_refused_by_name_and_left_as_it_is(
    tmp_path: Path, header: str
) -> None:
    table = encodes(tmp_path)
    text = f"{header}\n" + ",".join("x" * (header.count(",") + 1)) + "\n"
    table.path.write_text(text)
    for attempt in (table.rows, table.repair):
        with pytest.raises(TableError, match=r"encodes\.csv has other columns"):
            attempt()
    assert table.path.read_text() == text
    assert list(tmp_path.iterdir()) == [table.path]


def test_a_table_of_a_later_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    text = f"{','.join(table.columns)},later\n"
    table.path.write_text(text)
    with pytest.raises(TableError, match="other columns"):
        table.repair()
    assert table.path.read_text() == text


@pytest.mark.parametrize(
    ("old", "new"), [(",114,", ",wide,"), (",30000/1001,", ",30000/0,"), (",114,", ",114,114,")]
)
def test_a_cell_that_is_no_figure_is_refused_by_name(tmp_path: Path, old: str, new: str) -> None:
    table = encodes(tmp_path)
    table.append(FULL_ENCODE)
    table.path.write_text(table.path.read_text().replace(old, new))
    with pytest.raises(TableError, match=r"encodes\.csv"):
        table.rows()


def test_a_work_folder_has_one_run_at_a_time_and_no_lock_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on demand"
    with (
        work_lock(folder),
        pytest.raises(LockedError, match="in use by another run"),
        work_lock(folder),
    ):
        pass
    with work_lock(folder):
        pass  # free again
    assert list(folder.iterdir()) == []


def test_a_lock_is_of_the_file_that_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / ".lock"
    flock = fcntl.flock
    calls: list[int] = []

    def remove_then_lock(file: int, operation: int) -> None:
        # the holder removes the file after it was opened and before it is locked here
        calls.append(file)
        if len(calls) == 1:
            lock.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_then_lock)
    with locked(lock, "in use", tmp_path):
        assert len(calls) == 2
        with pytest.raises(LockedError), locked(lock, "in use", tmp_path):
            pass
    assert not lock.exists()


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    table = encodes(tmp_path)
    table.path.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"encodes\.csv cannot be written \(No space left"):
        table.append(FULL_ENCODE)


def test_a_place_that_cannot_be_written_is_named() -> None:
    report, folder = Path("/proc/none/report.csv"), Path("/proc/none")
    of_labels = LabelFiles.of_table(report).locked()
    for output, write in (
        (report, atomic_write(report)),
        (folder, work_lock(folder)),
        (report, of_labels),
    ):
        # and not a file beside it
        with pytest.raises(OutputError, match=rf"^{output} cannot be written \(.*free"), write:
            pass


def test_a_device_is_never_replaced_by_a_file() -> None:
    with pytest.raises(OutputError, match="not a regular file"), atomic_write(Path("/dev/null")):
        pass
    assert Path("/dev/null").is_char_device()


def test_no_two_threads_hold_a_lock_while_lock_files_come_and_go(tmp_path: Path) -> None:
    inside: list[int] = []
    counts: list[int] = []

    def work(_: int) -> None:
        for _ in range(200):
            with contextlib.suppress(LockedError), locked(tmp_path / "lock", "in use", tmp_path):
                inside.append(1)
                counts.append(len(inside))
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert max(counts) == 1
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_this_program_are_removed(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    theirs, ours = tmp_path / "below" / "download.part", part_of(tmp_path / "below" / "e.mp4")
    for path in (theirs, ours):
        path.touch()
    remove_parts(tmp_path)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["download.part"]


@pytest.mark.parametrize("name", ["a\rb", "a\r\nb", '"\r"', "\r", "a\nb", "=1+1", "a,b"])
def test_any_name_survives_the_table(tmp_path: Path, name: str) -> None:
    table = encodes(tmp_path)
    row = dataclasses.replace(FULL_ENCODE, source=name, encode_path=f"{name}/e.mp4")
    table.append(FULL_ENCODE)
    table.append(row)
    table.repair()
    assert [each.source for each in table.rows()] == [FULL_ENCODE.source, name]


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@x", "\r=1", "'=1"])
def test_a_spreadsheet_does_not_run_a_name(name: str, tmp_path: Path) -> None:
    table = Table(tmp_path / "encodes.csv", EncodeRow)
    table.append(encode_row(name))
    with table.path.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["source"] == f"'{name}"
    assert [row.source for row in table.rows()] == [name]


def test_a_link_stays_one_and_the_file_behind_it_is_replaced(tmp_path: Path) -> None:
    real, link = tmp_path / "there" / "real.csv", tmp_path / "link.csv"
    real.parent.mkdir()
    real.write_bytes(b"before")
    link.symlink_to(real)
    with atomic_write(link) as file:
        file.write(b"after")
    assert link.is_symlink()
    assert real.read_bytes() == b"after"


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_nothing_of_the_system_is_replaced(path: str) -> None:
    before = Path("/dev/stdout").is_symlink()
    with pytest.raises(OutputError, match="not a regular file"), atomic_write(Path(path)):
        pass
    assert Path("/dev/stdout").is_symlink() == before


def test_what_cannot_be_written_is_refused_before_and_what_can_leaves_nothing(
    tmp_path: Path,
) -> None:
    require_writable(tmp_path / "new" / "deep" / "r.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "r.csv", tmp_path, Path("/proc/r.csv"), Path("/dev/null")):
        with pytest.raises(OutputError, match=f"{path} cannot be written"):
            require_writable(path)
