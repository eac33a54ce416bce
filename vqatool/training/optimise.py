"""What every training here does alike: parameter groups, a schedule, a running average."""

import math
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from vqatool.device import device_named, fast_precision


def decayed_apart(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices are decayed; biases, norms and scales, being vectors, are not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = (([p for p in parameters if p.ndim > 1], weight_decay),
              ([p for p in parameters if p.ndim <= 1], 0.0))  # fmt: skip
    return [{"params": members, "weight_decay": decay} for members, decay in groups]


def warmth(step: int, steps: int, warmup_share: float) -> float:
    """Share of the learning rate at `step` of `steps`: a linear warm-up, then half a cosine."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the running average of the weights towards the model, faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)


def accelerator_on(device: str) -> Accelerator:
    """`auto` or a torch device, in the number format that is fast there; one process or several."""
    where = device_named(device)
    return Accelerator(cpu=where.type == "cpu", mixed_precision=fast_precision(where))
