"""Records in a SQL database: a SQLite file on one machine, or a PostgreSQL server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

try:
    import greenlet  # type: ignore[import-untyped]  # noqa: F401 -- it has no types; SQLAlchemy imports without it, and fails at the first query
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import StaticPool
except ImportError as error:
    raise ImportError(
        'SQLBackend needs SQLAlchemy with its asyncio part: pip install "aiohttp-persistent-session[sql]"'
    ) from error

from ..record import Record, UserId
from ..tasks import spawn
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
from .sql_engine import (
    COLUMNS,
    DRIVERS,
    make_engine,
    make_table,
    persistent_sessions_table,
    select_records,
    set_isolation_level,
)

__all__ = ("SQLBackend", "persistent_sessions_table")

PURGE_BATCH = 1000
"""Records that one :meth:`SQLBackend.purge` deletes at most."""
PAGE = 500
"""Rows that one statement reads at most, after a first page of which some could not be read."""
LONGEST_NAME = 49
"""Characters of a table's name: PostgreSQL takes 63, of which 14 make the name of an index on it."""

_driver_errors = DriverErrors("the database")


class SQLBackend(Backend):
    """Keeps each record as a row. Every operation is one statement, which is one transaction and one round trip; a list
    takes more only where there are rows that cannot be read.

    Args:
        url_or_engine: ``"sqlite:///sessions.db"``, ``"postgresql://user@host/database"``, or an AsyncEngine of either
            database, which stays its owner's: it is never disposed of.
        table: the table's name, or a Table with the columns of :func:`persistent_sessions_table`.

    Raises:
        TypeError: ``url_or_engine`` or ``table`` is of another type.
        ValueError: the URL cannot be read, or it names another database, driver or option; the table lacks columns.
        ImportError: the database's driver is not installed.
    """

    table: sa.Table

    def __init__(self, url_or_engine: str | sa.URL | AsyncEngine, *, table: str | sa.Table = "persistent_sessions"):
        self.table = _checked(table)
        self._own: AsyncEngine | None = None
        if isinstance(url_or_engine, str | sa.URL):
            self._own = self._engine = make_engine(url_or_engine)
        elif not isinstance(url_or_engine, AsyncEngine):
            raise TypeError(
                "url_or_engine must be a URL or what sqlalchemy.ext.asyncio.create_async_engine returns, "
                f"not {type(url_or_engine).__module__}.{type(url_or_engine).__qualname__}"
            )
        elif url_or_engine.dialect.name not in DRIVERS:
            raise ValueError(
                f"url_or_engine must be an engine of sqlite or postgresql, not {url_or_engine.dialect.name}"
            )
        else:
            # A view of the owner's engine, on its pool: what is set on the view is not set on the engine.
            self._engine = url_or_engine.execution_options()
            self._engine.sync_engine.hide_parameters = True
        self._sqlite = self._engine.dialect.name == "sqlite"
        self._records = select_records(self.table)
        self._is_open = False
        self._lock: asyncio.Lock | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._begun: set[asyncio.Task[Any] | None] = set()
        """Those of them that no longer wait for their turn."""

    async def open(self) -> None:
        """Create the table and its indexes, unless the table is there.

        Raises:
            ValueError: the table is there and lacks columns.
            BackendError: the database cannot be reached, or the table cannot be made.
        """
        if self._is_open:
            return
        self._lock = self._lock or asyncio.Lock()
        try:
            if missing := await self._finish(self._make_table()):
                raise ValueError(f"the table {self.table.name!r} lacks the columns {', '.join(missing)}")
            self._is_open = True
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        self._is_open, self._lock = False, None
        for task in self._running:
            self._give_up(task)
        if self._running:
            await asyncio.wait(self._running)
        if self._own is not None:
            # A hung server does not answer a farewell either.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await self._own.dispose()

    async def insert(self, record: Record) -> None:
        try:
            await self._write(sa.insert(self.table).values(id=record.id, **_to_columns(record)))
        except BackendError as error:
            if isinstance(error.__cause__, IntegrityError):
                text = f"the id {record.id} exists already, or a constraint of your own forbids the record"
                raise BackendError(text) from error.__cause__
            raise

    async def get(self, id: str) -> Record | None:
        rows = await self._read(self._records.where(self.table.c.id == id))
        with _driver_errors:
            return _from_row(rows[0]) if rows else None

    async def replace(self, record: Record) -> bool:
        columns = self.table.c
        found = (columns.id == record.id) & (columns.revision == record.revision - 1)
        return await self._write(sa.update(self.table).where(found).values(**_to_columns(record))) == 1

    async def delete(self, id: str) -> bool:
        return await self._write(sa.delete(self.table).where(self.table.c.id == id)) == 1

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        id, size, records = self.table.c.id, limit, list[Record]()
        of_user = self._records.where(self.table.c.user_id == user_to_text(user)).order_by(id)
        page = of_user
        while len(records) < limit:
            rows = await self._read(page.limit(size))
            records += readable_ones(_from_row, rows)
            if len(rows) < size:
                break
            # Rows that cannot be read must not hide those behind them.
            page, size = of_user.where(id > rows[-1].id), PAGE
        return records[:limit]

    async def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        """Walk by id, a statement for each batch: no transaction and no connection is held meanwhile."""
        id = self.table.c.id
        page = by_id = self._records.order_by(id).limit(batch)
        while rows := await self._read(page):
            yield batch_of(_from_row, {row.id: row for row in rows})
            page = by_id.where(id > rows[-1].id)

    async def purge(self, now: float) -> int:
        """Delete records that have expired, at most :data:`PURGE_BATCH` of them; return how many."""
        columns = self.table.c
        expired = sa.select(columns.id).where(columns.expires_at <= now).order_by(columns.expires_at).limit(PURGE_BATCH)
        if not self._sqlite:
            # Two workers that purge at once take different rows, in place of a deadlock. A common table expression is
            # evaluated once, where a subquery with a limit might be once a row. With SQLite it has no row count.
            batch = expired.with_for_update(skip_locked=True).cte("expired")
            expired = sa.select(batch.c.id)
        return await self._write(sa.delete(self.table).where(columns.id.in_(expired)))

    # Inside

    async def _read(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        rows: Sequence[sa.Row[Any]] = (await self._finish(self._execute(statement)))[0]
        return rows

    async def _write(self, statement: sa.UpdateBase) -> int:
        count: int = (await self._finish(self._execute(statement)))[1]
        if count < 0:
            raise BackendError("the database's driver does not count rows")
        return count

    async def _execute(self, statement: sa.Executable) -> tuple[Sequence[sa.Row[Any]], int]:
        async with contextlib.AsyncExitStack() as stack:
            lock = self._lock
            if lock is None:
                raise BackendError("the SQLBackend is not open: await its open(), or its manager's")
            # SQLite allows one writer at a time. Waiting here is first come, first served; SQLite's own waiting is not.
            # In memory all share a connection: one that is returned to the pool must not end another's transaction.
            if self._sqlite and (isinstance(statement, sa.UpdateBase) or isinstance(self._engine.pool, StaticPool)):
                await stack.enter_async_context(lock)
            self._begun.add(asyncio.current_task())
            connection = await stack.enter_async_context(self._engine.connect())
            if self._own is None:
                await set_isolation_level(connection, "AUTOCOMMIT")
            result = await connection.execute(statement)
            rows, count = (result.all() if result.returns_rows else []), result.rowcount
            if not result.returns_rows:
                # To no effect, but on an engine that was passed in and begins transactions all the same.
                await connection.commit()
            return rows, count

    async def _make_table(self) -> list[str]:
        self._begun.add(asyncio.current_task())
        return await make_table(self._engine, self.table)

    async def _finish(self, work: Any) -> Any:
        """Await ``work`` in a task of its own, which cleans up where its caller is cancelled."""
        task = spawn(work, self._running)
        task.add_done_callback(self._begun.discard)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            self._give_up(task)
            raise
        if task.cancelled():
            raise BackendError("the SQLBackend was closed meanwhile")
        with _driver_errors:
            return task.result()

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        """Cancel ``task``, once: cancelled again, SQLAlchemy would not get to close the connection."""
        # A statement of SQLite ends by itself, and its connection may be the one that holds the database in memory.
        if not task.cancelling() and not (self._sqlite and task in self._begun):
            task.cancel()


def _checked(table: str | sa.Table) -> sa.Table:
    if isinstance(table, str):
        if not table or "\0" in table or len(table.encode()) > LONGEST_NAME:
            raise ValueError(f"table must be a name of 1 to {LONGEST_NAME} bytes")
        return persistent_sessions_table(sa.MetaData(), table)
    if not isinstance(table, sa.Table):
        raise TypeError(f"table must be a str or a sqlalchemy.Table, not {type(table).__name__}")
    if missing := set(COLUMNS) - set(table.c.keys()):
        raise ValueError(f"table {table.name!r} lacks the columns {', '.join(sorted(missing))}")
    return table


def _to_columns(record: Record) -> dict[str, Any]:
    return {
        "user_id": user_to_text(record.user),
        "secrets": json.dumps(secrets_to_json(record.secrets), separators=(",", ":")),
        **plain_fields(record),
    }


def _from_row(row: sa.Row[Any]) -> Record:
    columns = dict(row._mapping)
    user, secrets = columns.pop("user_id"), columns.pop("secrets")
    return Record(user=user_from_text(user), secrets=secrets_from_json(json.loads(secrets)), **columns)
