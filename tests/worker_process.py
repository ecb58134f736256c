"""A worker as a process of its own: ``python -m tests.worker_process KIND NAME...`` prints its port and serves.

Warnings go to standard error, where a test sees whether anybody was accused.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp_session
from aiohttp import web

import aiohttp_persistent_session
from aiohttp_persistent_session import Backend, setup

from .browser import routes


def open_backend(kind: str, arguments: list[str]) -> Backend:
    """Return the backend of this class; ``arguments`` are its URL and ``name=value`` options."""
    options = dict(argument.split("=", 1) for argument in arguments[1:])
    backend: Backend = getattr(aiohttp_persistent_session, kind)(arguments[0], **options)
    return backend


async def main(kind: str, arguments: list[str]) -> None:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    # A slow machine may take a while for what is presented at once; the window is no rule's boundary here.
    setup(app, backend=open_backend(kind, arguments), grace_period=60, timeout=20, require_store=True)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048).start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
