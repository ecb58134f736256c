"""What a worker counts, for metrics."""

from __future__ import annotations

import dataclasses

from aiohttp_persistent_session import Counters

from .browser import DAY, Browser, Clock, Worker, comes_back
from .faults import FaultyBackend


async def test_each_thing_is_counted_once(worker: Worker, clock: Clock) -> None:
    """Sign-in, exchange, join, rotation, repeat and reuse; and nothing else moves."""
    counters, browser = worker.manager.counters, Browser(worker)
    assert counters == Counters()
    await browser.sign_in()
    assert counters == Counters(sign_ins=1)
    copy = browser.clone()
    assert (await comes_back(browser, clock)).user == "alice"
    assert counters == Counters(sign_ins=1, exchanges=1)
    copy.end_session()
    assert (await copy.get()).user == "alice"
    assert counters == Counters(sign_ins=1, exchanges=1, joins=1)
    clock.advance(DAY + 1)
    assert (await browser.get()).token
    assert counters == Counters(sign_ins=1, exchanges=1, joins=1, rotations=1)
    assert (await copy.get()).user is None
    assert counters == Counters(sign_ins=1, exchanges=1, joins=1, rotations=1, reuses=1)


async def test_a_repeat_is_counted_as_it_is_told_of(worker: Worker, clock: Clock) -> None:
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    clock.advance(3)
    await browser.send("GET", "/me")
    clock.advance(11)
    assert (await browser.get()).user == "alice"
    assert worker.manager.counters == Counters(sign_ins=1, exchanges=2, repeats=1)


async def test_an_outage_is_counted_once(worker: Worker, backend: FaultyBackend, clock: Clock) -> None:
    """Each operation that begins to fail is one."""
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    backend.break_down()
    for _ in range(5):
        clock.advance(3)
        assert (await browser.get()).user is None
    assert worker.manager.counters.outages == 1


def test_counters_are_plain_numbers() -> None:
    assert all(value == 0 for value in dataclasses.asdict(Counters()).values())
