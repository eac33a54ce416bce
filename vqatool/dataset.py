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
from vqatool.clips import View, read_clip, stack
from vqatool.groups import LabelledEncode, learning_groups
from vqatool.recipes import Recipe, Vary

DRAWS = 3
"""How many times places are drawn for learning; epochs take turns."""

_WITHOUT_CHANCE = 0  # position of the views that are for judging


class Batch(NamedTuple):
    """Views of B encodes, labels on the label's scale divided by 100, indices of their groups.

    `frame_label_BT` are the labels of the bursts, NaN where they are not known.
    """

    views: tuple[Tensor, ...]
    label_B: Tensor
    group_B: Tensor
    frame_label_BT: Tensor


class CachedViews:
    """Views of labelled encodes, `bursts` of each, decoded once into `folder`."""

    def __init__(
        self,
        encodes: Sequence[LabelledEncode],
        folder: Path,
        recipe: Recipe,
        bursts: int,
        ffmpeg: Ffmpeg | None,
    ) -> None:
        self.encodes = list(encodes)
        self._inputs, self._burst = (*recipe.inputs, *recipe.teacher_inputs), recipe.burst
        self._judged = len(recipe.inputs)
        self._bursts, self._folder = bursts, folder
        self._ffmpeg = ffmpeg
        groups = learning_groups(encodes)
        self._group = [sorted(set(groups)).index(group) for group in groups]

    def decode_missing(self) -> Iterator[LabelledEncode]:
        """Decode what is not cached yet; yields each encode as it is ready.

        Raises:
            VideoError: an encode that was labelled can no longer be decoded.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        last = len(self._inputs) - 1
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
        """The views of one encode without chance, all its bursts."""
        arrays = self._arrays(index)[: self._judged]
        return [torch.from_numpy(array[_WITHOUT_CHANCE]) for array in arrays]

    def batch(self, indices: Sequence[int], *, seed: int, bursts: int) -> Batch:
        """Views, labels and groups of the encodes at `indices`.

        Args:
            indices: into `encodes`.
            seed: chooses bursts and patches, the same ones for all encodes of one source, so that
                only the damage differs.
            bursts: how many bursts of each clip to draw.
        """
        drawn = [self._drawn(index, seed, bursts) for index in indices]
        chosen = [self.encodes[index] for index in indices]
        return Batch(
            views=tuple(stack(column) for column in zip(*(v for v, _ in drawn), strict=True)),
            label_B=torch.tensor([encode.vmaf / 100 for encode in chosen]),
            group_B=torch.tensor([self._group[index] for index in indices]),
            frame_label_BT=torch.stack([labels for _, labels in drawn]) / 100,
        )

    def _drawn(self, index: int, seed: int, bursts: int) -> tuple[list[Tensor], Tensor]:
        """The views of one encode as a step learns from them, and the labels of its bursts."""
        chance = torch.Generator().manual_seed(hash((seed, _mark(self.encodes[index].source))))
        draw = 1 + int(torch.randint(DRAWS, (), generator=chance))
        chosen = torch.randperm(self._bursts, generator=chance)[:bursts].sort().values
        views = [
            self._varied(torch.from_numpy(array[draw]), each.vary, chosen, chance)
            for array, each in zip(self._arrays(index), self._inputs, strict=True)
        ]
        return views, torch.from_numpy(self._burst_labels(index))[chosen]

    def _varied(
        self, view: Tensor, vary: Vary | None, chosen: Tensor, chance: torch.Generator
    ) -> Tensor:
        if view.ndim == 1:  # of the whole clip
            return view
        # a view may keep several frames of each burst
        frames = view.reshape(self._bursts, -1, *view.shape[1:])[chosen].flatten(0, 1)
        return vary(frames, generator=chance) if vary else frames

    def _arrays(self, index: int) -> list[npt.NDArray[np.generic]]:
        """(1 + draws, ...) of each view."""
        encode = self.encodes[index]
        numbers = range(len(self._inputs))
        return [np.load(self._cache(encode, number), mmap_mode="c") for number in numbers]

    @functools.cache  # noqa: B019 - lives as long as the training does
    def _burst_labels(self, index: int) -> npt.NDArray[np.float32]:
        """(T,) label of each burst's first frame, NaN where libvmaf's log is gone."""
        encode = self.encodes[index]
        try:
            log = parse_log(gzip.decompress(encode.log.read_bytes()).decode())
            labels = np.asarray(log.metrics[encode.metric], np.float32)
        except (OSError, KeyError, VmafError):
            labels = np.full(1, np.nan, np.float32)
        middles = (np.arange(self._bursts) + 0.5) / self._bursts
        return np.take(labels, (middles * len(labels)).astype(int))

    def _decode(self, encode: LabelledEncode) -> None:
        info = probe(encode.path)
        clip = read_clip(info, self._bursts, self._burst, encode.display, ffmpeg=self._ffmpeg)
        chances = [
            torch.Generator().manual_seed(hash((d, _mark(encode.source)))) for d in range(DRAWS)
        ]
        for number, each in enumerate(self._inputs):
            seen = [each.view(clip, generator=chance) for chance in (None, *chances)]
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
            self._bursts,
            *self._burst,
        )
        ways = [_described(each.view) for each in self._inputs]
        mark = hashlib.blake2b(repr((known, ways, DRAWS)).encode(), digest_size=12).hexdigest()
        return self._folder / f"{mark}-{number}.npy"


def _described(view: View) -> str:
    """The same text for the same view in every process."""
    if isinstance(view, functools.partial):
        inner = view.keywords.items()
        said = sorted(
            (key, _described(value) if callable(value) else value) for key, value in inner
        )
        return f"{view.func.__name__} {said}"
    return getattr(view, "__name__", repr(view))


def _mark(source: str) -> int:
    return zlib.crc32(source.encode("utf-8", "surrogateescape"))
