"""What a training starts from: given weights or none, and perhaps a teacher."""

from dataclasses import dataclass

from vqatool.errors import CheckpointError
from vqatool.inference.model_file import Checkpoint, shape_mismatch
from vqatool.methods import Method, recipe_for
from vqatool.methods.distillation import distilled, with_teacher
from vqatool.methods.recipe import LossWeights, Recipe
from vqatool.models.quality import QualityModel
from vqatool.training.step import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """Weights to start from (None: random ones), and a teacher to learn from beside the labels."""

    init: Checkpoint | None = None
    teacher: Checkpoint | None = None

    @property
    def name(self) -> str:
        """Names of both models; part of what identifies a training when it resumes."""
        init = self.init.name if self.init else "scratch"
        return f"{init}, taught by {self.teacher.name}" if self.teacher else init

    def require_method(self, method: str) -> None:
        """
        Raises:
            CheckpointError: the weights to start from are of another method.
        """
        if self.init and self.init.card.method != method:
            raise CheckpointError(
                f"{self.init.display_name} is a model of the method {self.init.card.method}, not "
                f"{method}: add --method {self.init.card.method}, or start from scratch with "
                "--init scratch"
            )

    def student_recipe(self, config: OptimizerConfig, weights: LossWeights | None = None) -> Recipe:
        """Recipe of the model that is saved, in the shape of the weights it starts from.

        Raises:
            CheckpointError: the weights are of another method.
        """
        self.require_method(config.method)
        return recipe_for(Method(config.method), config.shape_with(self.init), weights)

    def recipe(self, config: OptimizerConfig, weights: LossWeights | None = None) -> Recipe:
        """Recipe of the training: the student's, with the teacher's inputs and losses if any."""
        student = self.student_recipe(config, weights)
        if not self.teacher:
            return student
        return distilled(student, self.teacher.recipe, is_detached=config.is_detached)

    def model(self, config: OptimizerConfig) -> QualityModel:
        """The model to train, together with its teacher if there is one.

        Raises:
            CheckpointError: the weights to start from are of another shape, or those of the
                teacher are of another version.
            ValueError: the model has no part of the name `config.tune`.
        """
        student = self.student_recipe(config)
        model = student.build()
        if self.init:
            _load_weights(model, self.init)
        model.freeze_except(config.tune)
        return with_teacher(model, student, self.teacher.model()) if self.teacher else model


def _load_weights(model: QualityModel, init: Checkpoint) -> None:
    source = init.model()
    try:
        model.init_from(source)
    except RuntimeError as error:
        raise CheckpointError(
            f"{init.display_name} cannot start a model of another shape: {shape_mismatch(error)}"
        ) from error
