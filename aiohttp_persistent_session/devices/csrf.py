"""Whether a form was sent by this page."""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Any, Protocol
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from multidict import MultiDictProxy

_ALLOWED = {"same-origin", "none"}


class Csrf(Protocol):
    """An app's own tokens against cross-site request forgery."""

    def field(self, request: web.Request) -> tuple[str, str] | Awaitable[tuple[str, str]]:
        """Return the name and the value of a hidden field for each form; it may be a coroutine function."""

    async def check(self, request: web.Request, form: MultiDictProxy[Any]) -> bool:
        """Tell whether a form that was sent holds what :meth:`field` returned."""


class SameOrigin:
    """Takes a form that the browser says comes from this origin; needs no token.

    ``Sec-Fetch-Site`` decides: browsers send it over https and to localhost, and no page can change it. ``none`` is
    what the user did without a page. Where it is missing (plain http, old browsers), the host in ``Origin`` must be the
    request's, or the origin one of ``origins``. A request with neither header is refused. This is what OWASP's
    Cross-Site Request Forgery Prevention Cheat Sheet says of Fetch Metadata, with its fallback.
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        self._origins = frozenset(one.lower() for one in origins)

    def is_from_here(self, request: web.Request) -> bool:
        site = request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in _ALLOWED
        origin = request.headers.get(hdrs.ORIGIN, "").lower()
        return origin in self._origins or host_of(origin) == request.host.lower()


def host_of(origin: str) -> str | None:
    """Return the host and port in an origin; None where there are none, as in ``null``."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return None
    is_origin = parts.scheme in {"http", "https"} and f"{parts.scheme}://{parts.netloc}" == origin
    return parts.netloc if is_origin else None
