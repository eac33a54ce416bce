"""Rows that tests make pages of, and the page as a tree."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag

from vqatool.reporting.report_page import Report, write_page
from vqatool.scoring.gates import Gate
from vqatool.scoring.rows import FileStamp, ReportRow, SegmentRow

HOSTILE = (
    "<script>window.attacked = 1</script>.mp4",
    '"><img src=x onerror="window.attacked = 2">.mp4',
    "</script><script>window.attacked = 3</script>.mp4",
    "<!--<script>.mp4",
    "' autofocus onfocus='window.attacked = 4.mp4",
    "{{ 7 * 7 }} &amp; `code`.mp4",
    "a\rb\nc\td.mp4",
    "gnp.\u202e4pm.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    "javascript:window.attacked = 5",
)
"""Names that files may have and pages must show as they are."""


def scored(path: str, score: float, **more: Any) -> ReportRow:
    """A row with a score."""
    facts: dict[str, Any] = {
        "score_low": max(0.0, score - 10),
        "score_high": min(100.0, score + 10),
        "score_min": score,
        "score_p5": score,
        "worst_at_s": 0.0,
        "duration_s": 20.0,
        "width_px": 640,
        "height_px": 360,
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "bitrate_kbps": 812.5,
        "size_bytes": 2_030_000,
        "display": "1920x1080",
        "model": "coarse-to-fine-1f3a9c2e",
    }
    return ReportRow(path=path, status="ok", score=score, **(facts | more))


def failed(path: str, code: str = "damaged", error: str = "it breaks off") -> ReportRow:
    """A row without a score."""
    return ReportRow(path=path, status="error", error_code=code, error=error)


def segments(path: str, *scores: float, length_s: float = 10.0) -> list[SegmentRow]:
    """Segments one after another, the first with a warning."""
    return [
        SegmentRow(
            path=path,
            start_s=index * length_s,
            end_s=(index + 1) * length_s,
            score=score,
            score_low=score - 5,
            score_high=score + 5,
            warnings="" if index else "damaged",
        )
        for index, score in enumerate(scores)
    ]


def of_file(path: Path, score: float, **more: Any) -> ReportRow:
    """A row of a file that is there."""
    size_bytes, modified = FileStamp.of(path)
    return scored(str(path), score, size_bytes=size_bytes, modified=modified, **more)


def make_page(
    out: Path,
    rows: Sequence[ReportRow],
    timelines: Sequence[SegmentRow] = (),
    gate: Gate = Gate(),  # noqa: B008 - it is frozen
    *,
    sources: Sequence[Path] = (Path("report.csv"),),
    has_thumbnails: bool = False,
) -> Path:
    """Write the page of these rows; returns its path."""
    by_path: dict[str, list[SegmentRow]] = {}
    for segment in timelines:
        by_path.setdefault(segment.path, []).append(segment)
    report = Report(rows=rows, segments=by_path, gate=gate, sources=sources)
    size = write_page(report, out, has_thumbnails=has_thumbnails, jobs=1)
    assert size == out.stat().st_size
    return out


def pairs(place: Tag) -> dict[str, str]:
    """The terms of a list and what is said of them."""
    texts = [[each.get_text() for each in place.select(name)] for name in ("dt", "dd")]
    return dict(zip(*texts, strict=True))


def tree(page: Path) -> BeautifulSoup:
    """The page as elements."""
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
