"""A sign-in that asks for a lifetime of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from aiohttp_persistent_session import forget_everywhere, remember

from .browser import DAY, TOKEN, Browser, Clock, Workers, comes_back
from .exchanges import the_record
from .faults import FaultyBackend

EVERY_STORE = ("memory", "sqlite", "redis", "mongodb")


def login(**options: Any) -> Any:
    async def handler(request: web.Request) -> web.Response:
        try:
            await remember(request, "alice", **options)
        except (TypeError, ValueError) as error:
            return web.json_response(str(error), status=400)
        return web.json_response("in")

    return handler


async def end_others(request: web.Request) -> web.Response:
    return web.json_response(await forget_everywhere(request, keep_current=True))


HANDLERS = {
    "/for-a-week": login(max_age=timedelta(days=7)),
    "/for-a-week-and-now": login(max_age=7 * DAY, persistent=False),
    "/end-others": end_others,
}


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    return Browser(await workers(backend, handlers=HANDLERS))


async def test_it_slides_as_the_options_lifetime_does(browser: Browser, clock: Clock) -> None:
    """Cookie and record last a week from each visit, through exchanges and renewals."""
    reply = await browser.post("/for-a-week")
    assert int(reply.cookies[TOKEN]["max-age"]) == 7 * DAY
    for _ in range(4):
        reply = await comes_back(browser, clock, 6.9 * DAY)
        assert (reply.user, int(reply.cookies[TOKEN]["max-age"])) == ("alice", 7 * DAY)
    clock.advance(3)
    assert int((await browser.get()).cookies[TOKEN]["max-age"]) == 7 * DAY
    assert (await comes_back(browser, clock, 7.1 * DAY)).user is None


async def test_a_new_record_for_this_browser_keeps_it(browser: Browser, backend: FaultyBackend, clock: Clock) -> None:
    await browser.post("/for-a-week")
    reply = await browser.post("/end-others")
    assert int(reply.cookies[TOKEN]["max-age"]) == 7 * DAY
    assert (await the_record(backend)).max_age == 7 * DAY


async def test_it_counts_without_the_box_too(browser: Browser, backend: FaultyBackend) -> None:
    """The shorter one of the two."""
    await browser.post("/for-a-week-and-now")
    record = await the_record(backend)
    assert record.expires_at == pytest.approx(record.seen_at + DAY + 60)


async def test_options_that_are_shorter_today_bind_it(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    browser = Browser(await workers(backend, handlers=HANDLERS))
    await browser.post("/for-a-week")
    browser.worker = await workers(backend, max_age=DAY)
    assert (await comes_back(browser, clock, 2 * DAY)).user is None


@pytest.mark.parametrize(
    ("max_age", "problem"),
    [(timedelta(days=31), "at most 30 days"), (599, "at least 10 minutes"), (0, "at least"), (True, "timedelta")],
)
async def test_one_that_is_out_of_range_is_refused(
    workers: Workers, backend: FaultyBackend, max_age: Any, problem: str
) -> None:
    """Longer than the options': the options bind all records. Shorter than a look: the cookie would end before it."""
    browser = Browser(await workers(backend, handlers={"/login-for": login(max_age=max_age)}))
    reply = await browser.post("/login-for")
    assert (reply.status, "max_age" in reply.json, problem in reply.json) == (400, True, True)
    assert await browser.worker.manager.sessions("alice") == []
