"""The engine for GPUs and for model files that were not exported. Loads torch."""

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from vqatool.inference.device import autocast, device_named, fast_precision
from vqatool.inference.engine import (
    BRANCH_FIELDS,
    BRANCH_PREFIX,
    FIELDS,
    Floats,
    Limits,
    Loaded,
    TypicalInput,
)
from vqatool.inference.model_file import Checkpoint
from vqatool.inference.ood import OodDetector
from vqatool.inputs.clip import Array, collate
from vqatool.models.quality import Quality, QualityModel

_GPU_BATCH = 16

_log = logging.getLogger(__name__)


class TorchEngine:
    """A model file on a device.

    Args:
        checkpoint: the model file's content.
        device: `auto` or a torch device.
        is_alone: whether no other processes decode meanwhile, which get half of the cores else.

    Raises:
        ValueError: torch has no such device.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", *, is_alone: bool = False
    ) -> None:
        self._checkpoint, self._device = checkpoint, device_named(device)
        self._is_alone, self._one_at_a_time = is_alone, threading.Lock()
        self.max_batch = None
        # one at a time is as fast on a CPU, and the last digits then do not depend on other clips
        self.batch = 1 if self._device.type == "cpu" else _GPU_BATCH
        limits = limits_of(checkpoint.ood) if checkpoint.ood else None
        self.model = Loaded(checkpoint.card, checkpoint.name, limits, checkpoint.contents)

    @cached_property
    def _network(self) -> "NamedOutput":
        _log.info(
            "model %s on %s, bfloat16 %s, %d torch threads",
            self._checkpoint.display_name,
            self._device,
            "on" if fast_precision(self._device) == "bf16" else "off",
            torch.get_num_threads(),
        )
        return NamedOutput(self._checkpoint.model(), self._checkpoint.ood).to(self._device).eval()

    @property
    def typical(self) -> Sequence[TypicalInput | None]:
        """Of each input, what it is for a typical clip of the training."""
        return typical_inputs(self._network.model)

    def load(self) -> None:
        """Build the model.

        Raises:
            CheckpointError: the weights do not fit the shape their card gives.
        """
        _ = self._network

    def run(self, views: Sequence[Floats]) -> Mapping[str, Floats]:
        """The model's arrays for B clips, by name."""
        tensors = [torch.from_numpy(view).to(self._device) for view in views]
        cores = contextlib.nullcontext() if self._is_alone else _cores_left_for_decoding()
        with self._one_at_a_time, torch.inference_mode(), autocast(self._device), cores:
            outputs = self._network(*tensors)
        return {name: value.float().cpu().numpy() for name, value in outputs.items()}


class NamedOutput(nn.Module):
    """A model and its detector -> the arrays that every engine gives, by name.

    It is what is exported, so all engines compute the same.
    """

    def __init__(self, model: QualityModel, ood: OodDetector | None) -> None:
        super().__init__()
        self.model, self._ood_parts = model, ood is not None
        self._has_classifier = ood is not None and ood.classifier is not None
        for name, value in (ood.tensors() if ood else {}).items():
            self.register_buffer(name.replace(".", "__"), value)

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        """Tensors by the names of `FIELDS`, and those of branches."""
        quality = self.model(*views)
        values: list[Tensor | None] = [
            quality.score_B,
            quality.features_BD,
            quality.frame_score_BT,
            quality.spread_B,
        ]
        if self._ood_parts:
            named = {name.replace("__", "."): value for name, value in self._buffers.items()}
            ood = OodDetector.from_tensors(cast("dict[str, Tensor]", named))
            features_BD = quality.features_BD.float()
            values.append(ood.distances(features_BD))
            values.append(ood.classifier.logits(features_BD) if ood.classifier else None)
        found = dict(zip(FIELDS, values, strict=False))
        for branch in quality.branches:
            parts = zip(BRANCH_FIELDS, branch[1:], strict=True)
            found |= {f"{BRANCH_PREFIX}{branch.name}.{part}": value for part, value in parts}
        return {name: value for name, value in found.items() if value is not None}


def typical_inputs(model: QualityModel) -> tuple[TypicalInput | None, ...]:
    """What the inputs of a model are for a typical clip of its training; empty if not known."""
    return tuple(
        view and TypicalInput(*(None if each is None else each.cpu().numpy() for each in view))  # type: ignore[arg-type]  # the first is a tensor
        for view in model.typical_views()
    )


def limits_of(ood: OodDetector) -> Limits:
    """The limits of a detector."""
    return Limits(float(ood.limit), float(ood.classifier.limit) if ood.classifier else float("inf"))


@contextlib.contextmanager
def _cores_left_for_decoding() -> Iterator[None]:
    """Leave some cores to the workers, which torch's threads would crowd out."""
    # around a run alone: a caller that stops asking must find torch as it was
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def predict(
    model: QualityModel, clips: Sequence[Sequence[Array]], device: torch.device, batch: int = 8
) -> Quality:
    """The output of a model that is being trained, or that was not stored.

    Args:
        model: of any method, on `device`; its training mode is left as it was.
        clips: N of them, at least one, each as the views that the model takes.
        device: where the model is.
        batch: clips that the model takes at once.

    Returns:
        The output for B = N clips: float32, on the CPU.
    """
    was_training = model.training
    model.eval()
    outputs: list[Quality] = []
    for start in range(0, len(clips), batch):
        columns = zip(*clips[start : start + batch], strict=True)
        views = [torch.from_numpy(collate(column)).to(device) for column in columns]
        with autocast(device):
            outputs.append(_to_cpu(model(*views)))
    model.train(was_training)
    return cast(Quality, _concatenate(outputs))


def _to_cpu(output: Any) -> Any:
    """All tensors of a nested tuple as float32 on the CPU."""
    if isinstance(output, Tensor):
        return output.float().cpu()
    return _rebuilt(output, map(_to_cpu, output)) if isinstance(output, tuple) else output


def _concatenate(outputs: Sequence[Any]) -> Any:
    """Nested tuples of the same form as one, their tensors joined along the first dimension."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(list(outputs))
    if isinstance(first, tuple):
        return _rebuilt(first, map(_concatenate, zip(*outputs, strict=True)))
    return first  # a name, or None


def _rebuilt(pattern: tuple[Any, ...], values: Any) -> tuple[Any, ...]:
    """A tuple, or a named tuple, of the pattern's type."""
    return type(pattern)(*values) if hasattr(pattern, "_fields") else tuple(values)
