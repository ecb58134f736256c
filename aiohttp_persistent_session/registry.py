"""The persistent sessions of a store: one begins, is listed, ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from .backends.base import BackendError
from .policy import CLOCK_TOLERANCE, Policy
from .record import Browser, PersistentSession, Record, Secret, UserId, same_user
from .seen import Seen
from .signals import SessionSignal, Signals
from .store import Store
from .tasks import end_tasks, spawn
from .tokens import Token, is_id

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")

BATCH = 100
"""Records of one user that are read at once, where all of them are to end."""


class Registry:
    """Begins, lists and ends persistent sessions.

    Args:
        store: where the records are.
        seen: what this worker remembers of them.
        signals: those that are told.
        policy: the durations.
        max_sessions: how many a user may have, or None.
        now: the time, in whole milliseconds.
    """

    def __init__(
        self,
        store: Store,
        seen: Seen,
        signals: Signals,
        policy: Policy,
        max_sessions: int | None,
        now: Callable[[], float],
    ) -> None:
        self.store = store
        self.counters = store.counters
        self.seen = seen
        self.signals = signals
        self.policy = policy
        self.now = now
        self._max_sessions = max_sessions
        self._running: set[asyncio.Task[Any]] = set()

    # Begin

    def new_record(self, user: UserId, browser: Browser, **asked: Any) -> tuple[Token, Record]:
        """Return a token, and the record of a persistent session that begins now with it (1).

        Args:
            user: the user's id.
            browser: what the request tells of its browser.
            asked: what the sign-in asks for: the record's ``data``, ``persistent`` and ``max_age``.
        """
        token, now = Token.generate(), self.now()
        record = Record(
            id=token.id,
            user=user,
            created_at=now,
            seen_at=now,
            expires_at=now,
            secrets=(Secret(token.digest, now),),
            user_agent=browser.user_agent,
            address=browser.address,
            **asked,
        )
        return token, dataclasses.replace(record, expires_at=self.policy.expires_at(record))

    async def begin(self, record: Record, *, replaces: Collection[str]) -> None:
        """Store a new persistent session, and end those whose ids it ``replaces``.

        Raises:
            BackendError: the store failed; nobody is remembered.
        """
        try:
            await self.insert(record)
            self.counters.sign_ins += 1
            await self._make_room(record, replaces)
            for id in replaces:
                await self.end_id(id, self.signals.on_forget, "signed in anew")
            await self.tell(self.signals.on_remember, record, current=True)
        except BaseException:
            await self._uncancelled(self.undo(record.id))
            raise

    async def insert(self, record: Record) -> None:
        """Store a new persistent session.

        Raises:
            BackendError: the store failed.
        """
        question = self.seen.ask()
        async with self.store.calls() as calls:
            await calls.insert(record)
        self.seen.put(record, question, self.now())

    async def _make_room(self, newest: Record, replaced: Collection[str]) -> None:
        if self._max_sessions is None:
            return
        async with self.store.calls() as calls:
            records = await calls.of_user(newest.user, self._max_sessions + BATCH)
        records = [one for one in self._standing(records, newest.user) if one.id not in {newest.id, *replaced}]
        # Each of two sign-ins at once may see the other: only the older one may be ended for the younger one's sake.
        # A time in the future is that of a clock that was set back since.
        latest = newest.created_at + CLOCK_TOLERANCE
        older = [
            one
            for one in records
            if (one.created_at, one.id) < (newest.created_at, newest.id) or one.created_at > latest
        ]
        older.sort(key=lambda record: record.seen_at)
        for record in older[: max(0, len(records) + 1 - self._max_sessions)]:
            await self.end(record, self.signals.on_revoke, "too many")

    async def undo(self, id: str) -> None:
        """Take back a persistent session whose token was never sent. Raises nothing: what is left of it expires."""
        with contextlib.suppress(BackendError):
            await self._delete(id)

    # End

    async def end(self, record: Record, signal: SessionSignal, reason: str | None = None) -> bool:
        """Delete the record, and send the signal if it was there. This goes on where the request is cancelled.

        Raises:
            BackendError: the store failed.
        """
        return await self._uncancelled(self._end(record, signal, reason))

    async def _end(self, record: Record, signal: SessionSignal, reason: str | None) -> bool:
        deleted = await self._delete(record.id)
        if deleted:
            if signal is self.signals.on_reuse:
                self.counters.reuses += 1
                logger.warning("a copied token was presented: the persistent session %s has ended", record.id)
            await self.tell(signal, record, reason=reason)
        return deleted

    async def _delete(self, id: str) -> bool:
        self.seen.drop(id)  # should the call fail, nobody knows: the next check looks
        async with self.store.calls() as calls:
            deleted = await calls.delete(id)
        self.seen.put_absent(id, self.now())
        return deleted

    async def end_id(self, id: str, signal: SessionSignal, reason: str) -> bool:
        """End the persistent session of this id, if there is one.

        Raises:
            BackendError: the store failed.
        """
        record = await self.get(id)
        return record is not None and await self.end(record, signal, reason)

    async def end_all(self, user: UserId, reason: str, keep: str | None = None) -> int:
        """End all persistent sessions of the user but the one whose id is ``keep``; return how many.

        Raises:
            BackendError: the store failed; some may have been ended.
        """
        ended, tried = 0, {keep}
        while True:
            async with self.store.calls() as calls:
                records = await calls.of_user(user, BATCH)
            left = [one for one in records if same_user(one.user, user) and one.id not in tried]
            if not left:
                return ended
            tried.update(one.id for one in left)
            ended += await self._uncancelled(self._end_batch(left, reason))

    async def _end_batch(self, records: Sequence[Record], reason: str) -> int:
        ended: list[Record] = []
        try:
            for record in records:
                if await self._delete(record.id) and not self.policy.is_over(record, self.now()):
                    ended.append(record)
        finally:
            # At once: otherwise a receiver that hangs would cost its time for each of them.
            await asyncio.gather(*(self.tell(self.signals.on_revoke, one, reason=reason) for one in ended))
        return len(ended)

    # Read

    async def get(self, id: str) -> Record | None:
        """Return the record, or None where there is none or it is over.

        Raises:
            BackendError: the store failed.
        """
        if not is_id(id):
            return None
        async with self.store.calls() as calls:
            record = await calls.get(id)
        return None if record is None or self.policy.is_over(record, self.now()) else record

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        """Return records of the user that are not over, the newest sign-in first, at most ``limit``.

        Raises:
            BackendError: the store failed.
        """
        async with self.store.calls() as calls:
            records = await calls.of_user(user, limit)
        return sorted(self._standing(records, user), key=lambda record: record.created_at, reverse=True)

    def _standing(self, records: Sequence[Record], user: UserId) -> list[Record]:
        now = self.now()
        return [one for one in records if same_user(one.user, user) and not self.policy.is_over(one, now)]

    def shown(self, record: Record, **shown: Any) -> PersistentSession:
        """Return what may be shown of a record; see :meth:`.PersistentSession.of`."""
        return PersistentSession.of(record, self.policy.expires_at(record), **shown)

    async def tell(self, signal: SessionSignal, record: Record, **shown: Any) -> None:
        """Send a signal about a record, where anybody listens."""
        if signal:
            await self.signals.send(signal, self.shown(record, **shown))

    async def close(self) -> None:
        """Give work under way its time, and end it then."""
        await end_tasks(self._running, self.store.timeout)

    # Inside

    async def _uncancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, which goes on by itself where the request that waits for it is cancelled.

        Otherwise a client that disconnects at the right moment could keep a copied token from being told of.
        """
        return await asyncio.shield(spawn(work, self._running))
