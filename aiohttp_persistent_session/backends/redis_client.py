"""What RedisBackend does with a client: it checks one, or the URL for one, and walks through its keys."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from . import drivers
from .drivers import URLFault

RedisClient: TypeAlias = "Redis | RedisCluster"

SCANNED = 1000
"""Keys that one SCAN looks at, about: it keeps the server from others for well under a millisecond."""

# The manager bounds each call in time, which is limit enough: above max_connections, 100 by now, redis-py fails at
# once, and with socket_timeout, 5 s by now, it makes tasks that cost as much again. Over protocol 3 redis-py 8 does not
# look whether the server has closed a connection meanwhile.
OPTIONS: dict[str, Any] = {"max_connections": 2**31, "socket_timeout": None, "protocol": 2}


def checked_url(url: str) -> str:
    """Return the URL.

    Raises:
        ValueError: it is of another scheme, or redis-py refuses it.
    """
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("the URL of RedisBackend must begin with redis://, rediss:// or unix://")
    return drivers.checked_url(url, "RedisBackend", _use)


def _use(url: str) -> None:
    path = urlsplit(url).path
    if url.startswith("unix:") and not path:
        raise URLFault("it names no socket")
    if not url.startswith("unix:") and not re.fullmatch(r"(/[0-9]*)?", path):
        raise URLFault("the database is no number")
    # Made, not connected: so redis-py reads the options.
    pool = Redis.from_url(url, **OPTIONS).connection_pool
    pool.connection_class(**pool.connection_kwargs)


def checked_client(client: RedisClient) -> RedisClient:
    """Return the client.

    Raises:
        ValueError: it reads from replicas, or has another encoding than UTF-8.
    """
    reads_from_replicas = any(getattr(client, name, None) for name in ("read_from_replicas", "load_balancing_strategy"))
    # What Sentinel.slave_for returns.
    if reads_from_replicas or not getattr(getattr(client, "connection_pool", None), "is_master", True):
        raise ValueError("RedisBackend must not read from replicas: what they lack looks like a copied token")
    encoding = client.get_encoder().encoding
    if codecs.lookup(encoding).name != "utf-8":
        raise ValueError(f"RedisBackend needs a client whose encoding is utf-8, not {encoding}")
    return client


async def scan_texts(
    client: RedisClient | Any, prefix: str, errors: AbstractContextManager[None]
) -> AsyncGenerator[list[str], None]:
    """Yield what follows ``prefix`` in the keys of texts, of every master, in pieces of any size; some may come twice.

    Args:
        errors: entered around each command.
    """
    with errors:
        masters: list[Any] = [None]
        if isinstance(client, RedisCluster):
            await client.initialize()
            masters = client.get_primaries()
    match = re.sub(r"([*?\[\]\\])", r"\\\1", prefix) + "*"
    for master in masters:
        where = {} if master is None else {"target_nodes": master}
        cursor: Any = 0
        while True:
            with errors:
                cursor, keys = await client.scan(cursor, match=match, count=SCANNED, _type="string", **where)
            texts = (key.decode(errors="replace") if isinstance(key, bytes) else key for key in keys)
            yield [text[len(prefix) :] for text in texts]
            if not (cursor := cursor if master is None else cursor[master.name]):
                break
