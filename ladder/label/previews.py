"""Previews: a small luma plane of every frame, written by the ffmpeg process that measures it.

The frames are decoded for libvmaf anyway, so that all of a film can be searched for a shift at the
price of scaling it down. Of a long film there are windows, evenly spread.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ladder.media.filters import OutputNode, VideoNode, output
from ladder.media.probe import VideoInfo

PREVIEW_SIZE = (96, 54)
"""Width and height of a preview in pixels."""

REACH_S = 5
"""How far a shift is looked for, in seconds to either side."""

_NUM_WINDOWS, _WINDOW_S, _WHOLE_S = 16, 16, 240
_SHORT_S, _STEP = 10, 3  # of a longer encode, every third frame: no period of a changed frame rate

Planes: TypeAlias = npt.NDArray[np.uint8]
"""Luma planes (T, 5184), full range, each row one frame."""


@dataclass(frozen=True)
class Previews:
    """Small luma planes of a video.

    Attributes:
        numbers: the number of each frame in the video, ascending.
        planes: (T, 5184) luma.
    """

    numbers: npt.NDArray[np.int64]
    planes: Planes


@dataclass(frozen=True)
class PreviewFiles:
    """Where previews of a source and its encodes are written, and of which frames.

    Attributes:
        folder: of one run of ffmpeg.
        source: the source.
        length_s: its seconds, which tell whether all frames have previews or windows of 16 s.

    Of an encode of more than 10 s every third frame has one.
    """

    folder: Path
    source: VideoInfo
    length_s: Fraction

    def of_source(self, stream: VideoNode, until_s: Fraction) -> OutputNode:
        """The output that writes the previews of the source up to a time."""
        return self._output(stream, "source", self.source.fps, until_s, 1)

    def of_encode(self, stream: VideoNode, index: int, fps: Fraction) -> OutputNode:
        """The output that writes the previews of the n-th encode."""
        return self._output(stream, str(index), fps, self.length_s, self._step)

    def read_source(self) -> Previews:
        """The previews of the source."""
        return self._read("source", self.source.fps, 1)

    def read_encode(self, index: int, fps: Fraction) -> Previews:
        """The previews of the n-th encode."""
        return self._read(str(index), fps, self._step)

    @property
    def _step(self) -> int:
        return _STEP if self.length_s > _SHORT_S else 1

    def _output(
        self, stream: VideoNode, name: str, fps: Fraction, until_s: Fraction, step: int
    ) -> OutputNode:
        end = ceil((until_s + REACH_S) * fps)  # the rest of a longer video is not decoded for this
        stream = stream.filter("trim", end_frame=end)
        spacing, length = self._windows(fps)
        if spacing:
            stream = stream.filter("select", f"lt(mod(n,{spacing}),{length})")
        if step > 1:
            stream = stream.filter("select", f"not(mod(n,{step}))")
        stream = stream.filter("scale", *PREVIEW_SIZE, flags="area").filter("format", "gray")
        return output(stream, self._path(name), format="rawvideo", fps_mode="passthrough")

    def _read(self, name: str, fps: Fraction, step: int) -> Previews:
        path, size = self._path(name), PREVIEW_SIZE[0] * PREVIEW_SIZE[1]
        data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
        planes = data[: data.size - data.size % size].reshape(-1, size)
        numbers = step * np.arange(len(planes), dtype=np.int64)
        spacing, length = self._windows(fps)
        if spacing:
            numbers = spacing * (numbers // length) + numbers % length
        return Previews(numbers, planes)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.gray"

    def _windows(self, fps: Fraction) -> tuple[int, int]:
        """Frames from window to window, and of one; 0: all frames have previews."""
        is_long = self.length_s > _WHOLE_S
        return round(self.length_s * fps / _NUM_WINDOWS) if is_long else 0, round(_WINDOW_S * fps)
