"""Sets of rated pictures to pre-train on: rated by people, or distorted here and rated by VIF."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from ladder.errors import VideoError
from ladder.media.decode import frames_at, uniform_times
from ladder.media.discover import find_videos
from ladder.media.ffmpeg import allocate_workers, run_parallel
from ladder.media.probe import probe
from ladder.media.stills import read_picture
from ladder.media.upright import Pixels
from ladder.storage import atomic_write, digest
from vqatool.errors import TrainingDataError
from vqatool.files import cache_folder
from vqatool.pretraining.distortions import distort, sample_distortions
from vqatool.pretraining.iqa_datasets import RatedPicture, read_rated, with_sides
from vqatool.vif import luma, tile_quality

SYNTHETIC = "synthetic"


_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


_GRID = 2  # tiles along each side of the square that is cut from a clean picture


_VIDEO_FRAMES = 4


_EDITION = 1  # raise it when distortions or labels change, so that old cache files are not used


OnDistorted = Callable[[int, int], None]
"""Receives how many pictures and videos are done, and how many there are."""


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures with qualities on one scale, 0 (worst) to 1 (best).

    `contents` names what each picture shows: pictures of one content differ only in their
    distortion. `sides` are `train` or `test`; a content is on both only if the set's own split puts
    it there. With `is_vmaf_scale` the qualities are VMAF / 100. `pixels(index)` is (3, H, W)
    uint8 RGB.
    """

    name: str
    is_vmaf_scale: bool
    qualities: tuple[float, ...]
    contents: tuple[str, ...]
    sides: tuple[str, ...]
    pixels: Callable[[int], Pixels] = field(compare=False)

    def side(self, name: str) -> list[int]:
        """Indices of the pictures on that side."""
        return [index for index, side in enumerate(self.sides) if side == name]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """How a synthetic set is made from clean pictures.

    Each picture gives a square of 2 x 2 tiles with sides of `tile_px`: the clean square and
    `versions` distorted ones.
    """

    tile_px: int
    versions: int = 24
    seed: int = 0


def rated_set(name: str, folder: Path, *, test_share: float, seed: int) -> PictureSet:
    """A published set, or a CSV of path,mos; see `iqa_datasets.read_rated`.

    Raises:
        TrainingDataError: a file is missing or has unexpected content.
    """
    rated: Sequence[RatedPicture] = read_rated(name, folder)

    def pixels(index: int) -> Pixels:
        return read_picture(rated[index].path).transpose(2, 0, 1)

    return PictureSet(
        name=name,
        is_vmaf_scale=False,
        qualities=tuple(picture.quality for picture in rated),
        contents=tuple(picture.reference for picture in rated),
        sides=tuple(with_sides(rated, test_share=test_share, seed=seed)),
        pixels=pixels,
    )


def synthetic_set(
    folder: Path,
    config: SyntheticConfig,
    *,
    test_share: float,
    on_distorted: OnDistorted = lambda done, total: None,
) -> PictureSet:
    """Distort clean pictures, or frames of clean videos, and label each tile.

    The tiles depend only on the files and settings. They are kept in the user's cache folder: in
    `vqatool/synthetic` under `$XDG_CACHE_HOME`, by default `~/.cache`.

    Args:
        folder: of pictures or videos, at any depth. They should be free of visible distortion:
            photographs scaled down by two are, because this hides their JPEG artefacts.
        config: size, number and seed.
        test_share: share of the clean pictures to hold out, 0 to 1.
        on_distorted: called with (done, total) after each picture or video.

    Raises:
        TrainingDataError: fewer than two large enough pictures, or a video that cannot be read.
        CapabilityError: this build of PyAV lacks an encoder.
    """
    sources = _clean_sources(folder)
    cache = cache_folder() / "synthetic"
    cache.mkdir(parents=True, exist_ok=True)

    def distort_source(source: Path) -> tuple[Path, Path]:
        return source, _tiles_file(source, folder, cache, config)

    workers, _ = allocate_workers(None)
    tile_files: dict[Path, Path] = {}
    for done, (source, path) in enumerate(run_parallel(distort_source, sources, workers), 1):
        tile_files[source] = path
        on_distorted(done, len(sources))
    return _tile_set(sorted(tile_files.items()), test_share, config)


def _tile_set(
    files: Sequence[tuple[Path, Path]], test_share: float, config: SyntheticConfig
) -> PictureSet:
    """The set of all tiles of all versions of all frames."""
    contents: list[str] = []
    positions: list[tuple[Path, tuple[int, ...]]] = []
    rated: list[RatedPicture] = []
    for source, path in files:
        for index, quality in np.ndenumerate(np.load(_qualities_file(path))):
            frame, _, tile = index
            contents.append(f"{source}/{frame}/{tile}")
            positions.append((path, index))
            rated.append(RatedPicture(path, float(quality), str(source)))
    if len({picture.reference for picture in rated}) < 2:
        raise TrainingDataError(
            f"fewer than two of the {len(files)} clean pictures have sides of at least "
            f"{_GRID * config.tile_px} px: add larger ones, hundreds are better than two"
        )

    def pixels(index: int) -> Pixels:
        path, position = positions[index]
        tile: Pixels = np.load(path, mmap_mode="c")[position]
        return tile

    return PictureSet(
        name=SYNTHETIC,
        is_vmaf_scale=True,
        qualities=tuple(picture.quality for picture in rated),
        contents=tuple(contents),
        sides=tuple(with_sides(rated, test_share=test_share, seed=config.seed)),
        pixels=pixels,
    )


def _clean_sources(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise TrainingDataError(f"{folder} is not a folder: name one of clean pictures or videos")
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _PICTURES]
    return sorted({*pictures, *find_videos([folder]).videos})


def _tiles_file(source: Path, folder: Path, cache: Path, config: SyntheticConfig) -> Path:
    """The cache file of the tiles of one picture or video, written if it is missing.

    It holds (F, V, N, 3, side, side) uint8 of F frames (0 if the picture is too small), V versions,
    the first of them clean, and N tiles. The file beside it holds the qualities (F, V, N).
    """
    stat, name = source.stat(), str(source.relative_to(folder))
    file = (str(source.absolute()), name, stat.st_size, stat.st_mtime_ns)
    path = cache / f"{digest(repr((_EDITION, *file, asdict(config))))}.npy"
    if _qualities_file(path).exists():
        return path
    # seeded only by name and seed, so that a copy of the folder gives the same tiles
    rng = np.random.default_rng([config.seed, zlib.crc32(name.encode("utf-8", "replace"))])
    frames = [_distorted_tiles(clean, config, rng) for clean in _crop_squares(source, config, rng)]
    side = config.tile_px
    _save(np.stack([t for t, _ in frames]) if frames else np.empty((0, 1, 1, 3, side, side)), path)
    # qualities are written last: if their file exists, so does that of the tiles
    _save(
        np.stack([q for _, q in frames]) if frames else np.empty((0, 1, 1)), _qualities_file(path)
    )
    return path


def _crop_squares(
    source: Path, config: SyntheticConfig, rng: np.random.Generator
) -> Iterator[Pixels]:
    """A square at a random position of each clean frame that is large enough."""
    side = _GRID * config.tile_px
    for clean in _clean_frames(source):
        height, width = clean.shape[:2]
        if min(height, width) >= side:
            top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
            yield np.ascontiguousarray(clean[top : top + side, left : left + side])


def _clean_frames(source: Path) -> Iterator[Pixels]:
    if source.suffix.lower() in _PICTURES:
        yield read_picture(source)
        return
    try:
        info = probe(source)
        yield from frames_at(
            info, uniform_times(0, info.duration_s, _VIDEO_FRAMES), info.display_size
        )
    except VideoError as error:
        raise TrainingDataError(f"{error}: move it out of the folder") from error


def _distorted_tiles(
    clean: Pixels, config: SyntheticConfig, rng: np.random.Generator
) -> tuple[Pixels, np.ndarray]:
    """Tiles (V, N, 3, side, side) of all versions of a square, and their qualities (V, N)."""
    distortions = sample_distortions(config.versions, rng)
    versions = [clean, *(distort(clean, distortion, rng) for distortion in distortions)]
    pixels_VCHW = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).contiguous()
    luma_VHW = luma(pixels_VCHW)
    quality_VRC = tile_quality(luma_VHW[:1].expand_as(luma_VHW), luma_VHW, config.tile_px)
    side = config.tile_px
    tiles = pixels_VCHW.view(len(versions), 3, _GRID, side, _GRID, side).permute(0, 2, 4, 1, 3, 5)
    return tiles.flatten(1, 2).contiguous().numpy(), quality_VRC.flatten(1).numpy()


def _save(values: np.ndarray, path: Path) -> None:
    with atomic_write(path) as file:
        np.save(file, values)


def _qualities_file(path: Path) -> Path:
    return path.with_name(f"{path.stem}-quality.npy")
