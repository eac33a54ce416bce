import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ladder import Ffmpeg
from ladder.errors import VideoError
from ladder.media.ffmpeg import run
from tests.conftest import MakeVideo
from vqatool.cli.demo import demo_clip
from vqatool.errors import TrainingDataError
from vqatool.files import cache_folder
from vqatool.inputs.clip import Array, Clip, View
from vqatool.metrics import srcc
from vqatool.pretraining.batches import PictureBatches
from vqatool.pretraining.picture_sets import PictureSet, SyntheticConfig, rated_set, synthetic_set

CONFIG = SyntheticConfig(tile_px=64, versions=5)


def whole(clip: Clip, *, generator: np.random.Generator | None) -> Array:
    return clip.pixels_TCHW


VIEWS: tuple[View, ...] = (whole,)


@pytest.fixture(scope="session")
def stills(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> Path:
    """Three pictures of a real clip, a video of it, and one picture that is too small."""
    folder = tmp_path_factory.mktemp("stills")
    for second in (0, 2, 4):
        size = ["-vf", "scale=240:136", "-frames:v", "1"]
        out = str(folder / f"bunny{second}.png")
        run(ffmpeg, ["-ss", str(second), "-i", str(demo_clip()), *size, out])
    small = ["-vf", "scale=100:56", "-frames:v", "1", str(folder / "small.png")]
    run(ffmpeg, ["-i", str(demo_clip()), *small])
    cut = ["-vf", "scale=240:136", "-frames:v", "10", "-crf", "2", str(folder / "clip.mp4")]
    run(ffmpeg, ["-ss", "3", "-i", str(demo_clip()), *cut])
    return folder


@pytest.fixture
def folder(tmp_path: Path, stills: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(stills, tmp_path / "stills"))


def test_every_tile_of_every_version_has_its_own_label(folder: Path) -> None:
    progress: list[tuple[int, int]] = []
    synthetic = synthetic_set(
        folder, CONFIG, test_share=0.25, on_distorted=lambda *counts: progress.append(counts)
    )
    frames = 3 + 4  # pictures, and four frames of the video
    assert len(synthetic.qualities) == frames * (1 + 5) * 4
    assert progress[-1] == (5, 5)
    assert synthetic.is_vmaf_scale
    assert len(set(synthetic.contents)) == frames * 4
    assert synthetic.pixels(0).shape == (3, 64, 64)
    assert synthetic.pixels(0).dtype == np.uint8
    by_version = np.array(synthetic.qualities).reshape(frames, 6, 4)
    assert by_version[:, 0] == pytest.approx(1, abs=1e-3)  # the clean ones
    assert by_version[:, 1:].max() <= 1
    assert np.mean(by_version[:, 1:] < 0.99) > 0.8  # slight distortions hardly show in flat tiles
    assert (np.ptp(by_version[:, 1:], axis=2) > 0).all()


def test_labels_follow_the_error_of_the_tile(folder: Path) -> None:
    synthetic = synthetic_set(folder, CONFIG, test_share=0.25)
    errors = []
    for index, content in enumerate(synthetic.contents):
        clean = synthetic.pixels(synthetic.contents.index(content)).astype(float)
        errors.append(float(np.square(synthetic.pixels(index) - clean).mean()))
    assert srcc(errors, synthetic.qualities) < -0.6


def test_held_out_pictures_are_in_no_training_tile(folder: Path) -> None:
    synthetic = synthetic_set(folder, CONFIG, test_share=0.5)
    sources = {
        side: {
            synthetic.contents[index].split("/stills/")[1].split("/")[0]
            for index in synthetic.side(side)
        }
        for side in ("train", "test")
    }
    assert sources["train"] | sources["test"] == {f"bunny{n}.png" for n in (0, 2, 4)} | {"clip.mp4"}
    assert not sources["train"] & sources["test"]


def test_tiles_are_cached_and_depend_only_on_the_seed(folder: Path, stills: Path) -> None:
    first = synthetic_set(folder, CONFIG, test_share=0.25)
    assert not {path.name for path in folder.iterdir()} ^ {path.name for path in stills.iterdir()}
    cache = cache_folder() / "synthetic"
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert synthetic_set(folder, CONFIG, test_share=0.25) == first
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files
    copy = folder.parent / "copy"
    from_copy = synthetic_set(Path(shutil.copytree(stills, copy)), CONFIG, test_share=0.25)
    assert from_copy.qualities == first.qualities
    assert all(
        np.array_equal(first.pixels(i), from_copy.pixels(i)) for i in range(len(first.qualities))
    )
    other = synthetic_set(folder, SyntheticConfig(tile_px=64, versions=5, seed=1), test_share=0.25)
    assert other.qualities != first.qualities


def test_a_folder_without_clean_pictures_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(TrainingDataError, match="fewer than two of the 0 clean pictures"):
        synthetic_set(tmp_path, CONFIG, test_share=0.25)
    with pytest.raises(TrainingDataError, match="is not a folder"):
        synthetic_set(tmp_path / "nowhere", CONFIG, test_share=0.25)


def test_the_error_names_a_broken_video(folder: Path, make_video: MakeVideo) -> None:
    (folder / "broken.mp4").write_bytes(b"\0" * 2000)
    with pytest.raises(TrainingDataError, match=r"broken\.mp4.*move it out"):
        synthetic_set(folder, CONFIG, test_share=0.25)


def test_pictures_of_a_csv_are_read_at_full_size(folder: Path) -> None:
    (folder / "scores.csv").write_text("path,mos\nbunny0.png,1\nbunny2.png,2\nsmall.png,4\n")
    rated = rated_set("mine", folder, test_share=0.4, seed=0)
    assert rated.qualities == pytest.approx((0, 1 / 3, 1))
    assert not rated.is_vmaf_scale
    assert rated.pixels(2).shape == (3, 56, 100)
    (folder / "small.png").write_bytes(b"no picture")
    with pytest.raises(VideoError, match=r"small\.png"):
        rated.pixels(2)


def flat_set(name: str, contents: int, versions: int, *, is_vmaf_scale: bool = False) -> PictureSet:
    """Pictures of one value each: ten times the content plus the version."""
    values = [10 * c + v for c in range(contents) for v in range(versions)]
    return PictureSet(
        name=name,
        is_vmaf_scale=is_vmaf_scale,
        qualities=tuple(1 - (value % 10) / 10 for value in values),
        contents=tuple(str(value // 10) for value in values),
        sides=tuple("test" if value // 10 == 0 else "train" for value in values),
        pixels=lambda index: np.full((3, 8, 8), values[index], np.uint8),
    )


def test_a_batch_holds_versions_of_few_contents_of_every_set() -> None:
    sets = [flat_set("a", 6, 5, is_vmaf_scale=True), flat_set("b", 12, 1)]
    batches = PictureBatches(sets, VIEWS, count=16, versions=4, seed=0)
    all_batches = list(batches.batches(6))
    assert len(all_batches) == 6
    for batch in all_batches:
        assert batch.set_B.tolist() == [0] * 8 + [1] * 8
        assert batch.views[0].shape == (16, 1, 3, 8, 8)
        values = (batch.views[0][:, 0, 0, 0, 0] * 255).round().long()
        assert (values >= 10).all()  # content 0 is held out
        contents = list(zip(batch.set_B.tolist(), (values // 10).tolist(), strict=True))
        assert len(set(contents)) == 2 + 8
        numbers = dict(zip(contents, batch.content_B.tolist(), strict=True))
        assert [numbers[content] for content in contents] == batch.content_B.tolist()
        assert len(set(numbers.values())) == len(numbers)
        assert torch.allclose(batch.quality_B, 1 - (values % 10) / 10)
    assert torch.equal(all_batches[3].views[0], batches.batch(3).views[0])
    assert not torch.equal(all_batches[3].views[0], all_batches[4].views[0])


def test_versions_of_one_content_have_views_at_the_same_position() -> None:
    def noisy(clip: Clip, *, generator: np.random.Generator | None) -> npt.NDArray[np.float64]:
        assert generator is not None
        return generator.random(clip.pixels_TCHW.shape)

    batch = PictureBatches([flat_set("a", 5, 4)], (noisy,), count=8, versions=4, seed=0).batch(0)
    first, second = batch.views[0][:4], batch.views[0][4:]
    assert (first == first[0]).all()
    assert (second == second[0]).all()
    assert not torch.equal(first[0], second[0])
