"""Stage 5, score: videos -> one row each of `report.csv`, resumable."""

import datetime
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from torch import Tensor

from ladder.errors import LadderError
from ladder.ffmpeg import split_cores
from ladder.frames import display_size, require_whole
from ladder.probe import VideoInfo, probe
from ladder.tables import Table
from vqatool.errors import ReportError
from vqatool.predict import Predictor

Display = tuple[int, int] | None

_SHORT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class ReportRow:
    """One input file, a row of `report.csv`; scores are 0 (worst) to 100 (best)."""

    path: str
    status: str
    score: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    score_min: float | None = None
    score_p5: float | None = None
    worst_at_s: float | None = None
    duration_s: float | None = None
    width_px: int | None = None
    height_px: int | None = None
    display: str = ""
    fps: Fraction | None = None
    codec: str = ""
    pix_fmt: str = ""
    bit_depth: int | None = None
    bitrate_kbps: float | None = None
    size_bytes: int | None = None
    frames_scored: int | None = None
    hdr: str = ""
    rotation: int | None = None
    warnings: str = ""
    error_code: str = ""
    error: str = ""
    model: str = ""
    score_s: float | None = None
    modified: str = ""

    @property
    def key(self) -> str:
        """The path as it was given."""
        return self.path


@dataclass(frozen=True)
class ScoreOptions:
    """How videos are looked at: on what screen, and in segments of how many seconds."""

    display: Display = (1920, 1080)
    segment_s: float = 10.0


@dataclass(frozen=True)
class _Seen:
    """A video's row so far, and the model's views of each of its segments."""

    row: ReportRow
    segments: Sequence[tuple[float, list[Tensor]]]


def report_table(path: Path) -> Table[ReportRow]:
    """The table this stage writes."""
    return Table(path, ReportRow)


def score_videos(
    videos: Sequence[Path], predictor: Predictor, options: ScoreOptions, *, jobs: int | None = None
) -> Iterator[ReportRow]:
    """Score videos in order; one that cannot be read is a row with the reason and no figures.

    Decoding runs `jobs` files ahead of the model, so memory does not grow with their number. None:
    one for each core, four at most.
    """
    at_once, _ = split_cores(jobs)
    with ThreadPoolExecutor(at_once) as pool:
        ahead: deque[Future[_Seen]] = deque()
        waiting = iter(videos)
        try:
            while True:
                for path in waiting:
                    ahead.append(pool.submit(_look_at, path, predictor, options))
                    if len(ahead) > at_once:
                        break
                if not ahead:
                    return
                yield _scored(ahead.popleft().result(), predictor)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def write_report(
    videos: Sequence[Path],
    predictor: Predictor,
    options: ScoreOptions,
    out: Path,
    *,
    jobs: int | None = None,
    is_forced: bool = False,
) -> Iterator[ReportRow]:
    """Score what `out` does not hold yet and yield every row, kept ones first.

    Rows are kept if file, model, display and settings are the same; failed ones are tried again.
    At the end the file holds one row for each of `videos`, in their order.

    Raises:
        ReportError: `out` is a file of another kind, which is left as it is.
    """
    table = report_table(out)
    _require_report(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    table.mend()
    known = {} if is_forced else {row.key: row for row in table.rows()}
    kept = {
        str(path): row
        for path in videos
        if (row := known.get(str(path))) and _is_current(row, path, predictor, options)
    }
    yield from kept.values()
    table.rewrite(kept.values())
    fresh: dict[str, ReportRow] = {}
    left = [path for path in videos if str(path) not in kept]
    for row in score_videos(left, predictor, options, jobs=jobs):
        fresh[row.key] = table.append(row)
        yield fresh[row.key]
    table.rewrite((kept | fresh)[str(path)] for path in videos)


def _require_report(table: Table[ReportRow]) -> None:
    if not table.path.exists():
        return
    columns = ",".join(table.columns)
    with table.path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        first = file.readline(2 * len(columns))
    if first and first.rstrip("\r\n") != columns:
        raise ReportError(
            f"{table.path} is no report of this version of vqatool (it would begin with "
            f"{columns[:20]}...) and is left as it is: name another file with --out"
        )


def _look_at(path: Path, predictor: Predictor, options: ScoreOptions) -> _Seen:
    started = time.monotonic()
    row = ReportRow(path=str(path), status="ok", model=predictor.name, display=_shown(options))
    try:
        facts = path.stat()
        row = replace(row, size_bytes=facts.st_size, modified=_when(facts.st_mtime))
        info = probe(path)
        row = _with_facts(row, info)
        require_whole(info)
        segments = [
            (at_s, predictor.look_at(info, options.display, start_s=at_s, length_s=length_s))
            for at_s, length_s in _segments(info, options)
        ]
    except FileNotFoundError:
        return _Seen(_failed(row, "missing", f"{path} is not a file"), ())
    except LadderError as error:
        return _Seen(_failed(row, error.code, str(error)), ())
    except (OSError, ValueError, MemoryError) as error:
        # what a hostile file can still make the decoder say; the run goes on
        return _Seen(_failed(row, "unreadable", f"{path}: {error!r}"), ())
    return _Seen(replace(row, score_s=time.monotonic() - started), segments)


def _scored(seen: _Seen, predictor: Predictor) -> ReportRow:
    if not seen.segments:
        return seen.row
    started = time.monotonic()
    scores, features = predictor.score_with_features([views for _, views in seen.segments])
    score = float(np.mean(scores))
    worst = int(np.argmin(scores))
    outside = ["out_of_domain"] if predictor.is_outside(features) else []
    return replace(
        seen.row,
        score=score,
        score_low=max(0.0, score - predictor.card.band),
        score_high=min(100.0, score + predictor.card.band),
        score_min=scores[worst],
        warnings=";".join(filter(None, [seen.row.warnings, *outside])),
        score_p5=float(np.percentile(scores, 5)),
        worst_at_s=seen.segments[worst][0],
        frames_scored=predictor.card.clip_frames * len(scores),
        score_s=(seen.row.score_s or 0.0) + time.monotonic() - started,
    )


def _segments(info: VideoInfo, options: ScoreOptions) -> Iterator[tuple[float, float]]:
    """(start, length) of equal parts of about `segment_s` seconds."""
    count = _segment_count(info.duration_s, options)
    length_s = info.duration_s / count
    return ((index * length_s, length_s) for index in range(count))


def _segment_count(duration_s: float, options: ScoreOptions) -> int:
    # of the duration as a report holds it, so that its row is known again
    return max(1, round(round(duration_s, 4) / options.segment_s))


def _with_facts(row: ReportRow, info: VideoInfo) -> ReportRow:
    return replace(
        row,
        duration_s=info.duration_s,
        width_px=info.width_px,
        height_px=info.height_px,
        fps=info.fps,
        codec=info.codec,
        pix_fmt=info.pix_fmt,
        bit_depth=info.bit_depth,
        bitrate_kbps=info.bitrate_kbps,
        hdr=info.hdr,
        rotation=info.rotation,
        warnings=";".join(_warnings(info)),
    )


def _warnings(info: VideoInfo) -> Iterator[str]:
    claims = {
        "hdr": bool(info.hdr),
        "vfr": info.is_vfr,
        "interlaced": info.is_interlaced,
        "short": info.duration_s < _SHORT_S,
        "small": min(display_size(info, None)) < 64,
    }
    return (code for code, holds in claims.items() if holds)


def _failed(row: ReportRow, code: str, message: str) -> ReportRow:
    return replace(row, status="error", error_code=code, error=message)


def _shown(options: ScoreOptions) -> str:
    return "{}x{}".format(*options.display) if options.display else "native"


def _when(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds")


def _is_current(row: ReportRow, path: Path, predictor: Predictor, options: ScoreOptions) -> bool:
    if row.status != "ok" or row.model != predictor.name or row.display != _shown(options):
        return False
    # as many frames, and so segments, of the same file are the same ones
    segments = _segment_count(row.duration_s or 0.0, options)
    if row.frames_scored != predictor.card.clip_frames * segments:
        return False
    try:
        facts = path.stat()
    except OSError:
        return False
    return (row.size_bytes, row.modified) == (facts.st_size, _when(facts.st_mtime))
