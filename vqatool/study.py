"""Ablation: small trainings that differ in one thing, over several seeds, as one table.

Every variant gets the same budget and the same sources, and is judged on sources that none of them
saw. What the paper claims (arXiv 2401.08522: both contrastive terms help) and what it leaves open
(their weights, the temporal transformer, the window, the view) are the studies.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ladder.tables import Table
from vqatool.checkpoint import Checkpoint
from vqatool.device import device_named
from vqatool.errors import CheckpointError
from vqatool.evaluation.cost import cost_of
from vqatool.groups import labelled_of
from vqatool.methods import Method
from vqatool.train import train, views_of
from vqatool.training.learner import OnProgress, TrainConfig
from vqatool.training.start import Start
from vqatool.training.validation import judge, validation

_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What one training has that others have not: method, weights of the loss, model's shape.

    One that tunes a part needs weights to go on from; one that is taught has a teacher.
    """

    name: str
    method: Method = Method.COARSE_TO_FINE
    weights: Mapping[str, Any] = field(default_factory=dict)
    shape: Mapping[str, Any] = field(default_factory=dict)
    tune: str = ""
    is_taught: bool = False
    is_detached: bool = False

    def config(self, base: TrainConfig, seed: int) -> TrainConfig:
        """The training of this variant; no validation chooses weights, so none has luck in it."""
        return replace(
            base,
            method=self.method.value,
            seed=seed,
            validations=1,
            shape={**base.shape, **self.shape},
            tune=self.tune or base.tune,
            is_detached=self.is_detached,
            weights=replace(base.weights, **self.weights),
        )

    def start(self, inits: Sequence[Checkpoint], teacher: Checkpoint | None) -> Start:
        """What this one begins with: the weights of its method, or from scratch if none are given.

        Raises:
            CheckpointError: weights are given or needed, but none of its method are there.
        """
        method = self.method.value
        init = next((each for each in inits if each.card.method == method), None)
        if init is None and (inits or self.tune):
            raise CheckpointError(
                f"{self.name} has no weights to go on from, and the study would not be a fair one: "
                f"add --init FILE of {method} (`vqatool pretrain --method {method}` makes one)"
            )
        return Start(init=init, teacher=teacher if self.is_taught else None)


def _grid() -> tuple[Variant, ...]:
    return tuple(
        Variant(name=f"group {group:g}, rank {rank:g}", weights={"group": group, "rank": rank})
        for group, rank in itertools.product((0.03, 0.1, 0.3), (0.3, 1.0, 3.0))
    )


# in full, as weights to go on from carry their own: those of small pictures are made to see others
_SMALL_ZOOM = {"still_short_px": 512, "crop_px": 128, "run_short_px": 480, "grid": 4}
_SMALL_SAMA = {"grid": 4, "burst_frames": 2}
_SWIN_ALONE = {"has_stream": False, "has_motion": False, "has_bands": False}

STUDIES: dict[str, tuple[Variant, ...]] = {
    "terms": (
        Variant(name="no contrastive terms", weights={"group": 0.0, "rank": 0.0}),
        Variant(name="group contrast", weights={"rank": 0.0}),
        Variant(name="rank", weights={"group": 0.0}),
        Variant(name="both"),
    ),
    "contrast": tuple(
        Variant(name=name, weights={"contrast": name}) for name in ("ours", "tta", "supcon")
    ),
    "weights": _grid(),
    "temporal": (
        Variant(name="transformer"),
        Variant(name="mean", shape={"temporal_layers": 0}),
    ),
    "window": tuple(
        Variant(name=f"window {window}", shape={"window": window}) for window in (4, 8, 16)
    ),
    "view": (
        Variant(name="4 x 4 patches of 32 px"),
        Variant(name="2 x 2 patches of 64 px", shape={"grid": 2, "patch": 64}),
        Variant(name="one crop of 128 px", shape={"grid": 1, "patch": 128}),
    ),
    "input": (
        Variant(name="all"),
        Variant(name="without stream facts", shape={"has_stream": False}),
        Variant(name="without motion", shape={"has_motion": False}),
        Variant(name="without band contrast", shape={"has_bands": False}),
        Variant(name="SwinV2 alone", shape=_SWIN_ALONE),
        Variant(name="SwinV2 without local luma", shape={**_SWIN_ALONE, "has_local_luma": False}),
        Variant(name="SwinV2 without conv stem", shape={**_SWIN_ALONE, "has_conv_stem": False}),
    ),
    # of about one amount of pixels a frame: 128 px a side
    "methods": (
        Variant(name="coarse-to-fine"),
        Variant(name="coarse-to-fine, pixels alone", shape={"has_stream": False}),
        Variant(name="SAMA", method=Method.SAMA, shape=_SMALL_SAMA),
        Variant(name="Zoom-VQA", method=Method.ZOOM_VQA, shape=_SMALL_ZOOM),
        Variant(name="Q-Mamba", method=Method.Q_MAMBA, shape={"grid": 4, "patch": 32}),
        Variant(name="InternVQA", method=Method.INTERN_VQA, shape={"grid": 3}),
    ),
    "masks": tuple(
        Variant(name=mask, method=Method.SAMA, shape={**_SMALL_SAMA, "mask": mask})
        for mask in ("fragments", "sama", "sama-c", "sama-mix", "sama-swm", "sama-spm")
    ),
    "teacher": (
        Variant(name="alone"),
        Variant(name="taught", is_taught=True),
        Variant(name="taught, teacher detached", is_taught=True, is_detached=True),
    ),
    "tune": (
        Variant(name="head", method=Method.Q_MAMBA, tune="head"),
        Variant(name="prompts", method=Method.Q_MAMBA, tune="prompts", shape={"prompts": 4}),
        Variant(name="all", method=Method.Q_MAMBA, tune="all"),
    ),
}
"""What is compared, by name; the first of a study is what the others are held against."""

OF_WEIGHTS = ("tune",)
"""Studies that go on from weights of Q-Mamba."""


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One training of one variant, judged on sources it never saw; a row of `study.csv`.

    The last columns are a `Cost`; nothing where that was not asked for.
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

    @property
    def key(self) -> str:
        """Unlike that of any other row."""
        return f"{self.study}/{self.variant}/{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean over seeds and half the width of its 95 % interval (Student's t), NaN for one seed."""

    mean: float
    half: float


def run_study(
    folder: Path,
    out: Path,
    studies: Sequence[str],
    base: TrainConfig,
    *,
    seeds: int,
    inits: Sequence[Checkpoint] = (),
    teacher: Checkpoint | None = None,
    device: str = "auto",
    clip: Path | None = None,
    on_progress: Callable[[str], OnProgress] = lambda what: lambda progress: None,
) -> Iterator[StudyRow]:
    """Train and judge every variant of `studies` that `out` does not hold yet; yields all rows.

    Args:
        folder: labelled work folder; its split says what is learned from and what is judged.
        out: table of rows; model files are kept in a folder of its name.
        studies: names of `STUDIES`.
        base: the budget and everything that does not vary.
        seeds: trainings of each variant, with the seeds 0, 1, ...
        inits: weights to go on from, one model of each method that is compared; without any every
            variant starts from scratch, but the studies of `OF_WEIGHTS` cannot.
        teacher: of the variants that are taught.
        device: `auto` or a torch device.
        clip: video to measure costs on; None measures none.
        on_progress: told what is trained, gives who is told of its steps.

    Raises:
        CheckpointError: a variant has no weights to go on from where others have, or needs some.
    """
    starts = {
        (study, variant.name): variant.start(inits, teacher)
        for study in studies
        for variant in STUDIES[study]
    }
    table = Table(out, StudyRow)
    table.mend()
    known = {row.key: row for row in table.rows()}
    for study, seed in itertools.product(studies, range(seeds)):
        for variant in STUDIES[study]:
            own = starts[study, variant.name]
            # given weights have a size
            config = variant.config(replace(base, shape={}) if own.init else base, seed)
            # variants of several studies may be the same training
            model = out.with_suffix("") / f"{_mark(config, own)}.safetensors"
            told = on_progress(f"{study}: {variant.name}, seed {seed}")
            checkpoint = train(folder, model, config, start=own, device=device, on_progress=told)
            row = known.get(f"{study}/{variant.name}/{seed}")
            if row is None or row.model != checkpoint.name or (clip and row.clip_s is None):
                figures = _figures(folder, checkpoint, device)
                cost = asdict(cost_of(model, clip)) if clip else {}
                row = StudyRow(study=study, variant=variant.name, seed=seed, **figures, **cost)
                table.append(row)
            yield row


def _figures(folder: Path, checkpoint: Checkpoint, device: str) -> dict[str, Any]:
    """What `checkpoint` is worth on the folder's held-out sources."""
    clips = views_of(
        folder, labelled_of(folder, None), checkpoint.recipe, checkpoint.card.clip_frames
    )
    for _ in clips.decode_missing():
        pass
    judged = judge(checkpoint.model(), clips, device_named(device))
    found = validation(judged.scores, judged.labels, clips.encodes)
    known = {
        name: value if math.isfinite(value) else None
        for name, value in asdict(found).items()
        if name in ("srcc", "in_group_srcc", "plcc", "rmse")
    }
    return {"model": checkpoint.name, "encodes": found.count, **known}


def _mark(config: TrainConfig, start: Start) -> str:
    """A name for a training: the same for the same, unlike any other's."""
    text = json.dumps([asdict(config), start.name], sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def over_seeds(values: Sequence[float | None]) -> Spread:
    """Mean and half interval of one figure of one variant; unknown values are left out."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return Spread(mean=math.nan, half=math.nan)
    if len(known) < 2:
        return Spread(mean=float(known[0]), half=math.nan)
    error = known.std(ddof=1) / math.sqrt(len(known))
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(known) - 1))
    return Spread(mean=float(known.mean()), half=reach * float(error))


def lead_over(rows: Sequence[StudyRow], others: Sequence[StudyRow]) -> Spread:
    """By how much the SRCC of `rows` is ahead of `others`', seed by seed."""
    theirs = {row.seed: row.srcc for row in others}
    gaps = [
        row.srcc - other
        for row in rows
        if row.srcc is not None and (other := theirs.get(row.seed)) is not None
    ]
    return over_seeds(gaps)
