"""Results -> the flat rows of a report."""

import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

from ladder.media.probe import Hdr, VideoInfo
from ladder.storage import Table
from vqatool.inputs.decode_pool import DecodeFailure, FailureCode
from vqatool.scoring.rows import (
    FailedVideo,
    FileStamp,
    ReportRow,
    ScoredSegment,
    ScoredVideo,
    as_stored,
    report_row,
    segment_rows,
    video_warnings,
)
from vqatool.scoring.warning_codes import WarningCode

INFO = VideoInfo(
    path=Path("a.mp4"), width_px=1920, height_px=1080, fps=Fraction(25), frame_count=500,
    duration_s=20.0, codec="h264", pix_fmt="yuv420p", bit_depth=8, is_full_range=False, hdr=Hdr.PQ,
    rotation=90, sar=Fraction(1), is_vfr=False, is_interlaced=False, is_bare=False,
    size_bytes=2_500_000,
)  # fmt: skip
STAMP = FileStamp(2_500_000, "2026-01-01T00:00:00.000000+00:00")
SEGMENTS = (
    ScoredSegment(0.0, 10.0, 97.0, 5.0),
    ScoredSegment(10.0, 20.0, 3.0, 9.0, (WarningCode.DAMAGED, WarningCode.OUT_OF_DOMAIN)),
)
SCORED = ScoredVideo(
    path=Path("a.mp4"), stamp=STAMP, info=INFO, segments=SEGMENTS,
    warnings=(WarningCode.HDR, WarningCode.DAMAGED), frames_scored=16, spent_s=1.5,
)  # fmt: skip
FACTS: dict[str, Any] = {
    "duration_s": 20.0, "width_px": 1920, "height_px": 1080, "display": "1920x1080",
    "fps": Fraction(25), "codec": "h264", "pix_fmt": "yuv420p", "bit_depth": 8,
    "bitrate_kbps": 1000.0, "size_bytes": 2_500_000, "hdr": "pq", "rotation": 90, "model": "m-1",
    "modified": STAMP.modified, "shard": "1/2",
}  # fmt: skip


def test_a_scored_video_is_a_row_with_all_columns() -> None:
    row = report_row(SCORED, model="m-1", display="1920x1080", shard="1/2")
    assert as_stored(row) == ReportRow(
        path="a.mp4", status="ok", score=50.0, score_low=43.0, score_high=57.0, score_min=3.0,
        score_p5=7.7, worst_at_s=10.0, frames_scored=16,
        warnings="hdr;damaged", score_s=1.5, verdict="unsure", segments=2, **FACTS,
    )  # fmt: skip


def test_segments_are_rows_with_intervals_inside_the_scale() -> None:
    first, second = segment_rows(SCORED)
    assert (first.start_s, first.end_s, first.score) == (0.0, 10.0, 97.0)
    assert (first.score_low, first.score_high, first.warnings) == (92.0, 100.0, "")
    assert (second.score_low, second.score_high) == (0.0, 12.0)
    assert second.warnings == "damaged;out_of_domain"


def test_a_failed_video_is_a_row_with_the_facts_that_are_known() -> None:
    failure = DecodeFailure(Path("a.mp4"), FailureCode.TIMEOUT, "a.mp4 took over 5 s")
    row = report_row(FailedVideo(failure, STAMP, INFO), model="m-1", display="1920x1080")
    error: dict[str, Any] = {
        "status": "error",
        "error_code": "timeout",
        "error": "a.mp4 took over 5 s",
    }
    facts = FACTS | {"shard": ""}
    assert row == ReportRow(path="a.mp4", warnings="hdr;rotated", **error, **facts)
    assert list(segment_rows(FailedVideo(failure))) == []
    unknown = report_row(FailedVideo(failure), model="m-1", display="native")
    assert (unknown.duration_s, unknown.size_bytes, unknown.warnings) == (None, None, "")


def test_facts_of_a_video_give_warnings() -> None:
    assert list(video_warnings(INFO)) == ["hdr", "rotated"]


def test_a_row_that_is_kept_takes_less_than_a_kibibyte() -> None:
    table = Table(Path("report.csv"), ReportRow)
    texts = {name: getattr(report_row(SCORED, model="m-1", display="native"), name)
             for name in table.columns}  # fmt: skip
    tracemalloc.start()
    kept = [
        table.row_of(
            texts | {"path": f"a/{number:080}.mp4", "score": number / 7, "score_s": number}
        )
        for number in range(500)
    ]
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert size < 1024 * len(kept)
