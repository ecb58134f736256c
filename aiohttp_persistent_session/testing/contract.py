"""The contract of a store as tests, but for :mod:`aiohttp_persistent_session.backends.contract`.

An author of a backend runs them over it::

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
from typing import ClassVar

import pytest

from ..backends.base import Backend, BackendError
from ..backends.contract import CALLERS, ListContract, assert_is_of_version, make_record, make_secrets
from ..record import LATEST_TIME, VERSION


class BackendContract(ListContract):
    """Every promise of :class:`.backends.base.Backend`, a test each. Subclass it and give it a ``backend`` fixture."""

    expires_by_itself: ClassVar[bool] = False
    """Whether the store drops expired records without :meth:`~.backends.base.Backend.purge`."""

    @pytest.fixture
    def backend(self) -> Backend:
        """The store under test, open."""
        raise NotImplementedError("override the fixture `backend`")

    # Compare and swap

    async def test_of_50_concurrent_swaps_of_one_revision_one_wins(self, backend: Backend) -> None:
        """The losers leave no trace, and the winner's record is what is stored."""
        record = make_record()
        await backend.insert(record)
        rivals = [replace(record, revision=1, secrets=make_secrets(2, record.seen_at)) for _ in range(CALLERS)]
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
        """A swap that a driver repeats, because it did not get the answer, is False the second time."""
        record = make_record()
        await backend.insert(record)
        # The second one lasts for longer than any store plans ahead.
        for swapped in (replace(record, revision=1), replace(record, revision=2, expires_at=record.expires_at + 10**7)):
            assert await backend.replace(swapped) is True
            assert await backend.replace(swapped) is False
            assert await backend.get(record.id) == swapped

    async def test_a_swap_never_brings_a_deleted_record_back(self, backend: Backend) -> None:
        """A renewal that was under way cannot undo a revocation."""
        record = make_record()
        await backend.insert(record)
        await backend.delete(record.id)
        assert await backend.replace(replace(record, revision=1)) is False
        assert await backend.get(record.id) is None
        assert await backend.of_user(record.user, 10) == []

    async def test_a_swap_of_an_unknown_id_is_lost(self, backend: Backend) -> None:
        """Nothing is created."""
        record = make_record(revision=1)
        assert await backend.replace(record) is False
        assert await backend.get(record.id) is None
        assert await backend.of_user(record.user, 10) == []

    async def test_a_swap_against_a_concurrent_delete_leaves_nothing(self, backend: Backend) -> None:
        """Whichever comes first, the record is gone afterwards."""
        for _ in range(10):
            record = make_record()
            await backend.insert(record)
            await asyncio.gather(backend.replace(replace(record, revision=1)), backend.delete(record.id))
            assert await backend.get(record.id) is None
            assert await backend.of_user(record.user, 10) == []

    # Insert, get, delete

    async def test_a_record_comes_back_equal_to_what_was_stored(self, backend: Backend) -> None:
        """Every field of the record and of each of its secrets comes back, whether it was inserted or swapped in."""
        now = round(time.time(), 3)
        record = make_record(
            secrets=make_secrets(64, now),
            last_session=2**31 - 1,
            issued_last_at=round(now - 0.057, 3),
            persistent=False,
            user_agent="Mozilla/5.0 (\U0001f36a; 'odd\") \\ " + "x" * 200,
            address="2001:db8::1",
            data='{"device":"Zoë\'s \\"phone\\"","n":[1,2.5,null,true]}',
        )
        await backend.insert(record)
        assert await backend.get(record.id) == record
        plain = make_record(id=record.id, user=record.user)
        for revision, swapped in enumerate((plain, replace(plain, secrets=()), record), start=1):
            stored = replace(swapped, revision=revision)
            assert await backend.replace(stored) is True
            assert await backend.get(record.id) == stored
            assert await backend.of_user(record.user, 10) == [stored]

    async def test_a_time_comes_back_to_the_bit(self, backend: Backend) -> None:
        """A time is a whole number of milliseconds, up to the end of the year 9999."""
        for at in (0.0, 0.001, 0.999, 1_764_000_000.001, 1_764_000_000.057, 1_764_000_000.999, 4_102_444_800.123):
            (secret,) = make_record().secrets
            secret = replace(secret, issued_at=at, exchanged_at=at, seen_at=at, until=at)
            record = make_record(
                created_at=at, seen_at=at, issued_last_at=at, secrets=(secret,), expires_at=LATEST_TIME
            )
            await backend.insert(record)
            assert await backend.get(record.id) == record

    async def test_an_unknown_id_is_none(self, backend: Backend) -> None:
        """Absence is an answer and no error, also for what no id can be."""
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
        assert record.id not in {stored.id for stored in await backend.of_user("mallory", 1000)}

    async def test_of_50_concurrent_inserts_of_one_id_one_wins(self, backend: Backend) -> None:
        """The others are told by a BackendError."""
        record = make_record()
        answers = await asyncio.gather(*(backend.insert(record) for _ in range(CALLERS)), return_exceptions=True)
        assert sum(answer is None for answer in answers) == 1
        assert sum(isinstance(answer, BackendError) for answer in answers) == CALLERS - 1

    async def test_of_50_concurrent_deletes_one_is_true(self, backend: Backend) -> None:
        """One signal is sent for one end."""
        record = make_record()
        await backend.insert(record)
        deleted = await asyncio.gather(*(backend.delete(record.id) for _ in range(CALLERS)))
        assert deleted.count(True) == 1
        assert await backend.get(record.id) is None

    async def test_deleting_an_unknown_id_is_false(self, backend: Backend) -> None:
        """It is harmless."""
        assert await backend.delete(make_record().id) is False

    async def test_a_record_of_a_later_version_is_kept_and_not_listed(self, backend: Backend) -> None:
        """It cannot be read by this version of the library, and nothing but a deletion or its expiry ends it."""
        later = make_record(version=VERSION + 1)
        known = make_record(user=later.user)
        await backend.insert(later)
        await backend.insert(known)
        assert await backend.of_user(later.user, 10) == [known]
        assert await backend.replace(replace(known, id=later.id, revision=later.revision)) is False
        await backend.purge(time.time())
        await assert_is_of_version(backend, later.id, later.version)
        assert await backend.delete(later.id) is True
        assert await backend.get(later.id) is None

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
        """What expires at ``now`` or before is gone, from its user's list too."""
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
            assert {record.id for record in await backend.of_user(user, 10)} == {after.id, living.id}
            assert await backend.get(before.id) is None
            assert await backend.get(at.id) is None
        assert await backend.get(living.id) == living

    # Opening and closing

    async def test_opening_twice_and_at_once_does_no_harm(self, backend: Backend) -> None:
        """Several workers may open at once, and what is stored stays."""
        record = make_record()
        await backend.insert(record)
        await asyncio.gather(*(backend.open() for _ in range(5)))
        assert await backend.get(record.id) == record

    async def test_closing_twice_does_no_harm(self, backend: Backend) -> None:
        """Closing what is closed is a no-op."""
        await backend.close()
        await backend.close()
