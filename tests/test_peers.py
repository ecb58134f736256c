"""What users of other libraries complain of, a named test each: the bugs that must not be here."""

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
from .stores import Store

EVERY_STORE = True


def tokens_of(replies: list[Reply]) -> set[str | None]:
    return {reply.token for reply in replies}


def sessions_in(replies: list[Reply]) -> int:
    return sum(SESSION in reply.cookies for reply in replies)


@pytest.fixture
async def two_workers(workers: Workers, backend: FaultyBackend) -> list[Worker]:
    return [await workers(backend), await workers(backend)]


@pytest.mark.parametrize("count", [1, 2])
async def test_spring_3079_two_windows_restored_at_start_up(
    workers: Workers, backend: FaultyBackend, count: int
) -> None:
    """40 requests at once with one token, on one worker or spread over two: one successor, one session, all served."""
    pool = [await workers(backend) for _ in range(count)]
    browser = Browser(pool[0])
    await browser.sign_in()
    browser.end_session()
    old = browser.token
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=pool[n % count]) for n in range(40)))
    assert [reply.user for reply in replies] == ["alice"] * 40
    assert len(tokens_of(replies)) == 1
    assert tokens_of(replies) != {old}
    assert sessions_in(replies) == 1
    assert [name for worker in pool for name, _ in worker.events] == ["remember", "restore"]
    browser.take(replies[0])
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_spring_3079_the_swap_itself_is_raced_for(two_workers: list[Worker], backend: FaultyBackend) -> None:
    """All 40 have read the current token before the first swap: 39 lose it, read again and join."""
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
    assert len(tokens_of(replies)) == 1
    assert sessions_in(replies) == 1


async def test_spring_2648_the_slower_request_does_not_overwrite_the_new_token(
    two_workers: list[Worker], backend: FaultyBackend
) -> None:
    """Its swap is a compare-and-swap on what it read: it loses, and joins."""
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
    assert (reply.user, reply.token) == ("alice", fast.token)
    assert SESSION not in reply.cookies
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_spring_2648_a_cancelled_first_request_leaves_a_token_that_works(
    workers: Workers, backend: FaultyBackend
) -> None:
    """The client hangs up while its exchange is written: nobody got the new token, and the old one still joins."""
    worker = await workers(backend)
    browser = Browser(worker)
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
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_spring_17292_a_page_with_many_images(browser: Browser) -> None:
    """The page restores; its images were asked for with the old token, one after the other."""
    await browser.sign_in()
    browser.end_session()
    old = browser.clone()
    page = await browser.get()
    images = [await old.send("GET", "/me") for _ in range(10)]
    assert [image.user for image in images] == ["alice"] * 10
    assert tokens_of(images) == {page.token}
    assert sessions_in(images) == 0


async def test_spring_11921_two_api_calls_of_one_page(browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    one, two = await asyncio.gather(browser.send("GET", "/me"), browser.send("GET", "/devices"))
    assert one.user == "alice"
    assert len(two.json) == 1
    assert one.token == two.token


async def test_spring_6605_a_reload_while_the_first_request_is_slow(workers: Workers, store: Store) -> None:
    gate = Gate()

    async def slow(request: web.Request) -> web.Response:
        await gate()
        return web.json_response((await aiohttp_session.get_session(request)).get("user"))

    browser = Browser(await workers(await store.backend(), handlers={"/slow": slow}))
    await browser.sign_in()
    browser.end_session()
    first = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    reload = await browser.send("GET", "/me")
    gate.opened.set()
    assert reload.user == "alice"
    assert (await first).json == "alice"
    assert reload.token == (await first).token


@pytest.mark.parametrize("failure", [ZeroDivisionError("directory"), BackendError("directory"), TimeoutError()])
async def test_spring_3801_the_directory_is_down_while_restoring(
    workers: Workers, failure: Exception, caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """The token is spent after the user was looked up: the next visit restores, and nobody cries theft."""
    down = True

    async def validate(_: web.Request, __: object) -> bool:
        if down:
            raise failure
        return True

    worker = await workers(await store.backend(), validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    token = browser.token
    reply = await browser.get()
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    assert browser.token == token
    down = False
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize("rotated_on", ["the same worker", "another worker"])
async def test_symfony_18384_a_slow_response_does_not_bring_the_old_token_back(
    workers: Workers, clock: Clock, rotated_on: str, store: Store
) -> None:
    """A live request is slow; its session ends, the token is exchanged elsewhere; then its response arrives."""
    gate, backend = Gate(), await store.backend()

    worker = await workers(backend, handlers={"/slow": gate.answer})
    other = worker if rotated_on == "the same worker" else await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(1.001)
    browser.end_session()
    rotated = await browser.get(to=other)
    gate.opened.set()
    late = await pending
    assert rotated.token
    assert late.token is None
    browser.take(late)
    clock.advance(DAY)
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_symfony_18384_nor_does_one_whose_session_expired_meanwhile(
    workers: Workers, clock: Clock, store: Store
) -> None:
    gate, backend = Gate(), await store.backend()

    storage = aiohttp_session.SimpleCookieStorage(max_age=600)
    worker, other = await workers(backend, handlers={"/slow": gate.answer}, storage=storage), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    # aiohttp-session reads the system's clock, and says in the cookie what it read.
    session: SimpleCookie = SimpleCookie(f"{SESSION}={browser.cookies[SESSION]}")
    clock.now = json.loads(session[SESSION].value)["created"] + 599.5
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(0.9)
    browser.end_session()
    assert (await browser.get(to=other)).token
    gate.opened.set()
    assert (await pending).token is None


async def test_symfony_18384_nor_one_whose_persistent_session_has_ended(
    workers: Workers, clock: Clock, store: Store
) -> None:
    gate, backend = Gate(), await store.backend()

    worker, other = await workers(backend, handlers={"/slow": gate.answer}), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2)
    await other.manager.revoke_all("alice")
    gate.opened.set()
    assert (await pending).token is None
    assert (await browser.get()).user is None


@pytest.mark.parametrize("first", ["exchanged", "joined"])
@pytest.mark.parametrize("rotated_on", ["the same worker", "another worker"])
async def test_symfony_40971_a_slow_restore_does_not_put_its_token_over_a_newer_one(
    workers: Workers, clock: Clock, first: str, rotated_on: str, store: Store
) -> None:
    """What a slow response was given at its start may have been exchanged again before it is sent."""
    gate, backend = Gate(), await store.backend()

    worker = await workers(backend, handlers={"/slow": gate.answer})
    other = worker if rotated_on == "the same worker" else await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    old = browser.clone()
    if first == "joined":
        await browser.get(to=other)
    pending = asyncio.create_task(old.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2)
    if first == "exchanged":
        await browser.get(to=other)
    browser.end_session()
    newest = await browser.get(to=other)
    gate.opened.set()
    late = await pending
    assert newest.token
    assert late.token is None
    browser.take(late)
    clock.advance(DAY)
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_symfony_42343_a_slow_restore_that_nothing_overtook_sends_its_token(
    workers: Workers, clock: Clock
) -> None:
    gate, backend = Gate(), FaultyBackend(MemoryBackend())

    browser = Browser(await workers(backend, handlers={"/slow": gate.answer}))
    for store_is_up in (True, False):
        await browser.sign_in()
        browser.end_session()
        pending = asyncio.create_task(browser.get("/slow"))
        await gate.reached.wait()
        clock.advance(30)
        if not store_is_up:
            backend.break_down()
        gate.opened.set()
        assert Token.parse((await pending).token or "")
        backend.heal()
        browser.end_session()
        assert (await browser.get()).user == "alice"
        gate.reached.clear()
        gate.opened.clear()


async def test_symfony_54192_a_lost_response_followed_by_a_reload(browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    lost = await browser.send("GET", "/me")
    assert SESSION in lost.cookies
    reload = await browser.get()
    assert (reload.user, reload.token) == ("alice", lost.token)
    assert (await browser.get()).user == "alice"
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_symfony_54192_every_loser_of_the_race_gets_the_new_token(browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    replies = [await browser.send("GET", "/me") for _ in range(5)]
    assert len(tokens_of(replies)) == 1
    assert None not in tokens_of(replies)


async def test_symfony_40496_the_store_is_down_once_and_nobody_is_logged_out(
    backend: FaultyBackend, browser: Browser
) -> None:
    await browser.sign_in()
    browser.end_session()
    backend.break_down()
    reply = await browser.get()
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    backend.heal()
    assert (await browser.get()).user == "alice"


async def test_pow_356_tabs_opened_after_expiry_are_all_in(browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me") for _ in range(5)))
    assert [reply.user for reply in replies] == ["alice"] * 5


async def test_pow_435_a_request_queued_by_the_browser_arrives_after_the_first_was_answered(
    browser: Browser, clock: Clock
) -> None:
    await browser.sign_in()
    browser.end_session()
    queued = browser.clone()
    await browser.get()
    clock.advance(9)
    assert (await queued.get()).user == "alice"


@pytest.mark.parametrize(
    "value", ["unknown", "expired", "late", "malformed"], ids=lambda value: f"a token that is {value}"
)
async def test_pow_739_the_losers_response_never_deletes_the_winners_cookie(
    browser: Browser, clock: Clock, value: str
) -> None:
    await browser.sign_in()
    browser.end_session()
    late = browser.token
    if value == "expired":
        clock.advance(31 * DAY)
    elif value == "late":
        await browser.get()
        clock.advance(30)
    presented = {"unknown": Token.generate().cookie_value, "malformed": "x"}.get(value, late)
    reply = await browser.send("GET", "/me", cookie_header=f"{TOKEN}={presented}")
    assert reply.user is None
    assert "Set-Cookie" not in reply.headers


async def test_pow_739_nor_does_a_slow_response_to_a_copied_token(workers: Workers, clock: Clock, store: Store) -> None:
    gate = Gate()

    browser = Browser(await workers(await store.backend(), handlers={"/slow": gate.answer}))
    await browser.sign_in()
    browser.cookies = {TOKEN: (browser.token or "").split(".")[0] + "." + "A" * 43}
    pending = asyncio.create_task(browser.send("GET", "/slow"))
    await gate.reached.wait()
    clock.advance(2)
    await browser.sign_in()
    gate.opened.set()
    browser.take(await pending)
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_pow_alpha_a_live_request_is_not_sent_back_whatever_it_presented(browser: Browser) -> None:
    await browser.sign_in()
    browser.cookies[TOKEN] = Token.generate().cookie_value
    assert (await browser.get()).token is None
    browser.cookies[TOKEN] = "script"
    assert (await browser.get()).token is None


async def test_pow_alpha_the_record_does_not_expire_before_its_cookie(browser: Browser, clock: Clock) -> None:
    """Active for two months without a break, then away for almost as long as the cookie lives."""
    await browser.sign_in()
    for _ in range(60 * 24 // 6):
        clock.advance(6 * 3600)
        await browser.get()
    for pause in (59, 59, 59):
        clock.advance(pause)
        renewed = await browser.get()
        assert renewed.cookies[TOKEN]["max-age"] == str(30 * DAY)
    clock.advance(30 * DAY - 1)
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_supabase_1901_reuse_cannot_prolong_itself(browser: Browser, clock: Clock) -> None:
    """The window counts from the first use, not from the last."""
    await browser.sign_in()
    browser.end_session()
    thief = browser.clone()
    await browser.get()
    clock.advance(6)
    assert (await thief.send("GET", "/me")).user == "alice"
    clock.advance(6)
    assert (await thief.send("GET", "/me")).user is None


async def test_contao_483_three_tabs_that_each_hold_another_token(browser: Browser) -> None:
    """More than one previous token is remembered: 15 exchanges within the grace period, and the first still joins."""
    await browser.sign_in()
    browser.end_session()
    tabs = []
    for _ in range(15):
        tabs.append(browser.clone())
        browser.end_session()
        await browser.get()
    for tab in tabs:
        tab.end_session()
        reply = await tab.get()
        assert (reply.user, reply.token) == ("alice", browser.token)


async def test_spring_1938_logging_out_here_leaves_the_other_browsers_in(worker: Worker) -> None:
    here, there = Browser(worker), Browser(worker)
    await here.sign_in()
    await there.sign_in()
    await here.post("/logout")
    there.end_session()
    assert (await there.get()).user == "alice"


async def test_spring_4824_a_found_out_copy_ends_one_persistent_session_only(worker: Worker, clock: Clock) -> None:
    here, there = Browser(worker), Browser(worker)
    await here.sign_in()
    await there.sign_in()
    thief = here.clone()
    here.end_session()
    await here.get()
    clock.advance(61)
    thief.end_session()
    assert (await thief.get()).token == ""
    there.end_session()
    assert (await there.get()).user == "alice"


async def test_flask_login_824_no_cookie_for_users_who_never_asked_to_be_remembered(browser: Browser) -> None:
    await browser.post("/login-unremembered", data={"user": "bob"})
    reply = await browser.get()
    assert reply.user == "bob"
    assert TOKEN not in reply.cookies
    assert TOKEN not in browser.cookies


@pytest.mark.parametrize(
    "broken",
    ["x", "", '"', "a.b", "\\", "%00", "=;=", "A" * 22 + "." + "A" * 43 + "="],
)
async def test_flask_login_901_a_broken_cookie_blocks_no_other_way_to_log_in(browser: Browser, broken: str) -> None:
    browser.cookies[TOKEN] = broken
    assert (await browser.get()).user is None
    await browser.sign_in()
    assert (await browser.get()).user == "alice"
    assert Token.parse(browser.token or "")


async def test_flask_login_901_nor_does_a_broken_session_cookie(browser: Browser) -> None:
    await browser.sign_in()
    for broken in ("x", "[]", "1", '"{"'):
        browser.cookies[SESSION] = broken
        assert (await browser.get()).user == "alice"
        browser.cookies[SESSION] = broken
        await browser.sign_in("bob")
        assert (await browser.get()).user == "bob"
        await browser.sign_in("alice")


async def test_symfony_cve_2024_51996_the_user_is_the_records(worker: Worker) -> None:
    """Nothing in the cookie names a user: one's selector with another's secret is nobody."""
    alice, bob = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    await bob.sign_in("bob")
    mixed = f"{(alice.token or '').split('.')[0]}.{(bob.token or '').split('.')[1]}"
    assert (await Browser(worker, {TOKEN: mixed}).get()).user is None


async def test_spring_3194_records_of_old_logins_are_removed_by_the_hourly_purge(
    workers: Workers, clock: Clock
) -> None:
    """Where the store does not expire them by itself; authboss#228 is the same."""
    backend = MemoryBackend()
    worker = await workers(backend)
    for _ in range(5):
        await Browser(worker).sign_in()
    clock.advance(31 * DAY)
    assert await worker.manager.purge() == 5
    assert await backend.of_user("alice") == []


async def test_spring_3194_records_of_old_logins_are_removed_by_max_sessions(
    workers: Workers, clock: Clock, store: Store
) -> None:
    backend = await store.backend()
    worker = await workers(backend, max_sessions=2)
    for _ in range(5):
        clock.advance(1)
        await Browser(worker).sign_in()
    assert len(await backend.of_user("alice")) == 2


async def test_a_cancelled_handler_that_remembered_remembers_nobody(workers: Workers, store: Store) -> None:
    """The client hung up before it was told; what it was not told of must not lie about for a month."""
    gate, backend = Gate(), await store.backend()
    died = asyncio.Event()

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        try:
            await gate()
        finally:
            died.set()
        return web.Response()

    @web.middleware
    async def hang_up(request: web.Request, handler: Callable[..., object]) -> web.StreamResponse:
        task = asyncio.create_task(handler(request))  # type: ignore[arg-type]
        await gate.reached.wait()
        task.cancel()
        return await task

    worker = await workers(backend, handlers={"/": login}, middlewares=[hang_up])
    await asyncio.gather(Browser(worker).get("/"), return_exceptions=True)
    assert died.is_set()
    assert await backend.of_user("alice") == []


async def test_a_joined_request_that_changes_the_session_is_saved_as_the_same_user(browser: Browser) -> None:
    await browser.sign_in()
    browser.end_session()
    joined = browser.clone()
    first = await browser.get()
    reply = await joined.post("/cart", data={"item": "book"})
    assert reply.json == "alice"
    assert reply.token == first.token
    assert SESSION in reply.cookies
    after = await joined.get()
    assert (after.user, after.json["cart"], after.json["id"]) == ("alice", "book", first.json["id"])
    assert after.json["fresh"] is False


async def test_max_lifetime_ends_the_most_active_browser(workers: Workers, clock: Clock, store: Store) -> None:
    """No rival but one has an absolute lifetime (OWASP ASVS 5.0, 7.3.2)."""
    browser = Browser(await workers(await store.backend(), max_lifetime=timedelta(days=1)))
    await browser.sign_in()
    for _ in range(23):
        clock.advance(3600)
        assert (await browser.get()).user == "alice"
    clock.advance(3600)
    assert (await browser.get()).user is None
    browser.end_session()
    assert (await browser.get()).user is None
