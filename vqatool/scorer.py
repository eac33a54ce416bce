"""Score videos from Python: what `vqatool score` does, for other programs and for notebooks."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `import vqatool` loads nothing heavy
    import pandas as pd

    from vqatool.scoring.rows import ReportRow, SegmentRow
    from vqatool.scoring.segments import Display

Paths = str | Path | Iterable[str | Path]

Screen = tuple[int, int] | str | None
"""The `display` of `Scorer`."""


class Report:
    """The rows of videos that are scored while they are asked for, and what is made of all of them.

    A loop over it gets each row as soon as it is known; a second loop gets them again. Whatever
    needs all rows waits for those that are missing.
    """

    def __init__(self, rows: "Iterator[ReportRow]", segments: "list[SegmentRow]") -> None:
        """`segments` is filled while `rows` are taken."""
        self._source, self._segments = rows, segments
        self._known: list[ReportRow] = []

    def __iter__(self) -> "Iterator[ReportRow]":
        number = 0
        while number < len(self._known) or self._take():
            yield self._known[number]
            number += 1

    def __next__(self) -> "ReportRow":
        if self._take():
            return self._known[-1]
        raise StopIteration

    def _take(self) -> bool:
        """Wait for the next row; whether there is one."""
        for row in self._source:
            self._known.append(row)
            return True
        return False

    @property
    def rows(self) -> "list[ReportRow]":
        """All rows."""
        return list(self)

    def to_pandas(self) -> "pd.DataFrame":
        """All rows as a table of pandas; numbers are numbers, and what is not known is missing.

        Raises:
            CapabilityError: pandas is not installed.
        """
        from vqatool.scoring.formats import as_frame

        return as_frame(self.rows)

    def to_html(self, out: str | Path | None = None, *, thumbnails: bool = True) -> str | None:
        """The page that `vqatool report` makes of all rows: a file, or as text without `out`.

        It has the timelines of videos that were scored now, not of rows that `out` of `score` kept.

        Args:
            out: the file to write; then nothing is returned, so that a notebook shows no text.
            thumbnails: show pictures of the worst files, which are decoded once more for them.

        Raises:
            OutputNameError: `out` exists and is of another program.
            ReportError: the page would be too large.
        """
        from vqatool.files import require_own_texts
        from vqatool.reporting.report_page import Report as Content
        from vqatool.reporting.report_page import write_page
        from vqatool.scoring.gates import Gate

        if out:
            require_own_texts([Path(out)])
        rows = self.rows
        segments: dict[str, list[SegmentRow]] = {}
        for segment in self._segments:
            segments.setdefault(segment.path, []).append(segment)
        content = Content(rows=rows, segments=segments, gate=Gate(), sources=())
        with tempfile.TemporaryDirectory() as folder:
            # links to the videos are relative to where the page is
            page = Path(out) if out else Path(folder) / "report.html"
            write_page(content, page, has_thumbnails=thumbnails)
            return None if out else page.read_text(encoding="utf-8")

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return self.to_pandas().to_html(max_rows=60)


class Scorer:
    """A model that stays in memory, to score videos again and again::

        scorer = vqatool.Scorer(display=(1280, 720))
        for row in scorer.score("encodes/"):
            print(row.path, row.score, row.error)

    Args:
        model: model file, .onnx or .safetensors; None: the packaged one.
        display: the screen that the videos are shown on: (width, height) in px, or as the command
            line has it, such as "1280x720". None or "native": pixel for pixel, no video resized.
        segment_s: length in seconds of the segments that get a score of their own.
        device: `cpu`, `auto` (a GPU where there is one and torch is installed), or another device
            of torch.
        jobs: worker processes that decode; None: as `DecodePool` has them.
        timeout_s: seconds that a worker has for eight segments of a file.
        tonemap: score HDR videos as SDR; else they get no score.
        sample: segments of each video to score, evenly spread; None: all.
        skim: judge segments by their own packets and the pixels of one before them that is like
            them, so that less is decoded; None: in videos of ten minutes or more.

    Raises:
        CheckpointError: the model file is missing or broken.
        CapabilityError: the model file or the device needs torch, which is not installed.
        ValueError: torch has no such device, or `display` is no size.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        display: Screen = (1920, 1080),
        segment_s: float = 2.5,
        device: str = "auto",
        jobs: int | None = None,
        timeout_s: float = 120.0,
        tonemap: bool = False,
        sample: int | None = None,
        skim: bool | None = None,
    ) -> None:
        from vqatool.inference.loading import load_predictor
        from vqatool.scoring.segments import ScoreConfig

        self._config = ScoreConfig(
            _size(display),
            segment_s,
            jobs,
            timeout_s,
            tonemap=tonemap,
            sample=sample,
            skims=skim,
        )
        self._predictor = load_predictor(Path(model) if model else None, device)

    def score(
        self, paths: Paths, *, out: str | Path | None = None, progress: bool = True
    ) -> Report:
        """Score videos: the rows that `vqatool score` writes, each as soon as it is known.

        Worker processes decode the videos. They do not run the main script, so that it needs no
        `if __name__ == "__main__":`. Nothing is scored before a row is asked for.

        Args:
            paths: a file or a folder, or several of them.
            out: report to keep: rows that it holds already come first and are not scored again.
            progress: show it in a notebook; elsewhere nothing is shown.

        Raises:
            NoVideoError: none of `paths` exists, or there is no video in them.
            ReportError: `out` holds something else, cannot be written, or another run writes it.
            TypeError: `paths` holds something that is no path.
            ValueError: `paths` is empty, or holds an empty text.
        """
        from ladder.media.remote import shown
        from vqatool.errors import NoVideoError
        from vqatool.notebook import ask_for_no_widgets, is_notebook, with_progress
        from vqatool.scoring.formats import report_path
        from vqatool.scoring.report_file import stream_rows, write_report
        from vqatool.scoring.videos import videos_to_score

        several = _several(paths)
        videos = videos_to_score(several).videos
        if not videos:
            raise NoVideoError(f"no video found in {shown(map(str, several))}")
        segments: list[SegmentRow] = []
        rows = (
            write_report(
                videos, report_path(out), self._predictor, self._config, on_segments=segments.extend
            )
            if out
            else stream_rows(videos, self._predictor, self._config, on_segments=segments.extend)
        )
        if is_notebook():
            ask_for_no_widgets()
            rows = with_progress(rows, len(videos)) if progress else rows
        return Report(rows, segments)


def _size(display: Screen) -> "Display":
    """The display as the parser of the command line reads it."""
    from vqatool.scoring.segments import parse_display

    if display is None:
        return None
    pair = isinstance(display, tuple | list)
    return parse_display("x".join(map(str, display)) if pair else str(display))


def _several(paths: Any) -> list[Path]:
    from ladder.media.remote import as_path

    is_one = isinstance(paths, str) or not isinstance(paths, Iterable)
    several = [paths] if is_one else list(paths)
    if not several:
        raise ValueError("no path is given: give a file or a folder, or several of them")
    for path in several:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(
                f"{path!r} is no path: give a file or a folder as text or as a path, or several "
                "of them"
            )
        if not os.fspath(path):
            raise ValueError('a path is an empty text: "." is the current folder')
    return list(map(as_path, several))


def score(
    paths: Paths,
    *,
    out: str | Path | None = None,
    model: str | Path | None = None,
    display: Screen = (1920, 1080),
    segment_s: float = 2.5,
    device: str = "auto",
    jobs: int | None = None,
    timeout_s: float = 120.0,
    tonemap: bool = False,
    sample: int | None = None,
    skim: bool | None = None,
    progress: bool = True,
) -> Report:
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
        sample=sample,
        skim=skim,
    )
    return scorer.score(paths, out=out, progress=progress)
