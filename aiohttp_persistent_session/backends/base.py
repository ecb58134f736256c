"""The interface of a store. It is small because the rules live above it, in :mod:`aiohttp_persistent_session.record`.

Times in a record are in whole milliseconds, so that a store may keep them as dates.

A backend keeps :class:`~aiohttp_persistent_session.record.Record` objects by their id and gives them back equal to what
was stored. It never reads a clock: times come with the records and with the calls. What a store expires by itself is
garbage collection, nothing that a rule depends on.

Whoever writes one runs :class:`aiohttp_persistent_session.testing.BackendContract` over it.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from ..record import Record, Spent, UserId

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

T = TypeVar("T")


class BackendError(Exception):
    """The store failed or gave no answer in time. What was asked may or may not have happened.

    The cause, usually a driver's exception, is chained. Callers can try again later; the persistent session stands.
    """


class Backend(ABC):
    """An asynchronous store of records. Every method but :meth:`open` and :meth:`close` is atomic on its own.

    Methods may be called concurrently, from several workers that share the store. A failure of the store is a
    :class:`BackendError`; any other exception of a backend is turned into one by the manager, which also bounds each
    call in time: a call may be cancelled at any await.
    """

    async def open(self) -> None:
        """Connect and create tables or indexes.

        Several workers may do so at once. Opening an open backend is a no-op.

        Raises:
            BackendError: the store cannot be reached.
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

        Of any number of concurrent calls that carry the same revision exactly one returns True. False where the id is
        gone (it is not created anew) or its revision is another.
        """

    @abstractmethod
    async def delete(self, id: str) -> bool:
        """Delete the record; of concurrent calls exactly one returns True. False where there was none."""

    @abstractmethod
    async def of_user(self, user: UserId) -> list[Record]:
        """Return all of the user's records, in no particular order; ``1`` and ``"1"`` are different users.

        Expired ones may be among them.
        """

    @abstractmethod
    async def purge(self, now: float) -> int:
        """Delete records whose ``expires_at`` (seconds since the epoch) is not after ``now``; return how many.

        One call may stop at a number that it can delete in a moment: it is called again until it returns 0. A no-op
        that returns 0 where the store expires records by itself.
        """


# For stores whose driver has errors of its own


class DriverErrors:
    """A context in which an exception becomes a BackendError, chained to it. It may be entered any number of times.

    Args:
        store: the name of the store, for the message.
    """

    def __init__(self, store: str) -> None:
        self._store = store

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Any: drivers raise more than their documented errors, and what is stored may be none of ours.
        if isinstance(error, Exception) and not isinstance(error, BackendError):
            raise BackendError(f"{self._store} failed: {type(error).__name__}") from error


def read_all(read: Callable[[T], Record], stored: Iterable[T]) -> list[Record]:
    """Return what is stored as records. What cannot be read, and so signs nobody in, is left out, with a warning.

    Else one record that somebody has edited by hand would keep all others of its user from being listed and revoked.
    """
    records = []
    for one in stored:
        try:
            records.append(read(one))
        except Exception as error:  # noqa: BLE001 -- whatever is wrong with it
            logger.warning("what is stored of a persistent session cannot be read: %s", type(error).__name__)
    return records


# For what must not be cancelled with whoever waits for it


def start(work: Coroutine[Any, Any, T], running: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    """Start ``work`` in a task of its own, which is in ``running`` until it ends, whoever still waits for it."""

    def ended(task: asyncio.Task[T]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there any more to whom it would matter

    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(ended)
    return task


# For stores that keep text


def user_to_text(user: UserId) -> str:
    """Return a text from which the user's id comes back with its type: ``i:1`` or ``s:1``, whatever its size."""
    return f"i:{user}" if isinstance(user, int) else f"s:{user}"


def user_from_text(text: str) -> UserId:
    """Return the user's id that :func:`user_to_text` wrote."""
    return int(text[2:]) if text.startswith("i:") else text[2:]


def spent_to_json(spent: tuple[Spent, ...]) -> list[list[Any]]:
    """Return lists ``[digest, salt, at]``, for JSON, with base64 for the bytes."""
    return [[encode(entry.digest), encode(entry.salt), entry.at] for entry in spent]


def spent_from_json(spent: list[list[Any]]) -> tuple[Spent, ...]:
    """Return the entries that :func:`spent_to_json` wrote."""
    return tuple(Spent(decode(digest), decode(salt), at) for digest, salt, at in spent)


def encode(raw: bytes) -> str:
    """Return base64."""
    return b64encode(raw).decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes of base64."""
    return b64decode(text)
