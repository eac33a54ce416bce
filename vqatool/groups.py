"""Stage 3: labelled encodes -> split by source -> bitrate groups -> balanced batches. No torch.

A bitrate group is all encodes of one rung over all sources; where sources have few rungs in common,
`bitrate_groups` makes groups of alike bitrate. The losses compare inside and between groups, so
every batch holds several sources at several rungs.
"""

import csv
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from ladder.label import labels_table
from ladder.plan import encodes_table
from ladder.tables import EncodeRow, LabelRow
from ladder.vmaf_log import log_path
from ladder.vmaf_models import metric_of
from vqatool.errors import TrainingDataError

SPLITS_FILE = "splits.csv"
TRAIN, VAL, TEST = "train", "val", "test"

_COMMON = 20  # sources that make a rung common, however many others there are
_SAME_VMAF = 1.0  # points; encodes of a source closer than that are one step of its ladder
_BANDS_PER_OCTAVE = 2


@dataclass(frozen=True, kw_only=True)
class LabelledEncode:
    """One encode with its label (VMAF, 0 to 100) and its source's size, which it is judged at.

    `height_px` is the coded picture's short side, as a rung has it; `rate_mode` is the rung's.
    """

    path: Path
    source: str
    rung: str
    codec: str
    vmaf: float
    display: tuple[int, int]
    bitrate_kbps: float
    height_px: int
    rate_mode: str
    fps: float
    log: Path = Path()  # libvmaf's figures of every frame
    metric: str = ""  # the name of the label among them


def read_labelled(folder: Path) -> list[LabelledEncode]:
    """Every encode of a work folder that has a good label, in the order of their paths.

    Raises:
        TrainingDataError: there is none; says which command makes them.
    """
    encodes = {row.key: row for row in encodes_table(folder).rows() if row.status == "ok"}
    labels = [row for row in labels_table(folder).rows() if row.status == "ok"]
    labelled = [
        _labelled(folder, encodes[row.key], row, row.vmaf)
        for row in labels
        if row.key in encodes and row.vmaf is not None
    ]
    if not labelled:
        raise TrainingDataError(
            f"{folder} holds no labelled encodes: run `vqatool ladder SRC... -o {folder}`, "
            f"then `vqatool label {folder} --vmaf`"
        )
    return sorted(labelled, key=lambda encode: encode.path)


def split_by_source(
    folder: Path, sources: Sequence[str], *, val_share: float, seed: int
) -> dict[str, str]:
    """Source -> its side, as `splits.csv` in the folder says; new sources are added to it.

    The file can be written by hand, to keep alike sources on one side. What it says is never
    changed, so a source once held out stays held out. Only there a source becomes `test`: it
    neither trains a model nor chooses between its weights.

    Raises:
        TrainingDataError: fewer than two sources, one side empty, or a word that is no side.
    """
    path, names = folder / SPLITS_FILE, sorted(set(sources))
    split = _read_split(path)
    fresh = [name for name in names if name not in split]
    order = [str(name) for name in np.random.default_rng(seed).permutation(fresh)]
    open_names = [name for name in names if split.get(name) != TEST]
    wanted = min(len(open_names) - 1, max(1, round(val_share * len(open_names))))
    held_out = sum(split.get(name) == VAL for name in names)
    more = max(0, wanted - held_out)
    split |= dict.fromkeys(order[:more], VAL) | dict.fromkeys(order[more:], TRAIN)
    chosen = {name: split[name] for name in names}
    if not {TRAIN, VAL} <= set(chosen.values()):
        raise TrainingDataError(
            f"{folder} has {len(open_names)} labelled source(s) to learn from, which leaves one "
            f"side of the split empty: learning needs at least one to train on and one to judge "
            f"by. Add sources with `vqatool ladder`, or mend {path}"
        )
    if fresh:
        _write_split(path, split)
    return chosen


def labelled_of(folder: Path, side: str | None) -> list[LabelledEncode]:
    """The labelled encodes of one side of the split; None: of the one that is furthest from it.

    That is `test` if any source is on it, else `val`, and without a split all.

    Raises:
        TrainingDataError: no labels, no split to choose from, or nothing on that side.
    """
    encodes = read_labelled(folder)
    split = _read_split(folder / SPLITS_FILE)
    held_out = TEST if TEST in split.values() else VAL
    chosen = side or (held_out if split else "all")
    if chosen == "all":
        return encodes
    members = [encode for encode in encodes if split.get(encode.source) == chosen]
    if not members:
        raise TrainingDataError(
            f"{folder / SPLITS_FILE} puts none of the labelled sources on the side {chosen!r}: "
            "run `vqatool train` to make it, or choose --split all"
        )
    return members


def training_side(folder: Path) -> list[LabelledEncode]:
    """The labelled encodes that the split puts on the training side; none without a split."""
    split = _read_split(folder / SPLITS_FILE)
    return [encode for encode in read_labelled(folder) if split.get(encode.source) == TRAIN]


def bitrate_groups(encodes: Sequence[LabelledEncode]) -> list[str]:
    """The bitrate group of each encode; in the order of `encodes`.

    A rung that at least half of the sources, or twenty of them, have is a group; all other encodes
    are grouped by half octaves of bitrate per display pixel.
    """
    sources_of: defaultdict[str, set[str]] = defaultdict(set)
    for encode in encodes:
        sources_of[encode.rung].add(encode.source)
    enough = min(_COMMON, len({encode.source for encode in encodes}) / 2)
    return [
        encode.rung if len(sources_of[encode.rung]) >= enough else _bitrate_band(encode)
        for encode in encodes
    ]


def learning_groups(encodes: Sequence[LabelledEncode]) -> list[str]:
    """Bitrate groups for the losses, those that collapse on easy content made one.

    Encodes of one source that lie less than one VMAF point apart, each from the next, are one step
    of its ladder and count as one group for it: the one of the cheapest. Otherwise the group
    contrast would push nearly equal pictures apart, as where a rung's cap is never reached.
    """
    names = bitrate_groups(encodes)
    for run in _steps_of_one_quality(encodes):
        cheapest = min(run, key=lambda i: (encodes[i].bitrate_kbps, encodes[i].vmaf, names[i]))
        for i in run:
            names[i] = names[cheapest]
    return names


def balanced_batches(
    encodes: Sequence[LabelledEncode], *, sources: int, rungs: int, seed: int
) -> list[list[int]]:
    """Batches of indices into `encodes`: about `sources` x `rungs`, every encode once.

    Each source gives every batch its share, spread over its qualities, and where that leaves a
    choice an encode goes where others of its group are: a ladder of common rungs is crossed
    exactly. All is drawn anew for each seed; never is a source or an encode of it alone, having
    nothing to be compared with.
    """
    random = np.random.default_rng(seed)
    groups = learning_groups(encodes)
    names = random.permutation(sorted({encode.source for encode in encodes}))
    members = _by(range(len(encodes)), [encode.source for encode in encodes])
    portions = max(1, min(math.ceil(len(names) / sources), len(names) // 2))
    batches: list[list[int]] = []
    for chosen in np.array_split(names, portions):
        portion = [i for name in chosen for i in members[str(name)]]
        each = len(portion) / len(chosen)  # encodes of a source
        count = max(1, min(math.ceil(each / rungs), int(each / 2)))
        batches += _dealt(portion, encodes, groups, count, random)
    return [batches[i] for i in random.permutation(len(batches))]


def _dealt(
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


def _steps_of_one_quality(encodes: Sequence[LabelledEncode]) -> list[list[int]]:
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


def _labelled(folder: Path, row: EncodeRow, label: LabelRow, vmaf: float) -> LabelledEncode:
    return LabelledEncode(
        path=folder / row.encode_path,
        source=row.source,
        rung=row.rung,
        codec=row.codec,
        vmaf=vmaf,
        display=(row.display_width_px or 0, row.display_height_px or 0),
        bitrate_kbps=row.bitrate_kbps or 0.0,
        height_px=min(row.width_px or 0, row.height_px or 0),
        rate_mode=row.rate_mode,
        fps=float(row.fps or 0),
        log=log_path(folder, row.encode_path),
        metric=metric_of(label.vmaf_model),
    )


def _read_split(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    # source names are file names, which need not be valid UTF-8
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        if line.get("split") not in (TRAIN, VAL, TEST) or not line.get("source"):
            raise TrainingDataError(
                f"{path} has the line {','.join(map(str, line.values()))}: write the columns "
                f"source,split with {TRAIN}, {VAL} or {TEST}"
            )
    return {line["source"]: line["split"] for line in lines}


def _write_split(path: Path, split: dict[str, str]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source", "split"])
        writer.writerows(sorted(split.items()))
    part.replace(path)
