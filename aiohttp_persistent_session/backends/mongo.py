"""Records in MongoDB, one document each, through PyMongo's asyncio API or a Motor collection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import fields
from functools import partial
from typing import Any

try:
    import pymongo
    from bson.datetime_ms import DatetimeMS
    from pymongo.asynchronous.collection import AsyncCollection
    from pymongo.errors import DuplicateKeyError
except ImportError as error:
    hint = 'MongoBackend needs PyMongo 4.13 or newer: pip install "aiohttp-persistent-session[mongo]"'
    raise ImportError(hint) from error

from ..record import Record, Secret, UserId
from ..tasks import end_tasks, spawn
from .base import Backend, BackendError, Batch
from .drivers import DriverErrors, batch_of, readable_ones, user_from_text, user_to_text
from .mongo_client import (
    CODEC,
    READ_CONCERN,
    WRITE_CONCERN,
    check_name,
    checked_url,
    is_asynchronous,
    make_client,
    with_concerns,
)

_INDEXES = [pymongo.IndexModel("expires_at", expireAfterSeconds=0), pymongo.IndexModel("user")]
_TIMES = {"created_at", "seen_at", "expires_at", "issued_last_at", "issued_at", "exchanged_at", "until"}
_RECORD_FIELDS = [field.name for field in fields(Record) if field.name not in {"id", "user", "secrets"}]
_SECRET_FIELDS = [field.name for field in fields(Secret)]
_driver_errors = DriverErrors("MongoDB")
_CLOSES_WITHIN = 2.0
"""Seconds to tell the server that its client goes: one that hangs must not keep a worker from ending."""


class MongoBackend(Backend):
    """Keeps records in a MongoDB collection, which expires them by itself.

    Args:
        url_or_collection: a ``mongodb://`` or ``mongodb+srv://`` URL, or a collection of PyMongo's ``AsyncMongoClient``
            or Motor's ``AsyncIOMotorClient``. The client of a URL is made at :meth:`open` and closed at :meth:`close`;
            it reads from the primary and writes to a majority, whatever the URL says of that. The client of a
            collection stays open; a read or write concern that the collection sets stays, and it is read from the
            primary.
        database: the database's name, where a URL names none.
        collection: the collection's name, where a URL was passed.

    Raises:
        TypeError: ``url_or_collection`` is something else, or a name is no str.
        ValueError: the URL is of another scheme, or PyMongo refuses it; MongoDB takes no such name; or the collection's
            writes are not acknowledged.

    Every method raises a BackendError where MongoDB fails, with PyMongo's exception as its cause.
    """

    def __init__(
        self,
        url_or_collection: str | AsyncCollection[Any] | Any,
        *,
        database: str = "persistent_sessions",
        collection: str = "persistent_sessions",
    ) -> None:
        check_name("database", database, '/\\. "$\0')
        check_name("collection", collection, "$\0")
        self._names = database, collection
        self._url: str | None = None
        self._client: pymongo.AsyncMongoClient[dict[str, Any]] | None = None
        self._collection: AsyncCollection[dict[str, Any]] | None = None
        self._has_indexes = False
        self._running: set[asyncio.Task[Any]] = set()
        if isinstance(url_or_collection, str):
            self._url = checked_url(url_or_collection)
        elif is_asynchronous(url_or_collection):
            self._collection = with_concerns(url_or_collection)
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
                    # Made here, because it belongs to the event loop that runs now.
                    self._client = make_client(self._url)
                    self._collection = self._client.get_default_database(self._names[0]).get_collection(
                        self._names[1], CODEC, pymongo.ReadPreference.PRIMARY, WRITE_CONCERN, READ_CONCERN
                    )
                await self._finish(lambda documents: documents.create_indexes(_INDEXES))
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
            await end_tasks(self._running, _CLOSES_WITHIN)

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

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        found: list[Record] = await self._finish(lambda documents: _of_user(documents, user, limit))
        return found

    async def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        """Walk by ``_id``, a query for each batch: a failover between two of them does not end the walk."""
        after = ""
        while page := await self._finish(partial(_page, after=after, limit=batch)):
            yield batch_of(_from_document, {document["_id"]: document for document in page})
            after = page[-1]["_id"]

    async def purge(self, now: float) -> int:
        """Return 0: the index on ``expires_at`` has the server delete expired documents about once a minute."""
        return 0

    async def _finish(self, call: Callable[[AsyncCollection[dict[str, Any]]], Awaitable[Any]]) -> Any:
        """Await the call in a task of its own, which goes on where its caller is cancelled.

        Cancelled at the moment when it wakes to look for a server, PyMongo leaves its lock locked for good: nothing of
        this client would ever be answered again.
        """

        async def run() -> Any:
            with _driver_errors:
                return await call(self._documents)

        task = spawn(run(), self._running)
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


async def _of_user(documents: AsyncCollection[dict[str, Any]], user: UserId, limit: int) -> list[Record]:
    records: list[Record] = []
    # Without a limit of the query's own, so that documents that cannot be read do not hide those behind them.
    cursor = documents.find({"user": user_to_text(user)}, batch_size=limit)
    try:
        while len(records) < limit and (batch := await cursor.to_list(limit - len(records))):
            records += readable_ones(_from_document, batch)
    finally:
        await cursor.close()
    return records


async def _page(documents: AsyncCollection[dict[str, Any]], after: str, limit: int) -> list[dict[str, Any]]:
    # Texts alone are greater than a text: what has another _id is none of ours, and no other method finds it.
    return await documents.find({"_id": {"$gt": after}}).sort("_id").limit(limit).to_list(limit)


def _to_document(record: Record) -> dict[str, Any]:
    return {
        "_id": record.id,
        "user": user_to_text(record.user),
        **_to_fields(record, _RECORD_FIELDS),
        "secrets": [_to_fields(secret, _SECRET_FIELDS) for secret in record.secrets],
    }


def _from_document(document: dict[str, Any]) -> Record:
    return Record(
        id=document["_id"],
        user=user_from_text(document["user"]),
        secrets=tuple(Secret(**_from_fields(secret, _SECRET_FIELDS)) for secret in document["secrets"]),
        **_from_fields(document, _RECORD_FIELDS),
    )


def _to_fields(shown: Record | Secret, names: list[str]) -> dict[str, Any]:
    return {name: _to_date(getattr(shown, name)) if name in _TIMES else getattr(shown, name) for name in names}


def _from_fields(document: dict[str, Any], names: list[str]) -> dict[str, Any]:
    # What an earlier version has not written is as by default; where there is no default, nothing is read.
    there = [name for name in names if name in document]
    return {name: _from_date(document[name]) if name in _TIMES else document[name] for name in there}


def _to_date(seconds: float | None) -> DatetimeMS | None:
    return None if seconds is None else DatetimeMS(round(seconds * 1000))


def _from_date(date: DatetimeMS | None) -> float | None:
    return None if date is None else int(date) / 1000
