"""What callers may pass in. What a store could not keep faithfully is refused here, so that all stores refuse alike."""

from __future__ import annotations

import inspect
import json
import math
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, get_args

from .policy import Policy
from .record import Browser, UserId, network_of

T = TypeVar("T")
Duration: TypeAlias = timedelta | float
RecordAddress: TypeAlias = Literal["full", "network", "none"]

LONGEST_MAX_AGE = 400 * 24 * 3600
"""Seconds for which browsers keep a cookie at most (RFC 6265bis, 5.5)."""

LONGEST_GRACE_PERIOD = 3600.0
LONGEST_TIMEOUT = 300.0
"""Seconds. Callers who want more have probably written milliseconds: a copied token joins unnoticed as long as that."""

LOOKS_OF_A_LIFETIME = 10
"""Times ``check_interval`` that a sign-in's own lifetime lasts at least."""

UNITS = (("day", 86400), ("hour", 3600), ("minute", 60))
"""What durations are told in, and how many seconds each has: the longest first."""

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
    try:
        number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not at_least <= number <= at_most:
        limits = f"at least {in_words(at_least)}" + (f" and at most {in_words(at_most)}" if at_most < math.inf else "")
        raise ValueError(f"{option} must be {limits}, not {in_words(number)} (a number counts seconds)")
    return number


def in_words(seconds: float) -> str:
    """Return a duration as a person says it: ``30 days``, ``1.5 hours``, ``86401 s``."""
    for unit, length in UNITS:
        number = round(seconds / length, 1) if math.isfinite(seconds) else 0
        # A number that is whole only when it is rounded would be taken for the limit that it misses.
        if abs(number) >= 1 and (number % 1 or number * length == seconds):
            return f"{number:g} {unit}" + ("" if number == 1 else "s")
    return f"{seconds:.10g} s"


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


def browser(user_agent: str, address: str) -> Browser:
    """Return what a request says of its browser, cut to 256 and 64 characters; what is not Unicode becomes "?"."""
    return Browser(_printable(user_agent)[:MAX_USER_AGENT], _printable(address)[:MAX_ADDRESS])


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{what} must be Unicode text without lone surrogates") from None


def address(text: str, recorded: RecordAddress) -> str:
    """Return what is recorded of a client's address: itself, its network (/24, or /48 for IPv6), or nothing."""
    if recorded == "full":
        return text
    return network_of(text) if recorded == "network" else ""


def lifetime(max_age: Duration | None, policy: Policy) -> float | None:
    """Return what one sign-in asks for, in seconds.

    Raises:
        TypeError, ValueError: it is out of range.
    """
    if max_age is None:
        return None
    # The cookie is renewed with each look: a lifetime of a few of these would be cut short by much.
    shortest = max(1, policy.grace_period, LOOKS_OF_A_LIFETIME * policy.check_interval)
    return seconds("max_age", max_age, at_least=shortest, at_most=policy.max_age)


class Durations(TypedDict, total=False):
    """The options of :func:`.setup` that the rules go by; their defaults are those of :class:`.policy.Policy`."""

    max_age: Duration
    grace_period: Duration
    check_interval: Duration
    rotate_interval: Duration | None
    strict: bool
    max_lifetime: Duration | None
    browser_session_max_age: Duration


_AT_LEAST = {"max_age": 1, "rotate_interval": 60, "max_lifetime": 1, "browser_session_max_age": 1}
_AT_MOST = {
    "max_age": LONGEST_MAX_AGE,
    "grace_period": LONGEST_GRACE_PERIOD,
    "browser_session_max_age": LONGEST_MAX_AGE,
}
_MAY_BE_NONE = ("rotate_interval", "max_lifetime")


def policy(durations: Durations) -> Policy:
    """Return the durations that the rules go by.

    Raises:
        TypeError, ValueError: an option is of the wrong type or out of range; the message names it.
    """
    options: dict[str, Any] = dict(durations)
    of_type("strict", options.get("strict", False), bool)
    for name, value in options.items():
        if name != "strict" and not (value is None and name in _MAY_BE_NONE):
            at_least, at_most = _AT_LEAST.get(name, 0), _AT_MOST.get(name, math.inf)
            options[name] = seconds(name, value, at_least=at_least, at_most=at_most)
    checked = Policy(**options)
    for option in ("grace_period", "check_interval"):
        if getattr(checked, option) > checked.max_age:
            value, limit = in_words(getattr(checked, option)), in_words(checked.max_age)
            raise ValueError(f"{option} ({value}) must not exceed max_age ({limit})")
    return checked


def of_type(option: str, value: T, kind: type) -> T:
    """Return ``value``.

    Raises:
        TypeError: it is no ``kind``; the message names the option.
    """
    if not isinstance(value, kind):
        article = "an" if kind.__name__[0].lower() in "aio" else "a"
        raise TypeError(f"{option} must be {article} {kind.__name__}, not {type(value).__name__}")
    return value


def one_of(option: str, value: T, choices: Any) -> T:
    """Return ``value`` if it is one of the texts of a Literal.

    Raises:
        TypeError, ValueError: it is not; the message names the option.
    """
    if of_type(option, value, str) not in get_args(choices):
        raise ValueError(f"{option} must be one of {', '.join(get_args(choices))}")
    return value


def call_timeout(timeout: Duration) -> float:
    """Return how long one run of calls of the store may take, in seconds.

    Raises:
        TypeError, ValueError: it is out of range.
    """
    checked = seconds("timeout", timeout, at_most=LONGEST_TIMEOUT)
    if checked == 0:
        raise ValueError("timeout must be more than 0")
    return checked


def takes_two(function: Any) -> bool:
    """Tell whether ``function`` can be called with two arguments, as far as it tells."""
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # a built-in that tells nothing of itself
        return True
    return True
