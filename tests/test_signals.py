"""Signals: who is told of what, with which reason, for how long at most."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    MemoryBackend,
    PersistentSession,
    PersistentSessionManager,
    Repeat,
    setup,
)
from aiohttp_persistent_session.record import Browser as BrowserInfo
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SIGNALS, TOKEN, Browser, Clock, Worker, Workers
from .exchanges import check, restore, sign_in
from .faults import FaultyBackend, Gate
from .virtual_time import in_virtual_time, now

TIMEOUT = 2.0
LOGGER = "aiohttp_persistent_session"


@contextlib.asynccontextmanager
async def opened(**receivers: Callable[..., Any]) -> AsyncIterator[PersistentSessionManager]:
    """A manager that goes by virtual time, with receivers of its signals."""
    manager = PersistentSessionManager(MemoryBackend(), timeout=TIMEOUT)
    manager.clock = now
    for name, receiver in receivers.items():
        getattr(manager, name).append(receiver)
    async with manager:
        yield manager


# Which receivers are taken


def sync_receiver(_: PersistentSession, __: web.Request | None) -> None:
    """What somebody writes who has forgotten `async`."""


async def receiver_of_one(_: PersistentSession) -> None:
    """What somebody writes who does not know of the request."""


async def receiver_of_three(_: PersistentSession, __: web.Request | None, ___: object) -> None:
    """What somebody writes who wants more."""


@pytest.mark.parametrize("signal", [f"on_{name}" for name in SIGNALS])
@pytest.mark.parametrize("receiver", [sync_receiver, receiver_of_one, receiver_of_three])
async def test_a_receiver_that_is_no_coroutine_function_of_two_arguments_is_refused_by_name(
    signal: str, receiver: Callable[..., Any]
) -> None:
    """The error comes as the manager opens, and names the receiver and the signal."""
    manager = PersistentSessionManager(MemoryBackend())
    getattr(manager, signal).append(receiver)
    with pytest.raises(TypeError, match=rf"{receiver.__name__}.*{signal}"):
        await manager.open()


async def test_an_application_with_a_wrong_receiver_does_not_start() -> None:
    """It fails before the store is opened, and not at the first sign-in."""
    backend = FaultyBackend(MemoryBackend())
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=backend).on_reuse.append(sync_receiver)
    with pytest.raises(TypeError, match="sync_receiver"):
        await web.AppRunner(app).setup()
    assert not backend.calls


class Auditor:
    """Receivers of every kind that asyncio calls a coroutine function."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def method(self, session: PersistentSession, request: web.Request | None) -> None:
        self.told.append("method")

    async def __call__(self, session: PersistentSession, request: web.Request | None) -> None:
        self.told.append("object")

    async def with_more(self, extra: str, session: PersistentSession, request: web.Request | None) -> None:
        self.told.append(extra)

    async def with_any(self, *_: object, **__: object) -> None:
        self.told.append("any")

    async def with_default(self, session: PersistentSession, request: web.Request | None, _: int = 1) -> None:
        self.told.append("default")


async def test_every_kind_of_coroutine_function_is_taken() -> None:
    """Methods, objects that are called, partials, and functions with arguments beyond the two."""
    auditor, mock = Auditor(), AsyncMock()
    manager = PersistentSessionManager(MemoryBackend())
    partial = functools.partial(auditor.with_more, "partial")
    manager.on_remember.extend([auditor.method, auditor, partial, auditor.with_any, auditor.with_default, mock])
    async with manager:
        await sign_in(manager)
    assert auditor.told == ["method", "object", "partial", "any", "default"]
    mock.assert_awaited_once()


async def test_receivers_cannot_be_added_once_the_application_runs(worker: Worker) -> None:
    """A receiver that was added later would miss what happened before."""
    with pytest.raises(RuntimeError):
        worker.manager.on_reuse.append(Auditor().method)


# How long they are awaited


@in_virtual_time
async def test_a_receiver_is_awaited_for_the_timeout_at_most_and_goes_on_by_itself(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What it does is done in the end, and one warning tells of it."""
    finished: list[float] = []

    async def slow(*_: object) -> None:
        await asyncio.sleep(60)
        finished.append(loop.time())

    loop = asyncio.get_running_loop()
    async with opened(on_remember=slow) as manager:
        started = loop.time()
        token = await sign_in(manager)
        assert loop.time() - started == TIMEOUT
        assert await manager.get(token.id) is not None
        assert finished == []
        await asyncio.sleep(60)
        assert finished == [started + 60]
    (record,) = [record for record in caplog.records if record.name == LOGGER]
    assert record.levelno == logging.WARNING
    assert token.id in record.getMessage()


@in_virtual_time
async def test_a_receiver_that_ends_in_time_is_waited_for() -> None:
    """What it has done by the answer may be relied on."""
    done: list[str] = []

    async def quick(session: PersistentSession, _: object) -> None:
        await asyncio.sleep(TIMEOUT * 0.9)
        done.append(session.id)

    async with opened(on_remember=quick) as manager:
        token = await sign_in(manager)
        assert done == [token.id]


@in_virtual_time
async def test_all_receivers_of_a_signal_together_have_the_timeout() -> None:
    """They are called in turn; the ones behind a slow one are called all the same."""
    called: list[str] = []

    def receiver(name: str) -> Callable[..., Any]:
        async def receive(*_: object) -> None:
            called.append(name)
            await asyncio.sleep(1.5)

        return receive

    loop = asyncio.get_running_loop()
    manager = PersistentSessionManager(MemoryBackend(), timeout=TIMEOUT)
    manager.on_remember.extend([receiver("one"), receiver("two"), receiver("three")])
    async with manager:
        started = loop.time()
        await sign_in(manager)
        assert loop.time() - started == TIMEOUT
        assert called == ["one", "two"]
        await asyncio.sleep(10)
        assert called == ["one", "two", "three"]


@in_virtual_time
async def test_closing_gives_receivers_their_time_and_ends_them_then() -> None:
    """An audit that is nearly done is finished; one that hangs does not keep the worker from stopping."""
    finished: list[str] = []

    async def nearly_done(*_: object) -> None:
        await asyncio.sleep(TIMEOUT + 1)
        finished.append("nearly done")

    async def hung(*_: object) -> None:
        await asyncio.sleep(1e6)
        finished.append("hung")

    loop = asyncio.get_running_loop()
    async with opened(on_remember=nearly_done, on_revoke=hung) as manager:
        token = await sign_in(manager)
        await manager.revoke(token.id)
        closing = loop.time()
    assert finished == ["nearly done"]
    assert loop.time() - closing <= 3 * TIMEOUT
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_what_a_receiver_raises_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The receivers after it are called, and the user is signed in."""
    auditor = Auditor()

    async def failing(*_: object) -> None:
        raise ZeroDivisionError("the audit log is full")

    manager = PersistentSessionManager(MemoryBackend())
    manager.on_remember.extend([failing, auditor.method])
    async with manager:
        token = await sign_in(manager)
        assert await manager.get(token.id) is not None
    assert auditor.told == ["method"]
    assert "the audit log is full" in caplog.text
    assert token.id in caplog.text


@in_virtual_time
async def test_a_receiver_may_use_the_manager() -> None:
    """As Spring does, for those who want it: a found copy ends all of the user's persistent sessions."""
    ended: list[int] = []

    async def end_all(session: PersistentSession, _: object) -> None:
        ended.append(await manager.revoke_all(session.user))

    async with opened(on_reuse=end_all) as manager:
        stolen, *others = [await sign_in(manager) for _ in range(3)]
        assert (await restore(manager, stolen.with_new_secret())).outcome is Outcome.REUSE
        assert ended == [len(others)]
        assert await manager.sessions("alice") == []


async def test_a_receiver_that_hangs_keeps_no_answer_from_the_browser(workers: Workers, backend: FaultyBackend) -> None:
    """The token is exchanged by then: its answer carries the new one, whatever an audit log does."""
    hangs = Gate()

    def prepare(app: web.Application) -> None:
        app[PERSISTENT_SESSIONS].on_restore.append(hangs)

    worker = await workers(backend, prepare=prepare, timeout=0.2)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    reply = await browser.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert hangs.reached.is_set()
    hangs.opened.set()


# What they are told


async def test_a_signal_tells_of_the_persistent_session_and_the_request(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Receivers get what an audit log wants to know; without a request, as for an administrator, they get None."""
    told: list[tuple[str, PersistentSession, str | None]] = []

    def prepare(app: web.Application) -> None:
        for name in SIGNALS:

            async def receive(session: PersistentSession, request: web.Request | None, name: str = name) -> None:
                told.append((name, session, request and request.path))

            getattr(app[PERSISTENT_SESSIONS], f"on_{name}").append(receive)

    worker = await workers(backend, prepare=prepare)
    browser = Browser(worker, user_agent="Laptop/1.0")
    await browser.sign_in()
    browser.end_session()
    browser.user_agent = "Laptop/1.1"
    clock.advance(60)
    await browser.get()
    (id,) = {session.id for _, session, _ in told}
    await worker.manager.revoke(id)
    assert [(name, path) for name, _, path in told] == [("remember", "/login"), ("restore", "/me"), ("revoke", None)]
    restored = told[1][1]
    assert (restored.user, restored.user_agent, restored.current) == ("alice", "Laptop/1.1", True)
    assert restored.seen_at == datetime.fromtimestamp(round(clock.now, 3), UTC)
    assert abs(restored.seen_at - restored.created_at - timedelta(minutes=1)) < timedelta(milliseconds=2)


async def test_requests_at_once_are_told_apart(workers: Workers, backend: FaultyBackend) -> None:
    """A receiver gets the request that caused the signal, whatever else goes on."""
    told: list[tuple[int | str, str]] = []

    def prepare(app: web.Application) -> None:
        @app[PERSISTENT_SESSIONS].on_remember
        async def receive(session: PersistentSession, request: web.Request | None) -> None:
            await asyncio.sleep(0)
            assert request is not None
            told.append((session.user, request.headers["X-User"]))

    worker = await workers(backend, prepare=prepare)
    users = [f"user {number}" for number in range(10)]
    await asyncio.gather(*(Browser(worker).sign_in(user, headers={"X-User": user}) for user in users))
    assert sorted(told) == sorted(zip(users, users, strict=True))


async def test_each_end_says_why(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """on_forget tells of what this browser did, on_revoke of what was done from elsewhere."""

    async def validate(request: web.Request, _: PersistentSession) -> bool:
        return "refuse" not in request.query

    worker = await workers(backend, validate=validate, max_sessions=2)

    def new_ones() -> list[tuple[str, str | None]]:
        ones = [(name, session.reason) for name, session in worker.told]
        worker.told.clear()
        return ones

    browser, other, third = (Browser(worker) for _ in range(3))
    await browser.sign_in()
    assert new_ones() == [("remember", None)]
    await browser.sign_in()
    assert new_ones() == [("forget", "signed in anew"), ("remember", None)]
    await browser.post("/logout")
    assert new_ones() == [("forget", "signed out")]
    for one in (browser, other, third):
        clock.advance(1)
        await one.sign_in()
    assert new_ones() == [("remember", None), ("remember", None), ("revoke", "too many"), ("remember", None)]
    await third.post("/logout-everywhere?keep=1")
    assert new_ones() == [("revoke", "signed out everywhere")] * 2
    await third.post("/logout-everywhere")
    assert new_ones() == [("revoke", "signed out everywhere")]
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    await browser.post(f"/revoke/{id}")
    assert new_ones() == [("remember", None), ("revoke", "revoked")]
    await browser.sign_in()
    browser.end_session()
    await browser.get()
    assert new_ones() == [("remember", None), ("restore", None)]
    clock.advance(11)
    browser.end_session()
    await browser.get("/me?refuse")
    assert new_ones() == [("revoke", "refused")]
    await browser.sign_in()
    selector = (browser.token or "").partition(".")[0]
    await Browser(worker, {TOKEN: f"{selector}.{'A' * 43}"}).get()
    assert new_ones() == [("remember", None), ("reuse", None)]


@in_virtual_time
async def test_an_administrators_revocation_says_so_and_lost_writes_too() -> None:
    """A reader of the audit log can tell a decision from a store that was restored from a backup."""
    reasons: list[str | None] = []

    async def receive(session: PersistentSession, _: object) -> None:
        reasons.append(session.reason)

    async with opened(on_revoke=receive) as manager:
        token = await sign_in(manager)
        assert await manager.revoke(token.id)
        await sign_in(manager)
        assert await manager.revoke_all("alice") == 1
        token = await sign_in(manager)
        assert (await check(manager, token, 7, shown=False)).outcome is Outcome.LOST
        assert reasons == ["revoked", "signed out everywhere", "the store lost writes"]


async def test_whoever_loses_a_race_to_end_it_tells_nobody(backend: FaultyBackend) -> None:
    """The signal is sent once, by the one whose deletion it was."""
    told: list[str | None] = []

    async def receive(session: PersistentSession, _: object) -> None:
        told.append(session.reason)

    manager = PersistentSessionManager(backend)
    manager.on_revoke.append(receive)
    async with manager:
        token = await sign_in(manager)
        assert sum(await asyncio.gather(*(manager.revoke(token.id) for _ in range(10)))) == 1
    assert told == ["revoked"]


# Repeats


class Owner:
    """Presents tokens as one browser after another, and keeps what on_repeat told."""

    def __init__(self) -> None:
        self.repeats: list[Repeat] = []
        self.told: list[PersistentSession] = []
        self.manager = PersistentSessionManager(MemoryBackend(), rotate_interval=60)
        self.manager.clock = now
        self.manager.on_repeat.append(self._receive)

    async def _receive(self, session: PersistentSession, _: object) -> None:
        assert session.repeat is not None
        self.told.append(session)
        self.repeats.append(session.repeat)

    async def restore(self, token: Token, name: str) -> Token:
        """Present a token, and return the new one."""
        result = await self.manager.lifecycle.restore([token], BrowserInfo(f"{name}/1.0", f"{name}.example"))
        assert result.outcome is Outcome.EXCHANGE
        assert result.token is not None
        return result.token


@in_virtual_time
async def test_a_repeat_tells_of_the_token_that_nobody_showed() -> None:
    """When it was issued, to which browser and address, and that its session was not used."""
    owner = Owner()
    async with owner.manager as manager:
        token = await sign_in(manager)
        await asyncio.sleep(100)
        issued_at = datetime.fromtimestamp(now(), UTC)
        await owner.restore(token, "thief")
        await asyncio.sleep(3600)
        await owner.restore(token, "owner")
        assert owner.repeats == [
            Repeat(
                issued_at=issued_at,
                user_agent="thief/1.0",
                address="thief.example",
                shown=False,
                used_for=timedelta(0),
                count=0,  # the exchange that told of it has dropped it
            )
        ]
        (session,) = owner.told
        assert (session.id, session.user, session.user_agent) == (token.id, "alice", "owner/1.0")
        assert session.reason is None
        assert await manager.get(token.id) is not None


@in_virtual_time
async def test_each_unseen_token_is_told_of_once_with_how_many_there_are() -> None:
    """Five answers in a row are lost: the count tells how many such tokens the record still has."""
    owner = Owner()
    async with owner.manager as manager:
        token = await sign_in(manager)
        for number in range(6):
            await owner.restore(token, f"visit {number}")
            await asyncio.sleep(12)
        assert [repeat.user_agent for repeat in owner.repeats] == [f"visit {number}/1.0" for number in range(5)]
        assert [repeat.count for repeat in owner.repeats] == [1, 2, 3, 4, 5]


@in_virtual_time
async def test_how_long_the_unseen_tokens_session_was_used_tells_most() -> None:
    """More than a minute: somebody did receive the answer, and left the token out."""
    owner = Owner()
    async with owner.manager as manager:
        token = await sign_in(manager)
        await owner.restore(token, "thief")
        for _ in range(3):
            await asyncio.sleep(60)
            assert (await check(manager, token, 1, shown=False)).outcome is Outcome.LIVE
        await asyncio.sleep(60)
        await owner.restore(token, "owner")
        (repeat,) = owner.repeats
        assert repeat.used_for == timedelta(minutes=3)


@in_virtual_time
async def test_of_tokens_that_followed_each_other_the_last_is_told_of() -> None:
    """The holders of the others moved on from them; nobody did from the last, although it was shown."""
    owner = Owner()
    async with owner.manager as manager:
        first = await sign_in(manager)
        second = await owner.restore(first, "owner")
        await check(manager, second, 1)
        await asyncio.sleep(12)
        third = await owner.restore(second, "owner")
        await asyncio.sleep(30)
        fourth = await owner.restore(third, "owner")
        await check(manager, fourth, 3)
        await asyncio.sleep(30)
        await owner.restore(first, "owner")
        assert [(repeat.shown, repeat.count) for repeat in owner.repeats] == [(True, 1)]


@in_virtual_time
async def test_a_check_that_drops_an_unseen_token_tells_of_it() -> None:
    """A live owner goes on with his own token, beside one that somebody got for a copy and never showed."""
    owner = Owner()
    async with owner.manager as manager:
        token = await sign_in(manager)
        await owner.restore(token, "thief")
        await asyncio.sleep(100)
        assert (await check(manager, token, 0)).outcome is Outcome.LIVE
        assert [repeat.address for repeat in owner.repeats] == ["thief.example"]
        assert owner.repeats[0].count == 0
        await asyncio.sleep(100)
        await check(manager, token, 0)
        assert len(owner.repeats) == 1


@in_virtual_time
async def test_rotations_are_told_of_to_nobody() -> None:
    """A live browser whose new tokens are lost moves on silently."""
    owner = Owner()
    async with owner.manager as manager:
        token = await sign_in(manager)
        for _ in range(5):
            await asyncio.sleep(100)
            result = await check(manager, token, 0)
            assert result.token is not None
        await asyncio.sleep(100)
        await owner.restore(token, "owner")
        assert owner.repeats == []


async def test_of_requests_that_repeat_at_once_the_one_that_wins_tells_of_it(
    backend: FaultyBackend, clock: Clock
) -> None:
    """Two workers and five tabs: the report comes once."""
    told: list[str] = []

    async def receive(session: PersistentSession, _: object) -> None:
        told.append(session.id)

    managers = [PersistentSessionManager(backend) for _ in range(2)]
    async with contextlib.AsyncExitStack() as stack:
        for manager in managers:
            manager.clock = clock
            manager.on_repeat.append(receive)
            await stack.enter_async_context(manager)
        token = await sign_in(managers[0])
        await restore(managers[0], token)
        clock.advance(DAY)
        await asyncio.gather(*(restore(manager, token) for manager in managers for _ in range(5)))
    assert told == [token.id]
