"""What is wrong about how an application is put together: found at a request, and said once, with what to do."""

from __future__ import annotations

from typing import Any

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiohttp_persistent_session import (
    MemoryBackend,
    PersistentSessionManager,
    persistent_session_middleware,
    remember,
    setup,
)

from .browser import SESSION, TOKEN, Browser, Clock, Workers
from .faults import FaultyBackend


def warnings(caplog: pytest.LogCaptureFixture, about: str) -> list[str]:
    """Return the warnings in which these words are."""
    return [one.message for one in caplog.records if one.levelname == "WARNING" and about in one.message]


async def page(_: web.Request) -> web.Response:
    return web.Response(text="a page")


async def login(request: web.Request) -> web.Response:
    await remember(request, "alice")
    return web.Response()


# A sub-application with an aiohttp-session of its own


def with_its_own_session(app: web.Application) -> None:
    sub = web.Application()
    aiohttp_session.setup(sub, aiohttp_session.SimpleCookieStorage(cookie_name="INNER"))
    sub.router.add_get("/page", page)
    sub.router.add_get("/login", login)
    app.add_subapp("/sub/", sub)


@pytest.mark.parametrize("path", ["/sub/page", "/sub/login"])
@pytest.mark.parametrize("signed_in", [True, False])
async def test_a_sub_application_with_an_aiohttp_session_of_its_own_is_refused(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture, path: str, signed_in: bool
) -> None:
    """It would mix the two sessions: the first request fails, and the log says what to do."""
    browser = Browser(await workers(backend, prepare=with_its_own_session))
    if signed_in:
        await browser.sign_in("bob")
    reply = await browser.send("GET", path)
    assert reply.status == 500
    assert "INNER" not in reply.cookies
    assert SESSION not in reply.cookies
    error = str(next(one.exc_info[1] for one in caplog.records if one.exc_info))
    assert "a sub-application has an aiohttp-session of its own" in error
    assert "set up aiohttp_session on the outermost application alone" in error
    assert await backend.of_user("alice", 10) == []
    assert (await browser.get()).user == ("bob" if signed_in else None)


async def test_an_aiohttp_session_and_ours_on_a_sub_application_alone_work(clock: Clock) -> None:
    """That is one of the two ways out that the message names."""
    sub = web.Application()
    aiohttp_session.setup(sub, aiohttp_session.SimpleCookieStorage())
    manager = setup(sub, MemoryBackend())
    manager.clock = clock
    sub.router.add_get("/login", login)
    sub.router.add_get("/page", page)
    app = web.Application()
    app.add_subapp("/sub/", sub)
    app.router.add_get("/page", page)
    async with (
        TestServer(app) as server,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
    ):
        async with http.get(server.make_url("/sub/login")) as response:
            token = response.cookies[TOKEN].value
        headers = {"Cookie": f"{TOKEN}={token}"}
        async with http.get(server.make_url("/sub/page"), headers=headers) as response:
            assert response.cookies[TOKEN].value not in ("", token)
        async with http.get(server.make_url("/page"), headers=headers) as response:
            assert (response.status, len(response.cookies)) == (200, 0)


async def test_ours_on_an_application_and_on_its_sub_application_is_refused(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of them would each set the cookie."""

    def prepare(app: web.Application) -> None:
        sub = web.Application()
        setup(sub, MemoryBackend())
        sub.router.add_get("/page", page)
        app.add_subapp("/sub/", sub)

    browser = Browser(await workers(backend, prepare=prepare))
    assert (await browser.get("/sub/page")).status == 500
    assert "once is enough" in caplog.text


# Middlewares before ours


@web.middleware
async def auth(request: web.Request, handler: Any) -> web.StreamResponse:
    """Read the session, and do with a visitor what an application does."""
    await aiohttp_session.get_session(request)
    return await handler(request)


@web.middleware
async def harmless(request: web.Request, handler: Any) -> web.StreamResponse:
    return await handler(request)


async def test_middlewares_that_read_the_session_before_the_restore_are_named(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """An auth middleware that was appended before ``setup`` sees an anonymous visitor: the log says whom to move."""

    def prepare(app: web.Application) -> None:
        app.middlewares.insert(1, auth)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.sign_in()
    await browser.get()
    assert not warnings(caplog, "read before")
    for _ in range(3):
        browser.end_session()
        assert (await browser.get()).user == "alice"
    (message,) = warnings(caplog, "read before")
    assert "tests.test_warnings.auth" in message
    assert "aiohttp_session." not in message.replace("aiohttp_session.setup", "")
    assert "call setup() before" in message


async def test_middlewares_that_do_not_read_the_session_are_not_warned_of(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nobody read it, nobody was misled; after ours, everybody may."""

    def prepare(app: web.Application) -> None:
        app.middlewares.insert(0, harmless)
        app.middlewares.insert(2, harmless)
        app.middlewares.append(auth)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.sign_in()
    browser.end_session()
    assert (await browser.get()).user == "alice"
    assert not caplog.records


async def test_a_session_that_is_read_before_and_holds_the_user_is_not_warned_of(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A live session, and a visitor who stays anonymous, are what they seem."""

    def prepare(app: web.Application) -> None:
        app.middlewares.insert(1, auth)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.get()
    await browser.send("GET", "/me", cookie_header=f"{TOKEN}=malformed")
    await browser.sign_in()
    await browser.get()
    assert not caplog.records


async def test_a_restored_session_is_the_one_that_later_readers_get(workers: Workers, backend: FaultyBackend) -> None:
    """A middleware that read the session before gets the restored one when it asks again."""
    seen = []

    @web.middleware
    async def ask_again(request: web.Request, handler: Any) -> web.StreamResponse:
        before = (await aiohttp_session.get_session(request)).get("user")
        response = await handler(request)
        seen.append((before, (await aiohttp_session.get_session(request)).get("user")))
        return response

    browser = Browser(await workers(backend, prepare=lambda app: app.middlewares.insert(1, ask_again)))
    await browser.sign_in()
    browser.end_session()
    await browser.get()
    assert seen[-1] == (None, "alice")


# Cookies that differ


@pytest.mark.parametrize(
    ("token", "session", "words"),
    [
        ({}, {"samesite": "Strict"}, ["SameSite", "Lax", "Strict"]),
        ({"samesite": "None"}, {}, ["SameSite", "None", "Lax"]),
        ({"samesite": "None"}, {"samesite": "lax"}, ["SameSite", "None", "lax"]),
        ({"samesite": "Strict"}, {}, ["SameSite", "Strict", "Lax"]),
        ({"samesite": "Strict"}, {"samesite": "Lax"}, ["SameSite", "Strict", "Lax"]),
        ({}, {"samesite": "None", "secure": True}, ["SameSite", "Lax", "None"]),
        ({"path": "/app"}, {}, ["path", "/app"]),
        ({}, {"path": "/app"}, ["path", "/app"]),
        ({"path": "/app"}, {"path": "/application"}, ["path", "/app ", "/application"]),
        ({"domain": "example.com"}, {}, ["domain", "example.com"]),
        ({}, {"domain": "example.com"}, ["domain", "example.com"]),
        ({"domain": "a.example.com"}, {"domain": "example.com"}, ["domain", "a.example.com"]),
    ],
)
async def test_cookies_that_reach_further_than_each_other_are_warned_of(
    workers: Workers,
    caplog: pytest.LogCaptureFixture,
    token: dict[str, Any],
    session: dict[str, Any],
    words: list[str],
) -> None:
    """A cross-site link that restores over a live session, requests that come with one of the two: said once."""
    storage = aiohttp_session.SimpleCookieStorage(**session)
    browser = Browser(await workers(MemoryBackend(), storage=storage, **token))
    for _ in range(3):
        await browser.get()
    (message,) = warnings(caplog, "differ")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("token", "session"),
    [
        ({}, {}),
        ({}, {"samesite": "Lax"}),
        ({"samesite": "Strict"}, {"samesite": "strict"}),
        ({"samesite": "None"}, {"samesite": "None", "secure": True}),
        ({"path": "/app"}, {"path": "/app"}),
        ({"domain": "example.com"}, {"domain": ".Example.com"}),
        ({"secure": False}, {"max_age": 3600}),
    ],
)
async def test_cookies_that_go_together_are_not_warned_of(
    workers: Workers, caplog: pytest.LogCaptureFixture, token: dict[str, Any], session: dict[str, Any]
) -> None:
    """Nothing is said where nothing is wrong."""
    storage = aiohttp_session.SimpleCookieStorage(**session)
    browser = Browser(await workers(MemoryBackend(), storage=storage, **token))
    await browser.get()
    await browser.sign_in()
    assert not caplog.records


async def test_one_name_for_both_cookies_is_refused(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Each would overwrite the other."""
    storage = aiohttp_session.SimpleCookieStorage(cookie_name="stay")
    browser = Browser(await workers(MemoryBackend(), storage=storage, cookie_name="stay"))
    assert (await browser.get()).status == 500
    assert "cookie_name 'stay' is the one of aiohttp-session's cookie" in caplog.text


# Handlers that run after ours


async def make_public(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Cache-Control"] = "public"


def sub_application(*handlers: Any) -> web.Application:
    sub = web.Application()
    sub.on_response_prepare.extend(handlers)
    sub.router.add_get("/page", page)
    sub.router.add_get("/login", login)
    return sub


async def test_on_response_prepare_of_inner_applications_is_warned_of_by_name(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """Its handlers run after ours and can mark a response with a token public."""

    def prepare(app: web.Application) -> None:
        app.add_subapp("/sub/", sub_application(make_public))

    browser = Browser(await workers(MemoryBackend(), prepare=prepare))
    await browser.get("/sub/page")
    assert not caplog.records
    for _ in range(2):
        await browser.get("/sub/login")
    (message,) = warnings(caplog, "on_response_prepare")
    assert "tests.test_warnings.make_public" in message
    assert "public" in message


async def test_on_response_prepare_handlers_that_are_appended_after_ours_are_warned_of(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """They run after ours as well."""
    browser = Browser(
        await workers(MemoryBackend(), prepare=lambda app: app.on_response_prepare.append(make_public) and None)
    )
    for _ in range(2):
        await browser.sign_in()
    assert len(warnings(caplog, "on_response_prepare")) == 1


async def test_on_response_prepare_handlers_before_ours_and_of_outer_applications_are_not_warned_of(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """What they say of caches is seen and kept from doing harm."""

    def prepare(app: web.Application) -> None:
        app.on_response_prepare.insert(0, make_public)
        app.add_subapp("/sub/", sub_application())

    browser = Browser(await workers(MemoryBackend(), prepare=prepare))
    reply = await browser.get("/sub/login")
    assert reply.headers["Cache-Control"] == "private"
    assert not warnings(caplog, "on_response_prepare")


async def test_hand_wiring_without_the_signals_handler_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """No cookie would ever be sent."""
    manager = PersistentSessionManager(MemoryBackend())
    middlewares = [
        aiohttp_session.session_middleware(aiohttp_session.SimpleCookieStorage()),
        persistent_session_middleware(manager),
    ]
    app = web.Application(middlewares=middlewares)
    app.router.add_get("/page", page)
    async with (
        manager,
        TestServer(app) as server,
        aiohttp.ClientSession() as http,
        http.get(server.make_url("/page")) as response,
    ):
        assert response.status == 500
    assert "append send_persistent_session_cookie to app.on_response_prepare" in caplog.text
