"""What the codes of a report mean and what to do next, as `docs/troubleshooting.md` tells it."""

from typing import NamedTuple

from vqatool.inputs.decode_pool import FailureCode
from vqatool.reporting.row_texts import codes_of
from vqatool.scoring.rows import ReportRow
from vqatool.scoring.warning_codes import WarningCode


class Advice(NamedTuple):
    """What a code means, and the next step (empty: none is needed); `code` is between backticks.

    `elsewhere` is the next step of a cause that the reason in the file's row names itself.
    """

    meaning: str
    next_step: str = ""
    elsewhere: str = ""

    @property
    def steps(self) -> str:
        """What to do, whatever the cause is."""
        return "; ".join(filter(None, (self.next_step, self.elsewhere)))


UNKNOWN = Advice("a code of another version of vqatool", "see the documentation of that version")
"""For a code that is not listed here."""

WARNINGS: dict[str, Advice] = {
    WarningCode.HDR: Advice("HDR: it has no score", "score with `--tonemap`"),
    WarningCode.TONEMAPPED: Advice(
        "HDR that was scored as SDR", "it is the score of the SDR version that `--tonemap` makes"
    ),
    WarningCode.VFR: Advice("the frame rate varies: frames are taken by time"),
    WarningCode.INTERLACED: Advice("scored without deinterlacing", "deinterlace first"),
    WarningCode.PARTLY_INTERLACED: Advice(
        "interlaced frames follow progressive ones: scored without deinterlacing",
        "deinterlace first (`ffmpeg -i FILE -vf bwdif=deint=interlaced FILE.mkv`)",
    ),
    WarningCode.ROTATED: Advice("the metadata rotates it: it was judged upright"),
    WarningCode.SEVERAL_VIDEOS: Advice(
        "the file has several videos: the default one was judged, or else the largest",
        "copy the wanted one to a file of its own (`ffmpeg -map 0:v:1 -c copy`)",
    ),
    WarningCode.RANGE: Advice(
        "the container and the stream name different ranges: the stream's was taken, of VP8, "
        "MPEG-2 and ProRes, which name none, the container's",
        "repair the wrong tag (`ffmpeg -i FILE -c copy -color_range tv FILE.mkv`)",
    ),
    WarningCode.DOLBY_VISION: Advice("Dolby Vision: its base layer was judged"),
    WarningCode.SHORT: Advice("less than a second", "the score rests on few frames"),
    WarningCode.SMALL: Advice("less than 64 px"),
    WarningCode.DAMAGED: Advice(
        "a frame cannot be decoded without concealing errors, or a packet has bytes that its codec "
        "forbids",
        "do not trust the score; make the file anew",
    ),
    WarningCode.OUT_OF_DOMAIN: Advice(
        "unlike the training data, such as noise or a test picture", "do not trust the score"
    ),
    WarningCode.SAMPLED: Advice(
        "some segments were scored, as `--sample` asked: the column `sampled` has their number",
        "score it without `--sample` before a decision on this file",
    ),
}
"""The warnings of scores, by code."""

ERRORS: dict[str, Advice] = {
    "hdr": Advice("HDR, for which neither VMAF nor the model was made", "score with `--tonemap`"),
    FailureCode.MISSING: Advice(
        "no such file; on a cluster the reason says if only the worker does not see it",
        "check the path",
        "on a cluster let all workers reach the files",
    ),
    "empty": Advice("the file has no bytes", "make it anew"),
    "not_video": Advice("no container that FFmpeg knows", "`--exclude` it"),
    "no_stream": Advice("a container without a picture, such as audio alone", "`--exclude` it"),
    "no_decoder": Advice("a codec that FFmpeg does not know"),
    "damaged": Advice(
        "it breaks off or was cut (it is shorter than its header states, or lacks its index), its "
        "frames cannot be decoded, or the timestamps of a broadcast jump",
        "fetch it again or make it anew",
        "only where its timestamps jump, copy it, which gives it one clock "
        "(`ffmpeg -i FILE -map 0:v:0 -c copy FILE.mkv`)",
    ),
    "dolby_vision": Advice(
        "Dolby Vision of profile 5, or 10 without a base layer: the pictures need its metadata",
        "convert it to SDR or to profile 8",
    ),
    FailureCode.UNREADABLE: Advice(
        "the system refuses to read it, or its damage made the decoder fail",
        "check permissions; make the file anew",
    ),
    "remote": Advice(
        "its store or its server did not give it, after several tries",
        "check the URL and the credentials; run again",
    ),
    FailureCode.TIMEOUT: Advice(
        "it took longer than `--timeout`", "raise `--timeout`, or use fewer `--jobs`"
    ),
    FailureCode.CRASHED: Advice(
        "the process that decoded it died; on a cluster also: three workers died with it",
        "make the file anew; it may be malicious",
    ),
    FailureCode.OUT_OF_MEMORY: Advice(
        "decoding it needed more memory than there was", "use fewer `--jobs`, or another machine"
    ),
    FailureCode.NOT_FINITE: Advice(
        "the model gave a score that is not a number", "use another model file, or train it again"
    ),
    FailureCode.INTERNAL: Advice("a fault of vqatool", "please report it"),
}
"""The errors of files, by code."""


class Remark(NamedTuple):
    """A code, how many files have it, what it means, and the first files that it stopped."""

    code: str
    num_files: int
    advice: Advice
    examples: tuple[tuple[str, str], ...] = ()


def remarks_of(row: ReportRow) -> list[Remark]:
    """The warnings of one file."""
    return [Remark(code, 1, WARNINGS.get(code, UNKNOWN)) for code in codes_of(row)]
