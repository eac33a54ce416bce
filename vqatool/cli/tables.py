"""Rows -> tables that people read in a terminal."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.table import Table

from ladder.label.metrics import LABEL_COLUMNS, METRICS
from ladder.label.rows import LabelRow
from vqatool.reporting.charts import clock
from vqatool.terminal import console, cut_middle, shown

if TYPE_CHECKING:  # torch takes seconds to load, and the summary of labels needs none
    from ladder.recommend.bdrate import Comparison
    from ladder.recommend.run import Recommendation
    from vqatool.evaluation.evaluator import MetricRow
    from vqatool.evaluation.study import MeanInterval, StudyRow
    from vqatool.reporting.comparison import ComparisonRow
    from vqatool.reporting.explanation import Explanation
    from vqatool.scoring.gates import Gate
    from vqatool.scoring.rows import ReportRow


def score_summary(rows: "Sequence[ReportRow]", gate: "Gate", *, most: int = 10) -> Table:
    """The lowest scores, worst first; at most `most` of them."""
    scored = sorted((row for row in rows if row.score is not None), key=lambda r: r.score or 0)
    count = f"lowest {most} of {len(scored)} scores" if len(scored) > most else "scores"
    remarks = [_remark(row, gate) for row in scored[:most]]
    names = _Names.fitting([row.path for row in scored[:most]], _room(_SCORE_WIDTH, remarks))
    table = Table(title=f"{count}, lowest first{names.place}", title_justify="left")
    table.add_column("file", no_wrap=True)
    table.add_column("score", justify="right")
    table.add_column("band", justify="right")
    table.add_column("verdict")
    table.add_column("remark", overflow="fold")
    for row, name, remark in zip(scored, names.cut, remarks, strict=False):
        band = f"{row.score_low:.0f} to {row.score_high:.0f}"
        table.add_row(name, f"{row.score:.1f}", band, row.verdict, remark)
    return table


_MIN_NAME_WIDTH, _MAX_NAME_WIDTH = 20, 60
_SCORE_WIDTH, _PAIR_WIDTH, _COMPARISON_WIDTH = 37, 39, 56
"""What the columns of each table take that are neither names nor remarks, with their borders."""
_REMARK, _MAX_REMARK_WIDTH = "remark", 20


def _room(other_columns: int, remarks: Sequence[str] = ()) -> int:
    """How many letters of a name fit on one line beside the other columns of a table.

    A remark may have several lines, a name may not: it could not be copied or searched for.
    """
    beside = max(map(len, [_REMARK, *remarks])) if remarks else 0
    room = console().width - other_columns - min(beside, _MAX_REMARK_WIDTH)
    return max(_MIN_NAME_WIDTH, min(room, _MAX_NAME_WIDTH))


class _Names(NamedTuple):
    """Names of files, each on one line of a table, and the folder of all of them for its title."""

    cut: list[str]
    place: str = ""

    @classmethod
    def fitting(cls, names: Sequence[str], width: int) -> "_Names":
        """The names below the folder of all if one is too long, and without the middle then."""
        if all(len(name) <= width for name in names):
            return cls([shown(name) for name in names])
        # absolute and relative names have no folder in common
        is_mixed = len({Path(name).is_absolute() for name in names}) > 1
        folder = "" if is_mixed else os.path.commonpath([Path(name).parent for name in names])
        below = [os.path.relpath(name, folder) if folder else name for name in names]
        place = f", in {shown(folder)}" if folder else ""
        cut = [cut_middle(shown(name), width) for name in below]
        if len(set(cut)) < len(set(below)):  # what tells them apart is in the middle, as of rungs
            places = enumerate(zip(*below, strict=False))
            start = next((at for at, letters in places if len(set(letters)) > 1), 0)
            cut = [_window(shown(name), start, width) for name in below]
        return cls(cut, place)


def named_reason(name: str, reason: str) -> str:
    """A line such as `NAME: REASON`, on a terminal without so much of the name that it fits.

    Elsewhere names stay whole: logs are searched for them.
    """
    if not console().is_terminal:
        return f"{name}: {reason}"
    room = console().width - len(reason) - len(": ")
    return f"{cut_middle(shown(name), max(_MIN_NAME_WIDTH, room))}: {reason}"


def _window(text: str, start: int, width: int) -> str:
    """At most `width` letters of the text from `start` on, with a sign where it is cut."""
    dots = "\N{HORIZONTAL ELLIPSIS}"
    rest = f"{dots}{text[start:]}" if start else text
    return rest if len(rest) <= width else f"{rest[: width - 1]}{dots}"


def explanation_table(found: "Explanation", *, most: int = 10) -> Table:
    """What each input adds to the score of the video, and of its lowest segments."""
    lowest = sorted(found.segments, key=lambda segment: segment.score)[:most]
    count = f"lowest {most} of {len(found.segments)} " if len(found.segments) > most else ""
    title = f"{count}segments, lowest first"
    if found.base is not None:
        title += f"; a typical clip scores {found.base:.1f}, and each input adds its points to that"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("at", "score", "band", *found.points):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("remark", overflow="fold")
    row = found.row
    whole = (row.score or 0.0, row.score_low or 0.0, row.score_high or 0.0)
    remark = row.warnings.replace(";", ", ")
    table.add_row("all", *_explained(whole, found.points), remark)
    table.add_section()
    for segment in lowest:
        figures = (segment.score, segment.score_low, segment.score_high)
        parts = _explained(figures, segment.points)
        table.add_row(clock(segment.start_s), *parts, segment.warnings.replace(";", ", "))
    return table


def _explained(figures: tuple[float, float, float], points: Mapping[str, float]) -> list[str]:
    score, low, high = figures
    added = (f"{each:+.1f}" for each in points.values())
    return [f"{score:.1f}", f"{low:.0f} to {high:.0f}", *added]


def enlarged_hint(rows: "Sequence[ReportRow]") -> str:
    """A note on videos that were enlarged to the display; empty where there is none."""
    scored = [row for row in rows if row.score is not None and "x" in row.display]
    smaller = [row for row in scored if _is_smaller(row)]
    if not smaller:
        return ""
    number = len(smaller)
    count = f"all {number}" if number == len(scored) > 1 else str(number)
    count += " video" * (number == 1)
    verb = "is" if number == 1 else "are"
    return (
        f"{count} {verb} smaller than {smaller[0].display}, and judged enlarged to it "
        "(--display sets it)"
    )


def _is_smaller(row: "ReportRow") -> bool:
    long, short = sorted(map(int, row.display.split("x")), reverse=True)
    sides = sorted((row.width_px or 0, row.height_px or 0), reverse=True)
    return sides[0] < long and sides[1] < short


def comparison_table(rows: "Sequence[ComparisonRow]", *, most: int = 20) -> Table:
    """The largest drops first; at most `most` of the videos that are in both reports."""
    paired = [row for row in rows if not row.outcome.startswith("only_")]
    count = f"{most} of {len(paired)} videos" if len(paired) > most else "videos"
    names = _Names.fitting([row.video for row in paired[:most]], _room(_COMPARISON_WIDTH))
    table = Table(title=f"{count}, the largest drops first{names.place}", title_justify="left")
    table.add_column("video", no_wrap=True)
    for heading in ("before", "after", "difference"):
        table.add_column(heading, justify="right")
    table.add_column("verdict", overflow="fold")
    table.add_column("bitrate", justify="right")
    for row, name in zip(paired, names.cut, strict=False):
        table.add_row(
            name,
            _points(row.score_before), _points(row.score_after), _points(row.difference, "+"),
            " > ".join(dict.fromkeys((row.verdict_before or "-", row.verdict_after or "-"))),
            _bitrate_change(row),
        )  # fmt: skip
    return table


def _points(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.1f}"


def _bitrate_change(row: "ComparisonRow") -> str:
    before, after = row.bitrate_before_kbps, row.bitrate_after_kbps
    return f"{100 * (after / before - 1):+.0f} %" if before and after is not None else "-"


def label_summary(labels: Sequence[LabelRow]) -> Table:
    """Mean VMAF of each rung and the range over its sources."""
    table = Table(title="VMAF by rung", title_justify="left")
    for heading in ("rung", "encodes", "lowest", "mean", "highest"):
        table.add_column(heading, justify="left" if heading == "rung" else "right")
    values: dict[str, list[float]] = {}
    for row in labels:
        if row.vmaf is not None:
            values.setdefault(row.rung, []).append(row.vmaf)
    for rung, vmafs in sorted(values.items(), key=lambda pair: sum(pair[1]) / len(pair[1])):
        low, mean, high = min(vmafs), sum(vmafs) / len(vmafs), max(vmafs)
        table.add_row(shown(rung), str(len(vmafs)), f"{low:.1f}", f"{mean:.1f}", f"{high:.1f}")
    return table


def label_figures(row: LabelRow) -> Table:
    """All that is known of one good label: a line for each figure, by the name of its column."""
    title = f"{row.encode_path} against {row.source_path or row.source}"
    table = Table(
        title=shown(title), title_justify="left", box=None, show_header=False, padding=(0, 2, 0, 0)
    )
    table.add_column("column", no_wrap=True)
    table.add_column("value", overflow="fold")
    for column in _FIGURES:
        value = getattr(row, column)
        if value is not None:
            table.add_row(column, f"{value:.1f}" if column != "ssim" else f"{value:.4f}")
    of_both = f"{row.frames_encode} in the encode, {row.frames_source} in the source"
    table.add_row("frames_compared", f"{row.frames_compared} by {row.pairing} ({of_both})")
    table.add_row("compared at", f"{row.scale}, {row.pix_fmt}, {row.vmaf_model}")
    rate = "" if row.bitrate_kbps is None else f", {row.bitrate_kbps:.0f} kbit/s"
    table.add_row("encode", f"{row.codec} {row.width_px}x{row.height_px}{rate}")
    table.add_row("warnings", shown(row.warnings.replace(";", ", ")) or "none")
    return table


_FIGURES = tuple(
    dict.fromkeys(
        [*LABEL_COLUMNS, *(column for metric in METRICS.values() for column in metric.columns)]
    )
)


def pair_summary(labels: Sequence[LabelRow], *, most: int = 30) -> Table:
    """The main figures of each encode, or of each rung if there are more than `most` encodes."""
    if len(labels) > most:
        return label_summary(labels)
    remarks = [
        shown(row.warnings.replace(";", ", ") if row.status == "ok" else row.error.split("\n")[0])
        for row in labels
    ]
    names = _Names.fitting([row.encode_path for row in labels], _room(_PAIR_WIDTH, remarks))
    table = Table(title=f"VMAF{names.place}", title_justify="left")
    table.add_column("encode", no_wrap=True)
    for heading in ("kbit/s", "mean", "p1", "lowest"):
        table.add_column(heading, justify="right")
    table.add_column("remark", overflow="fold")
    for row, name, remark in zip(labels, names.cut, remarks, strict=True):
        figures = (row.vmaf, row.vmaf_p1, row.vmaf_min)
        cells = ["" if value is None else f"{value:.1f}" for value in figures]
        rate = "" if row.bitrate_kbps is None else f"{row.bitrate_kbps:.0f}"
        table.add_row(name, rate, *cells, remark)
    return table


def recommendation_table(found: "Recommendation") -> Table:
    """The rungs, the best first: measured beside predicted."""
    probed = found.probed
    table = Table(
        title=shown(f"rungs for {probed.name}, {probed.delivery.codec}: measured, and predicted"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        show_edge=False,
    )
    table.add_column("rung", no_wrap=True)
    for heading in ("kbit/s", "pred.", "VMAF", "pred.", "p5", "pred."):
        table.add_column(heading, justify="right")
    for rung in found.rungs:
        sample = rung.measured.sample if rung.measured else None
        table.add_row(
            rung.choice.rung.name,
            _known(sample.rate_kbps if sample else None, 0), _known(rung.choice.rate_kbps, 0),
            _known(sample.vmaf if sample else None), _known(rung.vmaf),
            _known(sample.vmaf_p5 if sample else None), _known(rung.vmaf_p5),
        )  # fmt: skip
    return table


def delta_table(found: "Comparison", quality: str) -> Table:
    """BD-rate and BD-quality by both interpolations, with their intervals."""
    from ladder.recommend.curves import Method

    axis = "-log10(1 - VMAF/100)" if found.is_log_vmaf else quality
    count = f"{len(found.sources)} source{'s' * (len(found.sources) > 1)}"
    table = Table(
        title=shown(f"B against A, {count}, BD-rate over {axis}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
    )
    table.add_column("curves")
    for heading in ("BD-rate, %", "95 %", shown(f"BD-{quality}"), "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for method in Method:
        rate, better = found.rate[method], found.quality[method]
        table.add_row(
            str(method),
            f"{rate.value:+.2f}", _range(*rate.interval),
            f"{better.value:+.3f}", _range(*better.interval, 3),
        )  # fmt: skip
    return table


def raw_error_table(rows: "Sequence[MetricRow]") -> Table:
    """The model's errors as a user meets them, on every set that has enough origins."""
    table = _metrics_table(f"scores as they are, VMAF points; {_intervals_of(rows)}")
    headings = ("count", "RMSE", "95 %", "bias", "95 %", "lowest of 97+")
    return _fill(
        table,
        headings,
        [row for row in rows if _is_listed(row) and math.isfinite(row.raw_rmse)],
        lambda row: (
            str(row.count), _value(row.raw_rmse, 1), _range(row.raw_rmse_low, row.raw_rmse_high, 1),
            f"{row.bias:+.1f}", _range(row.bias_low, row.bias_high, 1), _value(row.good_lowest, 1),
        ),
    )  # fmt: skip


def order_table(rows: "Sequence[MetricRow]") -> Table:
    """How many pairs of encodes of one source the model's scores put in the right order."""
    table = _metrics_table("pairs of encodes of one source, % of them; in order: 5 points apart")
    headings = ("in order", "95 %", "neighbours", "95 %", "flips", "95 %")
    return _fill(
        table,
        headings,
        [
            row
            for row in rows
            if _is_listed(row) and (math.isfinite(row.order) or math.isfinite(row.neighbours))
        ],
        lambda row: [
            cell
            for name in ("order", "neighbours", "flips")
            for cell in (
                _value(100 * getattr(row, name), 1),
                _range(100 * getattr(row, f"{name}_low"), 100 * getattr(row, f"{name}_high"), 1),
            )
        ],
    )


def agreement_table(rows: "Sequence[MetricRow]") -> Table:
    """The model's rank correlations on every set that has enough origins."""
    table = _metrics_table("rank correlations")
    return _fill(
        table,
        ("count", "SRCC", "95 %", "KRCC", "95 %"),
        [row for row in rows if _is_listed(row) and (row.set == "all" or math.isfinite(row.srcc))],
        lambda row: (
            str(row.count), _value(row.srcc), _range(row.srcc_low, row.srcc_high),
            _value(row.krcc), _range(row.krcc_low, row.krcc_high),
        ),
    )  # fmt: skip


def fitted_table(rows: "Sequence[MetricRow]") -> Table:
    """PLCC and RMSE after the logistic, on every set that has enough origins."""
    table = _metrics_table("after a logistic fitted to each set, which hides a bias")
    return _fill(
        table,
        ("count", "fitted PLCC", "95 %", "fitted RMSE", "95 %"),
        [row for row in rows if _is_listed(row) and math.isfinite(row.plcc)],
        lambda row: (
            str(row.count), _value(row.plcc), _range(row.plcc_low, row.plcc_high),
            _value(row.rmse, 1), _range(row.rmse_low, row.rmse_high, 1),
        ),
    )  # fmt: skip


def _intervals_of(rows: "Sequence[MetricRow]") -> str:
    from vqatool.evaluation.evaluator import MODEL, find_row

    overall = find_row(rows, "all", "all", MODEL)
    drawn = f"{overall.origins} {overall.drawn}{'s' * (overall.origins != 1)}"
    return (
        f"95 % intervals over {drawn}"
        if overall.is_enough
        else f"no intervals, too few {overall.drawn}s ({overall.origins})"
    )


def _fill(
    table: Table,
    headings: Sequence[str],
    rows: "Sequence[MetricRow]",
    cells: "Callable[[MetricRow], Iterable[str]]",
) -> Table:
    """The table with a line for each row, and a rule between kinds of sets."""
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous and previous.set != row.set:
            table.add_section()
        table.add_row(_set_name(row), *cells(row))
    return table


def baseline_table(rows: "Sequence[MetricRow]") -> Table:
    """SRCC of the model beside that of each baseline, and how far the model is ahead."""
    from vqatool.evaluation.baselines import BASELINES
    from vqatool.evaluation.evaluator import MEAN, MINUS, MODEL, find_row

    table = _metrics_table("SRCC beside cheap baselines, and how far the model is ahead of them")
    for heading in ("model", "bitrate", "ahead", "95 %", "regression", "ahead", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        is_of_model = row.predictor == MODEL and row.set in ("all", MEAN, "codec")
        if not is_of_model or not math.isfinite(row.srcc):
            continue
        cells = [_value(row.srcc)]
        for baseline in BASELINES:
            gap = find_row(rows, row.set, row.name, MINUS + baseline)
            cells.append(_value(find_row(rows, row.set, row.name, baseline).srcc))
            cells += [_value(gap.srcc), _range(gap.srcc_low, gap.srcc_high)]
        table.add_row(_set_name(row), *cells)
    return table


def study_table(rows: "Sequence[StudyRow]") -> Table:
    """Each variant's mean over seeds with its 95 % interval, and its lead over the first one's."""
    from vqatool.evaluation.study import mean_over_seeds, paired_difference

    table = Table(title="variants on held-out sources", title_justify="left")
    headings = [
        "study",
        "variant",
        "seeds",
        "SRCC",
        "fitted PLCC",
        "in groups",
        "fitted RMSE",
        "against first",
    ]
    has_costs = any(row.clip_s is not None for row in rows)
    for heading in headings + list(_COSTS) * has_costs:
        is_name = heading in ("study", "variant")
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=is_name)
    by_variant: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        by_variant.setdefault((row.study, row.variant), []).append(row)
    first: dict[str, list[StudyRow]] = {}
    for (study, variant), own in by_variant.items():
        against = first.setdefault(study, own)
        metrics = [
            format_interval(mean_over_seeds([getattr(row, name) for row in own]), digits)
            for name, digits in (("srcc", 3), ("plcc", 3), ("in_group_srcc", 3), ("rmse", 1))
        ]
        lead = (
            "" if own is against else format_interval(paired_difference(own, against), 3, sign=True)
        )
        name = study if own is against else ""
        table.add_row(name, variant, str(len(own)), *metrics, lead, *_costs(own) * has_costs)
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
    from vqatool.scoring.verdicts import worse_verdict

    message = gate.message(row)
    remarks = [message] if message else []
    told = re.findall(r"\w+", message)
    remarks += [code for code in row.warnings.split(";") if code and code not in told]
    if row.score_min is not None and row.score is not None and row.score - row.score_min > 5:
        worse = worse_verdict(row.score, row.score_min)
        lowest = f"{row.score_min:.0f} ({worse})" if worse else f"{row.score_min:.0f}"
        remarks.append(f"{lowest} from {row.worst_at_s:.0f} s")
    return ", ".join(remarks)


def _is_listed(row: "MetricRow") -> bool:
    from vqatool.evaluation.evaluator import MEAN, MODEL

    is_known = row.set in ("all", "codec", "height", "display", "kind", MEAN)
    is_known |= row.set == "group" and row.is_enough
    return is_known and row.predictor == MODEL and row.groups != 0


def _set_name(row: "MetricRow") -> str:
    from vqatool.evaluation.evaluator import MEAN

    if row.set == MEAN:
        return f"mean, {row.groups} {'groups' if row.name == 'all' else row.name}"
    # a rung may have the name of a height
    kind = f"{row.set} " if row.set in ("group", "height") else ""
    return shown(f"{kind}{row.name}")


def _metrics_table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False
    )
    table.add_column("set", overflow="fold")
    return table


def _value(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _known(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _range(low: float, high: float, digits: int = 2) -> str:
    from vqatool.bootstrap import Interval

    return f"{low:.{digits}f}..{high:.{digits}f}" if Interval(low, high).is_known else ""
