"""A real browser without a window, for tests of pages; skipped with a word where there is none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BINARIES = {"chromium": "/usr/bin/chromium", "chromedriver": "/usr/bin/chromedriver"}
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1200,900",
)  # fmt: skip


@contextmanager
def open_browser() -> Iterator[Any]:
    """Start the browser; its driver notes what the console says and what is asked for."""
    selenium = pytest.importorskip("selenium.webdriver", reason="pages are tested in a browser through selenium")
    from selenium.webdriver.chrome.service import Service

    found = {name: path if Path(path).exists() else shutil.which(name) for name, path in BINARIES.items()}
    if not all(found.values()):
        pytest.skip("pages are tested in a browser: chromium and chromedriver are not here")
    options = selenium.ChromeOptions()
    options.binary_location = found["chromium"]
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Selenium looks for a driver online unless it is told not to.
    os.environ["SE_OFFLINE"] = "true"
    browser = selenium.Chrome(options=options, service=Service(found["chromedriver"]))
    try:
        browser.set_script_timeout(60)
        yield browser
    finally:
        browser.quit()


def complaints(browser: Any) -> list[str]:
    """What the console said since it was last asked."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: Any) -> list[str]:
    """What was asked for since it was last asked, but for addresses that hold their data."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith("data:")]
