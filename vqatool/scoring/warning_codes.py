"""What a reader of a score should know: the codes of a report's `warnings` column."""

from enum import StrEnum


class WarningCode(StrEnum):
    """A fact of a video, or of its score, that bears on what the score is worth."""

    HDR = "hdr"
    TONEMAPPED = "tonemapped"
    VFR = "vfr"
    INTERLACED = "interlaced"
    PARTLY_INTERLACED = "partly_interlaced"
    ROTATED = "rotated"
    SEVERAL_VIDEOS = "several_videos"
    RANGE = "range"
    DOLBY_VISION = "dolby_vision"
    SHORT = "short"
    SMALL = "small"
    DAMAGED = "damaged"
    OUT_OF_DOMAIN = "out_of_domain"
    SAMPLED = "sampled"


UNTRUSTED = frozenset({WarningCode.HDR, WarningCode.DAMAGED, WarningCode.OUT_OF_DOMAIN})
"""The model was not made for such pictures, so the score is not to be trusted."""
