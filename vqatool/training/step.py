"""What every training here does alike: settings, schedule, one step, the running average."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vqatool.inference.device import device_named, fast_precision
from vqatool.inference.model_file import Checkpoint
from vqatool.methods import Method
from vqatool.models.quality import QualityModel, TrainingOutput

_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """What every training is decided by, whatever it learns from.

    `lr` None takes 5e-4 from scratch and 1e-4 when weights are refined. With `max_hours` the share
    of the hours that is gone stands for the share of the steps that is done where it is the
    larger, so the learning rate comes down to zero in time; how many steps that makes depends on
    the machine.
    """

    method: str = Method.COARSE_TO_FINE.value
    shape: Mapping[str, Any] = field(default_factory=dict)  # of the model, if not as usual
    tune: str = "all"  # which part of it learns: all, head, or what the method has besides
    is_detached: bool = False  # whether a teacher is kept from going to meet its student
    lr: float | None = None
    weight_decay: float = 0.05
    warmup_share: float = 0.08
    ema_decay: float = 0.998  # decay of the running average of the weights that is kept
    max_hours: float | None = None
    seed: int = 0

    def shape_after(self, init: Checkpoint | None) -> Mapping[str, Any]:
        """The model's shape: that of the weights it starts from, if any, and what is asked for."""
        return {**init.card.shape, **self.shape} if init else self.shape


class TrainStep:
    """A model that learns, its optimizer, and the running average of its weights, which is kept."""

    def __init__(
        self,
        model: QualityModel,
        config: OptimizerConfig,
        accelerator: Accelerator,
        *,
        steps: int,
        is_refined: bool,
    ) -> None:
        self._config, self._accelerator, self._steps = config, accelerator, steps
        self._peak_lr = config.lr or (1e-4 if is_refined else 5e-4)
        self.ema_model: QualityModel = copy.deepcopy(model.student()).to(accelerator.device)
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), self._peak_lr)
        self._model = model
        self._forward, self._optimizer = accelerator.prepare(_TrainingForward(model), optimizer)

    def lr(self, share: float) -> float:
        """Learning rate when that share of the training is done."""
        at = round(share * self._steps)
        return self._peak_lr * lr_factor(at, self._steps, self._config.warmup_share)

    def step(
        self,
        views: Sequence[Tensor],
        loss: Callable[[TrainingOutput], dict[str, Tensor]],
        *,
        step: int,
        share: float,
    ) -> dict[str, float]:
        """Take a step, after `step` others, and move the average; the terms whose sum is learnt."""
        self._forward.train()
        for group in self._optimizer.param_groups:
            group["lr"] = self.lr(share)
        with self._accelerator.autocast():
            output = self._forward(*(view.to(self._accelerator.device) for view in views))
        terms = loss(output)
        self._optimizer.zero_grad()
        self._accelerator.backward(torch.stack(list(terms.values())).sum())
        self._accelerator.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        ema_update(self.ema_model, self._model.student(), step + 1, self._config.ema_decay)
        values = torch.stack([term.detach() for term in terms.values()]).tolist()
        return dict(zip(terms, values, strict=True))

    def state(self) -> dict[str, Any]:
        """All there is to go on from."""
        return {
            "model": self._model.state_dict(),
            "average": self.ema_model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `state()` gave."""
        self._model.load_state_dict(state["model"])
        self.ema_model.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])


class _TrainingForward(nn.Module):
    """`training_output` as a forward pass: accelerate wraps forward passes only."""

    def __init__(self, model: QualityModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *views: Tensor) -> TrainingOutput:
        return self.model.training_output(*views)


def round_to_half(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put weights into `model` as a file would have them, in half precision; those halves."""
    halves = {key: value.half() for key, value in weights.items()}
    model.load_state_dict({key: value.float() for key, value in halves.items()})
    return {key: value.cpu() for key, value in halves.items()}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: matrices are decayed; biases, norms and scales, being vectors, are not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = (([p for p in parameters if p.ndim > 1], weight_decay),
              ([p for p in parameters if p.ndim <= 1], 0.0))  # fmt: skip
    return [{"params": members, "weight_decay": decay} for members, decay in groups]


def lr_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the learning rate at `step` of `steps`: a linear warm-up, then half a cosine."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the running average of the weights towards the model, faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1 - decay)
    # running figures of what was seen are averages already
    for figure, latest in zip(average.buffers(), model.buffers(), strict=True):
        figure.copy_(latest)


def make_accelerator(device: str) -> Accelerator:
    """`auto` or a torch device, in the number format that is fast there; one process or several."""
    where = device_named(device)
    return Accelerator(cpu=where.type == "cpu", mixed_precision=fast_precision(where))
