"""What a live request with renewal costs, beside the same app with aiohttp-session alone.

Four apps: bare aiohttp; aiohttp-session alone, sent its own session cookie; the same, sent the two cookies that the app
with persistent sessions is sent, whose parsing is aiohttp's cost and not this library's; and that app itself.

Starts one worker an app, pinned to one core, and loads it from another core over keep-alive connections, in turns.
Counts the processor time of the worker for a fixed number of requests, which is steadier on a shared machine than
requests a second, and prints medians of the rounds and of their ratios::

    python benchmarks/live_request.py [--rounds 9] [--requests 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time

import aiohttp
import aiohttp_session
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, remember, setup

CONNECTIONS = 16


async def page(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    return web.Response(text=f"Hello, {session['user']}")


async def bare_page(_: web.Request) -> web.Response:
    return web.Response(text="Hello, alice")


async def login_alone(request: web.Request) -> web.Response:
    (await aiohttp_session.new_session(request))["user"] = "alice"
    return web.Response()


async def login_remembered(request: web.Request) -> web.Response:
    await remember(request, "alice")
    return web.Response()


def bare() -> web.Application:
    app = web.Application()
    app.add_routes([web.get("/", bare_page), web.get("/login", bare_page)])
    return app


def session_alone() -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.add_routes([web.get("/", page), web.get("/login", login_alone)])
    return app


def persistent() -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=MemoryBackend())
    app.add_routes([web.get("/", page), web.get("/login", login_remembered)])
    return app


APPS = {"bare": bare, "session": session_alone, "same request": session_alone, "persistent": persistent}


def serve(name: str, core: int) -> None:
    os.sched_setaffinity(0, {core})

    async def run() -> None:
        runner = web.AppRunner(APPS[name](), access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(run())


class Worker:
    """A server process, and a request that it answers."""

    def __init__(self, name: str, core: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name, "--core", str(core)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        self.request = b""
        self.renews = name == "persistent"

    async def sign_in(self) -> None:
        """Build the request as a browser would send it, and see that it is answered as expected."""
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
            http.get(f"http://127.0.0.1:{self.port}/login") as response,
        ):
            cookie = "; ".join(morsel.output(attrs=[], header="").strip() for morsel in response.cookies.values())
        fields = ["GET / HTTP/1.1", "Host: 127.0.0.1", "User-Agent: benchmark", "Accept: */*"]
        if cookie:
            fields.append(f"Cookie: {cookie}")
        self.request = ("\r\n".join(fields) + "\r\n\r\n").encode()

    async def load(self, requests: int) -> None:
        await asyncio.gather(*(self._connection(requests // CONNECTIONS) for _ in range(CONNECTIONS)))

    async def _connection(self, requests: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for _ in range(requests):
            writer.write(self.request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            assert (b"Set-Cookie: persistent_session=" in head) is self.renews
            await reader.readexactly(12)
        writer.close()
        await writer.wait_closed()

    def processor_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.communicate()


async def measure(rounds: int, requests: int, server_core: int) -> None:
    workers = {name: Worker(name, server_core) for name in APPS}
    costs: dict[str, list[float]] = {name: [] for name in APPS}
    rates: dict[str, list[float]] = {name: [] for name in APPS}
    try:
        for worker in workers.values():
            await worker.sign_in()
        workers["same request"].request = workers["persistent"].request
        for worker in workers.values():
            await worker.load(requests // 10)
        for number in range(rounds):
            names = list(APPS) if number % 2 else list(reversed(APPS))
            for name in names:
                worker = workers[name]
                before, started = worker.processor_seconds(), time.perf_counter()
                await worker.load(requests)
                costs[name].append((worker.processor_seconds() - before) / requests * 1e6)
                rates[name].append(requests / (time.perf_counter() - started))
    finally:
        for worker in workers.values():
            worker.stop()
    print(f"{rounds} rounds of {requests} requests, {CONNECTIONS} connections, medians")
    for name in APPS:
        cost, rate = statistics.median(costs[name]), statistics.median(rates[name])
        print(f"{name:12} {cost:7.1f} us a request  {rate:8.0f} a second")
    for other in ("same request", "session"):
        ratios = [one / two for one, two in zip(costs["persistent"], costs[other], strict=True)]
        print(f"persistent / {other}: {statistics.median(ratios):.3f} (rounds: {min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="The processor time of a live request with renewal.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=20_000, help="a round and app")
    parser.add_argument("--serve", choices=APPS, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help="the workers' core; the load comes from the others")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.core)
        return
    if others := os.sched_getaffinity(0) - {options.core}:
        os.sched_setaffinity(0, others)
    asyncio.run(measure(options.rounds, options.requests, options.core))


if __name__ == "__main__":
    main()
