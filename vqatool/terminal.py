"""Text for people: how much of it is shown, where it goes, and how odd file names are shown."""

import contextlib
import datetime
import functools
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # rich loads when the first line is printed, so that --help is fast
    from rich.console import Console

_LOGGERS = ("ladder", "vqatool")  # other libraries keep their own settings
_json = False  # whether stderr gets lines of JSON (`json_lines`)

_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


def set_verbosity(verbosity: int) -> None:
    """Choose what `print_note`, progress and the loggers of this program show.

    Args:
        verbosity: -1 or less: errors, failures, and results on stdout only; 0: notes, progress and
            warnings too; 1: also each choice and its reason; 2 or more: also each command.
    """
    level = _LEVELS[max(-1, min(verbosity, 2))]
    handler = _ConsoleHandler(level)
    handler.setFormatter(_Formatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        files = [each for each in logger.handlers if isinstance(each, logging.FileHandler)]
        logger.setLevel(logging.DEBUG if files else level)
        logger.handlers = [handler, *files]


@contextlib.contextmanager
def json_lines() -> Iterator[None]:
    """Write each line on stderr and of `log_to` as an object of JSON, for collectors of logs.

    It has `time` (UTC, ISO 8601), `level` (debug, info, warning, error) and `message`; `file`, the
    path that it is about, where that is known; and `traceback` where there is one.
    """
    global _json
    before, _json = _json, True
    try:
        yield
    finally:
        _json = before


def is_json() -> bool:
    """Whether stderr gets lines of JSON."""
    return _json


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append every record of this program's loggers to a file, whatever the terminal shows.

    Raises:
        OSError: the file cannot be written.
    """
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.setFormatter(
        _JsonFormatter()
        if _json
        else logging.Formatter("{asctime} {levelname} {name}: {message}", style="{")
    )
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(file)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(file)
        file.close()


def is_quiet() -> bool:
    """Whether only errors and results are to be shown."""
    return any(
        isinstance(handler, _ConsoleHandler) and handler.level > logging.WARNING
        for handler in logging.getLogger(__package__).handlers
    )


def console(*, is_result: bool = False) -> "Console":
    """stderr, or stdout for what a pipe should get; brackets in text are not markup."""
    return _console(is_result)


@functools.cache  # one console for each stream: a log line then goes above a progress bar
def _console(is_result: bool) -> "Console":
    from rich.console import Console

    return Console(stderr=not is_result, markup=False, highlight=False, emoji=False)


def print_message(text: str, *, file: str = "", level: int = logging.ERROR) -> None:
    """Print one plain line to stderr, of what went wrong: `-q` does not hide it.

    `file`, a path that the text is about, and `level` are for `json_lines`.
    """
    if _json:
        record = logging.LogRecord("", level, "", 0, shown(text), None, None)
        record.file = file
        text = _JsonFormatter().format(record)
    console().print(shown(text), soft_wrap=True)


def print_note(text: str) -> None:
    """Print one plain line to stderr, unless the user asked for quiet."""
    if not is_quiet():
        print_message(text, level=logging.INFO)


def shown(text: str) -> str:
    """`text` on one line, with a replacement for each character that a terminal might act on."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def cut_middle(text: str, width: int) -> str:
    """`text` without so much of its middle that it has at most `width` letters.

    Names of encodes differ at their ends: the source in front, the rung behind.
    """
    if len(text) <= width:
        return text
    front = (width - 1) // 3
    return f"{text[:front]}\N{HORIZONTAL ELLIPSIS}{text[front + 1 - width :]}"


class _ConsoleHandler(logging.Handler):
    """Prints each record to stderr, above a progress bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if _json:
            console().print(_JsonFormatter().format(record), soft_wrap=True)
            return
        for line in self.format(record).splitlines():
            print_message(line)


class _Formatter(logging.Formatter):
    """`info: text`, and the traceback below it where the record has one."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {record.message}"


class _JsonFormatter(logging.Formatter):
    """One object of JSON, in ASCII; the file is that of the record, or the first path in it."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        values = record.args if isinstance(record.args, tuple) else ()
        paths = (value for value in values if isinstance(value, Path))
        entry = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "file": str(getattr(record, "file", "") or next(paths, "")),
            "traceback": self.formatException(record.exc_info) if record.exc_info else "",
        }
        known = {key: text for key, text in entry.items() if text or key == "message"}
        return json.dumps(known).encode("utf-8", "replace").decode()
