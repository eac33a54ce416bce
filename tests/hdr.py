"""HDR versions of SDR videos, as ITU-R BT.2408 puts SDR into HDR: white at 203 cd/m2."""

from pathlib import Path

from tests.conftest import MakeVideo

TRANSFERS = {"pq": "smpte2084", "hlg": "arib-std-b67"}
"""The name that ffmpeg has for each kind of HDR."""


def as_hdr(make_video: MakeVideo, sdr: Path, hdr: str, *args: str) -> Path:
    """`sdr` as HDR of a kind, near-lossless, in 10 bit; the args change the encoder's."""
    transfer = TRANSFERS[hdr]
    graph = (
        "setparams=color_trc=bt709:color_primaries=bt709:colorspace=bt709:range=tv,"
        "zscale=t=linear:npl=203,format=gbrpf32le,"
        f"zscale=t={transfer}:m=bt2020nc:p=bt2020:r=tv:npl=203,format=yuv420p10le"
    )
    tags = ("-color_trc", transfer, "-color_primaries", "bt2020", "-colorspace", "bt2020nc")
    encoder = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error")
    name = f"{sdr.stem}-{hdr}{''.join(args)}.mp4"
    return make_video(name, sdr, ("-vf", graph, *encoder, "-crf", "4", *args, *tags))
