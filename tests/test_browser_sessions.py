"""Sign-ins whose box was not ticked, ``remember(persistent=False)``: they end when the browser is closed."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import persistent_sessions, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend, Gate


async def sign_in_for_now(browser: Browser, user: str = "alice") -> Reply:
    reply = await browser.post("/login", data={"user": user, "for_now": "yes"})
    assert reply.status == 302
    return reply


def close(browser: Browser) -> None:
    """End what a browser keeps until it is closed: our cookie. aiohttp-session's may well have a Max-Age."""
    browser.cookies.pop(TOKEN, None)


# The cookie


async def test_the_cookie_has_no_max_age(browser: Browser) -> None:
    """The browser keeps it until it is closed."""
    reply = await sign_in_for_now(browser)
    assert Token.parse(reply.token or "")
    cookie = reply.cookies[TOKEN]
    assert (cookie["max-age"], cookie["expires"]) == ("", "")
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"]) == (True, True, "Lax", "/")
    assert reply.headers["Cache-Control"] == "private"


async def test_the_cookie_needs_no_renewal(browser: Browser, clock: Clock) -> None:
    """It has no age that could be renewed: a live request sends none."""
    await sign_in_for_now(browser)
    for pause in (0, 1, 61, 3600):
        clock.advance(pause)
        reply = await browser.get()
        assert (reply.user, reply.cookies) == ("alice", {})


@pytest.mark.parametrize("why", ["exchange", "rotation", "keep_current"])
async def test_no_later_token_has_a_max_age_either(browser: Browser, clock: Clock, why: str) -> None:
    """What was not to outlive the browser does not, however it goes on."""
    await sign_in_for_now(browser)
    token = browser.token
    if why == "exchange":
        browser.end_session()
        reply = await browser.get()
    elif why == "rotation":
        for _ in range(25):
            clock.advance(3600)
            reply = await browser.get()
            if reply.token:
                break
    else:
        reply = await browser.post("/logout-everywhere?keep=1")
    assert reply.token not in (None, "", token)
    assert reply.cookies[TOKEN]["max-age"] == ""
    assert (await browser.get()).user == "alice"


# The end


@pytest.mark.parametrize("place", ["the same worker", "another worker"])
async def test_a_session_that_comes_without_its_token_is_over(
    workers: Workers, worker: Worker, browser: Browser, backend: FaultyBackend, place: str
) -> None:
    """The browser was closed: an aiohttp-session whose cookie has a Max-Age does not outlive that."""
    other = worker if place == "the same worker" else await workers(backend)
    await sign_in_for_now(browser)
    assert (await browser.get(to=other)).user == "alice"
    token = browser.token
    close(browser)
    reply = await browser.get(to=other)
    assert (reply.user, reply.cookies) == (None, {})
    assert "reuse" not in dict(worker.events) | dict(other.events)
    browser.cookies[TOKEN] = token or ""
    assert (await browser.get()).user == "alice"


async def test_a_session_with_the_token_of_another_record_is_over_too(worker: Worker, browser: Browser) -> None:
    """A token of another record counts as none; that record's user is signed in by it."""
    await sign_in_for_now(browser)
    other = Browser(worker)
    await other.sign_in("bob")
    browser.cookies[TOKEN] = other.token or ""
    assert (await browser.get()).user == "bob"


async def test_a_token_without_its_session_restores(browser: Browser) -> None:
    """The ordinary session may end sooner than the browser."""
    await sign_in_for_now(browser)
    browser.end_session()
    reply = await browser.get()
    assert (reply.user, reply.json["fresh"], bool(reply.token)) == ("alice", False, True)


async def test_it_expires_after_a_day_without_a_visit(browser: Browser, clock: Clock) -> None:
    """``browser_session_max_age``: a laptop that is only ever put to sleep."""
    await sign_in_for_now(browser)
    clock.advance(DAY - 1)
    assert (await browser.get()).user == "alice"
    clock.advance(DAY - 1)
    assert (await browser.get()).user == "alice"
    clock.advance(DAY + 61)
    assert (await browser.get()).user is None


async def test_browser_session_max_age_is_an_option_that_binds_records_of_yesterday(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Today's options judge what was written under others."""
    after = await workers(backend, browser_session_max_age=3600)
    await sign_in_for_now(browser)
    clock.advance(2 * 3600)
    assert (await browser.send("GET", "/me", to=after)).user is None
    assert (await browser.send("GET", "/me")).user == "alice"


async def test_max_lifetime_bounds_it_too(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """However active: it ends."""
    browser = Browser(await workers(backend, max_lifetime=DAY))
    await sign_in_for_now(browser)
    for _ in range(23):
        clock.advance(3600)
        assert (await browser.get()).user == "alice"
    clock.advance(3600)
    assert (await browser.get()).user is None


async def test_the_other_way_to_sign_in_in_the_same_browser_replaces_it(
    browser: Browser, backend: FaultyBackend
) -> None:
    """The last sign-in's box counts."""
    await sign_in_for_now(browser)
    await browser.sign_in()
    (record,) = await backend.of_user("alice", 10)
    assert record.persistent
    reply = await browser.get()
    assert reply.cookies[TOKEN]["max-age"] == str(30 * DAY)
    await sign_in_for_now(browser)
    (record,) = await backend.of_user("alice", 10)
    assert not record.persistent
    close(browser)
    assert (await browser.get()).user is None


# Listed, revocable, counted


async def test_it_is_listed_as_what_it_is(workers: Workers, backend: FaultyBackend) -> None:
    """Every sign-in is in the list, and says whether it outlives the browser."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response([[one.persistent, one.current] for one in await persistent_sessions(request)])

    worker = await workers(backend, handlers={"/list": handler})
    here, there = Browser(worker), Browser(worker)
    await there.sign_in()
    await sign_in_for_now(here)
    assert sorted((await here.get("/list")).json) == [[False, True], [True, False]]
    assert [(name, one.persistent) for name, one in worker.told] == [("remember", True), ("remember", False)]


async def test_it_is_revocable(worker: Worker, browser: Browser) -> None:
    """From another browser, and everywhere."""
    await sign_in_for_now(browser)
    other = Browser(worker)
    await other.sign_in()
    assert (await other.post(f"/revoke/{(await browser.get()).json['id']}")).json is True
    assert (await browser.get()).user is None
    await sign_in_for_now(browser)
    assert (await other.post("/logout-everywhere?keep=1")).json == 2
    assert (await browser.get()).user is None


async def test_it_counts_among_max_sessions(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """The least recently seen gives way, whatever its box."""
    worker = await workers(backend, max_sessions=2)
    browsers = [Browser(worker) for _ in range(3)]
    for browser in browsers:
        await sign_in_for_now(browser)
        clock.advance(1)
    assert [(await browser.get()).user for browser in browsers] == [None, "alice", "alice"]


async def test_signing_out_ends_it(browser: Browser, backend: FaultyBackend) -> None:
    """As any other."""
    await sign_in_for_now(browser)
    assert (await browser.post("/logout")).token == ""
    assert await backend.of_user("alice", 10) == []


async def test_a_copied_token_of_it_is_found_out(worker: Worker, browser: Browser) -> None:
    """The same rules hold."""
    await sign_in_for_now(browser)
    wrong = f"{(browser.token or '').partition('.')[0]}.{Token.generate().cookie_value.partition('.')[2]}"
    assert (await Browser(worker, {TOKEN: wrong}).get()).token == ""
    assert "reuse" in dict(worker.events)
    assert (await browser.get()).user is None


async def test_five_tabs_of_it_make_one_exchange(browser: Browser) -> None:
    """As of any other."""
    await sign_in_for_now(browser)
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me") for _ in range(5)))
    assert [reply.user for reply in replies] == ["alice"] * 5
    assert sum(reply.token is not None for reply in replies) == 1


async def test_another_users_data_are_not_handed_on(browser: Browser) -> None:
    """A sign-in without the box opens a new session as well."""
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "alice's diary"})
    await sign_in_for_now(browser, "bob")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("bob", None, True)


# While the store is down


@pytest.mark.parametrize("brings", ["nothing", "a token", "a token and its session"])
async def test_while_the_store_is_down_the_user_is_signed_in_all_the_same(
    browser: Browser, backend: FaultyBackend, brings: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An ordinary session without a record, with a warning; a token that the request brought is deleted."""
    if brings != "nothing":
        await browser.sign_in("bob")
        await browser.post("/cart", data={"item": "bob's"})
    if brings == "a token":
        browser.end_session()
    backend.break_down()
    reply = await sign_in_for_now(browser)
    assert reply.token == (None if brings == "nothing" else "")
    assert TOKEN not in browser.cookies
    assert [one.levelname for one in caplog.records if "cannot be revoked" in one.message] == ["WARNING"]
    reply = await browser.get()
    assert (reply.user, reply.json["id"], reply.json["cart"], reply.json["fresh"]) == ("alice", None, None, True)
    backend.heal()
    assert (await browser.get()).user == "alice"
    assert (await browser.get("/device")).json is None
    assert (await browser.post("/logout")).status == 302
    assert (await browser.get()).user is None


async def test_while_the_store_is_down_the_anonymous_cart_is_carried_over(
    browser: Browser, backend: FaultyBackend
) -> None:
    """As with a record."""
    await browser.post("/cart", data={"item": "book"})
    backend.break_down()
    await sign_in_for_now(browser)
    assert (await browser.get()).json["cart"] == "book"


async def test_while_the_store_is_down_a_ticked_box_is_an_error(browser: Browser, backend: FaultyBackend) -> None:
    """A promise to stay signed in that cannot be kept is not made."""
    backend.break_down()
    reply = await browser.post("/login", data={"user": "alice"})
    assert (reply.status, reply.cookies) == (500, {})


@pytest.mark.parametrize("fails", ["insert", "of_user", "get", "delete"])
async def test_whatever_call_fails_nothing_is_left_half_done(
    browser: Browser, backend: FaultyBackend, fails: str
) -> None:
    """The sign-in that falls back to an ordinary session leaves no record that its token could open."""
    await browser.sign_in("bob")
    backend.break_down(fails)
    reply = await browser.post("/login", data={"user": "alice", "for_now": "yes"})
    assert reply.status == 302
    backend.heal()
    assert (await browser.get()).user == "alice"


async def test_a_token_is_never_set_and_deleted_in_one_response(workers: Workers, backend: FaultyBackend) -> None:
    """Two sign-ins in one request, of which the store takes one only: one Set-Cookie."""

    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice", persistent=False)
        backend.break_down()
        await remember(request, "alice", persistent=False)
        return web.json_response((await aiohttp_session.get_session(request)).get("user"))

    browser = Browser(await workers(backend, handlers={"/": handler}))
    reply = await browser.get("/")
    assert reply.json == "alice"
    assert [field for field in reply.headers.getall("Set-Cookie") if "persistent_session=" in field] in (
        [],
        [field for field in reply.headers.getall("Set-Cookie") if f"{TOKEN}=;" in field],
    )
    backend.heal()
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("value", [1, 0, None, "no"])
async def test_persistent_must_be_a_bool(workers: Workers, backend: FaultyBackend, value: Any) -> None:
    """A form's text ``"off"`` must not tick the box."""

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(TypeError, match="persistent must be a bool"):
            await remember(request, "alice", persistent=value)
        return web.Response(text="refused")

    assert (await Browser(await workers(backend, handlers={"/": handler})).get("/")).text == "refused"
    assert await backend.of_user("alice", 10) == []


async def test_a_request_in_flight_while_the_browser_is_signed_in_for_now_is_harmless(
    workers: Workers, backend: FaultyBackend
) -> None:
    """Its answer leaves the new cookies alone."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    await sign_in_for_now(browser, "bob")
    gate.opened.set()
    late = await pending
    assert late.cookies == {}
    assert SESSION in browser.cookies
    assert (await browser.get()).user == "bob"
