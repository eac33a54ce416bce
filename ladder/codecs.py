"""What each encoder is told for a rung: effort, rate control, key frames, in its own words."""

from fractions import Fraction

from ladder.encode.rungs import DEFAULT_PRESET, Rung

Settings = dict[str, str | int]


PASS_LOG = "pass"
"""What two passes share, a file name in the folder they both run in."""


COST = {"libx264": 1.0, "libx265": 2.5, "libsvtav1": 1.0, "libvpx-vp9": 2.5}
"""Rough seconds a pixel costs against x264: they weigh the remaining work for the ETA."""


def encoder_settings(rung: Rung, fps: Fraction, *, is_10_bit: bool, run: int = 0) -> Settings:
    """ffmpeg's output options for `rung` at `fps`, without a container.

    Args:
        rung: what is aimed for.
        fps: frames a second of the source, for the distance of key frames.
        deep: 10 bit; else 8.
        run: 1 and 2 are the passes of a two-pass rung, 0 is a single run.
    """
    settings = {
        "c:v": rung.codec,
        "pix_fmt": "yuv420p10le" if is_10_bit else "yuv420p",
        **_effort(rung),
        **_rate_settings(rung),
        **_gop_settings(rung.codec, max(1, round(fps * Fraction(rung.gop_s)))),
    }
    if not run:
        return settings
    if rung.codec == "libx265":  # it takes the pass among its own parameters alone
        passes = f"pass={run}:stats={PASS_LOG}.log"
        return {**settings, "x265-params": f"{settings['x265-params']}:{passes}"}
    return {**settings, "pass": run, "passlogfile": PASS_LOG}


def _effort(rung: Rung) -> Settings:
    preset = rung.preset or DEFAULT_PRESET[rung.codec]
    if rung.codec == "libvpx-vp9":
        return {"deadline": "good", "cpu-used": preset, "row-mt": 1}
    return {"preset": preset}


def _rate_settings(rung: Rung) -> Settings:
    if rung.crf is not None:
        return _quality_settings(rung, rung.crf)
    bitrate = f"{rung.bitrate_kbps}k"
    if rung.codec == "libsvtav1":
        # it refuses a cap outside of CRF, and on several threads no two runs give the same bits
        return {"b:v": bitrate, "svtav1-params": "lp=1"}
    peak = rung.maxrate_kbps or 2 * (rung.bitrate_kbps or 0)
    return {"b:v": bitrate, "maxrate": f"{peak}k", "bufsize": f"{rung.bufsize_kbps or peak}k"}


def _quality_settings(rung: Rung, crf: int) -> Settings:
    if rung.codec == "libvpx-vp9":
        # VP9 reads a CRF as a limit to quality, and the bitrate as the cap; 0 lifts it
        return {"crf": crf, "b:v": f"{rung.maxrate_kbps}k" if rung.maxrate_kbps else 0}
    if not rung.maxrate_kbps:
        return {"crf": crf}
    bufsize = rung.bufsize_kbps or rung.maxrate_kbps
    return {"crf": crf, "maxrate": f"{rung.maxrate_kbps}k", "bufsize": f"{bufsize}k"}


def _gop_settings(codec: str, frames: int) -> Settings:
    if codec == "libx264":
        # x264 writes open groups only if asked to
        return {"g": frames, "keyint_min": frames, "sc_threshold": 0, "flags": "+cgop"}
    if codec == "libx265":
        closed = f"keyint={frames}:min-keyint={frames}:scenecut=0:open-gop=0:log-level=error"
        return {"x265-params": closed}
    return {"g": frames}
