"""Middlewares that pass on ``request.clone()``, or call the handler chain twice: the response carries its cookies."""

from __future__ import annotations

import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp_session import get_session

from aiohttp_persistent_session import forget, remember
from aiohttp_persistent_session.tokens import Token

from .browser import SESSION, TOKEN, Browser, Clock, Reply, Workers
from .faults import FaultyBackend

PLACES = ["outermost", "innermost"]


@web.middleware
async def clone(request: web.Request, handler: Any) -> web.StreamResponse:
    """Set the client's address in aiohttp's own way, as aiohttp-remotes does."""
    return await handler(request.clone(remote="192.0.2.7"))


@web.middleware
async def clone_twice(request: web.Request, handler: Any) -> web.StreamResponse:
    return await handler(request.clone(scheme="https").clone(remote="192.0.2.7"))


@web.middleware
async def run_twice(request: web.Request, handler: Any) -> web.StreamResponse:
    """Throw the first answer away, as a middleware does that tries again."""
    with contextlib.suppress(ZeroDivisionError):
        await handler(request)
    return await handler(request)


@web.middleware
async def run_twice_on_a_clone(request: web.Request, handler: Any) -> web.StreamResponse:
    return await run_twice(request.clone(), handler)


ORDERS = {"outermost": 0, "between": 1, "innermost": 2}


def put(middleware: Any, place: str) -> Any:
    """Return what puts ``middleware`` before aiohttp-session's, between its and ours, or after ours."""
    return lambda app: app.middlewares.insert(ORDERS[place], middleware)


async def restored(browser: Browser) -> Reply:
    browser.end_session()
    return await browser.get()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("middleware", [clone, clone_twice, run_twice, run_twice_on_a_clone])
async def test_all_that_a_browser_does_works_behind_such_a_middleware(
    workers: Workers,
    backend: FaultyBackend,
    clock: Clock,
    place: str,
    middleware: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Sign in, browse, restore, rotate, confirm, change the record, sign out: as without it."""
    browser = Browser(await workers(backend, prepare=put(middleware, place)))
    reply = await browser.sign_in()
    assert Token.parse(reply.token or "")
    await browser.post("/cart", data={"item": "book"})
    reply = await browser.get()
    assert (reply.user, reply.token, reply.json["cart"], reply.json["fresh"]) == ("alice", browser.token, "book", True)
    token = browser.token
    reply = await restored(browser)
    assert (reply.user, reply.json["fresh"], SESSION in reply.cookies) == ("alice", False, True)
    assert reply.token not in (None, "", token)
    await browser.post("/confirm")
    assert (await browser.get()).json["fresh"] is True
    clock.advance(25 * 3600)
    token = browser.token
    reply = await browser.get()
    assert (reply.user, reply.token != token) == ("alice", True)
    token = browser.token
    assert (await browser.post("/logout-everywhere?keep=1")).token not in (None, "", token)
    assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"
    assert (await browser.post("/logout")).token == ""
    assert (await browser.get()).user is None
    assert await backend.of_user("alice", 10) == []
    assert {"reuse", "repeat"}.isdisjoint(dict(browser.worker.events))
    assert not caplog.records


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("middleware", [run_twice, run_twice_on_a_clone])
async def test_a_chain_that_runs_twice_exchanges_once(
    workers: Workers, backend: FaultyBackend, place: str, middleware: Any
) -> None:
    """The second run continues the first: one exchange, one token, one session."""
    browser = Browser(await workers(backend, prepare=put(middleware, place)))
    await browser.sign_in()
    browser.end_session()
    backend.calls.clear()
    reply = await browser.get()
    assert (reply.user, bool(reply.token), SESSION in reply.cookies) == ("alice", True, True)
    assert backend.calls == {"get": 1, "replace": 1}
    assert [name for name, _ in browser.worker.events].count("restore") == 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("middleware", [run_twice, run_twice_on_a_clone])
async def test_a_sign_in_that_runs_twice_leaves_one_persistent_session(
    workers: Workers, backend: FaultyBackend, place: str, middleware: Any
) -> None:
    """The sign-in of the run whose answer is thrown away does not stay behind."""
    browser = Browser(await workers(backend, prepare=put(middleware, place)))
    await browser.sign_in()
    assert len(await backend.of_user("alice", 10)) == 1
    assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"


async def dies_once(request: web.Request) -> web.Response:
    """Sign in and die; the second time, show who is signed in."""
    if request.app[RAN]:
        return web.json_response((await get_session(request)).get("user"))
    request.app[RAN].append(1)
    await remember(request, "alice")
    raise ZeroDivisionError


RAN = web.AppKey("RAN", list)


def with_run(place: str) -> Any:
    def prepare(app: web.Application) -> None:
        app[RAN] = []
        app.middlewares.insert(ORDERS[place], run_twice)

    return prepare


async def test_a_first_run_that_remembers_and_dies_signs_nobody_in_for_the_second(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The sign-in is undone, so the second run meets the session that there was before it."""
    worker = await workers(backend, handlers={"/": dies_once}, prepare=with_run("outermost"))
    browser = Browser(worker)
    await browser.post("/cart", data={"item": "book"})
    reply = await browser.get("/")
    assert reply.json is None
    assert reply.token is None
    assert await backend.of_user("alice", 10) == []
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == (None, "book")


async def test_a_first_run_that_forgets_and_dies_leaves_one_cookie_of_each_name(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A sign-out stands, and its response never carries two cookies of one name."""

    async def handler(request: web.Request) -> web.Response:
        await forget(request)
        request.app[RAN].append(1)
        if len(request.app[RAN]) == 1:
            raise ZeroDivisionError
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/": handler}, prepare=with_run("outermost")))
    await browser.sign_in()
    reply = await browser.get("/")
    names = [field.partition("=")[0] for field in reply.headers.getall("Set-Cookie")]
    assert sorted(names) == sorted([SESSION, TOKEN])
    assert reply.token == ""
    assert (await browser.get()).user is None


@pytest.mark.parametrize("place", PLACES)
async def test_the_address_is_the_one_that_the_middleware_found(
    workers: Workers, backend: FaultyBackend, place: str
) -> None:
    """What ``remember`` is given, and what the restore sees, is the clone where a clone was passed on."""
    browser = Browser(await workers(backend, prepare=put(clone, place)))
    await browser.sign_in()
    assert [one.address for one in await backend.of_user("alice", 10)] == ["192.0.2.7"]
    await restored(browser)
    seen = "192.0.2.7" if place == "outermost" else "127.0.0.1"
    assert [one.address for one in await backend.of_user("alice", 10)] == [seen]


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"a stream")
    return response


@pytest.mark.parametrize("place", [*PLACES, "between"])
@pytest.mark.parametrize("middleware", [clone, clone_twice])
async def test_a_stream_that_is_prepared_with_the_clone_carries_the_token(
    workers: Workers, backend: FaultyBackend, place: str, middleware: Any
) -> None:
    """A response that the handler itself prepares is prepared with the clone."""
    browser = Browser(await workers(backend, handlers={"/stream": stream}, prepare=put(middleware, place)))
    browser.take(await Browser(await workers(backend)).sign_in())
    reply = await browser.get("/stream")
    assert (reply.text, reply.token) == ("a stream", browser.token)
    browser.end_session()
    token = browser.token
    reply = await browser.get("/stream")
    assert (reply.text, reply.token not in (None, "", token)) == ("a stream", True)


async def test_two_requests_of_one_connection_are_kept_apart(workers: Workers, backend: FaultyBackend) -> None:
    """What belongs to a request goes with it: the next one on the connection is another's."""
    worker = await workers(backend, prepare=put(clone, "outermost"))
    alice = Browser(worker)
    await alice.sign_in()
    alice.end_session()
    url = worker.server.make_url("/me")
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=1)
    ) as http:
        async with http.get(url, headers={"Cookie": f"{TOKEN}={alice.token}"}) as response:
            assert (await response.json())["user"] == "alice"
            assert "Set-Cookie" in response.headers
        async with http.get(url) as response:
            assert (await response.json())["user"] is None
            assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize("middleware", [clone, clone_twice])
@pytest.mark.parametrize("what", ["sign in", "restore"])
async def test_a_clone_between_aiohttp_sessions_middleware_and_ours_is_warned_of(
    workers: Workers, backend: FaultyBackend, middleware: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp-session loses the session by its own doing: the token is sent, and one warning says what to do."""
    browser = Browser(await workers(backend, prepare=put(middleware, "between")))
    if what == "restore":
        browser.take(await Browser(await workers(backend)).sign_in())
        for _ in range(2):
            reply = await restored(browser)
            assert reply.user == "alice"
    else:
        for _ in range(2):
            reply = await browser.sign_in()
            assert Token.parse(reply.token or "")
    assert SESSION not in reply.cookies
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "request.clone()" in record.message
    assert "aiohttp_session.setup" in record.message


async def test_a_chain_that_runs_twice_between_aiohttp_sessions_middleware_and_ours_works_too(
    workers: Workers, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """It passes on the same request, so nothing is lost."""
    browser = Browser(await workers(backend, prepare=put(run_twice, "between")))
    await browser.sign_in()
    assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"
    assert (await browser.get()).user == "alice"
    assert not caplog.records


async def test_a_handler_that_crashes_behind_a_clone_still_sends_the_new_token(
    workers: Workers, backend: FaultyBackend
) -> None:
    """aiohttp makes the 500 with the request that the clone was made of."""

    async def crash(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    browser = Browser(await workers(backend, handlers={"/crash": crash}, prepare=put(clone, "outermost")))
    await browser.sign_in()
    token = browser.token
    browser.end_session()
    reply = await browser.get("/crash")
    assert reply.status == 500
    assert reply.token not in (None, "", token)


@web.middleware
async def friendly(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer with a page of the application's own where something raised."""
    try:
        return await handler(request)
    except ZeroDivisionError:
        return web.Response(status=500, text="sorry")


async def remembers_and_dies(request: web.Request) -> web.Response:
    await remember(request, "alice")
    raise ZeroDivisionError


async def forgets_and_dies(request: web.Request) -> web.Response:
    await forget(request)
    raise ZeroDivisionError


@pytest.mark.parametrize("place", ["outermost", "between"])
async def test_an_outer_middleware_that_answers_for_a_dead_sign_in_sends_no_cookie(
    workers: Workers, backend: FaultyBackend, place: str
) -> None:
    """The handler died, so nobody is remembered, and nobody is signed in by the error page."""
    browser = Browser(await workers(backend, handlers={"/die": remembers_and_dies}, prepare=put(friendly, place)))
    reply = await browser.get("/die")
    assert (reply.status, reply.text, reply.cookies) == (500, "sorry", {})
    assert await backend.of_user("alice", 10) == []
    assert (await browser.get()).user is None


@pytest.mark.parametrize("place", ["outermost", "between"])
async def test_a_dead_sign_in_whose_record_cannot_be_taken_back_signs_nobody_in_either(
    workers: Workers, backend: FaultyBackend, place: str
) -> None:
    """The store fails as the record is to be deleted: what is left of it expires, and no session names it."""

    async def dies(request: web.Request) -> web.Response:
        await remember(request, "alice")
        backend.break_down("delete")
        raise ZeroDivisionError

    browser = Browser(await workers(backend, handlers={"/die": dies}, prepare=put(friendly, place)))
    reply = await browser.get("/die")
    backend.heal()
    assert reply.cookies == {}
    assert (await browser.get()).user is None


@pytest.mark.parametrize("place", ["outermost", "between", "innermost"])
async def test_an_outer_middleware_that_answers_for_a_dead_sign_out_sends_one_cookie_of_each_name(
    workers: Workers, backend: FaultyBackend, place: str
) -> None:
    """Whether aiohttp-session saves the emptied session or we do, it is in the response once."""
    browser = Browser(await workers(backend, handlers={"/die": forgets_and_dies}, prepare=put(friendly, place)))
    await browser.sign_in()
    reply = await browser.get("/die")
    assert (reply.status, reply.text) == (500, "sorry")
    assert reply.token == ""
    assert (await browser.get()).user is None
