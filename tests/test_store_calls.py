"""What each kind of request asks of the store, counted."""

from __future__ import annotations

import asyncio

from .browser import TOKEN, Browser, Clock, Workers
from .faults import FaultyBackend

EVERY_STORE = True


async def test_a_live_request_inside_check_interval_costs_none(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    await browser.sign_in()
    backend.calls.clear()
    for _ in range(59):
        clock.advance(1)
        assert (await browser.get()).token == browser.token
    assert not backend.calls


async def test_an_active_browser_costs_a_worker_one_read_and_all_of_them_one_write_an_interval(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    pool = [await workers(backend) for _ in range(3)]
    browser = Browser(pool[0])
    await browser.sign_in()
    await asyncio.gather(*(browser.get(to=worker) for worker in pool))
    for _ in range(5):
        clock.advance(60)
        backend.calls.clear()
        for worker in pool:
            await asyncio.gather(*(browser.send("GET", "/me", to=worker) for _ in range(10)))
        assert backend.calls == {"get": 3, "replace": 1}


async def test_three_workers_that_write_at_once_swap_once(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    pool = [await workers(backend) for _ in range(3)]
    browser = Browser(pool[0])
    await browser.sign_in()
    clock.advance(60)
    await asyncio.gather(*(browser.send("GET", "/me", to=worker) for worker in pool))
    (record,) = await backend.of_user("alice")
    assert record.revision == 1
    assert record.seen_at == round(clock.now, 3)


async def test_an_exchange_costs_two(browser: Browser, backend: FaultyBackend) -> None:
    await browser.sign_in()
    for _ in range(3):
        browser.end_session()
        backend.calls.clear()
        await browser.get()
        assert backend.calls == {"get": 1, "replace": 1}
        backend.calls.clear()
        await browser.get()
        assert not backend.calls


async def test_a_join_costs_one(browser: Browser, backend: FaultyBackend) -> None:
    await browser.sign_in()
    browser.end_session()
    joining = browser.clone()
    await browser.get()
    backend.calls.clear()
    assert (await joining.send("GET", "/me")).user == "alice"
    assert backend.calls == {"get": 1}


async def test_a_malformed_cookie_costs_none(browser: Browser, backend: FaultyBackend) -> None:
    backend.calls.clear()
    browser.cookies[TOKEN] = "malformed"
    await browser.get()
    assert not backend.calls


async def test_a_first_sign_in_costs_one(browser: Browser, backend: FaultyBackend) -> None:
    backend.calls.clear()
    await browser.sign_in()
    assert backend.calls == {"insert": 1}


async def test_a_sign_out_costs_two(browser: Browser, backend: FaultyBackend) -> None:
    await browser.sign_in()
    backend.calls.clear()
    await browser.post("/logout")
    assert backend.calls == {"get": 1, "delete": 1}


async def test_a_session_without_a_persistent_session_costs_none(browser: Browser, backend: FaultyBackend) -> None:
    await browser.post("/login-unremembered", data={"user": "bob"})
    backend.calls.clear()
    await browser.get()
    assert not backend.calls


async def test_a_revoked_session_is_looked_up_once(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    await browser.sign_in()
    (record,) = await backend.of_user("alice")
    await backend.delete(record.id)
    clock.advance(60)
    del browser.cookies[TOKEN]
    backend.calls.clear()
    for _ in range(3):
        assert (await browser.send("GET", "/me")).user is None
    assert backend.calls == {"get": 1}


async def test_what_a_worker_remembers_is_bounded(
    browser: Browser, backend: FaultyBackend, clock: Clock, monkeypatch: object
) -> None:
    from aiohttp_persistent_session import sightings as module

    monkeypatch.setattr(module, "SIGHTINGS_KEPT", 3)  # type: ignore[attr-defined]
    browsers = [Browser(browser.worker) for _ in range(6)]
    for each in browsers:
        await each.sign_in()
    assert len(browser.worker.manager._sightings) == 3
    backend.calls.clear()
    for each in browsers:
        assert (await each.get()).token == each.token
    assert backend.calls["get"] <= 6
