"""Ablation: small trainings that differ in one thing, over several seeds, as one table.

Every variant gets the same budget and the same sources, and is judged on sources that none of them
saw. What the paper claims (arXiv 2401.08522: both contrastive terms help) and what it leaves open
(their weights, the temporal transformer, the window, the view) are the studies.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ladder.media.ffmpeg import find_ffmpeg
from ladder.storage import Table
from vqatool.data.splits import encodes_of_split
from vqatool.evaluation.cost import cost_of, make_clip
from vqatool.evaluation.variants import Trial
from vqatool.inference.device import device_named
from vqatool.inference.model_file import Checkpoint
from vqatool.training.initialization import Initialization
from vqatool.training.run import train, views_of
from vqatool.training.trainer import OnProgress, TrainConfig
from vqatool.training.validation import predict_all, validation

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One training of one variant, judged on sources it never saw; a row of `study.csv`.

    The columns from `parameters_m` are a `Cost`, nothing where that was not asked for; `init` is
    what the training began with, `file` its model's, in the folder of the table's name.
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
        """Unlike that of any other row."""
        return _key(self.study, self.variant, self.seed)


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """Mean over seeds and half the width of its 95 % interval (Student's t), NaN for one seed."""

    mean: float
    half: float


def run_study(
    folder: Path,
    out: Path,
    compared: Sequence[Trial],
    base: TrainConfig,
    *,
    seeds: int,
    device: str = "auto",
    has_cost: bool = False,
    on_progress: Callable[[str], OnProgress] = lambda what: lambda progress: None,
) -> Iterator[StudyRow]:
    """Train and judge every variant that `out` does not hold yet; yields all rows.

    Args:
        folder: labelled work folder; its split says what is learned from and what is judged.
        out: table of rows; model files are kept in a folder of its name.
        compared: variants, study by study.
        base: the budget and everything that does not vary.
        seeds: trainings of each variant, with the seeds 0, 1, ...
        device: `auto` or a torch device.
        has_cost: whether to measure costs, too.
        on_progress: told what is trained, gives who is told of its steps.

    Raises:
        CheckpointError: a variant cannot go on from the weights it is to begin with.
    """
    for trial in compared:
        trial.require_fit(base)
    made = out.with_suffix("")
    table = Table(out, StudyRow)
    table.repair()
    known = {row.key: row for row in table.rows()}
    for _, variants in itertools.groupby(compared, lambda trial: trial.study):
        for seed, trial in itertools.product(range(seeds), variants):
            config = trial.config(base, seed)
            # in full, as variants of several studies may be the same training
            config = replace(config, shape=trial.initialization.own_recipe(config).shape)
            model = made / f"{_digest(config, trial.initialization)}.safetensors"
            message = on_progress(f"{trial.name}, seed {seed}")
            checkpoint = train(
                folder,
                model,
                config,
                initialization=trial.initialization,
                device=device,
                on_progress=message,
            )
            clip = _clip(folder, made) if has_cost else None  # of the split that training makes
            row = known.get(_key(trial.study, trial.variant.name, seed))
            if row is None or row.model != checkpoint.name or (clip and row.clip_s is None):
                row = StudyRow(
                    study=trial.study,
                    variant=trial.variant.name,
                    seed=seed,
                    init=trial.initialization.name,
                    file=model.name,
                    **_figures(folder, checkpoint, device),
                    **(asdict(cost_of(model, clip)) if clip else {}),
                )
                table.append(row)
            yield row


def _clip(folder: Path, made: Path) -> Path:
    """What costs are measured on: the best encode that is judged, at a fixed size."""
    out = made / "clip.mp4"
    if not out.exists():
        made.mkdir(parents=True, exist_ok=True)
        best = max(encodes_of_split(folder, None), key=lambda encode: encode.vmaf)
        make_clip(find_ffmpeg(), best.path, out)
    return out


def _key(study: str, variant: str, seed: int) -> str:
    return f"{study}/{variant}/{seed}"


def _figures(folder: Path, checkpoint: Checkpoint, device: str) -> dict[str, Any]:
    """What `checkpoint` is worth on the folder's held-out sources."""
    clips = views_of(
        folder, encodes_of_split(folder, None), checkpoint.recipe, checkpoint.card.clip_frames
    )
    for _ in clips.decode_missing():
        pass
    predictions = predict_all(checkpoint.model(), clips, device_named(device))
    found = validation(predictions.scores, predictions.labels, clips.encodes)
    known = {
        name: value if math.isfinite(value) else None
        for name, value in asdict(found).items()
        if name in ("srcc", "in_group_srcc", "plcc", "rmse")
    }
    return {"model": checkpoint.name, "encodes": found.count, **known}


def _digest(config: TrainConfig, initialization: Initialization) -> str:
    """A name for a training: the same for the same, unlike any other's."""
    text = json.dumps([asdict(config), initialization.name], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def mean_over_seeds(values: Sequence[float | None]) -> MeanInterval:
    """Mean and half interval of one figure of one variant; unknown values are left out."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return MeanInterval(mean=math.nan, half=math.nan)
    if len(known) < 2:
        return MeanInterval(mean=float(known[0]), half=math.nan)
    error = known.std(ddof=1) / math.sqrt(len(known))
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(known) - 1))
    return MeanInterval(mean=float(known.mean()), half=reach * float(error))


def paired_difference(rows: Sequence[StudyRow], others: Sequence[StudyRow]) -> MeanInterval:
    """By how much the SRCC of `rows` is ahead of `others`', seed by seed."""
    theirs = {row.seed: row.srcc for row in others}
    gaps = [
        row.srcc - other
        for row in rows
        if row.srcc is not None and (other := theirs.get(row.seed)) is not None
    ]
    return mean_over_seeds(gaps)
