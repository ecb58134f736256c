"""What each store costs: single operations, whole exchanges, and how both change as records grow in number.

Takes the URLs of running servers, best empty ones; every run uses records of its own and deletes them afterwards::

    python benchmarks/stores.py sqlite:////tmp/bench.db redis://localhost mongodb://localhost postgresql://localhost/bench
    python benchmarks/stores.py --records 1000000 redis://localhost

Prints operations a second of one caller and of 16 at once, and the median and 99th percentile of one exchange. With
``--records``, it measures at 1,000 records, inserts up to that number, and measures again: quote the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import aiohttp_persistent_session
from aiohttp_persistent_session import Backend, PersistentSessionManager, Record
from aiohttp_persistent_session.record import Client
from aiohttp_persistent_session.testing import make_record

BACKENDS = {"sqlite": "SQLBackend", "postgresql": "SQLBackend", "redis": "RedisBackend", "mongodb": "MongoBackend"}
AT_ONCE = 16
A_USERS_OWN = 20

Operation = Callable[[], Awaitable[object]]


def open_backend(url: str) -> Backend:
    if url == "memory":
        return aiohttp_persistent_session.MemoryBackend()
    backend: Backend = getattr(aiohttp_persistent_session, BACKENDS[url.partition(":")[0].partition("+")[0]])(url)
    return backend


async def anybody(_: object) -> bool:
    return True


async def timed(operation: Operation, count: int) -> list[float]:
    """Return the seconds that each of ``count`` calls took, one after the other."""
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        await operation()
        taken.append(time.perf_counter() - started)
    return taken


async def rate(operation: Operation, count: int) -> float:
    """Return calls a second of 16 callers at once."""
    started = time.perf_counter()

    async def calls() -> None:
        for _ in range(count // AT_ONCE):
            await operation()

    await asyncio.gather(*(calls() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - started)


class Population:
    """Records in a store, twenty a user, and operations on any of them."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.records: list[Record] = []
        self._turn = itertools.count()

    async def grow(self, size: int) -> None:
        async def inserts() -> None:
            while len(self.records) < size:
                record = make_record(
                    user=f"bench{len(self.records) // A_USERS_OWN}", user_agent="Mozilla/5.0 " + "x" * 90
                )
                self.records.append(record)
                await self.backend.insert(record)

        await asyncio.gather(*(inserts() for _ in range(AT_ONCE)))

    def _next(self) -> int:
        return next(self._turn) * 7919 % len(self.records)  # a prime: spread over all of them

    async def insert(self) -> None:
        record = make_record(user="bench new")
        self.records.append(record)
        await self.backend.insert(record)

    async def get(self) -> None:
        assert await self.backend.get(self.records[self._next()].id) is not None

    async def replace(self) -> None:
        index = self._next()
        self.records[index] = replace(self.records[index], revision=self.records[index].revision + 1)
        assert await self.backend.replace(self.records[index])

    async def of_user(self) -> None:
        index = self._next() // A_USERS_OWN % (1000 // A_USERS_OWN)
        assert len(await self.backend.of_user(f"bench{index}")) == A_USERS_OWN

    async def remove(self) -> None:
        remaining = iter(self.records)

        async def deletes() -> None:
            for record in remaining:
                await self.backend.delete(record.id)

        await asyncio.gather(*(deletes() for _ in range(AT_ONCE)))


async def exchanges(manager: PersistentSessionManager, count: int) -> list[float]:
    client = Client("Mozilla/5.0 " + "x" * 90, "192.0.2.1")
    token, record = await manager.remember("bench", data=None, client=client, replaces=(), request=None)
    # Away long enough for its spent secrets to be forgotten: the ordinary case.
    away = itertools.count()
    manager.clock = lambda: time.time() + 3600 * next(away) / 4
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        restored = await manager.restore(token, client=client, accept=anybody, request=None)
        taken.append(time.perf_counter() - started)
        assert restored.token is not None
        token = restored.token
    await manager.revoke(record.id)
    return taken


async def measure(url: str, records: int, count: int) -> None:
    backend = open_backend(url)
    async with PersistentSessionManager(backend, timeout=60) as manager:
        population = Population(backend)
        try:
            await population.grow(1000)
            operations = {name: getattr(population, name) for name in ("get", "replace", "of_user")}
            few = {name: statistics.median(await timed(operation, count)) for name, operation in operations.items()}
            rates = {name: await rate(getattr(population, name), count) for name in ("insert", "get", "replace")}
            taken = sorted(await exchanges(manager, count))
            print(
                f"{url.partition(':')[0]:12} exchange p50 {taken[len(taken) // 2] * 1e3:.2f} ms, "
                f"p99 {taken[len(taken) * 99 // 100] * 1e3:.2f} ms; a second, {AT_ONCE} at once: "
                + ", ".join(f"{name} {value:.0f}" for name, value in rates.items())
            )
            if records > 1000:
                await population.grow(records)
                for name, operation in operations.items():
                    many = statistics.median(await timed(operation, count))
                    print(
                        f"{'':12} {name}: {few[name] * 1e3:.2f} ms at 1,000 records, "
                        f"{many * 1e3:.2f} ms at {records:,}: ratio {many / few[name]:.2f}"
                    )
        finally:
            await population.remove()


def main() -> None:
    parser = argparse.ArgumentParser(description="What each store costs.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--count", type=int, default=1000, help="calls of each operation")
    options = parser.parse_args()
    for url in options.urls:
        asyncio.run(measure(url, options.records, options.count))


if __name__ == "__main__":
    main()
