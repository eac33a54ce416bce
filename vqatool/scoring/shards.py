"""One report from several machines: divide the videos into shards, and merge their reports.

A batch system tells each of its tasks in variables which one it is: Slurm's job arrays, the array
jobs of AWS Batch, and the indexed jobs of Kubernetes, which do not tell how many there are.
"""

import hashlib
import heapq
import itertools
import os
import re
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from ladder.storage import Table
from vqatool.errors import ReportError
from vqatool.scoring.formats import each_row
from vqatool.scoring.rows import ReportRow

UNFINISHED = ", unfinished"
"""The suffix of a shard's name in its rows until the shard is complete."""


AUTO = "auto"
"""Stands for the shard that the variables of a batch system name."""

COUNT_VARIABLE = "VQATOOL_SHARDS"
"""The variable with the number of shards, for batch systems that do not tell it."""

_SLURM = "SLURM_ARRAY_TASK_"  # ID, MIN, MAX, STEP, COUNT: sbatch(1), output environment variables
_AWS = "AWS_BATCH_JOB_ARRAY_"  # INDEX, from 0; SIZE
_KUBERNETES = "JOB_COMPLETION_INDEX"  # from 0


@dataclass(frozen=True)
class Shard:
    """The part `number` (1 to `count`) of a list of videos."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The shard that a text names: `2/8` is the second of eight.

        Raises:
            ValueError: the text has another form, or the number is beyond the count.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text!r} is not a shard such as 2/8")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Self:
        """The shard that a batch system names in its variables.

        Raises:
            ValueError: there is no such variable, or the shards would have gaps.
        """
        if f"{_SLURM}ID" in environment:
            return cls(*_slurm_shard(environment))
        if f"{_AWS}INDEX" in environment:
            index, count = f"{_AWS}INDEX", f"{_AWS}SIZE"
        elif _KUBERNETES in environment:
            index, count = _KUBERNETES, COUNT_VARIABLE
        else:
            raise ValueError(
                f"this is no task of an array: none of {_SLURM}ID, {_AWS}INDEX and {_KUBERNETES} "
                "is set; name the shard itself, such as 2/8"
            )
        if count not in environment:
            raise ValueError(
                f"{index} is set and {count} is not: set it to the number of tasks, for Kubernetes "
                "the job's completions"
            )
        found = cls(_whole(environment, index) + 1, _whole(environment, count))
        if found.number > found.count:
            raise ValueError(
                f"{index} is {found.number - 1} and {count} is {found.count}: indices begin at 0, "
                f"so {count} must be greater"
            )
        return found

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def matches(self, path: Path) -> bool:
        """Whether a video is in this shard; its path as given decides, on any machine."""
        return path_digest(os.fspath(path)) % self.count == self.number - 1


def _slurm_shard(environment: Mapping[str, str]) -> tuple[int, int]:
    """(number, count) of a task of a Slurm array, whose indices may begin anywhere and have a step.

    A list such as 1,2,9 leaves gaps that no task would fill, and ends in an error.
    """
    names = ("ID", "MIN", "MAX", "STEP", "COUNT")
    missing = [f"{_SLURM}{name}" for name in names if f"{_SLURM}{name}" not in environment]
    if missing:
        raise ValueError(f"{_SLURM}ID is set and {missing[0]} is not: name the shard, such as 2/8")
    task, first, last, step, count = (_whole(environment, f"{_SLURM}{name}") for name in names)
    steps, rest = divmod(task - first, step or 1)
    if rest or not 0 <= steps < count or (last - first) // (step or 1) + 1 != count:
        raise ValueError(
            f"the indices of this Slurm array are not evenly spaced ({count} from {first} to "
            f"{last}, step {step}): submit it with --array=1-{count}"
        )
    return steps + 1, count


def _whole(environment: Mapping[str, str], name: str) -> int:
    """The value of a variable, 0 or more."""
    if not re.fullmatch(r"\d{1,9}", environment[name]):
        raise ValueError(f"{name} is {environment[name]!r}, which is not a number")
    return int(environment[name])


def path_digest(path: str) -> int:
    """A number of 64 bits that is the same on any machine."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest())


def merge_shards(parts: Sequence[Path]) -> Iterator[ReportRow]:
    """The rows of all shards, sorted by path, as one run would have them.

    Few rows are in memory: they are sorted in pieces, which are files until they are merged. No row
    is given before all are checked.

    Args:
        parts: the reports, of any format. A shard without videos has no row.

    Raises:
        ReportError: one is no report, a shard is missing or given twice, or model or display
            differ.
    """
    checked = _Checked()
    with tempfile.TemporaryDirectory(prefix="vqatool-") as folder:
        pieces = list(_sorted_pieces(checked.rows(parts), Path(folder)))
        checked.require_whole()
        for row in heapq.merge(*(piece.each() for piece in pieces), key=_place):
            yield replace(row, shard="")


def _sorted_pieces(rows: Iterator[ReportRow], folder: Path) -> Iterator[Table[ReportRow]]:
    """The rows in files of their own, each sorted."""
    for number in itertools.count():
        if not (some := list(itertools.islice(rows, _ROWS_A_PIECE))):
            return
        piece = Table(folder / f"{number}.csv", ReportRow)
        piece.rewrite(sorted(some, key=_place))
        yield piece


def _place(row: ReportRow) -> list[str]:
    """What rows are sorted by: a folder comes before what has its name and more."""
    return row.path.split("/")


_ROWS_A_PIECE = 10_000


class _Checked:
    """What the rows of several shards have in common, as they pass."""

    def __init__(self) -> None:
        self._shards: dict[str, Path] = {}
        self._num_empty = 0
        self._settings: set[tuple[str, str]] = set()
        self._seen = array("Q")  # a digest of each path
        self._parts: Sequence[Path] = ()

    def rows(self, parts: Sequence[Path]) -> Iterator[ReportRow]:
        """The rows of the parts, which are those of finished shards."""
        self._parts = parts
        for part in parts:
            named = set()
            for row in each_row(ReportRow, part):
                if row.shard not in named:
                    self._add(row.shard, part)
                    named.add(row.shard)
                self._settings.add((row.model, row.display))
                self._seen.append(path_digest(row.path))
                yield row
            self._num_empty += not named

    def _add(self, text: str, path: Path) -> None:
        if not text:
            raise ReportError(f"{path} is not a report of a shard: it was made without --shard")
        if text.endswith(UNFINISHED):
            raise ReportError(f"{path} is not finished: run its command again, then merge")
        if text in self._shards:
            raise ReportError(f"{self._shards[text]} and {path} are both shard {text}")
        self._shards[text] = path

    def require_whole(self) -> None:
        """Raise ReportError unless the rows are those of all shards of one run, each once."""
        _require_all([Shard.parse(text) for text in self._shards], self._num_empty)
        _require_same_settings(self._settings)
        digests = np.sort(np.frombuffer(self._seen, np.uint64))
        twice = set(digests[1:][digests[1:] == digests[:-1]].tolist())
        paths = (row.path for part in self._parts for row in each_row(ReportRow, part))
        require_once([path for path in paths if path_digest(path) in twice] if twice else [])


def _require_all(shards: Sequence[Shard], empty: int) -> None:
    counts = {shard.count for shard in shards}
    if len(counts) > 1:
        raise ReportError(f"the shards are parts of {' and of '.join(map(str, sorted(counts)))}")
    missing = set(range(1, max(counts, default=0) + 1)) - {shard.number for shard in shards}
    # an empty report does not show which shard it belongs to
    if len(missing) > empty:
        names = ", ".join(f"{number}/{max(counts)}" for number in sorted(missing))
        raise ReportError(f"missing: shard {names}, and {empty} of the reports are empty")


def _require_same_settings(settings: Set[tuple[str, str]]) -> None:
    if len(settings) > 1:
        found = "; ".join(
            sorted(f"model {model}, display {display}" for model, display in settings)
        )
        raise ReportError(f"the shards have different settings: {found}")


def require_once(paths: Iterable[str]) -> None:
    """Raise ReportError if a file is in two of the reports that `paths` are from."""
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise ReportError(f"{twice[0]} is in two of the reports")
