"""The part of a store's contract that is about users and their lists, and the records that all of it is tried with.

See :mod:`aiohttp_persistent_session.testing`.
"""

# ruff: noqa: S101 -- a contract test asserts

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import Any

from ..record import VERSION, Record, Secret
from ..tokens import Token
from .base import Backend, BackendError

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
        "created_at": now,
        "seen_at": now,
        "expires_at": round(now + 3600, 3),
        "secrets": (Secret(token.digest, now),),
    }
    return Record(**defaults | changes)


def make_secrets(count: int, now: float) -> tuple[Secret, ...]:
    """Return so many secrets, up to 128, of which no two have the same fields set that may be None or false."""

    def make(number: int) -> Secret:
        at = round(now - number / 7, 3)
        fields: dict[str, Any] = {
            "exchanged_at": at,
            "user_agent": f"Mozilla/5.0 (\U0001f36a; 'odd\") \\ {number}",
            "address": "" if number % 3 else "2001:db8::1",
            "seen_at": at,
            "shown": True,
            "reported": True,
            "until": round(now + number / 7, 3),
        }
        present = {name: value for bit, (name, value) in enumerate(fields.items()) if number & 1 << bit}
        return Secret(secrets.token_bytes(32), at, session=number * 2**24, **present)

    return tuple(make(number * 37 % 128) for number in range(count))


async def assert_is_of_version(backend: Backend, id: str, version: int) -> None:
    """Assert that the record is there: it says its version, or that it cannot be read."""
    try:
        stored = await backend.get(id)
    except (BackendError, ValueError, TypeError):
        return
    assert stored is not None
    assert stored.version == version


async def scanned(backend: Backend, batch: int) -> tuple[list[Record], list[str]]:
    """Walk through the whole store; return the records, and the ids of those that cannot be read, as they come."""
    records, unreadable = list[Record](), list[str]()
    async for told in backend.scan(batch):
        assert len(told.records) + len(told.unreadable) <= batch
        records += told.records
        unreadable += told.unreadable
    return records, unreadable


def _of_any_lifetime(users: list[str | int], number: int) -> Record:
    return make_record(user=users[number % 3], max_age=(None, 3600.0, 1.5)[number % 3])


class ScanContract:
    """The promises of :meth:`.backends.base.Backend.scan`. Others' records may be in the store, too."""

    async def test_a_scan_tells_every_record_of_every_user(self, backend: Backend) -> None:
        """Each as it was stored, expired ones too where the store still has them, in batches of any size."""
        users: list[str | int] = [secrets.token_hex(8), secrets.randbits(60), f"user:{secrets.token_hex(8)}"]
        records = {one.id: one for one in (_of_any_lifetime(users, number) for number in range(25))}
        await asyncio.gather(*(backend.insert(record) for record in records.values()))
        for batch in (1, 7, 25, 1000):
            told, _ = await scanned(backend, batch)
            assert {one.id: one for one in told if one.id in records} == records

    async def test_a_scan_does_not_tell_what_was_deleted_before(self, backend: Backend) -> None:
        """It is gone from this list, too."""
        gone, there = make_record(), make_record()
        for record in (gone, there):
            await backend.insert(record)
        assert await backend.delete(gone.id)
        ids = {record.id for record in (await scanned(backend, 10))[0]}
        assert there.id in ids
        assert gone.id not in ids

    async def test_a_scan_tells_what_stays_whatever_others_do_meanwhile(self, backend: Backend) -> None:
        """Records come, go and change between any two batches."""
        stays = [make_record() for _ in range(40)]
        goes = [make_record() for _ in range(40)]
        await asyncio.gather(*(backend.insert(record) for record in (*stays, *goes)))
        told: set[str] = set()
        left, revision = list(goes), 0
        async for batch in backend.scan(5):
            told.update(record.id for record in batch.records)
            for record in left[:4]:
                assert await backend.delete(record.id)
                await backend.insert(make_record())
            left, revision = left[4:], revision + 1
            if revision <= len(goes):
                assert await backend.replace(replace(stays[0], revision=revision))
        assert told >= {record.id for record in stays}

    async def test_a_scan_tells_what_cannot_be_read_by_its_id(self, backend: Backend) -> None:
        """A record of a later version is no record to this one, and hides none behind it."""
        readable = [make_record() for _ in range(10)]
        later = [make_record(version=VERSION + 1) for _ in range(10)]
        await asyncio.gather(*(backend.insert(record) for record in (*readable, *later)))
        for batch in (1, 3, 1000):
            records, unreadable = await scanned(backend, batch)
            assert {record.id for record in records} >= {record.id for record in readable}
            assert set(unreadable) >= {record.id for record in later}
            assert not set(unreadable) & {record.id for record in records}

    async def test_a_scan_may_be_left_at_any_batch(self, backend: Backend) -> None:
        """However many are: nothing is kept of them, and nobody waits for them."""
        records = [make_record() for _ in range(20)]
        await asyncio.gather(*(backend.insert(record) for record in records))
        scans = [backend.scan(2) for _ in range(CALLERS)]
        assert all([(await anext(scan)).records is not None for scan in scans])
        async with asyncio.timeout(20):
            other = make_record()
            await backend.insert(other)
            assert await backend.replace(replace(other, revision=1))
            assert await backend.delete(other.id)
        for scan in scans:
            await scan.aclose()
            assert await anext(scan, None) is None
        assert {record.id for record in (await scanned(backend, 100))[0]} >= {record.id for record in records}


class ListContract(ScanContract):
    """The promises of :meth:`.backends.base.Backend.of_user`."""

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
            assert await backend.of_user(record.user, 10) == [record]

    async def test_all_records_of_a_user_are_listed(self, backend: Backend) -> None:
        """Each is there once, as it was written last, and none that was deleted."""
        user = secrets.token_hex(8)
        records = {record.id: record for record in (make_record(user=user) for _ in range(20))}
        await asyncio.gather(*(backend.insert(record) for record in records.values()))
        gone = next(iter(records))
        await backend.delete(gone)
        del records[gone]
        changed = replace(next(iter(records.values())), revision=1, address="192.0.2.9")
        assert await backend.replace(changed)
        records[changed.id] = changed
        listed = await backend.of_user(user, 1000)
        assert len(listed) == len(records)
        assert {record.id: record for record in listed} == records

    async def test_what_others_delete_meanwhile_hides_nothing(self, backend: Backend) -> None:
        """A record that was there all the time is listed."""
        user = secrets.token_hex(8)
        records = [make_record(user=user) for _ in range(3 * CALLERS)]
        for start in range(0, len(records), CALLERS):
            await asyncio.gather(*(backend.insert(record) for record in records[start : start + CALLERS]))

        async def delete_every_other() -> None:
            for record in records[::2]:
                await backend.delete(record.id)

        deletion = asyncio.create_task(delete_every_other())
        while not deletion.done():
            listed = {record.id for record in await backend.of_user(user, 1000)}
            assert listed >= {record.id for record in records[1::2]}
            await asyncio.sleep(0)  # a store in memory lets nobody else run
        await deletion

    async def test_an_unknown_user_has_no_records(self, backend: Backend) -> None:
        """An empty list is an answer and no error."""
        assert await backend.of_user(secrets.token_hex(8), 10) == []
        assert await backend.of_user(secrets.randbits(60), 10) == []

    async def test_no_more_records_are_listed_than_asked_for(self, backend: Backend) -> None:
        """A user who has more than ``limit`` records gets ``limit`` different ones."""
        user = secrets.token_hex(8)
        records = {record.id: record for record in (make_record(user=user) for _ in range(20))}
        for record in records.values():
            await backend.insert(record)
        for limit in (1, 2, 19, 20, 21, 1000):
            listed = {record.id: record for record in await backend.of_user(user, limit)}
            assert len(listed) == min(limit, len(records))
            assert listed.items() <= records.items()

    async def test_what_cannot_be_read_hides_nothing_behind_it(self, backend: Backend) -> None:
        """A user who has ``limit`` readable records gets them, however many unreadable ones there are."""
        user = secrets.token_hex(8)
        readable = [make_record(user=user) for _ in range(2)]
        later = [make_record(user=user, version=VERSION + 1) for _ in range(40)]
        for record in (*later[:20], readable[0], *later[20:], readable[1]):
            await backend.insert(record)
        listed = await backend.of_user(user, 2)
        assert sorted(record.id for record in listed) == sorted(record.id for record in readable)
        assert len(await backend.of_user(user, 1)) == 1

    async def test_who_deletes_what_is_listed_until_none_is_left_has_deleted_all(self, backend: Backend) -> None:
        """It ends, also where there are records that cannot be read, and these are kept."""
        user = secrets.token_hex(8)
        records = [make_record(user=user, version=VERSION + (number % 4 == 0)) for number in range(40)]
        for record in records:
            await backend.insert(record)
        for record in records[1::10]:
            await backend.delete(record.id)
        rounds = 0
        while listed := await backend.of_user(user, 4):
            assert len(listed) <= 4
            assert all([await backend.delete(record.id) for record in listed])
            rounds += 1
        assert rounds >= 26 / 4
        for record in records:
            if record.version == VERSION:
                assert await backend.get(record.id) is None
            else:
                await assert_is_of_version(backend, record.id, record.version)
