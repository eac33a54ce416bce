from pathlib import Path

import numpy as np
import pytest

from ladder.codecs import still_codings
from ladder.errors import VideoError
from ladder.media.ffmpeg import Ffmpeg, run
from ladder.media.stills import encode_decode, read_picture, resize
from ladder.media.upright import Pixels


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory, ffmpeg: Ffmpeg) -> Pixels:
    path = tmp_path_factory.mktemp("still") / "still.png"
    scene = "mandelbrot=size=160x96:start_scale=0.6:end_pts=60"
    run(ffmpeg, ["-f", "lavfi", "-i", scene, "-frames:v", "1", str(path)])
    return read_picture(path)


def error(picture: Pixels, other: Pixels) -> float:
    return float(np.square(picture.astype(float) - other).mean())


def test_a_picture_is_read_as_stored(tmp_path: Path, ffmpeg: Ffmpeg) -> None:
    for name in ("red.png", "red.bmp", "red.jpg"):
        source = "color=c=red:size=33x17,format=rgb24"
        run(ffmpeg, ["-f", "lavfi", "-i", source, "-frames:v", "1", str(tmp_path / name)])
        pixels = read_picture(tmp_path / name)
        assert pixels.shape == (17, 33, 3)
        assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 4, name  # JPEG rounds colours


@pytest.mark.parametrize("codec", still_codings())
def test_a_codec_distorts_more_at_a_worse_quality_and_is_deterministic(
    picture: Pixels, codec: str
) -> None:
    fine, coarse = (4, 28) if codec == "mjpeg" else (15, 45)
    first, again, worse = (
        encode_decode(picture, codec, quality) for quality in (fine, fine, coarse)
    )
    assert first.shape == picture.shape
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert 0 < error(picture, first) < error(picture, worse) < 3000


def test_scaling_down_and_up_keeps_the_coarse_picture(picture: Pixels) -> None:
    small = resize(picture, 80, 48)
    assert small.shape == (48, 80, 3)
    back = resize(small, 160, 96)
    assert 0 < error(picture, back) < error(picture, np.full_like(picture, 128))


def test_the_error_for_a_file_without_a_picture_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(VideoError, match=r"notes\.png"):
        read_picture(path)
