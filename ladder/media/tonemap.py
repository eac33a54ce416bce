"""Tone mapping: HDR pictures (PQ, HLG) -> SDR, in a filter graph of ffmpeg, and the same in numpy.

Both do what ffmpeg's filters `zscale` and `tonemap` do. PyAV's FFmpeg has no `zscale`, so frames
that are decoded in this process are mapped by numpy. HDR means ITU-R BT.2100: its curves, its
primaries (BT.2020) and its matrix, whatever else a file is tagged with.

Diffuse white of HDR, 203 cd/m2 (ITU-R BT.2408), is SDR's white. The curve is the one that ffmpeg
calls `mobius`: it leaves dark and middle tones alone and bends the brighter ones, so that the peak
of 1000 cd/m2 becomes white. White and peak are fixed: metadata is often lost in an encode, and an
encode and its source must get the same curve.
"""

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ladder.media.probe import Hdr

if TYPE_CHECKING:  # for annotations alone: `filters` imports this module
    from ladder.media.filters import VideoNode

CURVE = "mobius"
"""The name of the curve in a row, as ffmpeg has it."""

TONEMAPPED = "tonemapped"
"""The warning of a row whose figures are those of HDR as SDR."""

FILTERS = ("zscale", "tonemap")
"""The filters that ffmpeg needs."""

_WHITE_CD_M2 = 203  # ITU-R BT.2408, section 2.2
_PEAK_CD_M2 = 1000
_PEAK = _PEAK_CD_M2 / _WHITE_CD_M2
_KNEE = 0.5  # of white; below it nothing changes. ITU-R BT.2390's curve has 0.45 for this peak
_SDR_GAMMA = 2.4  # of a display, ITU-R BT.1886

# ITU-R BT.2100, table 4 (PQ) and table 5 (HLG)
_PQ_M1, _PQ_M2 = 2610 / 16384, 2523 / 4096 * 128
_PQ_C1, _PQ_C2, _PQ_C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_HLG_A = 0.17883277
_HLG_B, _HLG_C = 1 - 4 * _HLG_A, 0.5 - _HLG_A * np.log(4 * _HLG_A)
_HLG_GAMMA = 1.2  # of a display with a peak of 1000 cd/m2

# linear BT.2020 -> BT.709, ITU-R BT.2407, section 2
_TO_709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008350],
        [-0.018151, -0.100579, 1.118730],
    ],
    np.float32,
)

_TRANSFER = {Hdr.PQ: "smpte2084", Hdr.HLG: "arib-std-b67"}  # ffmpeg's names

_BAND_ROWS = 4  # mapped at once: what a processor's cache holds
_NUM_CODES = 2**16
_NUM_STEPS = 2**12  # of the table of the display's gamma, spaced by the square root

Float = npt.NDArray[np.float32]


def tonemapped(stream: "VideoNode", hdr: Hdr) -> "VideoNode":
    """`stream`, which is HDR of that kind, as SDR: BT.709, limited range, 10 bit."""
    # the tags of a container do not reach a filter where the bitstream has others or none
    tagged = stream.filter(
        "setparams", colorspace="bt2020nc", color_primaries="bt2020", color_trc=_TRANSFER[hdr]
    )
    linear = tagged.filter("zscale", t="linear", npl=_WHITE_CD_M2).filter("format", "gbrpf32le")
    mapped = linear.filter("zscale", p="bt709").filter(
        "tonemap", tonemap=CURVE, param=_KNEE, peak=f"{_PEAK:.6f}", desat=0
    )
    return mapped.filter("zscale", t="bt709", m="bt709", r="limited").filter(
        "format", "yuv420p10le"
    )


def to_sdr(rgb_HWC: npt.NDArray[np.uint16], hdr: Hdr) -> npt.NDArray[np.uint8]:
    """A picture of BT.2100 as SDR for a display of BT.1886, as `tonemapped` makes it.

    Args:
        rgb_HWC: non-linear RGB (R'G'B' of BT.2100), full range, 0 to 65535.
        hdr: its transfer function.

    Returns:
        (H, W, 3) non-linear RGB of BT.709, full range.
    """
    width = rgb_HWC.shape[1]
    sdr_HWC = np.empty(rgb_HWC.shape, np.uint8)
    for first in range(0, len(rgb_HWC), _BAND_ROWS):
        rows = slice(first, first + _BAND_ROWS)
        mapped_CN = _pixels_to_sdr(rgb_HWC[rows].reshape(-1, 3).T, hdr)
        sdr_HWC[rows] = mapped_CN.T.reshape(-1, width, 3)
    return sdr_HWC


def _pixels_to_sdr(rgb_CN: npt.NDArray[np.uint16], hdr: Hdr) -> npt.NDArray[np.uint8]:
    light_CN = _TO_709 @ _light_of_codes(hdr)[rgb_CN]
    brightest_N = np.maximum(light_CN.max(axis=0), np.float32(1e-6))
    light_CN *= _mobius(brightest_N) / brightest_N
    steps_CN = np.sqrt(np.clip(light_CN, 0, 1)) * np.float32(_NUM_STEPS - 1) + np.float32(0.5)
    sdr_CN: npt.NDArray[np.uint8] = _code_of_steps()[steps_CN.astype(np.uint16)]
    return sdr_CN


def _mobius(light: Float) -> Float:
    """The curve `mobius` of ffmpeg's filter `tonemap` (libavfilter/vf_tonemap.c)."""
    j, peak = _KNEE, _PEAK
    a = -j * j * (peak - 1) / (j * j - 2 * j + peak)
    b = (j * j - 2 * j * peak + peak) / (peak - 1)
    factor = (b * b + 2 * b * j + j * j) / (b - a)
    bent = np.float32(factor) * (light + np.float32(a)) / (light + np.float32(b))
    return np.where(light <= np.float32(j), light, bent)


@functools.cache
def _light_of_codes(hdr: Hdr) -> Float:
    """The light that the display gives for each code, as a multiple of white."""
    code = np.arange(_NUM_CODES) / (_NUM_CODES - 1)
    if hdr == Hdr.PQ:
        power = code ** (1 / _PQ_M2)
        light = (np.maximum(power - _PQ_C1, 0) / (_PQ_C2 - _PQ_C3 * power)) ** (1 / _PQ_M1)
        return np.asarray(light * 10000 / _WHITE_CD_M2, np.float32)
    bright = (np.exp((code - _HLG_C) / _HLG_A) + _HLG_B) / 12
    scene = np.where(code <= 0.5, code**2 / 3, bright)
    # zscale raises each channel by itself, BT.2100 all by the power of their luma
    return np.asarray(scene**_HLG_GAMMA * _PEAK, np.float32)


@functools.cache
def _code_of_steps() -> npt.NDArray[np.uint8]:
    linear = (np.arange(_NUM_STEPS) / (_NUM_STEPS - 1)) ** 2
    return np.asarray(np.rint(255 * linear ** (1 / _SDR_GAMMA)), np.uint8)
