"""``make test-wheel``: the installed package where no store's driver is, run with that environment's python.

A script, not a test for pytest: the environment holds the wheel and what it requires, and nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp_session
from aiohttp import web
from aiohttp.test_utils import TestServer

import aiohttp_persistent_session
from aiohttp_persistent_session import MemoryBackend, forget, remember, setup

DRIVERS = ("aiohttp_security", "jinja2", "ua_parser", "aiosqlite", "asyncpg", "motor", "pymongo", "redis", "sqlalchemy")
STORES = {
    "RedisBackend": ("redis", "redis://127.0.0.1"),
    "MongoBackend": ("mongo", "mongodb://127.0.0.1/app"),
    "SQLBackend": ("sql", "sqlite:///app.db"),
}
"""The stores that need a driver: the extra that brings it, and a URL."""


def check_surroundings() -> None:
    """The package comes from the wheel, and no driver is there; otherwise the rest would show nothing."""
    assert Path(aiohttp_persistent_session.__file__).is_relative_to(sys.prefix)
    assert [name for name in DRIVERS if find_spec(name) is not None] == []


def check_contents() -> None:
    """The wheel holds the package with its types and its licence, no tests and no demo; it declares the extras."""
    wheel = distribution("aiohttp-persistent-session")
    files = {str(file) for file in wheel.files or () if "__pycache__" not in file.parts}
    assert "aiohttp_persistent_session/py.typed" in files
    assert any(file.endswith("LICENSE") for file in files)
    (command,) = [file for file in files if file.endswith("bin/aiohttp-persistent-session")]
    folders = {file.partition("/")[0] for file in files - {command} if ".dist-info" not in file}
    assert folders == {"aiohttp_persistent_session"}
    extras = set(wheel.metadata.get_all("Provides-Extra") or ())
    assert extras >= {extra for extra, _ in STORES.values()}


def check_names() -> None:
    """``import *``, ``dir`` and ``hasattr`` work without any driver."""
    names: dict[str, Any] = {}
    exec("from aiohttp_persistent_session import *", names)
    assert names["setup"] is setup
    assert names["MemoryBackend"] is MemoryBackend
    assert set(aiohttp_persistent_session.__all__) <= set(dir(aiohttp_persistent_session))
    for name in STORES:
        assert name in dir(aiohttp_persistent_session)
        assert hasattr(aiohttp_persistent_session, name) in {True, False}  # it answers, and does not raise
    assert not hasattr(aiohttp_persistent_session, "NoSuchBackend")


def check_stores() -> None:
    """Who uses a store whose driver is missing is told what to install."""
    for name, (extra, url) in STORES.items():
        told = ""
        try:
            exec(f"from aiohttp_persistent_session import {name}\n{name}({url!r})", {})
        except ImportError as error:
            told = str(error)
        assert f"aiohttp-persistent-session[{extra}]" in told, f"{name}: {told!r}"


def check_submodules() -> None:
    """What takes an extra says which one, as it is imported."""
    for name in ("security", "devices"):
        told = ""
        try:
            import_module(f"aiohttp_persistent_session.{name}")
        except ImportError as error:
            told = str(error)
        assert f"aiohttp-persistent-session[{name}]" in told, f"{name}: {told!r}"


async def me(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    return web.json_response(session.get("user"))


async def login(request: web.Request) -> web.Response:
    await remember(request, "alice")
    return web.Response()


async def logout(request: web.Request) -> web.Response:
    await forget(request)
    return web.Response()


async def check_restore() -> None:
    """Sign in, lose the session, be restored; sign out, and stay so."""
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=MemoryBackend(), secure=False)
    app.add_routes([web.get("/me", me), web.post("/login", login), web.post("/logout", logout)])
    jar = aiohttp.CookieJar(unsafe=True)  # which takes cookies from an address without a name
    async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/"), cookie_jar=jar) as browser:

        async def user_after_the_session() -> Any:
            jar.clear(lambda cookie: cookie.key == "AIOHTTP_SESSION")
            async with browser.get("/me") as response:
                return await response.json()

        assert await user_after_the_session() is None
        await browser.post("/login")
        assert await user_after_the_session() == "alice"
        assert await user_after_the_session() == "alice"
        await browser.post("/logout")
        assert await user_after_the_session() is None


check_surroundings()
check_contents()
check_names()
check_stores()
check_submodules()
asyncio.run(check_restore())
