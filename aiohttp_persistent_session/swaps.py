"""Reads a record, judges it by a rule, and swaps in what the verdict says: the one compare-and-swap loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from . import rules
from .backends.base import BackendError
from .policy import Policy
from .record import Browser, Record
from .rules import Moment, Outcome, Verdict
from .seen import Seen
from .store import Calls
from .tokens import Token

Judge: TypeAlias = Callable[[Record | None, Moment], Verdict]

SWAP_ATTEMPTS = 5
NOBODY = Browser()


class Swaps:
    """Puts verdicts to work.

    Args:
        seen: what this worker remembers of records; each read and each swap adds to it.
        policy: the durations.
        now: the time, in whole milliseconds.
    """

    def __init__(self, seen: Seen, policy: Policy, now: Callable[[], float]) -> None:
        self.seen = seen
        self._policy = policy
        self._now = now

    def moment(self, browser: Browser = NOBODY, offered: Token | None = None) -> Moment:
        """Return what a request is judged by now."""
        return Moment(self._now(), self._policy, browser, None if offered is None else offered.digest)

    async def read(self, calls: Calls, id: str, *, keep_absent: bool = False) -> Record | None:
        """Return the record as it is now.

        Args:
            calls: the run of calls.
            id: the persistent session's.
            keep_absent: whether to remember that there is none. Anybody can make up an id that only a token names.
        """
        question = self.seen.ask()
        record = await calls.get(id)
        if record is not None:
            self.seen.put(record, question, self._now())
        elif keep_absent or self.seen.get(id) is not None:
            self.seen.put_absent(id, self._now(), question)
        return record

    async def settle(
        self, calls: Calls, record: Record | None, judge: Judge, browser: Browser = NOBODY, offered: Token | None = None
    ) -> Verdict:
        """Judge ``record``; swap in what changes; judge again what is stored where another swap won.

        After :data:`SWAP_ATTEMPTS` lost swaps a valid secret joins, and a live request goes on (2).

        Raises:
            BackendError: the store failed, or others won each swap of an accusation.
        """
        for _ in range(SWAP_ATTEMPTS):
            verdict = judge(record, self.moment(browser, offered))
            if record is None or verdict.record is None or not verdict.writes:
                return verdict
            record = await self._swap(calls, record, verdict.record)
            if record == verdict.record or (record is not None and _has_issued(record, verdict)):
                return verdict._replace(record=record)
        verdict = judge(record, self.moment(browser))
        if verdict.writes and verdict.outcome is not Outcome.LIVE:
            raise BackendError(f"others wrote the record {SWAP_ATTEMPTS} times in a row")
        return verdict._replace(left_behind=())

    async def _swap(self, calls: Calls, judged: Record, wanted: Record) -> Record | None:
        """Try to put ``wanted`` in the place of ``judged``; return what is stored then, whoever wrote it."""
        question, failure = self.seen.ask(), None
        try:
            if await calls.replace(wanted):
                self.seen.put(wanted, question, self._now())
                return wanted
        except BackendError as error:
            failure = error
        except asyncio.CancelledError:
            self.seen.put_off(judged.id, self._now())  # reads may answer where writes hang
            raise
        stored = await self.read(calls, judged.id)
        if failure is not None and stored is not None and stored.revision == judged.revision:
            # The look was good all the same: the next one may wait.
            self.seen.put_off(judged.id, self._now())
            raise failure
        return stored


def _has_issued(record: Record, verdict: Verdict) -> bool:
    """Tell whether the swap was won whose answer said otherwise, or did not come (2)."""
    return verdict.issued is not None and rules.find(record, verdict.issued) is not None
