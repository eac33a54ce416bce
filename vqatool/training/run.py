"""Stage 4, train: labelled encodes -> a model file, by the recipe of one published method."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator

from ladder.label.rows import labels_table
from ladder.media.ffmpeg import find_ffmpeg
from ladder.storage import work_lock
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.data.splits import TRAIN, VAL, split_by_source
from vqatool.errors import TrainingDataError
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.methods.recipe import Recipe
from vqatool.training.initialization import Initialization
from vqatool.training.state import drop_state
from vqatool.training.step import make_accelerator
from vqatool.training.trainer import OnProgress, TrainConfig, Trainer

VIEWS_FOLDER = ".views"


FROM_SCRATCH = Initialization()


_MOST_NAMED = 5


OnDecoded = Callable[[int, int], None]


def train(
    folder: Path,
    out: Path,
    config: TrainConfig,
    *,
    initialization: Initialization = FROM_SCRATCH,
    device: str = "auto",
    on_progress: OnProgress = lambda progress: None,
    on_decoded: OnDecoded = lambda done, total: None,
) -> Checkpoint:
    """Train on the labels of a work folder and write the best model to `out`.

    Killed and started again with the same arguments it goes on from its last saved step and ends
    with the same file (with `max_hours`, with one that had as much time); with `out` finished from
    the same data and settings it returns at once. Beside `out` (say `m.safetensors`) it keeps
    `m-metrics.csv` and `m.png`, the course of losses and validations.

    Args:
        folder: work folder with `encodes.csv` and `labels.csv`.
        out: model file to write; `out` + `.training` holds the state meanwhile.
        config: settings.
        start: weights to start from, and a teacher.
        device: `auto` or a torch device.
        on_progress: told after every step, by the first process.
        on_decoded: told (done, total) while frames are decoded, which happens once.

    Raises:
        TrainingDataError: no labels, encodes that are gone, or too few sources to hold any out.
        CheckpointError: the weights to start from are of another method or shape.
        ValueError: the method has no such shape or part to tune.
    """
    # what cannot be built is told before anything is decoded; a teacher was read from its file
    replace(initialization, teacher=None).model(config)
    out.parent.mkdir(parents=True, exist_ok=True)
    accelerator = make_accelerator(device)
    prepared = _prepare(folder, out, config, initialization, accelerator, on_decoded)
    if isinstance(prepared, Checkpoint):
        return prepared
    clips, fingerprint = prepared
    trainer = Trainer(config, *clips, initialization, accelerator, out, fingerprint)
    trainer.fit(on_progress if accelerator.is_main_process else lambda progress: None)
    checkpoint = trainer.checkpoint(_label_name(folder))
    if accelerator.is_main_process:
        save_checkpoint(checkpoint, out)
        drop_state(trainer.state_path)
    accelerator.wait_for_everyone()
    return load_checkpoint(out)


def _prepare(
    folder: Path,
    out: Path,
    config: TrainConfig,
    initialization: Initialization,
    accelerator: Accelerator,
    on_decoded: OnDecoded,
) -> Checkpoint | tuple[tuple[CachedInputs, CachedInputs], str]:
    """What to learn from, to judge by, and the training's fingerprint; the model if it is done."""
    encodes = read_labelled_encodes(folder)
    _label_name(folder)  # of one model, or it ends here
    _require_files(folder, encodes)
    # the first process prepares the folder, so the others find nothing to write
    with (
        accelerator.main_process_first(),
        work_lock(folder) if accelerator.is_main_process else nullcontext(),
    ):
        split = split_by_source(
            folder, [e.source for e in encodes], val_share=config.val_share, seed=config.seed
        )
        fingerprint = _fingerprint(config, encodes, split, initialization)
        finished = _finished(out, fingerprint)
        if finished:
            return finished
        sides = {TRAIN: initialization.recipe(config), VAL: initialization.own_recipe(config)}
        train_clips, val_clips = (
            views_of(
                folder, [e for e in encodes if split[e.source] == side], recipe, config.clip_frames
            )
            for side, recipe in sides.items()
        )
        _decode((train_clips, val_clips), on_decoded)
    return (train_clips, val_clips), fingerprint


def views_of(
    folder: Path, encodes: Sequence[LabelledEncode], recipe: Recipe, num_frame_groups: int
) -> CachedInputs:
    """What a recipe sees of encodes of a work folder; decode what is missing before asking it."""
    ffmpeg = find_ffmpeg() if recipe.reads_stream else None
    return CachedInputs(encodes, folder / VIEWS_FOLDER, recipe, num_frame_groups, ffmpeg)


def _require_files(folder: Path, encodes: Sequence[LabelledEncode]) -> None:
    # left out in silence they would make another model of the same command
    gone = [str(encode.path) for encode in encodes if not encode.path.is_file()]
    if gone:
        named = ", ".join(gone[:_MOST_NAMED]) + (", ..." if len(gone) > _MOST_NAMED else "")
        raise TrainingDataError(
            f"{len(gone)} labelled encodes are gone ({named}): make them again with `vqatool "
            f"ladder SRC... -o {folder}` and `vqatool label {folder} --vmaf`, or delete their "
            f"lines in {labels_table(folder).path}"
        )


def _decode(clips: Sequence[CachedInputs], on_decoded: OnDecoded) -> None:
    total = sum(len(side.encodes) for side in clips)
    ready: Iterator[LabelledEncode] = (e for side in clips for e in side.decode_missing())
    for done, _ in enumerate(ready, 1):
        on_decoded(done, total)


def _label_name(folder: Path) -> str:
    names = {row.vmaf_model for row in labels_table(folder).rows() if row.status == "ok"}
    if len(names) > 1:
        raise TrainingDataError(
            f"{folder} mixes labels of {', '.join(sorted(names))}: label it again with one model"
        )
    return names.pop()


def _fingerprint(
    config: TrainConfig,
    encodes: Sequence[LabelledEncode],
    split: dict[str, str],
    initialization: Initialization,
) -> str:
    facts = {
        "config": asdict(config),
        "start": initialization.name,
        "split": split,
        "encodes": [(e.path.name, e.source, e.path.stat().st_size, e.vmaf) for e in encodes],
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _finished(out: Path, fingerprint: str) -> Checkpoint | None:
    if not out.exists():
        return None
    checkpoint = load_checkpoint(out)
    return checkpoint if checkpoint.card.fingerprint == fingerprint else None
