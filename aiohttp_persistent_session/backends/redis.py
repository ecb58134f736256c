"""Records in Redis 7 or newer: one server, one found by Sentinel, or a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

try:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.asyncio.cluster import RedisCluster
    from redis.exceptions import NoScriptError
except ImportError as error:
    raise ImportError('RedisBackend needs redis-py: pip install "aiohttp-persistent-session[redis]"') from error

from ..record import Record, UserId, same_user
from ..tokens import is_id
from .base import Backend, BackendError, Batch
from .drivers import (
    DriverErrors,
    batch_of,
    plain_fields,
    readable_ones,
    secrets_from_json,
    secrets_to_json,
    user_from_text,
    user_to_text,
)
from .redis_client import OPTIONS, RedisClient, checked_client, checked_url, scan_texts

_driver_errors = DriverErrors("Redis")
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

INDEX_OUTLIVES_RECORD = 7 * 24 * 3600 * 1000
"""Milliseconds for which a user's index outlives a record as it was when it was entered. A record that is renewed is
entered again when this is used up, about once a week: so an entry that was lost, to a failover of another shard for
one, comes back with a week's activity."""

CHUNK = 100
"""Index entries that are read at once, about: Redis may tell some more."""
PRUNED_AFTER = 3600.0
"""Seconds for which an index entry without a record is left alone: the record may be about to be written."""

_LOOKED_AT_BY_INSERT = 10
_OPENS_WITHIN = 10.0
_CLOSES_WITHIN = 2.0

# A record's text begins with its revision and with the time until which its user's index is kept, which this script
# alone reads. Arguments: the revision before, that after, the rest of the text, when the record expires, and, where
# the record was just entered into the index, until when that is kept now. It answers -1, and does nothing, where the
# index must be entered first.
_SWAP = """
local stored = redis.call('GET', KEYS[1])
if not stored then return 0 end
local revision, indexed = string.match(stored, '^{"revision":(%d+),"indexed":(%d+),')
if revision ~= ARGV[1] then return 0 end
indexed = ARGV[5] or indexed
if tonumber(indexed) < tonumber(ARGV[4]) then return -1 end
local text = '{"revision":' .. ARGV[2] .. ',"indexed":' .. indexed .. ',' .. ARGV[3]
redis.call('SET', KEYS[1], text, 'PXAT', ARGV[4])
return 1
"""
_SWAP_SHA = hashlib.sha1(_SWAP.encode(), usedforsecurity=False).hexdigest()
_MUST_BE_INDEXED = -1


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

    def __init__(self, url_or_client: str | RedisClient, *, prefix: str = "persistent_session:") -> None:
        self._url: str | None = None
        self._connected: Any = None
        if isinstance(url_or_client, str):
            self._url = checked_url(url_or_client)
        elif isinstance(url_or_client, Pipeline) or not isinstance(url_or_client, Redis | RedisCluster):
            raise TypeError(
                "RedisBackend takes a URL, a redis.asyncio.Redis or a redis.asyncio.cluster.RedisCluster, "
                f"not {type(url_or_client).__module__}.{type(url_or_client).__qualname__}"
            )
        else:
            self._connected = checked_client(url_or_client)
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
            self._connected = Redis.from_url(self._url, **OPTIONS)
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
                async with asyncio.timeout(_CLOSES_WITHIN):
                    await client.aclose()

    async def insert(self, record: Record) -> None:
        with _driver_errors:
            indexed, entries = await self._index(record)
            text = f'{{"revision":{record.revision},"indexed":{indexed},{_json(record)}'
            if not await self._client.set(self._key(record.id), text, nx=True, pxat=_milliseconds(record.expires_at)):
                raise BackendError(f"the id {record.id} exists already")
            # The index of a user who signs in and never lists would grow without end. Any part of it is looked at,
            # because the oldest entries may all be alive.
            last = random.randrange(entries + _LOOKED_AT_BY_INSERT)  # noqa: S311 -- no secret
            index = self._index_key(user_to_text(record.user))
            first = max(0, last - _LOOKED_AT_BY_INSERT + 1)
            await self._look_up(index, await self._client.zrange(index, first, last, withscores=True))

    async def get(self, id: str) -> Record | None:
        with _driver_errors:
            text = await self._client.get(self._key(id))
            return None if text is None else _record(id, text)

    async def replace(self, record: Record) -> bool:
        swap = (
            1,
            self._key(record.id),
            record.revision - 1,
            record.revision,
            _json(record),
            _milliseconds(record.expires_at),
        )
        with _driver_errors:
            answer = await self._run_swap(*swap)
            if answer == _MUST_BE_INDEXED:
                indexed, _ = await self._index(record)
                answer = await self._run_swap(*swap, indexed)
            return answer == 1

    async def delete(self, id: str) -> bool:
        with _driver_errors:
            text = await self._client.getdel(self._key(id))
            if text is None:
                return False
            # What cannot be read is deleted all the same; its entry is dropped when the index is read.
            with contextlib.suppress(ValueError, TypeError, KeyError):
                await self._client.zrem(self._index_key(json.loads(_text(text))["user"]), id)
            return True

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        index, records, cursor = self._index_key(user_to_text(user)), dict[str, Record](), 0
        with _driver_errors:
            while len(records) < limit:
                # ZSCAN tells every entry that stays, whatever others remove meanwhile; some it may tell twice.
                cursor, entries = await self._client.zscan(index, cursor, count=CHUNK)
                found = readable_ones(lambda one: _record(*one), await self._look_up(index, entries))
                records |= {record.id: record for record in found if same_user(record.user, user)}
                if not cursor:
                    break
        return list(records.values())[:limit]

    async def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        """Walk through all keys of the database, those of others too. It may tell a record twice, and in a cluster it
        misses those that are moved to another node meanwhile."""
        ids: list[str] = []
        async with contextlib.aclosing(scan_texts(self._client, self._prefix, _driver_errors)) as pages:
            async for page in pages:
                ids = list(dict.fromkeys([*ids, *filter(is_id, page)]))
                if len(ids) < batch:
                    yield Batch([], [])  # a sign of life, where most keys are others'
                while len(ids) >= batch:
                    yield await self._read(ids[:batch])
                    del ids[:batch]
        if ids:
            yield await self._read(ids)

    async def purge(self, now: float) -> int:
        """Return 0: Redis deletes expired records by itself."""
        return 0

    async def _run_swap(self, *arguments: int | str) -> int:
        try:
            return int(await self._client.evalsha(_SWAP_SHA, *arguments))
        except NoScriptError:
            return int(await self._client.eval(_SWAP, *arguments))

    async def _look_up(self, index: str, entries: Sequence[tuple[Any, float]]) -> list[tuple[str, str | bytes]]:
        """Return ids and texts of these entries' records; drop the entries without one, unless they are young."""
        if not entries:
            return []
        ids = [_text(id) for id, _ in entries]
        texts = await self._texts(ids)
        old = time.time() - PRUNED_AFTER  # no rule goes by this clock
        if gone := [id for id, (_, entered) in zip(ids, entries, strict=True) if texts[id] is None and entered < old]:
            await self._client.zrem(index, *gone)
        return [(id, text) for id, text in texts.items() if text is not None]

    async def _texts(self, ids: Sequence[str]) -> dict[str, str | bytes | None]:
        pipeline = self._client.pipeline(transaction=False)
        for id in ids:
            pipeline.get(self._key(id))
        return dict(zip(ids, await pipeline.execute(), strict=True))

    async def _read(self, ids: Sequence[str]) -> Batch:
        with _driver_errors:
            texts = await self._texts(ids)
        return batch_of(lambda one: _record(*one), {id: (id, text) for id, text in texts.items() if text is not None})

    async def _index(self, record: Record) -> tuple[int, int]:
        """Enter the record into its user's index; return until when that is kept, and how many entries it has."""
        # In one transaction where it can be, because an index that is cut off half-way would have no time to live.
        pipeline = self._client.pipeline(transaction=not isinstance(self._client, RedisCluster))
        key = self._index_key(user_to_text(record.user))
        until = _milliseconds(record.expires_at) + INDEX_OUTLIVES_RECORD
        pipeline.zadd(key, {record.id: record.seen_at})
        # Set where there is none, and never shortened: another record of the user may last longer.
        pipeline.pexpireat(key, until, nx=True)
        pipeline.pexpireat(key, until, gt=True)
        pipeline.zcard(key)
        *_, entries = await pipeline.execute()
        return until, entries

    def _key(self, id: str) -> str:
        return f"{self._prefix}{id}"

    def _index_key(self, user: str) -> str:
        return f"{self._prefix}user:{user}"


def _json(record: Record) -> str:
    """Return the record's text without its beginning: see :data:`_SWAP`."""
    fields = {"user": user_to_text(record.user), **plain_fields(record), "secrets": secrets_to_json(record.secrets)}
    del fields["revision"]
    return _to_json(fields)[1:]


def _record(id: str, text: str | bytes) -> Record:
    fields = json.loads(_text(text))
    del fields["indexed"]
    fields |= {"user": user_from_text(fields["user"]), "secrets": secrets_from_json(fields["secrets"])}
    return Record(id=id, **fields)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _text(raw: str | bytes) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
