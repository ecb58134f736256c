"""A token without a session: what it is exchanged for, who joins, what browser and store hold afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from aiohttp_persistent_session import Backend, MemoryBackend
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers, raw_request
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")


async def restored(browser: Browser) -> Reply:
    """Close the browser, open it again, and take the first answer."""
    browser.end_session()
    return await browser.get()


def without_session(browser: Browser) -> Browser:
    """Another tab, which sends what the browser holds now without its session."""
    tab = browser.clone()
    tab.end_session()
    return tab


# Exchange


async def test_restoring_opens_a_session_and_sets_a_new_token(worker: Worker, browser: Browser) -> None:
    """A valid token without a session is exchanged for a session and a new token."""
    await browser.sign_in()
    old = browser.token
    reply = await restored(browser)
    assert reply.user == "alice"
    assert SESSION in browser.cookies
    assert Token.parse(reply.token or "")
    assert reply.token != old
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_the_selector_stays_and_the_secret_changes(browser: Browser, clock: Clock) -> None:
    """A persistent session keeps its selector, and so its id, through all of its exchanges."""
    await browser.sign_in()
    selectors, secrets = set(), set()
    for _ in range(4):
        selector, secret = (browser.token or "").split(".")
        selectors.add(selector)
        secrets.add(secret)
        clock.advance(3)
        await restored(browser)
    assert (len(selectors), len(secrets)) == (1, 4)


async def test_an_exchange_may_follow_a_sign_in_at_once(browser: Browser) -> None:
    """The sign-in's secret does not count among those that a record issues at most once in 2 s."""
    await browser.sign_in()
    assert (await restored(browser)).token


async def test_the_answer_of_an_exchange_is_that_of_the_new_token_alone(browser: Browser) -> None:
    """A response has one Set-Cookie of each name, and a cookie that is kept in no shared cache."""
    await browser.sign_in()
    reply = await restored(browser)
    names = [field.partition("=")[0] for field in reply.headers.getall("Set-Cookie")]
    assert sorted(names) == sorted([SESSION, TOKEN])
    assert reply.headers["Cache-Control"] == "private"


@pytest.mark.parametrize("seconds", [11, 30, 89, 91, 600, DAY, 29 * DAY])
async def test_a_browser_whose_answer_was_lost_is_restored_again(
    worker: Worker, browser: Browser, clock: Clock, seconds: float
) -> None:
    """The presented secret stays valid until it is known that its successor arrived, however long that takes."""
    await browser.sign_in()
    browser.end_session()
    lost = await browser.send("GET", "/me")
    clock.advance(seconds)
    reply = await browser.get()
    assert reply.user == "alice"
    assert reply.token not in (None, "", lost.token)
    assert (await restored(browser)).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_an_answer_that_arrives_after_a_later_one_is_as_good(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """Answers overtake each other: within SETTLE_TIME each of the secrets that were issued serves."""
    await browser.sign_in()
    browser.end_session()
    earlier = await browser.send("GET", "/me")
    clock.advance(15)
    later = await browser.send("GET", "/me")
    assert earlier.token != later.token
    browser.take(later)
    browser.take(earlier)
    clock.advance(200)
    assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize("visit", [10, 80])
async def test_a_browser_that_is_killed_before_its_cookies_are_on_disk_comes_back(
    worker: Worker, browser: Browser, clock: Clock, visit: float
) -> None:
    """A browser may lose the token that it got, with the session, and hold the one before it."""
    await browser.sign_in()
    clock.advance(DAY)
    on_disk = without_session(browser)
    await restored(browser)
    clock.advance(visit)
    await browser.get()
    clock.advance(3600)
    reply = await on_disk.get()
    assert reply.user == "alice"
    assert reply.token
    assert "reuse" not in dict(worker.events)


# Join


@pytest.mark.parametrize(("seconds", "joins"), [(0, True), (2, True), (10, True), (10.001, False)])
async def test_a_spent_token_joins_within_the_grace_period_and_is_exchanged_again_after_it(
    worker: Worker, browser: Browser, clock: Clock, seconds: float, joins: bool
) -> None:
    """Within ``grace_period`` of its first exchange a secret serves its requests, and no longer opens anything."""
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    clock.advance(seconds)
    reply = await tab.get()
    assert reply.user == "alice"
    assert (reply.cookies == {}) is joins
    assert [name for name, _ in worker.events].count("restore") == (1 if joins else 2)


async def test_a_join_gets_no_token_and_writes_nothing(
    browser: Browser, backend: FaultyBackend, worker: Worker
) -> None:
    """A copy that races with its owner is handed nothing that lasts."""
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    backend.calls.clear()
    reply = await tab.get()
    assert reply.user == "alice"
    assert reply.cookies == {}
    assert backend.calls == {"get": 1}
    assert [name for name, _ in worker.events] == ["remember", "restore"]


async def test_the_session_of_a_join_is_saved_only_if_the_handler_changes_it(browser: Browser) -> None:
    """A join's session is the handler's to keep: a cart that is filled in it is not lost."""
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    assert SESSION not in (await tab.get()).cookies
    reply = await tab.post("/cart", data={"item": "book"})
    assert reply.json == "alice"
    assert SESSION in reply.cookies
    assert TOKEN not in reply.cookies
    assert (await tab.get()).json["cart"] == "book"


async def test_the_session_of_a_join_ends_with_the_secret_that_it_came_with(browser: Browser, clock: Clock) -> None:
    """A join's session number is that of the presented secret: without its token it lives as long as that one."""
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    await tab.post("/cart", data={"item": "book"})
    del tab.cookies[TOKEN]
    assert (await tab.get()).user == "alice"
    clock.advance(91)
    assert (await browser.get()).user == "alice"
    assert (await tab.get()).user is None


@pytest.mark.parametrize("workers_count", [1, 2])
async def test_five_tabs_that_are_restored_at_once_make_one_exchange(
    workers: Workers, backend: FaultyBackend, workers_count: int
) -> None:
    """One token opens one session, however many requests bring it at once and wherever they arrive."""
    pool = [await workers(backend) for _ in range(workers_count)]
    browser = Browser(pool[0])
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=pool[n % workers_count]) for n in range(5)))
    assert [reply.user for reply in replies] == ["alice"] * 5
    assert sum(reply.token is not None for reply in replies) == 1
    assert sum(SESSION in reply.cookies for reply in replies) == 1
    assert sum(name == "restore" for worker in pool for name, _ in worker.events) == 1
    (record,) = await backend.of_user("alice", 10)
    assert (record.revision, record.last_session) == (1, 1)
    for reply in replies:
        browser.take(reply)
    assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"


async def test_tabs_that_are_restored_one_after_the_other_make_one_exchange(browser: Browser, clock: Clock) -> None:
    """A browser queues requests: some of one page are sent seconds after its first was answered."""
    await browser.sign_in()
    tabs = [without_session(browser) for _ in range(6)]
    replies = []
    for tab in tabs:
        replies.append(await tab.get())
        clock.advance(2)
    assert [reply.user for reply in replies] == ["alice"] * 6
    assert [reply.token is not None for reply in replies] == [True, False, False, False, False, False]


async def test_somebody_who_exchanges_every_11_seconds_does_not_keep_the_owner_joining(
    browser: Browser, clock: Clock
) -> None:
    """The grace period counts from the first exchange of the presented secret, and never begins anew."""
    await browser.sign_in()
    thief, owner = without_session(browser), without_session(browser)
    await thief.send("GET", "/me")
    clock.advance(11)
    assert (await thief.send("GET", "/me")).token
    clock.advance(3)
    assert (await owner.get()).token


@pytest.mark.parametrize(("seconds", "joins"), [(0, True), (2, True), (2.001, False)])
async def test_a_record_issues_one_secret_in_2_seconds(
    browser: Browser, clock: Clock, seconds: float, joins: bool
) -> None:
    """Within 2 s of any secret that was issued in the record, a valid secret joins, also the new one."""
    await browser.sign_in()
    await restored(browser)
    clock.advance(seconds)
    reply = await restored(browser)
    assert reply.user == "alice"
    assert (reply.token is None) is joins


async def test_without_a_grace_period_tabs_join_for_2_seconds_all_the_same(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """``grace_period=0`` leaves the 2 s in which a record issues one secret."""
    browser = Browser(await workers(backend, grace_period=0))
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    clock.advance(2)
    assert (await tab.send("GET", "/me")).cookies == {}
    clock.advance(0.001)
    assert (await tab.send("GET", "/me")).token


async def test_a_grace_period_longer_than_a_minute_is_kept_to(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A token joins for exactly as long as ``grace_period`` says."""
    browser = Browser(await workers(backend, grace_period=120))
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    clock.advance(120)
    assert (await tab.send("GET", "/me")).cookies == {}
    clock.advance(0.001)
    reply = await tab.send("GET", "/me")
    assert (reply.user, bool(reply.token)) == ("alice", True)


async def test_a_record_with_64_valid_secrets_issues_no_more_and_locks_nobody_out(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A bound keeps the record small: its owner joins until 90 s have passed, and is then as free as ever."""
    await browser.sign_in()
    for _ in range(63):
        assert (await restored(browser)).token
        clock.advance(2.001)
    (record,) = await backend.of_user("alice", 10)
    assert len(record.secrets) == 64
    reply = await restored(browser)
    assert (reply.user, reply.token) == ("alice", None)
    clock.advance(91)
    reply = await restored(browser)
    assert (reply.user, bool(reply.token)) == ("alice", True)
    (record,) = await backend.of_user("alice", 10)
    assert len(record.secrets) == 2


async def test_somebody_who_swaps_first_leaves_a_join(workers: Workers, backend: FaultyBackend) -> None:
    """Who loses the swap reads and judges again: the presented secret was exchanged meanwhile, so this one joins."""
    here, there = await workers(backend), await workers(backend)
    browser = Browser(here)
    await browser.sign_in()
    browser.end_session()
    gate = Gate()

    async def hold(name: str) -> None:
        if name == "replace" and not gate.reached.is_set():
            await gate()

    backend.fault = hold
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await gate.reached.wait()
    winner = await browser.send("GET", "/me", to=there)
    gate.opened.set()
    loser = await pending
    assert (winner.user, bool(winner.token)) == ("alice", True)
    assert (loser.user, loser.cookies) == ("alice", {})


async def test_a_swap_whose_answer_was_lost_is_found_to_have_won(browser: Browser, backend: FaultyBackend) -> None:
    """Who finds its own digest in the record has won, whatever the answer was."""
    await browser.sign_in()
    backend.lose_answer("replace")
    reply = await restored(browser)
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert (await browser.get()).user == "alice"


# Anonymous


async def test_the_user_is_still_signed_in_after_30_days_less_a_moment(browser: Browser, clock: Clock) -> None:
    """A browser may stay away for ``max_age``."""
    await browser.sign_in()
    clock.advance(30 * DAY - 1)
    assert (await restored(browser)).user == "alice"


async def test_activity_moves_the_records_expiry_as_the_cookies(browser: Browser, clock: Clock) -> None:
    """Expiry counts from the last visit."""
    await browser.sign_in()
    for _ in range(5):
        clock.advance(29 * DAY)
        assert (await browser.get()).user == "alice"
    clock.advance(29 * DAY)
    assert (await restored(browser)).user == "alice"


@pytest.mark.parametrize("presented", ["expired", "unknown", "malformed", "empty", "of a record that was ended"])
async def test_an_anonymous_request_leaves_both_cookies_alone(
    worker: Worker, browser: Browser, clock: Clock, presented: str
) -> None:
    """Unknown, expired, malformed: the request is anonymous, and no cookie of the browser is touched."""
    await browser.post("/cart", data={"item": "book"})
    anonymous = browser.cookies[SESSION]
    await browser.sign_in()
    if presented == "expired":
        clock.advance(30 * DAY + 60)
    elif presented == "of a record that was ended":
        await worker.manager.revoke_all("alice")
    else:
        browser.cookies[TOKEN] = {"unknown": Token.generate().cookie_value, "malformed": "x.y", "empty": ""}[presented]
    told = list(worker.events)
    for kept in (None, anonymous):
        browser.end_session()
        if kept is not None:
            browser.cookies[SESSION] = kept
        reply = await browser.get()
        assert (reply.user, reply.cookies) == (None, {})
        assert "Cache-Control" not in reply.headers
        assert reply.json["cart"] == (None if kept is None else "book")
    assert worker.events == told


async def test_a_malformed_token_costs_no_store_access(browser: Browser, backend: FaultyBackend) -> None:
    """What cannot be a token is never asked for."""
    backend.calls.clear()
    for value in ("", "x", "a.b", "A" * 66, f"{'A' * 22}.{'A' * 42}", f"{Token.generate().cookie_value}="):
        assert (await browser.send("GET", "/me", cookie_header=f"{TOKEN}={value}")).user is None
    assert not {"get", "replace", "delete"} & set(backend.calls)


async def test_a_shorter_max_age_binds_records_of_yesterday(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A browser that is away for ten days is signed out once a deployment has cut ``max_age`` to one."""
    before, after = await workers(backend), await workers(backend, max_age=DAY)
    browser = Browser(before)
    await browser.sign_in()
    clock.advance(10 * DAY)
    browser.end_session()
    assert (await browser.send("GET", "/me", to=after)).user is None
    assert (await browser.send("GET", "/me", to=before)).user == "alice"


@pytest.mark.parametrize("live", [True, False])
async def test_a_max_lifetime_that_is_introduced_lets_no_more_request_in(
    workers: Workers, backend: FaultyBackend, clock: Clock, live: bool
) -> None:
    """``max_lifetime`` counts from the sign-in, also where that was before the option was given."""
    before, after = await workers(backend), await workers(backend, max_lifetime=3 * DAY)
    browser = Browser(before)
    await browser.sign_in()
    clock.advance(3 * DAY)
    if not live:
        browser.end_session()
    assert (await browser.send("GET", "/me", to=after)).user is None
    assert (await browser.send("GET", "/me", to=before)).user == "alice"


@pytest.mark.parametrize("set_back", [3600, 30 * DAY])
async def test_a_clock_that_is_set_back_makes_no_exchange_a_race(
    worker: Worker, browser: Browser, clock: Clock, set_back: float
) -> None:
    """An exchange that seems to lie in the future was written by a wrong clock, and counts as none."""
    clock.advance(set_back)
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    clock.advance(-set_back)
    reply = await tab.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)
    assert "reuse" not in dict(worker.events)


async def test_clocks_that_differ_by_some_seconds_are_no_matter(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Workers on two machines, one 5 s ahead: their tabs join as on one."""
    behind, ahead = await workers(backend), await workers(backend)
    ahead.manager.clock = lambda: clock.now + 5
    browser = Browser(ahead)
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    reply = await tab.send("GET", "/me", to=behind)
    assert (reply.user, reply.cookies) == ("alice", {})


# The session


async def test_an_anonymous_cart_survives_a_restore(browser: Browser) -> None:
    """The data of the anonymous session are carried over into the one that an exchange opens."""
    await browser.post("/cart", data={"item": "book"})
    anonymous = browser.cookies[SESSION]
    await browser.sign_in()
    browser.cookies[SESSION] = anonymous
    reply = await browser.get()
    assert (reply.user, reply.json["cart"]) == ("alice", "book")


async def test_a_restored_session_holds_the_user_alone(browser: Browser) -> None:
    """What the ended session held is gone."""
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    reply = await restored(browser)
    assert (reply.user, reply.json["cart"]) == ("alice", None)


async def test_a_receiver_of_on_restore_may_fill_the_session(workers: Workers, backend: FaultyBackend) -> None:
    """What a restored session lacks, an application puts there in ``on_restore``."""
    from aiohttp_session import get_session

    async def fill(_: object, request: web.Request | None) -> None:
        assert request is not None
        (await get_session(request))["cart"] = "filled"

    def prepare(app: web.Application) -> None:
        from aiohttp_persistent_session import PERSISTENT_SESSIONS

        app[PERSISTENT_SESSIONS].on_restore.append(fill)

    browser = Browser(await workers(backend, prepare=prepare))
    await browser.sign_in()
    assert (await restored(browser)).json["cart"] == "filled"
    assert (await browser.get()).json["cart"] == "filled"


async def test_int_and_str_users_are_kept_apart_and_keep_their_type(workers: Workers, backend: FaultyBackend) -> None:
    """``1`` and ``"1"`` are different users, in the session and in the list."""
    from aiohttp_persistent_session import remember

    async def login_as_text(request: web.Request) -> web.Response:
        await remember(request, "1")
        return web.Response()

    worker = await workers(backend, handlers={"/text": login_as_text})
    number, text = Browser(worker), Browser(worker)
    await number.sign_in("1")
    await text.get("/text")
    for browser, user in ((number, 1), (text, "1")):
        assert (await restored(browser)).user == user
        ((_, current, _, listed_user),) = (await browser.get("/devices")).json
        assert (current, listed_user) == (True, user)


async def test_no_session_is_loaded_for_a_visitor_with_neither_cookie(backend: FaultyBackend, workers: Workers) -> None:
    """Without a cookie there is nothing to look at."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response("aiohttp_session" in request)

    browser = Browser(await workers(backend, handlers={"/": handler}))
    assert (await browser.get("/")).json is False


async def test_a_handler_that_dies_after_an_exchange_still_sends_the_new_token(
    workers: Workers, backend: FaultyBackend
) -> None:
    """An exchange survives the handler's death; the session, which aiohttp-session does not save then, is opened
    again."""

    async def handler(_: web.Request) -> web.Response:
        raise ZeroDivisionError

    browser = Browser(await workers(backend, handlers={"/die": handler}))
    await browser.sign_in()
    old = browser.token
    browser.end_session()
    reply = await browser.get("/die")
    assert reply.status == 500
    assert reply.token not in (None, "", old)
    assert SESSION not in reply.cookies
    assert (await browser.get()).user == "alice"


async def test_a_browser_without_a_user_agent_is_remembered_too(worker: Worker) -> None:
    """No field of a request but Cookie is needed."""
    browser = Browser(worker, user_agent="")
    await browser.sign_in()
    assert (await restored(browser)).user == "alice"


async def test_a_user_agent_that_is_not_unicode_is_stored_as_text(worker: Worker, backend: FaultyBackend) -> None:
    """What no store can keep becomes a question mark."""
    await raw_request(worker, b"POST", b"/login?user=alice", {b"User-Agent": b"\xff\xfe x"}, b"user=alice")
    (record,) = await backend.of_user("alice", 10)
    assert record.user_agent == "?? x"


# A store that fails


async def test_restore_failed_tells_a_handler_that_the_store_failed(browser: Browser, backend: FaultyBackend) -> None:
    """The request is anonymous, says so, and keeps its cookie; the next one is restored."""
    await browser.sign_in()
    browser.end_session()
    backend.break_down()
    reply = await browser.get()
    assert (reply.user, reply.json["restore_failed"], reply.cookies) == (None, True, {})
    backend.heal()
    reply = await browser.get()
    assert (reply.user, reply.json["restore_failed"]) == ("alice", False)


async def test_restore_failed_is_false_where_nothing_failed(browser: Browser) -> None:
    """An anonymous visitor, an unknown token and a live session have met no failure."""
    assert (await browser.get()).json["restore_failed"] is False
    unknown = f"{TOKEN}={Token.generate().cookie_value}"
    assert (await browser.send("GET", "/me", cookie_header=unknown)).json["restore_failed"] is False
    await browser.sign_in()
    assert (await browser.get()).json["restore_failed"] is False


async def test_an_exchange_whose_swap_fails_spends_nothing(browser: Browser, backend: FaultyBackend) -> None:
    """The write did not happen: the request is anonymous, and the token is as good as before."""
    await browser.sign_in()
    browser.end_session()
    backend.break_down("replace")
    reply = await browser.get()
    assert (reply.user, reply.json["restore_failed"], reply.cookies) == (None, True, {})
    backend.heal()
    assert (await browser.get()).token


# validate


async def test_validate_refuses_deletes_the_record_and_leaves_the_request_anonymous(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A user whom ``validate`` refuses is signed out of this browser, and ``on_revoke`` says why."""
    seen = []

    async def validate(request: web.Request, persistent_session: Any) -> bool:
        seen.append((request.path, persistent_session.user, persistent_session.data))
        return False

    worker = await workers(backend, validate=validate)
    browser = Browser(worker)
    await browser.sign_in()
    assert seen == []
    reply = await restored(browser)
    assert (reply.user, reply.cookies, reply.json["restore_failed"]) == (None, {}, False)
    assert seen == [("/me", "alice", {})]
    assert await backend.of_user("alice", 10) == []
    assert [(name, one.reason) for name, one in worker.told] == [("remember", None), ("revoke", "refused")]


@pytest.mark.parametrize("joins", [False, True])
async def test_validate_runs_at_each_restore_also_of_a_request_that_joins(
    workers: Workers, clock: Clock, joins: bool, backend: FaultyBackend
) -> None:
    """Nobody is let in unasked."""
    seen = []

    def validate(request: web.Request, _: object) -> bool:
        seen.append(request.path)
        return True

    browser = Browser(await workers(backend, validate=validate))
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    clock.advance(3)
    await (tab.get() if joins else restored(browser))
    assert len(seen) == 2


async def test_validate_is_not_asked_about_a_copy(workers: Workers, backend: FaultyBackend, browser: Browser) -> None:
    """A wrong secret proves nothing: what it names is not shown to ``validate``."""
    seen = []

    def validate(request: web.Request, _: object) -> bool:
        seen.append(request.path)
        return True

    asking = await workers(backend, validate=validate)
    await browser.sign_in()
    wrong = f"{(browser.token or '').split('.')[0]}.{Token.generate().cookie_value.split('.')[1]}"
    await browser.send("GET", "/me", to=asking, cookie_header=f"{TOKEN}={wrong}")
    assert seen == []
    assert "reuse" in dict(asking.events)


@pytest.mark.parametrize("answer", [None, 1, "yes", [], object()])
async def test_validate_that_does_not_return_a_bool_ends_nothing(
    workers: Workers, answer: object, caplog: pytest.LogCaptureFixture, backend: FaultyBackend
) -> None:
    """A forgotten ``return True`` must not sign out whoever comes by."""
    browser = Browser(await workers(backend, validate=lambda request, persistent_session: answer))
    await browser.sign_in()
    reply = await restored(browser)
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    assert reply.json["restore_failed"] is True
    assert len(await backend.of_user("alice", 10)) == 1
    assert "validate" in caplog.text
    assert "must be a bool" in caplog.text


async def test_validate_may_answer_with_an_http_exception(workers: Workers, backend: FaultyBackend) -> None:
    """Its answer is the response, and the token is not spent."""

    async def validate(_: web.Request, __: object) -> bool:
        raise web.HTTPFound("/second-factor")

    browser = Browser(await workers(backend, validate=validate))
    await browser.sign_in()
    revision = (await backend.of_user("alice", 10))[0].revision
    reply = await restored(browser)
    assert (reply.status, reply.headers["Location"], reply.cookies) == (302, "/second-factor", {})
    assert (await backend.of_user("alice", 10))[0].revision == revision


async def revoked_while_validate_runs(
    workers: Workers, backend: Backend, clock: Clock, takes: float
) -> tuple[Worker, Reply]:
    gate = Gate()

    async def validate(_: web.Request, __: object) -> bool:
        await gate()
        clock.advance(takes)
        return True

    worker, elsewhere = await workers(backend, validate=validate), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    pending = asyncio.create_task(browser.get())
    await gate.reached.wait()
    assert await elsewhere.manager.revoke_all("alice") == 1
    gate.opened.set()
    return worker, await pending


@pytest.mark.parametrize("takes", [0, 0.5, 1.001, 30])
async def test_a_user_who_is_revoked_while_validate_runs_is_not_restored(
    workers: Workers, backend: FaultyBackend, clock: Clock, takes: float
) -> None:
    """The token is exchanged last, so what ended meanwhile shows, and accuses nobody."""
    worker, reply = await revoked_while_validate_runs(workers, backend, clock, takes)
    assert (reply.user, reply.cookies) == (None, {})
    assert [name for name, _ in worker.events] == ["remember"]


async def test_a_join_that_waited_for_validate_is_read_again(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A join writes nothing that could fail: after a slow ``validate`` the record is read once more."""
    gate = Gate()

    async def validate(request: web.Request, _: object) -> bool:
        if "slow" in request.query:
            await gate()
            clock.advance(1.001)
        return True

    worker, elsewhere = await workers(backend, validate=validate), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    tab = without_session(browser)
    await restored(browser)
    pending = asyncio.create_task(tab.get("/me?slow"))
    await gate.reached.wait()
    await elsewhere.manager.revoke_all("alice")
    gate.opened.set()
    reply = await pending
    assert (reply.user, reply.cookies) == (None, {})


async def test_a_slow_validate_does_not_use_up_the_stores_time(workers: Workers) -> None:
    """What ``timeout`` bounds is the store: a directory that takes longer is waited for."""

    async def validate(_: web.Request, __: object) -> bool:
        await asyncio.sleep(1.1)  # the event loop's own time, which no clock of a test moves
        return True

    browser = Browser(await workers(MemoryBackend(), validate=validate, timeout=1))
    await browser.sign_in()
    assert (await restored(browser)).user == "alice"
