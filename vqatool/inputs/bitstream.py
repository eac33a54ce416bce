"""Bitstream features: how a stream was coded, as numbers for a model.

Hybrid models (ITU-T P.1204) read quantiser and bits beside the pixels: the quantiser step shows how
much a picture lost, which the pixels alone do not always show. Bits can mislead: a bad encode that
was re-encoded at a high bitrate has good features, so the training data must hold such encodes.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ladder.codecs import coded_formats
from ladder.media.headers import CodedPicture
from ladder.media.probe import VideoInfo
from vqatool.inputs.readable import ReadableFigure

if TYPE_CHECKING:  # a clip holds these features
    from vqatool.inputs.clip import Clip

STEP_ORIGIN = 3.0
"""log2 of the quantiser step that features hold as 0, about the middle of what encoders choose."""


class BitstreamFeatures(NamedTuple):
    """One number each; sizes as log2, so that a doubling is a step of 1 everywhere.

    Where nothing is known (`is_known` 0, `has_step` 0) the numbers that depend on it are 0.
    """

    is_known: float
    has_step: float
    is_h264: float
    is_hevc: float
    is_vp9: float
    is_av1: float
    coded_to_display: float  # heights
    display: float  # height against 540
    fps: float  # against 30
    bits_per_display_pixel: float
    bits_per_pixel: float
    key_bits_per_pixel: float
    inter_bits_per_pixel: float
    inter_bits_low: float  # their lower quartile, where the B frames are
    inter_bits_high: float
    key_share: float  # of all bits, 0 to 1
    step_mean: float
    step_key: float
    step_inter: float
    step_min: float
    step_max: float
    step_by_bits: float  # the mean weighted by bits


UNKNOWN_BITSTREAM = BitstreamFeatures(*[0.0] * len(BitstreamFeatures._fields))
"""The features of a stream that was not read, and of an image, which has none."""


# the fields are fixed by trained models: a format without one has all flags at 0
_CODEC_FLAGS = {f"is_{name}" for name in coded_formats()} & set(BitstreamFeatures._fields)


def bitstream_features(
    info: VideoInfo, pictures: Sequence[CodedPicture], display: tuple[int, int]
) -> BitstreamFeatures:
    """The features of one part of a stream that is shown at `display` (width, height) px."""
    if not pictures:
        return UNKNOWN_BITSTREAM
    bits = 8.0 * np.array([picture.size_bytes for picture in pictures])
    is_key = np.array([picture.is_key for picture in pictures])
    pixels, shown_pixels = info.width_px * info.height_px, display[0] * display[1]
    inter = bits[~is_key] if (~is_key).any() else bits
    steps = _step_features(pictures, is_key, bits)
    return BitstreamFeatures(
        is_known=1.0,
        has_step=float(bool(steps)),
        **{flag: float(flag == f"is_{info.codec}") for flag in _CODEC_FLAGS},
        coded_to_display=math.log2(min(info.width_px, info.height_px) / min(display)),
        display=math.log2(min(display) / 540),
        fps=math.log2(float(info.fps) / 30),
        bits_per_display_pixel=_log2(bits.mean() / shown_pixels),
        bits_per_pixel=_log2(bits.mean() / pixels),
        key_bits_per_pixel=_log2((bits[is_key] if is_key.any() else bits).mean() / pixels),
        inter_bits_per_pixel=_log2(inter.mean() / pixels),
        inter_bits_low=_log2(float(np.quantile(inter, 0.25)) / pixels),
        inter_bits_high=_log2(float(np.quantile(inter, 0.75)) / pixels),
        key_share=float(bits[is_key].sum() / max(1.0, bits.sum())),
        **steps or dict.fromkeys(_STEP_FEATURES, 0.0),
    )


_STEP_FEATURES = ("step_mean", "step_key", "step_inter", "step_min", "step_max", "step_by_bits")


def _step_features(
    pictures: Sequence[CodedPicture], is_key: np.ndarray, bits: np.ndarray
) -> dict[str, float]:
    steps = (
        np.array([math.nan if p.log2_step is None else p.log2_step for p in pictures]) - STEP_ORIGIN
    )
    known = ~np.isnan(steps)
    if not known.any():
        return {}

    def mean(which: np.ndarray) -> float:
        chosen = steps[which & known]
        return float(chosen.mean() if len(chosen) else steps[known].mean())

    by_bits = float((steps * bits)[known].sum() / max(1.0, bits[known].sum()))
    figures = (mean(known), mean(is_key), mean(~is_key), steps[known].min(), steps[known].max())
    return dict(zip(_STEP_FEATURES, (*map(float, figures), by_bits), strict=True))


def _log2(value: float) -> float:
    return math.log2(max(value, 1e-5))


def bitstream_vector(
    clip: "Clip", *, generator: np.random.Generator | None = None
) -> npt.NDArray[np.float32]:
    """The clip's `BitstreamFeatures` as (F,) float32; the generator is not used."""
    return np.array(clip.bitstream, np.float32)


def _power(value: float, origin: float) -> float:
    """What the value is the logarithm of."""
    return float(2 ** (value + origin))


def _readable(field: str, name: str, unit: str, digits: int) -> ReadableFigure:
    flag = "has_step" if field in _STEP_FEATURES else "is_known"
    origin = STEP_ORIGIN if field in _STEP_FEATURES else math.log2(_SCALES.get(field, 1))
    place, known = map(BitstreamFeatures._fields.index, (field, flag))
    return ReadableFigure(name, unit, place, partial(_power, origin=origin), digits, known)


_SCALES = {"display": 540, "fps": 30}

READABLE_STREAM = (
    _readable("bits_per_pixel", "bits of a picture", "bit/px", 4),
    _readable("key_bits_per_pixel", "bits of a key frame", "bit/px", 4),
    _readable("step_mean", "quantiser step, mean", "samples", 1),
    _readable("step_max", "quantiser step, coarsest", "samples", 1),
    _readable("coded_to_display", "coded height / shown height", "", 2),
    _readable("display", "shown height", "px", 0),
    _readable("fps", "frame rate", "frames/s", 2),
)
"""What of the features people can read; samples have 8 bits."""
