"""The store as the rules call it: bounded in time, asked by one call while it hangs, opened in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from aiohttp_persistent_session import Backend, BackendError, MemoryBackend, PersistentSessionManager
from aiohttp_persistent_session.backends.mongo import MongoBackend
from aiohttp_persistent_session.backends.redis import RedisBackend
from aiohttp_persistent_session.backends.sql import SQLBackend
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.store import OPENS_WITHIN, QUIET_FOR

from .exchanges import SOMEBODY, check, restore, sign_in
from .faults import DriverError, FaultyBackend, Gate
from .virtual_time import in_virtual_time, now

TIMEOUT = 2.0
LOGGER = "aiohttp_persistent_session"
AN_ID = "A" * 22
SOON = 1.5
"""Seconds in which a store that is well again is asked, and found to be so."""


@contextlib.asynccontextmanager
async def opened(backend: Backend, **options: Any) -> AsyncIterator[PersistentSessionManager]:
    """A manager that goes by virtual time, whose start-up is done."""
    manager = PersistentSessionManager(backend, **options)
    manager.clock = now
    async with manager:
        await asyncio.sleep(0)
        yield manager


def faulty() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


class Stopwatch:
    """Tells how long something took."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    @property
    def seconds(self) -> float:
        return round(self._loop.time() - self._started, 6)


async def hung(manager: PersistentSessionManager, backend: FaultyBackend) -> None:
    """Let the store hang, and one call find it out."""
    backend.hang()
    with pytest.raises(BackendError):
        await manager.get(AN_ID)


def every_call(manager: PersistentSessionManager) -> list[Callable[[], Awaitable[Any]]]:
    """Return what an administrator can ask of the store, and a sign-in."""
    return [
        lambda: manager.get(AN_ID),
        lambda: manager.sessions("alice"),
        lambda: manager.revoke(AN_ID),
        lambda: manager.revoke_all("alice"),
        manager.purge,
        lambda: sign_in(manager),
    ]


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == LOGGER]


# A store that hangs


@in_virtual_time
async def test_a_store_that_hangs_costs_one_request_its_time_out_not_each() -> None:
    """After the first time-out, restores are anonymous and live sessions go on at once."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang()
        watch = Stopwatch()
        assert (await restore(manager, token)).failed
        assert watch.seconds == TIMEOUT
        for _ in range(100):
            assert (await restore(manager, token)).failed
            assert (await check(manager, token, 0)).failed
        assert watch.seconds == TIMEOUT


@in_virtual_time
async def test_requests_that_ask_a_hung_store_at_once_wait_together() -> None:
    """Each of them is bounded by the same time."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang()
        watch = Stopwatch()
        results = await asyncio.gather(*(restore(manager, token) for _ in range(50)))
        assert all(result.failed for result in results)
        assert watch.seconds == TIMEOUT


@in_virtual_time
async def test_every_call_fails_at_once_while_the_store_hangs() -> None:
    """Handlers and administrators get a BackendError whose cause is the time-out."""
    backend = faulty()
    async with opened(backend) as manager:
        await hung(manager, backend)
        watch = Stopwatch()
        for call in every_call(manager):
            with pytest.raises(BackendError) as caught:
                await call()
            assert isinstance(caught.value.__cause__, TimeoutError)
        assert watch.seconds == 0


@in_virtual_time
async def test_a_sign_in_into_a_hung_store_takes_one_time_out() -> None:
    """What a failed sign-in takes back is not waited for once more."""
    backend = faulty()
    async with opened(backend) as manager:
        backend.hang()
        watch = Stopwatch()
        with pytest.raises(BackendError):
            await sign_in(manager)
        assert watch.seconds == TIMEOUT


@in_virtual_time
async def test_one_get_in_the_background_asks_a_hung_store_again_and_again() -> None:
    """No more than one call is under way, however many requests come, and no other operation is tried."""
    backend = faulty()
    under_way, most = 0, 0

    async def hang(_: str) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.Event().wait()
        finally:
            under_way -= 1

    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.fault = hang
        assert (await restore(manager, token)).failed
        backend.calls.clear()
        for _ in range(60):
            await asyncio.gather(*(restore(manager, token) for _ in range(10)))
            await asyncio.sleep(1)
        assert most == 1
        assert set(backend.calls) == {"get"}
        assert 60 / (TIMEOUT + SOON) <= backend.calls["get"] <= 60 / TIMEOUT


@in_virtual_time
async def test_a_store_that_hung_works_again_by_itself() -> None:
    """Once one question is answered, requests are served as before, and nothing is asked in the background."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        await hung(manager, backend)
        await asyncio.sleep(1800)  # before the hourly purge
        backend.heal()
        await asyncio.sleep(TIMEOUT + SOON)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        backend.calls.clear()
        await asyncio.sleep(60)
        assert not backend.calls


@in_virtual_time
async def test_a_store_that_goes_on_is_used_as_soon_as_it_answers() -> None:
    """The question that was put while it hung may be the one that is answered."""
    backend, gate = faulty(), Gate()
    async with opened(backend) as manager:
        backend.fault = gate
        with pytest.raises(BackendError):
            await manager.get(AN_ID)
        await asyncio.sleep(1)
        backend.fault = None
        gate.opened.set()
        await asyncio.sleep(0.001)
        assert await manager.get(AN_ID) is None


@in_virtual_time
async def test_a_store_that_fails_after_it_hung_is_asked_on() -> None:
    """A server that was killed refuses connections for a while: that is no answer."""
    backend = faulty()
    async with opened(backend) as manager:
        await hung(manager, backend)
        backend.break_down()
        await asyncio.sleep(30)
        backend.calls.clear()
        with pytest.raises(BackendError):
            await manager.get(AN_ID)
        assert not backend.calls
        backend.heal()
        await asyncio.sleep(SOON)
        assert await manager.get(AN_ID) is None


@in_virtual_time
async def test_whatever_a_driver_raises_while_it_is_asked_on_surfaces_as_a_backend_error() -> None:
    """A RuntimeError of a driver, as of a closed connection, does not say that the manager is not open."""
    backend = faulty()

    async def fail(_: str) -> None:
        raise RuntimeError("the handler is closed")

    async with opened(backend) as manager:
        await hung(manager, backend)
        backend.fault = fail
        await asyncio.sleep(TIMEOUT + SOON)
        for call in every_call(manager):
            with pytest.raises(BackendError):
                await call()


@in_virtual_time
async def test_a_driver_that_turns_the_time_out_into_its_own_error_costs_one_request_alone() -> None:
    """A cancelled call may end in whatever a driver raises: the store hangs all the same."""
    backend = faulty()

    async def hang(_: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise DriverError("the operation was cancelled") from None

    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.fault = hang
        watch = Stopwatch()
        for _ in range(10):
            assert (await restore(manager, token)).failed
        assert watch.seconds == TIMEOUT


@in_virtual_time
async def test_a_store_that_only_fails_is_asked_by_each_request() -> None:
    """A failure costs no time, so each request tries, and the first that succeeds is served."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.break_down()
        backend.calls.clear()
        for _ in range(10):
            assert (await restore(manager, token)).failed
        await asyncio.sleep(60)
        assert backend.calls == {"get": 10}
        backend.heal()
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_store_that_hangs_at_writes_alone_is_read_on() -> None:
    """The question in the background is a read: it is answered, and what needs no write is served."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang("replace")
        assert (await restore(manager, token)).failed
        await asyncio.sleep(SOON)
        assert (await manager.get(token.id)) is not None
        assert (await check(manager, token, 0)).outcome is None  # its token was not shown yet: that is to be written
        backend.heal()
        await asyncio.sleep(SOON)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_purge_that_takes_long_stops_nobody() -> None:
    """It may have much to delete where the store is well."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang("purge")
        with pytest.raises(BackendError):
            await manager.purge()
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_request_that_is_cancelled_says_nothing_of_the_store() -> None:
    """An app that gives up after a second has not found out that the store hangs."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(restore(manager, token), 1)
        backend.heal()
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_the_time_that_validate_takes_is_not_the_stores() -> None:
    """A slow directory makes the restore slow, and no outage."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)

        async def slow(_: object) -> bool:
            await asyncio.sleep(10 * TIMEOUT)
            return True

        result = await manager.lifecycle.restore([token], SOMEBODY, slow)
        assert result.outcome is Outcome.EXCHANGE
        backend.hang("replace")
        watch = Stopwatch()
        await asyncio.sleep(11)
        assert (await manager.lifecycle.restore([token], SOMEBODY, slow)).failed
        assert watch.seconds == 11 + 10 * TIMEOUT + TIMEOUT


@in_virtual_time
async def test_a_manager_closes_while_its_store_hangs() -> None:
    """The question in the background ends with it."""
    backend = faulty()
    async with opened(backend) as manager:
        await hung(manager, backend)
        watch = Stopwatch()
    assert watch.seconds <= 2 * TIMEOUT
    backend.calls.clear()
    await asyncio.sleep(60)
    assert not backend.calls
    assert asyncio.all_tasks() == {asyncio.current_task()}
    backend.heal()
    async with manager:
        assert await manager.get(AN_ID) is None


# What is logged


@in_virtual_time
async def test_an_outage_of_a_store_that_hangs_is_logged_once_and_its_end_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning has the cause; nothing more is said until the store answers."""
    caplog.set_level(logging.DEBUG, LOGGER)
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.hang()
        for _ in range(200):
            assert (await restore(manager, token)).failed
            await asyncio.sleep(1)
        ((level, message),) = told(caplog)
        assert level == logging.WARNING
        assert "fails at get" in message
        assert "TimeoutError" in caplog.text
        backend.heal()
        await asyncio.sleep(TIMEOUT + SOON)
        assert [message for _, message in told(caplog)[1:]] == [
            "the store of persistent sessions answers again at get",
        ]
        assert told(caplog)[1][0] == level


@in_virtual_time
async def test_operations_are_logged_apart(caplog: pytest.LogCaptureFixture) -> None:
    """A store that cannot write may well be read: the one outage does not hide the other."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        backend.break_down("replace")
        for _ in range(3):
            assert (await restore(manager, token)).failed
        backend.break_down()
        for _ in range(3):
            assert (await restore(manager, token)).failed
        assert [message.partition(";")[0] for _, message in told(caplog)] == [
            "the store of persistent sessions fails at replace: connection refused",
            "the store of persistent sessions fails at get: connection refused",
        ]


@in_virtual_time
async def test_a_store_that_fails_now_and_then_is_told_of_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """An overloaded store would fill the log otherwise."""
    backend = faulty()
    async with opened(backend) as manager:
        token = await sign_in(manager)
        for _ in range(20):
            backend.break_down()
            assert (await restore(manager, token)).failed
            backend.heal()
            assert not (await restore(manager, token)).failed
            await asyncio.sleep(11)
        fails = [message for _, message in told(caplog) if "fails at get" in message]
        assert len(fails) == pytest.approx(20 * 11 / QUIET_FOR, abs=1)


# Start-up


@in_virtual_time
async def test_a_store_that_cannot_be_reached_at_start_up_is_opened_in_the_background(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged as an error, once; the application starts, and works as soon as the store is there."""
    backend = faulty()
    backend.break_down()
    async with opened(backend) as manager:
        for _ in range(30):
            for call in every_call(manager):
                with pytest.raises(BackendError) as caught:
                    await call()
                assert isinstance(caught.value.__cause__, DriverError)
            await asyncio.sleep(1)
        ((level, message), *more) = told(caplog)
        assert level == logging.ERROR
        assert "connection refused" in message
        assert len(more) <= 1
        assert set(backend.calls) == {"open"}
        backend.heal()
        await asyncio.sleep(SOON)
        token = await sign_in(manager)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_store_that_hangs_at_start_up_holds_the_application_up_for_10_s() -> None:
    """Then it is opened in the background, until it is there."""
    backend = faulty()
    backend.hang()
    watch = Stopwatch()
    async with opened(backend) as manager:
        assert watch.seconds == OPENS_WITHIN
        with pytest.raises(BackendError):
            await manager.get(AN_ID)
        assert watch.seconds == OPENS_WITHIN
        await asyncio.sleep(60)
        backend.heal()
        await asyncio.sleep(60)
        assert await manager.get(AN_ID) is None


@in_virtual_time
async def test_what_is_wrong_with_a_store_that_is_reached_late_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Its table lacks a column, say: the application runs already, and cannot fail to start any more."""

    class Late(MemoryBackend):
        reason: Exception = DriverError("connection refused")

        async def open(self) -> None:
            raise self.reason

    backend = Late()
    async with opened(backend):
        backend.reason = ValueError("the table lacks the column version")
        await asyncio.sleep(60)
        assert [message for _, message in told(caplog) if "lacks the column version" in message] != []
        assert len(told(caplog)) < 5


@pytest.mark.parametrize("hangs", [True, False])
@in_virtual_time
async def test_with_require_store_the_start_up_fails_and_the_backend_is_closed(hangs: bool) -> None:
    """The error says why, and has the driver's as its cause."""
    backend = faulty()
    if hangs:
        backend.hang("open")
    else:
        backend.break_down("open")
    manager = PersistentSessionManager(backend, require_store=True)
    with pytest.raises(BackendError, match=r"cannot be opened: .+") as caught:
        await manager.open()
    assert isinstance(caught.value.__cause__, TimeoutError if hangs else DriverError)
    assert "Cancelled" not in str(caught.value)
    assert hangs or "connection refused" in str(caught.value)
    assert backend.closed == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", [ValueError, TypeError, ImportError])
@pytest.mark.parametrize("require_store", [True, False])
@in_virtual_time
async def test_a_store_that_is_set_up_wrong_is_an_error_at_once(kind: type[Exception], require_store: bool) -> None:
    """No later try mends a missing driver or a table that lacks a column."""

    class Wrong(MemoryBackend):
        closed = False

        async def open(self) -> None:
            raise kind("the table lacks the column version")

        async def close(self) -> None:
            self.closed = True

    backend = Wrong()
    manager = PersistentSessionManager(backend, require_store=require_store)
    with pytest.raises(kind, match="lacks the column version"):
        await manager.open()
    assert backend.closed


@in_virtual_time
async def test_a_start_up_that_is_cancelled_closes_the_backend() -> None:
    """A worker that is stopped as it waits for its store leaves no connection."""
    backend = faulty()
    backend.hang("open")
    opening = asyncio.create_task(PersistentSessionManager(backend).open())
    await asyncio.sleep(1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert backend.closed == 1


@in_virtual_time
async def test_a_backend_that_cannot_be_closed_keeps_nobody_from_leaving() -> None:
    """What it raises then is of use to nobody."""

    class Stubborn(MemoryBackend):
        async def close(self) -> None:
            raise DriverError("closed already")

    async with opened(Stubborn()) as manager:
        await sign_in(manager)


# A manager that is not open


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: MemoryBackend(),
    "sqlite": lambda folder: SQLBackend(f"sqlite+aiosqlite:///{folder}/app.db"),
    "postgresql": lambda _: SQLBackend("postgresql+asyncpg://127.0.0.1:1/app"),
    "redis": lambda _: RedisBackend("redis://127.0.0.1:1/0"),
    "mongodb": lambda _: MongoBackend("mongodb://127.0.0.1:1/app"),
}


@pytest.mark.parametrize("name", BACKENDS)
async def test_a_manager_that_is_not_open_says_so_on_every_store(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No outage is reported where `async with` was forgotten."""
    backend = BACKENDS[name](tmp_path)
    manager = PersistentSessionManager(backend)
    for call in every_call(manager):
        with pytest.raises(RuntimeError, match=r"not open: use `async with manager:`"):
            await call()
    assert told(caplog) == []
    await backend.close()


async def test_a_manager_that_was_closed_says_so_too() -> None:
    """It may be opened anew, and finds what it had stored."""
    manager = PersistentSessionManager(MemoryBackend())
    async with manager:
        token = await sign_in(manager)
    for call in every_call(manager):
        with pytest.raises(RuntimeError, match="not open"):
            await call()
    async with manager:
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
