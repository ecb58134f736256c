"""A real server is killed, or hangs, under load: whoever is signed in stays so, and service resumes by itself."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import statistics
from collections.abc import Callable
from dataclasses import dataclass
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
from aiohttp_persistent_session.tokens import Token

from .exchanges import exchange, sign_in
from .servers.mongo import mongo_server  # noqa: F401 -- a fixture
from .servers.postgresql import postgresql_server  # noqa: F401 -- a fixture
from .servers.processes import Server
from .servers.redis import durable_redis  # noqa: F401 -- a fixture

BROWSERS = 20
RESUMES_WITHIN = 30.0
"""Seconds, for a slow machine; it takes a fraction of one."""
HANGS_FOR = 10.0

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


class Load:
    """Browsers that exchange their tokens over and over, as long as the test has them."""

    def __init__(self, manager: PersistentSessionManager) -> None:
        self.manager = manager
        self.alarms: list[str] = []
        self.successors: dict[bytes, set[bytes]] = {}
        self.refused = self.accepted = 0
        self.taken: list[float] = []
        """Seconds that each refusal took."""
        self._over = asyncio.Event()
        self._browsers: list[asyncio.Task[Token]] = []
        manager.on_reuse.append(self._alarm)

    async def _alarm(self, session: Any, _: object) -> None:
        self.alarms.append(session.id)

    async def start(self) -> None:
        tokens = [await sign_in(self.manager, f"user{number}") for number in range(BROWSERS)]
        self._browsers = [asyncio.create_task(self._browse(token)) for token in tokens]

    async def exchange(self, token: Token) -> Token | None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        restored = await exchange(self.manager, token)
        if restored.token is None:
            self.taken.append(loop.time() - started)
        else:
            self.successors.setdefault(token.secret, set()).add(restored.token.secret)
        return restored.token

    async def _browse(self, token: Token) -> Token:
        while not self._over.is_set():
            following = await self.exchange(token)
            self.accepted += following is not None
            self.refused += following is None
            token = following or token
            await asyncio.sleep(0.01)
        return token

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(RESUMES_WITHIN):
            while not holds():
                await asyncio.sleep(0.01)

    async def resumes(self) -> None:
        """Wait until each browser may have exchanged its token again."""
        loop, accepted = asyncio.get_running_loop(), self.accepted
        started = loop.time()
        await self.until(lambda: self.accepted > accepted)
        first = loop.time() - started
        await self.until(lambda: self.accepted >= accepted + 5 * BROWSERS)
        logger.info(
            "first exchange after %.2f s, the %dth after %.2f s; in all %d exchanges, %d refusals",
            first,
            5 * BROWSERS,
            loop.time() - started,
            self.accepted,
            self.refused,
        )

    async def stop(self) -> list[Token]:
        self._over.set()
        return list(await asyncio.gather(*self._browsers))

    async def check(self, tokens: list[Token]) -> None:
        """Nobody is logged out, no token has two successors, and nobody was accused."""
        for token in tokens:
            assert await self.exchange(token) is not None
        assert self.alarms == []
        assert all(len(several) == 1 for several in self.successors.values())


async def test_a_killed_server_logs_nobody_out_and_service_resumes_by_itself(durable: Durable) -> None:
    manager = PersistentSessionManager(durable.backend(), timeout=30)
    load = Load(manager)
    async with manager:
        await load.start()
        await load.resumes()
        manager._store.timeout = 1
        durable.server.kill()
        await load.until(lambda: load.refused >= BROWSERS)
        await asyncio.to_thread(durable.server.start)
        await load.resumes()
        manager._store.timeout = 30
        await load.check(await load.stop())


async def test_a_server_that_hangs_for_ten_seconds_is_waited_for_no_longer_than_the_timeout(durable: Durable) -> None:
    timeout = 0.5
    manager = PersistentSessionManager(durable.backend(), timeout=30)
    load = Load(manager)
    async with manager:
        await load.start()
        await load.resumes()
        manager._store.timeout = timeout
        durable.server.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(HANGS_FOR)
        finally:
            durable.server.send(signal.SIGCONT)
        assert load.refused >= 2 * BROWSERS
        await load.resumes()
        manager._store.timeout = 30
        await load.check(await load.stop())
    assert statistics.median(load.taken) < timeout + 0.2
    # The time of a look, and that of an exchange; and a machine that stalls.
    assert max(load.taken) < 2 * timeout + 5


async def test_a_sign_in_during_an_outage_is_told_of(durable: Durable) -> None:
    async with PersistentSessionManager(durable.backend(), timeout=1) as manager:
        durable.server.kill()
        with pytest.raises(BackendError):
            await sign_in(manager, "alice")
        await asyncio.to_thread(durable.server.start)
        async with asyncio.timeout(RESUMES_WITHIN):
            while True:
                try:
                    await sign_in(manager, "alice")
                except BackendError:
                    await asyncio.sleep(0.01)
                else:
                    break
