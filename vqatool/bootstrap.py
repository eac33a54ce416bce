"""Confidence intervals by a bootstrap over origins; numpy only.

Encodes of one origin (a source, or several that look alike) share its content and have similar
errors. So whole origins are drawn with replacement, never single encodes: 300 encodes of 25 origins
are 25 independent samples. A resample is one weight for each encode: how often its origin was
drawn. Every metric is computed with these weights, for all resamples in one array. The intervals
are percentile intervals (Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of
Statistics 1979).

Shapes: R resamples, N encodes, O origins, U distinct values, B encodes of a block.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

RESAMPLES = 1000
_CONFIDENCE = 0.95
_ROUNDING = 1e-9
_BLOCK = 512  # encodes whose pairs with all others are in memory at once

MIN_ORIGINS = 5
"""Of fewer origins no interval is given, and no conclusion drawn: so few draws mean little."""


class Interval(NamedTuple):
    """Bounds of the middle 95 % of resampled values; NaN if at least half of the values are NaN."""

    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether it tells anything: resamples that are all equal are of too few origins."""
        return self.high - self.low > _ROUNDING


def origin_weights(origins: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Values:
    """How often each resample holds each encode, (R, N); `origins` gives the encodes' origins."""
    index = {name: number for number, name in enumerate(sorted(set(origins)))}
    probabilities = np.full(len(index), 1 / len(index))
    drawn_RO = np.random.default_rng(seed).multinomial(len(index), probabilities, size=resamples)
    return drawn_RO[:, [index[name] for name in origins]].astype(np.float64)


def interval(values_R: Values) -> Interval:
    """The 95 % interval of the resampled values of a metric."""
    finite = values_R[np.isfinite(values_R)]
    if len(finite) <= len(values_R) / 2:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(finite, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def resampled_srcc(predicted_N: Values, label_N: Values, weight_RN: Values) -> Values:
    """Spearman's rank correlation in each resample, (R,); NaN where one side is constant."""
    return _correlation(_ranks(predicted_N, weight_RN), _ranks(label_N, weight_RN), weight_RN)


def resampled_krcc(predicted_N: Values, label_N: Values, weight_RN: Values) -> Values:
    """Kendall's tau-b in each resample, (R,); NaN where one side is constant."""
    concordant_R, untied_R, untied_label_R = (np.zeros(len(weight_RN)) for _ in range(3))
    for begin in range(0, len(label_N), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        sign_BN, sign_label_BN = (
            np.sign(values[block, None] - values[None, :]) for values in (predicted_N, label_N)
        )
        weight_RB = weight_RN[:, block]
        for total_R, pair_BN in (
            (concordant_R, sign_BN * sign_label_BN),
            (untied_R, np.abs(sign_BN)),
            (untied_label_R, np.abs(sign_label_BN)),
        ):
            total_R += np.einsum("rn,rn->r", weight_RB @ pair_BN, weight_RN)
    scale_R = np.sqrt(untied_R * untied_label_R)
    return np.divide(concordant_R, scale_R, out=np.full_like(scale_R, np.nan), where=scale_R > 0)


def resampled_plcc(predicted_N: Values, label_N: Values, weight_RN: Values) -> Values:
    """Pearson's correlation in each resample, (R,); NaN where one side is constant."""
    return _correlation(predicted_N, label_N, weight_RN)


def resampled_rmse(predicted_N: Values, label_N: Values, weight_RN: Values) -> Values:
    """Root of the mean squared error in each resample, (R,); NaN in an empty one."""
    return np.asarray(np.sqrt(resampled_mean(np.square(predicted_N - label_N), weight_RN)))


def resampled_mean(value_N: Values, weight_RN: Values) -> Values:
    """The mean in each resample, (R,); NaN in an empty one."""
    with np.errstate(invalid="ignore"):
        return np.asarray(weight_RN @ value_N / weight_RN.sum(1))


def _ranks(value_N: Values, weight_RN: Values) -> Values:
    """Mean rank, up to a constant, of each value if value n occurs weight[r, n] times."""
    order = np.argsort(value_N, kind="stable")
    is_first = np.diff(value_N[order], prepend=np.nan) != 0
    tied_RU = np.add.reduceat(weight_RN[:, order], np.flatnonzero(is_first), axis=1)
    middle_RU = np.cumsum(tied_RU, axis=1) - tied_RU / 2
    rank_RN = np.empty_like(weight_RN)
    rank_RN[:, order] = middle_RU[:, np.cumsum(is_first) - 1]
    return rank_RN


def _correlation(x: Values, y: Values, weight_RN: Values) -> Values:
    """Pearson's correlation under each row of weights; `x` and `y` are (N,) or (R, N)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share_RN = weight_RN / weight_RN.sum(1, keepdims=True)
        dx = x - (share_RN * x).sum(1, keepdims=True)
        dy = y - (share_RN * y).sum(1, keepdims=True)
        variance_product_R = (share_RN * dx * dx).sum(1) * (share_RN * dy * dy).sum(1)
        correlation_R = (share_RN * dx * dy).sum(1) / np.sqrt(variance_product_R)
    return np.where(variance_product_R > 1e-18, correlation_R, np.nan)
