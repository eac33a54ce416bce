"""Find a suitable ffmpeg, query its capabilities and run it; only this module starts processes."""

import contextlib
import functools
import json
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
"""How to get an ffmpeg with a missing capability; ends error messages."""

# libvmaf 3.2.0 and the commits around it, in which the queue of frames to measure has no limit
# (https://github.com/Netflix/vmaf/issues/1587)
_UNBOUNDED_LIBVMAF = re.compile(
    r"v?3\.2\.0|(.*-g)?"
    "(dff4082|46d3a15|e4b93c6|a4a1492|c2155d6|2190bae|9a07801|30f472b|8461ae0|607256b|4718b4f|"
    "3f9e02a|ac9467f|60016fb|0f9912e)[0-9a-f]*"
)

_STDERR_LINES = 5

_MAX_PROCESSES = 4
_CGROUP_TIME = Path("/sys/fs/cgroup/cpu.max")  # microseconds of processor time, of so many

_MAX_OUTPUTS = 8  # of one process; eight at 1080p need 1 to 2 GB of memory

T = TypeVar("T")

R = TypeVar("R")


class _Children:
    """The running ffmpeg processes of one `run_parallel` call, killed together.

    A call inside a task of another call belongs to that task, and is stopped with it.
    """

    def __init__(self, parent: "_Children | None") -> None:
        self.running: set[subprocess.Popen[str]] = set()
        self.nested: set[_Children] = set()
        self.is_stopped = False
        if parent:
            parent.nested.add(self)
            self.is_stopped = parent.is_stopped  # it may have stopped before it knew of this call

    def stop(self) -> None:
        """Kill all running processes, and every later one as soon as it starts."""
        self.is_stopped = True
        for process in tuple(self.running):
            _kill(process)
        for each in tuple(self.nested):
            each.stop()


_worker = threading.local()  # `children`: the processes of this thread's `run_parallel` call

ProgressSink = Callable[[float], None]
"""Called with the seconds of output that ffmpeg has written so far."""

OnProgress = Callable[[str, float], None]
"""Called with an encode's path and its finished fraction (0 to 1), from any thread."""


@dataclass(frozen=True)
class Ffmpeg:
    """One ffmpeg program; `origin` is `option`, `environment`, `PATH` or `bundled`."""

    path: str
    origin: str

    @property
    def version(self) -> str:
        """Version as the program prints it, for example `7.0.2-static`.

        Raises:
            CapabilityError: the program does not run or is not ffmpeg.
        """
        return _version(self.path)

    def here(self) -> "Ffmpeg":
        """The ffmpeg to run on this machine, if another one chose this program.

        One that was named must be here under the same name; else this machine chooses anew.

        Raises:
            CapabilityError: there is none.
        """
        is_named = self.origin in ("option", "environment")
        return find_ffmpeg(Path(self.path) if is_named else None)

    @property
    def has_libvmaf(self) -> bool:
        """Whether this ffmpeg was built with the libvmaf filter."""
        return " libvmaf " in _listing(self.path, "-filters")

    @property
    def libvmaf_version(self) -> str:
        """libvmaf's version as its log gives it, such as `3.2.1`; "" if it does not run."""
        return _libvmaf_version(self.path) if self.has_libvmaf else ""

    @property
    def libvmaf_fault(self) -> str:
        """The known fault of this libvmaf, as a sentence without its end; "" if there is none."""
        return libvmaf_fault(self.libvmaf_version)

    def require_filters(self, names: Sequence[str]) -> None:
        """Raise CapabilityError if this ffmpeg lacks a filter in `names`."""
        listing = _listing(self.path, "-filters")
        missing = sorted(name for name in set(names) if f" {name} " not in listing)
        if missing:
            raise CapabilityError(f"{self.path} has no filter {', '.join(missing)}: {REMEDY}")

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders of `ladder.codecs.CODECS` that this ffmpeg was built with."""
        listing = _listing(self.path, "-encoders")
        return tuple(name for name in CODECS if f" {name} " in listing)

    def require_encoders(self, names: Sequence[str]) -> None:
        """Raise CapabilityError if this ffmpeg lacks an encoder in `names`."""
        missing = sorted(set(names) - set(self.encoders))
        if missing:
            raise CapabilityError(f"{self.path} has no encoder {', '.join(missing)}: {REMEDY}")


def libvmaf_fault(version: str) -> str:
    """The known fault of a version of libvmaf, "" if there is none.

    Args:
        version: a release such as `3.2.0`, or what `git describe` gives for a build of another
            commit: `v3.2.0-2-g60016fbd`, or `60016fb` of a shallow clone.
    """
    if not _UNBOUNDED_LIBVMAF.fullmatch(version):
        return ""
    return (
        f"libvmaf {version}, whose memory grows without limit where decoding is faster than "
        "measuring (mended in 3.2.1)"
    )


def ffmpeg_on_path() -> tuple[Ffmpeg, str] | None:
    """The ffmpeg on PATH, and why it is passed over: it has no libvmaf, or one with a fault."""
    on_path = shutil.which("ffmpeg")
    if not on_path:
        return None
    ffmpeg = Ffmpeg(on_path, "PATH")
    return ffmpeg, ffmpeg.libvmaf_fault if ffmpeg.has_libvmaf else "no libvmaf"


def find_ffmpeg(option: Path | None = None) -> Ffmpeg:
    """The first of: `option`, $VQATOOL_FFMPEG, PATH if it has a good libvmaf, the bundled ffmpeg.

    A libvmaf on PATH with a `libvmaf_fault` is passed over; one that is named is used.

    Raises:
        CapabilityError: the ffmpeg of `option` or $VQATOOL_FFMPEG does not run, or there is none.
    """
    for origin, program in (
        ("option", str(option or "")),
        ("environment", os.environ.get("VQATOOL_FFMPEG", "")),
    ):
        if program:
            # a file that is named is not looked for on PATH, and runs in other folders too
            path = Path(program).absolute() if Path(program).is_file() else shutil.which(program)
            found = Ffmpeg(str(path or program), origin)
            _ = found.version  # raises if it does not run: never fall back silently
            return _logged(found)
    if on_path := ffmpeg_on_path():
        ffmpeg, reason = on_path
        if not reason:
            return _logged(ffmpeg)
        _log.info("%s has %s: the bundled ffmpeg is used instead", ffmpeg.path, reason)
    try:
        return _logged(Ffmpeg(imageio_ffmpeg.get_ffmpeg_exe(), "bundled"))
    except RuntimeError as error:
        raise CapabilityError(f"no ffmpeg with libvmaf found: {REMEDY}") from error


def _logged(ffmpeg: Ffmpeg) -> Ffmpeg:
    if _log.isEnabledFor(logging.INFO):  # reading the version starts a process
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
    """Run ffmpeg to its end and return its stderr (warnings, if the run succeeds).

    The process runs in its own process group. The whole group is killed on a time-out or when the
    caller is interrupted, so no process is left running.

    Args:
        ffmpeg: program to run.
        args: all arguments except `-progress`.
        cwd: working folder.
        timeout_s: seconds until the process is killed; None: no limit.
        on_progress: called about twice a second.

    Raises:
        FfmpegError: non-zero exit or time-out; the message has the command and the last lines of
            stderr.
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
            _error_message(f"did not finish within {timeout_s} s", command, stderr_text),
            stderr_text,
        )
    if status:
        raise FfmpegError(
            _error_message(f"exited with status {status}", command, stderr_text), stderr_text
        )
    return stderr_text


def run_parallel(work: Callable[[T], R], tasks: Sequence[T], at_once: int) -> Iterator[R]:
    """Run `work(task)` for every task, `at_once` at a time; results come in order of completion.

    If a task fails, or the caller stops early or is interrupted, the ffmpeg processes of these
    tasks are killed. Processes of other `run_parallel` calls keep running.
    """
    pool = ThreadPoolExecutor(at_once)
    children = _Children(getattr(_worker, "children", None))

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


def usable_cores() -> int:
    """The cores that this process may use, or the container's share of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or one without a limit ("max")
        quota, period = _CGROUP_TIME.read_text(encoding="ascii").split()
        return max(1, min(cores or 1, ceil(int(quota) / int(period))))
    return cores or 1


def allocate_workers(jobs: int | None, cores: int | None = None) -> tuple[int, int]:
    """(number of parallel processes, threads of each) that use all cores; `jobs` sets the first.

    Several processes keep the cores busy while the result of one is checked. `cores` bounds what
    they use together; None: `usable_cores`.
    """
    cores = cores or usable_cores()
    at_once = jobs or min(cores, _MAX_PROCESSES)
    return at_once, max(1, cores // at_once)


def partition_outputs(
    outputs: Sequence[T], size: tuple[int, int], most: int
) -> list[tuple[T, ...]]:
    """Divide the outputs of one source among processes, at most `most` outputs each.

    The limit also follows from memory: `size` is (width, height) of the source in px. Neighbouring
    outputs go to different processes, so each process gets large and small outputs.
    """
    pixels = max(1, size[0] * size[1])
    fits = max(1, min(_MAX_OUTPUTS, _MAX_OUTPUTS * 1920 * 1080 // pixels, most))
    count = ceil(len(outputs) / fits)
    return [tuple(outputs[index::count]) for index in range(count)]


def file_url(path: Path) -> str:
    """`path` as a `file:` URL, so that ffmpeg never reads a file name as an option or protocol."""
    return f"file:{path.absolute()}"


def _error_message(what: str, command: Sequence[str], stderr_text: str) -> str:
    last_lines = [line for line in stderr_text.splitlines() if line.strip()][-_STDERR_LINES:]
    return "\n  ".join(
        [f"ffmpeg {what}", f"command: {shlex.join(command)}", *(last_lines or ["stderr is empty"])]
    )


@contextlib.contextmanager
def _killed_on_exit(process: "subprocess.Popen[str]") -> Iterator[None]:
    children: _Children | None = getattr(_worker, "children", None)
    if children:
        children.running.add(process)
    try:
        if children and children.is_stopped:
            _kill(process)  # started after `stop` killed the others
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
def _libvmaf_version(program: str) -> str:
    picture = ["-f", "lavfi", "-i", "color=size=176x144:rate=25:duration=0.04"]
    filters = ["-lavfi", "libvmaf=log_fmt=json:log_path=vmaf.json", "-f", "null", "-"]
    with tempfile.TemporaryDirectory(prefix="vmaf-") as folder:
        try:
            run(Ffmpeg(program, ""), [*picture, *picture, *filters], cwd=Path(folder), timeout_s=60)
            log = json.loads((Path(folder) / "vmaf.json").read_text(encoding="utf-8"))
            return str(log["version"])
        except (FfmpegError, OSError, ValueError, LookupError, TypeError):
            return ""  # a log of another kind


@functools.cache
def _version(program: str) -> str:
    found = re.match(r"ffmpeg version (\S+)", _listing(program, "-version"))
    if not found:
        raise CapabilityError(f"{program} is not an ffmpeg program: {REMEDY}")
    return found[1]
