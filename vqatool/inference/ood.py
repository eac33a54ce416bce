"""Out-of-distribution detection: is a video unlike the model's training data?

"A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"
(arXiv 1807.03888, section 2.1): the Mahalanobis distance of the features that a score is computed
from, here with one Gaussian for all training data, since there are no classes.

Shapes: N clips, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_RIDGE = 1e-3  # of the mean variance, added to all: directions without variance stay finite
_QUANTILE = 0.98  # of the held-out clips' distances
_MARGIN = 1.5  # on that distance, because held-out sources are few


class OodDetector(NamedTuple):
    """A Gaussian of features, and the largest Mahalanobis distance of a clip inside."""

    mean: Tensor  # (D,)
    precision: Tensor  # (D, D)
    limit: Tensor  # of no dimension

    def distances(self, features_ND: Tensor) -> Tensor:
        """(N,) Mahalanobis distance of each clip's features."""
        offset_ND = features_ND - self.mean
        return torch.einsum("nd,de,ne->n", offset_ND, self.precision, offset_ND).clamp_min(0).sqrt()

    def contains(self, features_ND: Tensor) -> bool:
        """Whether the median clip, such as of the segments of a video, is inside."""
        return bool(self.distances(features_ND).median() <= self.limit)


def fit_ood_detector(train_ND: Tensor, held_out_ND: Tensor) -> OodDetector:
    """Fit the Gaussian to training features, and the limit to those of held-out sources."""
    train_ND = train_ND.double()
    mean_D = train_ND.mean(0)
    offset_ND = train_ND - mean_D
    covariance_DD = offset_ND.T @ offset_ND / len(offset_ND)
    ridge = _RIDGE * float(covariance_DD.diagonal().mean()) + 1e-9
    precision_DD = torch.linalg.inv(covariance_DD + ridge * torch.eye(len(mean_D)).double())
    ood = OodDetector(mean_D.float(), precision_DD.float(), torch.tensor(torch.inf))
    typical = ood.distances(held_out_ND).quantile(_QUANTILE)
    return ood._replace(limit=_MARGIN * typical)
