"""Rungs: size, codec and bits of one encode; an invalid rung cannot be created."""

from dataclasses import dataclass
from enum import StrEnum

from ladder.codecs import CODECS, X264
from ladder.errors import LadderFileError
from ladder.media.probe import Size

GOP_S = 2.0
"""Default seconds between key frames; streaming segments start at key frames."""


class RateMode(StrEnum):
    """How an encoder spends bits: a column of `encodes.csv`.

    A rung of a ladder has one of the first four; `ladder.treatments` has all.
    """

    VBR = "vbr"
    TWO_PASS = "two-pass"
    CRF = "crf"
    CAPPED_CRF = "capped-crf"
    CBR = "cbr"
    QSCALE = "qscale"  # one quantiser for all frames: MPEG-2, MPEG-4, JPEG
    PROFILE = "profile"  # the bitrate follows from a profile: ProRes, DNxHR


@dataclass(frozen=True, kw_only=True, slots=True)
class Rung:
    """One step of a bitrate ladder: a picture size, a codec, and how its bits are spent.

    The fields decide the rate mode: `bitrate_kbps` gives VBR with a peak, with `two_pass` two-pass
    VBR; `crf` gives CRF, with `maxrate_kbps` capped CRF. All encodes of one rung, over all sources,
    form a bitrate group. For a portrait source `height_px` is the width: it is the short side.

    Attributes:
        height_px: short side of the encode, even, 16 to 8192.
        codec: a key of `ladder.codecs.CODECS`.
        bitrate_kbps: average bitrate, 10 to 1000000.
        crf: constant quality, 1 (best) to the codec's `max_crf`.
        maxrate_kbps: peak over the time that the buffer lasts. Default: twice the bitrate.
        bufsize_kbps: size of the buffer, kilobits. Default: one second of the peak.
        two_pass: analyse the whole source in a first pass.
        bit_depth: 8 or 10; None keeps the source's.
        preset: effort, one of the codec's `presets`; None takes its `default_preset`.
        gop_s: seconds between key frames, 0.1 to 60.
        reencode_crf: scale the encode to the source's size and encode it again with x264 at this
            CRF, 1 to 51. The result has bad pictures in a good stream, as many uploads have.

    Raises:
        LadderFileError: no encoder accepts a value or a combination of values; the message names
            the key, the value and what is allowed.
    """

    height_px: int
    codec: str = "libx264"
    bitrate_kbps: int | None = None
    crf: int | None = None
    maxrate_kbps: int | None = None
    bufsize_kbps: int | None = None
    two_pass: bool = False
    bit_depth: int | None = None
    preset: str | None = None
    gop_s: float = GOP_S
    reencode_crf: int | None = None

    def __post_init__(self) -> None:
        _require_one_of("codec", self.codec, tuple(CODECS))
        codec = CODECS[self.codec]
        _require_whole("height_px", self.height_px, 16, 8192)
        if self.height_px % 2:
            raise LadderFileError(f"height_px is {self.height_px}, not an even number")
        for key in ("bitrate_kbps", "maxrate_kbps", "bufsize_kbps"):
            _require_whole(key, getattr(self, key), 10, 1_000_000)
        _require_whole("crf", self.crf, 1, codec.max_crf)
        _require_whole("reencode_crf", self.reencode_crf, 1, X264.max_crf)
        _require_one_of("two_pass", self.two_pass, (True, False))
        _require_one_of("bit_depth", self.bit_depth, (None, 8, 10))
        _require_one_of("preset", self.preset, (None, *codec.presets))
        _require_number("gop_s", self.gop_s, 0.1, 60)
        self._refuse_combinations()

    def _refuse_combinations(self) -> None:
        if (self.bitrate_kbps is None) == (self.crf is None):
            raise LadderFileError("a rung needs either bitrate_kbps or crf, and not both")
        if self.two_pass and self.crf is not None:
            raise LadderFileError("two_pass needs a bitrate_kbps; a crf takes one pass")
        if self.bufsize_kbps and not self.maxrate_kbps:
            raise LadderFileError("bufsize_kbps needs a maxrate_kbps")
        if self.maxrate_kbps and self.bitrate_kbps and self.maxrate_kbps < self.bitrate_kbps:
            raise LadderFileError(
                f"maxrate_kbps is {self.maxrate_kbps}, below the bitrate_kbps {self.bitrate_kbps}"
            )
        codec = CODECS[self.codec]
        if self.maxrate_kbps and self.bitrate_kbps and not codec.has_maxrate_with_bitrate:
            raise LadderFileError(f"{self.codec} takes a maxrate_kbps only together with a crf")
        if self.bufsize_kbps and self.crf is not None and not codec.has_bufsize_with_crf:
            raise LadderFileError(f"{self.codec} takes no bufsize_kbps together with a crf")

    @property
    def name(self) -> str:
        """File-safe and unique: `720p-3000k-x264`, `540p-crf28-vp9`."""
        return self._name_with("reencode")

    @property
    def former_name(self) -> str:
        """The name that version 0.1 gave the rung."""
        return self._name_with("laundered")

    def _name_with(self, reencode_word: str) -> str:
        return "-".join(
            [
                f"{self.height_px}p",
                f"{self.bitrate_kbps}k" if self.bitrate_kbps else f"crf{self.crf}",
                *([f"max{self.maxrate_kbps}k"] if self.maxrate_kbps else []),
                *([f"buf{self.bufsize_kbps}k"] if self.bufsize_kbps else []),
                *(["2pass"] if self.two_pass else []),
                CODECS[self.codec].short_name,
                *([f"{self.bit_depth}bit"] if self.bit_depth else []),
                *([self.preset] if self.preset else []),
                *([f"gop{self.gop_s:g}s"] if self.gop_s != GOP_S else []),
                *([f"{reencode_word}{self.reencode_crf}"] if self.reencode_crf else []),
            ]
        )

    @property
    def rate_mode(self) -> RateMode:
        """How the encoder spends bits."""
        if self.bitrate_kbps:
            return RateMode.TWO_PASS if self.two_pass else RateMode.VBR
        return RateMode.CAPPED_CRF if self.maxrate_kbps else RateMode.CRF

    def size_for(self, display_size: tuple[int, int]) -> Size:
        """The size of an encode, both sides even, with the aspect ratio of `display_size`."""
        width, height = display_size
        long_px = round(self.height_px * max(width, height) / min(width, height) / 2) * 2
        if width < height:
            return Size(self.height_px, long_px)
        return Size(long_px, self.height_px)


def _require_one_of(key: str, value: object, allowed: tuple[object, ...]) -> None:
    # compare types as well: 1 is not True, 8.0 is not 8
    if (value, type(value)) not in [(each, type(each)) for each in allowed]:
        words = ", ".join(str(each).lower() for each in allowed if each is not None)
        raise LadderFileError(f"{key} is {value!r}, not one of {words}")


def _require_whole(key: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise LadderFileError(f"{key} is {value!r}, not a whole number from {low} to {high}")


def _require_number(key: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and low <= value <= high):  # type: ignore[operator]  # narrowed above
        raise LadderFileError(f"{key} is {value!r}, not a number from {low:g} to {high:g}")
