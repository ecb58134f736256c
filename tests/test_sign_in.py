"""Signing in and out in one browser: what the browser and the store hold afterwards, and what a failure leaves."""

from __future__ import annotations

import asyncio

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import BackendError, PersistentSession, forget, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend

EVERY_STORE = ("memory", "redis")


async def records(backend: FaultyBackend, user: str = "alice") -> int:
    return len(await backend.of_user(user, 1000))


# remember


async def test_what_remember_returns_shows_this_browser(workers: Workers, clock: Clock, backend: FaultyBackend) -> None:
    """``remember`` gives what an audit log wants: who, when, from where, until when."""
    shown = []

    async def handler(request: web.Request) -> web.Response:
        shown.append(await remember(request, 42, data={"device": "Zoë's phone", "n": [1, None]}))
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/": handler}), user_agent="Mozilla/" + "5" * 300)
    await browser.get("/")
    (session,) = shown
    assert isinstance(session, PersistentSession)
    assert (session.user, session.current, session.persistent) == (42, True, True)
    assert (session.reason, session.repeat) == (None, None)
    assert session.data == {"device": "Zoë's phone", "n": [1, None]}
    assert session.user_agent == ("Mozilla/" + "5" * 300)[:256]
    assert session.address == "127.0.0.1"
    assert session.created_at == session.seen_at
    assert session.created_at.timestamp() == pytest.approx(clock.now)
    assert (session.expires_at - session.created_at).total_seconds() == 30 * DAY + 60
    token = Token.parse(browser.token or "")
    assert token is not None
    assert session.id == token.id


async def test_the_anonymous_sessions_data_are_carried_over(browser: Browser) -> None:
    """A basket that was filled before the sign-in is there after it."""
    await browser.post("/cart", data={"item": "book"})
    await browser.sign_in()
    assert (await browser.get()).json["cart"] == "book"


async def test_another_users_session_is_not_carried_over(browser: Browser) -> None:
    """One user's data are never handed to the next."""
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "alice's diary"})
    await browser.sign_in("bob")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("bob", None)


async def test_the_same_users_session_is_carried_over(browser: Browser) -> None:
    """Who signs in again over a live session of theirs loses nothing."""
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "book"})
    await browser.sign_in("alice")
    assert (await browser.get()).json["cart"] == "book"


async def test_a_sign_in_ends_the_persistent_session_that_the_request_brought_along(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    """One browser has one persistent session; ``on_forget`` says why the former one ended."""
    await browser.sign_in("alice")
    first = browser.clone()
    await browser.sign_in("bob")
    assert await records(backend) == 0
    assert [(name, one.reason) for name, one in worker.told] == [
        ("remember", None),
        ("forget", "signed in anew"),
        ("remember", None),
    ]
    first.end_session()
    reply = await first.get()
    assert (reply.user, reply.cookies) == (None, {})


async def test_a_sign_in_ends_what_session_and_token_name_apart(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    """Session and token of two users in one browser, as nobody should have them: both end."""
    await browser.sign_in("alice")
    other = Browser(worker)
    await other.sign_in("bob")
    mixed = Browser(worker, {SESSION: other.cookies[SESSION], TOKEN: browser.cookies[TOKEN]})
    await mixed.sign_in("carol")
    assert [await records(backend, user) for user in ("alice", "bob", "carol")] == [0, 0, 1]


async def test_a_sign_in_twice_in_one_request_leaves_the_later_one(workers: Workers, backend: FaultyBackend) -> None:
    """The last call counts, and the record of the earlier one does not stay behind."""

    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        await remember(request, "bob")
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/": handler}))
    reply = await browser.get("/")
    assert Token.parse(reply.token or "")
    assert [await records(backend, user) for user in ("alice", "bob")] == [0, 1]
    assert (await browser.get()).user == "bob"
    browser.end_session()
    assert (await browser.get()).user == "bob"


async def test_a_reused_token_does_not_keep_its_browser_from_signing_in(browser: Browser) -> None:
    """The deletion of a copy's cookie must not hit the token of the sign-in in the same response."""
    await browser.sign_in()
    selector = (browser.token or "").split(".")[0]
    browser.end_session()
    browser.cookies[TOKEN] = f"{selector}.{Token.generate().cookie_value.split('.')[1]}"
    reply = await browser.sign_in("alice")
    assert Token.parse(reply.token or "")
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_remember_after_the_response_was_prepared_is_an_error_and_stores_nothing(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The cookie could not be sent any more."""
    errors: list[BaseException] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await remember(request, "alice")
        except RuntimeError as error:
            errors.append(error)
        return response

    reply = await Browser(await workers(backend, handlers={"/late": handler})).get("/late")
    assert reply.cookies == {}
    assert "before the response is prepared" in str(errors[0])
    assert await records(backend) == 0


async def test_a_handler_that_dies_after_remember_remembers_nobody(workers: Workers, backend: FaultyBackend) -> None:
    """An unhandled exception undoes the sign-in."""

    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise ZeroDivisionError

    reply = await Browser(await workers(backend, handlers={"/die": handler})).get("/die")
    assert (reply.status, reply.cookies) == (500, {})
    assert await records(backend) == 0


async def test_an_inner_middleware_that_dies_after_remember_remembers_nobody(
    workers: Workers, backend: FaultyBackend
) -> None:
    """What is appended after ``setup`` counts as part of the handler."""

    @web.middleware
    async def dying(request: web.Request, handler: object) -> web.StreamResponse:
        await handler(request)  # type: ignore[operator]  # it is aiohttp's Handler
        raise ZeroDivisionError

    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    reply = await Browser(await workers(backend, handlers={"/": handler}, middlewares=[dying])).get("/")
    assert (reply.status, reply.cookies) == (500, {})
    assert await records(backend) == 0


async def test_a_handler_that_dies_while_streaming_leaves_the_browser_signed_in(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The cookie is under way already: to delete the record would sign a browser out that was told it is in."""

    async def handler(request: web.Request) -> web.StreamResponse:
        await remember(request, "alice")
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await response.write(b"ok")
        raise ZeroDivisionError

    browser = Browser(await workers(backend, handlers={"/die": handler}))
    await browser.get("/die")
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("answer", [web.HTTPFound("/"), web.HTTPServiceUnavailable(), web.HTTPInternalServerError()])
async def test_a_redirect_or_error_that_the_handler_raises_after_remember_is_its_answer(
    workers: Workers, backend: FaultyBackend, answer: web.HTTPException
) -> None:
    """aiohttp's own exceptions are responses, and undo nothing."""

    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise type(answer)("/") if isinstance(answer, web.HTTPFound) else type(answer)

    browser = Browser(await workers(backend, handlers={"/": handler}))
    reply = await browser.get("/")
    assert reply.status == answer.status
    assert (await browser.get()).user == "alice"


async def test_a_remember_that_fails_leaves_nothing_behind(workers: Workers, backend: FaultyBackend) -> None:
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
    assert await records(backend) == 0


async def test_a_remember_whose_old_record_cannot_be_deleted_fails_whole(
    workers: Workers, backend: FaultyBackend
) -> None:
    """Nobody is signed in half: the former user stays."""
    browser = Browser(await workers(backend))
    await browser.sign_in("alice")
    backend.break_down("delete")
    reply = await browser.post("/login", data={"user": "bob"})
    assert reply.status == 500
    backend.heal()
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_sign_in_in_parallel_with_another_of_the_same_browser_leaves_one_that_works(
    worker: Worker, browser: Browser
) -> None:
    """A button that is pressed twice: the cookies of either answer are good."""
    first = await browser.send("POST", "/login", data={"user": "alice"})
    second = await browser.send("POST", "/login", data={"user": "alice"})
    for reply in (first, second):
        tab = Browser(worker)
        tab.take(reply)
        assert (await tab.get()).user == "alice"
        tab.end_session()
        assert (await tab.get()).user == "alice"


async def test_user_0_is_a_user(browser: Browser) -> None:
    """An id that is false is an id: it is restored, listed and signed out."""
    await browser.sign_in("0")
    browser.end_session()
    reply = await browser.get()
    assert (reply.user, bool(reply.token)) == (0, True)
    assert [one[3] for one in (await browser.get("/devices")).json] == [0]
    assert (await browser.post("/logout-everywhere")).json == 1
    assert (await browser.get()).user is None


# forget


async def test_forget_expires_the_cookie_and_deletes_the_record(
    worker: Worker, backend: FaultyBackend, browser: Browser
) -> None:
    """Signing out works at the back end: a copy of the cookies is worth nothing after it."""
    await browser.sign_in()
    stolen = browser.clone()
    reply = await browser.post("/logout")
    assert reply.token == ""
    assert browser.token is None
    assert await records(backend) == 0
    assert (await browser.get()).user is None
    stolen.end_session()
    assert (await stolen.get()).user is None
    assert [(name, one.reason) for name, one in worker.told] == [("remember", None), ("forget", "signed out")]


async def test_forget_works_also_when_no_session_is_left(backend: FaultyBackend, browser: Browser) -> None:
    """The request restores, and signs out what it restored."""
    await browser.sign_in()
    browser.end_session()
    reply = await browser.post("/logout")
    assert reply.token == ""
    assert await records(backend) == 0
    assert (await browser.get()).user is None


async def test_forget_works_with_a_token_that_joins(backend: FaultyBackend, browser: Browser) -> None:
    """A click on "sign out" counts in whichever tab it is made."""
    await browser.sign_in()
    tab = browser.clone()
    tab.end_session()
    browser.end_session()
    await browser.get()
    assert (await tab.post("/logout")).token == ""
    assert await records(backend) == 0
    assert (await browser.get()).user is None


async def test_forget_works_with_a_session_alone(backend: FaultyBackend, browser: Browser) -> None:
    """The session names its persistent session."""
    await browser.sign_in()
    del browser.cookies[TOKEN]
    await browser.post("/logout")
    assert await records(backend) == 0


async def test_forget_works_where_the_store_could_not_be_read_before(
    backend: FaultyBackend, browser: Browser, clock: Clock
) -> None:
    """A session that is served on in an outage is signed out once the store answers."""
    await browser.sign_in()
    del browser.cookies[TOKEN]
    clock.advance(61)
    reads = 0

    async def fail_once(name: str) -> None:
        nonlocal reads
        reads += name == "get"
        if name == "get" and reads == 1:
            raise ConnectionError

    backend.fault = fail_once
    await browser.post("/logout")
    backend.heal()
    assert await records(backend) == 0


async def test_forget_without_anything_to_forget_does_no_harm(backend: FaultyBackend, browser: Browser) -> None:
    """A visitor who signs out costs the store nothing."""
    reply = await browser.post("/logout")
    assert reply.status == 302
    assert reply.token == ""
    assert SESSION not in reply.cookies
    assert set(backend.calls) <= {"open", "purge"}


async def test_forget_leaves_nothing_of_the_session(browser: Browser) -> None:
    """Its data are of the user who signs out."""
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    await browser.post("/logout")
    assert (await browser.get()).json["cart"] is None


async def test_the_last_of_remember_and_forget_in_one_request_counts(workers: Workers, backend: FaultyBackend) -> None:
    """A response has one cookie of the name: that of the last call."""

    async def in_and_out(request: web.Request) -> web.Response:
        await remember(request, "alice")
        await forget(request)
        return web.Response()

    async def out_and_in(request: web.Request) -> web.Response:
        await forget(request)
        await remember(request, "alice")
        return web.Response()

    worker = await workers(backend, handlers={"/in-and-out": in_and_out, "/out-and-in": out_and_in})
    browser = Browser(worker)
    assert (await browser.get("/in-and-out")).token == ""
    assert await records(backend) == 0
    assert (await browser.get()).user is None
    assert (await browser.get("/out-and-in")).token
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_sign_out_amid_a_failing_handler_stands(workers: Workers, backend: FaultyBackend) -> None:
    """aiohttp-session saves nothing after an exception, and yet the session ends."""

    async def fail(request: web.Request) -> web.Response:
        await forget(request)
        raise ValueError

    browser = Browser(await workers(backend, handlers={"/fail": fail}))
    await browser.sign_in()
    reply = await browser.get("/fail")
    assert (reply.status, reply.token) == (500, "")
    assert (await browser.get()).user is None
    assert await records(backend) == 0


# A name so short that 88 tokens fit into one field, which aiohttp limits to 8190 bytes.
SHORT_NAME = "persistent_session"


def made_up_tokens(fields: int) -> list[str]:
    """Return so many Cookie fields with 88 well-formed tokens each."""
    return ["; ".join(f"{SHORT_NAME}={Token.generate().cookie_value}" for _ in range(88)) for _ in range(fields)]


async def test_an_anonymous_sign_out_looks_at_one_presented_token(workers: Workers, backend: FaultyBackend) -> None:
    """100 Cookie fields with 88 well-formed tokens each cost what one token does."""
    worker = await workers(backend, cookie_name=SHORT_NAME)
    backend.calls.clear()
    assert await send_cookie_fields(worker, b"/logout", made_up_tokens(100)) == 302
    # Two to find out which record exists, and one for the sign-out.
    assert backend.calls["get"] <= 3
    assert sum(backend.calls.values()) == backend.calls["get"]


async def test_a_sign_out_looks_at_its_session_and_one_presented_token(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A live session beside 8,800 tokens of others ends itself, and looks at no more than one of them."""
    worker = await workers(backend, cookie_name=SHORT_NAME)
    browser = Browser(worker)
    await browser.sign_in()
    session = f"{SESSION}={browser.cookies[SESSION]}"
    backend.calls.clear()
    assert await send_cookie_fields(worker, b"/logout", [session, *made_up_tokens(100)]) == 302
    assert backend.calls == {"get": 2, "delete": 1}
    assert await records(backend) == 0


async def send_cookie_fields(worker: Worker, path: bytes, fields: list[str]) -> int:
    """Send one POST with these Cookie fields, which no client library would keep apart; return its status."""

    reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n" % path)
    writer.writelines(b"Cookie: %s\r\n" % field.encode() for field in fields)
    writer.write(b"\r\n")
    await writer.drain()
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(response.split(b" ", 2)[1])


async def test_a_user_whose_id_is_the_word_none_is_a_user(workers: Workers, backend: FaultyBackend) -> None:
    """The app signed them in by itself: the next user gets nothing of their session."""

    async def sign_in_by_the_session_alone(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request)).update(user="None", cart="of None")
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/alone": sign_in_by_the_session_alone}))
    await browser.get("/alone")
    await browser.sign_in("alice")
    assert (await browser.get()).json["cart"] is None
