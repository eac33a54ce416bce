"""A report as a gate: which videos pass, and why the others do not."""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ladder.media.remote import as_path
from vqatool.errors import GateError
from vqatool.inputs.decode_pool import FailureCode
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.verdicts import Verdict
from vqatool.scoring.warning_codes import UNTRUSTED, WarningCode

GATE_FIGURES = ("score", "score_low", "score_min", "score_p5")
ERROR = "error"
FAIL_ON = (ERROR, *Verdict, *WarningCode)
"""What `--fail-on` takes: a verdict, a warning, or `error` for any file without a score."""


@dataclass(frozen=True)
class Thresholds:
    """The smallest figure that passes, for each video: by its name, else by its lines, else one.

    Attributes:
        default: of videos that nothing else fits; None: they pass.
        by_height: of videos with so many lines (the shorter side, px) or more, up to the next.
        by_name: of videos whose file name matches a glob; the first that matches counts.
    """

    default: float | None = None
    by_height: Mapping[int, float] = field(default_factory=dict)
    by_name: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, default: float | None = None) -> "Thresholds":
        """The thresholds in a TOML file: `default`, and the tables `height` and `name`.

        Args:
            path: the file.
            default: used where the file has none.

        Raises:
            GateError: the file cannot be read, or holds something else.
        """
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GateError(f"{path} cannot be read as TOML: {error}") from error
        unknown = content.keys() - {"default", "height", "name"}
        if unknown:
            raise GateError(
                f"{path}: unknown key {min(unknown)!r}: allowed are default, [height] and [name]"
            )
        heights = {
            _height(path, lines): value for lines, value in _table(path, content, "height").items()
        }
        if "default" in content:
            default = _figure(path, "default", content["default"])
        return cls(default, heights, _table(path, content, "name"))

    def of(self, row: ReportRow) -> float | None:
        """The threshold of one video; None: it passes."""
        name = as_path(row.path).name
        for pattern, threshold in self.by_name.items():
            if fnmatchcase(name, pattern):
                return threshold
        lines = min(row.width_px or 0, row.height_px or 0)
        reached = [height for height in self.by_height if height <= lines]
        return self.by_height[max(reached)] if reached else self.default


@dataclass(frozen=True)
class Gate:
    """What a video must be to pass.

    Attributes:
        thresholds: the smallest value that passes.
        on: the column that is compared with them, of `GATE_FIGURES`.
        fail_on: verdicts and warnings that no video may have, of `FAIL_ON`.
        trusts_all: whether a score may pass that a warning says not to trust.
    """

    thresholds: Thresholds = field(default_factory=Thresholds)
    on: str = "score"
    fail_on: frozenset[str] = frozenset()
    trusts_all: bool = False

    def is_missed(self, row: ReportRow) -> bool:
        """Whether the video does not pass. A file without a score does, but for `fail_on`."""
        return bool(self.message(row))

    def message(self, row: ReportRow) -> str:
        """Why the video does not pass, for people; empty: it does."""
        return ", ".join(self._reasons(row))

    def _reasons(self, row: ReportRow) -> Iterator[str]:
        codes = [row.verdict, *row.warnings.split(";"), row.error_code]
        codes += [ERROR] * (row.status == ERROR)
        named = [code for code in dict.fromkeys(codes) if code in self.fail_on]
        for code in named:
            yield f"it is {code}" if code in set(Verdict) else f"it has {code}"
        threshold = self.thresholds.of(row)
        if threshold is None or (row.status == ERROR and not _lacks_number(row)):
            return
        value: float | None = getattr(row, self.on)
        if value is None:
            yield f"{self.on} is not a number, so it does not reach {threshold:g}"
        elif value < threshold:
            told = with_decimals(value, lambda rounded: rounded < threshold)
            yield f"{self.on} {told} is below {threshold:g}"
        elif not self.trusts_all and (doubts := self._doubts(row)):
            # --trust alone lets nothing pass that `fail_on` holds back
            remedy = "" if named else "; --trust lets it pass"
            yield f"{self.on} {value:.1f} is not trusted ({' and '.join(doubts)}){remedy}"

    def _doubts(self, row: ReportRow) -> list[str]:
        """Warnings that say not to trust the score, but for those that `fail_on` tells already."""
        return sorted(UNTRUSTED.intersection(row.warnings.split(";")) - self.fail_on)


def with_decimals(value: float, is_clear: Callable[[float], bool]) -> str:
    """The value with one decimal, or with as many, up to four, as the reason needs to be seen.

    So 54.93 is 54.9, but 59.96 that is below 60 stays as it is.

    Args:
        value: of a report, which has four decimals.
        is_clear: whether the reason, such as being below a limit, holds for the rounded value.
    """
    texts = [f"{value:.{decimals}f}" for decimals in range(1, 5)]
    return next((text for text in texts if is_clear(float(text))), texts[-1])


def _lacks_number(row: ReportRow) -> bool:
    return row.error_code == FailureCode.NOT_FINITE


def _table(path: Path, content: dict[str, Any], name: str) -> dict[str, float]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise GateError(f"{path}: {name} is not a table such as [{name}]")
    return {key: _figure(path, f"{name}.{key}", value) for key, value in table.items()}


def _figure(path: Path, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise GateError(f"{path}: {key} is {value!r}, not a number from 0 to 100")
    return float(value)


def _height(path: Path, lines: str) -> int:
    if not (lines.isascii() and lines.isdigit() and int(lines)):
        raise GateError(f"{path}: height.{lines} is not a number of lines, such as 1080")
    return int(lines)
