"""The engine that SQLBackend makes of a URL, and what it does about one that is passed in."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT = 10.0
"""Seconds for which SQLite waits for another process's write before it gives up."""
POOL_SIZE = 10
"""Connections to PostgreSQL, in each worker, at most."""

DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}
_EXAMPLES = {"sqlite": "sqlite:///file", "postgresql": "postgresql://user@host/database"}
_OPTIONS_OF_SQLALCHEMY = ("async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func")


def make_engine(url: str | sa.URL) -> AsyncEngine:
    """Return an engine whose statements are each a transaction of their own.

    Raises:
        ValueError: the URL cannot be read, or it names another database, driver or option.
        ImportError: the database's driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError):
        # Its text may hold the password.
        raise ValueError('the URL cannot be read: pass "sqlite:///file" or "postgresql://user@host/database"') from None
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
        hint = str(error) if isinstance(error, _OptionError) else f"write it as {_EXAMPLES[dialect]}"
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


class _OptionError(ValueError):
    """Of an option in a URL's query. Its text holds no value."""


def _driver_arguments(url: sa.URL) -> dict[str, Any]:
    """Return what the driver is to be passed as a number; a URL has but texts."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": float(cast("str", url.query.get("timeout", BUSY_TIMEOUT)))}
    known = inspect.signature(import_module("asyncpg").connect).parameters
    if unknown := sorted(set(url.query) - {*known, *_OPTIONS_OF_SQLALCHEMY}):
        raise _OptionError(f"asyncpg has no option {unknown[0]!r} (for sslmode=require write ssl=require)")
    numbers = [name for name in url.query if name in known and isinstance(known[name].default, int)]
    try:
        return {name: int(cast("str", url.query[name])) for name in numbers}
    except ValueError:
        raise _OptionError(f"{' and '.join(numbers)} must be whole numbers") from None


async def set_isolation_level(connection: AsyncConnection, level: str) -> None:
    """Set the isolation level of a connection that was just taken, whatever a listener has executed on it."""
    if connection.in_transaction():
        # Not rolled back: what the listener has set is to stay.
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
