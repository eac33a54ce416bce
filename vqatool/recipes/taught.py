"""Any method with any other as its teacher: the distillation of arXiv 2502.19026.

Student and teacher learn at once: the student the labels and the teacher's features, the teacher's
last layers the labels. Each sees what its own method sees. What comes out is the student.
"""

from dataclasses import replace
from functools import partial

from torch import Generator, Tensor

from vqatool.clips import Burst, Clip, View
from vqatool.losses import squared_loss, taught_feature_loss
from vqatool.models.distilling import Distilling
from vqatool.models.quality import Quality, QualityModel
from vqatool.recipes.base import Input, Loss, Recipe


def taught(student: Recipe, teacher: Recipe) -> Recipe:
    """The student's recipe for a training beside a teacher of that recipe.

    Raises:
        ValueError: they look at bursts of unlike strides.
    """
    strides = {each.burst.stride for each in (student, teacher) if each.burst.frames > 1}
    if len(strides) > 1:
        raise ValueError(f"student and teacher take every {min(strides)}th and {max(strides)}th "
                         "frame of a burst, which have to be the same")  # fmt: skip
    burst = Burst(max(student.burst.frames, teacher.burst.frames), *strides)
    return replace(
        student,
        inputs=_cut_to(student, burst),
        teacher_inputs=_cut_to(teacher, burst),
        burst=burst,
        reads_stream=student.reads_stream or teacher.reads_stream,
        loss=partial(taught_terms, student.loss),
    )


def beside(student: QualityModel, recipe: Recipe, teacher: QualityModel) -> Distilling:
    """The model that learns by a recipe of `taught`."""
    return Distilling(student, teacher, student_views=len(recipe.inputs))


def taught_terms(
    loss: Loss, quality: Quality, label_B: Tensor, group_B: Tensor, frame_label_BT: Tensor
) -> dict[str, Tensor]:
    """The student's own terms, the teacher's, and how far their features are apart."""
    terms = loss(quality, label_B, group_B, frame_label_BT)
    said = quality.taught_by
    if said is not None:
        terms["teacher"] = squared_loss(said.score_B, label_B)
        terms["feature"] = taught_feature_loss(quality.features_BD, said.features_BD)
    return terms


def first_frames(
    clip: Clip, *, view: View, frames: int, generator: Generator | None = None
) -> Tensor:
    """What `view` makes of the first frames of each burst."""
    return view(clip.cut_to(frames), generator=generator)


def _cut_to(recipe: Recipe, burst: Burst) -> tuple[Input, ...]:
    """Inputs that see the bursts of their own recipe, in a clip of longer ones."""
    frames = recipe.burst.frames
    if frames == burst.frames:
        return recipe.inputs
    return tuple(
        each._replace(view=partial(first_frames, view=each.view, frames=frames))
        for each in recipe.inputs
    )
