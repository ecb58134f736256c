"""Exchanges whose swap the store did not answer: they may have happened, or happen yet, when a hung server goes on."""

from __future__ import annotations

import asyncio
import contextlib

from .backends.base import BackendError
from .record import Record, without_answer
from .store import Store

KEPT = 1000
"""Persistent sessions whose exchanges one worker sees to, at most; of more, the oldest is given up."""
KEPT_OF_EACH = 16
TRIED_EVERY = 1.0
"""Seconds between two looks whether the store answers."""


class UnansweredExchanges:
    """Sees to it, once the store answers, that the secret of each is good still: nobody was handed its successor."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._attempts: dict[str, list[Record]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, attempt: Record) -> None:
        """Take over an exchange: the record that was to be written, and perhaps was."""
        self._attempts[attempt.id] = [*self._attempts.pop(attempt.id, ()), attempt][-KEPT_OF_EACH:]
        if len(self._attempts) > KEPT:
            del self._attempts[next(iter(self._attempts))]
        if self._task is None:
            self._task = asyncio.create_task(self._settle_all())

    async def close(self) -> None:
        """Give up what is not seen to yet."""
        self._attempts.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def settle(self, id: str) -> None:
        """See to the exchange of this persistent session, if there is one.

        Raises:
            BackendError: the store still fails.
        """
        while attempts := self._attempts.get(id):
            stored = await self._store.get(id)
            settled = None if stored is None else without_answer(stored, attempts)
            if settled is not None:
                await self._store.replace(settled)
            elif self._attempts.get(id) is attempts:
                del self._attempts[id]

    async def _settle_all(self) -> None:
        while self._attempts:
            with contextlib.suppress(BackendError):
                for id in list(self._attempts):
                    await self.settle(id)
            if self._attempts:
                await asyncio.sleep(TRIED_EVERY)
        self._task = None
