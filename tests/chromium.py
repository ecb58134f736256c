"""A real Chromium: one that Playwright starts for a test, and one with a profile on disk, to be closed and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from playwright.async_api import Browser, BrowserContext, Playwright, async_playwright

from .servers.processes import STARTS_WITHIN, program

FLAGS = [
    "--no-sandbox",  # it runs as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-component-extensions-with-background-pages",
    "--disable-sync",
]


def path_of_chromium() -> str:
    return program("chromium", "chromium-browser", "google-chrome")


@asynccontextmanager
async def started_chromium() -> AsyncIterator[Browser]:
    path = path_of_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


class Profile:
    """A person's Chromium: what its profile holds outlives it. Playwright talks to it, and does not start it."""

    def __init__(self, playwright: Playwright, folder: Path) -> None:
        self._playwright = playwright
        self._folder = folder
        self._port_file = folder / "DevToolsActivePort"
        self._process: subprocess.Popen[bytes] | None = None
        self._browser: Browser | None = None

    async def start(self) -> BrowserContext:
        """Start it; return what is open."""
        self._port_file.unlink(missing_ok=True)
        options = ["--headless=new", "--password-store=basic", "--remote-debugging-port=0", "about:blank"]
        self._process = subprocess.Popen(  # noqa: ASYNC220 -- it starts at once
            [path_of_chromium(), *FLAGS, *options, f"--user-data-dir={self._folder}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + STARTS_WITHIN
        while (address := await _address(self._port())) is None:
            assert self._process.poll() is None, "Chromium did not start"
            assert time.monotonic() < deadline, "Chromium did not come up"
            await asyncio.sleep(0.05)
        self._browser = await self._playwright.chromium.connect_over_cdp(address)
        return self._browser.contexts[0]

    def _port(self) -> str | None:
        with contextlib.suppress(OSError, IndexError):
            return self._port_file.read_text().split()[0]
        return None

    async def close(self) -> None:
        """Close it as a person does: its cookies are written to disk."""
        assert self._browser is not None
        assert self._process is not None
        session = await self._browser.new_browser_cdp_session()
        await session.send("Browser.close")
        await asyncio.to_thread(self._process.wait, STARTS_WITHIN)
        self._process = None

    async def kill(self) -> None:
        """Kill it with all its processes, as a power failure does. What is not on disk is lost."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait, STARTS_WITHIN)


async def _address(port: str | None) -> str | None:
    """Return where Chromium listens, once its first page is there: before that, Playwright may wait for ever."""
    if port is None:
        return None
    address = f"http://127.0.0.1:{port}"
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as http, http.get(f"{address}/json/list") as answer:
            if any(target["type"] == "page" and target["url"] == "about:blank" for target in await answer.json()):
                return address
    return None
