"""Why a score is what it is: of one clip, what the model says moment by moment, and where it looks.

Every model has a curve over its frames. One that fuses several branches has a score and a curve for
each; one that weighs the patches of a frame has a heat map for each frame, too.
"""

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ladder.frames import Pixels
from ladder.pieces import WHOLE, Cut
from ladder.probe import VideoInfo
from vqatool.clips import burst_times
from vqatool.evaluation.heat import heat_picture
from vqatool.models.quality import Branch, Quality
from vqatool.predict import Predictor, points

ALL = "all"
"""The name of what is said with every branch heard."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a part of the model, a branch or `ALL`, says of one frame; a row of `moments.csv`."""

    part: str
    at_s: float
    score: float


class Heat(NamedTuple):
    """Where a branch looks in one frame, as a picture."""

    part: str
    at_s: float
    picture: Pixels


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a model says of one clip; `scores` are those of the whole clip by part, `ALL` first.

    All scores are 0 (worst) to 100 (best).
    """

    scores: dict[str, float]
    moments: list[Moment]
    heats: list[Heat]


def explain(
    predictor: Predictor, info: VideoInfo, display: tuple[int, int] | None, cut: Cut = WHOLE
) -> Explanation:
    """Look at one clip of a video as `score` looks at a segment, and keep all that is said of it.

    Args:
        predictor: a model file made ready.
        info: what `probe` said of the video.
        display: (width, height) of the screen, px; None judges pixel for pixel.
        cut: which clip of it; the whole video if not said.

    Raises:
        VideoError: the file cannot be decoded.
        LadderError: the clip begins after its end.
    """
    sight = predictor.sight
    start_s, length_s = next(
        ((piece.start_s, piece.length_s) for piece in cut.pieces_of(info)), (0.0, info.duration_s)
    )
    views = sight.look_at(info, display, start_s=start_s, length_s=length_s)
    quality = predictor.say(views)
    times_s = burst_times(start_s, length_s, sight.bursts, sight.burst, float(info.fps))
    parts: list[tuple[str, Quality | Branch]] = [(ALL, quality)]
    parts += [(branch.name, branch) for branch in quality.branches]
    return Explanation(
        scores={name: points(said.score_B)[0] for name, said in parts},
        moments=[
            Moment(part=name, at_s=at_s, score=score)
            for name, said in parts
            for at_s, score in _curve(times_s, points(said.frame_score_BT[0]))
        ],
        heats=[
            heat
            for branch, view_TCHW in zip(quality.branches, views, strict=False)
            for heat in _heats(branch, view_TCHW, times_s)
        ],
    )


def write_explanation(found: Explanation, folder: Path) -> list[Path]:
    """`moments.csv`, and a picture for each heat map; what was written."""
    from matplotlib.image import imsave  # takes a second, which only this needs

    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "moments.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        columns = [field.name for field in fields(Moment)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for moment in found.moments:
            shown = {"at_s": f"{moment.at_s:.3f}", "score": f"{moment.score:.4g}"}
            writer.writerow(asdict(moment) | shown)
    written = [table]
    for heat in found.heats:
        written.append(folder / f"{heat.part}-{heat.at_s:09.3f}.png")
        imsave(written[-1], heat.picture)
    return written


def _curve(times_s: list[float], scores: list[float]) -> Iterator[tuple[float, float]]:
    """Scores, each with the time of the first frame it is of."""
    yield from zip(times_s[:: len(times_s) // len(scores)], scores, strict=True)


def _heats(branch: Branch, view_TCHW: Tensor, times_s: list[float]) -> Iterator[Heat]:
    """A picture for each frame of the branch's view, if it weighs the frame's patches."""
    if branch.weight_map_BTHW is None:
        return
    weights_THW = branch.weight_map_BTHW[0].float().cpu().numpy()
    step = len(times_s) // len(weights_THW)
    for at_s, frame_CHW, weight_HW in zip(times_s[::step], view_TCHW, weights_THW, strict=True):
        frame_HWC = frame_CHW.permute(1, 2, 0).numpy()
        yield Heat(branch.name, at_s, heat_picture(frame_HWC, weight_HW))
