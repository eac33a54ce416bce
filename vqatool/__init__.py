"""No-reference video quality, from bitrate ladders to scores.

    source --ladder--> encodes --label--> labels --train--> model --score--> report

`vqatool.score` scores videos for other programs; the commands do the rest. Each stage writes one
CSV file, and a repeated run does only what is missing.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `import vqatool` loads nothing heavy
    from vqatool.scoring.rows import ReportRow

# torch's threads wait for each other by spinning, which takes the cores from the processes that
# decode. OpenMP reads this when torch is loaded, and every entry imports this package first.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"

__all__ = ["score"]


def score(
    paths: str | Path | Iterable[str | Path],
    *,
    out: str | Path | None = None,
    model: str | Path | None = None,
    display: tuple[int, int] | None = (1920, 1080),
    segment_s: float = 10.0,
    device: str = "auto",
    jobs: int | None = None,
    timeout_s: float = 120.0,
) -> "Iterator[ReportRow]":
    """Score videos; yields the rows that `vqatool score` writes, each as soon as it is known.

        if __name__ == "__main__":
            for row in vqatool.score("encodes/"):
                print(row.path, row.score, row.error)

    Worker processes decode the videos, so a script needs the `if` above, as with any use of
    `multiprocessing`.

    Args:
        paths: a file or a folder, or several of them.
        out: report to keep: rows that it holds already come first and are not scored again.
        model: model file, .onnx or .safetensors; None: the packaged one.
        display: (width, height) of the screen in px; None scores pixel for pixel.
        segment_s: length in seconds of the segments that get a score of their own.
        device: `cpu`, `auto` (a GPU where there is one and torch is installed), or another device
            of torch.
        jobs: worker processes that decode; None: one for each core, at most four.
        timeout_s: seconds that a worker has for two segments of a file.

    Raises:
        CheckpointError: the model file is missing or broken.
        CapabilityError: the model file or the device needs torch, which is not installed.
        RuntimeError: workers cannot start, because the main script does its work on import.
        ReportError: `out` holds something else, cannot be written, or another run writes it.
        ValueError: torch has no such device.
    """
    from ladder.media.discover import find_videos
    from ladder.media.probe import Size
    from vqatool.inference.loading import load_predictor
    from vqatool.scoring.report_file import stream_rows, write_report
    from vqatool.scoring.segments import ScoreConfig

    several = [paths] if isinstance(paths, str | Path) else paths
    videos = find_videos(map(Path, several)).videos
    predictor = load_predictor(Path(model) if model else None, device)
    config = ScoreConfig(Size(*display) if display else None, segment_s, jobs, timeout_s)
    if out:
        return write_report(videos, Path(out), predictor, config)
    return stream_rows(videos, predictor, config)
