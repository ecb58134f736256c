"""Signing in, restoring, signing out: what the browser holds and what the store holds afterwards."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from aiohttp_persistent_session import BackendError, forget, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers, raw_request
from .faults import FaultyBackend, Gate
from .stores import Store

EVERY_STORE = True


async def test_restoring_opens_a_session_and_sets_a_new_token(worker: Worker, browser: Browser) -> None:
    await browser.sign_in()
    old = browser.token
    browser.end_session()
    reply = await browser.get()
    assert reply.user == "alice"
    assert SESSION in browser.cookies
    assert Token.parse(reply.token or "")
    assert reply.token != old
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_the_selector_stays_and_the_secret_changes(browser: Browser) -> None:
    await browser.sign_in()
    selectors, secrets = set(), set()
    for _ in range(4):
        selector, secret = (browser.token or "").split(".")
        selectors.add(selector)
        secrets.add(secret)
        browser.end_session()
        await browser.get()
    assert (len(selectors), len(secrets)) == (1, 4)


async def test_the_old_token_is_worth_nothing_after_the_grace_period(browser: Browser, clock: Clock) -> None:
    await browser.sign_in()
    thief = browser.clone()
    thief.end_session()
    browser.end_session()
    await browser.get()
    clock.advance(10.001)
    reply = await thief.get()
    assert reply.user is None
    assert reply.cookies == {}


@pytest.mark.parametrize(
    ("seconds", "signed_in", "revoked"),
    [(10, True, False), (10.001, False, False), (60, False, False), (60.001, False, True), (DAY, False, True)],
)
async def test_a_spent_token_joins_then_is_late_then_is_reuse(
    worker: Worker, browser: Browser, clock: Clock, seconds: float, signed_in: bool, revoked: bool
) -> None:
    await browser.sign_in()
    other = browser.clone()
    other.end_session()
    browser.end_session()
    await browser.get()
    clock.advance(seconds)
    reply = await other.get()
    assert reply.user == ("alice" if signed_in else None)
    assert reply.token == (browser.token if signed_in else "" if revoked else None)
    assert ("reuse" in dict(worker.events)) is revoked
    browser.end_session()
    assert (await browser.get()).user == (None if revoked else "alice")


async def test_without_a_grace_period_every_spent_token_is_refused(workers: Workers, store: Store) -> None:
    browser = Browser(await workers(await store.backend(), grace_period=0))
    await browser.sign_in()
    other = browser.clone()
    other.end_session()
    browser.end_session()
    assert (await browser.get()).user == "alice"
    assert (await other.get()).user is None


async def test_a_grace_period_longer_than_a_minute_is_kept_to(workers: Workers, clock: Clock, store: Store) -> None:
    browser = Browser(await workers(await store.backend(), grace_period=120))
    await browser.sign_in()
    other = browser.clone()
    other.end_session()
    browser.end_session()
    await browser.get()
    clock.advance(120)
    assert (await other.clone().get()).user == "alice"
    clock.advance(0.001)
    assert (await other.clone().get()).token == ""


async def test_the_user_is_still_signed_in_after_30_days_less_a_moment(browser: Browser, clock: Clock) -> None:
    await browser.sign_in()
    browser.end_session()
    clock.advance(30 * DAY - 1)
    assert (await browser.get()).user == "alice"


async def test_an_expired_token_is_anonymous_and_left_alone(worker: Worker, browser: Browser, clock: Clock) -> None:
    await browser.sign_in()
    browser.end_session()
    clock.advance(30 * DAY + 60)
    reply = await browser.get()
    assert reply.user is None
    assert reply.cookies == {}
    assert [name for name, _ in worker.events] == ["remember"]


async def test_activity_moves_the_records_expiry_as_the_cookies(browser: Browser, clock: Clock) -> None:
    await browser.sign_in()
    for _ in range(5):
        clock.advance(29 * DAY)
        assert (await browser.get()).user == "alice"
    browser.end_session()
    clock.advance(29 * DAY)
    assert (await browser.get()).user == "alice"


async def test_remember_deletes_the_persistent_session_that_the_request_brought_along(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    await browser.sign_in("alice")
    first = browser.clone()
    await browser.sign_in("bob")
    assert len(await backend.of_user("alice")) == 0
    assert [name for name, _ in worker.events] == ["remember", "forget", "remember"]
    first.end_session()
    assert (await first.get()).user is None


async def test_remember_deletes_what_the_cookie_alone_brought_along(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    await browser.sign_in("alice")
    other = Browser(worker)
    await other.sign_in("bob")
    mixed = Browser(worker, {SESSION: other.cookies[SESSION], TOKEN: browser.cookies[TOKEN]})
    await mixed.sign_in("carol")
    assert await backend.of_user("alice") == []
    assert await backend.of_user("bob") == []
    assert len(await backend.of_user("carol")) == 1


async def test_forget_expires_the_cookie_and_deletes_the_record(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    await browser.sign_in()
    stolen = browser.clone()
    reply = await browser.post("/logout")
    assert reply.token == ""
    assert browser.token is None
    assert await backend.of_user("alice") == []
    assert (await browser.get()).user is None
    stolen.end_session()
    assert (await stolen.get()).user is None
    assert [name for name, _ in worker.events] == ["remember", "forget"]


async def test_forget_works_also_when_no_session_is_left(backend: FaultyBackend, browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    reply = await browser.post("/logout")
    assert reply.token == ""
    assert await backend.of_user("alice") == []


async def test_forget_works_with_a_token_that_is_late(backend: FaultyBackend, browser: Browser, clock: Clock) -> None:
    """The request is anonymous, but whoever clicks "sign out" means it."""
    await browser.sign_in()
    late = browser.clone()
    late.end_session()
    browser.end_session()
    await browser.get()
    clock.advance(30)
    assert (await late.post("/logout")).token == ""
    assert await backend.of_user("alice") == []


async def test_forget_works_with_a_session_alone(backend: FaultyBackend, browser: Browser) -> None:
    await browser.sign_in()
    del browser.cookies[TOKEN]
    await browser.post("/logout")
    assert await backend.of_user("alice") == []


async def test_forget_without_anything_to_forget_does_no_harm(backend: FaultyBackend, browser: Browser) -> None:
    reply = await browser.post("/logout")
    assert reply.status == 302
    assert reply.token == ""
    assert SESSION not in reply.cookies
    assert set(backend.calls) <= {"open", "purge"}


async def test_the_last_of_remember_and_forget_in_one_request_counts(workers: Workers, store: Store) -> None:
    async def in_and_out(request: web.Request) -> web.Response:
        await remember(request, "alice")
        await forget(request)
        return web.Response()

    async def out_and_in(request: web.Request) -> web.Response:
        await forget(request)
        await remember(request, "alice")
        return web.Response()

    backend = await store.backend()
    worker = await workers(backend, handlers={"/in-and-out": in_and_out, "/out-and-in": out_and_in})
    browser = Browser(worker)
    assert (await browser.get("/in-and-out")).token == ""
    assert await backend.of_user("alice") == []
    assert (await browser.get()).user is None
    assert (await browser.get("/out-and-in")).token
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_session_opened_without_the_box_is_none_of_our_business(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    """It is neither checked nor renewed, whatever token its request carries."""
    await browser.sign_in("alice")
    token = browser.token
    await browser.post("/login-unremembered", data={"user": "bob"})
    backend.calls.clear()
    for value in (token, Token.generate().cookie_value, "malformed"):
        reply = await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}; {TOKEN}={value}")
        assert reply.user == "bob"
        assert reply.cookies == {}
        assert reply.json["fresh"] is True
    assert not backend.calls


async def test_a_live_request_needs_no_token_and_judges_none(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    """A wrong secret beside a live session is not reuse, and is not sent back."""
    await browser.sign_in()
    backend.calls.clear()
    selector = (browser.token or "").split(".")[0]
    wrong = f"{selector}.{Token.generate().cookie_value.split('.')[1]}"
    other = Token.generate().cookie_value
    for value in (wrong, other, "malformed", f"{browser.token}x"):
        reply = await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}; {TOKEN}={value}")
        assert reply.user == "alice"
        assert TOKEN not in reply.cookies
    assert not backend.calls
    assert (await browser.get()).token == browser.token


async def test_is_fresh_after_sign_in_and_not_after_a_restore(browser: Browser) -> None:
    assert (await browser.get()).json["fresh"] is False
    await browser.sign_in()
    assert (await browser.get()).json["fresh"] is True
    browser.end_session()
    assert (await browser.get()).json["fresh"] is False
    assert (await browser.get()).json["fresh"] is False
    await browser.sign_in()
    assert (await browser.get()).json["fresh"] is True


async def test_the_anonymous_sessions_data_are_carried_over(browser: Browser) -> None:
    await browser.post("/cart", data={"item": "book"})
    await browser.sign_in()
    assert (await browser.get()).json["cart"] == "book"
    browser.end_session()
    await browser.send("GET", "/me")
    browser.end_session()
    reply = await browser.post("/cart", data={"item": "pen"})
    assert reply.json == "alice"


async def test_an_anonymous_cart_survives_a_restore(browser: Browser) -> None:
    await browser.post("/cart", data={"item": "book"})
    anonymous = browser.cookies[SESSION]
    await browser.sign_in()
    browser.cookies[SESSION] = anonymous
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("alice", "book")


async def test_another_users_session_is_not_carried_over(browser: Browser) -> None:
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "alice's diary"})
    await browser.sign_in("bob")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("bob", None)


async def test_the_same_users_session_is_carried_over(browser: Browser) -> None:
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "book"})
    await browser.sign_in("alice")
    assert (await browser.get()).json["cart"] == "book"


async def test_int_and_str_users_are_kept_apart_and_keep_their_type(workers: Workers, store: Store) -> None:
    async def login_as_text(request: web.Request) -> web.Response:
        await remember(request, "1")
        return web.Response()

    worker = await workers(await store.backend(), handlers={"/text": login_as_text})
    number, text = Browser(worker), Browser(worker)
    await number.sign_in("1")
    await text.get("/text")
    for browser, user in ((number, 1), (text, "1")):
        browser.end_session()
        assert (await browser.get()).user == user
        ((_, current, _, listed_user),) = (await browser.get("/devices")).json
        assert (current, listed_user) == (True, user)


async def test_remember_after_the_response_was_prepared_is_an_error_and_stores_nothing(
    workers: Workers, store: Store
) -> None:
    errors: list[BaseException] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await remember(request, "alice")
        except RuntimeError as error:
            errors.append(error)
        return response

    backend = await store.backend()
    reply = await Browser(await workers(backend, handlers={"/late": handler})).get("/late")
    assert reply.cookies == {}
    assert "before the response is prepared" in str(errors[0])
    assert await backend.of_user("alice") == []


async def test_a_handler_that_dies_after_remember_remembers_nobody(workers: Workers, store: Store) -> None:
    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise ZeroDivisionError

    backend = await store.backend()
    worker = await workers(backend, handlers={"/die": handler})
    reply = await Browser(worker).get("/die")
    assert reply.status == 500
    assert reply.cookies == {}
    assert await backend.of_user("alice") == []


async def test_a_handler_that_dies_after_rotation_still_sends_the_new_token(workers: Workers, store: Store) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    browser = Browser(await workers(await store.backend(), handlers={"/die": handler}))
    await browser.sign_in()
    old = browser.token
    browser.end_session()
    reply = await browser.get("/die")
    assert reply.status == 500
    assert reply.token not in (None, "", old)
    assert SESSION not in reply.cookies
    assert (await browser.get()).user == "alice"


async def test_a_handler_that_dies_while_streaming_leaves_the_browser_signed_in(workers: Workers, store: Store) -> None:
    """The cookie is under way already: to delete the record would sign a browser out that was told it is in."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await remember(request, "alice")
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await response.write(b"ok")
        raise ZeroDivisionError

    browser = Browser(await workers(await store.backend(), handlers={"/die": handler}))
    await browser.get("/die")
    assert (await browser.get()).user == "alice"


async def test_a_redirect_or_error_that_the_handler_raises_after_remember_is_its_answer(
    workers: Workers, store: Store
) -> None:
    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise web.HTTPServiceUnavailable

    browser = Browser(await workers(await store.backend(), handlers={"/": handler}))
    reply = await browser.get("/")
    assert reply.status == 503
    assert (await browser.get()).user == "alice"


async def test_remember_that_fails_leaves_nothing_behind(workers: Workers, backend: FaultyBackend) -> None:
    """The handler may go on without: what it does then is its own session."""

    async def handler(request: web.Request) -> web.Response:
        try:
            await remember(request, "alice")
        except BackendError as error:
            return web.Response(text=f"not remembered: {error}")
        return web.Response(text="remembered")

    browser = Browser(await workers(backend, handlers={"/login": handler}))
    backend.break_down("insert")
    reply = await browser.get("/login")
    assert reply.text == "not remembered: the store failed: DriverError"
    assert reply.cookies == {}
    backend.heal()
    assert await backend.of_user("alice") == []


async def test_remember_whose_old_record_cannot_be_deleted_fails_whole(
    workers: Workers, backend: FaultyBackend
) -> None:
    browser = Browser(await workers(backend))
    await browser.sign_in("alice")
    backend.break_down("delete")
    reply = await browser.post("/login", data={"user": "bob"})
    assert reply.status == 500
    backend.heal()
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_what_remember_returns_shows_this_browser(workers: Workers, clock: Clock, store: Store) -> None:
    shown = []

    async def handler(request: web.Request) -> web.Response:
        shown.append(await remember(request, 42, data={"device": "Zoë's phone", "n": [1, None]}))
        return web.Response()

    browser = Browser(await workers(await store.backend(), handlers={"/": handler}), user_agent="Mozilla/" + "5" * 300)
    await browser.get("/")
    (session,) = shown
    assert session.user == 42
    assert session.current is True
    assert session.data == {"device": "Zoë's phone", "n": [1, None]}
    assert session.user_agent == ("Mozilla/" + "5" * 300)[:256]
    assert session.address == "127.0.0.1"
    assert session.created_at == session.seen_at
    assert session.created_at.timestamp() == pytest.approx(clock.now)
    assert (session.expires_at - session.created_at).total_seconds() == 30 * DAY + 60
    assert session.id == Token.parse(browser.token or "").id


async def test_no_session_is_loaded_for_a_visitor_with_neither_cookie(backend: FaultyBackend, workers: Workers) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response("aiohttp_session" in request)

    browser = Browser(await workers(backend, handlers={"/": handler}))
    assert (await browser.get("/")).json is False


async def test_a_token_is_judged_by_when_it_was_presented(workers: Workers, clock: Clock, store: Store) -> None:
    """A slow ``validate``, or a worker that was stopped for a while, is not the browser's fault."""
    takes = 0.0
    gate = Gate()

    async def validate(request: web.Request, _: object) -> bool:
        if "slow" in request.query:
            await gate()
            clock.advance(takes)
        return True

    worker = await workers(await store.backend(), validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    slow, takes = browser.clone(), 65.0
    pending = asyncio.create_task(slow.send("GET", "/me?slow"))
    await gate.reached.wait()
    await browser.get()
    gate.opened.set()
    reply = await pending
    assert (reply.user, reply.token) == ("alice", browser.token)

    browser.end_session()
    slow, takes = browser.clone(), 2.0
    await browser.get()
    clock.advance(9)
    assert (await slow.send("GET", "/me?slow")).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_validate_refuses_deletes_the_record_and_leaves_the_request_anonymous(
    workers: Workers, store: Store
) -> None:
    seen = []

    async def validate(request: web.Request, persistent_session: object) -> bool:
        seen.append((request.path, persistent_session.user, persistent_session.data))
        return False

    backend = await store.backend()
    worker = await workers(backend, validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    assert seen == []
    browser.end_session()
    reply = await browser.get()
    assert reply.user is None
    assert reply.cookies == {}
    assert seen == [("/me", "alice", {})]
    assert await backend.of_user("alice") == []
    assert [name for name, _ in worker.events] == ["remember", "revoke"]


@pytest.mark.parametrize("grace", [False, True])
async def test_validate_runs_at_each_restore_also_of_a_request_that_joins(
    workers: Workers, grace: bool, store: Store
) -> None:
    seen = []

    def validate(request: web.Request, _: object) -> bool:
        seen.append(request.path)
        return True

    browser = Browser(await workers(await store.backend(), validate=validate))
    await browser.sign_in()
    browser.end_session()
    old = browser.clone()
    await browser.get()
    browser.end_session()
    await (old if grace else browser).get()
    assert len(seen) == 2


@pytest.mark.parametrize("answer", [None, 1, "yes", [], object()])
async def test_validate_that_does_not_return_a_bool_ends_nothing(
    workers: Workers, answer: object, caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """A forgotten ``return True`` must not sign out whoever comes by."""
    backend = await store.backend()
    browser = Browser(await workers(backend, validate=lambda request, persistent_session: answer))
    await browser.sign_in()
    browser.end_session()
    reply = await browser.get()
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    assert len(await backend.of_user("alice")) == 1
    assert "must return a bool" in caplog.text


async def test_validate_may_answer_with_an_http_exception(workers: Workers, store: Store) -> None:
    async def validate(_: web.Request, __: object) -> bool:
        raise web.HTTPFound("/second-factor")

    browser = Browser(await workers(await store.backend(), validate=validate))
    await browser.sign_in()
    token = browser.token
    browser.end_session()
    reply = await browser.get()
    assert (reply.status, reply.headers["Location"]) == (302, "/second-factor")
    assert browser.token == token


async def test_a_browser_without_a_user_agent_is_remembered_too(worker: Worker) -> None:
    browser = Browser(worker, user_agent="")
    await browser.sign_in()
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_user_agent_that_is_not_unicode_is_stored_as_text(worker: Worker, backend: FaultyBackend) -> None:
    await raw_request(worker, b"POST", b"/login?user=alice", {b"User-Agent": b"\xff\xfe x"}, b"user=alice")
    (record,) = await backend.of_user("alice")
    assert record.user_agent == "?? x"
