from __future__ import annotations

import gc
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator

import playwright.async_api
import pytest

from .browser import Browser, Clock, Worker, Workers
from .chromium import started_chromium
from .faults import FaultyBackend
from .stores import STORES, Store, make_store, mongodb_url, postgresql_url, redis_url  # noqa: F401 -- fixtures


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = getattr(metafunc.module, "EVERY_STORE", False)
    if "store" in metafunc.fixturenames and names:
        metafunc.parametrize("store", STORES if names is True else names, indirect=True)


@pytest.fixture(autouse=True)
def sockets_that_drivers_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drivers leave the sockets of servers that were killed or hung to the garbage collector: have it run here."""
    yield
    if getattr(request.module, "KILLS_SERVERS", False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
        if getattr(getattr(item, "module", None), "KILLS_SERVERS", False):
            # It may come earlier, of its own accord; where warnings are errors, this one comes wrapped.
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore:.*<socket:pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture
def uncounted() -> Iterator[None]:
    """For millions of steps that other tests take too: counting their branches would take as long again. The mark
    ``no_cover`` has no effect in a worker of pytest-xdist, which is measured twice, as itself and as a subprocess."""
    tracer = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(tracer)


@pytest.fixture
async def chromium() -> AsyncIterator[playwright.async_api.Browser]:
    async with started_chromium() as browser:
        yield browser


@pytest.fixture
def clock() -> Clock:
    # aiohttp-session reads the system's clock: both begin together.
    return Clock(round(time.time(), 3))


@pytest.fixture
async def workers(clock: Clock) -> AsyncIterator[Workers]:
    workers = Workers(clock)
    yield workers
    await workers.stop()


@pytest.fixture
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    store = make_store(getattr(request, "param", "memory"), request)
    yield store
    await store.clean()


@pytest.fixture
async def backend(store: Store, workers: Workers) -> AsyncIterator[FaultyBackend]:
    inner = await store.backend()
    await inner.open()
    yield FaultyBackend(inner)
    await workers.stop()
    await inner.close()


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend)


@pytest.fixture
def browser(worker: Worker) -> Browser:
    return Browser(worker)
