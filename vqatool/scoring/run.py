"""Videos -> scores: workers decode, and the model scores what they have decoded."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ladder.media.probe import VideoInfo
from vqatool.inference.engine import Output
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inputs.clip import Array
from vqatool.inputs.decode_pool import DecodeFailure, DecodePool, FailureCode
from vqatool.prefetch import prefetch
from vqatool.scoring.rows import (
    FailedVideo,
    ScoredSegment,
    ScoredVideo,
    ScoreResult,
    video_warnings,
)
from vqatool.scoring.segments import (
    SKIMMED,
    DecodedSegments,
    ScoreConfig,
    Segment,
    decode_videos,
)
from vqatool.scoring.warning_codes import WarningCode

_SEGMENTS_AT_ONCE = 32  # in the model's threads

_log = logging.getLogger(__name__)


@dataclass
class _Video:
    """What is known of a video so far; one entry a segment in the lists."""

    latest: DecodedSegments
    spent_s: float = 0.0
    segments: list[Segment] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    bands: list[float] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)


class ModelRun(NamedTuple):
    """One segment as the model saw it, for who wants to know why it has its score.

    Attributes:
        info: the video.
        segment: its place, and its views as the workers made them.
        inputs: the same as the model takes them.
        output: what the model gave for it alone, with its branches.
        score: of the segment, 0 (worst) to 100 (best).
    """

    info: VideoInfo
    segment: Segment
    inputs: Sequence[Array]
    output: Output
    score: float


Scoring = Callable[[Iterable[Path], Predictor, ScoreConfig], Iterator[ScoreResult]]
"""What scores videos, in any order: `score_videos`, or a cluster."""


def _look_away(run: ModelRun) -> None:
    """The observer of who wants nothing but scores."""


class _Item(NamedTuple):
    """A segment that waits for its score, or, without one, the end of its video."""

    video: _Video
    segment: Segment | None


def score_videos(
    videos: Iterable[Path],
    predictor: Predictor,
    config: ScoreConfig,
    *,
    observe: Callable[[ModelRun], None] = _look_away,
) -> Iterator[ScoreResult]:
    """Score videos in order; a video that cannot be scored gives the reason.

    Workers decode the next videos while the model works, and the decoded segments wait in bounded
    queues: memory grows neither with the number of videos nor with their length.

    `observe` is called for every segment, in order, as soon as it has its score.
    """
    # a driver of a GPU maps far more memory than a decoder takes
    limits = not config.hardware
    with DecodePool(jobs=config.jobs, timeout_s=config.timeout_s, limits_memory=limits) as pool:
        yield from score_with(pool, videos, predictor, config, observe=observe)


def score_with(
    pool: DecodePool,
    videos: Iterable[Path],
    predictor: Predictor,
    config: ScoreConfig,
    *,
    observe: Callable[[ModelRun], None] = _look_away,
) -> Iterator[ScoreResult]:
    """Score videos as `score_videos` does, with workers that are there already."""
    decoded = decode_videos(videos, predictor.preprocessor, config, pool)
    predictor.load_model()
    batches = _batches(_items(decoded), predictor.batch)
    for predicted in _predict_each(batches, predictor, pool.cores // 2):
        if predicted.output:
            _add_scores(predicted, predicted.output, predictor, observe)
        for video, segment in predicted.items:
            if segment is None:
                yield _result(video, predictor, config)


def _items(videos: Iterable[Iterator[DecodedSegments]]) -> Iterator[_Item]:
    for parts in videos:
        video = None
        for decoded in parts:
            video = video or _Video(decoded)
            video.latest = decoded
            video.spent_s += decoded.spent_s
            for segment in decoded.segments:
                yield _Item(video, segment)
        if video:
            yield _Item(video, None)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Items in order, cut where `size` segments have come together."""
    waiting: list[_Item] = []
    num_segments = 0
    for item in items:
        waiting.append(item)
        num_segments += item.segment is not None
        # the end of a video is passed on at once if no segment waits before it
        if num_segments == size or not num_segments:
            yield waiting
            waiting, num_segments = [], 0
    yield waiting


class _Predicted(NamedTuple):
    """Items, and what the model gave for their segments; `output` is None if there are none."""

    items: Sequence[_Item]
    clips: Sequence[Sequence[Array]] = ()
    output: Output | None = None
    spent_s: float = 0.0


def _predict_each(
    batches: Iterable[Sequence[_Item]], predictor: Predictor, threads: int
) -> Iterable[_Predicted]:
    """What the model gives for each batch, in order, on as many threads as memory allows."""
    predict = partial(_predict, predictor)
    threads = min(threads, _SEGMENTS_AT_ONCE // predictor.batch)
    if threads <= 1:
        return map(predict, batches)
    return prefetch(predict, batches, threads=threads, holds_back=False)


def _predict(predictor: Predictor, items: Sequence[_Item]) -> _Predicted:
    started = time.monotonic()
    clips = [predictor.finish(segment.views) for _, segment in items if segment]
    output = predictor.predict_finished(clips) if clips else None
    return _Predicted(items, clips, output, time.monotonic() - started)


def _add_scores(
    predicted: _Predicted,
    output: Output,
    predictor: Predictor,
    observe: Callable[[ModelRun], None],
) -> None:
    scores, bands = to_label_scale(output.score_B), predictor.bands(output)
    chosen = [(video, segment) for video, segment in predicted.items if segment]
    columns = zip(chosen, predicted.clips, scores, bands, strict=True)
    for number, ((video, segment), clip, score, band) in enumerate(columns):
        video.segments.append(segment._replace(views=[]))
        video.scores.append(score)
        video.bands.append(band)
        video.outputs.append(output.clip(number))
        video.spent_s += predicted.spent_s / len(chosen)
        if video.latest.info:
            alone = video.outputs[-1]._replace(branches=output.branches_of(number))
            observe(ModelRun(video.latest.info, segment, clip, alone, score))


def _result(video: _Video, predictor: Predictor, config: ScoreConfig) -> ScoreResult:
    latest = video.latest
    failure = _failure(video, predictor)
    if failure or not latest.stamp or not latest.info:
        failure = failure or DecodeFailure(latest.path, FailureCode.INTERNAL, "no segments")
        _log.info("%s: %s", failure.code, failure.reason, extra={"file": str(latest.path)})
        return FailedVideo(failure, latest.stamp, latest.info)
    is_unlike = predictor.is_out_of_distribution(video.outputs)
    sampled = config.sampled(latest.info.duration_s)
    is_skimmed = not all(segment.num_frame_groups for segment in video.segments)
    return ScoredVideo(
        path=latest.path,
        stamp=latest.stamp,
        info=latest.info,
        segments=tuple(
            ScoredSegment(
                segment.start_s,
                segment.end_s,
                score,
                band,
                _warnings(latest.info, [segment], predictor.is_out_of_distribution([output])),
            )
            for segment, score, band, output in zip(
                video.segments, video.scores, video.bands, video.outputs, strict=True
            )
        ),
        warnings=(
            *video_warnings(latest.info),
            *_warnings(latest.info, video.segments, is_unlike),
            *([WarningCode.SAMPLED] if sampled else []),
        ),
        sampled=SKIMMED if is_skimmed else sampled,
        frames_scored=sum(
            segment.num_frame_groups * predictor.preprocessor.frame_group.num_frames
            for segment in video.segments
        ),
        spent_s=video.spent_s,
    )


def _failure(video: _Video, predictor: Predictor) -> DecodeFailure | None:
    path, failure = video.latest.path, video.latest.failure
    if failure and failure.code == FailureCode.TIMEOUT:
        return replace(failure, reason=f"{failure.reason}: raise --timeout")
    if failure or all(map(math.isfinite, [*video.scores, *video.bands])):
        return failure
    reason = (
        f"{path}: model {predictor.name} gives a score or a band that is not a finite number: "
        "its weights are broken, so train it again or name another model"
    )
    return DecodeFailure(path, FailureCode.NOT_FINITE, reason)


def _warnings(
    info: VideoInfo, segments: Sequence[Segment], is_out_of_distribution: bool
) -> tuple[WarningCode, ...]:
    """The warnings that the decoding of segments, and their scores, give rise to."""
    is_interlaced = any(segment.is_interlaced for segment in segments)
    raised = {
        WarningCode.PARTLY_INTERLACED: is_interlaced and not info.is_interlaced,
        WarningCode.DAMAGED: any(segment.is_damaged for segment in segments),
        WarningCode.OUT_OF_DOMAIN: is_out_of_distribution,
    }
    return tuple(code for code, is_raised in raised.items() if is_raised)
