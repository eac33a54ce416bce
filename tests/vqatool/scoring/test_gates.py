"""Which videos pass a gate, and why the others do not."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from vqatool.errors import GateError
from vqatool.scoring.gates import GATE_FIGURES, Gate, Thresholds
from vqatool.scoring.rows import ReportRow


def scored(path: str, score: float, **more: object) -> ReportRow:
    row = ReportRow(path=path, status="ok", score=score, score_low=score - 5,
                    score_min=score - 20, score_p5=score - 10, verdict="good")  # fmt: skip
    return dataclasses.replace(row, **more)  # type: ignore[arg-type]


def gate(threshold: float | None = None, on: str = "score") -> Gate:
    return Gate(Thresholds(threshold), on)


FAILED = ReportRow(path="bad.mp4", status="error", error_code="empty", error="it has no bytes")


def test_the_gate_is_for_scores_and_not_for_failed_files() -> None:
    rows = [scored("a", 69.9), scored("b", 70.0), FAILED]
    assert [row.path for row in rows if gate(70).is_missed(row)] == ["a"]
    assert not any(map(gate().is_missed, rows))


def test_a_gate_is_missed_where_the_model_gives_no_number() -> None:
    row = ReportRow(path="a.mp4", status="error", error_code="not_finite", error="no number")
    assert gate(70).is_missed(row)
    assert not gate().is_missed(row)
    assert "not a number" in gate(70).message(row)


@pytest.mark.parametrize("threshold", [0.0, 100.0])
def test_a_gate_at_the_ends_of_the_scale_is_a_gate(threshold: float) -> None:
    assert gate(threshold).is_missed(scored("a", 50.0)) == bool(math.ceil(threshold / 100))


@pytest.mark.parametrize("on", GATE_FIGURES)
def test_a_gate_can_be_on_any_figure_and_names_it(on: str) -> None:
    row = scored("a", 60.0)
    value = getattr(row, on)
    assert gate(value + 0.5, on).is_missed(row)
    assert not gate(value, on).is_missed(row)
    assert gate(value + 0.5, on).message(row) == f"{on} {value:.1f} is below {value + 0.5:g}"


@pytest.mark.parametrize("warning", ["hdr", "out_of_domain", "vfr;damaged"])
def test_a_score_that_is_not_to_be_trusted_passes_only_with_trust(warning: str) -> None:
    row = scored("a", 95.0, warnings=warning)
    assert warning.rpartition(";")[2] in gate(70).message(row)
    assert "--trust" in gate(70).message(row)
    assert not Gate(Thresholds(70), trusts_all=True).is_missed(row)
    assert not gate().is_missed(row)  # no gate was asked for
    assert gate(70).message(scored("a", 50.0, warnings=warning)) == "score 50.0 is below 70"


@pytest.mark.parametrize(
    ("fail_on", "message"),
    [
        ({"out_of_domain"}, "it has out_of_domain"),
        (
            {"vfr"},
            "it has vfr, score 95.0 is not trusted (out_of_domain)",
        ),
        ({"error"}, "score 95.0 is not trusted (out_of_domain); --trust lets it pass"),
    ],
)
def test_trust_is_no_remedy_where_another_code_fails(fail_on: set[str], message: str) -> None:
    row = scored("a", 95.0, warnings="vfr;out_of_domain")
    held = Gate(Thresholds(70), fail_on=frozenset(fail_on))
    assert held.message(row) == message
    trusting = dataclasses.replace(held, trusts_all=True)
    assert trusting.is_missed(row) == ("--trust" not in message)


@pytest.mark.parametrize(
    ("score", "threshold", "told"),
    [(54.93, 60, "54.9"), (59.96, 60, "59.96"), (59.996, 60, "59.996"), (59.94, 59.95, "59.9")],
)
def test_a_figure_has_as_many_decimals_as_its_gate_needs(
    score: float, threshold: float, told: str
) -> None:
    assert gate(threshold).message(scored("a", score)) == f"score {told} is below {threshold:g}"


def test_other_warnings_do_not_make_a_score_doubtful() -> None:
    assert not gate(70).is_missed(scored("a", 95.0, warnings="vfr;rotated;short"))


@pytest.mark.parametrize(
    ("code", "row"),
    [
        ("vfr", scored("a", 95.0, warnings="vfr;rotated")),
        ("poor", scored("a", 95.0, verdict="poor")),
        ("error", FAILED),
        ("damaged", dataclasses.replace(FAILED, error_code="damaged")),
    ],
)
def test_a_code_can_fail_the_gate_without_a_threshold(code: str, row: ReportRow) -> None:
    found = Gate(fail_on=frozenset({code, "short"})).message(row)
    assert code in found
    assert not Gate(fail_on=frozenset({"short", "bad"})).is_missed(row)


THRESHOLDS = """
default = 60
[height]
1080 = 85
720 = 80.5
[name]
"*-master.*" = 95
"*-1080p-*" = 90
"""


@pytest.mark.parametrize(
    ("name", "size", "threshold"),
    [
        ("a.mp4", (640, 360), 60),
        ("a.mp4", (1280, 719), 60),
        ("a.mp4", (1280, 720), 80.5),
        ("a.mp4", (1920, 1080), 85),
        ("a.mp4", (1080, 1920), 85),  # portrait
        ("a.mp4", (3840, 2160), 85),
        ("a-1080p-3000k.mp4", (640, 360), 90),
        ("a-1080p-master.mov", (640, 360), 95),
        ("a.mp4", (None, None), 60),
    ],
)
def test_a_file_sets_thresholds_by_height_and_name(
    name: str, size: tuple[int | None, int | None], threshold: float, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(THRESHOLDS)
    row = scored(f"dir/{name}", 50.0, width_px=size[0], height_px=size[1])
    assert Thresholds.read(path, 10).of(row) == threshold


def test_the_default_of_the_command_holds_where_the_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[height]\n720 = 80")
    assert Thresholds.read(path, 55).of(scored("a", 1.0, width_px=64, height_px=64)) == 55
    assert Thresholds.read(path).of(scored("a", 1.0)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("defualt = 3", "defualt"),
        ("default = 300", "300"),
        ("default = true", "True"),
        ("height = 3", "[height]"),
        ("[height]\nlow = 3", "height.low"),
        ("[name]\nx = '3'", "name.x"),
        ("default = ", "TOML"),
    ],
)
def test_a_file_that_is_no_list_of_thresholds_names_what_is_wrong(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(text)
    with pytest.raises(GateError, match=re.escape(words)) as raised:
        Thresholds.read(path)
    assert str(path) in str(raised.value)
