"""What users of other libraries complain of in 2026, a named test each; test_peers.py has the older complaints.

redis-py#722 (a connection that is a black hole) is in test_processes.py, since it takes a real server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, current_persistent_session, is_fresh

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers, comes_back, names
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")

Chain = Callable[[web.Request], Awaitable[web.StreamResponse]]


# A middleware hands on something else than the request that it was given


@pytest.mark.parametrize("changes", [{}, {"remote": "192.0.2.7"}, {"scheme": "https", "host": "example.org"}], ids=str)
async def test_aiohttp_2593_a_middleware_that_passes_on_a_clone(
    workers: Workers, backend: FaultyBackend, clock: Clock, changes: dict[str, Any]
) -> None:
    """Behind a middleware that passes on a clone, as aiohttp-remotes does, sign-in, restore and sign-out work."""

    @web.middleware
    async def passes_on_a_clone(request: web.Request, handler: Chain) -> web.StreamResponse:
        return await handler(request.clone(**changes))

    browser = Browser(await workers(backend, middlewares=[passes_on_a_clone]))
    assert {TOKEN, SESSION} <= set((await browser.sign_in()).cookies)
    assert (await browser.get()).json["fresh"] is True
    back = await comes_back(browser, clock)
    assert (back.user, set(back.cookies)) == ("alice", {TOKEN, SESSION})
    assert (await browser.get()).user == "alice"
    assert (await browser.post("/logout")).token == ""
    assert (await browser.get()).user is None


@pytest.mark.parametrize("first", ["the request", "a clone"])
@pytest.mark.parametrize("second", ["the request", "a clone"])
async def test_aiohttp_3097_a_middleware_that_calls_the_chain_twice(
    workers: Workers, backend: FaultyBackend, clock: Clock, first: str, second: str
) -> None:
    """The second run goes on with what the first one restored; aiohttp#2171, #2284 and #3020 are of this kind."""

    @web.middleware
    async def calls_twice(request: web.Request, handler: Chain) -> web.StreamResponse:
        if request.method == "GET":
            await handler(request.clone() if first == "a clone" else request)
            request = request.clone() if second == "a clone" else request
        return await handler(request)

    def outermost(app: web.Application) -> None:
        app.middlewares.insert(0, calls_twice)

    for where in ({"middlewares": [calls_twice]}, {"prepare": outermost}):
        worker = await workers(backend, **where)
        browser = Browser(worker)
        await browser.sign_in()
        back = await comes_back(browser, clock)
        assert (back.user, set(back.cookies)) == ("alice", {TOKEN, SESSION})
        assert names(worker) == ["remember", "restore"]
        assert (await browser.get()).user == "alice"
        assert (await comes_back(browser, clock)).user == "alice"


# The new token does not reach the browser's disk


LOST = {
    "redon2/strapi-plugin-refresh-token 11": 20,
    "Macro-Deck 815": 120,
    "zitadel 9631": 8 * 3600,
    "audiobookshelf 5376": 7 * DAY,
    "indigo-iam 765": 29 * DAY,
}


@pytest.mark.parametrize("after", LOST.values(), ids=LOST)
async def test_zitadel_9631_the_answer_with_the_new_token_is_lost(browser: Browser, clock: Clock, after: float) -> None:
    """However much later the browser comes again with the token before, it is signed in, and the app is told once."""
    await browser.sign_in()
    browser.end_session()
    lost = await browser.send("GET", "/me")
    assert {TOKEN, SESSION} <= set(lost.cookies)
    clock.advance(after)
    assert (await browser.get()).user == "alice"
    assert (await browser.get()).user == "alice"
    clock.advance(91)
    assert (await browser.get()).user == "alice"
    assert (await comes_back(browser, clock)).user == "alice"
    assert names(browser.worker) == ["remember", "restore", "repeat", "restore", "restore"]


async def test_zitadel_9631_one_answer_after_the_other_is_lost(browser: Browser, clock: Clock) -> None:
    """A phone at the edge of its network, which gets no answer for hours, is signed in when it gets one."""
    await browser.sign_in()
    browser.end_session()
    for after in (1, 3, 10, 30, 60, 100, 3600) * 5:
        clock.advance(after)
        assert (await browser.send("GET", "/me")).user == "alice"
    assert (await browser.get()).user == "alice"
    assert (await comes_back(browser, clock)).user == "alice"
    assert not {"reuse", "revoke"} & set(names(browser.worker))


async def test_zitadel_9631_the_answer_with_a_rotated_token_is_lost(browser: Browser, clock: Clock) -> None:
    """A live session whose new token got lost goes on with the one before, and gets another one later."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    assert (await browser.send("GET", "/me")).token not in (None, browser.token)
    for after in (1, 30, 3600, DAY):
        clock.advance(after)
        assert (await browser.get()).user == "alice"
    assert (await comes_back(browser, clock)).user == "alice"
    assert "reuse" not in names(browser.worker)


@pytest.mark.parametrize("keeps", ["the session's cookie too", "the token alone"])
@pytest.mark.parametrize("seconds", [1, 29])
async def test_react_native_webview_1509_the_app_is_killed_before_its_cookies_reach_the_disk(
    browser: Browser, clock: Clock, keeps: str, seconds: float
) -> None:
    """An app that is killed again and again, and is left with older cookies each time, stays signed in."""
    await browser.sign_in()
    for pause in (0, 5, 40, 3600, 0, 3 * DAY) * 2:
        on_disk = dict(browser.cookies)
        if keeps == "the token alone":
            browser.end_session()
        clock.advance(pause)
        assert (await browser.get()).user == "alice"
        clock.advance(seconds)
        assert (await browser.get()).user == "alice"
        browser.cookies = on_disk
    clock.advance(60)
    assert (await browser.get()).user == "alice"
    clock.advance(91)
    assert (await comes_back(browser, clock)).user == "alice"
    assert not {"reuse", "revoke"} & set(names(browser.worker))


async def test_turbo_android_150_the_cookies_of_one_web_view_are_not_yet_the_other_ones(
    browser: Browser, clock: Clock
) -> None:
    """Two views that share a sign-in, and see each other's cookies half a minute late, are signed in both."""
    await browser.sign_in()
    browser.end_session()
    views = [browser.clone(), browser.clone()]
    for turn in range(40):
        clock.advance(7)
        view = views[turn % 2]
        assert (await view.get()).user == "alice"
        if turn % 4 == 3:
            views[(turn + 1) % 2].cookies = dict(view.cookies)
    assert "reuse" not in names(browser.worker)


def drops_all(browser: Browser, reply: Reply) -> None:
    pass


def drops_the_token(browser: Browser, reply: Reply) -> None:
    if SESSION in reply.cookies:
        browser.cookies[SESSION] = reply.cookies[SESSION].coded_value


def drops_the_session(browser: Browser, reply: Reply) -> None:
    if TOKEN in reply.cookies:
        browser.cookies[TOKEN] = reply.cookies[TOKEN].coded_value


def takes_the_first_field_only(browser: Browser, reply: Reply) -> None:
    for name in list(reply.cookies)[:1]:
        browser.cookies[name] = reply.cookies[name].coded_value


@pytest.mark.parametrize(
    "takes",
    [
        pytest.param(drops_all, id="bitly/oauth2_proxy 391: drops all"),
        pytest.param(drops_the_token, id="xbmc 7888: drops one"),
        pytest.param(drops_the_session, id="supabase/auth-helpers 691: drops the other"),
        pytest.param(takes_the_first_field_only, id="nginx auth_request: takes the first"),
    ],
)
@pytest.mark.parametrize("pause", [0.5, 5, 31])
async def test_oauth2_proxy_391_a_client_that_drops_set_cookie(
    browser: Browser, clock: Clock, backend: FaultyBackend, takes: Callable[[Browser, Reply], None], pause: float
) -> None:
    """A client that loses cookies on their way is signed in at each request, and its record stays small."""
    await browser.sign_in()
    browser.end_session()
    for _ in range(70):
        clock.advance(pause)
        reply = await browser.send("GET", "/me")
        assert reply.user == "alice"
        takes(browser, reply)
    assert not {"reuse", "revoke"} & set(names(browser.worker))
    assert len((await backend.of_user("alice", 9))[0].secrets) <= 64


async def test_oauth2_proxy_391_a_live_client_that_drops_set_cookie_does_not_write_at_each_request(
    browser: Browser, clock: Clock, backend: FaultyBackend
) -> None:
    """A client with a session that ignores its rotated token costs no write at each request."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    backend.calls.clear()
    for _ in range(300):
        assert (await browser.send("GET", "/me")).user == "alice"
        clock.advance(1)
    # One for each rotation, of which there is one in ``grace_period`` at most, and one as each of them settles.
    assert backend.calls["replace"] <= 2 * 300 / 10
    assert backend.calls["get"] <= 2 * 300 / 10 + 5


# Static files, sub-applications, deployments


@pytest.mark.parametrize("issue", ["vercel/next.js 35906", "nestjs/nest 2044"])
async def test_next_js_35906_protected_static_files_beside_the_session_middleware(
    workers: Workers, backend: FaultyBackend, clock: Clock, tmp_path: Path, issue: str
) -> None:
    """A static file is protected as a page is: for the visitor who is restored, and against the one who was revoked."""
    (tmp_path / "plan.txt").write_text("secret")

    @web.middleware
    async def for_users(request: web.Request, handler: Chain) -> web.StreamResponse:
        session = await aiohttp_session.get_session(request)
        if "user" not in session and request.path.startswith("/static"):
            raise web.HTTPForbidden
        await is_fresh(request)
        await current_persistent_session(request)
        return await handler(request)

    def add_static(app: web.Application) -> None:
        app.router.add_static("/static", tmp_path)

    worker, other = await workers(backend, middlewares=[for_users], prepare=add_static), await workers(backend)
    browser = Browser(worker)
    assert (await browser.get("/static/plan.txt")).status == 403
    await browser.sign_in()
    assert (await browser.get("/static/plan.txt")).text == "secret"
    if issue == "nestjs/nest 2044":
        clock.advance(3)
        browser.end_session()
    reply = await browser.get("/static/plan.txt")
    assert (reply.text, reply.cookies, reply.headers.get("Cache-Control")) == ("secret", {}, None)
    await other.manager.revoke_all("alice")
    clock.advance(61)
    assert (await browser.get("/static/plan.txt")).status == 403


@pytest.mark.parametrize(
    "option", [{"max_age": DAY}, {"max_lifetime": DAY}, {"browser_session_max_age": 3600}], ids=str
)
@pytest.mark.parametrize("session", ["live", "closed"])
async def test_flarum_2659_limits_tightened_by_a_deployment_bind_old_records(
    workers: Workers, backend: FaultyBackend, clock: Clock, option: dict[str, float], session: str
) -> None:
    """After a deployment with a shorter limit, what is beyond it is over at the first request."""
    before, for_now = await workers(backend), "browser_session_max_age" in option
    browser = Browser(before)
    await browser.post("/login", data={"user": "alice"} | ({"for_now": "1"} if for_now else {}))
    clock.advance(DAY - 1)
    assert (await browser.get()).user == "alice"
    clock.advance(2 if "max_lifetime" in option else 12 * 3600 if for_now else 10 * DAY)
    if session == "closed":
        browser.end_session()
    browser.worker = await workers(backend, **option)
    reply = await browser.get()
    assert (reply.user, reply.token) == (None, None)
    assert await browser.worker.manager.sessions("alice") == []


@pytest.mark.parametrize("sent", ["the old cookie first", "the old cookie last"])
@pytest.mark.parametrize("old", ["equal", "spent", "dropped", "signed out", "malformed"])
async def test_forem_10169_domain_or_path_of_the_cookie_was_changed(
    browser: Browser, clock: Clock, sent: str, old: str
) -> None:
    """A cookie that a browser keeps under a former domain or path disturbs neither a restore nor a live session."""
    await browser.sign_in()
    left = browser.token or ""
    if old == "spent":
        assert (await comes_back(browser, clock)).user == "alice"
    elif old == "dropped":
        assert (await comes_back(browser, clock)).user == "alice"
        clock.advance(100)
        assert (await browser.get()).user == "alice"
    elif old == "signed out":
        await browser.post("/logout")
        await browser.sign_in()
    elif old == "malformed":
        left = "x"

    def both(*others: str) -> str:
        first, last = (left, browser.token) if sent == "the old cookie first" else (browser.token, left)
        return "; ".join([f"{TOKEN}={first}", f"{TOKEN}={last}", *others])

    for _ in range(3):
        clock.advance(61)
        live = await browser.get(cookie_header=both(f"{SESSION}={browser.cookies[SESSION]}"))
        assert (live.user, live.token) == ("alice", browser.token)
        back = await browser.get(cookie_header=both())
        assert back.user == "alice"
        assert back.token
    assert "reuse" not in names(browser.worker)


async def test_tinyauth_155_two_installations_on_one_host(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Where one's cookie reaches the other, each finds its own record, and ends nothing of the other's."""
    here, there = Browser(await workers(backend)), Browser(await workers(MemoryBackend()))
    await here.sign_in("alice")
    await there.sign_in("bob")
    for one, other in ((here, there), (there, here)):
        for first, last in ((one, other), (other, one)):
            clock.advance(11)
            reply = await one.get(cookie_header=f"{TOKEN}={first.token}; {TOKEN}={last.token}")
            assert reply.user == ("alice" if one is here else "bob")
            assert reply.token
    await here.post("/logout", cookie_header=f"{TOKEN}={there.token}; {TOKEN}={here.token}")
    assert (await comes_back(there, clock)).user == "bob"


@pytest.mark.parametrize("issue", ["starlette 1261", "aiohttp 2454", "aiohttp 1853"])
async def test_starlette_1261_a_sub_application_with_a_session_of_its_own(
    workers: Workers, backend: FaultyBackend, clock: Clock, issue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Two sessions in one request are refused with a message that says what to do; one that is shared works."""

    async def page(request: web.Request) -> web.Response:
        if issue == "starlette 1261":
            return web.json_response((await aiohttp_session.get_session(request)).get("user"))
        return web.json_response(issue == "aiohttp 2454" and await is_fresh(request))

    def add(app: web.Application) -> None:
        for path, has_its_own in (("/shared", False), ("/own", True)):
            inner = web.Application()
            if has_its_own:
                aiohttp_session.setup(inner, aiohttp_session.SimpleCookieStorage(cookie_name="INNER"))
            inner.router.add_get("/", page)
            app.add_subapp(path, inner)

    browser = Browser(await workers(backend, prepare=add))
    await browser.sign_in()
    browser.end_session()
    shared = await browser.get("/shared/")
    assert (shared.status, TOKEN in shared.cookies) == (200, True)
    assert (await browser.get("/own/")).status == 500
    assert "sub-application" in caplog.text
    assert "set up aiohttp_session on the outermost application alone" in caplog.text
    assert (await browser.get()).user == "alice"


# Clocks, types, late answers


@pytest.mark.parametrize("back", [5, 60, 3600, 20 * DAY])
@pytest.mark.parametrize("when", ["after the sign-in", "after an exchange", "while live"])
async def test_keycloak_7036_clock_set_back(browser: Browser, clock: Clock, back: float, when: str) -> None:
    """A clock that was wrong and is set right logs nobody out, and hides no copy for as long as it was wrong."""
    await browser.sign_in()
    thief = browser.clone()
    thief.end_session()
    if when == "after an exchange":
        assert (await comes_back(browser, clock)).user == "alice"
    clock.advance(-back)
    if when != "while live":
        assert (await comes_back(browser, clock)).user == "alice"
    for _ in range(4):
        clock.advance(61)
        assert (await browser.get()).user == "alice"
    assert (await comes_back(browser, clock)).user == "alice"
    for _ in range(3):
        clock.advance(61)
        await thief.send("GET", "/me")
        await browser.get()
    assert "reuse" in names(browser.worker)


@pytest.mark.parametrize("off", [-7200, -5, 5, 7200])
async def test_croct_cli_15_the_clocks_of_two_workers_differ(
    workers: Workers, backend: FaultyBackend, clock: Clock, off: float
) -> None:
    """A browser that talks now to a worker whose clock is right and now to one whose clock is off stays signed in."""
    pool = [await workers(backend), await workers(backend)]
    pool[1].manager.clock = lambda: clock() + off
    browser = Browser(pool[0])
    await browser.sign_in()
    for turn, after in enumerate([3, 20, 61, 100, 3600, DAY] * 4):
        browser.worker = pool[turn % 3 % 2]
        clock.advance(after)
        if turn % 2:
            browser.end_session()
        assert (await browser.get()).user == "alice"
    assert not {"reuse", "revoke"} & {*names(pool[0]), *names(pool[1])}


async def test_wp1_783_types_of_user_ids(worker: Worker) -> None:
    """A provider that turns ids from numbers to texts makes other users of them: nobody sees another one's browsers."""

    async def sign_in(user: str | int) -> Browser:
        browser = Browser(worker)
        await browser.sign_in(str(user) if isinstance(user, int) else user)
        return browser

    number = await sign_in(42)
    assert (await number.get()).user == 42
    assert await worker.manager.sessions("42") == []
    assert await worker.manager.revoke_all("42") == 0
    assert [one.user for one in await worker.manager.sessions(42)] == [42]
    assert await worker.manager.revoke_all(42) == 1


async def test_wp1_783_an_encoder_that_makes_numbers_texts(workers: Workers, backend: FaultyBackend) -> None:
    """Where the session's encoder makes a text of the user's number, listing and revoking go by the record's user."""

    def to_texts(content: Any) -> str:
        return json.dumps(
            {"session": {key: str(value) for key, value in content.get("session", {}).items()}}
            | {key: value for key, value in content.items() if key != "session"}
        )

    storage = aiohttp_session.SimpleCookieStorage(encoder=to_texts)
    worker = await workers(backend, storage=storage)
    browser, other = Browser(worker), Browser(worker)
    await browser.sign_in("42")
    await other.sign_in("42")
    assert (await browser.get()).user == "42"
    assert len((await browser.get("/devices")).json) == 2
    id = (await other.get()).json["id"]
    assert (await browser.post(f"/revoke/{id}")).json is True
    assert (await browser.post("/logout-everywhere")).json == 1


@pytest.mark.parametrize("first", ["live", "restored"])
@pytest.mark.parametrize("changes", ["the session", "nothing"])
async def test_cforum_ex_1580_the_late_response_of_the_former_user(
    workers: Workers, backend: FaultyBackend, clock: Clock, first: str, changes: str
) -> None:
    """A slow page of Alice's that is answered after Bob has signed in does not make the browser hers again."""
    gate = Gate()

    async def slow(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        await gate()
        if changes == "the session":
            session["cart"] = "hers"
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": slow}))
    await browser.sign_in("alice")
    if first == "restored":
        clock.advance(3)
        browser.end_session()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(20)
    await browser.sign_in("bob")
    token = browser.token
    gate.opened.set()
    browser.take(await pending)
    assert browser.token == token
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("bob", None)


@pytest.mark.parametrize("after", [1, 5])
async def test_next_auth_8897_a_late_response_does_not_put_an_old_cookie_back(
    workers: Workers, backend: FaultyBackend, clock: Clock, after: float
) -> None:
    """A page that was asked for before the token was rotated leaves the new one in the browser."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    clock.advance(DAY - 30)
    assert (await browser.get()).token == browser.token
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(59 + after)
    rotated = await browser.get()
    assert rotated.token not in (None, "")
    newest = browser.token
    gate.opened.set()
    browser.take(await pending)
    assert browser.token == newest
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("after", [1, 5])
async def test_next_auth_2071_a_late_response_does_not_undo_a_sign_out(
    workers: Workers, backend: FaultyBackend, clock: Clock, after: float
) -> None:
    """A poll that is answered after the sign-out sets neither cookie, and neither would be worth anything."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    copy = browser.clone()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(after)
    await browser.post("/logout")
    gate.opened.set()
    assert (await pending).cookies == {}
    assert (await copy.get()).user is None
