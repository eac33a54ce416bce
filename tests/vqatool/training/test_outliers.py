import logging
from dataclasses import replace
from pathlib import Path

import pytest

from ladder import Ffmpeg
from ladder.media.probe import Size
from ladder.synthetic import make_synthetic
from tests.vqatool.conftest import BRIEF_FRAMES, BRIEF_SHAPE
from vqatool.data.labels import read_labelled_encodes
from vqatool.data.splits import TRAIN, VAL, encodes_of_split, split_by_source
from vqatool.errors import TrainingDataError
from vqatool.inference.model_file import load_checkpoint
from vqatool.training.outliers import find_outliers, main, with_outliers
from vqatool.training.run import train
from vqatool.training.step import Progress
from vqatool.training.trainer import TrainConfig

CONFIG = TrainConfig(shape=BRIEF_SHAPE, epochs=1, rungs=2, clip_frames=BRIEF_FRAMES, step_frames=2)


@pytest.fixture(scope="module")
def signals(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> Path:
    folder = tmp_path_factory.mktemp("signals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladder.synthetic._HEIGHTS", ((72, 1.0),))
        assert not any(error for _, error in make_synthetic(folder, 9, ffmpeg))
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(autouse=True)
def few_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("_DISPLAYS", (Size(128, 72),)),
        ("_OUTLIER_DISPLAYS", (None,)),
        ("_MAX_NATIVE", 2),
        ("_MAX_AT_DISPLAY", 1),
    ):
        monkeypatch.setattr(f"vqatool.training.outliers.{name}", value)


@pytest.mark.slow
def test_a_training_with_outliers_is_another_one_and_is_not_repeated(
    decoded_folder: Path, signals: Path, caplog: pytest.LogCaptureFixture
) -> None:
    work_folder, out = decoded_folder, decoded_folder / "model.safetensors"
    plain = train(work_folder, out, CONFIG, device="cpu")
    assert plain.ood
    assert plain.ood.classifier is None
    with caplog.at_level(logging.WARNING):
        exposed = train(work_folder, out, CONFIG, outliers=signals, device="cpu")
    assert "left out" in caplog.text
    assert "broken.mp4" in caplog.text
    assert exposed.ood
    assert exposed.ood.classifier
    assert exposed.card.training["outliers"] == 10
    assert exposed.name == plain.name  # scores stay as they are
    assert exposed.card.fingerprint != plain.card.fingerprint

    def refuse(progress: Progress) -> None:
        raise AssertionError("trained again")

    again = train(work_folder, out, CONFIG, outliers=signals, device="cpu", on_progress=refuse)
    assert again.card == exposed.card


@pytest.mark.slow
def test_a_finished_model_gets_a_detector_without_training(
    work_folder: Path, signals: Path, small_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = sorted({encode.source for encode in read_labelled_encodes(work_folder)})
    split_by_source(work_folder, sources, val_share=0.25, seed=0)
    before = {path: path.stat().st_mtime_ns for path in work_folder.rglob("*.*")}
    out = work_folder / "new.safetensors"
    assert main([str(small_model), str(work_folder), str(signals), "-o", str(out)]) == 0
    assert "new.safetensors" in capsys.readouterr().err
    new, model = load_checkpoint(out), load_checkpoint(small_model)
    assert new.name == model.name
    assert new.ood
    assert new.ood.classifier
    after = {path: path.stat().st_mtime_ns for path in work_folder.rglob("*.*") if path != out}
    assert after == before
    train_side, val = (encodes_of_split(work_folder, side) for side in (TRAIN, VAL))
    gone = [replace(each, path=Path("gone.mp4")) for each in val]
    with pytest.raises(TrainingDataError, match="'val' can be decoded"):
        with_outliers(model, find_outliers(signals), train_side, gone, device="cpu", jobs=1)


def test_a_folder_without_enough_videos_is_refused_before_the_training(
    work_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "few", tmp_path / "m.safetensors"
    for present in (False, True):
        if present:
            folder.mkdir()
        with pytest.raises(TrainingDataError, match=r"few holds 0 videos.*ladder\.synthetic"):
            train(work_folder, out, CONFIG, outliers=folder, device="cpu")
    assert main([str(out), str(work_folder), str(folder), "-o", str(out)]) == 2
    assert "m.safetensors" in capsys.readouterr().err
    assert not out.exists()
