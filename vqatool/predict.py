"""Clips -> scores on the label's scale: the one way a model is asked, in training and in use."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ladder.ffmpeg import find_ffmpeg
from ladder.probe import VideoInfo
from vqatool.checkpoint import Checkpoint
from vqatool.clips import Clip, read_clip, stack
from vqatool.device import autocast, device_named
from vqatool.models.quality import QualityModel
from vqatool.recipes import View


class Predictor:
    """A model file made ready on a device; `by_pixels` hides from it what streams say."""

    def __init__(
        self, checkpoint: Checkpoint, device: str = "auto", *, by_pixels: bool = False
    ) -> None:
        self.card = checkpoint.card
        self.name = checkpoint.name
        recipe = checkpoint.recipe
        reads_stream = recipe.reads_stream and not by_pixels
        self._views, self._ffmpeg = recipe.views, find_ffmpeg() if reads_stream else None
        self._device, self._domain = device_named(device), checkpoint.domain
        self._model = checkpoint.model().to(self._device)

    def look_at(
        self,
        info: VideoInfo,
        display: tuple[int, int] | None,
        *,
        start_s: float = 0.0,
        length_s: float | None = None,
    ) -> list[Tensor]:
        """The model's views of a part of a video; arguments and errors are those of `read_clip`."""
        frames = self.card.clip_frames
        clip = read_clip(
            info, frames, display, start_s=start_s, length_s=length_s, ffmpeg=self._ffmpeg
        )
        return self.see(clip)

    def see(self, clip: Clip) -> list[Tensor]:
        """The model's views of one clip, small; nothing in them is left to chance."""
        return see(self._views, clip)

    def score(self, clips: Sequence[Sequence[Tensor]]) -> list[float]:
        """Scores of clips given by their views, 0 (worst) to 100 (best)."""
        return self.score_with_features(clips)[0]

    def score_with_features(
        self, clips: Sequence[Sequence[Tensor]]
    ) -> tuple[list[float], list[Tensor]]:
        """Scores as `score` gives them, and the features each was read from: (D,), on the CPU."""
        return scores_and_features(self._model, clips, self._device)

    def is_outside(self, features: Sequence[Tensor]) -> bool:
        """Whether clips with these features are unlike what the model learned from."""
        return self._domain is not None and not self._domain.holds(torch.stack(list(features)))


def see(views: Sequence[View], clip: Clip) -> list[Tensor]:
    """One clip through every view, without chance."""
    return [view(clip, generator=None) for view in views]


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
        columns = zip(*clips[start : start + batch], strict=True)
        views = [stack(column).to(device) for column in columns]
        with autocast(device):
            quality = model(*views)
        scores += (100 * quality.score_B.float()).clamp(0, 100).tolist()
        features += quality.features_BD.float().cpu()
    model.train(was_training)
    return scores, features
