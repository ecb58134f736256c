"""What users of other libraries have complained of for years, a named test each: the bugs that must not be here.

The complaints of 2026 are in test_peers_2026.py.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from http.cookies import SimpleCookie

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import BackendError, MemoryBackend, remember
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")


def tokens_in(replies: list[Reply]) -> int:
    return sum(TOKEN in reply.cookies for reply in replies)


def sessions_in(replies: list[Reply]) -> int:
    return sum(SESSION in reply.cookies for reply in replies)


async def is_in_again(browser: Browser, clock: Clock, after: float = 3) -> bool:
    """Close the browser, and tell whether it is signed in when it comes back."""
    clock.advance(after)
    browser.end_session()
    return bool((await browser.get()).user == "alice")


@pytest.fixture
async def two_workers(workers: Workers, backend: FaultyBackend) -> list[Worker]:
    return [await workers(backend), await workers(backend)]


# Requests at the same time


@pytest.mark.parametrize("count", [1, 2])
async def test_spring_3079_two_windows_restored_at_start_up(
    workers: Workers, backend: FaultyBackend, clock: Clock, count: int
) -> None:
    """40 requests at once with one token are all served, by one exchange that opens one session."""
    pool = [await workers(backend) for _ in range(count)]
    browser = Browser(pool[0])
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=pool[n % count]) for n in range(40)))
    assert [reply.user for reply in replies] == ["alice"] * 40
    assert (tokens_in(replies), sessions_in(replies)) == (1, 1)
    assert [name for worker in pool for name, _ in worker.events] == ["remember", "restore"]
    for reply in replies:
        browser.take(reply)
    assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock)


async def test_spring_3079_the_swap_itself_is_raced_for(
    two_workers: list[Worker], backend: FaultyBackend, clock: Clock
) -> None:
    """Where all 40 have read the record before the first swap, 39 lose the swap, read again and join."""
    browser = Browser(two_workers[0])
    await browser.sign_in()
    browser.end_session()
    gate, waiting = Gate(), 0

    async def hold_the_first_swaps(name: str) -> None:
        nonlocal waiting
        if name == "replace":
            waiting += 1
            if waiting == 40:
                gate.opened.set()
            await gate.opened.wait()

    backend.fault = hold_the_first_swaps
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=two_workers[n % 2]) for n in range(40)))
    assert [reply.user for reply in replies] == ["alice"] * 40
    assert (tokens_in(replies), sessions_in(replies)) == (1, 1)
    for reply in replies:
        browser.take(reply)
    assert await is_in_again(browser, clock)


async def test_spring_2648_the_slower_request_does_not_overwrite_the_new_token(
    two_workers: list[Worker], backend: FaultyBackend, clock: Clock
) -> None:
    """A swap compares with what the request read: the slower one loses it, and joins."""
    browser = Browser(two_workers[0])
    await browser.sign_in()
    browser.end_session()
    slow = browser.clone()
    gate = Gate()
    backend.fault = lambda name: gate() if name == "replace" else asyncio.sleep(0)
    pending = asyncio.create_task(slow.send("GET", "/me"))
    await gate.reached.wait()
    backend.heal()
    fast = await browser.get(to=two_workers[1])
    gate.opened.set()
    reply = await pending
    assert (fast.token is not None, reply.user, reply.cookies) == (True, "alice", {})
    assert await is_in_again(browser, clock)


async def test_spring_2648_a_cancelled_first_request_leaves_a_token_that_works(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A client that hangs up while its exchange is written goes on with the token before, at once and later."""
    await browser.sign_in()
    browser.end_session()
    gate = Gate()
    backend.after = lambda name: gate() if name == "replace" else asyncio.sleep(0)
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await gate.reached.wait()
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    backend.heal()
    gate.opened.set()
    for after in (0, 5, 6, 60, 600, DAY):
        clock.advance(after)
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(browser.worker.events)


async def test_spring_17292_a_page_with_many_images(browser: Browser, clock: Clock) -> None:
    """The page restores; its images, asked for with the token before, join and set no cookie."""
    await browser.sign_in()
    browser.end_session()
    old = browser.clone()
    page = await browser.get()
    images = []
    for _ in range(10):
        images.append(await old.send("GET", "/me"))
        clock.advance(1)
    assert page.token
    assert [image.user for image in images] == ["alice"] * 10
    assert (tokens_in(images), sessions_in(images)) == (0, 0)
    assert await is_in_again(browser, clock)


async def test_spring_11921_two_api_calls_of_one_page(browser: Browser) -> None:
    """Both calls of a page are signed in, and one of them brings the new token."""
    await browser.sign_in()
    browser.end_session()
    one, two = await asyncio.gather(browser.send("GET", "/me"), browser.send("GET", "/devices"))
    assert one.user == "alice"
    assert len(two.json) == 1
    assert (tokens_in([one, two]), sessions_in([one, two])) == (1, 1)


@pytest.mark.parametrize("after", [0, 9, 11, 40])
async def test_spring_6605_a_reload_while_the_first_request_is_slow(
    workers: Workers, backend: FaultyBackend, clock: Clock, after: float
) -> None:
    """However slow the first request is, the reload is served, and either answer may be the last."""
    gate = Gate()

    async def slow(request: web.Request) -> web.Response:
        await gate()
        return web.json_response((await aiohttp_session.get_session(request)).get("user"))

    browser = Browser(await workers(backend, handlers={"/slow": slow}))
    await browser.sign_in()
    browser.end_session()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(after)
    reload = await browser.send("GET", "/me")
    gate.opened.set()
    first = await pending
    assert (reload.user, first.json) == ("alice", "alice")
    for last, before in ((first, reload), (reload, first)):
        again = browser.clone()
        again.take(before)
        again.take(last)
        assert (await again.get()).user == "alice"
        assert await is_in_again(again, clock)


# What fails while a request is restored


@pytest.mark.parametrize("failure", [ZeroDivisionError("directory"), BackendError("directory"), TimeoutError()])
async def test_spring_3801_the_directory_is_down_while_restoring(
    workers: Workers, backend: FaultyBackend, failure: Exception
) -> None:
    """The token is spent after the user was looked up: the next visit restores, and nobody cries theft."""
    down = True

    async def validate(_: web.Request, __: object) -> bool:
        if down:
            raise failure
        return True

    worker = await workers(backend, validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    before = (await backend.of_user("alice", 9))[0]
    reply = await browser.get()
    assert (reply.status, reply.user, reply.json["restore_failed"], reply.cookies) == (200, None, True, {})
    assert await backend.of_user("alice", 9) == [before]
    down = False
    assert (await browser.get()).user == "alice"
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_symfony_40496_the_store_is_down_once_and_nobody_is_logged_out(
    backend: FaultyBackend, browser: Browser
) -> None:
    """A store that is down once makes a visitor anonymous once, and touches no cookie."""
    await browser.sign_in()
    browser.end_session()
    backend.break_down()
    reply = await browser.get()
    assert (reply.status, reply.user, reply.json["restore_failed"], reply.cookies) == (200, None, True, {})
    backend.heal()
    assert (await browser.get()).user == "alice"


# Answers that come late, or never


@pytest.mark.parametrize(("exchanged_on", "after"), [("the same worker", 1.001), ("another worker", 2.5)])
async def test_symfony_18384_a_slow_response_does_not_bring_the_old_token_back(
    workers: Workers, backend: FaultyBackend, clock: Clock, exchanged_on: str, after: float
) -> None:
    """A live request is slow; its token is exchanged meanwhile; then its response leaves the cookie alone."""
    gate = Gate()
    worker = await workers(backend, handlers={"/slow": gate.answer})
    other = worker if exchanged_on == "the same worker" else await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(after)
    browser.end_session()
    exchanged = await browser.get(to=other)
    gate.opened.set()
    late = await pending
    assert exchanged.token
    assert late.cookies == {}
    browser.take(late)
    assert await is_in_again(browser, clock, DAY)


async def test_symfony_18384_even_an_old_token_that_comes_back_signs_in(
    two_workers: list[Worker], clock: Clock
) -> None:
    """What a worker may re-send in the first 2 s, not knowing of an exchange at another one, is valid still."""
    browser = Browser(two_workers[0])
    await browser.sign_in()
    old = browser.token or ""
    browser.end_session()
    await browser.get(to=two_workers[1])
    browser.cookies[TOKEN] = old
    assert (await browser.get()).user == "alice"
    for worker in (*two_workers, *two_workers):
        clock.advance(50)
        browser.worker = worker
        assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock, DAY)
    assert not {"reuse", "revoke"} & {name for worker in two_workers for name, _ in worker.events}


async def test_symfony_18384_nor_does_one_whose_session_expired_meanwhile(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A response that began before its session's end does not put the token back that was exchanged after it."""
    gate = Gate()
    storage = aiohttp_session.SimpleCookieStorage(max_age=600)
    worker, other = await workers(backend, handlers={"/slow": gate.answer}, storage=storage), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    # aiohttp-session reads the system's clock, and says in the cookie what it read.
    session: SimpleCookie = SimpleCookie(f"{SESSION}={browser.cookies[SESSION]}")
    clock.now = json.loads(session[SESSION].value)["created"] + 599.5
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2.1)
    browser.end_session()
    assert (await browser.get(to=other)).token
    gate.opened.set()
    assert (await pending).cookies == {}


async def test_symfony_18384_nor_one_whose_persistent_session_has_ended(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A slow response of a persistent session that was revoked meanwhile renews nothing."""
    gate = Gate()
    worker, other = await workers(backend, handlers={"/slow": gate.answer}), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2.1)
    await other.manager.revoke_all("alice")
    gate.opened.set()
    assert (await pending).token is None
    assert (await browser.get()).user is None


@pytest.mark.parametrize("first", ["exchanged", "joined"])
@pytest.mark.parametrize("exchanged_on", ["the same worker", "another worker"])
@pytest.mark.parametrize("seconds", [5, 30])
async def test_symfony_40971_a_slow_restore_puts_no_worthless_token_over_a_newer_one(
    workers: Workers, backend: FaultyBackend, clock: Clock, first: str, exchanged_on: str, seconds: float
) -> None:
    """Whichever of two answers the browser takes last, the token in it is valid."""
    gate = Gate()
    worker = await workers(backend, handlers={"/slow": gate.answer})
    other = worker if exchanged_on == "the same worker" else await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    old = browser.clone()
    if first == "joined":
        await browser.get(to=other)
    pending = asyncio.create_task(old.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(seconds)
    browser.end_session()
    newest = await browser.get(to=other)
    gate.opened.set()
    late = await pending
    assert newest.user == "alice"
    assert late.token is None or first == "exchanged"
    browser.take(late)
    assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock, DAY)
    assert "reuse" not in {name for one in (worker, other) for name, _ in one.events}


async def test_symfony_42343_a_slow_restore_that_nothing_overtook_sends_its_token(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The token of a slow answer counts as issued when the answer begins, so that it outlasts the one before it."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    browser.end_session()
    pending = asyncio.create_task(browser.get("/slow"))
    await gate.reached.wait()
    clock.advance(300)
    gate.opened.set()
    reply = await pending
    assert Token.parse(reply.token or "")
    assert SESSION in reply.cookies
    assert await is_in_again(browser, clock, 89)


async def test_symfony_42343_where_the_store_is_down_then_it_sends_neither_token_nor_session(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A slow answer whose token cannot be confirmed is left without it: the presented token is valid still."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    browser.end_session()
    pending = asyncio.create_task(browser.get("/slow"))
    await gate.reached.wait()
    clock.advance(30)
    backend.break_down()
    gate.opened.set()
    reply = await pending
    assert (reply.status, reply.cookies) == (200, {})
    backend.heal()
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("after", [0, 9, 11, 61, DAY], ids=lambda after: f"{after} s later")
async def test_symfony_54192_a_lost_response_followed_by_a_reload(browser: Browser, clock: Clock, after: float) -> None:
    """The token whose answer was lost goes on signing in, at once and later."""
    await browser.sign_in()
    browser.end_session()
    lost = await browser.send("GET", "/me")
    assert {TOKEN, SESSION} <= set(lost.cookies)
    clock.advance(after)
    assert (await browser.get()).user == "alice"
    assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock)


async def test_symfony_54192_every_loser_of_the_race_gets_a_token_in_the_end(browser: Browser, clock: Clock) -> None:
    """Where the answer of the only exchange was lost, those who joined it are not left without a new token."""
    await browser.sign_in()
    browser.end_session()
    replies = [await browser.send("GET", "/me") for _ in range(5)]
    assert tokens_in(replies) == 1
    for reply in replies[1:]:
        loser = browser.clone()
        loser.take(reply)
        clock.advance(11)
        assert (await loser.get()).token
        assert await is_in_again(loser, clock)
    assert "reuse" not in dict(browser.worker.events)


async def test_pow_356_tabs_opened_after_expiry_are_all_in(browser: Browser) -> None:
    """No tab that is opened with an expired session sees the login form."""
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me") for _ in range(5)))
    assert [reply.user for reply in replies] == ["alice"] * 5


@pytest.mark.parametrize("after", [9, 11, 80])
async def test_pow_435_a_request_queued_by_the_browser_arrives_after_the_first_was_answered(
    browser: Browser, clock: Clock, after: float
) -> None:
    """A request that waited for a free connection is served with the token that it was made with."""
    await browser.sign_in()
    browser.end_session()
    queued = browser.clone()
    await browser.get()
    clock.advance(after)
    late = await queued.send("GET", "/me")
    assert late.user == "alice"
    browser.take(late)
    assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock, 100)


# Cookies that must be left alone


@pytest.mark.parametrize("value", ["unknown", "expired", "malformed"], ids=lambda value: f"a token that is {value}")
async def test_pow_739_the_losers_response_never_deletes_the_winners_cookie(
    browser: Browser, clock: Clock, value: str
) -> None:
    """A token that signs nobody in leaves the cookie alone, which may be another one by now."""
    await browser.sign_in()
    presented = {"unknown": Token.generate().cookie_value, "malformed": "x"}.get(value, browser.token)
    if value == "expired":
        clock.advance(31 * DAY)
    reply = await browser.send("GET", "/me", cookie_header=f"{TOKEN}={presented}")
    assert reply.user is None
    assert "Set-Cookie" not in reply.headers


async def test_pow_739_nor_does_a_slow_response_to_a_copied_token(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The answer to a copy that comes after a sign-in does not delete the new cookie."""
    gate = Gate()
    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    await browser.sign_in()
    browser.cookies = {TOKEN: (browser.token or "").split(".")[0] + "." + "A" * 43}
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2.1)
    await browser.sign_in()
    gate.opened.set()
    browser.take(await pending)
    assert (await browser.get()).user == "alice"
    assert await is_in_again(browser, clock)


async def test_pow_alpha_a_live_request_is_not_sent_back_whatever_it_presented(browser: Browser) -> None:
    """Only a token that is known as the newest one is renewed."""
    await browser.sign_in()
    browser.cookies[TOKEN] = Token.generate().cookie_value
    assert (await browser.get()).token is None
    browser.cookies[TOKEN] = "script"
    assert (await browser.get()).token is None


async def test_pow_alpha_the_record_does_not_expire_before_its_cookie(browser: Browser, clock: Clock) -> None:
    """A browser that was active for two months may then be away for almost as long as its cookie lives."""
    await browser.sign_in()
    for _ in range(60 * 24 // 6):
        clock.advance(6 * 3600)
        assert (await browser.get()).user == "alice"
    unrenewed = 0
    for _ in range(6):
        clock.advance(29)
        reply = await browser.get()
        unrenewed = 0 if TOKEN in reply.cookies else unrenewed + 29
        assert unrenewed < 60
        assert TOKEN not in reply.cookies or reply.cookies[TOKEN]["max-age"] == str(30 * DAY)
    assert await is_in_again(browser, clock, 30 * DAY - 1 - unrenewed)


async def test_flask_login_824_no_cookie_for_users_who_never_asked_to_be_remembered(browser: Browser) -> None:
    """A login of the app's own gets no token, at no request; flask-login#876 is the same."""
    await browser.post("/login-unremembered", data={"user": "bob"})
    for _ in range(3):
        reply = await browser.get()
        assert reply.user == "bob"
        assert TOKEN not in reply.cookies
    assert TOKEN not in browser.cookies


@pytest.mark.parametrize(
    "broken",
    ["x", "", '"', "a.b", "\\", "%00", "=;=", "A" * 22 + "." + "A" * 43 + "="],
)
async def test_flask_login_901_a_broken_cookie_blocks_no_other_way_to_log_in(browser: Browser, broken: str) -> None:
    """Whatever a cookie of our name holds, signing in works and replaces it."""
    browser.cookies[TOKEN] = broken
    assert (await browser.get()).user is None
    await browser.sign_in()
    assert (await browser.get()).user == "alice"
    assert Token.parse(browser.token or "")


async def test_flask_login_901_nor_does_a_broken_session_cookie(browser: Browser, clock: Clock) -> None:
    """Beside an unreadable session cookie the token signs in, and so does the login form."""
    await browser.sign_in()
    for broken in ("x", "[]", "1", '"{"'):
        clock.advance(3)
        browser.cookies[SESSION] = broken
        assert (await browser.get()).user == "alice"
        browser.cookies[SESSION] = broken
        await browser.sign_in("bob")
        assert (await browser.get()).user == "bob"
        await browser.sign_in("alice")


# Copies


async def test_supabase_1901_reuse_cannot_prolong_itself(browser: Browser, clock: Clock) -> None:
    """A copy that is used again and again beside its owner is found out within minutes, whatever it joins meanwhile."""
    await browser.sign_in()
    browser.end_session()
    thief = browser.clone()
    await browser.get()
    for _ in range(160 // 4):
        clock.advance(4)
        await thief.send("GET", "/me")
        await browser.get()
        if "reuse" in dict(browser.worker.events):
            break
    assert "reuse" in dict(browser.worker.events)
    for one in (thief, browser):
        one.end_session()
        assert (await one.get()).user is None


async def test_contao_483_three_tabs_that_each_hold_another_token(browser: Browser, clock: Clock) -> None:
    """More than one token before is remembered, also than the two of Zoeille/picsou-finance#65."""
    await browser.sign_in()
    tabs = []
    for _ in range(15):
        tabs.append(browser.clone())
        assert await is_in_again(browser, clock)
    for tab in tabs:
        assert await is_in_again(tab, clock, 0.5)
    assert await is_in_again(browser, clock)
    assert "reuse" not in dict(browser.worker.events)


@pytest.mark.parametrize("path", ["/logout", "/logout-everywhere?keep"])
async def test_spring_1938_logging_out_here_leaves_the_other_browsers_in(
    worker: Worker, clock: Clock, path: str
) -> None:
    """Only this browser, or only the others, are signed out: nobody loses both; laravel/framework#29244 is the same."""
    here, there = Browser(worker), Browser(worker)
    await here.sign_in()
    await there.sign_in()
    await here.post(path)
    left, out = (there, here) if path == "/logout" else (here, there)
    assert await is_in_again(left, clock)
    out.end_session()
    assert (await out.get()).user is None


async def test_spring_4824_a_found_out_copy_ends_one_persistent_session_only(worker: Worker, clock: Clock) -> None:
    """A theft costs its victim one browser's sign-in, in the place of all of them."""
    here, there = Browser(worker), Browser(worker)
    await here.sign_in()
    await there.sign_in()
    thief = here.clone()
    thief.end_session()
    assert await is_in_again(here, clock)
    clock.advance(91)
    assert (await here.get()).user == "alice"
    assert (await thief.get()).token == ""
    assert (await here.get()).user is None
    assert (await there.get()).user == "alice"
    assert await is_in_again(there, clock)


async def test_symfony_cve_2024_51996_the_user_is_the_records(worker: Worker) -> None:
    """Nothing in the cookie names a user: one's selector with another's secret is nobody."""
    alice, bob = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    await bob.sign_in("bob")
    mixed = f"{(alice.token or '').split('.')[0]}.{(bob.token or '').split('.')[1]}"
    assert (await Browser(worker, {TOKEN: mixed}).get()).user is None
    bob.end_session()
    assert (await bob.get()).user == "bob"


# Records that stay, and sign-ins that nobody was told of


async def test_spring_3194_records_of_old_logins_are_removed_by_the_purge(workers: Workers, clock: Clock) -> None:
    """Expired records do not stay where the store does not expire them by itself; authboss#228 is the same."""
    backend = MemoryBackend()
    worker = await workers(backend)
    for _ in range(5):
        await Browser(worker).sign_in()
    clock.advance(30 * DAY + 60 + DAY)
    assert await worker.manager.purge() == 5
    assert await backend.of_user("alice", 9) == []


async def test_spring_3194_records_of_old_logins_are_removed_by_max_sessions(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Who signs in again and again without signing out has a bounded number of records."""
    worker = await workers(backend, max_sessions=2)
    for _ in range(5):
        clock.advance(1)
        await Browser(worker).sign_in()
    assert len(await backend.of_user("alice", 9)) == 2


async def test_a_cancelled_handler_that_remembered_remembers_nobody(workers: Workers, backend: FaultyBackend) -> None:
    """Where the client hung up before it was told, no record lies about for a month."""
    gate, died = Gate(), asyncio.Event()

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        try:
            await gate()
        finally:
            died.set()
        return web.Response()

    @web.middleware
    async def hang_up(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        task = asyncio.create_task(handler(request))  # type: ignore[arg-type]  # a handler is a coroutine function
        await gate.reached.wait()
        task.cancel()
        return await task

    worker = await workers(backend, handlers={"/": login}, middlewares=[hang_up])
    await asyncio.gather(Browser(worker).get("/"), return_exceptions=True)
    assert died.is_set()
    assert await backend.of_user("alice", 9) == []


async def test_a_joined_request_that_changes_the_session_is_saved_as_the_same_user(
    browser: Browser, clock: Clock
) -> None:
    """What a joined request puts into the session is kept, in a session of the same user that is not fresh."""
    await browser.sign_in()
    browser.end_session()
    joined = browser.clone()
    first = await browser.get()
    reply = await joined.post("/cart", data={"item": "book"})
    assert reply.json == "alice"
    assert (reply.token, SESSION in reply.cookies) == (None, True)
    browser.take(reply)
    for one in (joined, browser):
        after = await one.get()
        assert (after.user, after.json["cart"], after.json["id"]) == ("alice", "book", first.json["id"])
        assert after.json["fresh"] is False
    assert await is_in_again(browser, clock)


async def test_max_lifetime_ends_the_most_active_browser(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """However active a browser is, its sign-in has an absolute end (OWASP ASVS 5.0, 7.3.2)."""
    browser = Browser(await workers(backend, max_lifetime=timedelta(days=1)))
    await browser.sign_in()
    for _ in range(23):
        clock.advance(3600)
        assert (await browser.get()).user == "alice"
    clock.advance(3600)
    assert (await browser.get()).user is None
    browser.end_session()
    assert (await browser.get()).user is None
