"""Labelled encodes and a recipe's views -> batches, from videos that are decoded once.

Decoding is far slower than a training step, so the views of each encode are cached
(`cached-inputs/` in the work folder) and mapped into memory: one variant without randomness, for
evaluation, and a few with randomly placed patches, for training.
"""

import functools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ladder.errors import VmafError
from ladder.label.libvmaf import read_log
from ladder.media.container import Decoding
from ladder.media.decode import frames_at
from ladder.media.probe import FILE_FAULTS, Size, probe
from ladder.media.tonemap import CURVE
from ladder.storage import atomic_write, digest
from vqatool.data.groups import loss_groups
from vqatool.data.labels import LabelledEncode
from vqatool.errors import TrainingDataError
from vqatool.inputs.clip import Array, Clip, FrameGroup, GroupedView, View, collate, is_pixels
from vqatool.inputs.decode_pool import (
    WHOLE_VIDEO_TIMEOUT_S,
    DecodeFailure,
    DecodePool,
    PendingDecode,
)
from vqatool.inputs.preprocessor import read_clip, sample_times
from vqatool.methods.recipe import Augmentation, Input, Recipe
from vqatool.vif import luma, quality_channel

NUM_AUGMENTATIONS = 3
"""Random variants of each view that training chooses from."""

_UNAUGMENTED = 0  # position of the variant without randomness
_MAX_NAMED = 5  # encodes in an error message

_PRELOADED = (__name__,)  # by the server of the workers: torch, which comparing with a source needs


class Batch(NamedTuple):
    """Views of B encodes, labels on the label's scale divided by 100, indices of their groups.

    `frame_label_BT` are the labels of the frame groups, NaN where unknown.
    """

    views: tuple[Tensor, ...]
    label_B: Tensor
    group_B: Tensor
    frame_label_BT: Tensor


class CachedInputs:
    """Views of labelled encodes, `num_frame_groups` of each, decoded once into `folder`.

    `has_tiles` is for training: the views that take it get the quality of tiles against the source.
    """

    def __init__(
        self,
        encodes: Sequence[LabelledEncode],
        folder: Path,
        recipe: Recipe,
        num_frame_groups: int,
        *,
        has_tiles: bool = False,
    ) -> None:
        self.encodes, self._has_tiles = list(encodes), has_tiles
        self._inputs, self._frame_group = (
            (*recipe.inputs, *recipe.teacher_inputs),
            recipe.frame_group,
        )
        self._num_model_inputs = len(recipe.inputs)
        self._num_frame_groups, self._folder = num_frame_groups, folder
        self._reads_stream = recipe.reads_stream
        groups = loss_groups(encodes)
        self._group = [sorted(set(groups)).index(group) for group in groups]

    def missing(self) -> list[LabelledEncode]:
        """The encodes that are not in the cache."""
        last = len(self._inputs) - 1
        return [encode for encode in self.encodes if not self._cache(encode, last).exists()]

    def decode_missing(
        self, *, timeout_s: float = WHOLE_VIDEO_TIMEOUT_S
    ) -> Iterator[LabelledEncode]:
        """Decode what is not cached yet; yields each encode as it is ready.

        Worker processes decode, so an encode that crashes or hangs its decoder costs no other.

        Raises:
            TrainingDataError: after all others were decoded: an encode cannot be decoded.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = self.missing()
        if not missing:
            return
        failures: list[DecodeFailure] = []
        with DecodePool(timeout_s=timeout_s, preloaded=_PRELOADED) as pool:

            def submit(encode: LabelledEncode) -> PendingDecode[None]:
                return pool.submit(encode.path, _cache_views, self._task(encode, pool.num_threads))

            for encode, failure in pool.map(missing, submit, in_order=False):
                if failure:
                    failures.append(failure)
                else:
                    yield encode
        if failures:
            raise TrainingDataError(_cannot_decode(failures))

    def summary(self) -> dict[str, Any]:
        """What the data consists of, for a model's card."""
        return {
            "sources": len({encode.source for encode in self.encodes}),
            "encodes": len(self.encodes),
            "codecs": sorted({encode.codec for encode in self.encodes}),
            "display_heights_px": sorted({min(encode.display) for encode in self.encodes}),
            "encode_heights_px": sorted({encode.height_px for encode in self.encodes}),
        }

    def evaluation_views(self, index: int) -> list[Array]:
        """The views of one encode without randomness, with all its frame groups."""
        views = self.unaugmented_views(index)
        return [view[:, :3] if is_pixels(view) else view for view in views]

    def unaugmented_views(self, index: int) -> list[Array]:
        """The same with the quality of tiles, where a view has it, as a last channel."""
        return [array[_UNAUGMENTED] for array in self._arrays(index)[: self._num_model_inputs]]

    def batch(self, indices: Sequence[int], *, seed: int, num_frame_groups: int) -> Batch:
        """Views, labels and groups of the encodes at `indices`.

        Args:
            indices: into `encodes`.
            seed: chooses frame groups and patches, the same for all encodes of one source, so that
                only the distortion differs.
            num_frame_groups: how many of each clip to draw.
        """
        drawn = [self._random_views(index, seed, num_frame_groups) for index in indices]
        chosen = [self.encodes[index] for index in indices]
        return Batch(
            views=tuple(
                torch.from_numpy(collate(column))
                for column in zip(*(views for views, _ in drawn), strict=True)
            ),
            label_B=torch.tensor([encode.vmaf / 100 for encode in chosen]),
            group_B=torch.tensor([self._group[index] for index in indices]),
            frame_label_BT=torch.from_numpy(np.stack([labels for _, labels in drawn])) / 100,
        )

    def _random_views(
        self, index: int, seed: int, num_frame_groups: int
    ) -> tuple[list[Array], Array]:
        """Randomly drawn views of one encode for a training step, and its frame group labels."""
        generator = np.random.default_rng([seed, _source_seed(self.encodes[index].source)])
        draw = 1 + int(generator.integers(NUM_AUGMENTATIONS))
        chosen = np.sort(generator.permutation(self._num_frame_groups)[:num_frame_groups])
        views = [
            self._augmented(array[min(draw, len(array) - 1)], each.augment, chosen, generator)
            for array, each in zip(self._arrays(index), self._inputs, strict=True)
        ]
        return views, self._frame_group_labels(index)[chosen]

    def _augmented(
        self,
        view: Array,
        augment: Augmentation | None,
        chosen: Array,
        generator: np.random.Generator,
    ) -> Array:
        if view.ndim == 1:  # of the whole clip
            return view
        # a view may keep several frames of each frame group
        groups = view.reshape(self._num_frame_groups, -1, *view.shape[1:])[chosen]
        frames = groups.reshape(-1, *view.shape[1:])
        return augment(frames, generator=generator) if augment else frames

    def _arrays(self, index: int) -> list[npt.NDArray[np.generic]]:
        """(1 + NUM_AUGMENTATIONS, ...) of each view, or (1, ...) of one that is not random."""
        encode = self.encodes[index]
        numbers = range(len(self._inputs))
        return [np.load(self._cache(encode, number), mmap_mode="c") for number in numbers]

    @functools.cache  # noqa: B019 - lives as long as the training does
    def _frame_group_labels(self, index: int) -> npt.NDArray[np.float32]:
        """(T,) label of each frame group's first frame, NaN where libvmaf's log is gone."""
        encode = self.encodes[index]
        try:
            labels = np.asarray(read_log(encode.log).metrics[encode.metric], np.float32)
        except (OSError, KeyError, VmafError):
            labels = np.full(1, np.nan, np.float32)
        middles = (np.arange(self._num_frame_groups) + 0.5) / self._num_frame_groups
        return np.take(labels, (middles * len(labels)).astype(int))

    def _task(self, encode: LabelledEncode, threads: int) -> "_CacheTask":
        return _CacheTask(
            inputs=self._inputs,
            paths=tuple(self._cache(encode, number) for number in range(len(self._inputs))),
            num_frame_groups=self._num_frame_groups,
            frame_group=self._frame_group,
            display=encode.display,
            reads_stream=self._reads_stream,
            threads=threads,
            source_seed=_source_seed(encode.source),
            source=encode.source_path if self._has_tiles else None,
            is_tonemapped=encode.is_tonemapped,
        )

    def _cache(self, encode: LabelledEncode, number: int) -> Path:
        """The cache file of view `number` of `encode`; the last view is written last."""
        facts = encode.path.stat()
        known = (
            _place(encode.path, self._folder.parent),
            facts.st_size,
            facts.st_mtime_ns,
            encode.display,
            self._num_frame_groups,
            *self._frame_group,
        )
        ways = [_view_key(each.view) for each in self._inputs]
        if self._has_tiles and any(each.has_tiles for each in self._inputs):
            ways.append(f"tiles of {encode.source_path}")
        if encode.is_tonemapped:
            ways.append(CURVE)
        return self._folder / f"{digest(known, ways, NUM_AUGMENTATIONS)}-{number}.npy"


class _CacheTask(NamedTuple):
    """What a worker needs to write the views of one encode; one path for each view."""

    inputs: tuple[Input, ...]
    paths: tuple[Path, ...]
    num_frame_groups: int
    frame_group: FrameGroup
    display: tuple[int, int]
    reads_stream: bool
    threads: int
    source_seed: int
    source: Path | None  # to compare with
    is_tonemapped: bool


def _cache_views(path: Path, task: _CacheTask) -> None:
    """The task of a worker: decode an encode and write its views."""
    clip = read_clip(
        probe(path, tonemap=task.is_tonemapped),
        task.num_frame_groups,
        task.frame_group,
        task.display,
        reads_stream=task.reads_stream,
        decoding=Decoding(task.threads),
    )
    generators = [
        np.random.default_rng([number, task.source_seed]) for number in range(NUM_AUGMENTATIONS)
    ]
    tiled = clip
    if task.source and any(each.has_tiles for each in task.inputs):
        tiled = _with_quality(clip, _reference(clip, task.source, task))
    for each, out in zip(task.inputs, task.paths, strict=True):
        shown = tiled if each.has_tiles else clip
        plain = each.view(shown, generator=None)
        drawn = generators if each.is_random else []
        variants = [each.view(shown, generator=generator) for generator in drawn]
        with atomic_write(out) as file:
            np.save(file, np.stack([plain, *variants]))


def _with_quality(clip: Clip, reference_TCHW: Array | None) -> Clip:
    """The first frame of each group, with its quality against the reference as fourth channel."""
    pixels_TCHW = clip.first_TCHW
    quality_THW = np.zeros_like(pixels_TCHW[:, 0])  # unknown
    if reference_TCHW is not None:
        lumas = (luma(torch.from_numpy(each)) for each in (reference_TCHW, pixels_TCHW))
        quality_THW = quality_channel(*lumas).numpy()
    both_TCHW = np.concatenate([pixels_TCHW, quality_THW[:, None]], axis=1)
    return clip._replace(pixels_TCHW=both_TCHW, group_size=1)


def _reference(clip: Clip, source: Path, task: _CacheTask) -> Array | None:
    """The first frames of the groups in the source, in the clip's size; None if it is gone."""
    height, width = clip.pixels_TCHW.shape[-2:]
    try:
        info = probe(source, tonemap=task.is_tonemapped)
        length_s, fps = info.duration_s, float(info.fps)
        times_s = sample_times(0.0, length_s, task.num_frame_groups, task.frame_group, fps)
        first_s = times_s[:: task.frame_group.num_frames]
        pixels_THWC = frames_at(info, first_s, Size(width, height), Decoding(task.threads))
    except FILE_FAULTS:
        return None
    return pixels_THWC.transpose(0, 3, 1, 2)


def _cannot_decode(failures: Sequence[DecodeFailure]) -> str:
    reasons = "\n  ".join(failure.reason for failure in failures[:_MAX_NAMED])
    more = f"\n  and {len(failures) - _MAX_NAMED} more" if len(failures) > _MAX_NAMED else ""
    return (
        f"{len(failures)} labelled encodes cannot be decoded:\n  {reasons}{more}\n"
        "Make them again with `vqatool ladder`, or delete their lines in labels.csv. The other "
        "encodes are decoded and will not be decoded again."
    )


def _place(path: Path, work: Path) -> str:
    """The path from the work folder on: one that was moved or copied keeps what it decoded."""
    path, work = path.absolute(), work.absolute()
    return str(path.relative_to(work) if path.is_relative_to(work) else path)


def _view_key(view: View) -> str:
    """The same text for the same view in every process."""
    if isinstance(view, GroupedView):
        return _view_key(view.view) + (f" {view.version()}" if view.version else "")
    if isinstance(view, functools.partial):
        inner = view.keywords.items()
        arguments = sorted(
            (key, _view_key(value) if callable(value) else value) for key, value in inner
        )
        return f"{view.func.__name__} {arguments}"
    return getattr(view, "__name__", repr(view))


def _source_seed(source: str) -> int:
    return zlib.crc32(source.encode("utf-8", "surrogateescape"))
