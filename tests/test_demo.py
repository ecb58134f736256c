"""The demo in Chromium, to an app's tests, and its command line."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, expect

from aiohttp_persistent_session import PERSISTENT_SESSIONS, MemoryBackend, testing
from demo.app import create_app
from demo.pages import device

from .browser import Clock
from .faults import FaultyBackend
from .servers.processes import free_port

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
TOKEN, SESSION = "persistent_session", "session"

in_chromium = pytest.mark.browser


@pytest.fixture
async def demo(clock: Clock) -> AsyncIterator[TestServer]:
    app = create_app(MemoryBackend(), store="sqlite:////home/alice/.cache/aiohttp_persistent_session_demo/demo.db")
    app[PERSISTENT_SESSIONS].clock = clock
    async with TestServer(app) as server:
        yield server


@pytest.fixture
async def context(chromium: Browser, demo: TestServer) -> AsyncIterator[BrowserContext]:
    context = await chromium.new_context(base_url=str(demo.make_url("/")), viewport={"width": 1180, "height": 860})
    context.set_default_timeout(20_000)
    yield context
    await context.close()


async def sign_in(page: Page, *, keep: bool = True) -> None:
    await page.goto("/")
    box = page.get_by_label("Keep me signed in")
    await (box.check() if keep else box.uncheck())
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="You are alice").wait_for()


async def cookies(context: BrowserContext) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in await context.cookies()}


def beginning(token: str) -> str:
    """What the page shows of a token: the part before the dot never changes."""
    return token.partition(".")[2][:6]


async def photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def how(page: Page) -> str:
    return (await page.locator("#how").inner_text()).strip()


@in_chromium
async def test_the_box_keeps_the_visitor_in_when_the_session_is_gone(context: BrowserContext) -> None:
    """With the box ticked, the visitor is in again after the session, and the page shows the token before and after."""
    page = await context.new_page()
    await page.goto("/")
    await photograph(page, "1-welcome")
    await sign_in(page)
    assert await how(page) == "signed in"
    await photograph(page, "2-signed-in")
    before = (await cookies(context))[TOKEN]
    await page.reload()
    assert await how(page) == "by session"
    assert (await cookies(context))[TOKEN] == before
    await context.clear_cookies(name=SESSION)
    await page.reload()
    assert await how(page) == "restored from a token"
    await page.locator("#events .restore").wait_for()
    after = (await cookies(context))[TOKEN]
    assert after != before
    await expect(page.locator("#token-before")).to_have_text(beginning(before))
    await expect(page.locator("#token")).to_have_text(beginning(after))
    await photograph(page, "3-restored")
    (token,) = [cookie for cookie in await context.cookies() if cookie["name"] == TOKEN]
    assert (token["httpOnly"], token["sameSite"]) == (True, "Lax")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Sign in").wait_for()
    assert TOKEN not in await cookies(context)
    await page.reload()
    await page.get_by_role("heading", name="Sign in").wait_for()


@in_chromium
async def test_without_the_box_the_visitor_is_out_after_the_browser_is_closed(context: BrowserContext) -> None:
    """The button that closes the browser takes the token too where the box was not ticked."""
    page = await context.new_page()
    await sign_in(page, keep=False)
    (token,) = [cookie for cookie in await context.cookies() if cookie["name"] == TOKEN]
    assert token["expires"] == -1
    await photograph(page, "4-until-the-browser-is-closed")
    await page.get_by_role("button", name="Close the browser").click()
    await page.get_by_text("It has forgotten both cookies").wait_for()
    assert await cookies(context) == {}
    await page.get_by_role("link", name="Open it again").click()
    await page.get_by_role("heading", name="Sign in").wait_for()


async def copy_and_come_back(page: Page) -> None:
    await sign_in(page)
    await page.get_by_role("button", name="Copy the token").click()
    await page.get_by_role("button", name="Close the browser").click()
    await page.get_by_role("heading", name="As if the browser were closed").wait_for()
    await photograph(page, "5-closed")
    await page.get_by_role("link", name="Open it again").click()
    await page.get_by_text("You hold another one now.").wait_for()


async def send_the_thief(page: Page) -> str:
    await page.get_by_role("button", name="Let the thief visit").click()
    return await page.locator("#verdict").inner_text()


@in_chromium
async def test_a_copy_is_found_out_once_the_countdown_is_over(context: BrowserContext, clock: Clock) -> None:
    """The copy of a spent token is found out 90 s after the exchange, and the page says why nobody is signed in."""
    page = await context.new_page()
    await copy_and_come_back(page)
    assert await page.locator("#thief-token").inner_text() == await page.locator("#token-before").inner_text()
    await page.get_by_role("timer").filter(has_text="s").wait_for()
    await photograph(page, "6-counting")
    clock.advance(91)
    await page.reload()
    await page.get_by_text("The time is up.").wait_for()
    assert await send_the_thief(page) == "Found out"
    await photograph(page, "7-found-out")
    await page.get_by_role("link", name="Back").click()
    await page.get_by_role("heading", name="Sign in").wait_for()
    await page.get_by_text("a copy of your token was found out").wait_for()
    await page.locator("#events .reuse").wait_for()
    await photograph(page, "8-why-nobody-is-signed-in")
    await sign_in(page)


@in_chromium
async def test_a_copy_that_is_used_early_is_found_out_later(context: BrowserContext, clock: Clock) -> None:
    """A thief who comes early is served, then let in, then found out; each page says so."""
    page = await context.new_page()
    await copy_and_come_back(page)
    assert await send_the_thief(page) == "Served, and given nothing"
    await page.get_by_role("link", name="Back").click()
    clock.advance(11)
    assert await send_the_thief(page) == "Let in, for now"
    await page.locator("#events .repeat").wait_for()
    await photograph(page, "9-let-in")
    await page.get_by_role("link", name="Back").click()
    clock.advance(45)
    assert await send_the_thief(page) == "Still in, for now"
    await page.get_by_role("link", name="Back").click()
    clock.advance(46)
    await page.reload()
    await page.get_by_text("The time is up.").wait_for()
    assert await send_the_thief(page) == "Found out"


@in_chromium
async def test_a_copy_that_is_used_beside_a_live_owner_is_found_out(context: BrowserContext, clock: Clock) -> None:
    """The owner need not close the browser: once a copy was used, the owner's session moves on to another token."""
    page = await context.new_page()
    await sign_in(page)
    await page.get_by_role("button", name="Copy the token").click()
    assert await send_the_thief(page) == "Let in, for now"
    await page.get_by_role("link", name="Back").click()
    held = (await cookies(context))[TOKEN]
    clock.advance(11)
    await page.reload()
    assert (await cookies(context))[TOKEN] != held
    clock.advance(91)
    await page.reload()
    await page.get_by_text("The time is up.").wait_for()
    assert await send_the_thief(page) == "Found out"


@in_chromium
async def test_ending_all_other_browsers_gives_this_one_another_persistent_session(context: BrowserContext) -> None:
    """This browser gets a new record, so that no copy of its old token survives."""
    page = await context.new_page()
    await sign_in(page)
    other = await page.context.browser.new_context(base_url=page.url)  # type: ignore[union-attr]  # it has a browser
    await sign_in(await other.new_page())
    await page.reload()
    await page.get_by_role("button", name="Copy the token").click()
    before = (await cookies(context))[TOKEN]
    await page.get_by_role("button", name="End them all").click()
    await page.get_by_text("None. Sign in as alice").wait_for()
    assert (await cookies(context))[TOKEN].partition(".")[0] != before.partition(".")[0]
    assert await page.get_by_role("button", name="Let the thief visit").is_disabled()
    await other.close()


@in_chromium
async def test_the_password_page_asks_again_after_a_restore(context: BrowserContext, clock: Clock) -> None:
    """The password page opens for 5 minutes after the password was typed, and asks for it otherwise."""
    page = await context.new_page()
    await sign_in(page)
    await page.get_by_role("link", name="Change the password").click()
    assert await page.locator("#fresh").inner_text() == "fresh"
    clock.advance(301)
    await page.reload()
    assert await page.locator("#fresh").inner_text() == "not fresh"
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Confirm").click()
    await page.get_by_role("alert").wait_for()
    await page.get_by_label("Password").fill("demo")
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.locator("#fresh")).to_have_text("fresh")
    await context.clear_cookies(name=SESSION)
    await page.reload()
    assert await page.locator("#fresh").inner_text() == "not fresh"
    await photograph(page, "10-password")
    await page.get_by_role("button", name="Confirm").click()
    await expect(page.locator("#fresh")).to_have_text("fresh")
    await context.clear_cookies()
    await page.reload()
    await page.get_by_role("heading", name="Sign in").wait_for()


@in_chromium
async def test_another_browser_is_listed_and_ended_from_here(
    chromium: Browser, context: BrowserContext, demo: TestServer
) -> None:
    """A browser that was ended from another one is signed out, and its page says so."""
    other = await chromium.new_context(base_url=str(demo.make_url("/")))
    other_page, page = await other.new_page(), await context.new_page()
    await sign_in(other_page)
    await sign_in(page)
    await page.get_by_text("Your other browsers").wait_for()
    await photograph(page, "11-other-browsers")
    await page.get_by_role("button", name="End", exact=True).click()
    await page.get_by_text("None. Sign in as alice").wait_for()
    await other_page.reload()
    await other_page.get_by_role("heading", name="Sign in").wait_for()
    await other_page.get_by_text("The reason that the app was told: revoked.").wait_for()
    await other.close()


@in_chromium
async def test_the_live_list_shows_events_without_a_reload_and_restores_nothing(context: BrowserContext) -> None:
    """The list of events goes on by itself, and asking for it exchanges no token."""
    page = await context.new_page()
    await sign_in(page)
    await page.get_by_role("button", name="Close the browser").click()
    await page.get_by_role("heading", name="As if the browser were closed").wait_for()
    other = await context.browser.new_context(base_url=page.url)  # type: ignore[union-attr]  # it has a browser
    other_page = await other.new_page()
    await other_page.goto("/")
    await other_page.get_by_role("button", name="Sign in").click()
    await page.locator("#events .remember").nth(1).wait_for()
    assert await page.locator("#events .restore").count() == 0
    await other.close()


@in_chromium
@pytest.mark.parametrize("width", [390, 1180])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_and_a_desktop(
    chromium: Browser, demo: TestServer, clock: Clock, width: int, scheme: str
) -> None:
    """Nothing is wider than the window, no event is cut, and the browser has nothing to complain of."""
    context = await chromium.new_context(
        base_url=str(demo.make_url("/")), viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    await sign_in(page)
    for _ in range(12):
        clock.advance(11)
        await context.clear_cookies(name=SESSION)
        await page.reload()
    await photograph(page, f"12-{width}-{scheme}")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.locator("#events li")
    assert await shown.count() == 10
    assert await page.locator("#events ol").evaluate("list => list.scrollHeight - list.clientHeight") == 0
    assert errors == []
    await context.close()


@in_chromium
@pytest.mark.parametrize("keep", [True, False])
async def test_with_secure_cookies_the_demo_works_on_localhost(chromium: Browser, clock: Clock, keep: bool) -> None:
    """With --secure the cookie has the prefix __Host-, and everything works as without."""
    app = create_app(MemoryBackend(), secure=True)
    app[PERSISTENT_SESSIONS].clock = clock
    async with TestServer(app) as server:
        context = await chromium.new_context(base_url=str(server.make_url("/").with_host("localhost")))
        page = await context.new_page()
        await sign_in(page, keep=keep)
        assert set(await cookies(context)) == {f"__Host-{TOKEN}", SESSION}
        if keep:
            await page.get_by_role("button", name="Copy the token").click()
        await page.get_by_role("button", name="Close the browser").click()
        await page.get_by_role("heading", name="As if the browser were closed").wait_for()
        assert set(await cookies(context)) == ({f"__Host-{TOKEN}"} if keep else set())
        await page.get_by_role("link", name="Open it again").click()
        if keep:
            assert await how(page) == "restored from a token"
            assert await send_the_thief(page) == "Served, and given nothing"
        else:
            await page.get_by_role("heading", name="Sign in").wait_for()
        await context.close()


@in_chromium
async def test_a_wrong_password_keeps_name_and_box(context: BrowserContext) -> None:
    """After a wrong password the form holds the name and the box as they were."""
    page = await context.new_page()
    await page.goto("/")
    await page.get_by_label("Name").fill("bob")
    await page.get_by_label("Keep me signed in").uncheck()
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("alert").wait_for()
    assert await page.get_by_label("Name").input_value() == "bob"
    assert not await page.get_by_label("Keep me signed in").is_checked()
    assert TOKEN not in await cookies(context)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
    ],
)
async def test_another_sites_form_is_turned_away(demo: TestServer, headers: dict[str, str], status: int) -> None:
    """Only a form of this site is taken (CSRF)."""
    form = {"name": "alice", "password": "demo", "keep": "on"}
    async with testing.Browser(demo, headers=headers) as visitor:
        async with visitor.post("/login", data=form, allow_redirects=False) as response:
            assert response.status == status
        assert visitor.cookies.keys() == ({TOKEN, SESSION} if status == 303 else set())


@pytest.mark.parametrize(
    "path", ["/login", "/logout", "/end-others", "/end/some-id", "/close-browser", "/copy", "/thief", "/password"]
)
async def test_the_address_of_a_form_leads_back_to_the_first_page(demo: TestServer, path: str) -> None:
    """A reload or a bookmark of a form's address shows the first page, no error."""
    async with testing.Browser(demo) as visitor, visitor.get(path, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, "/")


# As an app's tests see it, with the library's helpers


@pytest.fixture(params=[False, True], ids=["http", "secure"])
async def visitor(request: pytest.FixtureRequest) -> AsyncIterator[testing.Browser]:
    app = create_app(MemoryBackend(), secure=request.param)
    async with testing.Browser(app, headers={"Sec-Fetch-Site": "same-origin", "User-Agent": "Firefox/140"}) as visitor:
        yield visitor


async def seen_by(visitor: testing.Browser, path: str = "/", **form: str) -> str:
    """Return the page's text, or that of the page that a form leads to."""
    async with visitor.request("POST" if form else "GET", path, data=form or None) as response:
        return re.sub(r"<[^>]*>|\s+", " ", await response.text())


async def test_the_form_signs_in_and_the_box_decides_for_how_long(visitor: testing.Browser) -> None:
    """Both cookies stay until the browser is closed, and the token beyond that where the box was ticked."""
    for_now = visitor.another()
    assert "You are alice" in await seen_by(visitor, "/login", name="alice", password="demo", keep="on")
    assert "You are alice" in await seen_by(for_now, "/login", name="alice", password="demo")
    visitor.close_browser()
    for_now.close_browser()
    assert [name.removeprefix("__Host-") for name in visitor.cookies] == [TOKEN]
    assert for_now.cookies == {}
    assert "restored from a token" in await seen_by(visitor)
    assert "Sign in" in await seen_by(for_now)


@pytest.mark.parametrize(("days", "is_in"), [(29, True), (31, False)])
async def test_the_visitor_may_stay_away_for_30_days(visitor: testing.Browser, days: int, is_in: bool) -> None:
    """Then the browser has dropped the token."""
    await visitor.sign_in("alice")
    visitor.come_back(after=timedelta(days=days))
    assert ("You are alice" in await seen_by(visitor)) is is_in


async def test_the_password_page_asks_again_after_five_minutes_and_after_a_restore(visitor: testing.Browser) -> None:
    """And opens once the password was typed."""
    opened = "The password was typed in this session"
    await visitor.sign_in("alice")
    assert opened in await seen_by(visitor, "/password")
    visitor.clock.advance(timedelta(seconds=301))
    assert opened not in await seen_by(visitor, "/password")
    assert opened not in await seen_by(visitor, "/password", password="wrong")
    assert opened in await seen_by(visitor, "/password", password="demo")
    await visitor.lose_session()
    assert "not fresh" in await seen_by(visitor, "/password")


async def test_the_page_lists_the_other_browsers_and_ends_them(visitor: testing.Browser) -> None:
    """One by its button, and all at once."""
    phone, tablet = visitor.another(), visitor.another()
    on_phone = await phone.sign_in("alice")
    for browser in (tablet, visitor):
        await browser.sign_in("alice")
    assert (await seen_by(visitor)).count("Firefox , 127.0.0.1") == 2
    assert (await seen_by(visitor, f"/end/{on_phone.id}", yes="")).count("Firefox , 127.0.0.1") == 1
    assert "None. Sign in as alice" in await seen_by(visitor, "/end-others", yes="")
    visitor.clock.advance(61)
    assert "The reason that the app was told: revoked" in await seen_by(phone)
    assert "Sign in" in await seen_by(tablet)
    assert "You are alice" in await seen_by(visitor)


async def test_the_mounted_page_of_devices_asks_for_the_password_after_a_restore(visitor: testing.Browser) -> None:
    """It lists this browser and the other one, and ends that one once the password is typed."""
    phone = visitor.another()
    await phone.sign_in("alice")
    await visitor.sign_in("alice", fresh=False)
    page = await seen_by(visitor, "/account/devices")
    assert page.count("127.0.0.1") == 2
    assert "This browser" in page
    assert "Type your password again" in await seen_by(visitor, "/account/devices/end-others", yes="")
    assert "You are alice" in await seen_by(phone)
    await seen_by(visitor, "/account/devices/end-others", password="demo")
    visitor.clock.advance(61)
    assert "Sign in" in await seen_by(phone)
    assert "You are alice" in await seen_by(visitor)


async def test_the_recovery_codes_ask_for_the_password_and_lead_back(visitor: testing.Browser) -> None:
    """Who is not signed in is led to the first page."""
    assert "Any name will do" in await seen_by(visitor, "/codes")
    await visitor.sign_in("alice", fresh=False)
    async with visitor.get("/codes") as asked:
        assert "not fresh" in await asked.text()
    assert "Those of alice" in await seen_by(visitor, asked.url.path_qs, password="demo")


async def test_a_browser_keeps_the_name_that_it_was_given(visitor: testing.Browser) -> None:
    """Others of the user see it."""
    other = visitor.another()
    await other.sign_in("alice")
    await seen_by(other, "/name", name="the kitchen's")
    await visitor.sign_in("alice")
    assert "the kitchen&#39;s" in await seen_by(visitor)


async def test_a_sign_in_for_a_week_lasts_a_week(visitor: testing.Browser) -> None:
    await seen_by(visitor, "/login", name="alice", password="demo", keep="on", lasts="week")
    for days, text in ((6, "You are alice"), (8, "Sign in")):
        visitor.come_back(after=timedelta(days=days))
        assert text in await seen_by(visitor)


async def test_the_page_shows_what_was_counted(visitor: testing.Browser) -> None:
    """The list of events has the numbers, and a browser that looks like another one."""
    await visitor.sign_in("alice")
    visitor.come_back(after=timedelta(minutes=1))
    async with visitor.get("/", headers={"User-Agent": "Chrome/140"}):
        pass
    page = await seen_by(visitor, "/events")
    assert "manager.counters: sign_ins 1, exchanges 1, new_clients 1" in page
    assert "on_new_client" in page


async def test_a_copy_is_found_out_and_the_page_says_so(visitor: testing.Browser) -> None:
    """A thief comes 91 s after the owner has, and both are out."""
    await visitor.sign_in("alice")
    visitor.come_back(after=timedelta(days=1))
    thief = visitor.copy()
    assert "You are alice" in await seen_by(visitor)
    visitor.clock.advance(91)
    assert "You are alice" in await seen_by(visitor)
    assert "Sign in" in await seen_by(thief)
    assert "a copy of your token was found out" in await seen_by(visitor)


async def test_signing_out_ends_the_persistent_session(visitor: testing.Browser) -> None:
    """A copy of the browser is out too."""
    await visitor.sign_in("alice")
    copy = visitor.copy()
    assert "Sign in" in await seen_by(visitor, "/logout", yes="")
    assert visitor.cookies == {}
    assert "Sign in" in await seen_by(copy)


@pytest.fixture
async def store() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


@pytest.fixture
async def page_of_frail_demo(chromium: Browser, clock: Clock, store: FaultyBackend) -> AsyncIterator[Page]:
    app = create_app(store)
    app[PERSISTENT_SESSIONS].clock = clock
    async with TestServer(app) as server:
        context = await chromium.new_context(base_url=str(server.make_url("/")))
        context.set_default_timeout(20_000)
        yield await context.new_page()
        await context.close()


@in_chromium
async def test_while_the_store_is_down_the_visitor_is_told_and_stays_signed_in(
    page_of_frail_demo: Page, store: FaultyBackend
) -> None:
    """A visitor with the box is told that he stays signed in, and is; also where only the token is left."""
    page = page_of_frail_demo
    await sign_in(page)
    store.break_down()
    answer = await page.goto("/")
    assert answer is not None
    assert answer.status == 503
    await page.get_by_role("heading", name="You are alice, and stay signed in").wait_for()
    await photograph(page, "13-outage")
    await page.context.clear_cookies(name=SESSION)
    await page.goto("/")
    await page.get_by_role("heading", name="Please try again in a moment").wait_for()
    assert await page.get_by_role("button", name="Sign in").count() == 0
    await photograph(page, "14-outage-unknown")
    store.heal()
    await page.get_by_role("link", name="Try again").click()
    await page.get_by_role("heading", name="You are alice").wait_for()


@in_chromium
async def test_while_the_store_is_down_one_can_sign_in_without_the_box(
    page_of_frail_demo: Page, store: FaultyBackend
) -> None:
    """The outage page tells a visitor who is not kept in that he is not, and how to sign in all the same."""
    page = page_of_frail_demo
    await page.goto("/")
    store.break_down()
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="Nobody can be kept signed in just now").wait_for()
    await page.get_by_role("link", name="Try again").click()
    await page.get_by_label("Keep me signed in").uncheck()
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("heading", name="You are alice, until this browser is closed").wait_for()
    await photograph(page, "15-outage-without-the-box")
    store.heal()
    await page.get_by_role("link", name="Try again").click()
    await page.get_by_text("No persistent session: you signed in without the box").wait_for()
    await page.get_by_role("link", name="Change the password").click()
    await expect(page.locator("#fresh")).to_have_text("fresh")


@in_chromium
async def test_one_can_sign_out_while_the_store_is_down(page_of_frail_demo: Page, store: FaultyBackend) -> None:
    """A sign-out during an outage deletes this browser's cookies all the same."""
    page = page_of_frail_demo
    await sign_in(page)
    store.break_down("delete", "get")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Sign in").wait_for()
    assert TOKEN not in await cookies(page.context)


def start(*arguments: str, cache: Path | None = None) -> subprocess.Popen[str]:
    where = {"XDG_CACHE_HOME": str(cache)} if cache else {"XDG_CACHE_HOME": tempfile.mkdtemp()}
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | where,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_command_serves_until_ctrl_c_and_stops_cleanly() -> None:
    port = free_port()
    process = start("--port", str(port), "--secure", "--grace-period", "5")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"The demo is on http://127.0.0.1:{port} - Ctrl-C stops it.\n"
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "", "")


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "redis", "mongodb"])
def test_the_demo_runs_on_every_store(scheme: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    url = f"sqlite:///{tmp_path / 'demo.db'}" if scheme == "sqlite" else request.getfixturevalue(f"{scheme}_url")
    port = free_port()
    process = start("--port", str(port), "--backend", url)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("The demo is on")
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "", "")


def test_a_store_that_is_down_is_an_error_of_one_line() -> None:
    process = start("--port", str(free_port()), "--backend", "redis://127.0.0.1:1")
    _, error = process.communicate(timeout=30)
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("demo: ")


def test_stopping_and_starting_the_demo_keeps_the_visitor_signed_in(tmp_path: Path) -> None:
    """By default its records are in a file in the user's cache folder; its ordinary sessions end with the process."""
    token = session = ""
    for number in range(2):
        port = free_port()
        process = start("--port", str(port), cache=tmp_path)
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("The demo is on")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            if number == 0:
                form = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
                connection.request("POST", "/login", "name=alice&password=demo&keep=on", form)
                answer = connection.getresponse()
                cookies = dict(field.split(";")[0].split("=", 1) for field in answer.msg.get_all("Set-Cookie"))
                token, session = cookies[TOKEN], cookies[SESSION]
            else:
                connection.request("GET", "/whoami", headers={"Cookie": f"{TOKEN}={token}; {SESSION}={session}"})
                assert json.loads(connection.getresponse().read()) == {"user": "alice"}
            connection.close()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=20)
            assert process.returncode == 0
        finally:
            process.kill()
    assert "Traceback" not in error


def test_a_busy_port_is_an_error_of_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--port", str(port))
        _, error = process.communicate(timeout=20)
    assert process.returncode == 1
    assert error == f"demo: 127.0.0.1:{port} is in use: choose another with --port\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--backend", "nonsense"],
        ["--backend", "redis:nonsense"],
        ["--grace-period", "-1"],
        ["--port", "many"],
        ["--port", "99999"],
    ],
)
def test_a_wrong_option_is_told_and_no_traceback_shown(arguments: list[str]) -> None:
    _, error = (process := start(*arguments)).communicate(timeout=20)
    assert process.returncode == 2
    assert "Traceback" not in error
    assert "demo: " in error


def test_user_agents_are_named() -> None:
    assert device("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/156.0 Safari/537.36") == "Chrome on Linux"
    assert device("Mozilla/5.0 (Windows NT 10.0; rv:140.0) Firefox/140.0") == "Firefox on Windows"
    assert device("") == "A browser"
