"""The demo's application: a sign-in form with a box, the browser's facts, the user's other browsers, what happened.

Written to be copied from, but for two things that are marked as the demo's own: its accounts, and that it keeps spent
tokens so that a visitor can play the thief.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp_jinja2
import aiohttp_session
import jinja2
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    Backend,
    BackendError,
    PersistentSession,
    PersistentSessionManager,
    current_persistent_session,
    forget,
    forget_everywhere,
    is_fresh,
    persistent_sessions,
    remember,
    revoke,
    setup,
)

HERE = Path(__file__).parent
PASSWORD = "demo"  # noqa: S105 -- the demo's own: the form says it


@dataclass
class Event:
    number: int
    at: float
    name: str
    user: str
    id: str


@dataclass
class Theater:
    """What the demo keeps to show what goes on; an app of yours needs none of it."""

    grace_period: float
    cookie_name: str
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=50))
    spent: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By id: the previous token and when it was exchanged. Never keep a token in an app of yours."""
    numbers: count[int] = field(default_factory=lambda: count(1))

    def note(self, name: str, session: PersistentSession) -> None:
        self.events.appendleft(Event(next(self.numbers), time.time(), name, str(session.user), session.id[:6]))


THEATER = web.AppKey("THEATER", Theater)

routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    user = session.get("user")
    if user is None:
        return render("welcome.html", request, error=None)
    current = await current_persistent_session(request)
    theater = request.app[THEATER]
    return render(
        "home.html",
        request,
        user=user,
        how=how_the_user_got_in(request, session),
        fresh=await is_fresh(request),
        current=current,
        others=[one for one in await persistent_sessions(request) if not one.current],
        spent=theater.spent.get(current.id) if current else None,
    )


def how_the_user_got_in(request: web.Request, session: aiohttp_session.Session) -> str:
    if session.pop("just_signed_in", False):
        return "signed in"
    if session.new:
        return "restored from a token"
    return "by session"


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    name = str(form.get("name", "")).strip()
    if not 1 <= len(name) <= 40 or not secrets.compare_digest(
        str(form.get("password", "")).encode(), PASSWORD.encode()
    ):
        response = render("welcome.html", request, error="That is not a name and the password of this demo.")
        response.set_status(403)
        return response
    if "keep" in form:
        await remember(request, name)
        session = await aiohttp_session.get_session(request)
    else:
        await forget(request)  # whoever was kept signed in here before is not
        session = await aiohttp_session.new_session(request)
        session["user"] = name
    session["just_signed_in"] = True
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    await forget(request)
    raise web.HTTPSeeOther("/")


@routes.post("/end-others")
async def end_others(request: web.Request) -> web.Response:
    await forget_everywhere(request, keep_current=True)
    raise web.HTTPSeeOther("/")


@routes.post("/end/{id}")
async def end_one(request: web.Request) -> web.Response:
    await revoke(request, request.match_info["id"])
    raise web.HTTPSeeOther("/")


@routes.post("/close-browser")
async def close_browser(request: web.Request) -> web.Response:
    """End the ordinary session only: the browser forgets it when it is closed, or when it expires."""
    (await aiohttp_session.get_session(request)).invalidate()
    return render("closed.html", request)


@routes.post("/replay")
async def replay(request: web.Request) -> web.Response:
    """Play the thief: present the previous token from another place, without any other cookie."""
    current = await current_persistent_session(request)
    theater = request.app[THEATER]
    spent = theater.spent.get(current.id) if current else None
    if spent is None:
        raise web.HTTPSeeOther("/")
    token, at = spent
    address, port = request.transport.get_extra_info("sockname")[:2] if request.transport else ("127.0.0.1", 8080)
    host = f"[{address}]" if ":" in address else address
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as thief,
        thief.get(
            f"http://{host}:{port}/whoami",
            headers={"Cookie": f"{theater.cookie_name}={token}", "User-Agent": "The thief"},
        ) as response,
    ):
        stolen_user = (await response.json())["user"]
        found_out = "Set-Cookie" in response.headers and stolen_user is None
    return render("replayed.html", request, user=stolen_user, found_out=found_out, age=time.time() - at)


@routes.get("/whoami")
async def whoami(request: web.Request) -> web.Response:
    return web.json_response({"user": (await aiohttp_session.get_session(request)).get("user")})


@routes.get("/events")
async def events(request: web.Request) -> web.Response:
    """The list as a fragment. The page asks for it without cookies, so that asking restores nothing."""
    response = aiohttp_jinja2.render_template("events.html", request, {"events": request.app[THEATER].events})
    response.headers["Cache-Control"] = "no-store"
    return response


def render(template: str, request: web.Request, **context: Any) -> web.Response:
    theater = request.app[THEATER]
    context |= {"events": theater.events, "grace_period": theater.grace_period, "password": PASSWORD}
    response = aiohttp_jinja2.render_template(template, request, context)
    response.headers["Cache-Control"] = "no-store"
    return response


@web.middleware
async def refuse_other_sites(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Turn away forms that another site sends (CSRF). Browsers say in Sec-Fetch-Site or Origin where one comes from."""
    if request.method == "POST":
        site = request.headers.get("Sec-Fetch-Site")
        origin = request.headers.get("Origin", "")
        if site is None and not origin:
            raise web.HTTPForbidden(
                text="This request does not say where it comes from, as a browser's would. "
                "With curl, add: -H 'Sec-Fetch-Site: same-origin'"
            )
        if site not in ("same-origin", "none") and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(text="This form came from another site.")
    return await handler(request)


@web.middleware
async def tell_of_outage(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer where a function raises that needs the store. Live sessions and restores take care of themselves."""
    try:
        return await handler(request)
    except BackendError:
        user = (await aiohttp_session.get_session(request)).get("user")
        response = render("outage.html", request, user=user)
        response.set_status(503)
        return response


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")


def watch(manager: PersistentSessionManager, theater: Theater) -> None:
    """Put every signal on the list, and keep each token that was just spent."""
    for name in ("remember", "restore", "forget", "reuse", "revoke"):
        getattr(manager, f"on_{name}").append(_noting(theater, name))

    @manager.on_restore
    async def keep_spent_token(session: PersistentSession, request: web.Request | None) -> None:
        if request is not None:
            theater.spent[session.id] = (request.cookies[theater.cookie_name], time.time())
            while len(theater.spent) > 1000:
                del theater.spent[next(iter(theater.spent))]


def _noting(theater: Theater, name: str) -> Callable[..., Awaitable[None]]:
    async def note(session: PersistentSession, _: web.Request | None) -> None:
        theater.note(name, session)

    return note


def device(user_agent: str) -> str:
    """Name the browser and system that a user agent string most likely stands for."""
    browsers = {
        "The thief": "The thief",
        "Edg/": "Edge",
        "Firefox/": "Firefox",
        "Chrome/": "Chrome",
        "Safari/": "Safari",
    }
    systems = {"Android": "Android", "iPhone": "iPhone", "Windows": "Windows", "Mac OS": "Mac", "Linux": "Linux"}
    browser = next((name for sign, name in browsers.items() if sign in user_agent), "A browser")
    system = next((f" on {name}" for sign, name in systems.items() if sign in user_agent), "")
    return browser + system


def create_app(backend: Backend, *, secure: bool = False, grace_period: float = 10) -> web.Application:
    """Return the demo's application.

    Raises:
        ValueError: ``grace_period`` is out of range.
    """
    cookie_name = "__Host-persistent_session" if secure else "persistent_session"
    theater = Theater(grace_period, cookie_name)
    app = web.Application(middlewares=[refuse_other_sites])
    app[THEATER] = theater
    # A key of its own at each start: the ordinary sessions end with the process, the persistent ones with their store.
    storage = EncryptedCookieStorage(
        secrets.token_bytes(32), cookie_name="session", httponly=True, samesite="Lax", secure=secure
    )
    aiohttp_session.setup(app, storage)
    setup(app, backend=backend, cookie_name=cookie_name, secure=secure, grace_period=grace_period)
    app.middlewares.append(tell_of_outage)
    watch(app[PERSISTENT_SESSIONS], theater)
    app.on_response_prepare.append(add_security_headers)
    environment = aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(HERE / "templates"))
    environment.filters["device"] = device
    environment.filters["clock"] = lambda at: time.strftime("%H:%M:%S", time.localtime(at))
    app.add_routes(routes)
    app.router.add_static("/static", HERE / "static")
    return app
