"""The rules put to work on a store: exchanges, checks, revocations, signals. It knows of requests what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias, TypeVar

from aiosignal import Signal

from .arguments import Duration, count_or_none, json_object, seconds, user_id
from .backends.base import Backend, BackendError
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
from .tokens import Token, digest, is_id, new_salt

if TYPE_CHECKING:
    from aiohttp import web

logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")
Accept: TypeAlias = Callable[[PersistentSession], Awaitable[bool]]
SessionSignal: TypeAlias = "Signal[PersistentSession, web.Request | None]"

LONGEST_MAX_AGE = 400 * 24 * 3600
"""Seconds for which browsers keep a cookie at most (RFC 6265bis, 5.5)."""

PURGE_INTERVAL = 3600.0

_SIGHTINGS_KEPT = 65536
_SWAP_ATTEMPTS = 10
_FOREVER = math.inf
_ACCEPTED = (Outcome.CURRENT, Outcome.RACE)


class Sighting(NamedTuple):
    """What this worker last saw of a record in the store. One with infinite ``revision`` says that it is gone."""

    id: str
    digest: bytes
    revision: float
    at: float
    ends_at: float
    spelling: bytes = b""
    """SHA-256 of the current token's text, once a browser presented it: it is known again without being parsed."""

    @property
    def gone(self) -> bool:
        return self.revision == _FOREVER

    def is_spelled(self, cookie_value: str) -> bool:
        """Tell whether ``cookie_value`` is known to spell the current token."""
        return compare_digest(self.spelling, sha256(cookie_value.encode("utf-8", "surrogateescape")).digest())


def _gone(id: str) -> Sighting:
    return Sighting(id, b"", _FOREVER, _FOREVER, _FOREVER)


class _Sightings(dict[str, Sighting]):
    """The newest sighting of each id, bounded in number. Ids are never given twice, so what is gone stays gone."""

    def keep(self, sighting: Sighting) -> Sighting:
        """Keep and return the newer of ``sighting`` and the one kept: answers of the store may overtake each other."""
        kept = self.pop(sighting.id, None)
        if kept is not None and kept.revision > sighting.revision:
            sighting = kept
        self[sighting.id] = sighting
        if len(self) > _SIGHTINGS_KEPT:
            del self[next(iter(self))]
        return sighting


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
        grace_period: how long a spent token may still join its exchange (timedelta or seconds; 0: not at all).
        check_interval: how soon a revocation reaches a live session (timedelta or seconds; 0: at once).
        max_lifetime: when a persistent session ends however active (timedelta or seconds; None: never).
        max_sessions: how many a user may have; the least recently seen gives way (None: any number).
        timeout: how long one call of the store may take (timedelta or seconds).

    Raises:
        TypeError, ValueError: an option is of the wrong type or out of range; the message names it.

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
            raise TypeError(f"backend must be a Backend, not {type(backend).__name__}")
        self.backend = backend
        self.policy = Policy(
            max_age=seconds("max_age", max_age, at_least=1, at_most=LONGEST_MAX_AGE),
            grace_period=seconds("grace_period", grace_period),
            check_interval=seconds("check_interval", check_interval),
            max_lifetime=(None if max_lifetime is None else seconds("max_lifetime", max_lifetime, at_least=1)),
        )
        if self.policy.grace_period > self.policy.max_age:
            raise ValueError("grace_period must not exceed max_age")
        if self.policy.check_interval > self.policy.max_age:
            raise ValueError("check_interval must not exceed max_age")
        self.max_sessions = count_or_none("max_sessions", max_sessions)
        self.timeout = seconds("timeout", timeout)
        if self.timeout == 0:
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

        self._sightings = _Sightings()
        self.recall: Callable[[str], Sighting | None] = self._sightings.get
        """What this worker last saw of a record, however long ago."""
        self._checks: dict[str, asyncio.Task[Sighting | None]] = {}
        self._purging: asyncio.Task[None] | None = None
        self._outage = False

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
        try:
            with _told_as_backend_error():
                await self.backend.open()
        except BaseException:
            await self.backend.close()
            raise
        self._purging = asyncio.create_task(self._purge_hourly())

    async def close(self) -> None:
        """Stop the purge and the checks under way, and close the backend."""
        tasks: list[asyncio.Task[Any]] = [*self._checks.values()]
        if self._purging is not None:
            tasks.append(self._purging)
            self._purging = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.backend.close()

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
        record = await self._call(self.backend.get(id)) if is_id(id) else None
        if record is None or self.clock() >= record.expires_at:
            return None
        return show(record, current=current)

    async def revoke(self, id: str, *, request: web.Request | None = None) -> bool:
        """End one persistent session, whosever it is; return whether there was one.

        Raises:
            BackendError: the store failed.
        """
        record = await self._call(self.backend.get(id)) if is_id(id) else None
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
        while batch := await self._call(self.backend.purge(self.clock())):
            purged += batch
        return purged

    # For the plugin

    async def remember(
        self,
        user: UserId,
        *,
        data: dict[str, Any] | None,
        client: Client,
        replaces: Iterable[str],
        request: web.Request | None,
    ) -> tuple[Token, Record]:
        """Store a new persistent session, end those whose ids it ``replaces``, and return it with its token.

        Raises:
            TypeError, ValueError: ``user`` or ``data`` cannot be stored faithfully; nothing is stored.
            BackendError: the store failed; nobody is remembered.
        """
        token = Token.generate()
        now = self.clock()
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
        await self._insert(record)
        try:
            await self.forget(replaces, request=request)
            await self._make_room(record, request)
        except BaseException:
            await self.unremember(record.id)
            raise
        self._sight(record)
        await self._send(self.on_remember, record, request)
        return token, record

    async def _insert(self, record: Record) -> None:
        try:
            await self._call(self.backend.insert(record))
        except BackendError:
            # A driver that repeats a command whose answer was lost is told that the id exists: by its own first copy.
            stored = await self._call(self.backend.get(record.id))
            if stored is None or stored.digest != record.digest:
                raise

    async def _make_room(self, newest: Record, request: web.Request | None) -> None:
        if self.max_sessions is None:
            return
        # Looked up after the insert: of two sign-ins at once, the later one to look sees both.
        others = [r for r in await self._records_of(newest.user) if r.id != newest.id]
        others.sort(key=lambda record: record.seen_at, reverse=True)
        for record in others[self.max_sessions - 1 :]:
            await self._end(record, self.on_revoke, request)

    async def unremember(self, id: str) -> None:
        """Take back a persistent session whose token was never sent. Raises nothing: what is left of it expires."""
        self._sightings.keep(_gone(id))
        try:
            await self._call(self.backend.delete(id))
        except BackendError as error:
            self._report(error)

    async def forget(self, ids: Iterable[str], *, request: web.Request | None) -> None:
        """End the persistent sessions that a browser brought along.

        Raises:
            BackendError: the store failed.
        """
        for id in ids:
            record = await self._call(self.backend.get(id))
            if record is not None:
                await self._end(record, self.on_forget, request)
            self._sightings.keep(_gone(id))

    async def restore(
        self, token: Token, *, client: Client, accept: Accept, request: web.Request | None
    ) -> Restoration:
        """Judge a token and exchange it, or join its exchange. A failing store makes it a nobody's, and is logged.

        ``accept`` is asked once, before the token is spent; what it raises is raised, and nothing has changed.
        """
        try:
            return await self._restore(token, client, accept, request)
        except BackendError as error:
            self._report(error)
            return Restoration(None)

    async def _restore(self, token: Token, client: Client, accept: Accept, request: web.Request | None) -> Restoration:
        record = await self._call(self.backend.get(token.id))
        outcome = judge(record, token.secret, self.clock(), self.policy)
        if record is not None and outcome in _ACCEPTED:
            if not await accept(show(record, current=True)):
                await self._end(record, self.on_revoke, request)
                return Restoration(None)
            async with self._in_time():
                outcome, record = await self._exchange_or_join(record, token, client)
        if record is not None and outcome is Outcome.REUSE:
            logger.warning("a copied token was presented: persistent session %s ends", record.id)
            await self._end(record, self.on_reuse, request)
        if record is None or outcome not in _ACCEPTED:
            return Restoration(outcome)
        secret = current_secret(record, token.secret)
        if secret is None:
            return Restoration(Outcome.LATE)
        self._sight(record)
        if outcome is Outcome.CURRENT:
            await self._send(self.on_restore, record, request)
        return Restoration(outcome, record, token.with_secret(secret))

    async def _exchange_or_join(
        self, record: Record | None, token: Token, client: Client
    ) -> tuple[Outcome, Record | None]:
        """Return the outcome after the last judgement, with the record as it is then."""
        salt = new_salt()
        for _ in range(_SWAP_ATTEMPTS):
            now = self.clock()
            if record is not None and was_exchanged_with(record, salt):
                # The swap that seemed lost was applied: only its answer was lost, or a driver repeated it.
                return Outcome.CURRENT, record
            outcome = judge(record, token.secret, now, self.policy)
            if record is None or outcome is not Outcome.CURRENT:
                return outcome, record
            exchanged = exchange(record, token.secret, salt, now, self.policy, client)
            with contextlib.suppress(BackendError):  # applied or not: the next look tells
                if await self._call(self.backend.replace(exchanged)):
                    return outcome, exchanged
            record = await self._call(self.backend.get(token.id))
        raise BackendError(f"others wrote the record {_SWAP_ATTEMPTS} times in a row")

    def note_spelling(self, token: Token) -> Sighting | None:
        """Let the current token be known again by its text, until the record is looked at anew."""
        sighting = self._sightings.get(token.id)
        if sighting is None or not compare_digest(sighting.digest, digest(token.secret)):
            return None
        return self._sightings.keep(sighting._replace(spelling=sha256(token.cookie_value.encode("ascii")).digest()))

    def is_recent(self, sighting: Sighting, now: float) -> bool:
        """Tell whether a live session needs no look at the store yet."""
        if sighting.gone:
            return True
        return 0 <= now - sighting.at < self.policy.check_interval and now < sighting.ends_at

    async def check(self, id: str, client: Client) -> Sighting | None:
        """Look a live session's record up and renew it; None where the store failed, which is logged.

        Concurrent checks of one id share one look.
        """
        if self.policy.check_interval == 0:
            # Whoever asks must see what was revoked before: a look that began earlier will not do.
            return await self._check(id, client)
        task = self._checks.get(id)
        if task is None:
            task = self._checks[id] = asyncio.create_task(self._check(id, client))
            task.add_done_callback(lambda _: self._checks.pop(id, None))
        return await asyncio.shield(task)

    async def _check(self, id: str, client: Client) -> Sighting | None:
        try:
            record = await self._call(self.backend.get(id)) if is_id(id) else None
            for _ in range(_SWAP_ATTEMPTS):
                now = self.clock()
                if record is None or now >= record.expires_at:
                    return self._sightings.keep(_gone(id))
                sighting = self._sight(record)
                if now - record.seen_at < self.policy.check_interval:
                    return sighting
                touched = touch(record, now, self.policy, client)
                if await self._call(self.backend.replace(touched)):
                    return self._sight(touched)
                record = await self._call(self.backend.get(id))
        except BackendError as error:
            self._report(error)
            return None
        return self._sightings.get(id)

    async def confirm(self, token: Token) -> bool | None:
        """Read whether ``token`` is current now; None where the store failed, which is logged."""
        try:
            record = await self._call(self.backend.get(token.id))
        except BackendError as error:
            self._report(error)
            return None
        if record is None or self.clock() >= record.expires_at:
            self._sightings.keep(_gone(token.id))
            return False
        return compare_digest(self._sight(record).digest, digest(token.secret))

    # Inside

    def _sight(self, record: Record) -> Sighting:
        return self._sightings.keep(
            Sighting(
                record.id,
                record.digest,
                record.revision,
                self.clock(),
                self.policy.ends_at(record.created_at),
            ),
        )

    async def _records_of(self, user: UserId) -> list[Record]:
        user = user_id(user)
        now = self.clock()
        records = [
            record
            for record in await self._call(self.backend.of_user(user))
            if now < record.expires_at and same_user(record.user, user)
        ]
        return sorted(records, key=lambda record: record.created_at, reverse=True)

    async def _end(self, record: Record, signal: SessionSignal, request: web.Request | None) -> bool:
        self._sightings.pop(record.id, None)  # should the call fail, nobody knows: the next check looks
        deleted = await self._call(self.backend.delete(record.id))
        self._sightings.keep(_gone(record.id))
        if deleted:
            await self._send(signal, record, request)
        return deleted

    async def _send(self, signal: SessionSignal, record: Record, request: web.Request | None) -> None:
        for receiver in signal:
            try:
                await receiver(show(record), request)
            except Exception:
                logger.exception("a receiver of a signal failed for the persistent session %s", record.id)

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeout):
                yield
        except TimeoutError as error:
            raise BackendError(f"the store gave no answer within {self.timeout:g} s") from error

    async def _call(self, call: Awaitable[T]) -> T:
        with _told_as_backend_error():
            async with self._in_time():
                result = await call
        if self._outage:
            self._outage = False
            logger.warning("the store of persistent sessions answers again")
        return result

    def _report(self, error: BackendError) -> None:
        if not self._outage:
            self._outage = True
            logger.warning(
                "the store of persistent sessions fails (%s): tokens are neither judged nor deleted until it answers",
                error,
            )

    async def _purge_hourly(self) -> None:
        while True:
            try:
                await self.purge()
            except BackendError as error:
                self._report(error)
            # Workers started together should not purge together.
            await asyncio.sleep(PURGE_INTERVAL * random.uniform(0.9, 1.1))  # noqa: S311 -- no secret


@contextlib.contextmanager
def _told_as_backend_error() -> Iterator[None]:
    """Turn whatever a backend raises into a BackendError. The message names the cause's type only, which is chained."""
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"the store failed: {type(error).__name__}") from error
