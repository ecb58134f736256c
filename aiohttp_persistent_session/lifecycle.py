"""The rules put to work on a store, for the token and the session of one request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

from . import rules
from .backends.base import BackendError
from .record import Browser, PersistentSession, Record, Repeat, Secret, as_datetime, is_another_client
from .registry import Registry
from .rules import Moment, Outcome, Verdict
from .store import Calls
from .swaps import Swaps
from .tasks import end_tasks, spawn
from .tokens import Token, is_id

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

Accept: TypeAlias = Callable[[PersistentSession], Awaitable[bool]]

SLOW_ACCEPT = 1.0
"""Seconds after which a record is read again once the user was accepted: it may have been revoked meanwhile."""

LOST_WRITES = "the store lost writes"


class Result(NamedTuple):
    """What became of a request's token or session."""

    outcome: Outcome | None
    """None: the store failed, or the user was refused."""
    record: Record | None = None
    token: Token | None = None
    """The new token, for the response of this request and no other."""
    session: int = 0
    """The number of the request's session."""
    failed: bool = False
    """Whether the store failed, so that nothing is known."""


FAILED = Result(None, failed=True)

_SERVED = (Outcome.EXCHANGE, Outcome.LIVE)


class Lifecycle:
    """Judges what requests present, and says what their responses may carry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store
        self._counters = registry.counters
        self._policy = registry.policy
        self._now = registry.now
        self._swaps = Swaps(registry.seen, registry.policy, registry.now)
        self._looks: dict[object, asyncio.Task[Result]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    # Restore

    async def restore(
        self, tokens: Sequence[Token], browser: Browser, accept: Accept | None = None, *, may_issue: bool = True
    ) -> Result:
        """Judge tokens of one selector that came without a live session; exchange, join or end (2 to 5).

        A failing store makes the request anonymous, and is logged.

        Args:
            tokens: what the request brought, one as a rule.
            browser: what the request tells of its browser.
            accept: asked before the token is spent. What it raises is raised, and nothing has changed.
            may_issue: whether the response can carry a new token.
        """
        digests = [token.digest for token in tokens]
        offered = tokens[0].with_new_secret() if may_issue else None

        def judge(record: Record | None, moment: Moment) -> Verdict:
            return rules.restore(record, rules.best(record, digests, moment), moment)

        try:
            async with self._store.calls() as calls:
                record = await self._swaps.read(calls, tokens[0].id)
                if (
                    record is not None
                    and accept is not None
                    and judge(record, self._swaps.moment()).outcome is Outcome.JOIN
                ):
                    record = await self._accepted(calls, record, accept)
                verdict = await self._swaps.settle(calls, record, judge, browser, offered)
            return await self._conclude(verdict, offered, record, browser)
        except _RefusedError as refused:
            return await self._refuse(refused.record)
        except BackendError:
            return FAILED

    async def _accepted(self, calls: Calls, record: Record, accept: Accept) -> Record | None:
        asked_at = self._now()
        with calls.paused():
            if not await accept(self._registry.shown(record, current=True)):
                raise _RefusedError(record)
        is_slow = abs(self._now() - asked_at) > SLOW_ACCEPT
        return await self._swaps.read(calls, record.id) if is_slow else record

    async def _refuse(self, record: Record) -> Result:
        try:
            await self._registry.end(record, self._registry.signals.on_revoke, "refused")
        except BackendError:
            return FAILED
        return Result(None)

    async def existing(self, candidates: Sequence[Sequence[Token]]) -> Sequence[Token]:
        """Return the tokens whose record exists, if those of one selector alone do; otherwise none.

        Raises:
            BackendError: the store failed.
        """
        async with self._store.calls() as calls:
            records = [(tokens, await calls.get(tokens[0].id)) for tokens in candidates]
        now = self._now()
        found = [tokens for tokens, one in records if one is not None and not self._policy.is_over(one, now)]
        return found[0] if len(found) == 1 else ()

    # Check

    async def check(
        self, id: str, tokens: Sequence[Token], session: int, browser: Browser, *, may_issue: bool = True
    ) -> Result:
        """Read the record of a live session, judge the request and renew (6, 7). A failing store is logged.

        Requests that present the same secret and number share a look under way; a new token goes to the one that began
        it.

        Args:
            id: the persistent session that opened the session.
            tokens: of this persistent session, that the request brought; one as a rule, or none.
            session: the session's number.
            browser: what the request tells of its browser.
            may_issue: whether the response can carry a new token.
        """
        if not is_id(id):
            return Result(Outcome.UNKNOWN)
        digests = [token.digest for token in tokens]
        offered = tokens[0].with_new_secret() if tokens and may_issue else None
        if self._policy.check_interval == 0:
            # What was revoked before must show: a look that began earlier will not do.
            return await self._look(id, digests, session, browser, offered)
        key = (id, tuple(digests), session, may_issue)
        if (look := self._looks.get(key)) is not None:
            return (await asyncio.shield(look))._replace(token=None)
        look = self._looks[key] = spawn(self._look(id, digests, session, browser, offered), self._running)
        look.add_done_callback(lambda _: self._looks.pop(key, None))
        return await asyncio.shield(look)

    async def _look(
        self, id: str, digests: Sequence[bytes], session: int, browser: Browser, offered: Token | None
    ) -> Result:
        def judge(record: Record | None, moment: Moment) -> Verdict:
            return rules.check(record, rules.best(record, digests, moment) if digests else None, session, moment)

        try:
            async with self._store.calls() as calls:
                record = await self._swaps.read(calls, id, keep_absent=True)
                verdict = await self._swaps.settle(calls, record, judge, browser, offered)
        except BackendError:
            return FAILED
        try:
            return await self._conclude(verdict, offered, record, browser)
        except BackendError:
            # Its secrets are taken away already: whoever presents one next has it ended.
            return Result(Outcome.ENDED)

    # What a response may carry

    async def stamp(self, token: Token) -> Outcome | None:
        """Let a token that was issued some time ago count as issued now.

        Return LIVE where it may be sent, and None where the store failed.
        """

        def judge(record: Record | None, moment: Moment) -> Verdict:
            return rules.restamp(record, token.digest, moment)

        try:
            async with self._store.calls() as calls:
                record = await self._swaps.read(calls, token.id)
                verdict = await self._swaps.settle(calls, record, judge)
        except BackendError:
            return None
        return verdict.outcome

    async def read(self, id: str) -> bool:
        """Let this worker see the record as it is now; False where the store fails."""
        try:
            async with self._store.calls() as calls:
                await self._swaps.read(calls, id)
        except BackendError:
            return False
        return True

    async def change_data(self, record: Record, text: str) -> Record | None:
        """Let a record have other data; return it as it is then, or None where it has ended meanwhile.

        Raises:
            BackendError: the store failed, or others won each swap.
        """

        def judge(stored: Record | None, moment: Moment) -> Verdict:
            if stored is None or self._policy.is_over(stored, moment.now):
                return rules.UNKNOWN
            if stored.data == text:
                return Verdict(Outcome.ENDED, stored)
            return Verdict(Outcome.ENDED, replace(stored, data=text, revision=stored.revision + 1), writes=True)

        async with self._store.calls() as calls:
            return (await self._swaps.settle(calls, record, judge)).record

    # Inside

    async def _conclude(
        self, verdict: Verdict, offered: Token | None, former: Record | None, browser: Browser
    ) -> Result:
        """End what a verdict ends, report what it reports, and count.

        Args:
            verdict: what the request turned out to be.
            offered: the new token, which counts where the verdict issues it.
            former: the record as it was read.
            browser: what the request tells of its browser.

        Raises:
            BackendError: the store failed as it was to delete the record.
        """
        outcome, record = verdict.outcome, verdict.record
        if record is not None and outcome is Outcome.REUSE:
            await self._registry.end(record, self._registry.signals.on_reuse)
        if record is not None and outcome is Outcome.LOST:
            logger.error("the store has lost writes: the persistent session %s has ended", record.id)
            await self._registry.end(record, self._registry.signals.on_revoke, LOST_WRITES)
        if record is not None and verdict.left_behind:
            await self._report(record, verdict.left_behind)
        if former is not None and verdict.writes and outcome in _SERVED and is_another_client(former, browser):
            self._counters.new_clients += 1
            await self._registry.tell(self._registry.signals.on_new_client, former, current=True)
        self._counters.exchanges += outcome is Outcome.EXCHANGE
        self._counters.joins += outcome is Outcome.JOIN
        self._counters.rotations += outcome is Outcome.LIVE and verdict.issued is not None
        return Result(outcome, record, None if verdict.issued is None else offered, verdict.session)

    async def _report(self, record: Record, left_behind: Sequence[Secret]) -> None:
        count = sum(secret.reported for secret in record.secrets)
        self._counters.repeats += len(left_behind)
        for secret in left_behind:
            used_for = max(0.0, (secret.seen_at or secret.issued_at) - secret.issued_at)
            repeat = Repeat(
                issued_at=as_datetime(secret.issued_at),
                user_agent=secret.user_agent or "",
                address=secret.address or "",
                shown=secret.shown,
                used_for=timedelta(seconds=used_for),
                count=count,
            )
            await self._registry.tell(self._registry.signals.on_repeat, record, current=True, repeat=repeat)

    async def close(self) -> None:
        """Give work under way its time, and end it then."""
        await end_tasks(self._running, self._store.timeout)


class _RefusedError(Exception):
    """The user of a record was not accepted."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record
