import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ladder import Ffmpeg
from ladder.media.decode import frames_at
from ladder.media.ffmpeg import run
from ladder.media.probe import probe
from ladder.media.stills import encode_decode
from vqatool.cli.demo import demo_clip
from vqatool.vif import luma, patch_quality, quality_channel, tile_quality, vif


@pytest.fixture(scope="module")
def still() -> Tensor:
    """Luma of one real frame, 320x192."""
    pixels_THWC = frames_at(probe(demo_clip()), [2.0], (320, 192))
    return luma(torch.from_numpy(pixels_THWC[0]).permute(2, 0, 1))


def blurred(still_HW: Tensor, times: int) -> Tensor:
    for _ in range(times):
        padded = torch.nn.functional.pad(still_HW[None], [1] * 4, mode="reflect")
        still_HW = torch.nn.functional.avg_pool2d(padded, 3, 1)[0]
    return still_HW


def test_identical_pictures_have_quality_1(still: Tensor) -> None:
    assert [float(value) for value in vif(still, still)] == pytest.approx([1] * 4)
    quality = tile_quality(still, still, 64)
    assert quality.shape == (3, 5)
    # rounding of float32 variances, relative to a noise of 2
    assert torch.allclose(quality, torch.ones(3, 5), atol=1e-4)


def test_flat_pictures_have_a_quality() -> None:
    flat = torch.full((64, 64), 128, dtype=torch.uint8)
    assert [float(value) for value in vif(flat, flat)] == [1] * 4
    assert (tile_quality(flat, flat + 40, 32) == 1).all()  # VIF ignores a shift of brightness
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert tile_quality(flat.float(), 128 + 30 * noise, 64).item() < 1


@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_stronger_distortions_have_lower_quality_in_every_tile(still: Tensor, kind: str) -> None:
    noise = torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    steps = {
        "noise": [still + deviation * noise for deviation in (1, 3, 9, 27)],
        "blur": [blurred(still, times) for times in (1, 2, 4, 8)],
    }[kind]
    worse = torch.stack([tile_quality(still, step, 64) for step in steps])
    assert (worse.diff(dim=0) < 0).all()
    assert worse.min() >= 0
    assert worse.max() < 1


def test_a_distorted_tile_lowers_only_its_own_quality(still: Tensor) -> None:
    distorted = still.clone()
    distorted[64:128, 128:192] = blurred(still, 4)[64:128, 128:192]
    lost = 1 - tile_quality(still, distorted, 64)
    assert lost.argmax() == 1 * 5 + 2
    assert lost[1, 2] > 0.3
    far = torch.ones(3, 5, dtype=torch.bool)
    far[0:3, 1:4] = False
    assert (lost[far] < 1e-4).all()


def test_a_batch_gives_the_same_qualities_as_single_pictures(still: Tensor) -> None:
    others = torch.stack([blurred(still, 1), blurred(still, 5)])
    batched = tile_quality(still.expand_as(others), others, 32)
    single = torch.stack([tile_quality(still, other, 32) for other in others])
    assert batched.shape == (2, 6, 10)
    assert torch.allclose(batched, single, atol=1e-5)


def test_odd_sizes_have_only_whole_tiles() -> None:
    odd = torch.rand(75, 101) * 255
    assert tile_quality(odd, odd, 24).shape == (3, 4)


@pytest.mark.parametrize(("size", "tile_px"), [((64, 64), 12), ((64, 64), 72), ((12, 64), 8)])
def test_invalid_tile_sizes_and_small_pictures_are_refused(
    size: tuple[int, int], tile_px: int
) -> None:
    picture = torch.rand(size)
    with pytest.raises(ValueError, match=r"multiple of 8|at least 16"):
        tile_quality(picture, picture, tile_px)


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="one size"):
        vif(torch.rand(64, 64), torch.rand(64, 72))


def test_luma_is_in_the_range_of_video() -> None:
    ends = torch.tensor([[[0.0, 255.0]]]).expand(3, 1, 2)
    assert luma(ends).flatten().tolist() == pytest.approx([16, 235])


@pytest.mark.parametrize(("codec", "quality"), [("libx264", 30), ("libx264", 44), ("mjpeg", 20)])
def test_each_scale_agrees_with_libvmaf(
    tmp_path: Path, ffmpeg: Ffmpeg, codec: str, quality: int
) -> None:
    picture = frames_at(probe(demo_clip()), [2.0], (640, 360))[0]
    planes = [
        luma(torch.from_numpy(pixels).permute(2, 0, 1)).round().byte()
        for pixels in (picture, encode_decode(picture, codec, quality))
    ]
    inputs = []
    for name, plane in zip(("reference", "encode"), planes, strict=True):
        grey = np.full(2 * 320 * 180, 128, np.uint8)
        (tmp_path / name).write_bytes(plane.numpy().tobytes() + grey.tobytes())
        inputs.append(["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "640x360", "-i", name])
    graph = "libvmaf=log_fmt=json:log_path=log.json"
    run(ffmpeg, [*inputs[1], *inputs[0], "-lavfi", graph, "-f", "null", "-"], cwd=tmp_path)
    metrics = json.loads((tmp_path / "log.json").read_text())["frames"][0]["metrics"]
    of_libvmaf = [metrics[f"integer_vif_scale{scale}"] for scale in range(4)]
    # libvmaf uses integer arithmetic
    assert [float(value) for value in vif(planes[0], planes[1])] == pytest.approx(
        of_libvmaf, abs=2e-3
    )
    quality_of_all = tile_quality(planes[0], planes[1], 360)[0, 0]
    assert 100 * quality_of_all == pytest.approx(metrics["vmaf"], abs=25)  # RMSE of the fit: 8.6


def test_the_quality_channel_is_full_where_nothing_changed_and_low_where_detail_is_lost() -> None:
    torch.manual_seed(0)
    reference = 255 * torch.rand(2, 72, 90)
    distorted = reference.clone()
    distorted[:, :, 48:] = reference[:, :, 48:].mean()
    channel = quality_channel(reference, distorted)
    assert (channel.shape, channel.dtype) == (reference.shape, torch.uint8)
    assert (channel[:, :, :32] == 255).all()
    assert (channel[:, :, 64:] < 60).all()
    assert torch.equal(channel[:, 71], channel[:, 63])  # the rest belongs to the last tile


def test_the_quality_of_patches_is_read_back_from_the_channel() -> None:
    channel = torch.ones(1, 64, 64)
    channel[:, :32, :32], channel[:, 32:, 32:] = 1 / 255, 128 / 255
    channel[:, 40, 3] = 0
    quality = patch_quality(channel, 2)
    assert quality[0, [0, 1, 3]].tolist() == pytest.approx([0, 1, 0.5], abs=1e-5)
    assert quality[0, 2].isnan()
