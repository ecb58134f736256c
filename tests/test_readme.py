"""The snippets of the README and the docs run as printed, and what these pages say of the code is so."""

from __future__ import annotations

import ast
import contextlib
import inspect
import json
import re
import secrets
import subprocess
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace as changed
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import aiohttp_session
import pytest
import sqlalchemy
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet
from pymongo import AsyncMongoClient
from redis.asyncio import Redis

import aiohttp_persistent_session
from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    Backend,
    BackendError,
    MemoryBackend,
    PersistentSession,
    PersistentSessionManager,
    Record,
    Repeat,
    remember,
    setup,
)
from aiohttp_persistent_session import policy as policies
from aiohttp_persistent_session.backends.sql import persistent_sessions_table
from aiohttp_persistent_session.testing import make_record

from .faults import FaultyBackend
from .servers.mongo import MongoStore
from .servers.redis import RedisStore
from .snippets import provide_myapp, run_code

ROOT = Path(__file__).parent.parent
PACKAGE = Path(aiohttp_persistent_session.__file__).parent
PAGES = {
    path.name: path.read_text()
    for path in (
        *(ROOT / f"{name}.md" for name in ("README", "CHANGES", "CONTRIBUTING", "SECURITY")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
README = PAGES["README.md"]
TOKEN = "__Host-persistent_session"
SESSION = "AIOHTTP_SESSION"

# The snippets


def snippets(pages: dict[str, str]) -> dict[str, str]:
    """Return the Python snippets by page and heading; the second below one heading has a number."""
    found: dict[str, str] = {}
    for page, text in pages.items():
        heading = ""
        for title, code in re.findall(r"^#+ ([^\n]*)$|^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            heading = title or heading
            if code:
                name = f"{page}: {heading}"
                number = sum(one.split(" #")[0] == name for one in found)
                found[f"{name} #{number + 1}" if number else name] = code
    return found


RUN_ELSEWHERE = {
    "testing.md": "test_docs_testing",
    "index.md": "test_docs_site",
    "tutorial.md": "test_tutorial",
    "aiohttp-security.md": "test_docs_security",
    "devices.md": "test_docs_devices",
}
"""Pages whose snippets another module runs, by its name."""
SNIPPETS = snippets({page: text for page, text in PAGES.items() if page not in RUN_ELSEWHERE})
RUN: set[str] = set()
"""Those that a test of this module runs."""


def runs(*names: str) -> pytest.MarkDecorator:
    """Let a test run these snippets, by its fixture ``example``."""
    RUN.update(names)
    return pytest.mark.parametrize("example", names, indirect=True)


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SimpleNamespace]:
    """Runs a snippet as it is printed; takes what it imports from ``myapp``, and returns what it defines."""

    def run(**of_myapp: Any) -> SimpleNamespace:
        provide_myapp(monkeypatch, **of_myapp)
        return run_snippet(request.param)

    return run


def run_snippet(name: str) -> SimpleNamespace:
    return run_code(SNIPPETS[name], name)


Example = Callable[..., SimpleNamespace]

# The contract runs over the store of docs/extending.md, by the class that the page prints.
RUN |= {"extending.md: An example", "extending.md: The contract as tests"}
TEXT_BACKEND = run_snippet("extending.md: An example").TextBackend
with pytest.MonkeyPatch.context() as _patch:
    provide_myapp(_patch, TextBackend=TEXT_BACKEND)
    TestTextBackend = run_snippet("extending.md: The contract as tests").TestTextBackend


def test_each_snippet_has_a_test_that_runs_it() -> None:
    """None is skipped, and none that is gone is thought to be tested."""
    assert set(SNIPPETS) == RUN
    for page, module in RUN_ELSEWHERE.items():
        assert page in (ROOT / "tests" / f"{module}.py").read_text()


# What an app of a snippet is surrounded by


class Accounts:
    """What snippets import from ``myapp``: accounts, and what they send and store."""

    def __init__(self) -> None:
        self.passwords = {"alice": "secret"}
        self.versions = {"alice": 1}
        self.mails: list[tuple[str | int, str]] = []
        self.emails: dict[str, str] = {}

    async def password_is_right(self, user: str, password: str) -> bool:
        return self.passwords.get(user) == password

    async def password_version(self, user: str | int) -> int | None:
        return self.versions.get(str(user))

    async def set_password(self, user: str, password: str) -> None:
        self.passwords[user] = password
        self.versions[user] += 1

    async def set_email(self, user: str, email: str) -> None:
        self.emails[user] = email

    async def send_mail(self, user: str | int, text: str) -> None:
        self.mails.append((user, text))

    async def locale_of(self, user: str | int) -> str:
        return "de" if user == "alice" else "en"


async def show_session(request: web.Request) -> web.Response:
    return web.json_response(dict(await aiohttp_session.get_session(request)))


async def sign_in(request: web.Request) -> web.Response:
    await remember(request, "alice", persistent="for-now" not in request.query)
    return web.Response()


def an_app(routes: web.RouteTableDef | None = None, backend: Backend | None = None, **options: Any) -> web.Application:
    """Return an app of a snippet's routes, with a page that shows the session and one that signs in."""
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend or MemoryBackend(), **options)
    app.add_routes(routes or ())
    app.add_routes([web.get("/session", show_session), web.post("/sign-in", sign_in)])
    return app


class Page(SimpleNamespace):
    status: int
    text: str
    headers: Any
    path: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Visitor:
    """A browser of a snippet's app, whose jar keeps Secure cookies as Chromium does on localhost."""

    def __init__(self, server: TestServer) -> None:
        self.server = server
        self.jar = aiohttp.CookieJar(unsafe=True, treat_as_secure_origin=server.make_url("/"))
        self.http = aiohttp.ClientSession(server.make_url("/"), cookie_jar=self.jar)

    async def __aenter__(self) -> Visitor:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.http.close()

    async def get(self, path: str, **options: Any) -> Page:
        return await self._send("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Page:
        return await self._send("POST", path, **options)

    async def _send(self, method: str, path: str, **options: Any) -> Page:
        async with self.http.request(method, path, **options) as response:
            text = await response.text()
            return Page(status=response.status, text=text, headers=response.headers, path=response.url.path)

    def end_session(self, name: str = SESSION) -> None:
        """What closing the browser does."""
        self.jar.clear(lambda cookie: cookie.key == name)

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self.jar}


@contextlib.asynccontextmanager
async def browsing(app: web.Application) -> AsyncIterator[Visitor]:
    async with TestServer(app) as server, Visitor(server) as visitor:
        yield visitor


# README.md


@runs("README.md: Use it")
async def test_the_whole_app_runs_as_printed(example: Example) -> None:
    """Sign in, lose the session, be restored with another token; sign out, and stay out."""
    async with browsing(example().app) as visitor:
        assert "Keep me signed in" in (await visitor.get("/")).text
        assert "Hello, alice!" in (await visitor.post("/login", data={"name": "alice", "keep": "on"})).text
        before = visitor.cookies["persistent_session"]
        visitor.end_session()
        assert set(visitor.cookies) == {"persistent_session"}
        assert "Hello, alice!" in (await visitor.get("/")).text
        assert visitor.cookies["persistent_session"] != before
        assert "Sign in" in (await visitor.post("/logout")).text
        assert "persistent_session" not in visitor.cookies


@runs("README.md: Use it")
async def test_the_whole_app_forgets_at_closing_whoever_left_the_box_empty(example: Example) -> None:
    """The token's cookie has no Max-Age then."""
    async with browsing(example().app) as visitor:
        page = await visitor.post("/login", data={"name": "alice"}, allow_redirects=False)
        (field,) = [one for one in page.headers.getall("Set-Cookie") if one.startswith("persistent_session=")]
        assert "Max-Age" not in field
        assert "Hello, alice!" in (await visitor.get("/")).text
        visitor.end_session("persistent_session")
        assert "Sign in" in (await visitor.get("/")).text


@runs("README.md: Use it #2")
async def test_the_lines_for_production_restore_over_redis(
    example: Example,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the names, attributes and storage that they print, and without a warning."""
    monkeypatch.setenv("SESSION_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("REDIS_URL", redis_url)
    snippet, user = example(), secrets.token_hex(8)

    async def sign_in(request: web.Request) -> web.Response:
        await remember(request, user)
        return web.Response()

    snippet.app.add_routes([web.get("/", show_session), web.get("/sign-in", sign_in)])
    async with browsing(snippet.app) as visitor:
        await visitor.get("/sign-in")
        assert set(visitor.cookies) == {"session", TOKEN}
        visitor.end_session("session")
        assert (await visitor.get("/")).json["user"] == user
        assert await snippet.manager.revoke_all(user) == 1
    assert [record for record in caplog.records if record.name == "aiohttp_persistent_session"] == []


def test_the_line_that_makes_the_key_makes_one() -> None:
    """A text, as the storage takes it: a ``b'...'`` would be refused at the first request."""
    (code,) = re.findall(r"SESSION_KEY=\$\(python -c \"(.*?)\"\)$", README, re.MULTILINE)
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(Fernet(made.stdout.strip()).encrypt(b"")) > 0


@runs("README.md: Use it")
async def test_a_second_loss_of_the_session_within_two_seconds_keeps_the_token(example: Example) -> None:
    """The request joins: it is served, and gets neither a token nor a session."""
    async with browsing(example().app) as visitor:
        await visitor.post("/login", data={"name": "alice", "keep": "on"})
        visitor.end_session()
        await visitor.get("/")
        token = visitor.cookies["persistent_session"]
        visitor.end_session()
        assert "Hello, alice!" in (await visitor.get("/")).text
        assert visitor.cookies == {"persistent_session": token}


def test_the_readme_has_about_150_lines() -> None:
    """The rest is in docs/."""
    assert len(README.splitlines()) <= 170


# docs/recipes.md


@runs("recipes.md: Members only")
async def test_an_outage_sends_no_member_to_the_login_page(example: Example) -> None:
    """A visitor without a token is sent there; one who could not be restored is asked to try again."""
    routes = web.RouteTableDef()

    @routes.get("/login")
    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response(text="signed in")

    backend = FaultyBackend(MemoryBackend())
    app = an_app(routes, backend)
    example().protect(app)
    async with browsing(app) as visitor:
        assert (await visitor.get("/session", allow_redirects=False)).headers["Location"] == "/login"
        assert (await visitor.get("/login")).text == "signed in"
        visitor.end_session()
        backend.break_down()
        assert (await visitor.get("/session")).status == 503
        backend.heal()
        assert (await visitor.get("/session")).json["user"] == "alice"


@runs("recipes.md: Your devices")
async def test_the_page_of_devices_lists_and_ends(example: Example) -> None:
    """A browser ends another one, all others, and itself."""
    app = an_app(example().routes, check_interval=0)
    async with browsing(app) as visitor, Visitor(visitor.server) as other:
        for browser in (visitor, other):
            await browser.post("/sign-in")
        text = (await visitor.get("/devices")).text
        assert text.count("<li>") == 2
        assert text.count("this browser") == 1
        newest, _ = await app[PERSISTENT_SESSIONS].sessions("alice")
        assert (await visitor.post("/devices", data={"id": newest.id})).text.count("<li>") == 1
        assert "user" not in (await other.get("/session")).json
        await other.post("/sign-in")
        assert (await visitor.post("/devices/others")).text.count("<li>") == 1
        assert "user" not in (await other.get("/session")).json
        (mine,) = await app[PERSISTENT_SESSIONS].sessions("alice")
        assert "<li>" not in (await visitor.post("/devices", data={"id": mine.id})).text
        assert TOKEN not in visitor.cookies


@runs("recipes.md: A changed password")
async def test_a_changed_password_ends_all_other_browsers(example: Example) -> None:
    """The browser that changed it stays in, also after its session; what others changed is found at the restore."""
    accounts = Accounts()
    snippet = example(**functions_of(accounts))
    app = an_app(snippet.routes, validate=snippet.validate, check_interval=0)
    form = {"name": "alice", "password": "secret", "keep": "on"}
    async with browsing(app) as visitor, Visitor(visitor.server) as other:
        assert (await visitor.post("/login", data=form | {"password": "wrong"})).status == 403
        for browser in (visitor, other):
            await browser.post("/login", data=form, allow_redirects=False)
        assert (await visitor.post("/password", data={"old": "wrong", "new": "new"})).status == 403
        await visitor.post("/password", data={"old": "secret", "new": "new"}, allow_redirects=False)
        assert (await other.get("/session")).json == {}
        visitor.end_session()
        assert (await visitor.get("/session")).json["user"] == "alice"
        await accounts.set_password("alice", "changed elsewhere")
        assert (await visitor.get("/session")).json["user"] == "alice"
        visitor.end_session()
        assert (await visitor.get("/session")).json == {}
        assert await app[PERSISTENT_SESSIONS].sessions("alice") == []


@runs("recipes.md: A changed password")
async def test_a_changed_password_keeps_the_box_as_it_was(example: Example) -> None:
    """Who signed in until the browser is closed stays so."""
    snippet = example(**functions_of(Accounts()))
    app = an_app(snippet.routes, validate=snippet.validate)
    async with browsing(app) as visitor:
        await visitor.post("/login", data={"name": "alice", "password": "secret"}, allow_redirects=False)
        await visitor.post("/password", data={"old": "secret", "new": "new"}, allow_redirects=False)
        (session,) = await app[PERSISTENT_SESSIONS].sessions("alice")
        assert session.persistent is False


@runs("recipes.md: Ask for the password again")
async def test_a_restored_visitor_is_asked_for_the_password(example: Example) -> None:
    """Once it is typed, what is sensitive is done."""
    accounts = Accounts()
    app = an_app(example(**functions_of(accounts)).routes)
    email = {"email": "alice@example.com"}
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        assert (await visitor.post("/email", data=email)).text == "Changed"
        accounts.emails.clear()
        visitor.end_session()
        assert (await visitor.post("/email", data=email)).path == "/confirm"
        assert (await visitor.get("/email")).path == "/confirm"
        assert (await visitor.post("/confirm", data={"password": "wrong"})).status == 403
        assert accounts.emails == {}
        page = await visitor.post("/confirm", data={"password": "secret"})
        assert (page.path, page.status) == ("/email", 200)
        assert "type=email" in page.text
        assert (await visitor.post("/email", data=email)).text == "Changed"
        assert accounts.emails == {"alice": "alice@example.com"}
        app[PERSISTENT_SESSIONS].clock = lambda: time.time() + 601
        assert (await visitor.post("/email", data=email)).path == "/confirm"


@runs("recipes.md: Ask for the password again")
async def test_an_anonymous_visitor_is_sent_to_the_login_page(example: Example) -> None:
    """There is no password to ask for, since nobody knows whose."""
    async with browsing(an_app(example(**functions_of(Accounts())).routes)) as visitor:
        for send in (visitor.get, visitor.post):
            for path in ("/email", "/confirm"):
                page = await send(path, allow_redirects=False)
                assert (page.status, page.headers["Location"]) == (303, "/login"), path


@runs("recipes.md: Ask for the password again #2")
async def test_a_decorator_asks_for_the_password_and_leads_back(example: Example) -> None:
    """The page that was asked for opens once the password is typed."""
    app = an_app(example(**functions_of(Accounts())).routes)
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        assert (await visitor.get("/keys")).text == "Your keys"
        visitor.end_session()
        page = await visitor.get("/keys", allow_redirects=False)
        assert (page.status, page.headers["Location"]) == (303, "/confirm?next=/keys")
        assert (await visitor.post("/confirm?next=/keys", data={"password": "wrong"})).status == 403
        assert (await visitor.post("/confirm?next=/keys", data={"password": "secret"})).text == "Your keys"


async def test_a_session_of_the_apps_own_is_fresh_once_it_is_confirmed() -> None:
    """Without ``remember`` nobody knows before when the password was typed."""
    routes = web.RouteTableDef()

    @routes.get("/open")
    async def open_session(request: web.Request) -> web.Response:
        (await aiohttp_session.new_session(request))["user"] = "alice"
        return web.Response()

    @routes.get("/fresh")
    async def fresh(request: web.Request) -> web.Response:
        is_fresh = aiohttp_persistent_session.is_fresh
        return web.json_response([await is_fresh(request), await is_fresh(request, within=600)])

    @routes.get("/confirm")
    async def confirm(request: web.Request) -> web.Response:
        await aiohttp_persistent_session.confirm_login(request)
        return web.Response()

    async with browsing(an_app(routes)) as visitor:
        await visitor.get("/open")
        assert (await visitor.get("/fresh")).json == [True, False]
        await visitor.get("/confirm")
        assert (await visitor.get("/fresh")).json == [True, True]


@runs("recipes.md: Was this you?")
async def test_the_user_is_told_of_a_copy(example: Example) -> None:
    """A mail goes out when a copy is found out, and when another client left a token behind."""
    accounts = Accounts()
    snippet = example(**functions_of(accounts))
    app = an_app(check_interval=0)
    snippet.send_mails(app[PERSISTENT_SESSIONS])
    moved = 0.0
    app[PERSISTENT_SESSIONS].clock = lambda: time.time() + moved
    async with browsing(app) as visitor, Visitor(visitor.server) as thief:
        await visitor.post("/sign-in", headers={"User-Agent": "Owner/1"})
        copied = {"Cookie": f"{TOKEN}={visitor.cookies[TOKEN]}", "User-Agent": "Thief/1"}
        await thief.get("/session", headers=copied)
        assert accounts.mails == []
        moved += 100
        visitor.end_session()
        await visitor.get("/session", headers={"User-Agent": "Owner/1"})
        ((user, text),) = accounts.mails
        assert user == "alice"
        assert "Was this you?" in text
        assert "Thief/1" in text
        moved += 100
        await visitor.get("/session", headers={"User-Agent": "Owner/1"})
        thief.jar.clear()
        await thief.get("/session", headers=copied)
        assert "A copy of your cookie was used" in accounts.mails[-1][1]


@runs("recipes.md: Was this you? #2")
async def test_the_user_is_told_of_a_new_client(example: Example) -> None:
    """A mail goes out at its first request that is looked at, and says which browser it was so far."""
    accounts = Accounts()
    app = an_app(check_interval=0)
    example(**functions_of(accounts)).send_mails(app[PERSISTENT_SESSIONS])
    moved = 0.0
    app[PERSISTENT_SESSIONS].clock = lambda: time.time() + moved
    async with browsing(app) as visitor:
        await visitor.post("/sign-in", headers={"User-Agent": "Owner/1"})
        for agent in ("Owner/2", "Other/1", "Other/1"):
            moved += 2
            await visitor.get("/session", headers={"User-Agent": agent})
    assert accounts.mails == [("alice", "Was this you, at 127.0.0.1? It was Owner/2 so far")]


async def test_signals_show_the_clients_that_the_recipes_say() -> None:
    """The one that came now and the one that the token was issued to; the one seen before and the one with the copy."""
    told: list[tuple[str | None, ...]] = []
    app = an_app(check_interval=0)
    manager = app[PERSISTENT_SESSIONS]

    async def tell(session: PersistentSession, request: web.Request | None) -> None:
        assert request is not None
        left = None if session.repeat is None else session.repeat.user_agent
        told.append((session.user_agent, request.headers["User-Agent"], left))

    manager.on_repeat.append(tell)
    manager.on_reuse.append(tell)
    moved = 0.0
    manager.clock = lambda: time.time() + moved
    owner = {"User-Agent": "Owner"}
    async with browsing(app) as visitor, Visitor(visitor.server) as thief, Visitor(visitor.server) as again:
        await visitor.post("/sign-in", headers=owner)
        copied = {"Cookie": f"{TOKEN}={visitor.cookies[TOKEN]}", "User-Agent": "Thief"}
        await thief.get("/session", headers=copied)
        for _ in range(2):
            moved += 100
            visitor.end_session()
            await visitor.get("/session", headers=owner)
        await again.get("/session", headers=copied)
    assert told == [("Owner", "Owner", "Thief"), ("Owner", "Thief", None)]


async def test_a_copy_that_is_used_soon_after_a_restore_leaves_the_owners_own_token_behind() -> None:
    """It counts as not shown, as a worker served the owner from its memory."""
    repeats: list[Repeat | None] = []
    app = an_app()
    manager = app[PERSISTENT_SESSIONS]

    async def tell(session: PersistentSession, request: web.Request | None) -> None:
        repeats.append(session.repeat)

    manager.on_repeat.append(tell)
    moved = 0.0
    manager.clock = lambda: time.time() + moved
    owner = {"User-Agent": "Owner"}
    async with browsing(app) as visitor, Visitor(visitor.server) as thief:
        await visitor.post("/sign-in", headers=owner)
        copied = {"Cookie": f"{TOKEN}={visitor.cookies[TOKEN]}", "User-Agent": "Thief"}
        visitor.end_session()
        await visitor.get("/session", headers=owner)
        moved += 20
        await visitor.get("/session", headers=owner)
        await thief.get("/session", headers=copied)
    assert [(one.user_agent, one.shown) for one in repeats if one is not None] == [("Owner", False)]


async def test_aiohttp_session_deletes_its_cookie_without_secure() -> None:
    """That is why the page on storages tells not to give it a prefix that demands it."""
    storage = EncryptedCookieStorage(Fernet.generate_key().decode(), cookie_name="session", secure=True)
    app = web.Application()
    aiohttp_session.setup(app, storage)

    async def sign_out(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request)).invalidate()
        return web.Response()

    app.add_routes([web.get("/", sign_out)])
    async with browsing(app) as visitor:
        (field,) = (await visitor.get("/")).headers.getall("Set-Cookie")
    assert "Max-Age=0" in field
    assert "Secure" not in field


@runs("recipes.md: Fill a restored session")
async def test_a_restored_session_is_filled(example: Example) -> None:
    """What the receiver puts there is saved with it."""
    app = an_app()
    example(locale_of=Accounts().locale_of).fill_sessions(app[PERSISTENT_SESSIONS])
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        visitor.end_session()
        first = (await visitor.get("/session")).json
        assert (first["user"], first["locale"]) == ("alice", "de")
        assert (await visitor.get("/session")).json == first


async def test_a_restored_session_holds_the_user_alone() -> None:
    """And the text that the pages name."""

    async def fill_basket(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["basket"] = "book"
        return web.Response()

    routes = web.RouteTableDef()
    routes.post("/basket")(fill_basket)
    async with browsing(an_app(routes)) as visitor:
        await visitor.post("/sign-in")
        await visitor.post("/basket")
        assert "basket" in (await visitor.get("/session")).json
        visitor.end_session()
        assert set((await visitor.get("/session")).json) == {"user", "persistent_session"}


@runs("recipes.md: Renew the CSRF secret at sign-in")
async def test_the_csrf_secret_is_renewed_at_sign_in(example: Example) -> None:
    """The anonymous session's other data stay."""
    routes = example(**functions_of(Accounts())).routes

    @routes.get("/plant")
    async def plant(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request)).update(csrf="planted", basket="book")
        return web.Response()

    async with browsing(an_app(routes)) as visitor:
        await visitor.get("/plant")
        await visitor.post("/login", data={"name": "alice", "password": "secret"}, allow_redirects=False)
        session = (await visitor.get("/session")).json
        assert session["basket"] == "book"
        assert session["csrf"] != "planted"


@runs("recipes.md: A web-socket")
async def test_a_web_socket_closes_after_a_revocation(example: Example) -> None:
    """It serves while the persistent session stands, also while the store is down, and closes once it is revoked."""
    snippet = example()
    backend = FaultyBackend(MemoryBackend())
    app = an_app(snippet.routes, backend)
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        async with visitor.http.ws_connect("/updates") as socket:
            await socket.send_str("hello")
            assert (await socket.receive()).data == "You said hello"
            backend.break_down()
            await socket.send_str("down")
            assert (await socket.receive()).data == "You said down"
            backend.heal()
            await app[PERSISTENT_SESSIONS].revoke_all("alice")
            await socket.send_str("again")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@runs("recipes.md: A web-socket")
async def test_an_idle_web_socket_looks_now_and_then(example: Example) -> None:
    """It closes without a message of the browser's, and where the browser closes it."""
    snippet = example()
    snippet.updates.__globals__["LOOK_EVERY"] = 0.01
    app = an_app(snippet.routes)
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        async with visitor.http.ws_connect("/updates") as socket:
            await socket.close()
        async with visitor.http.ws_connect("/updates") as socket:
            await app[PERSISTENT_SESSIONS].revoke_all("alice")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@runs("recipes.md: While the store is down")
async def test_pages_while_the_store_is_down(example: Example) -> None:
    """A visitor who was not restored is told to try again; people sign in and out; afterwards all is as before."""
    snippet = example(**functions_of(Accounts()))
    backend = FaultyBackend(MemoryBackend())
    app = an_app(snippet.routes, backend)
    form = {"name": "alice", "password": "secret"}
    async with browsing(app) as visitor, Visitor(visitor.server) as other:
        assert (await visitor.post("/login", data=form)).text == "Hello, alice"
        assert (await other.post("/login", data=form | {"password": "wrong"})).status == 403
        visitor.end_session()
        backend.break_down()
        page = await visitor.get("/")
        assert (page.status, page.headers["Retry-After"]) == (503, "5")
        assert (await other.post("/login", data=form)).text == "Hello, alice"
        assert set(other.cookies) == {SESSION}
        backend.heal()
        assert (await visitor.get("/")).text == "Hello, alice"
        backend.break_down()
        assert (await visitor.post("/logout")).text == "Hello, stranger"
        assert TOKEN not in visitor.cookies


@runs("recipes.md: Behind a proxy")
async def test_the_address_behind_a_proxy_is_the_clients(example: Example) -> None:
    """The middleware that clones the request loses neither the token nor the session."""
    app = example().app
    app.add_routes([web.get("/session", show_session), web.post("/sign-in", sign_in)])
    async with browsing(app) as visitor:
        await visitor.post("/sign-in", headers={"X-Real-IP": "203.0.113.9"})
        (session,) = await app[PERSISTENT_SESSIONS].sessions("alice")
        assert session.address == "203.0.113.9"
        visitor.end_session()
        assert (await visitor.get("/session", headers={"X-Real-IP": "203.0.113.9"})).json["user"] == "alice"


@runs("recipes.md: Several hosts, several apps")
def test_both_cookies_of_several_hosts_have_the_domain(
    example: Example, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    """The names and the domain are those that the page says."""
    monkeypatch.setenv("SESSION_KEY", Fernet.generate_key().decode())
    monkeypatch.setenv("REDIS_URL", redis_url)
    snippet = example()
    assert snippet.storage.cookie_params["domain"] == "example.com"
    assert aiohttp_persistent_session.CookiePolicy(domain="example.com").name == "persistent_session"
    assert PERSISTENT_SESSIONS in snippet.app


@runs("recipes.md: Several hosts, several apps #2")
def test_stores_of_several_apps_take_the_options_that_part_them(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients connect when they are opened, so that no server is needed to make them."""
    monkeypatch.chdir(tmp_path)
    example()


async def test_two_apps_on_one_store_accept_each_others_tokens() -> None:
    """That is why the pages tell to part them."""
    shared = MemoryBackend()
    async with browsing(an_app(None, shared)) as one, browsing(an_app(None, shared)) as two:
        await one.post("/sign-in")
        headers = {"Cookie": f"{TOKEN}={one.cookies[TOKEN]}"}
        assert (await two.get("/session", headers=headers)).json["user"] == "alice"


@runs("recipes.md: A job without a request")
async def test_a_job_signs_a_user_out(example: Example, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts the browsers."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    user = secrets.token_hex(8)
    backend = aiohttp_persistent_session.RedisBackend(redis_url)
    await backend.open()
    await backend.insert(make_record(user=user))
    assert await example().sign_out(user) == 1
    assert await backend.of_user(user, 1) == []
    await backend.close()


@runs("recipes.md: Signals")
async def test_who_is_copied_is_signed_out_everywhere(example: Example) -> None:
    """The receiver is added by a decorator, and called where a copy is found out."""
    snippet = example()
    snippet.app.add_routes([web.get("/session", show_session), web.post("/sign-in", sign_in)])
    async with browsing(snippet.app) as visitor, Visitor(visitor.server) as other, Visitor(visitor.server) as thief:
        await visitor.post("/sign-in")
        await other.post("/sign-in")
        selector = visitor.cookies[TOKEN].split(".")[0]
        await thief.get("/session", headers={"Cookie": f"{TOKEN}={selector}.{'A' * 43}"})
        assert await snippet.manager.sessions("alice") == []


@runs("recipes.md: Signals #2")
async def test_a_browser_that_stays_in_is_not_told_that_it_was_signed_out(example: Example) -> None:
    """Its old record counts among those that ended, and is known by the time of its sign-in."""
    accounts, routes = Accounts(), web.RouteTableDef()

    @routes.post("/others")
    async def end_others(request: web.Request) -> web.Response:
        ended = await aiohttp_persistent_session.forget_everywhere(request, keep_current=True)
        return web.Response(text=str(ended))

    app = an_app(routes)
    example(**functions_of(accounts)).send_mails(app[PERSISTENT_SESSIONS])
    async with browsing(app) as visitor, Visitor(visitor.server) as other:
        await visitor.post("/sign-in")
        assert (await visitor.post("/others")).text == "1"
        assert accounts.mails == []
        await other.post("/sign-in", headers={"User-Agent": "Other/1"})
        assert (await visitor.post("/others")).text == "2"
        assert accounts.mails == [("alice", "Other/1 was signed out")]
        assert (await visitor.get("/session")).json["user"] == "alice"


async def test_the_test_clients_own_jar_sends_no_secure_cookie_and_no_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With ``persistent=False`` the visitor is anonymous at the next request; browsers would keep the cookie there."""
    client: TestClient[web.Request, web.Application] = TestClient(TestServer(an_app()))
    async with client:
        await client.post("/sign-in?for-now")
        async with client.get("/session") as response:
            assert await response.json() == {}
    assert [record for record in caplog.records if record.name == "aiohttp_persistent_session"] == []


def test_the_prefix_host_without_secure_is_an_error() -> None:
    """As the page on tests says."""
    with pytest.raises(ValueError, match="__Host-"):
        setup(web.Application(), MemoryBackend(), cookie_name="__Host-stay", secure=False)


@runs("recipes.md: Wiring by hand")
async def test_what_is_wired_by_hand_restores_before_the_middleware_for_members(example: Example) -> None:
    """It opens the manager, and has the name and the durations that it was given."""

    @web.middleware
    async def members_only(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> Any:
        session = await aiohttp_session.get_session(request)
        if request.path != "/sign-in" and "user" not in session:
            raise web.HTTPForbidden
        return await handler(request)

    snippet = example(members_only=members_only)
    snippet.app.add_routes([web.get("/session", show_session), web.post("/sign-in", sign_in)])
    async with browsing(snippet.app) as visitor:
        assert (await visitor.get("/session")).status == 403
        await visitor.post("/sign-in")
        assert set(visitor.cookies) == {SESSION, "__Host-stay"}
        visitor.end_session()
        assert (await visitor.get("/session")).json["user"] == "alice"


async def test_a_middleware_given_to_the_application_is_a_500_where_it_reads_the_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It runs before aiohttp-session's, which says so; the pages quote it."""

    @web.middleware
    async def look(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> Any:
        await aiohttp_session.get_session(request)
        return await handler(request)

    app = web.Application(middlewares=[look])
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    app.add_routes([web.get("/session", show_session)])
    async with browsing(app) as visitor:
        assert (await visitor.get("/session")).status == 500
    assert "Install aiohttp_session middleware" in caplog.text


async def test_no_warning_names_a_middleware_that_redirects_before_a_restore(caplog: pytest.LogCaptureFixture) -> None:
    """The login page, which it lets through unread, is where the visitor is restored."""

    @web.middleware
    async def early(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> Any:
        if request.path not in {"/sign-in", "/login"} and "user" not in await aiohttp_session.get_session(request):
            raise web.HTTPSeeOther("/login")
        return await handler(request)

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    app.middlewares.append(early)
    setup(app, MemoryBackend())
    app.add_routes([web.get("/session", show_session), web.get("/login", show_session), web.post("/sign-in", sign_in)])
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        visitor.end_session()
        page = await visitor.get("/session")
        assert page.path == "/login"
        assert page.json["user"] == "alice"
    assert [record for record in caplog.records if record.name == "aiohttp_persistent_session"] == []


async def test_middlewares_before_ours_see_an_anonymous_visitor(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Those that are appended after ``setup`` see the user; the warning names the others."""
    seen: list[tuple[str, bool]] = []

    def looks(name: str) -> Any:
        @web.middleware
        async def look(request: web.Request, handler: Callable[..., Awaitable[Any]]) -> Any:
            seen.append((name, "user" in await aiohttp_session.get_session(request)))
            return await handler(request)

        return look

    storage = aiohttp_session.session_middleware(aiohttp_session.SimpleCookieStorage())
    app = web.Application(middlewares=[storage, looks("given")])
    setup(app, MemoryBackend())
    app.middlewares.append(looks("appended"))
    app.add_routes([web.get("/session", show_session), web.post("/sign-in", sign_in)])
    async with browsing(app) as visitor:
        await visitor.post("/sign-in")
        visitor.end_session()
        seen.clear()
        await visitor.get("/session")
    assert seen == [("given", False), ("appended", True)]
    assert "looks.<locals>.look" in caplog.text


def functions_of(accounts: Accounts) -> dict[str, Any]:
    return {name: getattr(accounts, name) for name in dir(accounts) if not name.startswith("_")}


# The stores' pages


@runs(
    "redis.md: Redis",
    "mongodb.md: MongoDB",
    "sql.md: Records in SQL: SQLite and PostgreSQL",
    "sql.md: Migrations of your own",
)
async def test_the_snippets_of_the_stores_pages_run(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clients that they make connect when they are used, to servers that nobody has."""
    monkeypatch.chdir(tmp_path)
    example()


def exchanged_record() -> Record:
    """Return a record whose every field is set, as one is once it was restored."""
    now = round(time.time(), 3)
    record = make_record(issued_last_at=now)
    (secret,) = record.secrets
    return changed(record, secrets=(changed(secret, user_agent="Firefox", address="192.0.2.1", seen_at=now),))


async def test_a_record_in_redis_has_the_fields_that_the_page_shows(redis_url: str) -> None:
    """In their order, and so have its secrets."""
    store, record = RedisStore(redis_url), exchanged_record()
    backend = await store.opened()
    await backend.insert(record)
    client = Redis.from_url(redis_url, protocol=2)
    stored = json.loads(await client.get(f"{store.prefix}{record.id}"))
    shown = json.loads(re.search(r"^    (\{\"revision\".*?\}) *$", PAGES["redis.md"], re.M | re.S)[1])  # type: ignore[index]  # it is there
    assert list(shown) == list(stored)
    assert [len(one) for one in shown["secrets"]] == [len(one) for one in stored["secrets"]]
    await backend.close()
    await client.aclose()
    await store.clean()


async def test_a_user_of_redis_needs_the_rights_that_the_page_names(redis_url: str) -> None:
    """Every operation works with them, also after the scripts were flushed."""
    rights = re.search(r"`(~persistent_session:\* .*?)`", PAGES["redis.md"], re.DOTALL)
    assert rights is not None
    name, store = secrets.token_hex(8), RedisStore(redis_url)
    keys, *commands = rights[1].split()
    admin = Redis.from_url(redis_url, protocol=2)
    await admin.execute_command("ACL", "SETUSER", name, "on", "nopass", f"~{store.prefix}*", *commands)
    assert keys == "~persistent_session:*"
    client = Redis.from_url(redis_url, username=name, password="", protocol=2)
    backend = aiohttp_persistent_session.RedisBackend(client, prefix=store.prefix)
    await admin.script_flush()
    try:
        await backend.open()
        record = make_record()
        await backend.insert(record)
        renewed = changed(record, revision=1, expires_at=record.expires_at + 10**7)
        assert await backend.replace(renewed)
        assert await backend.of_user(record.user, 10) == [renewed]
        assert await backend.get(record.id) == renewed
        assert await backend.delete(record.id)
    finally:
        await backend.close()
        await client.aclose()
        await admin.execute_command("ACL", "DELUSER", name)
        await admin.aclose()
        await store.clean()


async def test_a_document_in_mongodb_has_the_fields_that_the_page_shows(mongodb_url: str) -> None:
    """In their order, and so have its secrets."""
    store, record = MongoStore(mongodb_url), exchanged_record()
    backend = await store.backend()
    await backend.open()
    await backend.insert(record)
    async with AsyncMongoClient[dict[str, Any]](store.url) as client:
        stored = await client.get_default_database()["persistent_sessions"].find_one({"_id": record.id})
    assert stored is not None
    shown = re.search(r"^    \{\n(.*?)^    \}$", PAGES["mongodb.md"], re.M | re.S)
    assert shown is not None
    assert re.findall(r"^      (\w+):", shown[1], re.M) == list(stored)
    assert re.findall(r"^        (\w+):", shown[1], re.M) == list(stored["secrets"][0])
    await backend.close()
    await store.clean()


def test_the_page_on_sql_names_every_column() -> None:
    """No more and no fewer."""
    table = PAGES["sql.md"].partition("## The table")[2].partition("##")[0]
    named = [name for cell in re.findall(r"^\| (`.*?) \|", table, re.M) for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(persistent_sessions_table(sqlalchemy.MetaData()).c.keys())


# What the pages say of the code


def in_words(default: Any) -> str:
    """Return a default as the tables write it."""
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, timedelta):
        return f"{default.days} day{'s' * (default.days != 1)}"
    if isinstance(default, str):
        return f'`"{default}"`'
    return f"`{default}`" if default is None or isinstance(default, bool) else str(default)


def table_after(page: str, heading: str) -> list[list[str]]:
    """Return the rows of the first table after a heading, without its head."""
    text = PAGES[page].partition(f"# {heading}\n")[2]
    rows = re.search(r"^\|.*\n\| ---.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert rows is not None
    return [re.split(r" \| ", row.strip("| ")) for row in rows[1].splitlines()]


def test_the_table_of_options_has_each_with_its_default() -> None:
    """In the order of the signature."""
    parameters = list(inspect.signature(setup).parameters.values())[1:]
    table = [(row[0].strip("`"), row[1]) for row in table_after("README.md", "Options of `setup`")]
    assert table == [(one.name, in_words(one.default)) for one in parameters]


def test_the_table_of_functions_has_each_with_its_signature() -> None:
    """Coroutine functions are awaited there."""
    rows = [row[0].strip("`") for row in table_after("README.md", "What handlers call")]
    homes = {f"aiohttp_persistent_session.{name}" for name in ("handlers", "fresh")}
    expected = []
    for name in aiohttp_persistent_session.__all__:
        function = getattr(aiohttp_persistent_session, name)
        if getattr(function, "__module__", "") not in homes:
            continue
        signature = inspect.signature(function)
        bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
        awaited = "await " * inspect.iscoroutinefunction(function) or "@" * name.endswith("_required")
        expected.append(f"{awaited}{name}{inspect.Signature(bare)}".replace("'", '"'))
    assert sorted(rows) == sorted(expected)


def test_the_table_of_signals_has_each() -> None:
    """And the reasons that they give."""
    rows = table_after("recipes.md", "Signals")
    manager = PersistentSessionManager(MemoryBackend())
    signals = [name for name in vars(type(manager)).get("__annotations__", {}) if name.startswith("on_")]
    assert [row[0].strip("`") for row in rows] == signals
    reasons = {reason for row in rows for reason in re.findall(r'"([a-z ]+)"', row[1])}
    texts = {
        node.value
        for path in PACKAGE.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert reasons == {
        "signed out",
        "signed in anew",
        "revoked",
        "signed out everywhere",
        "too many",
        "refused",
        "the store lost writes",
    }
    assert reasons <= texts


def test_what_a_persistent_session_shows_is_in_the_readme() -> None:
    """Each attribute by name."""
    (text,) = re.findall(r"A `PersistentSession` has (.*?)\.$", README, re.DOTALL | re.MULTILINE)
    assert re.findall(r"`(\w+)`", text) == [
        *("id", "user", "created_at", "seen_at", "expires_at", "user_agent", "address"),
        *("persistent", "data", "current", "reason", "repeat"),
    ]
    assert {*re.findall(r"`(\w+)`", text)} == {*PersistentSession.__dataclass_fields__}


def test_what_a_repeat_shows_is_in_the_recipes() -> None:
    """Each attribute by name."""
    text = PAGES["recipes.md"].partition("## Was this you?")[2].partition("\n## ")[0]
    for name in Repeat.__dataclass_fields__:
        assert re.search(rf"\b{name}\b", text), name


async def test_what_the_readme_says_raises_raises_while_the_store_is_down() -> None:
    """And what it does not name raises nothing."""
    (text,) = re.findall(r"All that ask the store raise `BackendError`.*?: (.*?)\. A `forget`", README, re.DOTALL)
    named = set(re.findall(r"`(\w+)`", text))
    calls: dict[str, Callable[[web.Request], Any]] = {
        "remember": lambda request: remember(request, "alice"),
        "revoke": lambda request: aiohttp_persistent_session.revoke(request, "A" * 22),
        "update_data": lambda request: aiohttp_persistent_session.update_data(request, {}),
        **{
            name: getattr(aiohttp_persistent_session, name)
            for name in (
                "forget",
                "forget_everywhere",
                "persistent_sessions",
                "current_persistent_session",
                "is_fresh",
                "confirm_login",
            )
        },
    }
    routes = web.RouteTableDef()

    @routes.get("/call/{name}")
    async def call(request: web.Request) -> web.Response:
        try:
            await calls[request.match_info["name"]](request)
        except BackendError:
            return web.Response(text="raises")
        return web.Response(text="does not")

    backend = FaultyBackend(MemoryBackend())
    raising = set()
    for name in calls:
        backend.heal()
        async with browsing(an_app(routes, backend)) as visitor:
            await visitor.post("/sign-in")
            backend.break_down()
            if (await visitor.get(f"/call/{name}")).text == "raises":
                raising.add(name)
    assert raising == named


def test_every_public_name_is_on_a_page() -> None:
    """A reader who looks for it finds it."""
    everything = "".join(PAGES.values())
    for name in aiohttp_persistent_session.__all__:
        assert re.search(rf"\b{name}\b", everything), name


def test_the_durations_that_no_option_sets_are_those_of_the_code() -> None:
    """Each with its name and value."""
    table = {row[0].strip("`"): float(row[1]) for row in table_after("protocol.md", "The rules")}
    constants = {name: value for name, value in vars(policies).items() if name.isupper() and isinstance(value, float)}
    assert table == constants


def test_the_rules_are_numbered_from_1_to_13() -> None:
    """The code cites these numbers, and no others."""
    text = PAGES["protocol.md"].partition("## The rules")[2].partition("\n## ")[0]
    assert [int(number) for number in re.findall(r"^(\d+)\. ", text, re.M)] == list(range(1, 14))
    cited = re.findall(r"\((\d+(?:, \d+)*)\)", (PACKAGE / "rules.py").read_text())
    assert {int(one) for numbers in cited for one in numbers.split(", ")} <= set(range(1, 14))


def test_the_page_on_the_code_names_every_module() -> None:
    """Once each, and none that is not there."""
    named = [row[0].strip("`") for row in table_after("architecture.md", "Which module decides what")]
    assert sorted(named) == sorted(module_files())


def test_the_page_on_the_code_shows_which_way_imports_run() -> None:
    """Each module stands there once, and imports from lower lines only."""
    text = PAGES["architecture.md"].partition("## Imports run one way")[2].partition("\n## ")[0]
    lines = [line.split() for line in re.findall(r"^    (.*)$", text, re.M)]
    line_of = {module: number for number, modules in enumerate(lines) for module in modules}
    assert sum(map(len, lines)) == len(line_of)
    assert set(line_of) == set(module_files())
    for module, path in module_files().items():
        for imported in imports_of(module, path):
            assert line_of[imported] > line_of[module], f"{module} imports {imported}"


def module_files() -> dict[str, Path]:
    """Return the package's modules by their names in it."""
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    return {name: path for name, path in files.items() if not name.endswith("__init__")}


def imports_of(module: str, path: Path) -> set[str]:
    """Return the package's modules that this one imports."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            origin = [*module.split(".")[: -node.level], *(node.module.split(".") if node.module else [])]
            imported |= {".".join(origin)} if node.module else {".".join([*origin, one.name]) for one in node.names}
    return imported


def test_what_is_installed_is_there() -> None:
    """Each extra that a page names is one of the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    for page, text in PAGES.items():
        named = re.findall(r"aiohttp-persistent-session\[(\w+)\]|pip install \"\.\[(\w+)\]\"|`\[(\w+)\]`", text)
        assert {one for groups in named for one in groups if one} <= extras, page


def test_make_knows_every_target_that_a_page_names() -> None:
    """And CONTRIBUTING.md names all that make's help does but the two that go without saying."""
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):(?!=)", makefile, re.M))
    for page, text in PAGES.items():
        named = {one for groups in re.findall(r"`make ([a-z][\w-]*)|^    make ([\w-]+)", text, re.M) for one in groups}
        assert named - {""} <= targets, page
    helped = set(re.findall(r"^# make ([\w-]+)", makefile, re.M))
    assert helped <= {*re.findall(r"`make ([\w-]+)`", PAGES["CONTRIBUTING.md"]), "format", "clean"}


def test_the_messages_that_the_pages_quote_are_the_codes() -> None:
    """Who greps for one finds it."""
    code = "".join(path.read_text() for path in PACKAGE.glob("*.py"))
    for row in table_after("recipes.md", "What to alert on"):
        assert re.sub(r" …$", "", row[0].strip("`")) in code


def test_links_lead_somewhere() -> None:
    """Each page, and each heading that is named."""
    folders = {name: ROOT if (ROOT / name).exists() else ROOT / "docs" for name in PAGES}
    for page, text in PAGES.items():
        for link in re.findall(r"\]\(([^)]+)\)", text):
            if link.startswith("https://"):
                continue
            path, _, anchor = link.partition("#")
            target = (folders[page] / path).resolve() if path else folders[page] / page
            assert target.exists(), f"{page}: {link}"
            if anchor:
                assert anchor in anchors(target.read_text()), f"{page}: {link}"


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(text: str) -> str:
    """Return a page without its code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_sentence_begins_with_a_word_that_has_to_be_read_twice(page: str) -> None:
    """Subject, verb, object."""
    bad = r"(?:^|[.!?:|] |\n\n|\*\*)(?:Or|Else|Nor|Not|Of|Whoever)\b[^\n]*"
    assert re.findall(bad, prose(PAGES[page])) == []


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_line_of_prose_is_longer_than_120_characters(page: str) -> None:
    """Tables are not broken."""
    assert [line for line in prose(PAGES[page]).splitlines() if len(line) > 120 and not line.startswith("|")] == []


@pytest.mark.parametrize("page", sorted(PAGES))
def test_no_figure_is_left_open(page: str) -> None:
    """A page says what was measured, and not that somebody is to measure it."""
    assert re.findall(r"<!-- figures.*?-->|\(number\)", PAGES[page]) == []
