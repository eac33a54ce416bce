"""Which hardware decoder is taken, and that software takes over what it cannot decode."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from ladder.errors import CapabilityError
from ladder.media import hardware
from ladder.media.container import Decoding
from ladder.media.decode import frames_at
from ladder.media.hardware import find_device
from ladder.media.probe import probe


def works(*names: str) -> mock.Mock:
    return mock.Mock(side_effect=lambda name: None if name in names else "no such device")


def test_the_first_that_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["cuda", "odd", "qsv", "drm"])
    monkeypatch.setattr(hardware, "_why_not", works("qsv", "drm"))
    assert find_device("auto") == "qsv"
    assert find_device("drm") == "drm"
    monkeypatch.setattr(hardware, "_why_not", works())
    assert find_device("auto") == ""


def test_one_that_does_not_work_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "hwdevices_available", lambda: ["cuda", "drm"])
    with pytest.raises(CapabilityError, match="'abacus': it was built with cuda, drm"):
        find_device("abacus")
    monkeypatch.setattr(hardware, "_why_not", works())
    with pytest.raises(CapabilityError, match="cuda does not work here: no such device"):
        find_device("cuda")


@pytest.mark.skipif("drm" not in hwdevices_available(), reason="PyAV was built without drm")
def test_what_a_device_cannot_decode_is_decoded_in_software(source_video: Path) -> None:
    assert hardware._why_not("drm")
    info = probe(source_video)
    plain, fallen_back = (
        frames_at(info, [0.0, 0.2], (64, 36), Decoding(1, hardware=name)) for name in ("", "drm")
    )
    assert np.array_equal(plain, fallen_back)
