"""Clocks that are set back, or are hours ahead: nobody is logged out, accused or kept in by them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, PersistentSessionManager, is_fresh
from aiohttp_persistent_session.policy import CLOCK_TOLERANCE, Policy
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.seen import Seen
from aiohttp_persistent_session.testing import make_record

from .browser import DAY, Browser, Clock, Workers
from .exchanges import check, restore, sign_in, the_record
from .faults import FaultyBackend

HOUR = 3600


@pytest.fixture
async def ahead(workers: Workers, backend: FaultyBackend, clock: Clock) -> Browser:
    """A browser at a worker whose clock is three hours ahead."""
    worker = await workers(backend)
    worker.manager.clock = lambda: clock.now + 3 * HOUR
    return Browser(worker)


# Set back


@pytest.mark.parametrize("back", [3, 60, 2 * HOUR, 10 * DAY])
async def test_a_browser_stays_signed_in_where_the_clock_is_set_back(
    workers: Workers, backend: FaultyBackend, clock: Clock, back: float
) -> None:
    """Live or restored, and once the clock is right again: it is not accused, and its cookie is renewed."""
    worker = await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    await browser.get()
    for step in (-back, 5, 61, 100, back, 61):
        clock.advance(step)
        reply = await browser.get()
        assert (reply.user, bool(reply.token)) == ("alice", True)
    for step in (-back, 15, back):
        clock.advance(step)
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize("grace_period", [0, 10, HOUR])
async def test_an_exchange_in_the_future_is_no_race(
    workers: Workers, backend: FaultyBackend, clock: Clock, grace_period: float
) -> None:
    """A spent token must not join for hours because the clock that spent it was wrong."""
    worker = await workers(backend, grace_period=grace_period)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    copy = browser.clone()
    await browser.get()
    clock.advance(-2 * HOUR)
    assert (await copy.get()).token is not None
    record = await the_record(backend)
    now = round(clock.now, 3)
    assert max(secret.issued_at for secret in record.secrets) <= now
    assert {secret.exchanged_at for secret in record.secrets} <= {None, now}
    assert (record.seen_at, record.issued_last_at) == (now, now)


@pytest.mark.parametrize(
    ("back", "suffices"), [(0, True), (CLOCK_TOLERANCE, True), (CLOCK_TOLERANCE + 0.001, False), (DAY, False)]
)
def test_a_look_of_later_does_not_suffice(back: float, suffices: bool) -> None:
    """Where the clock was set back since, a revocation would otherwise be noticed that much later."""
    record = replace(make_record(), seen_at=1000.0, created_at=0.0)
    seen = Seen(Policy())
    assert seen.put(record, seen.ask(), 1000.0).is_current(1000.0 - back) is suffices
    absent = Seen(Policy())
    assert absent.put_absent(record.id, 1000.0).is_current(1000.0 - back) is suffices


async def test_a_revocation_is_noticed_within_the_interval_where_the_clock_is_set_back(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """What the worker remembers from the future counts for nothing."""
    one, two = await workers(backend), await workers(backend)
    browser = Browser(one)
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    clock.advance(-HOUR)
    await browser.get()
    assert await two.manager.revoke(id)
    clock.advance(60.001)
    assert (await browser.get()).user is None


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_a_response_carries_its_token_where_the_clock_is_set_meanwhile(
    workers: Workers, backend: FaultyBackend, clock: Clock, step: float
) -> None:
    """It cannot be told how long the handler took, so the token counts as issued now."""

    async def page(_: web.Request) -> web.Response:
        clock.advance(step)
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/": page}))
    await browser.sign_in()
    browser.end_session()
    token = (await browser.get("/")).token
    assert token
    newest = max((await the_record(backend)).secrets, key=lambda secret: secret.issued_at)
    assert newest.issued_at == round(clock.now, 3)
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_a_live_response_is_renewed_where_the_clock_is_set_meanwhile(
    workers: Workers, backend: FaultyBackend, clock: Clock, step: float
) -> None:
    """The record is read, as after a slow handler."""

    async def page(_: web.Request) -> web.Response:
        clock.advance(step)
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/": page}))
    await browser.sign_in()
    backend.calls.clear()
    assert (await browser.get("/")).token == browser.token
    assert backend.calls["get"] == 1


# Hours ahead


async def test_a_worker_that_is_hours_ahead_purges_nothing_that_others_use(clock: Clock) -> None:
    """What expired is purged a day later, so a clock may be wrong by as much."""
    backend = MemoryBackend()
    async with (
        PersistentSessionManager(backend, max_age=10 * HOUR) as right,
        PersistentSessionManager(backend) as wrong,
    ):
        right.clock = clock
        wrong.clock = lambda: clock.now + 23 * HOUR
        token = await sign_in(right)
        clock.advance(9 * HOUR)
        assert await wrong.purge() == 0
        assert (await restore(right, token)).outcome is Outcome.EXCHANGE
        clock.advance(34 * HOUR)
        assert await right.purge() == 0
        clock.advance(HOUR)
        assert await right.purge() == 1


async def test_a_worker_that_is_days_ahead_serves_a_visitor_as_anonymous_and_touches_nothing(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The record has expired as far as it knows; another worker goes on with both cookies."""
    right, wrong = await workers(backend), await workers(backend)
    wrong.manager.clock = lambda: clock.now + 40 * DAY
    browser = Browser(right)
    await browser.sign_in()
    record = await the_record(backend)
    for _ in range(2):
        reply = await browser.get(to=wrong)
        assert (reply.user, reply.cookies) == (None, {})
    assert await the_record(backend) == record
    assert (await browser.get(to=right)).user == "alice"
    assert "reuse" not in dict(wrong.events)


async def test_what_a_worker_that_is_ahead_wrote_is_put_right_by_the_next_write(
    ahead: Browser, workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Times in the future count as now, and are stored so."""
    await ahead.sign_in()
    ahead.end_session()
    await ahead.get()
    wrong = await the_record(backend)
    assert wrong.seen_at == round(clock.now + 3 * HOUR, 3)
    right = await workers(backend)
    assert (await ahead.get(to=right)).user == "alice"
    clock.advance(60.001)
    assert (await ahead.get(to=right)).user == "alice"
    record = await the_record(backend)
    now = round(clock.now, 3)
    assert record.seen_at == now
    assert max(secret.issued_at for secret in record.secrets) <= now
    assert record.expires_at == round(now + 30 * DAY + 60, 3)


async def test_copies_are_found_out_where_a_worker_is_ahead(
    ahead: Browser, workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The spent token is dropped 90 s after the right worker has seen the new one."""
    right = await workers(backend)
    await ahead.sign_in()
    ahead.end_session()
    thief = ahead.clone()
    await ahead.get()
    for _ in range(3):
        clock.advance(60.001)
        assert (await ahead.get(to=right)).user == "alice"
    assert (await thief.get(to=right)).user is None
    assert "reuse" in dict(right.events)


@pytest.mark.parametrize("apart", [CLOCK_TOLERANCE - 1, -CLOCK_TOLERANCE + 1])
async def test_workers_a_few_seconds_apart_make_one_exchange(
    workers: Workers, backend: FaultyBackend, clock: Clock, apart: float
) -> None:
    """Five tabs that are restored at both join it, whichever of them is ahead."""
    one, two = await workers(backend), await workers(backend)
    two.manager.clock = lambda: clock.now + apart
    browser = Browser(one)
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=worker) for worker in (one, two, one, two, two)))
    assert [reply.user for reply in replies] == ["alice"] * 5
    assert len([reply for reply in replies if reply.token]) == 1


async def test_a_sign_in_at_a_worker_that_is_ahead_is_not_fresh_for_longer(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A password that was typed in the future was typed nobody knows when: ask for it again."""

    async def fresh(request: web.Request) -> web.Response:
        return web.json_response(await is_fresh(request, within=300))

    wrong, right = await workers(backend), await workers(backend, handlers={"/fresh": fresh})
    wrong.manager.clock = lambda: clock.now + 3 * HOUR
    browser = Browser(wrong)
    await browser.sign_in()
    clock.advance(301)
    assert (await browser.get("/fresh", to=right)).json is False


async def test_a_fresh_login_survives_clocks_that_are_a_few_seconds_apart(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The worker that is asked may be behind the one at which the password was typed."""

    async def fresh(request: web.Request) -> web.Response:
        return web.json_response(await is_fresh(request, within=300))

    wrong, right = await workers(backend), await workers(backend, handlers={"/fresh": fresh})
    wrong.manager.clock = lambda: clock.now + CLOCK_TOLERANCE - 1
    browser = Browser(wrong)
    await browser.sign_in()
    assert (await browser.get("/fresh", to=right)).json is True


async def test_max_sessions_holds_where_the_clock_is_set_back(clock: Clock) -> None:
    """Persistent sessions that began in the future are no younger than one that begins now."""
    backend = MemoryBackend()
    async with PersistentSessionManager(backend, max_sessions=2) as manager:
        manager.clock = clock
        for _ in range(2):
            await sign_in(manager)
        clock.advance(-2 * HOUR)
        newest = [await sign_in(manager) for _ in range(3)][-1]
        assert len(await manager.sessions("alice")) == 2
        assert (await check(manager, newest, 0)).outcome is Outcome.LIVE
