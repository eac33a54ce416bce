"""Verdicts: a score and its band in one word, for people who have no time for numbers.

The limits lie halfway between the answers of VMAF's own opinion test, where 20 is "bad", 40 "poor",
60 "fair", 80 "good" and 100 "excellent" (Netflix Technology Blog, "VMAF: The Journey Continues",
2018: 70 is between "fair" and "good" at 1080 lines, three picture heights away).
"""

from collections.abc import Iterable
from enum import StrEnum

from vqatool.scoring.warning_codes import UNTRUSTED


class Verdict(StrEnum):
    """What a report's `verdict` column says."""

    BAD = "bad"
    POOR = "poor"
    FAIR = "fair"
    GOOD = "good"
    UNSURE = "unsure"


LOWEST_SCORES = {Verdict.GOOD: 70.0, Verdict.FAIR: 50.0, Verdict.POOR: 30.0, Verdict.BAD: 0.0}
"""The lowest score of each verdict."""

_NOISE = 5.0
"""Points that a segment is lower by without being told apart: models are less exact."""

_IN_ORDER = list(LOWEST_SCORES)


def verdict(score: float, low: float, high: float, warnings: Iterable[str]) -> Verdict:
    """The verdict of a score.

    It is unsure if a warning says not to trust the score, or if the band reaches a verdict that is
    not a neighbour of the score's own.

    Args:
        score: 0 (worst) to 100 (best).
        low: lower end of the score's band.
        high: upper end of it.
        warnings: codes of the row's warnings.
    """
    if UNTRUSTED.intersection(warnings):
        return Verdict.UNSURE
    worst, found, best = map(_rank, (low, score, high))
    is_clear = worst - found <= 1 and found - best <= 1
    return _IN_ORDER[found] if is_clear else Verdict.UNSURE


def worse_verdict(score: float, lowest: float) -> Verdict | None:
    """The verdict of a video's lowest segment, by its score alone, where it is a worse one.

    None: the segment is in the range of the video's own score, or little below it.
    """
    is_worse = score - lowest > _NOISE and _rank(lowest) > _rank(score)
    return _IN_ORDER[_rank(lowest)] if is_worse else None


def _rank(score: float) -> int:
    """0 for good, 3 for bad."""
    return next(
        (rank for rank, lowest in enumerate(LOWEST_SCORES.values()) if score >= lowest),
        len(_IN_ORDER) - 1,
    )
