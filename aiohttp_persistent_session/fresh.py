"""Whether the password was typed a short while ago, handlers that need it to, and the way back to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias, TypeVar

from aiohttp import hdrs, web
from yarl import URL

from . import options, sessions
from .current import change_session, refuse_if_prepared, visit_for
from .options import Duration
from .policy import CLOCK_TOLERANCE
from .sessions import NO_RECORD, Mark

Handler: TypeAlias = Callable[[Any], Awaitable[web.StreamResponse]]
H = TypeVar("H", bound=Handler)

NEXT = "next"
"""The parameter of a login page's address that says where to go on."""

_PAGES = (hdrs.METH_GET, hdrs.METH_HEAD)


async def is_fresh(request: web.Request, within: Duration | None = None) -> bool:
    """Tell whether the password was typed in this session. False after a restore, and for an anonymous request.

    Ask for the password again before anything sensitive where this is False, and call :func:`confirm_login`: a restored
    session is of lower assurance (NIST SP 800-63B-4, 5).

    Args:
        within: how long ago the password was typed at most (timedelta or seconds). A session that the app opened
            without :func:`remember` does not say when, and counts as fresh only without ``within``.

    Raises:
        TypeError, ValueError: ``within`` is no duration.
    """
    visit = visit_for(request)
    longest = None if within is None else options.seconds("within", within)
    session = await sessions.load(request)
    if session.get(visit.wiring.session_key) is None:
        return False
    mark = Mark.of(session)
    if mark is None:
        return longest is None
    if mark.typed_at is None or mark.id not in {NO_RECORD, visit.id}:
        return False  # the password of another user, where the app has put one into the session by itself
    age = visit.wiring.manager.clock() - mark.typed_at
    return longest is None or -CLOCK_TOLERANCE <= age <= longest


async def confirm_login(request: web.Request) -> None:
    """Make the session fresh, as the password was typed and checked once more. It gets a new identity.

    Raises:
        RuntimeError: nobody is signed in, or the response is prepared already.
    """
    visit = visit_for(request)
    refuse_if_prepared(visit, "confirm_login()")
    session = await sessions.load(request)
    if session.get(visit.wiring.session_key) is None:
        raise RuntimeError("nobody is signed in: there is no login to confirm")
    mark = Mark.of(session) or Mark(NO_RECORD, 0)
    opened = await visit.storage.new_session()
    typed = mark._replace(typed_at=int(visit.wiring.manager.clock()))
    await change_session(request, visit, session, dict(session) | {sessions.MARK_KEY: str(typed)}, opened)


def fresh_required(*, within: Duration | None = None, login_url: str | None = None) -> Callable[[H], H]:
    """Return a decorator that lets a handler run only where :func:`.is_fresh` says so::

        @routes.get("/account/email")
        @fresh_required(within=timedelta(minutes=5), login_url="/password")
        async def change_email(request: web.Request) -> web.Response: ...

    It decorates functions of a request and methods of a ``web.View``. What stands above it, such as the route, gets the
    guarded handler.

    Args:
        within: how long ago the password was typed at most (timedelta or seconds); None for "in this session".
        login_url: the page, of this site, that asks for the password. Other requests are redirected to it (303), with
            their own address as ``next`` where they are a GET: see :func:`way_back`. None answers 401 instead.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
    """
    longest = None if within is None else options.seconds("within", within)
    page = None if login_url is None else URL(options.of_type("login_url", login_url, str))

    def decorate(handler: H) -> H:
        if not callable(handler):
            raise TypeError("write fresh_required() with its parentheses, above a handler")

        @wraps(handler)
        async def guarded(argument: Any) -> web.StreamResponse:
            request: web.Request = argument.request if isinstance(argument, web.View) else argument
            if await is_fresh(request, longest):
                return await handler(argument)
            if page is None:
                raise web.HTTPUnauthorized(text="Type your password again.")
            raise web.HTTPSeeOther(page.update_query({NEXT: request.path_qs}) if request.method in _PAGES else page)

        return guarded  # type: ignore[return-value]  # it takes and returns what the handler does

    return decorate


def way_back(request: web.Request, default: str = "/") -> str:
    """Return where to go on after the password was typed: ``next`` of the login page's address, or ``default``.

    What leads to another site counts as none: who can make up a link to the login page would choose where its visitors
    go (an open redirect, CWE-601).
    """
    asked = request.query.get(NEXT, "")
    # Browsers take a backslash for a slash, and leave out tabs and line breaks.
    if not asked.startswith("/") or asked.startswith("//") or any(one in asked for one in "\\\t\r\n"):
        return default
    return asked
