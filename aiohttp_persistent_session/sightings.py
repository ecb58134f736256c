"""What one worker remembers of the records that it has seen in the store, so that a live request need not look."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from .record import UserId

SIGHTINGS_KEPT = 65536

_NO_REVISION = math.inf


class Sighting(NamedTuple):
    """A record as one answer of the store showed it, or that there was none."""

    id: str
    user: UserId
    digest: bytes
    revision: float
    asked: int
    """The number of the question that this answers, in the order of asking."""
    fresh_from: float
    fresh_until: float
    """Between these times a live request need not look the record up again. Before, too, a clock was set back."""
    ends_at: float
    """When the persistent session ends, whatever happens."""
    spelling: int | None = None
    """The ``hash`` of the current token's text, once a browser presented it, to know it again unparsed.
    That decides only whether a live request is sent back what it presented; nobody is signed in by it."""

    @classmethod
    def of_nothing(cls, id: str, asked: int) -> Sighting:
        """Say that there is no record of this id, or no longer."""
        return cls(id, "", b"", _NO_REVISION, asked, -math.inf, math.inf, math.inf)

    @property
    def gone(self) -> bool:
        return self.revision == _NO_REVISION

    def is_newer_than(self, other: Sighting) -> bool:
        """Tell which of two answers counts: they may overtake each other on their way here.

        Revisions tell, and where one answer is that there is no record, who asked later.
        """
        if self.gone or other.gone:
            return self.asked > other.asked
        return self.revision > other.revision


class Sightings(dict[str, Sighting]):
    """The newest sighting of each id, bounded in number: the one that was kept first gives way."""

    def __init__(self) -> None:
        self._questions = itertools.count(1)

    def ask(self) -> int:
        """Return the number of a question that is about to be put to the store."""
        return next(self._questions)

    def keep(self, sighting: Sighting) -> Sighting:
        """Keep and return the newer of ``sighting`` and the one that is kept already."""
        kept = self.pop(sighting.id, None)
        if kept is not None and kept.is_newer_than(sighting):
            sighting = kept
        self[sighting.id] = sighting
        if len(self) > SIGHTINGS_KEPT:
            del self[next(iter(self))]
        return sighting

    def keep_nothing(self, id: str, asked: int | None = None) -> Sighting:
        """Keep that there is no record of ``id``: as the answer to a question, or because it was just deleted."""
        return self.keep(Sighting.of_nothing(id, self.ask() if asked is None else asked))
