"""Copies of a token: when they are found out, who is told of what, and who is never accused."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web

from aiohttp_persistent_session import remember
from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend

EVERY_STORE = ("memory", "redis")


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend, clock: Clock) -> Worker:
    """``/slow?for=5`` answers when 5 s have passed."""

    async def slow(request: web.Request) -> web.Response:
        clock.advance(float(request.query["for"]))
        return web.Response()

    return await workers(backend, handlers={"/slow": slow})


def copy_of(browser: Browser) -> Browser:
    """Somebody who copied the token alone."""
    return Browser(browser.worker, {TOKEN: browser.cookies[TOKEN]}, "Thief/6.6")


def with_another_secret(token: str | None) -> str:
    """A token that has the same selector and a secret that no server issued."""
    return f"{(token or '').partition('.')[0]}.{Token.generate().cookie_value.partition('.')[2]}"


async def restored(browser: Browser) -> Reply:
    browser.end_session()
    return await browser.get()


async def settled(browser: Browser, clock: Clock) -> Browser:
    """Sign in, restore, and go on until the spent token is dropped; return who has a copy of it."""
    await browser.sign_in()
    copy = copy_of(browser)
    await restored(browser)
    clock.advance(90.001)
    assert (await browser.get()).user == "alice"
    return copy


# Reuse


async def test_a_dropped_secret_is_reuse_and_ends_the_persistent_session(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Thief and victim both lose it, ``on_reuse`` is sent once, and a warning is logged."""
    thief = await settled(browser, clock)
    reply = await thief.get()
    assert (reply.user, reply.token) == (None, "")
    assert [name for name, _ in worker.events] == ["remember", "restore", "reuse"]
    assert [record.levelname for record in caplog.records if "a copied token" in record.message] == ["WARNING"]
    assert await backend.of_user("alice", 10) == []
    reply = await browser.get()
    assert reply.user is None
    assert "reuse" not in [name for name, _ in worker.events[3:]]


async def test_a_secret_that_was_never_issued_is_reuse(worker: Worker, browser: Browser) -> None:
    """Who knows the selector has seen a token, or the store."""
    await browser.sign_in()
    thief = Browser(worker, {TOKEN: with_another_secret(browser.token)})
    assert (await thief.get()).token == ""
    assert [name for name, _ in worker.events] == ["remember", "reuse"]
    assert (await restored(browser)).user is None


@pytest.mark.parametrize("seconds", [0, 89, 90, 90.001])
async def test_a_spent_secret_is_dropped_by_a_check_after_90_seconds_and_not_before(
    worker: Worker, browser: Browser, clock: Clock, seconds: float
) -> None:
    """Within SETTLE_TIME answers overtake each other; after it, a browser holds exactly one token."""
    await browser.sign_in()
    clock.advance(DAY / 2)
    copy = copy_of(browser)
    await restored(browser)
    clock.advance(seconds)
    await browser.get()
    clock.advance(11)
    assert (await copy.get()).user == (None if seconds > 90 else "alice")
    assert ("reuse" in dict(worker.events)) is (seconds > 90)


async def test_an_exchange_by_the_owner_drops_the_secrets_before_it(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A browser that comes back after a while presents the one token that it holds."""
    await browser.sign_in()
    copy = copy_of(browser)
    await restored(browser)
    clock.advance(3600)
    await restored(browser)
    assert (await copy.get()).token == ""
    assert "reuse" in dict(worker.events)


async def test_a_join_drops_nothing(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A join presents nothing in the sense of the rules: it writes nothing at all."""
    await browser.sign_in()
    await restored(browser)
    clock.advance(3600)
    token = browser.token
    await restored(browser)
    joining = Browser(worker, {TOKEN: token or ""})
    assert (await joining.send("GET", "/me")).cookies == {}
    clock.advance(11)
    reply = await joining.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)


@pytest.mark.parametrize(("seconds", "quick"), [(0, True), (2, True), (2.001, False), (30, False)])
async def test_reuse_with_a_live_session_deletes_both_cookies_if_quick_and_neither_if_slow(
    worker: Worker, browser: Browser, seconds: float, quick: bool
) -> None:
    """A slow answer might hit the cookies of a sign-in that another tab made meanwhile."""
    await browser.sign_in()
    browser.cookies[TOKEN] = with_another_secret(browser.token)
    reply = await browser.send("GET", "/slow", params={"for": str(seconds)})
    assert "reuse" in dict(worker.events)
    assert (reply.token == "", SESSION in reply.cookies) == (quick, quick)
    assert (reply.cookies == {}) is not quick


@pytest.mark.parametrize(("seconds", "quick"), [(0, True), (2, True), (2.001, False), (30, False)])
async def test_reuse_without_a_session_deletes_the_token_if_quick_and_leaves_it_if_slow(
    worker: Worker, browser: Browser, clock: Clock, seconds: float, quick: bool
) -> None:
    """The same for a token that came alone."""
    thief = await settled(browser, clock)
    reply = await thief.send("GET", "/slow", params={"for": str(seconds)})
    assert "reuse" in dict(worker.events)
    assert reply.token == ("" if quick else None)
    assert SESSION not in reply.cookies


async def test_the_cart_of_an_anonymous_session_outlives_a_reuse(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A session that no persistent session opened is left alone, whatever token it came with."""
    thief = await settled(browser, clock)
    await Browser(worker).get()
    anonymous = Browser(worker)
    await anonymous.post("/cart", data={"item": "book"})
    thief.cookies[SESSION] = anonymous.cookies[SESSION]
    reply = await thief.get()
    assert (reply.user, reply.json["cart"], reply.token) == (None, "book", "")
    assert SESSION not in reply.cookies


async def test_what_a_live_session_held_is_gone_at_a_reuse(browser: Browser) -> None:
    """The thief sees nothing of the session: the handler meets an empty one."""
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    browser.cookies[TOKEN] = with_another_secret(browser.token)
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == (None, None, False)
    assert (await browser.get()).json["cart"] is None


async def test_a_copy_that_is_presented_five_times_at_once_is_told_of_once(
    workers: Workers, worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """``on_reuse`` is sent by who deleted the record."""
    other = await workers(backend)
    thief = await settled(browser, clock)
    replies = await asyncio.gather(*(thief.send("GET", "/me", to=to) for to in (worker, other, worker, other, worker)))
    assert [reply.user for reply in replies] == [None] * 5
    assert [name for name, _ in (*worker.events, *other.events)].count("reuse") == 1


async def test_a_read_that_lagged_accuses_nobody(
    worker: Worker, browser: Browser, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before accusing, all secrets are taken away by a swap of the judged revision, which a stale one cannot win."""
    await browser.sign_in()
    (old,) = await backend.of_user("alice", 10)
    await restored(browser)
    read, stale = backend.get, 1

    async def lag(id: str) -> Record | None:
        nonlocal stale
        stale -= 1
        return old if stale == 0 else await read(id)

    monkeypatch.setattr(backend, "get", lag)
    reply = await restored(browser)
    assert reply.user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_a_reuse_whose_record_cannot_be_deleted_is_a_reuse_for_the_next_too(
    worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """The secrets were taken away first: the record signs nobody in, and ends with the next that presents one."""
    thief = await settled(browser, clock)
    backend.break_down("delete")
    assert (await thief.get()).user is None
    backend.heal()
    assert (await restored(browser)).user is None
    assert [name for name, _ in worker.events].count("reuse") == 1
    assert await backend.of_user("alice", 10) == []


# Beside a live owner


@pytest.mark.parametrize(
    ("owner_comes_every", "thief_comes_every"), [(10, 10), (5, 30), (30, 5), (15, 60), (60, 15), (7, 11)]
)
async def test_a_copy_that_goes_on_being_used_beside_a_live_owner_is_found_out_within_minutes(
    workers: Workers,
    worker: Worker,
    browser: Browser,
    backend: FaultyBackend,
    clock: Clock,
    owner_comes_every: int,
    thief_comes_every: int,
) -> None:
    """Owner and thief each move on to a secret that the other one does not have, and one of them drops the other's."""
    other = await workers(backend)
    await browser.sign_in()
    clock.advance(3600)
    await restored(browser)
    clock.advance(300)
    await browser.get()
    thief = copy_of(browser)
    thief.worker = other
    started = clock.now
    for second in range(1, 241):
        clock.advance(1)
        if second % owner_comes_every == 0:
            await browser.get()
        if second % thief_comes_every == 0:
            await thief.get()
        if "reuse" in {name for name, _ in (*worker.events, *other.events)}:
            break
    assert "reuse" in {name for name, _ in (*worker.events, *other.events)}
    assert clock.now - started <= 240


@pytest.mark.parametrize("away", [100, 3600, 20 * DAY])
async def test_a_copy_that_keeps_the_owners_place_is_found_out_when_the_owner_returns(
    worker: Worker, browser: Browser, clock: Clock, away: float
) -> None:
    """The thief's visits drop the owner's token, so the owner presents one that is no longer valid."""
    await browser.sign_in()
    thief = copy_of(browser)
    await thief.get()
    clock.advance(91)
    await thief.get()
    clock.advance(away)
    await thief.get()
    assert (await restored(browser)).user is None
    assert "reuse" in dict(worker.events)


async def test_a_thief_who_has_both_cookies_is_found_out_too(worker: Worker, browser: Browser, clock: Clock) -> None:
    """Two copies of one jar: at the next restore of one, the other one's token is spent."""
    await browser.sign_in()
    thief = browser.clone()
    await restored(browser)
    for _ in range(30):
        clock.advance(8)
        await browser.get()
        await thief.get()
    assert "reuse" in dict(worker.events)


# Repeat


async def lost(browser: Browser, clock: Clock) -> Token:
    """Exchange, lose the answer, let the grace period pass; return the token that nobody got."""
    browser.end_session()
    reply = await browser.send("GET", "/me")
    clock.advance(10.001)
    token = Token.parse(reply.token or "")
    assert token is not None
    return token


async def test_a_repeat_is_told_of_and_logs_nobody_out(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A spent token comes again, and nobody showed its successor: lost, or stolen and left. ``on_repeat`` says so."""
    await browser.sign_in()
    started = clock.now
    browser.user_agent = "Unseen/1.0"
    await lost(browser, clock)
    browser.user_agent = "Test/1.0"
    reply = await browser.get()
    assert (reply.user, bool(reply.token)) == ("alice", True)
    ((_, told),) = [one for one in worker.told if one[0] == "repeat"]
    assert told.repeat is not None
    assert told.repeat.issued_at.timestamp() == pytest.approx(started, abs=0.001)
    assert (told.repeat.user_agent, told.repeat.address) == ("Unseen/1.0", "127.0.0.1")
    assert (told.repeat.used_for, told.repeat.count) == (timedelta(0), 1)
    assert (told.user, told.reason) == ("alice", None)
    assert (await browser.get()).user == "alice"


async def test_each_unseen_secret_is_reported_once(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A record counts the reported ones that it still has, so that a site can tell one from a row of them."""
    await browser.sign_in()
    for _ in range(3):
        await lost(browser, clock)
    await browser.get()
    assert [told.repeat.count for name, told in worker.told if name == "repeat" and told.repeat] == [1, 2, 3]
    clock.advance(91)
    await browser.get()
    clock.advance(91)
    await restored(browser)
    assert [name for name, _ in worker.events].count("repeat") == 3


async def test_five_tabs_that_repeat_at_once_tell_of_one(
    workers: Workers, worker: Worker, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """Only who won the swap sends it."""
    other = await workers(backend)
    await browser.sign_in()
    await lost(browser, clock)
    await asyncio.gather(*(browser.send("GET", "/me", to=to) for to in (worker, other, worker, other, worker)))
    assert [name for name, _ in (*worker.events, *other.events)].count("repeat") == 1


async def test_a_successor_that_was_shown_and_left_is_a_repeat_that_says_so(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A browser was killed after it used its new token, or a thief has shown his once, so that nobody would hear."""
    await browser.sign_in()
    on_disk = copy_of(browser)
    await restored(browser)
    clock.advance(61)
    await browser.get()
    await on_disk.get()
    (repeat,) = [session.repeat for name, session in worker.told if name == "repeat"]
    assert repeat is not None
    assert repeat.shown
    assert "reuse" not in dict(worker.events)


async def test_a_thief_who_shows_his_token_once_is_told_of(worker: Worker, browser: Browser, clock: Clock) -> None:
    """He goes on by his session alone for hours: the owner's return tells of him."""
    await browser.sign_in()
    browser.end_session()
    thief = copy_of(browser)
    await thief.get()
    clock.advance(61)
    assert (await thief.get()).user == "alice"
    del thief.cookies[TOKEN]
    for _ in range(60):
        clock.advance(61)
        assert (await thief.get()).user == "alice"
    assert (await browser.get()).user == "alice"
    (repeat,) = [session.repeat for name, session in worker.told if name == "repeat"]
    assert repeat is not None
    assert (repeat.shown, repeat.used_for.total_seconds() > 3000) == (True, True)


async def test_how_long_the_unseen_secrets_session_was_used_tells_most(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """Its session came without its token for more than a minute: somebody did receive the answer."""
    await browser.sign_in()
    thief = copy_of(browser)
    await thief.get()
    del thief.cookies[TOKEN]
    for _ in range(3):
        clock.advance(61)
        assert (await thief.get()).user == "alice"
    clock.advance(61)
    await restored(browser)
    ((_, told),) = [one for one in worker.told if one[0] == "repeat"]
    assert told.repeat is not None
    assert (told.repeat.user_agent, told.repeat.used_for) == ("Thief/6.6", timedelta(seconds=183))


async def test_a_check_that_drops_an_unseen_secret_reports_it(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A copy was exchanged and left while its owner was browsing."""
    await browser.sign_in()
    clock.advance(3600)
    await restored(browser)
    clock.advance(3600)
    await browser.get()
    await copy_of(browser).get()
    for _ in range(10):
        clock.advance(30)
        assert (await browser.get()).user == "alice"
    repeats = [told.repeat for name, told in worker.told if name == "repeat"]
    assert [one.user_agent for one in repeats if one is not None] == ["Thief/6.6"]
    assert "reuse" not in dict(worker.events)


async def test_a_lost_rotation_is_no_repeat(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A rotation's answer that was lost is of no interest: its session went on."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    assert (await browser.send("GET", "/me")).token != browser.token
    for _ in range(6):
        clock.advance(61)
        await browser.get()
    assert "repeat" not in dict(worker.events)
    assert "reuse" not in dict(worker.events)


async def test_a_restore_over_a_reported_secret_keeps_its_browser_in(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """Nothing may be ended because of a repeat: another site can cause one with a navigation that it aborts."""
    await browser.sign_in()
    for _ in range(20):
        await lost(browser, clock)
        clock.advance(DAY)
        assert (await restored(browser)).user == "alice"
        clock.advance(DAY)
    assert "reuse" not in dict(worker.events)


async def test_remember_in_a_request_with_a_copy_is_told_of_as_reuse_alone(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A login page that meets a copied cookie ends the copied session, not twice."""

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    worker = await workers(backend, handlers={"/again": login})
    thief = await settled(browser, clock)
    await thief.get("/again", to=worker)
    assert [name for name, _ in worker.events] == ["reuse", "remember"]
