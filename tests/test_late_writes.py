"""Writes whose answer does not come: they have happened, happen hours later, or never do. Nobody is logged out by it.

No bookkeeping is needed: nobody holds a secret whose answer was lost, and the revision fences the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiohttp_persistent_session import BackendError, MemoryBackend, PersistentSessionManager
from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .browser import DAY
from .exchanges import check, restore, sign_in
from .faults import FaultyBackend, Gate
from .virtual_time import in_virtual_time, now

TIMEOUT = 2.0
RECOVERS_WITHIN = TIMEOUT + 1.5


class HangingBackend(FaultyBackend):
    """Receives writes and leaves them undone, from a moment on, until the test applies them."""

    def __init__(self) -> None:
        super().__init__(MemoryBackend())
        self.is_hung = False
        self.received: list[tuple[str, Any]] = []

    async def _receive(self, name: str, argument: Any) -> None:
        if self.is_hung:
            self.received.append((name, argument))
            await asyncio.Event().wait()

    async def insert(self, record: Record) -> None:
        await self._receive("insert", record)
        await super().insert(record)

    async def replace(self, record: Record) -> bool:
        await self._receive("replace", record)
        return await super().replace(record)

    async def delete(self, id: str) -> bool:
        await self._receive("delete", id)
        return await super().delete(id)

    async def go_on(self) -> None:
        """Answer again; the writes that were received are still on their way."""
        self.is_hung = False
        await asyncio.sleep(RECOVERS_WITHIN)

    async def apply(self) -> list[Any]:
        """Do what was received, in the order of its arrival, and return what nobody hears."""
        received, self.received = self.received, []
        return [await getattr(self.inner, name)(argument) for name, argument in received]


class World:
    """A store that can hang, workers that share it, and what their signals told."""

    def __init__(self, stack: contextlib.AsyncExitStack, options: dict[str, Any]) -> None:
        self.backend = HangingBackend()
        self.told: list[str] = []
        self._stack = stack
        self._options = options

    async def worker(self) -> PersistentSessionManager:
        manager = PersistentSessionManager(self.backend, timeout=TIMEOUT, **self._options)
        manager.clock = now
        for name in ("repeat", "reuse", "revoke"):

            async def receive(*_: object, name: str = name) -> None:
                self.told.append(name)

            getattr(manager, f"on_{name}").append(receive)
        return await self._stack.enter_async_context(manager)

    async def unanswered_exchange(self, manager: PersistentSessionManager, token: Token, times: int = 1) -> None:
        """Present a token; the store receives the swap, and is silent."""
        self.backend.is_hung = True
        results = await asyncio.gather(*(restore(manager, token) for _ in range(times)))
        assert all(result.failed for result in results)
        assert [name for name, _ in self.backend.received] == ["replace"] * times


@contextlib.asynccontextmanager
async def world(**options: Any) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        yield World(stack, options)


@pytest.mark.parametrize("hung_for", [3, 30, 3600, 3 * DAY])
@pytest.mark.parametrize("grace_period", [0, 10])
@in_virtual_time
async def test_a_swap_that_is_applied_after_minutes_logs_nobody_out(grace_period: float, hung_for: float) -> None:
    """The browser keeps its token, which stays valid, and exchanges it as soon as the store answers."""
    async with world(grace_period=grace_period) as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        await asyncio.sleep(hung_for)
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        for _ in range(3):
            result = await restore(manager, token)
            assert result.outcome in {Outcome.JOIN, Outcome.EXCHANGE}
            token = result.token or token
            await asyncio.sleep(DAY)
        assert result.outcome is Outcome.EXCHANGE
        assert "reuse" not in it.told


@pytest.mark.parametrize("strict", [False, True])
@in_virtual_time
async def test_the_presented_token_is_exchanged_after_a_swap_that_never_happened(strict: bool) -> None:
    """A server that dies takes with it what it had received."""
    async with world(strict=strict) as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        it.backend.received.clear()
        await it.backend.go_on()
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        assert it.told == []


@in_virtual_time
async def test_a_swap_that_comes_after_the_next_write_comes_too_late() -> None:
    """A connection may be served long after another one of the same server: the revision fences it."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        await it.backend.go_on()
        result = await restore(manager, token)
        assert result.outcome is Outcome.EXCHANGE
        assert await it.backend.apply() == [False]
        await asyncio.sleep(DAY)
        assert (await restore(manager, result.token)).outcome is Outcome.EXCHANGE
        assert it.told == []


@pytest.mark.parametrize("applied", [0, 7, 19])
@in_virtual_time
async def test_of_many_swaps_any_may_have_been_done(applied: int) -> None:
    """A page of many requests is restored; a server with a thread for each connection keeps no order among them."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token, times=20)
        await asyncio.sleep(300)
        await it.backend.go_on()
        received = it.backend.received
        received.insert(0, received.pop(applied))
        assert await it.backend.apply() == [True] + [False] * 19
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        assert it.told == ["repeat"]


@in_virtual_time
async def test_each_of_many_exchanges_in_a_row_may_be_without_an_answer() -> None:
    """A store that does its writes and never acknowledges them, and a page that reloads by itself."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        for number in range(100):
            await it.unanswered_exchange(manager, token)
            await it.backend.go_on()
            assert await it.backend.apply() == [True], number
            await asyncio.sleep(75)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        assert it.told == ["repeat"]  # the others that would have told of one do not know that their swaps won


@in_virtual_time
async def test_another_worker_takes_the_browser_back_days_later() -> None:
    """What became of the exchange stands in the record, so no worker needs to remember it."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        await manager.close()
        await asyncio.sleep(7 * DAY)
        other = await it.worker()
        outcomes = {result.outcome for result in await asyncio.gather(restore(other, token), restore(other, token))}
        assert outcomes == {Outcome.EXCHANGE, Outcome.JOIN}
        assert it.told == ["repeat"]
        await manager.open()


@in_virtual_time
async def test_requests_under_way_join_an_exchange_that_was_not_answered() -> None:
    """Within the grace period its swap may be applied: then the browser is served, and exchanges a little later."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        joined = await restore(manager, token)
        assert (joined.outcome, joined.token, joined.session) == (Outcome.JOIN, None, 0)
        await asyncio.sleep(10)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_swap_whose_answer_is_lost_is_found_to_have_happened() -> None:
    """A request that finds its own digest in the record has won: it opens its session and carries the token."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        it.backend.lose_answer("replace")
        result = await restore(manager, token)
        assert result.outcome is Outcome.EXCHANGE
        assert result.token is not None
        await asyncio.sleep(DAY)
        assert (await restore(manager, result.token)).outcome is Outcome.EXCHANGE
        assert it.told == []


@in_virtual_time
async def test_a_repeat_whose_swap_lost_its_answer_is_told_of() -> None:
    """It was marked as reported by this very swap, so nobody else would tell of it."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await restore(manager, token)
        await asyncio.sleep(30)
        it.backend.lose_answer("replace")
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        assert it.told == ["repeat"]


@in_virtual_time
async def test_a_check_whose_swap_lost_its_answer_tells_of_what_it_dropped() -> None:
    """It moves on to a new token in the same write, by which it knows its own write again."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await restore(manager, token)
        await asyncio.sleep(95)
        it.backend.lose_answer("replace")
        assert (await check(manager, token, 0)).outcome is Outcome.LIVE
        assert it.told == ["repeat"]


@pytest.mark.parametrize("grace_period", [0, 10])
@in_virtual_time
async def test_a_driver_may_repeat_a_swap_whose_answer_it_lost(
    grace_period: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition reports that it lost: the first one was ours."""
    async with world(grace_period=grace_period) as it:
        manager = await it.worker()
        token = await sign_in(manager)
        swap = it.backend.inner.replace

        async def twice(record: Record) -> bool:
            await swap(record)
            return await swap(record)

        monkeypatch.setattr(it.backend.inner, "replace", twice)
        result = await restore(manager, token)
        assert result.outcome is Outcome.EXCHANGE
        assert result.token is not None
        await asyncio.sleep(DAY)
        assert (await check(manager, result.token, result.session)).outcome is Outcome.LIVE


@in_virtual_time
async def test_of_two_requests_whose_swaps_have_no_answer_one_exchanges() -> None:
    """Both see the same record in the same millisecond; the one that loses finds the other's secret and joins."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        it.backend.lose_answer("replace", times=2)
        results = await asyncio.gather(restore(manager, token), restore(manager, token))
        assert {result.outcome for result in results} == {Outcome.EXCHANGE, Outcome.JOIN}
        assert len([result for result in results if result.token]) == 1


@in_virtual_time
async def test_a_swap_whose_request_is_cancelled_logs_nobody_out() -> None:
    """An app that bounds its handlers in time may give up before the store is given up."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        it.backend.is_hung = True
        request = asyncio.create_task(restore(manager, token))
        await asyncio.sleep(1)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await asyncio.sleep(3600)
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_live_session_outlives_a_check_and_a_rotation_that_had_no_answer() -> None:
    """Its new token was never sent: it goes on with the old one, and moves on to another at its next check."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await asyncio.sleep(2 * DAY)
        it.backend.is_hung = True
        assert (await check(manager, token, 0)).failed
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        assert (await check(manager, token, 0)).token is None  # in the grace period of the rotation
        await asyncio.sleep(60)
        rotated = await check(manager, token, 0)
        assert rotated.outcome is Outcome.LIVE
        assert rotated.token is not None
        await asyncio.sleep(120)
        assert (await check(manager, rotated.token, 0)).outcome is Outcome.LIVE
        assert it.told == []


@in_virtual_time
async def test_a_copy_is_found_out_as_ever() -> None:
    """A token whose exchange was not answered is valid until its owner has shown the next one, and no longer."""
    async with world() as it:
        manager = await it.worker()
        copied = await sign_in(manager)
        await it.unanswered_exchange(manager, copied)
        await it.backend.go_on()
        await it.backend.apply()
        await asyncio.sleep(DAY)
        owners = await restore(manager, copied)
        assert owners.token is not None
        await asyncio.sleep(100)
        assert (await check(manager, owners.token, owners.session)).outcome is Outcome.LIVE
        assert (await restore(manager, copied)).outcome is Outcome.REUSE
        assert (await restore(manager, owners.token)).outcome is Outcome.UNKNOWN
        assert it.told == ["repeat", "reuse"]


@pytest.mark.parametrize("applied", ["before", "after", "never"])
@in_virtual_time
async def test_an_accusation_that_had_no_answer_is_made_again(applied: str) -> None:
    """The swap that takes the secrets away may come late or never: the next copy that is presented ends it."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        it.backend.is_hung = True
        assert (await restore(manager, token.with_new_secret())).failed
        await it.backend.go_on()
        if applied == "before":
            assert await it.backend.apply() == [True]
        assert (await restore(manager, token.with_new_secret())).outcome is Outcome.REUSE
        if applied == "after":
            assert await it.backend.apply() == [False]
        assert (await restore(manager, token)).outcome is Outcome.UNKNOWN
        assert it.told == ["reuse"]


@in_virtual_time
async def test_a_persistent_session_that_ended_meanwhile_stays_so() -> None:
    """A swap that comes after the deletion does not create the record anew."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        await it.unanswered_exchange(manager, token)
        await it.backend.go_on()
        assert await manager.revoke(token.id)
        assert await it.backend.apply() == [False]
        assert (await restore(manager, token)).outcome is Outcome.UNKNOWN


@in_virtual_time
async def test_a_revocation_that_comes_late_ends_what_it_was_meant_to_end() -> None:
    """The caller was told that it failed, and may call again: both orders end in nothing."""
    async with world() as it:
        manager = await it.worker()
        token, other = await sign_in(manager), await sign_in(manager, "bob")
        it.backend.is_hung = True
        with pytest.raises(BackendError):
            await manager.revoke(token.id)
        await it.backend.go_on()
        assert (await check(manager, token, 0)).outcome is Outcome.LIVE
        assert await it.backend.apply() == [True]
        await asyncio.sleep(60)
        assert (await check(manager, token, 0)).outcome is Outcome.UNKNOWN
        assert await manager.revoke(token.id) is False
        assert (await restore(manager, other)).outcome is Outcome.EXCHANGE


@pytest.mark.parametrize("overtaken", [False, True])
@in_virtual_time
async def test_a_sign_in_that_comes_late_signs_nobody_in(overtaken: bool) -> None:
    """Its token was never sent. Where the undoing has overtaken it, the user sees it in the list and can end it."""
    async with world() as it:
        manager = await it.worker()
        it.backend.is_hung = True
        with pytest.raises(BackendError):
            await sign_in(manager)
        await it.backend.go_on()
        assert [name for name, _ in it.backend.received] == ["insert", "delete"]
        if overtaken:
            it.backend.received.reverse()
        await it.backend.apply()
        assert len(await manager.sessions("alice")) == overtaken
        assert await manager.revoke_all("alice") == overtaken


@in_virtual_time
async def test_a_response_waits_no_longer_than_the_timeout_for_its_stamp() -> None:
    """A response that begins late asks whether its token may be sent: a store that hangs leaves that open."""
    async with world() as it:
        manager = await it.worker()
        token = await sign_in(manager)
        result = await restore(manager, token)
        assert result.token is not None
        it.backend.is_hung = True
        assert await manager.lifecycle.stamp(result.token) is None
        await it.backend.go_on()
        assert await it.backend.apply() == [True]
        await asyncio.sleep(60)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


@in_virtual_time
async def test_a_store_that_answers_between_two_time_outs_serves_the_browser() -> None:
    """Each request that is answered in time is served, whatever became of the one before."""
    async with world() as it:
        manager = await it.worker()
        token, gate = await sign_in(manager), Gate()
        it.backend.fault = lambda name: gate() if name == "get" else asyncio.sleep(0)
        waiting = asyncio.create_task(restore(manager, token))
        await gate.reached.wait()
        await asyncio.sleep(TIMEOUT - 0.1)
        gate.opened.set()
        assert (await waiting).outcome is Outcome.EXCHANGE
