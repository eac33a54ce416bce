"""What every model gives, and what every model first does with pixels.

Shapes: B videos, T frames, C channels, H height, W width, D features.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(NamedTuple):
    """What one branch of a model says of B videos by itself, on the scale of `Quality.score_B`.

    The branches of a model are in the order of its views; each sees one. `score_B` and
    `frame_score_BT`, of each frame of its view, are averages of `score_map_BTHW`, the scores of
    parts of the view; its T may be fewer than the frames. `weight_map_BTHW`, in (0, 1), says how
    much each part counts; None: all count alike.
    """

    name: str
    score_B: Tensor
    frame_score_BT: Tensor
    score_map_BTHW: Tensor
    weight_map_BTHW: Tensor | None = None


class Quality(NamedTuple):
    """What a model says of B videos.

    `score_B` is on the label's scale divided by 100, so about 0 (worst) to 1 (best), not clipped.
    `features_BD` is the representation the score was read from, for contrast and distillation.
    `frame_score_BT` is the same of every frame, for a timeline and for labels of single frames.
    `pixels_only` is, in training, what the model says when all but the pixels is hidden from it;
    `teacher_quality` what its teacher says, and `projected_BD` these features in the width of the
    teacher's. `branches` are what the score was fused from, where that is several scores.
    """

    score_B: Tensor
    features_BD: Tensor
    frame_score_BT: Tensor
    pixels_only: "Quality | None" = None
    teacher_quality: "Quality | None" = None
    projected_BD: Tensor | None = None
    branches: tuple[Branch, ...] = ()


class QualityModel(nn.Module):
    """Base of the models: one or several views in, one Quality out.

    `feature_width` is D of its features.
    """

    feature_width: int
    _tuned: tuple[nn.Module, ...] | None = None  # what learns; None: all of it

    @abstractmethod
    def forward(self, *views: Tensor) -> Quality:
        """Views of B videos -> their Quality; pixels are RGB, float in [0, 1]."""

    def head_layers(self) -> Sequence[nn.Module]:
        """What reads scores from features: its last part, if not said."""
        return [part for part in self.children() if any(True for _ in part.parameters())][-1:]

    def last_layers(self) -> Sequence[nn.Module]:
        """What goes on learning in a teacher, whose rest is frozen: last blocks, and the head."""
        return self.head_layers()

    def tune(self, part: str) -> None:
        """Freeze all but a part: `all` freezes nothing, `head` all but the `head_layers`.

        Raises:
            ValueError: the model has no such part.
        """
        if part == "all":
            return
        self._tuned = tuple(self.tuned_layers(part))
        self.requires_grad_(False)
        for layer in self._tuned:
            layer.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Nothing is dropped in what is frozen: in use the rest never meets such features."""
        super().train(mode)
        if mode and self._tuned is not None:
            for part in self.children():
                part.eval()
            for layer in self._tuned:
                layer.train()
        return self

    def tuned_layers(self, part: str) -> Sequence[nn.Module]:
        """What learns when that part alone is tuned."""
        if part != "head":
            raise ValueError(f"this model has no {part} to tune")
        return self.head_layers()

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of a model of the same shape.

        Raises:
            RuntimeError: they are of another shape.
        """
        self.load_state_dict(weights)

    def init_from(self, known: "QualityModel") -> None:
        """Load the weights of another model, which may differ in what they are not of.

        Raises:
            RuntimeError: they are of another shape.
        """
        self.load_weights(known.state_dict())

    def student(self) -> "QualityModel":
        """The model that is averaged, judged and stored: this one, without what helps it learn."""
        return self


def in_float32(layers: nn.Module, features: Tensor) -> Tensor:
    """What layers say of features, whatever format the rest of a model computes in.

    Scores are read so: bfloat16 has eight bits, which between 50 and 100 are steps of 0.4.
    """
    device = features.device.type
    # costs are counted on a device that computes nothing, which knows no such context
    is_known = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if is_known else contextlib.nullcontext():
        return cast(Tensor, layers(features.float()))


class PixelInput(nn.Module):
    """RGB in [0, 1] -> standardised RGB, with locally normalised luma as a fourth channel.

    The fourth channel, (luma - local mean) / (local deviation + 1) on the scale of 0 to 255, takes
    the picture out of the picture and leaves its texture: blur, blocks and noise. It is the input
    of "No-Reference Image Quality Assessment in the Spatial Domain" (BRISQUE, IEEE TIP 2012,
    eq. 1), here with a box for the local window. Nets without pre-training need it.
    """

    def __init__(self, *, has_local_luma: bool = True, window: int = 7) -> None:
        super().__init__()
        self.channels = 4 if has_local_luma else 3
        self._window = window
        for name, values in {
            "mean": (0.485, 0.456, 0.406),
            "deviation": (0.229, 0.224, 0.225),
            "luma": (0.2126, 0.7152, 0.0722),  # ITU-R BT.709
        }.items():
            buffer = torch.tensor(values).view(3, 1, 1)
            self.register_buffer(f"_{name}", buffer, persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3 or 4, H, W) of about unit spread."""
        mean, deviation = self.get_buffer("_mean"), self.get_buffer("_deviation")
        colour = (pixels_BCHW - mean) / deviation
        if self.channels == 3:
            return colour
        luma = (pixels_BCHW * self.get_buffer("_luma")).sum(1, keepdim=True)
        return torch.cat([colour, local_contrast(luma * 255, self._window)], dim=1)


def local_contrast(luma_B1HW: Tensor, window: int) -> Tensor:
    """(x - local mean) / (local deviation + 1); luma on the scale of 0 to 255."""
    mean = _box(luma_B1HW, window)
    variance = _box(luma_B1HW.square(), window) - mean.square()
    return (luma_B1HW - mean) / (variance.clamp_min(0).sqrt() + 1)


def _box(image_B1HW: Tensor, window: int) -> Tensor:
    # borders count their real neighbours alone
    return F.avg_pool2d(image_B1HW, window, 1, window // 2, count_include_pad=False)
