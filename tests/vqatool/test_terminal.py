"""What is printed at each verbosity, and how odd text is shown."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqatool.terminal import (
    is_quiet,
    json_lines,
    log_to,
    print_message,
    print_note,
    set_verbosity,
    shown,
)


@pytest.fixture(autouse=True)
def _default_verbosity() -> Iterator[None]:
    yield
    set_verbosity(0)


@pytest.mark.parametrize(
    ("verbosity", "expected"),
    [
        (-2, ["error: e", "message"]),
        (-1, ["error: e", "message"]),
        (0, ["warning: w", "error: e", "note", "message"]),
        (1, ["info: i", "warning: w", "error: e", "note", "message"]),
        (2, ["debug: d", "info: i", "warning: w", "error: e", "note", "message"]),
        (3, ["debug: d", "info: i", "warning: w", "error: e", "note", "message"]),
    ],
)
@pytest.mark.parametrize("name", ["ladder.media.ffmpeg", "vqatool.inference"])
def test_each_verbosity_shows_its_lines_on_stderr(
    name: str, verbosity: int, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    set_verbosity(verbosity)
    logger = logging.getLogger(name)
    for log, text in (
        (logger.debug, "d"), (logger.info, "i"), (logger.warning, "w"), (logger.error, "e"),
    ):  # fmt: skip
        log(text)
    print_note("note")
    print_message("message")
    output = capsys.readouterr()
    assert output.err.splitlines() == expected
    assert output.out == ""


def test_other_libraries_stay_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(2)
    logging.getLogger("another.library").info("text")
    assert capsys.readouterr().err == ""


def test_a_traceback_is_logged_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(2)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("vqatool.x").debug("failed", exc_info=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["debug: failed", "Traceback (most recent call last):"]
    assert lines[-2:] == ["ValueError: two", "lines"]


def test_what_a_terminal_might_act_on_is_replaced() -> None:
    assert shown("a\nb\x1b[31m\udce9") == "a\ufffdb\ufffd[31m\ufffd"
    assert shown("plain, ümläut, 映画") == "plain, ümläut, 映画"


@pytest.mark.parametrize("verbosity", [-1, 0, 2])
def test_a_log_has_every_record_and_changes_nothing_on_the_terminal(
    verbosity: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.log"
    path.write_text("before\n")
    with log_to(path):
        set_verbosity(verbosity)
        logging.getLogger("vqatool.x").debug("a detail")
        logging.getLogger("ladder.y").info("text")
        assert is_quiet() == (verbosity < 0)
    logging.getLogger("ladder.y").info("after the end")
    before, first, second = path.read_text().splitlines()
    assert before == "before"
    assert first.endswith("DEBUG vqatool.x: a detail")
    assert second.endswith("INFO ladder.y: text")
    assert len(capsys.readouterr().err.splitlines()) == (3 if verbosity == 2 else 0)


def test_lines_of_json_have_level_file_and_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest keeps what is logged, and xdist cannot send it: a name that is no UTF-8
    monkeypatch.setattr(logging.getLogger("vqatool"), "propagate", False)
    path = tmp_path / "run.log"
    with json_lines(), log_to(path):
        set_verbosity(1)
        logger = logging.getLogger("vqatool.x")
        logger.warning("%s has %d frames", Path("odd\udce9.mp4"), 3)
        logger.info("text", extra={"file": "a.mp4"})
        try:
            raise ValueError("two\nlines")
        except ValueError:
            logger.exception("failed")
        print_note("note")
        print_message("a\nb", file="b.mp4")
    print_message("plain")
    *lines, last = capsys.readouterr().err.splitlines()
    assert last == "plain"
    told = [json.loads(line) for line in lines]
    assert [(entry["level"], entry["message"], entry.get("file", "")) for entry in told] == [
        ("warning", "odd\udce9.mp4 has 3 frames", "odd\udce9.mp4"),
        ("info", "text", "a.mp4"),
        ("error", "failed", ""),
        ("info", "note", ""),
        ("error", "a\ufffdb", "b.mp4"),
    ]
    assert told[2]["traceback"].endswith("ValueError: two\nlines")
    assert [json.loads(line) for line in path.read_text().splitlines()] == told[:3]
