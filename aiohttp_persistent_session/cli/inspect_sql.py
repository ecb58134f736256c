"""How a SQLite file or a PostgreSQL server is set up."""

from __future__ import annotations

import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ..backends.base import Backend
from ..backends.drivers import DriverErrors
from ..backends.sql import SQLBackend
from ..backends.sql_engine import COLUMNS, make_engine
from . import findings
from .findings import Finding
from .inspect_sqlite import sqlite_file, sqlite_findings, sqlite_findings_when_open

_LOWEST = 12
_INDEXED = ("user_id", "expires_at")
_SETTINGS = {
    "synchronous_commit": ("off", "a crash loses acknowledged exchanges, and the browsers' tokens look like copies"),
    "fsync": ("off", "a power cut may destroy the database"),
}
_errors = DriverErrors("the database")


class SQLInspector:
    """Asks the database over an engine of its own."""

    expires_by_itself = ""

    def __init__(self, url: str, *, table: str = "persistent_sessions") -> None:
        self.backend: Backend = SQLBackend(url, table=table)
        self._engine = make_engine(url)
        self._table = table
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._file = sqlite_file(self._engine.url) if self._is_sqlite else None
        if self._is_sqlite and self._file is None:
            raise ValueError("records in memory are their process's own: name a file, as in sqlite:////var/lib/app.db")
        self.name = "SQLite" if self._is_sqlite else "PostgreSQL"

    async def missing(self) -> str | None:
        if self._file is not None and not self._file.exists():
            return f"there is no file {str(self._file)!r}"
        with _errors:
            async with self._engine.connect() as connection:
                there = await connection.run_sync(lambda one: sa.inspect(one).has_table(self._table))
        return None if there else f"there is no table {self._table!r} in the database"

    async def estimate(self) -> int | None:
        table = sa.table(self._table)
        statement: sa.Select[Any] = sa.select(sa.func.count()).select_from(table)
        if not self._is_sqlite:
            # Counting reads the whole table.
            names = sa.table("pg_class", sa.column("oid"), sa.column("reltuples"))
            name = self._engine.dialect.identifier_preparer.quote(self._table)
            statement = sa.select(names.c.reltuples).where(names.c.oid == sa.func.to_regclass(name))
        with _errors:
            async with self._engine.connect() as connection:
                counted = (await connection.execute(statement)).scalar()
        return int(counted) if counted and counted > 0 else None

    async def findings(self) -> list[Finding]:
        if self._file is not None and not self._file.exists():
            return sqlite_findings(self._file)
        with _errors:
            async with self._engine.connect() as connection:
                found = await self._of_table(connection)
                if self._is_sqlite:
                    return [*(sqlite_findings(self._file) if self._file else []), *found]
                return [*await _of_postgresql(connection), *found]

    async def findings_when_open(self) -> list[Finding]:
        if not self._is_sqlite:
            return []
        with _errors:
            async with self._engine.connect() as connection:
                return await sqlite_findings_when_open(connection)

    async def close(self) -> None:
        await self._engine.dispose()

    async def _of_table(self, connection: AsyncConnection) -> list[Finding]:
        columns, indexed = await connection.run_sync(self._columns_and_indexed)
        if not columns:
            return [Finding("note", "table", f"there was no table {self._table!r}; opening the store makes it")]
        found = []
        if missing := sorted(set(COLUMNS) - columns):
            text = f"the table {self._table!r} lacks the columns {', '.join(missing)}: the app does not start"
            found.append(Finding("fault", "columns", text, "Add them by a migration, as docs/sql.md has them."))
        for column in _INDEXED:
            if column not in indexed:
                text = f"no index begins with {column}: each list, or each purge, reads the whole table"
                found.append(Finding("fault", "index", text, "Create it, as docs/sql.md has it."))
        return found or [Finding("ok", "table", "the table has its columns and indexes")]

    def _columns_and_indexed(self, connection: sa.Connection) -> tuple[set[str], set[str | None]]:
        inspector = sa.inspect(connection)
        if not inspector.has_table(self._table):
            return set(), set()
        columns = {column["name"] for column in inspector.get_columns(self._table)}
        return columns, {index["column_names"][0] for index in inspector.get_indexes(self._table)}


async def _of_postgresql(connection: AsyncConnection) -> list[Finding]:
    async def ask(question: str) -> Any:
        return (await connection.exec_driver_sql(question)).scalar()

    before = time.time()
    now = await ask("SELECT clock_timestamp()")
    found = [
        findings.version("PostgreSQL", str(await ask("SHOW server_version")), _LOWEST),
        findings.clock(now.timestamp() - (before + time.time()) / 2),
    ]
    for name, (wrong, why) in _SETTINGS.items():
        if (value := await ask(f"SHOW {name}")) == wrong:
            found.append(Finding("fault", name.replace("_", "-"), f"{name} is {value}: {why}", f"Set {name} to on."))
        else:
            found.append(Finding("ok", name.replace("_", "-"), f"{name} is {value}"))
    if await ask("SELECT pg_is_in_recovery()"):
        text = "the server is a standby: what it lacks looks like a copied token, and it takes no writes"
        found.append(Finding("fault", "replica", text, "Connect to the primary, for one with target_session_attrs."))
    elif await ask("SHOW default_transaction_read_only") == "on":
        text = "default_transaction_read_only is on: no write succeeds"
        found.append(Finding("fault", "read-only", text, "Set it to off for this role."))
    if (level := await ask("SHOW default_transaction_isolation")) != "read committed":
        text = f"default_transaction_isolation is {level}: who loses a race gets an error"
        found.append(Finding("fault", "isolation", text, "Set it to read committed for this role."))
    return found
