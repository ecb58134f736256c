"""Records in a SQL database: a SQLite file on one machine, or a PostgreSQL server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

try:
    import greenlet  # type: ignore[import-untyped]  # noqa: F401 -- SQLAlchemy imports without it, and fails at the first query
    import sqlalchemy as sa
    from sqlalchemy.exc import IntegrityError, OperationalError
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import StaticPool
except ImportError as error:
    raise ImportError(
        'SQLBackend needs SQLAlchemy with its asyncio part: pip install "aiohttp-persistent-session[sql]"'
    ) from error

from ..record import Record, UserId
from .base import (
    Backend,
    BackendError,
    DriverErrors,
    read_all,
    spent_from_json,
    spent_to_json,
    start,
    user_from_text,
    user_to_text,
)
from .sql_engine import BUSY_TIMEOUT, DRIVERS, is_in_sqlite_transaction, make_engine, set_isolation_level

__all__ = ("SQLBackend", "persistent_sessions_table")

FAREWELL = 1.0
"""Seconds for which an abandoned connection may wait for the server to acknowledge that it ends."""
PURGE_BATCH = 1000
"""Records that one :meth:`SQLBackend.purge` deletes at most."""
LONGEST_NAME = 49
"""Characters of a table's name: PostgreSQL takes 63, of which 14 make the name of an index on it."""

_driver_errors = DriverErrors("the database")
_CREATION_LOCK = 0x7065727369737431  # any number will do, if all workers take the same one


def persistent_sessions_table(metadata: sa.MetaData, name: str = "persistent_sessions") -> sa.Table:
    """Add the table of the records to ``metadata`` and return it, for migrations of one's own."""
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.String(22), primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("spent", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Index(f"ix_{name}_user_id", "user_id"),
        sa.Index(f"ix_{name}_expires_at", "expires_at"),
    )


class SQLBackend(Backend):
    """Keeps each record as a row. Every operation is one statement, which is one transaction and one round trip.

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
        # Not the whole table, to which migrations may have added columns.
        columns = persistent_sessions_table(sa.MetaData()).c.keys()
        self._records = sa.select(*(self.table.c[key].label(key) for key in columns))
        self._is_open = False
        self._lock: asyncio.Lock | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._begun: set[asyncio.Task[Any] | None] = set()
        """Of those, the ones that no longer wait for their turn."""

    async def open(self) -> None:
        """Create the table and its indexes, unless the table is there.

        Raises:
            BackendError: the database cannot be reached, or the table cannot be made.
        """
        if self._is_open:
            return
        self._lock = self._lock or asyncio.Lock()
        try:
            await self._finish(self._create())
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
            await self._write(sa.insert(self.table).values(id=record.id, **_columns(record)))
        except BackendError as error:
            if isinstance(error.__cause__, IntegrityError):
                text = f"the id {record.id} exists already, or a constraint of your own forbids the record"
                raise BackendError(text) from error.__cause__
            raise

    async def get(self, id: str) -> Record | None:
        rows = await self._read(self._records.where(self.table.c.id == id))
        with _driver_errors:
            return _record(rows[0]) if rows else None

    async def replace(self, record: Record) -> bool:
        columns = self.table.c
        found = (columns.id == record.id) & (columns.revision == record.revision - 1)
        return await self._write(sa.update(self.table).where(found).values(**_columns(record))) == 1

    async def delete(self, id: str) -> bool:
        return await self._write(sa.delete(self.table).where(self.table.c.id == id)) == 1

    async def of_user(self, user: UserId) -> list[Record]:
        return read_all(_record, await self._read(self._records.where(self.table.c.user_id == user_to_text(user))))

    async def purge(self, now: float) -> int:
        """Delete records that have expired, at most :data:`PURGE_BATCH` of them; return how many."""
        columns = self.table.c
        expired = sa.select(columns.id).where(columns.expires_at <= now).order_by(columns.expires_at).limit(PURGE_BATCH)
        if not self._sqlite:
            # Two workers that purge at once take different rows, in place of a deadlock; and a common table expression
            # is evaluated once, where a subquery with a limit might be once a row. With SQLite it has no row count.
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
            # SQLite lets one write at a time; who waits here is served in turn, who waits in SQLite is not. And
            # in memory all share a connection: one that is returned to the pool must not end another's transaction.
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

    async def _create(self) -> None:
        self._begun.add(asyncio.current_task())
        give_up = asyncio.get_running_loop().time() + BUSY_TIMEOUT
        while True:
            try:
                await self._create_once()
            except OperationalError as error:
                # Of several processes that turn a new file to WAL at once SQLite lets some fail without waiting.
                if "locked" not in str(error.orig) or asyncio.get_running_loop().time() > give_up:
                    raise
                await asyncio.sleep(0.01)
            else:
                return

    async def _create_once(self) -> None:
        name = self.table.name
        async with self._engine.connect() as connection:
            # Without a lock, and so that a table made by migrations takes no right to create any.
            if await connection.run_sync(
                lambda sync: sa.inspect(sync).has_table(name, schema=sync.schema_for_object(self.table))
            ):
                # Or it would be found out at the first sign-in.
                await connection.execute(self._records.limit(0))
                return
        # CREATE TABLE IF NOT EXISTS fails in PostgreSQL when two run at once.
        lock = "BEGIN IMMEDIATE" if self._sqlite else f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})"
        level = "AUTOCOMMIT" if self._sqlite else "READ COMMITTED"
        async with self._engine.connect() as connection:
            await set_isolation_level(connection, level)
            async with connection.begin():
                if not await is_in_sqlite_transaction(connection):
                    await connection.exec_driver_sql(lock)
                await connection.run_sync(self.table.create, checkfirst=True)

    async def _finish(self, work: Any) -> Any:
        """Await ``work`` in a task of its own. Whoever waits may be cancelled at once, and the task cleans up."""
        task = start(work, self._running)
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
        """Cancel ``task``, once. A server that hangs does not answer SQLAlchemy's farewell either: do without."""
        # A statement of SQLite ends by itself, and its connection may be the one that holds the database in memory.
        if task.cancelling() or (self._sqlite and task in self._begun):
            return
        task.cancel()
        asyncio.get_running_loop().call_later(FAREWELL, task.cancel)


def _checked(table: str | sa.Table) -> sa.Table:
    if isinstance(table, str):
        if not table or "\0" in table or len(table.encode()) > LONGEST_NAME:
            raise ValueError(f"table must be a name of 1 to {LONGEST_NAME} bytes")
        return persistent_sessions_table(sa.MetaData(), table)
    if not isinstance(table, sa.Table):
        raise TypeError(f"table must be a str or a sqlalchemy.Table, not {type(table).__name__}")
    if missing := set(persistent_sessions_table(sa.MetaData()).c.keys()) - set(table.c.keys()):
        raise ValueError(f"table {table.name!r} lacks the columns {', '.join(sorted(missing))}")
    return table


def _columns(record: Record) -> dict[str, Any]:
    return {
        "user_id": user_to_text(record.user),
        "digest": record.digest,
        "spent": json.dumps(spent_to_json(record.spent), separators=(",", ":")),
        "created_at": record.created_at,
        "seen_at": record.seen_at,
        "expires_at": record.expires_at,
        "user_agent": record.user_agent,
        "address": record.address,
        "data": record.data,
        "revision": record.revision,
    }


def _record(row: sa.Row[Any]) -> Record:
    columns = dict(row._mapping)
    user, spent = columns.pop("user_id"), columns.pop("spent")
    return Record(user=user_from_text(user), spent=spent_from_json(json.loads(spent)), **columns)
