"""Pairs of two reports, their differences, and `vqatool compare`."""

import csv
import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.vqatool.program import read_rows, vqatool
from vqatool.errors import ReportError
from vqatool.reporting.comparison import Comparison, DropGate, Outcome, PairBy, compare
from vqatool.scoring.report_file import write_whole
from vqatool.scoring.rows import ReportRow


def scored(path: str, score: float, **more: object) -> ReportRow:
    row = ReportRow(path=path, status="ok", score=score, verdict="good", model="m", display="d",
                    bitrate_kbps=1000.0)  # fmt: skip
    return replace(row, **more)  # type: ignore[arg-type]


def failed(path: str) -> ReportRow:
    return ReportRow(path=path, status="error", error_code="empty", error="it has no bytes")


BEFORE = [
    scored("old/a.mp4", 90), scored("old/b.mp4", 80), scored("old/c.mp4", 70), failed("old/d.mp4"),
    failed("old/e.mp4"), scored("old/f.mp4", 60), scored("old/g.mp4", 50),
]  # fmt: skip
AFTER = [
    scored("new/a.mp4", 85.5), scored("new/b.mp4", 81), failed("new/c.mp4"), failed("new/d.mp4"),
    scored("new/e.mp4", 10), scored("new/h.mp4", 60), scored("new/g.mp4", 50),
]  # fmt: skip


def of(found: Comparison) -> dict[str, tuple[str, float | None]]:
    return {row.video: (row.outcome, row.difference) for row in found.rows}


@pytest.mark.parametrize("by", PairBy)
def test_videos_here_and_in_a_bucket_are_compared_in_one_report(by: PairBy) -> None:
    rows = [scored("/abs/a.mp4", 90), scored("s3://bucket/x/b.mp4", 80), scored("rel/c.mp4", 70)]
    assert compare(rows, rows, by).count(Outcome.COMPARED) == 3
    assert "s3://bucket/x/b.mp4" in of(compare(rows, rows, PairBy.PATH))
    assert list(of(compare(rows[1:2], rows[1:2], PairBy.BELOW))) == ["b.mp4"]


def test_every_video_of_either_report_is_a_row_and_what_got_worse_comes_first() -> None:
    found = compare(BEFORE, AFTER, PairBy.BELOW)
    assert of(found) == {
        "c.mp4": ("lost", None),
        "a.mp4": ("compared", -4.5),
        "g.mp4": ("compared", 0.0),
        "b.mp4": ("compared", 1.0),
        "d.mp4": ("failed", None),
        "e.mp4": ("gained", None),
        "f.mp4": ("only_before", None),
        "h.mp4": ("only_after", None),
    }
    assert list(of(found))[:4] == ["c.mp4", "a.mp4", "g.mp4", "b.mp4"]
    assert {outcome: found.count(outcome) for outcome in Outcome}[Outcome.COMPARED] == 3
    for gate, missed in (
        (DropGate(4.5), ["c.mp4", "a.mp4"]),
        (DropGate(4.6), ["c.mp4"]),
        (DropGate(4.6, fails_on_missing=True), ["c.mp4", "f.mp4"]),
        (DropGate(fails_on_missing=True), ["f.mp4"]),
        (DropGate(), []),
    ):
        assert [row.video for row in found.rows if gate.is_missed(row)] == missed
    assert found.rows[0].error == "it has no bytes"


def test_the_mean_has_an_interval_over_videos() -> None:
    after = [replace(row, score=(row.score or 0) + 2 + number % 2) for number, row in
             enumerate(scored(f"{number}.mp4", 50) for number in range(40))]  # fmt: skip
    before = [scored(f"{number}.mp4", 50) for number in range(40)]
    mean, low, high = compare(before, after).mean
    assert mean == pytest.approx(2.5)
    # of a mean of 40 values of standard deviation 0.5
    assert low == pytest.approx(2.5 - 1.96 * 0.5 / math.sqrt(40), abs=0.05)
    assert high == pytest.approx(2.5 + 1.96 * 0.5 / math.sqrt(40), abs=0.05)
    for count, is_enough in ((1, False), (4, False), (5, True)):
        few = compare(before[:count], after[:count]).mean
        assert math.isnan(few.low) == math.isnan(few.high) == (not is_enough)
        assert 2 <= few.mean < 3


@pytest.mark.parametrize(("count", "interval"), [(4, ""), (5, " (95 %: +2.00 to +2.00)")])
def test_the_interval_says_what_it_is(count: int, interval: str, tmp_path: Path) -> None:
    before, after = tmp_path / "b.csv", tmp_path / "a.csv"
    write_whole([scored(f"{number}.mp4", 50) for number in range(count)], before)
    write_whole([scored(f"{number}.mp4", 52) for number in range(count)], after)
    done = vqatool("compare", before, after)
    assert done.stderr == f"{count} compared, mean difference +2.00{interval}\n"


@pytest.mark.parametrize(
    ("by", "before", "after"),
    [
        (PairBy.PATH, "x/a.mp4", "x/a.mp4"),
        (PairBy.BELOW, "x/s/a.mp4", "y/s/a.mp4"),
        (PairBy.NAME, "x/s/a.mp4", "y/t/a.mp4"),
        (PairBy.STEM, "x/s/a.mp4", "y/t/a.mkv"),
    ],
)
def test_rows_are_paired_by_what_is_asked_for(by: PairBy, before: str, after: str) -> None:
    # another file each, so that the folder of all is not the file's own
    first = [scored(before, 50), scored("x/other.mp4", 1)]
    found = compare(first, [scored(after, 60), scored("y/more.mp4", 1)], by)
    assert [row.difference for row in found.rows] == [10.0, None, None]


def test_rows_that_cannot_be_told_apart_or_paired_are_errors_with_the_next_step() -> None:
    twice = [scored("x/a.mp4", 50), scored("y/a.mp4", 50)]
    with pytest.raises(ReportError, match=r"x/a.mp4 and y/a.mp4.*--by below"):
        compare(twice, [scored("a.mp4", 50)], PairBy.NAME)
    with pytest.raises(ReportError, match=r"same path.*--by stem"):
        compare([scored("x/a.mp4", 50)], [scored("y/a.mp4", 50)])
    with pytest.raises(ReportError, match="none"):
        compare([], [scored("y/a.mp4", 50)])


def test_other_settings_are_remarks() -> None:
    after = [scored("a", 50, model="n", display="native")]
    remarks = compare([scored("a", 50)], after).remarks
    assert ["models (m, n)" in remarks[0], "displays (d, native)" in remarks[1]] == [True, True]
    assert compare([scored("a", 50)], [scored("a", 60)]).remarks == []


def test_a_difference_has_as_many_decimals_as_the_scores() -> None:
    (row,) = compare([scored("a", 91.1236)], [scored("a", 74.9)]).rows
    assert row.difference == -16.2236
    assert row.fell_by(16.2236)
    assert not row.fell_by(16.2237)


def test_the_command_prints_writes_and_fails(tmp_path: Path) -> None:
    before, after, out = tmp_path / "b.csv", tmp_path / "a.json", tmp_path / "d.csv"
    write_whole(BEFORE, before)
    write_whole(AFTER, after)
    arguments = ["compare", before, after, "--by", "below"]
    done = vqatool(*arguments, "-o", out)
    assert done.exit_code == 0
    assert done.stdout.index("c.mp4") < done.stdout.index("a.mp4") < done.stdout.index("b.mp4")
    assert "3 compared, mean difference -1.17" in done.stderr
    assert "1 lost its score; 1 gained a score; 1 failed in both; 1 only before" in done.stderr
    assert done.stderr.splitlines()[-1] == f"f.mp4: not in {after}"
    assert [row["video"] for row in read_rows(out)][:2] == ["c.mp4", "a.mp4"]
    missed = vqatool(*arguments, "--fail-on-drop", 2)
    assert missed.exit_code == 3
    assert missed.stderr.splitlines()[-2:] == ["c.mp4: lost its score", "a.mp4: fell by 4.5"]
    missed = vqatool(*arguments, "--fail-on-missing")
    assert missed.exit_code == 3
    assert missed.stderr.count("f.mp4") == 1
    assert missed.stderr.splitlines()[-1] == f"f.mp4: not in {after}"
    assert vqatool(*arguments, "-o", out).exit_code == 0  # its own file is replaced
    lines = [json.loads(line) for line in vqatool(*arguments, "--json").stdout.splitlines()]
    assert (len(lines), lines[1]["difference"], lines[0]["score_after"]) == (8, -4.5, None)
    piped = vqatool(*arguments, "-o", "-")
    assert list(csv.DictReader(piped.stdout.splitlines())) == read_rows(out)
    both = vqatool(*arguments, "-o", "-", "--json")
    assert (both.exit_code, "leave one out" in both.stderr) == (2, True)


def test_a_drop_has_as_many_decimals_as_it_needs_to_be_seen(tmp_path: Path) -> None:
    before, after = tmp_path / "b.csv", tmp_path / "a.csv"
    write_whole([scored("a.mp4", 90)], before)
    write_whole([scored("a.mp4", 87.86)], after)
    done = vqatool("compare", before, after, "--fail-on-drop", 2.13)
    assert done.stderr.splitlines()[-1] == "a.mp4: fell by 2.14"


def test_the_command_names_what_is_no_report(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    report = tmp_path / "r.csv"
    write_whole(BEFORE, report)
    done = vqatool("compare", other, report)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    problem = "has other columns, without path, status: name a file of `vqatool score`"
    assert line == f"Error: {other} {problem}"
    done = vqatool("compare", report, report, "-o", other)
    assert (done.exit_code, other.read_text()) == (2, "a,b\n1,2\n")


def test_differences_that_cannot_be_written_cost_neither_table_nor_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, out = tmp_path / "b.csv", tmp_path / "a.csv", tmp_path / "d.csv"
    write_whole([scored("a.mp4", 90)], before)
    write_whole([scored("a.mp4", 80)], after)
    out.write_text("")

    def fail(part: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    for gate, exit_code in (((), 2), (("--fail-on-drop", 2), 3)):
        done = vqatool("compare", before, after, "-o", out, *gate)
        assert done.exit_code == exit_code
        assert f"failed: {out} cannot be written (No space left" in done.stderr
        assert "a.mp4" in done.stdout
    refused = vqatool("compare", before, after, "-o", "/proc/d.csv")
    assert (refused.exit_code, refused.stdout) == (2, "")
