"""A report as a gate: which videos pass, and the outcome as JUnit XML, which every CI reads."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from vqatool.inputs.decode_pool import FailureCode
from vqatool.scoring.rows import ReportRow

GATE_FIGURES = ("score", "score_low", "score_min", "score_p5")
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Gate:
    """A column of the report, of `GATE_FIGURES`, and the smallest value that passes; None: any."""

    threshold: float | None = None
    on: str = "score"

    def figure(self, row: ReportRow) -> float | None:
        """The value that is compared with the threshold; None for a row without scores."""
        value: float | None = getattr(row, self.on)
        return value

    def is_missed(self, row: ReportRow) -> bool:
        """Whether the video is below the threshold, or the model gave it no number."""
        if self.threshold is None:
            return False
        value = self.figure(row)
        return value < self.threshold if value is not None else _lacks_number(row)

    def message(self, row: ReportRow) -> str:
        """A missed gate for people: the value and the threshold."""
        if _lacks_number(row):
            return f"{self.on} is not a number, so it does not reach {self.threshold:g}"
        return f"{self.on} {self.figure(row):.2f} is below {self.threshold:g}"


def junit_xml(rows: Sequence[ReportRow], gate: Gate) -> str:
    """The report as JUnit XML: a test case for each input, in order.

    A video below the gate is a failure, a file that could not be scored is an error.
    """
    failed = sum(row.status == "error" for row in rows)
    missed = sum(gate.is_missed(row) for row in rows if row.status != "error")
    spent_s = sum(row.score_s or 0.0 for row in rows)
    totals = {"tests": len(rows), "failures": missed, "errors": failed, "time": f"{spent_s:.3f}"}
    suites = _element("testsuites", **totals)
    suite = _element("testsuite", name="vqatool score", **totals)
    suites.append(suite)
    for row in rows:
        suite.append(_case(row, gate))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _lacks_number(row: ReportRow) -> bool:
    return row.error_code == FailureCode.NOT_FINITE


def _case(row: ReportRow, gate: Gate) -> ElementTree.Element:
    case = _element("testcase", classname="vqatool", name=row.path, time=f"{row.score_s or 0:.3f}")
    if row.status == "error":
        case.append(_element("error", type=row.error_code, message=row.error))
    elif gate.is_missed(row):
        case.append(_element("failure", type=gate.on, message=gate.message(row)))
    output = _element("system-out")
    output.text = _for_xml(f"score {row.score}, warnings {row.warnings or 'none'}")
    case.append(output)
    return case


def _element(tag: str, **attributes: object) -> ElementTree.Element:
    return ElementTree.Element(tag, {k: _for_xml(str(v)) for k, v in attributes.items()})


def _for_xml(text: str) -> str:
    """`text` with escapes for characters that XML 1.0 cannot hold and file names can."""
    return _NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], text)
