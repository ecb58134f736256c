"""Responses that begin late: what they may still carry of a token, of a session, and of a renewal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp_session import get_session

from aiohttp_persistent_session import Backend, forget_everywhere, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend

LATE = 10.001


class Meanwhile:
    """What happens while ``/slow`` runs, and how long that takes."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.takes = 0.0
        self.happens: Callable[[], Awaitable[object]] | None = None

    async def __call__(self) -> None:
        self.clock.advance(self.takes)
        if self.happens is not None:
            happens, self.happens = self.happens, None
            await happens()

    async def slow(self, request: web.Request) -> web.Response:
        if "cart" in request.query:
            (await get_session(request))["cart"] = "book"
        await self()
        return web.Response()

    async def login(self, request: web.Request) -> web.Response:
        await remember(request, "alice")
        await self()
        return web.Response()

    async def keep(self, request: web.Request) -> web.Response:
        await forget_everywhere(request, keep_current=True)
        await self()
        return web.Response()

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await self()
        await response.write(b"a stream")
        return response


@pytest.fixture
def meanwhile(clock: Clock) -> Meanwhile:
    return Meanwhile(clock)


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend, meanwhile: Meanwhile) -> Worker:
    handlers = {
        "/slow": meanwhile.slow,
        "/slow-login": meanwhile.login,
        "/slow-keep": meanwhile.keep,
        "/stream": meanwhile.stream,
    }
    return await workers(backend, handlers=handlers)


@pytest.fixture
async def other(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend)


async def settled(browser: Browser, clock: Clock) -> None:
    """Sign in, and let the token grow older than SETTLE_TIME."""
    await browser.sign_in()
    clock.advance(3600)
    await browser.get()


async def issued_at(backend: Backend) -> list[float]:
    (record,) = await backend.of_user("alice", 10)
    return [secret.issued_at for secret in record.secrets]


# An exchange


@pytest.mark.parametrize(("takes", "calls"), [(0, 2), (10, 2), (LATE, 4), (60, 4)])
async def test_the_new_token_of_a_late_response_is_restamped(
    browser: Browser, backend: FaultyBackend, clock: Clock, meanwhile: Meanwhile, takes: float, calls: int
) -> None:
    """A response that begins more than 10 s after its token was issued lets the token count as issued now."""
    await settled(browser, clock)
    browser.end_session()
    meanwhile.takes = takes
    started = clock.now
    backend.calls.clear()
    reply = await browser.get("/slow")
    assert backend.calls.total() == calls
    assert Token.parse(reply.token or "")
    assert SESSION in reply.cookies
    stamped = clock.now if takes > 10 else started
    assert (await issued_at(backend))[-1] == pytest.approx(stamped, abs=0.001)
    assert (await browser.get()).user == "alice"


async def test_a_restamped_token_outlives_what_would_have_dropped_it(
    worker: Worker, browser: Browser, clock: Clock, meanwhile: Meanwhile
) -> None:
    """Until the browser can hold the new token, the one that it has must not drop it."""
    await settled(browser, clock)
    browser.end_session()
    tab = browser.clone()
    meanwhile.takes = 89
    slow = await browser.send("GET", "/slow")
    clock.advance(5)
    assert (await tab.send("GET", "/me")).user == "alice"
    browser.take(slow)
    clock.advance(200)
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_a_late_exchange_whose_token_is_no_longer_valid_leaves_out_token_and_session(
    worker: Worker, browser: Browser, clock: Clock, meanwhile: Meanwhile
) -> None:
    """Another tab, after 90 s, presented the token that the browser still holds: the session is of no use either."""
    await settled(browser, clock)
    browser.end_session()
    tab = browser.clone()
    meanwhile.takes = 95
    meanwhile.happens = tab.get
    reply = await browser.get("/slow")
    assert reply.cookies == {}
    browser.cookies.update(tab.cookies)
    clock.advance(200)
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize("fails", ["get", "replace"])
async def test_a_late_exchange_that_the_store_fails_leaves_out_token_and_session(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock, meanwhile: Meanwhile, fails: str
) -> None:
    """Nothing is known of the token, and the presented one is still valid."""
    await settled(browser, clock)
    browser.end_session()
    meanwhile.takes = LATE

    async def fail() -> None:
        backend.break_down(fails)

    meanwhile.happens = fail
    reply = await browser.get("/slow")
    assert (reply.status, reply.cookies) == (200, {})
    backend.heal()
    reply = await browser.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize(
    ("place", "takes"), [("the same worker", 0), ("the same worker", LATE), ("another worker", LATE)]
)
async def test_a_restore_whose_record_ended_meanwhile_sends_neither_token_nor_session(
    worker: Worker, other: Worker, browser: Browser, meanwhile: Meanwhile, place: str, takes: float
) -> None:
    """The browser was signed out while its restore was being answered."""
    await browser.sign_in()
    browser.end_session()
    meanwhile.takes = takes
    manager = (worker if place == "the same worker" else other).manager
    meanwhile.happens = lambda: manager.revoke_all("alice")
    reply = await browser.get("/slow")
    assert (reply.status, reply.cookies) == (200, {})
    assert (await browser.get()).user is None
    assert "reuse" not in dict(worker.events)


async def test_a_restore_whose_record_ended_elsewhere_a_moment_ago_lasts_no_longer_than_check_interval(
    worker: Worker, other: Worker, browser: Browser, clock: Clock, meanwhile: Meanwhile
) -> None:
    """Within 10 s no worker asks: what it sends is judged with the next check."""
    await browser.sign_in()
    browser.end_session()
    meanwhile.happens = lambda: other.manager.revoke_all("alice")
    await browser.get("/slow")
    clock.advance(60.001)
    assert (await browser.get()).user is None
    assert "reuse" not in dict(worker.events)


async def test_a_stream_that_begins_at_once_is_not_late(
    browser: Browser, backend: FaultyBackend, meanwhile: Meanwhile
) -> None:
    """What counts is when the response begins: its headers carry the cookie."""
    await browser.sign_in()
    browser.end_session()
    backend.calls.clear()
    meanwhile.takes = 3600
    reply = await browser.get("/stream")
    assert (reply.text, bool(reply.token)) == ("a stream", True)
    assert backend.calls == {"get": 1, "replace": 1}


@pytest.mark.parametrize("fraction", [0.0001, 0.0004, 0.0006, 0.0009])
async def test_a_response_in_the_very_moment_of_the_exchange_is_not_late(
    browser: Browser, backend: FaultyBackend, clock: Clock, fraction: float
) -> None:
    """Times are stored in whole milliseconds, and a rounding makes no answer late: an exchange costs two calls."""
    clock.now = int(clock.now) + fraction
    await browser.sign_in()
    browser.end_session()
    backend.calls.clear()
    assert (await browser.get()).token
    assert backend.calls == {"get": 1, "replace": 1}


@pytest.mark.parametrize("fraction", [0.0001, 0.0004, 0.0006, 0.0009])
async def test_a_sign_in_in_one_moment_costs_no_stamp(
    browser: Browser, backend: FaultyBackend, clock: Clock, fraction: float
) -> None:
    """The same for a sign-in, which inserts and looks at how many the user has."""
    clock.now = int(clock.now) + fraction
    backend.calls.clear()
    await browser.sign_in()
    assert backend.calls == {"insert": 1, "of_user": 1}


# A rotation


async def rotating(browser: Browser, clock: Clock) -> None:
    """Let the browser's next request rotate its token."""
    await browser.sign_in()
    clock.advance(DAY + 61)


async def test_a_late_rotation_is_restamped(
    browser: Browser, backend: FaultyBackend, clock: Clock, meanwhile: Meanwhile
) -> None:
    """As an exchange."""
    await rotating(browser, clock)
    token = browser.token
    meanwhile.takes = 80
    reply = await browser.get("/slow")
    assert reply.token not in (None, token)
    assert (await issued_at(backend))[-1] == pytest.approx(clock.now, abs=0.001)
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("fails", ["get", "replace"])
async def test_a_late_rotation_that_the_store_fails_leaves_out_the_token_alone(
    browser: Browser, backend: FaultyBackend, clock: Clock, meanwhile: Meanwhile, fails: str
) -> None:
    """What the handler put into the session is saved."""
    await rotating(browser, clock)
    meanwhile.takes = LATE

    async def fail() -> None:
        backend.break_down(fails)

    meanwhile.happens = fail
    reply = await browser.get("/slow?cart")
    assert set(reply.cookies) == {SESSION}
    backend.heal()
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("alice", "book")


async def test_a_late_rotation_whose_token_is_no_longer_valid_leaves_out_the_token_alone(
    worker: Worker, browser: Browser, clock: Clock, meanwhile: Meanwhile
) -> None:
    """Another tab rotated too, when the first answer was long overdue."""
    await rotating(browser, clock)
    tab = browser.clone()
    meanwhile.takes = 95
    meanwhile.happens = tab.get
    reply = await browser.get("/slow?cart")
    assert set(reply.cookies) == {SESSION}
    assert tab.token != browser.token
    browser.cookies[TOKEN] = tab.token or ""
    clock.advance(200)
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("alice", "book")
    assert "reuse" not in dict(worker.events)


# A sign-in


@pytest.mark.parametrize("path", ["/slow-login", "/slow-keep"])
async def test_a_late_sign_in_that_the_store_fails_leaves_nothing_out(
    browser: Browser, backend: FaultyBackend, meanwhile: Meanwhile, path: str
) -> None:
    """The token is the only one that there is: without it the browser would not be remembered at all."""
    await browser.sign_in()
    old = browser.token
    meanwhile.takes = 3600

    async def fail() -> None:
        backend.break_down()

    meanwhile.happens = fail
    reply = await browser.get(path)
    assert set(reply.cookies) == {SESSION, TOKEN}
    assert reply.token not in (None, "", old)
    backend.heal()
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("place", ["the same worker", "another worker"])
@pytest.mark.parametrize("path", ["/slow-login", "/slow-keep"])
async def test_a_late_sign_in_whose_record_is_gone_leaves_out_token_and_session(
    worker: Worker, other: Worker, browser: Browser, meanwhile: Meanwhile, place: str, path: str
) -> None:
    """An administrator signed the user out everywhere while the sign-in was being answered."""
    await browser.sign_in()
    meanwhile.takes = LATE
    manager = (worker if place == "the same worker" else other).manager
    meanwhile.happens = lambda: manager.revoke_all("alice")
    reply = await browser.get(path)
    assert reply.cookies == {}
    assert (await browser.get()).user is None


async def test_a_sign_in_that_is_revoked_at_once_by_the_same_worker_sends_nothing(
    worker: Worker, browser: Browser, meanwhile: Meanwhile
) -> None:
    """This worker knows that the record is gone, however quick the answer is."""
    meanwhile.happens = lambda: worker.manager.revoke_all("alice")
    assert (await browser.get("/slow-login")).cookies == {}


async def test_a_late_sign_in_is_restamped(
    browser: Browser, backend: FaultyBackend, clock: Clock, meanwhile: Meanwhile
) -> None:
    """A password check that follows ``remember`` may take its time."""
    meanwhile.takes = 300
    assert (await browser.get("/slow-login")).token
    assert await issued_at(backend) == [pytest.approx(clock.now, abs=0.001)]
    assert (await browser.get()).user == "alice"


# A renewal


async def reply_calls(browser: Browser, backend: FaultyBackend, path: str = "/slow") -> tuple[Reply, dict[str, int]]:
    backend.calls.clear()
    reply = await browser.send("GET", path)
    return reply, dict(backend.calls)


@pytest.mark.parametrize(("takes", "calls"), [(0, {}), (2, {}), (2.001, {"get": 1}), (3600, {"get": 1})])
async def test_a_request_of_more_than_2_seconds_reads_before_it_renews(
    browser: Browser, backend: FaultyBackend, meanwhile: Meanwhile, takes: float, calls: dict[str, int]
) -> None:
    """By then the browser may hold a newer token, which another worker gave it."""
    await browser.sign_in()
    await browser.get()
    meanwhile.takes = takes
    reply, counted = await reply_calls(browser, backend)
    assert reply.token == browser.token
    assert counted == calls


@pytest.mark.parametrize(
    ("place", "takes"), [("the same worker", 0), ("the same worker", 2.001), ("another worker", 2.001)]
)
async def test_a_request_does_not_send_the_former_token_over_a_newer_one(
    worker: Worker, other: Worker, browser: Browser, meanwhile: Meanwhile, place: str, takes: float
) -> None:
    """Only what is the newest when the response begins is renewed."""
    await browser.sign_in()
    await browser.get()
    tab = browser.clone()
    tab.end_session()
    elsewhere = worker if place == "the same worker" else other
    meanwhile.takes = takes
    meanwhile.happens = lambda: tab.get(to=elsewhere)
    reply = await browser.get("/slow")
    assert tab.token != browser.token
    assert (reply.status, reply.cookies) == (200, {})


@pytest.mark.parametrize("place", ["the same worker", "another worker"])
async def test_a_slow_request_whose_record_was_revoked_meanwhile_renews_nothing(
    worker: Worker, other: Worker, browser: Browser, meanwhile: Meanwhile, place: str
) -> None:
    """What has ended is not sent again."""
    await browser.sign_in()
    await browser.get()
    manager = (worker if place == "the same worker" else other).manager
    meanwhile.takes = 2.001
    meanwhile.happens = lambda: manager.revoke_all("alice")
    assert (await browser.get("/slow")).cookies == {}
    assert (await browser.get()).user is None


async def test_a_slow_request_that_the_store_fails_renews_nothing(
    browser: Browser, backend: FaultyBackend, meanwhile: Meanwhile
) -> None:
    """The page is served, and the next request renews."""
    await browser.sign_in()
    await browser.get()
    meanwhile.takes = 2.001

    async def fail() -> None:
        backend.break_down()

    meanwhile.happens = fail
    reply = await browser.get("/slow")
    assert (reply.status, reply.cookies) == (200, {})
    backend.heal()
    assert (await browser.get()).token == browser.token


async def test_slow_requests_at_once_are_each_answered(browser: Browser, meanwhile: Meanwhile) -> None:
    """Ten of them renew one value."""
    await browser.sign_in()
    meanwhile.takes = 2.001
    replies = await asyncio.gather(*(browser.send("GET", "/slow") for _ in range(10)))
    assert {reply.token for reply in replies} == {browser.token}
