"""Views for decoding processes, some of which crash, hang or exhaust them by a picture's shade.

Each new process loads this module, so it must be light.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vqatool.inputs.clip import Array, Clip, View

if TYPE_CHECKING:
    from tests.conftest import MakeVideo

CODES = {"black": "crashed", "white": "timeout", "0x989898": "out_of_memory"}
WORDS = ("SIGSEGV", "took over", "memory")  # of the reasons, in this order


def hang(marks: Path) -> None:
    """Wait until this process is killed, and tell by a file of its number that it does.

    With the fixture `marks`, no other process takes too long, however busy the machine is.
    """
    (marks / str(os.getpid())).touch()
    time.sleep(600)


def faulty_view(
    clip: Clip, *, generator: np.random.Generator | None, view: View, marks: Path
) -> Array:
    """The view, except that black crashes, white hangs, and one grey uses all memory."""
    channels = clip.pixels_TCHW.mean((0, 2, 3))
    if channels.max() < 10:
        os.kill(os.getpid(), signal.SIGSEGV)
    if channels.min() > 245:
        hang(marks)
    if np.abs(channels - 0x98).max() < 4:
        np.empty(1 << 50)
    return view(clip, generator=generator)


def with_faults(views: tuple[View, ...], marks: Path) -> tuple[View, ...]:
    return tuple(partial(faulty_view, view=view, marks=marks) for view in views)


def faulty_videos(make_video: "MakeVideo") -> list[Path]:
    """One video for each of `CODES`, in that order."""
    return [
        make_video(f"fault-{colour}.mp4", f"color={colour}:size=160x90:rate=5:duration=2")
        for colour in CODES
    ]


def wait_for_three_processes(
    clip: Clip, *, generator: np.random.Generator | None, folder: Path
) -> Array:
    """A view that waits until three processes have each written a file to `folder`."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 3:
        time.sleep(0.01)
    return clip.pixels_TCHW[:, :, :4, :4]
