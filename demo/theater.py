"""What only the demo needs: the list of what happened, and a thief to play.

For that it keeps tokens. An app of yours keeps none, in no form.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import aiohttp_session
from aiohttp import web

from aiohttp_persistent_session import (
    CookiePolicy,
    PersistentSession,
    PersistentSessionManager,
    current_persistent_session,
)
from aiohttp_persistent_session.policy import SETTLE_TIME
from aiohttp_persistent_session.tokens import Token

from .pages import render

THIEF = "The thief"
FOUND_OUT = "found out"
BROWSERS_KEPT = 1000

routes = web.RouteTableDef()


class Event(NamedTuple):
    """A signal that the manager sent."""

    at: float
    name: str
    session: PersistentSession
    user_agent: str


@dataclass
class Thief:
    """The thief's browser: what was copied, and what the server gave him for it."""

    cookies: dict[str, str] = field(repr=False)
    token: str
    """The first characters of the token that he holds."""
    since: float


@dataclass
class Held:
    """What the demo knows of one browser's token."""

    token: str
    """The first characters of the one that it showed last."""
    since: float
    before: str = ""
    """Those of the one before."""
    thief: Thief | None = None


class Theater:
    """What the demo has seen of this app's persistent sessions."""

    def __init__(self, manager: PersistentSessionManager, cookie: CookiePolicy) -> None:
        self.manager, self.cookie = manager, cookie
        self.settle_time = SETTLE_TIME
        self.events: deque[Event] = deque(maxlen=10)
        self._browsers: dict[str, Held] = {}
        self._ended: dict[str, str] = {}
        for name in ("remember", "restore", "forget", "new_client", "repeat", "reuse", "revoke"):
            getattr(manager, f"on_{name}").append(partial(self._note, name))

    async def _note(self, name: str, session: PersistentSession, request: web.Request | None) -> None:
        user_agent = session.user_agent if request is None else request.headers.get("User-Agent", "")
        self.events.appendleft(Event(self.manager.clock(), name, session, user_agent))
        if name in {"reuse", "revoke"}:
            _put(self._ended, session.id, session.reason or FOUND_OUT)

    def counters(self) -> dict[str, int]:
        """Return what this process has counted."""
        return asdict(self.manager.counters)

    def why_signed_out(self, request: web.Request) -> str | None:
        """Return why the persistent session ended whose token this browser still has, if the demo knows."""
        token = Token.parse(request.cookies.get(self.cookie.name, ""))
        return None if token is None else self._ended.get(token.id)

    def held_by(self, request: web.Request, current: PersistentSession | None) -> Held | None:
        """Return what this browser holds of its token: what it shows in this request."""
        if current is None:
            return None
        start = first_characters(request.cookies.get(self.cookie.name, ""))
        held = self._browsers.get(current.id)
        if held is None:
            held = _put(self._browsers, current.id, Held(start, self.manager.clock()))
        elif held.token != start:
            held.before, held.token, held.since = held.token, start, self.manager.clock()
        return held

    def settles_in(self, held: Held) -> float | None:
        """Return in how many seconds the owner's next page drops what the thief holds; None where it is the same."""
        if held.thief is None or held.thief.token == held.token:
            return None
        return max(0.0, max(held.since, held.thief.since) + SETTLE_TIME - self.manager.clock())

    async def send_thief(self, thief: Thief, request: web.Request) -> str:
        """Let the thief visit this app with his cookies and nobody else's; return what became of him."""
        address, port = request.transport.get_extra_info("sockname")[:2] if request.transport else ("127.0.0.1", 80)
        host = f"[{address}]" if ":" in address else address
        cookies = "; ".join(f"{name}={value}" for name, value in thief.cookies.items())
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client,
            client.get(f"http://{host}:{port}/whoami", headers={"Cookie": cookies, "User-Agent": THIEF}) as response,
        ):
            user = (await response.json())["user"]
        if user is None:
            token = Token.parse(thief.cookies[self.cookie.name])
            return "signed out" if token is None else self._ended.get(token.id, "signed out")
        had_session = len(thief.cookies) > 1
        thief.cookies |= {name: morsel.value for name, morsel in response.cookies.items()}
        token_now = first_characters(thief.cookies[self.cookie.name])
        if token_now != thief.token:
            thief.token, thief.since = token_now, self.manager.clock()
            return "still in" if had_session else "let in"
        return "still in" if had_session else "joined"


THEATER = web.AppKey("THEATER", Theater)


def first_characters(cookie: str) -> str:
    """Return the beginning of a token's secret: the part before the dot never changes."""
    return cookie.partition(".")[2][:6]


@routes.post("/copy")
async def copy(request: web.Request) -> web.Response:
    """Copy this browser's token, as somebody would who gets at its disk."""
    theater = request.app[THEATER]
    held = theater.held_by(request, await current_persistent_session(request))
    if held is not None:
        name = theater.cookie.name
        held.thief = Thief({name: request.cookies[name]}, held.token, held.since)
    raise web.HTTPSeeOther("/#thief")


@routes.post("/thief")
async def visit(request: web.Request) -> web.Response:
    theater = request.app[THEATER]
    held = theater.held_by(request, await current_persistent_session(request))
    if held is None or held.thief is None:
        raise web.HTTPSeeOther("/")
    verdict = await theater.send_thief(held.thief, request)
    return render("thief.html", request, verdict=verdict, held=held)


@routes.get("/whoami")
async def whoami(request: web.Request) -> web.Response:
    return web.json_response({"user": (await aiohttp_session.get_session(request)).get("user")})


@routes.post("/close-browser")
async def close_browser(request: web.Request) -> web.Response:
    """Do what closing the browser does: it forgets the ordinary session, and the token where the box was not ticked."""
    session = await aiohttp_session.get_session(request)
    for_now = session.get("for_now", False)
    session.invalidate()
    response = render("closed.html", request, for_now=for_now)
    if for_now:
        response.headers.add("Set-Cookie", request.app[THEATER].cookie.deletion)
    return response


@routes.get("/token")
async def token(request: web.Request) -> web.Response:
    """Say what this browser holds now: the page itself could not know which token its own response would bring."""
    theater = request.app[THEATER]
    held = theater.held_by(request, await current_persistent_session(request))
    shown: dict[str, Any] = {}
    if held is not None:
        shown = {"before": held.before, "now": held.token, "settles_in": theater.settles_in(held)}
    return web.json_response(shown, headers={"Cache-Control": "no-store"})


@routes.get("/events")
async def events(request: web.Request) -> web.Response:
    """Return the list as a fragment. The page asks for it without cookies, so that asking restores nothing."""
    return render("events.html", request)


def _put(kept: dict[str, Any], id: str, value: Any) -> Any:
    kept[id] = value
    if len(kept) > BROWSERS_KEPT:
        del kept[next(iter(kept))]
    return value
