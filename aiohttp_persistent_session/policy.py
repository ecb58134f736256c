"""The durations that the rules go by, in seconds, and what time does to a record."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .record import Record, Secret

SETTLE_TIME = 90.0
"""After this long a browser holds exactly one token: answers no longer overtake each other, and a browser that is
killed has put its cookies on disk (Chromium: 30 s)."""

ISSUE_INTERVAL = 2.0
"""In this time a record issues one secret at most, not counting the sign-in's."""

CLOCK_TOLERANCE = 10.0
"""By this much the clocks of two workers may differ. A clock that is wrong has written a time further in the future."""

SENT_WITHIN = 10.0
"""A response that begins later after its token was issued gets the token issued anew."""

RENEWED_WITHIN = 2.0
"""A response that begins later renews its cookie only after a look at the record."""

RENEWED_AFTER_LOOK = 10.0
"""For so long after a look a worker renews cookies from memory, whatever ``check_interval`` is. What it sends again may
come back to a browser that moved on, and must be gone from all requests and answers by the end of :data:`SETTLE_TIME`:
from a memory of 60 s it is not where each request and each answer takes 5 s."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What :func:`.setup` was told, in seconds."""

    max_age: float = 30 * 24 * 3600.0
    """How long a browser may stay away and still be signed in again."""
    grace_period: float = 10.0
    """How long after its first exchange a secret still joins it."""
    check_interval: float = 60.0
    """How often the record of a live session is read, and its expiry written."""
    rotate_interval: float | None = 24 * 3600.0
    """The age at which a live session's secret is rotated; None for never."""
    strict: bool = False
    """Whether an exchange drops all other secrets at once."""
    max_lifetime: float | None = None
    """How long after its sign-in a persistent session ends, however active; None for no such end."""
    browser_session_max_age: float = 24 * 3600.0
    """``max_age`` where the browser keeps the cookie only until it is closed."""

    @property
    def write_interval(self) -> float:
        """For so long a live session's record is not written again; never 0, or each live request would write."""
        return max(self.check_interval, 1.0)

    def ends_at(self, record: Record) -> float:
        """Return when the persistent session ends that nothing may prolong, or infinity (rule 12)."""
        return math.inf if self.max_lifetime is None else record.created_at + self.max_lifetime

    def expires_at(self, record: Record) -> float:
        """Return when it expires without another visit, by today's options (rules 12 and 13).

        The record outlives the cookie by the longest time for which cookies are renewed without a write.
        """
        return round(min(record.seen_at + self.max_age_of(record) + self.write_interval, self.ends_at(record)), 3)

    def max_age_of(self, record: Record) -> float:
        """Return how long its browser may stay away: what its sign-in asked for, or less where the options say so."""
        longest = self.max_age if record.persistent else self.browser_session_max_age
        return longest if record.max_age is None else min(record.max_age, longest)

    def is_over(self, record: Record, now: float) -> bool:
        """Tell whether it has expired."""
        return now >= self.expires_at(record)

    def cookie_max_age(self, record: Record, now: float) -> int:
        """Return the Max-Age, in whole seconds, of a cookie sent now."""
        return cookie_max_age(self.max_age_of(record), self.ends_at(record), now)

    def as_of(self, record: Record, now: float) -> Record:
        """Return the record as it is to be judged at ``now``.

        It is without the secrets whose validity has ended (rule 9), and times that a wrong clock has written are put
        right (rule 12).
        """
        latest = now + CLOCK_TOLERANCE
        valid = (one for one in record.secrets if one.until is None or now <= one.until)
        secrets = tuple(self._put_right(one, now) for one in valid)
        issued_last_at = None if _is_after(record.issued_last_at, latest) else record.issued_last_at
        seen_at = now if record.seen_at > latest else record.seen_at
        if (secrets, issued_last_at, seen_at) == (record.secrets, record.issued_last_at, record.seen_at):
            return record
        return replace(record, secrets=secrets, issued_last_at=issued_last_at, seen_at=seen_at)

    def _put_right(self, secret: Secret, now: float) -> Secret:
        latest = now + CLOCK_TOLERANCE
        if max(secret.issued_at, secret.exchanged_at or 0, secret.seen_at or 0) <= latest and secret.until is None:
            return secret
        return replace(
            secret,
            issued_at=now if secret.issued_at > latest else secret.issued_at,
            exchanged_at=None if _is_after(secret.exchanged_at, latest) else secret.exchanged_at,
            seen_at=now if _is_after(secret.seen_at, latest) else secret.seen_at,
            until=None if secret.until is None else round(min(secret.until, latest + self.grace_period), 3),
        )


def cookie_max_age(max_age: float, ends_at: float, now: float) -> int:
    """Return the Max-Age of a cookie sent now, whose persistent session lasts for ``max_age``, until ``ends_at``."""
    return int(max(0.0, min(max_age, ends_at - now)))


def _is_after(at: float | None, latest: float) -> bool:
    return at is not None and at > latest
