import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ladder import Ffmpeg
from ladder.label.run import LabelOptions
from tests.conftest import MakeVideo
from tests.hdr import as_hdr
from tests.ladder.conftest import label
from tests.ladder.conftest import work_folder as ladder_folder
from tests.vqatool.conftest import BRIEF_FRAMES, BRIEF_SHAPE
from tests.vqatool.faults import WORDS, faulty_videos, wait_for_three_processes, with_faults
from vqatool.data.cached_inputs import CachedInputs
from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.errors import TrainingDataError
from vqatool.inputs.bitstream import BitstreamFeatures
from vqatool.inputs.clip import View
from vqatool.inputs.deep_features import NUM_DEEP_FEATURES
from vqatool.inputs.motion import NUM_MOTION_FEATURES
from vqatool.inputs.probing import NUM_OCTAVE_FEATURES, NUM_PROBING_FEATURES
from vqatool.methods import Method, recipe_for
from vqatool.methods.recipe import Input
from vqatool.training.run import CACHE_FOLDER
from vqatool.vif import patch_quality

RECIPE = recipe_for(Method.COARSE_TO_FINE, {"grid": 2, "patch": 32})


def cached(folder: Path, frames: int = 4) -> CachedInputs:
    clips = CachedInputs(read_labelled_encodes(folder), folder / ".views", RECIPE, frames)
    list(clips.decode_missing())
    return clips


def with_tiles(folder: Path, source: Path | None = None) -> CachedInputs:
    encodes = [
        replace(encode, source_path=source or encode.source_path)
        for encode in read_labelled_encodes(folder)
    ]
    clips = CachedInputs(encodes, folder / ".views", RECIPE, 4, has_tiles=True)
    list(clips.decode_missing())
    return clips


@pytest.fixture(scope="module")
def views_of_all(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """What `cached` and `with_tiles` decode; not to be written."""
    folder = Path(shutil.copytree(labelled, tmp_path_factory.mktemp("views") / "encodes"))
    cached(folder)
    with_tiles(folder)
    return folder / ".views"


@pytest.fixture
def decoded(work_folder: Path, views_of_all: Path) -> Path:
    """The folder of a test, with its encodes decoded before."""
    shutil.copytree(views_of_all, work_folder / ".views")
    return work_folder


def with_views(folder: Path, views: tuple[View, ...]) -> CachedInputs:
    recipe = replace(RECIPE, inputs=tuple(map(Input, views)))
    return CachedInputs(read_labelled_encodes(folder), folder / ".views", recipe, 4)


def test_videos_are_decoded_once(work_folder: Path) -> None:
    clips = cached(work_folder)
    assert {clips.evaluation_views(i)[0].shape for i in range(12)} == {(4, 3, 64, 64)}
    assert list(clips.decode_missing()) == []


def test_the_views_of_a_label_that_was_tone_mapped_are_too(
    make_video: MakeVideo, source_video: Path, ffmpeg: Ffmpeg, tmp_path: Path
) -> None:
    encode = as_hdr(make_video, source_video, "pq")
    folder = ladder_folder(tmp_path / "work", encode, {"one": encode})
    shown = []
    for tonemap in (True, False):
        label(folder, ffmpeg, LabelOptions(models=("vmaf_v0.6.1",), tonemap=tonemap))
        assert [each.is_tonemapped for each in read_labelled_encodes(folder)] == [tonemap]
        shown.append(cached(folder, frames=1).evaluation_views(0)[0].astype(int))
    assert np.abs(shown[0] - shown[1]).mean() > 5


def test_as_many_encodes_are_decoded_in_parallel_as_there_are_cores(
    work_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    folder = tmp_path / "processes"
    folder.mkdir()
    clips = with_views(work_folder, (partial(wait_for_three_processes, folder=folder),))
    assert len(list(clips.decode_missing(timeout_s=60))) == 12
    assert len(list(folder.iterdir())) == 3


def test_encodes_with_decode_failures_are_named_after_the_others_are_decoded(
    work_folder: Path, make_video: MakeVideo, marks: Path
) -> None:
    views = with_faults(
        (RECIPE.inputs[0].view,), marks
    )  # the pixels alone, which take the least time
    clips = with_views(work_folder, views)
    bad = [encode.path for encode in clips.encodes[:3]]
    for path, fault in zip(bad, faulty_videos(make_video), strict=True):
        path.write_bytes(fault.read_bytes())
    decoded: list[LabelledEncode] = []
    with pytest.raises(TrainingDataError, match="3 labelled encodes cannot be decoded") as caught:
        decoded.extend(clips.decode_missing(timeout_s=0.2))
    assert all(f"{path} " in str(caught.value) for path in bad)
    assert all(word in str(caught.value) for word in WORDS)
    assert "vqatool ladder" in str(caught.value)
    assert [encode.path for encode in clips.missing()] == bad  # the others are not decoded again


def test_a_work_folder_that_was_moved_is_not_decoded_again(
    decoded_folder: Path, tmp_path: Path
) -> None:
    folder = decoded_folder.rename(tmp_path / "moved")
    recipe = recipe_for(Method.COARSE_TO_FINE, BRIEF_SHAPE)
    encodes = read_labelled_encodes(folder)
    assert not CachedInputs(encodes, folder / CACHE_FOLDER, recipe, BRIEF_FRAMES).missing()
    assert CachedInputs(encodes, folder / CACHE_FOLDER, recipe, 1 + BRIEF_FRAMES).missing()


def test_a_changed_encode_is_decoded_again(decoded: Path) -> None:
    clips = cached(decoded)
    encode = clips.encodes[0]
    encode.path.write_bytes(clips.encodes[1].path.read_bytes())
    assert list(clips.decode_missing()) == [encode]


def test_a_batch_has_labels_and_groups_of_its_encodes(decoded: Path) -> None:
    clips = cached(decoded)
    batch = clips.batch([0, 1, 4], seed=0, num_frame_groups=2)
    probing = NUM_PROBING_FEATURES + NUM_OCTAVE_FEATURES
    widths = (probing, NUM_DEEP_FEATURES, len(BitstreamFeatures._fields))
    figures = [(3, width) for width in widths]
    shapes = [(3, 2, 3, 64, 64), (3, 2, NUM_MOTION_FEATURES), *figures]
    assert [view.shape for view in batch.views] == shapes
    assert {view.dtype for view in batch.views} == {torch.float32}
    assert batch.views[0].min() >= 0
    assert batch.views[0].max() <= 1
    chosen = [clips.encodes[i] for i in (0, 1, 4)]
    assert torch.allclose(100 * batch.label_B, torch.tensor([e.vmaf for e in chosen]))
    same_rung = [[a.rung == b.rung for b in chosen] for a in chosen]
    assert (batch.group_B[:, None] == batch.group_B[None, :]).tolist() == same_rung


def test_encodes_of_one_source_have_views_at_the_same_positions(decoded: Path) -> None:
    """Only the distortion may differ, or the model learns the content."""
    clips = cached(decoded)
    source = clips.encodes[0].source
    members = [i for i, e in enumerate(clips.encodes) if e.source == source and "90p" in e.rung]
    view, *_ = clips.batch(members, seed=3, num_frame_groups=2).views
    first, *others = view.flatten(1)
    for other in others:
        assert torch.corrcoef(torch.stack([first, other]))[0, 1] > 0.9


def test_views_depend_on_the_seed(decoded: Path) -> None:
    clips = cached(decoded)
    first, same, other = (
        clips.batch([0, 5], seed=seed, num_frame_groups=2).views[0] for seed in (7, 7, 8)
    )
    assert (first == same).all()
    assert (first != other).any()


def test_a_training_batch_has_the_quality_of_each_patch_against_the_source(
    decoded: Path,
) -> None:
    clips = with_tiles(decoded)
    pixels, *_ = clips.batch(list(range(12)), seed=0, num_frame_groups=2).views
    assert pixels.shape == (12, 2, 4, 64, 64)
    quality = patch_quality(pixels[:, :, 3].flatten(0, 1), 2).view(12, -1).mean(1)
    vmaf = torch.tensor([encode.vmaf for encode in clips.encodes])
    assert torch.corrcoef(torch.stack([quality, vmaf]))[0, 1] > 0.8
    plain = cached(decoded)
    for index in (0, 7):
        for tiled, untiled in zip(
            clips.evaluation_views(index), plain.evaluation_views(index), strict=True
        ):
            assert np.array_equal(tiled, untiled)


def test_the_quality_of_patches_is_unknown_without_the_source(work_folder: Path) -> None:
    gone = work_folder / "gone.mp4"
    pixels, *_ = with_tiles(work_folder, gone).batch([0, 5], seed=0, num_frame_groups=2).views
    assert (pixels[:, :, 3] == 0).all()
    assert (pixels[:, :, :3] > 0).any()
