"""The store is down, hangs or is set up wrong as the application starts."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from pathlib import Path

import pytest

from aiohttp_persistent_session import (
    BackendError,
    MemoryBackend,
    PersistentSessionManager,
    SQLBackend,
)

from .browser import Browser, Workers
from .faults import DriverError, FaultyBackend
from .outages import (  # noqa: F401 -- fixtures
    COMES_BACK_WITHIN,
    LOGGER,
    TIMEOUT,
    Outage,
    each_outage,
    impatient_worker,
    is_in,
    signed_in_browser,
    until,
    warnings_in,
)


async def is_out(browser: Browser) -> bool:
    return bool((await browser.get()).json["restore_failed"])


@pytest.mark.parametrize("error", [DriverError("refused"), OSError("no route"), BackendError("down"), RuntimeError()])
async def test_a_store_that_cannot_be_reached_at_start_up_is_opened_in_the_background(
    workers: Workers, backend: FaultyBackend, browser: Browser, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """The app starts, with an error in the log; visitors are as in any outage, until the store is there."""

    async def fail(_: str) -> None:
        raise error

    backend.fault = fail
    caplog.clear()
    browser.worker = await workers(backend, timeout=TIMEOUT)
    assert [record.name for record in caplog.records if record.levelno >= logging.ERROR] == [LOGGER]
    assert (str(error) or type(error).__name__) in caplog.text
    assert await is_in(browser)
    browser.end_session()
    for _ in range(3):
        assert await is_out(browser)
    assert (await browser.send("POST", "/login", data={"user": "bob"})).status == 500
    opened = backend.calls["open"]
    backend.heal()
    await until(lambda: is_in(browser))
    assert backend.calls["open"] > opened


async def test_a_store_that_is_there_again_after_start_up_is_told_of(
    workers: Workers, backend: FaultyBackend, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator who saw the error at start-up sees its end."""
    caplog.set_level(logging.INFO, LOGGER)
    backend.break_down()
    browser.worker = await workers(backend, timeout=TIMEOUT)
    backend.heal()
    browser.end_session()
    await until(lambda: is_in(browser))
    first, *_, last = warnings_in(caplog)
    assert "cannot be opened: connection refused" in first
    assert "answers again" in last


async def test_a_store_that_hangs_at_start_up_is_waited_for_and_opened_in_the_background(
    workers: Workers, backend: FaultyBackend, browser: Browser, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The start waits for a bounded time; a question that the store never answers does not end the asking."""
    monkeypatch.setattr("aiohttp_persistent_session.store.OPENS_WITHIN", TIMEOUT)
    backend.hang()
    caplog.clear()
    async with asyncio.timeout(COMES_BACK_WITHIN):
        browser.worker = await workers(backend, timeout=TIMEOUT)
    assert next(record.levelno for record in caplog.records if record.name == LOGGER) == logging.ERROR
    assert "CancelledError" not in warnings_in(caplog)[0]
    browser.end_session()
    assert await is_out(browser)
    backend.heal()
    await until(lambda: is_in(browser))


async def test_a_store_that_is_gone_while_the_app_stops_is_no_failure(
    workers: Workers, backend: FaultyBackend, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An app that has never reached its store stops as any other."""
    monkeypatch.setattr("aiohttp_persistent_session.store.OPENS_WITHIN", TIMEOUT)
    outage()
    await workers(backend, timeout=TIMEOUT)
    async with asyncio.timeout(COMES_BACK_WITHIN):
        await workers.stop()
    backend.heal()


async def test_require_store_makes_start_up_fail_and_closes_the_store(workers: Workers) -> None:
    """With ``require_store=True`` the app does not start, and the exception says why."""
    backend = FaultyBackend(MemoryBackend())
    backend.break_down("open")
    manager = PersistentSessionManager(backend, require_store=True)
    with pytest.raises(BackendError, match="connection refused") as caught:
        await manager.open()
    assert isinstance(caught.value.__cause__, DriverError)
    assert backend.closed == 1
    with pytest.raises(BackendError):
        await workers(backend, require_store=True)


@pytest.mark.parametrize("error", [ValueError("a table lacks a column"), TypeError("no"), ImportError("no driver")])
@pytest.mark.parametrize("require_store", [False, True])
async def test_a_wrong_set_up_is_an_error_at_once(error: Exception, require_store: bool) -> None:
    """What no later try mends stops the start, whatever ``require_store`` says, and closes the store."""
    backend = FaultyBackend(MemoryBackend())

    async def fail(_: str) -> None:
        raise error

    backend.fault = fail
    with pytest.raises(type(error), match=str(error)):
        await PersistentSessionManager(backend, require_store=require_store).open()
    assert backend.closed == 1


async def test_a_table_that_lacks_a_column_is_an_error_at_once(workers: Workers, tmp_path: Path) -> None:
    """A table of another program's stops the start; its name is in the message."""
    path = tmp_path / "records.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE persistent_sessions (id TEXT PRIMARY KEY)")
    connection.close()
    with pytest.raises(ValueError, match="persistent_sessions"):
        await workers(SQLBackend(f"sqlite:///{path}"))
