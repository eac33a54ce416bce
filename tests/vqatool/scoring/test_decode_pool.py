"""Processes that crash, hang or fail: each is a row, and the others go on."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import MakeVideo
from vqatool.inputs.clip import Clip, FrameGroup
from vqatool.inputs.preprocessor import ClipPreprocessor
from vqatool.scoring.decode_pool import DecoderPool
from vqatool.scoring.segments import SEGMENTS_PER_TASK, DecodedSegments, ScoreOptions

NATIVE = ScoreOptions(display=None)


def mean_view(clip: Clip, *, generator: torch.Generator | None) -> Tensor:
    """Mean of each frame; a sight that hurts where the picture is black, or white."""
    means_T = clip.pixels_TCHW.float().mean((1, 2, 3))
    if means_T.max() < 30:
        os.kill(os.getpid(), signal.SIGSEGV)
    if means_T.min() > 225:
        time.sleep(60)
    if means_T.max() > 130:
        raise AttributeError("a fault")
    return means_T


SIGHT = ClipPreprocessor((mean_view,), 2, FrameGroup(), None)


def looks_at(
    videos: list[Path], options: ScoreOptions = NATIVE, *, jobs: int = 2, timeout_s: float = 30
) -> list[list[DecodedSegments]]:
    with DecoderPool(SIGHT, options, jobs=jobs, timeout_s=timeout_s) as pool:
        return [list(decoded) for decoded in pool.decode(videos)]


@pytest.fixture(scope="module")
def videos(make_video: MakeVideo) -> dict[str, Path]:
    return {
        colour: make_video(f"{colour}.mp4", f"color={colour}:size=64x48:rate=5:duration=4")
        for colour in ("black", "white", "gray", "silver")
    }


def test_a_crash_a_hang_and_a_fault_are_rows_and_the_others_go_on(videos: dict[str, Path]) -> None:
    order = ["gray", "black", "gray", "white", "gray", "silver"]
    found = looks_at([videos[colour] for colour in order], timeout_s=5)
    rows = [decoded[-1].row for decoded in found]
    assert [row.error_code for row in rows] == ["", "crashed", "", "timeout", "", "internal"]
    assert "SIGSEGV" in rows[1].error
    assert "--timeout" in rows[3].error
    assert "AttributeError('a fault')" in rows[5].error
    assert [row.path for row in rows] == [str(videos[colour]) for colour in order]
    assert [len(decoded[0].segments) for decoded in found] == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("jobs", [1, 3])
def test_segments_of_a_long_video_come_in_order(videos: dict[str, Path], jobs: int) -> None:
    options = ScoreOptions(display=None, segment_s=0.2)
    (decoded,) = looks_at([videos["gray"]], options, jobs=jobs)
    segments = [
        segment for decode_first_segments in decoded for segment in decode_first_segments.segments
    ]
    assert len(segments) == 20 == decoded[0].count
    assert (
        max(len(decode_first_segments.segments) for decode_first_segments in decoded)
        == SEGMENTS_PER_TASK
    )
    assert [segment.start_s for segment in segments] == pytest.approx([k / 5 for k in range(20)])
    assert segments[-1].end_s == pytest.approx(4)


def test_a_crash_in_the_middle_ends_the_video_and_not_the_next_one(
    videos: dict[str, Path], make_video: MakeVideo
) -> None:
    fade = (
        "color=gray:size=64x48:rate=5:duration=8,drawbox=color=black:t=fill:enable='between(t,4,5)'"
    )
    options = ScoreOptions(display=None, segment_s=1.0)
    first, second = looks_at([make_video("fade.mp4", fade), videos["gray"]], options)
    assert [len(decode_first_segments.segments) for decode_first_segments in first] == [
        SEGMENTS_PER_TASK,
        SEGMENTS_PER_TASK,
        0,
    ]
    assert first[-1].row.error_code == "crashed"
    assert first[-1].row.duration_s == 8  # its facts stay
    assert [decode_first_segments.row.status for decode_first_segments in second] == ["ok", "ok"]


def test_what_cannot_be_opened_is_a_row(videos: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    bad = [tmp_path / "gone.mp4", tmp_path / "empty.mp4", tmp_path, videos["gray"]]
    rows = [decoded[-1].row for decoded in looks_at(bad)]
    assert [row.error_code for row in rows] == ["missing", "empty", "missing", ""]


def test_pools_leave_no_process_behind(videos: dict[str, Path]) -> None:
    import psutil

    looks_at([videos["gray"]])
    here = psutil.Process()
    names = [" ".join(child.cmdline()) for child in here.children(recursive=True)]
    # the server and the tracker of resources wait for the next pool
    assert len([name for name in names if "multiprocessing" in name]) <= 2
    assert len(names) <= 3


def meeting_view(clip: Clip, *, generator: torch.Generator | None, place: Path) -> Tensor:
    """Nothing, but not before two processes are here."""
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < 2:
        time.sleep(0.01)
    return torch.zeros(1)


def test_as_many_videos_are_looked_at_at_once_as_there_are_jobs(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    preprocessor = ClipPreprocessor((partial(meeting_view, place=tmp_path),), 2, FrameGroup(), None)
    with DecoderPool(preprocessor, NATIVE, jobs=2, timeout_s=20) as pool:
        rows = [list(decoded)[-1].row for decoded in pool.decode([videos["gray"]] * 2)]
    assert [row.error for row in rows] == ["", ""]
    assert len(list(tmp_path.iterdir())) == 2


FAULTS = """
import ctypes, resource
import numpy as np
from vqatool.scoring.decode_pool import _settle

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

_settle()
print(faults(), faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="of glibc alone")
def test_memory_of_one_task_is_there_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    first, second = map(int, done.stdout.split())
    assert second < first / 10
