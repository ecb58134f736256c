"""What MongoBackend asks of a URL, a client and a collection: which there may be, and how they read and write."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pymongo
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from . import drivers
from .base import BackendError
from .drivers import URLFault

# Journaled, too: a server on its own may otherwise acknowledge what it loses when it is killed.
WRITE_CONCERN = pymongo.WriteConcern("majority", j=True)
# "local" might read what a failover rolls back, and a request would be judged by it. "majority" still reads every
# acknowledged write, because a primary acknowledges a majority write once majority reads see it. "linearizable" would
# cost a majority's round trip at every read, for nothing: where a primary that was cut off, and does not know it yet,
# takes a token for copied, no majority acknowledges the deletion.
READ_CONCERN = ReadConcern("majority")
# Dates come as whole milliseconds: no time zone to get wrong, no rounding.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_LIMITS = {"serverselectiontimeoutms": 1500, "waitqueuetimeoutms": 2000, "sockettimeoutms": 10_000}
"""Milliseconds, where the URL says nothing: a call that nobody waits for any more is to end by itself."""


def check_name(option: str, name: str, forbidden: str) -> None:
    """Raise a TypeError or ValueError where MongoDB takes no such name; it names the option."""
    if not isinstance(name, str):
        raise TypeError(f"{option} must be a str, not {type(name).__name__}")
    if not name.strip(".") or any(character in name for character in forbidden):
        raise ValueError(f"{option} {name!r} is no name that MongoDB takes")


def checked_url(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it is of another scheme, or PyMongo refuses it.
    """
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("the URL of MongoBackend must begin with mongodb:// or mongodb+srv://")
    return drivers.checked_url(url, "MongoBackend", _use)


def _use(url: str) -> None:
    # What mongodb+srv:// names cannot be resolved without asking the DNS, but it is written alike.
    resolved = url.replace("mongodb+srv://", "mongodb://", 1)
    hosts = parse_uri(resolved)["nodelist"]
    if resolved != url and (len(hosts) != 1 or urlsplit(url).port is not None):
        raise URLFault("mongodb+srv:// takes one host and no port, which the DNS tells")
    # Made, not connected: so PyMongo reads what the options say together.
    pymongo.AsyncMongoClient(resolved, connect=False)


def make_client(url: str) -> pymongo.AsyncMongoClient[dict[str, Any]]:
    """Return a client of a checked URL, with limits in time where the URL says nothing of them."""
    given = {option.lower() for option in parse_uri(url.replace("mongodb+srv://", "mongodb://", 1))["options"]}
    limits: dict[str, Any] = {name: limit for name, limit in _LIMITS.items() if not given & {name, "timeoutms"}}
    try:
        return pymongo.AsyncMongoClient(url, **limits)
    except (PyMongoError, ValueError) as error:
        # The DNS does not know the host of mongodb+srv://. The cause is not chained, because it may hold the password.
        raise BackendError(f"the MongoDB URL cannot be used ({type(error).__name__})") from None


def with_concerns(collection: AsyncCollection[Any]) -> AsyncCollection[dict[str, Any]]:
    """Return the collection, written to a majority and read by one where it says nothing else; from the primary.

    Raises:
        ValueError: its writes are not acknowledged.
    """
    written = WRITE_CONCERN if collection.write_concern.is_server_default else collection.write_concern
    if not written.acknowledged:
        raise ValueError("the collection's write concern must be acknowledged: w=0 does not tell who won a swap")
    # A majority has not yet what one member acknowledged: read so, an honest token would look like a copied one.
    is_read_by_majority = collection.read_concern.level is None and written.document.get("w") == "majority"
    return collection.with_options(
        codec_options=CODEC,
        read_preference=pymongo.ReadPreference.PRIMARY,
        write_concern=written,
        read_concern=READ_CONCERN if is_read_by_majority else None,
    )


def is_asynchronous(collection: object) -> bool:
    """Tell whether it is a collection of PyMongo's AsyncMongoClient, or of Motor's client."""
    # By name, so that Motor need not be installed; not by its methods, as Motor's clients have every attribute.
    names = {(kind.__module__, kind.__name__) for kind in type(collection).__mro__}
    return isinstance(collection, AsyncCollection) or ("motor.motor_asyncio", "AsyncIOMotorCollection") in names
