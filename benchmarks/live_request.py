"""What a live request with renewal costs, beside the same app with aiohttp-session alone.

Four apps: bare aiohttp; aiohttp-session alone, sent its own session cookie; the same, sent the two cookies that the app
with persistent sessions is sent, whose parsing is aiohttp's cost and not this library's; and that app itself::

    python benchmarks/live_request.py [--rounds 9] [--requests 20000]
"""

from __future__ import annotations

import argparse
import asyncio

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


def persistent() -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=MemoryBackend())
    app.add_routes([web.get("/", page), web.get("/login", login_remembered)])
    return app


APPS = {"bare": bare, "session": session_alone, "same request": session_alone, "persistent": persistent}


async def sign_in(worker: Worker) -> str:
    """Return the Cookie header that a browser sends from then on."""
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        http.get(f"http://127.0.0.1:{worker.port}/login") as response,
    ):
        return "; ".join(morsel.output(attrs=[], header="").strip() for morsel in response.cookies.values())


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
        cookies["same request"] = cookies["persistent"]
        costs = Costs(workers)
        browse = {name: repeat(request(cookies[name]), is_renewed=name == "persistent") for name in APPS}
        await costs.measure(rounds, requests, browse)
        costs.compare("persistent", "same request")
        costs.compare("persistent", "session")
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
