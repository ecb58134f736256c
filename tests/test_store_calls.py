"""What each kind of request asks of the store, counted."""

from __future__ import annotations

import asyncio

import pytest

from aiohttp_persistent_session.policy import RENEWED_AFTER_LOOK
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend

EVERY_STORE = ("memory", "redis")


@pytest.fixture
async def browser(worker: Worker) -> Browser:
    """A browser that is signed in, and has shown its token."""
    browser = Browser(worker)
    await browser.sign_in()
    return browser


async def test_a_live_request_inside_check_interval_costs_none(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """It is served from what the worker remembers, and so its cookie is renewed for 10 s."""
    backend.calls.clear()
    for second in range(1, 60):
        clock.advance(1)
        reply = await browser.get()
        assert (reply.user, reply.token) == ("alice", browser.token if second <= RENEWED_AFTER_LOOK else None)
    assert not backend.calls


async def test_a_live_request_without_its_token_costs_none_either(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """The number of its session is known."""
    backend.calls.clear()
    del browser.cookies[TOKEN]
    for _ in range(59):
        clock.advance(1)
        assert (await browser.get()).user == "alice"
    assert not backend.calls


async def test_an_active_browser_costs_a_worker_one_read_and_all_of_them_one_write_an_interval(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The worker that looks first writes; the others see that somebody did."""
    pool = [await workers(backend) for _ in range(3)]
    browser = Browser(pool[0])
    await browser.sign_in()
    await asyncio.gather(*(browser.get(to=worker) for worker in pool))
    for _ in range(5):
        clock.advance(60.001)
        backend.calls.clear()
        for worker in pool:
            await asyncio.gather(*(browser.send("GET", "/me", to=worker) for _ in range(10)))
        assert backend.calls == {"get": 3, "replace": 1}


async def test_three_workers_that_write_at_once_swap_once(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Who loses the swap finds that there is nothing left to write."""
    pool = [await workers(backend) for _ in range(3)]
    browser = Browser(pool[0])
    await browser.sign_in()
    clock.advance(60.001)
    await asyncio.gather(*(browser.send("GET", "/me", to=worker) for worker in pool))
    (record,) = await backend.of_user("alice", 10)
    assert record.revision == 1
    assert record.seen_at == round(clock.now, 3)


async def test_requests_at_once_share_a_look(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    """Those that present the same token with the same session wait for the one look that is under way."""
    clock.advance(60.001)
    backend.calls.clear()
    await asyncio.gather(*(browser.send("GET", "/me") for _ in range(20)))
    assert backend.calls == {"get": 1, "replace": 1}


async def test_an_exchange_costs_two(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    """A read and a swap; the requests after it cost nothing."""
    for _ in range(3):
        clock.advance(3)
        browser.end_session()
        backend.calls.clear()
        assert (await browser.get()).user == "alice"
        assert backend.calls == {"get": 1, "replace": 1}
        backend.calls.clear()
        await browser.get()
        assert not backend.calls


async def test_the_successor_is_confirmed_by_a_check_that_happens_anyway(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """In the hour after an exchange a live browser costs one look an interval, and the drop is a part of one."""
    clock.advance(DAY)
    browser.end_session()
    await browser.get()
    backend.calls.clear()
    for _ in range(60):
        clock.advance(60.001)
        await browser.get()
    assert backend.calls == {"get": 60, "replace": 60}
    (record,) = await backend.of_user("alice", 10)
    assert len(record.secrets) == 1


async def test_a_join_costs_one(browser: Browser, backend: FaultyBackend) -> None:
    """It reads, and writes nothing."""
    browser.end_session()
    joining = browser.clone()
    await browser.get()
    backend.calls.clear()
    assert (await joining.send("GET", "/me")).user == "alice"
    assert backend.calls == {"get": 1}


async def test_a_rotation_costs_what_the_check_costs(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    """The new token is issued in the write that the check makes."""
    clock.advance(2 * DAY)
    before = browser.token
    backend.calls.clear()
    await browser.get()
    assert browser.token != before
    assert backend.calls == {"get": 1, "replace": 1}


async def test_a_malformed_cookie_costs_none(worker: Worker, backend: FaultyBackend) -> None:
    """It cannot be a token, so nobody is asked."""
    backend.calls.clear()
    await Browser(worker, {TOKEN: "malformed"}).get()
    assert not backend.calls


async def test_an_anonymous_request_costs_none(worker: Worker, backend: FaultyBackend) -> None:
    """There is nothing to look at."""
    backend.calls.clear()
    await Browser(worker).get()
    await Browser(worker, {"theme": "dark"}).get()
    assert not backend.calls


async def test_a_first_sign_in_costs_two(worker: Worker, backend: FaultyBackend) -> None:
    """One write, and a look at how many the user has."""
    backend.calls.clear()
    await Browser(worker).sign_in()
    assert backend.calls == {"insert": 1, "of_user": 1}


async def test_a_sign_in_without_a_limit_costs_one(workers: Workers, backend: FaultyBackend) -> None:
    """Nobody counts where nobody gives way."""
    browser = Browser(await workers(backend, max_sessions=None))
    backend.calls.clear()
    await browser.sign_in()
    assert backend.calls == {"insert": 1}


async def test_a_sign_out_costs_two(browser: Browser, backend: FaultyBackend) -> None:
    """The record is read, so that receivers are told of it, and deleted."""
    backend.calls.clear()
    await browser.post("/logout")
    assert backend.calls == {"get": 1, "delete": 1}


async def test_an_anonymous_sign_out_looks_at_one_token_however_many_came(
    worker: Worker, backend: FaultyBackend
) -> None:
    """A header of made-up tokens costs no more reads than a browser could cause."""
    tokens = [Token.generate().cookie_value for _ in range(80)]
    backend.calls.clear()
    reply = await Browser(worker).send(
        "POST", "/logout", cookie_header="; ".join(f"{TOKEN}={token}" for token in tokens)
    )
    assert reply.status == 302
    assert backend.calls["get"] <= 3  # two are looked up to judge the request, and one is to be ended
    assert backend.calls["delete"] == 0


async def test_a_session_without_a_persistent_session_costs_none(worker: Worker, backend: FaultyBackend) -> None:
    """A login that did not use remember is none of our business."""
    browser = Browser(worker)
    await browser.post("/login-unremembered", data={"user": "bob"})
    backend.calls.clear()
    await browser.get()
    assert not backend.calls


async def test_a_token_of_another_record_beside_a_live_session_costs_none(
    browser: Browser, backend: FaultyBackend
) -> None:
    """It counts as none, so nobody can cause reads by planting it."""
    backend.calls.clear()
    browser.cookies[TOKEN] = Token.generate().cookie_value
    assert (await browser.send("GET", "/me")).user == "alice"
    assert not backend.calls


async def test_a_revoked_session_is_looked_up_once(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    """That there is no such record is remembered for as long as a record is."""
    (record,) = await backend.of_user("alice", 10)
    await backend.delete(record.id)
    clock.advance(60.001)
    del browser.cookies[TOKEN]
    backend.calls.clear()
    for _ in range(3):
        assert (await browser.send("GET", "/me")).user is None
    assert backend.calls == {"get": 1}


async def test_made_up_tokens_fill_no_memory(
    browser: Browser, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker remembers of records is not displaced by ids that only a token names."""
    monkeypatch.setattr("aiohttp_persistent_session.seen.RECORDS_KEPT", 3)
    for _ in range(10):
        await Browser(browser.worker, {TOKEN: Token.generate().cookie_value}).get()
    backend.calls.clear()
    assert (await browser.get()).token == browser.token
    assert not backend.calls


async def test_what_a_worker_remembers_is_bounded(
    worker: Worker, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that it saw first gives way: its browser costs a read, and is served as the others."""
    monkeypatch.setattr("aiohttp_persistent_session.seen.RECORDS_KEPT", 3)
    browsers = [Browser(worker) for _ in range(6)]
    for each in browsers:
        await each.sign_in()
    assert len(worker.manager.registry.seen) == 3
    backend.calls.clear()
    for each in browsers[3:]:
        assert (await each.get()).token == each.token
    assert not backend.calls
    for each in browsers[:3]:
        assert (await each.get()).token == each.token
    assert backend.calls["get"] == 3


async def test_what_one_token_was_answered_serves_no_other(browser: Browser, backend: FaultyBackend) -> None:
    """A request that presents another secret beside the same session waits for no look but its own."""
    token = Token.parse(browser.token or "")
    assert token is not None
    header = f"{SESSION}={browser.cookies[SESSION]}; {TOKEN}={token.with_new_secret().cookie_value}"
    backend.calls.clear()
    replies = await asyncio.gather(
        browser.send("GET", "/me", cookie_header=header), browser.send("GET", "/me"), browser.send("GET", "/me")
    )
    assert replies[0].user is None
    assert backend.calls["get"] >= 1
