"""How good a model is on sources it never saw, while it learns."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.groups import bitrate_groups
from vqatool.data.labels import LabelledEncode
from vqatool.inference.predictor import predict, to_label_scale
from vqatool.metrics import Agreement, agreement
from vqatool.models.quality import QualityModel

_BAND_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class Validation(Agreement):
    """Agreement with the labels of held-out encodes.

    `in_group_srcc` is the mean SRCC inside the bitrate groups of three encodes and more; NaN where
    there is none.
    """

    in_group_srcc: float

    @property
    def selection_metric(self) -> float:
        """What the best weights are chosen by: the mean of the SRCC and that inside groups.

        The bytes of an encode alone reach a high SRCC over all groups, and none inside one.
        """
        known = [value for value in (self.srcc, self.in_group_srcc) if math.isfinite(value)]
        return sum(known) / len(known) if known else -1.0


class Predictions(NamedTuple):
    """What a model says of N clips, beside their labels (both 0 to 100)."""

    scores: list[float]
    labels: list[float]
    features_ND: Tensor


def predict_all(
    model: QualityModel, clips: CachedInputs, device: torch.device, *, most: int | None = None
) -> Predictions:
    """Scores of all clips, or of `most` of them, evenly chosen."""
    count = len(clips.encodes)
    chosen = sorted({index * count // most for index in range(most)} if most else range(count))
    quality = predict(model, [clips.evaluation_views(i) for i in chosen], device)
    labels = [clips.encodes[i].vmaf for i in chosen]
    return Predictions(to_label_scale(quality.score_B), labels, quality.features_BD)


def validation(
    scores: Sequence[float], labels: Sequence[float], encodes: Sequence[LabelledEncode]
) -> Validation:
    """The figures of scores that `predict_all` gave for clips of these encodes."""
    found = agreement(scores, labels)
    groups = np.array(bitrate_groups(encodes))
    inside = [
        agreement(np.array(scores)[groups == group], np.array(labels)[groups == group]).srcc
        for group in sorted(set(groups.tolist()))
    ]
    known = [value for value in inside if math.isfinite(value)]
    return Validation(
        **asdict(found),
        in_group_srcc=sum(known) / len(known) if known else math.nan,
    )


def band(scores: Sequence[float], labels: Sequence[float], sources: Sequence[str]) -> float:
    """Half the width of a 90 % interval around the score of an encode of an unseen source.

    Split-conformal over sources, since encodes of one source err alike: each of n sources weighs
    1 / (n + 1), the rest is the source to come ("Distribution-Free Prediction Sets for Two-Layer
    Hierarchical Models", arXiv 1809.07441, pooled CDFs). Fewer than nine sources cannot vouch for
    90 %: then it is the largest error there was.
    """
    errors = np.abs(np.subtract(scores, labels))
    _, source_N, count_S = np.unique(sources, return_inverse=True, return_counts=True)
    weights = 1 / ((len(count_S) + 1) * count_S[source_N])
    order = np.argsort(errors)
    reached = np.cumsum(weights[order]) >= _BAND_SHARE - 1e-9
    return float(errors[order][reached.argmax() if reached.any() else -1])
