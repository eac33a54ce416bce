"""Synthetic videos that no camera took: noise, test pictures, fractals, enlarged tiny pictures.

    python -m ladder.synthetic -o synthetic --count 400
    vqatool train encodes --outliers synthetic

A model is trained on videos that people watch, and its score of anything else means little. The
out-of-distribution detector learns from these videos what "anything else" looks like. ffmpeg's own
sources draw them, each with random parameters, size, codec and quality. A video depends on its
number alone, so a run that was killed continues, and a larger `--count` adds to what is there.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from ladder.codecs import CODECS
from ladder.encode.rungs import RateMode
from ladder.made_videos import VideoCommand, add_common_options, make_missing, report_progress
from ladder.media.ffmpeg import Ffmpeg, find_ffmpeg
from ladder.media.probe import Size
from ladder.treatments import Generation, encoder_args

_SEED = 20261127
_CRF_SHARES = (0.2, 0.88)  # of the codec's largest CRF: 10 to 45 of x264
_PRESETS = {"libx264": "veryfast", "libx265": "ultrafast", "libsvtav1": "10", "libvpx-vp9": "8"}
_SCALERS = ("neighbor", "bilinear", "bicubic", "lanczos", "area", "spline")
_RATES = (24, 25, 30, 50)

# (height, probability) of the picture
_HEIGHTS = ((240, 0.08), (360, 0.14), (480, 0.08), (540, 0.5), (720, 0.12), (1080, 0.08))

_NOISE = "mod(sin((X+{seed})*12.9898+Y*78.233+N*{motion})*43758.5453\\,1)"
"""Noise from 0 to 1 for ffmpeg's geq, whose own `random` depends on the number of threads."""


_BORDER = ((-0.7436439, -0.1318259), (0.2501, 0.0), (-1.25066, 0.02012), (-0.1011, 0.9563))
"""Places on the border of the Mandelbrot set; the first is where ffmpeg's zoom goes by default."""


class Kind(StrEnum):
    """What a synthetic video shows; the beginning of its file's name."""

    SOLID = "solid"
    BARS = "bars"
    TEST_CARD = "testsrc"
    NOISE = "noise"
    FRACTAL = "fractal"
    AUTOMATON = "automaton"
    PLATE = "plate"
    PATTERN = "pattern"
    ENLARGED = "enlarged"


# twice: those that look most like animation or an out-of-focus shot
_TURNS = (*Kind, Kind.FRACTAL, Kind.ENLARGED, Kind.TEST_CARD)


@dataclass(frozen=True, kw_only=True)
class SyntheticVideo:
    """One video: `graph` is a filter graph of ffmpeg that draws it, without the codec."""

    kind: Kind
    graph: str
    size: Size
    fps: int
    num_frames: int
    generation: Generation


def draw_video(number: int) -> SyntheticVideo:
    """Synthetic video `number`, the same in every run; the kinds take turns, some twice."""
    kind = _TURNS[number % len(_TURNS)]
    random = np.random.default_rng([_SEED, number])
    heights, weights = zip(*_HEIGHTS, strict=True)
    height = int(random.choice(heights, p=weights))
    size = Size(2 * round(height * 8 / 9), height)
    fps = int(random.choice(_RATES))
    graph = _GRAPHS[kind](random, size, fps)
    return SyntheticVideo(
        kind=kind,
        graph=f"{graph}{_changed(random, kind)},scale={size.width_px}:{size.height_px},setsar=1",
        size=size,
        fps=fps,
        num_frames=int(random.integers(20, 31)),
        generation=_coded(random),
    )


def _coded(random: np.random.Generator) -> Generation:
    codec = str(random.choice(list(_PRESETS)))
    low, high = (share * CODECS[codec].max_crf for share in _CRF_SHARES)
    return Generation(
        codec=codec,
        mode=RateMode.CRF,
        quality=round(random.uniform(low, high)),
        bits_per_pixel=0.0,
        preset=_PRESETS[codec],
        tune="",
        gop_s=float(random.choice([0.5, 2.0, 0.0])),
        has_b_frames=bool(random.random() < 0.8),
        bit_depth=10 if random.random() < 0.1 else 8,
        scale=1.0,
        scaler="bicubic",
        filter="",
    )


def _changed(random: np.random.Generator, kind: Kind) -> str:
    """Filters that move some pictures and colour others anew."""
    filters = ""
    if kind is not Kind.SOLID and random.random() < 0.3:
        h, v = random.uniform(-0.02, 0.02, 2)
        filters += f",scroll=h={h:.4f}:v={v:.4f}"
    if random.random() < 0.3:
        filters += f",hue=h={random.integers(360)}:s={random.uniform(0, 2):.2f}"
    if random.random() < 0.1:
        filters += ",negate"
    return filters


def _solid(random: np.random.Generator, size: Size, fps: int) -> str:
    grey = int(random.integers(256))
    rgb = [grey] * 3 if random.random() < 0.4 else random.integers(0, 256, 3).tolist()
    fade = ",fade=out:0:60" if random.random() < 0.15 else ""
    return _source("color", size, fps, f"c={_hex(rgb)}") + fade


def _bars(random: np.random.Generator, size: Size, fps: int) -> str:
    names = ("smptebars", "smptehdbars", "pal75bars", "pal100bars", "colorspectrum", "colorchart")
    name = str(random.choice(names))
    if name == "colorchart":  # its size is that of its patches
        patch = int(random.integers(16, 129))
        preset = random.choice(["reference", "skintones"])
        return f"colorchart=r={fps}:patch_size={patch}x{patch}:preset={preset}"
    options = f"type={random.choice(['black', 'white', 'all'])}" if name == "colorspectrum" else ""
    return _source(name, size, fps, options)


def _test_card(random: np.random.Generator, size: Size, fps: int) -> str:
    name = str(random.choice(["testsrc", "testsrc2", "testsrc2", "rgbtestsrc", "yuvtestsrc"]))
    options = ""
    if name == "testsrc":
        options = f"decimals={random.integers(4)}"
    if name == "testsrc2":
        options = f"alpha={random.integers(100, 256)}"
    # starts at another second, where the moving parts are elsewhere
    seek = f",trim=start={random.integers(4)},setpts=PTS-STARTPTS"
    return _source(name, size, fps, options) + seek


def _noise(random: np.random.Generator, size: Size, fps: int) -> str:
    if random.random() < 0.5:
        grey, strength = random.integers(256), int(random.integers(12, 101))
        planes = random.choice(["alls", "c0s"])
        flags = random.choice(["t", "t+u", "u", "a"])
        flag_of = "allf" if planes == "alls" else "c0f"
        rgb = [int(grey)] * 3 if random.random() < 0.6 else random.integers(0, 256, 3).tolist()
        noise = f"noise={planes}={strength}:{flag_of}={flags}:all_seed={random.integers(10**6)}"
        return _source("color", size, fps, f"c={_hex(rgb)}") + f",format=yuv420p,{noise}"
    divisor = float(random.choice([1, 1, 2, 4]))
    small = Size(round(size.width_px / divisor), round(size.height_px / divisor))
    return _random_picture(random, small, fps)


def _fractal(random: np.random.Generator, size: Size, fps: int) -> str:
    if random.random() < 0.2:
        options = f"type={random.choice(['carpet', 'triangle'])}:seed={random.integers(10**6)}"
        return _source("sierpinski", size, fps, f"{options}:jump={random.integers(1, 200)}")
    # places on the border of the set, where there is something to see; half of them from afar
    x, y = _BORDER[int(random.integers(len(_BORDER)))]
    low, high = (0.5, 4) if random.random() < 0.5 else (1e-4, 0.5)
    scale = float(np.exp(random.uniform(np.log(low), np.log(high))))
    return _source(
        "mandelbrot", size, fps,
        f"start_x={x}:start_y={y}:start_scale={scale:.6f}:end_scale={scale / 10:.7f}"
        f":end_pts={random.integers(30, 400)}:maxiter={random.integers(60, 1500)}"
        f":outer={random.choice(['iteration_count', 'normalized_iteration_count', 'outz'])}"
        f":inner={random.choice(['black', 'period', 'convergence', 'mincol'])}",
    )  # fmt: skip


def _automaton(random: np.random.Generator, size: Size, fps: int) -> str:
    divisor = int(random.choice([1, 1, 2, 4, 8]))
    small = Size(size.width_px // divisor, size.height_px // divisor)
    enlarge = f",scale={size.width_px}:{size.height_px}:flags=neighbor"
    if random.random() < 0.5:
        rule = random.choice([18, 22, 30, 45, 54, 60, 73, 90, 105, 110, 126, 150])
        return (
            _source(
                "cellauto",
                small,
                fps,
                f"rule={rule}:seed={random.integers(10**6)}"
                f":ratio={random.uniform(0.05, 0.9):.2f}:scroll={random.integers(2)}"
                f":start_full={random.integers(2)}",
            )
            + enlarge
        )
    life, death, mould = (_hex(random.integers(0, 256, 3).tolist()) for _ in range(3))
    colours = f":life_color={life}:death_color={death}:mold_color={mould}"
    return (
        _source(
            "life",
            small,
            fps,
            f"seed={random.integers(10**6)}:ratio={random.uniform(0.05, 0.7):.2f}"
            f":mold={random.integers(0, 60)}"
            + (colours if random.random() < 0.7 else "")
            + f":rule={random.choice(['S23/B3', 'S12345/B3', 'S23/B36', 'S5678/B35678'])}",
        )
        + enlarge
    )


def _plate(random: np.random.Generator, size: Size, fps: int) -> str:
    if random.random() < 0.5:
        types = ["linear", "radial", "circular", "spiral"]
        return _source(
            "gradients",
            size,
            fps,
            f"n={random.integers(2, 9)}:seed={random.integers(10**6)}"
            f":speed={random.uniform(0.00001, 0.2):.5f}:type={random.choice(types)}",
        )
    terms = {
        "kx2": int(random.integers(0, 400)),
        "ky2": int(random.integers(0, 400)),
        "kxy": int(random.integers(0, 200)) if random.random() < 0.3 else 0,
        "kx": int(random.integers(0, 200)) if random.random() < 0.3 else 0,
        "ku": int(random.integers(0, 600)) if random.random() < 0.4 else 0,
        "kt": int(random.integers(0, 30)),
        "kt2": int(random.integers(0, 20)) if random.random() < 0.4 else 0,
    }
    return _source("zoneplate", size, fps, ":".join(f"{k}={v}" for k, v in terms.items()))


def _pattern(random: np.random.Generator, size: Size, fps: int) -> str:
    step, other = (float(np.exp(random.uniform(np.log(2), np.log(size.height_px / 2))))
                   for _ in range(2))  # fmt: skip
    low, high = sorted(random.integers(0, 256, 2).tolist())
    slope = random.uniform(-2, 2)
    shapes = (
        f"mod(floor(X/{step:.1f})+floor(Y/{other:.1f})\\,2)",
        f"mod(floor((X+{slope:.2f}*Y)/{step:.1f})\\,2)",
        f"(0.5+0.5*sin(X/{step:.1f}))",
        f"(0.5+0.5*sin((X+{slope:.2f}*Y)/{step:.1f})*cos(Y/{other:.1f}))",
        "X/W",
        f"mod((X+{slope:.2f}*Y)/{step:.1f}\\,1)",
        f"lt(hypot(mod(X\\,{step:.1f})-{step / 2:.1f}\\,mod(Y\\,{step:.1f})-{step / 2:.1f})"
        f"\\,{step / 3:.1f})",
        f"(0.5+0.5*cos(hypot(X-W/2\\,Y-H/2)/{step:.1f}))",
    )
    shape = shapes[int(random.integers(len(shapes)))]
    cb, cr = random.integers(60, 196, 2) if random.random() < 0.4 else (128, 128)
    picture = f"geq=lum='{low}+{high - low}*{shape}':cb={cb}:cr={cr}"
    # drawn once; half of them move
    move = f",scroll=h={random.uniform(-0.02, 0.02):.4f}" if random.random() < 0.5 else ""
    return _source("nullsrc", size, fps, "") + f",{picture},loop=-1:1{move}"


def _enlarged(random: np.random.Generator, size: Size, fps: int) -> str:
    small = Size(*(int(side) for side in random.integers(4, 33, 2)))
    if random.random() < 0.5:
        small = Size(small.height_px, small.height_px)
    way = int(random.integers(5))
    if way == 0:
        tiny = _random_picture(random, small, fps)
    elif way == 1:
        colours = f"n={random.integers(3, 9)}:seed={random.integers(10**6)}:speed=0.02"
        tiny = _source("gradients", Size(64, 64), fps, colours)
        tiny += f",scale={small.width_px}:{small.height_px}:flags=area"
    elif way == 2:
        # coarse colours, finer ones on top: like a small photograph
        coarse = _random_picture(random, Size(3, 3), fps, is_still=True)
        tiny = f"{coarse},scale={small.width_px}:{small.height_px}:flags=bicubic"
        tiny += f",noise=alls={random.integers(5, 60)}:all_seed={random.integers(10**6)}"
    elif way == 3:
        tiny = _shimmer(random, small, fps)
    else:
        card = _random_card(random, fps)
        tiny = f"{card},scale={small.width_px}:{small.height_px}:flags=area"
    scaler = random.choice(_SCALERS)
    large = f"scale={size.width_px}:{size.height_px}:flags={scaler}"
    return f"{tiny},format=yuv444p,{large}"


def _shimmer(random: np.random.Generator, size: Size, fps: int) -> str:
    """Random pixels that change slowly, each in its own rhythm, like a filmed scene from afar."""
    planes = []
    for contrast in (random.uniform(40, 160), *random.uniform(0, 60, 2)):
        place, phase = (_NOISE.format(seed=random.integers(1000), motion=0) for _ in range(2))
        sway = f"{contrast / 4:.0f}*sin(N/{random.uniform(2, 20):.1f}+6.28*{phase})"
        planes.append(f"'128+{contrast:.0f}*({place}-0.5)+{sway}'")
    lum, cb, cr = planes
    picture = _source("nullsrc", size, fps, "")
    return f"{picture},format=yuv444p,geq=lum={lum}:cb={cb}:cr={cr}"


def _random_card(random: np.random.Generator, fps: int) -> str:
    draw = (_test_card, _fractal, _bars)[int(random.integers(3))]
    return draw(random, Size(320, 180), fps)


def _random_picture(
    random: np.random.Generator, size: Size, fps: int, *, is_still: bool | None = None
) -> str:
    """Every pixel is drawn alone: in black and white or in colour, still or new in each frame."""
    still = random.random() < 0.5 if is_still is None else is_still
    motion = 0 if still else 37.719
    planes = [_NOISE.format(seed=random.integers(1000), motion=motion) for _ in range(3)]
    contrast = random.uniform(0.2, 1)
    base = random.uniform(0, 255 * (1 - contrast))
    lum, red, blue = (f"{base:.0f}+{255 * contrast:.0f}*{plane}" for plane in planes)
    chroma = "cb=128:cr=128" if random.random() < 0.4 else f"cb='{blue}':cr='{red}'"
    loop = ",loop=-1:1" if still else ""
    picture = _source("nullsrc", size, fps, "")
    return f"{picture},format=yuv444p,geq=lum='{lum}':{chroma}{loop}"


def _source(name: str, size: Size, fps: int, options: str) -> str:
    more = f":{options}" if options else ""
    return f"{name}=s={size.width_px}x{size.height_px}:r={fps}{more}"


def _hex(rgb: Sequence[int]) -> str:
    return "0x" + "".join(f"{value:02x}" for value in rgb)


_GRAPHS: Mapping[Kind, Callable[[np.random.Generator, Size, int], str]] = {
    Kind.SOLID: _solid,
    Kind.BARS: _bars,
    Kind.TEST_CARD: _test_card,
    Kind.NOISE: _noise,
    Kind.FRACTAL: _fractal,
    Kind.AUTOMATON: _automaton,
    Kind.PLATE: _plate,
    Kind.PATTERN: _pattern,
    Kind.ENLARGED: _enlarged,
}


def make_synthetic(
    folder: Path, count: int, ffmpeg: Ffmpeg, *, jobs: int | None = None
) -> Generator[tuple[Path, Exception | None]]:
    """Make the synthetic videos 0 to `count` - 1 that are missing; yields each as it is done.

    A video that cannot be made leaves no file, and comes with the reason.

    Raises:
        LockedError: another run uses the folder.
    """
    drawn = map(draw_video, range(count))
    videos = {
        f"{video.kind}-{number:04d}.mp4": functools.partial(_command, video)
        for number, video in enumerate(drawn)
    }
    yield from make_missing(folder, videos, ffmpeg, jobs=jobs)


def _command(video: SyntheticVideo) -> VideoCommand:
    coding = encoder_args(video.generation, video.size, video.fps)
    length = ["-frames:v", str(video.num_frames)]
    arguments = ["-f", "lavfi", "-i", video.graph, *length, *coding]
    return VideoCommand(arguments, video.num_frames / video.fps)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the videos; returns the exit code that `vqatool ladder` would."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder.synthetic", description="Make videos that no camera took."
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("synthetic"), help="folder")
    parser.add_argument("--count", type=int, default=300, help="number of videos")
    add_common_options(parser)
    options = parser.parse_args(arguments)
    made = make_synthetic(options.out, options.count, find_ffmpeg(), jobs=options.jobs)
    return report_progress(options.out, made)


if __name__ == "__main__":
    sys.exit(main())
