"""One browser on several workers that share a store: what each knows, and when it is wrong about it."""

from __future__ import annotations

import asyncio

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import PersistentSession, current_persistent_session
from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.sightings import Sighting, Sightings

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Workers
from .faults import FaultyBackend, Gate
from .stores import Store

EVERY_STORE = True


async def test_a_browser_whose_responses_are_all_slow_stays_signed_in(
    workers: Workers, clock: Clock, store: Store
) -> None:
    """A look that confirms a slow response's token does not put off the one that moves the expiry."""

    async def long_poll(_: web.Request) -> web.Response:
        clock.advance(2)
        return web.json_response("ok")

    backend = await store.backend()
    browser = Browser(await workers(backend, handlers={"/poll": long_poll}, max_age=600))
    await browser.sign_in()
    for _ in range(40):
        clock.advance(43)
        assert (await browser.get("/poll")).token == browser.token
    (record,) = await backend.of_user("alice")
    assert clock.now - record.seen_at <= 60 + 45
    assert (await browser.get()).user == "alice"


async def test_no_worker_renews_the_cookie_beyond_the_record(workers: Workers, clock: Clock, store: Store) -> None:
    """Each looks again when the record was last written an interval ago, not when itself last looked."""
    backend = await store.backend()
    one, two = await workers(backend, max_age=600), await workers(backend, max_age=600)
    browser = Browser(one)
    await browser.sign_in()
    for pause in (59.9, 0.05, 30, 29.9):
        clock.advance(pause)
        reply = await browser.get(to=two)
        (record,) = await backend.of_user("alice")
        assert record.expires_at >= clock.now + int(reply.cookies[TOKEN]["max-age"])


async def test_a_quick_restore_does_not_put_its_token_over_the_one_that_another_worker_gave(
    workers: Workers, clock: Clock, store: Store
) -> None:
    """A page restores in half a second; what joined it had no session, so that one's next request restored again."""
    gate, backend = Gate(), await store.backend()

    async def page(_: web.Request) -> web.Response:
        await gate()
        return web.json_response("ok")

    one, two = await workers(backend, handlers={"/page": page}), await workers(backend)
    browser = Browser(one)
    await browser.sign_in()
    browser.end_session()
    pending = asyncio.create_task(browser.send("GET", "/page"))
    await gate.reached.wait()
    clock.advance(0.2)
    await browser.get(to=one)
    clock.advance(0.1)
    newest = (await browser.get(to=two)).token
    clock.advance(0.2)
    gate.opened.set()
    browser.take(await pending)
    assert browser.token == newest
    clock.advance(DAY)
    browser.end_session()
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("wrong", ["an answer of the store", "the clock"])
async def test_a_worker_that_wrongly_takes_a_record_for_gone_learns_better(
    workers: Workers, backend: FaultyBackend, clock: Clock, wrong: str
) -> None:
    """Else it would keep every new token of that browser to itself, and later call the old one a copy."""
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
    before = browser.token
    await browser.get()
    reply = await browser.get()
    assert reply.user == "alice"
    assert browser.token != before
    for _ in range(3):
        clock.advance(120)
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_with_check_interval_0_live_requests_do_not_fight_over_the_record(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    browser = Browser(await workers(backend, check_interval=0))
    await browser.sign_in()
    clock.advance(5)
    backend.calls.clear()
    live = [browser.send("GET", "/me") for _ in range(20)]
    restoring = browser.clone()
    restoring.end_session()
    replies = await asyncio.gather(*live, restoring.send("GET", "/me"))
    assert [reply.user for reply in replies] == ["alice"] * 21
    (record,) = await backend.of_user("alice")
    assert record.revision <= 2


async def test_a_revocation_while_validate_was_slow_is_not_overlooked_by_a_join(
    workers: Workers, clock: Clock, store: Store
) -> None:
    gate, backend, slow = Gate(), await store.backend(), False

    async def validate(_: web.Request, __: PersistentSession) -> bool:
        if slow:
            await gate()
            clock.advance(5)
        return True

    one, two = await workers(backend, validate=validate), await workers(backend)
    browser = Browser(one)
    id = (await browser.sign_in()) and (await browser.get()).json["id"]
    browser.end_session()
    joining = browser.clone()
    await browser.get()
    slow = True
    pending = asyncio.create_task(joining.send("GET", "/me"))
    await gate.reached.wait()
    assert await two.manager.revoke(id)
    gate.opened.set()
    assert (await pending).user is None


@pytest.mark.parametrize("where", ["insert", "a receiver"])
async def test_a_sign_in_that_is_cancelled_half_way_leaves_nothing(
    workers: Workers, backend: FaultyBackend, where: str
) -> None:
    gate = Gate()

    def prepare(app: web.Application) -> None:
        from aiohttp_persistent_session import PERSISTENT_SESSIONS

        if where == "a receiver":
            app[PERSISTENT_SESSIONS].on_remember.append(gate)

    worker = await workers(backend, prepare=prepare)
    if where == "insert":
        backend.after = lambda name: gate() if name == "insert" else asyncio.sleep(0)
    from aiohttp_persistent_session.record import Client

    task = asyncio.create_task(
        worker.manager.remember("alice", data=None, client=Client(), replaces=set(), request=None)
    )
    await gate.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await backend.of_user("alice") == []


async def test_another_user_put_into_the_session_is_none_of_the_persistent_sessions(
    workers: Workers, caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """An application that signs bob in on alice's session must not show him hers, nor keep her signed in."""

    async def impersonate(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "bob"
        return web.Response()

    async def shown(request: web.Request) -> web.Response:
        session = await current_persistent_session(request)
        return web.json_response(session and session.user)

    worker = await workers(await store.backend(), handlers={"/bob": impersonate, "/shown": shown})
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
    workers: Workers, clock: Clock, store: Store
) -> None:
    """Some encoders turn numbers into text; revocation must reach such a session too."""

    async def spell(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "7"
        return web.Response()

    worker = await workers(await store.backend(), handlers={"/spell": spell})
    browser = Browser(worker)
    await browser.sign_in("7")
    await browser.get("/spell")
    assert (await browser.get()).token == browser.token
    await worker.manager.revoke_all(7)
    assert (await browser.get()).user is None


def sighting(revision: float, asked: int) -> Sighting:
    return Sighting("id", "alice", b"", revision, asked, 0.0, 0.0, 0.0)


def test_answers_that_overtake_each_other_are_put_in_order() -> None:
    sightings = Sightings()
    assert sightings.keep(sighting(2, 1)).revision == 2
    assert sightings.keep(sighting(1, 2)).revision == 2
    assert sightings.keep(sighting(3, 1)).revision == 3
    assert sightings.keep(Sighting.of_nothing("id", 5)).gone
    assert sightings.keep(sighting(4, 4)).gone
    assert sightings.keep(sighting(4, 6)).revision == 4
    assert sightings.keep(Sighting.of_nothing("id", 5)).revision == 4
