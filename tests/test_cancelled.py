"""Requests that are cancelled: by an app that bounds its handlers in time, or because the client has hung up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from aiohttp_persistent_session import PERSISTENT_SESSIONS, PersistentSession, PersistentSessionManager
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, Browser, Clock, Workers
from .exchanges import check, restore, sign_in
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")


@pytest.fixture
async def alarms() -> list[str]:
    return []


@pytest.fixture
async def manager(backend: FaultyBackend, clock: Clock, alarms: list[str]) -> AsyncIterator[PersistentSessionManager]:
    async def alarm(session: PersistentSession, _: object) -> None:
        alarms.append(session.id)

    manager = PersistentSessionManager(backend)
    manager.clock = clock
    manager.on_reuse.append(alarm)
    async with manager:
        yield manager


async def cancelled_restore(
    manager: PersistentSessionManager, backend: FaultyBackend, token: Token, operation: str
) -> None:
    """Present ``token``, and cancel the request once the store has done the ``operation`` and not answered yet."""
    gate = Gate()

    async def after(name: str) -> None:
        if name == operation:
            await gate()

    backend.after = after
    request = asyncio.create_task(restore(manager, token))
    await gate.reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    backend.heal()
    gate.opened.set()


async def gone(manager: PersistentSessionManager, token: Token) -> None:
    """Wait until the store has no such record, as what a cancelled request began goes on by itself."""
    async with asyncio.timeout(20):
        while await manager.get(token.id) is not None:
            await asyncio.sleep(0.001)


async def test_an_exchange_whose_request_is_cancelled_is_one_whose_response_is_lost(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    """The presented token joins for a while, and is exchanged again then."""
    token = await sign_in(manager)
    await cancelled_restore(manager, backend, token, "replace")
    clock.advance(5)
    assert (await restore(manager, token)).outcome is Outcome.JOIN
    clock.advance(5 + 0.001)
    result = await restore(manager, token)
    assert result.outcome is Outcome.EXCHANGE
    clock.advance(DAY)
    assert (await restore(manager, result.token)).outcome is Outcome.EXCHANGE
    assert alarms == []


async def test_a_thief_who_hangs_up_is_found_out_all_the_same(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    """The exchange that his cancelled request made counts as the owner's would: he holds nothing of it."""
    token = await sign_in(manager)
    await cancelled_restore(manager, backend, token, "replace")
    clock.advance(30)
    owners = await restore(manager, token)
    clock.advance(95)
    assert (await check(manager, owners.token, owners.session)).outcome is Outcome.LIVE
    assert (await restore(manager, token)).outcome is Outcome.REUSE
    assert alarms == [token.id]


async def test_hanging_up_when_a_copy_is_found_out_does_not_silence_the_alarm(
    manager: PersistentSessionManager, backend: FaultyBackend, alarms: list[str]
) -> None:
    """The deletion goes on by itself, and whoever listens is told."""
    token = await sign_in(manager)
    await cancelled_restore(manager, backend, token.with_new_secret(), "delete")
    await gone(manager, token)
    assert (await restore(manager, token)).outcome is Outcome.UNKNOWN
    async with asyncio.timeout(20):
        while not alarms:
            await asyncio.sleep(0.001)
    assert alarms == [token.id]


async def test_hanging_up_as_the_secrets_are_taken_away_puts_the_alarm_off_at_most(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    """Nobody is served by that record any more, and whoever presents a token of it next has the alarm sent."""
    token = await sign_in(manager)
    await cancelled_restore(manager, backend, token.with_new_secret(), "replace")
    clock.advance(DAY)
    assert (await check(manager, token, 0)).outcome in {Outcome.REUSE, Outcome.UNKNOWN}
    await gone(manager, token)
    assert alarms == [token.id]


async def test_the_look_of_a_cancelled_request_serves_the_others_that_wait_for_it(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock
) -> None:
    """The first request that asked goes away; those of the same browser that share its look are served by it."""
    token, gate = await sign_in(manager), Gate()
    clock.advance(61)
    backend.fault = gate
    first = asyncio.create_task(check(manager, token, 0))
    await gate.reached.wait()
    second = asyncio.create_task(check(manager, token, 0))
    await asyncio.sleep(0)
    backend.calls.clear()
    first.cancel()
    gate.opened.set()
    assert (await second).outcome is Outcome.LIVE
    assert backend.calls["get"] == 0


async def test_closing_waits_for_what_a_cancelled_request_began(
    backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    """A worker that is stopped as a copy is found out tells of it before it ends."""
    gate = Gate()
    manager = PersistentSessionManager(backend)
    manager.clock = clock

    async def alarm(session: PersistentSession, _: object) -> None:
        await gate()
        alarms.append(session.id)

    manager.on_reuse.append(alarm)
    async with manager:
        token = await sign_in(manager)
        request = asyncio.create_task(restore(manager, token.with_new_secret()))
        await gate.reached.wait()
        request.cancel()
        asyncio.get_running_loop().call_later(0.01, gate.opened.set)
    assert alarms == [token.id]


@pytest.mark.parametrize("where", ["insert", "a receiver"])
async def test_a_sign_in_that_is_cancelled_half_way_leaves_nothing(
    backend: FaultyBackend, clock: Clock, where: str
) -> None:
    """Nobody holds its token, so nothing of it may be listed."""
    gate = Gate()
    manager = PersistentSessionManager(backend)
    manager.clock = clock
    if where == "a receiver":

        async def receive(*_: object) -> None:
            await gate()

        manager.on_remember.append(receive)
    else:
        backend.after = lambda name: gate() if name == "insert" else asyncio.sleep(0)
    async with manager:
        signing_in = asyncio.create_task(sign_in(manager))
        await gate.reached.wait()
        signing_in.cancel()
        with pytest.raises(asyncio.CancelledError):
            await signing_in
        gate.opened.set()
        async with asyncio.timeout(20):
            while await manager.sessions("alice"):
                await asyncio.sleep(0.001)


async def test_a_receiver_that_hangs_costs_nobody_the_token_where_the_app_bounds_its_requests_in_time(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The answer that a middleware makes in the place of the handler's carries the new token."""
    hangs = Gate()

    @web.middleware
    async def bound(request: web.Request, handler: Handler) -> web.StreamResponse:
        if "bounded" not in request.query:
            return await handler(request)
        handling = asyncio.ensure_future(handler(request))
        await hangs.reached.wait()
        handling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await handling
        return web.Response(status=504)

    def prepare(app: web.Application) -> None:
        async def hang(*_: Any) -> None:
            if not hangs.reached.is_set():
                await hangs()

        app.middlewares.insert(0, bound)
        app[PERSISTENT_SESSIONS].on_restore.append(hang)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.sign_in()
    browser.end_session()
    reply = await browser.send("GET", "/me?bounded")
    assert reply.status == 504
    assert reply.token
    browser.take(reply)
    clock.advance(DAY)
    assert (await browser.get()).user == "alice"
    hangs.opened.set()
