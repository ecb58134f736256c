"""The cookie: how long it lives, when it is renewed, how it looks."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend

THIRTY_DAYS = str(30 * DAY)


async def test_the_cookie_lasts_30_days_by_default(browser: Browser) -> None:
    reply = await browser.sign_in()
    assert reply.cookies[TOKEN]["max-age"] == THIRTY_DAYS


async def test_the_cookie_is_a_token_and_as_strict_as_it_can_be(browser: Browser) -> None:
    cookie = (await browser.sign_in()).cookies[TOKEN]
    assert Token.parse(cookie.value)
    assert (cookie["httponly"], cookie["secure"], cookie["samesite"], cookie["path"], cookie["domain"]) == (
        True,
        True,
        "Lax",
        "/",
        "",
    )


async def ok(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def redirect(_: web.Request) -> web.Response:
    raise web.HTTPFound("/elsewhere")


async def returned_404(_: web.Request) -> web.Response:
    return web.Response(status=404)


async def crash(_: web.Request) -> web.Response:
    raise ZeroDivisionError


async def raised_500(_: web.Request) -> web.Response:
    raise web.HTTPInternalServerError


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"a stream")
    return response


async def file(_: web.Request) -> web.FileResponse:
    return web.FileResponse(Path(__file__))


async def not_modified(_: web.Request) -> web.Response:
    raise web.HTTPNotModified


async def websocket(request: web.Request) -> web.WebSocketResponse:
    response = web.WebSocketResponse()
    await response.prepare(request)
    await response.close()
    return response


HANDLERS = {
    "/ok": ok,
    "/redirect": redirect,
    "/returned-404": returned_404,
    "/crash": crash,
    "/raised-500": raised_500,
    "/stream": stream,
    "/file": file,
    "/not-modified": not_modified,
    "/websocket": websocket,
}


def add_sub_application(app: web.Application) -> None:
    sub = web.Application()
    sub.router.add_get("/ok", ok)
    sub.router.add_get("/crash", crash)
    app.add_subapp("/sub/", sub)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/ok", 200),
        ("/redirect", 302),
        ("/not-modified", 304),
        ("/returned-404", 404),
        ("/no-such-route", 404),
        ("/raised-500", 500),
        ("/crash", 500),
        ("/stream", 200),
        ("/file", 200),
        ("/sub/ok", 200),
        ("/sub/crash", 500),
        ("/sub/no-such-route", 404),
    ],
)
async def test_every_response_of_a_live_request_renews_the_expiry_and_keeps_the_value(
    workers: Workers, clock: Clock, path: str, status: int
) -> None:
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS, prepare=add_sub_application))
    await browser.sign_in()
    token = browser.token
    for pause in (0, 1, DAY, 20 * DAY):
        clock.advance(pause)
        reply = await browser.get(path)
        assert reply.status == status
        assert reply.token == token
        assert reply.cookies[TOKEN]["max-age"] == THIRTY_DAYS


async def test_a_websocket_handshake_renews_the_expiry(workers: Workers) -> None:
    worker = await workers(MemoryBackend(), handlers=HANDLERS)
    browser = Browser(worker)
    await browser.sign_in()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with worker.http.ws_connect(worker.server.make_url("/websocket"), headers={"Cookie": cookie}) as websocket:
        (renewed,) = websocket._response.headers.getall("Set-Cookie")
    assert renewed.startswith(f"{TOKEN}={browser.token}; Max-Age={THIRTY_DAYS};")


@pytest.mark.parametrize(("path", "status"), [("/stream", 200), ("/file", 200), ("/crash", 500), ("/redirect", 302)])
async def test_a_restore_sends_the_new_token_on_every_kind_of_response(
    workers: Workers, path: str, status: int
) -> None:
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS))
    await browser.sign_in()
    old = browser.token
    browser.end_session()
    reply = await browser.get(path)
    assert reply.status == status
    assert reply.token not in (None, "", old)
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_websocket_handshake_restores(workers: Workers) -> None:
    worker = await workers(MemoryBackend(), handlers=HANDLERS)
    browser = Browser(worker)
    await browser.sign_in()
    headers = {"Cookie": f"{TOKEN}={browser.token}"}
    async with worker.http.ws_connect(worker.server.make_url("/websocket"), headers=headers) as websocket:
        (field,) = websocket._response.headers.getall("Set-Cookie")
    token = field.partition("=")[2].partition(";")[0]
    assert Token.parse(token)
    assert token != browser.token


async def test_a_static_route_is_served_straight_through(workers: Workers, tmp_path: Path) -> None:
    """No session is loaded, the store is not asked, no cookie is sent: a page's fifty images cost nothing."""
    (tmp_path / "logo.svg").write_text("<svg/>")
    backend = FaultyBackend(MemoryBackend())
    worker = await workers(backend, prepare=lambda app: app.router.add_static("/static", tmp_path) and None)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    backend.calls.clear()
    reply = await browser.get("/static/logo.svg")
    assert (reply.status, reply.text, reply.cookies) == (200, "<svg/>", {})
    assert "Cache-Control" not in reply.headers
    assert not backend.calls


async def test_an_anonymous_visitor_gets_no_cookie(browser: Browser) -> None:
    reply = await browser.get()
    assert reply.user is None
    assert reply.cookies == {}
    assert "Cache-Control" not in reply.headers


async def test_all_attributes_are_those_of_the_options(workers: Workers) -> None:
    worker = await workers(
        MemoryBackend(),
        cookie_name="__Secure-stay",
        path="/app",
        domain="example.com",
        samesite="None",
        partitioned=True,
        max_age=timedelta(days=7),
    )
    expected = "Path=/app; HttpOnly; SameSite=None; Domain=example.com; Secure; Partitioned"
    browser = Browser(worker)
    reply = await browser.sign_in()
    (setting,) = [h for h in reply.headers.getall("Set-Cookie") if h.startswith("__Secure-stay=")]
    assert setting.partition("; ")[2] == f"Max-Age={7 * DAY}; {expected}"
    reply = await browser.post("/logout")
    (deletion,) = [h for h in reply.headers.getall("Set-Cookie") if h.startswith("__Secure-stay=")]
    assert deletion == f"__Secure-stay=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {expected}"


async def test_a_host_prefixed_cookie_is_deleted_with_what_its_prefix_needs(workers: Workers) -> None:
    worker = await workers(MemoryBackend(), cookie_name="__Host-stay")
    browser = Browser(worker)
    await browser.sign_in()
    reply = await browser.post("/logout")
    assert reply.cookies["__Host-stay"]["secure"]
    assert reply.cookies["__Host-stay"]["path"] == "/"
    assert not reply.cookies["__Host-stay"]["domain"]


async def test_the_cookie_never_outlives_max_lifetime(workers: Workers, clock: Clock) -> None:
    browser = Browser(await workers(MemoryBackend(), max_lifetime=timedelta(days=40)))
    assert (await browser.sign_in()).cookies[TOKEN]["max-age"] == THIRTY_DAYS
    clock.advance(15 * DAY)
    assert (await browser.get()).cookies[TOKEN]["max-age"] == str(25 * DAY)
    clock.advance(10 * DAY)
    browser.end_session()
    assert (await browser.get()).cookies[TOKEN]["max-age"] == str(15 * DAY)


async def test_a_renewal_yields_to_a_cookie_of_the_name_that_the_handler_sets(workers: Workers) -> None:
    async def handler(_: web.Request) -> web.Response:
        response = web.Response()
        response.set_cookie(TOKEN, "mine")
        response.set_cookie("other", "kept")
        return response

    browser = Browser(await workers(MemoryBackend(), handlers={"/mine": handler}))
    await browser.sign_in()
    reply = await browser.send("GET", "/mine")
    assert reply.token == "mine"
    assert reply.cookies["other"].value == "kept"


async def test_a_new_token_replaces_a_cookie_of_the_name_that_the_handler_sets(workers: Workers) -> None:
    async def handler(request: web.Request) -> web.Response:
        await remember(request, "alice")
        response = web.Response()
        response.set_cookie(TOKEN, "mine")
        response.set_cookie("other", "kept")
        return response

    browser = Browser(await workers(MemoryBackend(), handlers={"/mine": handler}))
    reply = await browser.get("/mine")
    assert Token.parse(reply.token or "")
    assert reply.cookies["other"].value == "kept"


async def test_a_secure_cookie_on_plain_http_is_warned_of_once(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await workers(MemoryBackend())
    for _ in range(2):
        await Browser(worker).sign_in(headers={"Host": "shop.example"})
    (record,) = caplog.records
    assert "drops the cookie" in record.message
    assert "secure=False" in record.message


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8080"},
        {"Host": "app.localhost"},
        {"Host": "127.0.0.1:8080"},
        {"Host": "[::1]:8080"},
        {"Host": "shop.example", "X-Forwarded-Proto": "https"},
        {"Host": "shop.example", "Forwarded": "for=192.0.2.1;proto=https"},
    ],
)
async def test_a_secure_cookie_is_not_warned_of_where_browsers_keep_it(
    workers: Workers, caplog: pytest.LogCaptureFixture, headers: dict[str, str]
) -> None:
    await Browser(await workers(MemoryBackend())).sign_in(headers=headers)
    assert not caplog.records


async def test_secure_is_not_derived_from_the_request(workers: Workers) -> None:
    """Behind a proxy that ends TLS every request is plain http here."""
    browser = Browser(await workers(MemoryBackend()))
    assert (await browser.sign_in()).cookies[TOKEN]["secure"]
    browser = Browser(await workers(MemoryBackend(), secure=False))
    reply = await browser.sign_in(headers={"X-Forwarded-Proto": "https"})
    assert not reply.cookies[TOKEN]["secure"]


async def test_a_failure_while_the_cookie_is_added_breaks_no_response(
    worker: Worker, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await browser.sign_in()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("aiohttp_persistent_session.plugin._Visit._is_current", broken)
    reply = await browser.get()
    assert reply.status == 200
    assert reply.user == "alice"
    assert "could not be sent" in caplog.text


async def test_hand_wired_middleware_works_as_set_up(clock: Clock) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    from aiohttp_persistent_session import (
        PersistentSessionManager,
        persistent_session_middleware,
        send_persistent_session_cookie,
    )
    from aiohttp_persistent_session.cookies import CookiePolicy

    manager = PersistentSessionManager(MemoryBackend())
    manager.clock = clock

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    app = web.Application(
        middlewares=[
            aiohttp_session.session_middleware(aiohttp_session.SimpleCookieStorage()),
            persistent_session_middleware(manager, cookie=CookiePolicy(name="stay", secure=False)),
        ]
    )
    app.on_response_prepare.append(send_persistent_session_cookie)
    app.router.add_get("/", login)
    async with (
        manager,
        TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client,
        client.get("/") as response,
    ):
        assert Token.parse(response.cookies["stay"].value)
        assert SESSION in response.cookies


async def test_responses_at_once_each_carry_their_own_cookie(workers: Workers) -> None:
    worker = await workers(MemoryBackend())
    browsers = [Browser(worker) for _ in range(20)]
    await asyncio.gather(*(browser.sign_in(f"user{n}") for n, browser in enumerate(browsers)))
    assert len({browser.token for browser in browsers}) == 20
    replies = await asyncio.gather(*(browser.get() for browser in browsers))
    assert [reply.user for reply in replies] == [f"user{n}" for n in range(20)]
    assert [reply.token for reply in replies] == [browser.token for browser in browsers]
