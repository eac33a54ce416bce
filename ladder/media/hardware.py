"""Hardware decoders: which of those that PyAV was built with work on this machine."""

import logging

from av import FFmpegError
from av.codec import Codec
from av.codec.hwaccel import HWAccel, HWDeviceType, hwdevices_available

from ladder.errors import CapabilityError

AUTO = "auto"

_COMMON_CODEC = "h264"  # what every hardware decoder can decode

_log = logging.getLogger(__name__)


def find_device(name: str) -> str:
    """The hardware decoder of a name, or the first that works here; empty: none does.

    Args:
        name: such as `cuda`, or `auto`.

    Raises:
        CapabilityError: PyAV was built without one of this name, or it does not work here.
    """
    built = [each for each in hwdevices_available() if each in HWDeviceType.__members__]
    if name != AUTO and name not in built:
        raise CapabilityError(
            f"PyAV has no hardware decoder {name!r}: it was built with {', '.join(built) or 'none'}"
        )
    for each in built if name == AUTO else [name]:
        reason = _why_not(each)
        if reason is None:
            return each
        _log.info("hardware decoder %s: %s", each, reason)
        if name != AUTO:
            raise CapabilityError(f"the hardware decoder {name} does not work here: {reason}")
    return ""


def _why_not(name: str) -> str | None:
    """Why a hardware decoder does not work here; None: it does."""
    try:
        HWAccel(name).create(Codec(_COMMON_CODEC, "r"))
    except (FFmpegError, NotImplementedError, RuntimeError, OSError) as error:
        return str(error)
    return None
