"""Any method with any other as its teacher: the distillation of arXiv 2502.19026.

Student and teacher learn at once: the student the labels and the teacher's features, the teacher's
last layers the labels. Each sees what its own method sees. What comes out is the student.
"""

from dataclasses import replace
from functools import partial
from math import gcd

from torch import Generator, Tensor

from vqatool.clips import Burst, Clip, View
from vqatool.losses import squared_loss, taught_feature_loss
from vqatool.models.distilling import Distilling
from vqatool.models.quality import Quality, QualityModel
from vqatool.recipes.base import Input, Loss, Recipe


def taught(student: Recipe, teacher: Recipe, *, is_detached: bool = False) -> Recipe:
    """The student's recipe for a training beside a teacher of that recipe.

    Args:
        student: of the model that comes out.
        teacher: of the model that is listened to.
        is_detached: keep the teacher from going to meet the student; as published it does.
    """
    burst = _burst_of_both(student.burst, teacher.burst)
    return replace(
        student,
        inputs=_cut_to(student, burst),
        teacher_inputs=_cut_to(teacher, burst),
        burst=burst,
        reads_stream=student.reads_stream or teacher.reads_stream,
        is_seen_whole=student.is_seen_whole or teacher.is_seen_whole,
        loss=partial(taught_terms, student.loss, is_detached),
    )


def beside(student: QualityModel, recipe: Recipe, teacher: QualityModel) -> Distilling:
    """The model that learns by a recipe of `taught`."""
    return Distilling(student, teacher, student_views=len(recipe.inputs))


def taught_terms(
    loss: Loss,
    is_detached: bool,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The student's own terms, the teacher's, and how far their features are apart."""
    terms = loss(quality, label_B, group_B, frame_label_BT)
    said = quality.taught_by
    if said is not None and quality.toward_BD is not None:
        terms["teacher"] = squared_loss(said.score_B, label_B)
        terms["feature"] = taught_feature_loss(
            quality.toward_BD, said.features_BD, is_detached=is_detached
        )
    return terms


def some_frames(
    clip: Clip, *, view: View, frames: int, every: int, generator: Generator | None = None
) -> Tensor:
    """What `view` makes of the first `frames` frames of each burst, every so many of them."""
    return view(clip.cut_to(frames, every), generator=generator)


def _burst_of_both(one: Burst, other: Burst) -> Burst:
    """The shortest burst that holds the frames of both."""
    strides = [each.stride for each in (one, other) if each.frames > 1]
    stride = gcd(*strides) or 1
    lengths = ((each.frames - 1) * each.stride for each in (one, other))
    return Burst(1 + max(lengths) // stride, stride)


def _cut_to(recipe: Recipe, burst: Burst) -> tuple[Input, ...]:
    """Inputs that see the bursts of their own recipe, in a clip of longer ones."""
    own = recipe.burst
    if own.frames == burst.frames:
        return recipe.inputs
    every = own.stride // burst.stride if own.frames > 1 else 1
    return tuple(
        each._replace(view=partial(some_frames, view=each.view, frames=own.frames, every=every))
        for each in recipe.inputs
    )
