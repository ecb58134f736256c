"""What the tests of a store that is down or hangs begin with: a browser that is signed in, and an outage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from .browser import Browser, Worker, Workers
from .faults import FaultyBackend

LOGGER = "aiohttp_persistent_session"
TIMEOUT = 0.2
"""Seconds that a store in memory may take here, whose calls take no time unless a test holds them."""
COMES_BACK_WITHIN = 30.0
"""Seconds, for the slowest machine; it takes a fraction of one."""

Outage = Callable[..., None]


@pytest.fixture(name="worker")
async def impatient_worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend, timeout=TIMEOUT)


@pytest.fixture(name="browser")
async def signed_in_browser(worker: Worker) -> Browser:
    browser = Browser(worker)
    await browser.sign_in()
    return browser


@pytest.fixture(name="outage", params=["fails", "hangs"])
def each_outage(request: pytest.FixtureRequest, backend: FaultyBackend) -> Outage:
    """Let the store fail at once, or never answer."""
    return backend.break_down if request.param == "fails" else backend.hang


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(COMES_BACK_WITHIN):
        while not await holds():
            await asyncio.sleep(0.02)


async def is_in(browser: Browser) -> bool:
    return bool((await browser.get()).user == "alice")


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]
