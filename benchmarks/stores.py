"""What each store costs: single operations, whole exchanges, and how both change as records grow in number.

Takes the URLs of running servers, best empty ones; every run uses tables, collections or keys of its own, and deletes
what it stored afterwards::

    python benchmarks/stores.py sqlite:////tmp/bench.db redis://localhost mongodb://localhost postgresql://localhost/bench
    python benchmarks/stores.py --records 1000000 redis://localhost

Prints operations a second of 16 callers at once, and the median and 99th percentile of one exchange. With ``--records``
it fills a second place of the same store with that many, and measures both in turns: quote the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import math
import secrets
import statistics
import time
from array import array
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import aiohttp_persistent_session
from aiohttp_persistent_session import Backend, PersistentSessionManager, Record
from aiohttp_persistent_session.record import Browser, Secret

AT_ONCE = 16
A_USERS_OWN = 20
FEW = 1000
ROUNDS = 9
PRIME = 7919
"""A step that visits all records before any again, none near the last: two calls at once never swap the same one."""
LASTS = 24 * 3600
BROWSER = Browser("Mozilla/5.0 " + "x" * 90, "192.0.2.1")

Call = Callable[[], Awaitable[object]]
Operation = Callable[[], Awaitable[Call]]
"""Prepares a call, which is what is measured."""


def open_backend(url: str, place: str) -> Backend:
    if url == "memory":
        return aiohttp_persistent_session.MemoryBackend()
    if url.startswith("redis"):
        return aiohttp_persistent_session.RedisBackend(url, prefix=f"{place}:")
    if url.startswith("mongodb"):
        return aiohttp_persistent_session.MongoBackend(url, collection=place)
    return aiohttp_persistent_session.SQLBackend(url, table=place)


async def timed(operation: Operation, count: int) -> list[float]:
    """Return the seconds that each of ``count`` calls took, one after the other."""
    taken = []
    for _ in range(count):
        call = await operation()
        started = time.perf_counter()
        answer = await call()
        taken.append(time.perf_counter() - started)
        assert answer
    return taken


async def at_once(calls: Iterable[Call]) -> None:
    remaining = iter(calls)

    async def caller() -> None:
        for call in remaining:
            assert await call() is not False

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))


async def rate(operation: Operation, count: int) -> float:
    """Return calls a second of 16 callers at once."""
    calls = [await operation() for _ in range(count)]
    started = time.perf_counter()
    await at_once(calls)
    return count / (time.perf_counter() - started)


class Population:
    """Records in a store, twenty a user, and operations on any of them.

    The records themselves are not kept here, as a million of them take more memory than the stores do.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._born = round(time.time(), 3)
        self._salt = secrets.token_bytes(16)
        self._revisions = array("L")
        self._turn = itertools.count()

    def _bytes(self, index: int, use: str) -> bytes:
        return hashlib.sha256(self._salt + f"{use}{index}".encode()).digest()

    def _id(self, index: int) -> str:
        return urlsafe_b64encode(self._bytes(index, "id")[:16]).decode().rstrip("=")

    def _record(self, index: int, revision: int) -> Record:
        """Return a record as it is after ``revision`` exchanges: each moves its expiry and leaves one spent secret."""
        seen = self._born + revision
        newest = Secret(self._bytes(index, f"digest {revision} "), seen, revision)
        spent = Secret(self._bytes(index, "spent"), seen, 0, exchanged_at=seen, shown=True)
        return Record(
            id=self._id(index),
            user=f"bench{index // A_USERS_OWN}",
            created_at=self._born,
            seen_at=seen,
            expires_at=seen + LASTS,
            secrets=(spent, newest) if revision else (newest,),
            last_session=revision,
            user_agent=BROWSER.user_agent,
            address=BROWSER.address,
            revision=revision,
        )

    def _any(self) -> int:
        return next(self._turn) * PRIME % len(self._revisions)

    async def insert(self) -> Call:
        return self._insert()

    def _insert(self) -> Call:
        index = len(self._revisions)
        self._revisions.append(0)
        return partial(self.backend.insert, self._record(index, 0))

    async def grow(self, size: int) -> None:
        await at_once(self._insert() for _ in range(size - len(self._revisions)))

    async def get(self) -> Call:
        return partial(self.backend.get, self._id(self._any()))

    async def replace(self) -> Call:
        index = self._any()
        self._revisions[index] += 1
        return partial(self.backend.replace, self._record(index, self._revisions[index]))

    async def of_user(self) -> Call:
        user = f"bench{next(self._turn) * PRIME % (len(self._revisions) // A_USERS_OWN)}"
        return partial(self.backend.of_user, user, A_USERS_OWN)

    async def remove(self) -> None:
        if not await self.backend.purge(math.inf):  # a store that expires records by itself purges none
            await at_once(partial(self.backend.delete, self._id(index)) for index in range(len(self._revisions)))
        while await self.backend.purge(math.inf):
            pass


async def exchanges(manager: PersistentSessionManager, count: int) -> list[float]:
    token, record = manager.registry.new_record("bench", BROWSER)
    await manager.registry.begin(record, replaces=())
    # Away long enough for its spent secrets to be dropped: the ordinary case.
    away = itertools.count()
    manager.clock = lambda: time.time() + 3600 * next(away) / 4
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        restored = await manager.lifecycle.restore([token], BROWSER)
        taken.append(time.perf_counter() - started)
        assert restored.token is not None
        token = restored.token
    await manager.revoke(record.id)
    return taken


async def measure_costs(url: str, count: int) -> None:
    backend = open_backend(url, f"bench_{secrets.token_hex(4)}")
    async with PersistentSessionManager(backend, timeout=60) as manager:
        population = Population(backend)
        try:
            await population.grow(FEW)
            operations = {name: getattr(population, name) for name in ("insert", "get", "replace")}
            rates = {name: await rate(operation, count) for name, operation in operations.items()}
            taken = sorted(await exchanges(manager, count))
            print(
                f"{url.partition(':')[0]:12} exchange p50 {taken[len(taken) // 2] * 1e3:.2f} ms, "
                f"p99 {taken[len(taken) * 99 // 100] * 1e3:.2f} ms; a second, {AT_ONCE} at once: "
                + ", ".join(f"{name} {value:.0f}" for name, value in rates.items()),
                flush=True,
            )
        finally:
            await population.remove()


async def measure_growth(url: str, records: int, count: int) -> None:
    few = Population(open_backend(url, f"bench_few_{secrets.token_hex(4)}"))
    many = Population(open_backend(url, f"bench_many_{secrets.token_hex(4)}"))
    operations = ("get", "replace", "of_user")
    try:
        for population, size in ((few, FEW), (many, records)):
            await population.backend.open()
            await population.grow(size)
        medians: dict[str, list[tuple[float, float]]] = {name: [] for name in operations}
        for _ in range(ROUNDS):
            for name in operations:
                of_few = await timed(getattr(few, name), count // ROUNDS)
                of_many = await timed(getattr(many, name), count // ROUNDS)
                medians[name].append((statistics.median(of_few), statistics.median(of_many)))
        for name, rounds in medians.items():
            ratios = [of_many / of_few for of_few, of_many in rounds]
            print(
                f"{'':12} {name}: {statistics.median(one for one, _ in rounds) * 1e6:.1f} us at {FEW:,} records, "
                f"{statistics.median(one for _, one in rounds) * 1e6:.1f} us at {records:,}: "
                f"ratio {statistics.median(ratios):.2f} (rounds: {min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )
    finally:
        for population in (few, many):
            await population.remove()
            await population.backend.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="What each store costs.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--records", type=int, default=FEW)
    parser.add_argument("--count", type=int, default=1000, help="calls of each operation")
    options = parser.parse_args()
    for url in options.urls:
        asyncio.run(measure_costs(url, options.count))
        if options.records > FEW:
            asyncio.run(measure_growth(url, options.records, options.count))


if __name__ == "__main__":
    main()
