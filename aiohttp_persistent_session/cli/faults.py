"""How a command ends, and that no error's text shows a password."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from ..backends.drivers import driver_error

FINE, NOT_FOUND, USAGE, FAILED = range(4)
"""The exit codes of commands. NOT_FOUND is also that of a check that found faults."""
INTERRUPTED, NOBODY_READS = 130, 141
"""128 and the number of SIGINT, of SIGPIPE."""

_LONGEST_REASON = 300
_CREDENTIALS = re.compile(r"(?<=://)[^/]*@")
_SECRET_OPTION = re.compile(r"passw|secret|token|passphrase", re.IGNORECASE)
_SECRET_VALUE = re.compile(rf"((?:{_SECRET_OPTION.pattern})[^=&\s]*=)[^&\s'\"]+", re.IGNORECASE)
_NOISE = re.compile(r", Topology Description:|\[SQL:|\(Background on this error|\(configured timeouts:")
"""Where what a driver says of itself begins."""

_MOVED = re.compile(r"\bMOVED \d+ \S+:\d+")


class UsageFault(Exception):
    """The command line asks for what cannot be done, in one line."""


class StoreFault(Exception):
    """The store cannot do what is asked, in one line."""


def passwords(url: str) -> set[str]:
    """Return what is secret in a URL, as it is written there and as it is meant."""
    rest = url.partition("://")[2]
    written = {rest.rpartition("@")[0].partition(":")[2]}
    written |= {value for name, value in parse_qsl(rest.partition("?")[2]) if _SECRET_OPTION.search(name)}
    return {one for password in written for one in (password, unquote(password)) if one}


def hide(text: str, url: str = "") -> str:
    """Return ``text`` without user and password of any URL in it, and without the passwords of ``url``."""
    text = _SECRET_VALUE.sub(r"\1***", _CREDENTIALS.sub("***@", text))
    for password in sorted(passwords(url), key=len, reverse=True):
        text = text.replace(password, "***")
    return text


def reason(error: BaseException) -> str:
    """Return why the store failed, in one line: the driver's words, which may quote a password."""
    cause = driver_error(error)
    if isinstance(cause, TimeoutError) and not str(cause):
        return "no answer in time"
    said = _NOISE.split(" ".join(str(cause).split()), maxsplit=1)[0].strip().rstrip(".,;")
    # By its name, because redis-py need not be installed; redis-py 5 has an error of its own in a pipeline alone.
    if _MOVED.search(said) or "MovedError" in {kind.__name__ for kind in type(cause).__mro__}:
        return "the server is a node of a cluster: pass --cluster"
    return said[:_LONGEST_REASON] or type(cause).__name__
