"""A ladder whose rungs are chosen for each source, so that its encodes spread evenly in VMAF.

Fixed bitrates crowd where a source is easy. Here every source starts with a few rungs from the
best to the worst; then the widest gap between two VMAF values that were measured is bisected, and
again, until there are as many encodes as the ladder has points.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import log2
from pathlib import Path

from ladder.codecs import CODECS, X264
from ladder.encode.ladders import Ladder, fitting
from ladder.encode.plan import LadderPlan, Source, plan_encodes, plan_ladder, read_sources
from ladder.encode.rungs import Rung
from ladder.label.run import AUTO_VMAF, LabelOptions, plan_labels
from ladder.media.time_ranges import FULL, TrimSpec

_AT_ONCE = 4  # rungs a source gets in each round; fixed, so that the choice is the same everywhere


_MAX_DOWNSCALE = 5  # no encode smaller than this part of its source


@dataclass(frozen=True)
class EncodeRound:
    """Encodes to be made; `to_label` says that the next round is chosen by their labels."""

    plan: LadderPlan
    to_label: bool

    @property
    def keys(self) -> set[str]:
        """The paths of its encodes, those made before among them."""
        return {row.key for row in [*(job.row for job in self.plan.jobs), *self.plan.done]}


def ladder_rounds(
    paths: Iterable[Path],
    ladder: Ladder,
    folder: Path,
    *,
    trim: TrimSpec = FULL,
    options: LabelOptions = AUTO_VMAF,
) -> Iterator[EncodeRound]:
    """What to encode, round by round; a ladder without `num_rungs` has one round.

    Each round has to be made before the next is asked for, and labelled by `options` if it says
    so. A run that was cut off chooses again what it chose before, and finds it done. The failures
    of sources that cannot be read stand in the first round.
    """
    if ladder.num_rungs is None:
        yield EncodeRound(plan_ladder(paths, ladder, folder, trim), to_label=False)
        return
    sources, failed = read_sources(paths, ladder, folder, trim)
    chains = {source: _candidates(ladder, source) for source in sources}
    chosen: dict[Source, list[Rung]] = {source: [] for source in sources}
    while True:
        vmaf = _measured_vmaf(folder, options)
        wanted = {
            source: next_rungs(
                candidates,
                [(rung, vmaf.get((source.name, rung.name))) for rung in chosen[source]],
                ladder.num_rungs,
            )
            for source, candidates in chains.items()
        }
        if not any(wanted.values()) and not failed:
            return
        for source, rungs in wanted.items():
            chosen[source] += rungs
        yield EncodeRound(replace(plan_encodes(wanted.items(), folder), failed=tuple(failed)), True)
        failed = []


def next_rungs(
    candidates: Sequence[Rung], chosen: Sequence[tuple[Rung, float | None]], num_rungs: int
) -> list[Rung]:
    """The rungs to encode in the next round; none when there are enough.

    Args:
        chain: every rung there is for the source, from the best to the worst as far as is known
            before it is encoded.
        chosen: those of earlier rounds with their VMAF, None where it could not be had.
        points: rungs wanted in the end.
    """
    left = min(_AT_ONCE, num_rungs - len(chosen))
    if not chosen:
        places = [index * (len(candidates) - 1) // max(1, left - 1) for index in range(left)]
        return list(
            dict.fromkeys(_nearest_with_next_codec(candidates, place, places) for place in places)
        )
    place_of = {rung: place for place, rung in enumerate(candidates)}
    measured = sorted((vmaf, place_of[rung]) for rung, vmaf in chosen if vmaf is not None)
    gaps = sorted(pairwise(measured), key=lambda gap: gap[0][0] - gap[1][0])
    picked: list[Rung] = []
    for (_, one), (_, other) in gaps:
        taken = {*(rung for rung, _ in chosen), *picked}
        free = [rung for rung in candidates[min(one, other) : max(one, other)] if rung not in taken]
        if free and len(picked) < left:
            picked.append(_middle(free, Counter(rung.codec for rung in taken)))
    return picked


def expected_vmaf(rung: Rung, display_size: tuple[int, int], fps: float) -> float:
    """A guess at the VMAF of a source of middling difficulty, to put rungs in an order.

    It need not be right: bisecting measures.
    """
    codec = CODECS[rung.codec]
    width, height = rung.size_for(display_size)
    if rung.crf is not None:
        crf = rung.crf * X264.max_crf / codec.max_crf
    else:
        bits = 1000 * (rung.bitrate_kbps or 0) / (width * height * fps) / codec.bitrate_factor
        crf = 26 + 5 * log2(0.1 / bits)  # five steps of CRF halve the bits
    coded = 100 - 0.06 * max(0.0, crf - 16) ** 2
    lost: float = (1 - min(1.0, rung.height_px / min(display_size))) ** 2.5
    return coded * (1 - lost)


def _candidates(ladder: Ladder, source: Source) -> tuple[Rung, ...]:
    size, fps = source.info.display_size, float(source.info.fps)
    fits = fitting(ladder, size)
    large = [rung for rung in fits if rung.height_px * _MAX_DOWNSCALE >= min(size)] or list(fits)
    return tuple(sorted(large, key=lambda rung: (-expected_vmaf(rung, size, fps), rung.name)))


def _nearest_with_next_codec(candidates: Sequence[Rung], place: int, places: Sequence[int]) -> Rung:
    """The rung nearest to `place` whose codec is the one whose turn it is: each gets a seed."""
    codecs = sorted({rung.codec for rung in candidates})
    turn = codecs[places.index(place) % len(codecs)]
    nearest = sorted(range(len(candidates)), key=lambda index: abs(index - place))
    return next(candidates[index] for index in nearest if candidates[index].codec == turn)


def _middle(free: Sequence[Rung], used: Counter[str]) -> Rung:
    """Of the middle half of `free`, one with the codec that was used least."""
    half = free[len(free) // 4 : len(free) - len(free) // 4]
    centre = len(half) // 2
    ranked = sorted(range(len(half)), key=lambda i: (used[half[i].codec], abs(i - centre)))
    return half[ranked[0]]


def _measured_vmaf(folder: Path, options: LabelOptions) -> Mapping[tuple[str, str], float]:
    labels = plan_labels(folder, options).done
    return {(row.source, row.rung): row.vmaf for row in labels if row.vmaf is not None}
