"""Which videos pass, and the JUnit file of it."""

import math
import os
from xml.etree import ElementTree

import pytest

from vqatool.scoring.gates import GATE_FIGURES, Gate, junit_xml
from vqatool.scoring.rows import ReportRow


def scored(path: str, score: float) -> ReportRow:
    return ReportRow(path=path, status="ok", score=score, score_low=score - 5,
                     score_min=score - 20, score_p5=score - 10, score_s=0.5)  # fmt: skip


FAILED = ReportRow(path="bad.mp4", status="error", error_code="empty", error="it has no bytes")


def test_the_gate_is_for_scores_and_not_for_failed_files() -> None:
    rows = [scored("a", 69.9), scored("b", 70.0), FAILED]
    assert [row.path for row in rows if Gate(70).is_missed(row)] == ["a"]
    assert not any(map(Gate().is_missed, rows))


def test_a_gate_is_missed_where_the_model_gives_no_number() -> None:
    row = ReportRow(path="a.mp4", status="error", error_code="not_finite", error="no number")
    assert Gate(70).is_missed(row)
    assert not Gate().is_missed(row)
    assert "not a number" in Gate(70).message(row)
    (suite,) = ElementTree.fromstring(junit_xml([row], Gate(70)))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "1")


@pytest.mark.parametrize("threshold", [0.0, 100.0])
def test_a_gate_at_the_ends_of_the_scale_is_a_gate(threshold: float) -> None:
    assert Gate(threshold).is_missed(scored("a", 50.0)) == bool(math.ceil(threshold / 100))


@pytest.mark.parametrize("on", GATE_FIGURES)
def test_a_gate_can_be_on_any_figure_and_names_it(on: str) -> None:
    row = scored("a", 60.0)
    value = getattr(row, on)
    assert Gate(value + 0.5, on).is_missed(row)
    assert not Gate(value, on).is_missed(row)
    assert Gate(value + 0.5, on).message(row) == f"{on} {value:.2f} is below {value + 0.5:g}"


def test_junit_counts_failures_and_errors_and_names_the_figures() -> None:
    rows = [scored("good.mp4", 90.0), scored("poor.mp4", 40.0), FAILED]
    root = ElementTree.fromstring(junit_xml(rows, Gate(70)))
    (suite,) = root
    for totals in (root, suite):
        assert (totals.get("tests"), totals.get("failures"), totals.get("errors")) == tuple("311")
        assert totals.get("time") == "1.000"
    cases = {case.get("name"): case for case in suite}
    assert list(cases) == ["good.mp4", "poor.mp4", "bad.mp4"]
    assert cases["good.mp4"].find("failure") is None
    failure, error = cases["poor.mp4"].find("failure"), cases["bad.mp4"].find("error")
    assert failure is not None
    assert failure.get("message") == "score 40.00 is below 70"
    assert error is not None
    assert (error.get("type"), error.get("message")) == ("empty", "it has no bytes")


def test_junit_holds_any_file_name() -> None:
    names = ["<\"&'>.mp4", "a\x1b[31m\x00.mp4", os.fsdecode(b"caf\xe9.mp4"), "日本 \U0001f600.mp4"]
    text = junit_xml([scored(name, 50.0) for name in names], Gate())
    message = [case.get("name") for case in ElementTree.fromstring(text.encode())[0]]
    assert message == ["<\"&'>.mp4", r"a\x1b[31m\x00.mp4", r"caf\udce9.mp4", "日本 \U0001f600.mp4"]
