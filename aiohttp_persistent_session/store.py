"""A backend as the rules' work calls it: bounded in time, one call at a time while it hangs, outages logged once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from .backends.base import Backend, BackendError
from .backends.drivers import driver_error, readable_ones
from .counters import Counters
from .record import Record, UserId, readable
from .tasks import end_tasks, spawn

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")

OPENS_WITHIN = 10.0
"""Seconds that the application's start waits for a store. A slower one is opened in the background."""

ASKED_AFTER = 0.1, 1.0
"""Seconds between two questions to a store that hangs, or cannot be reached: at first, and at most."""

QUIET_FOR = 60.0
"""Seconds in which one worker logs no second outage of one operation: a store that is overloaded fails now and then."""

_QUICK = 0.25
"""The part of the time-out within which a failure is no sign of a store that hangs."""
_WRITES = ("insert", "replace")  # a sign-in whose insert hangs is undone by a delete, which waits behind it
_LONGEST_REASON = 300
SET_UP_WRONG = (ValueError, TypeError, ImportError)
"""What opening a backend raises that no waiting mends."""
_NOBODY = "A" * 22
_NOT_OPEN = (
    "the PersistentSessionManager is not open: use `async with manager:`, or await manager.open() as the application "
    "starts (setup() does so by itself)"
)


class Store:
    """Opens and closes a backend, and bounds calls of it.

    Args:
        backend: the store.
        timeout: seconds that one run of calls may take.
        counters: where outages are counted.
    """

    def __init__(self, backend: Backend, timeout: float, counters: Counters) -> None:
        self.backend = backend
        self.timeout = timeout
        self.counters = counters
        self.log = OutageLog(counters)
        self._is_open = False
        self._refusal: BaseException | None = None
        """Why no call is made at present."""
        self._is_ready = False  # the backend's open has succeeded
        self._asking: set[asyncio.Task[Any]] = set()
        self._writes_wait_until = 0.0

    async def open(self, *, require: bool = False) -> None:
        """Open the backend. One that cannot be reached is opened in the background, and logged as an error.

        Args:
            require: whether a store that cannot be reached is a failure.

        Raises:
            ValueError, TypeError, ImportError: it is set up wrong.
            BackendError: it cannot be reached, and ``require`` is true. The text says why.
        """
        self._is_open = True
        try:
            async with asyncio.timeout(OPENS_WITHIN):
                await self.backend.open()
            self._is_ready = True
        except BaseException as error:
            is_unreachable = isinstance(error, Exception) and not isinstance(error, SET_UP_WRONG)
            if require or not is_unreachable:
                await self.close()
            if not is_unreachable:
                raise
            reason = f"the store of persistent sessions cannot be opened: {_reason(error)}"
            if require:
                raise BackendError(reason) from driver_error(error)
            logger.error("%s; it is tried again", reason)
            self._ask_in_background(error)

    async def close(self) -> None:
        """Ask no more, and close the backend."""
        self._is_open, self._is_ready, self._refusal = False, False, None
        await end_tasks(self._asking, 0)
        with contextlib.suppress(Exception):  # what it cannot close, nobody can
            await self.backend.close()

    def calls(self) -> Calls:
        """Return a run of calls that together take no longer than ``timeout``::

            async with store.calls() as calls:
                record = await calls.get(id)

        Raises:
            BackendError: on entering, while the store hangs; on leaving, where the time was up.
            RuntimeError: on entering, where the store is not open.
        """
        return Calls(self)

    def refuse(self) -> None:
        """Raise where no call is to be made."""
        if not self._is_open:
            raise RuntimeError(_NOT_OPEN)
        if self._refusal is not None:
            raise BackendError("the store is out of reach, and is tried again in the background") from self._refusal

    def refuse_write(self) -> None:
        """Raise where writes hang, while reads answer: one write at a time tries whether they still do."""
        now = asyncio.get_running_loop().time()
        if now < self._writes_wait_until:
            raise BackendError("the store gives no answer to writes")
        if self._writes_wait_until:
            self._writes_wait_until = now + self.timeout

    def answered(self, operation: str) -> None:
        """Let all write again, where it was a write that did not hang."""
        if operation in _WRITES:
            self._writes_wait_until = 0.0

    def hangs(self, operation: str, error: Exception) -> None:
        """Let all calls fail at once, until one question in the background is answered."""
        self.log.failed(operation, error)
        if operation in _WRITES:
            self._writes_wait_until = asyncio.get_running_loop().time() + ASKED_AFTER[1]
        # A purge may take long where the store is well.
        if operation != "purge" and self._is_open and self._refusal is None:
            self._ask_in_background(error)

    def _ask_in_background(self, outage: BaseException) -> None:
        self._refusal = outage
        spawn(self._ask_until_answered(), self._asking)

    async def _ask_until_answered(self) -> None:
        (pause, longest), is_told = ASKED_AFTER, False
        while self._is_open:  # a driver may turn the cancellation of this task into an error of its own
            try:
                if not self._is_ready:
                    async with asyncio.timeout(OPENS_WITHIN):
                        await self.backend.open()
                    self._is_ready = True
                async with asyncio.timeout(self.timeout):
                    await self.backend.get(_NOBODY)
            except Exception as error:  # noqa: BLE001 -- whatever a driver raises: it is asked again
                self._refusal = error
                self.log.failed("get", error)
                if isinstance(error, SET_UP_WRONG) and not is_told:
                    is_told = True
                    logger.error("the store of persistent sessions is set up wrong: %s", _reason(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self._refusal = None
                self.log.answered("get")
                return


class Calls:
    """A run of calls. What they raise is a BackendError, chained to its cause; see :class:`.backends.base.Backend`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._backend = store.backend
        self._operation = ""

    async def __aenter__(self) -> Calls:
        self._store.refuse()
        self._scope = asyncio.timeout(self._store.timeout)
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            await self._scope.__aexit__(kind, error, trace)
        except TimeoutError as late:
            self._store.hangs(self._operation, late)
            raise BackendError("the store gave no answer in time") from late

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the time while something else is awaited; give what follows all of it."""
        self._refuse_late()
        self._scope.reschedule(None)
        try:
            yield
        finally:
            self._scope.reschedule(asyncio.get_running_loop().time() + self._store.timeout)

    async def insert(self, record: Record) -> None:
        """Insert; an insert whose answer was lost, or which a driver repeated, is found to have happened."""
        try:
            await self._call("insert", self._backend.insert, record)
        except BackendError:
            stored = await self.get(record.id)
            if stored is None or stored.secrets != record.secrets:
                raise

    async def get(self, id: str) -> Record | None:
        return await self._call("get", self._get, id)

    async def _get(self, id: str) -> Record | None:
        record = await self._backend.get(id)
        if record is not None and not isinstance(record, Record):
            raise TypeError(f"get must return a Record or None, not {type(record).__name__}")
        return None if record is None else readable(record)

    async def replace(self, record: Record) -> bool:
        return await self._call("replace", self._backend.replace, record)

    async def delete(self, id: str) -> bool:
        """Delete; a deletion whose answer was lost is found to have happened."""
        try:
            return await self._call("delete", self._backend.delete, id)
        except BackendError:
            if await self.get(id) is None:
                return True
            raise

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        records = await self._call("of_user", self._backend.of_user, user, limit)
        return readable_ones(lambda record: record, records)

    async def purge(self, now: float) -> int:
        return await self._call("purge", self._backend.purge, now)

    async def _call(self, operation: str, call: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        self._operation = operation
        self._refuse_late()
        if operation in _WRITES:
            self._store.refuse_write()
        try:
            answer = await call(*arguments)
        except Exception as error:
            # A driver may have a limit of its own, and an error of its own for it.
            left = (self._scope.when() or math.inf) - asyncio.get_running_loop().time()
            is_quick = left > self._store.timeout * (1 - _QUICK)
            (self._store.log.failed if is_quick else self._store.hangs)(operation, error)
            if is_quick:
                self._store.answered(operation)
            if isinstance(error, BackendError):
                raise
            raise BackendError(f"the store failed: {type(error).__name__}") from error
        self._store.log.answered(operation)
        self._store.answered(operation)
        return answer

    def _refuse_late(self) -> None:
        if self._scope.expired():
            # A driver turned the cancellation into an answer of its own: nothing bounds a further call.
            raise BackendError("the store gave no answer in time")


class OutageLog:
    """Logs each outage once, and its end. Operations count apart: a store that cannot write may well be read."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._failing: set[str] = set()
        self._quiet_until: dict[str, float] = {}

    def failed(self, operation: str, error: BaseException) -> None:
        now = asyncio.get_running_loop().time()
        if operation in self._failing or now < self._quiet_until.get(operation, now):
            return
        self._failing.add(operation)
        self._counters.outages += 1
        self._quiet_until[operation] = now + QUIET_FOR
        logger.warning(
            "the store of persistent sessions fails at %s: %s; until it answers, tokens are neither judged nor deleted",
            operation,
            _reason(error),
            exc_info=error,
        )

    def answered(self, operation: str) -> None:
        if operation in self._failing:
            self._failing.discard(operation)
            # The same level as the failure, so that whoever saw the alert sees the recovery.
            logger.warning("the store of persistent sessions answers again at %s", operation)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    cause = driver_error(error)
    return " ".join(str(cause).split())[:_LONGEST_REASON].rstrip(".") or type(cause).__name__
