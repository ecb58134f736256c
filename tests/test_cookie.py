"""The cookie: how long it lives, when it is renewed, how it looks."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import timedelta
from pathlib import Path

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    CookiePolicy,
    MemoryBackend,
    PersistentSessionManager,
    persistent_session_middleware,
    remember,
    send_persistent_session_cookie,
)
from aiohttp_persistent_session.cookies import MAX_VALUES
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Workers

THIRTY_DAYS = str(30 * DAY)


async def test_the_cookie_lasts_30_days_by_default(browser: Browser) -> None:
    """``max_age`` is 30 days."""
    reply = await browser.sign_in()
    assert reply.cookies[TOKEN]["max-age"] == THIRTY_DAYS


async def test_the_cookie_is_a_token_and_as_strict_as_it_can_be(browser: Browser) -> None:
    """No script reads it, no plain connection carries it, no other site sends it with a POST."""
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


ANSWERS = [
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
]


def add_sub_application(app: web.Application) -> None:
    sub = web.Application()
    sub.router.add_get("/ok", ok)
    sub.router.add_get("/crash", crash)
    app.add_subapp("/sub/", sub)


@pytest.mark.parametrize(("path", "status"), ANSWERS)
async def test_every_response_of_a_live_request_renews_the_expiry_and_keeps_the_value(
    workers: Workers, clock: Clock, path: str, status: int
) -> None:
    """A browser that is used goes on for ``max_age`` from its last visit, whatever it was answered."""
    options = {"rotate_interval": None}
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS, prepare=add_sub_application, **options))
    await browser.sign_in()
    token = browser.token
    for pause in (0, 1, DAY, 20 * DAY):
        clock.advance(pause)
        reply = await browser.get(path)
        assert reply.status == status
        assert reply.token == token
        assert reply.cookies[TOKEN]["max-age"] == THIRTY_DAYS


async def test_a_websocket_handshake_renews_the_expiry(workers: Workers) -> None:
    """The response to the handshake carries cookies like any other."""
    worker = await workers(MemoryBackend(), handlers=HANDLERS)
    browser = Browser(worker)
    await browser.sign_in()
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    async with worker.http.ws_connect(worker.server.make_url("/websocket"), headers={"Cookie": cookie}) as websocket:
        (renewed,) = websocket._response.headers.getall("Set-Cookie")
    assert renewed.startswith(f"{TOKEN}={browser.token}; Max-Age={THIRTY_DAYS};")


@pytest.mark.parametrize(("path", "status"), ANSWERS)
async def test_a_restore_sends_the_new_token_on_every_kind_of_response(
    workers: Workers, clock: Clock, path: str, status: int
) -> None:
    """The exchange is done by then: a response without the token would lose it."""
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS, prepare=add_sub_application))
    await browser.sign_in()
    old = browser.token
    browser.end_session()
    reply = await browser.get(path)
    assert reply.status == status
    assert reply.token not in (None, "", old)
    clock.advance(3)
    browser.end_session()
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize(("path", "status"), ANSWERS)
async def test_a_copy_has_its_cookie_deleted_on_every_kind_of_response(
    workers: Workers, path: str, status: int
) -> None:
    """A deletion is sent like a token."""
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS, prepare=add_sub_application))
    await browser.sign_in()
    selector = (browser.token or "").partition(".")[0]
    thief = Browser(browser.worker, {TOKEN: f"{selector}.{Token.generate().cookie_value.partition('.')[2]}"})
    reply = await thief.get(path)
    assert (reply.status, reply.token) == (status, "")


@pytest.mark.parametrize(("path", "status"), ANSWERS)
async def test_a_join_is_sent_nothing_on_every_kind_of_response(workers: Workers, path: str, status: int) -> None:
    """It is handed nothing that lasts."""
    browser = Browser(await workers(MemoryBackend(), handlers=HANDLERS, prepare=add_sub_application))
    await browser.sign_in()
    browser.end_session()
    tab = browser.clone()
    await browser.get()
    reply = await tab.get(path)
    assert (reply.status, reply.cookies) == (status, {})


async def test_a_websocket_handshake_restores(workers: Workers) -> None:
    """A tab that is woken up may open its web-socket first."""
    worker = await workers(MemoryBackend(), handlers=HANDLERS)
    browser = Browser(worker)
    await browser.sign_in()
    headers = {"Cookie": f"{TOKEN}={browser.token}"}
    async with worker.http.ws_connect(worker.server.make_url("/websocket"), headers=headers) as websocket:
        (field,) = websocket._response.headers.getall("Set-Cookie")
    token = field.partition("=")[2].partition(";")[0]
    assert Token.parse(token)
    assert token != browser.token


async def test_an_anonymous_visitor_gets_no_cookie(browser: Browser) -> None:
    """Who is not signed in is none of our business."""
    reply = await browser.get()
    assert reply.user is None
    assert reply.cookies == {}
    assert "Cache-Control" not in reply.headers


async def test_all_attributes_are_those_of_the_options(workers: Workers) -> None:
    """Setting and deleting name the same attributes, as browsers match them."""
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
    """A browser ignores a deletion that lacks what the prefix demands."""
    worker = await workers(MemoryBackend(), cookie_name="__Host-stay")
    browser = Browser(worker)
    await browser.sign_in()
    reply = await browser.post("/logout")
    assert reply.cookies["__Host-stay"]["secure"]
    assert reply.cookies["__Host-stay"]["path"] == "/"
    assert not reply.cookies["__Host-stay"]["domain"]


async def test_the_cookie_never_outlives_max_lifetime(workers: Workers, clock: Clock) -> None:
    """The browser forgets the token when the server does."""
    browser = Browser(await workers(MemoryBackend(), max_lifetime=timedelta(days=40)))
    assert (await browser.sign_in()).cookies[TOKEN]["max-age"] == THIRTY_DAYS
    clock.advance(15 * DAY)
    assert (await browser.get()).cookies[TOKEN]["max-age"] == str(25 * DAY)
    clock.advance(10 * DAY)
    browser.end_session()
    assert (await browser.get()).cookies[TOKEN]["max-age"] == str(15 * DAY)


async def test_a_renewal_yields_to_a_cookie_of_the_name_that_the_handler_sets(workers: Workers) -> None:
    """An application that sets our cookie itself knows why: there is one Set-Cookie of the name."""

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
    """The only valid token must reach the browser."""

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
    """The browser drops it, silently: the log says so."""
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
    """On this machine, and behind a proxy that speaks https."""
    await Browser(await workers(MemoryBackend())).sign_in(headers=headers)
    assert not caplog.records


async def test_secure_is_not_derived_from_the_request(workers: Workers) -> None:
    """Behind a proxy that ends TLS every request is plain http here."""
    browser = Browser(await workers(MemoryBackend()))
    assert (await browser.sign_in()).cookies[TOKEN]["secure"]
    browser = Browser(await workers(MemoryBackend(), secure=False))
    reply = await browser.sign_in(headers={"X-Forwarded-Proto": "https"})
    assert not reply.cookies["persistent_session"]["secure"]


async def test_a_failure_while_the_cookie_is_added_breaks_no_response(
    workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged: the page itself is whole."""

    async def handler(request: web.Request) -> web.Response:
        def broken() -> float:
            raise ZeroDivisionError

        request.app[PERSISTENT_SESSIONS].clock = broken
        return web.Response(text="whole")

    browser = Browser(await workers(MemoryBackend(), handlers={"/": handler}))
    await browser.sign_in()
    reply = await browser.get("/")
    assert (reply.status, reply.text, reply.cookies) == (200, "whole", {})
    assert "could not be sent" in caplog.text


async def test_hand_wired_middleware_works_as_set_up(clock: Clock) -> None:
    """``setup`` does nothing that an application cannot do by hand."""
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
    """No response carries another request's token."""
    worker = await workers(MemoryBackend())
    browsers = [Browser(worker) for _ in range(20)]
    await asyncio.gather(*(browser.sign_in(f"user{n}") for n, browser in enumerate(browsers)))
    assert len({browser.token for browser in browsers}) == 20
    replies = await asyncio.gather(*(browser.get() for browser in browsers))
    assert [reply.user for reply in replies] == [f"user{n}" for n in range(20)]
    assert [reply.token for reply in replies] == [browser.token for browser in browsers]


# How it is read

NAME = "__Host-persistent_session"
FRAGMENTS = [
    NAME,
    "persistent_session",
    NAME.upper(),
    "=",
    ";",
    "; ",
    ",",
    " ",
    "\t",
    "\x0b",
    "\xa0",
    '"',
    "\\",
    "a",
    "é",
    "",
]


def carefully(headers: list[str]) -> list[str]:
    """Read cookies as RFC 6265bis has them written: parted by semicolons, trimmed of spaces and tabs, names exact."""
    values: list[str] = []
    for header in headers:
        for part in header.split(";"):
            name, is_a_pair, value = part.strip(" \t").partition("=")
            if is_a_pair and name == NAME and value.strip(" \t") not in values:
                values.append(value.strip(" \t"))
    return values[:MAX_VALUES]


headers = st.lists(
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=24).map("".join), min_size=0, max_size=3
)


@given(headers)
def test_the_cookie_is_read_as_a_careful_parser_reads_it(headers: list[str]) -> None:
    """Nothing but a semicolon parts two cookies, nothing but a space or tab is trimmed, and the name is exact."""
    assert CookiePolicy().read(headers) == carefully(headers)


def test_the_cookie_is_read_as_a_careful_parser_reads_it_where_it_is_close() -> None:
    """The same for headers that a shrinking search may pass by."""
    token = Token.generate().cookie_value
    parts = [NAME, "=", token, ";", " ", "x"]
    for count in range(1, 6):
        for pieces in itertools.product(parts, repeat=count):
            header = "".join(pieces)
            assert CookiePolicy().read([header]) == carefully([header]), header


@pytest.mark.parametrize(
    "header",
    [
        f"{NAME}=a{' ' * 60000}b",
        f"{NAME}=a{' ' * 60000}",
        f"{NAME}={' ' * 60000}b",
        f"{' ' * 60000}{NAME}=b",
        f"{NAME}{' ' * 60000}=b",
        f"{NAME}=" * 3000,
        f"{NAME}=x;" * 3000,
        f" {NAME}=x;\t" * 3000,
        f"x{NAME}=x;" * 3000,
        ";" * 60000,
    ],
    ids=range(10),
)
def test_no_header_takes_long_to_read(header: str) -> None:
    """A request of 64 kB that is made for it does not hold up the event loop: reading takes time in proportion."""
    policy = CookiePolicy()
    started = time.process_time()
    policy.read([header])
    assert time.process_time() - started < 0.5


def test_a_name_that_a_pattern_would_read_otherwise_is_taken_as_it_is() -> None:
    """``.`` and ``*`` are allowed in a cookie's name, and mean themselves."""
    assert CookiePolicy(name="a.b*c").read(["a.b*c=1; axb*c=2; a.bc=3; a.b**c=4"]) == ["1"]
