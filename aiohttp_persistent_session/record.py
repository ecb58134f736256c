"""What is stored of a persistent session, and what is shown of it.

All times are seconds since the epoch (UTC), in whole milliseconds.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

UserId: TypeAlias = str | int

VERSION = 1
"""The version of a record that this code writes, and the highest that it reads."""

LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999: the latest time that every store can keep."""


@dataclass(frozen=True, slots=True)
class Browser:
    """What a request tells about the browser that sent it."""

    user_agent: str = ""
    """At most 256 characters."""
    address: str = ""
    """At most 64 characters."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that may be presented now: its digest, and what has happened to it. It holds nothing secret itself."""

    digest: bytes = field(repr=False)
    """SHA-256 of the secret, 32 bytes."""
    issued_at: float
    session: int = 0
    """The number of the session that it belongs to; 0 is that of the sign-in."""
    exchanged_at: float | None = None
    """When it was first exchanged or rotated. It never moves."""
    user_agent: str | None = None
    """That of the request whose exchange issued it; None where no exchange did."""
    address: str | None = None
    """Likewise."""
    seen_at: float | None = None
    """When a request of its session was last checked."""
    shown: bool = False
    """Whether it was presented to a check, or exchanged."""
    reported: bool = False
    """Whether ``on_repeat`` was sent for it."""
    until: float | None = None
    """The end of its validity, where a strict exchange set one."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps of one persistent session. Nothing in it is secret; nothing in it signs anybody in."""

    id: str
    """22 characters of base64url; see :attr:`.tokens.Token.id`."""
    user: UserId
    created_at: float
    seen_at: float
    """When it was last written: its expiry counts from here."""
    expires_at: float
    """For the store's own garbage collection; the rules compute the expiry anew from today's options."""
    secrets: tuple[Secret, ...] = field(default=(), repr=False)
    """The valid ones, in the order in which they were issued."""
    last_session: int = 0
    """The highest session number so far."""
    issued_last_at: float | None = None
    """When an exchange or a rotation last issued a secret; a sign-in does not count."""
    persistent: bool = True
    """Whether the browser keeps the cookie when it is closed."""
    max_age: float | None = None
    """A lifetime that this sign-in asked for, in seconds; None for that of the options."""
    user_agent: str = ""
    """The browser's, last seen."""
    address: str = ""
    """Likewise."""
    data: str = "{}"
    """A JSON object, as text."""
    revision: int = 0
    """Counts the writes; a store replaces revision n only by n + 1."""
    version: int = VERSION
    """The format's. A record of a later version is unreadable, and is not deleted for that."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """An exchange from whose token nobody moved on: its answer was lost, or somebody used a copy and left."""

    issued_at: datetime
    """When the token was issued (UTC)."""
    user_agent: str
    """That of the request that it was issued to."""
    address: str
    """Likewise."""
    shown: bool
    """Whether somebody has presented it: then the answer was not lost on its way."""
    used_for: timedelta
    """How long the session that was opened with it was used. More than a minute: somebody did receive the answer."""
    count: int
    """How many such tokens, reported like this one, the record still has."""


@dataclass(frozen=True, slots=True)
class PersistentSession:
    """One browser that stays signed in, as its user, an administrator or an audit log may see it."""

    id: str
    """22 characters. Safe to show, to log, to put into a URL."""
    user: UserId
    created_at: datetime
    """When this browser signed in (UTC)."""
    seen_at: datetime
    """When it was last active (UTC), exact to ``check_interval``."""
    expires_at: datetime
    """When it ends if the browser stays away from now on (UTC)."""
    user_agent: str
    """Last seen; at most 256 characters."""
    address: str
    """Last seen."""
    data: dict[str, Any]
    """What :func:`.remember` was given."""
    persistent: bool = True
    """Whether it outlives closing the browser."""
    current: bool = False
    """Whether it is the one of the browser that asks."""
    reason: str | None = None
    """In ``on_forget`` and ``on_revoke``: why it ended."""
    repeat: Repeat | None = None
    """In ``on_repeat``: the exchange from whose token nobody moved on."""

    @classmethod
    def of(cls, record: Record, expires_at: float, **shown: Any) -> PersistentSession:
        """Return what may be shown of ``record``, which expires at ``expires_at`` by today's options.

        Args:
            shown: ``current``, ``reason`` and ``repeat``, where they are not the defaults.
        """
        same = {name: getattr(record, name) for name in ("id", "user", "user_agent", "address", "persistent")}
        times = {"created_at": record.created_at, "seen_at": record.seen_at, "expires_at": expires_at}
        dates: dict[str, Any] = {name: as_datetime(seconds) for name, seconds in times.items()}
        return cls(**same, **dates, data=json.loads(record.data), **shown)


def as_datetime(seconds: float) -> datetime:
    """Return a time of a record as a datetime in UTC."""
    return datetime.fromtimestamp(min(seconds, LATEST_TIME), UTC)


def same_user(one: object, other: object) -> bool:
    """Tell whether two ids are the same user's: ``1`` and ``"1"`` are not."""
    return type(one) is type(other) and one == other


def is_another_client(record: Record, browser: Browser) -> bool:
    """Tell whether a request's browser is of another family, or in another network, than was seen last.

    A family is the User-Agent without the words that hold digits, so that an update is none; a network is a /24, or a
    /48 for IPv6. An address that was not recorded, or that is none, differs from nothing.
    """
    if (record.user_agent, record.address) == (browser.user_agent, browser.address):
        return False  # parsing addresses costs more than all else that an exchange decides
    agents = {_WITH_DIGITS.sub("", one) for one in (record.user_agent, browser.user_agent)}
    networks = {network_of(one) for one in (record.address, browser.address)} - {""}
    return len(agents) > 1 or len(networks) > 1


_WITH_DIGITS = re.compile(r"[^\s/;:()]*\d[^\s/;:()]*")
_PORT = re.compile(r"^\[(.*)\](?::\d*)?$|^([^:]*):\d*$")


def network_of(address: str) -> str:
    """Return the network of an address, a /24 or a /48 for IPv6, with or without a port; "" for what is no address."""
    address = _PORT.sub(r"\1\2", address.strip()).partition("%")[0]
    try:
        parsed = ipaddress.ip_interface(address).ip
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = parsed.ipv4_mapped or parsed.sixtofour or parsed
    return str(ipaddress.ip_network(f"{parsed}/{24 if parsed.version == 4 else 48}", strict=False))


_KINDS: dict[Any, tuple[type, ...]] = {
    "UserId": (str, int),
    "float": (float, int),
    "float | None": (float, int, type(None)),
    "str | None": (str, type(None)),
    "tuple[Secret, ...]": (tuple,),
} | {kind.__name__: (kind,) for kind in (str, int, bool, bytes)}
"""The types that a field of a record may have, by its annotation."""
_FIELDS = {kind: [(one.name, _KINDS[one.type]) for one in fields(kind)] for kind in (Record, Secret)}


def readable(record: Record) -> Record:
    """Return ``record``, as a store gave it back.

    Raises:
        TypeError, ValueError: it cannot be one of ours, since somebody has edited what is stored; or a later version
            of this library wrote it.
    """
    if record.version != VERSION:
        raise ValueError(f"a record is of version {record.version!r}, and this code reads version {VERSION}")
    for part in (record, *record.secrets):
        if not isinstance(part, Record | Secret):
            raise TypeError("a record's secrets hold something else")
        for name, kinds in _FIELDS[type(part)]:
            if not isinstance(getattr(part, name), kinds):
                raise TypeError(f"a record's {name} is of another type")
    if not all(0 <= at <= LATEST_TIME for at in (record.created_at, record.seen_at, record.expires_at)):
        raise ValueError("a record's time is out of range")
    if record.data != "{}" and not isinstance(json.loads(record.data), dict):
        raise ValueError("a record's data are no JSON object")
    return record
