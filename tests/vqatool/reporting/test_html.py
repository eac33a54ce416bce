"""Text of files is text in a page, whatever it holds."""

import base64
import hashlib
import json
import os
import re
from pathlib import Path

import pytest

from tests.vqatool.reporting.pages import HOSTILE, failed, make_page, scored, tree
from vqatool.reporting.html import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name.mp4", "plain name.mp4"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{HIRAGANA LETTER A}", "café \u3042"),
        ("a\rb\nc\td\0", r"a\rb\nc\td\x00"),
        (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
        ("gnp.\u202e4pm", r"gnp.\u202e4pm"),
        ("\U000e0001", r"\U000e0001"),
        ("<b>", "<b>"),  # the template escapes it
    ],
)
def test_what_does_not_print_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_no_name_becomes_an_element_or_leaves_the_data(tmp_path: Path) -> None:
    rows = [scored(name, 50.0) for name in HOSTILE]
    rows += [failed(f"bad {name}", "damaged", f"{name} breaks off") for name in HOSTILE]
    rows += [scored("odd.mp4", 40.0, warnings="<b>new", codec="<i>", model="</style>")]
    page = tree(make_page(tmp_path / "page.html", rows))
    assert not page.select("img, i, b:not(.path), [onerror], [onfocus], [autofocus]")
    scripts = page.find_all("script")
    assert [script.get("type") for script in scripts] == ["application/json", None]
    data = json.loads(scripts[0].string or "")
    names = {row[0] for row in data["rows"]}
    assert names >= {visible(name) for name in HOSTILE}
    assert names >= {visible(f"bad {name}") for name in HOSTILE}
    shown = {cell.get_text() for cell in page.select("tbody th")}
    assert shown >= {visible(name) for name in HOSTILE}
    headings = {heading.get_text() for heading in page.select("article .path")}
    assert headings >= {visible(name) for name in HOSTILE}
    for link in page.find_all("a"):
        assert re.match(r"#[\w-]+$", str(link["href"])), link


def test_the_policy_allows_the_pages_own_style_and_script_alone(tmp_path: Path) -> None:
    page = tree(make_page(tmp_path / "page.html", [scored("a.mp4", 50.0)]))
    (policy,) = [
        str(meta["content"])
        for meta in page.find_all("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for name in ("style", "script"):
        element = page.find_all(name)[-1]
        digest = hashlib.sha256((element.string or "").encode()).digest()
        assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert not page.select("[style], script[src], link[rel=stylesheet], iframe, object, base")
    assert "http:" not in policy
    assert "unsafe" not in policy
