"""The manager without a request: administrators' jobs, signals, limits, the purge."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from aiohttp_persistent_session import (
    BackendError,
    MemoryBackend,
    PersistentSession,
    PersistentSessionManager,
)
from aiohttp_persistent_session.testing import make_record

from .browser import DAY, Browser, Clock, Worker, Workers
from .exchanges import exchange, sign_in
from .faults import FaultyBackend
from .stores import Store

EVERY_STORE = True


async def test_an_administrator_lists_and_ends_sessions_without_a_request(
    worker: Worker, backend: FaultyBackend, clock: Clock
) -> None:
    browsers = [Browser(worker) for _ in range(3)]
    for browser in browsers:
        await browser.sign_in("alice")
        clock.advance(1)
    async with PersistentSessionManager(backend) as manager:
        listed = await manager.sessions("alice")
        assert [one.created_at for one in listed] == sorted((one.created_at for one in listed), reverse=True)
        assert not any(one.current for one in listed)
        assert await manager.revoke(listed[0].id) is True
        assert await manager.revoke(listed[0].id) is False
        assert await manager.revoke("no id at all") is False
        assert await manager.get(listed[0].id) is None
        assert await manager.get(listed[1].id) == listed[1]
        assert await manager.revoke_all("alice", keep=listed[1].id) == 1
        assert await manager.revoke_all("alice") == 1
        assert await manager.sessions("alice") == []
    clock.advance(60)
    for browser in browsers:
        assert (await browser.get()).user is None


async def test_the_manager_is_found_in_the_application(worker: Worker) -> None:
    from aiohttp_persistent_session import PERSISTENT_SESSIONS

    assert worker.app[PERSISTENT_SESSIONS] is worker.manager


async def test_max_sessions_the_least_recently_seen_gives_way(workers: Workers, clock: Clock, store: Store) -> None:
    worker = await workers(await store.backend(), max_sessions=2)
    first, second, third = (Browser(worker) for _ in range(3))
    await first.sign_in()
    clock.advance(100)
    await second.sign_in()
    clock.advance(100)
    await first.get()
    await third.sign_in()
    assert [name for name, _ in worker.events] == ["remember", "remember", "revoke", "remember"]
    assert (await first.get()).user == "alice"
    assert (await second.get()).user is None
    assert (await third.get()).user == "alice"


async def test_max_sessions_counts_one_user_and_not_what_the_browser_replaced(workers: Workers, store: Store) -> None:
    worker = await workers(await store.backend(), max_sessions=2)
    alice, other, bob = (Browser(worker) for _ in range(3))
    await alice.sign_in("alice")
    await bob.sign_in("bob")
    await other.sign_in("alice")
    for _ in range(3):
        await other.sign_in("alice")
    for browser in (alice, other, bob):
        assert (await browser.get()).user


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_sign_ins_at_once_do_not_end_each_other(
    workers: Workers, backend: FaultyBackend, clock: Clock, limit: int
) -> None:
    """Each sees the other, but only the older one gives way: a double click leaves one signed in, not none."""
    worker = await workers(backend, max_sessions=limit)
    worker.manager.clock = clock.tick
    everybody_is_here = asyncio.Barrier(5)

    async def all_insert_before_any_looks(name: str) -> None:
        if name == "of_user":
            await everybody_is_here.wait()

    backend.fault = all_insert_before_any_looks
    browsers = [Browser(worker) for _ in range(5)]
    await asyncio.gather(*(browser.sign_in() for browser in browsers))
    backend.heal()
    assert len(await backend.of_user("alice")) == limit
    assert sum([(await browser.get()).user == "alice" for browser in browsers]) == limit


async def test_a_sign_in_in_the_same_browser_counts_once(workers: Workers, store: Store) -> None:
    worker = await workers(await store.backend(), max_sessions=1)
    browser = Browser(worker)
    for _ in range(3):
        await browser.sign_in()
        assert (await browser.get()).user == "alice"
    assert [name for name, _ in worker.events] == ["remember", "forget", "remember", "forget", "remember"]


async def test_remember_that_cannot_make_room_remembers_nobody(workers: Workers, backend: FaultyBackend) -> None:
    worker = await workers(backend, max_sessions=1)
    await Browser(worker).sign_in()
    backend.break_down("of_user")
    assert (await Browser(worker).post("/login", data={"user": "alice"})).status == 500
    backend.heal()
    assert len(await backend.of_user("alice")) == 1


async def test_signals_tell_what_happened_and_in_which_request(workers: Workers, clock: Clock, store: Store) -> None:
    told: list[tuple[str, PersistentSession, web.Request | None]] = []

    def prepare(app: web.Application) -> None:
        from aiohttp_persistent_session import PERSISTENT_SESSIONS

        manager = app[PERSISTENT_SESSIONS]

        @manager.on_restore
        async def restored(session: PersistentSession, request: web.Request | None) -> None:
            told.append(("restore", session, request))

        @manager.on_revoke
        async def revoked(session: PersistentSession, request: web.Request | None) -> None:
            told.append(("revoke", session, request))

    worker = await workers(await store.backend(), prepare=prepare)
    browser = Browser(worker, user_agent="Laptop/1.0")
    await browser.sign_in()
    browser.end_session()
    browser.user_agent = "Laptop/1.1"
    await browser.get()
    (name, session, request) = told[0]
    assert name == "restore"
    assert (session.user, session.user_agent) == ("alice", "Laptop/1.1")
    assert session.seen_at == datetime.fromtimestamp(round(clock.now, 3), UTC)
    assert request is not None
    assert request.path == "/me"
    await worker.manager.revoke(session.id)
    assert told[1][0] == "revoke"
    assert told[1][2] is None


async def test_a_receiver_that_fails_or_is_slow_costs_nobody_the_token(
    workers: Workers, caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """The token is spent by then: an audit log that is down must not lose its successor."""

    def prepare(app: web.Application) -> None:
        from aiohttp_persistent_session import PERSISTENT_SESSIONS

        async def failing(_: PersistentSession, __: web.Request | None) -> None:
            raise ZeroDivisionError

        async def slow(_: PersistentSession, __: web.Request | None) -> None:
            await asyncio.sleep(0.7)

        app[PERSISTENT_SESSIONS].on_restore.extend([failing, slow])

    worker = await workers(await store.backend(), prepare=prepare, timeout=0.5)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    reply = await browser.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert "receiver" in caplog.text
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_receivers_cannot_be_added_once_the_application_runs(worker: Worker) -> None:
    async def receiver(_: PersistentSession, __: web.Request | None) -> None: ...

    with pytest.raises(RuntimeError):
        worker.manager.on_reuse.append(receiver)


async def test_on_reuse_can_do_more_than_end_that_one(workers: Workers, clock: Clock, store: Store) -> None:
    """As Spring does, for those who want it: all of the user's logins go."""

    def prepare(app: web.Application) -> None:
        from aiohttp_persistent_session import PERSISTENT_SESSIONS

        manager = app[PERSISTENT_SESSIONS]

        @manager.on_reuse
        async def end_all(session: PersistentSession, _: web.Request | None) -> None:
            await manager.revoke_all(session.user)

    backend = await store.backend()
    worker = await workers(backend, prepare=prepare)
    one, other = Browser(worker), Browser(worker)
    await one.sign_in()
    await other.sign_in()
    thief = one.clone()
    one.end_session()
    await one.get()
    clock.advance(61)
    thief.end_session()
    await thief.get()
    assert await backend.of_user("alice") == []


async def test_the_purge_runs_at_start_and_again_and_stops_with_the_application(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiohttp_persistent_session import manager as module

    backend = FaultyBackend(MemoryBackend())
    monkeypatch.setattr(module, "PURGE_INTERVAL", 0.001)
    await backend.insert(make_record(expires_at=clock.now - 1))
    ran_again = asyncio.Event()

    async def note(name: str) -> None:
        if name == "purge" and backend.calls["purge"] >= 5:
            ran_again.set()

    backend.after = note
    async with PersistentSessionManager(backend) as manager:
        await asyncio.wait_for(ran_again.wait(), 10)
        purging = manager._purging
    assert backend.inner._records == {}
    assert purging is not None
    assert purging.cancelled()


async def test_a_purge_that_fails_is_tried_again(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from aiohttp_persistent_session import manager as module

    monkeypatch.setattr(module, "PURGE_INTERVAL", 0.001)
    backend.break_down("purge")
    async with PersistentSessionManager(backend) as manager:
        async with asyncio.timeout(10):
            while backend.calls["purge"] < 3:
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
        with pytest.raises(BackendError):
            await manager.purge()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_seen_at_and_client_are_those_of_the_last_look(worker: Worker, browser: Browser, clock: Clock) -> None:
    await browser.sign_in()
    clock.advance(DAY)
    browser.user_agent = "Updated/2.0"
    await browser.get()
    (session,) = await worker.manager.sessions("alice")
    assert session.user_agent == "Updated/2.0"
    assert session.seen_at.timestamp() == pytest.approx(clock.now)
    assert session.created_at.timestamp() == pytest.approx(clock.now - DAY)


@pytest.mark.parametrize("user", [None, True, {"id": 1}])
async def test_a_user_that_is_no_id_cannot_be_listed(worker: Worker, user: object) -> None:
    with pytest.raises(TypeError, match="user"):
        await worker.manager.sessions(user)  # type: ignore[arg-type]


async def test_the_types_of_the_public_surface(worker: Worker) -> None:
    from typing import assert_type

    assert_type(await worker.manager.sessions("alice"), list[PersistentSession])
    assert_type(await worker.manager.revoke("x"), bool)
    assert_type(await worker.manager.revoke_all(1), int)
    assert_type(await worker.manager.get("x"), PersistentSession | None)


@pytest.mark.parametrize(
    "edited",
    [
        {"expires_at": "soon"},
        {"created_at": None},
        {"seen_at": 1e300},
        {"revision": "1"},
        {"data": "x"},
        {"data": "[]"},
    ],
)
async def test_a_record_that_somebody_has_edited_hides_no_other_and_signs_nobody_in(edited: dict[str, Any]) -> None:
    backend = MemoryBackend()
    async with PersistentSessionManager(backend, max_sessions=2) as manager:
        tokens = [await sign_in(manager) for _ in range(2)]
        backend._records[tokens[0].id] = replace(backend._records[tokens[0].id], **edited)
        assert [session.id for session in await manager.sessions("alice")] == [tokens[1].id]
        assert (await exchange(manager, tokens[0])).outcome is None
        with pytest.raises(BackendError):
            await manager.get(tokens[0].id)
        await sign_in(manager)
        assert await manager.revoke_all("alice") == 2


def test_members_of_enumerations_are_stored_as_what_they_stand_for() -> None:
    from enum import Enum, IntEnum

    from aiohttp_persistent_session.arguments import user_id

    class Name(str, Enum):  # noqa: UP042 -- its str() differs from its value, which is the point
        ALICE = "alice"

    class Number(IntEnum):
        ONE = 1

    assert (user_id(Name.ALICE), type(user_id(Name.ALICE))) == ("alice", str)
    assert (user_id(Number.ONE), type(user_id(Number.ONE))) == (1, int)
