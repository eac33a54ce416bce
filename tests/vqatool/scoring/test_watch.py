"""Which files count as complete, and that a watch scores each once, survives restarts and stops."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ladder.errors import RemoteError
from tests.vqatool.program import read_rows, vqatool
from vqatool.scoring import watch as module
from vqatool.scoring.watch import Arrivals


class Clock:
    """Both clocks of the module; files are as old as `os.utime` makes them."""

    def __init__(self) -> None:
        self.now_s = 1e9

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def write(path: Path, text: str, at_s: float) -> None:
    path.write_text(text)
    os.utime(path, (at_s, at_s))


def test_a_file_is_complete_once_it_stays_the_same(tmp_path: Path, clock: Clock) -> None:
    arrivals, path = Arrivals([tmp_path], settle_s=5), tmp_path / "a.mp4"
    for size in range(3):
        write(path, "x" * size, clock.now_s)
        assert arrivals.complete() == []
        clock.now_s += 4
    assert arrivals.complete() == []
    clock.now_s += 2
    assert arrivals.complete() == [path]
    clock.now_s += 100
    assert arrivals.complete() == []  # given already
    write(path, "another", clock.now_s)
    assert arrivals.complete() == []
    clock.now_s += 5
    assert arrivals.complete() == [path]


def test_an_old_file_is_complete_at_once_and_one_from_the_future_after_a_while(
    tmp_path: Path, clock: Clock
) -> None:
    arrivals = Arrivals([tmp_path], settle_s=5)
    old, future = tmp_path / "old.mp4", tmp_path / "future.mp4"
    write(old, "x", clock.now_s - 60)
    write(future, "x", clock.now_s + 3600)  # the clock of another machine
    assert arrivals.complete() == [old]
    clock.now_s += 5
    assert arrivals.complete() == [future]
    future.unlink()
    assert arrivals.complete() == []


def test_a_bucket_that_is_away_for_a_while_ends_no_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    looks: Iterator[RemoteError | None] = iter([None, RemoteError("s3://b is away"), None])

    class Looks(Arrivals):
        def complete(self) -> list[Path]:
            found = next(looks, StopIteration())
            if isinstance(found, RemoteError):
                raise found
            if found:
                stop.set()
            return []

    given: Any = (tmp_path / "r.csv", None, None)
    assert list(module.watch(Looks([]), *given, interval_s=0.01, stop=stop)) == []
    assert [record.getMessage() for record in caplog.records] == [
        "s3://b is away; looking again later"
    ]
    looks = iter([RemoteError("no such bucket")])
    with pytest.raises(RemoteError, match="no such bucket"):
        list(module.watch(Looks([]), *given, interval_s=0.01, stop=threading.Event()))


def test_once_scores_what_is_complete_and_a_restart_only_what_is_missing(
    labelled: Path, small_model: Path, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "r.csv"
    folder.mkdir()
    first, second = sorted(labelled.rglob("*.mp4"))[:2]
    shutil.copyfile(first, folder / "a.mp4")
    arguments = ["watch", folder, "-o", out, "-m", small_model, "--once", "--settle"]
    assert vqatool(*arguments, 3600).exit_code == 0
    assert not out.exists()
    done = vqatool(*arguments, 0)
    assert (done.exit_code, "a.mp4: " in done.stderr) == (0, True)
    (folder / "a.mp4").unlink()
    shutil.copyfile(second, folder / "b.mp4")
    (folder / "bad.mp4").write_text("no video")
    done = vqatool(*arguments, 0)
    assert (done.exit_code, "a.mp4: " in done.stderr) == (0, False)
    again = vqatool(*arguments, 0)
    assert "b.mp4: " not in again.stderr  # its row is kept
    assert "failed: " in again.stderr  # a failed file is tried again
    rows = {Path(row["path"]).name: row["status"] for row in read_rows(out)}
    assert rows == {"a.mp4": "ok", "b.mp4": "ok", "bad.mp4": "error"}


def test_a_page_is_made_anew_with_what_arrived(
    labelled: Path, small_model: Path, tmp_path: Path
) -> None:
    folder, page = tmp_path / "in", tmp_path / "r.html"
    folder.mkdir()
    arguments = ["watch", folder, "-o", page, "-m", small_model, "--once", "--settle", 0]
    for name, video in zip(("a.mp4", "b.mp4"), sorted(labelled.rglob("*.mp4")), strict=False):
        shutil.copyfile(video, folder / name)
        assert vqatool(*arguments).exit_code == 0
        assert name in page.read_text()
    assert "a.mp4" in page.read_text()
    assert len(read_rows(tmp_path / "r-segments.csv")) == 2
    page.write_text("another program's")
    assert vqatool(*arguments).exit_code == 2


def test_a_signal_ends_a_watch_in_order(labelled: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "r.csv"
    folder.mkdir()
    arguments = ["watch", folder, "-o", out, "--display=native", "--settle=0", "--interval=0.1"]
    command = [sys.executable, "-m", "vqatool", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        ending = threading.Timer(120, process.kill)
        ending.start()
        assert "watching" in process.stderr.readline()
        shutil.copyfile(sorted(labelled.rglob("*.mp4"))[0], folder / "a.part")
        (folder / "a.part").rename(folder / "a.mp4")  # never half of it
        assert any("a.mp4: " in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert "stopped" in process.stderr.read()
        assert process.wait() == 0
        ending.cancel()
    assert len(read_rows(out)) == 1
