"""Set-up: the middleware, the handler of ``on_response_prepare``, and :func:`setup`, which wires both."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware

from . import options, sessions
from .answer import answer, answer_plainly
from .backends.base import Backend
from .cookies import CookiePolicy, SameSite
from .manager import PersistentSessionManager
from .options import Duration, RecordAddress
from .visit import Visit
from .wiring import Validate, Wiring

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

PERSISTENT_SESSIONS = web.AppKey("PERSISTENT_SESSIONS", PersistentSessionManager)

# aiohttp before 3.14 keeps what belongs to a request under strings.
_VISIT: Any = (
    web.RequestKey("persistent_session", Visit) if hasattr(web, "RequestKey") else "aiohttp_persistent_session"
)
_by_writer: WeakKeyDictionary[AbstractStreamWriter, Visit] = WeakKeyDictionary()
"""Visits of requests that are clones: aiohttp prepares the response with the original, which shares their writer."""


def setup(
    app: web.Application,
    backend: Backend,
    *,
    max_age: Duration = timedelta(days=30),
    cookie_name: str | None = None,
    path: str = "/",
    domain: str | None = None,
    secure: bool = True,
    samesite: SameSite = "Lax",
    partitioned: bool = False,
    session_key: str = "user",
    grace_period: Duration = 10,
    check_interval: Duration = 60,
    rotate_interval: Duration | None = timedelta(days=1),
    strict: bool = False,
    max_lifetime: Duration | None = None,
    browser_session_max_age: Duration = timedelta(days=1),
    max_sessions: int | None = 100,
    validate: Validate | None = None,
    timeout: Duration = 2,
    require_store: bool = False,
    record_address: RecordAddress = "full",
) -> PersistentSessionManager:
    """Set persistent sessions up for ``app`` and its sub-applications. Call it after ``aiohttp_session.setup``.

    Durations are a timedelta or a number of seconds.

    Args:
        app: the application; its ``app[PERSISTENT_SESSIONS]`` becomes the manager that is returned.
        backend: where the records are kept; opened and closed with the application.
        max_age: how long a browser may stay away and still be signed in again; at most 400 days.
        cookie_name: the cookie's name; None for ``__Host-persistent_session`` where secure, path and domain allow it,
            and ``persistent_session`` elsewhere.
        path: the cookie's path.
        domain: the cookie's domain; None for the host that sets it, without its subdomains.
        secure: whether the browser sends the cookie over https only.
        samesite: "Lax", "Strict" or "None".
        partitioned: whether the cookie is kept apart for each top-level site (CHIPS).
        session_key: where the ordinary session holds the user's id.
        grace_period: how long after its first exchange a token still joins it; at most an hour.
        check_interval: how soon a revocation reaches a live session; 0 for a look at each request.
        rotate_interval: the age at which a live session's token is rotated; at least a minute; None for never.
        strict: whether an exchange makes all other tokens invalid at once. An honest browser whose answer was lost is
            signed out then, and a copy that was exchanged is found out when its owner comes back.
        max_lifetime: how long after the sign-in a persistent session ends however active; None for never.
        browser_session_max_age: how long a sign-in with ``persistent=False`` lasts without a visit.
        max_sessions: how many persistent sessions a user may have; of more, the least recently seen is ended. None for
            any number.
        validate: called at each restore, async or not; where it returns False, the persistent session is ended, and
            where it raises anything but ``web.HTTPException``, the request is anonymous and nothing else happens.
        timeout: how long the store may take for one request; at most 5 minutes.
        require_store: whether the application fails to start where the store cannot be reached.
        record_address: what is kept of a client's address: "full", its "network" (/24, or /48 for IPv6), or "none".

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
        RuntimeError: ``app`` is set up already.
    """
    options.of_type("app", app, web.Application)
    if PERSISTENT_SESSIONS in app:
        raise RuntimeError("aiohttp_persistent_session is set up for this application already")
    if app.frozen or app.pre_frozen:
        raise RuntimeError("call setup() before the application runs, or is added to another one as a sub-application")
    manager = PersistentSessionManager(
        backend,
        max_age=max_age,
        grace_period=grace_period,
        check_interval=check_interval,
        rotate_interval=rotate_interval,
        strict=strict,
        max_lifetime=max_lifetime,
        browser_session_max_age=browser_session_max_age,
        max_sessions=max_sessions,
        timeout=timeout,
        require_store=require_store,
        record_address=record_address,
    )
    cookie = CookiePolicy(cast("str", cookie_name), path, domain, secure, samesite, partitioned)
    middleware = persistent_session_middleware(manager, cookie=cookie, session_key=session_key, validate=validate)

    async def opened(_: web.Application) -> AsyncIterator[None]:
        async with manager:
            yield

    app[PERSISTENT_SESSIONS] = manager
    app.middlewares.append(middleware)
    app.on_response_prepare.append(send_persistent_session_cookie)
    app.cleanup_ctx.append(opened)
    return manager


def persistent_session_middleware(
    manager: PersistentSessionManager,
    *,
    cookie: CookiePolicy | None = None,
    session_key: str = "user",
    validate: Validate | None = None,
) -> Middleware:
    """Return the middleware, for those who wire by hand what :func:`setup` wires.

    Append it after aiohttp-session's, append :func:`send_persistent_session_cookie` to ``app.on_response_prepare``, and
    open and close the manager with the application.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
    """
    cookie = CookiePolicy() if cookie is None else cookie
    wiring = Wiring(manager, cookie, session_key, validate, send_persistent_session_cookie)
    middleware: Middleware = _Middleware(wiring)
    wiring.middleware = middleware
    return middleware


class _Middleware:
    """The middleware. It awaits the session alone where the worker knows what a request presents."""

    __middleware_version__ = 1  # as web.middleware marks a function

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        visit = visit_of(request)
        if visit is None:
            visit = self._begin(request)
            if visit.values or visit.brings_a_session(request):
                session = sessions.of(request)
                visit.session_was_read = session is not None
                if session is None:
                    session = await sessions.first_load(request, visit.storage)
                if session is not None and not visit.is_served(session):
                    await visit.look(request, session)
        else:
            self._resume(visit, request)
        try:
            response = await handler(request)
            if visit.session is not None:
                visit.session_is_saved = not response.prepared
            return response
        except BaseException as error:
            visit.session_is_saved = isinstance(error, web.HTTPException)
            if not visit.session_is_saved:
                await visit.undo(request)
            raise
        finally:
            visit.finish(request)

    def _begin(self, request: web.Request) -> Visit:
        if not self._wiring.was_inspected:
            self._wiring.inspect(request)
        visit = Visit(self._wiring, request)
        _keep(request, visit)
        return visit

    def _resume(self, visit: Visit, request: web.Request) -> None:
        """Go on with the visit that an earlier run of the handler chain began."""
        if visit.wiring is not self._wiring:
            raise RuntimeError(
                "aiohttp_persistent_session is set up on an application and on its sub-application: once is enough"
            )
        _keep(request, visit)
        if visit.session is not None:
            sessions.put(request, visit.session)


async def send_persistent_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Add the cookie to a response: the handler of ``on_response_prepare``. It never raises.

    aiohttp has written ``response.cookies`` into the headers by then, so the Set-Cookie field itself is added.
    """
    visit = visit_of(request)
    if visit is None:
        return
    visit.is_prepared = True
    try:
        if not answer_plainly(visit, request, response, visit.wiring.manager.clock()):
            await answer(visit, request, response)
    except Exception:
        logger.exception("the persistent session's cookie could not be sent")


def visit_of(request: web.Request) -> Visit | None:
    """Return the visit of a request or of a clone of it; None where no middleware of ours has seen it."""
    if _VISIT in iter(request):  # a key that is missing costs an exception
        return cast("Visit", request[_VISIT])
    return _by_writer.get(request.writer) if _by_writer else None


def _keep(request: web.Request, visit: Visit) -> None:
    request[_VISIT] = visit
    visit.request_number = id(request)
    # An attribute of aiohttp's own: where it is missing, the visit is also found the long way.
    if getattr(request.protocol, "_current_request", None) is not request:
        _by_writer[request.writer] = visit
