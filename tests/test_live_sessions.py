"""Requests with a live session: how they are judged by their token or without one, and when their token rotates."""

from __future__ import annotations

import asyncio
import json
from http.cookies import SimpleCookie

import pytest
from aiohttp import web
from aiohttp_session import get_session

from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend, Gate

EVERY_STORE = ("memory", "redis")


async def restored(browser: Browser) -> Reply:
    browser.end_session()
    return await browser.get()


def session_alone(browser: Browser) -> Browser:
    """Somebody who copied the session's cookie and not the token."""
    return Browser(browser.worker, {SESSION: browser.cookies[SESSION]})


# With a token


async def test_a_live_session_goes_on_with_any_valid_token_of_its_record(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """The session of a later exchange with the token of an earlier one: answers have overtaken each other."""
    await browser.sign_in()
    spent = browser.token
    await restored(browser)
    newest = browser.token
    browser.cookies[TOKEN] = spent or ""
    for _ in range(8):
        clock.advance(10)
        assert (await browser.send("GET", "/me")).user == "alice"
    browser.cookies[TOKEN] = newest or ""
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_a_superseded_session_goes_on_with_its_token(worker: Worker, browser: Browser, clock: Clock) -> None:
    """The owner's own session, where somebody exchanged a copy of the token: the owner is not logged out."""
    await browser.sign_in()
    clock.advance(3600)
    await browser.get()
    copy = Browser(worker, {TOKEN: browser.token or ""})
    await copy.get()
    for _ in range(5):
        clock.advance(15)
        assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("kind", ["of another record", "unknown", "malformed", "with something after it"])
async def test_a_token_of_no_or_another_record_counts_as_none_and_costs_nothing(
    worker: Worker, browser: Browser, backend: FaultyBackend, kind: str
) -> None:
    """What does not name the session's own record is not looked at, not sent back and not deleted."""
    await browser.sign_in()
    other = Browser(worker)
    await other.sign_in("bob")
    value = {
        "of another record": other.token,
        "unknown": Token.generate().cookie_value,
        "malformed": "malformed",
        "with something after it": f"{browser.token}x",
    }[kind]
    backend.calls.clear()
    reply = await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}; {TOKEN}={value}")
    assert reply.user == "alice"
    assert reply.cookies == {}
    assert not backend.calls
    assert (await browser.get()).token == browser.token


async def test_a_wrong_secret_beside_a_live_session_is_looked_at_at_once(worker: Worker, browser: Browser) -> None:
    """A secret that the worker does not know costs one read, which finds the copy out."""
    await browser.sign_in()
    selector = (browser.token or "").partition(".")[0]
    browser.cookies[TOKEN] = f"{selector}.{Token.generate().cookie_value.partition('.')[2]}"
    assert (await browser.get()).user is None
    assert "reuse" in dict(worker.events)


async def test_a_token_that_another_worker_issued_is_known_after_one_read(
    workers: Workers, backend: FaultyBackend
) -> None:
    """A worker that saw the record before an exchange elsewhere looks once, and accuses nobody."""
    here, there = await workers(backend), await workers(backend)
    browser = Browser(here)
    await browser.sign_in()
    browser.end_session()
    await browser.get(to=there)
    backend.calls.clear()
    for _ in range(3):
        assert (await browser.get(to=here)).user == "alice"
    # The write says that somebody showed the new token.
    assert backend.calls == {"get": 1, "replace": 1}
    assert not {"reuse"} & {name for worker in (here, there) for name, _ in worker.events}


# Without a token


async def test_a_live_session_without_a_token_goes_on(browser: Browser, clock: Clock) -> None:
    """A client that drops our cookie keeps its session, for as long as that lasts."""
    await browser.sign_in()
    del browser.cookies[TOKEN]
    for _ in range(5):
        clock.advance(61)
        reply = await browser.get()
        assert (reply.user, reply.cookies) == ("alice", {})


@pytest.mark.parametrize("place", ["the same worker", "another worker"])
async def test_a_copied_session_cookie_dies_with_the_next_restore(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock, place: str
) -> None:
    """A later exchange supersedes the session, once the secret that it belongs to is dropped."""
    other = browser.worker if place == "the same worker" else await workers(backend)
    await browser.sign_in()
    thief = session_alone(browser)
    assert (await thief.get(to=other)).user == "alice"
    clock.advance(3600)
    await restored(browser)
    clock.advance(91)
    await browser.get()
    clock.advance(60.001)
    reply = await thief.get(to=other)
    assert (reply.user, reply.cookies) == (None, {})
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(browser.worker.events)


@pytest.mark.parametrize("how", ["superseded", "revoked", "expired"])
async def test_the_session_cookie_of_a_request_that_is_served_as_anonymous_is_left_alone(
    worker: Worker, browser: Browser, clock: Clock, how: str
) -> None:
    """Another tab may have set a new one: the request goes on with an empty session that is not saved."""
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    old = session_alone(browser)
    if how == "superseded":
        await restored(browser)
        clock.advance(91)
        await browser.get()
    elif how == "revoked":
        await worker.manager.revoke_all("alice")
    else:
        clock.advance(31 * DAY)
    reply = await old.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"], reply.cookies) == (None, None, False, {})
    reply = await old.post("/cart", data={"item": "pen"})
    assert reply.json is None
    assert SESSION in reply.cookies
    reply = await old.get()
    assert (reply.user, reply.json["cart"]) == (None, "pen")


async def test_an_anonymous_request_with_the_token_of_a_later_sign_in_is_restored(
    worker: Worker, browser: Browser
) -> None:
    """Where the session's record has ended, the token that came with it counts by itself."""
    await browser.sign_in("alice")
    await browser.post("/cart", data={"item": "book"})
    await worker.manager.revoke_all("alice")
    newer = Browser(worker)
    await newer.sign_in("bob")
    browser.cookies[TOKEN] = newer.cookies[TOKEN]
    reply = await browser.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("bob", None, False)
    assert reply.token


async def test_a_session_that_was_opened_without_remember_is_none_of_our_business(
    backend: FaultyBackend, browser: Browser
) -> None:
    """It is neither checked nor renewed, whatever token its request carries."""
    await browser.sign_in("alice")
    token = browser.token
    await browser.post("/login-unremembered", data={"user": "bob"})
    backend.calls.clear()
    for value in (token, Token.generate().cookie_value, "malformed"):
        reply = await browser.send("GET", "/me", cookie_header=f"{SESSION}={browser.cookies[SESSION]}; {TOKEN}={value}")
        assert (reply.user, reply.cookies, reply.json["fresh"]) == ("bob", {}, True)
    assert not backend.calls


# The store has lost writes


@pytest.mark.parametrize("presents", ["its token", "no token"])
async def test_a_store_that_lost_writes_ends_the_record_and_accuses_nobody(
    workers: Workers, browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture, presents: str
) -> None:
    """A session number higher than any in the record: an error is logged, ``on_revoke`` says why."""
    await browser.sign_in()
    (before,) = await backend.of_user("alice", 10)
    await restored(browser)
    await backend.delete(before.id)
    await backend.insert(before)
    if presents == "no token":
        del browser.cookies[TOKEN]
    restarted = await workers(backend)
    reply = await browser.get(to=restarted)
    assert (reply.user, reply.cookies) == (None, {})
    assert [(name, one.reason) for name, one in restarted.told] == [("revoke", "the store lost writes")]
    (record,) = [one for one in caplog.records if "lost writes" in one.message]
    assert record.levelname == "ERROR"
    assert await backend.of_user("alice", 10) == []


@pytest.mark.parametrize(
    "mark", ["x", "", f"{'A' * 22} x", f"{'A' * 22} 0 x", f"{'A' * 22} 0 1 2", "A" * 22, 7, ["a"], {}]
)
async def test_a_mark_that_cannot_be_read_ends_the_session(browser: Browser, mark: object) -> None:
    """It names no persistent session that exists: the session does not go on beyond revocation."""
    await browser.sign_in()
    cookie: SimpleCookie = SimpleCookie(f"{SESSION}={browser.cookies[SESSION]}")
    content = json.loads(cookie[SESSION].value)
    content["session"]["persistent_session"] = mark
    cookie[SESSION] = json.dumps(content)
    reply = await browser.send("GET", "/me", cookie_header=f"{SESSION}={cookie[SESSION].coded_value}")
    assert (reply.user, reply.cookies) == (None, {})


# Rotation


async def test_a_live_session_moves_on_to_a_new_token_once_a_day(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A session that is never closed keeps no token alive for months. The session itself stays what it was."""
    await browser.sign_in()
    session, tokens = browser.cookies[SESSION], [browser.token]
    for _ in range(3):
        clock.advance(DAY - 1)
        assert (await browser.get()).token == tokens[-1]
        clock.advance(61)
        reply = await browser.get()
        assert reply.cookies[TOKEN]["max-age"] == str(30 * DAY)
        assert SESSION not in reply.cookies
        tokens.append(browser.token)
        clock.advance(1)
        assert (await browser.get()).token == browser.token
    assert len(set(tokens)) == 4
    assert browser.cookies[SESSION] == session
    assert [name for name, _ in worker.events] == ["remember"]
    assert (await restored(browser)).user == "alice"


@pytest.mark.parametrize(
    ("interval", "seconds", "rotates"), [(120, 120, False), (120, 120.001, True), (None, DAY * 9, False)]
)
async def test_rotate_interval_says_how_old_a_token_gets(
    workers: Workers, backend: FaultyBackend, clock: Clock, interval: float | None, seconds: float, rotates: bool
) -> None:
    """A token older than ``rotate_interval`` is rotated at the next check; with None never."""
    browser = Browser(await workers(backend, rotate_interval=interval))
    await browser.sign_in()
    token = browser.token
    clock.advance(seconds)
    assert ((await browser.get()).token != token) is rotates


async def test_a_rotation_is_part_of_the_write_that_the_check_makes(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """It costs one read and one write, as any check."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    backend.calls.clear()
    token = browser.token
    assert (await browser.get()).token != token
    assert backend.calls == {"get": 1, "replace": 1}


async def test_tabs_at_once_rotate_once(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A record issues at most one secret in 2 s, and one response carries it."""
    other = await workers(backend)
    await browser.sign_in()
    clock.advance(DAY + 1)
    old = browser.token
    pool = (browser.worker, other, browser.worker, other, browser.worker)
    replies = await asyncio.gather(*(browser.send("GET", "/me", to=to) for to in pool))
    assert [reply.user for reply in replies] == ["alice"] * 5
    new = {reply.token for reply in replies} - {old, None}
    assert len(new) == 1
    assert sum(reply.token in new for reply in replies) == 1
    for reply in replies:
        if reply.token in new:
            browser.take(reply)
    clock.advance(200)
    assert (await browser.get()).user == "alice"


async def test_the_token_that_was_rotated_is_not_sent_again(browser: Browser, clock: Clock) -> None:
    """A valid token that is not the newest must not go back over it."""
    await browser.sign_in()
    tab = browser.clone()
    clock.advance(DAY + 1)
    await browser.get()
    clock.advance(1)
    reply = await tab.get()
    assert (reply.user, reply.token) == ("alice", None)


async def test_a_rotation_whose_answer_was_lost_is_made_again(worker: Worker, browser: Browser, clock: Clock) -> None:
    """The rotated token stays valid, and is rotated anew after the grace period."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    lost = await browser.send("GET", "/me")
    assert lost.token not in (None, browser.token)
    clock.advance(5)
    assert (await browser.send("GET", "/me")).token is None
    clock.advance(5.001)
    reply = await browser.get()
    assert reply.token not in (None, lost.token)
    for _ in range(5):
        clock.advance(61)
        assert (await browser.get()).user == "alice"
    assert (await restored(browser)).user == "alice"
    assert {"reuse", "repeat"}.isdisjoint(dict(worker.events))


async def test_a_client_that_ignores_set_cookie_writes_once_in_a_grace_period(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A rotated token that goes on coming is looked at once in 10 s, not at each request."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    await browser.send("GET", "/me")
    backend.calls.clear()
    for _ in range(100):
        clock.advance(1)
        assert (await browser.send("GET", "/me")).user == "alice"
    assert backend.calls["replace"] <= 11
    assert backend.calls["get"] <= 11
    (record,) = await backend.of_user("alice", 10)
    assert len(record.secrets) < 20


async def test_an_owner_whose_token_was_exchanged_by_somebody_moves_on(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """A token that was exchanged more than ``grace_period`` ago is rotated at the next request of a live session."""
    await browser.sign_in()
    await Browser(worker, {TOKEN: browser.token or ""}).get()
    token = browser.token
    clock.advance(10)
    assert (await browser.get()).token is None
    clock.advance(0.001)
    reply = await browser.get()
    assert reply.token not in (None, "", token)
    assert reply.json["fresh"] is True


async def test_a_session_without_its_token_rotates_nothing(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """What rotates is the token that was presented."""
    await browser.sign_in()
    del browser.cookies[TOKEN]
    clock.advance(DAY + 1)
    reply = await browser.get()
    assert (reply.user, reply.cookies) == ("alice", {})
    (record,) = await backend.of_user("alice", 10)
    assert len(record.secrets) == 1


# In flight while another tab signs in or out


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def slow(workers: Workers, backend: FaultyBackend, gate: Gate) -> Browser:
    """A browser, signed in, on a worker whose ``/slow`` answers, and whose ``/write`` fills the cart, once the gate is
    open."""

    async def write(request: web.Request) -> web.Response:
        session = await get_session(request)
        await gate()
        session["cart"] = "written late"
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": gate.answer, "/write": write}))
    await browser.sign_in()
    return browser


ELSEWHERE = {
    "signs in anew": ("/login", {"user": "bob"}, "bob"),
    "signs in as the same user": ("/login", {"user": "alice"}, "alice"),
    "signs out": ("/logout", {}, None),
    "signs out everywhere else": ("/logout-everywhere?keep=1", {}, "alice"),
    "signs out everywhere": ("/logout-everywhere", {}, None),
}


@pytest.mark.parametrize("what", ELSEWHERE)
@pytest.mark.parametrize("place", ["the same worker", "another worker"])
@pytest.mark.parametrize("takes", [0, 3, 30])
async def test_a_request_in_flight_while_another_tab_does_so_touches_neither_cookie(
    workers: Workers,
    slow: Browser,
    gate: Gate,
    backend: FaultyBackend,
    clock: Clock,
    what: str,
    place: str,
    takes: float,
) -> None:
    """Its answer comes after the other tab's, whose cookies it must not delete or replace."""
    path, form, user = ELSEWHERE[what]
    other = slow.worker if place == "the same worker" else await workers(backend)
    pending = asyncio.create_task(slow.send("GET", "/slow"))
    await gate.reached.wait()
    await slow.post(path, data=form, to=other)
    cookies = dict(slow.cookies)
    clock.advance(takes)
    gate.opened.set()
    late = await pending
    if (place, takes) != ("another worker", 0):
        assert late.cookies == {}
        slow.take(late)
    assert slow.cookies == cookies
    assert (await slow.get()).user == user
    slow.end_session()
    assert (await slow.get()).user == user


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_what_is_left_an_answer_of_another_worker_can_put_the_former_token_over_that_of_a_sign_in(
    workers: Workers, worker: Worker, slow: Browser, gate: Gate, backend: FaultyBackend, what: str
) -> None:
    """Within 2 s no worker reads before it renews: that sign-in lasts as long as its session, and nobody is accused."""
    path, form, user = ELSEWHERE[what]
    other = await workers(backend)
    pending = asyncio.create_task(slow.send("GET", "/slow"))
    await gate.reached.wait()
    await slow.post(path, data=form, to=other)
    gate.opened.set()
    slow.take(await pending)
    assert (await slow.get()).user == user
    slow.end_session()
    assert (await slow.get()).user is None
    assert "reuse" not in dict(worker.events + other.events)


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_a_request_that_arrives_with_the_former_cookies_is_anonymous_and_touches_neither(
    worker: Worker, browser: Browser, what: str
) -> None:
    """It was sent before the other tab's answer arrived, and is judged after it."""
    path, form, user = ELSEWHERE[what]
    await browser.sign_in()
    await browser.post("/cart", data={"item": "book"})
    former = browser.clone()
    await browser.post(path, data=form)
    reply = await former.send("GET", "/me")
    assert (reply.user, reply.json["cart"], reply.cookies) == (None, None, {})
    former.end_session()
    reply = await former.send("GET", "/me")
    assert (reply.user, reply.cookies) == (None, {})
    assert (await browser.get()).user == user
    assert "reuse" not in dict(worker.events)


@pytest.mark.parametrize("what", ELSEWHERE)
async def test_a_request_in_flight_that_saves_the_former_session_makes_nobody_anonymous_for_long(
    slow: Browser, gate: Gate, what: str
) -> None:
    """aiohttp-session writes the former session over the new one; the new token opens another one."""
    path, form, user = ELSEWHERE[what]
    pending = asyncio.create_task(slow.send("GET", "/write"))
    await gate.reached.wait()
    await slow.post(path, data=form)
    gate.opened.set()
    late = await pending
    assert TOKEN not in late.cookies
    slow.take(late)
    users = [(await slow.get()).user for _ in range(3)]
    assert users[1:] == [user] * 2
    assert (await slow.get()).json["cart"] in (None, "written late")
