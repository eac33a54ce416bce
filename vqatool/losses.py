"""Losses: pure functions of scores, features, labels and bitrate groups.

The coarse-to-fine strategy (arXiv 2401.08522) has a group contrastive loss between bitrate groups
(coarse) and a rank loss inside each group (fine), beside a distance of scores and labels. The paper
names the losses without formulas. The group term follows "Test Time Adaptation for Blind Image
Quality Assessment" (ICCV 2023, arXiv 2307.14735), with the logarithm inside the mean; the rank term
is the hinge of FAST-VQA (arXiv 2207.02595), restricted to pairs of one group. One printed sentence
of the paper would attract different groups and repel videos of one group; we follow the paper's
stated aim, the opposite.

The distillation losses are those of "InternVQA" (arXiv 2502.19026).

Shapes: B videos, T frames, D features. Scores and labels are on the label's scale divided by 100.
Every loss is a scalar.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Contrast = Literal["ours", "tta", "supcon"]
ByLabel = Literal["label"]

_MAX_MARGIN = 0.05  # where the margin is the difference of labels


def quality_loss(score_B: Tensor, label_B: Tensor, *, beta: float = 0.1) -> Tensor:
    """Mean smooth L1 distance of scores and labels; quadratic below `beta`, linear above."""
    return F.smooth_l1_loss(score_B, label_B, beta=beta)


def frame_quality_loss(
    frame_score_BT: Tensor, frame_label_BT: Tensor, *, beta: float = 0.1
) -> Tensor:
    """`quality_loss` of the frames with a label, 0 if there are none; NaN is no label.

    A label may stand for several frames: their scores are averaged then.

    Args:
        frame_score_BT: T is a multiple of the labels' T.
        frame_label_BT: labels, or NaN.
        beta: see `quality_loss`.
    """
    frame_score_BT = frame_score_BT.reshape(*frame_label_BT.shape, -1).mean(2)
    is_labelled_BT = ~frame_label_BT.isnan()
    if not is_labelled_BT.any():
        return frame_score_BT.sum() * 0.0  # still a graph, so backward() works
    return F.smooth_l1_loss(
        frame_score_BT[is_labelled_BT], frame_label_BT[is_labelled_BT], beta=beta
    )


def tile_quality_loss(score_NP: Tensor, label_NP: Tensor, *, beta: float = 0.1) -> Tensor:
    """`quality_loss` of the tiles with a label, 0 if there are none; NaN is no label."""
    is_labelled_NP = ~label_NP.isnan()
    if not is_labelled_NP.any():
        return score_NP.sum() * 0.0  # still a graph, so backward() works
    return F.smooth_l1_loss(score_NP[is_labelled_NP], label_NP[is_labelled_NP], beta=beta)


def spread_loss(score_B: Tensor, spread_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean of |error| / spread + log(spread): the Laplace likelihood of the errors.

    Its minimum is where the spread is the error to be expected ("What Uncertainties Do We Need in
    Bayesian Deep Learning for Computer Vision?", arXiv 1703.04977, section 2.2, with the absolute
    error). The score gets no gradient, so a hard encode does not learn less.
    """
    error_B = (score_B.detach() - label_B).abs()
    return (error_B / spread_B + spread_B.log()).mean()


def plcc_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """((1 - r) / 2 + (1 - r^2) / 4) / 2, r the linear correlation of scores and labels.

    0 for r = 1, 0.5 for r = -1; B of at least 2. As in FAST-VQA (arXiv 2207.02595): with both sides
    standardised it is a mean of two mean squared errors.
    """
    score, label = _standardised(score_B), _standardised(label_B)
    correlation = (score * label).mean()
    direct = F.mse_loss(score, label)
    fitted = F.mse_loss(correlation * score, label)
    return (direct + fitted) / 8


def group_contrast_loss(
    features_BD: Tensor,
    group_B: Tensor,
    *,
    temperature: float = 0.1,
    contrast: Contrast = "ours",
) -> Tensor:
    """The coarse loss: attracts features of one bitrate group and repels those of different groups.

    For an anchor i with positives P (same group) and negatives N (other groups), s the cosine
    similarity over `temperature` and q(x) = e^x / (e^x + sum over N of e^s):

    - `ours`: the mean over anchors of -log q(m), m the mean s over P;
    - `tta`: -log of the mean over anchors of q(m), as arXiv 2307.14735 has it;
    - `supcon`: the mean over anchors of the mean over P of -log q(s), after "Supervised
      Contrastive Learning" (arXiv 2004.11362), but without the other positives in the denominator.

    Anchors are the videos that have positives and negatives; without one the loss is 0. All three
    are log(1 + |N|) for equal features and near 0 for separate clusters. A smaller temperature
    gives the nearest negatives more weight.
    """
    unit_BD = F.normalize(features_BD, dim=1)
    similarity_BB = unit_BD @ unit_BD.T / temperature
    is_same_BB = group_B[:, None] == group_B[None, :]
    is_positive_BB = is_same_BB & ~torch.eye(len(group_B), dtype=torch.bool, device=group_B.device)
    is_anchor_B = is_positive_BB.any(1) & (~is_same_BB).any(1)
    if not is_anchor_B.any():
        return features_BD.sum() * 0.0  # still a graph, so backward() works
    push_B = similarity_BB.masked_fill(is_same_BB, -torch.inf).logsumexp(1)
    if contrast == "supcon":
        loss_BB = torch.logaddexp(similarity_BB, push_B[:, None]) - similarity_BB
        return _mean_of(loss_BB, is_positive_BB)[is_anchor_B].mean()
    pull_B = _mean_of(similarity_BB, is_positive_BB)
    loss_B = (torch.logaddexp(pull_B, push_B) - pull_B)[is_anchor_B]
    if contrast == "tta":
        return math.log(len(loss_B)) - torch.logsumexp(-loss_B, 0)
    return loss_B.mean()


def rank_loss(
    score_B: Tensor,
    label_B: Tensor,
    group_B: Tensor,
    *,
    margin: float | ByLabel = 0.0,
    tolerance: float = 0.01,
) -> Tensor:
    """The fine loss: the distance of scores inside a bitrate group from the order of their labels.

    Mean of max(0, margin - (score_i - score_j)) over the pairs of one group with
    label_i - label_j > tolerance; 0 without such a pair.

    Args:
        score_B: scores.
        label_B: labels.
        group_B: number of each video's bitrate group.
        margin: by how much the better video is to score higher; `label`: by the difference of the
            labels, at most 0.05.
        tolerance: difference of labels up to which a pair has no order.
    """
    gap_BB = label_B[:, None] - label_B[None, :]
    is_pair_BB = (group_B[:, None] == group_B[None, :]) & (gap_BB > tolerance)
    if not is_pair_BB.any():
        return score_B.sum() * 0.0  # still a graph, so backward() works
    lead_BB = score_B[:, None] - score_B[None, :]
    margin_BB = (
        gap_BB.clamp_max(_MAX_MARGIN) if margin == "label" else torch.full_like(gap_BB, margin)
    )
    return F.relu(margin_BB - lead_BB)[is_pair_BB].mean()


def batch_rank_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """The rank loss of FAST-VQA over all pairs of a batch, 0 to 1; 0 for one video.

    Sum over ordered pairs of max(0, (score_i - score_j) * sign(label_j - label_i)), divided by
    B * (B - 1) * (1 + the largest of these) (arXiv 2207.02595).
    """
    videos = len(score_B)
    if videos < 2:
        return score_B.sum() * 0.0  # still a graph, so backward() works
    lead_BB = score_B[:, None] - score_B[None, :]
    violation_BB = F.relu(lead_BB * (label_B[None, :] - label_B[:, None]).sign())
    return violation_BB.sum() / (videos * (videos - 1) * (1 + violation_BB.max()))


def squared_loss(score_B: Tensor, label_B: Tensor) -> Tensor:
    """Mean squared distance of scores and labels, for a student and for its teacher."""
    # half precision has too few steps between labels
    return F.mse_loss(score_B.float(), label_B.float())


def feature_distillation_loss(
    features_BD: Tensor, teacher_BD: Tensor, *, beta: float = 2.0, is_detached: bool = False
) -> Tensor:
    """Mean smooth L1 distance of a student's features and its teacher's normalised features.

    A layer norm without weights gives the teacher's features mean 0 and deviation 1 in each video,
    so their scale does not matter.

    Args:
        features_BD: the student's, projected to the teacher's width.
        teacher_BD: the teacher's.
        beta: distance below which the loss is quadratic; 2 as published.
        is_detached: whether the loss has no gradient for the teacher. As far as we know, the
            published one has.
    """
    teacher_BD = teacher_BD.detach() if is_detached else teacher_BD
    target_BD = F.layer_norm(teacher_BD.float(), teacher_BD.shape[-1:])
    return F.smooth_l1_loss(features_BD.float(), target_BD, beta=beta)


def _mean_of(values_BB: Tensor, is_in_BB: Tensor) -> Tensor:
    """Mean of each row over the columns that are in; 0 where none is."""
    return (values_BB * is_in_BB).sum(1) / is_in_BB.sum(1).clamp_min(1)


def _standardised(values_B: Tensor) -> Tensor:
    return (values_B - values_B.mean()) / (values_B.std(unbiased=False) + 1e-8)
