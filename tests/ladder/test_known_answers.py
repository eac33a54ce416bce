"""Netflix's own published figures, where their files are at hand.

Name a folder that holds them in $VQATOOL_NETFLIX_FILES: the files of Netflix/vmaf_resource on
GitHub, python/test/resource/mp4 and /yuv. The figures stand in Netflix/vmaf:
resource/doc/ffmpeg.md and python/test/vmafexec_test.py (test_run_vmafexec_runner_yuv420p10le_b).
"""

import os
from pathlib import Path

import pytest

from ladder import Ffmpeg, probe
from ladder.ffmpeg import run
from ladder.probe import count_frames
from ladder.vmaf import Pairing, measure, metric_of, parse_log, pool

FOLDER = Path(os.environ.get("VQATOOL_NETFLIX_FILES", "no such folder"))
MODEL = "vmaf_v0.6.1"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="$VQATOOL_NETFLIX_FILES names no folder with Netflix's pairs"
)


def vmaf_of(encode: Path, source: Path, ffmpeg: Ffmpeg) -> float:
    pairing = Pairing(frames_source=count_frames(source), frames_encode=count_frames(encode))
    log = parse_log(measure(probe(encode), probe(source), pairing, (MODEL,), ffmpeg))
    return pool(log.metrics[metric_of(MODEL)]).mean


def test_the_pair_of_the_ffmpeg_page(ffmpeg: Ffmpeg) -> None:
    """288p against 480p, enlarged with bicubic."""
    encode, source = (
        FOLDER / name for name in ("Seeking_10_288_375.mp4", "Seeking_30_480_1050.mp4")
    )
    # rounding differs between builds of the scaler and of libvmaf in the fourth decimal
    assert vmaf_of(encode, source, ffmpeg) == pytest.approx(51.017497, abs=0.001)


def test_the_ten_bit_pair_of_the_test_suite(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    """Three raw frames of src01, put into a container without loss."""
    pair = []
    for name in ("hrc01", "hrc00"):
        raw = FOLDER / f"src01_{name}_576x324.yuv420p10le.yuv"
        kept = tmp_path / f"{name}.mkv"
        read = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "576x324", "-r", "25"]
        run(ffmpeg, [*read, "-i", str(raw), "-c:v", "ffv1", str(kept)])
        pair.append(kept)
    assert vmaf_of(pair[0], pair[1], ffmpeg) == pytest.approx(82.564225, abs=0.001)
