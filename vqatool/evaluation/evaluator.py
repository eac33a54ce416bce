"""Predictions and labels -> metrics of every set with intervals, for the model and baselines.

A set is all encodes, a bitrate group, or all of one codec, size, preset or kind. The metrics inside
a group matter most: over a whole ladder the bitrate alone ranks well. Intervals come from one
bootstrap over origins (bootstrap.py), so that differences of two predictors are paired. No torch.

Shapes: N encodes, R resamples.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vqatool.bootstrap import (
    MIN_ORIGINS,
    Interval,
    interval,
    origin_weights,
    resampled_krcc,
    resampled_mean,
    resampled_plcc,
    resampled_rmse,
    resampled_srcc,
)
from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode, origins_of
from vqatool.evaluation.features import Similarity
from vqatool.metrics import (
    PairShare,
    Values,
    agreement_and_fit,
    neighbours_in_order,
    pair_shares,
    raw_errors,
    srcc,
)

MODEL, BRANCH = "model", "branch "


MINUS = "model minus "


MEAN = "mean inside groups"


_ONLY_IF_SEVERAL = ("display", "preset", "kind")  # one of them is the set of all encodes


_EVERY, _BITRATE, _CRF = "all", "bitrate", "crf"


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """Metrics of one predictor on one set, a row of `*-figures.csv`; NaN if undefined.

    `set` is `all`, `group`, `codec`, `height` (coded), `display` (its short side), `preset`, `kind`
    (`coded once`, `filtered, coded once`, `coded twice`); `mean inside groups` (of SRCC, over
    `groups` groups that have enough origins: all, those of a bitrate, those of a CRF); `band`
    (`value` is the share of labels inside the model's band) or `similarity` (`value` is a mean
    cosine). A predictor named `model minus X` is the difference of two SRCCs, paired by resample.
    `origins` are what the bootstrap draws: the sources, or fewer where `origins.csv` joins some. Of
    fewer than five there are no intervals.
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
    raw_rmse: float = math.nan
    raw_rmse_low: float = math.nan
    raw_rmse_high: float = math.nan
    bias: float = math.nan
    order: float = math.nan
    flips: float = math.nan
    good_lowest: float = math.nan
    good_p5: float = math.nan
    origins: int = 0
    krcc_low: float = math.nan
    krcc_high: float = math.nan
    bias_low: float = math.nan
    bias_high: float = math.nan
    order_low: float = math.nan
    order_high: float = math.nan
    flips_low: float = math.nan
    flips_high: float = math.nan
    neighbours: float = math.nan
    neighbours_low: float = math.nan
    neighbours_high: float = math.nan

    @property
    def key(self) -> str:
        """Unique among the rows."""
        return f"{self.set}/{self.name}/{self.predictor}"

    @property
    def drawn(self) -> str:
        """The word for what the bootstrap draws: `origin` where several sources are one."""
        return "origin" if self.origins < self.sources else "source"

    @property
    def is_enough(self) -> bool:
        """Whether there are enough origins to tell how good a predictor is."""
        return self.origins >= MIN_ORIGINS


def find_row(rows: Sequence[MetricRow], set_kind: str, name: str, predictor: str) -> MetricRow:
    """The row of one predictor on one set; `set_kind` is the row's `set`."""
    wanted = (set_kind, name, predictor)
    return next(row for row in rows if (row.set, row.name, row.predictor) == wanted)


@dataclass(frozen=True)
class _EncodeSet:
    kind: str
    name: str
    members: list[int]
    origins: int


@dataclass(frozen=True)
class _Ranking:
    """An SRCC, or a mean or difference of SRCCs, and its value in each resample (R,)."""

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
        """`predicted` holds predictions (N,) by predictor: those of `model`, and of others."""
        self._encodes = encodes
        self._predicted = predicted
        self._label_N = np.array([encode.vmaf for encode in encodes])
        self._origins = origins_of(encodes)
        self._weight_RN = origin_weights(self._origins, seed=seed)

    def metric_rows(self) -> list[MetricRow]:
        """Every predictor on every set, then the means inside groups; the model comes first."""
        rows = [row for subset in _sets(self._encodes) for row in self._rows(subset)]
        for name, groups in self._groups_with_enough_origins().items():
            rows += self._mean_rows(name, groups)
        return rows

    def coverage(self, bands: Sequence[float]) -> MetricRow:
        """The share of labels no further from the model's score than its band, in label points.

        Args:
            bands: one for each encode; their mean is the name of the row.
        """
        error_N = np.abs(self._predicted[MODEL] - self._label_N)
        is_inside_N = (error_N <= np.asarray(bands)).astype(np.float64)
        size = self._size(range(len(self._encodes)))
        span = _span(resampled_mean(is_inside_N, self._weight_RN), size)
        return MetricRow(
            set="band",
            name=f"{np.mean(bands):.1f}",
            predictor=MODEL,
            **size,
            value=float(is_inside_N.mean()),
            value_low=span.low,
            value_high=span.high,
        )

    def similarity_rows(self, similarity: Similarity) -> list[MetricRow]:
        """Rows for the similarity of the model's features inside and between groups."""
        size = self._size(range(len(self._encodes)))
        pairs = {"inside groups": similarity.inside, "between groups": similarity.between}
        return [
            MetricRow(set="similarity", name=name, predictor=MODEL, **size, value=value)
            for name, value in pairs.items()
        ]

    def _size(self, members: Sequence[int]) -> dict[str, int]:
        sources = {self._encodes[number].source for number in members}
        origins = {self._origins[number] for number in members}
        return {"count": len(members), "sources": len(sources), "origins": len(origins)}

    def _rows(self, subset: _EncodeSet) -> list[MetricRow]:
        rankings = {name: self._ranking(name, subset) for name in self._predicted}
        rows = [self._row(name, subset, ranking) for name, ranking in rankings.items()]
        size = self._size(subset.members)
        return rows + [
            _srcc_row(subset.kind, subset.name, name, gap, size) for name, gap in _gaps(rankings)
        ]

    def _row(self, predictor: str, subset: _EncodeSet, ranking: _Ranking) -> MetricRow:
        predicted, labels = (
            self._predicted[predictor][subset.members],
            self._label_N[subset.members],
        )
        # the logistic is fitted once: a fit for each resample would take a thousand times as long
        metrics, fitted_N = agreement_and_fit(predicted, labels)
        weight_RN = self._weight_RN[:, subset.members]
        size = self._size(subset.members)
        plcc = _span(resampled_plcc(fitted_N, labels, weight_RN), size)
        rmse = _span(resampled_rmse(fitted_N, labels, weight_RN), size)
        low, high = _span(ranking.resampled_R, size)
        is_on_scale = predictor == MODEL or predictor.startswith(BRANCH)  # the bitrate is not
        # Kendall's takes long, and it is told of these alone
        krcc = _span(resampled_krcc(predicted, labels, weight_RN), size) if is_on_scale else _NONE
        row = MetricRow(
            set=subset.kind, name=subset.name, predictor=predictor, **size,
            srcc=metrics.srcc, srcc_low=low, srcc_high=high,
            krcc=metrics.krcc, krcc_low=krcc.low, krcc_high=krcc.high,
            plcc=metrics.plcc, plcc_low=plcc.low, plcc_high=plcc.high,
            rmse=metrics.rmse, rmse_low=rmse.low, rmse_high=rmse.high,
        )  # fmt: skip
        return self._with_raw_errors(row, predicted, subset.members) if is_on_scale else row

    def _with_raw_errors(
        self, row: MetricRow, predicted_N: Values, members: Sequence[int]
    ) -> MetricRow:
        label_N, weight_RN = self._label_N[members], self._weight_RN[:, members]
        encodes, size = [self._encodes[i] for i in members], self._size(members)
        sources = [encode.source for encode in encodes]
        errors = raw_errors(predicted_N, label_N, sources)
        rmse = _span(resampled_rmse(predicted_N, label_N, weight_RN), size)
        bias = _span(resampled_mean(predicted_N - label_N, weight_RN), size)
        neighbours = neighbours_in_order(
            predicted_N,
            label_N,
            [(encode.source, encode.codec) for encode in encodes],
            [encode.bitrate_kbps for encode in encodes],
        )

        def span(pairs: PairShare) -> Interval:
            # both encodes of a pair are of one origin
            return _span(resampled_mean(pairs.is_true_P, weight_RN[:, pairs.first_P]), size)

        order, flips = map(span, pair_shares(predicted_N, label_N, sources))
        in_order = span(neighbours)
        return replace(
            row, raw_rmse=errors.rmse, raw_rmse_low=rmse.low, raw_rmse_high=rmse.high,
            bias=errors.bias, bias_low=bias.low, bias_high=bias.high,
            order=errors.order, order_low=order.low, order_high=order.high,
            flips=errors.flips, flips_low=flips.low, flips_high=flips.high,
            neighbours=neighbours.share, neighbours_low=in_order.low,
            neighbours_high=in_order.high, good_lowest=errors.good_lowest, good_p5=errors.good_p5,
        )  # fmt: skip

    def _ranking(self, predictor: str, subset: _EncodeSet) -> _Ranking:
        predicted, labels = (
            self._predicted[predictor][subset.members],
            self._label_N[subset.members],
        )
        overall, weight_RN = srcc(predicted, labels), self._weight_RN[:, subset.members]
        if math.isnan(overall):
            return _Ranking(overall, np.full(len(weight_RN), math.nan))
        return _Ranking(overall, resampled_srcc(predicted, labels, weight_RN))

    def _groups_with_enough_origins(self) -> dict[str, list[_EncodeSet]]:
        """The groups with enough origins: all of them, those of a bitrate, those of a CRF."""
        groups = [
            subset
            for subset in _sets(self._encodes)
            if subset.kind == "group"
            and subset.origins >= MIN_ORIGINS
            and np.ptp(self._label_N[subset.members]) > 0
        ]
        is_crf = {subset.name: self._is_crf(subset) for subset in groups}
        return {
            _EVERY: groups,
            _BITRATE: [subset for subset in groups if not is_crf[subset.name]],
            _CRF: [subset for subset in groups if is_crf[subset.name]],
        }

    def _is_crf(self, subset: _EncodeSet) -> bool:
        modes = Counter(self._encodes[number].rate_mode for number in subset.members)
        return modes.most_common(1)[0][0].endswith("crf")  # capped-crf too

    def _mean_rows(self, name: str, groups: Sequence[_EncodeSet]) -> list[MetricRow]:
        size = self._size([number for subset in groups for number in subset.members])
        means = {
            predictor: _mean([self._ranking(predictor, subset) for subset in groups])
            for predictor in self._predicted
        }
        return [
            _srcc_row(MEAN, name, predictor, mean, size, groups=len(groups))
            for predictor, mean in [*means.items(), *_gaps(means)]
        ]


_NONE = Interval(math.nan, math.nan)


def _span(values_R: Values, size: Mapping[str, int]) -> Interval:
    """The interval of resampled values; none where the set has too few origins."""
    return interval(values_R) if size["origins"] >= MIN_ORIGINS else _NONE


def _sets(encodes: Sequence[LabelledEncode]) -> Iterator[_EncodeSet]:
    origins = origins_of(encodes)
    names_by_kind = {
        "all": ["all"] * len(encodes),
        "group": bitrate_groups(encodes),
        "codec": [encode.codec for encode in encodes],
        "height": [f"{encode.height_px}p" for encode in encodes],
        "display": [f"{min(encode.display)} lines" for encode in encodes],
        "preset": [encode.preset for encode in encodes],
        "kind": [encode.kind for encode in encodes],
    }
    for kind, names in names_by_kind.items():
        if kind in _ONLY_IF_SEVERAL and len(set(names)) < 2:
            continue
        for name in sorted({*names} - {""}, key=_by_number):
            members = [i for i, own in enumerate(names) if own == name]
            yield _EncodeSet(kind, name, members, len({origins[i] for i in members}))


def _by_number(name: str) -> tuple[int, str]:
    """108p before 1080p."""
    number = re.match(r"\d+", name)
    return int(number[0]) if number else 0, name


def _mean(rankings: Sequence[_Ranking]) -> _Ranking:
    """Mean over groups; a group in which all predictions are equal counts as 0."""
    if not rankings:
        return _Ranking(math.nan, np.array([math.nan]))
    resampled = [
        ranking.resampled_R if math.isfinite(ranking.srcc) else np.zeros_like(ranking.resampled_R)
        for ranking in rankings
    ]
    with warnings.catch_warnings():
        # a resample in which no group has two origins gives no mean
        warnings.simplefilter("ignore", RuntimeWarning)
        mean_R = np.nanmean(resampled, axis=0)
    return _Ranking(float(np.mean(np.nan_to_num([ranking.srcc for ranking in rankings]))), mean_R)


def _gaps(rankings: Mapping[str, _Ranking]) -> list[tuple[str, _Ranking]]:
    """SRCC of the model minus that of each other predictor, in the same resamples."""
    model = rankings[MODEL]
    return [
        (MINUS + name, _Ranking(model.srcc - ranking.srcc, model.resampled_R - ranking.resampled_R))
        for name, ranking in rankings.items()
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
    low, high = _span(ranking.resampled_R, size)
    return MetricRow(
        set=kind, name=name, predictor=predictor, **size, groups=groups,
        srcc=ranking.srcc, srcc_low=low, srcc_high=high,
    )  # fmt: skip
