"""Exchanges that a hung store applies long after everybody has given up waiting for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiohttp_persistent_session import Backend, PersistentSessionManager
from aiohttp_persistent_session.record import UNANSWERED, Client, Outcome, Record, current_secret
from aiohttp_persistent_session.tokens import Token

from .browser import ANSWERS_WITHIN, DAY, Clock
from .exchanges import exchange, sign_in
from .faults import DriverError, FaultyBackend, Gate
from .stores import Store

EVERY_STORE = True

GIVEN_UP_AFTER = 0.3


class HangingBackend(FaultyBackend):
    """Receives a number of swaps, hangs from the last of them on, and does none, until it goes on."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.hangs_at_swap = 0
        self.received: list[Record] = []
        self.store: Any = None
        """The manager's, whose calls may take long but for those that this one leaves unanswered."""

    async def get(self, id: str) -> Record | None:
        record = await super().get(id)
        if self.hangs_at_swap:  # the swap comes next
            self.store.timeout = GIVEN_UP_AFTER
        return record

    async def replace(self, record: Record) -> bool:
        if self.hangs_at_swap:
            self.received.append(record)
            if len(self.received) == self.hangs_at_swap:
                self.hang()
            await asyncio.Event().wait()
        return await super().replace(record)

    def go_on(self) -> None:
        self.store.timeout = ANSWERS_WITHIN
        self.hangs_at_swap = 0
        self.heal()

    async def apply(self) -> list[bool]:
        """Do what had been received, in the order of its arrival."""
        return [await self.inner.replace(record) for record in self.received]


@pytest.fixture(autouse=True)
def tried_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiohttp_persistent_session.unanswered.TRIED_EVERY", 0.02)


@pytest.fixture
async def backend(store: Store) -> HangingBackend:
    return HangingBackend(await store.backend())


@pytest.fixture
async def alarms() -> list[str]:
    return []


@pytest.fixture
async def manager(backend: HangingBackend, clock: Clock, alarms: list[str]) -> AsyncIterator[PersistentSessionManager]:
    async with make_manager(backend, clock, alarms) as manager:
        yield manager


def make_manager(backend: Backend, clock: Clock, alarms: list[str], **options: Any) -> PersistentSessionManager:
    async def alarm(session: Any, _: object) -> None:
        alarms.append(session.id)

    manager = PersistentSessionManager(backend, timeout=ANSWERS_WITHIN, **options)
    if isinstance(backend, HangingBackend):
        backend.store = manager._store
    manager.clock = clock
    manager.on_reuse.append(alarm)
    return manager


async def hung_exchange(manager: PersistentSessionManager, backend: HangingBackend, times: int = 1) -> Token:
    """Return a token whose exchange the store has received and not answered."""
    token = await sign_in(manager)
    backend.hangs_at_swap = times
    restored = await asyncio.gather(*(exchange(manager, token) for _ in range(times)))
    assert {one.outcome for one in restored} == {None}
    assert len(backend.received) == times
    return token


async def unanswered_exchange(manager: PersistentSessionManager, backend: HangingBackend) -> Token:
    """Return a token whose exchange the store has done after all, and which answers again."""
    token = await hung_exchange(manager, backend)
    backend.go_on()
    assert await backend.apply() == [True]
    return token


async def failed_exchanges(manager: PersistentSessionManager, backend: HangingBackend, number: int) -> list[Token]:
    """Return tokens whose exchange the store has refused, as it refuses every write from now on."""
    tokens = [await sign_in(manager, f"user{one}") for one in range(number)]
    backend.break_down("replace")
    for token in tokens:
        assert (await exchange(manager, token)).outcome is None
    return tokens


async def until_left(manager: PersistentSessionManager, clock: Clock, number: int) -> None:
    """Wait until the worker has no more than so many records to see to, after the grace period."""
    clock.advance(11)
    async with asyncio.timeout(20):
        while len(manager._unanswered._attempts) > number:
            await asyncio.sleep(0.02)


async def until_seen_to(manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, id: str) -> None:
    await until_left(manager, clock, 0)
    assert (await backend.inner.get(id)).spent[0].at == UNANSWERED


@pytest.mark.parametrize("hung_for", [5, 30, 3600, 3 * DAY])
@pytest.mark.parametrize("grace_period", [0, 10])
async def test_a_swap_applied_after_minutes_logs_nobody_out(
    backend: HangingBackend, clock: Clock, alarms: list[str], hung_for: float, grace_period: float
) -> None:
    async with make_manager(backend, clock, alarms, grace_period=grace_period) as manager:
        token = await hung_exchange(manager, backend)
        clock.advance(hung_for)
        backend.go_on()
        assert await backend.apply() == [True]
        restored = await exchange(manager, token)
        assert restored.outcome is (Outcome.RACE if hung_for <= grace_period else Outcome.CURRENT)
        clock.advance(DAY)
        assert (await exchange(manager, restored.token)).outcome is Outcome.CURRENT
        assert alarms == []


async def test_whoever_of_several_requests_came_through(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    token = await hung_exchange(manager, backend, times=3)
    clock.advance(300)
    backend.go_on()
    assert await backend.apply() == [True, False, False]
    assert (await exchange(manager, token)).outcome is Outcome.CURRENT
    assert alarms == []


@pytest.mark.parametrize("hung_for", [5, 3600])
async def test_a_swap_whose_request_was_cancelled_logs_nobody_out(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str], hung_for: float
) -> None:
    """An app that bounds its handlers in time, or cancels those whose client has gone, may give up before we do."""
    token = await sign_in(manager)
    backend.hangs_at_swap = 1
    request = asyncio.create_task(exchange(manager, token))
    async with asyncio.timeout(20):
        while not backend.received:
            await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    async with asyncio.timeout(20):
        while not manager._unanswered._attempts:
            await asyncio.sleep(0.02)
    clock.advance(hung_for)
    backend.go_on()
    assert await backend.apply() == [True]
    assert (await exchange(manager, token)).outcome is (Outcome.RACE if hung_for < 10 else Outcome.CURRENT)
    assert alarms == []


@pytest.mark.parametrize("grace_period", [0, 10])
async def test_the_second_answer_may_be_lost_too(
    backend: HangingBackend, clock: Clock, alarms: list[str], grace_period: float
) -> None:
    async with make_manager(backend, clock, alarms, grace_period=grace_period) as manager:
        token = await unanswered_exchange(manager, backend)
        await until_seen_to(manager, backend, clock, token.id)
        clock.advance(300)
        backend.lose_answer("replace")
        restored = await exchange(manager, token)
        assert restored.outcome is Outcome.CURRENT
        clock.advance(300)
        assert (await exchange(manager, restored.token)).outcome is Outcome.CURRENT
        assert alarms == []


async def test_another_worker_takes_the_browser_back_days_later(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """The worker that has no answer sees to it by itself, and writes it down for all."""
    token = await hung_exchange(manager, backend)
    clock.advance(30)
    backend.go_on()
    await backend.apply()
    await until_seen_to(manager, backend, clock, token.id)
    clock.advance(7 * DAY)
    async with make_manager(backend, clock, alarms) as other:
        both = await asyncio.gather(exchange(other, token), exchange(other, token))
    assert {one.outcome for one in both} == {Outcome.CURRENT, Outcome.RACE}
    assert both[0].token == both[1].token
    assert alarms == []


async def test_a_swap_that_comes_after_the_next_look_comes_too_late(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """A connection may be served long after another one of the same server."""
    token = await hung_exchange(manager, backend)
    backend.go_on()
    restored = await exchange(manager, token)
    assert restored.outcome is Outcome.CURRENT
    assert await backend.apply() == [False]
    clock.advance(120)
    assert (await exchange(manager, restored.token)).outcome is Outcome.CURRENT
    assert alarms == []


async def test_a_swap_that_comes_after_the_worker_has_seen_to_it_comes_too_late(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock
) -> None:
    token = await hung_exchange(manager, backend)
    backend.go_on()
    clock.advance(11)
    async with asyncio.timeout(20):
        while (await backend.inner.get(token.id)).revision == 0:
            await asyncio.sleep(0.02)
    assert await backend.apply() == [False]
    clock.advance(120)
    assert (await exchange(manager, token)).outcome is Outcome.CURRENT


async def test_a_thief_is_found_out_as_ever(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """A token whose exchange was not answered counts as not exchanged; once it is, it is spent."""
    token = await hung_exchange(manager, backend)
    clock.advance(30)
    backend.go_on()
    await backend.apply()
    stolen = token
    token = (await exchange(manager, token)).token
    clock.advance(5)
    assert (await exchange(manager, stolen)).outcome is Outcome.RACE
    token = (await exchange(manager, token)).token
    clock.advance(30)
    assert (await exchange(manager, stolen)).outcome is Outcome.LATE
    assert alarms == []
    clock.advance(60)
    assert (await exchange(manager, stolen)).outcome is Outcome.REUSE
    assert alarms == [token.id]
    assert (await exchange(manager, token)).outcome is Outcome.UNKNOWN


async def test_who_joined_it_at_this_worker_ends_the_matter(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """Its successor was handed out: a thief might bring an answer to be lost, and join, to go unnoticed for weeks."""
    copied = await unanswered_exchange(manager, backend)
    clock.advance(5)
    joined = await exchange(manager, copied)
    assert joined.outcome is Outcome.RACE
    assert manager._unanswered._attempts == {}
    clock.advance(DAY)
    assert (await exchange(manager, copied)).outcome is Outcome.REUSE
    assert alarms == [copied.id]
    assert (await exchange(manager, joined.token)).outcome is Outcome.UNKNOWN


async def test_who_joins_it_before_it_is_given_up_ends_the_matter_too(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """Two requests at once: the store does the swap of the one and does not tell it, and the other one joins."""
    copied, gate = await sign_in(manager), Gate()

    async def cut(name: str) -> None:
        if name == "replace":
            await gate()
            raise DriverError("connection reset")

    backend.after = cut
    waiting = asyncio.create_task(exchange(manager, copied))
    await gate.reached.wait()
    joined = await exchange(manager, copied)
    assert joined.outcome is Outcome.RACE
    backend.break_down()
    gate.opened.set()
    assert (await waiting).outcome is None
    backend.heal()
    assert manager._unanswered._attempts == {}
    clock.advance(DAY)
    assert (await exchange(manager, copied)).outcome is Outcome.REUSE
    assert alarms == [copied.id]


async def test_who_was_live_with_the_successor_before_it_is_seen_to_ends_the_matter(
    manager: PersistentSessionManager, backend: HangingBackend, store: Store, clock: Clock
) -> None:
    """Another worker let it join. This one may be slow, or its store out of reach for longer."""
    copied = await hung_exchange(manager, backend)
    await backend.apply()
    joined = current_secret(await backend.inner.get(copied.id), copied.secret)
    async with make_manager(await store.backend(), clock, []) as other:
        clock.advance(61)
        assert await other.check(copied.id, Client(), joined) is not None
    backend.go_on()
    await until_left(manager, clock, 0)
    assert (await backend.inner.get(copied.id)).spent[0].at != UNANSWERED
    clock.advance(DAY)
    assert (await exchange(manager, copied)).outcome is Outcome.REUSE


async def test_each_exchange_is_seen_to_only_when_its_own_grace_period_is_over(
    manager: PersistentSessionManager, backend: HangingBackend, store: Store, clock: Clock
) -> None:
    """Or requests of one page, at two workers, would be given two successors of one token."""
    token = await hung_exchange(manager, backend)
    backend.go_on()
    backend.received.clear()
    clock.advance(9.5)
    backend.hangs_at_swap = 1
    assert (await exchange(manager, token)).outcome is None
    backend.go_on()
    assert await backend.apply() == [True]
    async with make_manager(await store.backend(), clock, []) as other:
        joined = await exchange(other, token)
    assert joined.outcome is Outcome.RACE
    clock.advance(0.6)
    await manager._unanswered.settle(token.id)
    assert len(manager._unanswered._attempts[token.id]) == 1
    both = await exchange(manager, token)
    assert (both.outcome, both.token) == (Outcome.RACE, joined.token)


async def test_of_many_swaps_any_may_have_been_done(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock
) -> None:
    """A page of many requests is restored; a server with a thread for each connection keeps no order among them."""
    token = await hung_exchange(manager, backend, times=24)
    clock.advance(300)
    backend.go_on()
    assert await backend.inner.replace(backend.received[20])
    assert (await exchange(manager, token)).outcome is Outcome.CURRENT


async def test_the_attempts_of_one_record_are_bounded(
    manager: PersistentSessionManager, backend: HangingBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_persistent_session.unanswered.KEPT_OF_EACH", 3)
    token = await hung_exchange(manager, backend, times=5)
    assert len(manager._unanswered._attempts[token.id]) == 3


@pytest.mark.parametrize("grace_period", [0, 10])
async def test_who_only_sees_it_done_has_not_joined_it(
    backend: HangingBackend, clock: Clock, alarms: list[str], grace_period: float
) -> None:
    """A slow response of the browser's last session reads the record, or a live request of it is checked."""
    async with make_manager(backend, clock, alarms, grace_period=grace_period) as manager:
        token, gate = await sign_in(manager), Gate()

        async def cut(name: str) -> None:
            if name == "replace":
                await gate()
                raise DriverError("connection reset")

        backend.after = cut
        waiting = asyncio.create_task(exchange(manager, token))
        await gate.reached.wait()
        assert await manager.confirm(token) is False
        assert await manager.check(token.id, Client(), token.secret) is not None
        backend.break_down()
        gate.opened.set()
        assert (await waiting).outcome is None
        backend.heal()
        clock.advance(300)
        assert (await exchange(manager, token)).outcome is Outcome.CURRENT
        assert alarms == []


async def test_who_would_join_it_as_it_is_being_seen_to_comes_too_late(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """Else the successor would be in somebody's hands, and the secret before it good for weeks all the same."""
    copied = await unanswered_exchange(manager, backend)
    clock.advance(9.9)

    async def accept_slowly(_: object) -> bool:
        clock.advance(0.5)
        await manager._unanswered.settle(copied.id)
        return True

    late = await manager.restore(copied, client=Client(), accept=accept_slowly, request=None)
    assert (late.outcome, late.token) == (None, None)
    assert (await exchange(manager, copied)).outcome is Outcome.CURRENT
    assert alarms == []


async def test_who_joins_it_as_it_is_about_to_be_seen_to_ends_the_matter(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    copied = await unanswered_exchange(manager, backend)
    clock.advance(9.9)
    looks = Gate()

    async def accept_slowly(_: object) -> bool:
        clock.advance(0.5)
        backend.after = lambda name: looks() if name == "get" else asyncio.sleep(0)
        settling.append(asyncio.create_task(manager._unanswered.settle(copied.id)))
        await looks.reached.wait()
        return True

    settling: list[asyncio.Task[None]] = []
    joined = await manager.restore(copied, client=Client(), accept=accept_slowly, request=None)
    assert joined.outcome is Outcome.RACE
    looks.opened.set()
    await settling[0]
    clock.advance(DAY)
    assert (await exchange(manager, copied)).outcome is Outcome.REUSE
    assert alarms == [copied.id]


async def test_an_outage_of_writes_alone_is_logged_once_and_nothing_is_read_in_vain(
    manager: PersistentSessionManager, backend: HangingBackend, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [await sign_in(manager, f"user{number}") for number in range(5)]
    backend.calls.clear()
    caplog.set_level(logging.INFO)
    for token in tokens:
        backend.hangs_at_swap = len(backend.received) + 2
        assert (await exchange(manager, token)).outcome is None
        backend.store.timeout = ANSWERS_WITHIN
    assert backend.calls["get"] == len(tokens)
    (told,) = (record.getMessage() for record in caplog.records if record.name == "aiohttp_persistent_session")
    assert "fails at replace" in told


async def test_a_persistent_session_that_ended_meanwhile_stays_so(
    manager: PersistentSessionManager, backend: HangingBackend
) -> None:
    token = await hung_exchange(manager, backend)
    backend.go_on()
    assert await manager.revoke(token.id)
    assert await backend.apply() == [False]
    assert (await exchange(manager, token)).outcome is Outcome.UNKNOWN


async def test_a_write_outage_costs_a_failing_call_a_second_and_is_over_with_it(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock
) -> None:
    tokens = await failed_exchanges(manager, backend, 50)
    clock.advance(11)
    backend.calls.clear()
    await asyncio.sleep(0.2)
    assert backend.calls["replace"] <= 12
    backend.heal()
    await until_left(manager, clock, 0)
    for token in tokens:
        assert (await exchange(manager, token)).outcome is Outcome.CURRENT


async def test_what_a_worker_sees_to_is_bounded_and_ends_with_it(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_persistent_session.unanswered.KEPT", 5)
    tokens = await failed_exchanges(manager, backend, 8)
    # Not which of the older ones: the worker has tried one of them meanwhile, or has not.
    assert len(manager._unanswered._attempts) == 5
    assert tokens[-1].id in manager._unanswered._attempts
    clock.advance(11)
    for _ in range(30):
        await exchange(manager, tokens[-1])
    assert len(manager._unanswered._attempts[tokens[-1].id]) <= 31


async def test_a_record_that_cannot_be_reached_does_not_hold_up_the_others(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a shard of a cluster that is down."""
    tokens = await failed_exchanges(manager, backend, 3)
    get = backend.inner.get

    async def get_but(id: str) -> Record | None:
        if id == tokens[0].id:
            raise OSError("shard down")
        return await get(id)

    monkeypatch.setattr(backend.inner, "get", get_but)
    backend.heal()
    await until_left(manager, clock, 1)
    assert list(manager._unanswered._attempts) == [tokens[0].id]


async def test_who_joined_in_the_grace_period_closes_it_for_others_by_being_live(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """Then the successor was handed out after all: a copy of the old token must not work for weeks."""
    stolen = await unanswered_exchange(manager, backend)
    await until_seen_to(manager, backend, clock, stolen.id)
    joined = current_secret(await backend.inner.get(stolen.id), stolen.secret)
    clock.advance(61)
    assert await manager.check(stolen.id, Client(), joined) is not None
    clock.advance(70)
    assert (await exchange(manager, stolen)).outcome is Outcome.REUSE


@pytest.mark.parametrize("presents_it", [True, False])
async def test_who_is_live_without_the_new_token_was_not_answered(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str], presents_it: bool
) -> None:
    """The same browser may be live at a worker that reads its session, and restored at one that cannot."""
    token = await unanswered_exchange(manager, backend)
    await until_seen_to(manager, backend, clock, token.id)
    clock.advance(61)
    assert await manager.check(token.id, Client(), token.secret if presents_it else None) is not None
    clock.advance(120)
    assert (await exchange(manager, token)).outcome is Outcome.CURRENT
    assert alarms == []


async def test_a_copy_of_a_token_that_joined_an_exchange_without_an_answer_is_found_out(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock, alarms: list[str]
) -> None:
    """The exchange at one worker had no answer; another worker let its owner join. A thief comes with the old token."""
    copied = await hung_exchange(manager, backend)
    await backend.apply()
    joined = current_secret(await backend.inner.get(copied.id), copied.secret)
    backend.go_on()
    await until_seen_to(manager, backend, clock, copied.id)
    clock.advance(14 * DAY)
    thief = await exchange(manager, copied)
    assert thief.outcome is Outcome.CURRENT
    assert thief.token.secret != joined
    clock.advance(DAY)
    assert (await exchange(manager, copied.with_secret(joined))).outcome is Outcome.REUSE
    assert alarms == [copied.id]
    assert (await exchange(manager, thief.token)).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("grace_period", [0, 10])
async def test_exchanges_without_an_answer_may_follow_each_other(
    backend: HangingBackend, clock: Clock, alarms: list[str], grace_period: float
) -> None:
    async with make_manager(backend, clock, alarms, grace_period=grace_period) as manager:
        token = await hung_exchange(manager, backend)
        for _ in range(3):
            backend.go_on()
            await backend.apply()
            clock.advance(DAY)
            await until_left(manager, clock, 0)
            backend.received.clear()
            backend.hangs_at_swap = 1
            assert (await exchange(manager, token)).outcome is None
        backend.go_on()
        assert await backend.apply() == [True]
        clock.advance(300)
        restored = await exchange(manager, token)
        assert restored.outcome is Outcome.CURRENT
        clock.advance(300)
        assert (await exchange(manager, restored.token)).outcome is Outcome.CURRENT
        assert alarms == []


@pytest.mark.parametrize("grace_period", [0, 10])
async def test_a_driver_may_repeat_the_exchange_that_follows_one_without_an_answer(
    backend: HangingBackend, clock: Clock, alarms: list[str], grace_period: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_manager(backend, clock, alarms, grace_period=grace_period) as manager:
        token = await unanswered_exchange(manager, backend)
        await until_seen_to(manager, backend, clock, token.id)
        replace = backend.inner.replace

        async def replace_twice(record: Record) -> bool:
            await replace(record)
            return await replace(record)

        monkeypatch.setattr(backend.inner, "replace", replace_twice)
        assert (await exchange(manager, token)).outcome is Outcome.CURRENT


async def test_of_two_requests_one_exchanges_a_token_that_was_not_answered(
    manager: PersistentSessionManager, backend: HangingBackend, clock: Clock
) -> None:
    """Both see the same record, in the same millisecond; the one that loses the swap is not told that it lost."""
    token = await unanswered_exchange(manager, backend)
    await until_seen_to(manager, backend, clock, token.id)

    async def cut(name: str) -> None:
        if name == "replace" and backend.calls["replace"] == 2:
            raise DriverError("connection reset")

    backend.calls.clear()
    backend.after = cut
    both = await asyncio.gather(exchange(manager, token), exchange(manager, token))
    assert sorted(str(one.outcome) for one in both) == ["Outcome.CURRENT", "Outcome.RACE"]
    assert both[0].token == both[1].token


async def test_an_exchange_that_another_worker_answered_is_left_alone(
    manager: PersistentSessionManager, backend: HangingBackend, store: Store, clock: Clock, alarms: list[str]
) -> None:
    token = await hung_exchange(manager, backend)
    clock.advance(1)
    backend.go_on()
    await backend.apply()
    await until_seen_to(manager, backend, clock, token.id)
    clock.advance(1)
    backend.received.clear()
    backend.hangs_at_swap = 1
    assert (await exchange(manager, token)).outcome is None
    clock.advance(1)
    async with make_manager(await store.backend(), clock, alarms) as other:
        assert (await exchange(other, token)).outcome is Outcome.CURRENT
    answered_at = clock()
    backend.go_on()
    assert await backend.apply() == [False]
    await until_left(manager, clock, 0)
    assert (await backend.inner.get(token.id)).spent[0].at == answered_at


async def test_after_its_end_a_worker_takes_nothing_over(backend: HangingBackend, clock: Clock) -> None:
    async with make_manager(backend, clock, []) as manager:
        await hung_exchange(manager, backend)
        unanswered, (attempt,) = manager._unanswered, backend.received
    unanswered.add(attempt, attempt.spent[0].digest)
    assert unanswered._attempts == {}
    backend.go_on()
    async with manager:
        manager._unanswered.add(attempt, attempt.spent[0].digest)
        assert list(manager._unanswered._attempts) == [attempt.id]
