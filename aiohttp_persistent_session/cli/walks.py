"""The commands that walk through a whole store."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from ..backends.base import BackendError, Batch
from ..manager import PURGED_AFTER
from ..record import Record
from . import views
from .arguments import Arguments
from .faults import FINE
from .stores import Place, opened
from .terminal import Terminal

BATCH = 500
_TOLD = 10
"""Ids of records that cannot be read that are told at most."""
_DAY = 86400.0
_SEEN = (
    ("in the last day", "day", _DAY),
    ("1 to 7 days ago", "week", 7 * _DAY),
    ("7 to 30 days ago", "month", 30 * _DAY),
    ("longer ago", "longer", math.inf),
)


@dataclass
class Totals:
    """What is counted. Records and users are remembered by a number each, as a store may tell a record twice."""

    counts: Counter[str] = field(default_factory=Counter)
    unreadable: set[str] = field(default_factory=set)
    _ids: set[int] = field(default_factory=set)
    _users: set[int] = field(default_factory=set)

    def add(self, batch: Batch, expires_at: views.Expiry, now: float) -> None:
        self.unreadable.update(batch.unreadable)
        for record in batch.records:
            number = hash(record.id)
            if number not in self._ids:
                self._ids.add(number)
                self._add(record, expires_at(record) <= now, now)

    def _add(self, record: Record, is_expired: bool, now: float) -> None:
        if is_expired:
            self.counts["expired"] += 1
            return
        self.counts["sessions"] += 1
        self.counts["persistent" if record.persistent else "until closed"] += 1
        self._users.add(hash((type(record.user), record.user)))
        age = now - record.seen_at
        self.counts[next(code for _, code, limit in _SEEN if age < limit)] += 1

    def values(self) -> dict[str, Any]:
        """Return the totals for programs."""
        return {
            "sessions": self.counts["sessions"],
            "users": len(self._users),
            "persistent": self.counts["persistent"],
            "until_browser_closes": self.counts["until closed"],
            "seen": {code: self.counts[code] for _, code, _ in _SEEN},
            "expired": self.counts["expired"],
            "unreadable": len(self.unreadable),
            "unreadable_ids": sorted(self.unreadable)[:_TOLD],
        }

    def rows(self) -> list[tuple[str, str]]:
        """Return the totals for people."""
        numbers = [
            ("persistent sessions", self.counts["sessions"]),
            ("  kept when the browser is closed", self.counts["persistent"]),
            ("  until the browser is closed", self.counts["until closed"]),
            *((f"  last seen {text}", self.counts[code]) for text, code, _ in _SEEN),
            ("users", len(self._users)),
            ("expired, not deleted yet", self.counts["expired"]),
            ("cannot be read", len(self.unreadable)),
        ]
        size = max(len(f"{number:,}") for _, number in numbers)
        return [(name, f"{number:,}".rjust(size)) for name, number in numbers]


async def count(arguments: Arguments, terminal: Terminal) -> int:
    totals, expires_at = Totals(), views.expiry(arguments)
    async with opened(arguments) as place:
        with terminal.progress("records", await _estimate(place, terminal)) as advance:
            async with aclosing(place.backend.scan(BATCH)) as batches:
                while (batch := await place.bounded(_next(batches))) is not None:
                    totals.add(batch, expires_at, time.time())
                    advance(len(batch.records) + len(batch.unreadable))
    if terminal.as_json:
        terminal.json(totals.values())
        return FINE
    terminal.pairs(totals.rows())
    if totals.unreadable:
        ids = sorted(totals.unreadable)
        more = f" and {len(ids) - _TOLD} more" if len(ids) > _TOLD else ""
        terminal.warn(f"what is stored of {', '.join(ids[:_TOLD])}{more} cannot be read")
    return FINE


async def _next(batches: AsyncGenerator[Batch, None]) -> Batch | None:
    return await anext(batches, None)


async def _estimate(place: Place, terminal: Terminal) -> int | None:
    """Return about how many there are, where that is to be shown."""
    if not terminal.shows_progress:
        return None
    try:
        return await place.bounded(place.inspector.estimate())
    except BackendError:
        return None


async def purge(arguments: Arguments, terminal: Terminal) -> int:
    purged, before = 0, time.time() - PURGED_AFTER
    async with opened(arguments) as place:
        by_itself = place.inspector.expires_by_itself
        with terminal.progress("records deleted") as advance:
            while deleted := await place.bounded(place.backend.purge(before)):
                purged += deleted
                advance(deleted)
    if terminal.as_json:
        terminal.json({"purged": purged, "expires_by_itself": bool(by_itself)})
    elif by_itself:
        terminal.say(f"nothing to do: {by_itself}")
    else:
        terminal.say(f"deleted {purged:,} record{'' if purged == 1 else 's'} that expired more than a day ago")
    return FINE
