"""What training and pre-training share: settings, learning rate, one step, the averaged weights."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vqatool.inference.device import device_named, fast_precision
from vqatool.inference.model_file import Checkpoint
from vqatool.methods import Method
from vqatool.models.quality import QualityModel, TrainingOutput

_MAX_GRADIENT_NORM = 1.0


_Tensors = tuple[Tensor, ...] | list[Tensor]


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Settings of every training, whatever it learns from.

    `lr` None is 5e-4 from scratch and 1e-4 from given weights. With `max_hours`, the schedule
    follows the share of the time or of the steps that is done, whichever is larger, so the learning
    rate reaches zero in time; the number of steps then depends on the machine.
    """

    method: str = Method.COARSE_TO_FINE.value
    shape: Mapping[str, Any] = field(default_factory=dict)  # of the model, where not the default
    tune: str = "all"  # the part of the model to train: all, head, or a part that the method names
    is_detached: bool = False  # do not update the teacher with the distillation loss
    lr: float | None = None
    weight_decay: float = 0.05
    warmup_share: float = 0.08
    ema_decay: float = 0.998
    max_hours: float | None = None
    seed: int = 0

    def shape_with(self, init: Checkpoint | None) -> Mapping[str, Any]:
        """The model's shape: that of the weights it starts from, if any, changed by `shape`."""
        return {**init.card.shape, **self.shape} if init else self.shape


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One step is done, of about `steps`.

    `terms` are the weighted loss terms of the step, `metrics` the figures of the newest validation
    by name, empty before the first one. `data_wait_share` is the share of the time, 0 to 1, that
    steps waited for their batches.
    """

    step: int
    steps: int
    terms: Mapping[str, float]
    metrics: Mapping[str, float]
    epoch: int = 0
    data_wait_share: float = 0.0


OnProgress = Callable[[Progress], None]


class TrainStep:
    """A model to train, its optimizer, and the average of its weights, which is what is saved.

    Args:
        model: the model, on any device.
        config: settings.
        accelerator: device, precision and processes.
        steps: planned steps, for the learning rate.
        is_from_scratch: whether the model starts from random weights.
    """

    def __init__(
        self,
        model: QualityModel,
        config: OptimizerConfig,
        accelerator: Accelerator,
        *,
        steps: int,
        is_from_scratch: bool,
    ) -> None:
        self._config, self._accelerator, self._steps = config, accelerator, steps
        self._peak_lr = config.lr or (5e-4 if is_from_scratch else 1e-4)
        self._ema = averaged_model(model.student(), config.ema_decay, accelerator.device)
        optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), self._peak_lr)
        self._model = model
        self._forward, self._optimizer = accelerator.prepare(_TrainingForward(model), optimizer)

    @property
    def ema_model(self) -> QualityModel:
        """The model with the averaged weights."""
        return cast(QualityModel, self._ema.module)

    def lr(self, share: float) -> float:
        """Learning rate when that share of the training, 0 to 1, is done."""
        step = round(share * self._steps)
        return self._peak_lr * lr_factor(step, self._steps, self._config.warmup_share)

    def step(
        self,
        views: Sequence[Tensor],
        loss: Callable[[TrainingOutput], dict[str, Tensor]],
        *,
        share: float,
    ) -> dict[str, float]:
        """Take one step and update the average.

        Args:
            views: inputs of the model, on any device.
            loss: from the model's output to named terms, whose sum is minimised.
            share: share of the training that is done, 0 to 1.

        Returns:
            The terms' values.
        """
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
        self._ema.update_parameters(self._model.student())
        values = torch.stack([term.detach() for term in terms.values()]).tolist()
        return dict(zip(terms, values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Weights, averaged weights and the optimizer's state, to resume from."""
        return {
            "model": self._model.state_dict(),
            "ema": self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict()` gave."""
        self._model.load_state_dict(state["model"])
        self._ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])


class _TrainingForward(nn.Module):
    """`training_output` as a forward pass: accelerate wraps forward passes only."""

    def __init__(self, model: QualityModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *views: Tensor) -> TrainingOutput:
        return self.model.training_output(*views)


def averaged_model(
    model: nn.Module, decay: float, device: torch.device | None = None
) -> AveragedModel:
    """A copy of `model` that holds the exponential moving average of its weights.

    The decay of update n, counted from 1, is min(`decay`, (1 + n) / (10 + n)), so that the average
    soon forgets the initial weights. Buffers are copied: running statistics are averages already.
    """

    def update(average: _Tensors, current: _Tensors, num_updates: Tensor | int) -> None:
        n = int(num_updates)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(average, current, weight)

    averaged = AveragedModel(model, device, multi_avg_fn=torch.no_grad()(update))
    averaged.n_averaged.fill_(1)  # at 0, the first update would replace the initial weights
    return averaged


def round_to_half(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load weights into `model` as a model file would hold them, in half precision.

    Returns:
        The weights in half precision, on the CPU.
    """
    halves = {key: value.half() for key, value in weights.items()}
    model.load_state_dict({key: value.float() for key, value in halves.items()})
    return {key: value.cpu() for key, value in halves.items()}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices with weight decay, biases and scales without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = (([p for p in parameters if p.ndim > 1], weight_decay),
              ([p for p in parameters if p.ndim <= 1], 0.0))  # fmt: skip
    return [{"params": members, "weight_decay": decay} for members, decay in groups]


def lr_factor(step: int, steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate at `step` of `steps`: linear warm-up, then half a cosine."""
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_accelerator(device: str) -> Accelerator:
    """An accelerator for `auto` or a torch device, in the number format that is fast there."""
    chosen = device_named(device)
    precision = fast_precision(chosen)
    accelerator = Accelerator(cpu=chosen.type == "cpu", mixed_precision=precision)
    _log.info(
        "device %s, precision %s, process %d of %d",
        accelerator.device,
        "float32" if precision == "no" else precision,
        accelerator.process_index + 1,
        accelerator.num_processes,
    )
    return accelerator
