"""Records in this process's memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from itertools import islice

from ..record import VERSION, Record, UserId
from .base import Backend, BackendError, Batch
from .drivers import batch_of


class MemoryBackend(Backend):
    """Keeps records in a dict: for development, for tests, and for nothing that should survive a restart.

    It is one process's own: a second worker knows nothing of it, and everybody is signed out when the process ends.
    """

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._ids_of_user: dict[tuple[type, UserId], set[str]] = {}

    async def insert(self, record: Record) -> None:
        if record.id in self._records:
            raise BackendError(f"the id {record.id} exists already")
        self._records[record.id] = record
        self._ids_of_user.setdefault(_key(record.user), set()).add(record.id)

    async def get(self, id: str) -> Record | None:
        return self._records.get(id)

    async def replace(self, record: Record) -> bool:
        stored = self._records.get(record.id)
        if stored is None or stored.revision != record.revision - 1:
            return False
        self._records[record.id] = record
        return True

    async def delete(self, id: str) -> bool:
        record = self._records.pop(id, None)
        if record is None:
            return False
        ids = self._ids_of_user[_key(record.user)]
        ids.discard(id)
        if not ids:
            del self._ids_of_user[_key(record.user)]
        return True

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        records = (self._records[id] for id in self._ids_of_user.get(_key(user), ()))
        return list(islice((record for record in records if record.version == VERSION), limit))

    async def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        ids = list(self._records)
        for start in range(0, len(ids), batch):
            named = ((id, self._records.get(id)) for id in ids[start : start + batch])
            if there := {id: record for id, record in named if record is not None}:
                yield batch_of(_itself, there)

    async def purge(self, now: float) -> int:
        expired = [record.id for record in self._records.values() if record.expires_at <= now]
        for id in expired:
            await self.delete(id)
        return len(expired)


def _key(user: UserId) -> tuple[type, UserId]:
    return type(user), user


def _itself(record: Record) -> Record:
    return record
