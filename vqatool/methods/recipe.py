"""What a recipe is, and the loss terms that the methods share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from vqatool.inputs.clip import FrameGroup, View
from vqatool.losses import (
    ByLabel,
    Contrast,
    batch_rank_loss,
    frame_quality_loss,
    group_contrast_loss,
    plcc_loss,
)
from vqatool.models.quality import Quality, QualityModel

if TYPE_CHECKING:  # it is there for annotations alone
    from _typeshed import DataclassInstance


class Augmentation(Protocol):
    """Pixels of a view (T, C, h, w) -> others of the same quality, by chance."""

    def __call__(self, pixels_TCHW: Tensor, *, generator: torch.Generator) -> Tensor: ...


class Input(NamedTuple):
    """One input of a model: how a clip becomes it, and what is done to it in training."""

    view: View
    augment: Augmentation | None = None


class Loss(Protocol):
    """(what the model says, labels 0 to 1, bitrate groups, labels of bursts) -> named terms.

    Their sum is learnt. Bursts without a label have NaN.
    """

    def __call__(
        self, quality: Quality, label_B: Tensor, group_B: Tensor, frame_label_BT: Tensor
    ) -> dict[str, Tensor]: ...


DistanceTerm = Callable[[Tensor, Tensor], Tensor]
"""(scores, labels) -> how far apart they are."""


Config = TypeVar("Config", bound="DataclassInstance")


RankTerm = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scores, labels, bitrate groups) -> how far scores are from the order of the labels."""


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms beside the first, which has weight 1, and their settings.

    None leaves a weight to the method. `pixels` is that of all terms once more, for what the model
    says by the pixels alone. `temperature` and `contrast` are of the group contrast, `margin` of
    the rank term inside groups.
    """

    plcc: float | None = None
    group: float | None = None
    rank: float | None = None
    frame: float | None = None
    pixels: float | None = None
    temperature: float = 0.1
    contrast: Contrast = "ours"
    margin: float | ByLabel = 0.0

    def with_defaults(self, defaults: Mapping[str, float]) -> Self:
        """The same with the method's `defaults` weights, by name, where there is none; else 0."""
        unknown = [each.name for each in fields(self) if getattr(self, each.name) is None]
        found: dict[str, Any] = {name: defaults.get(name, 0.0) for name in unknown}
        return replace(self, **found)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published method as data.

    `inputs` make a clip of frame groups into the inputs of `build()`'s model, in the order
    `forward` takes them; `teacher_inputs` follow them in training where there is a teacher. `shape`
    is what has to be stored beside the weights to build the model again. Bursts of a clip that is
    seen as a whole belong together for the model, so a step of training sees all of them.
    """

    inputs: tuple[Input, ...]
    teacher_inputs: tuple[Input, ...] = ()
    frame_group: FrameGroup
    build: Callable[[], QualityModel]
    loss: Loss
    shape: Mapping[str, Any]
    preprocessing: str  # of a clip, for people
    reads_stream: bool = False  # its headers, which takes ffmpeg
    needs_all_frames: bool = False

    @property
    def views(self) -> tuple[View, ...]:
        """What the model sees."""
        return tuple(each.view for each in self.inputs)


def build_config(kind: type[Config], shape: Mapping[str, Any]) -> Config:
    """A model's config; `shape` comes from a command line or a file.

    Raises:
        TypeError: it has no such argument.
        ValueError: the argument is of another type, or has another range.
    """
    defaults: dict[str, Any] = {each.name: each.default for each in fields(kind)}
    for name, value in dict(**shape).items():  # a card may hold anything
        like = defaults.get(name, value)
        is_number = isinstance(like, float) and type(value) is int
        if type(value) is not type(like) and not is_number:
            raise ValueError(f"{name} is like {json.dumps(like)}, not {json.dumps(value)}")
    return kind(**shape)


def whole_batch_rank(score_B: Tensor, label_B: Tensor, group_B: Tensor) -> Tensor:
    """The rank term of FAST-VQA, which knows no groups."""
    return batch_rank_loss(score_B, label_B)


def weighted_terms(
    weights: LossWeights,
    distance: DistanceTerm,
    rank: RankTerm,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """Every term by its weight: quality (how near scores are), plcc, group, rank, frame.

    `pixels` is their sum once more, of what the model says by the pixels alone.
    """
    group = group_contrast_loss(
        quality.features_BD,
        group_B,
        temperature=weights.temperature,
        contrast=weights.contrast,
    )
    values = {
        "plcc": plcc_loss(quality.score_B, label_B),
        "group": group,
        "rank": rank(quality.score_B, label_B, group_B),
        "frame": frame_quality_loss(quality.frame_score_BT, frame_label_BT),
    }
    terms = {"quality": distance(quality.score_B, label_B)}
    terms |= {name: getattr(weights, name) * value for name, value in values.items()}
    if quality.pixels_only is not None:
        output = quality.pixels_only
        alone = weighted_terms(weights, distance, rank, output, label_B, group_B, frame_label_BT)
        terms["pixels"] = (weights.pixels or 0.0) * torch.stack(list(alone.values())).sum()
    return terms
