"""What one application's middleware and handlers share, and what is looked at once."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeAlias

from aiohttp import web
from aiohttp_session import AbstractStorage

from . import options
from .cookies import CookiePolicy, is_localhost
from .manager import PersistentSessionManager
from .record import Browser, PersistentSession
from .sessions import MARK_KEY, storage_of

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

Validate: TypeAlias = Callable[[web.Request, PersistentSession], Awaitable[bool] | bool]


class ValidateFailedError(Exception):
    """Nothing could be found out about the user: the request is anonymous, and its token is not spent."""


class Wiring:
    """The options of one middleware, and the warnings that it has given.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
    """

    def __init__(
        self,
        manager: PersistentSessionManager,
        cookie: CookiePolicy,
        session_key: str,
        validate: Validate | None,
        send_cookie: Any,
    ) -> None:
        options.of_type("manager", manager, PersistentSessionManager)
        options.of_type("cookie", cookie, CookiePolicy)
        options.of_type("session_key", session_key, str)
        if not session_key or session_key == MARK_KEY:
            raise ValueError(f"session_key must not be empty or {MARK_KEY!r}")
        if validate is not None and not options.takes_two(validate):
            raise TypeError("validate must be a function of a request and a persistent session")
        self.manager = manager
        self.cookie = cookie
        self.session_key = session_key
        self.validate = validate
        self.send_cookie = send_cookie
        """The handler of ``on_response_prepare``."""
        self.was_inspected = False
        self.middleware: Any = None
        """The one that these options are of."""
        self._warned: set[str] = set()

    def browser_of(self, request: web.Request) -> Browser:
        """Return what a request tells of its browser, as far as that is recorded."""
        address = options.address(request.remote or "", self.manager.record_address)
        return options.browser(request.headers.get("User-Agent", ""), address)

    async def accept(self, request: web.Request, persistent_session: PersistentSession) -> bool:
        """Ask ``validate`` whether the user may still be restored.

        Raises:
            ValidateFailedError: it raised, or returned no bool.
        """
        try:
            accepted: Any = self.validate and self.validate(request, persistent_session)
            if inspect.isawaitable(accepted):
                accepted = await accepted
            return bool(options.of_type("what validate returns", accepted, bool))
        except web.HTTPException:
            raise
        except Exception as error:
            # A directory that is down, say. The token is not spent, and a login page must go on working.
            logger.exception("validate failed for the persistent session %s", persistent_session.id)
            raise ValidateFailedError from error

    def warn_once(self, topic: str, message: str, *args: object) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            logger.warning(message, *args)

    def inspect(self, request: web.Request) -> None:
        """Look at what only a request shows, at the first one.

        Raises:
            RuntimeError: something is missing that this middleware relies on; the message says what to do.
        """
        storage = storage_of(request)
        if storage.cookie_name == self.cookie.name:
            raise RuntimeError(f"cookie_name {self.cookie.name!r} is the one of aiohttp-session's cookie")
        if not any(self.send_cookie in app.on_response_prepare for app in request.match_info.apps):
            raise RuntimeError("append send_persistent_session_cookie to app.on_response_prepare beside the middleware")
        for difference in _differences(self.cookie, storage):
            logger.warning(
                "the two cookies differ: %s. Where the token reaches further, a link on another site may restore over "
                "a live session; where it reaches less far, requests come with a session and no token",
                difference,
            )
        self.was_inspected = True

    def warn_of_early_readers(self, request: web.Request) -> None:
        """Warn by name of the middlewares that may have read the session that is about to be restored."""
        for app in request.match_info.apps:
            if self.middleware in app.middlewares:
                before = list(app.middlewares)[: list(app.middlewares).index(self.middleware)]
                names = [name for name in map(_name_of, before) if not name.startswith("aiohttp_session.")]
                self.warn_once(
                    "early readers",
                    "a session was read before it could be restored, by one of the middlewares %s: "
                    "they see an anonymous visitor; call setup() before you append them",
                    ", ".join(names) or "outside the application",
                )

    def warn_of_inner_handlers(self, request: web.Request) -> None:
        """Warn of handlers that run after ours and can undo what keeps the response out of shared caches."""
        after = False
        for app in request.match_info.apps:
            handlers = list(app.on_response_prepare)
            inner = (
                handlers[handlers.index(self.send_cookie) + 1 :] if self.send_cookie in handlers else handlers * after
            )
            after = after or self.send_cookie in handlers
            if inner:
                self.warn_once(
                    "inner handlers",
                    "the handlers %s of on_response_prepare run after aiohttp_persistent_session's: they must not mark "
                    "a response public or s-maxage, or a shared cache may hand one visitor's token to others",
                    ", ".join(map(_name_of, inner)),
                )

    def warn_of_plain_http(self, request: web.Request) -> None:
        """Warn where the browser drops a Secure cookie."""
        if (
            self.cookie.secure
            and request.scheme == "http"
            and not _came_over_https_to_a_proxy(request)
            and not is_localhost(request.host)
        ):
            self.warn_once(
                "plain http",
                "the cookie %s is Secure, and a request came over plain http: if the browser is not behind a proxy "
                "that speaks https, it drops the cookie; pass secure=False in development",
                self.cookie.name,
            )


def is_static(request: web.Request) -> bool:
    """Tell whether a static route answers: its files stay cacheable, so no response of it carries a token."""
    return _serves_files(type(request.match_info.route.resource))  # type: ignore[arg-type]  # classes are hashable


@lru_cache
def _serves_files(resource: Any) -> bool:
    return web.StaticResource in resource.__mro__


def _differences(cookie: CookiePolicy, storage: AbstractStorage) -> list[str]:
    """Return in which attributes the token's cookie and the session's differ. Browsers take no SameSite for Lax."""
    params: dict[str, Any] = {"path": "/", **storage.cookie_params}
    pairs = {
        "SameSite": (cookie.samesite, params.get("samesite") or "Lax"),
        "path": (cookie.path, params["path"]),
        "domain": (cookie.domain, params.get("domain")),
    }
    return [
        f"{name} is {token} for the token and {session} for the session"
        for name, (token, session) in pairs.items()
        if str(token).lower().lstrip(".") != str(session).lower().lstrip(".")
    ]


def _name_of(function: Any) -> str:
    module = getattr(function, "__module__", "")
    return f"{module}.{getattr(function, '__qualname__', repr(function))}"


def _came_over_https_to_a_proxy(request: web.Request) -> bool:
    """Only silences a warning: nothing else may be derived from what a client can write."""
    forwarded = request.headers.get("X-Forwarded-Proto", "") + request.headers.get("Forwarded", "")
    return "https" in forwarded.lower()
