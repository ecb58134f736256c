"""What a thief tries with a copied token or session: over two workers, in an outage, beside the app's own login."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Any

import pytest
from aiohttp import web
from aiohttp_session import get_session, new_session

from aiohttp_persistent_session import (
    MemoryBackend,
    PersistentSession,
    current_persistent_session,
    forget_everywhere,
    persistent_sessions,
    remember,
)
from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.rules import Outcome

from .browser import SESSION, TOKEN, Browser, Clock, Worker, Workers
from .exchanges import check, restore, sign_in
from .faults import FaultyBackend
from .test_store import SOON, TIMEOUT, Stopwatch, faulty, opened
from .virtual_time import in_virtual_time


class CopyingBackend(MemoryBackend):
    """Gives back another object at each ``get``, as every store does that is no dict in this process."""

    async def get(self, id: str) -> Record | None:
        record = await super().get(id)
        return record and dataclasses.replace(record)


class LosingBackend(FaultyBackend):
    """Has others win each swap, while ``loses`` is true."""

    loses = False

    async def replace(self, record: Record) -> bool:
        return not self.loses and await super().replace(record)


class SwallowingBackend(FaultyBackend):
    """Answers once its time is up, as asyncio.wait_for may where the answer and the time-out coincide."""

    swallows = False

    async def get(self, id: str) -> Record | None:
        record = await super().get(id)
        if self.swallows:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return record


def copy_of(browser: Browser) -> Browser:
    """Somebody who copied the token alone."""
    return Browser(browser.worker, {TOKEN: browser.cookies[TOKEN]}, "Thief/6.6")


def session_of(browser: Browser) -> Browser:
    """Somebody who copied the session's cookie alone."""
    return Browser(browser.worker, {SESSION: browser.cookies[SESSION]}, "Thief/6.6")


def repeats(*workers: Worker) -> list[PersistentSession]:
    return [one for worker in workers for name, one in worker.told if name == "repeat"]


# A thief who shows his token once, and goes on by his session


async def test_a_thief_who_shows_his_token_once_at_another_worker_is_told_of(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The second worker, which does not know his secret, writes that it was shown: this hides nothing."""
    worker, other = await workers(backend), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    thief = copy_of(browser)
    await thief.get()
    clock.advance(1)
    assert (await thief.get(to=other)).user == "alice"
    del thief.cookies[TOKEN]
    for _ in range(60):
        clock.advance(61)
        assert (await thief.get(to=other)).user == "alice"
    assert (await browser.get()).user == "alice"
    (told,) = repeats(worker, other)
    assert told.repeat is not None
    assert (told.repeat.user_agent, told.repeat.shown) == ("Thief/6.6", True)


@pytest.mark.parametrize("shows", [False, True])
async def test_strict_accuses_at_the_owners_return(
    workers: Workers, backend: FaultyBackend, clock: Clock, *, shows: bool
) -> None:
    """With ``strict`` a copy that was exchanged before its owner came back ends the persistent session."""
    worker = await workers(backend, strict=True)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    thief = copy_of(browser)
    await thief.get()
    clock.advance(61)
    if shows:
        await thief.get()
    del thief.cookies[TOKEN]
    assert (await thief.get()).user == "alice"
    clock.advance(61)
    assert (await browser.get()).user is None
    assert (await thief.get()).user is None
    assert [name for name, _ in worker.events if name != "new_client"] == ["remember", "restore", "reuse"]


# Sessions that had ended, while the store is down


async def test_a_revoked_session_stays_anonymous_while_the_store_is_down(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """The worker knows that there is no record, also when it would look again."""
    await browser.sign_in()
    thief = session_of(browser)
    await worker.manager.revoke_all("alice")
    backend.break_down()
    for seconds in (0, 61, 3600):
        clock.advance(seconds)
        assert (await thief.send("GET", "/me")).user is None
        assert (await browser.send("GET", "/me")).user is None


async def test_a_superseded_session_stays_anonymous_while_the_store_is_down(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Its number is that of a secret that was dropped, and it comes without a token."""
    await browser.sign_in()
    thief = session_of(browser)
    browser.end_session()
    await browser.get()
    clock.advance(95)
    await browser.get()
    assert (await thief.send("GET", "/me")).user is None
    backend.break_down()
    for seconds in (0, 61, 3600):
        clock.advance(seconds)
        assert (await thief.send("GET", "/me")).user is None
        assert (await browser.send("GET", "/me")).user == "alice"


async def test_a_browser_session_without_its_token_stays_anonymous_while_the_store_is_down(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """With ``persistent=False`` the session ends with its token's cookie, whatever the store does."""
    await browser.post("/login", data={"user": "alice", "for_now": "1"})
    thief = session_of(browser)
    backend.break_down()
    for seconds in (0, 61, 3600):
        clock.advance(seconds)
        assert (await thief.send("GET", "/me")).user is None
        assert (await browser.send("GET", "/me")).user == "alice"


async def test_a_session_that_a_worker_does_not_know_goes_on_while_the_store_is_down(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Nobody is signed out by an outage: with its token or without, also where it is younger than what is known."""
    other = await workers(backend)
    await browser.sign_in()
    backend.break_down()
    assert (await browser.send("GET", "/me", to=other)).user == "alice"
    assert (await session_of(browser).send("GET", "/me", to=other)).user == "alice"
    backend.heal()
    await browser.send("GET", "/me", to=other)
    clock.advance(61)
    browser.end_session()
    await browser.get()
    backend.break_down()
    assert (await session_of(browser).send("GET", "/me", to=other)).user == "alice"


async def test_a_session_that_was_accused_ends_also_where_its_record_cannot_be_deleted(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Its secrets were taken away: it never comes back."""
    await browser.sign_in()
    thief = browser.clone()
    browser.end_session()
    await browser.get()
    clock.advance(95)
    await browser.get()
    backend.break_down("delete")
    for _ in range(2):
        assert (await thief.send("GET", "/me")).user is None
        clock.advance(61)
    backend.heal()
    assert (await thief.send("GET", "/me")).user is None


async def test_a_lifetime_that_is_over_ends_a_session_while_the_store_is_down(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """``max_lifetime`` counts from the sign-in, which this worker knows."""
    worker = await workers(backend, max_lifetime=3600)
    browser = Browser(worker)
    await browser.sign_in()
    backend.break_down()
    clock.advance(3601)
    assert (await browser.get()).user is None


# Writes that hang, while reads answer


@in_virtual_time
async def test_writes_that_hang_cost_one_live_request_its_time_out() -> None:
    """The first one finds it out; all others go on at once."""
    backend = faulty()
    async with opened(backend) as manager:
        tokens = [await sign_in(manager, f"user{number}") for number in range(20)]
        await asyncio.sleep(61)
        backend.hang("replace")
        watch = Stopwatch()
        for token in tokens:
            result = await check(manager, token, 0)
            assert result.failed or result.outcome is Outcome.LIVE
            await asyncio.sleep(0)
        assert watch.seconds == TIMEOUT


@in_virtual_time
async def test_writes_that_hang_cost_one_restore_its_time_out() -> None:
    """The others are anonymous at once, and restored once a write is answered again."""
    backend = faulty()
    async with opened(backend) as manager:
        tokens = [await sign_in(manager, f"user{number}") for number in range(20)]
        backend.hang("replace")
        watch = Stopwatch()
        for token in tokens:
            assert (await restore(manager, token)).failed
            await asyncio.sleep(0)
        assert watch.seconds == TIMEOUT
        backend.heal()
        await asyncio.sleep(SOON)
        for token in tokens:
            assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_writes_that_hang_are_tried_by_one_request_at_a_time() -> None:
    """One of the requests that come at once waits for the store; the others do not."""
    backend = faulty()
    async with opened(backend) as manager:
        tokens = [await sign_in(manager, f"user{number}") for number in range(10)]
        backend.hang("replace")
        assert (await restore(manager, tokens[0])).failed
        await asyncio.sleep(SOON)
        before = backend.calls["replace"]
        assert all(result.failed for result in await asyncio.gather(*(restore(manager, token) for token in tokens)))
        assert backend.calls["replace"] - before == 1


async def test_requests_of_one_browser_do_not_each_wait_for_writes_that_hang(workers: Workers, clock: Clock) -> None:
    """Once one of them has waited, the look counts as done for ``check_interval``."""
    backend = faulty()
    worker = await workers(backend, timeout=0.3)
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(61)
    backend.hang("replace")
    assert (await browser.send("GET", "/me")).user == "alice"
    before = backend.calls.copy()
    for _ in range(10):
        assert (await browser.send("GET", "/me")).user == "alice"
    assert backend.calls["replace"] == before["replace"]
    assert backend.calls["get"] - before["get"] <= 1  # the one that asks in the background


# Who is told of a repeat, where answers are lost


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_check_whose_answer_is_lost_reports_the_secret_that_it_drops(
    workers: Workers, clock: Clock, *, is_lost: bool
) -> None:
    """The swap happened: what is read then equals what was wanted, though it is another object."""
    backend = FaultyBackend(CopyingBackend())
    worker = await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(200)
    thief = copy_of(browser)
    browser.end_session()
    await browser.get()
    clock.advance(61)
    await browser.get()
    clock.advance(9)
    await thief.get()
    clock.advance(130)
    (of_the_owner,) = repeats(worker)  # what the thief's exchange dropped
    if is_lost:
        backend.lose_answer("replace")
    for _ in range(6):
        assert (await browser.get()).user == "alice"
        clock.advance(100)
    first, dropped = repeats(worker)
    assert first is of_the_owner
    assert dropped.repeat is not None
    assert dropped.repeat.user_agent == "Thief/6.6"


async def test_nobody_is_told_of_a_repeat_that_was_not_written(workers: Workers, clock: Clock) -> None:
    """Otherwise each check that loses its swaps would tell of it again."""
    backend = LosingBackend(MemoryBackend())
    worker = await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(200)
    await copy_of(browser).get()
    clock.advance(100)
    backend.loses = True
    for _ in range(3):
        assert (await browser.get()).user == "alice"
        clock.advance(61)
    assert repeats(worker) == []
    backend.loses = False
    await browser.get()
    assert len(repeats(worker)) == 1


# forget_everywhere by a request that joined


async def test_a_request_that_joined_is_not_kept_by_forget_everywhere(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Otherwise a copy that came at the right moment would become the one token that is left."""
    await browser.sign_in()
    browser.end_session()
    thief = browser.clone()
    clock.advance(300)
    await browser.get()
    clock.advance(1)
    reply = await thief.post("/logout-everywhere?keep=1")
    assert (reply.json, reply.token or None) == (1, None)
    assert await backend.of_user("alice", 10) == []
    clock.advance(61)
    assert (await thief.get()).user is None
    assert (await browser.get()).user is None


# A session that holds another user than the persistent session that opened it


async def switch(request: web.Request) -> web.Response:
    """The app's own login, which does not call forget() before it."""
    session: Any = await new_session(request)
    session["user"] = "bob"
    listed = [one.user for one in await persistent_sessions(request)]
    current = await current_persistent_session(request)
    ended = await forget_everywhere(request) if "everywhere" in request.query else None
    return web.json_response([listed, current and current.user, ended])


async def test_a_handler_that_signs_another_user_in_sees_that_users_persistent_sessions(
    workers: Workers, backend: FaultyBackend
) -> None:
    """What is listed goes by the session as it is now, not by what the request began with."""
    worker = await workers(backend, handlers={"/switch": switch})
    browser = Browser(worker)
    await browser.sign_in("alice")
    await Browser(worker).sign_in("bob")
    assert (await browser.send("POST", "/switch")).json == [["bob"], None, None]


async def test_a_handler_that_signs_another_user_in_ends_that_users_persistent_sessions(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The other browsers of the user before stay signed in."""
    worker = await workers(backend, handlers={"/switch": switch})
    browser, elsewhere = Browser(worker), Browser(worker)
    await browser.sign_in("alice")
    await elsewhere.sign_in("alice")
    await Browser(worker).sign_in("bob")
    assert (await browser.post("/switch?everywhere=1")).json == [["bob"], None, 1]
    assert await backend.of_user("bob", 10) == []
    assert (await elsewhere.get()).user == "alice"


async def test_remember_carries_no_data_of_the_user_before(workers: Workers, backend: FaultyBackend) -> None:
    """Also where a handler put another user into the session in between."""

    async def sign_in_as_carol(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["user"] = "bob"
        await remember(request, "carol")
        return web.Response()

    async def sign_in_as_bob(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "bob"
        await remember(request, "alice")
        return web.Response()

    worker = await workers(backend, handlers={"/carol": sign_in_as_carol, "/back": sign_in_as_bob})
    for path, user in (("/carol", "carol"), ("/back", "alice")):
        browser = Browser(worker)
        await browser.sign_in("alice")
        await browser.post("/cart", data={"item": "hers"})
        await browser.get(path)
        reply = await browser.get()
        assert (reply.user, reply.json["cart"]) == (user, None)


async def test_a_failed_check_does_not_lend_another_users_persistent_session(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A session of bob that bears the mark of alice's record gets nothing of hers, and no token of hers."""

    async def own(request: web.Request) -> web.Response:
        (await get_session(request))["user"] = "bob"
        return web.Response()

    async def keep(request: web.Request) -> web.Response:
        backend.heal()
        current = await current_persistent_session(request)
        ended = await forget_everywhere(request, keep_current=True)
        return web.json_response([current and current.user, ended])

    worker = await workers(backend, handlers={"/own": own, "/keep": keep})
    browser = Browser(worker)
    await browser.sign_in("alice")
    await browser.get("/own")
    assert (await browser.send("GET", "/device")).json is None
    clock.advance(61)
    backend.break_down()
    reply = await browser.get("/keep")
    assert (reply.json, reply.token) == ([None, 0], None)
    assert [one.user for one in await backend.of_user("alice", 10)] == ["alice"]


# A driver that swallows the time-out


@pytest.mark.parametrize("validates", [False, True])
async def test_a_driver_that_swallows_the_time_out_is_no_server_error(workers: Workers, *, validates: bool) -> None:
    """Its answer comes too late to go by: the request is anonymous, and a later one is restored."""
    backend = SwallowingBackend(MemoryBackend())
    validate = (lambda request, persistent_session: True) if validates else None
    worker = await workers(backend, timeout=0.3, validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    backend.swallows = True
    reply = await browser.send("GET", "/me")
    assert reply.status == 200
    assert (reply.user, reply.json["restore_failed"], reply.token) == (None, True, None)
    backend.swallows = False
    async with asyncio.timeout(10):
        while (await browser.send("GET", "/me")).user != "alice":
            await asyncio.sleep(0.05)
