"""A real server is killed, or hangs, under load: whoever is signed in stays so, and service resumes by itself."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest

from aiohttp_persistent_session import (
    Backend,
    BackendError,
    MongoBackend,
    PersistentSessionManager,
    RedisBackend,
    SQLBackend,
)
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .exchanges import restore, sign_in
from .servers.mongo import mongo_server  # noqa: F401 -- a fixture
from .servers.postgresql import postgresql_server  # noqa: F401 -- a fixture
from .servers.processes import Server
from .servers.redis import durable_redis  # noqa: F401 -- a fixture

BROWSERS = 20
RESUMES_WITHIN = 30.0
"""Seconds, for a slow machine; it takes a fraction of one."""
HANGS_FOR = 3.0
TIMEOUT = 2.0
"""Seconds that a store may take by default."""
TIMES_FASTER = 8
"""So much faster the managers' clock goes, so that a browser that comes again after a moment has been away for longer
than the time in which exchanges are joined. An answer that takes TIMEOUT still arrives well within SETTLE_TIME."""
AWAY_FOR = 0.3
"""Seconds between two visits of a browser."""

KILLS_SERVERS = True

logger = logging.getLogger(__name__)


@dataclass
class Durable:
    """A server that keeps what it acknowledged, and backends on it."""

    server: Server
    backend: Callable[[], Backend]


@pytest.fixture(params=["redis", "postgresql", "mongodb"])
def durable(request: pytest.FixtureRequest) -> Durable:
    if request.param == "redis":
        redis = request.getfixturevalue("durable_redis")
        return Durable(redis.server, lambda: RedisBackend(redis.url))
    if request.param == "postgresql":
        postgresql = request.getfixturevalue("postgresql_server")
        return Durable(postgresql, lambda: SQLBackend(postgresql.url))
    mongo, own = request.getfixturevalue("mongo_server"), secrets.token_hex(6)
    return Durable(mongo, lambda: MongoBackend(mongo.url, collection=own))


@dataclass
class Jar:
    """What a browser has."""

    token: Token


class Load:
    """Browsers that come back over and over, each with the newest token that reached it."""

    def __init__(self, durable: Durable, timeout: float = TIMEOUT) -> None:
        self.manager = PersistentSessionManager(durable.backend(), timeout=timeout, grace_period=1)
        began = time.time()
        self.manager.clock = lambda: began + (time.time() - began) * TIMES_FASTER
        self.alarms: list[str] = []
        self.issued: dict[bytes, list[float]] = {}
        """By the digest of what was presented: when an exchange issued another."""
        self.unsure: set[bytes] = set()
        """What was presented as the store failed: it may have been exchanged without anybody's knowledge."""
        self.served = self.failed = 0
        self.failures: list[tuple[float, float]] = []
        """When each failed, and how many seconds it had taken."""
        self._over = asyncio.Event()
        self._browsers: list[asyncio.Task[Jar]] = []
        self.manager.on_reuse.append(self._alarm)

    async def _alarm(self, session: Any, _: object) -> None:
        self.alarms.append(session.id)

    async def start(self) -> None:
        jars = [Jar(await until_stored(self.manager, f"user{number}")) for number in range(BROWSERS)]
        self._browsers = [asyncio.create_task(self._browse(jar)) for jar in jars]

    async def present(self, jar: Jar) -> bool:
        """Send a request without a session, take over a new token, and return whether the store answered."""
        began, token = time.monotonic(), jar.token
        result = await restore(self.manager, token)
        if result.failed:
            self.unsure.add(token.digest)
            self.failed += 1
            self.failures.append((time.monotonic(), time.monotonic() - began))
            return False
        assert result.outcome in {Outcome.EXCHANGE, Outcome.JOIN}
        self.served += 1
        assert (result.token is not None) == (result.outcome is Outcome.EXCHANGE)
        if result.token is not None:
            assert result.record is not None
            self.issued.setdefault(token.digest, []).append(result.record.issued_last_at or 0)
            jar.token = result.token
        return True

    async def _browse(self, jar: Jar) -> Jar:
        while not self._over.is_set():
            # Two tabs: the answer that comes last is what the browser keeps.
            await asyncio.gather(self.present(jar), self.present(jar))
            await asyncio.sleep(AWAY_FOR)
        return jar

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(RESUMES_WITHIN):
            while not holds():
                await asyncio.sleep(0.01)
                for browser in self._browsers:
                    if browser.done():
                        browser.result()

    async def resumes(self) -> None:
        """Wait until each browser may have been served again."""
        began, served = time.monotonic(), self.served
        await self.until(lambda: self.served > served)
        first = time.monotonic() - began
        await self.until(lambda: self.served >= served + 6 * BROWSERS)
        logger.info("served after %.2f s; in all %d times, and failed %d times", first, self.served, self.failed)

    def waits(self, since: float, until: float, longer_than: float) -> int:
        """Return how many failures between these times took longer than so many seconds."""
        return sum(since <= at <= until and taken > longer_than for at, taken in self.failures)

    async def stop(self) -> list[Jar]:
        self._over.set()
        return list(await asyncio.gather(*self._browsers))

    async def check(self, jars: list[Jar]) -> None:
        """Nobody is out, nobody was accused, and no token was exchanged twice where it should have joined."""
        for jar in jars:
            async with asyncio.timeout(RESUMES_WITHIN):
                while not await self.present(jar):
                    await asyncio.sleep(0.01)
        assert self.alarms == []
        for digest, times in self.issued.items():
            for before, after in pairwise(sorted(times)):
                assert after - before > (2 if digest in self.unsure else self.manager.policy.grace_period)


async def until_stored(manager: PersistentSessionManager, user: str) -> Token:
    """Sign in; try again while the store is out of reach."""
    async with asyncio.timeout(RESUMES_WITHIN):
        while True:
            try:
                return await sign_in(manager, user)
            except BackendError:
                await asyncio.sleep(0.01)


async def test_a_killed_server_logs_nobody_out_and_service_resumes_by_itself(durable: Durable) -> None:
    """While the server is dead nobody waits long; when it is up again, all are in with the tokens that they have."""
    load = Load(durable)
    async with load.manager:
        await load.start()
        await load.resumes()
        durable.server.kill()
        began, down = time.monotonic(), load.failed
        await load.until(lambda: load.failed >= down + 10 * BROWSERS)
        ended = time.monotonic()
        await asyncio.to_thread(durable.server.start)
        await load.resumes()
        await load.check(await load.stop())
    # Both tabs of each browser may have been in the middle; who comes after them does not wait, or not long.
    assert load.waits(began, ended, longer_than=TIMEOUT / 2) <= 2 * BROWSERS


async def test_a_server_that_hangs_is_waited_for_once_and_not_by_each(durable: Durable) -> None:
    """Visitors who were in the middle wait for the time-out; those who come after, while it hangs, do not."""
    load = Load(durable, timeout=1)
    async with load.manager:
        await load.start()
        await load.resumes()
        began, failed = time.monotonic(), load.failed
        durable.server.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(HANGS_FOR)
        finally:
            ended = time.monotonic()
            durable.server.send(signal.SIGCONT)
        assert load.failed >= failed + 10 * BROWSERS
        await load.resumes()
        await load.check(await load.stop())
    assert load.waits(began, ended, longer_than=0.5) <= 2 * BROWSERS


async def test_a_server_that_is_down_at_start_up_is_used_once_it_is_there(
    durable: Durable, caplog: pytest.LogCaptureFixture
) -> None:
    """The manager opens and says so; sign-ins are told of the failure, and work when the server was started."""
    durable.server.kill()
    async with PersistentSessionManager(durable.backend(), timeout=1) as manager:
        assert "cannot be opened" in caplog.text
        with pytest.raises(BackendError):
            await sign_in(manager, "alice")
        await asyncio.to_thread(durable.server.start)
        token = await until_stored(manager, "alice")
        assert [session.id for session in await manager.sessions("alice")] == [token.id]
