"""``strict=True``: an exchange drops all other tokens at once, so that no copy goes unaccused."""

from __future__ import annotations

import asyncio

import pytest

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend) -> Worker:
    return await workers(backend, strict=True)


def without_session(browser: Browser) -> Browser:
    tab = browser.clone()
    tab.end_session()
    return tab


@pytest.mark.parametrize(("seconds", "serves"), [(0, True), (2, True), (10, True), (10.001, False), (DAY, False)])
async def test_a_spent_token_joins_for_the_grace_period_and_is_reuse_after_it(
    worker: Worker, browser: Browser, clock: Clock, seconds: float, serves: bool
) -> None:
    """An exchange leaves the presented token ``grace_period``, and no longer."""
    await browser.sign_in()
    copy = without_session(browser)
    browser.end_session()
    await browser.get()
    clock.advance(seconds)
    reply = await copy.get()
    assert reply.user == ("alice" if serves else None)
    assert reply.token == (None if serves else "")
    assert ("reuse" in dict(worker.events)) is not serves
    assert (await browser.get()).user == ("alice" if serves else None)


async def test_five_tabs_at_once_make_one_exchange(worker: Worker, browser: Browser) -> None:
    """Parallel requests accuse nobody."""
    await browser.sign_in()
    browser.end_session()
    replies = await asyncio.gather(*(browser.send("GET", "/me") for _ in range(5)))
    assert [reply.user for reply in replies] == ["alice"] * 5
    assert sum(reply.token is not None for reply in replies) == 1
    for reply in replies:
        browser.take(reply)
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_a_live_session_with_the_spent_token_goes_on_within_the_grace_period(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """Another tab's requests were under way as the first one exchanged: they are neither accused nor rotated."""
    await browser.sign_in()
    spent = browser.token or ""
    browser.end_session()
    await browser.get()
    late = Browser(worker, {SESSION: browser.cookies[SESSION], TOKEN: spent})
    clock.advance(10)
    reply = await late.get()
    assert (reply.user, reply.token) == ("alice", None)
    assert "reuse" not in dict(worker.events)


async def test_a_live_session_whose_token_somebody_exchanged_is_found_to_be_a_copys(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """After the grace period the owner's token is no longer valid: the owner finds the thief out."""
    await browser.sign_in()
    await without_session(browser).get()
    clock.advance(10.001)
    assert (await browser.get()).user is None
    assert "reuse" in dict(worker.events)


async def test_a_session_cookie_that_was_copied_dies_with_the_next_restore(
    worker: Worker, browser: Browser, clock: Clock
) -> None:
    """Its number's secret is gone after the grace period; a session without a token accuses nobody."""
    await browser.sign_in()
    thief = Browser(worker, {SESSION: browser.cookies[SESSION]})
    browser.end_session()
    await browser.get()
    assert (await thief.get()).user == "alice"
    clock.advance(61)
    assert (await thief.get()).user is None
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_a_lost_answer_logs_out(worker: Worker, browser: Browser, clock: Clock) -> None:
    """The price, said plainly: an honest browser whose answer was lost is accused."""
    await browser.sign_in()
    browser.end_session()
    await browser.send("GET", "/me")
    clock.advance(10.001)
    assert (await browser.get()).user is None
    assert "reuse" in dict(worker.events)


async def test_an_answer_that_is_lost_within_the_grace_period_is_asked_for_again_to_no_avail(
    browser: Browser, clock: Clock
) -> None:
    """A reload joins, is handed nothing, and is found out later: the successor is in nobody's hands."""
    await browser.sign_in()
    browser.end_session()
    await browser.send("GET", "/me")
    clock.advance(5)
    reply = await browser.get()
    assert (reply.user, reply.token) == ("alice", None)


async def test_a_rotation_drops_nothing_at_once(worker: Worker, browser: Browser, clock: Clock) -> None:
    """A live session whose rotation was lost goes on with the token that it has."""
    await browser.sign_in()
    clock.advance(DAY + 1)
    assert (await browser.send("GET", "/me")).token != browser.token
    clock.advance(30)
    assert (await browser.get()).user == "alice"
    clock.advance(DAY)
    assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_switching_it_on_accuses_nobody(
    workers: Workers, worker: Worker, backend: FaultyBackend, clock: Clock
) -> None:
    """Records that were written before have several valid tokens, of which a browser may hold any."""
    before = await workers(backend)
    browsers = [Browser(before) for _ in range(2)]
    for browser in browsers:
        await browser.sign_in()
        browser.end_session()
    got = await browsers[0].get()
    lost = await browsers[1].send("GET", "/me")
    assert got.token
    assert lost.token
    clock.advance(60)
    for browser in browsers:
        browser.worker = worker
        browser.end_session()
        assert (await browser.get()).user == "alice"
    assert "reuse" not in dict(worker.events)


async def test_switching_it_off_again_keeps_the_end_that_was_set(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """A token whose validity a strict exchange limited is not revived by a deployment."""
    after = await workers(backend)
    await browser.sign_in()
    copy = without_session(browser)
    browser.end_session()
    await browser.get()
    clock.advance(10.001)
    assert (await copy.get(to=after)).user is None
    assert "reuse" in dict(after.events)


async def test_a_repeat_is_never_told_of(worker: Worker, browser: Browser, clock: Clock) -> None:
    """What would be a repeat is a reuse here."""
    await browser.sign_in()
    for _ in range(3):
        clock.advance(100)
        browser.end_session()
        await browser.get()
    assert "repeat" not in dict(worker.events)
