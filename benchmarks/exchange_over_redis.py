"""What a request costs that exchanges its token over Redis, beside apps that do one Redis GET a request.

Four apps: one whose handler awaits one GET and which has no session; one whose session aiohttp-session keeps in Redis,
which takes one GET a request; one whose handler does by hand what an exchange cannot do without, and checks nothing: it
begins a session, awaits a GET and an EVALSHA, sets a cookie; one with persistent sessions, each of whose requests is
that of a browser which comes back after a day, with a token and without a session. (After less than a day, the index of
its user is not written.)::

    python benchmarks/exchange_over_redis.py redis://localhost [--hours 24] [--rounds 9]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import secrets
import time

import aiohttp
import aiohttp_session
from aiohttp import web
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis
from workers import CONNECTIONS, Costs, Exchange, Worker, leave, request, serve

from aiohttp_persistent_session import PERSISTENT_SESSIONS, RedisBackend, remember, setup

TOKEN = "x" * 66
RECORD = "x" * 650
COOKIE = re.compile(rb"Set-Cookie: (__Host-persistent_session=[^;]+)")
SESSION_COOKIE = re.compile(rb"Set-Cookie: (AIOHTTP_SESSION=[^;]+)")


def one_get(url: str, prefix: str) -> web.Application:
    redis = Redis.from_url(url)

    async def page(_: web.Request) -> web.Response:
        await redis.get(f"{prefix}get")
        return web.Response(text="Hello, alice")

    app = web.Application()
    app.add_routes([web.get("/", page)])
    _close_with(app, redis)
    return app


def session_in_redis(url: str, _: str) -> web.Application:
    redis = Redis.from_url(url)

    async def login(request: web.Request) -> web.Response:
        session = await aiohttp_session.new_session(request)
        session["user"] = "alice"
        return web.Response()

    async def page(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        return web.Response(text=f"Hello, {session['user']}")

    app = web.Application()
    aiohttp_session.setup(app, RedisStorage(redis, max_age=600))
    app.add_routes([web.get("/", page), web.get("/login", login)])
    _close_with(app, redis)
    return app


def bare_exchange(url: str, prefix: str) -> web.Application:
    redis = Redis.from_url(url)
    script = redis.register_script("return redis.call('SET', KEYS[1], ARGV[1])")

    async def page(request: web.Request) -> web.Response:
        session = await aiohttp_session.new_session(request)
        session["user"] = "alice"
        await redis.get(f"{prefix}bare")
        await redis.evalsha(script.sha, 1, f"{prefix}bare", RECORD)
        response = web.Response(text="Hello, alice")
        response.set_cookie("bare", TOKEN, max_age=3600, httponly=True, secure=True, samesite="Lax")
        return response

    async def load(_: web.Application) -> None:
        await redis.script_load(script.script)

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.add_routes([web.get("/", page)])
    app.on_startup.append(load)
    _close_with(app, redis)
    return app


def _close_with(app: web.Application, redis: Redis) -> None:
    async def close(_: web.Application) -> None:
        await redis.aclose()

    app.on_cleanup.append(close)


def exchange(url: str, prefix: str) -> web.Application:
    users, away = itertools.count(), 0.0

    async def login(request: web.Request) -> web.Response:
        await remember(request, next(users))
        return web.Response()

    async def page(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        return web.Response(text=f"Hello, {session['user']}")

    async def later(request: web.Request) -> web.Response:
        nonlocal away
        away += 3600 * float(request.match_info["hours"])
        return web.Response()

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=RedisBackend(url, prefix=prefix))
    app.add_routes([web.get("/", page), web.get("/login", login), web.get("/later/{hours}", later)])
    app[PERSISTENT_SESSIONS].clock = lambda: time.time() + away
    return app


APPS = {
    "one GET": one_get,
    "session in Redis": session_in_redis,
    "bare exchange": bare_exchange,
    "exchange": exchange,
}


async def browse(exchange: Exchange, requests: int) -> None:
    sent = request(f"__Host-persistent_session={TOKEN}")
    for _ in range(requests):
        await exchange(sent)


async def browse_signed_in(exchange: Exchange, requests: int) -> None:
    found = SESSION_COOKIE.search(await exchange(request(path="/login")))
    assert found is not None
    sent = request(found[1].decode())
    for _ in range(requests - 1):
        await exchange(sent)


class Browsers:
    """Each signs in, and comes back once."""

    def __init__(self, worker: Worker, hours: float) -> None:
        self.worker = worker
        self.hours = hours
        self.cookies: list[str] = []

    async def prepare(self, requests: int, connections: int = CONNECTIONS) -> None:
        await self.worker.load(requests, self._sign_in, connections)
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.worker.port}/later/{self.hours}"):
            pass

    async def _sign_in(self, exchange: Exchange, requests: int) -> None:
        for _ in range(requests):
            self.cookies.append(_cookie(await exchange(request(path="/login"))))

    async def come_back(self, exchange: Exchange, requests: int) -> None:
        for _ in range(requests):
            old = self.cookies.pop()
            assert _cookie(await exchange(request(old))) != old


def _cookie(head: bytes) -> str:
    found = COOKIE.search(head)
    assert found is not None, head
    return found[1].decode()


async def measure(url: str, rounds: int, requests: int, hours: float, core: int) -> None:
    prefix = f"bench_{secrets.token_hex(4)}:"
    workers = {name: Worker(__file__, url, "--serve", name, "--core", str(core), "--prefix", prefix) for name in APPS}
    browsers = Browsers(workers["exchange"], hours)

    async def prepare(name: str, requests: int) -> None:
        if name == "exchange":
            await browsers.prepare(requests)

    try:
        costs = Costs(workers)
        browses = {"session in Redis": browse_signed_in, "exchange": browsers.come_back}
        await costs.measure(rounds, requests, dict.fromkeys(APPS, browse) | browses, prepare)
        costs.compare("exchange", "one GET")
        costs.compare("exchange", "session in Redis")
        costs.compare("exchange", "bare exchange")
        costs.compare("bare exchange", "one GET")
    finally:
        for worker in workers.values():
            worker.stop()
        async with Redis.from_url(url) as redis:
            async for key in redis.scan_iter(f"{prefix}*", count=1000):
                await redis.unlink(key)


def main() -> None:
    parser = argparse.ArgumentParser(description="The processor time of an exchange over Redis.")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=8_000, help="a round and app")
    parser.add_argument("--hours", type=float, default=24, help="for which each browser is away")
    parser.add_argument("--serve", choices=APPS, help=argparse.SUPPRESS)
    parser.add_argument("--prefix", default="", help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help="the workers' core; the load comes from the others")
    options = parser.parse_args()
    if options.serve:
        serve(APPS[options.serve](options.url, options.prefix), options.core)
        return
    leave(options.core)
    asyncio.run(measure(options.url, options.rounds, options.requests, options.hours, options.core))


if __name__ == "__main__":
    main()
