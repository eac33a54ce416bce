"""Outlier exposure: the out-of-distribution detector of a model also learns from synthetic videos.

    python -m vqatool.training.outliers model.safetensors encodes synthetic -o new.safetensors

`vqatool train --outliers` does the same at the end of a training. The score's weights stay as they
are: only the detector is fitted anew (`inference/ood.py`), to features of the training side, of
held-out encodes for its limits, and of outliers, each at several displays.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from ladder.errors import LadderError
from ladder.media.discover import find_videos
from ladder.media.probe import Size
from vqatool.data.labels import LabelledEncode
from vqatool.data.splits import TRAIN, VAL, encodes_of_split
from vqatool.errors import ExitCode, TrainingDataError, VqatoolError
from vqatool.files import require_own_files
from vqatool.inference.model_file import Checkpoint, load_checkpoint, save_checkpoint
from vqatool.inference.ood import expose_to_outliers, fit_ood_detector
from vqatool.inference.predictor import Predictor
from vqatool.inference.torch_engine import TorchEngine
from vqatool.inputs.clip import Array
from vqatool.inputs.decode_pool import (
    WHOLE_VIDEO_TIMEOUT_S,
    DecodeFailure,
    DecodePool,
    PendingDecode,
)
from vqatool.inputs.preprocessor import decode_views

_MIN_OUTLIERS = 8  # fewer examples are no set to learn from
_MAX_NATIVE, _MAX_AT_DISPLAY = 150, 40  # encodes of each side
_DISPLAYS = (Size(640, 360), Size(1280, 720), Size(1920, 1080), Size(3840, 2160))
_SHOW_EVERY = 50  # clips
_OUTLIER_DISPLAYS = (None, Size(1920, 1080))

_Clip = tuple[Path, tuple[int, int] | None]
"""A video and its display; None: the video's own size."""

OnDone = Callable[[int, int], None]

T = TypeVar("T")

_log = logging.getLogger(__name__)


def find_outliers(folder: Path) -> tuple[Path, ...]:
    """The videos of a folder of outliers.

    Raises:
        TrainingDataError: too few videos.
    """
    found = find_videos([folder]).videos if folder.is_dir() else ()
    _require_enough(len(found), f"{folder} holds {len(found)} videos")
    return tuple(found)


def with_outliers(
    checkpoint: Checkpoint,
    outliers: Sequence[Path],
    train: Sequence[LabelledEncode],
    held_out: Sequence[LabelledEncode],
    *,
    device: str = "auto",
    jobs: int | None = None,
    on_done: OnDone = lambda done, total: None,
) -> Checkpoint:
    """The same model with a detector that has learned from outliers.

    A video that cannot be decoded is left out, and the log names it.

    Args:
        checkpoint: a trained model.
        outliers: videos unlike any that the model was made for; each at its own size, and on
            a display of 1080 lines.
        train: encodes of the training side; at most 150 at their sources' sizes and 40 of them at
            each of the displays 360, 720, 1080 and 2160.
        held_out: encodes of the validation side, as many, for the limits.
        device: `auto` or a torch device.
        jobs: processes that decode; None: one for each core, four at most.
        on_done: called with (done, total) after each clip.

    Raises:
        TrainingDataError: too few outliers or encodes of one side can be decoded.
    """
    parts: Sequence[Sequence[_Clip]] = [
        [(path, display) for path in outliers for display in _OUTLIER_DISPLAYS],
        _at_displays(train),
        _at_displays(held_out),
    ]
    outlier_ND, train_ND, held_out_ND = _features(
        Predictor(TorchEngine(checkpoint, device)), parts, jobs, on_done
    )
    _require_enough(len(outlier_ND), f"{len(outlier_ND)} clips of outliers can be decoded")
    for side, features_ND in ((TRAIN, train_ND), (VAL, held_out_ND)):
        if not len(features_ND):
            raise TrainingDataError(f"no encode of the side {side!r} can be decoded")
    ood = checkpoint.ood or fit_ood_detector(train_ND, held_out_ND)
    ood = expose_to_outliers(ood, train_ND, held_out_ND, outlier_ND)
    training = {**checkpoint.card.training, "outliers": len(outliers)}
    return replace(checkpoint, ood=ood, card=replace(checkpoint.card, training=training))


def main(arguments: Sequence[str] | None = None) -> int:
    """Give a finished model a new detector; returns the exit code that `vqatool train` would."""
    parser = argparse.ArgumentParser(
        prog="python -m vqatool.training.outliers",
        description="Let the out-of-distribution detector of a model learn from outliers.",
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("folder", type=Path, help="work folder that the model was trained on")
    parser.add_argument("outliers", type=Path, help="folder of videos of `ladder.synthetic`")
    parser.add_argument("-o", "--out", type=Path, required=True, help="model file to write")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or another of torch")
    parser.add_argument("--jobs", type=int, help="decoding processes; default: one for each core")
    options = parser.parse_args(arguments)

    def show(done: int, total: int) -> None:
        if done % _SHOW_EVERY == 0:
            sys.stderr.write(f"{done} of {total} clips\n")

    try:
        require_own_files(models=[options.out])
        checkpoint = with_outliers(
            load_checkpoint(options.model),
            find_outliers(options.outliers),
            *(encodes_of_split(options.folder, side) for side in (TRAIN, VAL)),
            device=options.device,
            jobs=options.jobs,
            on_done=show,
        )
        save_checkpoint(checkpoint, options.out)
    except (VqatoolError, LadderError, ValueError) as error:
        sys.stderr.write(f"Error: {error}\n")
        return ExitCode.USAGE
    sys.stderr.write(f"{options.out}: the detector has learned from {options.outliers}\n")
    return ExitCode.DONE


def _require_enough(count: int, what: str) -> None:
    if count < _MIN_OUTLIERS:
        raise TrainingDataError(
            f"{what}, and outliers to learn from are at least {_MIN_OUTLIERS}: make them with "
            "`python -m ladder.synthetic -o FOLDER`"
        )


def _at_displays(encodes: Sequence[LabelledEncode]) -> list[_Clip]:
    """Encodes of one side at their sources' sizes, then some at each display."""
    natively: list[_Clip] = [
        (encode.path, encode.display) for encode in _evenly(encodes, _MAX_NATIVE)
    ]
    again = _evenly(encodes, _MAX_AT_DISPLAY)
    return natively + [(encode.path, display) for display in _DISPLAYS for encode in again]


def _evenly(items: Sequence[T], max_count: int) -> list[T]:
    """At most `max_count` of the items, at even distances."""
    count = min(max_count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _features(
    predictor: Predictor, parts: Sequence[Sequence[_Clip]], jobs: int | None, on_done: OnDone
) -> list[Tensor]:
    """(N, D) features of each part's clips, without those that cannot be decoded."""
    clips = [(part, clip) for part, clips in enumerate(parts) for clip in clips]
    found: list[list[Tensor]] = [[] for _ in parts]
    with DecodePool(jobs=jobs, timeout_s=WHOLE_VIDEO_TIMEOUT_S) as pool:
        preprocessor = replace(predictor.preprocessor, threads=pool.num_threads)

        def submit(task: tuple[int, _Clip]) -> PendingDecode[list[Array]]:
            _, (path, display) = task
            return pool.submit(path, decode_views, preprocessor, display)

        for done, ((part, _), views) in enumerate(pool.map(clips, submit), 1):
            if isinstance(views, DecodeFailure):
                _log.warning("left out: %s", views.reason)
            else:
                found[part].append(torch.from_numpy(predictor.predict([views]).features_BD))
            on_done(done, len(clips))
    return [torch.cat(each) if each else torch.empty(0) for each in found]


if __name__ == "__main__":
    sys.exit(main())
