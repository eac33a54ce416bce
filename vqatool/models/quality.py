"""What every model returns, the base class of the models, and how pixels are normalised.

Shapes: B videos, T frames, C channels, H height, W width, D features.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:  # it is made of the functions below
    from vqatool.models.figures import FigureNetwork

FIGURES = "figures"
"""The part of a model that `fit_figure_network` fits: no step of a training changes it."""


NO_FIGURES = slice(0, 0)
"""Of the figures that one figure network takes and another does not: none."""


class Branch(NamedTuple):
    """The output of one branch of a model for B videos, on the scale of `Quality.score_B`.

    A model's branches are in the order of its views; each reads one view. `score_B` and
    `frame_score_BT`, one score for each frame of the view, are means of `score_map_BTHW`, the
    scores of parts of the view; the map may have fewer T than there are frames. `weight_map_BTHW`,
    in (0, 1), is the weight of each part in these means; None: all weights are equal.
    """

    name: str
    score_B: Tensor
    frame_score_BT: Tensor
    score_map_BTHW: Tensor
    weight_map_BTHW: Tensor | None = None


class Quality(NamedTuple):
    """The output of a model for B videos.

    `score_B` is on the label's scale divided by 100: about 0 (worst) to 1 (best), not clipped.
    `features_BD` is the representation that the score was computed from. `frame_score_BT` is the
    score of each frame. `branches` are the parts that `score_B` was fused from; empty where a model
    has one score. `spread_B` is the error that the model expects of `score_B`, above 0 and on its
    scale; None for a model that does not know it.
    """

    score_B: Tensor
    features_BD: Tensor
    frame_score_BT: Tensor
    branches: tuple[Branch, ...] = ()
    spread_B: Tensor | None = None


class TypicalView(NamedTuple):
    """What a view of figures is for a typical clip of the training data.

    Means and standard deviations (K,) of its figures over the clips; `deviation_K` is None where it
    is not known. `swing_K` is the mean deviation over the frames of a clip; None for a view that
    has no frames.
    """

    mean_K: Tensor
    deviation_K: Tensor | None = None
    swing_K: Tensor | None = None


class TeacherOutput(NamedTuple):
    """The teacher's output, and the student's features projected to the width of the teacher's."""

    quality: Quality
    projected_BD: Tensor


class TileOutput(NamedTuple):
    """Predicted and measured quality (N, P), 0 to 1, of P tiles of N frames; NaN: not known."""

    score_NP: Tensor
    label_NP: Tensor


class TrainingOutput(NamedTuple):
    """The output of a model in a training step: its Quality, and what only a loss needs.

    `pixels_only` is the model's output without bitstream features, of a model that reads them.
    `teacher` is there in distillation, `tiles` where the quality of parts of frames is known.
    """

    quality: Quality
    pixels_only: Quality | None = None
    teacher: TeacherOutput | None = None
    tiles: TileOutput | None = None


class QualityModel(nn.Module):
    """Base of the models: one or several views of B videos -> their Quality.

    `feature_width` is the D of its features.
    """

    feature_width: int
    _trainable: tuple[nn.Module, ...] | None = None  # None: every layer

    @property
    def figure_network(self) -> "FigureNetwork | None":
        """The network on figures of whole clips that is fitted after the training, if any."""
        return None

    def figures_left_out(self, known: "QualityModel") -> slice:
        """Figures that the figure network of another model of this method takes, and not its own.

        None by default.
        """
        return NO_FIGURES

    def clip_figures(self, views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Figures (F,) and deep features (E,) of one clip for the figure network, from its views.

        Raises:
            NotImplementedError: the model has no such network.
        """
        raise NotImplementedError

    def typical_views(self) -> Sequence[TypicalView | None]:
        """Of each view in order, what it is for a typical clip of the training; None for pixels.

        Empty for a model that does not know it.
        """
        return ()

    @abstractmethod
    def forward(self, *views: Tensor) -> Quality:
        """The Quality of B videos.

        Args:
            views: in the order of the recipe's inputs, each with B first. Pixels are
                (B, T, 3, H, W) RGB, float in [0, 1].
        """

    def training_output(self, *views: Tensor) -> TrainingOutput:
        """The output for a training step; arguments are those of `forward`."""
        return TrainingOutput(self(*views))

    def head_layers(self) -> Sequence[nn.Module]:
        """The layers that compute scores from features; by default the last child with weights."""
        return [part for part in self.children() if any(True for _ in part.parameters())][-1:]

    def last_layers(self) -> Sequence[nn.Module]:
        """The layers that stay trainable in a teacher: its last blocks and its head."""
        return self.head_layers()

    def trainable_layers(self, part: str) -> Sequence[nn.Module]:
        """The layers of a part that can be trained alone; every model has `head`.

        Raises:
            ValueError: the model has no such part.
        """
        if part != "head":
            raise ValueError(f"this model has no {part} to tune")
        return self.head_layers()

    def freeze_except(self, part: str) -> None:
        """Freeze all weights except those of a part; `all` freezes none.

        Raises:
            ValueError: the model has no such part.
        """
        if part == "all":
            return
        self._trainable = tuple(self.trainable_layers(part))
        self.requires_grad_(False)
        for layer in self._trainable:
            layer.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of the trainable layers; frozen layers stay in evaluation mode.

        Dropout in a frozen layer would give the trainable ones features that inference never has.
        """
        super().train(mode)
        if mode and self._trainable is not None:
            for part in self.children():
                part.eval()
            for layer in self._trainable:
                layer.train()
        return self

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of a model of the same shape.

        Raises:
            RuntimeError: names or shapes differ.
        """
        self.load_state_dict(weights)

    def init_from(self, known: "QualityModel") -> None:
        """Load the weights of another model as a start for training.

        The models may differ in what a method can convert, such as the number of frames.

        Raises:
            RuntimeError: other names or shapes differ.
        """
        self.load_weights(known.state_dict())

    def student(self) -> "QualityModel":
        """The model that is averaged, validated and stored: this one without its teacher."""
        return self


def in_float32(layers: Callable[[Tensor], Any], features: Tensor) -> Tensor:
    """The output of layers computed in float32, also under autocast.

    Heads need it: bfloat16 has eight bits, so between 50 and 100 its steps are 0.4.
    """
    device = features.device.type
    # costs are counted on the meta device, which has no autocast
    has_autocast = torch.amp.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if has_autocast else contextlib.nullcontext():
        return cast(Tensor, layers(features.float()))


class PixelInput(nn.Module):
    """RGB in [0, 1] -> standardised RGB, with locally normalised luma as a fourth channel.

    The fourth channel is (luma - local mean) / (local deviation + 1), luma on the scale 0 to 255.
    It removes the picture's content and leaves its texture: blur, blocks and noise. It is the input
    of "No-Reference Image Quality Assessment in the Spatial Domain" (BRISQUE, IEEE TIP 2012,
    eq. 1), here with a box as the local window. Networks without pre-training need it. RGB is
    standardised by the mean and deviation of ImageNet.

    Args:
        has_local_luma: whether there is a fourth channel.
        window: side of the local window, px; odd.
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
        """(B, 3, H, W) in [0, 1] -> (B, 3 or 4, H, W) of about unit deviation."""
        mean, deviation = self.get_buffer("_mean"), self.get_buffer("_deviation")
        colour = (pixels_BCHW - mean) / deviation
        if self.channels == 3:
            return colour
        luma = (pixels_BCHW * self.get_buffer("_luma")).sum(1, keepdim=True)
        return torch.cat([colour, local_contrast(luma * 255, self._window)], dim=1)


def local_contrast(luma_B1HW: Tensor, window: int) -> Tensor:
    """(x - local mean) / (local deviation + 1), same shape; luma on the scale 0 to 255."""
    mean = _box_mean(luma_B1HW, window)
    variance = _box_mean(luma_B1HW.square(), window) - mean.square()
    return (luma_B1HW - mean) / (variance.clamp_min(0).sqrt() + 1)


def _box_mean(image_B1HW: Tensor, window: int) -> Tensor:
    # at borders the mean is over real pixels only; along one axis after the other, since ONNX
    # Runtime would take a third of the network's time for a square window
    for size in ((window, 1), (1, window)):
        padding = (size[0] // 2, size[1] // 2)
        image_B1HW = F.avg_pool2d(image_B1HW, size, 1, padding, count_include_pad=False)
    return image_B1HW
