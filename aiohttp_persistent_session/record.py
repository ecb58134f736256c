"""What is stored of a persistent session, what is shown of it, and the rules that decide over a token.

The rules are pure functions of a record, a secret and a time: they read no clock, no store and no request. All times
are seconds since the epoch (UTC), in whole milliseconds; all durations are seconds.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from .tokens import digest, successor

UserId: TypeAlias = str | int

LATE_WINDOW = 60.0
"""Seconds for which a spent secret is refused quietly, not called a copy: a browser may still be catching up."""

MAX_SPENT = 16
"""Spent secrets that one record remembers at most."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The durations that the rules go by, in seconds."""

    max_age: float = 30 * 24 * 3600.0
    """How long a browser may stay away and still be signed in again."""
    grace_period: float = 10.0
    """How long after its first use a secret may be presented again by a request that raced or whose answer got lost."""
    check_interval: float = 60.0
    """How often a live session is looked up, and its record's expiry written."""
    max_lifetime: float | None = None
    """How long after its sign-in a persistent session ends, however active; None for no such end."""

    @property
    def write_interval(self) -> float:
        """Seconds for which a live session's record is not written again; never 0, lest every live request write it."""
        return max(self.check_interval, 1.0)

    @property
    def memory_of_spent(self) -> float:
        """Seconds for which a spent secret is remembered."""
        return max(LATE_WINDOW, self.grace_period)

    def ends_at(self, created_at: float) -> float:
        """Return when a persistent session ends that nothing may prolong, or infinity."""
        return math.inf if self.max_lifetime is None else created_at + self.max_lifetime

    def expires_at(self, created_at: float, now: float) -> float:
        """Return the expiry of a record written now.

        The record outlives the cookie by the longest time for which cookies are renewed without its being written.
        """
        return round(min(now + self.max_age + self.write_interval, self.ends_at(created_at)), 3)

    def cookie_max_age(self, ends_at: float, now: float) -> int:
        """Return the Max-Age, in whole seconds, of a cookie sent now whose persistent session ends at ``ends_at``."""
        left = ends_at - now
        return int(self.max_age if left >= self.max_age else max(0.0, left))


@dataclass(frozen=True, slots=True)
class Client:
    """What a request tells about the browser that sent it."""

    user_agent: str = ""
    address: str = ""


UNANSWERED = 253_402_300_799.0
"""The time of an exchange to which the store gave no answer in time, so that the worker that wanted it gave none either
(the end of 9999, which every store can keep)."""


@dataclass(frozen=True, slots=True)
class Spent:
    """A secret that has been exchanged: enough to know it again, and to derive its successor from it."""

    digest: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    at: float
    """When it was exchanged; a later use of it does not move this. Or :data:`UNANSWERED`, until it is exchanged anew or
    its successor is seen."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a store keeps of one persistent session. Nothing in it is secret; nothing in it signs anybody in."""

    id: str
    """22 characters of base64url; see :attr:`.tokens.Token.id`."""
    user: UserId
    digest: bytes = field(repr=False)
    """SHA-256 of the current secret, 32 bytes."""
    created_at: float
    seen_at: float
    expires_at: float
    spent: tuple[Spent, ...] = field(default=(), repr=False)
    """Secrets exchanged lately, the newest first, each the predecessor of the one before it."""
    user_agent: str = ""
    address: str = ""
    data: str = "{}"
    """A JSON object, as text."""
    revision: int = 0
    """Counts the writes; a store replaces revision n only by n + 1."""
    note: str = field(default="", compare=False, repr=False)
    """A backend's own, for its :meth:`~.backends.base.Backend.replace` to know again what its ``get`` has seen."""


@dataclass(frozen=True, slots=True)
class PersistentSession:
    """One browser that stays signed in, as its user, an administrator or an audit log may see it."""

    id: str
    user: UserId
    created_at: datetime
    """When this browser signed in (UTC)."""
    seen_at: datetime
    """When it was last active (UTC), exact to ``check_interval``."""
    expires_at: datetime
    """When it ends if the browser stays away from now on (UTC)."""
    user_agent: str
    """At most 256 characters."""
    address: str
    data: dict[str, Any]
    """What :func:`.remember` was given."""
    current: bool = False
    """Whether it is the one of the browser that asks."""


class Outcome(Enum):
    """What a presented token turned out to be."""

    CURRENT = "current"
    """The one secret that may be exchanged now, or one before it whose exchange was not answered."""
    RACE = "race"
    """Spent within the grace period: the request joins the exchange that has happened."""
    LATE = "late"
    """Spent a little longer ago: refused, and nothing else."""
    REUSE = "reuse"
    """Neither current nor lately spent, with a selector that is known: the cookie was copied."""
    EXPIRED = "expired"
    UNKNOWN = "unknown"


def judge(record: Record | None, secret: bytes, now: float, policy: Policy) -> Outcome:
    """Decide what ``secret`` is to ``record``. Compares digests, in constant time.

    Keeping the lineage of rotated secrets and ending the persistent session at a replay follows RFC 9700, 4.14.2. The
    grace period counts from the first use, so that reuse cannot prolong itself.
    """
    if record is None:
        return Outcome.UNKNOWN
    if now >= record.expires_at:
        return Outcome.EXPIRED
    presented = digest(secret)
    if hmac.compare_digest(presented, record.digest):
        return Outcome.CURRENT
    if _is_unanswered(record, presented) and current_secret(record, secret):
        return Outcome.CURRENT
    for entry in record.spent:
        if hmac.compare_digest(presented, entry.digest):
            return _judge_spent(record, secret, now - entry.at, policy)
    return Outcome.REUSE


def _is_unanswered(record: Record, presented: bytes) -> bool:
    return any(entry.at == UNANSWERED and hmac.compare_digest(presented, entry.digest) for entry in record.spent)


def _judge_spent(record: Record, secret: bytes, age: float, policy: Policy) -> Outcome:
    # A lineage that does not lead to the current secret, mixed up by a store, cannot be joined.
    if policy.grace_period > 0 and age <= policy.grace_period and current_secret(record, secret):
        return Outcome.RACE
    if age <= policy.memory_of_spent:
        return Outcome.LATE
    return Outcome.REUSE


def current_secret(record: Record, secret: bytes) -> bytes | None:
    """Derive the current secret from a spent one, or return None where the record's lineage does not lead there."""
    found = False
    for entry in reversed(record.spent):
        found = found or hmac.compare_digest(digest(secret), entry.digest)
        if found:
            secret = successor(secret, entry.salt)
    return secret if hmac.compare_digest(digest(secret), record.digest) else None


def exchange(record: Record, secret: bytes, salt: bytes, now: float, policy: Policy, client: Client) -> Record:
    """Return the record in which ``secret``, judged current, is spent, and a new one, by ``salt``, is current.

    A secret whose exchange was not answered is exchanged anew, for the successor of the one that nobody should hold:
    should somebody, who joined that exchange meanwhile, it is spent with it.

    Raises:
        ValueError: the record's lineage does not lead from ``secret`` to its current one.
    """
    current = current_secret(record, secret)
    if current is None:
        raise ValueError("the secret was not judged current")
    kept = tuple(entry for entry in _answered(record.spent, now) if now - entry.at <= policy.memory_of_spent)
    spent = (Spent(record.digest, salt, now), *kept)[:MAX_SPENT]
    presented = digest(secret)
    if all(entry.digest != presented for entry in spent):
        # So many exchanges without an answer that the lineage does not reach back to it any more: begin it anew.
        current, spent = secret, (Spent(presented, salt, now),)
    return _seen(record, now, policy, client, digest=digest(successor(current, salt)), spent=spent)


class Attempt(NamedTuple):
    """An exchange that was to be written, and perhaps was."""

    entry: Spent
    """What it adds to ``spent``, and no other exchange does."""
    presented: bytes
    """The digest of the secret that it exchanges: that of ``entry``, or an older one that was not answered either."""
    revision: int


def without_answer(stored: Record, attempts: Sequence[Attempt]) -> Record | None:
    """Return what to write in place of ``stored`` once the store answers again; None where nothing is to be done.

    Args:
        stored: the record as it is now.
        attempts: exchanges of it whose answers did not come in time. A server that hung may have applied one of them,
            minutes later, or may apply it yet.
    """
    if stored.revision < max((attempt.revision for attempt in attempts), default=0):
        return replace(stored, revision=stored.revision + 1)  # what still is under way comes too late
    for attempt in attempts:
        # Nobody has written since: who was handed the successor elsewhere, and was live with it, has.
        if stored.revision == attempt.revision and stored.spent[:1] == (attempt.entry,):
            return replace(stored, spent=_unanswered(stored.spent, attempt.presented), revision=stored.revision + 1)
    return None


def _unanswered(spent: tuple[Spent, ...], presented: bytes) -> tuple[Spent, ...]:
    """Return the lineage in which neither ``presented`` nor any secret after it has been answered."""
    number = [entry.digest for entry in spent].index(presented) + 1
    return (*(replace(entry, at=UNANSWERED) for entry in spent[:number]), *spent[number:])


def was_exchanged_with(record: Record, salt: bytes) -> bool:
    """Tell whether the exchange that drew ``salt`` is part of the record, although its answer may have been lost."""
    return any(hmac.compare_digest(entry.salt, salt) for entry in record.spent)


def touch(record: Record, now: float, policy: Policy, client: Client, secret: bytes | None = None) -> Record:
    """Return the record as seen now by ``client``, which presented ``secret``: its expiry moves on, its secrets stay.

    Who presents the current secret was answered after all, by a request that joined an exchange without an answer:
    from then on the secret before it is spent.
    """
    if secret is None or not hmac.compare_digest(digest(secret), record.digest):
        return _seen(record, now, policy, client)
    return _seen(record, now, policy, client, spent=_answered(record.spent, now))


def _answered(spent: tuple[Spent, ...], now: float) -> tuple[Spent, ...]:
    return tuple(entry if entry.at != UNANSWERED else replace(entry, at=now) for entry in spent)


def _seen(record: Record, now: float, policy: Policy, client: Client, **changes: Any) -> Record:
    return replace(
        record,
        seen_at=now,
        expires_at=policy.expires_at(record.created_at, now),
        user_agent=client.user_agent,
        address=client.address,
        revision=record.revision + 1,
        **changes,
    )


_TYPES: dict[str, tuple[type, ...]] = {
    "user": (str, int),
    "digest": (bytes,),
    "created_at": (float, int),
    "seen_at": (float, int),
    "expires_at": (float, int),
    "spent": (tuple,),
    "user_agent": (str,),
    "address": (str,),
    "data": (str,),
    "revision": (int,),
}


def sound(record: Record) -> Record:
    """Return ``record``, as a store gave it back.

    Raises:
        TypeError, ValueError: it cannot be one of ours: somebody has edited what is stored.
    """
    for name, types in _TYPES.items():
        if not isinstance(getattr(record, name), types):
            raise TypeError(f"a record's {name} is of another type")
    if not all(0 <= at <= UNANSWERED for at in (record.created_at, record.seen_at, record.expires_at)):
        raise ValueError("a record's time is out of range")
    if record.data != "{}" and not isinstance(json.loads(record.data), dict):
        raise ValueError("a record's data are no JSON object")
    return record


def same_user(one: UserId, other: UserId) -> bool:
    """Tell whether two ids are the same user's: ``1`` and ``"1"`` are not."""
    return type(one) is type(other) and one == other


def show(record: Record, *, current: bool = False) -> PersistentSession:
    """Return what may be shown of ``record``."""
    return PersistentSession(
        id=record.id,
        user=record.user,
        created_at=datetime.fromtimestamp(record.created_at, UTC),
        seen_at=datetime.fromtimestamp(record.seen_at, UTC),
        expires_at=datetime.fromtimestamp(record.expires_at, UTC),
        user_agent=record.user_agent,
        address=record.address,
        data=json.loads(record.data),
        current=current,
    )
