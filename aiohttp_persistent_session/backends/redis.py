"""Records in Redis 7 or newer: one server, one found by Sentinel, or a cluster."""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
import hashlib
import json
import math
import random
import re
import time
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit

try:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.asyncio.cluster import RedisCluster
    from redis.exceptions import NoScriptError
except ImportError as error:
    raise ImportError('RedisBackend needs redis-py: pip install "aiohttp-persistent-session[redis]"') from error

from ..record import Record, UserId, same_user
from .base import (
    Backend,
    BackendError,
    DriverErrors,
    decode,
    encode,
    read_all,
    spent_from_json,
    spent_to_json,
    user_from_text,
    user_to_text,
)

Client: TypeAlias = "Redis | RedisCluster"

# The manager bounds each call in time, which is limit enough: above max_connections, 100 by now, redis-py fails at
# once, and with socket_timeout, 5 s by now, it makes tasks that cost as much again. And over protocol 3 redis-py 8 does
# not look whether the server has closed a connection meanwhile.
_OPTIONS: dict[str, Any] = {"max_connections": 2**31, "socket_timeout": None, "protocol": 2}

_driver_errors = DriverErrors("Redis")
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_DATABASE = re.compile(r"(/\d*)?")

_DAY = 24 * 3600 * 1000
INDEX_OUTLIVES_RECORD = _DAY
"""Milliseconds for which a user's index outlives its records: it is written no oftener than that, and no more rarely,
so that an entry which was lost (to a failover of another shard, say) comes back with a day's activity."""

_CHUNK = 500
_LOOKED_AT_BY_INSERT = 10
_OPENS_WITHIN = 10.0
_WAITS_FOR_CLOSE = 2.0

PRUNED_AFTER = 3600.0
"""Seconds for which an index entry without a record is left alone: the record may be about to be written."""

# Sets ARGV[2] where revision ARGV[1] is stored.
_SWAP = """
local stored = redis.call('GET', KEYS[1])
if not stored or string.match(stored, '^{"revision":(%d+),') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
return 1
"""
_SWAP_SHA = hashlib.sha1(_SWAP.encode(), usedforsecurity=False).hexdigest()


class RedisBackend(Backend):
    """Keeps each record as JSON under ``<prefix><id>``, and a sorted set of ids under ``<prefix>user:<user>``.

    Every command is about one key, so that a cluster needs no hash tags. Redis expires records and indexes by itself.

    Args:
        url_or_client: ``redis://``, ``rediss://`` or ``unix://``, for a client of its own, closed with the backend; or
            a client, which stays its owner's: ``Redis``, ``Sentinel(...).master_for(...)``, ``RedisCluster``.
        prefix: of all keys.

    Raises:
        TypeError, ValueError: it is none of these, reads from replicas, or has another encoding than UTF-8.
    """

    def __init__(self, url_or_client: str | Client, *, prefix: str = "persistent_session:") -> None:
        self._url: str | None = None
        self._connected: Any = None
        if isinstance(url_or_client, str):
            self._url = _checked_url(url_or_client)
        elif isinstance(url_or_client, Pipeline) or not isinstance(url_or_client, Redis | RedisCluster):
            raise TypeError(
                "RedisBackend takes a URL, a redis.asyncio.Redis or a redis.asyncio.cluster.RedisCluster, "
                f"not {type(url_or_client).__module__}.{type(url_or_client).__qualname__}"
            )
        else:
            self._connected = _checked_client(url_or_client)
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {type(prefix).__name__}")
        self._prefix = prefix

    @property
    def _client(self) -> Any:
        if self._connected is None:
            raise BackendError("the RedisBackend is not open: await its open(), or its manager's")
        return self._connected

    async def open(self) -> None:
        """Connect, and wait for at most 10 s until the server answers. What failed half-way is closed again."""
        if self._url is not None and self._connected is None:
            self._connected = Redis.from_url(self._url, **_OPTIONS)
        try:
            with _driver_errors:
                async with asyncio.timeout(_OPENS_WITHIN):
                    await self._client.ping()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._url is not None and self._connected is not None:
            client, self._connected = self._connected, None
            with _driver_errors:
                async with asyncio.timeout(_WAITS_FOR_CLOSE):
                    await client.aclose()

    async def insert(self, record: Record) -> None:
        with _driver_errors:
            note, entries = await self._index(record)
            text = _json(record, note)
            if not await self._client.set(self._key(record.id), text, nx=True, pxat=_milliseconds(record.expires_at)):
                raise BackendError(f"the id {record.id} exists already")
            # Or the index of one who signs in and never looks would grow without end. Anywhere in it: the oldest may
            # all be alive.
            last = random.randrange(entries + _LOOKED_AT_BY_INSERT)  # noqa: S311 -- no secret
            await self._look_up(self._index_key(record.user), max(0, last - _LOOKED_AT_BY_INSERT + 1), last)

    async def get(self, id: str) -> Record | None:
        with _driver_errors:
            text = await self._client.get(self._key(id))
            return None if text is None else _record(id, text)

    async def replace(self, record: Record) -> bool:
        with _driver_errors:
            if not _is_due(record):
                return await self._swap(record, record.note)
            if isinstance(self._client, RedisCluster):  # other shards, another order
                note, _ = await self._index(record)
                return await self._swap(record, note)
            pipeline = self._client.pipeline(transaction=False)
            note = self._enter(pipeline, record)
            pipeline.evalsha(_SWAP_SHA, *self._swap_arguments(record, note))
            *entered, swapped = await pipeline.execute(raise_on_error=False)
            failures = [answer for answer in entered if isinstance(answer, Exception)]
            if isinstance(swapped, NoScriptError):
                swapped = await self._swap(record, "" if failures else note)
            elif isinstance(swapped, Exception):
                raise swapped
            elif swapped and failures:
                # Or it would be a day before the index is entered again.
                await self._swap(dataclasses.replace(record, revision=record.revision + 1), "")
            if failures:
                raise failures[0]
            return bool(swapped)

    async def delete(self, id: str) -> bool:
        with _driver_errors:
            text = await self._client.getdel(self._key(id))
            if text is None:
                return False
            for record in read_all(partial(_record, id), [text]):
                await self._client.zrem(self._index_key(record.user), id)
            return True

    async def of_user(self, user: UserId) -> list[Record]:
        with _driver_errors:
            found = await self._look_up(self._index_key(user), 0, -1)
        return [record for record in read_all(lambda one: _record(*one), found) if same_user(record.user, user)]

    async def purge(self, now: float) -> int:
        return 0

    async def _swap(self, record: Record, note: str) -> bool:
        arguments = self._swap_arguments(record, note)
        try:
            return bool(await self._client.evalsha(_SWAP_SHA, *arguments))
        except NoScriptError:
            return bool(await self._client.eval(_SWAP, *arguments))

    def _swap_arguments(self, record: Record, note: str) -> tuple[int | str, ...]:
        return (
            1,
            self._key(record.id),
            record.revision - 1,
            _json(record, note),
            _milliseconds(record.expires_at),
        )

    async def _look_up(self, index: str, first: int, last: int) -> list[tuple[str, str | bytes]]:
        """Return ids and texts of the records of these entries; drop the entries without one, unless they are young."""
        entries = await self._client.zrange(index, first, last, withscores=True)
        texts: list[tuple[str, str | bytes]] = []
        for start in range(0, len(entries), _CHUNK):  # so that a long index gets shorter even if time runs out
            chunk = [(_text(id), created) for id, created in entries[start : start + _CHUNK]]
            pipeline = self._client.pipeline(transaction=False)
            for id, _ in chunk:
                pipeline.get(self._key(id))
            found = list(zip(chunk, await pipeline.execute(), strict=True))
            texts += [(id, text) for (id, _), text in found if text is not None]
            old = time.time() - PRUNED_AFTER  # no rule depends on this clock
            if gone := [id for (id, created), text in found if text is None and created < old]:
                await self._client.zrem(index, *gone)
        return texts

    async def _index(self, record: Record) -> tuple[str, int]:
        """Enter the record into its user's index; return the note of it, and how many entries that has."""
        # Where it can be, in one transaction: cut off half-way, the index would have no time to live.
        pipeline = self._client.pipeline(transaction=not isinstance(self._client, RedisCluster))
        note = self._enter(pipeline, record)
        pipeline.zcard(self._index_key(record.user))
        *_, entries = await pipeline.execute()
        return note, entries

    def _enter(self, pipeline: Any, record: Record) -> str:
        """Enter the record into its user's index, and return the note of it: when, and until when that is kept."""
        key, until = self._index_key(record.user), _milliseconds(record.expires_at) + INDEX_OUTLIVES_RECORD
        pipeline.zadd(key, {record.id: record.created_at})
        # Set where there is none, and never shortened: another record of the user may last longer.
        pipeline.pexpireat(key, until, nx=True)
        pipeline.pexpireat(key, until, gt=True)
        return f"{_milliseconds(record.seen_at)} {until}"

    def _key(self, id: str) -> str:
        return f"{self._prefix}{id}"

    def _index_key(self, user: UserId) -> str:
        return f"{self._prefix}user:{user_to_text(user)}"


def _checked_url(url: str) -> str:
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("the URL of RedisBackend must begin with redis://, rediss:// or unix://")
    try:
        # Made, not connected: they tell of an option in the URL that there is not.
        pool = Redis.from_url(url, **_OPTIONS).connection_pool
        pool.connection_class(**pool.connection_kwargs)
        path = urlsplit(url).path
        if not path if url.startswith("unix:") else not _DATABASE.fullmatch(path):
            raise ValueError("the path is no socket's, or no database's number")
    except Exception as error:  # noqa: BLE001 -- redis-py's have no common base
        # Neither quoted nor chained: it tells what it cannot read, which may be the password.
        hint = "the URL of RedisBackend is malformed; is the password percent-encoded, and each option known?"
        raise ValueError(f"{hint} ({type(error).__name__})") from None
    return url


def _checked_client(client: Client) -> Client:
    reads_from_replicas = any(getattr(client, name, None) for name in ("read_from_replicas", "load_balancing_strategy"))
    # What Sentinel.slave_for returns.
    if reads_from_replicas or not getattr(getattr(client, "connection_pool", None), "is_master", True):
        raise ValueError("RedisBackend must not read from replicas: what they lack looks like a copied token")
    encoding = client.get_encoder().encoding
    if codecs.lookup(encoding).name != "utf-8":
        raise ValueError(f"RedisBackend needs a client whose encoding is utf-8, not {encoding}")
    return client


def _is_due(record: Record) -> bool:
    """Tell whether the index is to be entered anew: after a day, or where it might end before the record."""
    at, _, until = record.note.partition(" ")
    return not until or _milliseconds(record.seen_at) >= int(at) + _DAY or _milliseconds(record.expires_at) > int(until)


def _json(record: Record, note: str) -> str:
    fields = {
        "revision": record.revision,  # the first, where the script looks for it
        "indexed": note,  # when, and until when the index is kept, in milliseconds
        "user": user_to_text(record.user),
        "created_at": record.created_at,
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "address": record.address,
        "user_agent": record.user_agent,
        "data": record.data,
        "digest": encode(record.digest),
        "spent": spent_to_json(record.spent),
    }
    return _to_json(fields)


def _record(id: str, text: str | bytes) -> Record:
    fields = json.loads(_text(text))
    return Record(
        id=id,
        user=user_from_text(fields["user"]),
        digest=decode(fields["digest"]),
        created_at=fields["created_at"],
        seen_at=fields["seen_at"],
        expires_at=fields["expires_at"],
        spent=spent_from_json(fields["spent"]),
        user_agent=fields["user_agent"],
        address=fields["address"],
        data=fields["data"],
        revision=fields["revision"],
        note=fields["indexed"],
    )


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _text(raw: str | bytes) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
