"""The application under test: its manager, and a way to it that passes by its login form and its server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import aiohttp_session
from aiohttp import hdrs, web
from aiohttp.test_utils import make_mocked_request
from aiohttp.typedefs import Handler
from yarl import URL

from .. import options
from ..manager import PersistentSessionManager
from ..setup import PERSISTENT_SESSIONS, persistent_session_middleware, send_persistent_session_cookie

_MODULES = {aiohttp_session.__name__, persistent_session_middleware.__module__}


def manager_of(app: web.Application | PersistentSessionManager) -> PersistentSessionManager:
    """Return the manager of an application, or the one that is given.

    Raises:
        RuntimeError: ``app`` is not set up.
        TypeError: it is neither.
    """
    if isinstance(app, PersistentSessionManager):
        return app
    manager = options.of_type("app", app, web.Application).get(PERSISTENT_SESSIONS)
    if manager is None:
        raise RuntimeError(
            "aiohttp_persistent_session is not set up for this application: where setup() was called for a "
            "sub-application, pass that one; where you wired it by hand, set app[PERSISTENT_SESSIONS] to the manager"
        )
    return manager


async def set_by(
    handler: Handler,
    apps: Sequence[web.Application],
    url: URL,
    headers: Mapping[str, str],
) -> list[str]:
    """Run a handler of the test's as if it were one of the application's; return the Set-Cookie fields.

    The request passes through the middlewares of aiohttp-session and of this library. It passes by all others, as one
    may send anonymous visitors or forms of other sites away.

    Args:
        handler: what to run.
        apps: the application and, where :func:`.setup` was called for a sub-application, that one too.
        url: the page that is asked for.
        headers: those of the request.
    """
    request = make_mocked_request("POST", url.raw_path_qs, {hdrs.HOST: url.authority, **headers}, app=apps[-1])
    for app in reversed(apps[:-1]):
        request.match_info.add_app(app)
    request = request.clone(remote=url.host or "")
    middlewares = [one for app in apps for one in app.middlewares if getattr(one, "__module__", "") in _MODULES]
    for middleware in reversed(middlewares):
        handler = partial(middleware, handler=handler)
    response = await handler(request)
    # aiohttp does so before it sends the signal on_response_prepare.
    response.headers.extend((hdrs.SET_COOKIE, cookie.OutputString()) for cookie in response.cookies.values())
    await send_persistent_session_cookie(request, response)
    return response.headers.getall(hdrs.SET_COOKIE, [])
