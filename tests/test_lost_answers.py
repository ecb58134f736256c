"""The store does what it was asked, and its answer gets lost or comes minutes later: that is harmless."""

from __future__ import annotations

from typing import Any

import pytest

from aiohttp_persistent_session.record import Record

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import DriverError, FaultyBackend
from .outages import is_in


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend)


@pytest.fixture
async def browser(worker: Worker) -> Browser:
    browser = Browser(worker)
    await browser.sign_in()
    return browser


@pytest.mark.parametrize("options", [{}, {"grace_period": 0}, {"strict": True}], ids=str)
async def test_an_exchange_whose_answer_was_lost_is_found_to_have_happened(
    workers: Workers, backend: FaultyBackend, options: dict[str, Any]
) -> None:
    """Who finds its own secret in the record has won the swap, whatever the answer was."""
    worker = await workers(backend, **options)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    old = browser.token
    backend.lose_answer("replace")
    reply = await browser.get()
    assert (reply.user, set(reply.cookies)) == ("alice", {TOKEN, SESSION})
    assert reply.token != old
    assert [name for name, _ in worker.events] == ["remember", "restore"]
    browser.end_session()
    assert await is_in(browser)


async def test_an_exchange_that_a_driver_repeats_opens_one_session(workers: Workers, backend: FaultyBackend) -> None:
    """The repeat of a swap that was applied reports that it lost, which is no loss."""
    worker = await workers(backend, grace_period=0)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    real = backend.inner.replace

    async def repeated(record: Record) -> bool:
        await real(record)
        return await real(record)

    backend.inner.replace = repeated  # type: ignore[method-assign]  # as redis-py and PyMongo may do
    assert set((await browser.get()).cookies) == {TOKEN, SESSION}
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_an_insert_that_a_driver_repeats_is_no_failure(worker: Worker, backend: FaultyBackend) -> None:
    """The repeat of an insert finds its own record there."""
    real = backend.inner.insert

    async def repeated(record: Record) -> None:
        await real(record)
        await real(record)

    backend.inner.insert = repeated  # type: ignore[method-assign]  # as redis-py and PyMongo may do
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    assert await is_in(browser)


async def test_a_deletion_whose_answer_was_lost_is_found_to_have_happened(
    browser: Browser, backend: FaultyBackend
) -> None:
    """A sign-out whose answer was lost has signed out, and is told of."""
    backend.lose_answer("delete")
    assert (await browser.post("/logout")).status == 302
    assert await backend.of_user("alice", 9) == []
    assert [name for name, _ in browser.worker.events] == ["remember", "forget"]


async def test_an_insert_whose_answer_was_lost_is_found_to_have_happened(
    worker: Worker, backend: FaultyBackend
) -> None:
    """A sign-in whose answer was lost has signed in."""
    browser = Browser(worker)
    backend.lose_answer("insert")
    await browser.sign_in()
    browser.end_session()
    assert await is_in(browser)


async def test_a_sign_in_over_another_whose_deletion_lost_its_answer_stands(
    browser: Browser, backend: FaultyBackend
) -> None:
    """The sign-in before ends, and the new one does not."""
    backend.lose_answer("delete")
    await browser.sign_in("bob")
    assert await backend.of_user("alice", 9) == []
    browser.end_session()
    assert (await browser.get()).user == "bob"


async def test_a_sign_in_that_cannot_make_room_leaves_the_old_one_as_it_was(
    browser: Browser, backend: FaultyBackend
) -> None:
    """A sign-in that fails half-way is undone, and what the browser had before goes on."""
    backend.break_down("of_user")
    assert (await browser.post("/login", data={"user": "alice"})).status == 500
    backend.heal()
    browser.end_session()
    assert await is_in(browser)
    assert len(await backend.of_user("alice", 9)) == 1


async def test_a_renewal_whose_answer_was_lost_does_no_harm(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A check that wrote and got no answer is a check."""
    clock.advance(61)
    backend.lose_answer("replace")
    assert await is_in(browser)
    assert (await browser.get()).token == browser.token
    browser.end_session()
    assert await is_in(browser)


async def test_a_rotation_whose_answer_was_lost_sends_its_token(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A rotation that is found to have happened reaches the browser."""
    clock.advance(DAY + 1)
    backend.lose_answer("replace")
    old = browser.token
    assert (await browser.get()).token not in (None, "", old)
    clock.advance(91)
    assert await is_in(browser)
    browser.end_session()
    assert await is_in(browser)
    assert "reuse" not in dict(browser.worker.events)


class Late:
    """Keeps what was to be swapped in, and applies it when the test says so: a store that answers to nobody."""

    def __init__(self, backend: FaultyBackend) -> None:
        self.kept: list[Record] = []
        self._inner = backend.inner
        self._real = backend.inner.replace
        self._backend = backend

    def begin(self) -> None:
        async def keep(record: Record) -> bool:
            self.kept.append(record)
            raise DriverError("no answer")

        self._inner.replace = keep  # type: ignore[method-assign]  # every swap is under way for as long as this holds

    def end(self) -> None:
        self._inner.replace = self._real  # type: ignore[method-assign]  # the store as it was

    async def apply(self) -> list[bool]:
        self.end()
        return [await self._real(record) for record in self.kept]


@pytest.mark.parametrize("minutes", [0.1, 1, 2, 30])
@pytest.mark.parametrize("comes_back", ["before", "after", "before and after"])
@pytest.mark.parametrize("swaps", [1, 3])
async def test_an_exchange_that_is_applied_minutes_later_is_harmless(
    browser: Browser, backend: FaultyBackend, clock: Clock, minutes: float, comes_back: str, swaps: int
) -> None:
    """Nobody holds the secret that a late swap adds, and the revision fences the swaps after it."""
    late = Late(backend)
    browser.end_session()
    late.begin()
    for _ in range(swaps):
        assert not await is_in(browser)
        clock.advance(3)
    late.end()
    clock.advance(60 * minutes)
    if "before" in comes_back:
        assert await is_in(browser)
        assert await late.apply() == [False] * swaps
    else:
        assert await late.apply() == [True] + [False] * (swaps - 1)
    if "after" in comes_back:
        browser.end_session()
    for _ in range(4):
        clock.advance(40)
        assert await is_in(browser)
    browser.end_session()
    assert await is_in(browser)
    assert "reuse" not in dict(browser.worker.events)


@pytest.mark.parametrize("after", [61, DAY + 1], ids=["a check", "a rotation"])
@pytest.mark.parametrize("minutes", [1, 2, 30])
async def test_a_check_that_is_applied_minutes_later_is_harmless(
    browser: Browser, backend: FaultyBackend, clock: Clock, after: float, minutes: float
) -> None:
    """A live session whose write comes late goes on, with the token that it has."""
    late = Late(backend)
    clock.advance(after)
    late.begin()
    assert await is_in(browser)
    clock.advance(60 * minutes)
    assert await late.apply() == [True]
    for _ in range(4):
        clock.advance(61)
        assert await is_in(browser)
    browser.end_session()
    assert await is_in(browser)
    assert not {"reuse", "repeat", "revoke"} & set(dict(browser.worker.events))


@pytest.mark.parametrize("after", [3, 61, DAY + 1], ids=["an exchange", "a check", "a rotation"])
async def test_a_write_that_is_applied_after_the_sign_out_revives_nobody(
    browser: Browser, backend: FaultyBackend, clock: Clock, after: float
) -> None:
    """A swap finds no record to swap once it was deleted."""
    late = Late(backend)
    clock.advance(after)
    copy = browser.clone()
    if after == 3:
        browser.end_session()
    late.begin()
    await browser.get()
    await copy.post("/logout")
    assert await late.apply() == [False] * len(late.kept)
    assert late.kept
    assert await backend.of_user("alice", 9) == []
    for one in (browser, copy):
        assert not await is_in(one)
