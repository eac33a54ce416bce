"""Stage 4, train: labelled encodes -> a model file, by the recipe of one published method."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

from accelerate import Accelerator

from ladder.label.rows import labels_table
from ladder.storage import digest, work_lock
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.data.splits import TRAIN, VAL, split_by_source
from vqatool.errors import OutputNameError, TrainingDataError
from vqatool.files import require_own_files
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.methods.recipe import Recipe
from vqatool.models.quality import FIGURES
from vqatool.training.initialization import Initialization
from vqatool.training.outliers import find_outliers, with_outliers
from vqatool.training.state import FIRST_COLUMNS, delete_state
from vqatool.training.step import OnProgress, make_accelerator
from vqatool.training.trainer import TrainConfig, Trainer, TrainingFiles

CACHE_FOLDER = "cached-inputs"
"""Folder of decoded inputs in a work folder; it can be deleted when nothing runs."""


_OLD_CACHE_FOLDER = ".views"  # its name in version 0.1


FROM_SCRATCH = Initialization()


_MAX_NAMED = 5


_POLL_S = 1.0


OnDecoded = Callable[[int, int], None]


_log = logging.getLogger(__name__)


def train(
    folder: Path,
    out: Path,
    config: TrainConfig,
    *,
    initialization: Initialization = FROM_SCRATCH,
    outliers: Path | None = None,
    device: str = "auto",
    on_progress: OnProgress = lambda progress: None,
    on_decoded: OnDecoded = lambda done, total: None,
) -> Checkpoint:
    """Train on the labels of a work folder and write the best model to `out`.

    A training that was killed resumes from its last saved step when it is started again with the
    same arguments, and ends with the same file (with `max_hours`, with one that had the same time).
    If `out` was finished from the same data and settings, it is returned at once. Beside `out` (for
    example `m.safetensors`) it keeps `m-metrics.csv` and `m.png`, the history of losses and
    validations.

    The folder is locked for the whole run: no other command uses it meanwhile.

    Args:
        folder: work folder with `encodes.csv` and `labels.csv`.
        out: model file to write; `out` + `.training` holds the state meanwhile.
        config: settings.
        initialization: weights to start from, and a teacher.
        outliers: folder of videos that the out-of-distribution detector learns from after the
            training (`training/outliers.py`).
        device: `auto` or a torch device.
        on_progress: called after every step, in the first process.
        on_decoded: called with (done, total) while encodes are decoded, which happens once, and
            while outliers are.

    Raises:
        TrainingDataError: no labels, missing encodes, too few sources to hold any out, or too few
            outliers.
        CheckpointError: the weights to start from are of another method or shape.
        OutputNameError: a file to write exists and is of another program.
        LockedError: another run uses the folder.
        ValueError: the method has no such shape, or the model no such part to train.
    """
    accelerator = make_accelerator(device)
    # processes of one training share the lock that the first one holds
    with work_lock(folder) if _holds_lock(folder, accelerator) else nullcontext():
        return train_in_locked_folder(
            folder, out, config, initialization, accelerator, on_progress, on_decoded, outliers
        )


def _holds_lock(folder: Path, accelerator: Accelerator) -> bool:
    # a folder that is not there gets an error that names the command to make it
    return accelerator.is_main_process and folder.is_dir()


def train_in_locked_folder(
    folder: Path,
    out: Path,
    config: TrainConfig,
    initialization: Initialization,
    accelerator: Accelerator,
    on_progress: OnProgress,
    on_decoded: OnDecoded = lambda done, total: None,
    outliers: Path | None = None,
) -> Checkpoint:
    """As `train`, for a caller that holds the lock of the folder."""
    files = TrainingFiles(out)
    _require_outputs(files)
    # refuse what cannot be built before anything is decoded; the teacher was built when loaded
    replace(initialization, teacher=None).model(config)
    odd_videos = find_outliers(outliers) if outliers else ()
    encodes = read_labelled_encodes(folder)
    label = _label_name(folder)
    _require_encode_files(folder, encodes)
    out.parent.mkdir(parents=True, exist_ok=True)
    with accelerator.main_process_first():  # the first process writes the split, the others read it
        split = split_by_source(
            folder, [e.source for e in encodes], val_share=config.val_share, seed=config.seed
        )
    fingerprint = _fingerprint(config, encodes, split, initialization, odd_videos)
    finished = _finished_checkpoint(out, fingerprint)
    if finished:
        return finished
    recipes = {TRAIN: initialization.recipe(config), VAL: initialization.student_recipe(config)}
    inputs, val_inputs = (
        cached_inputs(
            folder,
            [e for e in encodes if split[e.source] == side],
            recipe,
            config.clip_frames,
            has_tiles=side == TRAIN and config.tune != FIGURES,
        )
        for side, recipe in recipes.items()
    )
    _decode((inputs, val_inputs), accelerator, on_decoded)
    trainer = Trainer(config, inputs, val_inputs, initialization, accelerator, files, fingerprint)
    trainer.fit(on_progress if accelerator.is_main_process else lambda progress: None)
    checkpoint = trainer.checkpoint(label)
    if accelerator.is_main_process:
        if odd_videos:
            checkpoint = with_outliers(
                checkpoint, odd_videos, inputs.encodes, val_inputs.encodes,
                device=str(accelerator.device), on_done=on_decoded,
            )  # fmt: skip
        save_checkpoint(checkpoint, out)
        delete_state(files.state)
    while odd_videos and _finished_checkpoint(out, fingerprint) is None:
        time.sleep(_POLL_S)  # not in a collective operation: see `_decode`
    accelerator.wait_for_everyone()
    return load_checkpoint(out)


def cached_inputs(
    folder: Path,
    encodes: Sequence[LabelledEncode],
    recipe: Recipe,
    num_frame_groups: int,
    *,
    has_tiles: bool = False,
) -> CachedInputs:
    """Inputs of a recipe for encodes of a work folder; call `decode_missing` before using them."""
    old, cache = folder / _OLD_CACHE_FOLDER, folder / CACHE_FOLDER
    if old.is_dir() and not cache.exists():
        old.rename(cache)
    return CachedInputs(encodes, cache, recipe, num_frame_groups, has_tiles=has_tiles)


def _require_outputs(files: TrainingFiles) -> None:
    if files.model in (files.picture, files.metrics):
        raise OutputNameError(
            f"{files.model} cannot be the model file, because the history of the training is "
            "written there: choose a name that ends in .safetensors with -o"
        )
    require_own_files({files.metrics: FIRST_COLUMNS}, [files.picture], [files.model])


def _require_encode_files(folder: Path, encodes: Sequence[LabelledEncode]) -> None:
    # leaving them out would train another model by the same command
    missing = [str(encode.path) for encode in encodes if not encode.path.is_file()]
    if missing:
        named = ", ".join(missing[:_MAX_NAMED]) + (", ..." if len(missing) > _MAX_NAMED else "")
        raise TrainingDataError(
            f"{len(missing)} labelled encodes are missing ({named}): make them again with `vqatool "
            f"ladder SRC... -o {folder}` and `vqatool label {folder}`, bring back those made "
            f"elsewhere, or delete their lines in {labels_table(folder).path}"
        )


def _decode(
    inputs: Sequence[CachedInputs], accelerator: Accelerator, on_decoded: OnDecoded
) -> None:
    """Decode all inputs in the first process; the others wait for its files.

    They do not wait in a collective operation: decoding may take hours, and a collective times out
    after minutes.
    """
    total = sum(len(side.encodes) for side in inputs)
    if accelerator.is_main_process:
        ready = (encode for side in inputs for encode in side.decode_missing())
        for done, _ in enumerate(ready, 1):
            on_decoded(done, total)
        return
    _log.info("process %d waits for the first to decode", accelerator.process_index + 1)
    for side in inputs:
        while side.missing():
            time.sleep(_POLL_S)


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
    outliers: Sequence[Path],
) -> str:
    """Digest of data and settings: the same for the same training."""
    origins = {e.source: e.origin for e in encodes if e.origin}
    facts: dict[str, object] = {
        "config": asdict(config),
        "start": initialization.name,
        "split": split,
        "encodes": [(e.path.name, e.source, e.path.stat().st_size, e.vmaf) for e in encodes],
    }
    # without these, the fingerprint is that of models from before them
    if origins:
        facts["origins"] = origins
    twice = [e.path.name for e in encodes if e.is_coded_twice]
    if twice:
        facts["coded twice"] = twice
    if versions := initialization.recipe(config).view_versions:
        facts["views"] = versions
    if outliers:
        facts["outliers"] = [(path.name, path.stat().st_size) for path in outliers]
    return digest(json.dumps(facts, sort_keys=True), size=16)


def _finished_checkpoint(out: Path, fingerprint: str) -> Checkpoint | None:
    if not out.exists():
        return None
    checkpoint = load_checkpoint(out)
    if checkpoint.card.fingerprint != fingerprint:
        return None
    _log.info("%s is finished from the same data and settings", out)
    return checkpoint
