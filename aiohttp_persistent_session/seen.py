"""What one worker remembers of the records that it has seen in the store, so that a live request need not look."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest

from . import rules
from .policy import CLOCK_TOLERANCE, ISSUE_INTERVAL, RENEWED_AFTER_LOOK, SETTLE_TIME, Policy
from .record import Record, Secret

RECORDS_KEPT = 65536


@dataclass(slots=True)
class View:
    """A record as one answer of the store showed it, or that there was none."""

    id: str
    record: Record | None
    """As it is to be judged; None where there is none."""
    question: int
    """The number of the question to the store that this answers, in the order of asking."""
    looked_at: float
    until: float
    """From ``looked_at`` until this time a live request that presents what is known here needs no look."""
    ends_at: float
    """When the persistent session ends, whatever happens."""
    max_age: float = 0.0
    """How long its browser may stay away."""
    known: tuple[str | int, ...] | None = None
    """A session's mark, and the ``hash`` of the cookie with the newest secret that came with it, to know both again
    unparsed. It decides only whether a live request is looked up, and is sent back what it presented; it signs nobody
    in."""

    def is_current(self, now: float) -> bool:
        """Tell whether the look suffices still. It does not where the clock was set back since."""
        return self.looked_at - CLOCK_TOLERANCE <= now < self.until

    def knows(self, presented: Sequence[bytes], session: int, now: float, policy: Policy) -> bool:
        """Tell whether a live request goes on without a look."""
        if self.record is None:
            return False
        secrets = [rules.find(self.record, one) for one in presented]
        # Once in a while at most, or a client that ignores Set-Cookie would cost a write at each request.
        was_looked_at = now - self.looked_at <= max(policy.grace_period, ISSUE_INTERVAL)
        if any(one is None or (one.exchanged_at is not None and not was_looked_at) for one in secrets):
            return False
        return rules.is_live(self.record, secrets[0] if secrets else None, session)

    def may_go_on(self, session: int, now: float, *, has_token: bool) -> bool:
        """Tell whether a session may be live of which the store says nothing: what had ended, stays so."""
        if self.record is None or now >= self.ends_at:
            return False
        return has_token or session > self.record.last_session or rules.is_live(self.record, None, session)

    def renews(self, presented: bytes, now: float, *, is_slow: bool) -> bool:
        """Tell whether a response sends this secret again: the newest one.

        A slow response sends it only where it is the only one. Another one, which a browser may hold whose answers have
        overtaken each other, might be presented at the same moment, and have this one dropped.
        """
        if self.record is None or now - self.looked_at > RENEWED_AFTER_LOOK:
            return False
        return self._newest(presented) is not None and not (is_slow and len(self.record.secrets) > 1)

    def is_unspent(self, presented: bytes) -> bool:
        """Tell whether this is the newest secret, neither exchanged nor rotated."""
        newest = self._newest(presented)
        return newest is not None and newest.exchanged_at is None

    def _newest(self, presented: bytes) -> Secret | None:
        """Return the newest secret, if it is the one that was presented."""
        newest = None if self.record is None else rules.newest(self.record)
        return newest if newest is not None and compare_digest(newest.digest, presented) else None

    def is_newer_than(self, other: View) -> bool:
        """Tell which of two answers counts, as they may overtake each other on their way here.

        The higher revision wins; if either answer is "no record", the later question wins.
        """
        if self.record is None or other.record is None:
            return self.question > other.question
        return self.record.revision > other.record.revision


class Seen:
    """The newest view of each id, bounded in number: the one that was put first gives way."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._views: dict[str, View] = {}
        self._questions = itertools.count(1)
        self.get = self._views.get
        """Return the view of an id, however old, or None."""

    def __len__(self) -> int:
        return len(self._views)

    def ask(self) -> int:
        """Return the number of a question that is about to be put to the store."""
        return next(self._questions)

    def put(self, record: Record, question: int, now: float) -> View:
        """Put what the store answered, or was written, now; return the newer of it and the view that was there."""
        record = self._policy.as_of(record, now)
        until = _look_again_at(record, now, self._policy)
        ends_at, max_age = self._policy.ends_at(record), self._policy.max_age_of(record)
        return self._put(View(record.id, record, question, now, until, ends_at, max_age))

    def put_absent(self, id: str, now: float, question: int | None = None) -> View:
        """Put that there is no record of ``id``: as the answer to a question, or because it was just deleted."""
        question = self.ask() if question is None else question
        return self._put(View(id, None, question, now, now + self._policy.check_interval, now))

    def put_off(self, id: str, now: float) -> None:
        """Let the next look wait, as the store cannot be written."""
        if (view := self._views.get(id)) is not None:
            view.until = max(view.until, now + self._policy.check_interval)

    def drop(self, id: str) -> None:
        """Know nothing of ``id``: the next live request looks."""
        self._views.pop(id, None)

    def _put(self, view: View) -> View:
        known = self._views.pop(view.id, None)
        if known is not None and known.is_newer_than(view):
            view = known
        self._views[view.id] = view
        if len(self._views) > RECORDS_KEPT:
            del self._views[next(iter(self._views))]
        return view


def _look_again_at(record: Record, now: float, policy: Policy) -> float:
    # Counted from the last write: otherwise the cookie would be renewed beyond the record.
    until = min(min(record.seen_at, now) + policy.check_interval, policy.ends_at(record))
    if len(record.secrets) > 1:
        # A spent secret stays valid no longer than need be.
        settled = [one.issued_at + SETTLE_TIME + 0.001 for one in record.secrets]
        until = min([until, *(at for at in settled if at > now)])
    return until
