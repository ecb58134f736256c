"""What a live request costs, beside the same app with aiohttp-session alone.

Five apps: bare aiohttp; aiohttp-session alone, sent its own session cookie; the same, sent the two cookies that the app
with persistent sessions is sent, whose parsing is aiohttp's cost and not this library's; that app itself, whose
responses renew the cookie, as they do for 10 s after each look at the record; and it later in the minute, when they do
not::

    python benchmarks/live_request.py [--rounds 9] [--requests 20000]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from functools import partial

import aiohttp
import aiohttp_session
from aiohttp import web
from workers import Browse, Costs, Exchange, Worker, leave, request, serve

from aiohttp_persistent_session import MemoryBackend, remember, setup


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


def persistent(*, seconds_after_look: float = 0) -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    manager = setup(app, backend=MemoryBackend())

    async def stop_the_clock(_: web.Request) -> web.Response:
        manager.clock = itertools.repeat(time.time() + seconds_after_look).__next__
        return web.Response()

    app.add_routes([web.get("/", page), web.get("/login", login_remembered), web.get("/stop", stop_the_clock)])
    return app


APPS = {
    "bare": bare,
    "session": session_alone,
    "same request": session_alone,
    "persistent": persistent,
    "not renewed": partial(persistent, seconds_after_look=30),
}


async def sign_in(worker: Worker) -> str:
    """Return the Cookie header that a browser sends from then on. The clock of an app that has one stops."""
    host = f"http://127.0.0.1:{worker.port}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        async with http.get(f"{host}/login") as response:
            cookies = [morsel.output(attrs=[], header="").strip() for morsel in response.cookies.values()]
        async with http.get(f"{host}/stop"):
            return "; ".join(cookies)


def repeat(sent: bytes, *, is_renewed: bool) -> Browse:
    async def browse(exchange: Exchange, requests: int) -> None:
        for _ in range(requests):
            head = await exchange(sent)
            assert (b"Set-Cookie: __Host-persistent_session=" in head) is is_renewed

    return browse


async def measure(rounds: int, requests: int, core: int) -> None:
    workers = {name: Worker(__file__, "--serve", name, "--core", str(core)) for name in APPS}
    try:
        cookies = {name: await sign_in(worker) for name, worker in workers.items()}
        cookies["same request"] = cookies["not renewed"]
        costs = Costs(workers)
        browse = {name: repeat(request(cookies[name]), is_renewed=name == "persistent") for name in APPS}
        await costs.measure(rounds, requests, browse)
        for app in ("persistent", "not renewed"):
            costs.compare(app, "same request")
            costs.compare(app, "session")
    finally:
        for worker in workers.values():
            worker.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="The processor time of a live request with renewal.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=20_000, help="a round and app")
    parser.add_argument("--serve", choices=APPS, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help="the workers' core; the load comes from the others")
    options = parser.parse_args()
    if options.serve:
        serve(APPS[options.serve](), options.core)
        return
    leave(options.core)
    asyncio.run(measure(options.rounds, options.requests, options.core))


if __name__ == "__main__":
    main()
