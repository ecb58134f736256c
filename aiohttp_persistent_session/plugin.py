"""The aiohttp side: set-up, the middleware, the cookie of each response, and the functions that handlers call.

The only module that touches requests, responses and aiohttp-session.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from hmac import compare_digest
from http.cookies import CookieError
from typing import Any, TypeAlias, cast

import aiohttp_session
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp_session import Session

from . import arguments
from .arguments import Duration
from .backends.base import Backend
from .cookies import (
    CookiePolicy,
    SameSite,
    is_localhost,
    is_meant_for_shared_caches,
    keep_out_of_shared_caches,
)
from .manager import PersistentSessionManager
from .record import Client, Outcome, PersistentSession, Record, UserId, same_user, show
from .sightings import Sighting
from .tokens import Token, digest

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

Validate: TypeAlias = Callable[[web.Request, PersistentSession], Awaitable[bool] | bool]

PERSISTENT_SESSIONS = web.AppKey("PERSISTENT_SESSIONS", PersistentSessionManager)

MARKER = "persistent_session"
"""The key in the session under which a persistent session that opened it leaves its id, and whether it is fresh.
A text, which every encoder keeps, and a short one: the session's cookie is parsed at every request."""

_FRESH = " fresh"

UNREADABLE = (ValueError, TypeError, AttributeError, CookieError)
"""What storages raise over a session's cookie that is not what they wrote: it counts as none."""

SLOW_REQUEST = 1.0
"""Seconds after which a cookie is renewed only if a fresh read confirms its token: the browser may hold a newer one."""

SLOW_RESTORE = 0.1
"""The same for a token that a restore was given. Others of its page may have been given it too, without a session, and
have exchanged it again by now."""


class _Wiring:
    """What one application's middleware and handlers share."""

    def __init__(
        self,
        manager: PersistentSessionManager,
        cookie: CookiePolicy,
        session_key: str,
        validate: Validate | None,
    ) -> None:
        if not isinstance(manager, PersistentSessionManager):
            raise TypeError(f"manager must be a PersistentSessionManager, not {type(manager).__name__}")
        if not isinstance(cookie, CookiePolicy):
            raise TypeError(f"cookie must be a CookiePolicy, not {type(cookie).__name__}")
        if not isinstance(session_key, str):
            raise TypeError(f"session_key must be a str, not {type(session_key).__name__}")
        if not session_key or session_key == MARKER:
            raise ValueError(f"session_key must not be empty or {MARKER!r}")
        if validate is not None and not _takes_two_arguments(validate):
            raise TypeError("validate must be a function of a request and a persistent session")
        self.manager = manager
        self.cookie = cookie
        self.session_key = session_key
        self.validate = validate
        self.found_complete = False
        self.warned: set[str] = set()

    def check(self, request: web.Request) -> None:
        """Look once, at the first request, whether everything is set up that this middleware relies on.

        Raises:
            RuntimeError: it is not; the message says what to do.
        """
        storage = request.get(aiohttp_session.STORAGE_KEY)
        if storage is None:
            raise RuntimeError(
                "aiohttp-session is not set up before aiohttp_persistent_session: "
                "call aiohttp_session.setup(app, storage) first"
            )
        if storage.cookie_name == self.cookie.name:
            raise RuntimeError(f"cookie_name {self.cookie.name!r} is the one of aiohttp-session's cookie")
        if _VISIT in request:
            raise RuntimeError(
                "aiohttp_persistent_session is set up on an application and on its sub-application: once is enough"
            )
        if not any(send_persistent_session_cookie in app.on_response_prepare for app in request.match_info.apps):
            raise RuntimeError("append send_persistent_session_cookie to app.on_response_prepare beside the middleware")
        self.found_complete = True

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        if topic not in self.warned:
            self.warned.add(topic)
            logger.warning(message, *args)


class _ValidateFailedError(Exception):
    """Nothing could be found out about the user: the request is anonymous, and its token is not spent."""


class _Visit:
    """One request's dealings with its persistent session. It is kept in the request, so it must not hold it too."""

    cookie_value: str | None = None
    """The cookie that the request brought, whatever it spells."""
    id: str | None = None
    """The persistent session that this request belongs to."""
    token: Token | None = None
    """The new token that the response is to carry."""
    deletes_cookie = False
    _presented_copy = False
    _live: Sighting | None = None
    _remembered: str | None = None
    _prepared = False
    _session_cookies: Sequence[str] = ()
    """Set-Cookie fields of the ordinary session, where aiohttp-session will not write them."""
    _session_ends: float | None = None

    def __init__(self, wiring: _Wiring) -> None:
        self.wiring = wiring
        self._started = wiring.manager.clock()

    # Before the handler

    async def begin(self, request: web.Request) -> None:
        """Check a live session, or restore one."""
        wiring = self.wiring
        cookies = request.headers.getall(hdrs.COOKIE, ())
        self.cookie_value = self._read_cookie(cookies)
        if self.cookie_value is None:
            session_cookie = request[aiohttp_session.STORAGE_KEY].cookie_name
            if not any(session_cookie in header for header in cookies):
                return
        try:
            session = await aiohttp_session.get_session(request)
        except UNREADABLE:
            session = await aiohttp_session.new_session(request)
        except Exception as error:  # noqa: BLE001 -- a storage may raise what its driver raises
            # Whether the session is live cannot be known, so no token is spent on it. The handler meets the same
            # exception where it asks for the session, as it would without this middleware.
            logger.warning("the ordinary session could not be loaded: %s", type(error).__name__)
            return
        user = session.get(wiring.session_key)
        if user is not None:
            id = _opened_by(session)
            if id is None:
                return
            sighting = wiring.manager.recall(id)
            if sighting is None or not sighting.fresh_from <= self._started < sighting.fresh_until:
                token = self.presented
                secret = None if token is None or token.id != id else token.secret
                sighting = await wiring.manager.check(id, _client(request), secret)
            if sighting is None or not sighting.gone:
                if sighting is None or sighting.user == user or self._is_spelled_otherwise(sighting, user):
                    self.id, self._live = id, sighting
                    self._session_ends = None if session.max_age is None else session.created + session.max_age
                return
            session.invalidate()
        token = self.presented
        if token is not None:
            await self._restore(request, token, session)

    def _read_cookie(self, cookie_headers: Sequence[str]) -> str | None:
        """Return the one cookie of our name; where there are several, none: whose is whose cannot be told."""
        values = self.wiring.cookie.read(cookie_headers)
        if len(values) > 1:
            self.wiring.warn_once(
                "several",
                "a browser sent several cookies named %s, which are ignored: path or domain were changed, or another "
                "host of the domain sets one too (the prefix __Host- in cookie_name prevents that)",
                self.wiring.cookie.name,
            )
        return values[0] if len(values) == 1 else None

    @property
    def presented(self) -> Token | None:
        """The token that the request brought, if its cookie is well-formed."""
        return None if self.cookie_value is None else Token.parse(self.cookie_value)

    def _is_spelled_otherwise(self, sighting: Sighting, user: object) -> bool:
        """Tell whether the session holds the persistent session's user under another type, as some encoders do.

        Where it holds another user, the app signed that one in without a persistent session, which is none of our
        business (and no reason to show one user's persistent session to another).
        """
        if str(sighting.user) == str(user):
            return True
        self.wiring.warn_once(
            "another user",
            "a session holds another user under %r than the persistent session that opened it, which stays out of it: "
            "call forget() before a sign-in without remember(), and keep nothing but the user's id there",
            self.wiring.session_key,
        )
        return False

    async def _restore(self, request: web.Request, token: Token, session: Session) -> None:
        # Made beforehand, so that nothing that can fail is left to do once the token is spent.
        opened = await request[aiohttp_session.STORAGE_KEY].new_session()
        validate = self.wiring.validate
        accept = None if validate is None else partial(self._accept, validate, request)
        try:
            restoration = await self.wiring.manager.restore(
                token, client=_client(request), accept=accept, request=request
            )
        except _ValidateFailedError:
            return
        self._presented_copy = restoration.outcome is Outcome.REUSE
        if restoration.record is None or restoration.token is None:
            return
        self.id = restoration.record.id
        self.token = restoration.token
        content = dict(session) | self._content(restoration.record, fresh=False)
        if restoration.outcome is Outcome.CURRENT:
            opened.update(content)
        else:
            opened = _unchanged(content, opened.max_age)
        request[aiohttp_session.SESSION_KEY] = opened
        if restoration.outcome is Outcome.CURRENT:
            await self.wiring.manager.tell_of_restore(restoration.record, request)

    async def _accept(self, validate: Validate, request: web.Request, persistent_session: PersistentSession) -> bool:
        try:
            accepted = validate(request, persistent_session)
            if inspect.isawaitable(accepted):
                accepted = await accepted
            if not isinstance(accepted, bool):
                raise TypeError(f"validate must return a bool, not {type(accepted).__name__}")
        except web.HTTPException:
            raise
        except Exception as error:
            # A directory that is down, say. The token is not spent, and a login page must go on working.
            logger.exception("validate failed for the persistent session %s", persistent_session.id)
            raise _ValidateFailedError from error
        return accepted

    def _content(self, record: Record, *, fresh: bool) -> dict[str, Any]:
        return {self.wiring.session_key: record.user, MARKER: record.id + _FRESH * fresh}

    # For the handler

    def brought_along(self, request: web.Request) -> set[str]:
        """The ids of the persistent sessions that this browser has shown, by its session or its cookie.

        A selector alone is enough to end its persistent session: only cookies carry it, and presenting it with a
        wrong secret would end it too.
        """
        values = self.wiring.cookie.read(request.headers.getall(hdrs.COOKIE, ()))
        ids = {token.id for token in map(Token.parse, values) if token is not None}
        return ids if self.id is None else ids | {self.id}

    async def remember(self, request: web.Request, user: UserId, data: dict[str, Any] | None) -> PersistentSession:
        if self._prepared:
            raise RuntimeError("remember() must be called before the response is prepared")
        old = await load_session(request)
        opened = await request[aiohttp_session.STORAGE_KEY].new_session()
        token, record = await self.wiring.manager.remember(
            user, data=data, client=_client(request), replaces=self.brought_along(request), request=request
        )
        self.id, self.token, self._remembered = record.id, token, record.id
        self.deletes_cookie, self._live = False, None
        previous = old.get(self.wiring.session_key)
        carried = dict(old) if previous is None or same_user(previous, record.user) else {}
        opened.update(carried | self._content(record, fresh=True))
        request[aiohttp_session.SESSION_KEY] = opened
        await _empty_in_storage(request, old)
        return show(record, current=True)

    async def forget(self, request: web.Request) -> None:
        ids = self.brought_along(request)
        self.sign_out()
        try:
            await self.wiring.manager.forget(ids, request=request)
        finally:
            await _end_session(request)

    def sign_out(self) -> None:
        """Let the response delete the cookie, and no longer belong to a persistent session."""
        self.id, self.token, self._live = None, None, None
        self._remembered = None
        self.deletes_cookie = True

    async def died(self, request: web.Request) -> None:
        """The handler raised: whom it remembered is not remembered, and whom it signed out stays so.

        Unless the cookie is under way already.
        """
        if self._prepared:
            return
        if self._remembered is not None:
            id, self._remembered, self.token = self._remembered, None, None
            await self.wiring.manager.unremember(id)
        if self.deletes_cookie:
            self._session_cookies = await _save_session(request)

    # When the response is prepared

    def renews_at_once(self, response: web.StreamResponse) -> bool:
        """Renew the cookie of a live request where no store has to be asked: the way that most responses take.

        Return False, having done nothing, where more is to be found out first.
        """
        live, value, manager = self._live, self.cookie_value, self.wiring.manager
        if live is None or value is None or live is not manager.recall(live.id) or live.spelling != hash(value):
            return False
        now = manager.clock()
        if self._needs_confirmation(now):
            return False
        self._prepared = True
        self.wiring.cookie.renew(value, manager.policy.cookie_max_age(live.ends_at, now), response.headers)
        return True

    async def send_cookie(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the Set-Cookie field that this response needs, if any."""
        self._prepared = True
        wiring = self.wiring
        if self.deletes_cookie:
            response.headers.extend((hdrs.SET_COOKIE, header) for header in self._session_cookies)
            self._put(request, response, wiring.cookie.deletion)
        elif self.token is not None:
            if self._remembered is not None or await self._may_be_current(self.token):
                self._put(request, response, wiring.cookie.setting(self.token.cookie_value, self._max_age(self.token)))
        elif self._presented_copy:
            # Of use to nobody: the record is gone. A slow response might hit the cookie of a sign-in meanwhile.
            if not self._needs_confirmation(wiring.manager.clock()):
                self._put(request, response, wiring.cookie.deletion)
        elif self._live is not None:
            token = self.presented
            if token is not None and token.id == self.id and await self._is_current(token):
                wiring.cookie.renew(token.cookie_value, self._max_age(token), response.headers)
                wiring.manager.note_spelling(token)

    def _needs_confirmation(self, now: float) -> bool:
        """Tell whether the browser may hold a newer token by now, which another worker gave it."""
        was_slow = not 0 <= now - self._started <= SLOW_REQUEST
        return was_slow or (self._session_ends is not None and now >= self._session_ends)

    async def _is_current(self, token: Token) -> bool:
        """Tell whether a live request's token is still the newest. No, where a store that fails would have to tell."""
        manager = self.wiring.manager
        newest = manager.recall(token.id) or self._live
        if newest is not None and not compare_digest(newest.digest, digest(token.secret)):
            return False
        if newest is None or self._needs_confirmation(manager.clock()):
            return bool(await manager.confirm(token))
        return True

    async def _may_be_current(self, token: Token) -> bool:
        """Tell whether the token that this request was given is to be sent. In doubt it is: it may be the only one."""
        manager = self.wiring.manager
        newest = manager.recall(token.id)
        is_newest = newest is not None and compare_digest(newest.digest, digest(token.secret))
        if newest is not None and not newest.gone and not is_newest:
            return False
        if is_newest and 0 <= manager.clock() - self._started <= SLOW_RESTORE:
            return True
        return await manager.confirm(token) is not False

    def _max_age(self, token: Token) -> int:
        manager = self.wiring.manager
        sighting = manager.recall(token.id) or self._live
        ends_at = float("inf") if sighting is None else sighting.ends_at
        return manager.policy.cookie_max_age(ends_at, manager.clock())

    def _put(self, request: web.Request, response: web.StreamResponse, header: str) -> None:
        if is_meant_for_shared_caches(response.headers):
            logger.warning(
                "the response to %s %s is marked for shared caches but sets the cookie %s: it is made private",
                request.method,
                request.rel_url.raw_path,
                self.wiring.cookie.name,
            )
        keep_out_of_shared_caches(response.headers)
        self.wiring.cookie.put(header, response.headers)
        self._warn_where_browser_drops_cookie(request)

    def _warn_where_browser_drops_cookie(self, request: web.Request) -> None:
        wiring = self.wiring
        if (
            wiring.cookie.secure
            and "plain http" not in wiring.warned
            and request.scheme == "http"
            and not _came_over_https_to_a_proxy(request)
            and not is_localhost(request.host)
        ):
            wiring.warn_once(
                "plain http",
                "the cookie %s is Secure, and a request came over plain http: if the browser is not behind a proxy "
                "that speaks https, it drops the cookie; pass secure=False in development",
                wiring.cookie.name,
            )


# aiohttp before 3.14 keeps what belongs to a request under strings.
_VISIT: Any = (
    web.RequestKey("persistent_session", _Visit) if hasattr(web, "RequestKey") else "aiohttp_persistent_session"
)


# Set-up


def setup(
    app: web.Application,
    *,
    backend: Backend,
    max_age: Duration = timedelta(days=30),
    cookie_name: str = "persistent_session",
    path: str = "/",
    domain: str | None = None,
    secure: bool = True,
    samesite: SameSite = "Lax",
    partitioned: bool = False,
    session_key: str = "user",
    grace_period: Duration = 10,
    check_interval: Duration = 60,
    max_lifetime: Duration | None = None,
    max_sessions: int | None = None,
    validate: Validate | None = None,
    timeout: Duration = 2,
) -> PersistentSessionManager:
    """Set persistent sessions up for ``app`` and its sub-applications. Call it after ``aiohttp_session.setup``.

    Durations are a timedelta or a number of seconds.

    Args:
        app: the application; its ``app[PERSISTENT_SESSIONS]`` becomes the manager that is returned.
        backend: where the records are kept; opened and closed with the application.
        max_age: how long a browser may stay away and still be signed in again; at most 400 days.
        cookie_name: the cookie's name; the prefix ``__Host-`` keeps other hosts of the domain from setting it.
        path: the cookie's path.
        domain: the cookie's domain; None for the host that sets it, without its subdomains.
        secure: whether the browser sends the cookie over https only.
        samesite: "Lax", "Strict" or "None".
        partitioned: whether the cookie is kept apart for each top-level site (CHIPS).
        session_key: where the ordinary session holds the user's id.
        grace_period: how long after its first use a token may be presented again; 0 for not at all; at most an hour.
        check_interval: how soon a revocation reaches a live session; 0 for a look at each request.
        max_lifetime: how long after the sign-in a persistent session ends however active; None for never.
        max_sessions: how many persistent sessions a user may have; None for any number.
        validate: called at each restore, async or not; where it returns False, the persistent session is deleted, and
            where it raises anything but ``web.HTTPException``, the request is anonymous and nothing else happens.
        timeout: how long one call of the store may take; at most 5 minutes.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
        RuntimeError: ``app`` is set up already.
    """
    if not isinstance(app, web.Application):
        raise TypeError(f"app must be a web.Application, not {type(app).__name__}")
    if PERSISTENT_SESSIONS in app:
        raise RuntimeError("aiohttp_persistent_session is set up for this application already")
    if app.frozen or app.pre_frozen:
        raise RuntimeError("call setup() before the application runs, or is added to another one as a sub-application")
    manager = PersistentSessionManager(
        backend,
        max_age=max_age,
        grace_period=grace_period,
        check_interval=check_interval,
        max_lifetime=max_lifetime,
        max_sessions=max_sessions,
        timeout=timeout,
    )
    cookie = CookiePolicy(cookie_name, path, domain, secure, samesite, partitioned)
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
    wiring = _Wiring(manager, CookiePolicy() if cookie is None else cookie, session_key, validate)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Not isinstance: of the abstract base classes that a resource has, that is slow.
        if web.StaticResource in type(request.match_info.route.resource).__mro__:
            return await handler(request)
        if not wiring.found_complete:
            wiring.check(request)
        visit = request[_VISIT] = _Visit(wiring)
        await visit.begin(request)
        try:
            return await handler(request)
        except web.HTTPException:
            raise
        except BaseException:
            await visit.died(request)
            raise

    return middleware


async def send_persistent_session_cookie(request: web.Request, response: web.StreamResponse) -> None:
    """Add the cookie to a response: the handler of ``on_response_prepare``. It never raises.

    aiohttp has written ``response.cookies`` into the headers by then, so the Set-Cookie field itself is added.
    """
    try:
        visit = request[_VISIT]
    except KeyError:
        return
    try:
        if not visit.renews_at_once(response):
            await visit.send_cookie(request, response)
    except Exception:
        logger.exception("the persistent session's cookie could not be sent")


# For handlers


async def remember(request: web.Request, user: UserId, *, data: dict[str, Any] | None = None) -> PersistentSession:
    """Sign ``user`` in and keep this browser signed in. For the login handler, after the password was checked.

    Opens a new session that holds the user under ``session_key``, with a new identity (against session fixation, OWASP
    ASVS 5.0, 7.2.4) and with the data of the anonymous session. A persistent session that the browser brought along is
    ended. If the handler then dies of an exception other than ``web.HTTPException``, nobody is remembered.

    Args:
        request: the current request.
        user: the user's id, a str (1 to 1024 bytes in UTF-8) or an int.
        data: a dict that JSON keeps as it is, at most 4096 bytes; shown with the persistent session.

    Raises:
        BackendError: the store failed; nobody is remembered, and the session is not opened. With ``max_sessions``, the
            persistent session that was to give way may have ended.
        RuntimeError: the response is prepared already, or :func:`setup` was not called; nothing is stored.
        TypeError, ValueError: ``user`` or ``data`` cannot be stored; nothing is stored.
    """
    return await _visit(request).remember(request, user, data)


async def forget(request: web.Request) -> None:
    """Sign this browser out: end its persistent session, delete its cookie and empty its session.

    Other browsers of the user stay signed in. After the response was prepared, as on a web-socket, the cookie stays but
    is worth nothing.

    Raises:
        BackendError: the store failed; the cookie is deleted and the session emptied all the same.
        RuntimeError: :func:`setup` was not called.
    """
    await _visit(request).forget(request)


async def forget_everywhere(request: web.Request, *, keep_current: bool = False) -> int:
    """End all persistent sessions of the signed-in user; return how many.

    Live sessions that they opened end within ``check_interval``. A session that was opened without a persistent
    session, in a browser other than this one, is out of reach.

    Args:
        request: the current request.
        keep_current: whether this browser stays signed in.

    Raises:
        BackendError: the store failed; some may have been ended.
        RuntimeError: :func:`setup` was not called.
    """
    visit = _visit(request)
    user = await _signed_in_user(request)
    manager = visit.wiring.manager
    if user is None:
        return 0
    if keep_current:
        return await manager.revoke_all(user, keep=visit.id, request=request)
    ids = visit.brought_along(request)
    visit.sign_out()
    try:
        ended = await manager.revoke_all(user, request=request)
        await manager.forget(ids, request=request)
        return ended
    finally:
        await _end_session(request)


async def persistent_sessions(request: web.Request) -> list[PersistentSession]:
    """Return the signed-in user's persistent sessions, the newest first; none for an anonymous request.

    Raises:
        BackendError: the store failed.
        RuntimeError: :func:`setup` was not called.
    """
    visit = _visit(request)
    user = await _signed_in_user(request)
    if user is None:
        return []
    return await visit.wiring.manager.sessions(user, current=visit.id)


async def current_persistent_session(request: web.Request) -> PersistentSession | None:
    """Return the persistent session of this browser, or None where it has none.

    Raises:
        BackendError: the store failed.
        RuntimeError: :func:`setup` was not called.
    """
    visit = _visit(request)
    return None if visit.id is None else await visit.wiring.manager.get(visit.id, current=True)


async def revoke(request: web.Request, id: str) -> bool:
    """End one of the signed-in user's own persistent sessions; return whether there was one.

    Somebody else's is left alone, and the answer is the same as for one that does not exist. This browser's own signs
    this browser out.

    Raises:
        BackendError: the store failed.
        RuntimeError: :func:`setup` was not called.
    """
    visit = _visit(request)
    user = await _signed_in_user(request)
    manager = visit.wiring.manager
    if user is None:
        return False
    persistent_session = await manager.get(id)
    if persistent_session is None or not same_user(persistent_session.user, user):
        return False
    if id == visit.id:
        visit.sign_out()
        await _end_session(request)
    return await manager.revoke(id, request=request)


async def is_fresh(request: web.Request) -> bool:
    """Tell whether the user signed in by this session, with the password. False after a restore, and if anonymous.

    Ask for the password again before anything sensitive where this is False: a restored session is of lower assurance
    (NIST SP 800-63B-4, 5).

    Raises:
        RuntimeError: :func:`setup` was not called.
    """
    visit = _visit(request)
    session = await load_session(request)
    if session.get(visit.wiring.session_key) is None:
        return False
    id = _opened_by(session)
    return id is None or session[MARKER] == id + _FRESH


async def _signed_in_user(request: web.Request) -> UserId | None:
    session_key = _visit(request).wiring.session_key
    return cast("UserId | None", (await load_session(request)).get(session_key))


def _client(request: web.Request) -> Client:
    """Return what this request says of its browser."""
    return arguments.client(request.headers.get("User-Agent", ""), request.remote or "")


def _visit(request: web.Request) -> _Visit:
    visit = request.get(_VISIT)
    if visit is None:
        raise RuntimeError(
            "aiohttp_persistent_session is not set up for this request: call setup(app, backend=...); in a middleware, "
            "call it before that middleware is appended"
        )
    return cast("_Visit", visit)


# aiohttp-session


async def load_session(request: web.Request) -> Session:
    """Return the request's session; an empty one where its cookie does not parse, which else would end in a 500."""
    try:
        return await aiohttp_session.get_session(request)
    except UNREADABLE:
        return await aiohttp_session.new_session(request)


def _opened_by(session: Session) -> str | None:
    """Return the id of the persistent session that opened ``session``; None where none did.

    A mark that cannot be read is an id that does not exist: the session ends, rather than go on beyond revocation.
    """
    mark = session.get(MARKER)
    if mark is None:
        return None
    return mark.removesuffix(_FRESH) if isinstance(mark, str) else ""


def _unchanged(content: dict[str, Any], max_age: int | None) -> Session:
    """Return a session that holds ``content`` but is not saved unless the handler changes it."""
    session = Session(None, data={"session": content}, new=True)
    session.max_age = max_age
    return session


async def _end_session(request: web.Request) -> None:
    session = await load_session(request)
    if not session.empty:
        session.invalidate()


async def _save_session(request: web.Request) -> list[str]:
    """Save the session, which aiohttp-session does not where the handler raised; return its Set-Cookie fields."""
    session = request.get(aiohttp_session.SESSION_KEY)
    if not isinstance(session, Session):
        return []
    unsent = web.Response()
    try:
        await request[aiohttp_session.STORAGE_KEY].save_session(request, unsent, session)
    except Exception:
        logger.exception("the session of who signed out could not be emptied")
    return [morsel.OutputString() for morsel in unsent.cookies.values()]


async def _empty_in_storage(request: web.Request, session: Session) -> None:
    """Leave nothing under the old key of a server-side storage, where a new session alone would leave all."""
    if session.identity is not None:
        session.invalidate()
        storage = request[aiohttp_session.STORAGE_KEY]
        await storage.save_session(request, web.Response(), session)


def _takes_two_arguments(function: object) -> bool:
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a built-in that tells nothing of itself
        return True
    return True


def _came_over_https_to_a_proxy(request: web.Request) -> bool:
    """Only silences a warning: nothing else may be derived from what a client can write."""
    forwarded = request.headers.get("X-Forwarded-Proto", "") + request.headers.get("Forwarded", "")
    return "https" in forwarded.lower()
