"""Worker processes to be measured: each pinned to one core, loaded from the others, and asked for its processor time.

Processor time for a fixed number of requests is steadier on a shared machine than requests a second.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from aiohttp import web

CONNECTIONS = 16

Exchange = Callable[[bytes], Awaitable[bytes]]
"""Sends a request over one connection and returns the head of the response to it."""
Browse = Callable[[Exchange, int], Awaitable[None]]
"""Makes so many requests, one after the other."""
Prepare = Callable[[str, int], Awaitable[None]]


async def nothing_to_prepare(_: str, __: int) -> None:
    pass


def serve(app: web.Application, core: int) -> None:
    """Serve ``app`` from ``core`` until the standard input ends; print the port."""
    os.sched_setaffinity(0, {core})

    async def run() -> None:
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


def leave(core: int) -> None:
    """Keep this process, which makes the load, off the worker's core."""
    if others := os.sched_getaffinity(0) - {core}:
        os.sched_setaffinity(0, others)


class Worker:
    """A process that runs ``arguments``, a program that calls :func:`serve`."""

    def __init__(self, *arguments: str, under: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    async def load(self, requests: int, browse: Browse, connections: int = CONNECTIONS) -> None:
        """Have ``browse`` make its part of ``requests`` over each of the connections."""
        await asyncio.gather(*(self._connection(requests // connections, browse) for _ in range(connections)))

    async def _connection(self, requests: int, browse: Browse) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def exchange(request: bytes) -> bytes:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            return head

        await browse(exchange, requests)
        writer.close()
        await writer.wait_closed()

    def processor_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.communicate()


def request(cookie: str = "", path: str = "/") -> bytes:
    """Return a GET as a browser sends it."""
    fields = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "User-Agent: benchmark", "X-Forwarded-Proto: https"]
    if cookie:
        fields.append(f"Cookie: {cookie}")
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


class Costs:
    """Microseconds of processor time a request, a number for each round, of workers loaded in turns."""

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self.workers = workers
        self.costs: dict[str, list[float]] = {name: [] for name in workers}
        self.rates: dict[str, list[float]] = {name: [] for name in workers}

    async def measure(
        self, rounds: int, requests: int, browse: Mapping[str, Browse], prepare: Prepare = nothing_to_prepare
    ) -> None:
        """Measure ``requests`` of each worker in turns; what ``prepare(name, requests)`` has it do is not counted."""
        for name, worker in self.workers.items():
            await prepare(name, requests // 10)
            await worker.load(requests // 10, browse[name])
        for number in range(rounds):
            for name in list(self.workers) if number % 2 else list(reversed(self.workers)):
                worker = self.workers[name]
                await prepare(name, requests)
                before, started = worker.processor_seconds(), time.perf_counter()
                await worker.load(requests, browse[name])
                self.costs[name].append((worker.processor_seconds() - before) / requests * 1e6)
                self.rates[name].append(requests / (time.perf_counter() - started))
        print(f"{rounds} rounds of {requests} requests, {CONNECTIONS} connections, medians")
        for name in self.workers:
            cost, rate = statistics.median(self.costs[name]), statistics.median(self.rates[name])
            print(f"{name:16} {cost:7.1f} us a request  {rate:8.0f} a second")

    def compare(self, one: str, other: str) -> None:
        ratios = [mine / theirs for mine, theirs in zip(self.costs[one], self.costs[other], strict=True)]
        print(f"{one} / {other}: {statistics.median(ratios):.3f} (rounds: {min(ratios):.3f} to {max(ratios):.3f})")
