"""Run the tasks of a stage on a cluster with Ray: actors do them, and this program gathers results.

Ray places the workers, asks for nodes where they do not fit, and tells that one has died. It is not
left to Ray to do a task again: it would wait for a place for that same worker, while others are
idle. So a task of a worker that died goes to the next worker that is free, and a new worker is
asked for. A worker has one task at a time: what it dies of is then no doubt.
"""

import contextlib
import logging
import os
import socket
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ladder.media.ffmpeg import OnProgress, allocate_workers
from ladder.media.remote import is_url
from ladder.runner import OnLost, Prepare, no_progress
from vqatool import __version__
from vqatool.errors import ClusterError
from vqatool.inputs.decode_pool import Answer, call_recorded, log_levels

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "ray"
"""The address of a cluster on this machine that is started for the run, or of $RAY_ADDRESS."""

CLIENT_PREFIX = "ray://"
"""How the address of another cluster begins."""

MAX_STARTS = 3
"""How often a task is started before it counts as what ends its workers."""

_STORE_BYTES = 100 * 2**20  # of a cluster of our own: rows are small, and no frame comes back
_NOTE_EVERY_S = 60.0
_SHARED = "workers must reach the same files by the same paths: use a shared file system"

_Ref = Any  # ray.ObjectRef
_Actor = Any  # the handle of a `_Worker`

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterRequest:
    """Where to run, and on what.

    Attributes:
        address: `LOCAL`, or that of a cluster.
        workers: processes to ask for; None: as many as fit into the nodes that there are.
        cpus: cores of each.
        gpus: of each; a fraction shares one.
    """

    address: str
    workers: int | None = None
    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class _Order(Generic[T, R]):
    """What every worker of a run is told once."""

    prepare: Prepare[T, R]
    levels: Sequence[int]
    folder: Path
    needs: Sequence[Path]


class _Worker(Generic[T, R]):
    """The actor: it loads what tasks need once, and does one task at a time.

    The order is pickled a second time, so that a worker of another version is found out before it
    reads it.
    """

    def __init__(self, version: str, order: bytes) -> None:
        self._version, self._order = version, order
        self._levels: Sequence[int] = ()
        self._work: Callable[[T], R] | None = None

    def start(self) -> None:
        """Make ready; raises ClusterError where this machine cannot do the work."""
        host = socket.gethostname()
        if self._version != __version__:
            raise ClusterError(
                f"the worker on {host} has vqatool {__version__}, and this program is "
                f"{self._version}: install one version on all nodes"
            )
        from ray import cloudpickle

        order: _Order[T, R] = cloudpickle.loads(self._order)
        self._levels = order.levels
        _enter(order.folder)
        for path in order.needs:
            if not path.exists():
                raise ClusterError(f"the worker on {host} cannot read {path}: {_SHARED}")
        self._work = call_recorded(order.levels, order.prepare, None).value

    def do(self, task: T) -> Answer[R]:
        """The result of a task, and what was logged."""
        assert self._work
        return call_recorded(self._levels, self._work, task)


def _enter(folder: Path) -> None:
    """Let relative paths mean what they mean to the program, or nothing at all."""
    try:
        os.chdir(folder)
    except OSError:
        os.chdir(tempfile.mkdtemp(prefix="vqatool-"))


def missing_on(host: str, path: Path) -> str:
    """Why a worker has no result for a file that the program can read."""
    return f"{path} is on this machine, but not on worker {host}: {_SHARED}"


@contextlib.contextmanager
def connected(request: ClusterRequest) -> Iterator["RayRunner"]:
    """A runner on the cluster; one that is started here ends with the block.

    A program that is connected to a cluster already stays so.

    Raises:
        ClusterError: the cluster cannot be reached, or no worker fits into it.
        ModuleNotFoundError: Ray is not installed.
    """
    import ray

    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, request.address)
    try:
        with _quiet(ray):
            yield RayRunner(ray, request)
    except ConnectionError as error:
        raise ClusterError(
            f"the connection to {request.address} is lost ({error}): run the same command again"
        ) from error
    finally:
        if is_ours:
            ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    named = os.environ.get("RAY_ADDRESS") if address == LOCAL else address
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if not named:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # 15 by default, which is for others' work on a shared node
        os.environ.setdefault("RAY_worker_niceness", "0")
        settings |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    # its notes on how it starts are no concern of ours
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is raised as well
            ray.init(named or "local", **settings)
    except (OSError, RuntimeError, ValueError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ClusterError(
            f"no cluster is reached at {named}: {reason}"
            if named
            else f"Ray does not start on this machine: {reason}"
        ) from error


@contextlib.contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Keep Ray from printing to stdout, where rows may go, that a worker has died."""
    module = ray._private.worker
    before = module._worker_logs_enabled
    module._worker_logs_enabled = False
    try:
        yield
    finally:
        module._worker_logs_enabled = before


class RayRunner:
    """Runs the tasks of a stage on a cluster: `ladder.runner.Runner`."""

    def __init__(self, ray: Any, request: ClusterRequest) -> None:
        self._ray, self.request = ray, request
        self.num_workers = request.workers or self._fitting()

    def _fitting(self) -> int:
        """The workers that fit into the nodes that there are."""
        wanted = {"CPU": self.request.cpus, "GPU": self.request.gpus}
        count = 0
        for node in self._ray.nodes():
            has = node["Resources"] if node["Alive"] else {}
            count += int(min(has.get(name, 0) // each for name, each in wanted.items() if each))
        if not count:
            gpus = f" and {self.request.gpus:g} GPUs" if self.request.gpus else ""
            raise ClusterError(
                f"no node of the cluster has {self.request.cpus} CPUs{gpus} for a worker: ask for "
                "less, or name --workers N where nodes are added as they are asked for"
            )
        return count

    def allocate(self, most: int | None = None) -> tuple[int, int]:
        """(tasks at once, threads of each)."""
        at_once = self.num_workers if most is None else max(1, min(self.num_workers, most))
        return at_once, self.request.cpus

    def spare(self, num_tasks: int) -> int:
        """Processes of a worker, for its own cores: those of other workers are out of reach."""
        return allocate_workers(None, self.request.cpus)[0]

    def run(
        self,
        prepare: Prepare[T, R],
        tasks: Sequence[T],
        on_lost: OnLost[T, R],
        *,
        on_progress: OnProgress = no_progress,
        needs: Sequence[Path] = (),
    ) -> Generator[R]:
        """The results of the tasks, in order of completion; at most one a worker is on its way.

        Raises:
            ClusterError: workers cannot be started, or cannot do the work.
            Exception: what `prepare` or a task raised; a file's fault is a result, not an error.
        """
        # each worker opens a URL itself, and its row says where it cannot
        seen = [path for path in needs if not is_url(str(path)) and path.exists()]
        order = _Order(prepare, log_levels(), Path.cwd(), seen)
        crew: _Crew[T, R] = _Crew(self._ray, self.request, self.allocate(len(tasks))[0], order)
        try:
            yield from crew.results(tasks, on_lost)
        finally:
            crew.dismiss()


class _Crew(Generic[T, R]):
    """The workers of one run, and what each is doing."""

    def __init__(self, ray: Any, request: ClusterRequest, size: int, order: _Order[T, R]) -> None:
        self._ray = ray
        # workers need no pickled copy of a class that they have installed
        self._type = ray.remote(_Worker).options(
            num_cpus=request.cpus, num_gpus=request.gpus, scheduling_strategy="SPREAD"
        )
        self._order = ray.put(ray.cloudpickle.dumps(order))
        self._starting: dict[_Ref, _Actor] = {}
        self._idle: deque[_Actor] = deque()
        self._running: dict[_Ref, tuple[_Actor, int]] = {}
        self._failed_starts, self._max_failed_starts = 0, MAX_STARTS * size
        for _ in range(size):
            self._hire()

    def _hire(self) -> None:
        actor = self._type.remote(__version__, self._order)
        self._starting[actor.start.remote()] = actor

    def dismiss(self) -> None:
        """End the workers, whatever they are doing."""
        running = [actor for actor, _ in self._running.values()]
        for actor in [*self._starting.values(), *self._idle, *running]:
            self._dismiss(actor)

    def _dismiss(self, actor: _Actor) -> None:
        with contextlib.suppress(ConnectionError, self._ray.exceptions.RayError):
            self._ray.kill(actor)

    def results(self, tasks: Sequence[T], on_lost: OnLost[T, R]) -> Iterator[R]:
        """The result of each task; a task that ends its worker each time is lost."""
        waiting, losses = deque(range(len(tasks))), Counter[int]()
        while waiting or self._running:
            found: list[R] = []
            for ref in self._done():
                if ref in self._starting:
                    self._welcome(ref)
                    continue
                actor, number = self._running.pop(ref)
                try:
                    found.append(self._fetch(ref).logged())
                    self._idle.append(actor)
                    self._failed_starts = 0
                except _Lost as lost:
                    _log.info("a worker is lost: %s", lost)
                    self._replace(actor)
                    losses[number] += 1
                    if losses[number] < MAX_STARTS:
                        waiting.appendleft(number)
                    else:
                        found.append(on_lost(tasks[number], f"crashed {MAX_STARTS} workers"))
            while waiting and self._idle:
                actor, number = self._idle.popleft(), waiting.popleft()
                self._running[actor.do.remote(tasks[number])] = actor, number
            # the workers are busy while the caller writes
            yield from found

    def _done(self) -> list[_Ref]:
        """Wait for some of what is on its way."""
        refs = [*self._running, *self._starting]
        done, _ = self._ray.wait(refs, num_returns=1, timeout=_NOTE_EVERY_S)
        if not done and not self._running and not self._idle:
            _log.warning(
                "none of %d workers has started yet: is there room in the cluster?",
                len(self._starting),
            )
        # all that is done by now, since each wait looks at all
        return self._ray.wait(refs, num_returns=len(refs), timeout=0)[0] if done else []

    def _welcome(self, ref: _Ref) -> None:
        actor = self._starting.pop(ref)
        try:
            self._fetch(ref)
        except _Lost as lost:
            self._failed_starts += 1
            if self._failed_starts > self._max_failed_starts:
                raise ClusterError(
                    f"workers end while they start ({lost}): has every node the same vqatool?"
                ) from lost
            self._replace(actor)
        else:
            self._idle.append(actor)

    def _replace(self, actor: _Actor) -> None:
        self._dismiss(actor)  # it may only be out of reach
        self._hire()

    def _fetch(self, ref: _Ref) -> Any:
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(ref)
        except exceptions.RayTaskError as error:
            raise error.cause from None
        except exceptions.RayError as error:
            raise _Lost(_words(error)) from error


def _words(error: Exception) -> str:
    """The first line of Ray's message, and the last, which has the cause where there is one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or repr(error)


class _Lost(Exception):
    """A worker died, or is out of reach; the message is Ray's."""
