"""The demo's application: a sign-in form with a box, the browser's facts, a password page, the user's other browsers.

Written to be copied from. What only the demo needs is in ``theater.py``: the thief, and the list of what happened.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import aiohttp_security
import aiohttp_session
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_persistent_session import (
    Backend,
    BackendError,
    CookiePolicy,
    confirm_login,
    current_persistent_session,
    devices,
    forget,
    forget_everywhere,
    fresh_required,
    is_fresh,
    persistent_sessions,
    remember,
    restore_failed,
    revoke,
    setup,
    update_data,
    way_back,
)
from aiohttp_persistent_session.security import PersistentSessionIdentityPolicy

from . import pages, theater
from .pages import render
from .theater import THEATER, Theater

PASSWORD = "demo"  # noqa: S105 -- the demo's one password: the form says it
FRESH_FOR = timedelta(minutes=5)

routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    user = session.get("user")
    if user is None and restore_failed(request):
        # The token could not be looked up. A login form would ask for a password that need not be typed.
        return outage(request, user=None)
    if user is None:
        return sign_in_page(request, why=request.app[THEATER].why_signed_out(request))
    current = await current_persistent_session(request)
    return render(
        "home.html",
        request,
        user=user,
        how=how_the_user_got_in(session),
        fresh=await is_fresh(request),
        current=current,
        others=[one for one in await persistent_sessions(request) if not one.current],
        held=request.app[THEATER].held_by(request, current),
    )


def sign_in_page(request: web.Request, **shown: Any) -> web.Response:
    """Show the form. It is sent to an address that says which page asked for the sign-in."""
    return render("welcome.html", request, next=request.query.get("next"), **shown)


def how_the_user_got_in(session: aiohttp_session.Session) -> str:
    if session.pop("just_signed_in", False):
        return "signed in"
    if session.new:
        return "restored from a token"
    return "by session"


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    name, keep = str(form.get("name", "")).strip(), "keep" in form
    if not 1 <= len(name) <= 40 or not is_password(form.get("password")):
        error = "That is not a name and the password of this demo."
        return sign_in_page(request, status=403, error=error, name=name, keep=keep)
    await remember(request, name, persistent=keep, max_age=timedelta(days=7) if form.get("lasts") == "week" else None)
    session = await aiohttp_session.get_session(request)
    session["just_signed_in"] = True
    session["for_now"] = not keep
    raise web.HTTPSeeOther(way_back(request))


def is_password(typed: object) -> bool:
    return isinstance(typed, str) and secrets.compare_digest(typed.encode(), PASSWORD.encode())


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    # Where the store is down, this browser is signed out all the same: its cookies are deleted.
    with suppress(BackendError):
        await forget(request)
    raise web.HTTPSeeOther("/")


@routes.get("/password")
async def password_page(request: web.Request) -> web.Response:
    """Open what is sensitive only where the password was typed a short while ago."""
    user = (await aiohttp_session.get_session(request)).get("user")
    if user is None:
        raise web.HTTPSeeOther("/")
    return render("password.html", request, user=user, fresh=await is_fresh(request, within=FRESH_FOR))


@routes.post("/password")
async def type_password_again(request: web.Request) -> web.Response:
    user = (await aiohttp_session.get_session(request)).get("user")
    if user is None:
        raise web.HTTPSeeOther("/")
    if not is_password((await request.post()).get("password")):
        error = "That is not the password of this demo."
        return render("password.html", request, status=403, user=user, fresh=False, error=error)
    await confirm_login(request)
    raise web.HTTPSeeOther(way_back(request, "/password"))


async def confirm_password(request: web.Request, user: str | int, password: str) -> bool:
    """Tell the page of devices whether the password is right. An app limits how often it may be tried."""
    return is_password(password)


@routes.get("/codes")
@fresh_required(within=FRESH_FOR, login_url="/password")
async def recovery_codes(request: web.Request) -> web.Response:
    return render("codes.html", request, user=await aiohttp_security.check_authorized(request))


class EverybodyMay(AbstractAuthorizationPolicy):
    """Who may do what, for aiohttp-security: in this demo, each user everything."""

    async def authorized_userid(self, identity: str) -> str | None:
        return identity

    async def permits(self, identity: str | None, permission: object, context: object = None) -> bool:
        return identity is not None


@routes.post("/name")
async def name_this_browser(request: web.Request) -> web.Response:
    """Keep a name with this browser's persistent session."""
    await update_data(request, {"name": str((await request.post()).get("name", "")).strip()[:40]})
    raise web.HTTPSeeOther("/")


@routes.post("/end-others")
async def end_others(request: web.Request) -> web.Response:
    await forget_everywhere(request, keep_current=True)
    raise web.HTTPSeeOther("/")


@routes.post("/end/{id}")
async def end_one(request: web.Request) -> web.Response:
    await revoke(request, request.match_info["id"])
    raise web.HTTPSeeOther("/")


@routes.get("/{form:login|logout|name|end-others|end/[^/]+|close-browser|copy|thief}")
async def back(_: web.Request) -> web.Response:
    """Lead back whoever reloads or bookmarks the address of a form."""
    raise web.HTTPSeeOther("/")


def outage(request: web.Request, *, user: str | None, for_now: bool = False) -> web.Response:
    unknown = user is None and restore_failed(request)
    return render("outage.html", request, status=503, user=user, for_now=for_now, unknown=unknown)


@web.middleware
async def tell_of_outage(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer where a function raises that needs the store. Live sessions and restores take care of themselves."""
    try:
        return await handler(request)
    except BackendError:
        session = await aiohttp_session.get_session(request)
        return outage(request, user=session.get("user"), for_now=session.get("for_now", False))


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


async def add_security_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'")
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")


def create_app(
    backend: Backend, *, secure: bool = False, grace_period: float = 10, store: str | None = None
) -> web.Application:
    """Return the demo's application.

    Args:
        backend: where the records are kept.
        secure: whether its cookies are Secure.
        grace_period: as in :func:`aiohttp_persistent_session.setup`.
        store: the store's URL, which the page shows in a command line; None where there is nothing to look at.

    Raises:
        ValueError: ``grace_period`` is out of range.
    """
    app = web.Application(middlewares=[refuse_other_sites])
    app.on_response_prepare.append(add_security_headers)
    # A key of its own at each start: the ordinary sessions end with the process, the persistent ones with their store.
    storage = EncryptedCookieStorage(
        secrets.token_bytes(32), cookie_name="session", httponly=True, samesite="Lax", secure=secure
    )
    aiohttp_session.setup(app, storage)
    manager = setup(app, backend, secure=secure, grace_period=grace_period, require_store=True)
    app.middlewares.append(tell_of_outage)
    app[THEATER] = Theater(manager, CookiePolicy(secure=secure))
    pages.set_up(app, theater=app[THEATER], password=PASSWORD, grace_period=grace_period, store=store)
    app.add_routes([*routes, *theater.routes])
    aiohttp_security.setup(app, PersistentSessionIdentityPolicy(), EverybodyMay())
    devices.setup(app, "/account/devices", confirm=confirm_password, fresh_within=FRESH_FOR, login_url="/")
    return app
