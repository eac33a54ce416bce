"""Metrics -> sentences: is the model ahead of the baselines, and what else a reader should know."""

import math
from collections.abc import Sequence

from vqatool.bootstrap import MIN_ORIGINS, Interval
from vqatool.evaluation.baselines import BASELINES, BITRATE, REGRESSION
from vqatool.evaluation.evaluator import (
    BRANCH,
    MEAN,
    MINUS,
    MODEL,
    MetricRow,
    find_row,
)

_NAMES = {BITRATE: "bitrate alone", REGRESSION: "the regression"}


def summary_sentences(rows: Sequence[MetricRow]) -> list[str]:
    """Sentences: whether the model is ahead of both baselines, and its lead over each.

    The model is ahead of a baseline if the 95 % interval of the difference of their SRCCs over all
    encodes is above 0, and its mean SRCC inside groups is higher (where any group has enough
    origins). It has learned nothing where that interval is below 0, or above it without a lead
    inside groups; an interval that reaches 0 tells neither.
    """
    overall = find_row(rows, "all", "all", MODEL)
    if not overall.is_enough:
        return [
            f"{overall.origins} {overall.drawn}(s) are too few to tell whether the model beats the "
            f"bitrate: at least {MIN_ORIGINS} are needed"
        ]
    if not math.isfinite(overall.srcc):
        return ["The model gives every encode the same score: it has learned nothing."]
    sentences = [_conclusion(rows), *(_comparison(rows, baseline) for baseline in BASELINES)]
    if not find_row(rows, MEAN, "all", MODEL).groups:
        sentences.append(f"no bitrate group has {MIN_ORIGINS} {overall.drawn}s: none was evaluated")
    return sentences


def remarks(rows: Sequence[MetricRow]) -> list[str]:
    """One sentence on each of: groups left out, the model's band, its branches, its features."""
    (band,) = [row for row in rows if row.set == "band"]
    inside, between = [row.value for row in rows if row.set == "similarity"]
    groups = {row.name for row in rows if row.set == "group"}
    group_count = find_row(rows, MEAN, "all", MODEL).groups or 0
    drawn = find_row(rows, "all", "all", MODEL).drawn
    sentences = [
        f"bitrate groups of {MIN_ORIGINS} {drawn}s or more: {group_count} of {len(groups)}"
    ]
    if not band.is_enough:
        return sentences  # what so few hold says nothing of others
    if band.name != "0.0":
        sentences.append(
            f"the model's band, {band.name} to either side in the mean, holds "
            f"{100 * band.value:.0f} % of the labels"
            f"{_interval(100 * band.value_low, 100 * band.value_high, '.0f')}; "
            "it was made to hold 90 %"
        )
    sentences += [
        f"{row.predictor} alone: SRCC {row.srcc:.3f}, the model's minus that {_lead(gap)}"
        for row in rows
        if row.set == "all" and row.predictor.startswith(BRANCH)
        if _has_interval(gap := find_row(rows, "all", "all", MINUS + row.predictor))
    ]
    if math.isfinite(inside) and math.isfinite(between):
        sentences.append(
            f"features of two sources have cosine similarity {inside:.3f} inside a bitrate group "
            f"and {between:.3f} between groups"
        )
    return sentences


def _conclusion(rows: Sequence[MetricRow]) -> str:
    ahead = {baseline: _is_ahead(rows, baseline) for baseline in BASELINES}
    behind, unsure = (
        " and ".join(_NAMES[baseline] for baseline, is_ahead in ahead.items() if is_ahead is answer)
        for answer in (False, None)
    )
    if behind:
        return f"The model has learned nothing beyond the baseline: not ahead of {behind}."
    if unsure:
        return (
            f"Whether the model is ahead of {unsure} cannot be told: the 95 % interval of the "
            "difference is not on one side of 0."
        )
    return "The model is ahead of both baselines."


def _is_ahead(rows: Sequence[MetricRow], baseline: str) -> bool | None:
    """None: it cannot be told, as the difference is 0 only in some resamples or not known."""
    overall = find_row(rows, "all", "all", MINUS + baseline)
    inside = find_row(rows, MEAN, "all", MINUS + baseline)
    is_equal = overall.srcc_low == overall.srcc_high == 0
    if not (overall.srcc_low > 0 or overall.srcc_high < 0 or is_equal):
        return None
    return overall.srcc_low > 0 and (not inside.groups or inside.srcc > 0)


def _comparison(rows: Sequence[MetricRow], baseline: str) -> str:
    gap = find_row(rows, "all", "all", MINUS + baseline)
    inside = find_row(rows, MEAN, "all", MINUS + baseline)
    sentence = f"SRCC over all encodes, model minus {_NAMES[baseline]}: {_lead(gap)}"
    return sentence + (f"; mean inside groups: {inside.srcc:+.3f}" if inside.groups else "")


def _lead(gap: MetricRow) -> str:
    return f"{gap.srcc:+.3f}{_interval(gap.srcc_low, gap.srcc_high, '+.3f')}"


def _interval(low: float, high: float, form: str) -> str:
    """With a space before it; empty where there is none, or none of any width."""
    return f" (95 % interval {low:{form}} to {high:{form}})" * Interval(low, high).is_known


def _has_interval(gap: MetricRow) -> bool:
    """Whether there are enough origins for an interval, and the scores of both predictors vary."""
    return gap.is_enough and math.isfinite(gap.srcc)
