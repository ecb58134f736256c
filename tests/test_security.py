"""aiohttp-security over persistent sessions, with the flows of its own demos."""

from __future__ import annotations

import builtins
import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import aiohttp_security
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy

from aiohttp_persistent_session import BackendError, MemoryBackend, forget_everywhere, persistent_sessions, setup
from aiohttp_persistent_session import remember as remember_by_ourselves
from aiohttp_persistent_session.security import PersistentSessionIdentityPolicy
from aiohttp_persistent_session.testing import Browser as AppBrowser

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Workers, comes_back
from .faults import FaultyBackend
from .test_session_storages import storage  # noqa: F401 -- a fixture

PERMISSIONS = {"alice": {"public"}, "admin": {"public", "protected"}, "42": {"public"}}


class Authorization(AbstractAuthorizationPolicy):
    """Knows three users and what they may do."""

    async def authorized_userid(self, identity: str) -> str | None:
        assert isinstance(identity, str)
        return identity if identity in PERMISSIONS else None

    async def permits(self, identity: str | None, permission: Any, context: Any = None) -> bool:
        return identity is not None and permission in PERMISSIONS.get(identity, ())


async def login(request: web.Request) -> web.Response:
    form = await request.post()
    response = web.HTTPFound("/whoami")
    options: dict[str, Any] = {"persistent": False} if "for_now" in form else {}
    if "data" in form:
        options["data"] = json.loads(str(form["data"]))
    try:
        await aiohttp_security.remember(request, response, str(form["user"]), **options)
    except BackendError:
        return web.Response(status=503)
    if "another" in form:
        return web.Response(text="another response than was passed")
    raise response


async def logout(request: web.Request) -> web.Response:
    response = web.Response(text="out")
    try:
        await aiohttp_security.forget(request, response)
    except BackendError:
        return web.Response(status=503)
    return response


async def whoami(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "user": await aiohttp_security.authorized_userid(request),
            "anonymous": await aiohttp_security.is_anonymous(request),
            "devices": [one.user for one in await persistent_sessions(request)],
        }
    )


async def members(request: web.Request) -> web.Response:
    return web.json_response(await aiohttp_security.check_authorized(request))


async def protected(request: web.Request) -> web.Response:
    await aiohttp_security.check_permission(request, "protected")
    return web.json_response("inside")


async def out_everywhere(request: web.Request) -> web.Response:
    return web.json_response(await forget_everywhere(request))


HANDLERS = {
    "/sign-in": login,
    "/sign-out": logout,
    "/whoami": whoami,
    "/members": members,
    "/protected": protected,
    "/out-everywhere": out_everywhere,
}


def secured(app: web.Application, **options: Any) -> None:
    aiohttp_security.setup(app, PersistentSessionIdentityPolicy(**options), Authorization())


async def signs_in(browser: Browser, user: str = "alice", **form: str) -> None:
    reply = await browser.post("/sign-in", data={"user": user} | form)
    assert reply.status == 302


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    return Browser(await workers(backend, handlers=HANDLERS, prepare=secured))


async def test_the_whole_way_works_over_every_session_storage(
    workers: Workers,
    backend: FaultyBackend,
    clock: Clock,
    storage: aiohttp_session.AbstractStorage,  # noqa: F811 -- the fixture
) -> None:
    """Anonymous, signed in, restored, permitted or not, signed out."""
    browser = Browser(await workers(backend, handlers=HANDLERS, prepare=secured, storage=storage))
    assert (await browser.get("/members")).status == 401
    assert (await browser.get("/whoami")).json == {"user": None, "anonymous": True, "devices": []}
    await signs_in(browser)
    for _ in range(2):
        assert (await browser.get("/whoami")).json == {"user": "alice", "anonymous": False, "devices": ["alice"]}
        assert (await browser.get("/members")).json == "alice"
        assert (await browser.get("/protected")).status == 403
        await comes_back(browser, clock)
    await browser.post("/sign-out")
    assert (await browser.get("/protected")).status == 401
    await comes_back(browser, clock)
    assert (await browser.get("/members")).status == 401


async def test_check_permission_lets_in_who_may(browser: Browser, clock: Clock) -> None:
    await signs_in(browser, "admin")
    await comes_back(browser, clock)
    assert (await browser.get("/protected")).json == "inside"


async def test_who_is_unknown_to_the_authorization_policy_gets_nowhere(browser: Browser) -> None:
    """The identity is there, and no user stands behind it."""
    await signs_in(browser, "gone")
    assert (await browser.get("/whoami")).json["user"] is None
    assert (await browser.get("/members")).status == 401


async def test_forget_ends_the_token_too(browser: Browser, clock: Clock) -> None:
    """A copy of it, taken before, is worth nothing."""
    await signs_in(browser)
    copy = browser.clone()
    reply = await browser.post("/sign-out")
    assert reply.token == ""
    assert (await comes_back(copy, clock)).user is None


async def test_persistent_false_lasts_until_the_browser_is_closed(browser: Browser) -> None:
    reply = await browser.post("/sign-in", data={"user": "alice", "for_now": "1"})
    assert not reply.cookies[TOKEN]["max-age"]


async def test_options_reach_the_record(browser: Browser, backend: FaultyBackend) -> None:
    await signs_in(browser, data='{"version": 3}')
    (record,) = await backend.of_user("alice", 10)
    assert record.data == '{"version":3}'


async def test_the_cookies_come_with_another_response_than_was_passed(browser: Browser, clock: Clock) -> None:
    assert (await browser.post("/sign-in", data={"user": "alice", "another": "1"})).token
    assert (await comes_back(browser, clock)).user == "alice"


async def test_aiohttp_security_236_forget_everywhere(browser: Browser, clock: Clock) -> None:
    """Sign out of all browsers: open there since 2019."""
    other = browser.clone()
    await signs_in(browser)
    await signs_in(other)
    assert (await browser.post("/out-everywhere")).json == 2
    clock.advance(61)
    for one in (browser, other):
        assert (await one.get("/members")).status == 401
        assert (await comes_back(one, clock)).user is None


async def test_aiohttp_security_473_a_new_session_at_sign_in(
    workers: Workers,
    backend: FaultyBackend,
    storage: aiohttp_session.AbstractStorage,  # noqa: F811 -- the fixture
) -> None:
    """An attacker who planted the anonymous session gets nothing: its key is not the one of the signed-in session."""
    browser = Browser(await workers(backend, handlers=HANDLERS, prepare=secured, storage=storage))
    await browser.post("/cart", data={"item": "book"})
    attacker = browser.clone()
    await signs_in(browser)
    assert browser.cookies[SESSION] != attacker.cookies[SESSION]
    assert (await browser.get()).json["cart"] == "book"
    assert (await attacker.get("/whoami")).json["anonymous"] is True


async def test_user_ids_that_are_numbers(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """The record holds the number; aiohttp-security sees text."""
    browser = Browser(await workers(backend, handlers=HANDLERS, prepare=lambda app: secured(app, user_type=int)))
    await signs_in(browser, "42")
    await comes_back(browser, clock)
    assert (await browser.get("/whoami")).json == {"user": "42", "anonymous": False, "devices": [42]}
    assert (await browser.post("/sign-in", data={"user": "alice"})).status == 500
    assert (await browser.get("/whoami")).json["user"] == "42"
    (record,) = await backend.of_user(42, 10)
    assert record.user == 42


async def test_our_own_remember_is_seen_by_aiohttp_security(workers: Workers, backend: FaultyBackend) -> None:
    """Also with a number, for which its own takes none."""

    async def sign_in(request: web.Request) -> web.Response:
        await remember_by_ourselves(request, 42)
        return web.Response()

    browser = Browser(await workers(backend, handlers=HANDLERS | {"/number": sign_in}, prepare=secured))
    await browser.post("/number")
    assert (await browser.get("/members")).json == "42"


async def test_while_the_store_is_down(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    """Nobody is remembered; a sign-out deletes the cookies all the same."""
    await signs_in(browser)
    backend.break_down()
    assert (await browser.get("/members")).json == "alice"
    other = Browser(browser.worker)
    assert (await other.post("/sign-in", data={"user": "admin"})).status == 503
    assert (await other.get("/members")).status == 401
    reply = await browser.post("/sign-out")
    assert (reply.status, reply.token) == (503, "")
    backend.heal()
    assert (await browser.get("/members")).status == 401
    await comes_back(browser, clock, DAY)
    assert (await browser.get("/members")).status == 401


@pytest.mark.parametrize("key", ["AIOHTTP_SECURITY", "user"])
async def test_sessions_that_its_session_policy_opened_go_on_under_its_key(
    workers: Workers, backend: FaultyBackend, key: str
) -> None:
    """After the change of one line, with the same session key."""

    async def before(request: web.Request) -> web.Response:
        policy = aiohttp_security.SessionIdentityPolicy()
        await policy.remember(request, web.Response(), "alice")
        return web.Response()

    browser = Browser(await workers(backend, handlers=HANDLERS | {"/before": before}, prepare=secured, session_key=key))
    await browser.post("/before")
    assert (await browser.get("/members")).status == (200 if key == "AIOHTTP_SECURITY" else 401)


async def test_it_says_where_setup_is_missing() -> None:
    """The same words as the library's own functions."""
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    secured(app)

    async def ask(request: web.Request) -> web.Response:
        with pytest.raises(RuntimeError, match="is not set up for this request"):
            await aiohttp_security.authorized_userid(request)
        return web.Response()

    app.router.add_get("/", ask)
    from aiohttp.test_utils import TestClient, TestServer

    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 200


def test_user_type_is_str_or_int() -> None:
    with pytest.raises(TypeError, match="user_type"):
        PersistentSessionIdentityPolicy(user_type=float)  # type: ignore[arg-type]  # the mistake


def test_without_aiohttp_security_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("aiohttp_security"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "aiohttp_persistent_session.security")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"aiohttp-persistent-session\[security\]"):
        importlib.import_module("aiohttp_persistent_session.security")


# docs/aiohttp-security.md


async def test_the_app_of_the_page_works_as_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp-security.md: sign in with the box, come back, be refused, sign out everywhere."""
    page = (Path(__file__).parent.parent / "docs" / "aiohttp-security.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

    async def password_is_right(name: str, password: str) -> bool:
        return password == "secret"

    myapp = ModuleType("myapp")
    vars(myapp).update(AuthorizationPolicy=Authorization, password_is_right=password_is_right)
    monkeypatch.setitem(sys.modules, "myapp", myapp)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "aiohttp-security.md", "exec"), names)
    async with AppBrowser(SimpleNamespace(**names).create_app()) as browser:
        assert (await browser.get("/")).status == 401
        form = {"name": "alice", "password": "secret", "keep": "on"}
        assert (await browser.post("/login", data=form | {"password": "wrong"})).status == 403
        assert await (await browser.post("/login", data=form)).text() == "Hello, alice"
        browser.come_back(after=DAY)
        assert await (await browser.get("/")).text() == "Hello, alice"
        assert (await browser.get("/admin")).status == 403
        assert await (await browser.post("/logout-everywhere")).text() == "1 browsers are signed out"
        browser.come_back(after=DAY)
        assert (await browser.get("/")).status == 401


def test_both_set_ups_are_needed_in_any_order() -> None:
    """aiohttp-security keeps its policy in the app, and asks it at each request only."""
    app = web.Application()
    secured(app)
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    assert setup(app, MemoryBackend())
