"""Predictions and labels -> metrics of every set with intervals, for the model and baselines.

A set is all encodes, a bitrate group, a codec or a coded height. The metrics inside a group matter
most: over a whole ladder the bitrate alone ranks well. Intervals come from one bootstrap over
sources (bootstrap.py), so that differences of two predictors are paired. No torch.

Shapes: N encodes, R resamples.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode
from vqatool.evaluation.bootstrap import (
    interval,
    resampled_mean,
    resampled_plcc,
    resampled_rmse,
    resampled_srcc,
    source_weights,
)
from vqatool.evaluation.features import Similarity
from vqatool.metrics import Values, agreement_and_fit, srcc

MODEL, BRANCH = "model", "branch "


MINUS = "model minus "


FEWEST_SOURCES = 5
"""A group with fewer sources ranks too little to count."""


MEAN = "mean inside groups"


_EVERY, _BITRATE, _CRF = "all", "bitrate", "crf"


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """One predictor on one set, a row of the figures' CSV; NaN where a figure has no meaning.

    `set` is `all`, `group`, `codec`, `height`; `mean inside groups` (of SRCC, over `groups` groups
    that have enough sources: all, those of a bitrate, those of a CRF); `band` (`value` is the share
    of labels inside the model's band) or `similarity` (`value` is a mean cosine). A predictor
    named `model minus X` is the difference of two SRCCs, paired by resample.
    """

    set: str
    name: str
    predictor: str
    count: int
    sources: int
    srcc: float = math.nan
    srcc_low: float = math.nan
    srcc_high: float = math.nan
    krcc: float = math.nan
    plcc: float = math.nan
    plcc_low: float = math.nan
    plcc_high: float = math.nan
    rmse: float = math.nan
    rmse_low: float = math.nan
    rmse_high: float = math.nan
    groups: int | None = None
    value: float = math.nan
    value_low: float = math.nan
    value_high: float = math.nan

    @property
    def key(self) -> str:
        """Unlike that of any other row."""
        return f"{self.set}/{self.name}/{self.predictor}"


def find_row(rows: Sequence[MetricRow], set_kind: str, name: str, predictor: str) -> MetricRow:
    """The row of one predictor on one set; `set_kind` is the row's `set`."""
    wanted = (set_kind, name, predictor)
    return next(row for row in rows if (row.set, row.name, row.predictor) == wanted)


@dataclass(frozen=True)
class _Set:
    kind: str
    name: str
    members: list[int]
    sources: int


@dataclass(frozen=True)
class _Ranking:
    """An SRCC, or a mean or a difference of several, with its resamples (R,)."""

    srcc: float
    resampled_R: Values


class Evaluator:
    """Labels, predictions of several predictors, and the resamples they share."""

    def __init__(
        self,
        encodes: Sequence[LabelledEncode],
        predicted: Mapping[str, Values],
        *,
        seed: int = 0,
    ) -> None:
        """`predicted` holds the predictions (N,) of `model` and of others beside it, by name."""
        self._encodes = encodes
        self._predicted = predicted
        self._label_N = np.array([encode.vmaf for encode in encodes])
        self._weight_RN = source_weights([encode.source for encode in encodes], seed=seed)

    def metric_rows(self) -> list[MetricRow]:
        """Every predictor on every set, then the means inside groups; the model comes first."""
        found = [row for one in _sets(self._encodes) for row in self._rows(one)]
        for name, groups in self._countable_groups().items():
            found += self._mean_rows(name, groups)
        return found

    def coverage(self, band: float) -> MetricRow:
        """The share of labels not further than `band` label points from the model's score."""
        is_inside_N = (np.abs(self._predicted[MODEL] - self._label_N) <= band).astype(np.float64)
        span = interval(resampled_mean(is_inside_N, self._weight_RN))
        return MetricRow(
            set="band",
            name=f"{band:.1f}",
            predictor=MODEL,
            **self._size(range(len(self._encodes))),
            value=float(is_inside_N.mean()),
            value_low=span.low,
            value_high=span.high,
        )

    def similarity_rows(self, found: Similarity) -> list[MetricRow]:
        """Rows for the similarity of the model's features inside and between groups."""
        size = self._size(range(len(self._encodes)))
        pairs = {"inside groups": found.inside, "between groups": found.between}
        return [
            MetricRow(set="similarity", name=name, predictor=MODEL, **size, value=value)
            for name, value in pairs.items()
        ]

    def _size(self, members: Sequence[int]) -> dict[str, int]:
        sources = {self._encodes[number].source for number in members}
        return {"count": len(members), "sources": len(sources)}

    def _rows(self, one: _Set) -> list[MetricRow]:
        rankings = {name: self._ranking(name, one) for name in self._predicted}
        rows = [self._row(name, one, ranking) for name, ranking in rankings.items()]
        size = self._size(one.members)
        return rows + [
            _srcc_row(one.kind, one.name, name, gap, size) for name, gap in _gaps(rankings)
        ]

    def _row(self, predictor: str, one: _Set, ranking: _Ranking) -> MetricRow:
        predicted, labels = self._predicted[predictor][one.members], self._label_N[one.members]
        # the curve is that of all sources: a fit for each resample would cost a thousandfold
        found, fitted_N = agreement_and_fit(predicted, labels)
        weight_RN = self._weight_RN[:, one.members]
        plcc = interval(resampled_plcc(fitted_N, labels, weight_RN))
        rmse = interval(resampled_rmse(fitted_N, labels, weight_RN))
        low, high = interval(ranking.resampled_R)
        return MetricRow(
            set=one.kind, name=one.name, predictor=predictor, count=found.count,
            sources=one.sources, srcc=found.srcc, srcc_low=low, srcc_high=high, krcc=found.krcc,
            plcc=found.plcc, plcc_low=plcc.low, plcc_high=plcc.high,
            rmse=found.rmse, rmse_low=rmse.low, rmse_high=rmse.high,
        )  # fmt: skip

    def _ranking(self, predictor: str, one: _Set) -> _Ranking:
        predicted, labels = self._predicted[predictor][one.members], self._label_N[one.members]
        found, weights = srcc(predicted, labels), self._weight_RN[:, one.members]
        if math.isnan(found):
            return _Ranking(found, np.full(len(weights), math.nan))
        return _Ranking(found, resampled_srcc(predicted, labels, weights))

    def _countable_groups(self) -> dict[str, list[_Set]]:
        """The groups with enough sources: all of them, those of a bitrate, those of a CRF."""
        groups = [
            one
            for one in _sets(self._encodes)
            if one.kind == "group"
            and one.sources >= FEWEST_SOURCES
            and np.ptp(self._label_N[one.members]) > 0
        ]
        is_crf = {one.name: self._is_crf(one) for one in groups}
        return {
            _EVERY: groups,
            _BITRATE: [one for one in groups if not is_crf[one.name]],
            _CRF: [one for one in groups if is_crf[one.name]],
        }

    def _is_crf(self, one: _Set) -> bool:
        modes = Counter(self._encodes[number].rate_mode for number in one.members)
        return modes.most_common(1)[0][0].endswith("crf")  # capped-crf too

    def _mean_rows(self, name: str, groups: Sequence[_Set]) -> list[MetricRow]:
        size = self._size([number for one in groups for number in one.members])
        means = {
            predictor: _mean([self._ranking(predictor, one) for one in groups])
            for predictor in self._predicted
        }
        return [
            _srcc_row(MEAN, name, predictor, mean, size, groups=len(groups))
            for predictor, mean in [*means.items(), *_gaps(means)]
        ]


def _sets(encodes: Sequence[LabelledEncode]) -> Iterator[_Set]:
    ways = {
        "all": ["all"] * len(encodes),
        "group": bitrate_groups(encodes),
        "codec": [encode.codec for encode in encodes],
        "height": [f"{encode.height_px}p" for encode in encodes],
    }
    for kind, names in ways.items():
        for name in sorted(set(names), key=_by_number):
            members = [i for i, own in enumerate(names) if own == name]
            yield _Set(kind, name, members, len({encodes[i].source for i in members}))


def _by_number(name: str) -> tuple[int, str]:
    """108p before 1080p."""
    number = re.match(r"\d+", name)
    return int(number[0]) if number else 0, name


def _mean(rankings: Sequence[_Ranking]) -> _Ranking:
    """The mean over groups; a predictor that is the same for a whole group counts as 0 there."""
    if not rankings:
        return _Ranking(math.nan, np.array([math.nan]))
    resampled = [
        one.resampled_R if math.isfinite(one.srcc) else np.zeros_like(one.resampled_R)
        for one in rankings
    ]
    with warnings.catch_warnings():
        # a resample in which no group has two sources has no mean
        warnings.simplefilter("ignore", RuntimeWarning)
        mean_R = np.nanmean(resampled, axis=0)
    return _Ranking(float(np.mean(np.nan_to_num([one.srcc for one in rankings]))), mean_R)


def _gaps(rankings: Mapping[str, _Ranking]) -> list[tuple[str, _Ranking]]:
    """How far the model is ahead of each of the others, in the same resamples."""
    model = rankings[MODEL]
    return [
        (MINUS + name, _Ranking(model.srcc - one.srcc, model.resampled_R - one.resampled_R))
        for name, one in rankings.items()
        if name != MODEL
    ]


def _srcc_row(
    kind: str,
    name: str,
    predictor: str,
    ranking: _Ranking,
    size: Mapping[str, int],
    groups: int | None = None,
) -> MetricRow:
    low, high = interval(ranking.resampled_R)
    return MetricRow(
        set=kind, name=name, predictor=predictor, **size, groups=groups,
        srcc=ranking.srcc, srcc_low=low, srcc_high=high,
    )  # fmt: skip
