"""Stage 6: rows -> what people read in a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ladder.tables import LabelRow
from vqatool.terminal import shown

if TYPE_CHECKING:  # torch takes seconds to load, and the summary of labels needs none
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
