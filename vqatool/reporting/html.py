"""Templates -> a page of HTML that is one file, fetches nothing, and shows any text as text.

Whatever a page says about files is untrusted: their names may be markup, and need not be text.
Templates escape all values, and the page's content security policy runs no script but its own.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vqatool import __version__

_TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """The page that a template of `templates/` makes of these values, in UTF-8."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"code": _with_code, "sentence": _as_sentence}
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    style, script = (
        (_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js")
    )
    own = {
        "version": __version__,
        "style": Markup(style),
        "script": Markup(script),
        "policy": _policy(style, script),
    }
    return environment.get_template(template).render(own | dict(values)).encode("utf-8")


def visible(text: str) -> str:
    r"""`text` with an escape for each character that does not print: `\r`, `\xe9`, `\u202e`.

    A byte of a file name that is not UTF-8 is shown as that byte. So nothing in a name can start a
    line, hide, or turn the direction of what follows.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    # Python holds the byte 0xe9 of a file name as U+DCE9
    is_byte = 0xDC80 <= ord(letter) <= 0xDCFF
    return f"\\x{ord(letter) - 0xDC00:02x}" if is_byte else ascii(letter)[1:-1]


def _with_code(text: str) -> Markup:
    """What stands between backticks is shown as code."""
    parts = re.split("`([^`]*)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(visible(part)) if index % 2 else escape(visible(part))
        for index, part in enumerate(parts)
    )


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _policy(style: str, script: str) -> str:
    """A content security policy: own style, own script, pictures inside the page, nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            f"style-src '{_hash(style)}'",
            f"script-src '{_hash(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}"
