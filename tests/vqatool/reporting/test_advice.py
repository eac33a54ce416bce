"""A page and the documentation say the same of each code."""

import re
from pathlib import Path

import pytest

from vqatool.inputs.decode_pool import FailureCode
from vqatool.reporting.advice import ERRORS, WARNINGS, Advice
from vqatool.scoring.warning_codes import WarningCode

PAGE = Path(__file__).parents[3] / "docs" / "troubleshooting.md"


def documented(heading: str) -> dict[str, tuple[str, str]]:
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) ?\|$", section, flags=re.M)
    return {code: (meaning, steps) for code, meaning, steps in lines}


@pytest.mark.parametrize(
    ("heading", "advice"), [("Warnings of scores", WARNINGS), ("Errors of files", ERRORS)]
)
def test_advice_is_that_of_the_documentation(heading: str, advice: dict[str, Advice]) -> None:
    told = {str(code): (each.meaning, each.steps) for code, each in advice.items()}
    assert told == documented(heading)


def test_every_code_of_the_program_has_advice() -> None:
    assert set(WarningCode) <= set(WARNINGS)
    assert set(FailureCode) <= set(ERRORS)
