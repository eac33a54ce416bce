"""What a model has learned from, so that it can say of a video that it is unlike all of that.

"A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"
(arXiv 1807.03888, section 2.1): the Mahalanobis distance of the features a score is read from, here
with one Gaussian for all of the training side, since there are no classes.

Shapes: N clips, D features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_SHRINKAGE = 1e-3  # of the mean variance, added to all: directions of no spread get a finite weight


_IN_DISTRIBUTION_SHARE = 0.98


_MARGIN = 1.5  # held-out sources are few, and each of them has its own distance


class OodDetector(NamedTuple):
    """A Gaussian of features, and the Mahalanobis distance beyond which a clip is outside."""

    mean: Tensor  # (D,)
    precision: Tensor  # (D, D)
    limit: Tensor  # of no dimension

    def distances(self, features_ND: Tensor) -> Tensor:
        """(N,) Mahalanobis distance of each clip's features."""
        off_ND = features_ND - self.mean
        return torch.einsum("nd,de,ne->n", off_ND, self.precision, off_ND).clamp_min(0).sqrt()

    def contains(self, features_ND: Tensor) -> bool:
        """Whether most of these clips, such as the segments of a video, are inside."""
        return bool(self.distances(features_ND).median() <= self.limit)


def fit_ood_detector(train_ND: Tensor, held_out_ND: Tensor) -> OodDetector:
    """The domain of clips a model learned from; clips of held-out sources say how far is usual."""
    train_ND = train_ND.double()
    mean_D = train_ND.mean(0)
    off_ND = train_ND - mean_D
    covariance_DD = off_ND.T @ off_ND / len(off_ND)
    ridge = _SHRINKAGE * float(covariance_DD.diagonal().mean()) + 1e-9
    precision_DD = torch.linalg.inv(covariance_DD + ridge * torch.eye(len(mean_D)).double())
    ood = OodDetector(mean_D.float(), precision_DD.float(), torch.tensor(torch.inf))
    usual = ood.distances(held_out_ND).quantile(_IN_DISTRIBUTION_SHARE)
    return ood._replace(limit=_MARGIN * usual)
