"""No-reference video quality, from the ladder to the audit.

    source --ladder--> encodes --label--> labels --train--> model --score--> report

Stages 1 and 2 (`ladder`, a package of its own) make encodes and measure their VMAF with ffmpeg;
stage 3 (`groups`) splits them by source into bitrate groups; stage 4 (`train`) learns by the recipe
of a published method (`recipes`); stage 5 (`scoring`) audits any videos; stage 6 (`report`) tells
people. Each stage leaves one CSV, and run again it does only what is missing.

`vqatool.score` is stage 5 for other programs.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to load, and most of the package needs none
    from vqatool.scoring.rows import ReportRow

__version__ = "0.1.0"

__all__ = ["score"]


def score(
    paths: Iterable[str | Path],
    *,
    out: Path | None = None,
    model: Path | None = None,
    display: tuple[int, int] | None = (1920, 1080),
    segment_s: float = 10.0,
    device: str = "auto",
    jobs: int | None = None,
    timeout_s: float = 120.0,
) -> "Iterator[ReportRow]":
    """Score videos; yields the rows that `vqatool score` writes, each as soon as it is known.

        if __name__ == "__main__":
            for row in vqatool.score(["encodes/"]):
                print(row.path, row.score, row.error)

    Videos are read in processes of their own, so a script needs the line that keeps its work out of
    them, as with any use of `multiprocessing`.

    Args:
        paths: files and folders.
        out: report to keep: rows that it holds already come first and are not scored again.
        model: model file; None: the packaged one.
        display: (width, height) of the screen in px; None judges pixel for pixel.
        segment_s: seconds that get a score of their own.
        device: `auto` or a torch device.
        jobs: processes that read videos; None: one for each core, four at most.
        timeout_s: how long one may take for two segments before the file is given up.

    Raises:
        CheckpointError: the model file is missing or broken.
        ReportError: `out` holds something else, or another run writes it.
        ValueError: torch has no such device.
    """
    from vqatool.scoring.api import score_paths

    return score_paths(
        map(Path, paths), out, model, display, segment_s, device, jobs=jobs, timeout_s=timeout_s
    )
