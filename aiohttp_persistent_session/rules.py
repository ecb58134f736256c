"""The rules: what a presented secret is worth, and what becomes of the record.

They are pure functions of a record, a digest, a session number and a moment: no store, no clock, no request. Numbers in
parentheses are those of the rules in docs/protocol.md.

A request without a live session presents a secret (:func:`restore`):

    | the secret                                                   | outcome  | the record                    |
    | ------------------------------------------------------------ | -------- | ----------------------------- |
    | of no record, or of one that is over                         | UNKNOWN  | stays (11)                    |
    | valid, and first exchanged within the grace period           | JOIN     | stays (3)                     |
    | valid, and the record issued one within 2 s                  | JOIN     | stays (3)                     |
    | valid, and limited by a strict exchange                      | JOIN     | stays (9)                     |
    | valid, and the record has 64 valid ones                      | JOIN     | stays (10)                    |
    | valid                                                        | EXCHANGE | a new secret beside it (2, 4) |
    | not valid                                                    | REUSE    | ends (5)                      |

A request with a live session is judged when its record is read (:func:`check`):

    | the secret    | the session's number              | outcome | the record                              |
    | ------------- | --------------------------------- | ------- | --------------------------------------- |
    | any           | of no record, or one that is over | UNKNOWN | stays (11)                              |
    | valid         | any                               | LIVE    | drops old secrets (4), may rotate (7)   |
    | not valid     | one that the record has given     | REUSE   | ends (5, 6)                             |
    | not valid     | a higher one                      | LOST    | ends: the store has lost writes (6)     |
    | not presented | a valid secret's                  | LIVE    | stays (6)                               |
    | not presented | the same, record not persistent   | ENDED   | stays (13)                              |
    | not presented | another that the record has given | ENDED   | stays (6)                               |
    | not presented | a higher one                      | LOST    | ends: the store has lost writes (6)     |

Keeping the lineage of rotated secrets and ending the persistent session at a replay follows RFC 9700, 4.14.2. The
presented secret stays valid until its successor has surely arrived, as FAPI 2.0 Security Profile, 5.3.2.1 asks: a retry
with the previous token must succeed where the answer was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as changed
from enum import Enum
from hmac import compare_digest
from typing import Any, NamedTuple

from .policy import ISSUE_INTERVAL, SETTLE_TIME, Policy
from .record import Browser, Record, Secret

MAX_SECRETS = 64
"""Valid secrets with which a record issues no more (10)."""


class Moment(NamedTuple):
    """What a request is judged by, besides what it presents."""

    now: float
    policy: Policy
    browser: Browser
    offered: bytes | None = None
    """The digest of a new random secret, to be issued where a rule says so; None where none may be issued."""


class Outcome(Enum):
    """What a request turned out to be; see the tables above."""

    UNKNOWN = "unknown"
    EXCHANGE = "exchange"
    JOIN = "join"
    LIVE = "live"
    ENDED = "ended"
    REUSE = "reuse"
    LOST = "lost"


class Verdict(NamedTuple):
    """What a request is, and what is to be stored for it."""

    outcome: Outcome
    record: Record | None = None
    """The record as it is from now on."""
    writes: bool = False
    """Whether it is to be swapped for the one that was judged."""
    session: int = 0
    """The number of the session that the request has from now on."""
    issued: bytes | None = None
    """The digest of the secret that is issued with the swap."""
    left_behind: tuple[Secret, ...] = ()
    """Secrets to report with ``on_repeat`` (8)."""


UNKNOWN = Verdict(Outcome.UNKNOWN)

# What a request presents


def restore(record: Record | None, presented: bytes, moment: Moment) -> Verdict:
    """Judge a request that presents a secret of this digest and has no live session.

    ``record`` is that of the token's selector; None where there is none.
    """
    if record is None or moment.policy.is_over(record, moment.now):
        return UNKNOWN
    record = moment.policy.as_of(record, moment.now)
    secret = find(record, presented)
    if secret is None:
        return _accuse(record)
    kept = _keep(record, secret, moment)
    if moment.offered is None or _joins(secret, moment) or not _may_issue(record, kept, moment):
        return Verdict(Outcome.JOIN, record, session=secret.session)
    return _exchange(record, secret, kept, moment.offered, moment)


def check(record: Record | None, presented: bytes | None, session: int, moment: Moment) -> Verdict:
    """Judge a request with a live session, of this number, that this record's persistent session opened.

    ``presented`` is the digest of the secret that the request brought for this record; None where it brought none.
    """
    if record is None or moment.policy.is_over(record, moment.now):
        return UNKNOWN
    record = moment.policy.as_of(record, moment.now)
    secret = None if presented is None else find(record, presented)
    if secret is not None:
        return _check_secret(record, secret, session, moment)
    if session > record.last_session:
        return Verdict(Outcome.LOST, _next(record, secrets=()), writes=True)
    if presented is not None:
        return _accuse(record)
    if is_live(record, None, session):
        return _go_on(record, record.secrets, session, moment)
    return Verdict(Outcome.ENDED, record)


def restamp(record: Record | None, issued: bytes, moment: Moment) -> Verdict:
    """Judge a response that begins late with the secret that was issued for it: LIVE, or ENDED where it may not go out.

    The secret counts as issued now: until the browser can hold it, the one before it must not be dropped.
    """
    if record is None or moment.policy.is_over(record, moment.now):
        return UNKNOWN
    record = moment.policy.as_of(record, moment.now)
    secret = find(record, issued)
    if secret is None:
        return Verdict(Outcome.ENDED, record)
    secrets = _put(record.secrets, changed(secret, issued_at=moment.now))
    return Verdict(Outcome.LIVE, _next(record, secrets=secrets), writes=True, session=secret.session)


# What a secret is worth


def find(record: Record, presented: bytes) -> Secret | None:
    """Return the valid secret of this digest, or None. It takes the same time wherever it stands."""
    found = None
    for secret in record.secrets:
        if compare_digest(secret.digest, presented):
            found = secret
    return found


def best(record: Record | None, digests: Sequence[bytes], moment: Moment) -> bytes:
    """Return which of several secrets of one selector counts: of the valid ones that was issued last.

    The others are leftovers of a cookie whose path or domain was changed, and accuse nobody.
    """
    if record is None or len(digests) == 1:
        return digests[0]
    secrets = moment.policy.as_of(record, moment.now).secrets
    valid = [one for one in reversed(secrets) if any(compare_digest(one.digest, digest) for digest in digests)]
    return max(valid, key=lambda secret: secret.issued_at).digest if valid else digests[0]


def newest(record: Record) -> Secret | None:
    """Return the valid secret that was issued last: the only one that a live request is sent again."""
    return max(reversed(record.secrets), key=lambda secret: secret.issued_at, default=None)


def is_live(record: Record, secret: Secret | None, session: int) -> bool:
    """Tell whether a session of this number goes on, which came with this valid secret or with none (6, 13)."""
    return secret is not None or (record.persistent and any(one.session == session for one in record.secrets))


def _joins(secret: Secret, moment: Moment) -> bool:
    # Counted from the first exchange of this secret (3): from the record's last one, a thief who exchanges every 10 s
    # would keep the owner joining for ever.
    return secret.until is not None or (
        secret.exchanged_at is not None and moment.now - secret.exchanged_at <= moment.policy.grace_period
    )


def _repeats(secret: Secret, moment: Moment) -> bool:
    """Tell whether it was exchanged or rotated before, and not just now (7, 8)."""
    return secret.exchanged_at is not None and moment.now - secret.exchanged_at > moment.policy.grace_period


def _is_due(secret: Secret, moment: Moment) -> bool:
    """Tell whether a live session moves on to a new secret (7)."""
    if secret.until is not None or secret.exchanged_at is not None:
        # Somebody else may hold what it was exchanged for: the owner moves on, and the copy shows.
        return secret.until is None and _repeats(secret, moment)
    interval = moment.policy.rotate_interval
    return interval is not None and moment.now - secret.issued_at > interval


def _may_issue(record: Record, kept: Sequence[Secret], moment: Moment) -> bool:
    """Tell whether the record, of which these secrets are kept, has room for another one (3, 10)."""
    at = record.issued_last_at
    return len(kept) < MAX_SECRETS and (at is None or moment.now - at > ISSUE_INTERVAL)


def _may_rotate(record: Record, secret: Secret, kept: Sequence[Secret], moment: Moment) -> bool:
    """Tell whether there is room for another secret of this session, which got none by a rotation just now (7, 10).

    What other sessions get does not count: a thief who exchanges every 2 s would keep the owner from moving on.
    """
    rotated = (one for one in record.secrets if one.session == secret.session and one.user_agent is None)
    return len(kept) < MAX_SECRETS and all(moment.now - one.issued_at > ISSUE_INTERVAL for one in rotated)


# What becomes of the record


def _exchange(record: Record, secret: Secret, kept: tuple[Secret, ...], offered: bytes, moment: Moment) -> Verdict:
    number = record.last_session + 1
    spent = _spend(secret, moment.now)
    if moment.policy.strict:
        kept, spent = (secret,), changed(spent, until=round(moment.now + moment.policy.grace_period, 3))
    left_behind = _left_behind(record, secret, () if _repeats(secret, moment) else kept)
    issued = Secret(offered, moment.now, number, user_agent=moment.browser.user_agent, address=moment.browser.address)
    reported = tuple(changed(one, reported=True) if one in left_behind else one for one in _put(kept, spent))
    written = _written(record, (*reported, issued), moment, last_session=number, issued_last_at=moment.now)
    return Verdict(Outcome.EXCHANGE, written, True, number, offered, left_behind)


def _check_secret(record: Record, secret: Secret, session: int, moment: Moment) -> Verdict:
    kept = _keep(record, secret, moment)
    left_behind = _left_behind(record, secret, kept)
    if moment.offered is None or not _is_due(secret, moment) or not _may_rotate(record, secret, kept, moment):
        return _go_on(record, _put(kept, changed(secret, shown=True)), session, moment, left_behind)
    rotated = (*_put(kept, _spend(secret, moment.now)), Secret(moment.offered, moment.now, secret.session))
    verdict = _go_on(changed(record, issued_last_at=moment.now), rotated, session, moment, left_behind)
    return verdict._replace(issued=moment.offered)


def _keep(record: Record, secret: Secret, moment: Moment) -> tuple[Secret, ...]:
    """Return the secrets that stay valid when this one is presented (4)."""
    if moment.now - secret.issued_at <= SETTLE_TIME:
        return record.secrets
    return tuple(one for one in record.secrets if one is secret or moment.now - one.issued_at <= SETTLE_TIME)


def _left_behind(record: Record, presented: Secret, kept: Sequence[Secret]) -> tuple[Secret, ...]:
    """Return the secrets beside ``kept`` that an exchange issued, that nobody moved on from, and that are not reported.

    One that was shown is among them (8): otherwise a thief would show his once, and nobody would hear of it.
    """
    return tuple(
        one
        for one in record.secrets
        if one is not presented
        and one.user_agent is not None
        and one.exchanged_at is None
        and not (one.reported or one in kept)
    )


def _spend(secret: Secret, now: float) -> Secret:
    return changed(secret, shown=True, exchanged_at=now if secret.exchanged_at is None else secret.exchanged_at)


def _put(secrets: Sequence[Secret], secret: Secret) -> tuple[Secret, ...]:
    """Return ``secrets`` with this one in the place of that of the same digest."""
    return tuple(secret if one.digest == secret.digest else one for one in secrets)


def _accuse(record: Record) -> Verdict:
    """Take all secrets away first: only who read the newest revision may accuse (5)."""
    return Verdict(Outcome.REUSE, _next(record, secrets=()), writes=True)


def _go_on(
    record: Record, secrets: tuple[Secret, ...], session: int, moment: Moment, left_behind: tuple[Secret, ...] = ()
) -> Verdict:
    """Serve a live request; write where that changes the secrets, or nobody wrote within the interval."""
    if secrets == record.secrets and moment.now - record.seen_at < moment.policy.write_interval:
        return Verdict(Outcome.LIVE, record, session=session)
    seen = tuple(changed(one, seen_at=moment.now) if one.session == session else one for one in secrets)
    return Verdict(Outcome.LIVE, _written(record, seen, moment), True, session, left_behind=left_behind)


def _written(record: Record, secrets: tuple[Secret, ...], moment: Moment, **changes: Any) -> Record:
    seen = {"seen_at": moment.now, "user_agent": moment.browser.user_agent, "address": moment.browser.address}
    written = _next(record, secrets=secrets, **seen, **changes)
    return changed(written, expires_at=moment.policy.expires_at(written))


def _next(record: Record, **changes: Any) -> Record:
    return changed(record, revision=record.revision + 1, **changes)
