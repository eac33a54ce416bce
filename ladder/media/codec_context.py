"""Create an encoder or decoder of PyAV for single frames, without starting a process."""

from typing import Literal

import av
from av.video.codeccontext import VideoCodecContext

from ladder.errors import CapabilityError


def codec_context(codec: str, mode: Literal["r", "w"]) -> VideoCodecContext:
    """A decoder (`r`) or encoder (`w`) with one thread, so that two runs give the same bits.

    Raises:
        CapabilityError: this build of PyAV lacks the codec.
    """
    try:
        context = av.CodecContext.create(codec, mode)
    except (ValueError, av.FFmpegError) as error:
        kind = "encoder" if mode == "w" else "decoder"
        raise CapabilityError(
            f"PyAV has no {kind} {codec}: install its wheel (pip install --force-reinstall "
            "--only-binary av av)"
        ) from error
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return context
