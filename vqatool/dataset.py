"""A labelled encode and the recipe's views -> a batch, from videos that were decoded once.

Decoding is far slower than a training step, so what the views see of each encode is kept beside it
(`.views/` in the work folder) and mapped into memory: once without chance, for judging, and a few
times from places drawn by chance, for learning.
"""

import functools
import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ladder.errors import VmafError
from ladder.ffmpeg import Ffmpeg, run_parallel, split_cores
from ladder.probe import probe
from ladder.vmaf_log import parse_log
from vqatool.clips import View, is_pixels, read_clip, stack
from vqatool.groups import LabelledEncode, learning_groups
from vqatool.recipes import Recipe

DRAWS = 3
"""How many times places are drawn for learning; epochs take turns."""

_WITHOUT_CHANCE = 0  # position of the views that are for judging


class Batch(NamedTuple):
    """Views of B encodes, labels on the label's scale divided by 100, indices of their groups.

    `frame_label_BT` are the labels of the single frames, NaN where they are not known.
    """

    views: tuple[Tensor, ...]
    label_B: Tensor
    group_B: Tensor
    frame_label_BT: Tensor


class CachedViews:
    """Views of labelled encodes, decoded once into `folder`."""

    def __init__(
        self,
        encodes: Sequence[LabelledEncode],
        folder: Path,
        recipe: Recipe,
        frames: int,
        ffmpeg: Ffmpeg | None,
    ) -> None:
        self.encodes = list(encodes)
        self._views, self._vary = recipe.views, recipe.vary
        self._frames, self._folder = frames, folder
        self._ffmpeg = ffmpeg
        groups = learning_groups(encodes)
        self._group = [sorted(set(groups)).index(group) for group in groups]

    def decode_missing(self) -> Iterator[LabelledEncode]:
        """Decode what is not cached yet; yields each encode as it is ready.

        Raises:
            VideoError: an encode that was labelled can no longer be decoded.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        last = len(self._views) - 1
        missing = [e for e in self.encodes if not self._cache(e, last).exists()]

        def decode(encode: LabelledEncode) -> LabelledEncode:
            self._decode(encode)
            return encode

        at_once, _ = split_cores(None)
        yield from run_parallel(decode, missing, at_once)

    def summary(self) -> dict[str, Any]:
        """What there is to learn from, for a model's card."""
        return {
            "sources": len({encode.source for encode in self.encodes}),
            "encodes": len(self.encodes),
            "codecs": sorted({encode.codec for encode in self.encodes}),
            "display_heights_px": sorted({min(encode.display) for encode in self.encodes}),
            "encode_heights_px": sorted({encode.height_px for encode in self.encodes}),
        }

    def seen(self, index: int) -> list[Tensor]:
        """The views of one encode without chance, all its frames."""
        return [torch.from_numpy(array[_WITHOUT_CHANCE]) for array in self._arrays(index)]

    def batch(self, indices: Sequence[int], *, seed: int, frames: int) -> Batch:
        """Views, labels and groups of the encodes at `indices`.

        Args:
            indices: into `encodes`.
            seed: chooses frames and places, the same ones for all encodes of one source, so that
                only the damage differs.
            frames: how many frames of each clip to draw.
        """
        drawn = [self._drawn(index, seed, frames) for index in indices]
        chosen = [self.encodes[index] for index in indices]
        return Batch(
            views=tuple(stack(column) for column in zip(*(v for v, _ in drawn), strict=True)),
            label_B=torch.tensor([encode.vmaf / 100 for encode in chosen]),
            group_B=torch.tensor([self._group[index] for index in indices]),
            frame_label_BT=torch.stack([labels for _, labels in drawn]) / 100,
        )

    def _drawn(self, index: int, seed: int, frames: int) -> tuple[list[Tensor], Tensor]:
        """The views of one encode as a step learns from them, and the labels of its frames."""
        chance = torch.Generator().manual_seed(hash((seed, _mark(self.encodes[index].source))))
        draw = 1 + int(torch.randint(DRAWS, (), generator=chance))
        times = torch.randperm(self._frames, generator=chance)[:frames].sort().values
        views = [
            self._varied(torch.from_numpy(array[draw]), times, chance)
            for array in self._arrays(index)
        ]
        return views, torch.from_numpy(self._frame_labels(index))[times]

    def _varied(self, view: Tensor, times: Tensor, chance: torch.Generator) -> Tensor:
        if view.ndim == 1:  # of the whole clip
            return view
        chosen = view[times]
        return self._vary(chosen, generator=chance) if is_pixels(view) else chosen

    def _arrays(self, index: int) -> list[npt.NDArray[np.generic]]:
        """(1 + draws, ...) of each view."""
        encode = self.encodes[index]
        numbers = range(len(self._views))
        return [np.load(self._cache(encode, number), mmap_mode="c") for number in numbers]

    @functools.cache  # noqa: B019 - lives as long as the training does
    def _frame_labels(self, index: int) -> npt.NDArray[np.float32]:
        """(T,) label of each frame of the views, NaN where libvmaf's log is gone."""
        encode = self.encodes[index]
        try:
            log = parse_log(gzip.decompress(encode.log.read_bytes()).decode())
            labels = np.asarray(log.metrics[encode.metric], np.float32)
        except (OSError, KeyError, VmafError):
            labels = np.full(1, np.nan, np.float32)
        middles = (np.arange(self._frames) + 0.5) / self._frames
        return np.take(labels, (middles * len(labels)).astype(int))

    def _decode(self, encode: LabelledEncode) -> None:
        clip = read_clip(probe(encode.path), self._frames, encode.display, ffmpeg=self._ffmpeg)
        chances = [
            torch.Generator().manual_seed(hash((d, _mark(encode.source)))) for d in range(DRAWS)
        ]
        for number, view in enumerate(self._views):
            seen = [view(clip, generator=chance) for chance in (None, *chances)]
            path = self._cache(encode, number)
            with path.with_suffix(".part").open("wb") as file:
                np.save(file, torch.stack(seen).numpy())
            path.with_suffix(".part").replace(path)

    def _cache(self, encode: LabelledEncode, number: int) -> Path:
        """Where view `number` of `encode` is kept; the last one is written last."""
        facts = encode.path.stat()
        known = (
            str(encode.path.absolute()),
            facts.st_size,
            facts.st_mtime_ns,
            encode.display,
            self._frames,
        )
        ways = [_described(view) for view in self._views]
        mark = hashlib.blake2b(repr((known, ways, DRAWS)).encode(), digest_size=12).hexdigest()
        return self._folder / f"{mark}-{number}.npy"


def _described(view: View) -> str:
    """The same text for the same view in every process."""
    if isinstance(view, functools.partial):
        return f"{view.func.__name__} {sorted(view.keywords.items())}"
    return getattr(view, "__name__", repr(view))


def _mark(source: str) -> int:
    return zlib.crc32(source.encode("utf-8", "surrogateescape"))
