"""Skimming: which segments of a video are judged by their own packets and the pixels of another.

The packets of all segments are read, and tell where a shot begins and how coarsely each picture is
coded. What the pixels add, above all how hard a picture is to code, stays much the same as long as
a shot goes on and its packets stay alike. Then the pixels of one segment do for those that follow
it, and a decoder need not go through them. What changes in the pixels alone, from one segment to
the next one of a shot, is not seen. The rule is ours.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ladder.media.decode import CLOCK_S
from ladder.media.headers import CodedPicture
from ladder.media.time_ranges import TimeRange
from vqatool.inputs.bitstream import BitstreamFeatures

_STEPS = ("step_mean", "step_inter", "step_min", "step_max", "step_by_bits")
_BITS = ("bits_per_pixel", "inter_bits_per_pixel", "inter_bits_high")
_MAX_STEP = 0.5  # change of the quantiser's step that counts as alike, log2: 3 QP of H.264
_MAX_BITS = 1.0  # the same of bits, log2
_MOST_S = 10.0  # that the pixels of one part may stand for


class Look(NamedTuple):
    """Where the pixels of a part are from: `source`, the index of a part, and a `place` in it.

    None is the place of the only part, all of the video.
    """

    source: int
    place: TimeRange | None


def looks(
    parts: Sequence[TimeRange],
    pictures: Sequence[Sequence[CodedPicture]],
    features: Sequence[BitstreamFeatures],
) -> list[Look]:
    """Where to look for the pixels of each of several parts of a video.

    A key frame in the first half of a part, or in the second half of the one before, begins a shot.
    The place of a part begins with the part, or with such a key frame inside it, where decoding
    begins.

    Args:
        parts: ascending.
        pictures: those of each part.
        features: those of each part.
    """
    keys_s = sorted({each.shown_s for each in itertools.chain(*pictures) if each.is_key})
    found: list[Look] = []
    for index, part in enumerate(parts):
        middle_s = part.start_s + part.length_s / 2
        before_s = parts[index - 1].start_s + parts[index - 1].length_s / 2 if index else 0.0
        starts_s = [key_s for key_s in keys_s if before_s <= key_s < middle_s]
        if index and not starts_s and _is_alike(index, found[-1].source, parts, features):
            found.append(found[-1])
            continue
        start_s = max([part.start_s, *starts_s])
        rest_s = part.start_s + part.length_s - start_s
        found.append(Look(index, TimeRange(start_s, rest_s)))
    return found


def _is_alike(
    index: int, source: int, parts: Sequence[TimeRange], features: Sequence[BitstreamFeatures]
) -> bool:
    """Whether a part follows at once on those that share the pixels of `source`, and is like it."""
    end_s = parts[index - 1].start_s + parts[index - 1].length_s
    is_far = index - source >= round(_MOST_S / parts[source].length_s)
    if is_far or parts[index].start_s > end_s + CLOCK_S:
        return False
    one, other = features[source], features[index]
    if not (one.has_step and other.has_step):
        return False
    return _change(one, other, _STEPS) <= _MAX_STEP and _change(one, other, _BITS) <= _MAX_BITS


def _change(one: BitstreamFeatures, other: BitstreamFeatures, names: Sequence[str]) -> float:
    before, after = one._asdict(), other._asdict()
    return float(max(abs(before[name] - after[name]) for name in names))
