"""What a model is shown of a video: chosen frames, and what the stream says of its own coding.

The pixel convention relied on everywhere: RGB, uint8 in files, arrays and caches; float32 in [0, 1]
from `as_float` onward; mean and deviation are the model's own business. Pixels are (T, C, H, W) at
display size; an image is a clip with T = 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ladder.ffmpeg import Ffmpeg
from ladder.frames import display_size, frames_at, spread
from ladder.probe import LENIENT, Decoding, VideoInfo
from ladder.stream import coded_pictures
from vqatool.stream import UNKNOWN, StreamFacts, stream_facts


class Burst(NamedTuple):
    """How many frames are taken from each chosen time on, every `stride`-th that is shown."""

    frames: int = 1
    stride: int = 1


USUAL_BURSTS = 8
"""Places in a clip that a model looks at, if not said otherwise."""


class Clip(NamedTuple):
    """Frames (T, 3, H, W) uint8 of a part of a video, and the facts of that part's stream.

    The frames are bursts, one after another, of `burst` frames each.
    """

    pixels_TCHW: Tensor
    burst: int = 1
    stream: StreamFacts = UNKNOWN

    @property
    def first_TCHW(self) -> Tensor:
        """The first frame of each burst."""
        return self.pixels_TCHW[:: self.burst]

    def cut_to(self, frames: int, every: int = 1) -> "Clip":
        """The same with bursts of `frames` frames, every so many of those there are."""
        bursts = self.pixels_TCHW.reshape(-1, self.burst, *self.pixels_TCHW.shape[1:])
        chosen = bursts[:, : frames * every : every]
        return self._replace(pixels_TCHW=chosen.flatten(0, 1), burst=frames)

    @property
    def second_TCHW(self) -> Tensor | None:
        """The second frame of each burst; None where a burst is one frame."""
        return self.pixels_TCHW[1 :: self.burst] if self.burst > 1 else None


class View(Protocol):
    """A clip -> one model input; None for the generator: no chance.

    Pixels come out as uint8 (T, C, h, w), figures as float: of each frame (T, K), of all (F,).
    """

    def __call__(self, clip: Clip, *, generator: torch.Generator | None) -> Tensor: ...


@dataclass(frozen=True)
class Sight:
    """How a model looks at videos, without the model: fit to be sent to another process.

    It looks at `bursts` bursts. `ffmpeg` reads the stream's headers; None leaves its facts unknown.
    `threads` decode; 0: as many as there are cores.
    """

    views: tuple[View, ...]
    bursts: int
    burst: Burst
    ffmpeg: Ffmpeg | None
    threads: int = 0

    def look_at(
        self,
        info: VideoInfo,
        display: tuple[int, int] | None,
        *,
        start_s: float = 0.0,
        length_s: float | None = None,
        is_strict: bool = False,
    ) -> list[Tensor]:
        """The model's views of a part of a video; arguments and errors are those of `read_clip`."""
        clip = read_clip(
            info,
            self.bursts,
            self.burst,
            display,
            start_s=start_s,
            length_s=length_s,
            ffmpeg=self.ffmpeg,
            decoding=Decoding(self.threads, is_strict),
        )
        return self.see(clip)

    def see(self, clip: Clip) -> list[Tensor]:
        """The model's views of one clip, small; nothing in them is left to chance."""
        return see(self.views, clip)


def see(views: Sequence[View], clip: Clip) -> list[Tensor]:
    """One clip through every view, without chance."""
    return [view(clip, generator=None) for view in views]


def read_clip(
    info: VideoInfo,
    bursts: int,
    burst: Burst,
    display: tuple[int, int] | None,
    *,
    start_s: float = 0.0,
    length_s: float | None = None,
    ffmpeg: Ffmpeg | None = None,
    decoding: Decoding = LENIENT,
) -> Clip:
    """Bursts of frames spread over a part of a video, scaled to the display they are judged on.

    Args:
        info: what `probe` said of the file.
        bursts: how many; they start in the middles of equal parts.
        burst: frames of each; closer together where the next burst is too near.
        display: (width, height) of the screen, px; None judges pixel for pixel.
        start_s: where the part begins.
        length_s: how long it is; None takes all the rest.
        ffmpeg: program that reads the stream's headers; None leaves its facts unknown.
        decoding: how.

    Raises:
        VideoError: the file cannot be decoded.
    """
    size = display_size(info, display)
    rest_s = info.duration_s - start_s if length_s is None else length_s
    times_s = burst_times(start_s, rest_s, bursts, burst, float(info.fps))
    pixels_THWC = frames_at(info, times_s, size, decoding)
    facts = UNKNOWN
    if ffmpeg:
        pictures = coded_pictures(info, ffmpeg, start_s=start_s, length_s=length_s)
        facts = stream_facts(info, pictures, size)
    return Clip(torch.from_numpy(pixels_THWC).permute(0, 3, 1, 2), burst.frames, facts)


def burst_times(
    start_s: float, length_s: float, bursts: int, burst: Burst, fps: float
) -> list[float]:
    """Seconds at which the frames of all bursts are shown, ascending."""
    # not beyond the next burst, where bursts lie closer than frames
    most_s = length_s / bursts / max(1, burst.frames - 1)
    step_s = min(burst.stride / fps, most_s)
    starts_s = spread(start_s, length_s, bursts)
    return [begin_s + step_s * index for begin_s in starts_s for index in range(burst.frames)]


def is_pixels(view: Tensor) -> bool:
    """Whether a view of one clip is pixels (T, C, h, w), not figures (T, K) or (F,)."""
    return view.ndim == 4


def stack(views: Sequence[Tensor]) -> Tensor:
    """The same view of several clips as one batch: pixels become float32 in [0, 1]."""
    batch = torch.stack(list(views))
    return as_float(batch) if batch.dtype == torch.uint8 else batch


def as_float(clip: Tensor) -> Tensor:
    """uint8 of any shape -> float32 in [0, 1]."""
    return clip.float() / 255
