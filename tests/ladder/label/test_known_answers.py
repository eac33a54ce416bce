"""VMAF values of others: Netflix's published pairs, if present, and another program's.

Name a folder that holds the files in $VQATOOL_NETFLIX_FILES: those of Netflix/vmaf_resource on
GitHub, python/test/resource/mp4 and /yuv. The figures stand in Netflix/vmaf:
resource/doc/ffmpeg.md and python/test/vmafexec_test.py (test_run_vmafexec_runner_yuv420p10le_b).
"""

import os
from pathlib import Path

import pytest

from ladder.encode.ladders import Ladder
from ladder.encode.plan import plan_ladder
from ladder.encode.run import make_encodes
from ladder.encode.rungs import Rung
from ladder.media.ffmpeg import Ffmpeg, run
from tests.ladder.conftest import label, vmaf
from vqatool.cli.demo import demo_clip

FOLDER = Path(os.environ.get("VQATOOL_NETFLIX_FILES", "no such folder"))

needs_netflix_files = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="$VQATOOL_NETFLIX_FILES names no folder with Netflix's pairs"
)


@pytest.mark.slow
@needs_netflix_files
def test_the_pair_of_the_ffmpeg_page(ffmpeg: Ffmpeg) -> None:
    """288p against 480p, enlarged with bicubic."""
    encode, source = (
        FOLDER / name for name in ("Seeking_10_288_375.mp4", "Seeking_30_480_1050.mp4")
    )
    # rounding differs between builds of the scaler and of libvmaf in the fourth decimal
    assert vmaf(encode, source, ffmpeg) == pytest.approx(51.017497, abs=0.001)


@needs_netflix_files
def test_the_ten_bit_pair_of_the_test_suite(ffmpeg: Ffmpeg, tmp_path: Path) -> None:
    """Three raw frames of src01, put into a container without loss."""
    pair = []
    for name in ("hrc01", "hrc00"):
        raw = FOLDER / f"src01_{name}_576x324.yuv420p10le.yuv"
        kept = tmp_path / f"{name}.mkv"
        read = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", "576x324", "-r", "25"]
        run(ffmpeg, [*read, "-i", str(raw), "-c:v", "ffv1", str(kept)])
        pair.append(kept)
    assert vmaf(pair[0], pair[1], ffmpeg) == pytest.approx(82.564225, abs=0.001)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_a_real_encode_has_the_vmaf_that_ffmpeg_quality_metrics_gives(
    ffmpeg: Ffmpeg, tmp_path: Path, name: str
) -> None:
    peer = pytest.importorskip("ffmpeg_quality_metrics")
    clip = demo_clip().with_name(f"{name}.mp4")
    source, folder = tmp_path / "clip.mp4", tmp_path / "work"
    size = ["-vf", "scale=320:180:flags=area,setsar=1,format=yuv420p", "-frames:v", "25"]
    run(ffmpeg, ["-i", str(clip), *size, "-an", "-c:v", "libx264", "-crf", "4", str(source)])
    ladder = Ladder((Rung(height_px=180, crf=33), Rung(height_px=90, bitrate_kbps=150)))
    encodes = list(make_encodes(plan_ladder([source], ladder, folder), folder, ffmpeg))
    labels = label(folder, ffmpeg)
    assert len(encodes) == 2
    for encode in encodes:
        theirs = peer.FfmpegQualityMetrics(
            str(source),
            str(folder / encode.encode_path),
            ffmpeg_path=ffmpeg.path,
            tmp_dir=str(tmp_path),
        )
        model = {"model_path": "vmaf_v0.6.1.json"}
        frames = theirs.calculate(["vmaf"], vmaf_options=model)["vmaf"]
        mean = sum(frame["vmaf"] for frame in frames) / len(frames)
        row = labels[encode.rung]
        assert row.frames_compared == len(frames) == 25
        assert 10 < mean < 99
        assert row.vmaf == pytest.approx(mean, abs=0.01)
