"""Seeing and ending persistent sessions: one's own, from here or there; never anybody else's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import forget_everywhere
from aiohttp_persistent_session.testing import make_record

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend, Gate
from .stores import Store

EVERY_STORE = ("memory", "redis")


@pytest.fixture
async def two(workers: Workers, backend: FaultyBackend) -> tuple[Browser, Browser]:
    """Two browsers of one user, each on a worker of its own."""
    here, there = Browser(await workers(backend)), Browser(await workers(backend), user_agent="Phone/2.0")
    await here.sign_in()
    await there.sign_in()
    return here, there


async def own_id(browser: Browser) -> str:
    return (await browser.get("/me")).json["id"]


@pytest.mark.parametrize("keeps", ["both cookies", "only its session cookie"])
@pytest.mark.parametrize("place", ["the same worker", "another worker"])
async def test_a_revocation_reaches_a_live_session_within_check_interval(
    two: tuple[Browser, Browser], clock: Clock, keeps: str, place: str
) -> None:
    """A session that is open elsewhere ends with the next look at its record, a minute later at the latest."""
    here, there = two
    if place == "the same worker":
        here.worker = there.worker
    id = await own_id(there)
    if keeps == "only its session cookie":
        del there.cookies[TOKEN]
    assert (await here.post(f"/revoke/{id}")).json is True
    if place == "the same worker":
        assert (await there.get()).user is None
    else:
        clock.advance(60)
        assert (await there.get()).user is None
    there.end_session()
    assert (await there.get()).user is None
    assert (await here.get()).user == "alice"


async def test_with_check_interval_0_a_revocation_reaches_the_next_request(workers: Workers, store: Store) -> None:
    """An application that cannot wait has each request looked up."""
    backend = await store.backend()
    here = Browser(await workers(backend, check_interval=0))
    there = Browser(await workers(backend, check_interval=0))
    await here.sign_in()
    await there.sign_in()
    await here.post(f"/revoke/{await own_id(there)}")
    assert (await there.get()).user is None


async def test_nobody_lists_or_ends_another_users(worker: Worker) -> None:
    """Somebody else's persistent session is left alone, and the answer is that of one that does not exist."""
    alice, mallory = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    await mallory.sign_in("mallory")
    id = await own_id(alice)
    assert [one[0] for one in (await mallory.get("/devices")).json] == [await own_id(mallory)]
    assert (await mallory.post(f"/revoke/{id}")).json is False
    assert (await alice.get()).user == "alice"
    alice.end_session()
    assert (await alice.get()).user == "alice"


async def test_user_1_and_user_text_1_are_different_users(worker: Worker, backend: FaultyBackend) -> None:
    """An int and a text are never one user."""
    number = Browser(worker)
    await number.sign_in("1")
    record = make_record(user="1")
    await backend.insert(record)
    assert len((await number.get("/devices")).json) == 1
    assert (await number.post(f"/revoke/{record.id}")).json is False
    assert (await number.post("/logout-everywhere")).json == 1
    assert await backend.get(record.id) == record


async def test_an_anonymous_visitor_lists_and_ends_nothing(two: tuple[Browser, Browser]) -> None:
    """Who is not signed in has no persistent sessions."""
    here, there = two
    visitor = Browser(here.worker)
    assert (await visitor.get("/devices")).json == []
    assert (await visitor.get("/device")).json is None
    assert (await visitor.post(f"/revoke/{await own_id(there)}")).json is False
    assert (await visitor.post("/logout-everywhere")).json == 0


async def test_the_list_is_newest_first_and_knows_this_browser(two: tuple[Browser, Browser], clock: Clock) -> None:
    """A page of devices shows the last sign-in on top, and which one this is."""
    here, _ = two
    clock.advance(5)
    third = Browser(here.worker, user_agent="Tablet/3.0")
    await third.sign_in()
    listed = (await here.get("/devices")).json
    assert listed[0][2] == "Tablet/3.0"
    assert {(agent, current) for _, current, agent, _ in listed} == {
        ("Tablet/3.0", False),
        ("Phone/2.0", False),
        ("Test/1.0", True),
    }
    assert (await here.get("/device")).json == [await own_id(here), True]


async def test_expired_persistent_sessions_are_not_listed(two: tuple[Browser, Browser], clock: Clock) -> None:
    """What signs nobody in is not shown, although the store may keep it for a while."""
    here, _ = two
    clock.advance(20 * 24 * 3600)
    await here.get()
    clock.advance(20 * 24 * 3600)
    assert [agent for _, _, agent, _ in (await here.get("/devices")).json] == ["Test/1.0"]


async def test_a_live_session_without_a_persistent_session_lists_the_users_own(worker: Worker) -> None:
    """A login without ``remember`` sees the same list, in which it is not."""
    remembered, plain = Browser(worker), Browser(worker)
    await remembered.sign_in()
    await plain.post("/login-unremembered", data={"user": "alice"})
    assert [current for _, current, _, _ in (await plain.get("/devices")).json] == [False]
    assert (await plain.get("/device")).json is None


async def test_revoking_ones_own_signs_this_browser_out(browser: Browser) -> None:
    """The list may be used to sign out here too."""
    await browser.sign_in()
    reply = await browser.post(f"/revoke/{await own_id(browser)}")
    assert reply.json is True
    assert reply.token == ""
    assert (await browser.get()).user is None


async def test_forget_everywhere_ends_all_of_the_users_browsers(two: tuple[Browser, Browser], clock: Clock) -> None:
    """All of the user's, and nobody else's."""
    here, there = two
    other = Browser(here.worker)
    await other.sign_in("bob")
    reply = await here.post("/logout-everywhere")
    assert reply.json == 2
    assert reply.token == ""
    clock.advance(60)
    assert (await here.get()).user is None
    assert (await there.get()).user is None
    assert (await other.get()).user == "bob"


async def test_forget_here_leaves_the_others_in(two: tuple[Browser, Browser], clock: Clock) -> None:
    """Signing out in one browser is no reason to sign in again in another."""
    here, there = two
    await here.post("/logout")
    clock.advance(61)
    assert (await there.get()).user == "alice"
    there.end_session()
    assert (await there.get()).user == "alice"


async def test_a_check_under_way_does_not_bring_back_what_was_revoked_meanwhile(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Its answer was read before the deletion; this worker knows better when it arrives."""
    browser = Browser(await workers(backend))
    await browser.sign_in()
    id = await own_id(browser)
    clock.advance(61)
    read, go_on = asyncio.Event(), asyncio.Event()

    async def hold(name: str) -> None:
        if name == "get" and not read.is_set():
            read.set()
            await go_on.wait()

    backend.after = hold
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await read.wait()
    assert await browser.worker.manager.revoke(id)
    go_on.set()
    await pending
    backend.heal()
    assert (await browser.get()).user is None


# What survives


async def test_a_copied_session_cookie_dies_with_its_persistent_session(
    two: tuple[Browser, Browser], clock: Clock
) -> None:
    """Where the ordinary session lives in the cookie itself, nothing else could end it."""
    here, there = two
    thief = Browser(there.worker, {SESSION: here.cookies[SESSION]})
    assert (await thief.get()).user == "alice"
    await here.post("/logout")
    clock.advance(60.001)
    assert (await thief.get()).user is None


async def test_revoking_ones_own_deletes_both_cookies(browser: Browser) -> None:
    """The response deletes the token and empties the session, of which nothing comes back."""
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    reply = await browser.post(f"/revoke/{await own_id(browser)}")
    assert (reply.json, reply.token) == (True, "")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == (None, None)


async def test_a_revocation_says_why(worker: Worker, browser: Browser) -> None:
    """An audit log tells a click on a device from "sign out everywhere"."""
    for _ in range(3):
        browser.cookies.clear()
        await browser.sign_in()
    other = [one[0] for one in (await browser.get("/devices")).json if not one[1]]
    await browser.post(f"/revoke/{other[0]}")
    await browser.post("/logout-everywhere")
    ended = [(name, one.reason) for name, one in worker.told if name != "remember"]
    assert ended[0] == ("revoke", "revoked")
    assert {reason for _, reason in ended[1:]} == {"signed out everywhere"}
    assert len(ended) == 3


async def test_the_later_sign_in_of_the_same_user_at_the_same_time_survives(
    worker: Worker, browser: Browser, backend: FaultyBackend
) -> None:
    """Signing out everywhere ends what there was, and no sign-in that follows."""
    await browser.sign_in()
    assert await worker.manager.revoke_all("alice") == 1
    later = Browser(worker)
    await later.sign_in()
    assert (await later.get()).user == "alice"
    assert len(await backend.of_user("alice", 10)) == 1


async def test_a_restore_under_way_does_not_undo_a_revocation(workers: Workers, backend: FaultyBackend) -> None:
    """The exchange loses its swap to the deletion: nobody is let in, and nobody accused."""
    worker, elsewhere = await workers(backend), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    gate = Gate()

    async def hold(name: str) -> None:
        if name == "replace":
            await gate()

    backend.fault = hold
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await gate.reached.wait()
    assert await elsewhere.manager.revoke_all("alice") == 1
    gate.opened.set()
    reply = await pending
    backend.heal()
    assert (reply.user, reply.cookies) == (None, {})
    assert await backend.of_user("alice", 10) == []
    assert "reuse" not in dict(worker.events)


# Keeping this browser


async def test_forget_everywhere_keeps_this_browser_with_a_new_record_and_token(
    two: tuple[Browser, Browser], backend: FaultyBackend, clock: Clock
) -> None:
    """This browser stays signed in; its old persistent session ends like the others, and counts."""
    here, there = two
    await here.post("/cart", data={"item": "book"})
    old_id, old_token = await own_id(here), here.token
    reply = await here.post("/logout-everywhere?keep=1")
    assert reply.json == 2
    assert reply.token not in (None, "", old_token)
    reply = await here.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("alice", "book", True)
    assert await own_id(here) != old_id
    assert await backend.get(old_id) is None
    assert [one.id for one in await backend.of_user("alice", 10)] == [await own_id(here)]
    clock.advance(60.001)
    assert (await there.get()).user is None
    assert (await here.get()).user == "alice"
    here.end_session()
    assert (await here.get()).user == "alice"


@pytest.mark.parametrize("holds", ["the token", "the session", "both"])
async def test_no_copy_of_what_this_browser_had_survives(
    two: tuple[Browser, Browser], clock: Clock, holds: str
) -> None:
    """A thief who holds this very browser's cookies is what the user wants to be rid of."""
    here, there = two
    thief = here.clone()
    thief.worker = there.worker
    if holds == "the token":
        thief.end_session()
    elif holds == "the session":
        del thief.cookies[TOKEN]
    await here.post("/logout-everywhere?keep=1")
    clock.advance(60.001)
    for _ in range(3):
        assert (await thief.get()).user is None
        clock.advance(30)
    assert (await here.get()).user == "alice"
    assert "reuse" not in dict(here.worker.events) | dict(there.worker.events)


async def test_keeping_this_browser_shows_what_it_was(
    two: tuple[Browser, Browser], backend: FaultyBackend, clock: Clock
) -> None:
    """The sign-in stays the one of then: its time, its data and its lifetime do not begin anew."""
    here, _ = two
    (before,) = [one for one in await backend.of_user("alice", 10) if one.user_agent == "Test/1.0"]
    clock.advance(3600)
    await here.post("/logout-everywhere?keep=1")
    (after,) = await backend.of_user("alice", 10)
    assert (after.created_at, after.data, after.persistent) == (before.created_at, before.data, before.persistent)
    assert after.seen_at == pytest.approx(clock.now, abs=0.001)
    assert (await here.get("/device")).json == [after.id, True]


async def test_keeping_this_browser_cannot_outlive_max_lifetime(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Signing the others out every day is no way around it."""
    browser = Browser(await workers(backend, max_lifetime=3 * DAY))
    await browser.sign_in()
    for _ in range(2):
        clock.advance(DAY)
        assert (await browser.post("/logout-everywhere?keep=1")).json == 1
    clock.advance(DAY)
    assert (await browser.get()).user is None
    browser.end_session()
    assert (await browser.get()).user is None


async def test_keeping_this_browser_without_a_persistent_session_ends_the_others(
    worker: Worker, browser: Browser, backend: FaultyBackend
) -> None:
    """A login without ``remember`` stays as it is: there is nothing to renew."""
    await browser.sign_in()
    plain = Browser(worker)
    await plain.post("/login-unremembered", data={"user": "alice"})
    reply = await plain.post("/logout-everywhere?keep=1")
    assert (reply.json, reply.token) == (1, None)
    assert await backend.of_user("alice", 10) == []
    assert (await plain.get()).user == "alice"


async def test_keeping_this_browser_in_a_request_that_restores_works(
    two: tuple[Browser, Browser], backend: FaultyBackend
) -> None:
    """One response, one token: that of the new record."""
    here, _ = two
    here.end_session()
    reply = await here.post("/logout-everywhere?keep=1")
    assert reply.json == 2
    assert len(await backend.of_user("alice", 10)) == 1
    assert (await here.get()).user == "alice"
    assert (await here.get()).json["fresh"] is False
    here.end_session()
    assert (await here.get()).user == "alice"


async def test_keeping_this_browser_after_the_response_was_prepared_is_an_error_and_ends_nothing(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The new token could not be sent any more."""
    errors: list[BaseException] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await forget_everywhere(request, keep_current=True)
        except RuntimeError as error:
            errors.append(error)
        return response

    browser = Browser(await workers(backend, handlers={"/late": handler}))
    await browser.sign_in()
    await browser.get("/late")
    assert "before the response is prepared" in str(errors[0])
    assert (await browser.get()).user == "alice"
    assert len(await backend.of_user("alice", 10)) == 1


@pytest.mark.parametrize("fails", ["insert", "of_user", "delete"])
async def test_keeping_this_browser_while_the_store_fails_signs_nobody_out_here(
    two: tuple[Browser, Browser], backend: FaultyBackend, clock: Clock, fails: str
) -> None:
    """The handler learns that some may be left; this browser goes on, with its old token or its new one."""
    here, _ = two
    backend.break_down(fails)
    assert (await here.post("/logout-everywhere?keep=1")).status == 500
    backend.heal()
    assert (await here.get()).user == "alice"
    clock.advance(61)
    assert (await here.get()).user == "alice"
    here.end_session()
    assert (await here.get()).user == "alice"
    assert "reuse" not in dict(here.worker.events)


async def test_a_handler_that_dies_after_it_kept_this_browser_leaves_it_signed_in(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The old record is gone: the new token is all that the browser has."""

    async def handler(request: web.Request) -> web.Response:
        await forget_everywhere(request, keep_current=True)
        raise ZeroDivisionError

    browser = Browser(await workers(backend, handlers={"/die": handler}))
    await browser.sign_in()
    reply = await browser.get("/die")
    assert reply.status == 500
    assert (await browser.get()).user == "alice"


# What an encoder makes of a user's id


def as_text(content: Any) -> str:
    """Encode a session as an encoder does that knows no numbers."""
    return json.dumps(content, default=str) if not isinstance(content, dict) else json.dumps(_texts(content))


def _texts(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: value if key == "created" else _texts(value) for key, value in content.items()}
    return str(content)


@pytest.fixture
async def of_texts(workers: Workers, backend: FaultyBackend) -> tuple[Browser, Browser]:
    """Two browsers of the user 42, whom their sessions hold as a text."""
    worker = await workers(backend, storage=aiohttp_session.SimpleCookieStorage(encoder=as_text))
    here, there = Browser(worker), Browser(worker)
    await here.sign_in("42")
    await there.sign_in("42")
    assert (await here.get()).user == "42"
    return here, there


async def test_a_user_whom_an_encoder_makes_a_text_lists_and_revokes_their_own(
    of_texts: tuple[Browser, Browser],
) -> None:
    """What counts is the user in the record, not the one in the session."""
    here, there = of_texts
    listed = (await here.get("/devices")).json
    assert [one[3] for one in listed] == [42, 42]
    assert sorted(one[1] for one in listed) == [False, True]
    assert (await here.get("/device")).json == [await own_id(here), True]
    assert (await here.post(f"/revoke/{await own_id(there)}")).json is True
    assert (await there.get()).user is None


@pytest.mark.parametrize("how", ["live", "restored", "joined"])
@pytest.mark.parametrize("keep", ["", "?keep=1"])
async def test_a_user_whom_an_encoder_makes_a_text_signs_out_everywhere(
    of_texts: tuple[Browser, Browser], how: str, keep: str
) -> None:
    """As any other user, however this request came to be signed in. One that merely joined is not kept."""
    here, there = of_texts
    if how != "live":
        here.end_session()
    if how == "joined":
        await here.clone().get()
    assert (await here.post(f"/logout-everywhere{keep}")).json == 2
    assert (await there.get()).user is None
    assert (await here.get()).user == ("42" if keep and how != "joined" else None)


async def test_a_user_whom_an_encoder_makes_a_text_keeps_their_basket_at_the_next_sign_in(
    of_texts: tuple[Browser, Browser],
) -> None:
    """The same user signs in again over a live session."""
    here, _ = of_texts
    await here.post("/cart", data={"item": "book"})
    await here.sign_in("42")
    assert (await here.get()).json["cart"] == "book"


async def test_a_user_whom_an_encoder_makes_a_text_goes_on_over_checks_and_restores(
    of_texts: tuple[Browser, Browser], clock: Clock
) -> None:
    """A text is no other user: the cookie is renewed."""
    here, _ = of_texts
    for _ in range(3):
        clock.advance(61)
        reply = await here.get()
        assert (reply.user, reply.token) == ("42", here.token)
    here.end_session()
    assert (await here.get()).token
