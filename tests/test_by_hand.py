"""What the docs say of looking at records, and deleting them, with a store's own shell."""

from __future__ import annotations

import re
import shlex
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from aiohttp_persistent_session import Backend
from aiohttp_persistent_session.testing import make_record

from .servers.postgresql import PostgreSQLStore, SQLiteStore
from .servers.processes import program
from .servers.redis import RedisStore

DOCS = Path(__file__).parent.parent / "docs"


def statements(beginning: str) -> list[str]:
    """Return the SQL statements of docs/sql.md after the line that begins so."""
    (block,) = re.findall(
        rf"^{re.escape(beginning)}[^\n]*:\n\n((?:    [^\n]*\n)+)", (DOCS / "sql.md").read_text(), re.M
    )
    return [line.strip() for line in block.splitlines()]


async def users(backend: Backend) -> tuple[int, int]:
    """Return how many records alice and bob have."""
    return len(await backend.of_user("alice", 10)), len(await backend.of_user("bob", 10))


async def fill(backend: Backend) -> None:
    """Store two records of alice, and one of bob that expires at once."""
    now = round(time.time(), 3)
    for record in (
        make_record(user="alice", user_agent="Firefox"),
        make_record(user="alice", user_agent="Chrome"),
        make_record(user="bob", created_at=now - 2, seen_at=now - 2, expires_at=now - 1),
    ):
        await backend.insert(record)


async def test_sqlite(tmp_path: Path) -> None:
    """The statements for ``sqlite3`` show who is signed in, sign a user out, and purge."""
    store = SQLiteStore(tmp_path)
    backend = await store.backend()
    await backend.open()
    await fill(backend)
    look, sign_out, purge = statements("In `sqlite3 sessions.db`")
    with sqlite3.connect(store.path, isolation_level=None) as database:
        rows = database.execute(look).fetchall()
        assert {row[3] for row in rows} == {"Firefox", "Chrome"}
        assert all(
            abs(datetime.now(UTC) - datetime.fromisoformat(row[2]).replace(tzinfo=UTC)) < timedelta(minutes=1)
            for row in rows
        )
        database.execute(sign_out)
        assert await users(backend) == (0, 1)
        database.execute(purge)
        assert await users(backend) == (0, 0)
    database.close()
    await store.clean()


@pytest.fixture
async def postgresql(postgresql_url: str) -> AsyncIterator[PostgreSQLStore]:
    store = PostgreSQLStore(postgresql_url)
    yield store
    await store.clean()


async def test_postgresql(postgresql: PostgreSQLStore) -> None:
    """The same for ``psql``."""
    backend = await postgresql.backend()
    await backend.open()
    await fill(backend)
    look, sign_out, purge = statements("In `psql`")
    connection = await asyncpg.connect(postgresql.url)
    rows = await connection.fetch(look)
    assert {row["user_agent"] for row in rows} == {"Firefox", "Chrome"}
    assert all(abs(datetime.now(UTC) - row["to_timestamp"]) < timedelta(minutes=1) for row in rows)
    await connection.execute(sign_out)
    assert await users(backend) == (0, 1)
    await connection.execute(purge)
    assert await users(backend) == (0, 0)
    await connection.close()


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    await store.clean()


async def test_redis(redis_store: RedisStore) -> None:
    """The same for ``redis-cli``."""
    record = make_record(user="alice")
    lines = re.findall(r"^    redis-cli (.*?)  +#", (DOCS / "redis.md").read_text(), re.MULTILINE)

    def run(line: str) -> list[str]:
        line = line.replace("persistent_session:", redis_store.prefix).replace("IBQ6kkpS0Kr8wZYLbYUXFQ", record.id)
        arguments = [program("redis-cli"), "-u", redis_store.url, *shlex.split(line)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=30)
        return done.stdout.splitlines()

    backend = await redis_store.opened()
    await backend.insert(record)
    users, ids, look, delete = lines
    assert run(users) == [f"{redis_store.prefix}user:s:alice"]
    assert run(ids) == [record.id]
    assert '"user":"s:alice"' in run(look)[0]
    assert run(delete) == ["1"]
    assert await backend.of_user("alice", 10) == []
    await backend.close()
