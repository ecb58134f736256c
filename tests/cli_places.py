"""Stores for the tests of the command line: each with its URL and options as they are written there."""

# ruff: noqa: F401 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from aiohttp_persistent_session import Backend
from aiohttp_persistent_session.cli.main import main
from aiohttp_persistent_session.record import Record

from .servers.mongo import MongoStore, mongodb_url
from .servers.postgresql import PostgreSQLStore, SQLiteStore, postgresql_url
from .servers.redis import RedisStore, redis_url

T = TypeVar("T")

CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"


@dataclass
class Place:
    """One test's share of a store."""

    kind: str
    url: str
    store: Any
    options: list[str] = field(default_factory=list)

    def argv(self, *words: str) -> list[str]:
        return ["--backend", self.url, *self.options, *words]

    def use(self, work: Callable[[Backend], Coroutine[Any, Any, T]]) -> T:
        """Do something with a backend on it."""

        async def run() -> T:
            backend = await self.store.backend()
            await backend.open()
            try:
                return await work(backend)
            finally:
                await backend.close()

        return asyncio.run(run())

    def insert(self, *records: Record) -> None:
        async def work(backend: Backend) -> None:
            for record in records:
                await backend.insert(record)

        self.use(work)

    def get(self, id: str) -> Record | None:
        return self.use(lambda backend: backend.get(id))


@dataclass
class Told:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Told]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line in this process."""

    def run(*argv: str) -> Told:
        capsys.readouterr()
        code = main(argv)
        return Told(code, *capsys.readouterr())

    return run


PLACES = ("sqlite", "postgresql", "redis", "mongodb")


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Every store in turn, empty, and opened by an app before."""
    made = make_place(request.param, request, tmp_path)

    async def nothing(_: Backend) -> None:
        pass

    made.use(nothing)
    yield made
    asyncio.run(made.store.clean())


def make_place(kind: str, request: pytest.FixtureRequest, folder: Path) -> Place:
    if kind == "sqlite":
        sqlite = SQLiteStore(folder)
        return Place(kind, sqlite.url, sqlite)
    if kind == "postgresql":
        postgresql = PostgreSQLStore(request.getfixturevalue("postgresql_url"))
        return Place(kind, postgresql.url, postgresql)
    if kind == "redis":
        redis = RedisStore(request.getfixturevalue("redis_url"))
        return Place(kind, redis.url, redis, ["--prefix", redis.prefix])
    mongo = MongoStore(request.getfixturevalue("mongodb_url"))
    return Place(kind, mongo.url, mongo)


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    """A SQLite file that an app has opened before."""
    store = SQLiteStore(tmp_path)
    made = Place("sqlite", store.url, store)
    made.insert()
    return made
