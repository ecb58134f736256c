"""What users of other libraries complain of in 2026: revocations that do not last, and alarms that mean nothing.

The other complaints of that year are in test_peers_2026.py.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Reply, Worker, Workers
from .faults import FaultyBackend, Gate
from .servers.redis import RedisStore

EVERY_STORE = ("memory", "redis")


def names(worker: Worker) -> list[str]:
    return [name for name, _ in worker.events]


async def comes_back(browser: Browser, clock: Clock, after: float = 3) -> Reply:
    """Close the browser, and ask for a page when it comes back."""
    clock.advance(after)
    browser.end_session()
    return await browser.get()


# A revocation that a refresh in flight undoes


async def test_better_auth_11073_sign_ins_at_the_same_time_are_all_listed_and_revoked(
    worker: Worker, backend: FaultyBackend
) -> None:
    """No sign-in loses its place in the user's list to another one at the same moment."""
    gate, waiting = Gate(), 0

    async def hold_all(name: str) -> None:
        nonlocal waiting
        if name == "insert":
            waiting += 1
            if waiting == 8:
                gate.opened.set()
            await gate.opened.wait()

    backend.fault = hold_all
    browsers = [Browser(worker) for _ in range(8)]
    await asyncio.gather(*(browser.sign_in() for browser in browsers))
    assert len((await browsers[0].get("/devices")).json) == 8
    assert (await browsers[0].post("/logout-everywhere?keep")).json == 8
    assert [(await browser.get()).user for browser in browsers] == ["alice"] + [None] * 7


async def test_better_auth_11073_a_missing_index_entry_comes_back(
    redis_url: str, workers: Workers, clock: Clock
) -> None:
    """Where a store has lost the list of a user's browsers, one that is active for a week is in it again."""
    import redis.asyncio

    store = RedisStore(redis_url)
    backend = await store.backend()
    worker = await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.delete(f"{store.prefix}user:s:alice")
    assert await worker.manager.sessions("alice") == []
    for _ in range(9):
        clock.advance(DAY)
        assert (await browser.get()).user == "alice"
    assert [one.id for one in await worker.manager.sessions("alice")] == [id]
    assert await worker.manager.revoke_all("alice") == 1
    assert (await browser.get()).user is None
    await store.clean()


@pytest.mark.parametrize("how", ["revoked", "everywhere", "signed out"])
@pytest.mark.parametrize("in_flight", ["exchange", "check", "rotation"])
@pytest.mark.parametrize("write", ["not yet applied", "applied"])
async def test_better_auth_11073_a_refresh_in_flight_does_not_undo_a_revocation(
    workers: Workers, backend: FaultyBackend, clock: Clock, how: str, in_flight: str, write: str
) -> None:
    """Whatever a request was writing as the record was deleted: the record stays away, and so does the visitor.

    better-auth#11317 and keycloak#51312 are the same.
    """
    worker, other = await workers(backend), await workers(backend)
    browser = Browser(worker)
    await browser.sign_in()
    id, copy = (await browser.get()).json["id"], browser.clone()
    clock.advance(DAY + 1 if in_flight == "rotation" else 61)
    if in_flight == "exchange":
        browser.end_session()
    gate = Gate()

    async def hold(name: str) -> None:
        if name == "replace":
            await gate()

    if write == "applied":
        backend.after = hold
    else:
        backend.fault = hold
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await gate.reached.wait()
    backend.heal()
    if how == "signed out":
        # A request to the same worker would wait for the look that is under way.
        assert (await copy.post("/logout", to=worker if in_flight == "exchange" else other)).status == 302
    elif how == "revoked":
        assert await worker.manager.revoke(id)
    else:
        assert await worker.manager.revoke_all("alice") == 1
    gate.opened.set()
    late = await pending
    if how == "signed out" and in_flight != "exchange":
        # The other worker's deletion is not known here: this one's own write holds until the next check.
        clock.advance(61)
    else:
        assert late.token is None
    assert in_flight != "exchange" or SESSION not in late.cookies
    browser.take(late)
    for _ in range(3):
        assert (await browser.get()).user is None
        clock.advance(31)
    assert (await comes_back(browser, clock)).user is None
    assert await backend.of_user("alice", 9) == []
    assert "reuse" not in names(worker)


async def test_better_auth_11073_a_sign_in_after_revoke_all_is_listed_and_revives_nobody(
    worker: Worker, clock: Clock
) -> None:
    """Signing in anew after all were signed out lists one browser, and leaves the others out."""
    old, copy = Browser(worker), Browser(worker)
    await old.sign_in()
    await copy.sign_in()
    assert await worker.manager.revoke_all("alice") == 2
    anew = Browser(worker)
    await anew.sign_in()
    assert len((await anew.get("/devices")).json) == 1
    for one in (old, copy):
        assert (await one.get()).user is None
        assert (await comes_back(one, clock)).user is None
    assert await worker.manager.revoke_all("alice") == 1
    assert (await anew.get()).user is None


@pytest.mark.parametrize("at_once", [1, 6])
async def test_keycloak_51312_sign_out_everywhere_wins_against_refreshes_at_the_same_time(
    workers: Workers, backend: FaultyBackend, clock: Clock, at_once: int
) -> None:
    """However requests of all browsers race with a sign-out everywhere, nobody is in after it."""
    pool = [await workers(backend), await workers(backend)]
    browsers = [Browser(pool[n % 2]) for n in range(4)]
    for browser in browsers:
        await browser.sign_in()
    owner = browsers[0].clone()
    clock.advance(3)
    for browser in browsers:
        browser.end_session()
    replies, *_ = await asyncio.gather(
        asyncio.gather(*(one.send("GET", "/me", to=pool[n % 2]) for one in browsers for n in range(at_once))),
        owner.send("POST", "/logout-everywhere"),
    )
    for number, reply in enumerate(replies):
        browsers[number // at_once].take(reply)
    clock.advance(61)
    for browser in browsers:
        for worker in pool:
            assert (await browser.get(to=worker)).user is None
    assert await backend.of_user("alice", 9) == []


# What an alarm, a token and a call are worth


async def test_nocturne_326_concurrent_refreshes_raise_no_alarm(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Browsers with several tabs, on two workers, that lose a part of their answers, are never called thieves."""
    chance = random.Random(326)
    pool = [await workers(backend), await workers(backend)]
    browsers = [Browser(pool[0]) for _ in range(6)]
    for browser in browsers:
        await browser.sign_in()
    for _ in range(10):
        clock.advance(chance.choice([1, 4, 11, 31, 62, 95, 3600, DAY + 1]))
        for browser in browsers:
            if chance.random() < 0.5:
                browser.end_session()
        replies = await asyncio.gather(
            *(browser.send("GET", "/me", to=chance.choice(pool)) for browser in browsers for _ in range(3))
        )
        assert {reply.user for reply in replies} == {"alice"}
        for number, browser in enumerate(browsers):
            for reply in chance.sample(replies[3 * number : 3 * number + 3], 3):
                if chance.random() < 0.7:
                    browser.take(reply)
    assert not {"reuse", "revoke"} & {*names(pool[0]), *names(pool[1])}


async def test_doorkeeper_1497_a_first_token_has_none_before_it_and_revokes_nobodys(
    worker: Worker, clock: Clock
) -> None:
    """The first use of a sign-in's token ends neither another user's sign-in nor another browser's."""
    browsers = [Browser(worker) for _ in range(6)]
    for number, browser in enumerate(browsers):
        await browser.sign_in(f"user{number // 2}")
    for _ in range(3):
        clock.advance(100)
        for number, browser in enumerate(browsers):
            browser.end_session()
            assert (await browser.get()).user == f"user{number // 2}"
    assert set(names(worker)) == {"remember", "restore"}


async def test_doorkeeper_1462_old_tokens_do_not_pile_up(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A browser that comes back again and again has one record, and one valid token once it has shown it."""
    await browser.sign_in()
    for _ in range(30):
        assert (await comes_back(browser, clock, 3600)).user == "alice"
        clock.advance(100)
        assert (await browser.get()).user == "alice"
    records = await backend.of_user("alice", 9)
    assert [len(record.secrets) for record in records] == [1]


async def test_supertokens_1030_confirming_a_token_costs_no_call_at_each_request(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """An exchange costs two calls, a join one, a live request none, and what is malformed none."""
    await browser.sign_in()
    clock.advance(3)
    browser.end_session()
    old = browser.clone()
    backend.calls.clear()
    await browser.get()
    assert backend.calls == {"get": 1, "replace": 1}
    backend.calls.clear()
    await old.send("GET", "/me")
    assert backend.calls == {"get": 1}
    backend.calls.clear()
    for _ in range(50):
        clock.advance(1)
        assert (await browser.get()).user == "alice"
    await Browser(browser.worker, {TOKEN: "malformed"}).get()
    assert not backend.calls
    clock.advance(41)
    await browser.get()
    assert backend.calls == {"get": 1, "replace": 1}


# aiohttp-security


async def test_aiohttp_security_236_forget_all_sessions(worker: Worker, clock: Clock) -> None:
    """One call signs a user out of all browsers, or of all but this one, and nobody else."""
    browsers, bob = [Browser(worker) for _ in range(3)], Browser(worker)
    for browser in browsers:
        await browser.sign_in()
    await bob.sign_in("bob")
    assert (await browsers[0].post("/logout-everywhere?keep")).json == 3
    assert [(await browser.get()).user for browser in browsers] == ["alice", None, None]
    assert (await browsers[0].post("/logout-everywhere")).json == 1
    assert (await comes_back(browsers[0], clock)).user is None
    assert (await bob.get()).user == "bob"


class ServerSideStorage(aiohttp_session.AbstractStorage):
    """Keeps sessions under random keys, as aiohttp-session's Redis storage does."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[str, str] = {}

    async def load_session(self, request: web.Request) -> aiohttp_session.Session:
        key = self.load_cookie(request)
        data = json.loads(self.stored[key]) if key in self.stored else None
        return aiohttp_session.Session(key if data else None, data=data, new=data is None)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse, session: aiohttp_session.Session
    ) -> None:
        key = session.identity or uuid.uuid4().hex
        self.save_cookie(response, "" if session.empty else key)
        self.stored[key] = json.dumps(self._get_session_data(session))


@pytest.mark.parametrize("how", ["sign-in", "restore", "confirmed login", "signed out everywhere else"])
async def test_aiohttp_security_473_a_new_session_at_remember(
    workers: Workers, backend: FaultyBackend, clock: Clock, how: str
) -> None:
    """Who knew the session's key before a sign-in knows nothing after it; CVE-2015-8124 is the same."""
    browser = Browser(await workers(backend, storage=ServerSideStorage()))
    await browser.post("/cart", data={"item": "book"})
    if how != "sign-in":
        await browser.sign_in()
    if how == "restore":
        clock.advance(3)
        browser.end_session()
        await browser.post("/cart", data={"item": "book"}, cookie_header="a=b")
    attacker = Browser(browser.worker, {SESSION: browser.cookies[SESSION]})
    act: Callable[[], Awaitable[Reply]] = {
        "sign-in": browser.sign_in,
        "restore": browser.get,
        "confirmed login": partial(browser.post, "/confirm"),
        "signed out everywhere else": partial(browser.post, "/logout-everywhere?keep"),
    }[how]
    await act()
    assert browser.cookies[SESSION] != attacker.cookies[SESSION]
    mine, theirs = await browser.get(), await attacker.get()
    assert (mine.user, mine.json["cart"]) == ("alice", "book")
    # A restore leaves an anonymous session where it was: nothing was added to it.
    assert (theirs.user, theirs.json["cart"]) == (None, "book" if how == "restore" else None)


def test_doorkeeper_1497_no_token_is_equal_to_nothing() -> None:
    """What is missing spells no token."""
    assert Token.parse("") is None
    assert Token.parse(".") is None
