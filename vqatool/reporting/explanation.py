"""Why a video has its score: its segments as `score` judges them, and what moved each of them.

The scores are those of `vqatool.scoring.run`, whose observer tells what the model saw and gave.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean

from ladder.errors import LadderError, VideoError
from ladder.media.probe import VideoInfo
from ladder.media.time_ranges import TimeRange
from vqatool.inference.contents import content_figures
from vqatool.inference.contributions import contributions
from vqatool.inference.engine import Branch, Floats, Limits, Output
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inputs.clip import Array
from vqatool.inputs.preprocessor import ClipPreprocessor, sample_times
from vqatool.inputs.readable import ReadableFigure
from vqatool.reporting.attention import AttentionMap, draw_attention_map
from vqatool.reporting.nearest_contents import NearestContents
from vqatool.scoring.rows import (
    FailedVideo,
    ReportRow,
    ScoredVideo,
    SegmentRow,
    report_row,
    segment_rows,
)
from vqatool.scoring.run import ModelRun, score_videos
from vqatool.scoring.segments import ScoreConfig

ALL = "all"
"""The name of the score that all branches are fused into."""

NUM_MOMENTS = 5
"""Moments of a video that are shown."""

_MAX_CHOSEN = 20  # of the moments that a time range asks for


@dataclass(frozen=True, kw_only=True)
class ExplainedSegment(SegmentRow):
    """One segment as `score` judges it, and the points that each input adds to `base`.

    Scores are 0 (worst) to 100 (best). Parts that the model does not have are None.
    """

    base: float | None = None
    from_bitstream: float | None = None
    from_motion: float | None = None
    from_detail: float | None = None
    from_pixels: float | None = None
    distance: float | None = None
    outlier: float | None = None

    @property
    def points(self) -> dict[str, float]:
        """What each group of inputs adds to `base`, by its name; empty if it is not known."""
        found = {name: getattr(self, f"from_{name}") for name in GROUPS}
        return {name: value for name, value in found.items() if value is not None}


GROUPS = ("bitstream", "motion", "detail", "pixels")
"""The groups of inputs whose contributions can be told, by the names of `recipe.Input`."""


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """The score of one frame by a branch or by `ALL`; 0 to 100."""

    path: str
    part: str
    at_s: float
    score: float

    @property
    def key(self) -> str:
        """The video, the part and the time."""
        return f"{self.path}@{self.part}@{self.at_s:.4f}"


@dataclass(frozen=True)
class Moment:
    """A segment that is shown: its number, and its frame with the lowest score."""

    segment: int
    at_s: float
    attention_maps: tuple[AttentionMap, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A readable figure of a group: of typical clips, and of each segment; None: not known.

    `deviation` is the standard deviation over the training data. Values are as the model takes
    them, from which `figure.read` makes those of `figure.unit`.
    """

    group: str
    figure: ReadableFigure
    typical: float
    deviation: float
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over the segments that it is known of."""
        known = [value for value in self.values if value is not None]
        return fmean(known) if known else None

    def deviations(self, value: float | None) -> float | None:
        """How many standard deviations of the training data a value is above a typical one."""
        return None if value is None else (value - self.typical) / self.deviation


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a video has its score.

    Attributes:
        row: of the report.
        segments: in order.
        frame_scores: of `ALL`, then of each branch.
        moments: those that are shown, the lowest score first.
        readings: readable figures of the inputs; none for a model without.
        limits: of the detector of what is unlike the training data; None without one.
        nearest: training contents; None for a model file that holds none.
    """

    row: ReportRow
    segments: list[ExplainedSegment]
    frame_scores: list[FrameScore]
    moments: list[Moment]
    readings: list[Reading]
    limits: Limits | None
    nearest: NearestContents | None

    @property
    def base(self) -> float | None:
        """The mean of the segments', as the score is; None if it is not known."""
        known = [each.base for each in self.segments if each.base is not None]
        return fmean(known) if known else None

    @property
    def points(self) -> dict[str, float]:
        """What each group adds to `base`: means of the segments', which add up to the score."""
        names = self.segments[0].points
        return {name: fmean(each.points[name] for each in self.segments) for name in names}

    @property
    def branches(self) -> list[str]:
        """The names of the model's branches."""
        return [part for part in dict.fromkeys(f.part for f in self.frame_scores) if part != ALL]


def explain(
    predictor: Predictor,
    path: Path,
    config: ScoreConfig,
    *,
    shown: TimeRange | None = None,
    on_segment: Callable[[int, int], None] = lambda done, total: None,
) -> Explanation:
    """Score one video as `score` does, and keep why.

    Args:
        predictor: the model.
        path: the video; worker processes decode it.
        config: how it is scored.
        shown: the part whose moments are shown; None: the worst segments of the video.
        on_segment: called after each segment with the number of those done and of all.

    Raises:
        VideoError: the video has no score; the error has the reason.
        LadderError: `shown` begins after the video's end.
    """
    witness = _Witness(predictor, config, shown, on_segment)
    (result,) = score_videos([path], predictor, config, observe=witness)
    if isinstance(result, FailedVideo):
        raise VideoError(result.failure.code, result.failure.reason)
    return witness.explanation(result)


@dataclass
class _Seen:
    """What is kept of each segment; `views` only while it may be shown."""

    start_s: float
    score: float
    times_s: list[float]
    output: Output
    base: float | None
    points: dict[str, float]
    raw: list[float | None]
    apart_N: Floats | None  # from the training contents
    views: Sequence[Array] | None


@dataclass
class _Witness:
    """Sees the segments of one video while they are scored."""

    predictor: Predictor
    config: ScoreConfig
    shown: TimeRange | None
    on_segment: Callable[[int, int], None]
    seen: list[_Seen] = field(default_factory=list)

    def __call__(self, run: ModelRun) -> None:
        if not self.seen:
            _require_inside(self.shown, run.info)
        found = contributions(self.predictor, run.inputs, run.output)
        self.seen.append(
            _Seen(
                start_s=run.segment.start_s,
                score=run.score,
                times_s=_times(self.predictor.preprocessor, run),
                output=run.output,
                base=found.base if found else None,
                points=dict(found.points) if found else {},
                raw=[figure.raw(run.inputs[index]) for index, figure in self._figures],
                apart_N=self._apart(run.inputs),
                views=run.segment.views if run.output.branches else None,
            )
        )
        chosen = self._chosen(run.segment.end_s - run.segment.start_s)
        for number, each in enumerate(self.seen):
            if number not in chosen:
                each.views = None
        self.on_segment(len(self.seen), self.config.num_segments(run.info.duration_s))

    def _apart(self, inputs: Sequence[Array]) -> Floats | None:
        """How far a segment is from each training content, where these are known."""
        contents = self.predictor.contents
        if contents is None:
            return None
        return contents.distances(content_figures(self.predictor.inputs, inputs))

    @property
    def _figures(self) -> list[tuple[int, ReadableFigure]]:
        inputs = self.predictor.inputs if self.predictor.typical else ()
        return [(i, figure) for i, each in enumerate(inputs) for figure in each.readable]

    def _chosen(self, length_s: float) -> list[int]:
        """The numbers of the segments to show, as far as it is known, the lowest score first."""
        ranked = sorted(range(len(self.seen)), key=lambda number: self.seen[number].score)
        if not self.shown:
            return ranked[:NUM_MOMENTS]
        first_s, last_s = self.shown.start_s, self.shown.start_s + self.shown.length_s
        inside = [n for n in ranked if first_s - length_s < self.seen[n].start_s < last_s]
        return inside[:_MAX_CHOSEN]

    def _worse(self, ranked: list[int], score: float) -> list[int]:
        """Without those as good as the video, at least the lowest; all that a clip asks for."""
        worse = [number for number in ranked if self.seen[number].score < score]
        return ranked if self.shown else worse or ranked[:1]

    def explanation(self, result: ScoredVideo) -> Explanation:
        """All that was seen of the video, which now has its row."""
        path = str(result.path)
        row = report_row(result, model=self.predictor.name, display=self.config.screen)
        length_s = result.segments[0].end_s - result.segments[0].start_s
        return Explanation(
            row=row,
            segments=[
                ExplainedSegment(
                    **asdict(segment),
                    base=seen.base,
                    from_bitstream=seen.points.get("bitstream"),
                    from_motion=seen.points.get("motion"),
                    from_detail=seen.points.get("detail"),
                    from_pixels=seen.points.get("pixels"),
                    distance=_first(seen.output.distance_B),
                    outlier=_first(seen.output.outlier_B),
                )
                for segment, seen in zip(segment_rows(result), self.seen, strict=True)
            ],
            frame_scores=[score for seen in self.seen for score in _frame_scores(path, seen)],
            moments=[
                _moment(number, self.seen[number])
                for number in self._worse(self._chosen(length_s), row.score or 0.0)
            ],
            readings=[
                self._reading(place, index, figure)
                for place, (index, figure) in enumerate(self._figures)
            ],
            limits=self.predictor.limits,
            nearest=self._nearest(),
        )

    def _nearest(self) -> NearestContents | None:
        apart = [seen.apart_N for seen in self.seen if seen.apart_N is not None]
        contents = self.predictor.contents
        return NearestContents.of(contents, apart) if contents else None

    def _reading(self, place: int, index: int, figure: ReadableFigure) -> Reading:
        typical = self.predictor.typical[index]
        assert typical is not None
        assert typical.deviation_K is not None
        return Reading(
            group=self.predictor.inputs[index].name,
            figure=figure,
            typical=float(typical.mean_K[figure.place]),
            deviation=float(typical.deviation_K[figure.place]),
            values=tuple(seen.raw[place] for seen in self.seen),
        )


def _require_inside(shown: TimeRange | None, info: VideoInfo) -> None:
    if shown and shown.start_s >= info.duration_s:
        raise LadderError(
            f"{info.path} is {info.duration_s:.2f} s long, the clip {shown} begins after its end"
        )


def _first(values: Array | None) -> float | None:
    return None if values is None else float(values[0])


def _times(preprocessor: ClipPreprocessor, run: ModelRun) -> list[float]:
    """When the frames of a segment are, all of all groups, in seconds."""
    start_s, end_s = run.segment.start_s, run.segment.end_s
    groups = run.segment.num_frame_groups
    length_s, fps = end_s - start_s, float(run.info.fps)
    return sample_times(start_s, length_s, groups, preprocessor.frame_group, fps)


def _frame_scores(path: str, seen: _Seen) -> Iterator[FrameScore]:
    parts: list[tuple[str, Output | Branch]] = [(ALL, seen.output)]
    parts += [(branch.name, branch) for branch in seen.output.branches]
    for name, part in parts:
        scores = to_label_scale(part.frame_score_BT[0])
        times_s = seen.times_s[:: len(seen.times_s) // len(scores)]
        for at_s, score in zip(times_s, scores, strict=True):
            yield FrameScore(path=path, part=name, at_s=at_s, score=score)


def _moment(number: int, seen: _Seen) -> Moment:
    frames = [score for score in _frame_scores("", seen) if score.part == ALL]
    lowest = min(frames, key=lambda frame: frame.score)
    maps = [
        attention_map
        for branch, view_TCHW in zip(seen.output.branches, seen.views or (), strict=False)
        for attention_map in _attention_maps(branch, view_TCHW, seen.times_s)
    ]
    return Moment(number, lowest.at_s, tuple(maps))


def _attention_maps(
    branch: Branch, view_TCHW: Array, times_s: Sequence[float]
) -> Iterator[AttentionMap]:
    """A picture for each frame of the branch's view, if it weighs the frame's patches."""
    if branch.weight_map_BTHW is None:
        return
    weights_THW = branch.weight_map_BTHW[0]
    step = len(times_s) // len(weights_THW)
    for at_s, frame_CHW, weight_HW in zip(times_s[::step], view_TCHW, weights_THW, strict=True):
        frame_HWC = frame_CHW.transpose(1, 2, 0)
        yield AttentionMap(branch.name, at_s, draw_attention_map(frame_HWC, weight_HW))
