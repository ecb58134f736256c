"""The store fails, hangs, is not there yet, or loses its answers: nobody is logged out by it."""

from __future__ import annotations

import asyncio
import logging

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import (
    BackendError,
    PersistentSessionManager,
    forget,
    remember,
)
from aiohttp_persistent_session.rules import Outcome

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .exchanges import check
from .faults import DriverError, FaultyBackend, Gate
from .outages import (  # noqa: F401 -- fixtures
    COMES_BACK_WITHIN,
    LOGGER,
    TIMEOUT,
    Outage,
    each_outage,
    impatient_worker,
    is_in,
    signed_in_browser,
    until,
    warnings_in,
)

# Restore


async def test_a_restore_is_anonymous_for_this_request_and_keeps_the_cookie(
    browser: Browser, backend: FaultyBackend, outage: Outage
) -> None:
    """While the store is out of reach a visitor is anonymous, the handler can tell, and no cookie is touched."""
    browser.end_session()
    outage()
    for _ in range(3):
        reply = await browser.get()
        assert (reply.status, reply.user, reply.cookies) == (200, None, {})
        assert reply.json["restore_failed"] is True
    backend.heal()
    await until(lambda: is_in(browser))
    assert (await browser.get()).json["restore_failed"] is False


async def test_a_restore_whose_swap_fails_keeps_the_token(
    browser: Browser, backend: FaultyBackend, outage: Outage
) -> None:
    """A store that can be read and not written restores nobody, and spends no token."""
    browser.end_session()
    outage("replace")
    reply = await browser.get()
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    assert reply.json["restore_failed"] is True
    backend.heal()
    await until(lambda: is_in(browser))
    assert [name for name, _ in browser.worker.events] == ["remember", "restore"]


@pytest.mark.parametrize("cookies", [{}, {TOKEN: "malformed"}, {SESSION: "malformed"}])
async def test_a_visitor_without_a_token_has_not_failed_to_be_restored(
    worker: Worker, backend: FaultyBackend, cookies: dict[str, str]
) -> None:
    """Only a token that could not be judged is a failure; nobody else notices an outage."""
    backend.break_down()
    reply = await Browser(worker, cookies).get()
    assert (reply.status, reply.user, reply.json["restore_failed"]) == (200, None, False)
    assert not backend.calls["get"]


async def test_a_swap_that_others_win_for_ever_joins(browser: Browser, backend: FaultyBackend) -> None:
    """After five lost swaps a valid token joins: the visitor is served, and gets no token."""

    async def lost(_: object) -> bool:
        return False

    browser.end_session()
    backend.inner.replace = lost  # type: ignore[method-assign]  # a store that others write all the time
    backend.calls.clear()
    reply = await browser.get()
    assert (reply.user, reply.cookies) == ("alice", {})
    assert backend.calls["replace"] == 5


async def test_a_store_that_can_be_read_only_is_not_asked_over_and_over(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """One look tells that a write was not applied; trying again is the next request's business."""
    browser.end_session()
    backend.break_down("replace")
    backend.calls.clear()
    for _ in range(5):
        assert (await browser.send("GET", "/me")).user is None
    assert backend.calls == {"get": 10, "replace": 5}
    assert len(warnings_in(caplog)) == 1


# Live sessions


async def test_a_live_session_is_served_on_and_not_renewed(
    browser: Browser, backend: FaultyBackend, clock: Clock, outage: Outage
) -> None:
    """A live session whose record cannot be read goes on; its cookie is renewed again once it can."""
    clock.advance(61)
    outage()
    for _ in range(3):
        reply = await browser.get()
        assert reply.user == "alice"
        assert reply.cookies == {}
    backend.heal()

    async def is_renewed() -> bool:
        return (await browser.get()).token == browser.token

    await until(is_renewed)


async def test_a_live_session_seen_lately_does_not_notice(browser: Browser, backend: FaultyBackend) -> None:
    """Within ``check_interval`` a live session needs no store."""
    backend.break_down()
    backend.calls.clear()
    reply = await browser.get()
    assert (reply.user, reply.token) == ("alice", browser.token)
    assert not backend.calls


@pytest.mark.parametrize("brings", ["its token", "no token", "another one's token", "a copy"])
async def test_a_live_session_at_a_worker_that_knows_nothing_is_served_on(
    workers: Workers, backend: FaultyBackend, browser: Browser, outage: Outage, brings: str
) -> None:
    """Nothing that is presented can be judged then, so nobody is signed out, and no cookie is touched."""
    stranger = Browser(browser.worker)
    await stranger.sign_in("bob")
    browser.worker = await workers(backend, timeout=TIMEOUT)
    selector = (browser.token or "").split(".")[0]
    sent = {
        "its token": browser.token,
        "no token": None,
        "another one's token": stranger.token,
        "a copy": f"{selector}.{'A' * 43}",
    }[brings]
    browser.cookies.pop(TOKEN)
    browser.cookies |= {TOKEN: sent} if sent else {}
    outage()
    for _ in range(2):
        reply = await browser.get()
        assert (reply.user, reply.cookies) == ("alice", {})


async def test_a_check_that_could_read_but_not_write_serves_on(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A record that cannot be written is good for another ``check_interval`` once it was read."""
    clock.advance(61)
    backend.break_down("replace")
    assert await is_in(browser)
    backend.calls.clear()
    assert (await browser.get()).token == browser.token
    assert not backend.calls


async def test_a_slow_response_is_not_renewed_where_the_record_cannot_be_read(
    workers: Workers, backend: FaultyBackend, clock: Clock, outage: Outage
) -> None:
    """What cannot be known to be the newest token is not sent again."""

    async def slow(_: web.Request) -> web.Response:
        clock.advance(2.1)
        outage()
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": slow}, timeout=TIMEOUT))
    await browser.sign_in()
    reply = await browser.get("/slow")
    assert (reply.status, reply.token) == (200, None)


async def test_a_slow_sign_in_keeps_its_token_where_the_record_cannot_be_read(
    workers: Workers, backend: FaultyBackend, clock: Clock, outage: Outage
) -> None:
    """After ``remember`` a store that fails leaves nothing out: the token is the only one."""

    async def slow(request: web.Request) -> web.Response:
        await remember(request, "alice")
        clock.advance(30)
        outage()
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": slow}, timeout=TIMEOUT))
    assert set((await browser.get("/slow")).cookies) == {TOKEN, SESSION}
    backend.heal()
    browser.end_session()
    await until(lambda: is_in(browser))


async def test_a_slow_rotation_leaves_its_token_out_where_the_record_cannot_be_read(
    workers: Workers, backend: FaultyBackend, clock: Clock, outage: Outage
) -> None:
    """After a rotation the token alone is left out: the session goes on, and so does the token before."""

    async def slow(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["cart"] = "book"
        clock.advance(30)
        outage()
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": slow}, timeout=TIMEOUT))
    await browser.sign_in()
    clock.advance(DAY + 1)
    assert set((await browser.get("/slow")).cookies) == {SESSION}
    backend.heal()
    assert await is_in(browser)
    clock.advance(91)
    browser.end_session()
    await until(lambda: is_in(browser))
    assert "reuse" not in dict(browser.worker.events)


# A store that hangs


async def test_a_hung_store_costs_one_request_its_time_and_not_each(workers: Workers, backend: FaultyBackend) -> None:
    """Requests that wait as it begins to hang wait for ``timeout``; those after them are answered at once."""
    worker = await workers(backend, timeout=1)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    backend.hang()
    loop = asyncio.get_running_loop()
    started = loop.time()
    replies = await asyncio.gather(*(browser.send("GET", "/me") for _ in range(5)))
    assert 0.99 < loop.time() - started < 5
    for _ in range(10):
        started = loop.time()
        replies.append(await browser.send("GET", "/me"))
        assert loop.time() - started < 0.9
    assert {reply.user for reply in replies} == {None}


async def test_a_hung_store_is_asked_by_one_get_in_the_background(browser: Browser, backend: FaultyBackend) -> None:
    """However many requests come meanwhile, one question at a time is put to the store, and it is a read."""
    browser.end_session()
    backend.hang()
    assert not await is_in(browser)
    backend.calls.clear()
    loop = asyncio.get_running_loop()
    started = loop.time()
    while loop.time() - started < 3 * TIMEOUT:
        await browser.send("GET", "/me")
    assert set(backend.calls) == {"get"}
    assert 1 <= backend.calls["get"] <= (loop.time() - started) / TIMEOUT + 1


async def test_a_hung_store_is_found_to_answer_again_without_a_request(
    browser: Browser, backend: FaultyBackend
) -> None:
    """Once the store answers the question in the background, the next request is served."""
    browser.end_session()
    backend.hang()
    assert not await is_in(browser)
    backend.heal()
    backend.calls.clear()

    async def was_asked() -> bool:
        return backend.calls["get"] > 0

    await until(was_asked)
    await asyncio.sleep(0)
    assert await is_in(browser)


async def test_a_hung_store_that_begins_to_fail_is_an_outage_still(browser: Browser, backend: FaultyBackend) -> None:
    """Whatever the question in the background ends with, requests go on being told of a failure of the store."""
    for error in (RuntimeError("the event loop is closed"), ValueError(), OSError(), BackendError(), TimeoutError()):
        browser.end_session()
        backend.hang()
        assert not await is_in(browser)

        async def fail(_: str, error: Exception = error) -> None:
            raise error

        backend.fault = fail
        backend.calls.clear()

        async def was_asked() -> bool:
            return backend.calls["get"] > 1

        await until(was_asked)
        reply = await browser.get()
        assert (reply.status, reply.text and reply.json["restore_failed"]) == (200, True), repr(error)
        backend.heal()
        await until(lambda: is_in(browser))


async def test_a_hung_store_costs_no_more_where_its_driver_has_an_error_of_its_own_for_it(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A driver that makes an exception of its own of the time-out changes nothing."""
    browser = Browser(await workers(backend, timeout=0.5))
    await browser.sign_in()
    browser.end_session()

    async def translate(_: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise DriverError("the connection was interrupted") from None

    backend.fault = translate
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(8):
        assert not await is_in(browser)
    assert loop.time() - started < 2.5


async def test_a_hung_store_costs_no_more_where_its_driver_gives_up_earlier(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A driver whose own limit is a little shorter than ``timeout`` makes no request after the first one wait."""
    browser = Browser(await workers(backend, timeout=0.5))
    await browser.sign_in()
    browser.end_session()

    async def give_up(_: str) -> None:
        await asyncio.sleep(0.4)
        raise DriverError("no server can be selected")

    backend.fault = give_up
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(8):
        assert not await is_in(browser)
    assert loop.time() - started < 2


async def test_a_hung_store_does_not_keep_the_app_from_stopping(workers: Workers, backend: FaultyBackend) -> None:
    """While the store hangs, the app shuts down; what asks in the background is ended."""
    worker = await workers(backend, timeout=TIMEOUT)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    backend.hang()
    assert not await is_in(browser)
    async with asyncio.timeout(COMES_BACK_WITHIN):
        await workers.stop()
    backend.heal()


# What handlers are told


@pytest.mark.parametrize("path", ["/login", "/logout", "/logout-everywhere", "/logout-everywhere?keep"])
async def test_remember_and_forget_tell_the_handler(
    browser: Browser, path: str, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that changes who is signed in gets a BackendError, chained to its cause."""
    outage()
    reply = await browser.post(path, data={"user": "alice"})
    assert reply.status == 500
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info and record.name == "aiohttp.server"]
    assert isinstance(errors[0], BackendError)
    assert errors[0].__cause__ is not None


@pytest.mark.parametrize("path", ["/devices", "/device", "/revoke/" + "A" * 22])
async def test_listing_and_revoking_tell_the_handler(browser: Browser, path: str, outage: Outage) -> None:
    """Nothing is listed, and nothing said to be revoked, where the store does not answer."""
    outage()
    method = "POST" if path.startswith("/revoke") else "GET"
    for _ in range(2):
        assert (await browser.send(method, path)).status == 500


async def test_a_sign_in_that_fails_signs_nobody_in(worker: Worker, backend: FaultyBackend, outage: Outage) -> None:
    """Where ``remember`` raises, no session was opened, and nobody is remembered."""
    browser = Browser(worker)
    outage("insert")
    reply = await browser.post("/login", data={"user": "alice"})
    assert (reply.status, reply.cookies) == (500, {})
    backend.heal()
    assert (await browser.get()).user is None
    assert await backend.of_user("alice", 9) == []


async def test_before_forget_raises_the_cookies_deletion_is_staged(
    workers: Workers, backend: FaultyBackend, outage: Outage
) -> None:
    """Where the handler goes on, the browser is signed out, although the record could not be deleted."""

    async def logout(request: web.Request) -> web.Response:
        try:
            await forget(request)
        except BackendError:
            return web.Response(text="signed out here")
        return web.Response(text="no error")

    browser = Browser(await workers(backend, handlers={"/bye": logout}, timeout=TIMEOUT))
    await browser.sign_in()
    outage()
    reply = await browser.get("/bye")
    assert (reply.text, reply.token) == ("signed out here", "")
    assert TOKEN not in browser.cookies
    assert (await browser.get()).user is None


@pytest.mark.parametrize("path", ["/logout", "/logout-everywhere"])
async def test_a_500_of_forget_signs_this_browser_out_too(browser: Browser, path: str, outage: Outage) -> None:
    """Where the handler lets the exception pass, both cookies are deleted all the same."""
    outage()
    reply = await browser.post(path)
    assert (reply.status, reply.token) == (500, "")
    assert (await browser.get()).user is None


async def test_a_500_of_signing_out_everywhere_else_leaves_this_browser_in(
    browser: Browser, backend: FaultyBackend, outage: Outage
) -> None:
    """``keep_current=True`` keeps this browser signed in also where the store fails."""
    outage()
    reply = await browser.post("/logout-everywhere?keep")
    assert (reply.status, reply.token in (None, browser.token)) == (500, True)
    assert await is_in(browser)
    backend.heal()
    browser.end_session()
    await until(lambda: is_in(browser))


@pytest.mark.parametrize("operation", ["delete", "of_user"])
async def test_a_500_half_way_through_signing_out_everywhere_else_leaves_this_browser_in(
    browser: Browser, backend: FaultyBackend, clock: Clock, operation: str
) -> None:
    """Where the new record was stored and the others could not be ended, this browser is signed in by what it has."""
    backend.break_down(operation)
    assert (await browser.post("/logout-everywhere?keep")).status == 500
    backend.heal()
    assert await is_in(browser)
    clock.advance(61)
    assert await is_in(browser)
    browser.end_session()
    assert await is_in(browser)
    assert (await browser.post("/logout-everywhere")).json >= 1
    assert await backend.of_user("alice", 9) == []


@pytest.mark.parametrize("brings", ["nothing", "a token", "a token and its session"])
async def test_a_sign_in_for_one_browser_session_works_without_the_store(
    workers: Workers, backend: FaultyBackend, outage: Outage, brings: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``remember(persistent=False)`` opens an ordinary session then, with a warning, and deletes a token that came."""
    worker = await workers(backend, timeout=TIMEOUT)
    browser = Browser(worker)
    if brings != "nothing":
        await browser.sign_in("bob")
        await browser.post("/cart", data={"item": "his"})
    if brings == "a token":
        browser.end_session()
    outage()
    caplog.clear()
    reply = await browser.post("/login", data={"user": "alice", "for_now": "1"})
    assert (reply.status, SESSION in reply.cookies) == (302, True)
    assert reply.token == (None if brings == "nothing" else "")
    assert any("cannot be revoked" in warning for warning in warnings_in(caplog))
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("alice", None, True)
    backend.heal()
    assert await is_in(browser)
    assert await backend.of_user("alice", 9) == []


# Reuse


@pytest.mark.parametrize("presented", ["without a session", "with a live session"])
async def test_reuse_while_the_store_cannot_delete_is_found_again(
    browser: Browser, backend: FaultyBackend, presented: str
) -> None:
    """A copy that was found out is worth nothing while its record cannot be deleted; the alarm follows."""
    selector = (browser.token or "").split(".")[0]
    thief = browser.clone() if presented == "with a live session" else Browser(browser.worker)
    thief.cookies[TOKEN] = f"{selector}.{'A' * 43}"
    backend.break_down("delete")
    assert (await thief.send("GET", "/me")).user is None
    assert "reuse" not in dict(browser.worker.events)
    backend.heal()
    reply = await thief.get()
    assert (reply.user, reply.token) == (None, "")
    assert [name for name, _ in browser.worker.events] == ["remember", "reuse"]
    browser.end_session()
    assert not await is_in(browser)


@pytest.mark.parametrize("operation", ["get", "replace", "delete"])
async def test_nobody_is_accused_by_a_store_that_fails(
    browser: Browser, backend: FaultyBackend, clock: Clock, operation: str
) -> None:
    """Whatever fails while an honest token is judged, the token is valid afterwards."""
    for after in (3, 61, 100, DAY + 1):
        clock.advance(after)
        backend.break_down(operation)
        await browser.send("GET", "/me")
        browser.end_session()
        await browser.get()
        backend.heal()
        assert await is_in(browser)
    assert "reuse" not in dict(browser.worker.events)


# The log


@pytest.mark.parametrize("times", [1, 2])
async def test_an_outage_is_logged_once_and_its_end_too(
    browser: Browser, backend: FaultyBackend, clock: Clock, times: int, outage: Outage,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """One warning says that the store fails and why, and one that it answers again, whatever the number of requests."""
    monkeypatch.setattr("aiohttp_persistent_session.store.QUIET_FOR", 0)
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(times):
        clock.advance(3)
        browser.end_session()
        caplog.clear()
        outage()
        for _ in range(5):
            await browser.send("GET", "/me")
        assert [(record.levelno, record.name) for record in caplog.records] == [(logging.WARNING, LOGGER)]
        assert "fails at get" in caplog.text
        assert "connection refused" in caplog.text or "TimeoutError" in caplog.text
        backend.heal()
        await until(lambda: is_in(browser))
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
        assert "answers again at get" in caplog.text


async def test_a_store_that_fails_now_and_then_does_not_flood_the_log(
    browser: Browser, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """In a minute one worker logs one outage of an operation, and its end."""
    browser.end_session()
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(10):
        backend.break_down("get")
        assert (await browser.send("GET", "/me")).user is None
        backend.heal()
        assert (await browser.send("GET", "/me")).user == "alice"
    fails, answers_again = warnings_in(caplog)
    assert "fails at get" in fails
    assert "answers again at get" in answers_again


async def test_no_token_is_in_the_log_of_an_outage(
    browser: Browser, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """What is logged of a failing store names neither a token nor a part of one."""
    caplog.set_level(logging.DEBUG)
    selector, secret = (browser.token or "").split(".")
    for operation in ("get", "replace", "delete", "insert", "of_user"):
        backend.break_down(operation)
        clock.advance(61)
        await browser.send("GET", "/me")
        await browser.send("GET", "/me", cookie_header=f"{TOKEN}={browser.token}")
        await browser.send("GET", "/devices")
        await browser.send("POST", "/login", data={"user": "alice"})
        backend.heal()
    assert selector not in caplog.text
    assert secret not in caplog.text


# Around the store


async def test_a_session_storage_that_is_down_spends_no_token(workers: Workers, backend: FaultyBackend) -> None:
    """Whether the session is live cannot be known then: the token may be needed once it can."""

    class Storage(aiohttp_session.SimpleCookieStorage):
        down = False

        async def load_session(self, request: web.Request) -> aiohttp_session.Session:
            if self.down:
                raise DriverError
            return await super().load_session(request)

    async def page(_: web.Request) -> web.Response:
        return web.Response()

    storage = Storage()
    browser = Browser(await workers(backend, storage=storage, handlers={"/": page}))
    await browser.sign_in()
    token = browser.token
    storage.down = True
    backend.calls.clear()
    reply = await browser.get("/")
    assert (reply.status, reply.cookies) == (200, {})
    assert not backend.calls
    assert (await browser.get("/me")).status == 500
    storage.down = False
    assert (await browser.get()).token == token


async def test_a_backend_that_returns_no_record_is_told_of(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A backend that breaks the contract is a store that fails, and the log says how."""

    async def a_dict(_: str) -> object:
        return {"id": "x"}

    browser.end_session()
    backend.inner.get = a_dict  # type: ignore[method-assign,assignment]  # what a third-party backend may do
    assert (await browser.get()).json["restore_failed"] is True
    assert "get must return a Record or None, not dict" in caplog.text


async def test_a_receiver_that_hangs_does_not_keep_the_app_from_stopping(
    workers: Workers, backend: FaultyBackend
) -> None:
    """Receivers that are still at it are given ``timeout`` when the app stops, and end then."""
    ended = asyncio.Event()

    async def hangs(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def prepare(app: web.Application) -> None:
        next(one for one in app.values() if isinstance(one, PersistentSessionManager)).on_remember.append(hangs)

    browser = Browser(await workers(backend, prepare=prepare, timeout=TIMEOUT))
    await browser.sign_in()
    assert await is_in(browser)
    async with asyncio.timeout(COMES_BACK_WITHIN):
        await workers.stop()
    assert ended.is_set()


async def test_a_request_that_waits_for_a_shared_look_survives_the_one_that_began_it(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """The first request goes away while its record is read; the others of the same browser are served by its look."""
    clock.advance(61)
    record, gate = (await backend.of_user("alice", 9))[0], Gate()
    from aiohttp_persistent_session.tokens import Token

    token = Token.parse(browser.token or "")
    assert token is not None
    backend.fault = gate
    backend.calls.clear()
    manager = browser.worker.manager
    first = asyncio.create_task(check(manager, token, record.last_session))
    await gate.reached.wait()
    second = asyncio.create_task(check(manager, token, record.last_session))
    await asyncio.sleep(0)
    first.cancel()
    backend.heal()
    gate.opened.set()
    assert (await second).outcome is Outcome.LIVE
    assert backend.calls["get"] == 1
