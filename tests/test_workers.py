"""One browser on several workers that share a store: what each knows, and when it is wrong about it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import PersistentSession, Record, Secret, current_persistent_session
from aiohttp_persistent_session.policy import Policy
from aiohttp_persistent_session.seen import Seen
from aiohttp_persistent_session.testing import make_record

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Workers
from .exchanges import the_record
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")


async def test_a_browser_whose_responses_are_all_slow_stays_signed_in(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A look that confirms a slow response's token does not put off the one that moves the expiry."""

    async def long_poll(_: web.Request) -> web.Response:
        clock.advance(3)
        return web.json_response("ok")

    browser = Browser(await workers(backend, handlers={"/poll": long_poll}, max_age=600))
    await browser.sign_in()
    for _ in range(40):
        clock.advance(43)
        assert (await browser.get("/poll")).token == browser.token
    assert clock.now - (await the_record(backend)).seen_at <= 60 + 46
    assert (await browser.get()).user == "alice"


async def test_no_worker_renews_the_cookie_beyond_the_record(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Each looks again when the record was last written an interval ago, not when itself last looked."""
    one, two = await workers(backend, max_age=600), await workers(backend, max_age=600)
    browser = Browser(one)
    await browser.sign_in()
    renewed = 0
    for pause in (59.9, 0.05, 9, 30, 20.9, 9, 40):
        clock.advance(pause)
        reply = await browser.get(to=two)
        if TOKEN in reply.cookies:
            renewed += 1
            assert (await the_record(backend)).expires_at >= clock.now + int(reply.cookies[TOKEN]["max-age"])
    assert renewed >= 4


async def test_tabs_that_restore_at_several_workers_open_one_session(workers: Workers, backend: FaultyBackend) -> None:
    """One of them exchanges the token, the others join it, wherever they end up."""
    pool = [await workers(backend) for _ in range(3)]
    browser = Browser(pool[0])
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=worker) for worker in pool * 4))
    assert [reply.user for reply in replies] == ["alice"] * 12
    assert len([reply for reply in replies if reply.token]) == 1
    assert len([reply for reply in replies if SESSION in reply.cookies]) == 1
    assert (await the_record(backend)).last_session == 1


async def test_answers_of_two_workers_that_overtake_each_other_leave_a_token_that_works(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The slower answer may put the older token over the newer one: both are valid until one of them has settled."""
    gate = Gate()
    one = await workers(backend, handlers={"/page": gate.answer}, grace_period=0)
    two = await workers(backend, grace_period=0)
    browser = Browser(one)
    await browser.sign_in()
    browser.end_session()
    slow = asyncio.create_task(browser.send("GET", "/page"))
    await gate.reached.wait()
    clock.advance(3)
    newer = (await browser.get(to=two)).token
    gate.opened.set()
    older = browser.take(await slow).token
    assert older
    assert older != newer
    for _ in range(3):
        clock.advance(DAY)
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(one.events)


async def test_the_spent_token_is_dropped_once_the_new_one_has_settled(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """An exchange is followed by a check after 90 s, however long check_interval is."""
    browser = Browser(await workers(backend, check_interval=3600))
    await browser.sign_in()
    clock.advance(DAY)
    browser.end_session()
    await browser.get()
    await browser.get()
    backend.calls.clear()
    for pause in (30, 30, 29.999):
        clock.advance(pause)
        await browser.get()
    assert not backend.calls
    assert len((await the_record(backend)).secrets) == 2
    clock.advance(0.002)
    await browser.get()
    assert backend.calls["replace"] == 1
    assert len((await the_record(backend)).secrets) == 1


@pytest.mark.parametrize("wrong", ["an answer of the store", "the clock"])
async def test_a_worker_that_wrongly_takes_a_record_for_gone_learns_better(
    workers: Workers, backend: FaultyBackend, clock: Clock, wrong: str
) -> None:
    """The session has ended as far as it knows; the token that came with it is judged as a restore."""
    worker = await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(61)
    if wrong == "the clock":
        clock.advance(31 * DAY)
        await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}")
        clock.advance(-31 * DAY)
    else:
        real = backend.inner.get

        async def nothing(_: str) -> Record | None:
            backend.inner.get = real
            return None

        backend.inner.get = nothing
        await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}")
    assert (await browser.get()).user == "alice"
    for _ in range(3):
        clock.advance(120)
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_with_check_interval_0_live_requests_do_not_fight_over_the_record(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Twenty live requests and a restore at once write a few times, not twenty."""
    browser = Browser(await workers(backend, check_interval=0))
    await browser.sign_in()
    await browser.get()
    clock.advance(5)
    before = (await the_record(backend)).revision
    live = [browser.send("GET", "/me") for _ in range(20)]
    restoring = browser.clone()
    restoring.end_session()
    replies = await asyncio.gather(*live, restoring.send("GET", "/me"))
    assert [reply.user for reply in replies] == ["alice"] * 21
    assert (await the_record(backend)).revision - before <= 2


async def test_a_revocation_while_validate_was_slow_is_not_overlooked_by_a_join(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The record is read again before anybody is served."""
    gate, slow = Gate(), False

    async def validate(_: web.Request, __: PersistentSession) -> bool:
        if slow:
            await gate()
            clock.advance(5)
        return True

    one, two = await workers(backend, validate=validate), await workers(backend)
    browser = Browser(one)
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    browser.end_session()
    joining = browser.clone()
    await browser.get()
    slow = True
    pending = asyncio.create_task(joining.send("GET", "/me"))
    await gate.reached.wait()
    assert await two.manager.revoke(id)
    gate.opened.set()
    assert (await pending).user is None


async def test_another_user_put_into_the_session_is_none_of_the_persistent_sessions(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """An application that signs bob in on alice's session must not show him hers, nor keep her signed in."""

    async def impersonate(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "bob"
        return web.Response()

    async def shown(request: web.Request) -> web.Response:
        session = await current_persistent_session(request)
        return web.json_response(session and session.user)

    worker = await workers(backend, handlers={"/bob": impersonate, "/shown": shown})
    browser = Browser(worker)
    await browser.sign_in("alice")
    await browser.get("/bob")
    reply = await browser.get("/shown")
    assert reply.json is None
    assert reply.token is None
    assert "forget()" in caplog.text
    # Whose session it was cannot be told once the record is gone: then it ends, to be on the safe side.
    await worker.manager.revoke_all("alice")
    assert (await browser.get()).user is None


async def test_a_session_that_spells_the_users_id_otherwise_is_still_the_users(
    workers: Workers, backend: FaultyBackend
) -> None:
    """Some encoders turn numbers into text: listing, revoking and signing out everywhere go by the record's user."""

    async def spell(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "7"
        return web.Response()

    worker = await workers(backend, handlers={"/spell": spell})
    browser, other = Browser(worker), Browser(worker)
    await browser.sign_in("7")
    await other.sign_in("7")
    await browser.get("/spell")
    assert (await browser.get()).token == browser.token
    listed = (await browser.get("/devices")).json
    assert [user for _, _, _, user in listed] == [7, 7]
    (theirs,) = [id for id, current, *_ in listed if not current]
    assert (await browser.post(f"/revoke/{theirs}")).json is True
    assert (await browser.post("/logout-everywhere")).json == 1
    assert (await browser.get()).user is None


# What a worker remembers


def record(revision: int, **fields: object) -> Record:
    return make_record(id="A" * 22, revision=revision, **fields)


def test_answers_that_overtake_each_other_are_put_in_order() -> None:
    """The higher revision wins; if either answer is "no record", the later question wins."""
    seen, now = Seen(Policy()), record(0).seen_at
    questions = [seen.ask() for _ in range(6)]
    assert seen.put(record(2), questions[0], now).record.revision == 2
    assert seen.put(record(1), questions[1], now).record.revision == 2
    assert seen.put(record(3), questions[0], now).record.revision == 3
    assert seen.put_absent("A" * 22, now, questions[4]).record is None
    assert seen.put(record(4), questions[3], now).record is None
    assert seen.put(record(4), questions[5], now).record.revision == 4
    assert seen.put_absent("A" * 22, now, questions[4]).record.revision == 4


def test_what_was_just_deleted_is_gone_whatever_was_asked_before() -> None:
    """A read that began before the deletion does not bring the record back."""
    seen, now = Seen(Policy()), record(0).seen_at
    earlier = seen.ask()
    seen.put_absent("A" * 22, now)
    assert seen.put(record(7), earlier, now).record is None


@pytest.mark.parametrize(("age", "suffices"), [(0, True), (59.999, True), (60.001, False)])
def test_a_look_suffices_for_check_interval_from_the_last_write(age: float, suffices: bool) -> None:
    """It counts from the write, whichever worker made it; otherwise cookies would be renewed beyond the record."""
    seen, written = Seen(Policy()), record(0)
    view = seen.put(written, seen.ask(), written.seen_at + min(age, 30))
    assert view.is_current(written.seen_at + age) is suffices


@pytest.mark.parametrize(("age", "suffices"), [(99.999, True), (100, False)])
def test_a_look_does_not_outlive_the_persistent_session(age: float, suffices: bool) -> None:
    """The instant in which max_lifetime ends it belongs to what is over."""
    policy = Policy(max_lifetime=100, check_interval=3600, max_age=7200)
    seen, written = Seen(policy), record(0)
    view = seen.put(written, seen.ask(), written.seen_at)
    assert view.is_current(written.created_at + age) is suffices


@pytest.mark.parametrize("grace_period", [0, 10])
def test_a_token_that_was_exchanged_is_looked_at_once_in_a_grace_period(grace_period: float) -> None:
    """A client that ignores Set-Cookie must not cost a read at each request; 2 s are the least."""
    made, interval = record(0), max(grace_period, 2)
    (secret,) = made.secrets
    made = replace(made, secrets=(replace(secret, exchanged_at=made.seen_at),))
    policy = Policy(grace_period=grace_period)
    seen = Seen(policy)
    view = seen.put(made, seen.ask(), made.seen_at)
    assert view.knows([secret.digest], 0, made.seen_at + interval, policy)
    assert not view.knows([secret.digest], 0, made.seen_at + interval + 0.001, policy)
    assert not view.knows([b"another".ljust(32)], 0, made.seen_at, policy)
    assert view.knows([], 0, made.seen_at + 50, policy)
    assert not view.knows([], 1, made.seen_at + 50, policy)


def test_a_spent_token_is_never_known_by_its_cookie_alone() -> None:
    """It must be parsed and looked at, so that its owner moves on to the next one."""
    made = record(0)
    (secret,) = made.secrets
    spent = Secret(secret.digest, secret.issued_at, exchanged_at=made.seen_at)
    seen = Seen(Policy())
    assert seen.put(made, seen.ask(), made.seen_at).is_unspent(secret.digest)
    view = seen.put(replace(made, secrets=(spent,), revision=1), seen.ask(), made.seen_at)
    assert not view.is_unspent(secret.digest)
    assert not view.is_unspent(b"another".ljust(32))
