"""How the cookie is written, deleted, and kept out of shared caches."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from multidict import CIMultiDict, istr

SameSite: TypeAlias = Literal["Lax", "Strict", "None"]

SET_COOKIE = istr("Set-Cookie")
CACHE_CONTROL = istr("Cache-Control")

# Addressed to shared caches, for which they override Cache-Control (RFC 9213: any field ending in -Cache-Control).
_FIELDS_FOR_SHARED_CACHES = frozenset({"surrogate-control", "edge-control", "x-accel-expires"})
_ENDINGS = ("-control", "-expires")  # of the names of all fields that are about shared caches
_LEAVE = ("public", "s-maxage")

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # a token of RFC 9110, 5.6.2
_HOST_NAME = re.compile(
    r"\.?(?!\d+(\.\d+)*$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
)
_ATTRIBUTE_VALUE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")  # RFC 6265bis, 4.1.1: no control characters, no semicolon
_DIRECTIVE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+')  # up to a comma that no quotes enclose
_END_OF_NAME = re.compile(r"[\s=;]")


@dataclass(frozen=True, slots=True)
class CookiePolicy:
    """Name and attributes of the cookie. It is always HttpOnly: no script needs the token.

    Raises:
        ValueError, TypeError: for what a browser would refuse or a header cannot carry; the message names the option.
    """

    name: str = "persistent_session"
    path: str = "/"
    domain: str | None = None
    secure: bool = True
    samesite: SameSite = "Lax"
    partitioned: bool = False
    attributes: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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

    def _check_types(self) -> None:
        for option, value, expected in (
            ("cookie_name", self.name, str),
            ("path", self.path, str),
            ("domain", "" if self.domain is None else self.domain, str),
            ("secure", self.secure, bool),
            ("samesite", self.samesite, str),
            ("partitioned", self.partitioned, bool),
        ):
            if not isinstance(value, expected):
                hint = ': write "Lax", "Strict" or "None" in quotes' if option == "samesite" else ""
                raise TypeError(f"{option} must be a {expected.__name__}, not {type(value).__name__}{hint}")

    def _check_values(self) -> None:
        if not _COOKIE_NAME.fullmatch(self.name) or len(self.name) > 256:
            raise ValueError("cookie_name must be 1 to 256 characters that RFC 6265 allows in a name")
        if not self.path.startswith("/") or not _ATTRIBUTE_VALUE.fullmatch(self.path):
            raise ValueError("path must begin with a slash and hold no semicolon or control character")
        if self.domain is not None and not _HOST_NAME.fullmatch(self.domain):
            raise ValueError("domain must be a host name, as in example.com, or None for the host that sets the cookie")
        if self.samesite not in get_args(SameSite):
            raise ValueError(f"samesite must be one of {', '.join(get_args(SameSite))}")
        if self.samesite == "None" and not self.secure:
            raise ValueError("samesite='None' needs secure=True: browsers refuse it otherwise")
        if self.partitioned and not self.secure:
            raise ValueError("partitioned needs secure=True: browsers refuse it otherwise")

    def _check_prefix(self) -> None:
        # Browsers compare these prefixes without regard to case (RFC 6265bis, 4.1.3).
        name = self.name.lower()
        if name.startswith("__host-") and not (self.secure and self.path == "/" and self.domain is None):
            raise ValueError("cookie_name with the prefix __Host- needs secure=True, path='/' and no domain")
        if name.startswith(("__secure-", "__http-")) and not self.secure:
            raise ValueError("cookie_name with the prefix __Secure- or __Http- needs secure=True")

    def setting(self, value: str, max_age: int) -> str:
        """Return the Set-Cookie field that sets the cookie for ``max_age`` seconds."""
        return f"{self.name}={value}; Max-Age={max_age}; {self.attributes}"

    @property
    def deletion(self) -> str:
        """The Set-Cookie field that deletes it: with every attribute, or a browser would reject or miss it."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {self.attributes}"

    def renew(self, value: str, max_age: int, headers: CIMultiDict[str]) -> None:
        """Add the Set-Cookie field that renews the cookie, and keep the response out of shared caches.

        Do nothing where the handler marked the response for them, or sets a cookie of this name itself.
        """
        if SET_COOKIE not in headers and not _about_caches(headers):
            headers.add(CACHE_CONTROL, "private")  # the way that most responses take
        elif is_meant_for_shared_caches(headers) or self.is_set_in(headers):
            return
        else:
            keep_out_of_shared_caches(headers)
        headers.add(SET_COOKIE, self.setting(value, max_age))

    def is_set_in(self, headers: CIMultiDict[str]) -> bool:
        """Tell whether a Set-Cookie field of this name is in ``headers``."""
        return SET_COOKIE in headers and any(self._names(header) for header in headers.getall(SET_COOKIE))

    def put(self, header: str, headers: CIMultiDict[str]) -> None:
        """Make ``header`` the only Set-Cookie field of this name in ``headers`` (RFC 6265bis, 4.1.1)."""
        if self.is_set_in(headers):
            others = [other for other in headers.popall(SET_COOKIE) if not self._names(other)]
            headers.extend((SET_COOKIE, other) for other in others)
        headers.add(SET_COOKIE, header)

    def _names(self, header: str) -> bool:
        return header.partition("=")[0].strip() == self.name

    def read(self, cookie_headers: Sequence[str]) -> list[str]:
        """Return the values of all cookies of this name, as a browser that wrote the headers meant them.

        Nothing but a semicolon parts two cookies, and nothing but a space or tab is trimmed (RFC 6265bis, 5.8.3):
        whoever takes ``a=b name=c`` or a name with a no-break space for one of this name lets other cookies pass for
        it, against which no prefix helps.
        """
        values = []
        for header in cookie_headers:
            if self.name in header:
                for pair in header.split(";"):
                    if self.name in pair:
                        name, equals, value = pair.partition("=")
                        if equals and name.strip(" \t") == self.name:
                            values.append(value.strip(" \t"))
        return values


def _about_caches(headers: CIMultiDict[str]) -> list[str]:
    return [name for name in headers if name[-8:].lower() in _ENDINGS]


def is_meant_for_shared_caches(headers: CIMultiDict[str]) -> bool:
    """Tell whether the handler marked its response ``public`` or ``s-maxage``, or a field addresses a shared cache."""
    return any(map(_is_for_shared_caches, _about_caches(headers))) or (
        CACHE_CONTROL in headers and any(name in _LEAVE for name, _ in _directives(headers))
    )


def _is_for_shared_caches(name: str) -> bool:
    name = name.lower()
    return name in _FIELDS_FOR_SHARED_CACHES or name.endswith("-cache-control")


def keep_out_of_shared_caches(headers: CIMultiDict[str]) -> None:
    """Add ``private`` where neither it nor ``no-store`` is said, and take back what a shared cache reads as leave.

    Set-Cookie alone does not keep a response out of a cache (RFC 9111, 7.3).
    """
    for addressed in filter(_is_for_shared_caches, _about_caches(headers)):
        headers.popall(addressed, None)
    if CACHE_CONTROL not in headers:
        headers.add(CACHE_CONTROL, "private")
        return
    kept = [(name, text) for name, text in _directives(headers) if name not in _LEAVE]
    # private="Some-Field" restricts that field only; must-understand lets a cache ignore no-store (RFC 9111, 5.2.2).
    enough = {"private"} if ("must-understand", "must-understand") in kept else {"private", "no-store"}
    if not any(text.lower() in enough for _, text in kept):
        kept.append(("private", "private"))
    headers[CACHE_CONTROL] = ", ".join(text for _, text in kept)


def _directives(headers: CIMultiDict[str]) -> Iterable[tuple[str, str]]:
    """Yield each Cache-Control directive as its lower-case name and its whole text."""
    for part in _DIRECTIVE.findall(",".join(headers.getall(CACHE_CONTROL))):
        if text := part.strip():
            yield _END_OF_NAME.split(text, maxsplit=1)[0].lower(), text


def is_localhost(host: str) -> bool:
    """Tell whether browsers take ``host`` (a port may follow) for this machine and keep Secure cookies over http."""
    name = re.sub(r":\d+$", "", host).strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
