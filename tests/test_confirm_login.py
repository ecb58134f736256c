"""Whether the password was typed in this session, and how long ago; typing it again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp_session import get_session

from aiohttp_persistent_session import MemoryBackend, confirm_login, is_fresh

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend
from .test_session_storages import ServerSideStorage


async def fresh(request: web.Request) -> web.Response:
    within = request.query.get("within")
    return web.json_response(await is_fresh(request, None if within is None else float(within)))


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend, handlers={"/fresh": fresh})


async def restored(browser: Browser) -> Reply:
    browser.end_session()
    return await browser.get()


# is_fresh


async def test_is_fresh_after_sign_in_and_not_after_a_restore(browser: Browser, clock: Clock) -> None:
    """A restored session is of lower assurance: its user did not type a password in it."""
    assert (await browser.get()).json["fresh"] is False
    await browser.sign_in()
    assert (await browser.get()).json["fresh"] is True
    clock.advance(3600)
    assert (await browser.get()).json["fresh"] is True
    assert (await restored(browser)).json["fresh"] is False
    assert (await browser.get()).json["fresh"] is False
    await browser.sign_in()
    assert (await browser.get()).json["fresh"] is True


async def test_a_join_is_not_fresh(browser: Browser) -> None:
    """It is a restore too."""
    await browser.sign_in()
    tab = browser.clone()
    tab.end_session()
    await restored(browser)
    assert (await tab.get()).json["fresh"] is False


@pytest.mark.parametrize(("seconds", "answer"), [(0, True), (299, True), (300, True), (301.001, False)])
async def test_within_says_how_long_ago_the_password_was_typed_at_most(
    browser: Browser, clock: Clock, seconds: float, answer: bool
) -> None:
    """Before anything sensitive: was the password typed in the last five minutes?"""
    clock.now = int(clock.now)
    await browser.sign_in()
    clock.advance(seconds)
    assert (await browser.get("/fresh?within=300")).json is answer
    assert (await browser.get("/fresh")).json is True


async def test_browsing_does_not_make_a_session_fresh_again(browser: Browser, clock: Clock) -> None:
    """What counts is the password, not the visit."""
    await browser.sign_in()
    for _ in range(6):
        clock.advance(61)
        await browser.get()
    assert (await browser.get("/fresh?within=300")).json is False


async def test_within_may_be_a_timedelta(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """Durations are a timedelta or seconds, here as everywhere."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(await is_fresh(request, within=timedelta(minutes=5)))

    browser = Browser(await workers(backend, handlers={"/": handler}))
    await browser.sign_in()
    assert (await browser.get("/")).json is True
    clock.advance(301)
    assert (await browser.get("/")).json is False


@pytest.mark.parametrize(
    ("within", "error"), [("5", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError)]
)
async def test_within_that_is_no_duration_is_an_error_that_names_it(
    workers: Workers, backend: FaultyBackend, within: Any, error: type[Exception]
) -> None:
    """A mistake in the app must not read as "not fresh"."""

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(error, match="within"):
            await is_fresh(request, within)
        return web.Response(text="raised")

    assert (await Browser(await workers(backend, handlers={"/": handler})).get("/")).text == "raised"


async def test_a_session_that_the_app_opened_itself_does_not_say_when(browser: Browser) -> None:
    """A login without ``remember`` is fresh, and not within anything."""
    await browser.post("/login-unremembered", data={"user": "alice"})
    assert (await browser.get("/fresh")).json is True
    assert (await browser.get("/fresh?within=3600")).json is False


@pytest.mark.parametrize("set_back", [3600, 30 * DAY])
async def test_a_clock_that_was_set_back_makes_nobody_fresh(browser: Browser, clock: Clock, set_back: float) -> None:
    """A password that seems to be typed in the future was typed nobody knows when."""
    clock.advance(set_back)
    await browser.sign_in()
    clock.advance(-set_back)
    assert (await browser.get("/fresh?within=300")).json is False


async def test_clocks_that_differ_by_some_seconds_are_no_matter(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The password was typed on a worker whose clock is 5 s ahead."""
    ahead, behind = await workers(backend), await workers(backend, handlers={"/fresh": fresh})
    ahead.manager.clock = lambda: clock.now + 5
    browser = Browser(ahead)
    await browser.sign_in()
    assert (await browser.get("/fresh?within=300", to=behind)).json is True


async def test_nobody_is_fresh_after_signing_out(browser: Browser) -> None:
    """An anonymous request is not fresh."""
    await browser.sign_in()
    await browser.post("/logout")
    assert (await browser.get("/fresh")).json is False


async def test_a_sign_in_that_keeps_this_browser_alone_is_as_fresh_as_before(browser: Browser, clock: Clock) -> None:
    """``forget_everywhere(keep_current=True)`` is no proof that somebody typed a password."""
    clock.now = int(clock.now)
    await browser.sign_in()
    clock.advance(200)
    await browser.post("/logout-everywhere?keep=1")
    assert (await browser.get("/fresh?within=200")).json is True
    clock.advance(101)
    assert (await browser.get("/fresh?within=300")).json is False
    await restored(browser)
    clock.advance(3)
    await browser.post("/logout-everywhere?keep=1")
    assert (await browser.get("/fresh")).json is False


async def test_a_rotation_leaves_freshness_as_it_is(browser: Browser, clock: Clock) -> None:
    """It touches the token, not the session."""
    await browser.sign_in()
    token = browser.token
    clock.advance(25 * 3600)
    assert (await browser.get()).json["fresh"] is True
    assert browser.token != token


# confirm_login


async def test_confirm_login_makes_a_restored_session_fresh(browser: Browser, clock: Clock) -> None:
    """The password was typed again: now."""
    clock.now = int(clock.now)
    await browser.sign_in()
    await restored(browser)
    clock.advance(3600)
    assert (await browser.post("/confirm")).status == 200
    assert (await browser.get()).json["fresh"] is True
    assert (await browser.get("/fresh?within=1")).json is True
    clock.advance(2)
    assert (await browser.get("/fresh?within=1")).json is False


async def test_confirm_login_keeps_user_data_and_persistent_session(
    worker: Worker, browser: Browser, backend: FaultyBackend
) -> None:
    """Nothing begins anew but the session's identity."""
    await browser.sign_in()
    await restored(browser)
    await browser.post("/cart", data={"item": "book"})
    before, token = (await browser.get()).json, browser.token
    records = await backend.of_user("alice", 10)
    reply = await browser.post("/confirm")
    assert reply.token == token
    after = (await browser.get()).json
    assert after == before | {"fresh": True}
    assert await backend.of_user("alice", 10) == records
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_confirm_login_changes_the_sessions_identity(workers: Workers, backend: FaultyBackend) -> None:
    """A key that was copied before is not made fresh by it: nothing is left under the old one."""
    storage = ServerSideStorage()
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    await restored(browser)
    old = browser.cookies[SESSION]
    await browser.post("/confirm")
    assert browser.cookies[SESSION] != old
    assert storage.stored[old] == "{}"
    assert (await browser.get()).json["fresh"] is True


async def test_a_confirmed_session_goes_on_under_the_same_rules(worker: Worker, browser: Browser, clock: Clock) -> None:
    """Its number stays: a revocation reaches it, and its own token goes on."""
    await browser.sign_in()
    await restored(browser)
    await browser.post("/confirm")
    for _ in range(4):
        clock.advance(61)
        assert (await browser.get()).user == "alice"
    del browser.cookies[TOKEN]
    clock.advance(61)
    assert (await browser.get()).user == "alice"
    await worker.manager.revoke_all("alice")
    assert (await browser.get()).user is None


async def test_a_confirmation_in_a_request_that_restores_works(browser: Browser) -> None:
    """The form was open when the session ended: its POST is restored, and then confirmed."""
    await browser.sign_in()
    token = browser.token
    browser.end_session()
    reply = await browser.post("/confirm")
    assert reply.token not in (None, "", token)
    assert (await browser.get()).json["fresh"] is True


async def test_a_confirmation_in_a_request_that_joins_works(browser: Browser, clock: Clock) -> None:
    """It changes the session, so the session is saved; the token is another tab's."""
    await browser.sign_in()
    tab = browser.clone()
    tab.end_session()
    await restored(browser)
    reply = await tab.post("/confirm")
    assert set(reply.cookies) == {SESSION}
    browser.take(reply)
    clock.advance(61)
    assert (await browser.get()).json["fresh"] is True


async def test_confirm_login_without_a_login_is_an_error(workers: Workers) -> None:
    """There is nothing to confirm."""

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="nobody is signed in"):
            await confirm_login(request)
        return web.json_response((await get_session(request)).get("user"))

    reply = await Browser(await workers(MemoryBackend(), handlers={"/": handler})).get("/")
    assert reply.json is None
    assert reply.cookies == {}


async def test_confirm_login_of_a_session_that_the_app_opened_by_itself_tells_when(
    workers: Workers, clock: Clock
) -> None:
    """It stays a session without a persistent session, and knows from then on when the password was typed."""

    async def fresh(request: web.Request) -> web.Response:
        return web.json_response([await is_fresh(request), await is_fresh(request, within=60)])

    browser = Browser(await workers(MemoryBackend(), handlers={"/fresh": fresh}))
    await browser.post("/login-unremembered", data={"user": "alice"})
    assert (await browser.get("/fresh")).json == [True, False]
    await browser.post("/confirm")
    assert (await browser.get("/fresh")).json == [True, True]
    clock.advance(61)
    reply = await browser.get("/fresh")
    assert (reply.json, reply.cookies) == ([True, False], {})
    assert (await browser.get()).user == "alice"


async def test_after_a_sign_in_while_the_store_was_down_the_login_can_be_confirmed(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The session has no record, and yet says when the password was typed."""

    async def fresh(request: web.Request) -> web.Response:
        return web.json_response(await is_fresh(request, within=60))

    browser = Browser(await workers(backend, handlers={"/fresh": fresh}))
    backend.break_down()
    assert (await browser.post("/login", data={"user": "alice", "for_now": "on"})).status == 302
    assert (await browser.get("/fresh")).json is True
    clock.advance(61)
    assert (await browser.get("/fresh")).json is False
    await browser.post("/confirm")
    assert (await browser.get("/fresh")).json is True
    assert (await browser.get()).user == "alice"


async def test_confirm_login_after_the_response_was_prepared_is_an_error(workers: Workers) -> None:
    """The new session could not be sent any more."""
    errors: list[BaseException] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await confirm_login(request)
        except RuntimeError as error:
            errors.append(error)
        return response

    browser = Browser(await workers(MemoryBackend(), handlers={"/": handler}))
    await browser.sign_in()
    await browser.get("/")
    assert "before the response is prepared" in str(errors[0])


async def test_confirm_login_is_no_matter_of_the_store(browser: Browser, backend: FaultyBackend) -> None:
    """It works while the store is down."""
    await browser.sign_in()
    await restored(browser)
    await browser.get()
    backend.break_down()
    assert (await browser.post("/confirm")).status == 200
    assert (await browser.get()).json["fresh"] is True
