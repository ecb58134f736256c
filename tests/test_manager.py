"""The manager without a request: administrators' jobs, limits, the purge."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    BackendError,
    MemoryBackend,
    PersistentSession,
    PersistentSessionManager,
    Record,
)
from aiohttp_persistent_session.manager import LISTED
from aiohttp_persistent_session.record import UserId
from aiohttp_persistent_session.registry import BATCH
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.testing import make_record

from .browser import DAY, Browser, Clock, Worker, Workers
from .exchanges import restore, sign_in
from .faults import FaultyBackend

EVERY_STORE = ("memory", "redis")

MANY = 5000
"""Records of one user that somebody who has the password might make."""


async def records(backend: FaultyBackend, user: str = "alice") -> list[Record]:
    return await backend.of_user(user, 10 * MANY)


async def test_an_administrator_lists_and_ends_sessions_without_a_request(
    worker: Worker, backend: FaultyBackend, clock: Clock
) -> None:
    """One, all but one, or all of a user's: the newest is listed first."""
    browsers = [Browser(worker) for _ in range(3)]
    for browser in browsers:
        await browser.sign_in("alice")
        clock.advance(1)
    async with PersistentSessionManager(backend) as manager:
        listed = await manager.sessions("alice")
        assert [one.created_at for one in listed] == sorted((one.created_at for one in listed), reverse=True)
        assert not any(one.current for one in listed)
        assert await manager.revoke(listed[0].id) is True
        assert await manager.revoke(listed[0].id) is False
        assert await manager.revoke("no id at all") is False
        assert await manager.get(listed[0].id) is None
        assert await manager.get("no id at all") is None
        assert await manager.get(listed[1].id) == listed[1]
        assert await manager.revoke_all("alice", keep=listed[1].id) == 1
        assert await manager.revoke_all("alice") == 1
        assert await manager.sessions("alice") == []
    clock.advance(60.001)
    for browser in browsers:
        assert (await browser.get()).user is None


async def test_the_manager_is_found_in_the_application(worker: Worker) -> None:
    """Under the key that the package exports."""
    assert worker.app[PERSISTENT_SESSIONS] is worker.manager


async def test_what_is_shown_is_that_of_the_last_look(worker: Worker, browser: Browser, clock: Clock) -> None:
    """User agent, address, and when it was active and ends, exact to the last check."""
    await browser.sign_in()
    clock.advance(DAY)
    browser.user_agent = "Updated/2.0"
    await browser.get()
    (session,) = await worker.manager.sessions("alice")
    assert (session.user_agent, session.address) == ("Updated/2.0", "127.0.0.1")
    assert session.seen_at.timestamp() == pytest.approx(clock.now, rel=0, abs=0.01)
    assert session.created_at.timestamp() == pytest.approx(clock.now - DAY, rel=0, abs=0.01)
    assert session.expires_at.timestamp() == pytest.approx(clock.now + 30 * DAY + 60, rel=0, abs=0.01)


async def test_a_sign_in_for_one_browser_session_is_listed_revocable_and_counted(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The box was not ticked: everything else is as for any other."""
    worker = await workers(backend, max_sessions=2)
    browsers = [Browser(worker) for _ in range(3)]
    for browser in browsers:
        clock.advance(1)
        await browser.post("/login", data={"user": "alice", "for_now": "1"})
    listed = await worker.manager.sessions("alice")
    assert [session.persistent for session in listed] == [False, False]
    assert listed[0].expires_at.timestamp() == pytest.approx(clock.now + DAY + 60, rel=0, abs=0.01)
    assert await worker.manager.revoke_all("alice") == 2
    assert (await browsers[2].get()).user is None


# Limits


async def test_max_sessions_the_least_recently_seen_gives_way(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The one that signed in first was used since; the other goes."""
    worker = await workers(backend, max_sessions=2)
    first, second, third = (Browser(worker) for _ in range(3))
    await first.sign_in()
    clock.advance(100)
    await second.sign_in()
    clock.advance(100)
    await first.get()
    await third.sign_in()
    assert [name for name, _ in worker.events] == ["remember", "remember", "revoke", "remember"]
    assert (await first.get()).user == "alice"
    assert (await second.get()).user is None
    assert (await third.get()).user == "alice"


async def test_a_user_has_100_persistent_sessions_by_default(clock: Clock) -> None:
    """The 101st sign-in ends one; None allows any number."""
    async with PersistentSessionManager(MemoryBackend()) as manager:
        manager.clock = clock
        first = await sign_in(manager)
        for _ in range(100):
            clock.advance(1)
            await sign_in(manager)
        listed = await manager.sessions("alice")
        assert len(listed) == 100
        assert first.id not in {session.id for session in listed}
    async with PersistentSessionManager(MemoryBackend(), max_sessions=None) as manager:
        for _ in range(150):
            await sign_in(manager)
        assert len(await manager.sessions("alice")) == 150


async def test_max_sessions_counts_one_user_and_not_what_the_browser_replaced(
    workers: Workers, backend: FaultyBackend
) -> None:
    """Other users, and sign-ins in the same browser, take nobody's place."""
    worker = await workers(backend, max_sessions=2)
    alice, other, bob = (Browser(worker) for _ in range(3))
    await alice.sign_in("alice")
    await bob.sign_in("bob")
    await other.sign_in("alice")
    for _ in range(3):
        await other.sign_in("alice")
    for browser in (alice, other, bob):
        assert (await browser.get()).user


async def test_expired_persistent_sessions_take_no_place(clock: Clock) -> None:
    """They are purged a day later, and count for nothing until then."""
    async with PersistentSessionManager(MemoryBackend(), max_sessions=2, max_age=100) as manager:
        manager.clock = clock
        for _ in range(2):
            await sign_in(manager)
        clock.advance(99)
        recent = await sign_in(manager)
        clock.advance(100)
        newest = await sign_in(manager)
        assert {session.id for session in await manager.sessions("alice")} == {recent.id, newest.id}


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_sign_ins_at_once_do_not_end_each_other(
    workers: Workers, backend: FaultyBackend, clock: Clock, limit: int
) -> None:
    """Each sees the other, but only the older one gives way: a double click leaves one signed in, not none."""
    worker = await workers(backend, max_sessions=limit)
    worker.manager.clock = clock.tick
    everybody_is_here = asyncio.Barrier(5)

    async def all_insert_before_any_looks(name: str) -> None:
        if name == "of_user":
            await everybody_is_here.wait()

    backend.fault = all_insert_before_any_looks
    browsers = [Browser(worker) for _ in range(5)]
    await asyncio.gather(*(browser.sign_in() for browser in browsers))
    backend.heal()
    assert len(await records(backend)) == limit
    assert sum([(await browser.get()).user == "alice" for browser in browsers]) == limit


async def test_a_sign_in_in_the_same_browser_counts_once(workers: Workers, backend: FaultyBackend) -> None:
    """With a limit of one, signing in anew ends nobody but the one before."""
    worker = await workers(backend, max_sessions=1)
    browser = Browser(worker)
    for _ in range(3):
        await browser.sign_in()
        assert (await browser.get()).user == "alice"
    assert [name for name, _ in worker.events] == ["remember", "forget", "remember", "forget", "remember"]


async def test_a_sign_in_that_cannot_make_room_signs_nobody_in(workers: Workers, backend: FaultyBackend) -> None:
    """The one that was there stays."""
    worker = await workers(backend, max_sessions=1)
    await Browser(worker).sign_in()
    backend.break_down("of_user")
    assert (await Browser(worker).post("/login", data={"user": "alice"})).status == 500
    backend.heal()
    assert len(await records(backend)) == 1


# Thousands of records


class Watched(MemoryBackend):
    """Notes how many records were asked for at once, and how long the event loop was kept."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        self.limits.append(limit)
        found = await super().of_user(user, limit)
        assert len(found) <= limit
        return found


@pytest.fixture
async def crowded(clock: Clock) -> Watched:
    """A store with thousands of records of alice, and one of bob."""
    backend = Watched()
    for number in range(MANY):
        at = clock.now - number
        await backend.insert(make_record(user="alice", created_at=at, seen_at=at, expires_at=at + 30 * DAY))
    await backend.insert(make_record(user="bob", created_at=clock.now, seen_at=clock.now))
    return backend


async def test_everything_of_a_user_who_has_thousands_can_be_ended(crowded: Watched, clock: Clock) -> None:
    """revoke_all goes on in bounded batches until none is left, and touches nobody else."""
    async with PersistentSessionManager(crowded) as manager:
        manager.clock = clock
        assert await manager.revoke_all("alice") == MANY
        assert await manager.sessions("alice") == []
        assert len(await manager.sessions("bob")) == 1
    assert max(crowded.limits[:-2]) == BATCH


async def test_all_but_one_of_thousands_can_be_ended(crowded: Watched, clock: Clock) -> None:
    """The one that is kept is in some batch, and does not end the work early."""
    async with PersistentSessionManager(crowded) as manager:
        manager.clock = clock
        kept = (await manager.sessions("alice"))[0].id
        assert await manager.revoke_all("alice", keep=kept) == MANY - 1
        assert [session.id for session in await manager.sessions("alice")] == [kept]


async def test_others_are_served_while_thousands_are_ended(crowded: Watched, clock: Clock) -> None:
    """Between two deletions whoever else waits has a turn."""
    async with PersistentSessionManager(crowded) as manager:
        manager.clock = clock
        ending = asyncio.create_task(manager.revoke_all("alice"))
        for _ in range(50):
            await sign_in(manager, "carol")
        assert not ending.done()
        assert await ending == MANY


async def test_a_listing_is_bounded(crowded: Watched, clock: Clock) -> None:
    """A thousand at most, however many there are."""
    for options in ({}, {"max_sessions": None}, {"max_sessions": 5}):
        async with PersistentSessionManager(crowded, **options) as manager:  # type: ignore[arg-type]  # options of several types
            manager.clock = clock
            assert len(await manager.sessions("alice")) == LISTED == 1000
    assert set(crowded.limits) == {LISTED}


async def test_a_sign_in_of_a_user_who_has_thousands_is_bounded(crowded: Watched, clock: Clock) -> None:
    """It ends some of those that are too many, as many as fit into one look."""
    async with PersistentSessionManager(crowded, max_sessions=5) as manager:
        manager.clock = clock
        clock.advance(1)
        newest = await sign_in(manager)
        assert crowded.limits == [5 + BATCH]
        left = await crowded.of_user("alice", 10 * MANY)
        assert MANY - BATCH - 5 <= len(left) < MANY
        assert newest.id in {record.id for record in left}


async def test_sign_ins_bring_thousands_down_to_the_limit(clock: Clock) -> None:
    """A limit that is introduced holds after a few sign-ins of that user."""
    backend = MemoryBackend()
    for number in range(500):
        await backend.insert(make_record(user="alice", created_at=clock.now - number, seen_at=clock.now - number))
    async with PersistentSessionManager(backend, max_sessions=5) as manager:
        manager.clock = clock
        for _ in range(6):
            clock.advance(1)
            await sign_in(manager)
        assert len(await manager.sessions("alice")) == 5


class NeverDeletes(MemoryBackend):
    """A store that can be read and not written, in which what expired lies before what has not."""

    async def delete(self, id: str) -> bool:
        raise BackendError("read-only")

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        found = await super().of_user(user, 10 * MANY)
        return sorted(found, key=lambda record: record.seen_at)[:limit]


async def test_a_sign_out_everywhere_that_ends_nothing_says_so(clock: Clock) -> None:
    """Also where the first batch holds nothing but expired records, which nobody misses."""
    backend = NeverDeletes()
    for number in range(BATCH + 1):
        at = clock.now - 100 * DAY + number
        await backend.insert(make_record(user="alice", created_at=at, seen_at=at))
    await backend.insert(make_record(user="alice", created_at=clock.now, seen_at=clock.now))
    async with PersistentSessionManager(backend) as manager:
        manager.clock = clock
        with pytest.raises(BackendError):
            await manager.revoke_all("alice")


async def test_a_sign_in_while_everything_is_being_ended_is_ended_or_stands_whole(
    backend: FaultyBackend, clock: Clock
) -> None:
    """A browser that signs in meanwhile is in the list and restored, or in neither."""
    async with PersistentSessionManager(backend) as manager:
        manager.clock = clock
        for _ in range(5):
            await sign_in(manager)
        _, token = await asyncio.gather(manager.revoke_all("alice"), sign_in(manager))
        listed = {session.id for session in await manager.sessions("alice")}
        assert listed <= {token.id}
        outcome = (await restore(manager, token)).outcome
        assert outcome is (Outcome.EXCHANGE if listed else Outcome.UNKNOWN)


# The purge


async def test_the_purge_runs_at_start_and_again_and_stops_with_the_application(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About once an hour; here, much more often."""
    backend = FaultyBackend(MemoryBackend())
    monkeypatch.setattr("aiohttp_persistent_session.manager.PURGE_INTERVAL", 0.001)
    old = make_record(expires_at=clock.now - 2 * DAY)
    await backend.insert(old)
    ran_again = asyncio.Event()

    async def note(name: str) -> None:
        if name == "purge" and backend.calls["purge"] >= 5:
            ran_again.set()

    backend.after = note
    async with PersistentSessionManager(backend):
        await asyncio.wait_for(ran_again.wait(), 10)
    assert await backend.get(old.id) is None
    ran = backend.calls["purge"]
    await asyncio.sleep(0.02)
    assert backend.calls["purge"] == ran


@pytest.mark.parametrize(("after", "purged"), [(DAY - 0.01, 0), (DAY + 0.01, 1)])
async def test_what_has_expired_is_purged_a_day_later(clock: Clock, after: float, purged: int) -> None:
    """The clocks of two workers may differ by hours."""
    backend = MemoryBackend()
    async with PersistentSessionManager(backend) as manager:
        manager.clock = clock
        await backend.insert(make_record(expires_at=round(clock.now, 3)))
        clock.advance(after)
        assert await manager.purge() == purged


async def test_a_purge_goes_on_until_nothing_is_left(clock: Clock) -> None:
    """A store deletes as many at once as it can in a moment."""

    class Patient(MemoryBackend):
        calls = 0

        async def purge(self, now: float) -> int:
            self.calls += 1
            return 10 if self.calls < 5 else 0

    backend = Patient()
    manager = PersistentSessionManager(backend)
    async with manager:
        manager.clock = clock
        await asyncio.sleep(0)
        backend.calls = 0
        assert await manager.purge() == 40


async def test_a_purge_that_fails_is_tried_again(
    backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning tells of it; whoever calls it gets the error."""
    monkeypatch.setattr("aiohttp_persistent_session.manager.PURGE_INTERVAL", 0.001)
    backend.break_down("purge")
    async with PersistentSessionManager(backend) as manager:
        async with asyncio.timeout(10):
            while backend.calls["purge"] < 3:
                await asyncio.sleep(0.001)
        with pytest.raises(BackendError):
            await manager.purge()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# What is refused, and what somebody has edited


@pytest.mark.parametrize("user", [None, True, {"id": 1}])
async def test_a_user_that_is_no_id_is_refused(worker: Worker, user: object) -> None:
    """The error names the argument, and the store is not asked."""
    for call in (worker.manager.sessions, worker.manager.revoke_all):
        with pytest.raises(TypeError, match="user"):
            await call(user)  # type: ignore[arg-type]  # what is wrong with it


async def test_the_types_of_the_public_surface(worker: Worker) -> None:
    """A type checker sees what the documentation says."""
    from typing import assert_type

    assert_type(await worker.manager.sessions("alice"), list[PersistentSession])
    assert_type(await worker.manager.revoke("x"), bool)
    assert_type(await worker.manager.revoke_all(1), int)
    assert_type(await worker.manager.get("x"), PersistentSession | None)


EDITED: dict[str, dict[str, Any]] = {
    "text for a time": {"expires_at": "soon"},
    "no time": {"created_at": None},
    "the year 10^292": {"seen_at": 1e300},
    "a negative time": {"created_at": -1.0},
    "text for a number": {"revision": "1"},
    "no JSON": {"data": "x"},
    "no object": {"data": "[]"},
    "no secrets": {"secrets": "none"},
    "other secrets": {"secrets": ("text",)},
    "text for a flag": {"persistent": "yes"},
    "a later version": {"version": 2},
}


@pytest.mark.parametrize("edited", EDITED.values(), ids=EDITED)
async def test_a_record_that_cannot_be_read_hides_no_other_and_signs_nobody_in(edited: dict[str, Any]) -> None:
    """Somebody has edited it, or a later version of this library wrote it: it is never deleted for that."""

    class Edited(MemoryBackend):
        """Gives back one record as somebody has edited it."""

        id = ""

        async def get(self, id: str) -> Record | None:
            record = await super().get(id)
            return replace(record, **edited) if record is not None and id == self.id else record

        async def of_user(self, user: UserId, limit: int) -> list[Record]:
            found = await super().of_user(user, limit)
            return [replace(one, **edited) if one.id == self.id else one for one in found]

    backend = Edited()
    async with PersistentSessionManager(backend, max_sessions=2) as manager:
        tokens = [await sign_in(manager) for _ in range(2)]
        backend.id = tokens[0].id
        assert [session.id for session in await manager.sessions("alice")] == [tokens[1].id]
        assert (await restore(manager, tokens[0])).failed
        with pytest.raises(BackendError):
            await manager.get(tokens[0].id)
        await sign_in(manager)
        assert await manager.revoke_all("alice") == 2
        backend.id = ""
        assert await backend.get(tokens[0].id) is not None
