"""The page of devices as people meet it: wide and narrow, light and dark, by keyboard and by screen reader."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import aiohttp_jinja2
import aiohttp_session
import jinja2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser as Chromium
from playwright.async_api import BrowserContext, Page, async_playwright, expect

from aiohttp_persistent_session import MemoryBackend, devices, remember, setup
from aiohttp_persistent_session.testing import Browser

from .chromium import FLAGS, path_of_chromium
from .faults import FaultyBackend

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
SESSION = "AIOHTTP_SESSION"
PATH = "/account/devices"
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
AGENTS = {
    "Mobile Safari on iOS": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
    "Firefox on Windows": "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:120.0) Gecko/20100101 Firefox/120.0",
    "Unknown browser": "<b>nobody</b> knows " + "this" * 50,
}
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
KINDS = {"error", "warning"}
SIZES = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]

pytestmark = pytest.mark.browser


@pytest.fixture
def store() -> FaultyBackend:
    return FaultyBackend(MemoryBackend())


@pytest.fixture
async def others(store: FaultyBackend) -> AsyncIterator[list[Browser]]:
    """Three browsers of alice's beside Chromium; the first has the app."""

    async def password_is_right(request: web.Request, user: Any, password: str) -> bool:
        return (user, password) == ("alice", "wonderland")

    async def home(request: web.Request) -> web.Response:
        return web.Response(
            text="<!doctype html><html lang=en><title>Home</title><h1>Home</h1>", content_type="text/html"
        )

    async def icon(request: web.Request) -> web.Response:
        return web.Response(status=204)  # Chromium asks for it, at any time, and would complain of a 404

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        return web.Response()

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, store, check_interval=0)
    devices.setup(app, PATH, confirm=password_is_right, login_url="/")
    app.add_routes([web.get("/", home), web.post("/login", login), web.get("/favicon.ico", icon)])
    first, *rest = AGENTS.values()
    async with Browser(app, headers={"User-Agent": first}) as browser:
        found = [browser, *(browser.another(headers={"User-Agent": one}) for one in rest)]
        for one in found:
            await one.sign_in("alice")
            browser.clock.advance(timedelta(minutes=7))
        yield found


async def opened(
    chromium: Chromium, others: list[Browser], width: int = 1280, scheme: Any = "light"
) -> tuple[BrowserContext, Page, list[str]]:
    """Sign Chromium in; return it with a page, and what this will complain of."""
    context = await chromium.new_context(
        base_url=str(others[0].make_url("/")),
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        user_agent=CHROME,  # Chromium without a window has a name of its own
    )
    context.set_default_timeout(20_000)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type in KINDS else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto("/")
    await page.evaluate("fetch('/login', {method: 'POST'})")
    return context, page, complaints


async def close_and_come_back(context: BrowserContext, others: list[Browser]) -> None:
    others[0].clock.advance(timedelta(hours=2))
    await context.clear_cookies(name=SESSION)


async def check(page: Page, name: str) -> None:
    """Photograph the page; it has no violation of axe's rules and is not wider than the window."""
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"devices-{name}.png", full_page=True)
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run()")
    assert found["violations"] == [], json.dumps(found["violations"], indent=1)
    assert len(found["passes"]) > 10
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shown = page.viewport_size
    assert shown is not None
    await page.set_viewport_size({"width": 320, "height": 256})  # as at 400 % (WCAG 2.2, 1.4.10)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.set_viewport_size(shown)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
async def test_every_view_has_no_violation_and_fits(
    chromium: Chromium, others: list[Browser], store: FaultyBackend, width: int, scheme: str
) -> None:
    """The list, what was done, the password, a wrong one, and an outage; the page's own policy blocks nothing of it."""
    size = f"{width}-{scheme}"
    context, page, complaints = await opened(chromium, others, width, scheme)
    await page.goto(PATH)
    names = [(await one.inner_text()).split("\n")[0] for one in await page.get_by_role("heading", level=2).all()]
    assert names[0] == "Chrome on Linux This browser"
    assert names[1:] == [*reversed(AGENTS)]
    await check(page, f"list-{size}")
    background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(13, 17, 23)" if scheme == "dark" else "rgb(246, 248, 250)")
    await page.get_by_role("button", name="Sign out (Firefox on Windows)", exact=True).click()
    await expect(page.get_by_role("status")).to_have_text("That browser is signed out.")
    await check(page, f"done-{size}")
    await close_and_come_back(context, others)
    await page.get_by_role("button", name="Sign out (Mobile Safari on iOS)", exact=True).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Type your password again")
    await check(page, f"password-{size}")
    assert complaints == []
    await page.get_by_label("Password").fill("guess")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("alert")).to_have_text("That password is not right.")
    await check(page, f"wrong-{size}")
    store.break_down()
    await page.goto(PATH)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not available")
    await check(page, f"outage-{size}")
    # Chromium says of each answer that is an error that it was one.
    assert [one for one in complaints if "the server responded with a status of" not in one] == []
    await context.close()


async def focused(page: Page) -> str:
    """Return what the focus is on; it can be seen there."""
    found = await page.evaluate(
        "() => { const one = document.activeElement, style = getComputedStyle(one);"
        " return [one.textContent.trim().replace(/\\s+/g, ' ') || one.name, style.outlineStyle, style.outlineWidth]; }"
    )
    assert found[1:] == ["solid", "3px"], found
    return str(found[0])


async def test_the_keyboard_alone_is_enough(chromium: Chromium, others: list[Browser]) -> None:
    """From the list over the password to what was done; the focus is always to be seen."""
    context, page, _ = await opened(chromium, others)
    await close_and_come_back(context, others)
    await page.goto(PATH)
    stops = []
    for _ in range(5):
        await page.keyboard.press("Tab")
        stops.append(await focused(page))
    assert stops == [
        "Sign out (Chrome on Linux)",
        "Sign out (Unknown browser)",
        "Sign out (Firefox on Windows)",
        "Sign out (Mobile Safari on iOS)",
        "Sign out all other browsers",
    ]
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Password")).to_be_focused()
    assert await focused(page) == "password"
    await page.screenshot(path=SCREENSHOTS / "devices-focus.png")
    await page.keyboard.type("guess")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_be_visible()
    await expect(page.get_by_label("Password")).to_be_focused()
    await page.keyboard.press("Tab")
    assert await focused(page) == "Sign out"
    await page.keyboard.press("Tab")
    assert await focused(page) == "Cancel"
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.type("wonderland")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("All other browsers are signed out.")
    assert await page.get_by_role("listitem").count() == 1
    await page.keyboard.press("Tab")
    assert await focused(page) == "Sign out (Chrome on Linux)"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
    await page.keyboard.press("Tab")
    assert await focused(page) == "Sign in"
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Home")
    assert {cookie["name"] for cookie in await context.cookies()} == {SESSION}
    await context.close()


async def test_a_screen_reader_finds_its_way(chromium: Chromium, others: list[Browser]) -> None:
    """By the landmark, the headings and the list: each browser's facts stand below its name."""
    context, page, _ = await opened(chromium, others)
    await page.goto(f"{PATH}?done=one")
    main = page.get_by_role("main")
    await expect(main).to_match_aria_snapshot(
        """
        - main:
          - heading "Your devices" [level=1]
          - status: That browser is signed out.
          - paragraph
          - list:
            - listitem:
              - heading "Chrome on Linux This browser" [level=2]
              - term: "Last seen:"
              - definition:
                - time: Active now
              - term: "Signed in:"
              - definition:
                - time
              - term: "Address:"
              - definition: 127.0.0.1
              - button "Sign out (Chrome on Linux)"
        """
    )
    await context.close()


async def test_a_form_of_another_site_ends_nothing(chromium: Chromium, others: list[Browser]) -> None:
    """Also where the browser sends its cookies along, as it does to the same site: localhost with another port."""
    action = others[0].make_url(f"{PATH}/end-others")

    async def attack(_: web.Request) -> web.Response:
        form = f'<form method=post action="{action}"><button>Win a prize</button></form>'
        return web.Response(text=form, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", attack)
    async with TestServer(app) as server:
        context, page, _ = await opened(chromium, others)
        await page.goto(str(server.make_url("/")))
        async with page.expect_response(str(action)) as answer:
            await page.get_by_role("button").click()
        request = await (await answer.value).request.all_headers()
        assert (await answer.value).status == 403
        assert request["sec-fetch-site"] == "same-site"
        assert "persistent_session" in request["cookie"]
        await expect(page.get_by_role("alert")).to_be_visible()
        await check(page, "refused")
        await page.get_by_role("link", name="Back to your devices").click()
        assert await page.get_by_role("listitem").count() == 4
        await context.close()


async def test_over_plain_http_the_origin_is_enough() -> None:
    """There Chromium sends no Sec-Fetch-Site; the page's Referrer-Policy lets it send the Origin."""

    async def login(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise web.HTTPSeeOther(PATH)

    headers = []

    @web.middleware
    async def noted(request: web.Request, handler: Any) -> web.StreamResponse:
        headers.append(request.headers)
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[noted])
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend(), secure=False)
    devices.setup(app, PATH)
    app.router.add_get("/login", login)
    flags = [*FLAGS, "--host-resolver-rules=MAP shop.example 127.0.0.1"]
    async with TestServer(app) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path_of_chromium(), args=flags)
        page = await browser.new_page()
        await page.goto(str(server.make_url("/login").with_host("shop.example")))
        await page.get_by_role("button").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
        (sent,) = [one for one in headers if "Origin" in one]
        assert sent["Origin"] == f"http://shop.example:{server.port}"
        assert "Sec-Fetch-Site" not in sent
        await browser.close()


async def test_signing_out_works_where_the_login_page_leads_to_another_origin(chromium: Chromium) -> None:
    """Chromium applies the page's form-action to every redirect that follows a form, and would stay on the page."""

    async def log_in_elsewhere(_: web.Request) -> web.Response:
        raise web.HTTPSeeOther(identity_provider)

    async def log_in(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise web.HTTPSeeOther(PATH)

    async def provider(_: web.Request) -> web.Response:
        return web.Response(text="<h1>Identity provider</h1>", content_type="text/html")

    app, other = web.Application(), web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    devices.setup(app, PATH, login_url="/login")
    app.add_routes([web.get("/login", log_in_elsewhere), web.get("/in", log_in)])
    other.router.add_get("/", provider)
    async with TestServer(other) as elsewhere, TestServer(app) as server:
        identity_provider = str(elsewhere.make_url("/").with_host("localhost"))
        page = await chromium.new_page()
        await page.goto(str(server.make_url("/in")))
        await page.get_by_role("button").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("You are signed out")
        await check(page, "signed-out")
        await page.get_by_role("link", name="Sign in").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Identity provider")


@pytest.mark.parametrize(
    ("style", "color"),
    [("", "rgb(27, 31, 36)"), (":root { color-scheme: light dark; background: canvas }", "rgb(230, 237, 243)")],
)
async def test_in_a_page_of_the_apps_the_colours_are_those_of_that_page(
    chromium: Chromium, style: str, color: str
) -> None:
    """A page that is always light gets dark text, also for a reader who likes it dark."""

    async def log_in(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise web.HTTPSeeOther(PATH)

    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    devices.setup(app, PATH, template="mine.html")
    app.router.add_get("/in", log_in)
    text = "<!doctype html><html lang=en><head><title>Shop</title><link rel=stylesheet href='{{ style_url }}'>"
    text += f"<style>{style}</style></head><body><main>{{{{ body }}}}</main></body></html>"
    aiohttp_jinja2.setup(app, loader=jinja2.DictLoader({"mine.html": text}))
    async with TestServer(app) as server:
        page = await chromium.new_page(color_scheme="dark")
        await page.goto(str(server.make_url("/in")))
        assert await page.evaluate("getComputedStyle(document.querySelector('h1')).color") == color
        await check(page, "in-a-dark-page" if style else "in-a-light-page")


async def test_the_page_is_shown_in_no_frame(chromium: Chromium, others: list[Browser]) -> None:
    """Clickjacking needs one."""
    context, page, complaints = await opened(chromium, others)
    await page.evaluate(
        f"new Promise(done => {{ const one = document.createElement('iframe'); one.src = '{PATH}'; one.onload = done;"
        " document.body.append(one); })"
    )
    assert any("frame-ancestors" in one for one in complaints)
    await context.close()
