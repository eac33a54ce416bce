"""Ablation studies: small trainings that differ in one setting, over several seeds, in one table.

Every variant has the same budget, trains on the same sources and is evaluated on the same held-out
sources. The studies test what the paper claims (arXiv 2401.08522: both contrastive terms help) and
what it leaves open (their weights, the temporal transformer, the window, the view).
"""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ladder.media.ffmpeg import find_ffmpeg
from ladder.storage import Table, digest, work_lock
from vqatool.data.splits import encodes_of_split
from vqatool.errors import OutputNameError
from vqatool.evaluation.cost import cost_of, make_clip
from vqatool.evaluation.variants import Trial
from vqatool.inference.device import device_named
from vqatool.inference.model_file import Checkpoint
from vqatool.training.initialization import Initialization
from vqatool.training.run import cached_inputs, train_in_locked_folder
from vqatool.training.step import OnProgress, make_accelerator
from vqatool.training.trainer import TrainConfig
from vqatool.training.validation import predict_all, validate

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One training of one variant, evaluated on held-out sources; a row of `study.csv`.

    The columns from `parameters_m` to `peak_mb` are a `Cost`, empty where it was not measured.
    `init` names the weights that the training started from, `file` its model file in the folder of
    the table's name.
    """

    study: str
    variant: str
    seed: int
    model: str
    encodes: int
    srcc: float | None
    in_group_srcc: float | None
    plcc: float | None
    rmse: float | None
    parameters_m: float | None = None
    macs_g: float | None = None
    clip_s: float | None = None
    peak_mb: float | None = None
    init: str = ""
    file: str = ""

    @property
    def key(self) -> str:
        """Study, variant and seed."""
        return _key(self.study, self.variant, self.seed)


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """Mean over seeds and half the width of its 95 % interval (Student's t), NaN for one seed."""

    mean: float
    half: float


def run_study(
    folder: Path,
    out: Path,
    trials: Sequence[Trial],
    base: TrainConfig,
    *,
    seeds: int,
    device: str = "auto",
    has_cost: bool = False,
    on_progress: Callable[[str], OnProgress] = lambda trial: lambda progress: None,
) -> list[StudyRow]:
    """Train and evaluate every variant that `out` does not hold yet.

    The folder is locked for the whole run: no other command uses it meanwhile.

    Args:
        folder: labelled work folder; its split gives the sources to train and to evaluate on.
        out: table of rows; model files are kept in a folder of its name, without the ending.
        trials: variants and their initialization, study by study.
        base: the budget, and every setting that is the same for all variants.
        seeds: trainings of each variant, with the seeds 0, 1, ...
        device: `auto` or a torch device.
        has_cost: whether to measure costs, too.
        on_progress: called with the name of each training; its result is called after every step.

    Returns:
        The rows of all variants, those of earlier runs included.

    Raises:
        CheckpointError: a variant cannot start from its initial weights.
        OutputNameError: the table and the folder of models cannot be written beside each other.
        TableError: `out` was not written by `study`, or another run uses the folder.
    """
    models = _models_folder(out)
    for trial in trials:
        trial.require_weights(base)
    table = Table(out, StudyRow)
    table.repair()
    accelerator = make_accelerator(device)
    is_first = accelerator.is_main_process and folder.is_dir()
    with work_lock(folder) if is_first else nullcontext():
        known = {row.key: row for row in table.rows()}
        rows = []
        for _, variants in itertools.groupby(trials, lambda trial: trial.study):
            for seed, trial in itertools.product(range(seeds), variants):
                config = trial.config(base, seed)
                # with the complete shape, equal trainings of two studies have the same digest
                shape = trial.initialization.student_recipe(config).shape
                config = replace(config, shape=shape)
                model = models / f"{_digest(config, trial.initialization)}.safetensors"
                checkpoint = train_in_locked_folder(
                    folder,
                    model,
                    config,
                    trial.initialization,
                    accelerator,
                    on_progress(f"{trial.name}, seed {seed}"),
                )
                row = known.get(_key(trial.study, trial.variant.name, seed))
                is_outdated = row is None or row.model != checkpoint.name
                if row is None or is_outdated or (has_cost and row.clip_s is None):
                    row = StudyRow(
                        study=trial.study,
                        variant=trial.variant.name,
                        seed=seed,
                        init=trial.initialization.name,
                        file=model.name,
                        **_metrics(folder, checkpoint, device),
                        **(asdict(cost_of(model, _clip(folder, models))) if has_cost else {}),
                    )
                    table.append(row)
                rows.append(row)
    return rows


def _models_folder(out: Path) -> Path:
    """The folder of model files of a table."""
    folder = out.with_suffix("")
    if folder == out:
        raise OutputNameError(
            f"{out} has no ending, and the models of the study are kept in a folder of that name: "
            f"write -o {out}.csv"
        )
    if folder.exists() and not folder.is_dir():
        raise OutputNameError(
            f"{folder} is a file, and the models of the study are kept in a folder of that name: "
            "choose another name with -o, or move that file away"
        )
    if out.is_dir():
        raise OutputNameError(f"{out} is a folder: choose another name for the table with -o")
    return folder


def _clip(folder: Path, models: Path) -> Path:
    """The clip that costs are measured on: the best held-out encode, at a fixed size."""
    out = models / "clip.mp4"
    if not out.exists():
        models.mkdir(parents=True, exist_ok=True)
        best = max(encodes_of_split(folder, None), key=lambda encode: encode.vmaf)
        make_clip(find_ffmpeg(), best.path, out)
    return out


def _key(study: str, variant: str, seed: int) -> str:
    return f"{study}/{variant}/{seed}"


def _metrics(folder: Path, checkpoint: Checkpoint, device: str) -> dict[str, Any]:
    """Metrics of `checkpoint` on the folder's held-out sources, as columns of a row."""
    inputs = cached_inputs(
        folder, encodes_of_split(folder, None), checkpoint.recipe, checkpoint.card.clip_frames
    )
    for _ in inputs.decode_missing():
        pass
    predictions = predict_all(checkpoint.model(), inputs, device_named(device))
    validation = validate(predictions.scores, predictions.labels, inputs.encodes)
    known = {
        name: value if math.isfinite(value) else None
        for name, value in asdict(validation).items()
        if name in ("srcc", "in_group_srcc", "plcc", "rmse")
    }
    return {"model": checkpoint.name, "encodes": validation.count, **known}


def _digest(config: TrainConfig, initialization: Initialization) -> str:
    """Digest of the settings and initial weights of a training."""
    text = json.dumps([asdict(config), initialization.name], sort_keys=True)
    return digest(text, size=6)


def mean_over_seeds(values: Sequence[float | None]) -> MeanInterval:
    """Mean and half interval of a metric of one variant, ignoring None."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return MeanInterval(mean=math.nan, half=math.nan)
    if len(known) < 2:
        return MeanInterval(mean=float(known[0]), half=math.nan)
    standard_error = known.std(ddof=1) / math.sqrt(len(known))
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(known) - 1))
    return MeanInterval(mean=float(known.mean()), half=quantile * float(standard_error))


def paired_difference(rows: Sequence[StudyRow], others: Sequence[StudyRow]) -> MeanInterval:
    """How much higher the SRCC of `rows` is than that of `others`, compared seed by seed."""
    other_srcc = {row.seed: row.srcc for row in others}
    differences = [
        row.srcc - other
        for row in rows
        if row.srcc is not None and (other := other_srcc.get(row.seed)) is not None
    ]
    return mean_over_seeds(differences)
