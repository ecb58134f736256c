"""How it works with aiohttp-session's storages: in the cookie, encrypted in the cookie, and on a server."""

from __future__ import annotations

import json
import uuid
from typing import Any

import aiohttp_session
import pytest
from aiohttp import web
from aiohttp_session.cookie_storage import EncryptedCookieStorage

from aiohttp_persistent_session import MemoryBackend, forget, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend


class ServerSideStorage(aiohttp_session.AbstractStorage):
    """Keeps sessions under random keys, as aiohttp-session's Redis storage does."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.stored: dict[str, str] = {}

    async def load_session(self, request: web.Request) -> aiohttp_session.Session:
        key = self.load_cookie(request)
        if key is None or key not in self.stored:
            return aiohttp_session.Session(None, data=None, new=True, max_age=self.max_age)
        return aiohttp_session.Session(key, data=json.loads(self.stored[key]), new=False, max_age=self.max_age)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: aiohttp_session.Session
    ) -> None:
        key = session.identity or uuid.uuid4().hex
        self.save_cookie(response, "" if session.empty else key, max_age=session.max_age)
        self.stored[key] = json.dumps(self._get_session_data(session))


@pytest.fixture(params=["simple", "encrypted", "server-side"])
def storage(request: pytest.FixtureRequest) -> aiohttp_session.AbstractStorage:
    if request.param == "encrypted":
        return EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef", max_age=3600)
    return aiohttp_session.SimpleCookieStorage() if request.param == "simple" else ServerSideStorage(max_age=3600)


async def test_sign_in_restore_and_sign_out(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage
) -> None:
    """The whole way works with each kind of storage."""
    browser = Browser(await workers(backend, storage=storage))
    await browser.post("/cart", data={"item": "book"})
    await browser.sign_in()
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("alice", "book", True)
    browser.end_session()
    reply = await browser.get()
    assert (reply.user, reply.json["fresh"]) == ("alice", False)
    assert (await browser.get()).user == "alice"
    await browser.post("/logout")
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == (None, None)
    assert TOKEN not in browser.cookies


async def test_a_joined_request_saves_no_session(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage
) -> None:
    """One token opens one session."""
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    browser.end_session()
    joining = browser.clone()
    await browser.get()
    reply = await joining.get()
    assert reply.user == "alice"
    assert SESSION not in reply.cookies


async def test_a_forged_encrypted_session_is_restored_over(workers: Workers) -> None:
    """What a storage cannot read counts as no session."""
    storage = EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef")
    browser = Browser(await workers(MemoryBackend(), storage=storage))
    await browser.sign_in()
    browser.cookies[SESSION] = "forged"
    reply = await browser.get()
    assert (reply.user, reply.json["fresh"]) == ("alice", False)


@pytest.fixture
def server_side() -> ServerSideStorage:
    return ServerSideStorage()


@pytest.fixture
async def keyed(workers: Workers, backend: FaultyBackend, server_side: ServerSideStorage) -> Worker:
    return await workers(backend, storage=server_side)


async def test_aiohttp_security_473_the_sessions_key_changes_at_sign_in(keyed: Worker) -> None:
    """Fixation: a key that the attacker planted before the sign-in is worth nothing after it."""
    browser = Browser(keyed)
    await browser.post("/cart", data={"item": "book"})
    attacker = browser.clone()
    await browser.sign_in()
    assert browser.cookies[SESSION] != attacker.cookies[SESSION]
    reply = await attacker.get()
    assert (reply.user, reply.json["cart"]) == (None, None)
    assert (await browser.get()).json["cart"] == "book"


async def test_symfony_cve_2015_8124_the_sessions_key_changes_at_a_restore(keyed: Worker) -> None:
    """A key that was planted before the restore is worth nothing after it."""
    browser = Browser(keyed)
    await browser.sign_in()
    browser.end_session()
    planted = Browser(keyed)
    await planted.post("/cart", data={"item": "planted"})
    browser.cookies[SESSION] = planted.cookies[SESSION]
    assert (await browser.get()).user == "alice"
    assert browser.cookies[SESSION] != planted.cookies[SESSION]
    assert (await planted.get()).user is None


async def test_a_sign_in_over_a_live_session_leaves_nothing_under_its_key(
    keyed: Worker, server_side: ServerSideStorage
) -> None:
    """A copy of the former key finds an empty session."""
    browser = Browser(keyed)
    await browser.sign_in("alice")
    thief = browser.clone()
    await browser.sign_in("alice")
    thief.cookies.pop(TOKEN)
    assert (await thief.get()).user is None
    assert server_side.stored[thief.cookies[SESSION]] == "{}"


async def test_signing_out_leaves_nothing_under_the_sessions_key(keyed: Worker, server_side: ServerSideStorage) -> None:
    """A copy of the key finds an empty session."""
    browser = Browser(keyed)
    await browser.sign_in()
    key = browser.cookies[SESSION]
    await browser.post("/logout")
    assert server_side.stored[key] == "{}"


async def test_a_sign_in_whose_session_cannot_be_saved_remembers_nobody(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The old session's storage fails within remember: the handler dies, the record goes."""

    class Failing(ServerSideStorage):
        failing = False

        async def save_session(self, *arguments: Any) -> None:
            if self.failing:
                raise ConnectionError
            await super().save_session(*arguments)

    storage = Failing()
    browser = Browser(await workers(backend, storage=storage))
    await browser.post("/cart", data={"item": "book"})
    storage.failing = True
    reply = await browser.post("/login", data={"user": "alice"})
    assert (reply.status, reply.cookies) == (500, {})
    assert await backend.of_user("alice", 10) == []


async def test_the_session_key_option_says_where_the_user_is(workers: Workers) -> None:
    """Applications keep the user's id where they like."""

    async def page(request: web.Request) -> web.Response:
        return web.json_response((await aiohttp_session.get_session(request)).get("uid"))

    browser = Browser(await workers(MemoryBackend(), session_key="uid", handlers={"/": page}))
    await browser.sign_in("7")
    assert (await browser.get("/")).json == 7
    browser.end_session()
    assert (await browser.get("/")).json == 7


async def test_sub_applications_share_what_the_root_set_up(workers: Workers) -> None:
    """One ``setup`` on the outermost application is enough."""

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    def prepare(app: web.Application) -> None:
        sub = web.Application()
        sub.router.add_get("/login", login)
        app.add_subapp("/account", sub)

    browser = Browser(await workers(MemoryBackend(), prepare=prepare))
    await browser.get("/account/login")
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_sign_out_that_the_store_fails_empties_the_session_all_the_same(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage, clock: Clock
) -> None:
    """aiohttp-session saves nothing after an exception; the record stands, so no check would end the session."""
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    copied = browser.clone()
    backend.break_down()
    reply = await browser.post("/logout")
    assert reply.status == 500
    assert len(reply.headers.getall("Set-Cookie")) == 2
    backend.heal()
    assert TOKEN not in browser.cookies
    assert (await browser.get()).user is None
    clock.advance(120)
    assert (await browser.get()).user is None
    if isinstance(storage, ServerSideStorage):
        copied.cookies.pop(TOKEN)
        assert (await copied.get()).user is None


async def test_a_session_storage_that_fails_too_is_logged(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The token is deleted all the same."""

    class Failing(ServerSideStorage):
        async def save_session(self, *args: Any) -> None:
            if self.stored:
                raise OSError("no")
            await super().save_session(*args)

    browser = Browser(await workers(backend, storage=Failing()))
    await browser.sign_in()
    backend.break_down()
    reply = await browser.post("/logout")
    assert (reply.status, reply.cookies[TOKEN].value) == (500, "")
    assert "could not be emptied" in caplog.text


async def test_a_sign_out_amid_a_failing_handler_empties_each_kind_of_session(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage
) -> None:
    """aiohttp-session saves nothing after an exception: the sign-out does so itself."""

    async def fail(request: web.Request) -> web.Response:
        await forget(request)
        raise ValueError

    browser = Browser(await workers(backend, storage=storage, handlers={"/fail": fail}))
    await browser.sign_in()
    assert (await browser.get("/fail")).status == 500
    assert (await browser.get()).user is None
    assert await backend.of_user("alice", 10) == []


async def test_each_kind_of_session_is_restored_rotated_confirmed_and_kept(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage, clock: Clock
) -> None:
    """A later exchange, a rotation, a password typed again, a new record: the session goes on."""
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    clock.advance(DAY + 61)
    token = browser.token
    assert (await browser.get()).user == "alice"
    assert browser.token != token
    browser.end_session()
    clock.advance(3)
    assert (await browser.get()).json["fresh"] is False
    await browser.post("/cart", data={"item": "book"})
    await browser.post("/confirm")
    assert (await browser.post("/logout-everywhere?keep=1")).json == 1
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("alice", "book", True)


async def test_a_copy_that_is_found_out_ends_each_kind_of_session(
    workers: Workers, backend: FaultyBackend, storage: aiohttp_session.AbstractStorage
) -> None:
    """A reuse with a live session: nothing is left of it, in the cookie or under its key."""
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    copied = browser.clone()
    del copied.cookies[TOKEN]
    selector = (browser.token or "").partition(".")[0]
    browser.cookies[TOKEN] = f"{selector}.{Token.generate().cookie_value.partition('.')[2]}"
    reply = await browser.get()
    assert (reply.user, reply.token, SESSION in reply.cookies) == (None, "", True)
    assert (await browser.get()).user is None
    assert (await copied.get()).user is None
    if isinstance(storage, ServerSideStorage):
        assert storage.stored[copied.cookies[SESSION]] == "{}"


async def test_keeping_this_browser_changes_the_sessions_key(keyed: Worker, server_side: ServerSideStorage) -> None:
    """A copy of the former key is worth nothing."""
    browser = Browser(keyed)
    await browser.sign_in()
    old = browser.cookies[SESSION]
    await browser.post("/logout-everywhere?keep=1")
    assert browser.cookies[SESSION] != old
    assert server_side.stored[old] == "{}"
    assert (await browser.get()).user == "alice"


async def test_a_session_that_is_superseded_keeps_what_is_under_its_key(
    keyed: Worker, server_side: ServerSideStorage, clock: Clock
) -> None:
    """The request is anonymous and saves nothing: another tab may use the key's session with its token."""
    browser = Browser(keyed)
    await browser.sign_in()
    copied = Browser(keyed, {SESSION: browser.cookies[SESSION]})
    browser.end_session()
    await browser.get()
    clock.advance(91)
    await browser.get()
    stored = dict(server_side.stored)
    reply = await copied.get()
    assert (reply.user, reply.cookies) == (None, {})
    assert server_side.stored == stored


async def test_a_storage_that_fails_while_a_session_is_loaded_spends_no_token(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the session is live cannot be known then."""

    class Failing(ServerSideStorage):
        failing = False

        async def load_session(self, request: web.Request) -> aiohttp_session.Session:
            if self.failing:
                raise ConnectionError
            return await super().load_session(request)

    storage = Failing()

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="needs no session")

    browser = Browser(await workers(backend, storage=storage, handlers={"/": page}))
    await browser.sign_in()
    token = browser.token
    browser.end_session()
    storage.failing = True
    reply = await browser.get("/")
    assert (reply.text, reply.cookies) == ("needs no session", {})
    assert "could not be loaded: ConnectionError" in caplog.text
    storage.failing = False
    assert (await browser.get()).token not in (None, "", token)


async def test_a_session_that_cannot_be_confirmed_stays_as_it_was(workers: Workers, backend: FaultyBackend) -> None:
    """The old key cannot be emptied: the handler learns of it, and nothing is sent."""

    class Failing(ServerSideStorage):
        failing = False

        async def save_session(self, *arguments: Any) -> None:
            if self.failing:
                raise ConnectionError
            await super().save_session(*arguments)

    storage = Failing()
    browser = Browser(await workers(backend, storage=storage))
    await browser.sign_in()
    storage.failing = True
    reply = await browser.post("/confirm")
    assert reply.status == 500
    assert SESSION not in reply.cookies
    storage.failing = False
    assert (await browser.get()).user == "alice"
