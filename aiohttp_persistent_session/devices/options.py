"""What an app may say of the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

from aiohttp import web
from multidict import MultiDictProxy

from ..options import Duration, of_type, seconds
from ..record import UserId
from .csrf import Csrf, SameOrigin, host_of
from .texts import Texts

Confirm: TypeAlias = Callable[[web.Request, UserId, str], Awaitable[bool]]
"""The app's check of a password that was typed."""


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """Those of :func:`.setup`, which says what each means."""

    csrf: Csrf | None
    confirm: Confirm | None
    fresh_within: Duration | None
    login_url: str | None
    texts: Texts | Callable[[web.Request], Texts]
    template: str | None
    origins: tuple[str, ...]

    def __post_init__(self) -> None:
        self._check_hooks()
        if self.fresh_within is not None:
            seconds("fresh_within", self.fresh_within)
        if self.login_url is not None:
            of_type("login_url", self.login_url, str)
        if self.template is not None:
            of_type("template", self.template, str)
            if find_spec("aiohttp_jinja2") is None:
                raise ImportError("template needs aiohttp_jinja2, which renders it: pip install aiohttp-jinja2")
        for origin in self.origins:
            if host_of(of_type("origins", origin, str).lower()) is None:
                raise ValueError(f'origins must be like "https://example.org", not {origin!r}')

    def _check_hooks(self) -> None:
        if self.csrf is not None and not (hasattr(self.csrf, "field") and hasattr(self.csrf, "check")):
            raise TypeError("csrf must have field(request) and check(request, form)")
        if self.confirm is not None and not callable(self.confirm):
            raise TypeError("confirm must be a coroutine function of a request, a user and a password")
        if not callable(self.texts):
            of_type("texts", self.texts, Texts)

    def texts_for(self, request: web.Request) -> Texts:
        return self.texts(request) if callable(self.texts) else self.texts

    async def was_sent_by_the_page(self, request: web.Request, form: MultiDictProxy[Any]) -> bool:
        if self.csrf is None:
            return SameOrigin(self.origins).is_from_here(request)
        return await self.csrf.check(request, form) is True  # what forgot to await would be true
