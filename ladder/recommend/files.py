"""What a recommendation leaves behind: JSON, a ladder file, stubs of HLS and DASH manifests.

`write_files` writes them; the chart is in `ladder.recommend.chart`.
"""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from ladder.encode.plan import EncodeRow
from ladder.encode.rungs import Rung
from ladder.media.rendition import Rendition, read_rendition
from ladder.recommend.chart import chart_svg
from ladder.recommend.points import Point
from ladder.recommend.probed import Measured
from ladder.recommend.run import ChosenRung, Recommendation
from ladder.storage import atomic_write

FORMAT = "vqatool recommend 1"
"""The key `format` of the JSON file; the number changes where its keys do."""

FOLDER = "ladders"
"""Folder of the files inside the work folder."""

_SUFFIXES = ("json", "svg", "toml", "m3u8.stub", "mpd.stub")

_TENTH, _FINE = 1, 4  # digits


def write_files(found: Recommendation, folder: Path) -> list[Path]:
    """Write NAME.json, .svg, .toml, and of measured rungs stubs of manifests; returns their paths.

    They lie in `folder`/ladders; NAME is that of the source in the work folder `folder`. The stubs
    are no .m3u8 and .mpd, because until they are packaged they are no videos.

    Raises:
        OutputError: a file cannot be written.
        VideoError: a measured encode cannot be read.
    """
    texts = {
        "json": json.dumps(as_json(found), indent=1, ensure_ascii=True) + "\n",
        "svg": chart_svg(found),
        "toml": ladder_toml(found),
    }
    renditions = [
        (rung, read_rendition(folder / rung.measured.encode.encode_path))
        for rung in found.rungs
        if rung.measured and rung.measured.point
    ]
    if renditions:
        texts["m3u8.stub"] = master_playlist(renditions)
        texts["mpd.stub"] = dash_manifest(renditions, _duration_s(found))
    paths = output_paths(found.probed.name, folder)
    for suffix, text in texts.items():
        with atomic_write(paths[suffix]) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    return [paths[suffix] for suffix in texts]


def output_paths(name: str, folder: Path) -> dict[str, Path]:
    """The files that `write_files` may write for the source `name`, by suffix."""
    return {suffix: folder / FOLDER / f"{name}.{suffix}" for suffix in _SUFFIXES}


def as_json(found: Recommendation) -> dict[str, Any]:
    """The whole recommendation with all samples, as JSON values; None is "not known".

    Its `samples` are a table that `vqatool bdrate` reads.
    """
    probed, request = found.probed, found.request
    return {
        "format": FORMAT,
        "source": {
            "name": probed.name,
            "path": str(probed.encodes[0].encode.source_path),
            "display_width_px": probed.display_size[0],
            "display_height_px": probed.display_size[1],
            "pieces": probed.encodes[0].encode.pieces,
        },
        "request": {
            **dataclasses.asdict(probed.delivery),
            **{
                key: value
                for key, value in dataclasses.asdict(request.limits).items()
                if key != "spacing"
            },
            "spacing": f"{request.limits.spacing.axis}:{request.limits.spacing.step:g}",
            "quality": "vmaf_p5" if request.is_p5 else "vmaf",
            "vmaf_model": probed.labels.models[0],
        },
        "samples": [_sample(each) for each in found.encodes],
        "curves": [
            {"height_px": curve.height_px, "points": _rounded(curve.points)}
            for curve in found.envelope.curves
        ],
        "hull": _rounded(found.envelope.hull()),
        "crossovers": [
            {
                **dataclasses.asdict(crossover),
                "rate_kbps": round(crossover.rate_kbps, _TENTH),
                "quality": round(crossover.quality, _FINE),
            }
            for crossover in found.envelope.crossovers()
        ],
        "rungs": [_rung(rung) for rung in found.rungs],
        "mean_error": _round(found.mean_error, _FINE),
        "against": {
            "name": request.against_name,
            "rungs": [
                {
                    **_sample(each.measured),
                    "recommended_kbps": _round(each.rate_kbps, _TENTH),
                    "saving": _round(each.saving, _FINE),
                }
                for each in found.against
            ],
            "bd_rate": _round(found.bd_rate, _FINE),
            "no_bd_rate": found.no_bd_rate,
        }
        if request.against
        else None,
    }


def _sample(each: Measured) -> dict[str, Any]:
    row, label = each.encode, each.label
    return {
        "source": row.source,
        "role": each.role,
        "rung": row.rung,
        "encode_path": row.encode_path,
        "codec": row.codec,
        "width_px": row.width_px,
        "height_px": row.height_px,
        "crf": row.crf,
        "target_kbps": row.target_kbps,
        "bitrate_kbps": _round(row.bitrate_kbps, _FINE),
        "vmaf": _round(label.vmaf, _FINE) if label else None,
        "vmaf_p5": _round(label.vmaf_p5, _FINE) if label else None,
        "error": each.error,
    }


def _rung(rung: ChosenRung) -> dict[str, Any]:
    choice, point = rung.choice, rung.measured.point if rung.measured else None
    label = rung.measured.label if rung.measured else None
    return {
        "rung": choice.rung.name,
        "height_px": choice.rung.height_px,
        "crf": choice.rung.crf,
        "bitrate_kbps": choice.rung.bitrate_kbps,
        "predicted": {
            "bitrate_kbps": round(choice.rate_kbps, _TENTH),
            "vmaf": _round(rung.vmaf, _FINE),
            "vmaf_p5": _round(rung.vmaf_p5, _FINE),
            "below_hull": round(choice.below_hull, _FINE),
        },
        "measured": {
            "bitrate_kbps": round(point.rate_kbps, _TENTH),
            "vmaf": round(point.quality, _FINE),
            "vmaf_p5": _round(label.vmaf_p5, _FINE) if label else None,
        }
        if point
        else None,
        "error": rung.measured.error if rung.measured else "",
    }


def _round(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _rounded(points: Iterable[Point]) -> list[list[float]]:
    return [[round(rate, _TENTH), round(quality, _FINE)] for rate, quality in points]


def ladder_toml(found: Recommendation) -> str:
    """A ladder file for `vqatool ladder --rungs`, with the figures of each rung as a comment."""
    name = ascii(found.probed.name)[1:-1]  # a comment in TOML holds no control characters
    lines = [f"# {name}: recommended by vqatool recommend", "", "[default]"]
    lines += [f'codec = "{found.probed.delivery.codec}"']
    if found.probed.delivery.preset:
        lines.append(f'preset = "{found.probed.delivery.preset}"')
    for rung in found.rungs:
        lines += ["", f"# {_figures(rung)}", "[[rung]]", *_toml_keys(rung.choice.rung)]
    return "\n".join(lines) + "\n"


def _figures(rung: ChosenRung) -> str:
    point = rung.measured.point if rung.measured else None
    if point:
        return f"measured: {point.rate_kbps:.0f} kbit/s, VMAF {point.quality:.1f}"
    quality = "" if rung.vmaf is None else f", VMAF {rung.vmaf:.1f}"
    return f"predicted: {rung.choice.rate_kbps:.0f} kbit/s{quality}"


def _toml_keys(rung: Rung) -> Iterator[str]:
    yield f"height_px = {rung.height_px}"
    for key in ("crf", "bitrate_kbps"):
        if getattr(rung, key) is not None:
            yield f"{key} = {getattr(rung, key)}"


def master_playlist(renditions: Sequence[tuple[ChosenRung, Rendition]]) -> str:
    """A stub of an HLS master playlist (RFC 8216): the media playlists are still to be made.

    BANDWIDTH is the peak over groups of pictures, measured on what was encoded.
    """
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",
        "## a stub by vqatool recommend: package the rungs under these names",
        "#EXT-X-INDEPENDENT-SEGMENTS",
    ]
    for rung, rendition in renditions:
        row = _row(rung)
        attributes = [
            f"BANDWIDTH={_peak(row, rendition)}",
            f"AVERAGE-BANDWIDTH={_bits(row.bitrate_kbps)}",
            f"RESOLUTION={row.width_px}x{row.height_px}",
            f"FRAME-RATE={float(row.fps or 0):.3f}",
        ]
        if rendition.codec_string:
            attributes.append(f'CODECS="{rendition.codec_string}"')
        lines += [f"#EXT-X-STREAM-INF:{','.join(attributes)}", f"{row.rung}.m3u8"]
    return "\n".join(lines) + "\n"


def dash_manifest(renditions: Sequence[tuple[ChosenRung, Rendition]], duration_s: float) -> str:
    """A stub of a DASH manifest (ISO/IEC 23009-1): the files are still to be packaged."""
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<!-- a stub by vqatool recommend: package the rungs under these names -->",
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT2S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"'
        f' mediaPresentationDuration="PT{duration_s:.3f}S">',
        " <Period>",
        '  <AdaptationSet contentType="video" mimeType="video/mp4" segmentAlignment="true">',
    ]
    for rung, rendition in renditions:
        row = _row(rung)
        attributes = {
            "id": row.rung,
            "bandwidth": _peak(row, rendition),
            "width": row.width_px,
            "height": row.height_px,
            "frameRate": row.fps,
            "codecs": rendition.codec_string,
        }
        text = " ".join(f"{key}={quoteattr(str(v))}" for key, v in attributes.items() if v)
        lines.append(
            f"   <Representation {text}><BaseURL>{row.rung}.mp4</BaseURL></Representation>"
        )
    return "\n".join([*lines, "  </AdaptationSet>", " </Period>", "</MPD>"]) + "\n"


def _duration_s(found: Recommendation) -> float:
    """Of the whole source where it is there, else of what was encoded."""
    source = found.probed.source
    return source.info.duration_s if source else found.probed.encodes[0].encode.duration_s or 0.0


def _row(rung: ChosenRung) -> EncodeRow:
    assert rung.measured
    return rung.measured.encode


def _peak(row: EncodeRow, rendition: Rendition) -> int:
    """The peak in bit/s; of a short file the container alone may take the mean above it."""
    return _bits(max(rendition.peak_kbps, row.bitrate_kbps or 0.0))


def _bits(kbps: float | None) -> int:
    return max(1, round((kbps or 0.0) * 1000))
