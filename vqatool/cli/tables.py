"""Stage 6: rows -> what people read in a terminal."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ladder.label.rows import LabelRow
from vqatool.terminal import shown

if TYPE_CHECKING:  # torch takes seconds to load, and the summary of labels needs none
    from vqatool.evaluation.study import MeanInterval, StudyRow
    from vqatool.scoring.gates import Gate
    from vqatool.scoring.rows import ReportRow


def score_summary(rows: "Sequence[ReportRow]", gate: "Gate", *, most: int = 10) -> Table:
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
        table.add_row(shown(row.path), f"{row.score:.1f}", band, _remark(row, gate))
    for row in failed[:most]:
        table.add_row(shown(row.path), "", "", shown(f"{row.error_code}: {_first_line(row.error)}"))
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


def study_table(rows: "Sequence[StudyRow]") -> Table:
    """Each variant's mean over seeds with its 95 % interval, and its lead over the first one's."""
    from vqatool.evaluation.study import mean_over_seeds, paired_difference

    table = Table(title="variants on held-out sources", title_justify="left")
    headings = ["study", "variant", "seeds", "SRCC", "PLCC", "in groups", "RMSE", "against first"]
    has_costs = any(row.clip_s is not None for row in rows)
    for heading in headings + list(_COSTS) * has_costs:
        is_name = heading in ("study", "variant")
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=is_name)
    found: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        found.setdefault((row.study, row.variant), []).append(row)
    first: dict[str, list[StudyRow]] = {}
    for (study, variant), own in found.items():
        against = first.setdefault(study, own)
        figures = [
            format_interval(mean_over_seeds([getattr(row, name) for row in own]), digits)
            for name, digits in (("srcc", 3), ("plcc", 3), ("in_group_srcc", 3), ("rmse", 1))
        ]
        lead = (
            "" if own is against else format_interval(paired_difference(own, against), 3, sign=True)
        )
        name = study if own is against else ""
        table.add_row(name, variant, str(len(own)), *figures, lead, *_costs(own) * has_costs)
    return table


_COSTS = {
    "M parameters": ("parameters_m", 2),
    "GMACs": ("macs_g", 2),
    "s a clip": ("clip_s", 2),
    "peak MB": ("peak_mb", 0),
}


def _costs(rows: "Sequence[StudyRow]") -> list[str]:
    """Means over seeds, of which only the last two columns are measured."""
    from vqatool.evaluation.study import mean_over_seeds

    return [
        f"{mean_over_seeds([getattr(row, name) for row in rows]).mean:.{digits}f}"
        for name, digits in _COSTS.values()
    ]


def format_interval(spread: "MeanInterval", digits: int, *, sign: bool = False) -> str:
    """Mean and half interval, such as `0.912 ±0.004`; the half is left out where there is none."""
    mean = f"{spread.mean:{'+' if sign else ''}.{digits}f}"
    return mean if math.isnan(spread.half) else f"{mean} ±{spread.half:.{digits}f}"


def _remark(row: "ReportRow", gate: "Gate") -> str:
    remarks = [gate.message(row)] if gate.is_missed(row) else []
    if row.warnings:
        remarks.append(row.warnings.replace(";", ", "))
    if row.score_min is not None and row.score is not None and row.score - row.score_min > 5:
        remarks.append(f"{row.score_min:.0f} at {row.worst_at_s:.0f} s")
    return ", ".join(remarks)


def _first_line(text: str) -> str:
    return text.splitlines()[0] if text else ""
