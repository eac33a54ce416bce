"""Clips -> scores on the label's scale: the one way a model is asked, in training and in use."""

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from ladder.media.ffmpeg import find_ffmpeg
from vqatool.inference.device import autocast, device_named
from vqatool.inference.model_file import Checkpoint
from vqatool.inputs.clip import collate
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.models.quality import Quality, QualityModel

_GPU_BATCH = 16


class Predictor:
    """A model file made ready on a device.

    Args:
        checkpoint: the model file's content.
        device: `auto` or a torch device.
        by_pixels: hide from it what streams say.
        batch: clips the model takes at once; None: 16 on a GPU, and one on a CPU, which is as fast
            with one, and a score does not hang on its neighbours in the last digits then.
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
        return self._checkpoint.model().to(self._device)

    def load_model(self) -> None:
        """Build the model, which takes a while, before it is asked for the first time.

        Raises:
            CheckpointError: the weights do not fit the shape their card gives.
        """
        _ = self._model

    def predict(self, clip: Sequence[Tensor]) -> Quality:
        """All that the model says of one clip given by its views."""
        with torch.inference_mode():
            return _forward(self._model, [clip], self._device)

    def score(self, clips: Sequence[Sequence[Tensor]]) -> list[float]:
        """Scores of clips given by their views, 0 (worst) to 100 (best)."""
        return self.score_with_features(clips)[0]

    def score_with_features(
        self, clips: Sequence[Sequence[Tensor]]
    ) -> tuple[list[float], list[Tensor]]:
        """Scores as `score` gives them, and the features each was read from: (D,), on the CPU."""
        return scores_and_features(self._model, clips, self._device, self.batch)

    def is_out_of_distribution(self, features: Sequence[Tensor]) -> bool:
        """Whether clips with these features are unlike what the model learned from."""
        return self._ood is not None and not self._ood.contains(torch.stack(list(features)))


@torch.inference_mode()
def scores_and_features(
    model: QualityModel, clips: Sequence[Sequence[Tensor]], device: torch.device, batch: int = 8
) -> tuple[list[float], list[Tensor]]:
    """Scores of clips given by their views, 0 to 100, and their features, each (D,)."""
    was_training = model.training
    model.eval()
    scores: list[float] = []
    features: list[Tensor] = []
    for start in range(0, len(clips), batch):
        quality = _forward(model, clips[start : start + batch], device)
        scores += to_label_scale(quality.score_B)
        features += quality.features_BD.float().cpu()
    model.train(was_training)
    return scores, features


def to_label_scale(score: Tensor) -> list[float]:
    """Scores of a model, (N,), on the label's scale: 0 (worst) to 100 (best)."""
    output: list[float] = (100 * score.float()).clamp(0, 100).tolist()
    return output


def _forward(
    model: QualityModel, clips: Sequence[Sequence[Tensor]], device: torch.device
) -> Quality:
    views = [collate(column).to(device) for column in zip(*clips, strict=True)]
    with autocast(device):
        return cast(Quality, model(*views))
