"""Sets of rated pictures to pre-train on: opinions of people, or damage of our own making."""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ladder.errors import VideoError
from ladder.media.decode import Pixels, frames_at, uniform_times
from ladder.media.discover import find_videos
from ladder.media.ffmpeg import allocate_workers, run_parallel
from ladder.media.probe import probe
from ladder.media.stills import read_picture
from vqatool.errors import TrainingDataError
from vqatool.pretraining.distortions import distort, draw_distortions
from vqatool.pretraining.iqa_datasets import RatedPicture, read_rated, with_sides
from vqatool.pretraining.vif import luma, tile_quality

SYNTHETIC = "made"


_CACHE = ".made"


_PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm"})


_GRID = 2  # tiles a side that are cut out of each clean picture


_VIDEO_FRAMES = 4


_EDITION = 1  # to be raised when damage or labels change: what was made before is made anew


OnMade = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """Pictures with qualities on one scale, 0 (worst) to 1 (best).

    `contents` says what each shows: those of one content differ in their damage alone. `sides` are
    `train` or `test`; no content is on both, unless the set's own split has it so. `pixels(index)`
    is (3, H, W) uint8.
    """

    name: str
    is_vmaf_scale: bool
    qualities: tuple[float, ...]
    contents: tuple[str, ...]
    sides: tuple[str, ...]
    pixels: Callable[[int], Tensor] = field(compare=False)

    def side(self, name: str) -> list[int]:
        """Indices of the pictures on that side."""
        return [index for index, side in enumerate(self.sides) if side == name]


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """How a set is made out of clean pictures.

    Each gives a square of 2 x 2 tiles of `tile_px`, in `versions` versions beside the clean one.
    """

    tile_px: int
    versions: int = 24
    seed: int = 0


def rated_set(name: str, folder: Path, *, test_share: float, seed: int) -> PictureSet:
    """A published set, or a CSV of path,mos; see `iqa.read_rated`."""
    rated: Sequence[RatedPicture] = read_rated(name, folder)

    def pixels(index: int) -> Tensor:
        return torch.from_numpy(read_picture(rated[index].path)).permute(2, 0, 1)

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
    on_made: OnMade = lambda done, total: None,
) -> PictureSet:
    """Clean pictures, or frames of clean videos, damaged and labelled tile by tile.

    What is made is kept in `.made` in the folder, and the same for the same settings.

    Args:
        folder: of pictures or videos, also in folders below it. What they show should be clean:
            scale photographs down by two, and their own coding does not show.
        config: size, number and seed.
        test_share: share of the clean pictures held out.
        on_made: told (done, total) as pictures are damaged.

    Raises:
        TrainingDataError: fewer than two pictures large enough.
        CapabilityError: this build of PyAV lacks an encoder.
    """
    sources = _clean_sources(folder)
    (folder / _CACHE).mkdir(exist_ok=True)

    def make(source: Path) -> tuple[Path, Path]:
        return source, _synthetic_tiles(source, folder, config)

    at_once, _ = allocate_workers(None)
    made: dict[Path, Path] = {}
    for done, (source, tiles) in enumerate(run_parallel(make, sources, at_once), 1):
        made[source] = tiles
        on_made(done, len(sources))
    return _tile_set(sorted(made.items()), test_share, config)


def _tile_set(
    files: Sequence[tuple[Path, Path]], test_share: float, config: SyntheticConfig
) -> PictureSet:
    """One item for each tile of each version of each frame."""
    contents: list[str] = []
    places: list[tuple[Path, tuple[int, ...]]] = []
    rated: list[RatedPicture] = []
    for source, path in files:
        for place, quality in np.ndenumerate(np.load(_qualities_of(path))):
            frame, _, tile = place
            contents.append(f"{source}/{frame}/{tile}")
            places.append((path, place))
            rated.append(RatedPicture(path, float(quality), str(source)))
    if len({picture.reference for picture in rated}) < 2:
        raise TrainingDataError(
            f"fewer than two clean pictures of at least {_GRID * config.tile_px} px a side were "
            f"found among {len(files)}: two are needed, hundreds are better"
        )

    def pixels(index: int) -> Tensor:
        path, place = places[index]
        return torch.from_numpy(np.load(path, mmap_mode="c")[place])

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
        raise TrainingDataError(f"{folder} is no folder: give one of clean pictures or videos")
    pictures = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _PICTURES]
    return sorted({*pictures, *find_videos([folder]).videos})


def _synthetic_tiles(source: Path, folder: Path, config: SyntheticConfig) -> Path:
    """The file of tiles of one picture or video, made if it is missing.

    It holds (F, V, N, 3, side, side) uint8, its neighbour the qualities (F, V, N): frames, none if
    the picture is too small, versions, the first of them clean, and tiles.
    """
    facts, name = source.stat(), str(source.relative_to(folder))
    known = repr((_EDITION, name, facts.st_size, facts.st_mtime_ns, asdict(config)))
    digest = hashlib.blake2b(known.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    path = folder / _CACHE / f"{digest}.npy"
    if _qualities_of(path).exists():
        return path
    # by name and seed alone, so that copying the folder changes nothing
    random = np.random.default_rng([config.seed, zlib.crc32(name.encode("utf-8", "replace"))])
    made = [_tiles(clean, config, random) for clean in _squares(source, config, random)]
    side = config.tile_px
    _save(np.stack([t for t, _ in made]) if made else np.empty((0, 1, 1, 3, side, side)), path)
    # last: with it the pair is whole
    _save(np.stack([q for _, q in made]) if made else np.empty((0, 1, 1)), _qualities_of(path))
    return path


def _squares(
    source: Path, config: SyntheticConfig, random: np.random.Generator
) -> Iterator[Pixels]:
    """A square from a place of chance of each clean frame that is large enough."""
    side = _GRID * config.tile_px
    for clean in _clean_frames(source):
        height, width = clean.shape[:2]
        if min(height, width) >= side:
            top, left = random.integers(height - side + 1), random.integers(width - side + 1)
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
        raise TrainingDataError(f"{error}: take it out of the folder") from error


def _tiles(
    clean: Pixels, config: SyntheticConfig, random: np.random.Generator
) -> tuple[Pixels, np.ndarray]:
    """Tiles (V, N, 3, side, side) of all versions of a square, and their qualities (V, N)."""
    distortions = draw_distortions(config.versions, random)
    versions = [clean, *(distort(clean, distortion, random) for distortion in distortions)]
    pixels_VCHW = torch.from_numpy(np.stack(versions)).permute(0, 3, 1, 2).contiguous()
    luma_VHW = luma(pixels_VCHW)
    quality_VRC = tile_quality(luma_VHW[:1].expand_as(luma_VHW), luma_VHW, config.tile_px)
    side = config.tile_px
    tiles = pixels_VCHW.view(len(versions), 3, _GRID, side, _GRID, side).permute(0, 2, 4, 1, 3, 5)
    return tiles.flatten(1, 2).contiguous().numpy(), quality_VRC.flatten(1).numpy()


def _save(values: np.ndarray, path: Path) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, values)
    part.replace(path)


def _qualities_of(path: Path) -> Path:
    return path.with_name(f"{path.stem}-quality.npy")
