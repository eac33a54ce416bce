"""Out-of-distribution detection: is a video unlike the model's training data? Loads torch.

"A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks"
(arXiv 1807.03888, section 2.1): the Mahalanobis distance of the features that a score is computed
from, here with one Gaussian for all training data, since there are no classes.

"Deep Anomaly Detection with Outlier Exposure" (arXiv 1812.04606): a detector that has learned from
examples of outliers also finds outliers of other kinds. As published, the whole model learns from
them. Here a small network on the features does, so that scores stay as they are.

Shapes: N clips, D features, M networks of an ensemble, H hidden units of all of them.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_RIDGE = 1e-3  # of the mean variance, added to all: directions without variance stay finite
_QUANTILE = 0.98  # of the held-out clips' distances
_MARGIN = 1.5  # on that distance, because held-out sources are few

_MEMBERS, _UNITS = 8, 8  # networks, and hidden units of each
_STEPS, _LR, _WEIGHT_DECAY = 400, 0.01, 0.05
_NOISE = 0.3  # standard deviations, added to the features in each step
_MAX_DEVIATION = 8.0  # of a standardised feature: far outliers do not decide alone
_CLASSIFIER_QUANTILE = 0.98  # of the held-out clips' logits
_CLASSIFIER_PREFIX = "outliers."  # of the names of its tensors


class OutlierClassifier(NamedTuple):
    """Networks with one hidden layer that tell outliers they have learned from training data.

    They are an ensemble, whose members were drawn and have learned apart from each other.
    """

    center: Tensor  # (D,)
    scale: Tensor  # (D,)
    hidden: Tensor  # (H, D)
    hidden_bias: Tensor  # (H,)
    output: Tensor  # (H,)
    output_bias: Tensor  # of no dimension
    limit: Tensor  # of no dimension: the largest logit of a clip inside

    def logits(self, features_ND: Tensor) -> Tensor:
        """(N,) How much each clip is like the outliers: the sum of the members' logits."""
        return self.weighted_units(features_ND).sum(1) + self.output_bias

    def weighted_units(self, features_ND: Tensor) -> Tensor:
        """(N, H) What each hidden unit adds to the logit."""
        deviations_ND = (features_ND - self.center) / self.scale
        clamped_ND = deviations_ND.clamp(-_MAX_DEVIATION, _MAX_DEVIATION)
        return (clamped_ND @ self.hidden.T + self.hidden_bias).relu() * self.output


class OodDetector(NamedTuple):
    """A Gaussian of features, and the largest Mahalanobis distance of a clip inside.

    Where examples of outliers were at hand, `classifier` has learned from them, and a clip is
    inside if both find it inside.
    """

    mean: Tensor  # (D,)
    precision: Tensor  # (D, D)
    limit: Tensor  # of no dimension
    classifier: OutlierClassifier | None = None

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "OodDetector":
        """The detector whose `tensors` these are.

        Raises:
            TypeError: a tensor is missing, or has an unknown name.
        """
        own = {k: v for k, v in tensors.items() if not k.startswith(_CLASSIFIER_PREFIX)}
        learned = {k.removeprefix(_CLASSIFIER_PREFIX): tensors[k] for k in tensors.keys() - own}
        return cls(**own, classifier=OutlierClassifier(**learned) if learned else None)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, for a model file."""
        own = {"mean": self.mean, "precision": self.precision, "limit": self.limit}
        learned = self.classifier._asdict() if self.classifier else {}
        return own | {_CLASSIFIER_PREFIX + name: value for name, value in learned.items()}

    def distances(self, features_ND: Tensor) -> Tensor:
        """(N,) Mahalanobis distance of each clip's features."""
        offset_ND = features_ND - self.mean
        return torch.einsum("nd,de,ne->n", offset_ND, self.precision, offset_ND).clamp_min(0).sqrt()


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


def expose_to_outliers(
    ood: OodDetector, train_ND: Tensor, held_out_ND: Tensor, outlier_ND: Tensor, *, seed: int = 0
) -> OodDetector:
    """The detector with a classifier that has learned from examples of outliers.

    Args:
        ood: its Gaussian and limit stay.
        train_ND: features of training data, at all displays that videos are judged at.
        held_out_ND: those of held-out sources; the classifier finds one of fifty outside.
        outlier_ND: features of videos unlike any that the model was made for.
        seed: of the networks' first weights.
    """
    generator = torch.Generator().manual_seed(seed)
    classifier = _fit_classifier(train_ND, outlier_ND, generator)
    limit = classifier.logits(held_out_ND).quantile(_CLASSIFIER_QUANTILE)
    return ood._replace(classifier=classifier._replace(limit=limit))


def _fit_classifier(
    train_ND: Tensor, outlier_ND: Tensor, generator: torch.Generator
) -> OutlierClassifier:
    """Minimise each member's balanced cross-entropy on all clips at once; the limit is 0."""
    num_features, num_hidden = train_ND.shape[1], _MEMBERS * _UNITS
    # directions without variance stay finite
    scale_D = torch.cat([train_ND, outlier_ND]).std(0) + 1e-6
    hidden_HD = torch.randn(num_hidden, num_features, generator=generator)
    output_H = torch.randn(num_hidden, generator=generator)
    bias_M = torch.zeros(_MEMBERS, requires_grad=True)
    classifier = OutlierClassifier(
        center=train_ND.mean(0),
        scale=scale_D,
        hidden=(hidden_HD / math.sqrt(num_features)).requires_grad_(),
        hidden_bias=torch.zeros(num_hidden, requires_grad=True),
        output=(output_H / math.sqrt(_UNITS)).requires_grad_(),
        output_bias=torch.tensor(0.0),
        limit=torch.tensor(0.0),
    )

    def members_logits(features_ND: Tensor) -> Tensor:
        noise_ND = torch.randn(features_ND.shape, generator=generator)
        added_NH = classifier.weighted_units(features_ND + _NOISE * scale_D * noise_ND)
        return added_NH.reshape(-1, _MEMBERS, _UNITS).sum(2) + bias_M

    learned = [bias_M, *(value for value in classifier if value.requires_grad)]
    optimizer = torch.optim.AdamW(learned, lr=_LR, weight_decay=_WEIGHT_DECAY)
    for _ in range(_STEPS):
        inside_NM, outside_NM = members_logits(train_ND), members_logits(outlier_ND)
        loss_M = functional.softplus(inside_NM).mean(0) + functional.softplus(-outside_NM).mean(0)
        optimizer.zero_grad()
        torch.autograd.backward(loss_M.sum())
        optimizer.step()
    fitted = OutlierClassifier(*(value.detach() for value in classifier))
    return fitted._replace(output_bias=bias_M.detach().sum())
