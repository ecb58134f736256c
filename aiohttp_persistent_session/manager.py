"""The rules put to work on a store: exchanges, checks, revocations, signals. It knows of requests what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from aiosignal import Signal

from .arguments import Duration, count_or_none, json_object, seconds, user_id
from .backends.base import Backend, BackendError, start
from .record import (
    Client,
    Outcome,
    PersistentSession,
    Policy,
    Record,
    UserId,
    current_secret,
    exchange,
    judge,
    same_user,
    show,
    touch,
    was_exchanged_with,
)
from .sightings import Sighting, Sightings
from .store import Store
from .tokens import Token, digest, is_id, new_salt
from .unanswered import UnansweredExchanges

if TYPE_CHECKING:
    from aiohttp import web

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

Accept: TypeAlias = Callable[[PersistentSession], Awaitable[bool]]
T = TypeVar("T")
SessionSignal: TypeAlias = "Signal[PersistentSession, web.Request | None]"

LONGEST_MAX_AGE = 400 * 24 * 3600
"""Seconds for which browsers keep a cookie at most (RFC 6265bis, 5.5)."""

LONGEST_GRACE_PERIOD = 3600.0
LONGEST_TIMEOUT = 300.0
"""Seconds. Whoever wants more has probably written milliseconds: a copied token joins unnoticed as long as that."""

PURGE_INTERVAL = 3600.0

SLOW_ACCEPT = 1.0
"""Seconds after which a record is read again before a request joins: it may have been revoked meanwhile."""

_SWAP_ATTEMPTS = 10
_ACCEPTED = (Outcome.CURRENT, Outcome.RACE)


@dataclass(frozen=True, slots=True)
class Restoration:
    """What became of a presented token."""

    outcome: Outcome | None
    """CURRENT: exchanged, open a session; RACE: joined; None: the store failed, or ``accept`` said no."""
    record: Record | None = None
    token: Token | None = None
    """The current token, where the outcome is CURRENT or RACE."""


class PersistentSessionManager:
    """Keeps the persistent sessions of one application; also without any request, for administrators' jobs::

        async with PersistentSessionManager(backend) as manager:
            await manager.revoke_all("mallory")

    Args:
        backend: where the records are kept.
        max_age: how long a browser may stay away (timedelta or seconds; at most 400 days).
        grace_period: how long a spent token may still join its exchange (timedelta or seconds; 0: not at all; at most
            an hour).
        check_interval: how soon a revocation reaches a live session (timedelta or seconds; 0: at once).
        max_lifetime: when a persistent session ends however active (timedelta or seconds; None: never).
        max_sessions: how many a user may have; the least recently seen gives way (None: any number).
        timeout: how long one call of the store may take (timedelta or seconds; at most 5 minutes).

    Raises:
        TypeError, ValueError: an option is of the wrong type or out of range; the message names it.

    Its interface is what administrators need: :meth:`sessions`, :meth:`get`, :meth:`revoke`, :meth:`revoke_all`,
    :meth:`purge`, :meth:`open`, :meth:`close`, the signals and the clock. The rest serves the plugin and may change.

    Receivers of the signals are coroutine functions of a :class:`PersistentSession` and a ``web.Request`` (None where
    there was none). An exception of theirs is logged and changes nothing.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        max_age: Duration = timedelta(days=30),
        grace_period: Duration = 10,
        check_interval: Duration = 60,
        max_lifetime: Duration | None = None,
        max_sessions: int | None = None,
        timeout: Duration = 2,
    ) -> None:
        if not isinstance(backend, Backend):
            hint = f": pass an object, {backend.__name__}(...)" if isinstance(backend, type) else ""
            if isinstance(backend, str):
                hint = ": pass RedisBackend(url), MongoBackend(url) or SQLBackend(url)"
            raise TypeError(f"backend must be a Backend, not {type(backend).__name__}{hint}")
        self.policy: Policy = Policy(
            max_age=seconds("max_age", max_age, at_least=1, at_most=LONGEST_MAX_AGE),
            grace_period=seconds("grace_period", grace_period, at_most=LONGEST_GRACE_PERIOD),
            check_interval=seconds("check_interval", check_interval),
            max_lifetime=(None if max_lifetime is None else seconds("max_lifetime", max_lifetime, at_least=1)),
        )
        for option in ("grace_period", "check_interval"):
            if getattr(self.policy, option) > self.policy.max_age:
                value, limit = getattr(self.policy, option), self.policy.max_age
                raise ValueError(f"{option} ({value:g} s) must not exceed max_age ({limit:g} s)")
        self.max_sessions: int | None = count_or_none("max_sessions", max_sessions)
        time_of_a_call = seconds("timeout", timeout, at_most=LONGEST_TIMEOUT)
        if time_of_a_call == 0:
            raise ValueError("timeout must be more than 0")
        self.clock: Callable[[], float] = time.time
        """The one source of time: seconds since the epoch. Tests may put another in its place."""

        self.on_remember: SessionSignal = Signal(self)
        """A browser signed in and is remembered."""
        self.on_restore: SessionSignal = Signal(self)
        """A token was exchanged for a session. Requests that joined the exchange are not told of."""
        self.on_forget: SessionSignal = Signal(self)
        """A browser signed itself out, or signed in anew."""
        self.on_reuse: SessionSignal = Signal(self)
        """A copied token was found out; the persistent session has been ended."""
        self.on_revoke: SessionSignal = Signal(self)
        """Ended from elsewhere: by its user or an administrator, by ``max_sessions``, or as ``validate`` refused."""

        self._store = Store(backend, time_of_a_call)
        self._sightings = Sightings()
        self.recall: Callable[[str], Sighting | None] = self._sightings.get
        """What this worker last saw of a record, however long ago."""
        self._unanswered = self._new_unanswered()
        self._checks: dict[str, asyncio.Task[Sighting | None]] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._purging: asyncio.Task[None] | None = None

    # Opening and closing

    async def open(self) -> None:
        """Open the backend, freeze the signals, and purge expired records from now on once an hour.

        Raises:
            BackendError: the store cannot be reached.
        """
        for signal in (
            self.on_remember,
            self.on_restore,
            self.on_forget,
            self.on_reuse,
            self.on_revoke,
        ):
            signal.freeze()
        await self._store.open()
        self._unanswered = self._new_unanswered()
        self._purging = asyncio.create_task(self._purge_hourly())

    async def close(self) -> None:
        """Stop the purge and the checks under way, and close the backend."""
        if self._running:
            await asyncio.wait(self._running, timeout=self._store.timeout)
        tasks: list[asyncio.Task[Any]] = [*self._checks.values(), *self._running]
        if self._purging is not None:
            tasks.append(self._purging)
            self._purging = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._unanswered.close()
        await self._store.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # For administrators

    async def sessions(self, user: UserId, *, current: str | None = None) -> list[PersistentSession]:
        """Return the user's persistent sessions, the newest first; the one whose id is ``current`` says so.

        Raises:
            BackendError: the store failed.
            TypeError, ValueError: ``user`` is no user's id.
        """
        return [show(record, current=record.id == current) for record in await self._records_of(user)]

    async def get(self, id: str, *, current: bool = False) -> PersistentSession | None:
        """Return one persistent session, or None where there is none or it has expired.

        Raises:
            BackendError: the store failed.
        """
        record = await self._store.get(id) if is_id(id) else None
        if record is None or self._now() >= record.expires_at:
            return None
        return show(record, current=current)

    async def revoke(self, id: str, *, request: web.Request | None = None) -> bool:
        """End one persistent session, whosever it is; return whether there was one.

        Raises:
            BackendError: the store failed.
        """
        record = await self._store.get(id) if is_id(id) else None
        return record is not None and await self._end(record, self.on_revoke, request)

    async def revoke_all(self, user: UserId, *, keep: str | None = None, request: web.Request | None = None) -> int:
        """End all persistent sessions of the user, but the one whose id is ``keep``; return how many.

        Raises:
            BackendError: the store failed; some may have been ended.
        """
        ended = 0
        for record in await self._records_of(user):
            if record.id != keep:
                ended += await self._end(record, self.on_revoke, request)
        return ended

    async def purge(self) -> int:
        """Delete expired records where the store does not do so by itself; return how many.

        Raises:
            BackendError: the store failed.
        """
        purged = 0
        while (batch := await self._store.purge(self._now())) > 0:
            purged += batch
        return purged

    # For the plugin

    async def remember(
        self,
        user: UserId,
        *,
        data: dict[str, Any] | None,
        client: Client,
        replaces: Collection[str],
        request: web.Request | None,
    ) -> tuple[Token, Record]:
        """Store a new persistent session, end those whose ids it ``replaces``, and return it with its token.

        Raises:
            TypeError, ValueError: ``user`` or ``data`` cannot be stored faithfully; nothing is stored.
            BackendError: the store failed; nobody is remembered.
        """
        token = Token.generate()
        now = self._now()
        record = Record(
            id=token.id,
            user=user_id(user),
            digest=digest(token.secret),
            created_at=now,
            seen_at=now,
            expires_at=self.policy.expires_at(now, now),
            user_agent=client.user_agent,
            address=client.address,
            data=json_object(data),
        )
        asked = self._sightings.ask()
        try:
            await self._store.insert(record)
            await self._make_room(record, replaces, request)
            await self.forget(replaces, request=request)
            self._sight(record, asked)
            await self._send(self.on_remember, record, request, current=True)
        except BaseException:
            await self.unremember(record.id)
            raise
        return token, record

    async def _make_room(self, newest: Record, replaced: Collection[str], request: web.Request | None) -> None:
        if self.max_sessions is None:
            return
        records = [record for record in await self._records_of(newest.user) if record.id not in replaced]
        # Of two sign-ins at once each may see the other: only the older one may be ended for the younger one's sake.
        older = [record for record in records if (record.created_at, record.id) < (newest.created_at, newest.id)]
        older.sort(key=lambda record: record.seen_at)
        for record in older[: max(0, len(records) - self.max_sessions)]:
            await self._end(record, self.on_revoke, request)

    async def unremember(self, id: str) -> None:
        """Take back a persistent session whose token was never sent. Raises nothing: what is left of it expires."""
        with contextlib.suppress(BackendError):
            await self._store.delete(id)
        self._sightings.keep_nothing(id)

    async def forget(self, ids: Iterable[str], *, request: web.Request | None) -> None:
        """End the persistent sessions that a browser brought along.

        Raises:
            BackendError: the store failed.
        """
        for id in ids:
            record = await self._store.get(id)
            if record is not None:
                await self._end(record, self.on_forget, request)
            self._sightings.keep_nothing(id)

    async def restore(
        self, token: Token, *, client: Client, accept: Accept | None, request: web.Request | None
    ) -> Restoration:
        """Judge a token and exchange it, or join its exchange. A failing store makes it a nobody's, and is logged.

        ``accept``, where there is one, is asked once, before the token is spent; what it raises is raised, and nothing
        has changed.
        """
        try:
            return await self._restore(token, client, accept, request)
        except BackendError:
            return Restoration(None)

    async def _restore(
        self, token: Token, client: Client, accept: Accept | None, request: web.Request | None
    ) -> Restoration:
        presented_at = self._now()
        await self._unanswered.settle(token.id)
        asked, asked_at = self._sightings.ask(), self._now()
        record = await self._store.get(token.id)
        outcome = judge(record, token.secret, presented_at, self.policy)
        if record is not None and outcome in _ACCEPTED:
            if accept is not None and not await accept(show(record, current=True)):
                await self._end(record, self.on_revoke, request)
                return Restoration(None)
            if self._now() - asked_at > SLOW_ACCEPT:
                asked, record = self._sightings.ask(), await self._store.get(token.id)
            outcome, record = await self._exchange_or_join(record, token, presented_at, client)
        if record is not None and outcome is Outcome.REUSE and await self._end(record, self.on_reuse, request):
            logger.warning("a copied token was presented: persistent session %s has ended", record.id)
        if record is None or outcome not in _ACCEPTED:
            return Restoration(outcome)
        secret = current_secret(record, token.secret)
        if secret is None:
            return Restoration(Outcome.LATE)
        if outcome is Outcome.RACE and not self._unanswered.hand_out(record):
            return Restoration(None)
        self._sight(record, asked)
        return Restoration(outcome, record, token.with_secret(secret))

    async def tell_of_restore(self, record: Record, request: web.Request | None) -> None:
        """Send ``on_restore``: once the response is sure to carry the new token, whatever becomes of the receivers."""
        await self._send(self.on_restore, record, request, current=True)

    async def _exchange_or_join(
        self, record: Record | None, token: Token, presented_at: float, client: Client
    ) -> tuple[Outcome, Record | None]:
        """Return the outcome of the last judgement, with the record as it is then.

        Raises:
            BackendError: the store failed, or the time of one call was up.
        """
        salt, deadline = new_salt(), self._store.deadline()
        for _ in range(_SWAP_ATTEMPTS):
            outcome = judge(record, token.secret, presented_at, self.policy)
            if record is None or outcome is not Outcome.CURRENT:
                return outcome, record
            exchanged = exchange(record, token.secret, salt, self._now(), self.policy, client)
            record = await self._even_if_cancelled(self._swap(record, exchanged, token, deadline))
            if record is not None and was_exchanged_with(record, salt):
                # Also where the swap seemed lost: only its answer was, or a driver repeated it.
                return outcome, record
        raise BackendError(f"others wrote the record {_SWAP_ATTEMPTS} times in a row")

    async def _swap(self, seen: Record, exchanged: Record, token: Token, deadline: float) -> Record | None:
        """Try to put ``exchanged`` in the place of ``seen``; return the record that is there then, whoever wrote it.

        Raises:
            BackendError: whether the swap happened, or happens yet, is not known. It is seen to.
        """
        try:
            return await self._try_to_swap(seen, exchanged, deadline)
        except BackendError:
            self._unanswered.add(exchanged, digest(token.secret))
            raise

    async def _try_to_swap(self, seen: Record, exchanged: Record, deadline: float) -> Record | None:
        try:
            if await self._store.replace(exchanged, deadline):
                return exchanged
        except BackendError:
            if self._store.is_over(deadline):
                raise
            record = await self._store.get(exchanged.id, deadline)
            if record == seen:
                raise
            return record
        return await self._store.get(exchanged.id, deadline)

    def note_spelling(self, token: Token) -> None:
        """Let the current token be known again by its text, until the record is looked at anew."""
        sighting = self._sightings.get(token.id)
        if sighting is not None and compare_digest(sighting.digest, digest(token.secret)):
            self._sightings[token.id] = sighting._replace(spelling=hash(token.cookie_value))

    async def check(self, id: str, client: Client, secret: bytes | None = None) -> Sighting | None:
        """Look a live session's record up and renew it; None where the store failed, which is logged.

        Concurrent checks of one id share one look. ``secret`` is what the request presented.
        """
        if self.policy.check_interval == 0:
            # Whoever asks must see what was revoked before: a look that began earlier will not do.
            return await self._check(id, client, secret)
        task = self._checks.get(id)
        if task is None:
            task = self._checks[id] = asyncio.create_task(self._check(id, client, secret))
            task.add_done_callback(lambda _: self._checks.pop(id, None))
        return await asyncio.shield(task)

    async def _check(self, id: str, client: Client, secret: bytes | None) -> Sighting | None:
        try:
            for _ in range(_SWAP_ATTEMPTS):
                asked = self._sightings.ask()
                record = await self._store.get(id) if is_id(id) else None
                now = self._now()
                if record is None or now >= record.expires_at:
                    return self._sightings.keep_nothing(id, asked)
                sighting = self._sight(record, asked)
                if now - record.seen_at < self.policy.write_interval:
                    return sighting
                touched = touch(record, now, self.policy, client, secret)
                # Should the write fail, the look was good all the same: the next one may wait.
                self._sightings.keep(sighting._replace(fresh_until=now + self.policy.check_interval))
                if await self._store.replace(touched):
                    return self._sight(touched, asked)
        except BackendError:
            return None
        return self._sightings.get(id)

    async def confirm(self, token: Token) -> bool | None:
        """Read whether ``token`` is current now; None where the store failed, which is logged."""
        asked = self._sightings.ask()
        try:
            record = await self._store.get(token.id)
        except BackendError:
            return None
        if record is None or self._now() >= record.expires_at:
            self._sightings.keep_nothing(token.id, asked)
            return False
        return compare_digest(self._sight(record, asked).digest, digest(token.secret))

    # Inside

    def _new_unanswered(self) -> UnansweredExchanges:
        return UnansweredExchanges(self._store, self.policy.grace_period, self._now)

    def _now(self) -> float:
        # In whole milliseconds, which every store keeps.
        return round(self.clock(), 3)

    def _sight(self, record: Record, asked: int) -> Sighting:
        now, ends_at = self._now(), self.policy.ends_at(record.created_at)
        # Counted from the last write, or the cookie would be renewed beyond the record.
        fresh_until = min(record.seen_at, now) + self.policy.check_interval
        return self._sightings.keep(
            Sighting(
                id=record.id,
                user=record.user,
                digest=record.digest,
                revision=record.revision,
                asked=asked,
                fresh_from=now - self.policy.check_interval,
                fresh_until=min(fresh_until, ends_at),
                ends_at=ends_at,
            )
        )

    async def _records_of(self, user: UserId) -> list[Record]:
        user = user_id(user)
        now = self._now()
        records = [
            record
            for record in await self._store.of_user(user)
            if now < record.expires_at and same_user(record.user, user)
        ]
        return sorted(records, key=lambda record: record.created_at, reverse=True)

    async def _end(self, record: Record, signal: SessionSignal, request: web.Request | None) -> bool:
        return await self._even_if_cancelled(self._delete_and_tell(record, signal, request))

    async def _delete_and_tell(self, record: Record, signal: SessionSignal, request: web.Request | None) -> bool:
        self._sightings.pop(record.id, None)  # should the call fail, nobody knows: the next check looks
        deleted = await self._store.delete(record.id)
        self._sightings.keep_nothing(record.id)
        if deleted:
            await self._send(signal, record, request)
        return deleted

    async def _send(
        self, signal: SessionSignal, record: Record, request: web.Request | None, *, current: bool = False
    ) -> None:
        for receiver in signal:
            try:
                await receiver(show(record, current=current), request)
            except Exception:
                logger.exception("a receiver of a signal failed for the persistent session %s", record.id)

    async def _even_if_cancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Await ``work``, which goes on by itself where the request that waits for it is cancelled.

        Or who hangs up at the right moment would leave a token exchanged and its copy never found out.
        """
        return await asyncio.shield(start(work, self._running))

    async def _purge_hourly(self) -> None:
        while True:
            with contextlib.suppress(BackendError):
                await self.purge()
            # Workers started together should not purge together.
            await asyncio.sleep(PURGE_INTERVAL * random.uniform(0.9, 1.1))  # noqa: S311 -- no secret
