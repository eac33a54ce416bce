"""The figures of a report's row as people read them."""

from typing import Any

from vqatool.reporting.charts import clock
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.verdicts import worse_verdict

_MAX_REASON = 300  # letters of an error in a table


def codes_of(row: ReportRow) -> list[str]:
    """The warning codes of a row."""
    return [code for code in row.warnings.split(";") if code]


def shortened(text: str) -> str:
    """A reason that is not too long for a table."""
    return text if len(text) <= _MAX_REASON else f"{text[:_MAX_REASON]}\u2026"


def number_text(value: Any, digits: int = 1) -> str:
    """A figure with so many decimals; empty if it is not known."""
    return "" if value is None else f"{float(value):.{digits}f}"


def with_unit(number: str, unit: str) -> str:
    """A text with its unit; empty if it is."""
    return number and f"{number} {unit}"


def rate_text(row: ReportRow) -> str:
    """The frame rate."""
    return number_text(row.fps, 3).rstrip("0").rstrip(".")


def megabytes_text(row: ReportRow) -> str:
    """The size of the file in MB."""
    return number_text(None if row.size_bytes is None else row.size_bytes / 1e6, 3)


def band_text(row: ReportRow) -> str:
    """Such as `61.0 to 70.2`."""
    low, high = number_text(row.score_low), number_text(row.score_high)
    return f"{low} to {high}" if low and high else ""


def picture_size(row: ReportRow) -> str:
    """Such as `1920x1080`."""
    return f"{row.width_px}x{row.height_px}" if row.width_px and row.height_px else ""


def screen_text(display: str) -> str:
    """What a display does to a video, for people who do not know the words of the options."""
    if display == "native":
        return "pixel for pixel, not scaled to a screen (native)"
    return f"scaled to a screen of {display}"


def worse_segment(row: ReportRow) -> str:
    """Such as `11.0, bad`: the worst segment, where its verdict is worse; else empty."""
    if row.score is None or row.score_min is None:
        return ""
    found = worse_verdict(row.score, row.score_min)
    return f"{row.score_min:.1f}, {found}" if found else ""


def facts_of(row: ReportRow) -> list[tuple[str, str]]:
    """What is known of a file, as names and texts."""
    shape = [picture_size(row), row.pix_fmt, row.hdr.upper()]
    facts = [
        ("codec", row.codec),
        ("picture", " ".join(part for part in shape if part)),
        ("rate", with_unit(rate_text(row), "frames/s")),
        ("length", clock(row.duration_s) if row.duration_s is not None else ""),
        ("bitrate", with_unit(number_text(row.bitrate_kbps, 0), "kbit/s")),
        ("file", with_unit(megabytes_text(row), "MB")),
        ("worst segment", number_text(row.score_min)),
        ("5th percentile of segments", number_text(row.score_p5)),
    ]
    return [(name, text) for name, text in facts if text]
