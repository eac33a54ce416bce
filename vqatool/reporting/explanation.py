"""Why a clip has its score: the score of each frame, of each branch, and attention maps.

Every model has a curve over its frames. A model that fuses several branches has a score and a curve
for each of them. A model that weighs the patches of a frame has an attention map of each frame.
"""

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ladder.errors import VideoError
from ladder.media.probe import probe
from ladder.media.time_ranges import FULL, TrimSpec
from ladder.media.upright import Pixels
from vqatool.errors import CheckpointError
from vqatool.files import PNG_METADATA, require_own_files
from vqatool.inference.engine import Branch, Output
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inputs.clip import Array
from vqatool.inputs.decode_pool import WHOLE_VIDEO_TIMEOUT_S, DecodeFailure, decode_one
from vqatool.inputs.preprocessor import ClipPreprocessor, require_sdr, sample_times

ALL = "all"
"""The name of the score that all branches are fused into."""


@dataclass(frozen=True, kw_only=True)
class FrameScore:
    """The score of one frame by a branch or by `ALL`, a row of `moments.csv`; 0 to 100."""

    part: str
    at_s: float
    score: float


class AttentionMap(NamedTuple):
    """How much each patch of one frame counts for a branch, as a picture."""

    part: str
    at_s: float
    picture: Pixels


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A model's output for one clip; `scores` are those of the whole clip by part, `ALL` first.

    All scores are 0 (worst) to 100 (best).
    """

    scores: dict[str, float]
    frame_scores: list[FrameScore]
    attention_maps: list[AttentionMap]


def explain(
    predictor: Predictor,
    path: Path,
    display: tuple[int, int] | None,
    trim: TrimSpec = FULL,
    *,
    tonemap: bool = False,
    timeout_s: float = WHOLE_VIDEO_TIMEOUT_S,
) -> Explanation:
    """Predict for one clip of a video as `score` does for a segment, and keep all output.

    Args:
        predictor: the model.
        path: the video; a worker process decodes it.
        display: (width, height) of the screen, px; None scores pixel for pixel.
        trim: which clip of it; by default the whole video.
        tonemap: read HDR as SDR; else it is refused.
        timeout_s: seconds that the worker has.

    Raises:
        VideoError: the file cannot be decoded or is HDR, or the clip begins after its end.
        CheckpointError: the model's score is not a finite number.
    """
    decoded = decode_one(
        path, _decode_clip, predictor.preprocessor, display, trim, tonemap, timeout_s=timeout_s
    )
    if isinstance(decoded, DecodeFailure):
        raise VideoError(decoded.code, decoded.reason)
    output = predictor.predict([decoded.views])
    if not np.isfinite(output.score_B).all():
        raise CheckpointError(
            f"{path}: model {predictor.name} gives a score that is not a finite number: its "
            "weights are broken, so train it again or name another model"
        )
    parts: list[tuple[str, Output | Branch]] = [(ALL, output)]
    parts += [(branch.name, branch) for branch in output.branches]
    return Explanation(
        scores={name: to_label_scale(part.score_B)[0] for name, part in parts},
        frame_scores=[
            FrameScore(part=name, at_s=at_s, score=score)
            for name, part in parts
            for at_s, score in _curve(decoded.times_s, to_label_scale(part.frame_score_BT[0]))
        ],
        attention_maps=[
            attention_map
            for branch, view_TCHW in zip(output.branches, decoded.views, strict=False)
            for attention_map in _attention_maps(branch, view_TCHW, decoded.times_s)
        ],
    )


class _DecodedClip(NamedTuple):
    """The views of a clip, and the times of its frames in seconds."""

    views: list[Array]
    times_s: list[float]


def _decode_clip(
    path: Path,
    preprocessor: ClipPreprocessor,
    display: tuple[int, int] | None,
    trim: TrimSpec,
    tonemap: bool,
) -> _DecodedClip:
    """The task of a worker."""
    info = probe(path, tonemap=tonemap)
    require_sdr(info)
    start_s, length_s = next(
        ((time_range.start_s, time_range.length_s) for time_range in trim.ranges_of(info)),
        (0.0, info.duration_s),
    )
    views = preprocessor.load_views(info, display, start_s=start_s, length_s=length_s)
    times_s = sample_times(
        start_s, length_s, preprocessor.num_frame_groups, preprocessor.frame_group, float(info.fps)
    )
    return _DecodedClip(views, times_s)


def write_explanation(found: Explanation, folder: Path) -> list[Path]:
    """Write `moments.csv` and a picture for each attention map; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, columns = folder / "moments.csv", [field.name for field in fields(FrameScore)]
    pictures = [folder / f"{one.part}-{one.at_s:09.3f}.png" for one in found.attention_maps]
    require_own_files({table: columns}, pictures)
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for frame_score in found.frame_scores:
            shown = {"at_s": f"{frame_score.at_s:.3f}", "score": f"{frame_score.score:.4g}"}
            writer.writerow(asdict(frame_score) | shown)
    if pictures:
        # takes a second, and not every install has it
        from matplotlib.image import imsave
    for path, attention_map in zip(pictures, found.attention_maps, strict=True):
        imsave(path, attention_map.picture, metadata=PNG_METADATA)
    return [table, *pictures]


def _curve(times_s: list[float], scores: list[float]) -> Iterator[tuple[float, float]]:
    """Scores, each with the time of its first frame."""
    yield from zip(times_s[:: len(times_s) // len(scores)], scores, strict=True)


def _attention_maps(
    branch: Branch, view_TCHW: Array, times_s: list[float]
) -> Iterator[AttentionMap]:
    """A picture for each frame of the branch's view, if it weighs the frame's patches."""
    if branch.weight_map_BTHW is None:
        return
    weights_THW = branch.weight_map_BTHW[0]
    step = len(times_s) // len(weights_THW)
    for at_s, frame_CHW, weight_HW in zip(times_s[::step], view_TCHW, weights_THW, strict=True):
        frame_HWC = frame_CHW.transpose(1, 2, 0)
        yield AttentionMap(branch.name, at_s, draw_attention_map(frame_HWC, weight_HW))


_STRENGTH = 0.5  # of the colour; the rest is the frame in grey


def draw_attention_map(frame_HWC: Pixels, weight_HW: npt.NDArray[np.floating]) -> Pixels:
    """The frame in grey, each patch in the colour of its weight: from blue (smallest) to red.

    Colours are relative to this frame; equal weights have the middle colour.

    Args:
        frame_HWC: uint8 RGB, the model's input.
        weight_HW: a weight for each patch, fewer rows and columns than the frame has.

    Returns:
        uint8 RGB of the frame's size.
    """
    from matplotlib import colormaps  # takes a second, which only this needs

    colours_HWC = 255 * colormaps["turbo"](_relative(weight_HW))[..., :3]
    rows, columns = (
        np.arange(length) * patches // length
        for length, patches in zip(frame_HWC.shape[:2], weight_HW.shape, strict=True)
    )
    painted_HWC = colours_HWC[rows[:, None], columns]
    grey_HW1 = frame_HWC.mean(axis=2, keepdims=True)
    blend_HWC = _STRENGTH * painted_HWC + (1 - _STRENGTH) * grey_HW1
    return np.asarray(blend_HWC.round(), dtype=np.uint8)


def _relative(weight_HW: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """0 for the smallest weight, 1 for the largest."""
    smallest, largest = float(weight_HW.min()), float(weight_HW.max())
    if smallest == largest:
        return np.full(weight_HW.shape, 0.5)
    return np.asarray((weight_HW - smallest) / (largest - smallest), dtype=np.float64)
