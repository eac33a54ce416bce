"""Views of clips -> what a model predicts for them: the one way to ask a model. No torch."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vqatool.inference.contents import Contents
from vqatool.inference.engine import Engine, Floats, Limits, Output, TypicalInput, output_of
from vqatool.inputs.clip import Array, collate, finished
from vqatool.inputs.preprocessor import ClipPreprocessor


class Predictor:
    """A model, ready to predict.

    Attributes:
        card: of the model file.
        name: method and digest of the weights.
        inputs: of the model.
        preprocessor: what makes the model's views of a video.
        batch: clips that the model takes at once.

    Args:
        engine: what runs it.
        pixels_only: hide the bitstream features from the model.
        batch: None: as the engine likes best; never more than it takes.
    """

    def __init__(
        self, engine: Engine, *, pixels_only: bool = False, batch: int | None = None
    ) -> None:
        self.card, self.name = engine.model.card, engine.model.name
        recipe = self.card.recipe
        self.inputs = recipe.inputs
        reads_stream = recipe.reads_stream and not pixels_only
        self.preprocessor = ClipPreprocessor(
            recipe.views,
            self.card.clip_frames,
            recipe.frame_group,
            reads_stream,
            is_divisible=recipe.free_in_export == "clips and groups",
        )
        most = engine.max_batch or math.inf
        self._finished: list[tuple[Array, Array]] = []
        self._engine, self.batch = engine, int(min(batch or engine.batch, most))

    def load_model(self) -> None:
        """Load what takes a while, before the first prediction.

        Raises:
            CheckpointError: the weights do not fit the shape their card gives.
        """
        self._engine.load()

    def predict(self, clips: Sequence[Sequence[Array]]) -> Output:
        """The model's output for N clips, at least one, each as the preprocessor loads it."""
        return self.predict_finished(list(map(self.finish, clips)))

    def finish(self, clip: Sequence[Array]) -> list[Array]:
        """The inputs of the model from one clip as the preprocessor loads it.

        Views that this clip has in common with the one before it, as objects, are finished once.
        """
        latest = self._finished  # which keeps its arrays, so that no other one has their id
        before = {id(array): done for array, done in latest}
        done = [
            before[id(array)] if id(array) in before else finished([view], [array])[0]
            for view, array in zip(self.preprocessor.views, clip, strict=True)
        ]
        self._finished = list(zip(clip, done, strict=True))
        return done

    def predict_finished(self, clips: Sequence[Sequence[Array]]) -> Output:
        """The model's output for N clips, at least one, each as `finish` gives it."""
        outputs: list[Mapping[str, Floats]] = []
        for start in range(0, len(clips), self.batch):
            columns = zip(*clips[start : start + self.batch], strict=True)
            outputs.append(self._engine.run([collate(column) for column in columns]))
        return output_of(
            {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}
        )

    def bands(self, output: Output) -> list[float]:
        """Half the width of the 90 % interval around each score of an output, label points."""
        if output.spread_B is None or not self.card.band_per_spread:
            return [self.card.band] * len(output.score_B)
        points: list[float] = (100 * self.card.band_per_spread * output.spread_B).tolist()
        return points

    @property
    def limits(self) -> Limits | None:
        """Of a clip like the training data; None for a model that cannot tell."""
        return self._engine.model.limits

    @property
    def typical(self) -> Sequence[TypicalInput | None]:
        """Of each input, what it is for a typical clip; None for pixels, empty if not known."""
        return self._engine.typical

    @property
    def contents(self) -> Contents | None:
        """Of the training; None for a model that does not know them."""
        return self._engine.model.contents

    def is_out_of_distribution(self, clips: Sequence[Output]) -> bool:
        """Whether most of these clips, of an output each, are unlike the training data."""
        return self.limits is not None and not self.limits.contains(clips)


def to_label_scale(score: Array) -> list[float]:
    """Scores of a model, (N,), on the label's scale: 0 (worst) to 100 (best).

    NaN stays NaN, and what is infinite becomes it: it is no score, least of all the best.
    """
    points = 100 * np.asarray(score, np.float32)
    output: list[float] = np.where(np.isfinite(points), points.clip(0, 100), np.nan).tolist()
    return output
