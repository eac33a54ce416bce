"""Bitrate groups of labelled encodes, and balanced batches over them. No torch.

A bitrate group is all encodes of one rung over all sources; where sources have few rungs in common,
`bitrate_groups` makes groups of similar bitrate. The losses compare inside and between groups, so
every batch holds several sources at several rungs.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from vqatool.data.labels import LabelledEncode

_COMMON_RUNG_SOURCES = 20  # sources that make a rung common, however many others there are


_SAME_VMAF = 1.0  # points; encodes of a source closer than that are one step of its ladder


_BANDS_PER_OCTAVE = 2


def bitrate_groups(encodes: Sequence[LabelledEncode]) -> list[str]:
    """The bitrate group of each encode; in the order of `encodes`.

    A rung that at least half of the sources, or twenty of them, have is a group; all other encodes
    are grouped by half octaves of bitrate per display pixel.
    """
    sources_of: defaultdict[str, set[str]] = defaultdict(set)
    for encode in encodes:
        sources_of[encode.rung].add(encode.source)
    enough = min(_COMMON_RUNG_SOURCES, len({encode.source for encode in encodes}) / 2)
    return [
        encode.rung if len(sources_of[encode.rung]) >= enough else _bitrate_band(encode)
        for encode in encodes
    ]


def loss_groups(encodes: Sequence[LabelledEncode]) -> list[str]:
    """Bitrate groups for the losses, those that collapse on easy content made one.

    Encodes of one source that lie less than one VMAF point apart, each from the next, are one step
    of its ladder and count as one group for it: the one of the cheapest. Otherwise the group
    contrast would push nearly equal pictures apart, as where a rung's cap is never reached.
    """
    names = bitrate_groups(encodes)
    for run in _runs_of_equal_quality(encodes):
        cheapest = min(run, key=lambda i: (encodes[i].bitrate_kbps, encodes[i].vmaf, names[i]))
        for i in run:
            names[i] = names[cheapest]
    return names


def balanced_batches(
    encodes: Sequence[LabelledEncode], *, sources: int, rungs: int, seed: int
) -> list[list[int]]:
    """Batches of indices into `encodes`: about `sources` x `rungs`, every encode once.

    Each source gives every batch an equal share, spread over its qualities. Among the batches that
    remain possible, an encode goes to one that holds its group, so a ladder of common rungs is
    crossed exactly. Every seed draws new batches. A batch has at least two sources, and at least
    two encodes of each, so that there is something to compare.
    """
    random = np.random.default_rng(seed)
    groups = loss_groups(encodes)
    names = random.permutation(sorted({encode.source for encode in encodes}))
    members = _by(range(len(encodes)), [encode.source for encode in encodes])
    portions = max(1, min(math.ceil(len(names) / sources), len(names) // 2))
    batches: list[list[int]] = []
    for chosen in np.array_split(names, portions):
        portion = [i for name in chosen for i in members[str(name)]]
        each = len(portion) / len(chosen)  # encodes of a source
        count = max(1, min(math.ceil(each / rungs), int(each / 2)))
        batches += _distribute(portion, encodes, groups, count, random)
    return [batches[i] for i in random.permutation(len(batches))]


def _distribute(
    members: Sequence[int],
    encodes: Sequence[LabelledEncode],
    groups: Sequence[str],
    count: int,
    random: np.random.Generator,
) -> list[list[int]]:
    """Encodes of a few sources in `count` batches, each of every quality and of few groups."""
    # a common rung has one place in the order of all sources, other encodes have their own
    quality = {i: encodes[i].vmaf for i in members}
    for group, alike in _by(members, groups).items():
        mean = float(np.mean([encodes[i].vmaf for i in alike]))
        quality |= {i: mean for i in alike if encodes[i].rung == group}
    # takes half a second to load, and every decode worker loads this module
    from scipy.optimize import linear_sum_assignment

    batches: list[list[int]] = [[] for _ in range(count)]
    held = [Counter[str]() for _ in range(count)]
    for own in _by(members, [encode.source for encode in encodes]).values():
        ordered = sorted(own, key=lambda i: (quality[i], groups[i], encodes[i].vmaf, i))
        # neighbours in quality go to different batches, each to one that has its group
        for start in range(0, len(ordered), count):
            near = ordered[start : start + count]
            gain = np.array([[float(one[groups[i]]) for one in held] for i in near])
            rows, places = linear_sum_assignment(gain + random.uniform(0, 0.1, gain.shape), True)
            for row, place in zip(rows, places, strict=True):
                batches[place].append(near[row])
        for one, batch in zip(held, batches, strict=True):
            one.update(groups[i] for i in batch if encodes[i].source == encodes[own[0]].source)
    return [sorted(batch) for batch in batches if batch]


def _bitrate_band(encode: LabelledEncode) -> str:
    """Half an octave of bits per display pixel and second, such as `0.5-0.71 bit/px/s`."""
    width_px, height_px = encode.display
    bits = 1000 * encode.bitrate_kbps / max(1, width_px * height_px)
    if bits <= 0:
        return "unknown bitrate"
    band = math.floor(_BANDS_PER_OCTAVE * math.log2(bits))
    low, high = (2 ** (edge / _BANDS_PER_OCTAVE) for edge in (band, band + 1))
    return f"{low:.3g}-{high:.3g} bit/px/s"


def _runs_of_equal_quality(encodes: Sequence[LabelledEncode]) -> list[list[int]]:
    """Runs of encodes of one source whose labels are less than one point from the next."""
    runs: list[list[int]] = []
    for own in _by(range(len(encodes)), [encode.source for encode in encodes]).values():
        ordered = sorted(own, key=lambda i: (encodes[i].vmaf, i))
        cuts = [
            at
            for at in range(1, len(ordered))
            if encodes[ordered[at]].vmaf - encodes[ordered[at - 1]].vmaf >= _SAME_VMAF
        ]
        edges = [0, *cuts, len(ordered)]
        runs += [ordered[a:b] for a, b in itertools.pairwise(edges)]
    return runs


def _by(members: Iterable[int], keys: Sequence[str]) -> Mapping[str, list[int]]:
    """Indices with the same key, in the order in which the keys appear."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for i in members:
        found[keys[i]].append(i)
    return found
