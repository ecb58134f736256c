"""The manager of one application's persistent sessions: what administrators' jobs call."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any, Self, Unpack

from . import options
from .backends.base import Backend, BackendError
from .counters import Counters
from .lifecycle import Lifecycle
from .options import Duration, Durations, RecordAddress
from .policy import Policy
from .record import PersistentSession, UserId
from .registry import Registry
from .seen import Seen
from .signals import SessionSignal, Signals
from .store import Store
from .tasks import end_tasks

PURGE_INTERVAL = 3600.0
"""Seconds between two purges of one worker."""
PURGED_AFTER = 24 * 3600.0
"""Seconds after its expiry that a record is purged: the clocks of workers may differ by hours."""
LISTED = 1000
"""Persistent sessions of one user that are listed at most, where ``max_sessions`` sets no lower number."""


class PersistentSessionManager:
    """Keeps the persistent sessions of one application; also without any request, for administrators' jobs::

        async with PersistentSessionManager(backend) as manager:
            await manager.revoke_all("mallory")

    The options are those of :func:`.setup`, by the same names and with the same defaults. Durations are a timedelta or
    a number of seconds.

    Raises:
        TypeError, ValueError: an option is of the wrong type or out of range; the message names it.

    Receivers of the signals are coroutine functions of a :class:`PersistentSession` and a ``web.Request`` (None where
    there was none). An exception of theirs is logged and changes nothing. They are awaited for at most ``timeout``, and
    then go on by themselves.
    """

    on_remember: SessionSignal
    """A browser signed in and is remembered."""
    on_restore: SessionSignal
    """A token was exchanged for a session. Requests that joined the exchange are not told of."""
    on_forget: SessionSignal
    """A browser signed itself out, or signed in anew; ``reason`` says which."""
    on_new_client: SessionSignal
    """A restore, or a look at the record of a live session, found a browser of another family or in another network
    than was seen last. The persistent session shows the former one, and the request the new one."""
    on_repeat: SessionSignal
    """A token came again that was exchanged before, and nobody moved on from the token that it was exchanged for: the
    answer was lost, or somebody used a copy and left. Nobody is signed out. ``repeat`` says what is known."""
    on_reuse: SessionSignal
    """A copied token was found out; the persistent session has been ended."""
    on_revoke: SessionSignal
    """Ended from elsewhere; ``reason`` says why."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_sessions: int | None = 100,
        timeout: Duration = 2,
        require_store: bool = False,
        record_address: RecordAddress = "full",
        **durations: Unpack[Durations],
    ) -> None:
        _check_backend(backend)
        self.policy: Policy = options.policy(durations)
        self.max_sessions: int | None = options.count_or_none("max_sessions", max_sessions)
        self.clock: Callable[[], float] = time.time
        """The one source of time: seconds since the epoch. Tests may put another in its place."""
        self._require_store = options.of_type("require_store", require_store, bool)
        self.record_address: RecordAddress = options.one_of("record_address", record_address, RecordAddress)
        self.counters: Counters = Counters()
        """What this worker has counted since it began."""
        self._store = Store(backend, options.call_timeout(timeout), self.counters)
        self._signals = Signals(self, self._store.timeout)
        for name, signal in self._signals.by_name.items():
            setattr(self, name, signal)
        seen = Seen(self.policy)
        self.registry = Registry(self._store, seen, self._signals, self.policy, self.max_sessions, self._now)
        """For the plugin; it may change."""
        self.lifecycle = Lifecycle(self.registry)
        """For the plugin; it may change."""
        self._purging: asyncio.Task[None] | None = None

    # Opening and closing

    async def open(self) -> None:
        """Open the backend, freeze the signals, and purge expired records from now on once an hour.

        A store that cannot be reached is logged as an error, and opened in the background.

        Raises:
            BackendError: the store cannot be reached, and ``require_store`` is true.
            TypeError, ValueError, ImportError: the store is set up wrong, or a receiver is no coroutine function.
        """
        self._signals.freeze()
        await self._store.open(require=self._require_store)
        self._purging = asyncio.create_task(self._purge_hourly())

    async def close(self) -> None:
        """Stop the purge and the work under way, and close the backend."""
        purging, self._purging = self._purging, None
        await end_tasks({purging} if purging else set(), 0)
        await self.lifecycle.close()
        await self.registry.close()
        await self._signals.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # For administrators

    async def sessions(self, user: UserId, *, current: str | None = None) -> list[PersistentSession]:
        """Return the user's persistent sessions, the newest first; the one whose id is ``current`` says so.

        Where ``max_sessions`` is None, they are 1000 at most.

        Raises:
            BackendError: the store failed.
            RuntimeError: the manager is not open.
            TypeError, ValueError: ``user`` is no user's id.
        """
        limit = LISTED if self.max_sessions is None else max(self.max_sessions, LISTED)
        records = await self.registry.of_user(options.user_id(user), limit)
        return [self.registry.shown(record, current=record.id == current) for record in records]

    async def get(self, id: str, *, current: bool = False) -> PersistentSession | None:
        """Return one persistent session, or None where there is none or it has expired.

        Raises:
            BackendError: the store failed.
            RuntimeError: the manager is not open.
        """
        record = await self.registry.get(id)
        return None if record is None else self.registry.shown(record, current=current)

    async def revoke(self, id: str) -> bool:
        """End one persistent session, whosever it is; return whether there was one.

        Raises:
            BackendError: the store failed.
            RuntimeError: the manager is not open.
        """
        return await self.registry.end_id(id, self.on_revoke, "revoked")

    async def revoke_all(self, user: UserId, *, keep: str | None = None) -> int:
        """End all persistent sessions of the user, but the one whose id is ``keep``; return how many.

        Raises:
            BackendError: the store failed; some may have been ended.
            RuntimeError: the manager is not open.
            TypeError, ValueError: ``user`` is no user's id.
        """
        return await self.registry.end_all(options.user_id(user), "signed out everywhere", keep)

    async def purge(self) -> int:
        """Delete records that expired a day ago where the store does not do so by itself; return how many.

        Raises:
            BackendError: the store failed.
            RuntimeError: the manager is not open.
        """
        purged = 0
        while (batch := await self._purge_some()) > 0:
            purged += batch
        return purged

    # Inside

    async def _purge_some(self) -> int:
        async with self._store.calls() as calls:
            return await calls.purge(self._now() - PURGED_AFTER)

    async def _purge_hourly(self) -> None:
        while True:
            with contextlib.suppress(BackendError):
                await self.purge()
            # Workers started together should not purge together.
            await asyncio.sleep(PURGE_INTERVAL * random.uniform(0.9, 1.1))  # noqa: S311 -- no secret

    def _now(self) -> float:
        # In whole milliseconds, which every store keeps.
        return round(self.clock(), 3)


def _check_backend(backend: Any) -> None:
    if not isinstance(backend, Backend):
        given, hint = type(backend).__name__, ""
        if isinstance(backend, type):
            given, hint = f"the class {backend.__name__}", f": pass an object, {backend.__name__}(...)"
        elif isinstance(backend, str):
            hint = ": pass RedisBackend(url), MongoBackend(url) or SQLBackend(url)"
        raise TypeError(f"backend must be a Backend, not {given}{hint}")
