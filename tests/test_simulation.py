"""Thousands of visits at random, in virtual time, over a store that fails: nobody honest is out, and thieves are found.

The lifecycle is the real one, on two workers whose clocks differ. What the requests go through is made up: answers are
lost or late, handlers are slow, the browser is killed before its cookies are on disk, sessions end, and the store does
what it is asked at once, late or never, whether it says so or not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

import pytest

from aiohttp_persistent_session import MemoryBackend, PersistentSessionManager
from aiohttp_persistent_session.backends.base import Backend, Batch
from aiohttp_persistent_session.lifecycle import Result
from aiohttp_persistent_session.policy import SENT_WITHIN
from aiohttp_persistent_session.record import Browser, Record, UserId
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .exchanges import sign_in
from .virtual_time import now, run

pytestmark = pytest.mark.usefixtures("uncounted")

T = TypeVar("T")

RUNS = 200
ROTATES_AFTER = 600.0
FOUND_WITHIN = 240.0
FAILS = 0.3
NEVER = 1_000_000.0
SERVED = {Outcome.EXCHANGE, Outcome.JOIN, Outcome.LIVE}
OVER = {Outcome.REUSE, Outcome.UNKNOWN, Outcome.ENDED}


class UnreliableBackend(Backend):
    """Does what it is asked at once, late, or never; answers, fails, or keeps silent; whichever chance has it."""

    def __init__(self, chance: random.Random, fails: float) -> None:
        self._inner = MemoryBackend()
        self._chance = chance
        self._under_way: set[asyncio.Task[Any]] = set()
        self._valid: set[bytes] = set()
        self._dropped: set[bytes] = set()
        self.valid_again: set[bytes] = set()
        """Secrets that a write made valid after another one had dropped them. There must be none."""
        self.fails = fails

    async def _call(self, call: Callable[[], Awaitable[T]], faults: tuple[str, ...]) -> T:
        before, after = (self._chance.choice([0, 0, 0.001, 0.3, 0.9]) if self.fails else 0.0 for _ in range(2))
        fault = self._chance.choice(faults) if self._chance.random() < self.fails else ""
        if fault == "refused":
            raise ConnectionError
        if fault == "late":
            before = self._chance.choice([3, 9, 12, 30, 70, 200, NEVER])
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

    async def _swap(self, record: Record) -> bool:
        if not await self._inner.replace(record):
            return False
        valid = {secret.digest for secret in record.secrets}
        self.valid_again |= valid & self._dropped
        self._dropped |= self._valid - valid
        self._valid = valid
        return True

    async def insert(self, record: Record) -> None:
        await self._inner.insert(record)
        self._valid = {secret.digest for secret in record.secrets}

    async def get(self, id: str) -> Record | None:
        return await self._call(lambda: self._inner.get(id), ("refused", "silent"))

    async def replace(self, record: Record) -> bool:
        return await self._call(lambda: self._swap(record), ("refused", "late", "late", "silent", "cut"))

    async def delete(self, id: str) -> bool:
        return await self._call(lambda: self._inner.delete(id), ("refused", "late", "cut"))

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        return await self._inner.of_user(user, limit)

    def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        return self._inner.scan(batch)

    async def purge(self, now: float) -> int:
        return 0


class Cookies(NamedTuple):
    """What a browser holds: its token, and the number of its session if it has one."""

    token: Token
    session: int | None


class Visitor:
    """A browser whose cookies reach the disk a while after they came, and which may be killed before."""

    def __init__(self, name: str, cookies: Cookies, chance: random.Random) -> None:
        self.browser = Browser(name, name)
        self.cookies = self.on_disk = cookies
        self.outcomes: list[Outcome | None] = []
        self.life = 0
        """Counts how often it was started: answers to an earlier one reach nobody."""
        self._chance = chance

    def take(self, token: Token | None, session: int | None, life: int) -> None:
        if life != self.life or (token is None and session is None):
            return
        old = self.cookies
        self.cookies = Cookies(token or old.token, old.session if session is None else session)
        asyncio.get_running_loop().call_later(self._chance.uniform(15, 30), self._flush, life)

    def _flush(self, life: int) -> None:
        if life == self.life:
            self.on_disk = self.cookies

    def kill(self) -> None:
        """Start it anew, with what is on disk; session cookies survive where the browser restores its tabs."""
        self.life += 1
        self.cookies = self.on_disk if self._chance.random() < 0.5 else self.on_disk._replace(session=None)

    def end_session(self) -> None:
        self.cookies = self.cookies._replace(session=None)


class World:
    """Two workers, a store, an owner's browser, and perhaps somebody who has copied its cookies."""

    def __init__(self, seed: int, *, fails: float, honest_faults: bool = True, **options: Any) -> None:
        self.chance = random.Random(seed)
        self.backend = UnreliableBackend(self.chance, fails)
        self.honest_faults = honest_faults
        self.workers = [PersistentSessionManager(self.backend, **options) for _ in range(2)]
        skew = 5 if honest_faults else 0
        for worker in self.workers:
            offset = self.chance.uniform(-skew, skew)
            worker.clock = lambda offset=offset: now() + offset
        self.alarms = 0

    async def _count_alarm(self, *_: object) -> None:
        self.alarms += 1

    async def begin(self) -> Visitor:
        for worker in self.workers:
            worker.on_reuse.append(self._count_alarm)
            await worker.open()
        return Visitor("owner", Cookies(await sign_in(self.workers[0]), 0), self.chance)

    async def end(self) -> None:
        for worker in self.workers:
            await worker.close()
        assert not self.backend.valid_again

    async def request(self, visitor: Visitor) -> None:
        """Send what the browser holds; let the answer carry what a response would carry, and arrive or not."""
        cookies, life, chance = visitor.cookies, visitor.life, self.chance
        await asyncio.sleep(chance.choice([0.01, 0.01, 0.3, 3]))
        worker = chance.choice(self.workers)
        result = await self._judge(worker, cookies, visitor.browser)
        visitor.outcomes.append(result.outcome)
        issued_at = asyncio.get_running_loop().time()
        await asyncio.sleep(chance.choice([0.01, 0.01, 0.1, 1, 5, 30, 110] if self.honest_faults else [0.01, 0.1]))
        token, session = result.token, result.session if result.outcome is Outcome.EXCHANGE else None
        if token is not None and asyncio.get_running_loop().time() - issued_at > SENT_WITHIN:
            may_be_sent = await worker.lifecycle.stamp(token)
            if may_be_sent is not Outcome.LIVE:
                token = session = None
        if self.honest_faults and chance.random() < 0.2:
            return
        await asyncio.sleep(chance.choice([0.01, 0.1, 0.3, 5 if self.honest_faults else 0.3]))
        visitor.take(token, session, life)

    async def _judge(self, worker: PersistentSessionManager, cookies: Cookies, browser: Browser) -> Result:
        token, session = cookies
        if session is None:
            return await worker.lifecycle.restore([token], browser)
        view, at = worker.registry.seen.get(token.id), worker.clock()
        if view is not None and view.is_current(at) and view.knows([token.digest], session, at, worker.policy):
            return Result(Outcome.LIVE, view.record, session=session)
        return await worker.lifecycle.check(token.id, [token], session, browser)

    async def visit(self, visitor: Visitor) -> None:
        """One page, of one to five requests at about the same time."""
        if self.honest_faults and self.chance.random() < 0.2:
            visitor.kill()
        if self.chance.random() < 0.35:
            visitor.end_session()
        async with asyncio.TaskGroup() as requests:
            for _ in range(self.chance.choice([1, 1, 1, 2, 3, 5])):
                requests.create_task(self.request(visitor))
                await asyncio.sleep(self.chance.choice([0, 0, 0.05]))


async def honest(world: World) -> None:
    owner = await world.begin()
    async with asyncio.TaskGroup() as visits:
        for _ in range(world.chance.randint(4, 12)):
            visits.create_task(world.visit(owner))
            await asyncio.sleep(world.chance.choice([0.5, 5, 11, 20, 45, 58, 61, 75, 100, 300, 100_000]))
    world.backend.fails = 0.0
    await asyncio.sleep(310)
    owner.end_session()
    world.honest_faults = False
    await world.request(owner)
    await world.end()
    wrong = {Outcome.REUSE, Outcome.UNKNOWN, Outcome.LOST, Outcome.ENDED} & set(owner.outcomes)
    assert not wrong, owner.outcomes
    assert world.alarms == 0
    assert owner.outcomes[-1] in SERVED, owner.outcomes


@pytest.mark.parametrize("options", [{"grace_period": 0}, {"grace_period": 10}, {"rotate_interval": 60}])
@pytest.mark.parametrize("fails", [0.0, FAILS])
def test_an_honest_browser_is_in_after_anything(options: dict[str, Any], fails: float) -> None:
    """Whatever its network, its disk and its store did, or did long after: it is never accused, and never out."""
    for seed in range(RUNS):
        try:
            run(honest(World(seed, fails=fails, **options)))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


async def beside_a_thief(world: World, *, both_cookies: bool) -> float:
    """Return for how long a copy was used beside a live owner until it was found out."""
    owner = await world.begin()
    for _ in range(world.chance.randint(0, 3)):
        await world.visit(owner)
        await asyncio.sleep(world.chance.uniform(5, 200))
    stolen = owner.cookies if both_cookies else owner.cookies._replace(session=None)
    thief = Visitor("thief", stolen, world.chance)
    began = asyncio.get_running_loop().time()
    while not OVER & {*owner.outcomes, *thief.outcomes} and asyncio.get_running_loop().time() - began < 3600:
        for visitor in world.chance.sample([owner, thief], 2):
            await world.request(visitor)
            await asyncio.sleep(world.chance.uniform(1, 15))
    lasted = asyncio.get_running_loop().time() - began
    world.backend.fails = 0.0
    await asyncio.sleep(310)
    for visitor in (owner, thief):
        visitor.end_session()
        await world.request(visitor)
        assert visitor.outcomes[-1] in {Outcome.UNKNOWN, Outcome.REUSE}
    await world.end()
    return lasted


@pytest.mark.parametrize("both_cookies", [False, True])
@pytest.mark.parametrize("grace_period", [0, 10])
def test_a_copy_that_goes_on_being_used_beside_a_live_owner_is_found_out(
    grace_period: float, both_cookies: bool
) -> None:
    """Within four minutes of the first restore or rotation, whoever of the two comes first; then neither is in.

    Two that have the session too are not told apart before: nothing that one of them presents differs.
    """
    longest = 0.0
    for seed in range(RUNS // 5):
        world = World(seed, fails=0.0, honest_faults=False, grace_period=grace_period, rotate_interval=ROTATES_AFTER)
        longest = max(longest, run(beside_a_thief(world, both_cookies=both_cookies)))
    assert longest < FOUND_WITHIN + both_cookies * ROTATES_AFTER


@pytest.mark.parametrize("grace_period", [0, 10])
def test_a_store_that_fails_hides_no_thief(grace_period: float) -> None:
    """An outage puts it off; no write that comes late makes a dropped token valid again."""
    for seed in range(RUNS // 5):
        world = World(seed, fails=FAILS, honest_faults=False, grace_period=grace_period, rotate_interval=ROTATES_AFTER)
        assert run(beside_a_thief(world, both_cookies=bool(seed % 2))) < 3600
