"""The cookies that a browser holds, by a clock that tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http.cookies import BaseCookie, Morsel, SimpleCookie
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

import aiohttp
from aiohttp.abc import AbstractCookieJar, ClearCookiePredicate
from aiohttp.typedefs import LooseCookies
from yarl import URL

_LONGEST = 400 * 24 * 3600
"""Seconds that browsers keep a cookie at most (RFC 6265bis, 5.5)."""

_Key: TypeAlias = tuple[str, str, str]
"""What tells one cookie from another: domain, path and name (RFC 6265, 5.3)."""


class _Set(NamedTuple):
    """How a cookie came into the jar."""

    cookie: Morsel[str]
    url: URL
    expires_at: float | None
    """Seconds since the epoch; None where the browser keeps it until it is closed."""


class BrowserJar(AbstractCookieJar):
    """Keeps cookies as a browser does, and lets them expire by ``clock`` in the place of the system's.

    As browsers do on http://localhost, it sends Secure cookies over plain http; and it takes cookies from a host that
    is an IP address, as a test server's is. It refuses what browsers refuse by the prefixes ``__Host-`` and
    ``__Secure-``. SameSite is of no account: all requests are of the same site.

    Args:
        clock: returns seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._jar = aiohttp.CookieJar(unsafe=True)
        """Knows where cookies belong; it goes by the system's clock, and so is not told of times."""
        self._how: dict[_Key, _Set] = {}

    # What a browser does

    def close_browser(self) -> None:
        """Drop every cookie that has neither Max-Age nor Expires: a browser keeps these until it is closed."""
        self.clear(lambda cookie: self._how[_key(cookie)].expires_at is None)

    def drop(self, *names: str) -> None:
        """Drop the cookies of these names."""
        self.clear(lambda cookie: cookie.key in names)

    def fill(self, jar: BrowserJar) -> None:
        """Take over the cookies of another jar."""
        for cookie in jar:
            self._put(jar._how[_key(cookie)])

    # What a client asks of its jar

    def update_cookies(self, cookies: LooseCookies, response_url: URL = URL()) -> None:  # noqa: B008 -- as aiohttp's
        """Take over the cookies of a response. One that has expired is removed."""
        for name, value in cookies.items() if isinstance(cookies, Mapping) else cookies:
            cookie: Morsel[str] = value.copy() if isinstance(value, Morsel) else _plain(name, str(value))
            domain = cookie["domain"].lower().removeprefix(".")
            cookie["domain"] = "" if domain.endswith(".") else domain  # as browsers take it (RFC 6265, 5.2.3)
            if not cookie["path"].startswith("/"):
                cookie["path"] = response_url.path.rpartition("/")[0] or "/"
            if _is_allowed(cookie):
                self._put(_Set(cookie, response_url, self._expires_at(cookie)))

    def filter_cookies(self, request_url: URL = URL()) -> BaseCookie[str]:  # noqa: B008 -- as aiohttp's
        """Return the cookies that a request carries."""
        self._drop_expired()
        return self._jar.filter_cookies(request_url.with_scheme("https") if request_url.absolute else request_url)

    def clear(self, predicate: ClearCookiePredicate | None = None) -> None:
        """Drop all cookies, or those that ``predicate`` is true of."""
        self._jar.clear(predicate)

    def clear_domain(self, domain: str) -> None:
        """Drop the cookies of a domain and its subdomains."""
        self._jar.clear_domain(domain)

    def __iter__(self) -> Iterator[Morsel[str]]:
        self._drop_expired()
        return iter(self._jar)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def unsafe(self) -> bool:
        """Whether it takes cookies from a host that is an IP address."""
        return True

    @property
    def quote_cookie(self) -> bool:
        """Whether values are quoted that need it."""
        return self._jar.quote_cookie

    @property
    def cookies(self) -> MappingProxyType[tuple[str, str], SimpleCookie]:
        """What it holds, by domain and path."""
        cookies: dict[tuple[str, str], SimpleCookie] = {}
        for cookie in self:
            cookies.setdefault((cookie["domain"], cookie["path"]), SimpleCookie())[cookie.key] = cookie
        return MappingProxyType(cookies)

    @property
    def host_only_cookies(self) -> frozenset[_Key]:
        """Domain, path and name of each cookie that is sent to the host alone that set it."""
        return frozenset(key for key in map(_key, self) if not self._how[key].cookie["domain"])

    # Inside

    def _put(self, how: _Set) -> None:
        cookie = how.cookie.copy()
        is_over = how.expires_at is not None and how.expires_at <= self._clock()
        cookie["max-age"], cookie["expires"] = "0" if is_over else "", ""
        domain = cookie["domain"] or how.url.raw_host or ""
        self._how[domain, cookie["path"], cookie.key] = how
        self._jar.update_cookies({cookie.key: cookie}, how.url)

    def _drop_expired(self) -> None:
        now = self._clock()

        def is_over(cookie: Morsel[str]) -> bool:
            expires_at = self._how[_key(cookie)].expires_at
            return expires_at is not None and expires_at <= now

        self.clear(is_over)

    def _expires_at(self, cookie: Morsel[str]) -> float | None:
        now = self._clock()
        try:
            # Max-Age counts, where both are there (RFC 6265, 5.3).
            left: float = int(cookie["max-age"])
        except ValueError:
            try:
                left = parsedate_to_datetime(cookie["expires"]).timestamp() - now
            except ValueError:
                return None
        # A time that has come stays as it is: rounded up, a deletion would wait for the clock.
        return now if left <= 0 else round(now + min(left, _LONGEST), 3)


def _key(cookie: Morsel[str]) -> _Key:
    return cookie["domain"], cookie["path"], cookie.key


def _plain(name: str, value: str) -> Morsel[str]:
    cookies: SimpleCookie = SimpleCookie()
    cookies[name] = value
    return cookies[name]


def _is_allowed(cookie: Morsel[str]) -> bool:
    """Tell whether browsers take a cookie of this name (RFC 6265bis, 4.1.3)."""
    name = cookie.key.lower()
    if name.startswith("__host-"):
        return bool(cookie["secure"]) and cookie["path"] == "/" and not cookie["domain"]
    return not name.startswith("__secure-") or bool(cookie["secure"])
