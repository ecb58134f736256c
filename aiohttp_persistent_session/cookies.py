"""The cookie: how it is read, set, renewed and deleted."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from multidict import CIMultiDict, istr

from . import caching, options

SameSite: TypeAlias = Literal["Lax", "Strict", "None"]

SET_COOKIE = istr("Set-Cookie")
HOST_PREFIX = "__Host-"
DEFAULT_NAME = "persistent_session"
MAX_VALUES = 16
"""Different values of cookies of our name that are looked at."""

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token of RFC 9110, 5.6.2
_HOST_NAME = re.compile(
    r"\.?(?!\d+(\.\d+)*$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_ATTRIBUTE_VALUE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")  # RFC 6265bis, 4.1.1: no control characters, no semicolon


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """Name and attributes of the cookie. It is always HttpOnly: no script needs the token.

    Raises:
        ValueError, TypeError: for what a browser would refuse or a header cannot carry; the message names the option.
    """

    name: str = None  # type: ignore[assignment]  # it is a str once the object is made
    """The default is ``__Host-persistent_session`` where secure, path and domain allow it: no other host of the domain
    can set a cookie of that name (RFC 6265bis, 4.1.3.2). Elsewhere it is ``persistent_session``."""
    path: str = "/"
    domain: str | None = None
    secure: bool = True
    samesite: SameSite = "Lax"
    partitioned: bool = False
    attributes: str = field(init=False, repr=False, compare=False)
    _pairs: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.name is None:
            prefix = HOST_PREFIX if self.secure and self.path == "/" and self.domain is None else ""
            object.__setattr__(self, "name", prefix + DEFAULT_NAME)
        self._check_types()
        self._check_values()
        self._check_prefix()
        attributes = f"Path={self.path}; HttpOnly; SameSite={self.samesite}"
        if self.domain is not None:
            attributes += f"; Domain={self.domain}"
        if self.secure:
            attributes += "; Secure"
        if self.partitioned:
            attributes += "; Partitioned"
        object.__setattr__(self, "attributes", attributes)
        object.__setattr__(self, "_pairs", re.compile(rf";[ \t]*{re.escape(self.name)}=([^;]*)"))

    def _check_types(self) -> None:
        if self.samesite is None:
            raise TypeError('samesite must be a str, not NoneType: write "Lax", "Strict" or "None" in quotes')
        for option in ("path", "samesite"):
            options.of_type(option, getattr(self, option), str)
        for option in ("secure", "partitioned"):
            options.of_type(option, getattr(self, option), bool)
        options.of_type("cookie_name", self.name, str)
        options.of_type("domain", "" if self.domain is None else self.domain, str)

    def _check_values(self) -> None:
        if not _COOKIE_NAME.fullmatch(self.name) or len(self.name) > 256:
            raise ValueError("cookie_name must be 1 to 256 characters that RFC 6265 allows in a name")
        if not self.path.startswith("/") or not _ATTRIBUTE_VALUE.fullmatch(self.path):
            raise ValueError("path must begin with a slash and hold no semicolon or control character")
        if self.domain is not None and not _HOST_NAME.fullmatch(self.domain):
            raise ValueError("domain must be a host name, as in example.com, or None for the host that sets the cookie")
        options.one_of("samesite", self.samesite, SameSite)
        for option, needs in (("samesite='None'", self.samesite == "None"), ("partitioned", self.partitioned)):
            if needs and not self.secure:
                raise ValueError(f"{option} needs secure=True: browsers refuse it otherwise")

    def _check_prefix(self) -> None:
        # Browsers compare these prefixes without regard to case (RFC 6265bis, 4.1.3).
        name = self.name.lower()
        if name.startswith("__host-") and not (self.secure and self.path == "/" and self.domain is None):
            raise ValueError("cookie_name with the prefix __Host- needs secure=True, path='/' and no domain")
        if name.startswith(("__secure-", "__http-")) and not self.secure:
            raise ValueError("cookie_name with the prefix __Secure- or __Http- needs secure=True")

    def setting(self, value: str, max_age: int | None) -> str:
        """Return the Set-Cookie field that sets the cookie for ``max_age`` seconds, or until the browser is closed."""
        lasting = "" if max_age is None else f"Max-Age={max_age}; "
        return f"{self.name}={value}; {lasting}{self.attributes}"

    @property
    def deletion(self) -> str:
        """The Set-Cookie field that deletes it: with every attribute, or a browser would reject or miss it."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {self.attributes}"

    def read(self, cookie_headers: Sequence[str]) -> list[str]:
        """Return the different values of all cookies of this name, as a browser that wrote the headers meant them.

        Nothing but a semicolon parts two cookies, and nothing but a space or tab is trimmed (RFC 6265bis, 5.8.3): a
        reader that takes ``a=b name=c`` for one of this name lets other cookies pass for it, past any prefix.
        """
        found = [value.strip(" \t") for value in self._pairs.findall(";" + ";".join(cookie_headers))]
        return found if len(found) < 2 else list(dict.fromkeys(found))[:MAX_VALUES]

    def renew(self, value: str, max_age: int, headers: CIMultiDict[str]) -> None:
        """Add the Set-Cookie field that renews the cookie, and keep the response out of shared caches.

        Do nothing where the handler marked the response for them, or sets a cookie of this name itself.
        """
        if SET_COOKIE in headers and is_set(self.name, headers):
            return
        if caching.says_nothing(headers):
            headers.add(caching.CACHE_CONTROL, "private")
        elif caching.is_meant_for_shared_caches(headers):
            return
        else:
            caching.keep_private(headers)
        headers.add(SET_COOKIE, self.setting(value, max_age))

    def put(self, field: str, headers: CIMultiDict[str]) -> None:
        """Make ``field`` the only Set-Cookie field of this name (RFC 6265bis, 4.1.1), out of shared caches."""
        caching.keep_private(headers)
        leave_out(self.name, headers)
        headers.add(SET_COOKIE, field)


def is_set(name: str, headers: CIMultiDict[str]) -> bool:
    """Tell whether a Set-Cookie field of this name is in ``headers``."""
    return SET_COOKIE in headers and any(_name_of(field) == name for field in headers.getall(SET_COOKIE))


def leave_out(name: str, headers: CIMultiDict[str]) -> None:
    """Remove the Set-Cookie fields of this name."""
    if is_set(name, headers):
        others = [field for field in headers.popall(SET_COOKIE) if _name_of(field) != name]
        headers.extend((SET_COOKIE, field) for field in others)


def _name_of(field: str) -> str:
    return field.partition("=")[0].strip()


def is_localhost(host: str) -> bool:
    """Tell whether browsers take ``host`` (a port may follow) for this machine and keep Secure cookies over http."""
    name = re.sub(r":\d+$", "", host).strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
