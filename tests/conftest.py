from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from aiohttp_persistent_session import MemoryBackend

from .browser import Browser, Clock, Worker, Workers
from .faults import FaultyBackend


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
def backend() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend)


@pytest.fixture
def browser(worker: Worker) -> Browser:
    return Browser(worker)
