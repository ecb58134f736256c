"""What SQLBackend does once: make an engine of a URL, and the table; and what it does about an engine of its owner."""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from .drivers import URLFault, fault_of_authority

BUSY_TIMEOUT = 10.0
"""Seconds for which SQLite waits for another process's write before it gives up."""
POOL_SIZE = 10
"""Connections to PostgreSQL, in each worker, at most."""

_CREATION_LOCK = 0x7065727369737431  # any number will do, if all workers take the same one

DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}
_EXAMPLES = {"sqlite": "sqlite:///file", "postgresql": "postgresql://user@host/database"}
_OPTIONS_OF_SQLALCHEMY = ("async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func")


def make_engine(url: str | sa.URL) -> AsyncEngine:
    """Return an engine whose statements are each a transaction of their own.

    Raises:
        ValueError: the URL cannot be read, or it names another database, driver or option.
        ImportError: the database's driver is not installed.
    """
    parsed = _parsed(url)
    dialect, _, driver = parsed.drivername.partition("+")
    expected = DRIVERS.get(dialect)
    if expected is None or driver not in {"", expected}:
        raise ValueError(
            f'url_or_engine must begin with "sqlite:" or "postgresql:", not "{parsed.drivername}:"; '
            "for another driver pass what sqlalchemy.ext.asyncio.create_async_engine returns"
        )
    if dialect == "sqlite" and parsed.database == "":
        raise ValueError('the URL names no file: pass "sqlite:///file", or "sqlite://" to keep records in memory')
    parsed = parsed.set(drivername=f"{dialect}+{expected}")
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "hide_parameters": True}
    if dialect == "postgresql":
        options |= {"pool_size": POOL_SIZE, "max_overflow": 0}
    try:
        arguments = _driver_arguments(parsed)
        engine = create_async_engine(parsed.difference_update_query(arguments), connect_args=arguments, **options)
    except (ArgumentError, TypeError, ValueError) as error:
        hint = str(error) if isinstance(error, URLFault) else f"write it as {_EXAMPLES[dialect]}"
        raise ValueError(f"the URL cannot be used with {dialect}: {hint}") from None
    except ImportError as error:
        raise ImportError(
            f'SQLBackend needs {expected} for {dialect}: pip install "aiohttp-persistent-session[sql]"'
        ) from error
    if dialect == "sqlite":
        sa.event.listen(engine.sync_engine, "connect", _use_wal)
    else:
        sa.event.listen(engine.sync_engine, "checkout", _drop_lost_connection)
    return engine


def _parsed(url: str | sa.URL) -> sa.URL:
    try:
        return sa.make_url(url)
    except (ArgumentError, ValueError):
        # Its text may hold the password.
        fault = fault_of_authority(str(url)) or 'pass "sqlite:///file" or "postgresql://user@host/database"'
        raise ValueError(f"the URL cannot be read: {fault}") from None


def _driver_arguments(url: sa.URL) -> dict[str, Any]:
    """Return what the driver is to be passed as a number; a URL has but texts."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": float(cast("str", url.query.get("timeout", BUSY_TIMEOUT)))}
    known = inspect.signature(import_module("asyncpg").connect).parameters
    if unknown := sorted(set(url.query) - {*known, *_OPTIONS_OF_SQLALCHEMY}):
        raise URLFault(f"asyncpg has no option {unknown[0]!r} (for sslmode=require write ssl=require)")
    numbers = [name for name in url.query if name in known and isinstance(known[name].default, int)]
    try:
        return {name: int(cast("str", url.query[name])) for name in numbers}
    except ValueError:
        raise URLFault(f"{' and '.join(numbers)} must be whole numbers") from None


async def set_isolation_level(connection: AsyncConnection, level: str) -> None:
    """Set the isolation level of a connection that was just taken, whatever a listener has executed on it."""
    if connection.in_transaction():
        # Committed rather than rolled back, because what the listener has set is to stay.
        await connection.commit()
    await connection.execution_options(isolation_level=level)


async def is_in_sqlite_transaction(connection: AsyncConnection) -> bool:
    """Tell whether an engine that was passed in has begun one by itself, as SQLAlchemy has users of SQLite do."""
    driver = (await connection.get_raw_connection()).driver_connection
    return bool(getattr(driver, "in_transaction", False))


def _use_wal(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _drop_lost_connection(connection: Any, *_: object) -> None:
    # What pool_pre_ping does, without its round trip: the driver has noticed when a server went away.
    if connection.driver_connection.is_closed():
        raise DisconnectionError


# The table


def persistent_sessions_table(metadata: sa.MetaData, name: str = "persistent_sessions") -> sa.Table:
    """Add the table of the records to ``metadata`` and return it, for migrations of one's own."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(22), primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("secrets", sa.Text, nullable=False),
        sa.Column("last_session", sa.Integer, nullable=False),
        sa.Column("issued_last_at", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("persistent", sa.Boolean, nullable=False),
        sa.Column("max_age", sa.Double),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Index(f"ix_{name}_user_id", "user_id", "id"),
        sa.Index(f"ix_{name}_expires_at", "expires_at"),
    )


COLUMNS = persistent_sessions_table(sa.MetaData()).c.keys()


def select_records(table: sa.Table) -> sa.Select[Any]:
    """Return a query of all records, which reads the columns one by one: migrations may have added others."""
    return sa.select(*(table.c[key].label(key) for key in COLUMNS))


async def make_table(engine: AsyncEngine, table: sa.Table) -> list[str]:
    """Create the table and its indexes, unless it is there; return the names of the columns that it lacks."""
    give_up = asyncio.get_running_loop().time() + BUSY_TIMEOUT
    while True:
        try:
            async with engine.connect() as connection:
                # Without a lock, and so that a table made by migrations takes no right to create any.
                if await connection.run_sync(_has, table):
                    return await _missing_columns(connection, table)
            await _create(engine, table)
        except OperationalError as error:
            # Where several processes turn a new file to WAL at once, SQLite lets some fail without waiting.
            if "locked" not in str(error.orig) or asyncio.get_running_loop().time() > give_up:
                raise
            await asyncio.sleep(0.01)
        else:
            return []


def _has(connection: sa.Connection, table: sa.Table) -> bool:
    return sa.inspect(connection).has_table(table.name, schema=connection.schema_for_object(table))


def _names(connection: sa.Connection, table: sa.Table) -> set[str]:
    columns = sa.inspect(connection).get_columns(table.name, schema=connection.schema_for_object(table))
    return {column["name"] for column in columns}


async def _missing_columns(connection: AsyncConnection, table: sa.Table) -> list[str]:
    try:
        # At start-up rather than at the first sign-in.
        await connection.execute(select_records(table).limit(0))
    except DBAPIError:
        await connection.rollback()
        there = await connection.run_sync(_names, table)
        if missing := sorted({table.c[key].name for key in COLUMNS} - there):
            return missing
        raise
    return []


async def _create(engine: AsyncEngine, table: sa.Table) -> None:
    is_sqlite = engine.dialect.name == "sqlite"
    # CREATE TABLE IF NOT EXISTS fails in PostgreSQL when two run at once.
    lock = "BEGIN IMMEDIATE" if is_sqlite else f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"
    async with engine.connect() as connection:
        await set_isolation_level(connection, "AUTOCOMMIT" if is_sqlite else "READ COMMITTED")
        async with connection.begin():
            if not await is_in_sqlite_transaction(connection):
                await connection.exec_driver_sql(lock)
            await connection.run_sync(table.create, checkfirst=True)
