"""Adaptive ladders: choose the rungs of each source so that its encodes are evenly spaced in VMAF.

With fixed bitrates, most encodes of an easy source have nearly the same VMAF. An adaptive ladder
starts with a few rungs from the best to the worst, measures them, and then bisects the widest gap
between two measured VMAF values until the source has `num_rungs` encodes.
"""

import logging
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

logger = logging.getLogger(__name__)


_RUNGS_PER_ROUND = 4  # fixed, so that every machine makes the same choice


_MAX_DOWNSCALE = 5  # an encode has at least a fifth of its source's height


@dataclass(frozen=True)
class EncodeRound:
    """Encodes to make; `labels`: what to measure of them for the next round, None: nothing."""

    plan: LadderPlan
    labels: LabelOptions | None = None

    @property
    def keys(self) -> set[str]:
        """The paths of the round's encodes, including those of earlier runs."""
        return {row.key for row in [*(job.row for job in self.plan.jobs), *self.plan.done]}


def ladder_rounds(
    paths: Iterable[Path],
    ladder: Ladder,
    folder: Path,
    *,
    trim: TrimSpec = FULL,
    options: LabelOptions = AUTO_VMAF,
    tonemap: bool = False,
) -> Iterator[EncodeRound]:
    """What to encode, round by round; a ladder without `num_rungs` has one round.

    The caller makes the encodes of a round, and labels them with its `labels` if it has any, before
    it takes the next round. A run after an interruption makes the same choices and finds
    their encodes done. The first round holds the error rows of sources that cannot be read. With
    `tonemap`, encodes of HDR sources are SDR.
    """
    if ladder.num_rungs is None:
        yield EncodeRound(plan_ladder(paths, ladder, folder, trim, tonemap=tonemap))
        return
    sources, failed = read_sources(paths, ladder, folder, trim, tonemap=tonemap)
    candidates_of = {source: _candidates(ladder, source) for source in sources}
    chosen: dict[Source, list[Rung]] = {source: [] for source in sources}
    while True:
        vmaf = _measured_vmaf(folder, options)
        wanted = {
            source: next_rungs(
                candidates,
                [(rung, vmaf.get((source.name, rung.name))) for rung in chosen[source]],
                ladder.num_rungs,
            )
            for source, candidates in candidates_of.items()
        }
        if not any(wanted.values()) and not failed:
            return
        for source, rungs in wanted.items():
            chosen[source] += rungs
            names = ", ".join(rung.name for rung in rungs)
            logger.info("next rungs of %s: %s", source.name, names or "none")
        yield EncodeRound(
            replace(plan_encodes(wanted.items(), folder), failed=tuple(failed)), options
        )
        failed = []


def next_rungs(
    candidates: Sequence[Rung], chosen: Sequence[tuple[Rung, float | None]], num_rungs: int
) -> list[Rung]:
    """The rungs to encode in the next round; none when there are enough.

    Args:
        candidates: all possible rungs of the source, sorted by expected VMAF, the best first.
        chosen: rungs of earlier rounds with their VMAF; None where encode or label failed.
        num_rungs: number of rungs in the end.
    """
    left = min(_RUNGS_PER_ROUND, num_rungs - len(chosen))
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
    """A rough VMAF of an average source, 0 to 100, to sort rungs before they are measured.

    Args:
        rung: the target.
        display_size: (width, height) of the source, px.
        fps: frames per second of the source.
    """
    codec = CODECS[rung.codec]
    width, height = rung.size_for(display_size)
    if rung.crf is not None:
        crf = rung.crf * X264.max_crf / codec.max_crf
    else:
        bits = 1000 * (rung.bitrate_kbps or 0) / (width * height * fps) / codec.bitrate_factor
        crf = 26 + 5 * log2(0.1 / bits)  # 5 CRF more need half the bits
    coded = 100 - 0.06 * max(0.0, crf - 16) ** 2
    lost: float = (1 - min(1.0, rung.height_px / min(display_size))) ** 2.5
    return coded * (1 - lost)


def _candidates(ladder: Ladder, source: Source) -> tuple[Rung, ...]:
    size, fps = source.info.display_size, float(source.info.fps)
    fits = fitting(ladder, size)
    large = [rung for rung in fits if rung.height_px * _MAX_DOWNSCALE >= min(size)] or list(fits)
    return tuple(sorted(large, key=lambda rung: (-expected_vmaf(rung, size, fps), rung.name)))


def _nearest_with_next_codec(candidates: Sequence[Rung], place: int, places: Sequence[int]) -> Rung:
    """The rung nearest to `place` with the next codec in turn, so that each codec is measured."""
    codecs = sorted({rung.codec for rung in candidates})
    turn = codecs[places.index(place) % len(codecs)]
    nearest = sorted(range(len(candidates)), key=lambda index: abs(index - place))
    return next(candidates[index] for index in nearest if candidates[index].codec == turn)


def _middle(free: Sequence[Rung], used: Counter[str]) -> Rung:
    """A rung in the middle half of `free`, of the codec that was used least often."""
    half = free[len(free) // 4 : len(free) - len(free) // 4]
    centre = len(half) // 2
    ranked = sorted(range(len(half)), key=lambda i: (used[half[i].codec], abs(i - centre)))
    return half[ranked[0]]


def _measured_vmaf(folder: Path, options: LabelOptions) -> Mapping[tuple[str, str], float]:
    labels = plan_labels(folder, options).done
    # rungs have the names that version 0.1 gave them in folders of that version
    return {
        (row.source, row.rung.replace("-laundered", "-reencode")): row.vmaf
        for row in labels
        if row.vmaf is not None
    }
