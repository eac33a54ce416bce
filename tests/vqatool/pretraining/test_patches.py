"""The patch network learns from labelled encodes, and its program writes what scoring reads."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from vqatool.data.labels import LabelledEncode, read_labelled_encodes
from vqatool.errors import TrainingDataError
from vqatool.pretraining.fdim import folded_weights
from vqatool.pretraining.patches import (
    CACHE_FOLDER,
    PatchSet,
    PatchTraining,
    main,
    read_patches,
    train_patch_network,
)

CPU = torch.device("cpu")
SIDE_PX = 64  # of a quarter of the pixels that scoring sees, with as many tiles


def checkpoint() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return dict(timm.create_model("resnet18").state_dict())


def noisy(encode: LabelledEncode, contents: int, levels: int) -> PatchSet:
    """Smooth patches with noise: the more, the lower the label and the quality of all tiles."""
    chance = np.random.default_rng(1)
    patches, encodes, tiles = [], [], []
    for content in range(contents):
        smooth = chance.uniform(60, 190, (2, 1, 1)) + 30 * np.sin(np.arange(SIDE_PX) / 9)
        for level in range(levels):
            noise = chance.normal(0, 1 + 8 * level, (2, SIDE_PX, SIDE_PX))
            patches.append((smooth + noise).clip(0, 255).astype(np.uint8))
            vmaf = 95.0 - 70 * level / levels
            encodes.append(replace(encode, source=f"content{content}", vmaf=vmaf))
            tiles.append(np.full((2, 8, 8), 2.54 * vmaf, np.uint8))
    patches_NPHW, tiles_NPTT = (torch.from_numpy(np.stack(each)) for each in (patches, tiles))
    return PatchSet(patches_NPHW, tiles_NPTT, encodes)


def errors_of(labelled: Path, epochs: int) -> tuple[float, float]:
    """The mean error of clips and of tiles on contents that the network did not see."""
    encode = read_labelled_encodes(labelled)[0]
    train, unseen = noisy(encode, 4, 4), noisy(encode, 6, 4)
    unseen = unseen._replace(
        patches_NPHW=unseen.patches_NPHW[16:],
        tiles_NPTT=unseen.tiles_NPTT[16:],
        encodes=unseen.encodes[16:],
    )
    how = PatchTraining(epochs=epochs, batch=8, patches=1, lr=1e-3, head_lr=3e-2, dropout=0.0)
    network = train_patch_network(train, unseen, folded_weights(checkpoint()), how, CPU)
    with torch.no_grad():
        found = network(unseen.patches_NPHW.float() / 255)
    tiles = found.tiles_BPTT.sigmoid() - unseen.tiles_NPTT / 255
    return float((found.score_B - unseen.label_N).abs().mean()), float(tiles.abs().mean())


def test_the_network_learns_the_quality_of_clips_and_of_tiles(labelled: Path) -> None:
    before, after = errors_of(labelled, 1), errors_of(labelled, 25)
    assert after[0] < 0.7 * before[0]
    assert after[1] < 0.7 * before[1]


def test_patches_and_the_quality_of_their_tiles_are_read_once(work_folder: Path) -> None:
    encodes = read_labelled_encodes(work_folder)[:3]
    found = read_patches(work_folder, encodes)
    assert found.patches_NPHW.shape == (3, 32, 128, 128)
    assert found.tiles_NPTT.shape == (3, 32, 8, 8)
    assert int(found.tiles_NPTT.min()) > 0
    tiles, labels = found.tiles_NPTT.float().mean((1, 2, 3)), found.label_N
    assert torch.equal(tiles.argsort(), labels.argsort())
    written = {path: path.stat().st_mtime_ns for path in (work_folder / CACHE_FOLDER).iterdir()}
    read_patches(work_folder, encodes)
    assert written == {path: path.stat().st_mtime_ns for path in written}


@pytest.fixture
def program_output(work_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    sources = sorted({encode.source for encode in read_labelled_encodes(work_folder)})
    lines = [f"{source},{'val' if source == sources[0] else 'train'}" for source in sources]
    (work_folder / "splits.csv").write_text("\n".join(["source,split", *lines]) + "\n")
    torch.save({"state_dict": checkpoint()}, tmp_path / "fdim.ckpt")
    out = tmp_path / "out.onnx"
    argv = ["patches", str(work_folder), str(tmp_path / "fdim.ckpt"), "-o", str(out)]
    monkeypatch.setattr("sys.argv", [*argv, "--epochs", "1", "--batch", "4", "--device", "cpu"])
    monkeypatch.setattr("vqatool.pretraining.patches._NUM_FRAMES", 2)
    main()
    shutil.rmtree(work_folder)
    return out


def test_the_program_writes_what_deep_features_read(program_output: Path) -> None:
    session = onnxruntime.InferenceSession(
        program_output.read_bytes(), providers=["CPUExecutionProvider"]
    )
    (figures,) = session.run(None, {"patches": np.zeros((2, 1, 128, 128), np.uint8)})
    assert figures.shape == (2, 384)


def test_patches_without_a_source_are_an_error_that_names_it(work_folder: Path) -> None:
    encode = read_labelled_encodes(work_folder)[0]
    gone = replace(encode, source_path=work_folder / "gone.mp4")
    with pytest.raises(TrainingDataError, match=r"gone\.mp4 is gone or unreadable"):
        read_patches(work_folder, [gone])
