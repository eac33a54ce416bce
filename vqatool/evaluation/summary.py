"""What a user reads after an evaluation: tables, and whether the model beats the baselines."""

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from vqatool.evaluation.baselines import BASELINES, BITRATE, REGRESSION
from vqatool.evaluation.evaluator import BRANCH, FEWEST_SOURCES, MEAN, MINUS, MODEL, MetricRow
from vqatool.terminal import shown

_NAMES = {BITRATE: "bitrate alone", REGRESSION: "the regression"}


def agreement_table(found: Sequence[MetricRow]) -> Table:
    """The model's figures on every set that has enough sources, with 95 % intervals.

    Made for 80 columns: the intervals of PLCC are in the figures' file alone.
    """
    whole = _row(found, "all", "all", MODEL)
    table = _table(f"agreement with VMAF, 95 % intervals over {whole.sources} sources")
    for heading in ("count", "SRCC", "95 %", "KRCC", "PLCC", "RMSE", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    listed = [one for one in found if _is_listed(one)]
    for before, one in zip([None, *listed], listed, strict=False):
        if before and before.set != one.set:
            table.add_section()
        table.add_row(
            _name(one), str(one.count), _figure(one.srcc), _span(one.srcc_low, one.srcc_high),
            _figure(one.krcc), _figure(one.plcc), _figure(one.rmse, 1),
            _span(one.rmse_low, one.rmse_high, 1),
        )  # fmt: skip
    return table


def baseline_table(found: Sequence[MetricRow]) -> Table:
    """SRCC of the model beside that of each baseline, and how far it is ahead."""
    table = _table("SRCC beside cheap baselines, and how far the model is ahead of them")
    for heading in ("model", "bitrate", "ahead", "95 %", "regression", "ahead", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        if one.predictor != MODEL or one.set not in ("all", MEAN, "codec"):
            continue
        cells = [_figure(one.srcc)]
        for baseline in BASELINES:
            gap = _row(found, one.set, one.name, MINUS + baseline)
            cells.append(_figure(_row(found, one.set, one.name, baseline).srcc))
            cells += [_figure(gap.srcc), _span(gap.srcc_low, gap.srcc_high)]
        table.add_row(_name(one), *cells)
    return table


def summary_sentences(found: Sequence[MetricRow]) -> list[str]:
    """In plain words: is the model ahead of both baselines? Then by how much of each.

    Ahead is: the 95 % interval of the difference of the SRCCs over all encodes is above 0, and the
    mean SRCC inside groups is higher (where any group has enough sources).
    """
    whole, inside = _row(found, "all", "all", MODEL), _row(found, MEAN, "all", MODEL)
    if whole.sources < FEWEST_SOURCES:
        return [
            f"{whole.sources} source(s) are too few to tell whether the model beats the bitrate: "
            f"at least {FEWEST_SOURCES} are needed"
        ]
    if not math.isfinite(whole.srcc):
        return ["The model gives every encode the same score: it has learned nothing."]
    missed = [_NAMES[each] for each in BASELINES if not _is_ahead(found, each)]
    sentences = (
        f"The model has learned nothing beyond the baseline: not ahead of {' and '.join(missed)}."
        if missed
        else "The model is ahead of both baselines."
    )
    message = [_comparison(found, baseline) for baseline in BASELINES]
    if not inside.groups:
        message.append(f"no bitrate group has {FEWEST_SOURCES} sources: none was looked into")
    return [sentences, *message]


def remarks(found: Sequence[MetricRow]) -> list[str]:
    """Of groups left out, of the model's band, its branches and features, one sentence each."""
    (band,) = [one for one in found if one.set == "band"]
    inside, between = [one.value for one in found if one.set == "similarity"]
    groups = {one.name for one in found if one.set == "group"}
    counted = _row(found, MEAN, "all", MODEL).groups or 0
    sentences = [f"bitrate groups of {FEWEST_SOURCES} sources or more: {counted} of {len(groups)}"]
    if band.name != "0.0":
        sentences.append(
            f"the model's band, {band.name} to either side, holds {100 * band.value:.0f} % of the "
            f"labels (95 % interval {100 * band.value_low:.0f} to {100 * band.value_high:.0f}); "
            "it was made to hold 90 %"
        )
    sentences += [
        f"{one.predictor} alone: SRCC {one.srcc:.3f}, the model's minus that {_lead(gap)}"
        for one in found
        if one.set == "all" and one.predictor.startswith(BRANCH)
        if _has_interval(gap := _row(found, "all", "all", MINUS + one.predictor))
    ]
    if math.isfinite(inside) and math.isfinite(between):
        sentences.append(
            f"features of two sources have cosine similarity {inside:.3f} inside a bitrate group "
            f"and {between:.3f} between groups"
        )
    return sentences


def _is_ahead(found: Sequence[MetricRow], baseline: str) -> bool:
    whole = _row(found, "all", "all", MINUS + baseline)
    inside = _row(found, MEAN, "all", MINUS + baseline)
    return whole.srcc_low > 0 and (not inside.groups or inside.srcc > 0)


def _comparison(found: Sequence[MetricRow], baseline: str) -> str:
    gap = _row(found, "all", "all", MINUS + baseline)
    inside = _row(found, MEAN, "all", MINUS + baseline)
    message = f"SRCC over all encodes, model minus {_NAMES[baseline]}: {_lead(gap)}"
    return message + (f"; mean inside groups: {inside.srcc:+.3f}" if inside.groups else "")


def _lead(gap: MetricRow) -> str:
    return f"{gap.srcc:+.3f} (95 % interval {gap.srcc_low:+.3f} to {gap.srcc_high:+.3f})"


def _has_interval(gap: MetricRow) -> bool:
    """Whether there are sources enough for an interval, and scores of both that differ."""
    return gap.sources >= FEWEST_SOURCES and math.isfinite(gap.srcc)


def _is_listed(one: MetricRow) -> bool:
    is_known = one.set in ("all", "codec", "height", MEAN)
    is_known |= one.set == "group" and one.sources >= FEWEST_SOURCES
    return is_known and one.predictor == MODEL and one.groups != 0


def _row(found: Sequence[MetricRow], kind: str, name: str, predictor: str) -> MetricRow:
    asked = (kind, name, predictor)
    return next(one for one in found if (one.set, one.name, one.predictor) == asked)


def _name(one: MetricRow) -> str:
    if one.set == MEAN:
        return f"mean, {one.groups} {'groups' if one.name == 'all' else one.name}"
    return shown(one.name)


def _table(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, show_edge=False
    )
    table.add_column("set", overflow="fold")
    return table


def _figure(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def _span(low: float, high: float, digits: int = 2) -> str:
    return f"{low:.{digits}f}..{high:.{digits}f}" if math.isfinite(low) else ""
