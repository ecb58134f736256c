"""SQLBackend over SQLite and a real PostgreSQL: the contract, many at once, faults, and what is at rest."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters
# ruff: noqa: S608 -- the table's name is ours

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
import traceback
from asyncio.subprocess import PIPE
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aiohttp_persistent_session import BackendError, PersistentSessionManager
from aiohttp_persistent_session.backends.sql import SQLBackend, persistent_sessions_table
from aiohttp_persistent_session.testing import BackendContract, make_record

from .exchanges import restore, sign_in
from .servers.postgresql import (
    PostgreSQL,
    PostgreSQLStore,
    SQLiteStore,
    postgresql_server,
    postgresql_url,
)

Store: TypeAlias = PostgreSQLStore | SQLiteStore

KILLS_SERVERS = True


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store
    if request.param == "sqlite":
        store = SQLiteStore(tmp_path)
    else:
        store = PostgreSQLStore(request.getfixturevalue("postgresql_url"))
    yield store
    await store.clean()


async def run(backend: SQLBackend, statement: str) -> list[tuple[Any, ...]]:
    async with backend._engine.connect() as connection:
        result = await connection.execute(sa.text(statement))
        return [tuple(row) for row in result] if result.returns_rows else []


class TestSQLiteFile(BackendContract):
    @pytest.fixture
    async def backend(self, tmp_path: Path) -> AsyncIterator[SQLBackend]:
        store = SQLiteStore(tmp_path)
        backend = await store.backend()
        await backend.open()
        yield backend
        await store.clean()


class TestSQLiteInMemory(BackendContract):
    @pytest.fixture
    async def backend(self) -> AsyncIterator[SQLBackend]:
        backend = SQLBackend("sqlite://")
        await backend.open()
        yield backend
        await backend.close()


class TestPostgreSQL(BackendContract):
    @pytest.fixture
    async def backend(self, postgresql_url: str) -> AsyncIterator[SQLBackend]:
        store = PostgreSQLStore(postgresql_url)
        backend = await store.backend()
        await backend.open()
        yield backend
        await store.clean()


class TestPassedEngine(BackendContract):
    @pytest.fixture(params=["file", "memory", "postgresql"])
    async def backend(
        self,
        request: pytest.FixtureRequest,
        tmp_path: Path,
    ) -> AsyncIterator[SQLBackend]:
        store = None
        url = {"file": f"sqlite+aiosqlite:///{tmp_path / 'own.db'}", "memory": "sqlite+aiosqlite://"}.get(request.param)
        if url is None:
            store = PostgreSQLStore(request.getfixturevalue("postgresql_url"))
            await store.prepare()
            url = store.url_of_an_engine
        engine = create_async_engine(url)
        backend = SQLBackend(engine)
        await backend.open()
        yield backend
        await backend.close()
        await engine.dispose()
        if store is not None:
            await store.clean()


def begins_transactions(engine: AsyncEngine) -> AsyncEngine:
    """What SQLAlchemy's documentation has users of SQLite do for savepoints."""

    @sa.event.listens_for(engine.sync_engine, "connect")
    def leave_transactions_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def looks_first(engine: AsyncEngine) -> AsyncEngine:
    """A liveness check of the application's own, or a ``SET search_path``."""

    @sa.event.listens_for(engine.sync_engine, "engine_connect")
    def look(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SELECT 1")

    return engine


@pytest.mark.parametrize("kind", ["sqlite", "sqlite that begins", "looks first", "READ COMMITTED", "SERIALIZABLE"])
async def test_what_is_written_through_an_engine_that_begins_transactions_is_committed(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    """Its own isolation level may count for more than the one that is asked for."""
    store: Store
    if kind.startswith("sqlite"):
        store = SQLiteStore(tmp_path)
        engine = create_async_engine(store.url_of_an_engine)
        engine = begins_transactions(engine) if "begins" in kind else engine
    else:
        store = PostgreSQLStore(request.getfixturevalue("postgresql_url"))
        engine = create_async_engine(store.url_of_an_engine)
        engine = looks_first(engine) if "looks" in kind else engine.execution_options(isolation_level=kind)
    own = await store.backend()
    backend = SQLBackend(engine, table=own.table)
    await backend.open()
    await own.open()
    record = make_record()
    await backend.insert(record)
    assert await own.get(record.id) == record
    assert await backend.replace(replace(record, revision=1))
    assert (await own.get(record.id)).revision == 1
    assert await backend.delete(record.id)
    assert await own.get(record.id) is None
    await backend.close()
    await engine.dispose()
    await store.clean()


async def test_columns_that_migrations_added_are_left_alone(tmp_path: Path) -> None:
    table = persistent_sessions_table(sa.MetaData())
    table.append_column(sa.Column("tenant", sa.Text, server_default="one"))
    table.append_column(sa.Column("must", sa.Text, nullable=False, server_default="be"))
    backend = SQLBackend(f"sqlite:///{tmp_path / 'records.db'}", table=table)
    await backend.open()
    record = make_record()
    await backend.insert(record)
    assert await backend.get(record.id) == record
    assert await backend.of_user(record.user, 10) == [record]
    await backend.close()


async def test_the_schema_that_an_engine_puts_in_place_is_where_the_table_is_made(postgresql_url: str) -> None:
    store = PostgreSQLStore(postgresql_url)
    await store.prepare()
    elsewhere = await store.backend()
    await elsewhere.open()  # a table of the same name, where the map does not lead
    engine = create_async_engine(store.url_of_an_engine)
    async with engine.begin() as connection:
        await connection.execute(sa.schema.CreateSchema("tenant"))
    backend = SQLBackend(engine.execution_options(schema_translate_map={None: "tenant"}))
    await backend.open()
    record = make_record()
    await backend.insert(record)
    assert await backend.get(record.id) == record
    assert await elsewhere.get(record.id) is None
    await backend.close()
    await engine.dispose()
    await store.clean()


# Opening, closing, arguments


async def test_a_passed_engine_stays_usable(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'own.db'}")
    disposed = []
    sa.event.listen(engine.sync_engine, "engine_disposed", lambda _: disposed.append(1))
    backend = SQLBackend(engine)
    await backend.open()
    record = make_record()
    await backend.insert(record)
    await backend.close()
    assert not disposed
    assert engine.sync_engine.hide_parameters is False
    async with engine.connect() as connection:
        assert (await connection.execute(sa.select(backend.table.c.id))).scalars().all() == [record.id]
    await engine.dispose()


@pytest.mark.parametrize("url", ["sqlite:////proc/none/such.db", "postgresql://nobody@127.0.0.1:1/none"])
async def test_our_engine_is_disposed_when_opening_fails(url: str) -> None:
    backend = SQLBackend(url)
    disposed = []
    sa.event.listen(backend._engine.sync_engine, "engine_disposed", lambda _: disposed.append(1))
    with pytest.raises(BackendError) as failure:
        await backend.open()
    assert failure.value.__cause__ is not None
    assert disposed
    with pytest.raises(BackendError, match="not open"):
        await backend.get("x" * 22)
    await backend.close()
    # aiosqlite does not wait for the thread of a connection that failed, which still answers to this test's loop.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 10)


async def test_records_survive_a_reopen(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    record = make_record()
    await backend.insert(record)
    await backend.close()
    await backend.open()
    assert await backend.get(record.id) == record


async def test_8_open_a_fresh_database_at_once(store: Store) -> None:
    backends = [await store.backend() for _ in range(8)]
    await asyncio.gather(*(backend.open() for backend in backends))
    record = make_record()
    await backends[0].insert(record)
    for backend in backends:
        assert await backend.get(record.id) == record


async def test_one_backend_opened_8_times_at_once_is_ready_for_each(store: Store) -> None:
    backend = await store.backend()

    async def open_and_use() -> None:
        await backend.open()
        await backend.insert(make_record())

    await asyncio.gather(*(open_and_use() for _ in range(8)))


@pytest.mark.parametrize("user", [-(2**8191) + 1, "".join(map(chr, range(0x4E00, 0x4E00 + 341)))])
async def test_the_longest_ids_of_users_fit_the_index(store: Store, user: int | str) -> None:
    backend = await store.backend()
    await backend.open()
    record = make_record(user=user)
    await backend.insert(record)
    assert await backend.of_user(user, 10) == [record]


async def test_a_table_that_exists_is_not_touched(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    await run(backend, f"DROP INDEX ix_{backend.table.name}_user_id")
    again = await store.backend()
    await again.open()
    with pytest.raises(SQLAlchemyError):  # it is still gone
        await run(backend, f"DROP INDEX ix_{backend.table.name}_user_id")


@pytest.mark.parametrize("passed", [False, True])
async def test_a_table_that_lacks_columns_is_a_value_error_that_names_them(store: Store, passed: bool) -> None:
    """It is told at start-up, because a migration may have been forgotten, and no later try mends it."""
    own = await store.backend()
    await own.open()
    table = own.table.name
    for column in ("user_agent", "version"):
        await run(own, f"ALTER TABLE {table} DROP COLUMN {column}")
    engine = create_async_engine(store.url_of_an_engine)
    backend = SQLBackend(engine) if passed else await store.backend()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"the table '{table}' lacks the columns user_agent, version"):
            await backend.open()
    with pytest.raises(BackendError, match="not open"):
        await backend.get("x" * 22)
    for column, default in (("user_agent", "''"), ("version", "1")):
        kind = "TEXT" if column == "user_agent" else "INTEGER"
        await run(own, f"ALTER TABLE {table} ADD COLUMN {column} {kind} NOT NULL DEFAULT {default}")
    await backend.open()
    record = make_record()
    await backend.insert(record)
    assert await backend.get(record.id) == record
    await backend.close()
    await engine.dispose()


async def test_a_table_that_is_there_and_cannot_be_read_is_a_store_that_fails(postgresql_url: str) -> None:
    """Its columns are all there: somebody may grant the right to read them."""
    store = PostgreSQLStore(postgresql_url)
    own = await store.backend()
    await own.open()
    role = f"reader_{secrets.token_hex(4)}"
    await run(own, f"CREATE ROLE {role}")

    engine = create_async_engine(store.url_of_an_engine)

    @sa.event.listens_for(engine.sync_engine, "connect")
    def become_reader(connection: Any, _: object) -> None:
        connection.cursor().execute(f"SET ROLE {role}")

    with pytest.raises(BackendError) as caught:
        await SQLBackend(engine).open()
    assert isinstance(caught.value.__cause__, SQLAlchemyError)
    await engine.dispose()
    await run(own, f"DROP ROLE {role}")
    await store.clean()


async def test_it_is_opened_again_after_it_failed(postgresql_server: PostgreSQL) -> None:
    backend = SQLBackend(postgresql_server.url)
    postgresql_server.kill()
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            await backend.open()
        assert caught.value.__cause__ is not None
    await asyncio.to_thread(postgresql_server.start)
    await backend.open()
    assert await backend.get("x" * 22) is None
    await backend.close()


@pytest.mark.parametrize(
    ("argument", "error", "text"),
    [
        ("mysql://u@h/d", ValueError, "sqlite:"),
        ("postgresql+psycopg://u@h/d", ValueError, "create_async_engine"),
        ("no url", ValueError, "cannot be read: pass"),
        ("postgresql://u@h:hunter2/d", ValueError, "cannot be read: the port is no number"),
        ("postgresql://u:hunter@2@h:x/d", ValueError, "cannot be read: percent-encode the user and the password"),
        ("sqlite:///", ValueError, "names no file"),
        (5, TypeError, "create_async_engine"),
        (sa.create_engine("sqlite://"), TypeError, "create_async_engine"),
        ("postgresql://u@h/d?sslmode=require", ValueError, "ssl=require"),
        ("postgresql://u@h/d?ssl=require&foo=1", ValueError, "'foo'"),
        ("postgresql://u@h/d?timeout=soon", ValueError, "timeout must be whole"),
        ("postgresql://u@h/d?prepared_statement_cache_size=few", ValueError, "postgresql://user@host/database"),
        ("postgresql://u@h/d?port=abc", ValueError, "postgresql://user@host/database"),
        ("sqlite:///f?timeout=soon", ValueError, "sqlite:///file"),
    ],
)
def test_wrong_arguments_say_what_to_pass(argument: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        SQLBackend(argument)
    assert "hunter" not in str(caught.value)


def test_options_that_the_driver_knows_are_taken() -> None:
    SQLBackend("postgresql://u@h/d?ssl=require&command_timeout=3&prepared_statement_cache_size=0")


def test_a_password_may_have_a_slash() -> None:
    SQLBackend("postgresql://u:hunter/2@h/d")


async def test_numbers_among_the_options_reach_the_driver_as_such(postgresql_url: str, tmp_path: Path) -> None:
    store = PostgreSQLStore(postgresql_url)
    await store.prepare()
    backend = SQLBackend(f"{store.url}?timeout=5&statement_cache_size=0")
    await backend.open()
    await backend.close()
    await store.clean()
    backend = SQLBackend(f"sqlite:///{tmp_path / 'records.db'}?timeout=33")
    await backend.open()
    assert await run(backend, "PRAGMA busy_timeout") == [(33000,)]
    await backend.close()


@pytest.mark.parametrize(
    ("table", "error", "text"),
    [
        ("", ValueError, "table"),
        ("a\0b", ValueError, "table"),
        ("x" * 50, ValueError, "49"),
        (5, TypeError, "table"),
        (sa.Table("t", sa.MetaData(), sa.Column("id", sa.Text)), ValueError, "lacks the columns address, created_at"),
    ],
)
def test_a_table_that_cannot_hold_records_is_an_error(table: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        SQLBackend("sqlite://", table=table)


async def test_a_row_that_is_none_of_ours_is_a_store_that_fails(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    record = make_record()
    await backend.insert(record)
    await run(backend, f"UPDATE {backend.table.name} SET secrets = 'junk'")
    with pytest.raises(BackendError) as caught:
        await backend.get(record.id)
    assert isinstance(caught.value.__cause__, ValueError)
    other = make_record(user=record.user)
    await backend.insert(other)
    assert await backend.of_user(record.user, 10) == [other]
    await backend.close()


def test_a_sqlite_url_with_a_host_is_a_value_error_that_names_the_right_one() -> None:
    with pytest.raises(ValueError, match="sqlite:///file"):
        SQLBackend("sqlite://records.db")


@pytest.mark.parametrize(
    ("module", "url"),
    [
        ("sqlalchemy", "sqlite://"),
        ("aiosqlite", "sqlite://"),
        ("asyncpg", "postgresql://u@h/d"),
        ("greenlet", "sqlite://"),
    ],
)
def test_a_missing_extra_says_what_to_install(module: str, url: str) -> None:
    program = f"""
import sys
sys.modules[{module!r}] = None
try:
    from aiohttp_persistent_session.backends.sql import SQLBackend
    SQLBackend({url!r})
except ImportError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "aiohttp-persistent-session[sql]"' in ran.stdout


async def test_errors_do_not_hold_what_is_stored(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    record = make_record(user="a-user-of-theirs", data='{"a-secret": 1}')
    await backend.insert(record)
    with pytest.raises(BackendError) as failure:
        await backend.insert(record)
    text = "".join(traceback.format_exception(failure.value))
    assert "IntegrityError" in text
    assert "a-user-of-theirs" not in text
    assert "a-secret" not in text


# Many at once, the purge, indexes


SWAPS = """
import asyncio, sys
from dataclasses import replace
from aiohttp_persistent_session.backends.sql import SQLBackend

async def main():
    backend = SQLBackend(sys.argv[1])
    await backend.open()
    won = 0
    while won < 50:
        record = await backend.get(sys.argv[2])
        won += await backend.replace(replace(record, revision=record.revision + 1))
    await backend.close()

asyncio.run(main())
"""


async def test_4_processes_swap_on_one_sqlite_file(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path)
    backend = await store.backend()
    await backend.open()
    assert await run(backend, "PRAGMA journal_mode") == [("wal",)]
    assert await run(backend, "PRAGMA busy_timeout") == [(10000,)]
    record = make_record()
    await backend.insert(record)
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", SWAPS, store.url, record.id, stderr=PIPE)
        for _ in range(4)
    ]
    for process in processes:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
    stored = await backend.get(record.id)
    assert stored is not None
    assert stored.revision == 200
    await store.clean()


async def fill(backend: SQLBackend, count: int, **changes: Any) -> None:
    await backend.insert(make_record(**changes))
    copied = ", ".join(column.name for column in backend.table.c if column.name != "id")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})"
    padded = "substr('0000000000000000000000' || i, -22)" if backend._sqlite else "lpad(i::text, 22, '0')"
    name = backend.table.name
    await run(backend, f"{numbers} INSERT INTO {name} (id, {copied}) SELECT {padded}, {copied} FROM {name}, n")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each statement has read."""
    numbers, read = [], SQLBackend._read

    async def count(backend: SQLBackend, statement: Any) -> Any:
        found = await read(backend, statement)
        numbers.append(len(found))
        return found

    monkeypatch.setattr(SQLBackend, "_read", count)
    return numbers


async def test_a_list_costs_what_is_asked_for_and_not_what_there_is(store: Store, rows: list[int]) -> None:
    """A user whose password somebody has may have any number of records."""
    backend = await store.backend()
    await backend.open()
    await fill(backend, 10_000, user="alice")
    await backend.insert(make_record(user="bob"))
    for limit in (1, 100, 1000):
        rows.clear()
        assert len({record.id for record in await backend.of_user("alice", limit)}) == limit
        assert rows == [limit]
    assert len({record.id for record in await backend.of_user("alice", 20_000)}) == 10_000


@pytest.mark.parametrize("junk", ["secrets = 'junk'", "version = 2"])
async def test_thousands_of_rows_that_cannot_be_read_hide_none(store: Store, rows: list[int], junk: str) -> None:
    backend = await store.backend()
    await backend.open()
    await fill(backend, 2000, user="alice")
    await run(backend, f"UPDATE {backend.table.name} SET {junk}")
    record = make_record(user="alice", id="z" * 22)
    await backend.insert(record)
    assert await backend.of_user("alice", 1) == [record]
    assert rows == [1, 500, 500, 500, 500]
    await backend.insert(replace(record, id="A" * 22))
    assert len(await backend.of_user("alice", 2)) == 2
    assert await run(backend, f"SELECT count(*) FROM {backend.table.name}") == [(2002,)]


async def test_purge_is_bounded(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    await fill(backend, 2500, expires_at=1000.0)
    living = make_record()
    await backend.insert(living)
    assert [await backend.purge(1000.0) for _ in range(4)] == [1000, 1000, 500, 0]
    assert await backend.get(living.id) == living


async def test_the_managers_purge_stops_with_it(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    await fill(backend, 1500, expires_at=1000.0)
    manager = PersistentSessionManager(backend)
    async with manager:
        while await run(backend, f"SELECT count(*) FROM {backend.table.name}") != [(0,)]:
            await asyncio.sleep(0.01)
        purging = manager._purging
    assert purging is not None
    assert purging.done()


async def test_indexes_are_used(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    await fill(backend, 5000)
    await run(backend, f"UPDATE {backend.table.name} SET user_id = id")
    await run(backend, "ANALYZE")
    statements: list[str] = []

    def note(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        statements.append(statement)

    sa.event.listen(backend._engine.sync_engine, "before_cursor_execute", note)
    await backend.get("x" * 22)
    await backend.of_user("x", 10)
    await backend.purge(1000.0)
    name = backend.table.name
    primary = "sqlite_autoindex" if backend._sqlite else f"{name}_pkey"
    explain = "EXPLAIN QUERY PLAN " if backend._sqlite else "EXPLAIN "
    assert len(statements) == 3  # each operation is one statement
    for statement, index in zip(statements[:3], (primary, f"ix_{name}_user_id", f"ix_{name}_expires_at"), strict=True):
        literal = re.sub(r"\$\d+::VARCHAR|(?<=id = )\?", "'x'", statement)
        literal = re.sub(r"\$\d+::(FLOAT|DOUBLE PRECISION)", "1000.0", literal)
        literal = re.sub(r"\$\d+::(INTEGER|BIGINT)|\?", "1000", literal)
        plan = str(await run(backend, explain + literal))
        assert index in plan, plan


async def test_a_scan_reads_by_the_primary_key_and_holds_no_connection(store: Store) -> None:
    """Each batch is a statement of its own, which begins where the last one ended."""
    backend = await store.backend()
    await backend.open()
    await fill(backend, 1000)
    await run(backend, "ANALYZE")
    statements: list[str] = []

    def note(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        statements.append(statement)

    taken: list[int] = []
    sa.event.listen(backend._engine.sync_engine, "before_cursor_execute", note)
    sa.event.listen(backend._engine.sync_engine, "checkout", lambda *_: taken.append(1))
    sa.event.listen(backend._engine.sync_engine, "checkin", lambda *_: taken.append(-1))
    told = []
    async for batch in backend.scan(300):
        assert sum(taken) == 0
        told.append(len(batch.records))
    assert told == [300, 300, 300, 100]
    assert len(taken) == 10
    assert len(statements) == 5
    literal = re.sub(r"\$\d+::VARCHAR|(?<=id > )\?", "'x'", statements[1])
    literal = re.sub(r"\$\d+::(INTEGER|BIGINT)|\?", "300", literal)
    plan = str(await run(backend, ("EXPLAIN QUERY PLAN " if backend._sqlite else "EXPLAIN ") + literal))
    assert ("sqlite_autoindex" if backend._sqlite else f"{backend.table.name}_pkey") in plan, plan


async def test_a_scan_after_closing_is_an_error(store: Store) -> None:
    backend = await store.backend()
    await backend.open()
    await fill(backend, 4)
    scan = backend.scan(2)
    await anext(scan)
    await backend.close()
    with pytest.raises(BackendError):
        await anext(scan)
    assert await anext(scan, None) is None


# What is at rest


async def test_no_secret_is_in_the_store(store: Store) -> None:
    backend = await store.backend()
    async with PersistentSessionManager(backend) as manager:
        # A record issues one secret in 2 s at most.
        manager.clock = itertools.count(round(time.time(), 3), 3).__next__
        tokens = [await sign_in(manager, "alice")]
        for _ in range(3):
            tokens.append((await restore(manager, tokens[-1])).token)
        dump = repr(await run(backend, f"SELECT * FROM {backend.table.name}")).encode()
        if isinstance(store, SQLiteStore):
            dump += b"".join(path.read_bytes() for path in store.path.parent.glob(f"{store.path.name}*"))
    assert b"alice" in dump
    for token in tokens:
        for half in (token.selector, token.secret):
            for spelling in (
                half,
                repr(half)[2:-1].encode(),
                half.hex().encode(),
                b64encode(half),
                urlsafe_b64encode(half),
            ):
                assert spelling.rstrip(b"=") not in dump


# Faults


async def test_a_killed_postgresql(postgresql_server: PostgreSQL) -> None:
    async with PersistentSessionManager(SQLBackend(postgresql_server.url), timeout=10) as manager:
        id = (await sign_in(manager)).id
        backend = manager._store.backend
        record = await backend.get(id)
        await asyncio.gather(*(backend.get(record.id) for _ in range(5)))
        exchanged = replace(record, revision=1, address="192.0.2.1")
        assert await backend.replace(exchanged)
        postgresql_server.kill()
        with pytest.raises(BackendError) as failure:
            await manager.sessions("alice")
        assert failure.value.__cause__ is not None
        postgresql_server.start()
        assert await backend.get(record.id) == exchanged
        assert len(await asyncio.gather(*(manager.sessions("alice") for _ in range(20)))) == 20


async def test_a_postgresql_started_again_unnoticed(postgresql_server: PostgreSQL) -> None:
    backend = SQLBackend(postgresql_server.url)
    await backend.open()
    record = make_record()
    await backend.insert(record)
    postgresql_server.kill()
    await asyncio.to_thread(postgresql_server.start)
    # No call has failed meanwhile, and none does now.
    assert await backend.get(record.id) == record
    await backend.close()


async def test_a_hung_postgresql(postgresql_server: PostgreSQL) -> None:
    timeout = 0.5
    async with PersistentSessionManager(SQLBackend(postgresql_server.url), timeout=30) as manager:
        id = (await sign_in(manager)).id
        backend = manager._store.backend
        record = await backend.get(id)
        await asyncio.gather(*(backend.get(record.id) for _ in range(10)))
        manager._store.timeout = timeout
        postgresql_server.send(signal.SIGSTOP)
        began = time.monotonic()
        calls = (manager.sessions("alice") for _ in range(30))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - began < timeout + 5
        assert all(isinstance(answer, BackendError) for answer in answers)
        postgresql_server.send(signal.SIGCONT)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert len(await manager.sessions("alice")) == 1
                break
            except BackendError:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        for _ in range(30):
            assert await backend.get(record.id) == record


async def test_closing_while_postgresql_hangs(postgresql_server: PostgreSQL) -> None:
    backend = SQLBackend(postgresql_server.url)
    await backend.open()
    call = asyncio.create_task(backend.get("x" * 22))
    await call
    postgresql_server.send(signal.SIGSTOP)
    call = asyncio.create_task(backend.get("x" * 22))
    await asyncio.sleep(0)
    await asyncio.wait_for(backend.close(), 20)
    with pytest.raises(BackendError):
        await call


@pytest.mark.parametrize("opened", [False, True])
async def test_a_connection_given_up_while_it_is_set_up_is_closed(postgresql_url: str, opened: bool) -> None:
    """A manager that is closed at once gives up its first purge. asyncpg warns of a connection that is left open."""
    store = PostgreSQLStore(postgresql_url)
    backend = await store.backend()
    if opened:
        await backend.open()
        await backend._engine.dispose()
    connections, in_setup = [], asyncio.Event()

    @sa.event.listens_for(backend._engine.sync_engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        connections.append(connection.driver_connection)
        in_setup.set()
        connection.run_async(lambda driver: driver.execute("SELECT pg_sleep(0.05)"))

    work = asyncio.create_task(backend.purge(0.0) if opened else backend.open())
    await in_setup.wait()
    work.cancel()
    await asyncio.wait((work,))
    await backend.close()
    assert connections
    assert all(connection.is_closed() for connection in connections)
    await store.clean()
