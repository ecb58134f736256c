"""The contract of a store as tests. Whoever writes a backend runs them over it::

    import pytest
    from aiohttp_persistent_session.testing import BackendContract


    class TestMyBackend(BackendContract):
        @pytest.fixture
        async def backend(self):
            backend = MyBackend(...)
            await backend.open()
            yield backend
            await backend.close()

It takes pytest with pytest-aiohttp, or pytest-asyncio, in ``asyncio_mode = "auto"``. Every test makes up ids and users
of its own, so the store need not be empty, but nobody else may purge it meanwhile. Where the store expires records by
itself, override :attr:`BackendContract.expires_by_itself`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from .backends.base import Backend, BackendError
from .record import Client, Policy, Record, Spent, exchange, touch
from .tokens import SECRET_BYTES, Token, digest, new_salt

__all__ = ("BackendContract", "make_record")

CALLERS = 50

ODD_IDS_OF_USERS: tuple[str | int, ...] = (
    0,
    -1,
    1,
    2**63 - 1,
    -(2**63),
    2**64,
    10**100,
    "1",
    "0",
    "-1",
    "i:1",
    "s:1",
    " ",
    "ümläut",
    "\U0001f36a",
    "'; DROP TABLE users; --",
    '"quoted"',
    "{braces}:colons:*?[a]",
    "$where",
    "a.b",
    "back\\slash",
    "new\nline\ttab",
    "x" * 1024,
)


def make_record(**changes: Any) -> Record:
    """Return a record of a persistent session that nobody else has, as of now and expiring in an hour.

    Args:
        changes: fields of :class:`.record.Record` to set.
    """
    now = round(time.time(), 3)
    token = Token.generate()
    defaults: dict[str, Any] = {
        "id": token.id,
        "user": secrets.token_hex(8),
        "digest": digest(token.secret),
        "created_at": now,
        "seen_at": now,
        "expires_at": now + 3600,
    }
    return Record(**defaults | changes)


class BackendContract:
    """Every promise of :class:`.backends.base.Backend`, a test each. Subclass it and give it a ``backend`` fixture."""

    expires_by_itself: ClassVar[bool] = False
    """Whether the store drops expired records without :meth:`~.backends.base.Backend.purge`."""

    @pytest.fixture
    def backend(self) -> Backend:
        """The store under test, open."""
        raise NotImplementedError("override the fixture `backend`")

    # Compare and swap

    async def test_of_50_concurrent_swaps_of_one_revision_one_wins(self, backend: Backend) -> None:
        """Whoever loses leaves no trace, and the winner's record is what is stored."""
        record = make_record()
        await backend.insert(record)
        rivals = [replace(record, revision=1, digest=secrets.token_bytes(32)) for _ in range(CALLERS)]
        won = await asyncio.gather(*(backend.replace(rival) for rival in rivals))
        assert won.count(True) == 1
        assert won.count(False) == CALLERS - 1
        assert await backend.get(record.id) == rivals[won.index(True)]

    async def test_a_swap_moves_on_by_one_revision_only(self, backend: Backend) -> None:
        """An old, an equal and a future revision are refused, and what is stored stays."""
        record = make_record(revision=5)
        await backend.insert(record)
        for revision in (4, 5, 7):
            assert await backend.replace(replace(record, revision=revision, address="192.0.2.1")) is False
        assert await backend.get(record.id) == record
        assert await backend.replace(replace(record, revision=6)) is True

    async def test_a_repeated_swap_is_lost(self, backend: Backend) -> None:
        """A driver may repeat a command whose answer it did not get: the second copy must not be applied."""
        record = make_record()
        await backend.insert(record)
        swapped = replace(record, revision=1)
        assert await backend.replace(swapped) is True
        assert await backend.replace(swapped) is False

    async def test_a_swap_never_brings_a_deleted_record_back(self, backend: Backend) -> None:
        """Else a revocation could be undone by a renewal that was under way."""
        record = make_record()
        await backend.insert(record)
        await backend.delete(record.id)
        assert await backend.replace(replace(record, revision=1)) is False
        assert await backend.get(record.id) is None
        assert await backend.of_user(record.user) == []

    async def test_a_swap_of_an_unknown_id_is_lost(self, backend: Backend) -> None:
        """Nothing is created."""
        record = make_record(revision=1)
        assert await backend.replace(record) is False
        assert await backend.get(record.id) is None

    async def test_a_swap_against_a_concurrent_delete_leaves_nothing(self, backend: Backend) -> None:
        """Whichever comes first, the record is gone afterwards."""
        for _ in range(10):
            record = make_record()
            await backend.insert(record)
            await asyncio.gather(backend.replace(replace(record, revision=1)), backend.delete(record.id))
            assert await backend.get(record.id) is None
            assert await backend.of_user(record.user) == []

    # Insert, get, delete

    async def test_a_record_comes_back_equal_to_what_was_stored(self, backend: Backend) -> None:
        """Every field, with fractions of seconds, odd text and a full list of spent secrets in its order."""
        secret = secrets.token_bytes(SECRET_BYTES)
        policy, now = Policy(), round(time.time() + 0.123, 3)
        record = make_record(
            digest=digest(secret),
            spent=tuple(Spent(secrets.token_bytes(32), new_salt(), round(now - i / 7, 3)) for i in range(15)),
            created_at=now,
            user_agent="Mozilla/5.0 (\U0001f36a; 'odd\") \\ " + "x" * 200,
            address="2001:db8::1",
            data='{"device":"Zoë\'s \\"phone\\"","n":[1,2.5,null,true]}',
        )
        await backend.insert(record)
        assert await backend.get(record.id) == record
        exchanged = exchange(record, secret, new_salt(), now, policy, Client("new", "192.0.2.7"))
        assert await backend.replace(exchanged) is True
        assert await backend.get(record.id) == exchanged
        touched = touch(exchanged, round(now + 1.5, 3), policy, Client())
        assert await backend.replace(touched) is True
        assert await backend.get(record.id) == touched
        assert await backend.of_user(record.user) == [touched]

    async def test_an_unknown_id_is_none(self, backend: Backend) -> None:
        """Absence is an answer, not an error; so it is for what no id can be."""
        assert await backend.get(make_record().id) is None
        assert await backend.get("x" * 22) is None
        assert await backend.delete("x" * 22) is False

    async def test_an_id_that_exists_is_not_inserted_again(self, backend: Backend) -> None:
        """It is a BackendError, and the record stays as it was."""
        record = make_record()
        await backend.insert(record)
        with pytest.raises(BackendError):
            await backend.insert(replace(record, user="mallory", revision=9))
        assert await backend.get(record.id) == record
        assert record.id not in {stored.id for stored in await backend.of_user("mallory")}

    async def test_of_50_concurrent_inserts_of_one_id_one_wins(self, backend: Backend) -> None:
        """The others are told by a BackendError."""
        record = make_record()
        answers = await asyncio.gather(*(backend.insert(record) for _ in range(CALLERS)), return_exceptions=True)
        assert sum(answer is None for answer in answers) == 1
        assert sum(isinstance(answer, BackendError) for answer in answers) == CALLERS - 1

    async def test_of_50_concurrent_deletes_one_is_true(self, backend: Backend) -> None:
        """So that one signal is sent for one end."""
        record = make_record()
        await backend.insert(record)
        deleted = await asyncio.gather(*(backend.delete(record.id) for _ in range(CALLERS)))
        assert deleted.count(True) == 1
        assert await backend.get(record.id) is None

    async def test_deleting_an_unknown_id_is_false(self, backend: Backend) -> None:
        """And harmless."""
        assert await backend.delete(make_record().id) is False

    # Users

    async def test_users_of_every_kind_are_told_apart(self, backend: Backend) -> None:
        """Each gets its own records, and the id back with its type: ``1`` and ``"1"`` are different users."""
        prefix = secrets.token_hex(4)
        number = secrets.randbits(48)
        users = [
            user[: 1024 - len(prefix)] + prefix if isinstance(user, str) else user + number for user in ODD_IDS_OF_USERS
        ]
        users += [number * 7, str(number * 7)]
        records = [make_record(user=user) for user in users]
        for record in records:
            await backend.insert(record)
        for record in records:
            assert await backend.get(record.id) == record
            assert await backend.of_user(record.user) == [record]

    async def test_all_records_of_a_user_are_listed(self, backend: Backend) -> None:
        """Also those written meanwhile, and none that was deleted."""
        user = secrets.token_hex(8)
        records = {record.id: record for record in (make_record(user=user) for _ in range(20))}
        await asyncio.gather(*(backend.insert(record) for record in records.values()))
        gone = next(iter(records))
        await backend.delete(gone)
        del records[gone]
        changed = replace(next(iter(records.values())), revision=1, address="192.0.2.9")
        assert await backend.replace(changed)
        records[changed.id] = changed
        listed = await backend.of_user(user)
        assert len(listed) == len(records)
        assert {record.id: record for record in listed} == records

    async def test_an_unknown_user_has_no_records(self, backend: Backend) -> None:
        """An empty list, not an error."""
        assert await backend.of_user(secrets.token_hex(8)) == []
        assert await backend.of_user(secrets.randbits(60)) == []

    # Expiry

    async def test_a_record_is_there_until_it_expires(self, backend: Backend) -> None:
        """A store may drop a record at its expiry, never before; a renewed one stays for its new time."""
        record = make_record(expires_at=round(time.time() + 5, 3))
        await backend.insert(record)
        renewed = replace(record, revision=1, expires_at=round(time.time() + 3600, 3))
        assert await backend.replace(renewed)
        await backend.purge(time.time() + 60)
        assert await backend.get(record.id) == renewed

    async def test_purge_drops_what_has_expired_and_nothing_else(self, backend: Backend) -> None:
        """Expired is whatever expires at ``now`` or before; it leaves its user's list too."""
        now = round(time.time() - 1_000_000, 3)  # records of concurrent tests expire long after this
        user = secrets.token_hex(8)
        before = make_record(user=user, expires_at=now - 1)
        at = make_record(user=user, expires_at=now)
        after = make_record(user=user, expires_at=now + 0.5)
        living = make_record(user=user)
        for record in (before, at, after, living):
            await backend.insert(record)
        if self.expires_by_itself:
            assert await backend.purge(now) == 0
        else:
            purged = 0
            while count := await backend.purge(now):
                purged += count
            assert purged >= 2
            assert await backend.get(after.id) == after
            assert {record.id for record in await backend.of_user(user)} == {after.id, living.id}
            assert await backend.get(before.id) is None
            assert await backend.get(at.id) is None
        assert await backend.get(living.id) == living

    # Opening and closing

    async def test_opening_twice_and_at_once_does_no_harm(self, backend: Backend) -> None:
        """Several workers open at once, and what is stored stays."""
        record = make_record()
        await backend.insert(record)
        await asyncio.gather(*(backend.open() for _ in range(5)))
        assert await backend.get(record.id) == record

    async def test_closing_twice_does_no_harm(self, backend: Backend) -> None:
        """Nor does closing what is closed."""
        await backend.close()
        await backend.close()
