"""What a training begins with: weights or none, and perhaps a teacher."""

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
    """Weights to start from (None: from scratch), and a model that teaches beside the labels."""

    init: Checkpoint | None = None
    teacher: Checkpoint | None = None

    @property
    def name(self) -> str:
        """Of all that is learned from besides labels, to know the training again."""
        init = self.init.name if self.init else "scratch"
        return f"{init}, taught by {self.teacher.name}" if self.teacher else init

    def require_fit(self, method: str) -> None:
        """
        Raises:
            CheckpointError: the weights to start from are of another method.
        """
        if self.init and self.init.card.method != method:
            raise CheckpointError(
                f"the weights to start from are of the method {self.init.card.method}, not "
                f"{method}: add --method {self.init.card.method}, or start from scratch with "
                "--init scratch"
            )

    def own_recipe(self, config: OptimizerConfig, weights: LossWeights | None = None) -> Recipe:
        """That of the model which comes out, in the shape of the weights it starts from.

        Raises:
            CheckpointError: these are of another method.
        """
        self.require_fit(config.method)
        return recipe_for(Method(config.method), config.shape_after(self.init), weights)

    def recipe(self, config: OptimizerConfig, weights: LossWeights | None = None) -> Recipe:
        """The same, with what the teacher sees and says."""
        own = self.own_recipe(config, weights)
        if not self.teacher:
            return own
        return distilled(own, self.teacher.recipe, is_detached=config.is_detached)

    def model(self, config: OptimizerConfig) -> QualityModel:
        """The model that learns, beside its teacher if there is one.

        Raises:
            CheckpointError: the weights to start from are of another shape, or they or the
                teacher's of another version.
            ValueError: the model has no such part to tune.
        """
        own = self.own_recipe(config)
        model = own.build()
        if self.init:
            _go_on(model, self.init)
        model.freeze_except(config.tune)
        return with_teacher(model, own, self.teacher.model()) if self.teacher else model


def _go_on(model: QualityModel, init: Checkpoint) -> None:
    known = init.model()
    try:
        model.init_from(known)
    except RuntimeError as error:
        raise CheckpointError(
            f"{init.display_name} cannot go on in another shape: {shape_mismatch(error)}"
        ) from error
