"""A student beside its teacher: the distillation of arXiv 2502.19026, for any two of the models.

"InternVQA: Advancing Compressed Video Quality Assessment with Distilling Large Foundation Model".
As published: all of the teacher is frozen but its last block, pooling, norm and head, which learn
the labels at the same time as the student; the student follows the teacher's pooled features.
Where these are of another width (another family of nets) a linear layer makes up for it: ours, as
the paper names none.

Shapes: D features.
"""

from typing import Self

from torch import Tensor, nn

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

        In training `teacher_quality` is the teacher's Quality, and `projected_BD` the student's features
        in the width of the teacher's.
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
