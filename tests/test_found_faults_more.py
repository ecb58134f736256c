"""Faults that were found in the first version, continued; the table is in test_found_faults.py."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from aiohttp_persistent_session import (
    Backend,
    CookiePolicy,
    MemoryBackend,
    PersistentSessionManager,
    RedisBackend,
    SQLBackend,
    remember,
    setup,
)
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers, comes_back, names
from .faults import FaultyBackend, Gate

Chain = Callable[[web.Request], Awaitable[web.StreamResponse]]


# Planting


def test_planting_is_prevented_by_the_default_name() -> None:
    """The name has the prefix ``__Host-``, which no sibling host can set, wherever the options allow it."""
    assert CookiePolicy().name == "__Host-persistent_session"
    for options in ({"secure": False}, {"path": "/app"}, {"domain": "example.com"}):
        assert CookiePolicy(**options).name == "persistent_session"  # type: ignore[arg-type]  # each is right for one


@pytest.mark.parametrize("planted", ["made up", "malformed", "many"])
@pytest.mark.parametrize("place", ["first", "last"])
async def test_planting_a_second_cookie_switches_nothing_off(
    browser: Browser, clock: Clock, planted: str, place: str
) -> None:
    """Where a neighbour plants a cookie of our name that is nobody's, the visitor's own goes on counting."""
    await browser.sign_in()
    value = {"malformed": "x"}.get(planted, Token.generate().cookie_value)
    values = ["x", "y", "z", value] if planted == "many" else [value]

    def both(*others: str) -> str:
        ordered = [*values, browser.token] if place == "first" else [browser.token, *values]
        return "; ".join([*(f"{TOKEN}={one}" for one in ordered), *others])

    for _ in range(3):
        clock.advance(61)
        live = await browser.get(cookie_header=both(f"{SESSION}={browser.cookies[SESSION]}"))
        assert (live.user, live.token) == ("alice", browser.token)
        assert (await browser.get(cookie_header=both())).user == "alice"
    await browser.post("/logout", cookie_header=both(f"{SESSION}={browser.cookies[SESSION]}"))
    assert await browser.worker.manager.sessions("alice") == []


async def test_planting_an_attackers_own_token_beside_the_visitors_signs_in_as_neither(
    worker: Worker, clock: Clock
) -> None:
    """Where two cookies are both good and no session says which, the visitor is anonymous, and can sign in."""
    visitor, attacker = Browser(worker), Browser(worker)
    await visitor.sign_in("alice")
    await attacker.sign_in("mallory")
    both = f"{TOKEN}={attacker.token}; {TOKEN}={visitor.token}"
    live = await visitor.get(cookie_header=f"{both}; {SESSION}={visitor.cookies[SESSION]}")
    assert (live.user, live.token) == ("alice", visitor.token)
    clock.advance(3)
    assert (await visitor.get(cookie_header=both)).user is None
    assert (await comes_back(visitor, clock)).user == "alice"
    assert (await comes_back(attacker, clock)).user == "mallory"


@pytest.mark.parametrize(
    ("session", "token", "warned"),
    [
        ("Strict", "Lax", True),
        ("Strict", "None", True),
        ("Lax", "None", True),
        (None, "None", True),
        ("Lax", "Strict", True),
        ("Lax", "Lax", False),
        (None, "Lax", False),
        ("strict", "Strict", False),
    ],
)
async def test_planting_a_link_that_restores_over_a_strict_session_is_warned_of(
    workers: Workers, backend: FaultyBackend, session: str | None, token: str, warned: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Where the token's SameSite is not that of the session's cookie, the first request says so, once."""
    storage = aiohttp_session.SimpleCookieStorage(samesite=session)
    browser = Browser(await workers(backend, storage=storage, samesite=token))
    for _ in range(3):
        await browser.get()
    told = [record.getMessage() for record in caplog.records if "SameSite" in record.getMessage()]
    assert len(told) == warned
    assert not warned or token in told[0]


# Inner applications


@pytest.mark.parametrize("where", ["sub-application", "same application"])
async def test_inner_application_that_changes_responses_after_us_is_warned_of_by_name(
    workers: Workers, backend: FaultyBackend, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler of on_response_prepare that could make a response with a token public is named, once."""

    async def makes_public(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Cache-Control"] = "public"

    async def page(_: web.Request) -> web.Response:
        return web.Response()

    def prepare(app: web.Application) -> None:
        inner = web.Application() if where == "sub-application" else app
        inner.on_response_prepare.append(makes_public)
        if inner is not app:
            inner.router.add_get("/", page)
            app.add_subapp("/inner", inner)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.sign_in()
    for _ in range(2):
        browser.end_session()
        await browser.get("/inner/" if where == "sub-application" else "/me")
    assert caplog.text.count("makes_public") == 1


@pytest.mark.parametrize("reads", ["its session", "nothing"])
@pytest.mark.parametrize("visitor", ["anonymous", "live", "restored"])
async def test_inner_application_with_a_session_of_its_own_is_refused_at_the_first_request(
    workers: Workers, backend: FaultyBackend, reads: str, visitor: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two aiohttp-sessions in one request are not mixed: the request fails, and the log says what to do."""

    async def page(request: web.Request) -> web.Response:
        if reads == "its session":
            (await aiohttp_session.get_session(request))["seen"] = 1
        return web.Response()

    def prepare(app: web.Application) -> None:
        inner = web.Application()
        aiohttp_session.setup(inner, aiohttp_session.SimpleCookieStorage(cookie_name="INNER"))
        inner.router.add_get("/", page)
        app.add_subapp("/inner", inner)

    browser = Browser(await workers(backend, prepare=prepare))
    if visitor != "anonymous":
        await browser.sign_in()
    if visitor == "restored":
        browser.end_session()
    assert (await browser.send("GET", "/inner/")).status == 500
    assert "a sub-application has an aiohttp-session of its own" in caplog.text
    assert (await browser.get()).user == (None if visitor == "anonymous" else "alice")


async def test_inner_application_may_have_both_of_its_own(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Two sub-applications that each have a session and a token of their own are apart."""

    async def me(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        return web.json_response({"user": session.get("user")})

    async def login(request: web.Request) -> web.Response:
        await remember(request, str((await request.post())["user"]))
        return web.json_response({})

    root = web.Application()
    for name in ("one", "two"):
        inner = web.Application()
        aiohttp_session.setup(inner, aiohttp_session.SimpleCookieStorage(cookie_name=f"S_{name}"))
        setup(inner, MemoryBackend(), cookie_name=f"T_{name}").clock = clock
        inner.router.add_get("/me", me)
        inner.router.add_post("/login", login)
        root.add_subapp(f"/{name}", inner)
    server = TestServer(root)
    await server.start_server()
    browser = Browser(await workers(backend))
    browser.worker = dataclasses.replace(browser.worker, server=server)
    for name, user in (("one", "alice"), ("two", "bob")):
        assert set((await browser.post(f"/{name}/login", data={"user": user})).cookies) == {f"S_{name}", f"T_{name}"}
    for name in ("one", "two"):
        clock.advance(3)
        del browser.cookies[f"S_{name}"]
        assert (await browser.get("/one/me")).user == "alice"
        assert (await browser.get("/two/me")).user == "bob"
    await server.close()


# Domain or path changed


@pytest.mark.parametrize("old", ["the same value", "the value before", "another sign-in's"])
async def test_domain_or_path_changed_leaves_a_cookie_that_disturbs_nothing(
    browser: Browser, clock: Clock, old: str
) -> None:
    """A renewal, a restore and a sign-in work beside a cookie that is left of the former domain or path."""
    await browser.sign_in()
    left = browser.token
    if old == "the value before":
        assert (await comes_back(browser, clock)).user == "alice"
    elif old == "another sign-in's":
        await browser.sign_in()

    def sent(*others: str) -> str:
        return "; ".join([f"{TOKEN}={left}", f"{TOKEN}={browser.token}", *others])

    for _ in range(4):
        clock.advance(61)
        live = await browser.get(cookie_header=sent(f"{SESSION}={browser.cookies[SESSION]}"))
        assert (live.user, live.token) == ("alice", browser.token)
    restored = await browser.get(cookie_header=sent())
    assert (restored.user, restored.token is None) == ("alice", False)
    await browser.post("/login", data={"user": "bob"}, cookie_header=sent())
    clock.advance(50)
    assert (await browser.get(cookie_header=sent())).user == "bob"
    assert "reuse" not in names(browser.worker)


# Clocks


@pytest.mark.parametrize("back", [11, 3600, DAY])
async def test_clock_set_back_does_not_make_a_race_of_a_copy(browser: Browser, clock: Clock, back: float) -> None:
    """An exchange that seems to lie in the future is no reason to join it: a copy is found out as ever."""
    await browser.sign_in()
    thief = browser.clone()
    thief.end_session()
    assert (await comes_back(browser, clock)).user == "alice"
    clock.advance(-back)
    assert (await browser.get()).user == "alice"
    seen = set()
    for _ in range(60):
        clock.advance(4)
        seen.add((await thief.send("GET", "/me")).token)
        await browser.get()
    assert "reuse" in names(browser.worker)
    assert (await browser.get()).user is None


@pytest.mark.parametrize("ahead", [3600, 23 * 3600])
async def test_clock_that_is_hours_ahead_purges_nothing_that_others_still_use(
    workers: Workers, clock: Clock, ahead: float
) -> None:
    """A worker purges what has expired for a day by its own clock."""
    backend = MemoryBackend()
    worker, fast = await workers(backend, max_age=3600), await workers(backend, max_age=3600)
    fast.manager.clock = lambda: clock() + ahead
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(3599)
    assert await fast.manager.purge() == 0
    assert (await comes_back(browser, clock, 0)).user == "alice"


# User ids


async def test_user_ids_that_an_encoder_makes_texts_are_the_records(workers: Workers, backend: FaultyBackend) -> None:
    """The list, ``revoke`` and ``forget_everywhere`` go by the record's user, whatever became of it in the session."""
    import json

    def encoder(content: dict[str, Any]) -> str:
        session = content.get("session", {})
        return json.dumps(
            content | ({"session": session | {"user": str(session["user"])}} if "user" in session else {})
        )

    worker = await workers(backend, storage=aiohttp_session.SimpleCookieStorage(encoder=encoder))
    browser, other = Browser(worker), Browser(worker)
    await browser.sign_in("7")
    await other.sign_in("7")
    assert (await browser.get()).user == "7"
    assert [one[3] for one in (await browser.get("/devices")).json] == [7, 7]
    assert (await browser.get("/device")).json[1] is True
    assert (await browser.post(f"/revoke/{(await other.get()).json['id']}")).json is True
    assert (await other.get()).user is None
    assert (await browser.post("/logout-everywhere?keep")).json == 1
    assert (await browser.post("/logout-everywhere")).json == 1


# A record that ended meanwhile


@pytest.mark.parametrize("ended", ["revoked here", "revoked elsewhere", "signed out", "reuse"])
async def test_ended_meanwhile_means_that_a_restore_sends_neither_token_nor_session(
    workers: Workers, backend: FaultyBackend, clock: Clock, ended: str
) -> None:
    """A slow page that was restored from a record that is gone by now opens no session."""
    gate = Gate()
    worker, other = await workers(backend, handlers={"/slow": gate.answer}), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    copy = browser.clone()
    clock.advance(3)
    browser.end_session()
    pending = asyncio.create_task(browser.get("/slow"))
    await gate.reached.wait()
    clock.advance(11 if ended == "revoked elsewhere" else 1)
    if ended == "signed out":
        await copy.post("/logout")
    elif ended == "reuse":
        selector = (browser.token or "").split(".")[0]
        await Browser(worker, {TOKEN: f"{selector}.{'A' * 43}"}).get()
    else:
        assert await (worker if ended == "revoked here" else other).manager.revoke_all("alice") == 1
    gate.opened.set()
    assert (await pending).cookies == {}
    assert (await browser.get()).user is None


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("what", ["sign-in", "rotation"])
async def test_ended_meanwhile_means_that_no_other_new_token_is_sent_either(
    workers: Workers, backend: FaultyBackend, clock: Clock, what: str, elsewhere: bool
) -> None:
    """A slow sign-in, or a slow page whose token was rotated, sends nothing of a record that is gone by now."""
    gate = Gate()

    async def slow(request: web.Request) -> web.Response:
        if what == "sign-in":
            await remember(request, "alice")
        await gate()
        return web.Response()

    worker, other = await workers(backend, handlers={"/slow": slow}), await workers(backend)
    browser = Browser(worker)
    if what == "rotation":
        await browser.sign_in()
        clock.advance(DAY + 1)
    pending = asyncio.create_task(browser.get("/slow"))
    await gate.reached.wait()
    clock.advance(11)
    assert await (other if elsewhere else worker).manager.revoke_all("alice") == 1
    gate.opened.set()
    assert (await pending).cookies == {}
    assert (await browser.get()).user is None


# The sign-in without the box


async def for_now(browser: Browser, user: str = "alice") -> Reply:
    reply = await browser.post("/login", data={"user": user, "for_now": "1"})
    assert reply.status == 302
    return reply


async def test_without_the_box_one_users_data_is_not_the_next_ones(browser: Browser) -> None:
    """What the session of one user held is not in the session of whoever signs in after."""
    await for_now(browser, "alice")
    await browser.post("/cart", data={"item": "hers"})
    await for_now(browser, "bob")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("bob", None)
    await browser.post("/logout")
    assert (await browser.get()).json["cart"] is None


async def test_without_the_box_a_sign_in_works_while_the_store_is_down(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """While the store is down an ordinary session is opened, with a warning; a token that was brought is deleted."""
    await browser.sign_in("bob")
    browser.end_session()
    backend.break_down()
    reply = await for_now(browser, "alice")
    assert (reply.token, SESSION in reply.cookies) == ("", True)
    assert "cannot be revoked" in caplog.text
    assert ((await browser.get()).user, TOKEN in browser.cookies) == ("alice", False)
    stranger = Browser(browser.worker)
    assert set((await for_now(stranger)).cookies) == {SESSION}
    backend.heal()
    assert (await browser.get()).user == "alice"


async def test_without_the_box_a_sign_in_is_listed_and_can_be_revoked(worker: Worker) -> None:
    """A sign-in for one browser session counts among the user's browsers, and ends like any other."""
    here, there = Browser(worker), Browser(worker)
    await here.sign_in()
    await for_now(there)
    assert len((await here.get("/devices")).json) == 2
    assert sorted(one.persistent for one in await worker.manager.sessions("alice")) == [False, True]
    assert (await here.post(f"/revoke/{(await there.get()).json['id']}")).json is True
    assert (await there.get()).user is None


async def test_without_the_box_closing_the_browser_signs_out(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The cookie goes when the browser is closed, and a session's cookie with a Max-Age is worth nothing without it."""
    storage = aiohttp_session.SimpleCookieStorage(max_age=30 * DAY)
    browser = Browser(await workers(backend, storage=storage))
    cookie = (await for_now(browser)).cookies[TOKEN]
    assert (cookie["max-age"], cookie["expires"]) == ("", "")
    restored = await comes_back(browser, clock)
    assert restored.user == "alice"
    assert (restored.cookies[TOKEN]["max-age"], restored.cookies[TOKEN]["expires"]) == ("", "")
    assert TOKEN not in (await browser.get()).cookies
    del browser.cookies[TOKEN]
    assert SESSION in browser.cookies
    assert (await browser.get()).user is None


@pytest.mark.parametrize(("away", "user"), [(DAY, "alice"), (DAY + 61, None)])
async def test_without_the_box_a_sign_in_ends_a_day_after_the_last_visit(
    browser: Browser, clock: Clock, away: float, user: str | None
) -> None:
    """A browser that is never closed is signed out when nobody has used it for a day."""
    await for_now(browser)
    for _ in range(5):
        clock.advance(DAY / 2)
        assert (await browser.get()).user == "alice"
    clock.advance(away)
    assert (await browser.get()).user == user


# The package without drivers


WITHOUT_DRIVERS = """
import sys
for name in ("redis", "pymongo", "motor", "sqlalchemy", "aiosqlite", "asyncpg", "bson"):
    sys.modules[name] = None
"""


@pytest.mark.parametrize(
    "code",
    [
        "from aiohttp_persistent_session import *\nassert setup and MemoryBackend and RedisBackend",
        "import aiohttp_persistent_session as package\n"
        "assert all(hasattr(package, name) for name in package.__all__)\n"
        "assert not hasattr(package, 'NoSuchBackend')",
        "import aiohttp_persistent_session as package\n"
        "assert {'RedisBackend', 'MongoBackend', 'SQLBackend'} <= set(dir(package))",
        "import inspect, pydoc\nimport aiohttp_persistent_session as package\n"
        "inspect.getmembers(package)\npydoc.render_doc(package)",
        "import aiohttp_persistent_session as package\n"
        "for name, extra in (('RedisBackend', 'redis'), ('MongoBackend', 'mongo'), ('SQLBackend', 'sql')):\n"
        "    try:\n"
        "        getattr(package, name)('x://')\n"
        "    except ImportError as error:\n"
        "        assert f'aiohttp-persistent-session[{extra}]' in str(error)\n"
        "    else:\n"
        "        raise AssertionError(name)",
    ],
    ids=["import *", "hasattr", "dir", "inspect", "use"],
)
def test_import_works_without_any_driver(code: str) -> None:
    """Looking at the package needs no driver; using a store without its driver says what to install."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DRIVERS + code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# The order of middlewares


@web.middleware
async def asks_for_a_login(request: web.Request, handler: Chain) -> web.StreamResponse:
    if "user" not in await aiohttp_session.get_session(request) and request.path == "/account":
        raise web.HTTPFound("/login")
    return await handler(request)


@web.middleware
async def looks_at_nothing(request: web.Request, handler: Chain) -> web.StreamResponse:
    return await handler(request)


@pytest.mark.parametrize(
    ("middlewares", "warned"),
    [([asks_for_a_login], True), ([looks_at_nothing, asks_for_a_login], True), ([looks_at_nothing], False)],
)
async def test_middleware_order_that_hides_a_restore_is_warned_of_by_name(
    workers: Workers, backend: FaultyBackend, clock: Clock, middlewares: list[Any], warned: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A middleware that reads the session before it is restored is named, once, with what to do."""

    def before_ours(app: web.Application) -> None:
        app.middlewares[1:1] = middlewares

    browser = Browser(await workers(backend, prepare=before_ours))
    await browser.sign_in()
    await browser.get()
    assert "asks_for_a_login" not in caplog.text
    for _ in range(2):
        await comes_back(browser, clock)
    told = [record.getMessage() for record in caplog.records if "before it could be restored" in record.getMessage()]
    assert len(told) == warned
    assert not warned or "asks_for_a_login" in told[0]
    assert not warned or "setup()" in told[0]


async def test_middleware_order_that_is_right_is_not_warned_of(
    workers: Workers, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """An auth middleware after ours sees whoever is restored."""
    browser = Browser(await workers(backend, middlewares=[asks_for_a_login]))
    await browser.sign_in()
    clock.advance(3)
    browser.end_session()
    assert (await browser.get("/account")).status == 404
    assert caplog.text == ""


# A manager that is not open


def not_open(kind: str, tmp_path: Path) -> Backend:
    if kind == "redis":
        return RedisBackend("redis://127.0.0.1:1/0")
    if kind == "sql":
        return SQLBackend(f"sqlite:///{tmp_path / 'records.db'}")
    if kind == "mongodb":
        from aiohttp_persistent_session import MongoBackend

        return MongoBackend("mongodb://127.0.0.1:1/app")
    return MemoryBackend()


@pytest.fixture
def calls() -> list[Callable[[PersistentSessionManager], Awaitable[object]]]:
    return [
        lambda manager: manager.sessions("alice"),
        lambda manager: manager.get("A" * 22),
        lambda manager: manager.revoke("A" * 22),
        lambda manager: manager.revoke_all("alice"),
        lambda manager: manager.purge(),
    ]


@pytest.mark.parametrize("kind", ["memory", "sql", "redis", "mongodb"])
async def test_manager_that_is_not_open_says_so_on_every_store(
    kind: str, tmp_path: Path, calls: list[Callable[[PersistentSessionManager], Awaitable[object]]],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A manager that is used outside ``async with`` says what is wrong, whatever the store, and reports no outage."""
    manager = PersistentSessionManager(not_open(kind, tmp_path))
    for call in calls:
        with pytest.raises(RuntimeError, match="async with"):
            await call(manager)
    assert caplog.text == ""


async def test_manager_that_is_not_open_any_more_says_so(
    calls: list[Callable[[PersistentSessionManager], Awaitable[object]]],
) -> None:
    """After it was closed, a manager is not open either; opened again, it works."""
    manager = PersistentSessionManager(MemoryBackend())
    async with manager:
        pass
    for call in calls:
        with pytest.raises(RuntimeError, match="async with"):
            await call(manager)
    async with manager:
        for call in calls:
            await call(manager)


# Messages


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("max_age", 43_200_000, "500 days"),
        ("max_age", timedelta(days=401), "at most 400 days"),
        ("grace_period", 10_000, "at most 1 hour"),
        ("timeout", 2000, "at most 5 minutes"),
        ("rotate_interval", 1.5, "1.5 s"),
        ("check_interval", 31 * DAY, "must not exceed max_age (30 days)"),
        ("browser_session_max_age", 0, "at least 1 s"),
        ("max_lifetime", float("inf"), "max_lifetime"),
    ],
)
def test_message_about_a_duration_is_in_words_and_names_the_option(option: str, value: Any, words: str) -> None:
    """A duration that is out of range is told as a person says it, with the option's name."""
    with pytest.raises(ValueError, match=option) as told:
        setup(web.Application(), MemoryBackend(), **{option: value})
    assert words in str(told.value)
    assert "e+" not in str(told.value)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://localhost/x", "the database is no number"),
        ("redis://localhost:port/0", "the port is no number"),
        ("redis://:pass/word@localhost/0", "percent-encode"),
        ("redis://localhost/0?no_such_option=1", "no_such_option"),
        ("http://localhost", "redis://"),
    ],
)
def test_message_about_a_redis_url_tells_the_cause_and_no_password(url: str, cause: str) -> None:
    """A URL that cannot be used says why, without quoting what may be a password."""
    with pytest.raises(ValueError, match="RedisBackend") as told:
        RedisBackend(url)
    assert cause in str(told.value)
    assert "word" not in str(told.value).replace("password", "")


@pytest.mark.parametrize("user", [{"id": 1}, ["alice"], 1.5, True], ids=str)
async def test_message_about_a_session_that_holds_no_users_id_names_session_key(
    workers: Workers, backend: FaultyBackend, user: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Where an app keeps something else under session_key, what fails names the option."""

    async def login(request: web.Request) -> web.Response:
        (await aiohttp_session.new_session(request))["account"] = user
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/own": login}, session_key="account"))
    await browser.get("/own")
    assert (await browser.get("/devices")).status == 500
    assert "session_key" in caplog.text
