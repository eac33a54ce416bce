"""Stage 6: rows -> what people read in a terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ladder.tables import LabelRow
from vqatool.terminal import shown

if TYPE_CHECKING:  # torch takes seconds to load, and the summary of labels needs none
    from vqatool.evaluate import SetAgreement
    from vqatool.score import ReportRow


def score_summary(
    rows: "Sequence[ReportRow]", fail_under: float | None, *, most: int = 10
) -> Table:
    """The lowest scores and every failure, worst first; at most `most` rows of each."""
    table = Table(title="lowest scores and failures", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("band", justify="right")
    table.add_column("remark", overflow="fold")
    scored = sorted((row for row in rows if row.score is not None), key=lambda r: r.score or 0)
    failed = [row for row in rows if row.status == "error"]
    for row in scored[:most]:
        band = f"{row.score_low:.0f} to {row.score_high:.0f}"
        table.add_row(shown(row.path), f"{row.score:.1f}", band, _remark(row, fail_under))
    for row in failed[:most]:
        table.add_row(shown(row.path), "", "", shown(f"{row.error_code}: {_first_line(row.error)}"))
    return table


def missed_gate(rows: "Sequence[ReportRow]", fail_under: float | None) -> "list[ReportRow]":
    """The rows whose score is below the gate; none without one."""
    if fail_under is None:
        return []
    return [row for row in rows if row.score is not None and row.score < fail_under]


def evaluation_summary(found: "Sequence[SetAgreement]", in_group_srcc: float) -> Table:
    """Agreement overall, inside each bitrate group and for each codec."""
    table = Table(title="agreement with VMAF", title_justify="left")
    for heading in ("set", "encodes", "SRCC", "KRCC", "PLCC", "RMSE"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for before, one in zip([None, *found], found, strict=False):
        if before and before.kind != one.kind:
            table.add_section()
        figures = one.agreement
        name = "all" if one.kind == "all" else f"{one.kind} {one.name}"
        values = (figures.srcc, figures.krcc, figures.plcc)
        rmse = _figure(figures.rmse, 1)
        table.add_row(name, str(figures.count), *(_figure(value, 3) for value in values), rmse)
    table.add_section()
    table.add_row("mean inside a rung", "", _figure(in_group_srcc, 3), "", "", "")
    return table


def label_summary(labels: Sequence[LabelRow]) -> Table:
    """Mean VMAF of each rung and the range over its sources."""
    table = Table(title="VMAF by rung", title_justify="left")
    for heading in ("rung", "encodes", "lowest", "mean", "highest"):
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    values: dict[str, list[float]] = {}
    for row in labels:
        if row.vmaf is not None:
            values.setdefault(row.rung, []).append(row.vmaf)
    for rung, found in sorted(values.items(), key=lambda pair: sum(pair[1]) / len(pair[1])):
        low, mean, high = min(found), sum(found) / len(found), max(found)
        table.add_row(rung, str(len(found)), f"{low:.1f}", f"{mean:.1f}", f"{high:.1f}")
    return table


def _remark(row: "ReportRow", fail_under: float | None) -> str:
    remarks = [row.warnings.replace(";", ", ")] if row.warnings else []
    if fail_under is not None and row.score is not None and row.score < fail_under:
        remarks.insert(0, f"below {fail_under:g}")
    if row.score_min is not None and row.score is not None and row.score - row.score_min > 5:
        remarks.append(f"{row.score_min:.0f} at {row.worst_at_s:.0f} s")
    return ", ".join(remarks)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
