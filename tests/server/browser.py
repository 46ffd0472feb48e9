"""A real browser: Debian's chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

try:
    from playwright.sync_api import Browser, sync_playwright
except ModuleNotFoundError:  # no wheel for this machine
    pytest.skip("playwright is not installed", allow_module_level=True)

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Start a browser without a window; skip the test where there is none."""
    if _CHROMIUM is None:
        pytest.skip("there is no chromium; `make test` installs Debian's where it may")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage", *arguments]
        )
        try:
            yield browser
        finally:
            browser.close()
