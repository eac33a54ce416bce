"""Any method with any other as its teacher: the distillation of arXiv 2502.19026.

Student and teacher learn at once: the student the labels and the teacher's features, the teacher's
last layers the labels. Each sees what its own method sees. What comes out is the student.
"""

from dataclasses import replace
from functools import partial
from math import gcd
from typing import Self

from torch import Generator, Tensor, nn

from vqatool.inputs.clip import Clip, FrameGroup, View
from vqatool.losses import feature_distillation_loss, squared_loss
from vqatool.methods.recipe import Input, Loss, Recipe
from vqatool.models.quality import Quality, QualityModel


class Distilling(QualityModel):
    """Student and teacher in training, the student alone otherwise.

    Args:
        student: who learns, and is what is stored.
        teacher: who is listened to; all but its `last_layers` is frozen from now on.
        student_views: how many of the first views are the student's, the others being the
            teacher's; None: both see all of them.
    """

    def __init__(
        self, student: QualityModel, teacher: QualityModel, *, student_views: int | None = None
    ) -> None:
        super().__init__()
        self.feature_width = teacher.feature_width
        self._student, self._teacher, self._student_views = student, teacher, student_views
        widths = student.feature_width, teacher.feature_width
        self._widen = nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths)
        teacher.requires_grad_(False)
        for layer in teacher.last_layers():
            layer.requires_grad_(True)
        self.train()

    def forward(self, *views: Tensor) -> Quality:
        """Views of the student, then of the teacher, which are needed in training alone.

        In training `teacher_quality` is the teacher's Quality, and `projected_BD` the student's
        features in the width of the teacher's.
        """
        quality: Quality = self._student(*views[: self._student_views])
        if not self.training:
            return quality
        projected_BD = self._widen(quality.features_BD).float()
        teacher_quality = self._teacher(*views[self._student_views :])
        return quality._replace(projected_BD=projected_BD, teacher_quality=teacher_quality)

    def train(self, mode: bool = True) -> Self:
        """Nothing is dropped in what is frozen: its features are to be the same ones every time."""
        super().train(mode)
        self._teacher.eval()
        for layer in self._teacher.last_layers():
            layer.train(mode)
        return self

    def student(self) -> QualityModel:
        """The student."""
        return self._student


def distilled(student: Recipe, teacher: Recipe, *, is_detached: bool = False) -> Recipe:
    """The student's recipe for a training beside a teacher of that recipe.

    Args:
        student: of the model that comes out.
        teacher: of the model that is listened to.
        is_detached: keep the teacher from going to meet the student; as published it does.
    """
    frame_group = _common_frame_group(student.frame_group, teacher.frame_group)
    return replace(
        student,
        inputs=_restrict_inputs(student, frame_group),
        teacher_inputs=_restrict_inputs(teacher, frame_group),
        frame_group=frame_group,
        reads_stream=student.reads_stream or teacher.reads_stream,
        needs_all_frames=student.needs_all_frames or teacher.needs_all_frames,
        loss=partial(distilled_terms, student.loss, is_detached),
    )


def with_teacher(student: QualityModel, recipe: Recipe, teacher: QualityModel) -> Distilling:
    """The model that learns by a recipe of `distilled`."""
    return Distilling(student, teacher, student_views=len(recipe.inputs))


def distilled_terms(
    loss: Loss,
    is_detached: bool,
    quality: Quality,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The student's own terms, the teacher's, and how far their features are apart."""
    terms = loss(quality, label_B, group_B, frame_label_BT)
    output = quality.teacher_quality
    if output is not None and quality.projected_BD is not None:
        terms["teacher"] = squared_loss(output.score_B, label_B)
        terms["feature"] = feature_distillation_loss(
            quality.projected_BD, output.features_BD, is_detached=is_detached
        )
    return terms


def subsampled_view(
    clip: Clip, *, view: View, frames: int, every: int, generator: Generator | None = None
) -> Tensor:
    """What `view` makes of the first `frames` frames of each burst, every so many of them."""
    return view(clip.subsample_groups(frames, every), generator=generator)


def _common_frame_group(one: FrameGroup, other: FrameGroup) -> FrameGroup:
    """The shortest burst that holds the frames of both."""
    strides = [each.stride for each in (one, other) if each.num_frames > 1]
    stride = gcd(*strides) or 1
    lengths = ((each.num_frames - 1) * each.stride for each in (one, other))
    return FrameGroup(1 + max(lengths) // stride, stride)


def _restrict_inputs(recipe: Recipe, frame_group: FrameGroup) -> tuple[Input, ...]:
    """Inputs that see the bursts of their own recipe, in a clip of longer ones."""
    own = recipe.frame_group
    if own.num_frames == frame_group.num_frames:
        return recipe.inputs
    every = own.stride // frame_group.stride if own.num_frames > 1 else 1
    return tuple(
        each._replace(
            view=partial(subsampled_view, view=each.view, frames=own.num_frames, every=every)
        )
        for each in recipe.inputs
    )
