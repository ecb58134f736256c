"""What Chromium does to a persistent session: navigations cut short, kills, tabs opened at once, cookies kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from .browser import SESSION, TOKEN, Clock, Worker, Workers, names
from .chromium import Profile, path_of_chromium
from .faults import FaultyBackend
from .servers.processes import STARTS_WITHIN

pytestmark = pytest.mark.browser

SIGN_IN = "form => fetch('/login', {method: 'POST', body: new URLSearchParams(form)})"


@pytest.fixture
async def profile(tmp_path: Path) -> AsyncIterator[Profile]:
    path_of_chromium()
    async with async_playwright() as playwright:
        profile = Profile(playwright, tmp_path)
        yield profile
        await profile.kill()


def url(worker: Worker, path: str = "/me", *, host: str = "127.0.0.1") -> str:
    return str(worker.server.make_url(path).with_host(host))


async def sign_in(page: Page, address: str, **form: str) -> None:
    await page.goto(address)
    await page.evaluate(SIGN_IN, {"user": "alice"} | form)


async def user(page: Page, address: str) -> Any:
    answer = await page.goto(address)
    assert answer is not None
    return (await answer.json())["user"]


async def token(context: BrowserContext) -> str | None:
    return next((one["value"] for one in await context.cookies() if one["name"] == TOKEN), None)


@pytest.mark.parametrize("seconds_until_return", [1, 60, 3600])
async def test_a_navigation_that_another_site_starts_and_aborts_signs_nobody_out(
    chromium: Browser, workers: Workers, backend: FaultyBackend, clock: Clock, seconds_until_return: int
) -> None:
    """A restore whose answer another site keeps from the browser is no reuse, whenever the browser comes back."""
    reached, left = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        """Take longer than the browser waits. It is cancelled when the browser has hung up."""
        reached.set()
        try:
            return await asyncio.Future()
        finally:
            left.set()

    worker = await workers(backend, handlers={"/slow": slow})

    async def other_site(_: web.Request) -> web.Response:
        stop = "fetch('/when').then(() => setTimeout(() => window.stop(), 150))"
        link = f'<a href="{url(worker, "/slow")}" onclick="{stop}">a link</a>'
        return web.Response(text=link, content_type="text/html")

    async def when(_: web.Request) -> web.Response:
        """Answer once the app has restored: on a slow machine, 150 ms might not be enough for that."""
        await reached.wait()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", other_site), web.get("/when", when)])
    async with TestServer(app) as server:
        context = await chromium.new_context()
        page = await context.new_page()
        await sign_in(page, url(worker))
        before = await token(context)
        await context.clear_cookies(name=SESSION)
        clock.advance(120)
        await page.goto(str(server.make_url("/").with_host("localhost")))
        async with page.expect_event("requestfailed", lambda request: request.url.endswith("/slow")) as failed:
            await page.get_by_role("link").click(no_wait_after=True)
        assert (await failed.value).failure == "net::ERR_ABORTED"
        await asyncio.wait_for(left.wait(), STARTS_WITHIN)
        assert names(worker) == ["remember", "restore"]
        assert await token(context) == before
        for _ in range(3):
            clock.advance(seconds_until_return)
            assert await user(page, url(worker)) == "alice"
        await context.clear_cookies(name=SESSION)
        clock.advance(3600)
        assert await user(page, url(worker)) == "alice"
        assert {"reuse", "revoke", "forget"}.isdisjoint(names(worker))
        await context.close()


@pytest.mark.parametrize("seconds_until_return", [1, 60, 3600])
async def test_a_browser_that_is_killed_before_its_cookies_are_on_disk_is_still_signed_in(
    profile: Profile, workers: Workers, backend: FaultyBackend, clock: Clock, seconds_until_return: int
) -> None:
    """A browser that lost the token of its last restore comes back with the one before, and nobody is accused."""
    # The harshest for it: each request is a check, which may drop other tokens.
    worker = await workers(backend, check_interval=0)
    context = await profile.start()
    await sign_in(await context.new_page(), url(worker))
    on_disk = await token(context)
    await profile.close()
    clock.advance(3600)

    context = await profile.start()
    page = await context.new_page()
    assert await user(page, url(worker)) == "alice"
    assert await token(context) != on_disk
    clock.advance(5)
    assert await user(page, url(worker)) == "alice"
    await profile.kill()
    clock.advance(seconds_until_return)

    context = await profile.start()
    assert await token(context) == on_disk
    page = await context.new_page()
    for _ in range(3):
        assert await user(page, url(worker)) == "alice"
        clock.advance(60)
    await context.clear_cookies(name=SESSION)
    assert await user(page, url(worker)) == "alice"
    assert {"reuse", "revoke", "forget"}.isdisjoint(names(worker))


async def test_five_tabs_opened_at_once_are_all_in_with_one_exchange(
    profile: Profile, worker: Worker, clock: Clock
) -> None:
    """A browser that starts with five tabs spends its token once, and each tab is served as the user."""
    context = await profile.start()
    await sign_in(await context.new_page(), url(worker))
    await profile.close()
    clock.advance(3600)

    context = await profile.start()
    pages = [await context.new_page() for _ in range(5)]
    assert await asyncio.gather(*(user(page, url(worker)) for page in pages)) == ["alice"] * 5
    assert names(worker) == ["remember", "restore"]
    for seconds in (1, 60, 3600):
        clock.advance(seconds)
        assert [await user(page, url(worker)) for page in pages] == ["alice"] * 5
    assert names(worker) == ["remember", "restore"]


@pytest.mark.parametrize("ends", ["closed", "killed"])
async def test_a_sign_in_without_the_box_ends_with_the_browser(profile: Profile, worker: Worker, ends: str) -> None:
    """Without the box, no cookie outlives the browser, however it ends."""
    context = await profile.start()
    page = await context.new_page()
    await sign_in(page, url(worker), for_now="on")
    assert await user(page, url(worker)) == "alice"
    assert await token(context) is not None
    await (profile.close() if ends == "closed" else profile.kill())

    context = await profile.start()
    assert await context.cookies() == []
    assert await user(await context.new_page(), url(worker)) is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_the_host_cookie_is_kept_on_this_machine_over_plain_http(
    chromium: Browser, worker: Worker, host: str
) -> None:
    """Chromium keeps the Secure cookie with the prefix __Host- where the app is developed."""
    context = await chromium.new_context()
    page = await context.new_page()
    address = url(worker, host=host)
    await sign_in(page, address)
    (kept,) = [one for one in await context.cookies() if one["name"] == TOKEN]
    assert (kept["secure"], kept["httpOnly"], kept["sameSite"], kept["path"]) == (True, True, "Lax", "/")
    await context.clear_cookies(name=SESSION)
    assert await user(page, address) == "alice"
    assert await token(context) != kept["value"]
    await context.close()
