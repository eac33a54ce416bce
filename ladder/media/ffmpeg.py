"""Find a capable ffmpeg, ask what it can do, and run it: the only file that starts a process."""

import contextlib
import functools
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TypeVar

import imageio_ffmpeg

from ladder.codecs import CODECS
from ladder.errors import CapabilityError, FfmpegError

_log = logging.getLogger(__name__)


REMEDY = (
    "install one with `pip install imageio-ffmpeg`, "
    "or name yours with --ffmpeg PATH or $VQATOOL_FFMPEG"
)
"""What to do about an ffmpeg that cannot do something."""


_STDERR_LINES = 5


_MAX_PROCESSES = 4


_MAX_OUTPUTS = 8  # of one process; at 1080p they take 1 to 2 GB


T = TypeVar("T")


R = TypeVar("R")


class _Children:
    """The processes of one `run_parallel`, which end together and alone."""

    def __init__(self) -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.is_stopped = False

    def stop(self) -> None:
        """Kill all of them, and each that is still to start."""
        self.is_stopped = True
        for process in tuple(self.running):
            _kill(process)


_worker = threading.local()  # `children`: those of the `run_parallel` that this thread works for

ProgressSink = Callable[[float], None]
"""Told the seconds of output written so far, as ffmpeg reports them."""


OnProgress = Callable[[str, float], None]
"""Told an encode's path and the share of it that is done, from any thread."""


@dataclass(frozen=True)
class Ffmpeg:
    """One ffmpeg program and how it was found (`option`, `environment`, `PATH` or `bundled`)."""

    path: str
    origin: str

    @property
    def version(self) -> str:
        """Version as the program prints it, such as `7.0.2-static`."""
        return _version(self.path)

    @property
    def has_libvmaf(self) -> bool:
        """Whether the libvmaf filter was compiled in."""
        return " libvmaf " in _listing(self.path, "-filters")

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders of `ladder.codecs.CODECS` that were compiled in."""
        listing = _listing(self.path, "-encoders")
        return tuple(name for name in CODECS if f" {name} " in listing)

    def require_encoders(self, names: Sequence[str]) -> None:
        """Raise CapabilityError unless every encoder in `names` was compiled in."""
        missing = sorted(set(names) - set(self.encoders))
        if missing:
            raise CapabilityError(f"{self.path} has no encoder {', '.join(missing)}: {REMEDY}")


def find_ffmpeg(option: Path | None = None) -> Ffmpeg:
    """The ffmpeg to use: `option`, $VQATOOL_FFMPEG, PATH if it has libvmaf, the bundled one.

    Raises:
        CapabilityError: the one asked for does not run, or there is none at all.
    """
    for origin, asked in (
        ("option", str(option or "")),
        ("environment", os.environ.get("VQATOOL_FFMPEG", "")),
    ):
        if asked:
            found = Ffmpeg(shutil.which(asked) or asked, origin)
            _ = found.version  # the one asked for must run: never fall back in silence
            return _logged(found)
    on_path = shutil.which("ffmpeg")
    if on_path and Ffmpeg(on_path, "PATH").has_libvmaf:
        return _logged(Ffmpeg(on_path, "PATH"))
    if on_path:
        _log.info("%s has no libvmaf: the bundled ffmpeg is used instead", on_path)
    try:
        return _logged(Ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), "bundled"))
    except RuntimeError as error:
        raise CapabilityError(f"no ffmpeg with libvmaf found: {REMEDY}") from error


def _logged(ffmpeg: Ffmpeg) -> Ffmpeg:
    if _log.isEnabledFor(logging.INFO):  # the version takes a process
        _log.info("ffmpeg %s (%s: %s)", ffmpeg.version, ffmpeg.origin, ffmpeg.path)
    return ffmpeg


def run(
    ffmpeg: Ffmpeg,
    args: Sequence[str],
    *,
    cwd: Path | None = None,
    timeout_s: float | None = None,
    on_progress: ProgressSink | None = None,
) -> str:
    """Run ffmpeg to its end and return what it wrote to stderr (warnings of a good run).

    The process gets a group of its own, which is killed whole when the time is up or the caller is
    interrupted, so nothing goes on behind the caller's back.

    Args:
        ffmpeg: program to run.
        args: everything after the program's name, without `-progress`.
        cwd: working folder.
        timeout_s: seconds until the run is given up; None waits for ever.
        on_progress: told the output's seconds about twice a second.

    Raises:
        FfmpegError: non-zero exit or time-out; the message holds the command and its last words.
    """
    command = [ffmpeg.path, "-hide_banner", "-nostdin", "-nostats", "-v", "warning"]
    command += ["-progress", "pipe:1", *args]
    _log.debug("run: %s", shlex.join(command))
    with tempfile.TemporaryFile("w+", errors="replace") as stderr:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
        with _killed_on_exit(process), _deadline(process, timeout_s) as is_late:
            _report_progress(process, on_progress)
            status = process.wait()
        stderr.seek(0)
        stderr_text = stderr.read()
    if is_late():
        raise FfmpegError(
            _error_message(f"gave no result within {timeout_s} s", command, stderr_text),
            stderr_text,
        )
    if status:
        raise FfmpegError(
            _error_message(f"exited with status {status}", command, stderr_text), stderr_text
        )
    return stderr_text


def run_parallel(work: Callable[[T], R], tasks: Sequence[T], at_once: int) -> Iterator[R]:
    """`work(task)` for every task, `at_once` of them side by side, as they are done.

    If a task fails, or the caller stops early or is interrupted, the ffmpeg processes of these
    tasks are killed; those of another `run_parallel` go on.
    """
    pool = ThreadPoolExecutor(at_once)
    children = _Children()

    def work_unless_stopped(task: T) -> R:
        _worker.children = children
        return work(task)

    try:
        for future in as_completed([pool.submit(work_unless_stopped, task) for task in tasks]):
            yield future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        children.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def allocate_workers(jobs: int | None) -> tuple[int, int]:
    """(processes at once, threads for each) that fill the cores without crowding them.

    While one process ends and its result is looked at, the others keep the cores busy.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    at_once = jobs or min(cores, _MAX_PROCESSES)
    return at_once, max(1, cores // at_once)


def partition_outputs(
    outputs: Sequence[T], size: tuple[int, int], most: int
) -> list[tuple[T, ...]]:
    """Outputs of one source of that size dealt out to processes, `most` at most to each.

    Memory sets a limit too. Neighbours go to different processes, so a sorted row is spread evenly.
    """
    pixels = max(1, size[0] * size[1])
    fits = max(1, min(_MAX_OUTPUTS, _MAX_OUTPUTS * 1920 * 1080 // pixels, most))
    count = ceil(len(outputs) / fits)
    return [tuple(outputs[index::count]) for index in range(count)]


def file_url(path: Path) -> str:
    """`path` as an ffmpeg input or output that no name can turn into an option or a protocol."""
    return f"file:{path.absolute()}"


def _error_message(what: str, command: Sequence[str], stderr_text: str) -> str:
    last_lines = [line for line in stderr_text.splitlines() if line.strip()][-_STDERR_LINES:]
    return "\n  ".join(
        [f"ffmpeg {what}", f"command: {shlex.join(command)}", *(last_lines or ["it said nothing"])]
    )


@contextlib.contextmanager
def _killed_on_exit(process: "subprocess.Popen[str]") -> Iterator[None]:
    children: _Children | None = getattr(_worker, "children", None)
    if children:
        children.running.add(process)
    try:
        if children and children.is_stopped:
            _kill(process)  # it was started after the others had been killed
        yield
    finally:
        if children:
            children.running.discard(process)
        _kill(process)
        process.wait()
        if process.stdout:
            process.stdout.close()


@contextlib.contextmanager
def _deadline(
    process: "subprocess.Popen[str]", timeout_s: float | None
) -> Iterator[Callable[[], bool]]:
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        _kill(process)

    timer = threading.Timer(timeout_s or 0, expire)
    if timeout_s:
        timer.start()
    try:
        yield expired.is_set
    finally:
        timer.cancel()


def _kill(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _report_progress(process: "subprocess.Popen[str]", sink: ProgressSink | None) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        key, _, value = line.strip().partition("=")
        if sink and key == "out_time_us" and value.lstrip("-").isdigit():
            sink(max(int(value), 0) / 1e6)


@functools.cache
def _listing(program: str, what: str) -> str:
    try:
        done = subprocess.run(
            [program, "-hide_banner", what],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CapabilityError(f"{program} does not run as ffmpeg ({error}): {REMEDY}") from error
    return done.stdout


@functools.cache
def _version(program: str) -> str:
    found = re.match(r"ffmpeg version (\S+)", _listing(program, "-version"))
    if not found:
        raise CapabilityError(f"{program} is not an ffmpeg program: {REMEDY}")
    return found[1]
