"""Stage 3: labelled encodes -> split by source -> bitrate groups -> balanced batches. No torch.

A bitrate group is all encodes of one rung over all sources. The losses compare inside and between
groups, so every batch holds several sources at several rungs.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ladder.label import labels_table
from ladder.plan import encodes_table
from ladder.tables import EncodeRow, LabelRow
from ladder.vmaf_log import log_path
from ladder.vmaf_models import metric_of
from vqatool.errors import TrainingDataError

SPLITS_FILE = "splits.csv"
TRAIN, VAL = "train", "val"


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
    """Source -> `train` or `val`, as `splits.csv` in the folder says; new sources are added to it.

    The file can be written by hand, to keep alike sources on one side. What it says is never
    changed, so a source once held out stays held out.

    Raises:
        TrainingDataError: fewer than two sources, one side empty, or a word that is no side.
    """
    path, names = folder / SPLITS_FILE, sorted(set(sources))
    split = _read_split(path)
    fresh = [name for name in names if name not in split]
    order = [str(name) for name in np.random.default_rng(seed).permutation(fresh)]
    wanted = min(len(names) - 1, max(1, round(val_share * len(names))))
    held_out = sum(split.get(name) == VAL for name in names)
    more = max(0, wanted - held_out)
    split |= dict.fromkeys(order[:more], VAL) | dict.fromkeys(order[more:], TRAIN)
    chosen = {name: split[name] for name in names}
    if set(chosen.values()) != {TRAIN, VAL}:
        raise TrainingDataError(
            f"{folder} has {len(chosen)} labelled source(s), which leaves one side of the split "
            f"empty: learning needs at least one to train on and one to judge by. Add sources "
            f"with `vqatool ladder`, or mend {path}"
        )
    if fresh:
        _write_split(path, split)
    return chosen


def labelled_of(folder: Path, side: str | None) -> list[LabelledEncode]:
    """The labelled encodes of one side of the split; None: of `val` if there is a split, else all.

    Raises:
        TrainingDataError: no labels, no split to choose from, or nothing on that side.
    """
    encodes = read_labelled(folder)
    split = _read_split(folder / SPLITS_FILE)
    chosen = side or (VAL if split else "all")
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


def balanced_batches(
    encodes: Sequence[LabelledEncode], *, sources: int, rungs: int, seed: int
) -> list[list[int]]:
    """Batches of indices into `encodes`: up to `sources` x `rungs`, every encode once.

    Sources and rungs are drawn anew for each seed; a leftover smaller than two sources or two rungs
    joins its neighbour, for a lone source or rung has nothing to be compared with.
    """
    random = np.random.default_rng(seed)
    names = random.permutation(sorted({encode.source for encode in encodes}))
    batches: list[list[int]] = []
    for chosen in _portions(names, sources):
        members = [i for i, encode in enumerate(encodes) if encode.source in chosen]
        steps = random.permutation(sorted({encodes[i].rung for i in members}))
        for portion in _portions(steps, rungs):
            batches.append([i for i in members if encodes[i].rung in portion])
    return [batches[i] for i in random.permutation(len(batches))]


def _portions(names: np.ndarray, size: int) -> list[set[str]]:
    """Runs of `size`; a rest of one joins the run before."""
    starts = list(range(0, len(names), size))
    if len(starts) > 1 and len(names) - starts[-1] < 2:
        starts.pop()
    ends = [*starts[1:], len(names)]
    return [set(map(str, names[a:b])) for a, b in zip(starts, ends, strict=True)]


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
        if line.get("split") not in (TRAIN, VAL) or not line.get("source"):
            raise TrainingDataError(
                f"{path} has the line {','.join(map(str, line.values()))}: write the columns "
                f"source,split with {TRAIN} or {VAL}"
            )
    return {line["source"]: line["split"] for line in lines}


def _write_split(path: Path, split: dict[str, str]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["source", "split"])
        writer.writerows(sorted(split.items()))
    part.replace(path)
