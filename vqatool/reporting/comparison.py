"""Two reports of the same videos, before and after a change: pairs, differences, regressions."""

import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ladder.media.remote import as_path
from vqatool.errors import ReportError
from vqatool.scoring.rows import ReportRow

_RESAMPLES = 1000
_CONFIDENCE = 0.95
LEAST_VIDEOS = 5
"""Fewer give no interval: a bootstrap over so few is far too narrow."""
_DECIMALS = 4  # of the scores in reports; more would be errors of binary fractions


class PairBy(StrEnum):
    """What two rows must have in common to be one video."""

    PATH = "path"
    """The whole path."""
    BELOW = "below"
    """The path below the folder that holds all files of the report."""
    NAME = "name"
    """The file's name."""
    STEM = "stem"
    """The file's name without its suffix."""


class Outcome(StrEnum):
    """What became of a video."""

    COMPARED = "compared"
    LOST = "lost"
    """It had a score before, and its file failed after."""
    GAINED = "gained"
    """It failed before, and has a score after."""
    FAILED = "failed"
    """It has no score in either."""
    ONLY_BEFORE = "only_before"
    ONLY_AFTER = "only_after"


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """One video in two reports; scores are 0 (worst) to 100 (best), `difference` is after - before.

    Of a video that is in one report alone, the cells of the other are empty.
    """

    video: str
    outcome: str
    difference: float | None = None
    score_before: float | None = None
    score_after: float | None = None
    verdict_before: str = ""
    verdict_after: str = ""
    bitrate_before_kbps: float | None = None
    bitrate_after_kbps: float | None = None
    warnings: str = ""
    error: str = ""
    path_before: str = ""
    path_after: str = ""

    @property
    def key(self) -> str:
        """What the two rows have in common."""
        return self.video

    def fell_by(self, points: float) -> bool:
        """Whether the score fell by so many points or more."""
        return self.difference is not None and self.difference <= -points


@dataclass(frozen=True)
class DropGate:
    """Which videos do not pass.

    Attributes:
        max_drop: points that no score may fall by; no score may be lost either. None: all may.
        fails_on_missing: whether the report after must have every video of the one before.
    """

    max_drop: float | None = None
    fails_on_missing: bool = False

    @property
    def outcomes(self) -> frozenset["Outcome"]:
        """Those that do not pass, whatever the scores are."""
        lost = {Outcome.LOST} if self.max_drop is not None else set()
        return frozenset(lost | ({Outcome.ONLY_BEFORE} if self.fails_on_missing else set()))

    def is_missed(self, row: ComparisonRow) -> bool:
        """Whether the video does not pass."""
        fell = self.max_drop is not None and row.fell_by(self.max_drop)
        return fell or row.outcome in self.outcomes


class MeanDifference(NamedTuple):
    """The mean over videos, and its 95 % interval: how far it hangs on which were chosen.

    NaN where there is no pair; the interval also where there are fewer than `LEAST_VIDEOS`.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """All videos of two reports, the largest drops first, and what makes them hard to compare."""

    rows: Sequence[ComparisonRow]
    mean: MeanDifference
    remarks: Sequence[str]

    def count(self, outcome: Outcome) -> int:
        """How many videos have this outcome."""
        return sum(row.outcome == outcome for row in self.rows)

    def others(self, besides: Collection[Outcome] = ()) -> list[str]:
        """How many videos could not be compared, a part of a sentence for each outcome.

        Args:
            besides: outcomes that are told elsewhere.
        """
        counts = {outcome: self.count(outcome) for outcome in Outcome}
        words = {
            Outcome.LOST: "lost its score" if counts[Outcome.LOST] == 1 else "lost their scores",
            Outcome.GAINED: "gained a score",
            Outcome.FAILED: "failed in both",
            Outcome.ONLY_BEFORE: "only before",
            Outcome.ONLY_AFTER: "only after",
        }
        return [
            f"{counts[each]:,} {text}"
            for each, text in words.items()
            if counts[each] and each not in besides
        ]


def compare(
    before: Sequence[ReportRow], after: Sequence[ReportRow], by: PairBy = PairBy.PATH
) -> Comparison:
    """Pair the rows of two reports and take their differences.

    The interval of the mean is a percentile bootstrap over videos (Efron 1979). The model's error
    is much the same for both sides of a pair, so the bands of the scores tell little about it.

    Args:
        before: the rows of one report.
        after: those of the other.
        by: what two rows of a pair have in common.

    Raises:
        ReportError: two rows of one report cannot be told apart, or no row has a partner.
    """
    left, right = _by_key(before, by, "before"), _by_key(after, by, "after")
    if not left.keys() & right.keys():
        other = PairBy.STEM if by is not PairBy.STEM else PairBy.BELOW
        raise ReportError(
            f"no file of one report has the same {by} as one of the other, such as "
            f"{next(iter(left), 'none')!r} and {next(iter(right), 'none')!r}: try --by {other}"
        )
    rows = [_pair(key, left.get(key), right.get(key)) for key in dict.fromkeys([*left, *right])]
    differences = [row.difference for row in rows if row.difference is not None]
    return Comparison(sorted(rows, key=_rank), _mean(differences), list(_remarks(before, after)))


def _by_key(rows: Sequence[ReportRow], by: PairBy, side: str) -> dict[str, ReportRow]:
    folder = _common_folder([as_path(row.path).parent for row in rows])
    found: dict[str, ReportRow] = {}
    for row in rows:
        key = _key(as_path(row.path), by, folder)
        if key in found:
            raise ReportError(
                f"the report {side} has {found[key].path} and {row.path}, which have the same "
                f"{by}: use --by {PairBy.BELOW if by is not PairBy.BELOW else PairBy.PATH}"
            )
        found[key] = row
    return found


def _key(path: Path, by: PairBy, folder: str) -> str:
    if by is PairBy.STEM:
        return path.stem
    if by is PairBy.NAME:
        return path.name
    return str(path) if by is PairBy.PATH or not folder else str(path.relative_to(folder))


def _common_folder(folders: Sequence[Path]) -> str:
    """The folder of all; empty: there is none, as where some are absolute or URLs, others not."""
    try:
        return os.path.commonpath(folders)
    except ValueError:
        return ""


def _pair(key: str, before: ReportRow | None, after: ReportRow | None) -> ComparisonRow:
    old, new = before.score if before else None, after.score if after else None
    known = [row for row in (before, after) if row]
    return ComparisonRow(
        video=key,
        outcome=_outcome(before, after),
        difference=None if old is None or new is None else round(new - old, _DECIMALS),
        score_before=old,
        score_after=new,
        verdict_before=before.verdict if before else "",
        verdict_after=after.verdict if after else "",
        bitrate_before_kbps=before.bitrate_kbps if before else None,
        bitrate_after_kbps=after.bitrate_kbps if after else None,
        warnings=";".join(
            dict.fromkeys(code for row in known for code in row.warnings.split(";") if code)
        ),
        error=next((row.error for row in reversed(known) if row.error), ""),
        path_before=before.path if before else "",
        path_after=after.path if after else "",
    )


def _outcome(before: ReportRow | None, after: ReportRow | None) -> Outcome:
    if before is None:
        return Outcome.ONLY_AFTER
    if after is None:
        return Outcome.ONLY_BEFORE
    return {
        (True, True): Outcome.COMPARED,
        (True, False): Outcome.LOST,
        (False, True): Outcome.GAINED,
        (False, False): Outcome.FAILED,
    }[before.score is not None, after.score is not None]


def _rank(row: ComparisonRow) -> tuple[int, float]:
    """What was lost first, then the largest drops; what cannot be compared last."""
    if row.outcome == Outcome.LOST:
        return 0, 0.0
    return (2, 0.0) if row.difference is None else (1, row.difference)


def _mean(differences: Sequence[float]) -> MeanDifference:
    if not differences:
        return MeanDifference(math.nan, math.nan, math.nan)
    value_N = np.asarray(differences)
    if len(value_N) < LEAST_VIDEOS:
        return MeanDifference(float(value_N.mean()), math.nan, math.nan)
    rng, count = np.random.default_rng(0), len(value_N)
    # one at a time: all of them together would take gigabytes for a report of 100,000 files
    means = [value_N[rng.integers(count, size=count)].mean() for _ in range(_RESAMPLES)]
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return MeanDifference(float(value_N.mean()), float(low), float(high))


def _remarks(before: Sequence[ReportRow], after: Sequence[ReportRow]) -> Iterable[str]:
    """Settings that differ, so that scores differ for another reason than the videos."""
    for name, what in (("model", "models"), ("display", "displays")):
        values = sorted({getattr(row, name) for row in [*before, *after] if row.score is not None})
        if len(values) > 1:
            yield (
                f"the scores are of different {what} ({', '.join(values)}), so their differences "
                "are not those of the videos alone: score both again"
            )
