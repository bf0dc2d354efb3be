"""Headless Chromium for the tests that look at a page; skips, saying so, where there is none."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
    "--window-size=1300,2100",
)
#: The page stands in a frame, since a browser's own window cannot be made as narrow as a phone.
_FRAME = """<!doctype html><body style="margin:0">
<iframe id="f" style="border:0;width:{width}px;height:2000px" srcdoc="{page}"></iframe><script>
document.getElementById("f").addEventListener("load", event => {{
  const inside = event.target.contentWindow, page = inside.document, root = page.documentElement;
  const broken = [...page.images].filter(image => !(image.complete && image.naturalWidth > 0));
  const asked = inside.performance.getEntriesByType("resource").filter(entry => !/^data:/.test(entry.name));
  document.body.dataset.probe =
    [inside.innerWidth, root.scrollWidth, broken.length, asked.length, page.images.length].join(" ");
}});
</script></body>"""


def find() -> str:
    """The browser's path; skips the test where none is installed."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip(f"no browser is installed ({', '.join(_NAMES)})")


def probe(page: Path, width: int, folder: Path) -> dict[str, int]:
    """Open a page at a width: the frame's and the content's width, broken pictures, requests, pictures."""
    copy = folder / f"probe-{width}.html"
    copy.write_text(_FRAME.format(width=width, page=html.escape(page.read_text("utf-8"))), "utf-8")
    profile = f"--user-data-dir={folder / f'profile-{width}'}"
    command = [find(), *_FLAGS, profile, "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-probe="([\d ]+)"', done.stdout)
    assert found, done.stderr[-500:]
    names = ("window", "content", "broken", "requests", "pictures")
    return dict(zip(names, map(int, found.group(1).split()), strict=True))
