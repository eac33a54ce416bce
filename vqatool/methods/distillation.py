"""Distillation (arXiv 2502.19026): a student of any method learns from a teacher of any method.

"InternVQA: Advancing Compressed Video Quality Assessment with Distilling Large Foundation Model".
As published: the teacher is frozen except for its last block, pooling, norm and head, which learn
from the labels at the same time as the student; the student learns from the labels and from the
teacher's pooled features. Different: any two methods can be student and teacher, each with its own
views. Where their features have different widths a linear layer projects the student's; the paper
names none.

Shapes: B videos, T frames, D features.
"""

from dataclasses import replace
from functools import partial
from math import gcd
from typing import Self

import numpy as np
from torch import Tensor, nn

from vqatool.inputs.clip import Array, Clip, FrameGroup, View
from vqatool.losses import feature_distillation_loss, squared_loss
from vqatool.methods.recipe import Input, Loss, Recipe
from vqatool.models.quality import Quality, QualityModel, TeacherOutput, TrainingOutput


class StudentWithTeacher(QualityModel):
    """A student that reads its teacher's output in training, and is used without it.

    Args:
        student: the model that is trained and stored.
        teacher: the model whose features are the target. All of it except its `last_layers` is
            frozen here.
        student_views: how many of the first views are the student's; the rest are the teacher's.
            None: both read all views.
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
        """The student's output; the teacher's views may be missing."""
        quality: Quality = self._student(*views[: self._student_views])
        return quality

    def training_output(self, *views: Tensor) -> TrainingOutput:
        """The student's output with its `teacher`; the student's views, then the teacher's."""
        output = self._student.training_output(*views[: self._student_views])
        projected_BD = self._widen(output.quality.features_BD).float()
        teacher_quality = self._teacher(*views[self._student_views :])
        return output._replace(teacher=TeacherOutput(teacher_quality, projected_BD))

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen layers stay in evaluation mode, so that their features are fixed."""
        super().train(mode)
        self._teacher.eval()
        for layer in self._teacher.last_layers():
            layer.train(mode)
        return self

    def student(self) -> QualityModel:
        """The student."""
        return self._student


def distilled(student: Recipe, teacher: Recipe, *, is_detached: bool = False) -> Recipe:
    """The student's recipe, extended by the teacher's inputs and the distillation terms.

    Args:
        student: recipe of the model that is trained.
        teacher: recipe of its teacher.
        is_detached: whether the feature loss leaves the teacher's weights alone. As published it
            changes them too.
    """
    frame_group = _common_frame_group(student.frame_group, teacher.frame_group)
    return replace(
        student,
        inputs=_restrict_inputs(student, frame_group),
        teacher_inputs=_restrict_inputs(teacher, frame_group),
        frame_group=frame_group,
        reads_stream=student.reads_stream or teacher.reads_stream,
        needs_all_frames=student.needs_all_frames or teacher.needs_all_frames,
        make_loss=lambda: partial(distilled_terms, student.loss, is_detached),
    )


def with_teacher(
    student: QualityModel, recipe: Recipe, teacher: QualityModel
) -> StudentWithTeacher:
    """The model to train by a recipe that `distilled` returned."""
    return StudentWithTeacher(student, teacher, student_views=len(recipe.inputs))


def distilled_terms(
    loss: Loss,
    is_detached: bool,
    output: TrainingOutput,
    label_B: Tensor,
    group_B: Tensor,
    frame_label_BT: Tensor,
) -> dict[str, Tensor]:
    """The student's own loss terms, and two of the paper, each with weight 1.

    - `teacher`: mean squared distance of the teacher's scores and the labels;
    - `feature`: distance of the projected student features and the normalised teacher features.

    Args:
        loss: the student's own.
        is_detached: see `distilled`.
        output: with a `teacher`; otherwise there are only the student's terms.
        label_B: labels, 0 to 1.
        group_B: bitrate groups.
        frame_label_BT: labels of frame groups; NaN for none.
    """
    terms = loss(output, label_B, group_B, frame_label_BT)
    if output.teacher is not None:
        quality = output.teacher.quality
        terms["teacher"] = squared_loss(quality.score_B, label_B)
        terms["feature"] = feature_distillation_loss(
            output.teacher.projected_BD, quality.features_BD, is_detached=is_detached
        )
    return terms


def subsampled_view(
    clip: Clip, *, view: View, frames: int, every: int, generator: np.random.Generator | None = None
) -> Array:
    """`view` of a clip with `frames` frames of each frame group, every `every`-th of them."""
    return view(clip.subsample_groups(frames, every), generator=generator)


def _common_frame_group(one: FrameGroup, other: FrameGroup) -> FrameGroup:
    """The shortest frame group that contains the frames of both."""
    strides = [each.stride for each in (one, other) if each.num_frames > 1]
    stride = gcd(*strides) or 1
    lengths = ((each.num_frames - 1) * each.stride for each in (one, other))
    return FrameGroup(1 + max(lengths) // stride, stride)


def _restrict_inputs(recipe: Recipe, frame_group: FrameGroup) -> tuple[Input, ...]:
    """Inputs that read the recipe's own frames out of a clip with the larger `frame_group`."""
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
