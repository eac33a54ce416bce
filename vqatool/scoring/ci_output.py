"""The outcome of a run for continuous integration: JUnit XML, and what GitHub Actions shows."""

import math
import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from vqatool.scoring.gates import Gate
from vqatool.scoring.rows import ReportRow
from vqatool.terminal import shown

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MOST_ANNOTATIONS = 10
"""GitHub shows no more of one kind for one step."""
_MOST_LINES = 50


def junit_xml(rows: Sequence[ReportRow], gate: Gate) -> str:
    """The report as JUnit XML: a test case for each input, in order.

    A video that does not pass the gate is a failure, a file that could not be scored an error.
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


def github_annotations(rows: Sequence[ReportRow], gate: Gate) -> Iterator[str]:
    """Lines that make GitHub Actions show each video that failed or does not pass, worst first."""
    marked = _marked(rows, gate)
    for row, text in marked[:_MOST_ANNOTATIONS]:
        name = _escaped(row.path).replace(":", "%3A").replace(",", "%2C")
        # many reasons name the file already
        told = text if text.startswith(row.path) else f"{row.path}: {text}"
        yield f"::error file={name},title=vqatool::{_escaped(told)}"
    if len(marked) > _MOST_ANNOTATIONS:
        yield f"::error title=vqatool::and {len(marked) - _MOST_ANNOTATIONS} more"


def github_summary(rows: Sequence[ReportRow], gate: Gate, summary: str) -> str:
    """Markdown for the page of a run: one line in all, and a table of the videos to look at.

    Where all pass, these are the ten lowest scores.
    """
    marked = _marked(rows, gate)
    lines = [f"### vqatool: {_cell(summary)}", ""]
    if not marked:
        lines += ["All pass. The lowest scores:", ""]
        scored = sorted(rows, key=lambda row: math.inf if row.score is None else row.score)
        marked = [(row, "") for row in scored[:_MOST_ANNOTATIONS]]
    lines += ["| file | score | band | verdict | why |", "|---|---|---|---|---|"]
    for row, text in marked[:_MOST_LINES]:
        cells = (row.path, _score(row), _band(row), row.verdict, text)
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    if len(marked) > _MOST_LINES:
        lines.append(f"\nand {len(marked) - _MOST_LINES} more")
    return "\n".join(lines) + "\n"


def _marked(rows: Sequence[ReportRow], gate: Gate) -> list[tuple[ReportRow, str]]:
    """Videos that failed or do not pass and why, files without a score first."""
    marked = [
        (row, row.error.partition("\n")[0] if row.status == "error" else gate.message(row))
        for row in rows
        if row.status == "error" or gate.is_missed(row)
    ]
    return sorted(marked, key=lambda pair: -1.0 if pair[0].score is None else pair[0].score)


def _case(row: ReportRow, gate: Gate) -> ElementTree.Element:
    case = _element("testcase", classname="vqatool", name=row.path, time=f"{row.score_s or 0:.3f}")
    if row.status == "error":
        case.append(_element("error", type=row.error_code, message=row.error))
    elif gate.is_missed(row):
        case.append(_element("failure", type=gate.on, message=gate.message(row)))
    output = _element("system-out")
    outcome = (
        f"no score: {row.error_code}: {row.error}"
        if row.score is None
        else f"score {_score(row)} ({_band(row)}), {row.verdict}"
    )
    output.text = _for_xml(f"{outcome}, warnings: {row.warnings.replace(';', ', ') or 'none'}")
    case.append(output)
    return case


def _score(row: ReportRow) -> str:
    return "" if row.score is None else f"{row.score:.1f}"


def _band(row: ReportRow) -> str:
    known = row.score_low is not None and row.score_high is not None
    return f"{row.score_low:.0f} to {row.score_high:.0f}" if known else ""


def _element(tag: str, **attributes: object) -> ElementTree.Element:
    return ElementTree.Element(tag, {k: _for_xml(str(v)) for k, v in attributes.items()})


def _for_xml(text: str) -> str:
    """`text` with escapes for characters that XML 1.0 cannot hold and file names can."""
    return _NOT_IN_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def _escaped(text: str) -> str:
    """`text` as data of a workflow command of GitHub Actions."""
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.encode("utf-8", "backslashreplace").decode()


def _cell(text: str) -> str:
    """`text` in a table of Markdown: on one line, and none of it markup."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", shown(text))
