"""How good a model is on held-out sources."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqatool.bootstrap import (
    MIN_ORIGINS,
    Interval,
    interval,
    origin_weights,
    resampled_mean,
    resampled_rmse,
    resampled_srcc,
)
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode, origins_of
from vqatool.inference.predictor import to_label_scale
from vqatool.inference.torch_engine import predict
from vqatool.metrics import Agreement, Values, agreement, raw_errors
from vqatool.models.quality import QualityModel

_BAND_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Validation(Agreement):
    """Errors of the scores of held-out encodes as they are, and agreement with their labels.

    `raw_rmse` and `bias` (score minus label) are in label points. `low` and `high` are ends of 95 %
    intervals over `origins`, NaN where there are too few of them. `in_group_srcc` is the mean SRCC
    inside the bitrate groups that have at least three encodes; NaN where there is none.
    """

    in_group_srcc: float
    sources: int
    origins: int
    raw_rmse: float
    raw_rmse_low: float
    raw_rmse_high: float
    bias: float
    bias_low: float
    bias_high: float
    srcc_low: float
    srcc_high: float

    @property
    def selection_metric(self) -> float:
        """The mean of the SRCC over all encodes and the SRCC inside groups; -1 if both are NaN.

        The weights with the highest value are kept. The size of an encode alone reaches a high SRCC
        over all groups, but none inside a group.
        """
        known = [value for value in (self.srcc, self.in_group_srcc) if math.isfinite(value)]
        return sum(known) / len(known) if known else -1.0


class Predictions(NamedTuple):
    """Scores and labels of N clips, both 0 to 100, and the features (N, D) of the model.

    `spreads` are the errors that the model expects, in label points; None if it gives none.
    """

    scores: list[float]
    labels: list[float]
    features_ND: Tensor
    spreads: list[float] | None = None


def predict_all(
    model: QualityModel,
    inputs: CachedInputs,
    device: torch.device,
    *,
    max_clips: int | None = None,
) -> Predictions:
    """Predict all clips, or `max_clips` of them at even distances."""
    count = len(inputs.encodes)
    chosen = (
        sorted({index * count // max_clips for index in range(max_clips)})
        if max_clips
        else range(count)
    )
    quality = predict(model, [inputs.evaluation_views(index) for index in chosen], device)
    labels = [inputs.encodes[index].vmaf for index in chosen]
    spreads = None if quality.spread_B is None else (100 * quality.spread_B).tolist()
    scores = to_label_scale(quality.score_B.numpy())
    return Predictions(scores, labels, quality.features_BD, spreads)


def validate(
    scores: Sequence[float], labels: Sequence[float], encodes: Sequence[LabelledEncode]
) -> Validation:
    """Compare the scores of these encodes with their labels, overall and inside bitrate groups."""
    overall = agreement(scores, labels)
    score_N, label_N = np.asarray(scores, float), np.asarray(labels, float)
    sources, origins = [encode.source for encode in encodes], origins_of(encodes)
    errors = raw_errors(score_N, label_N, sources)
    rmse, bias, rank = _intervals(score_N, label_N, origins)
    groups = np.array(bitrate_groups(encodes))
    in_group = [
        agreement(score_N[groups == group], label_N[groups == group]).srcc
        for group in sorted(set(groups.tolist()))
    ]
    known = [value for value in in_group if math.isfinite(value)]
    return Validation(
        **asdict(overall),
        in_group_srcc=sum(known) / len(known) if known else math.nan,
        sources=len(set(sources)),
        origins=len(set(origins)),
        raw_rmse=errors.rmse,
        raw_rmse_low=rmse.low,
        raw_rmse_high=rmse.high,
        bias=errors.bias,
        bias_low=bias.low,
        bias_high=bias.high,
        srcc_low=rank.low,
        srcc_high=rank.high,
    )


def _intervals(score_N: Values, label_N: Values, origins: Sequence[str]) -> list[Interval]:
    """95 % intervals of RMSE, bias and SRCC; NaN where there are too few origins."""
    if len(set(origins)) < MIN_ORIGINS:
        return [Interval(math.nan, math.nan)] * 3
    weight_RN = origin_weights(origins)
    resampled = (
        resampled_rmse(score_N, label_N, weight_RN),
        resampled_mean(score_N - label_N, weight_RN),
        resampled_srcc(score_N, label_N, weight_RN),
    )
    return [interval(values_R) for values_R in resampled]


def band(
    scores: Sequence[float],
    labels: Sequence[float],
    origins: Sequence[str],
    spreads: Sequence[float] | None = None,
) -> float:
    """Half the width of an interval around a score that held 90 % of the errors of these encodes.

    Errors of one origin are alike, so each of n origins has the weight 1 / n, and its encodes share
    it. That is the pooled CDF of "Distribution-Free Prediction Sets for Two-Layer Hierarchical
    Models" (arXiv 1809.07441) without the weight 1 / (n + 1) that the paper gives to the unseen
    origin: with 24 origins that held 94 % of the errors on 48 others, and this 89 %.

    Args:
        scores: 0 to 100, one for each encode.
        labels: 0 to 100, one for each encode.
        origins: the origin of each encode (`origins_of`).
        spreads: the error that the model expects of each score; the result is in units of it then
            ("Distribution-Free Predictive Inference for Regression", arXiv 1604.04173, section
            5.2). None: the result is in label points.
    """
    errors = np.abs(np.subtract(scores, labels))
    if spreads is not None:
        errors = errors / np.asarray(spreads)
    _, origin_N, count_O = np.unique(origins, return_inverse=True, return_counts=True)
    weights = 1 / (len(count_O) * count_O[origin_N])
    order = np.argsort(errors)
    is_covered = np.cumsum(weights[order]) >= _BAND_SHARE - 1e-9
    return float(errors[order][is_covered.argmax()])
