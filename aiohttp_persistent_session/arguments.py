"""What callers may pass in. What a store could not keep faithfully is refused here, so that all stores refuse alike."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from typing import Any, TypeAlias

from .record import Client, UserId

Duration: TypeAlias = timedelta | float

MAX_USER_BYTES = 1024
MAX_DATA_BYTES = 4096
MAX_USER_AGENT = 256
MAX_ADDRESS = 64


def seconds(option: str, value: Duration, *, at_least: float = 0, at_most: float = math.inf) -> float:
    """Return a duration (timedelta or a number of seconds) in seconds.

    Raises:
        TypeError: it is neither.
        ValueError: it is not finite or out of range. Both name the option.
    """
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise TypeError(f"{option} must be a timedelta or seconds, not {type(value).__name__}")
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(number) or not at_least <= number <= at_most:
        upper = "" if at_most == math.inf else f" and at most {timedelta(seconds=at_most)}"
        raise ValueError(f"{option} must be at least {at_least:g} s{upper}, not {number:g} s (a number is of seconds)")
    return number


def count_or_none(option: str, value: int | None) -> int | None:
    """Return a positive whole number, or None.

    Raises:
        TypeError, ValueError: it is neither; the message names the option.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{option} must be an int or None, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{option} must be at least 1, not {value}")
    return value


def user_id(user: UserId) -> UserId:
    """Return ``user`` if it is an id: an int, or a str of 1 to 1024 bytes in UTF-8 without NUL.

    Raises:
        TypeError: it is of another type; a bool is.
        ValueError: it cannot be stored faithfully everywhere.
    """
    if isinstance(user, bool) or not isinstance(user, str | int):
        raise TypeError(f"user must be the user's id, a str or an int, not {type(user).__name__}")
    if isinstance(user, str):
        if not user or "\0" in user:
            raise ValueError("user must not be empty or hold a NUL character")
        size = len(_utf8("user", user))
    else:
        size = user.bit_length() // 8
    if size > MAX_USER_BYTES:
        raise ValueError(f"user must not exceed {MAX_USER_BYTES} bytes, not {size}")
    # A subclass, an enum's member for one, would not come back from a store as what it was.
    return str.__str__(user) if isinstance(user, str) else int(user)


def json_object(data: dict[str, Any] | None) -> str:
    """Return ``data`` as JSON text of at most 4096 bytes in UTF-8; None is the empty object.

    Raises:
        TypeError: it is not a dict.
        ValueError: it would not come back from JSON equal to what it was, or it is too large.
    """
    if data is None:
        return "{}"
    if not isinstance(data, dict):
        raise TypeError(f"data must be a dict, not {type(data).__name__}")
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        faithful = json.loads(text) == data
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"data must be JSON: {error}") from None
    if not faithful:
        raise ValueError("data must be JSON: with str keys, and lists instead of tuples")
    size = len(_utf8("data", text))
    if size > MAX_DATA_BYTES:
        raise ValueError(f"data must not exceed {MAX_DATA_BYTES} bytes of JSON, not {size}")
    return text


def client(user_agent: str, address: str) -> Client:
    """Return what a request says of its browser, cut to 256 and 64 characters; what is not Unicode becomes "?"."""
    return Client(_printable(user_agent)[:MAX_USER_AGENT], _printable(address)[:MAX_ADDRESS])


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be Unicode text without lone surrogates") from None
