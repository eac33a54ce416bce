"""A labelled encode and the recipe's views -> a batch, from frames that were decoded once.

Decoding is far slower than a training step, so the frames of each encode are kept beside it as
uint8 at display size (`.frames/` in the work folder) and mapped into memory.
"""

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ladder.ffmpeg import run_parallel, split_cores
from ladder.frames import spread
from ladder.probe import probe
from vqatool.clips import as_float, read_clip
from vqatool.groups import LabelledEncode, group_of
from vqatool.recipes import View


class Batch(NamedTuple):
    """Views of B encodes, labels on the label's scale divided by 100, indices of their groups.

    `frame_label_BT` are the labels of the frames in the views; NaN where there is none.
    """

    views: tuple[Tensor, ...]
    label_B: Tensor
    group_B: Tensor
    frame_label_BT: Tensor


class CachedClips:
    """Clips of labelled encodes, decoded once into `folder`."""

    def __init__(self, encodes: Sequence[LabelledEncode], folder: Path, frames: int) -> None:
        self.encodes = list(encodes)
        self._frames = frames
        self._folder = folder
        groups = group_of(encodes)
        self._group = [sorted(set(groups)).index(group) for group in groups]

    def decode_missing(self) -> Iterator[LabelledEncode]:
        """Decode what is not cached yet; yields each encode as it is ready.

        Raises:
            VideoError: an encode that was labelled can no longer be decoded.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = [encode for encode in self.encodes if not self._cache(encode).exists()]

        def decode(encode: LabelledEncode) -> LabelledEncode:
            self._decode(encode)
            return encode

        at_once, _ = split_cores(None)
        yield from run_parallel(decode, missing, at_once)

    def clip(self, index: int) -> Tensor:
        """(T, 3, H, W) uint8, the frames spread over the encode."""
        pixels = np.load(self._cache(self.encodes[index]), mmap_mode="c")
        return torch.from_numpy(pixels)

    def batch(
        self, indices: Sequence[int], views: Sequence[View], *, seed: int, frames: int
    ) -> Batch:
        """Views, labels and groups of the encodes at `indices`.

        Args:
            indices: into `encodes`.
            views: of the recipe.
            seed: chooses frames and places, the same ones for all encodes of one source, so that
                only the damage differs.
            frames: how many frames of each clip to draw.
        """
        made = [self._views(index, views, seed, frames) for index in indices]
        chosen = [self.encodes[index] for index in indices]
        return Batch(
            views=tuple(torch.stack(column) for column in zip(*made, strict=True)),
            label_B=torch.tensor([encode.vmaf / 100 for encode in chosen]),
            group_B=torch.tensor([self._group[index] for index in indices]),
            frame_label_BT=torch.full((len(chosen), frames), torch.nan),
        )

    def _views(self, index: int, views: Sequence[View], seed: int, frames: int) -> list[Tensor]:
        clip_TCHW = self.clip(index)
        source = zlib.crc32(self.encodes[index].source.encode("utf-8", "surrogateescape"))
        chance = torch.Generator().manual_seed(hash((seed, source)))
        drawn = torch.randperm(len(clip_TCHW), generator=chance)[:frames].sort().values
        clip_TCHW = clip_TCHW[drawn]
        is_mirrored = bool(torch.rand((), generator=chance) < 0.5)
        made = [as_float(view(clip_TCHW, generator=chance)) for view in views]
        return [view.flip(-1) for view in made] if is_mirrored else made

    def _decode(self, encode: LabelledEncode) -> None:
        info = probe(encode.path)
        clip = read_clip(info, spread(0, info.duration_s, self._frames), encode.display)
        part = self._cache(encode).with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, clip.contiguous().numpy())
        part.replace(self._cache(encode))

    def _cache(self, encode: LabelledEncode) -> Path:
        facts = encode.path.stat()
        known = (str(encode.path), facts.st_size, facts.st_mtime_ns, encode.display, self._frames)
        name = hashlib.blake2b(repr(known).encode(), digest_size=12).hexdigest()
        return self._folder / f"{name}.npy"
