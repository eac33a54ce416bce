"""The fit of a model's figure network, after the training of its other layers.

Without pixels an epoch takes a fraction of a second, so it gets many of them.

Shapes: N clips, B of them in a step, F figures, E deep features.
"""

import torch
from torch import Tensor, nn

from vqatool.data.cached_inputs import CachedInputs
from vqatool.inference.fitted_clips import FittedClips
from vqatool.losses import quality_loss, rank_loss, spread_loss
from vqatool.models.figures import FigureNetwork, FigureScores, log_spread, spread_figures
from vqatool.models.quality import QualityModel
from vqatool.training.step import lr_factor

# of the scores by figures and without the bitstream in the mean with that of the frames
_SHARES = (1.0, 1.0)
_EPOCHS, _LR = 80, 2e-3
# of a network that was fitted before: with those above it forgot contents that are gone
_TUNED_EPOCHS, _TUNED_LR = 30, 5e-4
# of the tuned weights in their mean with those of the start: "Robust Fine-Tuning of Zero-Shot
# Models" (arXiv 2109.01903), equation 1 and its recommended 0.5
_TUNED_SHARE = 0.5
# of a batch, so that few new clips are not lost among those of earlier fits
_MIN_NEW_SHARE = 1 / 3
_MAX_CLIPS = 10_000  # 2 MB in a model file
_BATCH, _WEIGHT_DECAY, _WARMUP_SHARE = 64, 1e-3, 0.1
_FIGURE_NOISE, _DEEP_NOISE = 0.1, 0.35  # standard deviations
_RANK_WEIGHT = 0.3
_SPREAD_STEPS, _SPREAD_DECAY, _TYPICAL_LOG_SPREAD = 1500, 1e-3, -3.0


def fit_figure_network(
    model: QualityModel,
    inputs: CachedInputs,
    *,
    seed: int,
    start: QualityModel | None = None,
    known: FittedClips | None = None,
) -> FittedClips | None:
    """Fit the figure network of a model that has one to the clips of the training side.

    Args:
        model: its other layers stay as they are.
        inputs: the clips.
        seed: of what is random.
        start: a model whose network was fitted to other clips. If that takes the same figures,
            perhaps without those of octaves or with those of swing, it is tuned and keeps its means
            and deviations; its weights then are the mean of those before and after, and those of
            its network on deep features stay if its figures are just the same.
        known: the clips that the network of `start` was fitted to: where it takes just the same
            figures they are learned beside the new ones, which are a third of each batch or more.

    Returns:
        The clips that it was fitted to, 10,000 at most; None for a model without the network.
    """
    network = model.figure_network
    if network is None:
        return None
    # one clip after the other: thousands of files mapped at once may be too many
    clips = [
        model.clip_figures([torch.from_numpy(view) for view in inputs.evaluation_views(index)])
        for index in range(len(inputs.encodes))
    ]
    device = network.get_buffer("share").device
    figures_NF, deep_NE = (
        torch.stack(column).float().to(device) for column in zip(*clips, strict=True)
    )
    label_N = torch.tensor([encode.vmaf / 100 for encode in inputs.encodes], device=device)
    twice_N = torch.tensor(
        [float(encode.is_coded_twice) for encode in inputs.encodes], device=device
    )
    epochs, peak_lr, share = _EPOCHS, _LR, 1.0
    layers: list[nn.Module] = [network]
    network.standardise(figures_NF, deep_NE)
    before = start.figure_network if start else None
    if start and before and network.start_from(before, model.figures_left_out(start)):
        epochs, peak_lr, share = _TUNED_EPOCHS, _TUNED_LR, _TUNED_SHARE
        layers = network.tuned_layers(before)
    else:
        known = None
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        new = FittedClips(network.units(figures_NF, deep_NE), label_N, twice_N)
        fitted, share_of_new = _joined(known, new)
        unit_NU, label_N, twice_N = fitted.unit_NU, fitted.label_N, fitted.twice_N
        noise_U = unit_NU.new_full((unit_NU.shape[1],), _DEEP_NOISE)
        noise_U[: figures_NF.shape[1]] = _FIGURE_NOISE
        network.eval()  # what is kept has no dropout
        for layer in layers:
            layer.requires_grad_(True).train()
        parameters = [parameter for layer in layers for parameter in layer.parameters()]
        first = [parameter.detach().clone() for parameter in parameters]
        optimizer = torch.optim.AdamW(parameters, peak_lr, weight_decay=_WEIGHT_DECAY)
        steps = epochs * (len(label_N) // _BATCH + 1)
        for step in range(steps):
            chosen = _chosen(len(fitted), len(new), share_of_new).to(device)
            unit_BU = unit_NU[chosen] + noise_U * torch.randn_like(unit_NU[chosen])
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * lr_factor(step, steps, _WARMUP_SHARE)
            optimizer.zero_grad()
            loss = figure_loss(network.scores(unit_BU), label_N[chosen], twice_N[chosen])
            torch.autograd.backward(loss)
            optimizer.step()
        kept = fitted.sampled(_MAX_CLIPS)
    network.requires_grad_(False).eval()
    for parameter, began in zip(parameters, first, strict=True):
        parameter.copy_(torch.lerp(began, parameter, share))
    _fit_spread(network, network.scores(unit_NU), label_N)
    network.get_buffer("share").copy_(torch.tensor(_SHARES))
    if not deep_NE.shape[1]:
        network.get_buffer("share")[1] = 0  # motion and probing alone were never tried
    return kept


def _joined(known: FittedClips | None, new: FittedClips) -> tuple[FittedClips, float]:
    """Known clips and then the new ones, and the share of a batch that is of the new ones."""
    if known is None or known.unit_NU.shape[1] != new.unit_NU.shape[1]:
        return new, 1.0
    device = new.label_N.device
    known = FittedClips(
        *(part.to(device) for part in (known.unit_NU, known.label_N, known.twice_N))
    )
    fitted = known.sampled(max(0, _MAX_CLIPS - len(new))).joined(new)
    return fitted, max(_MIN_NEW_SHARE, len(new) / len(fitted))


def _chosen(count: int, num_new: int, share_of_new: float) -> Tensor:
    """Indices (B,) of random clips, of which the last `num_new` are the new ones."""
    if num_new == count:
        return torch.randint(count, (_BATCH,))
    is_new_B = torch.rand(_BATCH) < share_of_new
    new_B = torch.randint(count - num_new, count, (_BATCH,))
    return torch.where(is_new_B, new_B, torch.randint(count - num_new, (_BATCH,)))


def _fit_spread(network: FigureNetwork, scores: FigureScores, label_N: Tensor) -> None:
    """Fit what tells errors to those on the training side; `band` scales it to unseen origins."""
    # without the bitstream and with it at once: the calls of torch are the cost of small steps
    score_2N = torch.stack([scores.hidden_B, scores.known_B])
    is_known_2N = torch.tensor([[0.0], [1.0]], device=score_2N.device).expand_as(score_2N)
    figures_2NK = torch.stack([spread_figures(scores, each_N) for each_N in is_known_2N])
    weights_2K = torch.zeros_like(network.get_buffer("spread"))
    weights_2K[:, 0] = _TYPICAL_LOG_SPREAD
    weights_2K.requires_grad_(True)
    optimizer = torch.optim.Adam([weights_2K], 0.03, fused=True)
    with torch.enable_grad():
        for _ in range(_SPREAD_STEPS):
            spread_2N = log_spread(figures_2NK, weights_2K[:, None]).exp()
            loss = 2 * spread_loss(score_2N, spread_2N, label_N)
            loss = loss + _SPREAD_DECAY * weights_2K[:, 1:].square().sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    network.spread = weights_2K.detach()


def figure_loss(scores: FigureScores, label_B: Tensor, twice_B: Tensor) -> Tensor:
    """The loss of all scores; those by figures alone learn mostly from what was coded once.

    Whether a clip was coded twice does not tell what to doubt: its figures are right where the
    second encode was the coarser one.

    Args:
        scores: of the clips.
        label_B: labels, 0 to 1.
        twice_B: 1 where a clip was coded twice, else 0.
    """
    loss = _distance(scores.known_B, label_B) + _distance(scores.hidden_B, label_B)
    is_once_B = twice_B == 0
    if bool(is_once_B.any()):
        loss = loss + _distance(scores.figures_B[is_once_B], label_B[is_once_B])
    return loss


def _distance(score_B: Tensor, label_B: Tensor) -> Tensor:
    one_group = torch.zeros(len(label_B), dtype=torch.long, device=label_B.device)
    rank = rank_loss(score_B, label_B, one_group, margin="label", tolerance=0.02)
    return quality_loss(score_B, label_B) + _RANK_WEIGHT * rank
