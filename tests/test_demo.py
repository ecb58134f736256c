"""The demo in Chromium, and its command line."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from aiohttp_persistent_session import PERSISTENT_SESSIONS, MemoryBackend
from demo.app import create_app, device

from .browser import Clock
from .faults import FaultyBackend
from .servers.processes import free_port, program

SCREENSHOTS = Path(__file__).parent.parent / "screenshots"
CHROMIUM_FLAGS = [
    "--no-sandbox",  # it runs as root in containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TOKEN, SESSION = "persistent_session", "session"


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    path = program("chromium", "chromium-browser", "google-chrome")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        await browser.close()


@pytest.fixture
async def demo(clock: Clock) -> AsyncIterator[TestServer]:
    app = create_app(MemoryBackend())
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


async def photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)


async def how(page: Page) -> str:
    return (await page.locator("#how").inner_text()).strip()


async def test_the_box_keeps_the_visitor_in_when_the_session_is_gone(context: BrowserContext) -> None:
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
    await photograph(page, "3-restored")
    assert (await cookies(context))[TOKEN] != before
    (token,) = [cookie for cookie in await context.cookies() if cookie["name"] == TOKEN]
    assert (token["httpOnly"], token["sameSite"]) == (True, "Lax")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("heading", name="Sign in").wait_for()
    assert TOKEN not in await cookies(context)
    await page.reload()
    await page.get_by_role("heading", name="Sign in").wait_for()


async def test_without_the_box_the_visitor_is_out_after_the_session(context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page, keep=False)
    assert TOKEN not in await cookies(context)
    await photograph(page, "4-not-remembered")
    await context.clear_cookies(name=SESSION)
    await page.reload()
    await page.get_by_role("heading", name="Sign in").wait_for()


async def test_five_tabs_opened_at_once_after_the_session_ended_are_all_in(context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page)
    await context.clear_cookies(name=SESSION)
    tabs = [await context.new_page() for _ in range(5)]
    await asyncio.gather(*(tab.goto("/") for tab in tabs))
    for tab in tabs:
        assert await tab.get_by_role("heading", level=1).inner_text() == "You are alice"
    await context.clear_cookies(name=SESSION)
    await page.reload()
    assert await page.get_by_role("heading", level=1).inner_text() == "You are alice"


async def test_the_buttons_end_the_session_and_replay_the_token(context: BrowserContext, clock: Clock) -> None:
    page = await context.new_page()
    await sign_in(page)
    await page.get_by_role("button", name="End only the ordinary session").click()
    await page.get_by_role("heading", name="The ordinary session is over").wait_for()
    await photograph(page, "5-closed")
    await page.get_by_role("link", name="Open the page again").click()
    assert await how(page) == "restored from a token"
    for seconds, verdict in ((5, "Joined, for now"), (25, "Refused"), (40, "Found out")):
        clock.advance(seconds)
        await page.get_by_role("button", name="Replay the previous token").click()
        assert await page.locator("#verdict").inner_text() == verdict
        await photograph(page, f"6-replayed-after-{seconds}")
        await page.get_by_role("link", name="Back").click()
    await page.get_by_role("heading", name="Sign in").wait_for()
    await page.locator("#events .reuse").wait_for()
    await photograph(page, "7-found-out")


async def test_another_browser_is_listed_and_ended_from_here(
    chromium: Browser, context: BrowserContext, demo: TestServer
) -> None:
    other = await chromium.new_context(base_url=str(demo.make_url("/")))
    other_page, page = await other.new_page(), await context.new_page()
    await sign_in(other_page)
    await sign_in(page)
    await page.get_by_text("Your other browsers").wait_for()
    await photograph(page, "8-other-browsers")
    await page.get_by_role("button", name="End", exact=True).click()
    await page.get_by_text("None. Sign in as alice").wait_for()
    await other_page.reload()
    await other_page.get_by_role("heading", name="Sign in").wait_for()
    await other.close()


async def test_the_live_list_shows_events_without_a_reload_and_restores_nothing(context: BrowserContext) -> None:
    page = await context.new_page()
    await sign_in(page)
    await page.get_by_role("button", name="End only the ordinary session").click()
    other = await context.browser.new_context(base_url=page.url)  # type: ignore[union-attr]
    other_page = await other.new_page()
    await other_page.goto("/")
    await other_page.get_by_role("button", name="Sign in").click()
    await page.locator("#events .remember").nth(1).wait_for()
    assert await page.locator("#events .restore").count() == 0
    await other.close()


@pytest.mark.parametrize("width", [390, 1180])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_fits_a_phone_and_a_desktop(
    chromium: Browser, demo: TestServer, width: int, scheme: str
) -> None:
    context = await chromium.new_context(
        base_url=str(demo.make_url("/")), viewport={"width": width, "height": 800}, color_scheme=scheme
    )
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    await sign_in(page)
    await photograph(page, f"9-{width}-{scheme}")
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    assert errors == []
    await context.close()


async def test_a_wrong_password_is_told(context: BrowserContext) -> None:
    page = await context.new_page()
    await page.goto("/")
    await page.get_by_label("Password").fill("wrong")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("alert").wait_for()
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
    import aiohttp

    async with (
        aiohttp.ClientSession() as http,
        http.post(
            demo.make_url("/login"),
            data={"name": "alice", "password": "demo", "keep": "on"},
            headers=headers,
            allow_redirects=False,
        ) as response,
    ):
        assert response.status == status


async def test_while_the_store_is_down_the_visitor_is_told_and_stays_signed_in(chromium: Browser, clock: Clock) -> None:
    backend = FaultyBackend(MemoryBackend())
    app = create_app(backend)
    app[PERSISTENT_SESSIONS].clock = clock
    async with TestServer(app) as server:
        context = await chromium.new_context(base_url=str(server.make_url("/")))
        context.set_default_timeout(20_000)
        page = await context.new_page()
        await sign_in(page)
        backend.break_down()
        answer = await page.goto("/")
        assert answer is not None
        assert answer.status == 503
        await page.get_by_role("heading", name="You are alice, and stay signed in").wait_for()
        await photograph(page, "10-outage")
        await context.clear_cookies(name=SESSION)
        await page.goto("/")
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("heading", name="Nobody can sign in just now").wait_for()
        backend.heal()
        await page.get_by_role("link", name="Try again").click()
        await page.get_by_role("heading", name="You are alice").wait_for()
        await context.close()


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
