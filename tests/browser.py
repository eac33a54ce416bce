"""Chromium for tests and benchmarks of pages: whichever is installed, with no network at work."""

import contextlib
import os
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, expect, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--no-sandbox",  # containers seldom allow Chromium's own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str:
    """Path of a Chromium or Chrome, `$VQATOOL_CHROMIUM` first; empty if there is none."""
    names = (os.environ.get("VQATOOL_CHROMIUM", ""), *_NAMES)
    return next((path for name in names if name and (path := shutil.which(name))), "")


@contextlib.contextmanager
def open_chromium() -> Iterator[Browser]:
    """A headless Chromium with a new, empty profile."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=30_000)  # of 5 s, which a busy machine may take
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
