"""Agreement of predictions with labels, as the field reports it: numpy and scipy only."""

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Values = npt.NDArray[np.float64]

_MIN_VALUES = 3
_PAIR_GAP, _FLIP_GAP = 5.0, 10.0  # label points between the encodes of a pair
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
    label_gap_P, score_gap_P = _pair_gaps(score_N, label_N, sources)
    is_apart_P, is_far_P = (label_gap_P >= gap for gap in (_PAIR_GAP, _FLIP_GAP))
    good_G = score_N[label_N >= _GOOD_LABEL]
    return RawErrors(
        rmse=_mean_or_nan(error_N**2) ** 0.5,
        bias=_mean_or_nan(error_N),
        order=_mean_or_nan(score_gap_P[is_apart_P] > 0),
        flips=_mean_or_nan(score_gap_P[is_far_P] < -_FLIP_SCORE_GAP),
        good_lowest=float(good_G.min()) if len(good_G) else math.nan,
        good_p5=float(np.quantile(good_G, 0.05)) if len(good_G) else math.nan,
    )


def _pair_gaps(score_N: Values, label_N: Values, sources: Sequence[str]) -> tuple[Values, Values]:
    """Gaps of labels, at least 0, and of scores, above 0 in the labels' order, of P pairs."""
    members: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        members.setdefault(source, []).append(index)
    pairs = np.array(
        [pair for own in members.values() for pair in itertools.combinations(own, 2)], int
    ).reshape(-1, 2)
    label_gap_P, score_gap_P = (
        values[pairs[:, 0]] - values[pairs[:, 1]] for values in (label_N, score_N)
    )
    return np.abs(label_gap_P), score_gap_P * np.sign(label_gap_P)


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
    """Spearman's rank correlation; NaN where one side has equal values or any NaN."""
    if not _has_spread(predictions) or not _has_spread(labels):
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
