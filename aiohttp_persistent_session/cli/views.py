"""A record, as people and as programs see it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from ..backends.drivers import user_to_text
from ..options import UNITS, in_words
from ..record import Record, as_datetime
from .arguments import Arguments

Expiry: TypeAlias = Callable[[Record], float]

HEADINGS = ("ID", "SIGNED IN (UTC)", "SEEN (UTC)", "EXPIRES (UTC)", "KEPT", "ADDRESS", "BROWSER")


def expiry(arguments: Arguments) -> Expiry:
    """Return what tells when a record expires: by the options that were given, or as the app wrote."""
    policy = arguments.policy
    return (lambda record: record.expires_at) if policy is None else policy.expires_at


def row(record: Record, expires_at: float) -> tuple[str, ...]:
    """Return a record's cells below :data:`HEADINGS`."""
    times = (_minute(at) for at in (record.created_at, record.seen_at, expires_at))
    return (record.id, *times, "yes" if record.persistent else "no", record.address, record.user_agent)


def pairs(record: Record, expires_at: float) -> list[tuple[str, str]]:
    """Return all that may be shown of a record."""
    left = expires_at - time.time()
    expires = f"in {_about(left)}" if left > 0 else f"expired {_about(-left)} ago"
    return [
        ("id", record.id),
        ("user", user_to_text(record.user)),
        ("signed in", _second(record.created_at)),
        ("last seen", _second(record.seen_at)),
        ("expires", f"{_second(expires_at)} ({expires})"),
        ("lifetime", "the app's" if record.max_age is None else in_words(record.max_age)),
        ("kept", "until it expires" if record.persistent else "until the browser is closed"),
        ("address", record.address),
        ("browser", record.user_agent),
        ("data", record.data),
        ("valid tokens", str(len(record.secrets))),
        ("repeats", str(_repeats(record))),
        ("sessions", str(record.last_session + 1)),
        ("writes", str(record.revision)),
    ]


def values(record: Record, expires_at: float) -> dict[str, Any]:
    """Return the same for programs."""
    return {
        "id": record.id,
        "user": record.user,
        "created_at": _iso(record.created_at),
        "seen_at": _iso(record.seen_at),
        "expires_at": _iso(expires_at),
        "expired": expires_at <= time.time(),
        "persistent": record.persistent,
        "max_age": record.max_age,
        "address": record.address,
        "user_agent": record.user_agent,
        "data": json.loads(record.data),
        "valid_tokens": len(record.secrets),
        "repeats": _repeats(record),
        "sessions": record.last_session + 1,
        "writes": record.revision,
    }


def _about(seconds: float) -> str:
    unit = next((length for _, length in UNITS if seconds >= length), 1)
    return in_words(round(seconds / unit) * unit)


def _repeats(record: Record) -> int:
    return sum(secret.reported for secret in record.secrets)


def _minute(at: float) -> str:
    return f"{as_datetime(at):%Y-%m-%d %H:%M}"


def _second(at: float) -> str:
    return f"{as_datetime(at):%Y-%m-%d %H:%M:%S} UTC"


def _iso(at: float) -> str:
    return as_datetime(at).isoformat(timespec="milliseconds")
