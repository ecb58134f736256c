"""The interface of a store. It is small because the rules live above it, in :mod:`aiohttp_persistent_session.rules`.

A backend keeps :class:`~aiohttp_persistent_session.record.Record` objects by their id and gives them back equal to what
was stored. It never reads a clock for a rule: times come with the records and with the calls, in seconds since the
epoch (UTC), in whole milliseconds. What a store expires by itself is garbage collection, which no rule depends on.

An author of a backend runs :class:`aiohttp_persistent_session.testing.BackendContract` over it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import NamedTuple

from ..record import Record, UserId


class BackendError(Exception):
    """The store failed or gave no answer in time. What was asked may or may not have happened.

    The cause, usually a driver's exception, is chained. Callers can try again later; the persistent session stands.
    """


class Batch(NamedTuple):
    """Some of the records that :meth:`Backend.scan` walks through."""

    records: list[Record]
    """Those that can be read, in no particular order; expired ones may be among them."""
    unreadable: list[str]
    """The ids of those that cannot: a later version of this library wrote them, or somebody edited what is stored."""


class Backend(ABC):
    """An asynchronous store of records. Every method but :meth:`open`, :meth:`close` and :meth:`scan` is atomic on its
    own.

    Methods may be called concurrently, from several workers that share the store. A failure of the store is a
    :class:`BackendError`; any other exception of a backend is turned into one by the manager, which also bounds each
    call in time: a call may be cancelled at any await.
    """

    async def open(self) -> None:
        """Connect and create tables or indexes.

        Several workers may do so at once. Opening an open backend is a no-op. It is called again after it failed.

        Raises:
            BackendError: the store cannot be reached. The manager tries again later.
            ValueError, TypeError, ImportError: it is set up wrong, which no later try mends: a table that lacks a
                column, for one. The application does not start.
        """

    async def close(self) -> None:
        """Close what this backend opened. A client that was passed in stays its owner's. Closing twice is a no-op."""

    @abstractmethod
    async def insert(self, record: Record) -> None:
        """Store a new record.

        Raises:
            BackendError: the id exists already; the stored record is unchanged.
        """

    @abstractmethod
    async def get(self, id: str) -> Record | None:
        """Return the record, or None where there is none.

        The newest acknowledged write is read, never a replica that lags behind: an old record makes an honest token
        look like a copied one. An expired record may still be returned.
        """

    @abstractmethod
    async def replace(self, record: Record) -> bool:
        """Compare and swap: store ``record`` if the one stored under its id has the revision before it.

        Exactly one of any number of concurrent calls that carry the same revision returns True. False where the id is
        gone (it is not created anew) or its revision is another. A call that a driver repeats, since its first answer
        was lost, returns False the second time.
        """

    @abstractmethod
    async def delete(self, id: str) -> bool:
        """Delete the record; of concurrent calls exactly one returns True. False where there was none."""

    @abstractmethod
    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        """Return at most ``limit`` records of the user, in no particular order; ``1`` and ``"1"`` are different users.

        Expired ones may be among them. A record that cannot be read is left out. A user who has more than ``limit``
        readable records gets ``limit`` of them; a caller that wants all deletes these and asks again.
        """

    @abstractmethod
    def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        """Walk through all records of the store, whosever they are, in batches of at most ``batch`` records, of which
        some may be empty; an asynchronous generator.

        A record that is there from the first batch to the last is told at least once, as it is or was meanwhile; who
        counts must count ids, as some stores may tell one twice. One that is inserted or deleted meanwhile may be told
        or not. A record that cannot be read is told by its id and hides no other.

        No more than about a batch is held in memory, and others are not kept waiting longer than for any other call:
        between two batches nothing is held, no lock, no connection, no cursor that would outlive its ``aclose()``. A
        slow caller sees no time-out. A store that fails ends the walk with a :class:`BackendError`; there is no way to
        go on from there.
        """

    @abstractmethod
    async def purge(self, now: float) -> int:
        """Delete records whose ``expires_at`` (seconds since the epoch) is not after ``now``; return how many.

        One call may stop at a number that it can delete in a moment: it is called again until it returns 0. A no-op
        that returns 0 where the store expires records by itself.
        """
