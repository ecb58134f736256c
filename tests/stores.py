"""Every store, for the tests that must hold over all of them: those of modules that say ``EVERY_STORE = True``."""

from __future__ import annotations

from typing import Protocol

import pytest

from aiohttp_persistent_session import Backend, MemoryBackend

from .servers.mongo import MongoStore, mongodb_url
from .servers.postgresql import PostgreSQLStore, SQLiteStore, postgresql_url
from .servers.redis import RedisStore, redis_url

__all__ = ("STORES", "MemoryStore", "Store", "make_store", "mongodb_url", "postgresql_url", "redis_url")

STORES = ("memory", "sqlite", "postgresql", "redis", "mongodb")


class Store(Protocol):
    """One test's share of a store."""

    async def backend(self) -> Backend:
        """Return a new backend on it, not open yet."""

    async def clean(self) -> None:
        """Leave nothing behind."""


class MemoryStore:
    def __init__(self) -> None:
        self._backend = MemoryBackend()

    async def backend(self) -> Backend:
        return self._backend

    async def clean(self) -> None:
        pass


def make_store(name: str, request: pytest.FixtureRequest) -> Store:
    """Return one test's share of the store of this name, whose server is started if it is not running."""
    if name == "sqlite":
        return SQLiteStore(request.getfixturevalue("tmp_path"))
    if name == "postgresql":
        return PostgreSQLStore(request.getfixturevalue("postgresql_url"))
    if name == "redis":
        return RedisStore(request.getfixturevalue("redis_url"))
    if name == "mongodb":
        return MongoStore(request.getfixturevalue("mongodb_url"))
    return MemoryStore()
