import os
import threading
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ladder import find_ffmpeg
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import read_labelled_encodes
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.methods import Method, recipe_for

RECIPE = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 32})


def cached(folder: Path, frames: int = 4) -> CachedInputs:
    clips = CachedInputs(
        read_labelled_encodes(folder), folder / ".views", RECIPE, frames, find_ffmpeg()
    )
    list(clips.decode_missing())
    return clips


def test_videos_are_decoded_once(work_folder: Path) -> None:
    clips = cached(work_folder)
    assert {tuple(clips.evaluation_views(i)[0].shape) for i in range(12)} == {(4, 3, 64, 64)}
    assert list(clips.decode_missing()) == []


def test_as_many_encodes_are_decoded_at_once_as_there_are_cores(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier, save = threading.Barrier(3, timeout=20), np.save

    def save_together(file: BinaryIO, pixels: npt.NDArray[np.uint8]) -> None:
        barrier.wait()
        save(file, pixels)

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(np, "save", save_together)
    assert len(cached(work_folder).encodes) == 12


def test_a_changed_encode_is_decoded_again(work_folder: Path) -> None:
    clips = cached(work_folder)
    encode = clips.encodes[0]
    encode.path.write_bytes(clips.encodes[1].path.read_bytes())
    assert list(clips.decode_missing()) == [encode]


def test_a_batch_has_labels_and_groups_of_its_encodes(work_folder: Path) -> None:
    clips = cached(work_folder)
    batch = clips.batch([0, 1, 4], seed=0, num_frame_groups=2)
    facts = len(BitstreamFeatures._fields)
    shapes = [(3, 2, 3, 64, 64), (3, 2, NUM_MOTION_FEATURES), (3, facts)]
    assert [view.shape for view in batch.views] == shapes
    assert batch.views[0].min() >= 0
    assert batch.views[0].max() <= 1
    chosen = [clips.encodes[i] for i in (0, 1, 4)]
    assert torch.allclose(100 * batch.label_B, torch.tensor([e.vmaf for e in chosen]))
    same_rung = [[a.rung == b.rung for b in chosen] for a in chosen]
    assert (batch.group_B[:, None] == batch.group_B[None, :]).tolist() == same_rung


def test_encodes_of_one_source_are_seen_at_the_same_places(work_folder: Path) -> None:
    """Only the damage may differ, or the net learns the picture."""
    clips = cached(work_folder)
    source = clips.encodes[0].source
    members = [i for i, e in enumerate(clips.encodes) if e.source == source and "90p" in e.rung]
    view, *_ = clips.batch(members, seed=3, num_frame_groups=2).views
    first, *others = view.flatten(1)
    for other in others:
        assert torch.corrcoef(torch.stack([first, other]))[0, 1] > 0.9


def test_a_seed_repeats_and_another_seed_looks_elsewhere(work_folder: Path) -> None:
    clips = cached(work_folder)
    one, same, other = (
        clips.batch([0, 5], seed=seed, num_frame_groups=2).views[0] for seed in (7, 7, 8)
    )
    assert (one == same).all()
    assert (one != other).any()
