"""Requests that are cancelled: by an app that bounds its handlers in time, or because the client has hung up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from aiohttp_persistent_session import PERSISTENT_SESSIONS, PersistentSession, PersistentSessionManager
from aiohttp_persistent_session.record import Outcome
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, Browser, Clock, Workers
from .exchanges import exchange, sign_in
from .faults import FaultyBackend, Gate

EVERY_STORE = True


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


async def cancelled_exchange(
    manager: PersistentSessionManager, backend: FaultyBackend, token: Token, operation: str
) -> None:
    """Present ``token``, and cancel the request once the store has done the ``operation`` and not answered yet."""
    gate = Gate()

    async def after(name: str) -> None:
        if name == operation:
            await gate()

    backend.after = after
    request = asyncio.create_task(exchange(manager, token))
    await gate.reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    backend.heal()
    gate.opened.set()
    while manager._running:
        await asyncio.sleep(0.001)


async def test_an_exchange_whose_request_is_cancelled_is_one_whose_response_is_lost(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    token = await sign_in(manager)
    await cancelled_exchange(manager, backend, token, "replace")
    clock.advance(5)
    joined = await exchange(manager, token)
    assert joined.outcome is Outcome.RACE
    clock.advance(DAY)
    assert (await exchange(manager, joined.token)).outcome is Outcome.CURRENT
    assert alarms == []


async def test_a_thief_who_hangs_up_is_found_out(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    """Or who presents a copied token twice at once, and gives one request up, could go on for weeks."""
    token = await sign_in(manager)
    await cancelled_exchange(manager, backend, token, "replace")
    assert (await exchange(manager, token)).outcome is Outcome.RACE
    clock.advance(DAY)
    assert (await exchange(manager, token)).outcome is Outcome.REUSE
    assert alarms == [token.id]


async def test_who_hangs_up_when_a_copy_is_found_out_does_not_silence_the_alarm(
    manager: PersistentSessionManager, backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    token = await sign_in(manager)
    await exchange(manager, token)
    clock.advance(DAY)
    await cancelled_exchange(manager, backend, token, "delete")
    assert alarms == [token.id]
    assert (await exchange(manager, token)).outcome is Outcome.UNKNOWN


async def test_closing_waits_for_what_a_cancelled_request_began(
    backend: FaultyBackend, clock: Clock, alarms: list[str]
) -> None:
    gate = Gate()
    manager = PersistentSessionManager(backend)
    manager.clock = clock

    async def alarm(session: PersistentSession, _: object) -> None:
        await gate()
        alarms.append(session.id)

    manager.on_reuse.append(alarm)
    async with manager:
        token = await sign_in(manager)
        await exchange(manager, token)
        clock.advance(DAY)
        request = asyncio.create_task(exchange(manager, token))
        await gate.reached.wait()
        request.cancel()
        asyncio.get_running_loop().call_later(0.01, gate.opened.set)
    assert alarms == [token.id]


async def test_a_receiver_that_hangs_costs_nobody_the_token_where_the_app_bounds_its_requests_in_time(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
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
