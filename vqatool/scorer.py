"""Score videos from Python: what `vqatool score` does, for other programs and for notebooks."""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `import vqatool` loads nothing heavy
    from vqatool.inference.predictor import Predictor
    from vqatool.scoring.rows import ReportRow

Paths = str | Path | Iterable[str | Path]


class Scorer:
    """A model that stays in memory, to score videos again and again::

        scorer = vqatool.Scorer(display=(1280, 720))
        for row in scorer.score("encodes/"):
            print(row.path, row.score, row.error)

    Args:
        model: model file, .onnx or .safetensors; None: the packaged one.
        display: (width, height) of the screen in px; None scores pixel for pixel.
        segment_s: length in seconds of the segments that get a score of their own.
        device: `cpu`, `auto` (a GPU where there is one and torch is installed), or another device
            of torch.
        jobs: worker processes that decode; None: one for each core, at most four.
        timeout_s: seconds that a worker has for two segments of a file.
        tonemap: score HDR videos as SDR; else they get no score.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        display: tuple[int, int] | None = (1920, 1080),
        segment_s: float = 10.0,
        device: str = "auto",
        jobs: int | None = None,
        timeout_s: float = 120.0,
        tonemap: bool = False,
    ) -> None:
        from ladder.media.probe import Size
        from vqatool.scoring.segments import ScoreConfig

        self._model, self._device = Path(model) if model else None, device
        size = Size(*display) if display else None
        self._config = ScoreConfig(size, segment_s, jobs, timeout_s, tonemap=tonemap)

    @functools.cached_property
    def _predictor(self) -> "Predictor":
        from vqatool.inference.loading import load_predictor

        return load_predictor(self._model, self._device)

    def score(self, paths: Paths, *, out: str | Path | None = None) -> "Iterator[ReportRow]":
        """Score videos; yields the rows that `vqatool score` writes, each as soon as it is known.

        Worker processes decode the videos. They do not run the main script, so that it needs no
        `if __name__ == "__main__":`. Rows are dataclasses, of which pandas makes a table.

        Args:
            paths: a file or a folder, or several of them.
            out: report to keep: rows that it holds already come first and are not scored again.

        Raises:
            CheckpointError: the model file is missing or broken.
            CapabilityError: the model file or the device needs torch, which is not installed.
            ReportError: `out` holds something else, cannot be written, or another run writes it.
            ValueError: torch has no such device.
        """
        from ladder.media.discover import find_videos
        from vqatool.scoring.report_file import stream_rows, write_report

        several = [paths] if isinstance(paths, str | Path) else paths
        videos = find_videos(map(Path, several)).videos
        if out:
            return write_report(videos, Path(out), self._predictor, self._config)
        return stream_rows(videos, self._predictor, self._config)


def score(
    paths: Paths,
    *,
    out: str | Path | None = None,
    model: str | Path | None = None,
    display: tuple[int, int] | None = (1920, 1080),
    segment_s: float = 10.0,
    device: str = "auto",
    jobs: int | None = None,
    timeout_s: float = 120.0,
    tonemap: bool = False,
) -> "Iterator[ReportRow]":
    """Score videos once: ``for row in vqatool.score("encodes/"): print(row.path, row.score)``.

    The arguments are those of `Scorer` and of its `score`.
    """
    scorer = Scorer(
        model,
        display=display,
        segment_s=segment_s,
        device=device,
        jobs=jobs,
        timeout_s=timeout_s,
        tonemap=tonemap,
    )
    return scorer.score(paths, out=out)
