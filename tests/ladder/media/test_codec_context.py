from typing import Literal

import pytest

from ladder.errors import CapabilityError
from ladder.media.codec_context import codec_context


@pytest.mark.parametrize(("mode", "kind"), [("w", "encoder"), ("r", "decoder")])
def test_the_error_for_a_missing_codec_names_it_and_the_remedy(
    mode: Literal["r", "w"], kind: str
) -> None:
    with pytest.raises(CapabilityError, match=f"no {kind} libnone: .*pip install"):
        codec_context("libnone", mode)


def test_a_codec_has_one_thread() -> None:
    assert codec_context("libx264", "w").thread_count == 1
    assert codec_context("h264", "r").thread_count == 1
