"""The codecs of this program, one record each: to add an encoder, add one entry to `CODECS`.

A record holds everything that differs between encoders: the options of ffmpeg, the scale of the
CRF, how the headers of its streams name the quantiser, and how it codes a single picture. This
module imports nothing of the package, so every other module may use it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

Settings = dict[str, str | int]
"""Options of an encoder: ffmpeg's name without the dash, and the value."""


PASS_LOG = "pass"
"""File name that both passes of a two-pass encode share, in the folder they run in."""


class RateTarget(Protocol):
    """How many bits an encode may spend: either `bitrate_kbps` or `crf` is set."""

    @property
    def bitrate_kbps(self) -> int | None:
        """Average bitrate."""

    @property
    def crf(self) -> int | None:
        """Constant quality."""

    @property
    def maxrate_kbps(self) -> int | None:
        """Peak bitrate over the time that the buffer lasts."""

    @property
    def bufsize_kbps(self) -> int | None:
        """Size of the buffer, in kilobits."""


@dataclass(frozen=True, kw_only=True)
class Quantiser:
    """Where the headers of a coded format hold the quantiser, and what its numbers mean.

    Attributes:
        element: syntax element of a picture or slice, as ffmpeg's trace_headers names it.
        base_element: syntax element that is added to it; "" if there is none.
        base: number that is added to both.
        log2_step: binary logarithm of the quantiser's step, in units of an 8 bit sample.
    """

    element: str
    base_element: str = ""
    base: int = 0
    log2_step: Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class CodedFormat:
    """What an encoder writes: FFmpeg's name of the format, such as `h264`, which probing reports.

    `quantiser` is None if the headers are not read; then a stream gives packet sizes only.
    """

    name: str
    quantiser: Quantiser | None = None


@dataclass(frozen=True, kw_only=True)
class StillCoding:
    """How one picture is encoded and decoded with PyAV.

    Attributes:
        decoder: FFmpeg's name of the decoder.
        settings: the encoder's options for a quality; a higher number is worse.
        levels: qualities from hardly visible to worst, for synthetic distortions.
        pix_fmt: pixel format of the encoder.
    """

    decoder: str
    settings: Callable[[int], Settings]
    levels: tuple[int, ...]
    pix_fmt: str = "yuv420p"


def constrained_rate(rate: RateTarget) -> Settings:
    """`crf` or `b:v`, with `maxrate` and `bufsize`; the default peak is twice the bitrate."""
    settings: Settings = {"b:v": f"{rate.bitrate_kbps}k"} if rate.crf is None else {"crf": rate.crf}
    peak_kbps = rate.maxrate_kbps or 2 * (rate.bitrate_kbps or 0)
    if not peak_kbps:
        return settings
    return {
        **settings,
        "maxrate": f"{peak_kbps}k",
        "bufsize": f"{rate.bufsize_kbps or peak_kbps}k",
    }


def pass_options(settings: Settings, number: int) -> Settings:
    """`settings` for pass 1 or 2, by ffmpeg's general options."""
    return {**settings, "pass": number, "passlogfile": PASS_LOG}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """One encoder of ffmpeg and everything the program knows about it.

    Attributes:
        encoder: ffmpeg's name, which `--codec` and ladder files use.
        short_name: part of a rung's name; file-safe, without a dash.
        format: the coded format it writes.
        max_crf: largest CRF; the smallest is 1.
        presets: efforts, by the encoder's own names.
        default_preset: one of `presets`; a good production compromise, fixed so that encodes of
            one rung stay comparable.
        encode_cost: seconds per pixel relative to x264, roughly; weighs the work for the ETA.
        bitrate_factor: bitrate for the same quality relative to x264, roughly; puts rungs of an
            adaptive ladder in order before they are measured.
        training_crfs: CRFs of the `training` ladder; none: the ladder leaves the codec out.
        preset_settings: options for a preset.
        rate_settings: options for a bitrate or CRF.
        gop_settings: options for closed groups of that many frames.
        pass_settings: the options of an encode, changed for pass 1 or 2.
        has_maxrate_with_bitrate: takes a peak together with a bitrate.
        has_bufsize_with_crf: takes a buffer size together with a CRF.
        still: how it codes one picture; None: it is not used for synthetic distortions.
    """

    encoder: str
    short_name: str
    format: CodedFormat
    max_crf: int
    presets: tuple[str, ...]
    default_preset: str
    encode_cost: float
    bitrate_factor: float
    training_crfs: tuple[int, ...] = ()
    preset_settings: Callable[[str], Settings] = lambda preset: {"preset": preset}
    rate_settings: Callable[[RateTarget], Settings] = constrained_rate
    gop_settings: Callable[[int], Settings] = lambda num_frames: {"g": num_frames}
    pass_settings: Callable[[Settings, int], Settings] = pass_options
    has_maxrate_with_bitrate: bool = True
    has_bufsize_with_crf: bool = True
    still: StillCoding | None = None


def _h26x_log2_step(qp: int) -> float:
    """The step doubles every 6 of QP and is 1 at QP 4 (ITU-T H.264, 8.5.8 to 8.5.12)."""
    return (qp - 4) / 6


def _vp9_log2_step(index: int) -> float:
    """The AC table of 8 bit video in units of an eighth of a sample (VP9 specification, 8.6.1).

    The table is a line up to index 95 and close to two exponentials above it (within 3 %). AV1 has
    the same table.
    """
    if index <= 95:
        return math.log2((index + 7) / 8)
    if index <= 137:
        return math.log2(102 / 8) + (index - 95) * math.log2(203 / 102) / 42
    return math.log2(203 / 8) + (index - 137) * math.log2(1828 / 203) / 118


H264 = CodedFormat(
    name="h264",
    quantiser=Quantiser(
        element="slice_qp_delta",
        base_element="pic_init_qp_minus26",
        base=26,
        log2_step=_h26x_log2_step,
    ),
)
HEVC = CodedFormat(
    name="hevc",
    quantiser=Quantiser(
        element="slice_qp_delta",
        base_element="init_qp_minus26",
        base=26,
        log2_step=_h26x_log2_step,
    ),
)
VP9 = CodedFormat(name="vp9", quantiser=Quantiser(element="base_q_idx", log2_step=_vp9_log2_step))
AV1 = CodedFormat(name="av1", quantiser=Quantiser(element="base_q_idx", log2_step=_vp9_log2_step))

_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower",
                 "veryslow")  # fmt: skip


def _x264_gop(num_frames: int) -> Settings:
    # x264 writes open groups only if asked to
    return {"g": num_frames, "keyint_min": num_frames, "sc_threshold": 0, "flags": "+cgop"}


def _x265_gop(num_frames: int) -> Settings:
    keyint = f"keyint={num_frames}:min-keyint={num_frames}"
    return {"x265-params": f"{keyint}:scenecut=0:open-gop=0:log-level=error"}


def _x265_pass(settings: Settings, number: int) -> Settings:
    # x265 reads the pass only from its own parameters
    passes = f"pass={number}:stats={PASS_LOG}.log"
    return {**settings, "x265-params": f"{settings['x265-params']}:{passes}"}


def _vp9_rate(rate: RateTarget) -> Settings:
    if rate.crf is None:
        return constrained_rate(rate)
    # VP9 reads a CRF as a limit to quality, and the bitrate as the cap; 0 removes the cap
    return {"crf": rate.crf, "b:v": f"{rate.maxrate_kbps}k" if rate.maxrate_kbps else 0}


def _svtav1_rate(rate: RateTarget) -> Settings:
    if rate.crf is not None:
        return constrained_rate(rate)
    # SVT-AV1 refuses a peak with a bitrate, and on several threads no two runs give the same bits
    return {"b:v": f"{rate.bitrate_kbps}k", "svtav1-params": "lp=1"}


X264 = Codec(
    encoder="libx264",
    short_name="x264",
    format=H264,
    max_crf=51,
    presets=_X26X_PRESETS,
    default_preset="medium",
    encode_cost=1.0,
    bitrate_factor=1.0,
    training_crfs=(20, 28, 36, 44),
    gop_settings=_x264_gop,
    still=StillCoding(
        decoder="h264",
        settings=lambda crf: {"crf": crf, "preset": "medium"},
        levels=(20, 25, 30, 35, 40, 46),
    ),
)
"""The codec whose CRF scale, cost and efficiency the other records are compared with."""


CODECS: dict[str, Codec] = {
    codec.encoder: codec
    for codec in (
        X264,
        Codec(
            encoder="libx265",
            short_name="x265",
            format=HEVC,
            max_crf=51,
            presets=_X26X_PRESETS,
            default_preset="fast",
            encode_cost=2.5,
            bitrate_factor=0.7,
            training_crfs=(22, 30, 38, 46),
            gop_settings=_x265_gop,
            pass_settings=_x265_pass,
            still=StillCoding(
                decoder="hevc",
                settings=lambda crf: {
                    "crf": crf,
                    "preset": "medium",
                    "x265-params": "log-level=none:pools=none:frame-threads=1",
                },
                levels=(20, 26, 31, 36, 41, 47),
            ),
        ),
        Codec(
            encoder="libvpx-vp9",
            short_name="vp9",
            format=VP9,
            max_crf=63,
            presets=tuple(map(str, range(9))),  # its own word for a preset is cpu-used
            default_preset="4",
            encode_cost=2.5,
            bitrate_factor=0.75,
            training_crfs=(25, 38, 50, 60),
            preset_settings=lambda preset: {"deadline": "good", "cpu-used": preset, "row-mt": 1},
            rate_settings=_vp9_rate,
            has_bufsize_with_crf=False,
            still=StillCoding(
                decoder="libvpx-vp9",
                settings=lambda crf: {"crf": crf, "b": 0, "cpu-used": 4},
                levels=(20, 30, 40, 48, 55, 63),
            ),
        ),
        Codec(
            encoder="libsvtav1",
            short_name="svtav1",
            format=AV1,
            max_crf=63,
            presets=tuple(map(str, range(14))),
            default_preset="8",
            encode_cost=1.0,
            bitrate_factor=0.6,
            training_crfs=(25, 38, 50, 60),
            rate_settings=_svtav1_rate,
            has_maxrate_with_bitrate=False,
            still=StillCoding(
                decoder="libdav1d",
                settings=lambda crf: {"crf": crf, "preset": 8, "svtav1-params": "lp=1"},
                levels=(20, 30, 40, 48, 55, 63),
            ),
        ),
    )
}
"""Every encoder a ladder may name, by ffmpeg's name of it."""


JPEG = StillCoding(
    decoder="mjpeg",
    settings=lambda quantiser: {"qmin": quantiser, "qmax": quantiser},
    levels=(3, 6, 10, 16, 23, 31),
    pix_fmt="yuvj420p",
)
"""JPEG as cameras and the web write it: for pictures only, so it is not in `CODECS`."""


def coded_formats() -> dict[str, CodedFormat]:
    """The formats that the encoders of `CODECS` write, by name."""
    return {codec.format.name: codec.format for codec in CODECS.values()}


def still_codings() -> dict[str, StillCoding]:
    """JPEG and the codecs that can code one picture, by the name of the encoder."""
    stills = {codec.encoder: codec.still for codec in CODECS.values() if codec.still}
    return {"mjpeg": JPEG, **stills}
