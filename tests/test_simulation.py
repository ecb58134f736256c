"""Thousands of little outages at random, in virtual time: nobody honest is out, and no spent token is good again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from aiohttp_persistent_session import MemoryBackend, PersistentSessionManager
from aiohttp_persistent_session.backends.base import Backend
from aiohttp_persistent_session.record import Outcome, Record, UserId
from aiohttp_persistent_session.tokens import Token

from .exchanges import exchange, sign_in

T = TypeVar("T")

BEGINNING = 1_700_000_000.0
RUNS = 400
FAILS = 0.35
NEVER = 1_000_000.0


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Does not wait: where nothing is to be done, its clock goes on to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()
        selector: Any = self._selector  # type: ignore[attr-defined]
        select = selector.select

        def go_on(timeout: float | None) -> Any:
            self._now += timeout or 0.0
            return select(0)

        selector.select = go_on

    def time(self) -> float:
        return self._now


def run(scenario: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


class UnreliableBackend(Backend):
    """Does what it is asked at once, late, or never; answers, fails, or keeps silent; whichever chance has it."""

    def __init__(self, chance: random.Random) -> None:
        self._inner = MemoryBackend()
        self._chance = chance
        self._under_way: set[asyncio.Task[Any]] = set()
        self.fails = FAILS

    async def _call(self, call: Callable[[], Awaitable[T]], faults: tuple[str, ...]) -> T:
        before, after = (self._chance.choice([0, 0, 0.001, 0.3, 1.2]) if self.fails else 0.0 for _ in range(2))
        fault = self._chance.choice(faults) if self._chance.random() < self.fails else ""
        if fault == "refused":
            raise ConnectionError
        if fault == "hangs":
            before = self._chance.choice([3, 5, 9, 12, 30, 70, 200, NEVER])
        elif fault == "silent":
            after = NEVER

        async def do() -> T:
            await asyncio.sleep(before)
            return await call()

        task = asyncio.create_task(do())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        answer = await asyncio.shield(task)
        await asyncio.sleep(after)
        if fault == "cut":
            raise ConnectionError
        return answer

    async def insert(self, record: Record) -> None:
        await self._inner.insert(record)

    async def get(self, id: str) -> Record | None:
        return await self._call(lambda: self._inner.get(id), ("refused", "silent"))

    async def replace(self, record: Record) -> bool:
        return await self._call(lambda: self._inner.replace(record), ("refused", "hangs", "hangs", "silent", "cut"))

    async def delete(self, id: str) -> bool:
        return await self._inner.delete(id)

    async def of_user(self, user: UserId) -> list[Record]:
        return await self._inner.of_user(user)

    async def purge(self, now: float) -> int:
        return 0


class Simulation:
    """One worker, its owner's browser, and perhaps somebody who has copied its cookie."""

    def __init__(self, seed: int, grace_period: float) -> None:
        self.chance = random.Random(seed)
        self.backend = UnreliableBackend(self.chance)
        self.manager = PersistentSessionManager(self.backend, grace_period=grace_period)
        self.jars: dict[str, Token] = {}
        self.outcomes: dict[str, list[Outcome | None]] = {"owner": [], "thief": []}
        self.handed_out: set[bytes] = set()
        """Secrets whose successor somebody holds."""

    async def present(self, who: str) -> None:
        token = self.jars[who]
        was_handed_out = token.secret in self.handed_out
        restored = await exchange(self.manager, token)
        self.outcomes[who].append(restored.outcome)
        assert not (restored.outcome is Outcome.CURRENT and was_handed_out)
        if restored.token is not None:
            self.handed_out.add(token.secret)
            if await self.manager.confirm(restored.token) is not False:  # as before a slow response sends it
                self.jars[who] = restored.token

    async def go_through(self, *, with_thief: bool) -> None:
        self.manager.clock = lambda: round(BEGINNING + asyncio.get_running_loop().time(), 3)
        self.jars["owner"] = await sign_in(self.manager)
        async with asyncio.TaskGroup() as requests:
            for _ in range(self.chance.randint(3, 9)):
                if with_thief and "thief" not in self.jars and self.chance.random() < 0.5:
                    self.jars["thief"] = self.jars["owner"]
                for _ in range(self.chance.randint(1, 3)):
                    requests.create_task(self.present(self.chance.choice(list(self.jars))))
                    await asyncio.sleep(self.chance.choice([0, 0, 0.1, 1, 2.5]))
                await asyncio.sleep(self.chance.choice([0.1, 3, 5, 8, 9, 9.5, 15, 61, 130]))
        self.backend.fails = 0.0
        await asyncio.sleep(300)
        await self.present("owner")
        await self.manager._unanswered.close()


@pytest.mark.parametrize("grace_period", [0, 10])
def test_an_honest_browser_is_in_after_any_outage(grace_period: float) -> None:
    """Whatever its store did or did not do, or did long after: only its secret may have stayed the same."""
    for seed in range(RUNS):
        simulation = Simulation(seed, grace_period)
        run(simulation.go_through(with_thief=False))
        outcomes = simulation.outcomes["owner"]
        assert not {Outcome.REUSE, Outcome.UNKNOWN} & set(outcomes), f"seed {seed}: {outcomes}"
        assert outcomes[-1] is Outcome.CURRENT, f"seed {seed}: {outcomes}"


@pytest.mark.parametrize("grace_period", [0, 10])
def test_no_outage_makes_a_token_good_again_whose_successor_somebody_holds(grace_period: float) -> None:
    found_out = 0
    for seed in range(RUNS):
        simulation = Simulation(seed, grace_period)
        run(simulation.go_through(with_thief=True))
        found_out += any(Outcome.REUSE in outcomes for outcomes in simulation.outcomes.values())
    assert found_out > RUNS / 10
