"""The fit of a model's figure network, after the training of its other layers.

Without pixels an epoch takes a fraction of a second, so it gets a hundred of them.

Shapes: N clips, B of them in a step, F figures.
"""

import torch

from vqatool.data.cached_inputs import CachedInputs
from vqatool.losses import quality_loss, rank_loss
from vqatool.models.quality import QualityModel
from vqatool.training.step import lr_factor

_SHARE = 0.5  # the mean of both scores
_EPOCHS, _BATCH, _LR, _WEIGHT_DECAY, _WARMUP_SHARE = 100, 48, 2e-3, 1e-3, 0.1
_NOISE = 0.3  # standard deviations of each figure
_RANK_WEIGHT = 0.3


def fit_figure_network(model: QualityModel, inputs: CachedInputs, *, seed: int) -> None:
    """Fit the figure network of a model that has one to the figures of the training side."""
    network = model.figure_network
    if network is None:
        return
    # one clip after the other: thousands of files mapped at once may be too many
    clips = map(inputs.evaluation_views, range(len(inputs.encodes)))
    figures_NF = torch.stack([model.clip_figures(clip) for clip in clips])
    label_N = torch.tensor([encode.vmaf / 100 for encode in inputs.encodes])
    device = network.get_buffer("share").device
    figures_NF, label_N = figures_NF.to(device), label_N.to(device)
    network.get_buffer("mean").copy_(figures_NF.mean(0))
    # a figure that never varied stays finite
    network.get_buffer("deviation").copy_(figures_NF.std(0, unbiased=False) + 1e-3)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        unit_NF = network.standardised(figures_NF)
        network.requires_grad_(True).train()
        optimizer = torch.optim.AdamW(network.parameters(), _LR, weight_decay=_WEIGHT_DECAY)
        steps = _EPOCHS * (len(label_N) // _BATCH + 1)
        one_group = torch.zeros(_BATCH, dtype=torch.long, device=device)
        for step in range(steps):
            chosen = torch.randint(len(label_N), (_BATCH,), device=device)
            unit_BF = unit_NF[chosen] + _NOISE * torch.randn_like(unit_NF[chosen])
            score_B, label_B = network.score(unit_BF), label_N[chosen]
            rank = rank_loss(score_B, label_B, one_group, margin="label", tolerance=0.02)
            for group in optimizer.param_groups:
                group["lr"] = _LR * lr_factor(step, steps, _WARMUP_SHARE)
            optimizer.zero_grad()
            torch.autograd.backward(quality_loss(score_B, label_B) + _RANK_WEIGHT * rank)
            optimizer.step()
    network.requires_grad_(False).eval()
    network.get_buffer("share").fill_(_SHARE)
