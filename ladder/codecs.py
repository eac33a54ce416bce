"""What each encoder is told for a rung: effort, rate control, key frames, in its own words."""

from fractions import Fraction

from ladder.rungs import Rung

GOP_S = 2
"""Seconds between key frames, closed groups, as streaming segments want them."""

Settings = dict[str, str | int]

# a good production compromise, fixed so that rungs stay comparable
_EFFORT: dict[str, Settings] = {
    "libx264": {"preset": "medium"},
    "libx265": {"preset": "fast"},
    "libsvtav1": {"preset": 8},
    "libvpx-vp9": {"deadline": "good", "cpu-used": 4, "row-mt": 1},
}

COST = {"libx264": 1.0, "libx265": 2.5, "libsvtav1": 1.0, "libvpx-vp9": 2.5}
"""Rough seconds a pixel costs against x264: they weigh the remaining work for the ETA."""


def encoder_settings(rung: Rung, fps: Fraction) -> Settings:
    """ffmpeg's output options for `rung` at `fps`, without a picture format or a container."""
    return {
        "c:v": rung.codec,
        **_EFFORT[rung.codec],
        **_rate_settings(rung),
        **_gop_settings(rung.codec, round(fps * GOP_S)),
    }


def _rate_settings(rung: Rung) -> Settings:
    if rung.bitrate_kbps is None:
        # VP9 reads a CRF as a cap on quality unless the bitrate is set to 0
        uncapped: Settings = {"b:v": 0} if rung.codec == "libvpx-vp9" else {}
        return {"crf": rung.crf or 0, **uncapped}
    bitrate, peak = f"{rung.bitrate_kbps}k", f"{2 * rung.bitrate_kbps}k"
    if rung.codec == "libsvtav1":
        return {"b:v": bitrate}  # SVT-AV1 refuses a cap outside of CRF
    return {"b:v": bitrate, "maxrate": peak, "bufsize": peak}


def _gop_settings(codec: str, frames: int) -> Settings:
    if codec == "libx264":
        return {"g": frames, "keyint_min": frames, "sc_threshold": 0}
    if codec == "libx265":
        closed = f"keyint={frames}:min-keyint={frames}:scenecut=0:open-gop=0:log-level=error"
        return {"x265-params": closed}
    return {"g": frames}
