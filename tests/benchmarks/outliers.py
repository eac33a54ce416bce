"""How many synthetic videos get the warning `out_of_domain`, and how many clean ones.

    python -m ladder.synthetic -o signals --count 90
    python -m tests.benchmarks.outliers model.safetensors signals clean/*.mp4

Every video is judged as a whole by the model file (`default`: the packaged one), at its own size
and on displays from 360 to 2160 lines. The table has the share that is flagged: of each kind of
synthetic video, which is the beginning of its file's name, of all of them, and of the clean clips.
The signals have to be others than those that the detector has learned from.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ladder.media.discover import find_videos
from vqatool.inference.loading import load_predictor
from vqatool.inference.predictor import Predictor
from vqatool.inputs.decode_pool import DecodeFailure, DecodePool
from vqatool.inputs.preprocessor import decode_views

DISPLAYS = {
    "native": None,
    "360": (640, 360),
    "540": (960, 540),
    "720": (1280, 720),
    "1080": (1920, 1080),
    "2160": (3840, 2160),
}
ALL_SIGNALS, CLEAN = "all signals", "clean"


def flags(
    predictor: Predictor, paths: Iterable[Path], display: tuple[int, int] | None, pool: DecodePool
) -> Iterator[tuple[Path, bool]]:
    """Each video that can be decoded, and whether it is flagged."""
    preprocessor = replace(predictor.preprocessor, threads=pool.num_threads)
    decoded = pool.map(paths, lambda path: pool.submit(path, decode_views, preprocessor, display))
    for path, views in decoded:
        if isinstance(views, DecodeFailure):
            sys.stderr.write(f"{views.reason}\n")
            continue
        yield path, predictor.is_out_of_distribution([predictor.predict([views])])


def share(found: Sequence[bool]) -> str:
    """Such as `3 of 40`."""
    return f"{sum(found)} of {len(found)}" if found else "-"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.outliers")
    parser.add_argument("model", help="model file, or default")
    parser.add_argument("signals", type=Path, help="folder of synthetic videos")
    parser.add_argument("clean", nargs="*", type=Path, help="clean real videos, or folders")
    parser.add_argument("--displays", nargs="+", choices=DISPLAYS, default=list(DISPLAYS))
    parser.add_argument("--jobs", type=int, help="processes; default: one for each core")
    options = parser.parse_args(arguments)
    predictor = load_predictor(None if options.model == "default" else Path(options.model))
    signals, clean = find_videos([options.signals]).videos, find_videos(options.clean).videos
    found: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    with DecodePool(jobs=options.jobs) as pool:
        for name in options.displays:
            for path, is_flagged in flags(predictor, signals, DISPLAYS[name], pool):
                for kind in (path.stem.partition("-")[0], ALL_SIGNALS):
                    found[kind][name].append(is_flagged)
            for _, is_flagged in flags(predictor, clean, DISPLAYS[name], pool):
                found[CLEAN][name].append(is_flagged)
    table = Table("flagged", *options.displays, title=f"{options.model}: {predictor.name}")
    kinds = sorted(set(found) - {ALL_SIGNALS, CLEAN})
    for kind in (*kinds, ALL_SIGNALS, CLEAN):
        table.add_row(kind, *(share(found[kind][name]) for name in options.displays))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
