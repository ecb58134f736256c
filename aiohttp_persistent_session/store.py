"""A backend as the manager calls it: calls bounded in time, failures as BackendError, an outage logged once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .backends.base import Backend, BackendError, read_all
from .record import Record, UserId, sound

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")

_LONGEST_REASON = 300

QUIET_FOR = 60.0
"""Seconds in which one worker logs no second outage of one operation: a store that is overloaded fails now and then."""


class Store:
    """Calls ``backend``; see there for the methods. What they raise is a BackendError, chained to its cause.

    Args:
        backend: whom to call.
        timeout: seconds that one call may take. A ``deadline``, a time of the event loop's clock, may end it sooner.
    """

    def __init__(self, backend: Backend, timeout: float) -> None:
        self.backend = backend
        self.timeout = timeout
        self._failing: set[str] = set()
        self._quiet_until: dict[str, float] = {}

    def deadline(self) -> float:
        """Return when a call that began now would have to end: for several calls that together take no longer."""
        return asyncio.get_running_loop().time() + self.timeout

    def is_over(self, deadline: float) -> bool:
        """Tell whether a call with this deadline can only fail."""
        return asyncio.get_running_loop().time() >= deadline

    async def open(self) -> None:
        """Open the backend; close it if that fails half-way. Not bounded in time: it may have tables to make.

        Raises:
            BackendError: it failed; the text says why, as it is what who starts the application sees last.
        """
        try:
            await self.backend.open()
        except BaseException as error:
            with contextlib.suppress(Exception):  # what failed first is what is told
                await self.backend.close()
            if not isinstance(error, Exception):
                raise
            cause = error.__cause__ or error
            reason = " ".join(str(cause).split())[:_LONGEST_REASON] or type(cause).__name__
            raise BackendError(f"the store cannot be opened: {reason}") from cause

    async def close(self) -> None:
        await self.backend.close()

    async def insert(self, record: Record) -> None:
        """Insert; an insert whose answer was lost, or which a driver repeated, is found to have happened."""
        deadline = self.deadline()
        try:
            await self._call("insert", self.backend.insert, record, deadline=deadline)
        except BackendError:
            stored = await self.get(record.id, deadline)
            if stored is None or stored.digest != record.digest:
                raise

    async def get(self, id: str, deadline: float | None = None) -> Record | None:
        return await self._call("get", self._get, id, deadline=deadline)

    async def _get(self, id: str) -> Record | None:
        record = await self.backend.get(id)
        if record is not None and not isinstance(record, Record):
            raise TypeError(f"get must return a Record or None, not {type(record).__name__}")
        return None if record is None else sound(record)

    async def replace(self, record: Record, deadline: float | None = None) -> bool:
        return await self._call("replace", self.backend.replace, record, deadline=deadline)

    async def delete(self, id: str) -> bool:
        """Delete; a deletion whose answer was lost is found to have happened."""
        deadline = self.deadline()
        try:
            return await self._call("delete", self.backend.delete, id, deadline=deadline)
        except BackendError:
            if await self.get(id, deadline) is None:
                return True
            raise

    async def of_user(self, user: UserId) -> list[Record]:
        return read_all(sound, await self._call("of_user", self.backend.of_user, user))

    async def purge(self, now: float) -> int:
        return await self._call("purge", self.backend.purge, now)

    async def _call(
        self, operation: str, call: Callable[..., Awaitable[T]], *arguments: Any, deadline: float | None = None
    ) -> T:
        try:
            async with asyncio.timeout_at(self.deadline() if deadline is None else deadline):
                answer = await call(*arguments)
        except BackendError as error:
            self._note_failure(operation, error)
            raise
        except Exception as error:
            text = "gave no answer in time" if isinstance(error, TimeoutError) else f"failed: {type(error).__name__}"
            failure = BackendError(f"the store {text}")
            self._note_failure(operation, error)
            raise failure from error
        if operation in self._failing:
            self._failing.discard(operation)
            # As loud as the failure: who was told of the one is told of the other.
            logger.warning("the store of persistent sessions answers again at %s", operation)
        return answer

    def _note_failure(self, operation: str, error: Exception) -> None:
        # Each operation for itself: a store that cannot write may well be read, again and again.
        now = asyncio.get_running_loop().time()
        if operation not in self._failing and now >= self._quiet_until.get(operation, now):
            self._failing.add(operation)
            self._quiet_until[operation] = now + QUIET_FOR
            logger.warning(
                "the store of persistent sessions fails at %s; until it answers, tokens are neither judged nor deleted",
                operation,
                exc_info=error,
            )
