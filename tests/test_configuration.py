"""Wrong configuration is told at set-up, naming the parameter; missing set-up at the first request."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from datetime import timedelta
from typing import Any

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

import aiohttp_persistent_session
from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    MemoryBackend,
    PersistentSessionManager,
    confirm_login,
    current_persistent_session,
    forget,
    forget_everywhere,
    is_fresh,
    persistent_session_middleware,
    persistent_sessions,
    remember,
    restore_failed,
    revoke,
    setup,
)

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_age": 401 * DAY}, "max_age"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": -DAY}, "max_age"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_age": float("inf")}, "max_age"),
        ({"max_age": 10**400}, "max_age"),
        ({"grace_period": -1}, "grace_period"),
        ({"grace_period": 31 * DAY}, "grace_period"),
        ({"grace_period": 10_000}, "grace_period"),
        ({"grace_period": 20, "max_age": 10}, "grace_period"),
        ({"timeout": 2000}, "timeout"),
        ({"check_interval": -1}, "check_interval"),
        ({"check_interval": 31 * DAY}, "check_interval"),
        ({"rotate_interval": 0}, "rotate_interval"),
        ({"rotate_interval": 59}, "rotate_interval"),
        ({"rotate_interval": float("nan")}, "rotate_interval"),
        ({"max_lifetime": 0}, "max_lifetime"),
        ({"max_lifetime": float("inf")}, "max_lifetime"),
        ({"browser_session_max_age": 0}, "browser_session_max_age"),
        ({"browser_session_max_age": -DAY}, "browser_session_max_age"),
        ({"max_sessions": 0}, "max_sessions"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"cookie_name": ""}, "cookie_name"),
        ({"cookie_name": "a b"}, "cookie_name"),
        ({"cookie_name": "a;b"}, "cookie_name"),
        ({"cookie_name": "a=b"}, "cookie_name"),
        ({"cookie_name": "é"}, "cookie_name"),
        ({"cookie_name": "x" * 257}, "cookie_name"),
        ({"cookie_name": "__Host-a", "secure": False}, "cookie_name"),
        ({"cookie_name": "__Host-a", "domain": "example.com"}, "cookie_name"),
        ({"cookie_name": "__Host-a", "path": "/app"}, "cookie_name"),
        ({"cookie_name": "__host-a", "secure": False}, "cookie_name"),
        ({"cookie_name": "__Secure-a", "secure": False}, "cookie_name"),
        ({"cookie_name": "__Http-a", "secure": False}, "cookie_name"),
        ({"path": ""}, "path"),
        ({"path": "app"}, "path"),
        ({"path": "/a;b"}, "path"),
        ({"path": "/a\r\nX: y"}, "path"),
        ({"domain": ""}, "domain"),
        ({"domain": "a;b"}, "domain"),
        ({"domain": "http://example.com"}, "domain"),
        ({"domain": "example.com:8080"}, "domain"),
        ({"domain": "ex ample"}, "domain"),
        ({"domain": "127.0.0.1"}, "domain"),
        ({"samesite": "lax"}, "samesite"),
        ({"samesite": "None", "secure": False}, "samesite"),
        ({"partitioned": True, "secure": False}, "partitioned"),
        ({"session_key": ""}, "session_key"),
        ({"session_key": "persistent_session"}, "session_key"),
    ],
)
def test_an_option_out_of_range_is_a_value_error_that_names_it(options: dict[str, Any], named: str) -> None:
    """The application is as it was before."""
    app = web.Application()
    with pytest.raises(ValueError, match=named):
        setup(app, backend=MemoryBackend(), **options)
    assert PERSISTENT_SESSIONS not in app
    assert not app.middlewares


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"max_age": "30 days"}, "max_age"),
        ({"max_age": None}, "max_age"),
        ({"max_age": True}, "max_age"),
        ({"grace_period": "10"}, "grace_period"),
        ({"check_interval": None}, "check_interval"),
        ({"rotate_interval": "1 day"}, "rotate_interval"),
        ({"rotate_interval": False}, "rotate_interval"),
        ({"max_lifetime": "90 days"}, "max_lifetime"),
        ({"browser_session_max_age": None}, "browser_session_max_age"),
        ({"strict": 1}, "strict"),
        ({"strict": None}, "strict"),
        ({"require_store": "yes"}, "require_store"),
        ({"max_sessions": 2.5}, "max_sessions"),
        ({"max_sessions": True}, "max_sessions"),
        ({"timeout": None}, "timeout"),
        ({"cookie_name": b"name"}, "cookie_name"),
        ({"path": None}, "path"),
        ({"domain": 1}, "domain"),
        ({"secure": None}, "secure"),
        ({"secure": 1}, "secure"),
        ({"samesite": None}, 'samesite .* "None" in quotes'),
        ({"partitioned": "yes"}, "partitioned"),
        ({"session_key": 1}, "session_key"),
        ({"validate": True}, "validate"),
        ({"validate": lambda: True}, "validate"),
        ({"validate": lambda request: True}, "validate"),
        ({"validate": lambda request, session, more: True}, "validate"),
        ({"backend": "redis://localhost"}, "backend"),
        ({"backend": MemoryBackend}, r"an object, MemoryBackend\(\.\.\.\)"),
    ],
)
def test_an_option_of_the_wrong_type_is_a_type_error_that_names_it(options: dict[str, Any], named: str) -> None:
    """Also where the value would pass for another type, as 1 does for True."""
    with pytest.raises(TypeError, match=named):
        setup(web.Application(), **{"backend": MemoryBackend()} | options)


def test_wiring_by_hand_takes_a_manager_and_a_cookie_policy() -> None:
    """An application that is wired by hand is told of a wrong argument too."""
    with pytest.raises(TypeError, match="manager"):
        persistent_session_middleware(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cookie"):
        persistent_session_middleware(PersistentSessionManager(MemoryBackend()), cookie="stay")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"max_age": 400 * DAY},
        {"max_age": 1, "grace_period": 1, "check_interval": 1},
        {"max_age": 3600.5},
        {"grace_period": 0, "check_interval": 0},
        {"grace_period": 3600, "timeout": 300},
        {"cookie_name": "__Host-a"},
        {"cookie_name": "__Secure-a", "domain": "example.com"},
        {"samesite": "None", "partitioned": True},
        {"samesite": "Strict"},
        {"max_lifetime": 90 * DAY, "max_sessions": 1},
        {"max_lifetime": None, "max_sessions": None},
        {"rotate_interval": 60},
        {"rotate_interval": None, "strict": True, "require_store": True},
        {"browser_session_max_age": 1},
        {"validate": lambda request, session: True},
        {"validate": lambda *arguments: True},
    ],
)
def test_the_limits_themselves_are_allowed(options: dict[str, Any]) -> None:
    """Each limit belongs to what is allowed."""
    app = web.Application()
    assert setup(app, backend=MemoryBackend(), **options) is app[PERSISTENT_SESSIONS]


def test_what_is_no_application_is_a_type_error() -> None:
    """The error names app."""
    with pytest.raises(TypeError, match="app"):
        setup("x", backend=MemoryBackend())  # type: ignore[arg-type]


def test_set_up_twice_is_an_error() -> None:
    """Two managers of one application would judge each token twice."""
    app = web.Application()
    setup(app, backend=MemoryBackend())
    with pytest.raises(RuntimeError, match="already"):
        setup(app, backend=MemoryBackend())


async def answer_of(app: web.Application, caplog: pytest.LogCaptureFixture, path: str = "/") -> str:
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client, client.get(path) as response:
        assert response.status == 500
    return str(caplog.records[-1].exc_info[1])  # type: ignore[index]


async def page(_: web.Request) -> web.Response:
    return web.Response()


async def test_without_aiohttp_session_the_error_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The first request tells what to call first."""
    app = web.Application()
    setup(app, backend=MemoryBackend())
    app.router.add_get("/", page)
    assert "aiohttp_session.setup" in await answer_of(app, caplog)


async def test_aiohttp_session_set_up_afterwards_is_the_same_error(caplog: pytest.LogCaptureFixture) -> None:
    """The order of the two is what is wrong then."""
    app = web.Application()
    setup(app, backend=MemoryBackend())
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.router.add_get("/", page)
    assert "aiohttp_session.setup" in await answer_of(app, caplog)


async def test_one_name_for_both_cookies_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Each would overwrite the other."""
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage(cookie_name="stay"))
    setup(app, backend=MemoryBackend(), cookie_name="stay")
    app.router.add_get("/", page)
    assert "cookie_name 'stay'" in await answer_of(app, caplog)


async def test_a_second_set_up_on_a_sub_application_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Once is enough for all inner applications."""
    app, sub = web.Application(), web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend=MemoryBackend())
    setup(sub, backend=MemoryBackend())
    sub.router.add_get("/", page)
    app.add_subapp("/sub", sub)
    assert "once is enough" in await answer_of(app, caplog, "/sub/")


async def test_set_up_on_a_sub_application_alone_works(caplog: pytest.LogCaptureFixture) -> None:
    """The other routes of the outer application are told that it is not set up for them."""

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    app, sub = web.Application(), web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(sub, backend=MemoryBackend())
    sub.router.add_get("/login", login)
    app.router.add_get("/", login)
    app.add_subapp("/sub", sub)
    async with TestClient(TestServer(app), cookie_jar=aiohttp.DummyCookieJar()) as client:
        async with client.get("/sub/login") as response:
            assert "__Host-persistent_session" in response.cookies
        async with client.get("/") as response:
            assert response.status == 500
    assert "setup(app, backend=...)" in str(caplog.records[-1].exc_info[1])  # type: ignore[index]


async def test_a_hand_wired_middleware_without_its_signal_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """No token would ever be sent."""
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.middlewares.append(persistent_session_middleware(PersistentSessionManager(MemoryBackend())))
    app.router.add_get("/", page)
    assert "send_persistent_session_cookie" in await answer_of(app, caplog)


@pytest.mark.parametrize(
    "function",
    [
        lambda request: remember(request, "alice"),
        forget,
        forget_everywhere,
        persistent_sessions,
        current_persistent_session,
        lambda request: revoke(request, "A" * 22),
        is_fresh,
        confirm_login,
    ],
)
async def test_a_handler_without_set_up_is_told(function: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Every function says what to call."""

    async def handler(request: web.Request) -> web.Response:
        await function(request)
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    assert "setup(app, backend=...)" in await answer_of(app, caplog)


async def test_a_restore_that_failed_is_not_known_without_set_up() -> None:
    """A function that waits for nothing says the same as the others."""
    with pytest.raises(RuntimeError, match=r"setup\(app, backend=\.\.\.\)"):
        restore_failed(make_mocked_request("GET", "/"))


def test_importing_the_package_imports_no_optional_driver() -> None:
    """An application pays for the store that it uses."""
    program = (
        "import sys, aiohttp_persistent_session;"
        "print([m for m in ('redis', 'pymongo', 'motor', 'sqlalchemy', 'aiosqlite', 'asyncpg', 'aiohttp_security',"
        " 'pytest') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "[]"


WITHOUT_DRIVERS = """
import sys

DRIVERS = {"redis", "hiredis", "pymongo", "bson", "motor", "sqlalchemy", "aiosqlite", "asyncpg"}

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in DRIVERS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""
"""Run first, this makes the drivers as good as not installed."""

USES = {
    "import *": """
        from aiohttp_persistent_session import *
        assert setup and remember and MemoryBackend and RedisBackend and MongoBackend and SQLBackend
        """,
    "dir": """
        import aiohttp_persistent_session as package
        assert {"MongoBackend", "RedisBackend", "SQLBackend", "setup"} <= set(dir(package))
        assert set(package.__all__) <= set(dir(package))
        """,
    "hasattr": """
        import aiohttp_persistent_session as package
        assert all(hasattr(package, name) for name in package.__all__)
        assert not hasattr(package, "CassandraBackend")
        """,
    "inspect": """
        import inspect, aiohttp_persistent_session as package
        assert {"RedisBackend", "setup"} <= dict(inspect.getmembers(package)).keys()
        """,
    "help": """
        import pydoc, aiohttp_persistent_session as package
        assert "RedisBackend" in pydoc.render_doc(package)
        """,
    "use": """
        from aiohttp_persistent_session import MongoBackend, RedisBackend, SQLBackend
        for backend, extra in ((RedisBackend, "redis"), (MongoBackend, "mongo"), (SQLBackend, "sql")):
            try:
                backend("a URL")
            except ImportError as error:
                assert f"aiohttp-persistent-session[{extra}]" in str(error), str(error)
            else:
                raise AssertionError(f"{backend} needs no driver")
        """,
}


@pytest.mark.parametrize("use", USES)
def test_the_package_can_be_looked_at_without_any_driver(use: str) -> None:
    """Only who makes a store whose driver is missing is told, and of the extra to install."""
    program = WITHOUT_DRIVERS + textwrap.dedent(USES[use])
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr


def test_every_public_name_is_there_and_documented() -> None:
    """help() says something of each."""
    for name in aiohttp_persistent_session.__all__:
        value = getattr(aiohttp_persistent_session, name)
        assert name == "PERSISTENT_SESSIONS" or value.__doc__, name


async def test_set_up_too_late_says_where_to_call_it() -> None:
    """An application that runs, or belongs to another one, takes no middleware any more."""
    app, inner = web.Application(), web.Application()
    app.add_subapp("/inner", inner)
    for too_late in (inner, app):
        app.freeze()
        with pytest.raises(RuntimeError, match="sub-application"):
            setup(too_late, backend=MemoryBackend())
