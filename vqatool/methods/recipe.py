"""The type of a recipe. No torch: who only asks a model needs no more than its inputs.

Shapes: B videos, T frame groups or frames, C channels, h height and w width of a view.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from vqatool.inputs.clip import Array, Clip, FrameGroup, GroupedView, View
from vqatool.inputs.readable import ReadableFigure

if TYPE_CHECKING:  # for annotations alone: these need torch, or exist for type checkers only
    from _typeshed import DataclassInstance
    from torch import Tensor

    from vqatool.losses import ByLabel, Contrast
    from vqatool.models.quality import QualityModel, TrainingOutput


class Augmentation(Protocol):
    """Pixels of a view (T, C, h, w) -> random other pixels of the same quality and shape."""

    def __call__(self, pixels_TCHW: Array, *, generator: np.random.Generator) -> Array: ...


class Input(NamedTuple):
    """One input of a model: the view of a clip, and its augmentation in training (None: none).

    `is_random` is false of a view that ignores its generator: it is computed once then, not once
    for each random variant. With `has_tiles` the pixels of a training step have a fourth channel:
    the quality of each place against the source (`vqatool.vif.quality_channel`). `unused` is the
    number of figures of a view that no step learns from, only the fit after a training. `name`
    says what is shown, in a word; `readable` are figures of it that people can read.
    """

    view: View
    augment: Augmentation | None = None
    is_random: bool = True
    has_tiles: bool = False
    unused: int = 0
    name: str = "frames"
    readable: tuple[ReadableFigure, ...] = ()


class Loss(Protocol):
    """A model's output in a training step -> named loss terms, whose sum is minimised.

    Labels are 0 to 1; `group_B` has the number of each video's bitrate group. `frame_label_BT` has
    labels of frame groups, NaN where there is none.
    """

    def __call__(
        self,
        output: "TrainingOutput",
        label_B: "Tensor",
        group_B: "Tensor",
        frame_label_BT: "Tensor",
    ) -> "dict[str, Tensor]": ...


FreeInExport = Literal["clips and groups", "clips", "none"]

Config = TypeVar("Config", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms other than `quality`, which has weight 1, and their settings.

    None stands for the method's own weight. `pixels` is the weight of all terms computed once more
    for the output without bitstream features. `temperature` and `contrast` are of the group
    contrastive loss, `margin` is of the rank loss inside groups.
    """

    plcc: float | None = None
    group: float | None = None
    rank: float | None = None
    frame: float | None = None
    tile: float | None = None
    pixels: float | None = None
    temperature: float = 0.1
    contrast: "Contrast" = "ours"
    margin: "float | ByLabel" = 0.0

    def with_defaults(self, defaults: Mapping[str, float]) -> Self:
        """The same with `defaults`, by name, in place of None; 0 where there is no default."""
        unset = [each.name for each in fields(self) if getattr(self, each.name) is None]
        found: dict[str, Any] = {name: defaults.get(name, 0.0) for name in unset}
        return replace(self, **found)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published method as data.

    `inputs` turn a clip of frame groups like `frame_group` into the inputs of the model that
    `build()` makes, in the order that `forward` takes them. In distillation `teacher_inputs`
    follow them. `shape` is stored beside the weights: it is needed to build the model again.
    `needs_all_frames` is for models that relate the frame groups of a clip to each other: a
    training step gets all groups then. `build` and `make_loss` load torch. `free_in_export` says
    which numbers are free in an exported model: those of clips and frame groups, those of clips
    alone, or none, where torch would take hours to reason about any number.
    """

    inputs: tuple[Input, ...]
    teacher_inputs: tuple[Input, ...] = ()
    frame_group: FrameGroup
    build: "Callable[[], QualityModel]"
    make_loss: Callable[[], Loss]
    shape: Mapping[str, Any]
    preprocessing: str  # of a clip, in words, for the model card
    reads_stream: bool = False  # bitstream features
    needs_all_frames: bool = False
    free_in_export: FreeInExport = "none"

    @cached_property
    def loss(self) -> Loss:
        """The loss of a training step."""
        return self.make_loss()

    @property
    def views(self) -> tuple[View, ...]:
        """The views of the model's inputs."""
        return tuple(each.view for each in self.inputs)

    @property
    def step_views(self) -> tuple[View, ...]:
        """The same with zeros for those that no step learns from, which may take the most time."""
        return tuple(
            partial(_zeros, count=each.unused) if each.unused else each.view for each in self.inputs
        )

    @property
    def view_versions(self) -> list[str]:
        """Of the networks that views are made with: weights fit no other ones."""
        grouped = (view for view in self.views if isinstance(view, GroupedView))
        return [view.version() for view in grouped if view.version]


def _zeros(clip: Clip, *, generator: np.random.Generator | None, count: int) -> Array:
    return np.zeros(count, np.float32)


def build_config(kind: type[Config], shape: Mapping[str, Any]) -> Config:
    """A model's config from arguments of a command line or a file.

    Raises:
        TypeError: the config has no such argument.
        ValueError: an argument is of another type or out of range.
    """
    defaults: dict[str, Any] = {each.name: each.default for each in fields(kind)}
    for name, value in dict(**shape).items():  # a model card may hold anything
        like = defaults.get(name, value)
        is_number = isinstance(like, float) and type(value) is int
        if type(value) is not type(like) and not is_number:
            raise ValueError(f"{name} is like {json.dumps(like)}, not {json.dumps(value)}")
    return kind(**shape)
