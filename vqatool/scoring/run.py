"""Looks at videos -> scores: the model's side of the audit."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vqatool.inference.predictor import Predictor
from vqatool.scoring.decode_pool import DecoderPool
from vqatool.scoring.rows import ReportRow, ScoreResult, SegmentRow
from vqatool.scoring.segments import DecodedSegments, ScoreOptions, Segment

TIMEOUT_S = 120.0


@dataclass
class _Video:
    """What is known of a video so far."""

    row: ReportRow
    spent_s: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)


class _Item(NamedTuple):
    """A segment that waits for its score, or, without one, the end of its video."""

    video: _Video
    segment: Segment | None


@dataclass(frozen=True)
class ScoreConfig:
    """How videos are scored.

    Args:
        predictor: the model, which says how many segments it takes at once.
        options: screen and segments.
        jobs: processes that look at videos; None: one for each core, four at most.
        timeout_s: how long one may take for some segments before the file is given up.
    """

    predictor: Predictor
    options: ScoreOptions
    jobs: int | None = None
    timeout_s: float = TIMEOUT_S


def score_videos(videos: Iterable[Path], config: ScoreConfig) -> Iterator[ScoreResult]:
    """Score videos in order; one that cannot be read is a row with the reason and no figures.

    Processes look at the next videos while the model works, and what they have found waits in
    bounded queues: memory grows neither with the videos' number nor with their length.
    """
    predictor = config.predictor
    with (
        DecoderPool(
            predictor.preprocessor, config.options, jobs=config.jobs, timeout_s=config.timeout_s
        ) as pool,
        _reserve_cores_for_decoding(),
    ):
        decoded = pool.decode(videos)
        predictor.load_model()
        for items in _batches(_items(decoded), predictor.batch):
            _add_scores(items, predictor)
            for video, segment in items:
                if segment is None:
                    yield _scored(video, predictor)


@contextlib.contextmanager
def _reserve_cores_for_decoding() -> Iterator[None]:
    """Leave some cores to the processes that look, which torch's threads would crowd out."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // 2))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _items(videos: Iterable[Iterator[DecodedSegments]]) -> Iterator[_Item]:
    for decoded in videos:
        first = next(decoded)
        video = _Video(first.row, first.spent_s)
        yield from (_Item(video, segment) for segment in first.segments)
        for decode_first_segments in decoded:
            video.row = decode_first_segments.row
            video.spent_s += decode_first_segments.spent_s
            yield from (_Item(video, segment) for segment in decode_first_segments.segments)
        yield _Item(video, None)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Items in order, cut where `size` segments have come together."""
    waiting: list[_Item] = []
    segments = 0
    for item in items:
        waiting.append(item)
        segments += item.segment is not None
        # an end is told at once if nothing before it waits
        if segments == size or not segments:
            yield waiting
            waiting, segments = [], 0
    yield waiting


def _add_scores(items: Sequence[_Item], predictor: Predictor) -> None:
    chosen = [(video, segment) for video, segment in items if segment]
    if not chosen:
        return
    started = time.monotonic()
    clips = [[torch.from_numpy(view) for view in segment.views] for _, segment in chosen]
    scores, features = predictor.score_with_features(clips)
    share_s = (time.monotonic() - started) / len(chosen)
    for (video, segment), score, feature_D in zip(chosen, scores, features, strict=True):
        video.segments.append(replace(segment, views=[]))
        video.scores.append(score)
        video.features.append(feature_D)
        video.spent_s += share_s


def _scored(video: _Video, predictor: Predictor) -> ScoreResult:
    row = replace(video.row, model=predictor.name, score_s=video.spent_s)
    if row.status == "error":
        return ScoreResult(replace(row, score_s=None))
    scores, band = video.scores, predictor.card.band
    worst = int(np.argmin(scores))
    low, high = _with_band(float(np.mean(scores)), band)
    is_damaged = any(segment.is_damaged for segment in video.segments)
    found = _warnings(is_damaged, predictor.is_out_of_distribution(video.features))
    row = replace(
        row,
        score=float(np.mean(scores)),
        score_low=low,
        score_high=high,
        score_min=scores[worst],
        score_p5=float(np.percentile(scores, 5)),
        worst_at_s=video.segments[worst].start_s,
        frames_scored=predictor.card.clip_frames * len(scores),
        warnings=";".join(filter(None, [row.warnings, found])),
    )
    return ScoreResult(row, tuple(_segment_rows(video, predictor)))


def _segment_rows(video: _Video, predictor: Predictor) -> Iterator[SegmentRow]:
    parts = zip(video.segments, video.scores, video.features, strict=True)
    for segment, score, feature_D in parts:
        low, high = _with_band(score, predictor.card.band)
        yield SegmentRow(
            path=video.row.path,
            start_s=segment.start_s,
            end_s=segment.end_s,
            score=score,
            score_low=low,
            score_high=high,
            warnings=_warnings(segment.is_damaged, predictor.is_out_of_distribution([feature_D])),
        )


def _warnings(is_damaged: bool, is_out_of_distribution: bool) -> str:
    claims = {"damaged": is_damaged, "out_of_domain": is_out_of_distribution}
    return ";".join(code for code, holds in claims.items() if holds)


def _with_band(score: float, band: float) -> tuple[float, float]:
    return max(0.0, score - band), min(100.0, score + band)
