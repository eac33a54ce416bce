"""Method -> Recipe: what it sees, is, and learns from; the only file that sees all three."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Protocol, assert_never

import torch
from torch import Tensor

from vqatool.clips import View
from vqatool.losses import (
    ByLabel,
    Contrast,
    frame_quality_loss,
    group_contrast_loss,
    plcc_loss,
    quality_loss,
    rank_loss,
)
from vqatool.methods import Method
from vqatool.models.coarse_to_fine import CoarseToFine, CoarseToFineConfig, StreamLayout
from vqatool.models.quality import Quality, QualityModel
from vqatool.stream import STEP_ORIGIN, StreamFacts
from vqatool.views.fragments import fragments, rearranged
from vqatool.views.motion import MOTION_FIGURES, motion_vector
from vqatool.views.stream import stream_vector

STREAM_LAYOUT = StreamLayout(
    width=len(StreamFacts._fields),
    log2_step=StreamFacts._fields.index("step_inter"),
    has_step=StreamFacts._fields.index("has_step"),
    step_origin=STEP_ORIGIN,
)


class Vary(Protocol):
    """Pixels of a view (T, C, h, w) -> others of the same quality, by chance."""

    def __call__(self, pixels_TCHW: Tensor, *, generator: torch.Generator) -> Tensor: ...


class Loss(Protocol):
    """(what the model says, labels 0 to 1, bitrate groups, labels of frames) -> named terms.

    Their sum is learnt. Frames without a label have NaN.
    """

    def __call__(
        self, quality: Quality, label_B: Tensor, group_B: Tensor, frame_label_BT: Tensor
    ) -> dict[str, Tensor]: ...


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the loss terms beside the smooth L1 term, which has weight 1, and their settings.

    `pixels` is that of all terms once more, for what the model says by the pixels alone.
    `temperature` and `contrast` are of the group contrast, `margin` of the rank term.
    """

    plcc: float = 0.3
    group: float = 0.1
    rank: float = 1.0
    frame: float = 0.3
    pixels: float = 0.5
    temperature: float = 0.1
    contrast: Contrast = "ours"
    margin: float | ByLabel = 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One published method as data.

    `views` make a clip into the inputs of `build()`'s model, in the order `forward` takes them;
    `vary` is done to pixels in training; `shape` is what has to be stored beside the weights to
    build the model again.
    """

    views: tuple[View, ...]
    vary: Vary
    build: Callable[[], QualityModel]
    loss: Loss
    shape: Mapping[str, Any]
    preprocessing: str  # of a clip, for people

    @property
    def reads_stream(self) -> bool:
        """Whether the stream's headers have to be read, which takes ffmpeg."""
        return stream_vector in self.views


def recipe_for(
    method: Method, shape: Mapping[str, Any] | None = None, weights: LossWeights | None = None
) -> Recipe:
    """The recipe of `method`; mypy refuses this file while a method has none.

    Args:
        method: published method.
        shape: arguments of the model's config, as stored in a model file; None: the defaults.
        weights: of the loss terms; None: the defaults.
    """
    match method:
        case Method.COARSE_TO_FINE:
            config = CoarseToFineConfig(**(shape or {}))
            return Recipe(
                views=_views(config),
                vary=partial(rearranged, patch=config.patch),
                build=lambda: CoarseToFine(config, MOTION_FIGURES, STREAM_LAYOUT),
                loss=partial(coarse_to_fine_loss, weights or LossWeights()),
                shape=asdict(config),
                preprocessing=_preprocessing(config),
            )
        case _:
            assert_never(method)


def _views(config: CoarseToFineConfig) -> tuple[View, ...]:
    pixels = partial(fragments, grid=config.grid, patch=config.patch)
    motion = (motion_vector,) if config.has_motion else ()
    stream = (stream_vector,) if config.has_stream else ()
    return (pixels, *motion, *stream)


def _preprocessing(config: CoarseToFineConfig) -> str:
    patches = f"{config.grid} x {config.grid} patches of {config.patch} px of RGB, untouched"
    motion = ", and its difference from the next one" if config.has_motion else ""
    stream = "; the facts of the stream's headers" if config.has_stream else ""
    return f"{patches}, of each frame scaled (bicubic) to its display{motion}{stream}"


def coarse_to_fine_loss(
    weights: LossWeights,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The weighted terms: quality (smooth L1, PLCC, frames), group (coarse), rank (fine).

    `pixels` is their sum once more, of what the model says by the pixels alone.
    """
    group = group_contrast_loss(
        quality.features_BD,
        group_B,
        temperature=weights.temperature,
        contrast=weights.contrast,
    )
    rank = rank_loss(quality.score_B, label_B, group_B, margin=weights.margin)
    terms = {
        "quality": quality_loss(quality.score_B, label_B),
        "plcc": weights.plcc * plcc_loss(quality.score_B, label_B),
        "group": weights.group * group,
        "rank": weights.rank * rank,
        "frame": weights.frame * frame_quality_loss(quality.frame_score_BT, frame_label_BT),
    }
    if quality.by_pixels is not None:
        alone = coarse_to_fine_loss(weights, quality.by_pixels, label_B, group_B, frame_label_BT)
        terms["pixels"] = weights.pixels * torch.stack(list(alone.values())).sum()
    return terms
