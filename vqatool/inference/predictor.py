"""Views of clips -> what a model predicts for them: the one way to ask a model."""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from ladder.media.ffmpeg import find_ffmpeg
from vqatool.inference.device import autocast, device_named, fast_precision
from vqatool.inference.model_file import Checkpoint
from vqatool.inputs.clip import collate
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.models.quality import Quality, QualityModel

_GPU_BATCH = 16

_log = logging.getLogger(__name__)


class Predictor:
    """A model file on a device, ready to predict.

    Args:
        checkpoint: the model file's content.
        device: `auto` or a torch device.
        pixels_only: hide the bitstream features from the model.
        batch: clips that the model takes at once. None: 16 on a GPU; 1 on a CPU, which is as fast
            with one, and the last digits of a score then do not depend on other clips.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        *,
        pixels_only: bool = False,
        batch: int | None = None,
    ) -> None:
        self.card = checkpoint.card
        self.name = checkpoint.name
        recipe = checkpoint.recipe
        reads_stream = recipe.reads_stream and not pixels_only
        ffmpeg = find_ffmpeg() if reads_stream else None
        self.preprocessor = ClipPreprocessor(
            recipe.views, checkpoint.card.clip_frames, recipe.frame_group, ffmpeg
        )
        self._device, self._ood = device_named(device), checkpoint.ood
        self._checkpoint = checkpoint
        self.batch = batch or (1 if self._device.type == "cpu" else _GPU_BATCH)

    @cached_property
    def _model(self) -> QualityModel:
        _log.info(
            "model %s on %s, bfloat16 %s, %d torch threads",
            self._checkpoint.display_name,
            self._device,
            "on" if fast_precision(self._device) == "bf16" else "off",
            torch.get_num_threads(),
        )
        return self._checkpoint.model().to(self._device)

    def load_model(self) -> None:
        """Build the model, which takes a while, before the first prediction.

        Raises:
            CheckpointError: the weights do not fit the shape their card gives.
        """
        _ = self._model

    def predict(self, clips: Sequence[Sequence[Tensor]]) -> Quality:
        """The model's output for clips; arguments and result are those of `predict`."""
        return predict(self._model, clips, self._device, self.batch)

    def bands(self, quality: Quality) -> list[float]:
        """Half the width of the 90 % interval around each score of an output, label points."""
        if quality.spread_B is None or not self.card.band_per_spread:
            return [self.card.band] * len(quality.score_B)
        points: list[float] = (100 * self.card.band_per_spread * quality.spread_B).tolist()
        return points

    def is_out_of_distribution(self, features_ND: Tensor) -> bool:
        """Whether most of N clips with these features are unlike the training data."""
        return self._ood is not None and not self._ood.contains(features_ND)


@torch.inference_mode()
def predict(
    model: QualityModel, clips: Sequence[Sequence[Tensor]], device: torch.device, batch: int = 8
) -> Quality:
    """The model's output for clips.

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
        views = [collate(column).to(device) for column in columns]
        with autocast(device):
            outputs.append(_to_cpu(model(*views)))
    model.train(was_training)
    return cast(Quality, _concatenate(outputs))


def to_label_scale(score: Tensor) -> list[float]:
    """Scores of a model, (N,), on the label's scale: 0 (worst) to 100 (best); NaN stays NaN."""
    output: list[float] = (100 * score.float()).clamp(0, 100).tolist()
    return output


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
