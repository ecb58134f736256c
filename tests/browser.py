"""A browser over real HTTP whose cookie jar the test reads and edits, and the workers that it talks to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http.cookies import Morsel, SimpleCookie
from typing import Any

import aiohttp
import aiohttp_session
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiohttp_persistent_session import (
    Backend,
    PersistentSession,
    PersistentSessionManager,
    confirm_login,
    current_persistent_session,
    forget,
    forget_everywhere,
    is_fresh,
    persistent_sessions,
    remember,
    restore_failed,
    revoke,
    setup,
)
from aiohttp_persistent_session.sessions import NO_RECORD, Mark

TOKEN = "__Host-persistent_session"
SESSION = "AIOHTTP_SESSION"
SIGNALS = ("remember", "restore", "forget", "new_client", "repeat", "reuse", "revoke")
DAY = 24 * 3600
ANSWERS_WITHIN = 30.0
"""Seconds that a store may take where a test waits for its answer: for the slowest machine, no rule's boundary."""


@dataclass
class Clock:
    """The one source of time; it stands still unless a test moves it."""

    now: float

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def tick(self) -> float:
        """A clock that goes on by a millisecond whenever it is read."""
        self.now += 0.001
        return self.now


@dataclass
class Reply:
    """One response, whole."""

    status: int
    headers: Any
    text: str
    cookies: dict[str, Morsel[str]]

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def token(self) -> str | None:
        """The token that the response sets; "" where it deletes it; None where it leaves the cookie alone."""
        return self.cookies[TOKEN].value if TOKEN in self.cookies else None

    @property
    def user(self) -> Any:
        return self.json["user"]


def cookies_set_by(headers: Any) -> dict[str, Morsel[str]]:
    """Parse Set-Cookie fields, of which no two may have one name (RFC 6265bis, 4.1.1)."""
    cookies: dict[str, Morsel[str]] = {}
    for header in headers.getall("Set-Cookie", ()):
        parsed: SimpleCookie = SimpleCookie()
        # Python before 3.14 does not know this attribute, and would drop the cookie.
        parsed.load(header.replace("; Partitioned", ""))
        ((name, morsel),) = parsed.items()
        assert name not in cookies, f"two Set-Cookie fields of the name {name}"
        cookies[name] = morsel
    return cookies


@dataclass
class Worker:
    """One server process's share: an application of its own, perhaps with a store that others use too."""

    app: web.Application
    manager: PersistentSessionManager
    server: TestServer
    http: aiohttp.ClientSession
    events: list[tuple[str, str]] = field(default_factory=list)
    """What the signals told: name and id."""
    told: list[tuple[str, PersistentSession]] = field(default_factory=list)
    """The same, with all that receivers were shown."""


@dataclass
class Browser:
    """Sends its cookies, and takes over those of each response."""

    worker: Worker
    cookies: dict[str, str] = field(default_factory=dict)
    user_agent: str = "Test/1.0"

    async def send(
        self,
        method: str,
        path: str,
        *,
        to: Worker | None = None,
        headers: dict[str, str] | None = None,
        cookie_header: str | None = None,
        **options: Any,
    ) -> Reply:
        """Send a request with today's cookies, and lose the response's: as if the browser never got it."""
        worker = to or self.worker
        sent = {"User-Agent": self.user_agent}
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        if cookie_header is not None:
            cookie = cookie_header
        if cookie:
            sent["Cookie"] = cookie
        url = worker.server.make_url(path)
        async with worker.http.request(
            method, url, headers=sent | (headers or {}), allow_redirects=False, **options
        ) as response:
            return Reply(
                response.status,
                response.headers.copy(),
                (await response.read()).decode("utf-8", "replace"),
                cookies_set_by(response.headers),
            )

    def take(self, reply: Reply) -> Reply:
        """Take the response's cookies over."""
        for name, morsel in reply.cookies.items():
            if morsel["max-age"] == "0" or morsel["max-age"] == 0:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.coded_value
        return reply

    async def get(self, path: str = "/me", **options: Any) -> Reply:
        return self.take(await self.send("GET", path, **options))

    async def post(self, path: str, **options: Any) -> Reply:
        return self.take(await self.send("POST", path, **options))

    async def sign_in(self, user: str = "alice", **options: Any) -> Reply:
        reply = await self.post("/login", data={"user": user}, **options)
        assert reply.status == 302
        return reply

    def end_session(self) -> None:
        """What closing the browser does."""
        self.cookies.pop(SESSION, None)

    @property
    def token(self) -> str | None:
        return self.cookies.get(TOKEN)

    def clone(self) -> Browser:
        """A thief's, or the other tab's state at this moment."""
        return Browser(self.worker, dict(self.cookies), self.user_agent)


def names(worker: Worker) -> list[str]:
    """Return the names of the signals that were sent, in their order."""
    return [name for name, _ in worker.events]


async def comes_back(browser: Browser, clock: Clock, after: float = 3) -> Reply:
    """Close the browser, and ask for a page when it comes back."""
    clock.advance(after)
    browser.end_session()
    return await browser.get()


async def raw_request(
    worker: Worker, method: bytes, path: bytes, headers: dict[bytes, bytes], body: bytes = b""
) -> tuple[int, bytes]:
    """Send bytes that no client library would, and return status and the whole response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.server.port)
    fields = {
        b"Host": b"127.0.0.1",
        b"Connection": b"close",
        b"Content-Type": b"application/x-www-form-urlencoded",
        b"Content-Length": str(len(body)).encode(),
    } | headers
    writer.write(b"%s %s HTTP/1.1\r\n" % (method, path))
    writer.write(b"".join(b"%s: %s\r\n" % field for field in fields.items()) + b"\r\n" + body)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(response.split(b" ", 2)[1]), response


routes = web.RouteTableDef()


@routes.get("/me")
async def me(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    mark = Mark.of(session)
    return web.json_response(
        {
            "user": session.get("user"),
            "id": None if mark is None or mark.id == NO_RECORD else mark.id,
            "fresh": await is_fresh(request),
            "restore_failed": restore_failed(request),
            "cart": session.get("cart"),
        }
    )


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    user: Any = form["user"]
    await remember(request, int(user) if user.isdigit() else user, persistent="for_now" not in form)
    raise web.HTTPFound("/me")


@routes.post("/login-unremembered")
async def login_unremembered(request: web.Request) -> web.Response:
    session = await aiohttp_session.new_session(request)
    session["user"] = (await request.post())["user"]
    raise web.HTTPFound("/me")


@routes.post("/confirm")
async def confirm(request: web.Request) -> web.Response:
    await confirm_login(request)
    return web.Response()


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    await forget(request)
    raise web.HTTPFound("/me")


@routes.post("/logout-everywhere")
async def logout_everywhere(request: web.Request) -> web.Response:
    return web.json_response(await forget_everywhere(request, keep_current="keep" in request.query))


@routes.get("/devices")
async def devices(request: web.Request) -> web.Response:
    return web.json_response(
        [[one.id, one.current, one.user_agent, one.user] for one in await persistent_sessions(request)]
    )


@routes.get("/device")
async def device(request: web.Request) -> web.Response:
    current = await current_persistent_session(request)
    return web.json_response(current and [current.id, current.current])


@routes.post("/revoke/{id}")
async def revoke_one(request: web.Request) -> web.Response:
    return web.json_response(await revoke(request, request.match_info["id"]))


@routes.post("/cart")
async def put_into_cart(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    session["cart"] = (await request.post())["item"]
    return web.json_response(session.get("user"))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Workers:
    """Starts workers, and stops them after the test."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.running: list[Worker] = []

    async def __call__(
        self,
        backend: Backend,
        *,
        handlers: dict[str, Handler] | None = None,
        storage: aiohttp_session.AbstractStorage | None = None,
        middlewares: Iterable[Any] = (),
        prepare: Callable[[web.Application], None] | None = None,
        **options: Any,
    ) -> Worker:
        options.setdefault("timeout", ANSWERS_WITHIN)
        app = web.Application()
        aiohttp_session.setup(app, storage or aiohttp_session.SimpleCookieStorage())
        manager = setup(app, backend=backend, **options)
        manager.clock = self.clock
        app.middlewares.extend(middlewares)
        app.add_routes(routes)
        for path, handler in (handlers or {}).items():
            app.router.add_route("*", path, handler)
        if prepare is not None:
            prepare(app)
        events: list[tuple[str, str]] = []
        told: list[tuple[str, PersistentSession]] = []
        for name in SIGNALS:
            getattr(manager, f"on_{name}").append(_recorder(events, told, name))
        server = TestServer(app)
        await server.start_server()
        http = aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0, force_close=True)
        )
        worker = Worker(app, manager, server, http, events, told)
        self.running.append(worker)
        return worker

    async def stop(self) -> None:
        while self.running:
            worker = self.running.pop()
            await worker.http.close()
            await worker.server.close()


def _recorder(
    events: list[tuple[str, str]], told: list[tuple[str, PersistentSession]], name: str
) -> Callable[..., Awaitable[None]]:
    async def record(persistent_session: PersistentSession, request: web.Request | None) -> None:
        told.append((name, persistent_session))
        events.append((name, persistent_session.id))

    return record
