"""Synthetic distortions of clean pictures, as ladders, cameras and the web cause them, by level."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter

from ladder.codecs import still_codings
from ladder.media.stills import encode_decode, resize
from ladder.media.upright import Pixels

LEVELS: dict[str, tuple[float, ...]] = {
    **{name: coding.levels for name, coding in still_codings().items()},
    "scaling": (0.8, 0.65, 0.5, 0.35, 0.25, 0.18),  # scale of the side before it is scaled back
    "blur": (0.5, 0.8, 1.2, 1.8, 2.6, 4.0),  # standard deviation of the Gaussian, px
    "noise": (2, 4, 8, 14, 24, 40),  # standard deviation, of 255
    "banding": (64, 40, 24, 14, 8, 5),  # values of a channel that remain
}
"""Levels of each kind of distortion, from hardly visible to severe."""


_RENDITIONS = (0.75, 0.5, 0.33)


_MIN_PX = 64  # SVT-AV1 refuses smaller pictures


@dataclass(frozen=True)
class Distortion:
    """One kind at one level; a codec may encode a picture scaled to `share` of its side.

    Raises:
        ValueError: the kind is not in `LEVELS`, or the share is not in (0, 1].
    """

    kind: str
    level: float
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in LEVELS or not 0 < self.share <= 1:
            raise ValueError(f"{self} is not valid: kinds are {', '.join(LEVELS)}; share in (0, 1]")


ALL_DISTORTIONS: tuple[Distortion, ...] = (
    *(Distortion(kind, level) for kind, levels in LEVELS.items() for level in levels),
    *(
        Distortion(codec, LEVELS[codec][step], share)
        for codec, step, share in product(still_codings(), range(4), _RENDITIONS)
    ),
)


def sample_distortions(count: int, random: np.random.Generator) -> list[Distortion]:
    """`count` different distortions, chosen at random.

    Raises:
        ValueError: there are fewer.
    """
    if count > len(ALL_DISTORTIONS):
        raise ValueError(f"there are {len(ALL_DISTORTIONS)} distortions, not {count}")
    chosen: Sequence[int] = random.permutation(len(ALL_DISTORTIONS))[:count].tolist()
    return [ALL_DISTORTIONS[index] for index in chosen]


def distort(picture_HWC: Pixels, distortion: Distortion, random: np.random.Generator) -> Pixels:
    """Distort a picture.

    Args:
        picture_HWC: uint8 RGB, sides even and at least 64 px.
        distortion: kind and level.
        random: source of the noise; no other kind uses it.

    Returns:
        (H, W, 3) uint8.
    """
    if distortion.kind in still_codings():
        return _encode_rendition(picture_HWC, distortion)
    match distortion.kind:
        case "scaling":
            return _scale_to_size_of(_scale_down(picture_HWC, distortion.level), picture_HWC)
        case "blur":
            return gaussian_filter(
                picture_HWC, (distortion.level, distortion.level, 0), mode="mirror"
            )
        case "noise":
            added = random.normal(0, distortion.level, picture_HWC.shape)
            return (picture_HWC + added).round().clip(0, 255).astype(np.uint8)
        case _:
            return _quantize(picture_HWC, distortion.level)


def _encode_rendition(picture_HWC: Pixels, distortion: Distortion) -> Pixels:
    small = _scale_down(picture_HWC, distortion.share)
    return _scale_to_size_of(
        encode_decode(small, distortion.kind, round(distortion.level)), picture_HWC
    )


def _scale_down(picture_HWC: Pixels, share: float) -> Pixels:
    height, width = (
        max(min(side, _MIN_PX), round(side * share / 2) * 2) for side in picture_HWC.shape[:2]
    )
    is_smaller = (height, width) != picture_HWC.shape[:2]
    return resize(picture_HWC, width, height) if is_smaller else picture_HWC


def _scale_to_size_of(picture_HWC: Pixels, like_HWC: Pixels) -> Pixels:
    height, width = like_HWC.shape[:2]
    is_small = picture_HWC.shape != like_HWC.shape
    return resize(picture_HWC, width, height) if is_small else picture_HWC


def _quantize(picture_HWC: Pixels, values: float) -> Pixels:
    step = 255 / (values - 1)
    return (np.round(picture_HWC / step) * step).round().astype(np.uint8)
