import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from ladder.label.rows import LabelRow
from vqatool.cli import tables
from vqatool.cli.options import name_failures
from vqatool.cli.tables import (
    comparison_table,
    enlarged_hint,
    label_summary,
    named_reason,
    pair_summary,
    score_summary,
)
from vqatool.cluster import missing_on
from vqatool.reporting.comparison import PairBy, compare
from vqatool.scoring.gates import Gate, Thresholds
from vqatool.scoring.rows import ReportRow
from vqatool.terminal import cut_middle


def scored(path: str, score: float, **more: object) -> ReportRow:
    facts = {"score_low": score - 5, "score_high": score + 5, "score_min": score} | more
    return ReportRow(path=path, status="ok", score=score, **facts)  # type: ignore[arg-type]


FAILED = ReportRow(path="bad.mp4", status="error", error_code="empty", error="no bytes\nat all")


def text_of(table: Table, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width, markup=False).print(table)
    return out.getvalue()


def test_the_summary_has_the_lowest_scores_first_and_no_failures() -> None:
    rows = [scored("high.mp4", 90.0), FAILED, scored("low.mp4", 30.0, verdict="poor")]
    output = text_of(score_summary(rows, Gate()))
    assert output.index("low.mp4") < output.index("high.mp4")
    assert "poor" in output
    assert "bad.mp4" not in output  # failures are named below the table, with their reasons


def test_the_summary_has_at_most_the_given_number_of_rows_and_says_so() -> None:
    rows = [scored(f"{i}.mp4", float(i)) for i in range(90)]
    table = score_summary(rows, Gate(), most=10)
    assert table.row_count == 10
    assert "lowest 10 of 90 scores" in str(table.title)


def test_a_long_name_keeps_both_ends() -> None:
    name = "a very long name of a source " * 4 + "-1080p-4500k-x264.mp4"
    cut = cut_middle(name, 60)
    assert len(cut) == 60
    assert cut.startswith("a very long name")
    assert cut.endswith("-1080p-4500k-x264.mp4")
    assert cut_middle("short.mp4", 60) == "short.mp4"


LONG = "videos/a-source-with-a-name-that-goes-on-and-on-1080p-4500k-x264.mp4"


def test_tables_of_files_fit_80_columns_with_one_line_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "console", lambda: Console(width=80))
    row = scored(LONG, 50.0, verdict="unsure")
    label = LabelRow(
        encode_path=LONG, source="s", rung="r", vmaf=50.0, vmaf_p1=40.0, vmaf_min=30.0,
        bitrate_kbps=4500.0,
    )  # fmt: skip
    for table in (
        score_summary([row], Gate()),
        comparison_table(compare([row], [row], PairBy.PATH).rows),
        pair_summary([label]),
    ):
        lines = text_of(table, 80).splitlines()
        (line,) = (line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line)
        assert line.count("x264.mp4") == 1
        assert len(line) <= 80


def test_names_are_told_apart_below_the_folder_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "console", lambda: Console(width=80))
    folder = "/archive/of/a/house/that/likes/long/names"
    clips = ["bee/big-buck-bunny-2160p-at-24-4500k.mp4", "bmw/big-buck-bunny-720p-2000k.mp4"]
    paths = [f"{folder}/{clip}" for clip in clips]
    rows = [scored(path, 50.0, verdict="unsure", warnings="out_of_domain") for path in paths]
    labels = [
        LabelRow(
            encode_path=path, source="s", rung="r", vmaf=50.0, vmaf_p1=40.0, vmaf_min=30.0,
            bitrate_kbps=4500.0, warnings="frame_count_mismatch",
        )
        for path in paths
    ]  # fmt: skip
    for table in (
        score_summary(rows, Gate(Thresholds(60))),
        comparison_table(compare(rows, rows, PairBy.PATH).rows),
        pair_summary(labels),
    ):
        title, *lines = text_of(table, 80).splitlines()
        assert folder in title
        for clip in clips:
            (line,) = (line for line in lines if f" {clip[:5]}" in line)
            assert clip[-14:] in line  # on the same line
        assert max(map(len, lines)) <= 80


def test_rungs_that_differ_in_the_middle_of_their_names_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "console", lambda: Console(width=80))
    rows = [
        scored(f"big-buck-bunny-{height}p-4500k-x264-slow.mp4", 50.0, verdict="unsure")
        for height in (1080, 720)
    ]
    output = text_of(score_summary(rows, Gate(Thresholds(60))), 80)
    assert "1080p-4500k" in output
    assert "\N{HORIZONTAL ELLIPSIS}720p-4500k" in output


def test_a_line_of_a_gate_fits_a_terminal_and_is_whole_in_a_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, reason = "/archive/" + LONG * 3, "score 54.9 is below 60"
    monkeypatch.setattr(tables, "console", lambda: Console(width=80, force_terminal=True))
    line = named_reason(path, reason)
    assert len(line) == 80
    assert line.startswith("/archive/")
    assert line.endswith(f"{LONG[-14:]}: {reason}")
    monkeypatch.setattr(tables, "console", lambda: Console(width=80, force_terminal=False))
    assert named_reason(path, reason) == f"{path}: {reason}"


def test_short_names_and_those_without_a_common_folder_stay_whole() -> None:
    assert "a/b.mp4" in text_of(score_summary([scored("a/b.mp4", 50.0)], Gate()))
    mixed = ["/" + LONG * 2, LONG]
    assert "x264.mp4" in text_of(score_summary([scored(name, 50.0) for name in mixed], Gate()))


def test_failures_are_told_once_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    told = ReportRow(path="b.mp4", status="error", error_code="hdr", error="b.mp4: add --tonemap")
    assert name_failures([scored("good.mp4", 90.0), FAILED, told])
    assert capsys.readouterr().err.splitlines() == [
        "failed: bad.mp4: no bytes\N{REPLACEMENT CHARACTER}at all (make it anew)",
        "failed: b.mp4: add --tonemap",
    ]


@pytest.mark.parametrize(
    ("code", "reason", "advice"),
    [
        ("damaged", "a.mp4 ends inside a frame", " (fetch it again or make it anew)"),
        ("damaged", "a.mp4 has timestamps that jump: copy it first (ffmpeg -i a.mp4)", ""),
        ("missing", "a.mp4 is not a file", " (check the path)"),
        ("missing", missing_on("node7", Path("a.mp4")), ""),
    ],
)
def test_each_cause_of_a_failure_has_its_own_advice(
    code: str, reason: str, advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name_failures([ReportRow(path="a.mp4", status="error", error_code=code, error=reason)])
    assert capsys.readouterr().err == f"failed: {reason}{advice}\n"


def test_many_failures_are_not_all_told(capsys: pytest.CaptureFixture[str]) -> None:
    name_failures([FAILED] * 50)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "failed: 30 more, whose rows have the reason"


def test_videos_smaller_than_the_display_give_a_hint() -> None:
    def row(width: int, height: int, display: str = "1920x1080") -> ReportRow:
        return scored("a.mp4", 50.0, width_px=width, height_px=height, display=display)

    small, portrait, full = row(960, 540), row(540, 960), row(1920, 1080)
    assert enlarged_hint([full, row(1920, 800), row(960, 540, "native"), FAILED]) == ""
    assert enlarged_hint([small, portrait]).startswith("all 2 are smaller than 1920x1080")
    assert enlarged_hint([small, full]).startswith("1 video is smaller")
    assert len(enlarged_hint([small] * 10_000 + [full])) <= 80


def test_remarks_name_the_gate_the_warnings_and_the_worst_segment() -> None:
    row = scored("uneven.mp4", 80.0, score_min=40.0, worst_at_s=20.0, warnings="vfr;hdr")
    output = text_of(score_summary([row], Gate(Thresholds(85.0))))
    for part in ("score 80.0 is below 85", "vfr, hdr", "40 (poor) from 20 s"):
        assert part in output


@pytest.mark.parametrize("fail_on", [frozenset(), frozenset({"out_of_domain"})])
def test_a_remark_tells_a_warning_once(fail_on: frozenset[str]) -> None:
    row = scored("odd.mp4", 95.0, warnings="vfr;out_of_domain")
    output = text_of(score_summary([row], Gate(Thresholds(60), fail_on=fail_on)), 200)
    assert output.count("out_of_domain") == 1
    assert "vfr" in output


def test_a_name_with_brackets_is_not_markup() -> None:
    assert "[bold]x[/nope].mp4" in text_of(
        score_summary([scored("[bold]x[/nope].mp4", 50.0)], Gate())
    )


def test_labels_are_summarised_by_rung_in_rising_order() -> None:
    def label(rung: str, vmaf: float | None) -> LabelRow:
        return LabelRow(encode_path=f"{rung}-{vmaf}", source="s", rung=rung, vmaf=vmaf)

    rows = [label("good", 90.0), label("poor", 20.0), label("poor", 40.0), label("poor", None)]
    output = text_of(label_summary(rows))
    assert output.index("poor") < output.index("good")
    poor = next(line for line in output.splitlines() if "poor" in line)
    assert [float(x) for x in poor.split() if x.replace(".", "").isdigit()] == [2, 20, 30, 40]
