"""Decode video files in worker processes, so that a bad file costs its own result and no other.

A decoder that crashes, hangs or asks for too much memory ends its worker, not the program. The
program receives a `DecodeFailure` instead of the result, and a new worker takes the next file.

Workers are forked from a server process that has loaded what they need once. They are never forked
from the program itself, because its threads would not survive a fork. They need no torch, nor the
main script, which `multiprocessing` would run again in each of them.
"""

import contextlib
import errno
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from logging.handlers import QueueHandler
from multiprocessing import forkserver, popen_forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, TracebackType
from typing import Any, Generic, NamedTuple, TypeVar

from pebble import ProcessExpired, ProcessPool

from ladder.errors import LadderError
from ladder.media.ffmpeg import allocate_workers, usable_cores
from ladder.media.stores import store_environment
from vqatool.memory import keep_freed_frames, trim_memory

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

TIMEOUT_S = 120.0
"""Seconds that a worker has for one task by default, such as eight segments of a video."""

WHOLE_VIDEO_TIMEOUT_S = 1800.0
"""Seconds for a whole video of any length, whose headers may take minutes to read."""

_PRELOADED = ("vqatool.inputs.decode_pool", "vqatool.inputs.preprocessor")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MIN_WORKER_BYTES = 4 * 2**30  # 8K frames and the reference frames of their decoder take 3 GB
_LARGE_FRAMES_BYTES = 2**30  # 4K frames take 0.4 GB
_FEW_WORKERS = 4
_MAX_STARTS = 3  # of one task whose pool broke
_MEMORY_SHARE = 0.8  # of the machine's memory, for all workers together
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_starts_server = threading.Lock()  # with variables of the process's environment

_LOGGERS = ("ladder", "vqatool")  # whose records come back from the workers

# of exceptions that onnxruntime and torch have of their own where their allocators fail
_NO_MEMORY = ("Failed to allocate memory", "std::bad_alloc", "can't allocate memory")

_log = logging.getLogger(__name__)


class FailureCode(StrEnum):
    """Why a file has no result, where ladder's `VideoError` has no code for the cause."""

    TIMEOUT = "timeout"
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out_of_memory"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    NOT_FINITE = "not_finite"
    INTERNAL = "internal"


@dataclass(frozen=True)
class DecodeFailure:
    """A file without a result. `code` is a `FailureCode` or the code of a `LadderError`."""

    path: Path
    code: str
    reason: str


def failure_of(path: Path, error: Exception) -> DecodeFailure:
    """The failure that an exception of a decoder stands for."""
    if isinstance(error, FileNotFoundError):
        return DecodeFailure(path, FailureCode.MISSING, f"{path} is not a file")
    if isinstance(error, LadderError):
        return DecodeFailure(path, error.code, str(error))
    if _is_out_of_memory(error):
        reason = f"{path} needs more memory than a decoder may take: {error!r}"
        return DecodeFailure(path, FailureCode.OUT_OF_MEMORY, reason)
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return DecodeFailure(path, FailureCode.MISSING, f"{path} is a link that leads to itself")
    # a damaged file can cause any of these
    if isinstance(error, OSError | ValueError | IndexError | ZeroDivisionError):
        return DecodeFailure(path, FailureCode.UNREADABLE, f"{path}: {error!r}")
    reason = f"{path} met a fault of vqatool, please report it: {error!r}"
    return DecodeFailure(path, FailureCode.INTERNAL, reason)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


class PendingDecode(Generic[R_co]):
    """A task that was given to a `DecodePool` and may still be running."""

    def __init__(
        self,
        path: Path,
        start: "Callable[[], Future[Answer[R_co | DecodeFailure]]]",
        timeout_s: float,
    ) -> None:
        self._path, self._start, self._timeout_s = path, start, timeout_s
        self.future = start()

    def result(self) -> R_co | DecodeFailure:
        """Wait for the result, or for the reason why there is none."""
        for _ in range(_MAX_STARTS - 1):
            # pebble gives up all tasks where a worker dies before it has told which is its own
            with contextlib.suppress(BrokenProcessPool):
                return self._result()
            _log.info("%s: the workers are started again", self._path)
            self.future = self._start()
        try:
            return self._result()
        except BrokenProcessPool:
            reason = f"{self._path} crashed its decoder {_MAX_STARTS} times"
            return self._logged(DecodeFailure(self._path, FailureCode.CRASHED, reason))

    def _result(self) -> R_co | DecodeFailure:
        try:
            answer = self.future.result()
        except BrokenProcessPool:
            raise
        except TimeoutError:
            reason = f"{self._path} took over {self._timeout_s:g} s"
            failure = DecodeFailure(self._path, FailureCode.TIMEOUT, reason)
        except ProcessExpired as error:
            reason = f"{self._path} crashed its decoder ({_cause(error.exitcode)})"
            failure = DecodeFailure(self._path, FailureCode.CRASHED, reason)
        except Exception as error:  # noqa: BLE001 - a fault of vqatool must not cost other files
            failure = failure_of(self._path, error)
        else:
            return answer.logged()
        return self._logged(failure)

    def _logged(self, failure: DecodeFailure) -> DecodeFailure:
        _log.info("%s: %s", failure.code, failure.reason)
        return failure

    def cancel(self) -> None:
        """Do not start the task, or stop its worker."""
        self.future.cancel()


class DecodePool(AbstractContextManager["DecodePool"]):
    """A pool of worker processes that decode files. Leaving the context ends the workers.

    Attributes:
        num_workers: processes that decode side by side.
        num_threads: threads that each of them should decode on.
        cores: of the machine that are this pool's and its program's.

    Args:
        jobs: worker processes; None: one for each core, more than four only as memory allows.
        timeout_s: seconds that a worker has for one task.
        preloaded: modules that the tasks need beside the usual ones, if the server of the workers
            is not started yet.
        limits_memory: bound what a worker may allocate.
        cores: that this pool may use; None: all of the machine. Other pools use the others.
    """

    def __init__(
        self,
        *,
        jobs: int | None = None,
        timeout_s: float = TIMEOUT_S,
        preloaded: Sequence[str] = (),
        limits_memory: bool = True,
        cores: int | None = None,
    ) -> None:
        self.cores = cores or usable_cores()
        jobs = jobs or _default_workers(self.cores)
        self.num_workers, self.num_threads = allocate_workers(jobs, cores)
        self._timeout_s = timeout_s
        num_pools = max(1, usable_cores() // cores) if cores else 1
        share = _worker_memory_bytes(num_pools * self.num_workers)
        self._max_bytes = share if limits_memory else None
        start_server(preloaded)
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            self.num_workers,
            initializer=_prepare_worker,
            initargs=(self._max_bytes, store_environment()),
            context=_Context(),
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_workers()

    def _end_workers(self) -> None:
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def submit(self, path: Path, function: Callable[..., R], *args: Any) -> PendingDecode[R]:
        """Run `function(path, *args)` in a worker. Function, arguments and result are pickled."""
        call = (log_levels(), function, path, *args)
        return PendingDecode(path, lambda: self._schedule(call), self._timeout_s)

    def _schedule(self, call: tuple[Any, ...]) -> "Future[Any]":
        if not self._pool.active:  # it broke
            self._end_workers()
            self._pool = self._new_pool()
        return self._pool.schedule(_call, call, timeout=self._timeout_s)

    def map(
        self, tasks: Iterable[T], submit: Callable[[T], PendingDecode[R]], *, in_order: bool = True
    ) -> Generator[tuple[T, R | DecodeFailure]]:
        """Each task with its result or its failure; the next tasks run in the meantime.

        Args:
            tasks: any number of them: a few more than there are workers are submitted at once.
            submit: gives one task to this pool with `submit`.
            in_order: in the order of `tasks`, or as they are completed.
        """
        waiting = iter(tasks)
        started = deque((task, submit(task)) for task in islice(waiting, self.num_workers + 1))
        try:
            while started:
                if not in_order:
                    _move_completed_first(started)
                task, pending = started[0]
                result = pending.result()
                started.popleft()
                started.extend((task, submit(task)) for task in islice(waiting, 1))
                yield task, result
        finally:
            for _, pending in started:
                pending.cancel()


def decode_one(
    path: Path, function: Callable[..., R], *args: Any, timeout_s: float = TIMEOUT_S
) -> R | DecodeFailure:
    """`function(path, *args)` in a worker process of its own."""
    with DecodePool(jobs=1, timeout_s=timeout_s) as pool:
        return pool.submit(path, function, *args).result()


def start_server(preloaded: Sequence[str] = ()) -> None:
    """Start the server process that forks the workers, unless there is one.

    Args:
        preloaded: modules that it loads beside the usual ones.

    The server loads PyAV and numpy, which takes a while: a command calls this first and loads its
    model in the meantime.
    """
    names = [*_PRELOADED, *preloaded]
    with _starts_server:
        multiprocessing.get_context("forkserver").set_forkserver_preload(names)
        with _one_thread_each():
            forkserver.ensure_running()


@contextlib.contextmanager
def _one_thread_each() -> Generator[None]:
    """Let the libraries of a process that starts now compute on one thread.

    There are as many workers as cores. The libraries read this when they are loaded.
    """
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _move_completed_first(started: deque[tuple[T, PendingDecode[R]]]) -> None:
    wait([pending.future for _, pending in started], return_when=FIRST_COMPLETED)
    index = next(i for i, (_, pending) in enumerate(started) if pending.future.done())
    started.rotate(-index)


class Answer(NamedTuple, Generic[R_co]):
    """What a worker sends back: the result, and what it logged on the way."""

    value: R_co
    records: list[logging.LogRecord]

    def logged(self) -> R_co:
        """The result, after the program has logged what the worker did."""
        for record in self.records:
            logging.getLogger(record.name).handle(record)
        return self.value


class _RecordList(QueueHandler):
    """Collects records in a form that can be pickled.

    A queue to the program would do, but a worker that is killed while it writes would block it.
    """

    def __init__(self) -> None:
        self.records = SimpleQueue[logging.LogRecord]()  # of this process alone
        super().__init__(self.records)

    def collected(self) -> list[logging.LogRecord]:
        return [self.records.get() for _ in range(self.records.qsize())]


def log_levels() -> list[int]:
    """What this program's loggers show, for its workers to send no more than that."""
    return [logging.getLogger(name).getEffectiveLevel() for name in _LOGGERS]


def call_recorded(levels: Sequence[int], function: Callable[..., R], *args: Any) -> Answer[R]:
    """Call a function in a worker, and collect what it logs; `levels` are of `log_levels`."""
    handler = _RecordList()
    for name, level in zip(_LOGGERS, levels, strict=True):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
    return Answer(function(*args), handler.collected())


def _call(
    levels: Sequence[int], function: Callable[..., R], path: Path, *args: Any
) -> Answer[R | DecodeFailure]:
    """What a worker runs."""
    answer = call_recorded(levels, _result_or_failure, function, path, *args)
    trim_memory()
    return answer


def _result_or_failure(function: Callable[..., R], path: Path, *args: Any) -> R | DecodeFailure:
    """Errors become failures in the worker, since not every exception can be pickled."""
    try:
        return function(path, *args)
    except Exception as error:  # noqa: BLE001 - a fault of vqatool must not cost other files
        return failure_of(path, error)


class _Popen(popen_forkserver.Popen):
    """A worker that does not run the main script of the program.

    A script that scores without `if __name__ == "__main__":` would otherwise start itself again and
    again. All that workers call is in this package.
    """

    _starts_one = threading.Lock()

    def _launch(self, process_obj: Any) -> None:
        main = sys.modules["__main__"]
        with self._starts_one:
            sys.modules["__main__"] = ModuleType("__main__")  # names no file to run
            try:
                super()._launch(process_obj)  # type: ignore[misc]
            finally:
                sys.modules["__main__"] = main


class _Process(ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)


class _Context(ForkServerContext):
    Process = _Process


def _prepare_worker(max_bytes: int | None, environment: dict[str, str]) -> None:
    keep_freed_frames()
    os.environ.update(environment)  # that of the server is older, perhaps without credentials
    if max_bytes:
        _limit_memory(max_bytes)
    # Ctrl-C is for the program, which ends the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _limit_memory(max_bytes: int) -> None:
    """Bound what this process can allocate, and let the system end it before the program.

    RLIMIT_DATA counts what a process allocates. RLIMIT_AS would also count what is mapped
    or reserved without being used, which is far more than a decoder takes. Where the limit is not
    enforced, or memory runs out below it, Linux ends the process with the highest score first.
    """
    with contextlib.suppress(ValueError, OSError):  # the hard limit is lower already
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, hard))
    with contextlib.suppress(OSError):  # Linux alone has this file
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _default_workers(cores: int) -> int:
    """One for each core; more than four only if each has the memory that large frames take."""
    return min(cores, max(_FEW_WORKERS, _memory_bytes() // _LARGE_FRAMES_BYTES))


def _worker_memory_bytes(num_workers: int) -> int:
    """Bytes that one of the workers may allocate: its share of the memory for all of them."""
    return max(_MIN_WORKER_BYTES, _memory_bytes() // num_workers)


def _memory_bytes() -> int:
    """What all workers together may allocate, of the machine's memory or the container's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or one without a limit ("max")
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return int(_MEMORY_SHARE * total)


def _cause(exit_code: int) -> str:
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        return f"exit status {exit_code}"
    return f"{name}, perhaps for lack of memory" if name == "SIGKILL" else name
