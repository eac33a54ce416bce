import pytest
import torch
import torch.nn.functional as F

from vqatool.inputs.clip import Clip
from vqatool.inputs.deep_features import NUM_DEEP_FEATURES, deep_features

# means of the twelve parts of 64 features, of a ramp from black to white
EXPECTED = [
    0.35647,
    0.05034,
    0.26132,
    0.05523,
    0.14893,
    0.1669,
    0.02675,
    0.0267,
    0.20981,
    0.22473,
    0.03079,
    0.03825,
]


def picture(height: int, width: int, frames: int = 2) -> torch.Tensor:
    chance = torch.Generator().manual_seed(3)
    coarse = torch.rand(frames, 3, height // 4, width // 4, generator=chance)
    detail = torch.rand(frames, 3, height, width, generator=chance)
    mixed = 0.6 * F.interpolate(coarse, (height, width), mode="bilinear") + 0.4 * detail
    return (255 * mixed).to(torch.uint8)


@pytest.mark.parametrize("size", [(540, 960), (300, 64), (256, 256), (48, 64)])
def test_a_clip_of_any_size_has_the_same_features_each_time(size: tuple[int, int]) -> None:
    clip = Clip(picture(*size))
    found = deep_features(clip)
    assert found.shape == (NUM_DEEP_FEATURES,)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert found.isfinite().all()
    assert torch.equal(found, deep_features(clip))


def test_one_picture_is_a_clip_of_one_frame() -> None:
    assert deep_features(Clip(picture(256, 256, frames=1))).isfinite().all()


def test_only_the_first_frames_of_groups_count() -> None:
    shown = picture(256, 256)
    second = torch.zeros_like(shown)
    pairs = torch.stack([shown, second], dim=1).flatten(0, 1)
    assert torch.equal(deep_features(Clip(pairs, 2)), deep_features(Clip(shown)))


def test_patches_of_one_colour_do_not_deviate() -> None:
    features = deep_features(Clip(torch.full((2, 3, 256, 256), 90, dtype=torch.uint8)))
    # of each stage: mean and deviation over the patches of means, and of deviations
    for stage in (features[:256], features[256:]):
        _, between_means, _, between_deviations = stage.chunk(4)
        assert between_means.max() < 1e-5
        assert between_deviations.max() < 1e-5


def test_blur_and_blocks_change_the_features_more_than_a_mirror_does() -> None:
    shown = picture(256, 256)
    blocks = F.interpolate(F.avg_pool2d(shown.float(), 8), scale_factor=8)
    first, mirrored, destroyed = (
        deep_features(Clip(each.to(torch.uint8))) for each in (shown, shown.flip(-1), blocks)
    )
    assert (destroyed - first).norm() > 3 * (mirrored - first).norm()


@pytest.mark.parametrize("size", [(16, 400), (400, 16)])
def test_of_a_thin_frame_the_middle_counts(size: tuple[int, int]) -> None:
    shown = picture(*size)
    middle = shown[..., 168:232] if size[0] < size[1] else shown[:, :, 168:232]
    assert torch.equal(deep_features(Clip(shown)), deep_features(Clip(middle)))


def test_the_packaged_weights_are_those_that_were_measured() -> None:
    ramp = torch.arange(256, dtype=torch.uint8)
    features = deep_features(Clip(ramp.expand(1, 3, 256, 256)))
    found = [float(part.mean()) for part in features.chunk(12)]
    assert found == pytest.approx(EXPECTED, rel=1e-3)
