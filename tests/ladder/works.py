"""What tests of the ladder stage share: a ladder made in one call, and frames that are numbered."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import av
import numpy as np

from ladder.encode.ladders import Ladder
from ladder.encode.plan import EncodeRow, LadderPlan, plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.media.ffmpeg import Ffmpeg
from ladder.media.time_ranges import FULL, TrimSpec
from ladder.media.upright import Pixels
from tests.conftest import EXACT, MakeVideo

NUMBERED = 64
"""Height of a `numbered` video: a rung of that size keeps its 128x64."""

_BAR_PX, _BARS = 16, 8
_SCENE = (
    f"nullsrc=size={_BAR_PX * _BARS}x{NUMBERED}:rate={{rate}},format=yuv420p,"
    f"geq=lum='if(mod(floor(N/pow(2,floor(X/{_BAR_PX}))),2),200,40)':cb=128:cr=128"
)


def planned(
    sources: Iterable[Path], rungs: Sequence[Rung], folder: Path, trim: TrimSpec = FULL
) -> LadderPlan:
    return plan_ladder(sources, Ladder(tuple(rungs)), folder, trim)


def made(
    sources: Iterable[Path],
    rungs: Sequence[Rung],
    folder: Path,
    ffmpeg: Ffmpeg,
    trim: TrimSpec = FULL,
    jobs: int = 1,
) -> list[EncodeRow]:
    """Plan and make; the rows in the order of the finished table."""
    rows = make_encodes(planned(sources, rungs, folder, trim), folder, ffmpeg, jobs=jobs)
    return sorted(rows, key=lambda row: row.key)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def numbered(
    make_video: MakeVideo,
    name: str,
    rate: str = "25",
    frames: int = 125,
    keep: str = "1",
    args: Sequence[str] = EXACT,
) -> Path:
    """A lossless video whose frames show their number in binary, as eight bars; 256 at the most.

    `keep` says which of them are written, as a `select` expression of n: without some the frame
    rate varies.
    """
    scene = f"{_SCENE.format(rate=rate)},trim=end_frame={frames},select='{keep}'"
    return make_video(name, scene, ("-fps_mode", "passthrough", *args))


def numbers_in(video: Path) -> list[int]:
    """The numbers of `numbered` frames, read off an encode of them."""
    with av.open(str(video)) as container:
        lumas = [
            np.asarray(frame.to_ndarray(format="gray"), np.uint8)
            for frame in container.decode(video=0)
        ]
    return [number_of(luma) for luma in lumas]


def number_of(luma: Pixels) -> int:
    """The number of one `numbered` frame."""
    middles = [_BAR_PX * bar + _BAR_PX // 2 for bar in range(_BARS)]
    return sum(int(luma[NUMBERED // 2, x] > 120) << bar for bar, x in enumerate(middles))
