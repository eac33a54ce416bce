"""Agreement of predictions with labels, as the field reports it: numpy and scipy only."""

import itertools
import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Values = npt.NDArray[np.float64]

_MIN_VALUES = 3
_PAIR_GAP, _FLIP_GAP = 5.0, 10.0  # label points between the encodes of a pair
_NEIGHBOUR_GAP = 1.0
_FLIP_SCORE_GAP = 5.0
_GOOD_LABEL = 97.0  # VMAF of what looks like its source
_MIN_VALUES_OF_CURVE = 5  # four parameters go through any four points


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Metrics of one set of videos; NaN for fewer than three values, equal values, or any NaN.

    `srcc` and `krcc` are rank correlations (Spearman, Kendall); `plcc` and `rmse` are taken after
    the four-parameter logistic, `rmse` in label points.
    """

    count: int
    srcc: float
    krcc: float
    plcc: float
    rmse: float


@dataclass(frozen=True, kw_only=True)
class RawErrors:
    """What a user of the scores meets: errors as they are, without the logistic.

    NaN where nothing can be counted.

    Attributes:
        rmse: root mean square error, label points.
        bias: mean of score minus label, label points.
        order: share of the pairs of one source at least 5 label points apart that the scores put
            in the right order, 0 to 1.
        flips: share of the pairs of one source at least 10 label points apart that the scores put
            in the wrong order by more than 5 points, 0 to 1.
        good_lowest: lowest score of the encodes with a label of 97 and more.
        good_p5: 5th percentile of these scores.
    """

    rmse: float
    bias: float
    order: float
    flips: float
    good_lowest: float
    good_p5: float


def raw_errors(score_N: Values, label_N: Values, sources: Sequence[str]) -> RawErrors:
    """Errors of scores on the label's scale; `sources` are those of the N encodes."""
    error_N = score_N - label_N
    order, flips = pair_shares(score_N, label_N, sources)
    good_G = score_N[label_N >= _GOOD_LABEL]
    return RawErrors(
        rmse=_mean_or_nan(error_N**2) ** 0.5,
        bias=_mean_or_nan(error_N),
        order=order.share,
        flips=flips.share,
        good_lowest=float(good_G.min()) if len(good_G) else math.nan,
        good_p5=float(np.quantile(good_G, 0.05)) if len(good_G) else math.nan,
    )


class PairShare(NamedTuple):
    """Of which of P pairs of encodes something is true, 0 or 1, and the first encode of each."""

    is_true_P: Values
    first_P: npt.NDArray[np.int64]

    @property
    def share(self) -> float:
        """0 to 1; NaN if there are no pairs."""
        return _mean_or_nan(self.is_true_P)


def pair_shares(
    score_N: Values, label_N: Values, sources: Sequence[str]
) -> tuple[PairShare, PairShare]:
    """What `order` and `flips` of `RawErrors` are the shares of."""
    pairs = [pair for own in _members(sources) for pair in itertools.combinations(own, 2)]
    first_P, label_gap_P, score_gap_P = _gaps(score_N, label_N, pairs)
    is_apart_P, is_far_P = (label_gap_P >= gap for gap in (_PAIR_GAP, _FLIP_GAP))
    return (
        PairShare((score_gap_P > 0)[is_apart_P].astype(float), first_P[is_apart_P]),
        PairShare((score_gap_P < -_FLIP_SCORE_GAP)[is_far_P].astype(float), first_P[is_far_P]),
    )


def neighbours_in_order(
    score_N: Values, label_N: Values, ladders: Sequence[Hashable], kbps_N: Sequence[float]
) -> PairShare:
    """Which neighbouring rungs the scores put in the order of the labels.

    Neighbours are two encodes of one ladder between whose bitrates there is no third. Those whose
    labels are less than 1 point apart are left out; two equal scores are in the wrong order.

    Args:
        score_N: one for each encode.
        label_N: one for each encode.
        ladders: the ladder of each encode, such as its source and its codec.
        kbps_N: the bitrate of each encode.
    """
    ladders_by_rate = (sorted(own, key=kbps_N.__getitem__) for own in _members(ladders))
    pairs = [pair for own in ladders_by_rate for pair in itertools.pairwise(own)]
    first_P, label_gap_P, score_gap_P = _gaps(score_N, label_N, pairs)
    is_apart_P = label_gap_P >= _NEIGHBOUR_GAP
    return PairShare((score_gap_P > 0)[is_apart_P].astype(float), first_P[is_apart_P])


def _members(names: Sequence[Hashable]) -> list[list[int]]:
    """The indices of each name."""
    members: dict[Hashable, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name, []).append(index)
    return list(members.values())


def _gaps(
    score_N: Values, label_N: Values, pairs: Sequence[tuple[int, int]]
) -> tuple[npt.NDArray[np.int64], Values, Values]:
    """Of P pairs: the first encode, the gap of labels, and of scores, above 0 in their order."""
    pair_P2 = np.array(pairs, np.int64).reshape(-1, 2)
    label_gap_P, score_gap_P = (
        values[pair_P2[:, 0]] - values[pair_P2[:, 1]] for values in (label_N, score_N)
    )
    return pair_P2[:, 0], np.abs(label_gap_P), score_gap_P * np.sign(label_gap_P)


def agreement(predictions: Sequence[float] | Values, labels: Sequence[float] | Values) -> Agreement:
    """How well `predictions` agree with `labels`, both one value a video."""
    return agreement_and_fit(predictions, labels)[0]


def agreement_and_fit(
    predictions: Sequence[float] | Values, labels: Sequence[float] | Values
) -> tuple[Agreement, Values]:
    """The agreement, and the predictions after the logistic; NaN where it is undefined."""
    predicted, actual = np.asarray(predictions, float), np.asarray(labels, float)
    if len(predicted) < _MIN_VALUES or not _has_spread(predicted) or not _has_spread(actual):
        nan = math.nan
        undefined = Agreement(count=len(predicted), srcc=nan, krcc=nan, plcc=nan, rmse=nan)
        return undefined, np.full(len(predicted), nan)
    fitted = logistic_fit(predicted, actual)
    metrics = Agreement(
        count=len(predicted),
        srcc=srcc(predicted, actual),
        krcc=float(stats.kendalltau(predicted, actual).statistic),
        plcc=float(np.corrcoef(fitted, actual)[0, 1]),
        rmse=float(np.sqrt(np.mean((fitted - actual) ** 2))),
    )
    return metrics, fitted


def srcc(predictions: Sequence[float] | Values, labels: Sequence[float] | Values) -> float:
    """Spearman's rank correlation; NaN of fewer than three values, of equal ones, or of any NaN.

    Two values are always in the same order or in opposite ones, which tells nothing.
    """
    if len(predictions) < _MIN_VALUES or not _has_spread(predictions) or not _has_spread(labels):
        return math.nan
    return float(stats.spearmanr(predictions, labels).statistic)


def logistic_fit(predictions: Values, labels: Values) -> Values:
    """Predictions mapped onto labels by (a - b) / (1 + e^(-(x - c) / |d|)) + b, least squares.

    The mapping of the Video Quality Experts Group's tests. Where there are fewer than five points,
    the fit does not converge, or it is worse than a straight line, the line is used instead.
    """
    line = np.polyval(np.polyfit(predictions, labels, 1), predictions)
    if len(predictions) < _MIN_VALUES_OF_CURVE:
        return np.asarray(line, dtype=np.float64)
    start = (labels.max(), labels.min(), predictions.mean(), predictions.std())
    try:
        with warnings.catch_warnings():
            # without a covariance scipy warns, but only the coefficients are used
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            coefficients, _ = optimize.curve_fit(_logistic, predictions, labels, start, maxfev=5000)
    except RuntimeError:
        return np.asarray(line, dtype=np.float64)
    curve = _logistic(predictions, *coefficients)
    is_better = np.square(curve - labels).sum() <= np.square(line - labels).sum()
    return np.asarray(curve if is_better else line, dtype=np.float64)


def _mean_or_nan(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _has_spread(values: Sequence[float] | Values) -> bool:
    return len(values) > 0 and bool(np.ptp(values) > 0)


def _logistic(x: Values, top: float, bottom: float, middle: float, width: float) -> Values:
    slope = np.clip(-(x - middle) / max(abs(width), 1e-9), -60, 60)
    return np.asarray((top - bottom) / (1 + np.exp(slope)) + bottom, dtype=np.float64)
