"""Records in MongoDB, one document each, through PyMongo's asyncio API or a Motor collection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

try:
    import pymongo
    from bson.codec_options import CodecOptions, DatetimeConversion
    from bson.datetime_ms import DatetimeMS
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.errors import DuplicateKeyError, PyMongoError
    from pymongo.read_concern import ReadConcern
    from pymongo.uri_parser import parse_uri
except ImportError as error:
    hint = 'MongoBackend needs PyMongo 4.13 or newer: pip install "aiohttp-persistent-session[mongo]"'
    raise ImportError(hint) from error

from ..record import Record, Spent, UserId
from .base import Backend, BackendError, DriverErrors, read_all, start, user_from_text, user_to_text

# Journaled, too: a server on its own may otherwise acknowledge what it loses when it is killed.
_WRITE_CONCERN = pymongo.WriteConcern("majority", j=True)
# Not "local": what a request joins must not be rolled back at a failover, or the token that it was handed looks copied.
# It still reads every acknowledged write: a primary acknowledges a majority write once majority reads see it. Not
# "linearizable", a majority's round trip at every read: where a primary that was cut off and does not know it yet takes
# a token for copied, no majority acknowledges the deletion, so nothing comes of it.
_READ_CONCERN = ReadConcern("majority")
# Dates come as whole milliseconds: no time zone to get wrong, no rounding.
_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
_INDEXES = [pymongo.IndexModel("expires_at", expireAfterSeconds=0), pymongo.IndexModel("user")]
_TIMES = ("created_at", "seen_at", "expires_at")
_AS_THEY_ARE = ("digest", "user_agent", "address", "data", "revision")
_LIMITS = {"serverselectiontimeoutms": 1500, "waitqueuetimeoutms": 2000, "sockettimeoutms": 10_000}
"""Milliseconds, where the URL says nothing: a call that nobody waits for any more is to end by itself."""
_driver_errors = DriverErrors("MongoDB")
_CLOSES_WITHIN = 2.0
"""Seconds to tell the server that its client goes: one that hangs must not keep a worker from ending."""


class MongoBackend(Backend):
    """Keeps records in a MongoDB collection, which expires them by itself.

    Args:
        url_or_collection: a ``mongodb://`` or ``mongodb+srv://`` URL: a client is made of it at :meth:`open` and closed
            at :meth:`close`, it reads from the primary and writes to a majority, whatever the URL says of that. Or a
            collection of PyMongo's ``AsyncMongoClient`` or Motor's ``AsyncIOMotorClient``, whose client stays open; a
            read or write concern that it sets stays, and it is read from the primary.
        database: the database's name, where a URL names none.
        collection: the collection's name, where a URL was passed.

    Raises:
        TypeError: ``url_or_collection`` is something else, or a name is no str.
        ValueError: the URL is of another scheme, or malformed; MongoDB takes no such name; or the collection's writes
            are not acknowledged.

    Every method raises a BackendError where MongoDB fails, with PyMongo's exception as its cause.
    """

    def __init__(
        self,
        url_or_collection: str | AsyncCollection[Any] | Any,
        *,
        database: str = "persistent_sessions",
        collection: str = "persistent_sessions",
    ) -> None:
        _check_name("database", database, '/\\. "$\0')
        _check_name("collection", collection, "$\0")
        self._names = database, collection
        self._url: str | None = None
        self._client: pymongo.AsyncMongoClient[dict[str, Any]] | None = None
        self._collection: AsyncCollection[dict[str, Any]] | None = None
        self._has_indexes = False
        self._running: set[asyncio.Task[Any]] = set()
        if isinstance(url_or_collection, str):
            self._url = _checked(url_or_collection)
        elif _is_asynchronous(url_or_collection):
            self._collection = _with_concerns(url_or_collection)
        else:
            kind = f"{type(url_or_collection).__module__}.{type(url_or_collection).__qualname__}"
            expected = "a mongodb:// URL, or a collection of PyMongo's AsyncMongoClient or Motor's AsyncIOMotorClient"
            raise TypeError(f"url_or_collection must be {expected}, not {kind}")

    async def open(self) -> None:
        """Connect, and create the two indexes where they are missing. What failed half-way is closed again."""
        if self._has_indexes:
            return
        try:
            with _driver_errors:
                if self._url is not None and self._client is None:
                    # Not before: it belongs to the event loop that runs now.
                    self._client = _make_client(self._url)
                    self._collection = self._client.get_default_database(self._names[0]).get_collection(
                        self._names[1], _CODEC, pymongo.ReadPreference.PRIMARY, _WRITE_CONCERN, _READ_CONCERN
                    )
                await self._documents.create_indexes(_INDEXES)
                if self._collection is None:
                    raise BackendError("the MongoBackend was closed meanwhile")
        except BaseException:
            await self.close()
            raise
        self._has_indexes = True

    async def close(self) -> None:
        self._has_indexes = False
        client, self._client = self._client, None
        if client is not None:
            self._collection = None
            with _driver_errors, pymongo.timeout(_CLOSES_WITHIN):
                await client.close()
            if self._running:
                _, running = await asyncio.wait(self._running, timeout=_CLOSES_WITHIN)
                for task in running:
                    task.cancel()

    async def insert(self, record: Record) -> None:
        try:
            await self._finish(lambda documents: documents.insert_one(_to_document(record)))
        except BackendError as error:
            if isinstance(error.__cause__, DuplicateKeyError):
                raise BackendError(f"the id {record.id} exists already") from error.__cause__
            raise

    async def get(self, id: str) -> Record | None:
        document = await self._finish(lambda documents: documents.find_one({"_id": id}))
        with _driver_errors:
            return None if document is None else _from_document(document)

    async def replace(self, record: Record) -> bool:
        expected = {"_id": record.id, "revision": record.revision - 1}
        replaced = await self._finish(lambda documents: documents.replace_one(expected, _to_document(record)))
        return bool(replaced.matched_count == 1)

    async def delete(self, id: str) -> bool:
        deleted = await self._finish(lambda documents: documents.delete_one({"_id": id}))
        return bool(deleted.deleted_count == 1)

    async def of_user(self, user: UserId) -> list[Record]:
        found = {"user": user_to_text(user)}
        return read_all(_from_document, await self._finish(lambda documents: documents.find(found).to_list(None)))

    async def purge(self, now: float) -> int:
        """Return 0: the index on ``expires_at`` has the server delete expired documents about once a minute."""
        return 0

    async def _finish(self, call: Callable[[AsyncCollection[dict[str, Any]]], Awaitable[Any]]) -> Any:
        """Await the call in a task of its own, which is not cancelled with whoever waits for it.

        Cancelled at the moment when it wakes to look for a server, PyMongo leaves its lock locked for good: nothing of
        this client would ever be answered again.
        """

        async def run() -> Any:
            with _driver_errors:
                return await call(self._documents)

        task = start(run(), self._running)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise BackendError("the MongoBackend was closed meanwhile") from None
            raise

    @property
    def _documents(self) -> AsyncCollection[dict[str, Any]]:
        if self._collection is None:
            raise BackendError("the MongoBackend is not open: await its open(), or its manager's")
        return self._collection


def _check_name(option: str, name: str, forbidden: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{option} must be a str, not {type(name).__name__}")
    if not name.strip(".") or any(character in name for character in forbidden):
        raise ValueError(f"{option} {name!r} is no name that MongoDB takes")


def _checked(url: str) -> str:
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("the URL must begin with mongodb:// or mongodb+srv://")
    try:
        nodes = _parsed(url)["nodelist"]
        if url.startswith("mongodb+srv:") and (len(nodes) != 1 or urlsplit(url).port is not None):
            raise ValueError("one host, whose ports the DNS tells")
    except (PyMongoError, ValueError) as error:
        # Neither quoted nor chained: PyMongo tells what it cannot read, which may be the password.
        hint = "are user and password percent-encoded, and each option known?"
        text = f"the MongoDB URL is malformed ({type(error).__name__}); {hint}"
        raise ValueError(text) from None
    return url


def _parsed(url: str) -> dict[str, Any]:
    # The other kind cannot be resolved without asking the DNS, but is written alike.
    return parse_uri(url.replace("mongodb+srv://", "mongodb://", 1))


def _make_client(url: str) -> pymongo.AsyncMongoClient[dict[str, Any]]:
    try:
        given = {option.lower() for option in _parsed(url)["options"]}
        limits: dict[str, Any] = {name: limit for name, limit in _LIMITS.items() if not given & {name, "timeoutms"}}
        return pymongo.AsyncMongoClient(url, **limits)
    except (PyMongoError, ValueError) as error:
        raise BackendError(f"the MongoDB URL cannot be used ({type(error).__name__})") from None


def _with_concerns(collection: AsyncCollection[Any]) -> AsyncCollection[dict[str, Any]]:
    written = _WRITE_CONCERN if collection.write_concern.is_server_default else collection.write_concern
    if not written.acknowledged:
        raise ValueError("the collection's write concern must be acknowledged: w=0 does not tell who won a swap")
    # A majority has not yet what one member acknowledged: read so, an honest token would look like a copied one.
    is_read_by_majority = collection.read_concern.level is None and written.document.get("w") == "majority"
    return collection.with_options(
        codec_options=_CODEC,
        read_preference=pymongo.ReadPreference.PRIMARY,
        write_concern=written,
        read_concern=_READ_CONCERN if is_read_by_majority else None,
    )


def _is_asynchronous(collection: object) -> bool:
    # By name, so that Motor need not be installed; not by its methods, as Motor's clients have every attribute.
    names = {(kind.__module__, kind.__name__) for kind in type(collection).__mro__}
    return isinstance(collection, AsyncCollection) or ("motor.motor_asyncio", "AsyncIOMotorCollection") in names


def _to_document(record: Record) -> dict[str, Any]:
    return {
        "_id": record.id,
        "user": user_to_text(record.user),
        **{name: _to_date(getattr(record, name)) for name in _TIMES},
        **{name: getattr(record, name) for name in _AS_THEY_ARE},
        "spent": [{"digest": one.digest, "salt": one.salt, "at": _to_date(one.at)} for one in record.spent],
    }


def _from_document(document: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {name: document[name] for name in _AS_THEY_ARE}
    fields |= {name: _from_date(document[name]) for name in _TIMES}
    fields["spent"] = tuple(Spent(one["digest"], one["salt"], _from_date(one["at"])) for one in document["spent"])
    return Record(id=document["_id"], user=user_from_text(document["user"]), **fields)


def _to_date(seconds: float) -> DatetimeMS:
    return DatetimeMS(round(seconds * 1000))


def _from_date(date: DatetimeMS) -> float:
    return int(date) / 1000
