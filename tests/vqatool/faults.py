"""Views that crash, hang or exhaust the decoding process, chosen by the shade of the picture."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from tests.conftest import MakeVideo
from vqatool.inputs.clip import Array, Clip, View

CODES = {"black": "crashed", "white": "timeout", "0x989898": "out_of_memory"}
WORDS = ("SIGSEGV", "took over", "memory")  # of the reasons, in this order


def faulty_view(clip: Clip, *, generator: np.random.Generator | None, view: View) -> Array:
    """The view, except that black crashes, white hangs, and one grey uses all memory."""
    channels = clip.pixels_TCHW.mean((0, 2, 3))
    if channels.max() < 10:
        os.kill(os.getpid(), signal.SIGSEGV)
    if channels.min() > 245:
        time.sleep(60)
    if np.abs(channels - 0x98).max() < 4:
        np.empty(1 << 50)
    return view(clip, generator=generator)


def with_faults(views: tuple[View, ...]) -> tuple[View, ...]:
    return tuple(partial(faulty_view, view=view) for view in views)


def faulty_videos(make_video: MakeVideo) -> list[Path]:
    """One video for each of `CODES`, in that order."""
    return [
        make_video(f"fault-{colour}.mp4", f"color={colour}:size=160x90:rate=5:duration=2")
        for colour in CODES
    ]
