"""Score videos on a cluster: a worker does all of a file, by what scores files on one machine."""

import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ladder.media.discover import FoundPaths
from ladder.media.ffmpeg import OnProgress
from ladder.media.hardware import find_device
from ladder.media.remote import is_url
from vqatool.cluster import RayRunner, missing_on
from vqatool.errors import ClusterError
from vqatool.inference.loading import load_predictor
from vqatool.inference.predictor import Predictor
from vqatool.inputs.decode_pool import DecodeFailure, DecodePool, FailureCode
from vqatool.memory import return_freed_memory
from vqatool.scoring.rows import FailedVideo, ScoreResult
from vqatool.scoring.run import score_with
from vqatool.scoring.segments import ScoreConfig


@dataclass(frozen=True)
class ClusterScoring:
    """How to score on a cluster: `vqatool.scoring.run.Scoring`.

    Attributes:
        runner: of the cluster.
        model: the model's file on this machine; None: the packaged one.
        device: for the workers; `auto`: the GPU of a worker that asks for one.
        batch: clips that the model takes at once; None: as the engine likes best.
    """

    runner: RayRunner
    model: Path | None = None
    device: str = "auto"
    batch: int | None = None

    def __call__(
        self, videos: Iterable[Path], predictor: Predictor, config: ScoreConfig
    ) -> Iterator[ScoreResult]:
        """The results of the videos, in order of completion; `predictor` is not asked."""
        request = self.runner.request
        prepare = _Preparation(
            data=self.model.read_bytes() if self.model else b"",
            suffix=self.model.suffix if self.model else "",
            name=predictor.name,
            device="cpu" if self.device == "auto" and not request.gpus else self.device,
            batch=self.batch,
            cores=request.cpus,
            config=config,
        )
        tasks = FoundPaths.of(videos)
        results = self.runner.run(prepare, tasks, _lost, needs=tasks[:1])
        yield from (_explained(host, result) for host, result in results)


_Result = tuple[str, ScoreResult]  # with the host of the worker


@dataclass(frozen=True)
class _Preparation:
    """What a worker needs to score files; the model's bytes travel, so only videos are shared."""

    data: bytes
    suffix: str
    name: str
    device: str
    batch: int | None
    cores: int
    config: ScoreConfig

    def __call__(self, on_progress: OnProgress | None) -> Callable[[Path], _Result]:
        predictor, host = self._predictor(), socket.gethostname()
        if predictor.name != self.name:
            raise ClusterError(
                f"the worker on {host} has model {predictor.name}, and this program has "
                f"{self.name}: install one version of vqatool on all nodes"
            )
        return_freed_memory()
        predictor.load_model()
        hardware = find_device(self.config.hardware) if self.config.hardware else ""
        config = replace(self.config, hardware=hardware)
        pool = DecodePool(timeout_s=config.timeout_s, limits_memory=not hardware, cores=self.cores)

        def score(video: Path) -> _Result:
            (result,) = score_with(pool, [video], predictor, config)
            return host, result

        return score

    def _predictor(self) -> Predictor:
        model = None
        with tempfile.TemporaryDirectory(prefix="vqatool-") as folder:
            if self.data:
                model = Path(folder) / f"model{self.suffix}"
                model.write_bytes(self.data)
            return load_predictor(model, self.device, batch=self.batch)


def _lost(video: Path, reason: str) -> _Result:
    return "", FailedVideo(DecodeFailure(video, FailureCode.CRASHED, f"{video} {reason}"))


def _explained(host: str, result: ScoreResult) -> ScoreResult:
    """The result; a file that only this machine sees has a reason that says so."""
    if not isinstance(result, FailedVideo):
        return result
    failure = result.failure
    is_here = not is_url(str(failure.path)) and failure.path.exists()
    if failure.code != FailureCode.MISSING or not is_here:
        return result
    return replace(result, failure=replace(failure, reason=missing_on(host, failure.path)))
