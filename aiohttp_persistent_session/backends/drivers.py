"""What backends share: a driver's errors, records as what a store can hold, and what is wrong with a URL."""

from __future__ import annotations

import logging
import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote

from ..record import Record, Secret, UserId, readable
from .base import BackendError, Batch

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")


class DriverErrors:
    """A context in which an exception becomes a BackendError, chained to it. It may be entered any number of times.

    Args:
        store: the name of the store, for the message.
    """

    def __init__(self, store: str) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Any exception: drivers raise more than their documented errors, and what is stored may be none of ours.
        if isinstance(error, Exception) and not isinstance(error, BackendError):
            raise BackendError(f"{self._store} failed: {type(error).__name__}") from error


def driver_error(error: BaseException) -> BaseException:
    """Return the driver's error that a BackendError is chained to; any other error as it is."""
    while isinstance(error, BackendError) and error.__cause__ is not None:
        error = error.__cause__
    return error


# Records


def readable_ones(read: Callable[[T], Record], stored: Iterable[T]) -> list[Record]:
    """Return what is stored as records. What cannot be read, and so signs nobody in, is left out, with one warning.

    Otherwise one record that somebody has edited by hand would keep all others of its user from being listed and
    revoked.
    """
    found = [_read(read, one) for one in stored]
    failures = [type(one).__name__ for one in found if isinstance(one, Exception)]
    if failures:
        logger.warning("what is stored of %d persistent sessions cannot be read: %s", len(failures), failures[-1])
    return [one for one in found if isinstance(one, Record)]


def batch_of(read: Callable[[T], Record], stored: Mapping[str, T]) -> Batch:
    """Return what is stored, by its ids, as a batch of a scan."""
    found = {id: _read(read, one) for id, one in stored.items()}
    records = [one for one in found.values() if isinstance(one, Record)]
    return Batch(records, [id for id, one in found.items() if isinstance(one, Exception)])


def _read(read: Callable[[T], Record], one: T) -> Record | Exception:
    try:
        return readable(read(one))
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with it
        return error


def user_to_text(user: UserId) -> str:
    """Return a text from which the user's id comes back with its type: ``i:1`` or ``s:1``, whatever its size."""
    return f"i:{user}" if isinstance(user, int) else f"s:{user}"


def user_from_text(text: str) -> UserId:
    """Return the user's id that :func:`user_to_text` wrote."""
    return int(text[2:]) if text.startswith("i:") else text[2:]


_PLAIN_FIELDS = tuple(field.name for field in fields(Record) if field.name not in {"id", "user", "secrets"})
_plain_values = attrgetter(*_PLAIN_FIELDS)


def plain_fields(record: Record) -> dict[str, Any]:
    """Return the fields that a store of text and numbers keeps as they are: all but id, user and secrets."""
    return dict(zip(_PLAIN_FIELDS, _plain_values(record), strict=True))


_all_but_the_digest = attrgetter(*(field.name for field in fields(Secret) if field.name != "digest"))


def secrets_to_json(secrets: tuple[Secret, ...]) -> list[list[Any]]:
    """Return a list of each secret's fields in their order, for JSON, with base64 for the digest."""
    return [[b2a_base64(one.digest, newline=False).decode("ascii"), *_all_but_the_digest(one)] for one in secrets]


def secrets_from_json(secrets: list[list[Any]]) -> tuple[Secret, ...]:
    """Return the secrets that :func:`secrets_to_json` wrote."""
    return tuple(Secret(a2b_base64(digest, strict_mode=True), *rest) for digest, *rest in secrets)


# URLs


class URLFault(ValueError):
    """What is wrong with a URL, in words that quote nothing of it but an option's name."""


def checked_url(url: str, backend: str, use: Callable[[str], object]) -> str:
    """Return the URL.

    Args:
        url: of the store.
        backend: the class that takes it, for the message.
        use: see :func:`check_url`.

    Raises:
        ValueError: the driver refuses it.
    """
    try:
        check_url(url, use)
    except URLFault as fault:
        raise ValueError(f"the URL of {backend} cannot be used: {fault}") from None
    return url


def check_url(url: str, use: Callable[[str], object]) -> None:
    """Raise a URLFault where the driver refuses the URL, or ``use`` itself with a URLFault.

    A driver's own text is not passed on: it tells what cannot be read, which may be the password.
    """
    try:
        use(url)
    except Exception as error:  # noqa: BLE001 -- drivers' exceptions have no common base
        told = str(error) if isinstance(error, URLFault) else _fault_of_options(url, use)
        raise URLFault(fault_of_authority(url) or told or "the driver refuses it") from None


def fault_of_authority(url: str) -> str | None:
    """Say what is wrong with user, password, host or port of a URL that is refused, or None."""
    after_scheme = url.partition("://")[2]
    authority = re.split(r"[/?#]", after_scheme, maxsplit=1)[0]
    user, _, hosts = authority.rpartition("@")
    # A "/", "?" or "#" in the password ends the authority before the "@" that follows the password.
    if "@" in user + after_scheme[len(authority) :] or re.search(r"%(?![0-9A-Fa-f]{2})", user):
        return "percent-encode the user and the password"
    for host in hosts.split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if not re.fullmatch(r"[0-9]*", port):
            return "the port is no number"
        if port and int(port) > 65535:
            return "the port is too high a number"
    return None


def _fault_of_options(url: str, use: Callable[[str], object]) -> str | None:
    before, _, options = url.partition("?")
    for name, value in parse_qsl(options, keep_blank_values=True):
        try:
            use(f"{before}?{quote(name)}={quote(value)}")
        except Exception as error:  # noqa: BLE001 -- drivers' exceptions have no common base
            is_unknown = re.search("unknown option|unexpected keyword", str(error), re.IGNORECASE)
            return f'unknown option "{name}"' if is_unknown else f'the option "{name}" cannot have this value'
    return None
