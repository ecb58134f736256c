"""Exchanges whose swap the store did not answer: they may have happened, or happen yet, when a hung server goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import TypeVar

from .backends.base import BackendError
from .record import Attempt, Record, without_answer
from .store import Store

T = TypeVar("T")

KEPT = 10_000
"""Persistent sessions whose exchanges one worker sees to, at most; of more, it gives up the one that it has longest
neither added nor tried."""
KEPT_OF_EACH = 256
"""Attempts of each, at most: of several swaps of one revision a server that goes on may do any."""
TRIED_EVERY = 1.0
"""Seconds between two looks whether the store answers."""
SWAP_ATTEMPTS = 5


class UnansweredExchanges:
    """Sees to it, once the store answers, that the secret of each is good still, unless its successor was handed out.

    Not before the exchange's grace period is over: until then that secret joins it, if it happened, as ever. Who joins
    it at this worker ends the matter. What other workers hand out is not known here.
    """

    def __init__(self, store: Store, grace_period: float, now: Callable[[], float]) -> None:
        self._store = store
        self._grace_period = grace_period
        self._now = now
        self._attempts: dict[str, list[Attempt]] = {}
        self._handed_out: dict[str, int] = {}
        """The last revision of a record whose current secret this worker has handed to who joined its exchange."""
        self._reopened: dict[str, int] = {}
        """The revision with which this worker lets an older secret of a record be exchanged anew."""
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def add(self, exchanged: Record, presented: bytes) -> None:
        """Take over an exchange: the record that was to be written, and perhaps was, and the secret's digest."""
        if self._closed or exchanged.revision <= self._handed_out.get(exchanged.id, -1):
            return
        attempt = Attempt(exchanged.spent[0], presented, exchanged.revision)
        attempts = [*self._attempts.get(exchanged.id, ()), attempt]
        _keep(self._attempts, exchanged.id, attempts[:KEPT_OF_EACH])
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._settle_all())

    async def close(self) -> None:
        """Give up what is not seen to yet."""
        self._closed = True
        self._attempts.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def hand_out(self, joined: Record) -> bool:
        """Tell whether who joins the exchange in this record may be handed its current secret, and have it so.

        From then on it is not undone. It is too late where the secret before it may be exchanged anew already.
        """
        if joined.revision < self._reopened.get(joined.id, -1):
            return False
        _keep(self._handed_out, joined.id, joined.revision)
        if joined.id in self._attempts:
            self._drop(joined.id, [one for one in self._attempts[joined.id] if one.revision <= joined.revision])
        return True

    async def settle(self, id: str) -> None:
        """See to the exchanges of this persistent session whose grace period is over, if there are any.

        Raises:
            BackendError: the store still fails, or the time of one call was up.
        """
        if id not in self._attempts:
            return
        deadline = self._store.deadline()
        for _ in range(SWAP_ATTEMPTS):
            if not self._due(id):
                return
            stored = await self._store.get(id, deadline)
            due = self._due(id)  # who joined meanwhile was handed the successor
            settled = None if stored is None else without_answer(stored, due)
            if stored is not None and settled is not None and settled.spent != stored.spent:
                _keep(self._reopened, id, settled.revision)
            if settled is None or await self._store.replace(settled, deadline):
                self._drop(id, due)
                return
        raise BackendError(f"others wrote the record {SWAP_ATTEMPTS} times in a row")

    def _due(self, id: str) -> list[Attempt]:
        now = self._now()
        return [one for one in self._attempts.get(id, ()) if now - one.entry.at > self._grace_period]

    def _drop(self, id: str, attempts: Collection[Attempt]) -> None:
        left = [one for one in self._attempts.pop(id, ()) if one not in attempts]
        if left:
            self._attempts[id] = left

    async def _settle_all(self) -> None:
        while self._attempts:
            for id in list(self._attempts):
                try:
                    await self.settle(id)
                except BackendError:
                    # The others first: it may be this one alone that cannot be reached.
                    if id in self._attempts:
                        self._attempts[id] = self._attempts.pop(id)
                    break
            if self._attempts:
                await asyncio.sleep(TRIED_EVERY)


def _keep(kept: dict[str, T], id: str, value: T) -> None:
    """Keep ``value`` as the newest. Of too many, the one that was kept first gives way."""
    kept.pop(id, None)
    kept[id] = value
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
