from importlib import resources

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime
import pytest
import torch

from vqatool.inputs.clip import Array, Clip
from vqatool.inputs.deep_features import CHANNELS, NETWORK, NUM_DEEP_FEATURES, deep_features
from vqatool.inputs.deep_features import patches as patches_of
from vqatool.inputs.resize import resized
from vqatool.pretraining.fdim import PatchFigures

# means of the twelve parts of 64 features, of a ramp from black to white
EXPECTED = [
    0.11982,
    0.01431,
    0.11629,
    0.02017,
    0.10194,
    0.16173,
    0.00449,
    0.0066,
    0.059,
    0.08305,
    0.00666,
    0.00607,
]


def picture(height: int, width: int, frames: int = 2) -> Array:
    chance = np.random.default_rng(3)
    coarse = chance.random((frames, 3, height // 4, width // 4))
    detail = chance.random((frames, 3, height, width))
    mixed = 0.6 * resized(coarse, (height, width), is_antialiased=False) + 0.4 * detail
    pixels: Array = (255 * mixed).astype(np.uint8)
    return pixels


@pytest.mark.parametrize("size", [(540, 960), (300, 64), (256, 256), (48, 64)])
def test_a_clip_of_any_size_has_the_same_features_each_time(size: tuple[int, int]) -> None:
    clip = Clip(picture(*size))
    found = deep_features(clip)
    assert found.shape == (NUM_DEEP_FEATURES,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert np.array_equal(found, deep_features(clip))


def test_one_picture_is_a_clip_of_one_frame() -> None:
    assert np.isfinite(deep_features(Clip(picture(256, 256, frames=1)))).all()


def test_only_the_first_frames_of_groups_count() -> None:
    shown = picture(256, 256)
    pairs = np.stack([shown, np.zeros_like(shown)], axis=1).reshape(-1, *shown.shape[1:])
    assert np.array_equal(deep_features(Clip(pairs, 2)), deep_features(Clip(shown)))


def test_patches_of_one_colour_do_not_deviate() -> None:
    features = deep_features(Clip(np.full((2, 3, 256, 256), 90, np.uint8)))
    # of each stage: mean and deviation over the patches of means, and of deviations
    for stage in (features[:256], features[256:]):
        _, between_means, _, between_deviations = np.split(stage, 4)
        assert between_means.max() < 1e-5
        assert between_deviations.max() < 1e-5


def test_blur_and_blocks_change_the_features_more_than_a_mirror_does() -> None:
    shown = picture(256, 256)
    means = shown.reshape(2, 3, 32, 8, 32, 8).mean((3, 5))
    blocks = means.repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
    first, mirrored, destroyed = (
        deep_features(Clip(each)) for each in (shown, shown[..., ::-1], blocks)
    )
    assert np.linalg.norm(destroyed - first) > 3 * np.linalg.norm(mirrored - first)


@pytest.mark.parametrize("size", [(16, 400), (400, 16)])
def test_of_a_thin_frame_the_middle_counts(size: tuple[int, int]) -> None:
    shown = picture(*size)
    middle = shown[..., 168:232] if size[0] < size[1] else shown[:, :, 168:232]
    assert np.array_equal(deep_features(Clip(shown)), deep_features(Clip(middle)))


def test_the_packaged_weights_are_those_that_were_measured() -> None:
    ramp = np.arange(256, dtype=np.uint8)
    features = deep_features(Clip(np.broadcast_to(ramp, (1, 3, 256, 256))))
    found = [float(part.mean()) for part in np.split(features, 12)]
    assert found == pytest.approx(EXPECTED, rel=1e-3)


def patches(count: int) -> Array:
    return np.random.default_rng(5).integers(256, size=(count, 1, 128, 128), dtype=np.uint8)


def luma_of(pixels_NCHW: Array) -> Array:
    red, green, blue = np.moveaxis(pixels_NCHW.astype(np.float64), 1, 0)
    luma_NHW = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    luma_N1HW: Array = luma_NHW.round().astype(np.uint8)[:, None]
    return luma_N1HW


def by_torch(weights: dict[str, Array], patches_NCHW: Array) -> Array:
    network = PatchFigures({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.no_grad():
        figures: Array = network(torch.from_numpy(patches_NCHW))["figures"].numpy()
    return figures


def by_onnxruntime(network: bytes, patches_NCHW: Array) -> Array:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    figures: Array
    (figures,) = session.run(["figures"], {"patches": patches_NCHW})
    return figures


def packaged_weights(network: bytes) -> dict[str, Array]:
    """The convolutions of the file, by the names that `stages` takes."""
    stored = onnx.load_model_from_string(network).graph.initializer
    return {
        each.name.replace("_", "."): np.array(onnx.numpy_helper.to_array(each))
        for each in stored
        if each.name.endswith(("_weight", "_bias"))
    }


@pytest.mark.parametrize("count", [1, 3])
def test_the_packaged_network_is_the_two_stages_of_the_resnet(count: int) -> None:
    network = resources.files("vqatool").joinpath("weights", NETWORK).read_bytes()
    weights = packaged_weights(network)
    assert len(weights) == 2 * (1 + 2 * 2 * len(CHANNELS) + 1)
    found = by_onnxruntime(network, patches(count))
    assert found.shape == (count, 2 * sum(CHANNELS))
    assert found == pytest.approx(by_torch(weights, patches(count)), abs=1e-5)


def test_features_are_pooled_over_the_patches_of_all_frames() -> None:
    """Against the plain way: torch's network on the quarters, then mean and deviation of each."""
    shown = picture(256, 256, frames=3)
    quarters = [shown[:, :, y : y + 128, x : x + 128] for y in (0, 128) for x in (0, 128)]
    network = resources.files("vqatool").joinpath("weights", NETWORK).read_bytes()
    figures = by_torch(packaged_weights(network), luma_of(np.concatenate(quarters)))
    parts = np.split(figures, [64, 128, 256], axis=1)
    wanted = np.concatenate([pool for part in parts for pool in (part.mean(0), part.std(0))])
    assert deep_features(Clip(shown)) == pytest.approx(wanted, abs=1e-4)


def test_patches_keep_the_quality_of_their_places() -> None:
    shown = picture(256, 256)
    quality = np.kron([[10, 20], [30, 40]], np.ones((128, 128))).astype(np.uint8)
    with_quality = np.concatenate([shown, np.tile(quality, (2, 1, 1, 1))], axis=1)
    found = patches_of(Clip(with_quality))
    assert found.shape == (8, 2, 128, 128)
    assert np.array_equal(found[:, :1], patches_of(Clip(shown)))
    assert found[:, 1].mean((1, 2)).tolist() == [10, 20, 30, 40] * 2
