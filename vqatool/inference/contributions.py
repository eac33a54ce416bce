"""How much each input of a model moves a score: Shapley values over groups of inputs. No torch.

"A Unified Approach to Interpreting Model Predictions" (arXiv 1705.07874, section 2): an input's
part is what it adds to the score, on average over all orders in which the inputs can become known.
So the parts add up to the score exactly. An input that is not known is that of a typical clip of
the training data. The groups are the model's views of figures, of which there are few: all subsets
are asked. Frames have no typical clip; they stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from vqatool.inference.engine import Output, TypicalInput
from vqatool.inference.predictor import Predictor, to_label_scale
from vqatool.inputs.clip import Array, is_pixels

_SAME_SCORE = 1e-5  # a thousandth of a point


@dataclass(frozen=True)
class Contributions:
    """Points of a score: `base`, with each group as in a typical clip, and what each adds to it."""

    base: float
    points: Mapping[str, float]  # by the name of the group


def contributions(
    predictor: Predictor, inputs: Sequence[Array], output: Output
) -> Contributions | None:
    """What each group of a clip's inputs adds to its score.

    Args:
        predictor: that gave the score.
        inputs: of the clip, as `Predictor.finish` gives them.
        output: of that clip alone.

    Returns:
        Parts that add up to the score; None where the model knows no typical clip.
    """
    typical = predictor.typical
    known = [index for index, each in enumerate(typical) if each]
    if not known:
        return None
    inputs = _shortest(predictor, inputs, float(output.score_B[0]))
    replaced = [
        each.like(view) if each else view for each, view in zip(typical, inputs, strict=True)
    ]
    clips = []
    for subset in range(2 ** len(known) - 1):  # the last one is the clip itself
        own = {index for place, index in enumerate(known) if subset >> place & 1}
        clips.append([inputs[i] if i in own else replaced[i] for i in range(len(inputs))])
    values = np.append(predictor.predict_finished(clips).score_B, output.score_B)
    scores = to_label_scale(values)
    points = _shapley_values(scores, len(known))
    names = [predictor.inputs[index].name for index in known]
    return Contributions(scores[0], dict(zip(names, points, strict=True)))


def _shortest(predictor: Predictor, inputs: Sequence[Array], score: float) -> Sequence[Array]:
    """The inputs of two frames if these get the same score as all frames, else all.

    Scores that are made of figures of the whole clip need no frames, and those of the packaged
    model are: frames would be most of the work.
    """
    if predictor.card.recipe.free_in_export != "clips and groups":
        return inputs
    two = [_two_frames(view) for view in inputs]
    found = float(predictor.predict_finished([two]).score_B[0])
    return two if abs(found - score) < _SAME_SCORE else inputs


def _two_frames(view: Array) -> Array:
    """Two frames; figures of frames keep their mean and deviation."""
    if view.ndim == 1 or is_pixels(view):
        return view if view.ndim == 1 else view[:2]
    return TypicalInput(view.mean(0), None, view.std(0)).like(view[:2])


def _shapley_values(scores: Sequence[float], count: int) -> list[float]:
    """The values of `count` players; `scores` are those of all subsets, by number."""
    return [
        sum(
            _weight(subset.bit_count(), count) * (scores[subset | 1 << player] - scores[subset])
            for subset in range(2**count)
            if not subset >> player & 1
        )
        for player in range(count)
    ]


def _weight(size: int, count: int) -> float:
    """The share of the orders in which just `size` players come before a certain one."""
    return factorial(size) * factorial(count - size - 1) / factorial(count)
