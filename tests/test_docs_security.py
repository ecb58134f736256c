"""The snippets of docs/aiohttp-security.md run as printed, and the change of one line is one."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp_security
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_security import SessionIdentityPolicy

import aiohttp_persistent_session
from aiohttp_persistent_session import MemoryBackend, persistent_sessions
from aiohttp_persistent_session.security import PersistentSessionIdentityPolicy
from aiohttp_persistent_session.testing import Browser

from .browser import DAY
from .faults import FaultyBackend
from .snippets import provide_myapp, run_code

PAGE = (Path(__file__).parent.parent / "docs" / "aiohttp-security.md").read_text()
WHOLE_APP, CHECK_MEMBER, PERMISSIONS, NUMBERS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
(DIFF,) = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


class Snippets:
    """Runs a snippet as printed, with what it imports from ``myapp``; returns what it defines."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch

    def run(self, code: str, **of_myapp: Any) -> SimpleNamespace:
        provide_myapp(self.patch, **of_myapp)
        return run_code(code, "aiohttp-security.md")


@pytest.fixture
def snippets(monkeypatch: pytest.MonkeyPatch) -> Snippets:
    return Snippets(monkeypatch)


async def text(browser: Browser, method: str, path: str, **options: Any) -> str:
    """Return what an answer of status 200 says, or the status."""
    async with browser.request(method, path, **options) as answer:
        return await answer.text() if answer.status == 200 else str(answer.status)


# The change of one line


async def login(request: web.Request) -> web.Response:
    response = web.HTTPFound("/")
    await aiohttp_security.remember(request, response, "alice")
    raise response


async def home(request: web.Request) -> web.Response:
    return web.Response(text=await aiohttp_security.check_authorized(request))


def an_app(snippets: Snippets, *, sign: str, backend: MemoryBackend | None = None) -> web.Application:
    """Return an app that is set up by the lines of the change with this sign, and by those without one."""
    app = web.Application()
    names = {
        "app": app,
        "aiohttp_session": aiohttp_session,
        "aiohttp_security": aiohttp_security,
        "aiohttp_persistent_session": aiohttp_persistent_session,
        "SessionIdentityPolicy": SessionIdentityPolicy,
        "PersistentSessionIdentityPolicy": PersistentSessionIdentityPolicy,
        "storage": aiohttp_session.SimpleCookieStorage(),
        "backend": backend or MemoryBackend(),
        "authorization_policy": snippets.run(PERMISSIONS).AuthorizationPolicy(),
    }
    exec("\n".join(line[1:] for line in DIFF.splitlines() if line[0] in {" ", sign}), names)
    app.add_routes([web.post("/login", login), web.get("/", home)])
    return app


def test_the_change_takes_one_line_away_and_adds_setup_and_another() -> None:
    """What the page promises."""
    assert [line[0] for line in DIFF.splitlines()] == [" ", "+", "-", "+"]
    assert [line for line in DIFF.splitlines() if line[0] == "+" and "setup(app, backend" in line]


async def test_after_the_change_of_one_line_the_same_handlers_keep_the_user_signed_in(snippets: Snippets) -> None:
    """The session is gone, as after the browser was closed."""
    async with Browser(an_app(snippets, sign="+")) as browser:
        assert await text(browser, "GET", "/") == "401"
        assert await text(browser, "POST", "/login") == "alice"
        browser.come_back(after=DAY)
        assert await text(browser, "GET", "/") == "alice"


async def test_sessions_from_before_the_change_go_on_after_it(snippets: Snippets) -> None:
    """Their cookie was written by the app as it was before; it knows no token."""
    async with TestClient(TestServer(an_app(snippets, sign="-"))) as old:
        async with old.post("/login") as answer:
            assert await answer.text() == "alice"
        (cookie,) = old.session.cookie_jar
        assert cookie.key == "AIOHTTP_SESSION"
        field = f"{cookie.key}={cookie.coded_value}"
    async with Browser(an_app(snippets, sign="+")) as browser:
        assert await text(browser, "GET", "/", headers={"Cookie": field}) == "alice"


# The snippets


async def test_the_whole_app_works_as_printed(snippets: Snippets) -> None:
    """Sign in with the box, come back, be refused, be let in, sign out here and everywhere."""

    async def password_is_right(name: str, password: str) -> bool:
        return password == "secret"

    policy = snippets.run(PERMISSIONS).AuthorizationPolicy
    example = snippets.run(WHOLE_APP, AuthorizationPolicy=policy, password_is_right=password_is_right)
    async with Browser(example.create_app()) as browser:
        bob = {"name": "bob", "password": "secret", "keep": "on"}
        assert await text(browser, "GET", "/") == "401"
        assert await text(browser, "POST", "/login", data=bob | {"password": "wrong"}) == "403"
        assert await text(browser, "POST", "/login", data=bob) == "Hello, bob"
        browser.come_back(after=DAY)
        assert await text(browser, "GET", "/") == "Hello, bob"
        assert await text(browser, "GET", "/admin") == "403"
        assert await text(browser, "POST", "/logout") == "401"
        browser.come_back(after=DAY)
        assert await text(browser, "GET", "/") == "401"
        assert await text(browser, "POST", "/login", data={"name": "alice", "password": "secret"}) == "Hello, alice"
        assert await text(browser, "GET", "/admin") == "The page for administrators"
        async with browser.another() as other:
            assert await text(other, "POST", "/login", data=bob | {"name": "alice"}) == "Hello, alice"
            assert await text(other, "POST", "/logout-everywhere") == "Browsers signed out: 2"
            browser.come_back(after=DAY)
            other.come_back(after=DAY)
            assert await text(browser, "GET", "/") == await text(other, "GET", "/") == "401"


async def test_a_user_whom_the_authorization_policy_no_longer_knows_keeps_the_token(snippets: Snippets) -> None:
    """So the page names ``validate``."""
    backend = MemoryBackend()
    app = an_app(snippets, sign="+", backend=backend)
    policy = app[aiohttp_security.api.AUTZ_KEY]
    async with Browser(app) as browser:
        await text(browser, "POST", "/login")
        del type(policy).authorized_userid.__globals__["PERMISSIONS"]["alice"]
        browser.come_back(after=DAY)
        assert await text(browser, "GET", "/") == "401"
        assert len(await backend.of_user("alice", 10)) == 1


async def test_an_outage_says_try_again_in_the_place_of_401(snippets: Snippets) -> None:
    """Only to who was to be restored."""
    check_member = snippets.run(CHECK_MEMBER).check_member
    backend = FaultyBackend(MemoryBackend())

    async def members(request: web.Request) -> web.Response:
        return web.Response(text=await check_member(request))

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    aiohttp_persistent_session.setup(app, backend)
    aiohttp_security.setup(app, PersistentSessionIdentityPolicy(), snippets.run(PERMISSIONS).AuthorizationPolicy())
    app.add_routes([web.post("/login", login), web.get("/", home), web.get("/members", members)])
    async with Browser(app) as browser:
        assert await text(browser, "GET", "/members") == "401"
        assert await text(browser, "POST", "/login") == "alice"
        browser.come_back(after=DAY)
        backend.break_down()
        assert await text(browser, "GET", "/members") == "503"
        assert await text(browser, "GET", "/") == "401"
        backend.heal()
        assert await text(browser, "GET", "/members") == "alice"


@pytest.mark.parametrize("path", ["/login", "/login-by-code"])
async def test_ids_that_are_numbers(snippets: Snippets, path: str) -> None:
    """Both functions store the number, and the authorization policy gets its text."""
    permissions = snippets.run(PERMISSIONS)
    permissions.PERMISSIONS["42"] = {"write"}

    async def checked_user_id(request: web.Request) -> int:
        return 42

    async def devices(request: web.Request) -> web.Response:
        return web.json_response([one.user for one in await persistent_sessions(request)])

    example = snippets.run(
        NUMBERS, AuthorizationPolicy=permissions.AuthorizationPolicy, checked_user_id=checked_user_id
    )
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    aiohttp_persistent_session.setup(app, MemoryBackend())
    example.secure(app)
    app.add_routes([*example.routes, web.get("/", home), web.get("/devices", devices)])
    async with Browser(app) as browser:
        assert await text(browser, "POST", path) == "signed in"
        browser.come_back(after=DAY)
        assert await text(browser, "GET", "/") == "42"
        assert await text(browser, "GET", "/devices") == "[42]"
