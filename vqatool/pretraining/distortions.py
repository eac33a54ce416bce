"""Known damage done to clean pictures: what ladders, cameras and the web do to them, by level."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import gaussian_filter

from ladder.codecs import still_codings
from ladder.media.decode import Pixels
from ladder.media.stills import encode_decode, resize

LEVELS: dict[str, tuple[float, ...]] = {
    **{name: coding.levels for name, coding in still_codings().items()},
    "scaling": (0.8, 0.65, 0.5, 0.35, 0.25, 0.18),  # share of the side that is left in between
    "blur": (0.5, 0.8, 1.2, 1.8, 2.6, 4.0),  # deviation of the Gaussian, px
    "noise": (2, 4, 8, 14, 24, 40),  # deviation, of 255
    "banding": (64, 40, 24, 14, 8, 5),  # values a channel is left with
}
"""What each kind of damage can be, from hardly visible to worst."""


_RENDITIONS = (0.75, 0.5, 0.33)


_SMALLEST_PX = 64  # SVT-AV1 codes nothing smaller


@dataclass(frozen=True)
class Distortion:
    """One kind at one level; a codec may work on a rendition of `share` of the side, as a ladder's.

    Raises:
        ValueError: the kind is none of `LEVELS`, or the share is not in (0, 1].
    """

    kind: str
    level: float
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in LEVELS or not 0 < self.share <= 1:
            raise ValueError(f"{self} is no damage: kinds are {', '.join(LEVELS)}; share in (0, 1]")


ALL_DISTORTIONS: tuple[Distortion, ...] = (
    *(Distortion(kind, level) for kind, levels in LEVELS.items() for level in levels),
    *(
        Distortion(codec, LEVELS[codec][step], share)
        for codec, step, share in product(still_codings(), range(4), _RENDITIONS)
    ),
)


def draw_distortions(count: int, random: np.random.Generator) -> list[Distortion]:
    """`count` of all kinds of damage, no two alike.

    Raises:
        ValueError: there are not so many.
    """
    if count > len(ALL_DISTORTIONS):
        raise ValueError(f"there are {len(ALL_DISTORTIONS)} kinds of damage, not {count}")
    chosen: Sequence[int] = random.permutation(len(ALL_DISTORTIONS))[:count].tolist()
    return [ALL_DISTORTIONS[index] for index in chosen]


def distort(picture_HWC: Pixels, distortion: Distortion, random: np.random.Generator) -> Pixels:
    """The picture with that damage; `random` is used by noise alone.

    Args:
        picture_HWC: uint8 RGB, sides even and at least 64 px.
        damage: what to do.
        random: where noise comes from.

    Returns:
        (H, W, 3) uint8.
    """
    if distortion.kind in still_codings():
        return _rendition(picture_HWC, distortion)
    match distortion.kind:
        case "scaling":
            return _restored(_shrunk(picture_HWC, distortion.level), picture_HWC)
        case "blur":
            return gaussian_filter(
                picture_HWC, (distortion.level, distortion.level, 0), mode="mirror"
            )
        case "noise":
            added = random.normal(0, distortion.level, picture_HWC.shape)
            return (picture_HWC + added).round().clip(0, 255).astype(np.uint8)
        case _:
            return _with_band(picture_HWC, distortion.level)


def _rendition(picture_HWC: Pixels, distortion: Distortion) -> Pixels:
    small = _shrunk(picture_HWC, distortion.share)
    return _restored(encode_decode(small, distortion.kind, round(distortion.level)), picture_HWC)


def _shrunk(picture_HWC: Pixels, share: float) -> Pixels:
    height, width = (
        max(min(side, _SMALLEST_PX), round(side * share / 2) * 2) for side in picture_HWC.shape[:2]
    )
    is_smaller = (height, width) != picture_HWC.shape[:2]
    return resize(picture_HWC, width, height) if is_smaller else picture_HWC


def _restored(picture_HWC: Pixels, like_HWC: Pixels) -> Pixels:
    height, width = like_HWC.shape[:2]
    is_small = picture_HWC.shape != like_HWC.shape
    return resize(picture_HWC, width, height) if is_small else picture_HWC


def _with_band(picture_HWC: Pixels, values: float) -> Pixels:
    step = 255 / (values - 1)
    return (np.round(picture_HWC / step) * step).round().astype(np.uint8)
