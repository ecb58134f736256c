"""aiohttp-security over persistent sessions, with the flows of its own demos."""

from __future__ import annotations

import builtins
import importlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import Any

import aiohttp_security
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from aiohttp_security.abc import AbstractAuthorizationPolicy
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.nacl_storage import NaClCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from redis.asyncio import Redis

from aiohttp_persistent_session import BackendError, MemoryBackend, forget_everywhere, persistent_sessions, setup
from aiohttp_persistent_session import remember as remember_by_ourselves
from aiohttp_persistent_session.security import PersistentSessionIdentityPolicy
from aiohttp_persistent_session.testing import Browser as AppBrowser

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Handler, Workers, comes_back
from .faults import FaultyBackend
from .test_session_storages import ServerSideStorage


class Permission(Enum):
    """aiohttp-security takes members of an enum for permissions, too."""

    READ = "read"


PERMISSIONS: dict[str | None, set[str | Permission]] = {
    None: {"read the news"},
    "alice": {"public"},
    "admin": {"public", "protected", Permission.READ},
    "42": {"public"},
}


class Authorization(AbstractAuthorizationPolicy):
    """Knows three users and what they may do."""

    async def authorized_userid(self, identity: str) -> str | None:
        assert isinstance(identity, str)
        return identity if identity in PERMISSIONS else None

    async def permits(self, identity: str | None, permission: str | Enum, context: Any = None) -> bool:
        return permission in PERMISSIONS.get(identity, ())


async def login(request: web.Request) -> web.Response:
    form = await request.post()
    response = web.HTTPFound("/whoami")
    options: dict[str, Any] = {"persistent": False} if "for_now" in form else {}
    options |= {name: json.loads(str(form[name])) for name in ("data", "max_age") if name in form}
    try:
        await aiohttp_security.remember(request, response, str(form["user"]), **options)
    except BackendError:
        return web.Response(status=503)
    return answer(form.get("how", "raised"), response)


async def logout(request: web.Request) -> web.Response:
    form = await request.post()
    response = web.HTTPFound("/whoami")
    try:
        await aiohttp_security.forget(request, response)
    except BackendError:
        return web.Response(status=503)
    return answer(form.get("how", "raised"), response)


def answer(how: object, response: web.HTTPFound) -> web.Response:
    """Answer by the response that aiohttp-security was given, or by another one."""
    if how == "raised":
        raise response
    if how == "another raised":
        raise web.HTTPSeeOther("/whoami")
    return web.Response(headers=response.headers) if how == "its headers" else web.Response()


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


async def permitted(request: web.Request) -> web.Response:
    asked: tuple[str | Permission, ...] = ("read the news", "public", "protected", Permission.READ)
    return web.json_response([await aiohttp_security.permits(request, one) for one in asked])


async def out_everywhere(request: web.Request) -> web.Response:
    return web.json_response(await forget_everywhere(request))


HANDLERS: dict[str, Handler] = {
    "/sign-in": login,
    "/sign-out": logout,
    "/whoami": whoami,
    "/members": members,
    "/protected": protected,
    "/permitted": permitted,
    "/out-everywhere": out_everywhere,
}


def secured(app: web.Application, **options: Any) -> None:
    aiohttp_security.setup(app, PersistentSessionIdentityPolicy(**options), Authorization())


async def signs_in(browser: Browser, user: str = "alice", **form: str) -> None:
    reply = await browser.post("/sign-in", data={"user": user} | form)
    assert reply.status == 302


Opens = Callable[..., Awaitable[Browser]]


@pytest.fixture
def opens(workers: Workers, backend: FaultyBackend) -> Opens:
    """Starts an app with these handlers besides; returns a browser of it."""

    async def open(handlers: dict[str, Handler] | None = None, user_type: Any = str, **options: Any) -> Browser:
        return Browser(
            await workers(
                backend,
                handlers=HANDLERS | (handlers or {}),
                prepare=lambda app: secured(app, user_type=user_type),
                **options,
            )
        )

    return open


@pytest.fixture
async def browser(opens: Opens) -> Browser:
    return await opens()


@pytest.fixture(params=["simple", "encrypted", "nacl", "server-side", "redis"])
async def storage(request: pytest.FixtureRequest) -> AsyncIterator[aiohttp_session.AbstractStorage]:
    """Memcached's does what the server-side one does."""
    if request.param == "redis":
        async with Redis.from_url(request.getfixturevalue("redis_url")) as client:
            # They expire by themselves, and their keys are random.
            yield RedisStorage(client, max_age=3600)
        return
    key = b"0123456789abcdef0123456789abcdef"
    makes: dict[str, Callable[[], aiohttp_session.AbstractStorage]] = {
        "simple": aiohttp_session.SimpleCookieStorage,
        "encrypted": lambda: EncryptedCookieStorage(key, max_age=3600),
        "nacl": lambda: NaClCookieStorage(key, max_age=3600),
        "server-side": lambda: ServerSideStorage(max_age=3600),
    }
    yield makes[request.param]()


async def test_the_whole_way_works_over_every_session_storage(
    opens: Opens,
    clock: Clock,
    storage: aiohttp_session.AbstractStorage,
) -> None:
    """Anonymous, signed in, restored, permitted or not, signed out."""
    browser = await opens(storage=storage)
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
    """Those of the user of a restored session; a member of an enum is one, and visitors may have some."""
    assert (await browser.get("/permitted")).json == [True, False, False, False]
    await signs_in(browser, "admin")
    await comes_back(browser, clock)
    assert (await browser.get("/protected")).json == "inside"
    assert (await browser.get("/permitted")).json == [False, True, True, True]


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
    """Those of this library's ``remember``."""
    await signs_in(browser, data='{"version": 3}', max_age="86400")
    (record,) = await backend.of_user("alice", 10)
    assert (record.data, record.max_age, record.persistent) == ('{"version":3}', 86400, True)


async def test_an_option_that_does_not_exist_is_refused(opens: Opens, backend: FaultyBackend) -> None:
    """aiohttp-security passes on whatever it is given."""
    policy = PersistentSessionIdentityPolicy()

    async def sign_in(request: web.Request) -> web.Response:
        with pytest.raises(TypeError, match="persistant"):
            await policy.remember(request, web.Response(), "alice", persistant=False)
        return web.Response()

    browser = await opens({"/typo": sign_in})
    assert (await browser.post("/typo")).status == 200
    assert await backend.of_user("alice", 10) == []


@pytest.mark.parametrize("how", ["raised", "another raised", "returned", "its headers"])
async def test_the_cookies_come_with_whatever_the_handler_answers(browser: Browser, clock: Clock, how: str) -> None:
    """The response that aiohttp-security was given, raised or not, or another one."""
    reply = await browser.post("/sign-in", data={"user": "alice", "how": how})
    assert (reply.status in {302, 303}) is how.endswith("raised")
    assert set(reply.cookies) == {SESSION, TOKEN}
    assert (await comes_back(browser, clock)).user == "alice"
    reply = await browser.post("/sign-out", data={"how": how})
    assert (reply.cookies[SESSION].value in {"", "{}"}, reply.token) == (True, "")
    assert (await comes_back(browser, clock)).user is None


async def test_after_the_headers_are_written_nobody_is_remembered_and_anybody_is_forgotten(
    opens: Opens, backend: FaultyBackend, clock: Clock
) -> None:
    """As on a web-socket: no cookie can be sent any more."""

    async def late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with pytest.raises(RuntimeError, match="before the response is prepared"):
            await aiohttp_security.remember(request, response, "admin")
        await aiohttp_security.forget(request, response)
        assert await aiohttp_security.is_anonymous(request)
        await response.write(b"done")
        return response

    browser = await opens({"/late": late})
    await signs_in(browser)
    assert (await browser.get("/late")).text == "done"
    assert await backend.of_user("admin", 10) == await backend.of_user("alice", 10) == []
    assert (await comes_back(browser, clock)).user is None


async def test_a_handler_that_dies_after_remember_leaves_nobody_signed_in(opens: Opens, backend: FaultyBackend) -> None:
    """As with this library's ``remember``."""

    async def die(request: web.Request) -> web.Response:
        await aiohttp_security.remember(request, web.Response(), "alice")
        raise ValueError

    browser = await opens({"/die": die})
    reply = await browser.post("/die")
    assert (reply.status, reply.cookies) == (500, {})
    assert await backend.of_user("alice", 10) == []


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
    opens: Opens,
    storage: aiohttp_session.AbstractStorage,
) -> None:
    """An attacker who planted the anonymous session gets nothing: its key is not the one of the signed-in session."""
    browser = await opens(storage=storage)
    await browser.post("/cart", data={"item": "book"})
    attacker = browser.clone()
    await signs_in(browser)
    assert browser.cookies[SESSION] != attacker.cookies[SESSION]
    assert (await browser.get()).json["cart"] == "book"
    assert (await attacker.get("/whoami")).json["anonymous"] is True


async def test_user_ids_that_are_numbers(opens: Opens, backend: FaultyBackend, clock: Clock) -> None:
    """The record holds the number; aiohttp-security sees text."""
    browser = await opens(user_type=int)
    await signs_in(browser, "42")
    await comes_back(browser, clock)
    assert (await browser.get("/whoami")).json == {"user": "42", "anonymous": False, "devices": [42]}
    (record,) = await backend.of_user(42, 10)
    assert record.user == 42
    other = Browser(browser.worker)
    await signs_in(other, "42")
    assert (await browser.post("/out-everywhere")).json == 2


@pytest.mark.parametrize(
    "name",
    ["alice", "1_0", " 42", "42 ", "42\n", "042", "+42", "-0", "4e1", "42.0", "4\N{FULLWIDTH DIGIT TWO}"],
)
async def test_what_only_int_takes_for_a_number_is_no_users_id(name: str) -> None:
    """A user of the name 1_0 must not become the user 10."""
    policy = PersistentSessionIdentityPolicy(user_type=int)
    with pytest.raises(ValueError, match="identity must be a number"):
        await policy.remember(make_mocked_request("POST", "/"), web.Response(), name)


@pytest.mark.parametrize("number", [0, 7, -1, 2**63, 10**40])
async def test_what_str_makes_of_a_number_is_its_id(opens: Opens, backend: FaultyBackend, number: int) -> None:
    """There and back."""
    browser = await opens(user_type=int)
    await signs_in(browser, str(number))
    assert [record.user for record in await backend.of_user(number, 10)] == [number]


async def test_an_identity_that_is_no_number_signs_nobody_in(opens: Opens, backend: FaultyBackend) -> None:
    """And nobody out."""
    browser = await opens(user_type=int)
    await signs_in(browser, "42")
    for name in ("alice", "4_3"):
        assert (await browser.post("/sign-in", data={"user": name})).status == 500
    assert (await browser.get("/whoami")).json["user"] == "42"
    assert await backend.of_user(43, 10) == []


@pytest.mark.parametrize("user_type", [str, int])
async def test_our_own_remember_is_seen_by_aiohttp_security(opens: Opens, clock: Clock, user_type: type) -> None:
    """Also with a number, for which its own takes none."""

    async def sign_in(request: web.Request) -> web.Response:
        await remember_by_ourselves(request, 42)
        return web.Response()

    browser = await opens({"/number": sign_in}, user_type=user_type)
    await browser.post("/number")
    assert (await browser.get("/members")).json == "42"
    await comes_back(browser, clock)
    assert (await browser.get("/whoami")).json == {"user": "42", "anonymous": False, "devices": [42]}


async def test_it_looks_under_the_session_key_of_setup(opens: Opens, clock: Clock) -> None:
    """And nowhere else."""

    async def keep(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "admin"
        return web.json_response(dict(await aiohttp_session.get_session(request)))

    browser = await opens({"/keep": keep}, session_key="uid")
    await browser.post("/keep")
    assert (await browser.get("/whoami")).json["anonymous"] is True
    await signs_in(browser)
    assert (await browser.get("/members")).json == "alice"
    await comes_back(browser, clock)
    assert (await browser.get("/keep")).json["uid"] == "alice"


@pytest.mark.parametrize("kept", [{"name": "alice"}, True, "", 1.5])
async def test_something_else_under_the_session_key_is_nobodys_identity(opens: Opens, kept: object) -> None:
    """An app that keeps its own there is told so."""

    async def keep(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = kept
        with pytest.raises((TypeError, ValueError), match="no user's id under session_key='user'"):
            await aiohttp_security.is_anonymous(request)
        return web.Response()

    browser = await opens({"/keep": keep})
    assert (await browser.post("/keep")).status == 200


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


async def test_who_cannot_be_restored_is_anonymous_while_the_store_is_down(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """And keeps the token; a sign-in for this browser session works."""
    await signs_in(browser)
    backend.break_down()
    await comes_back(browser, clock)
    assert (await browser.get("/members")).status == 401
    other = Browser(browser.worker)
    await signs_in(other, "admin", for_now="1")
    assert (await other.get("/protected")).json == "inside"
    backend.heal()
    clock.advance(60)
    assert (await browser.get("/members")).json == "alice"


# Sessions that aiohttp-security's SessionIdentityPolicy opened


async def before(request: web.Request) -> web.Response:
    """Sign in as the app did before the change, and keep something in the session."""
    await aiohttp_security.SessionIdentityPolicy().remember(request, web.Response(), request.query["user"])
    (await aiohttp_session.get_session(request))["cart"] = "alice's"
    return web.Response()


async def content(request: web.Request) -> web.Response:
    return web.json_response(dict(await aiohttp_session.get_session(request)))


OLD = {"/before": before, "/content": content}


async def test_sessions_from_before_go_on_under_their_key(opens: Opens) -> None:
    """Until they end by themselves or are signed out; they have no persistent session."""
    browser = await opens(OLD, session_key="AIOHTTP_SECURITY")
    await browser.post("/before?user=alice")
    assert (await browser.get("/whoami")).json == {"user": "alice", "anonymous": False, "devices": []}
    assert browser.token is None
    await browser.post("/sign-out")
    assert (await browser.get("/content")).json == {}


async def test_who_signs_in_over_a_session_from_before_gets_a_token_and_nothing_of_anothers(
    opens: Opens, clock: Clock
) -> None:
    """Under their key, it is known whose they were."""
    alice = await opens(OLD, session_key="AIOHTTP_SECURITY")
    await alice.post("/before?user=alice")
    bob = alice.clone()
    await signs_in(alice)
    assert (await alice.get("/content")).json["cart"] == "alice's"
    await comes_back(alice, clock)
    assert (await alice.get("/members")).json == "alice"
    await signs_in(bob, "admin")
    assert "cart" not in (await bob.get("/content")).json


async def test_sessions_from_before_are_anonymous_under_another_key(opens: Opens) -> None:
    """And go, with all that they hold, to whoever signs in next: the page says to keep their key."""
    browser = await opens(OLD)
    await browser.post("/before?user=alice")
    assert (await browser.get("/members")).status == 401
    await signs_in(browser, "admin")
    assert (await browser.get("/members")).json == "admin"
    kept = (await browser.get("/content")).json
    assert (kept["AIOHTTP_SECURITY"], kept["cart"]) == ("alice", "alice's")


async def test_sessions_from_before_hold_numbers_as_text(opens: Opens) -> None:
    """They end no record of the number 42 until the user has signed in anew."""
    phone = await opens(OLD, session_key="AIOHTTP_SECURITY", user_type=int)
    await signs_in(phone, "42")
    browser = Browser(phone.worker)
    await browser.post("/before?user=42")
    assert (await browser.get("/members")).json == "42"
    assert (await browser.post("/out-everywhere")).json == 0
    await signs_in(browser, "42")
    assert (await browser.post("/out-everywhere")).json == 2


# Setting up


async def test_it_says_where_setup_is_missing() -> None:
    """The same words as the library's own functions, whatever is called; also where aiohttp-session is missing."""
    app = web.Application()
    secured(app)

    async def ask(request: web.Request) -> web.Response:
        response = web.Response()
        for call in (
            aiohttp_security.authorized_userid(request),
            aiohttp_security.is_anonymous(request),
            aiohttp_security.remember(request, response, "alice"),
            aiohttp_security.forget(request, response),
        ):
            with pytest.raises(RuntimeError, match="is not set up for this request"):
                await call
        return response

    app.router.add_get("/", ask)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/")).status == 200


async def test_a_sub_application_may_have_a_policy_of_its_own(workers: Workers, backend: FaultyBackend) -> None:
    """The persistent session of the outermost app serves them all."""

    def prepare(app: web.Application) -> None:
        sub = web.Application()
        secured(sub)
        sub.add_routes([web.get("/members", members), web.post("/sign-in", login)])
        app.add_subapp("/inner", sub)

    browser = Browser(await workers(backend, prepare=prepare))
    assert (await browser.get("/inner/members")).status == 401
    await browser.post("/inner/sign-in", data={"user": "alice"})
    assert (await browser.get("/inner/members")).json == "alice"


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


async def test_the_order_of_the_set_ups_does_not_matter() -> None:
    """aiohttp-security keeps its policy in the app, and asks it at each request only."""
    app = web.Application()
    secured(app)
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    app.add_routes([web.route("*", path, handler) for path, handler in HANDLERS.items()])
    async with AppBrowser(app) as browser:
        await browser.post("/sign-in", data={"user": "alice"})
        browser.come_back(after=DAY)
        assert await (await browser.get("/members")).json() == "alice"
