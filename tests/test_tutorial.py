"""docs/tutorial.md: the app, each diff as it is printed, and what comes out of it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp_session
import pytest
from cryptography.fernet import Fernet

from aiohttp_persistent_session import PERSISTENT_SESSIONS, BackendError, SQLBackend
from aiohttp_persistent_session.testing import Browser, Clock

PAGE = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text()
FIRST, TESTS, WHOLE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
DIFFS = re.findall(r"^```diff\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STEPS = len(DIFFS)

SESSION = "AIOHTTP_SESSION"
TOKEN = "__Host-persistent_session"
ALICE = {"name": "alice", "password": "wonderland"}


def apply(diff: str, code: str) -> str:
    """Return the code with the diff applied: what each of its parts replaces must be there, and once."""
    for part in diff.split("@@\n"):
        lines = [line or " " for line in part.splitlines()]
        assert {line[0] for line in lines} <= {" ", "+", "-"}
        old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] != sign) for sign in "+-")
        assert f"\n{code}".count(f"\n{old}") == 1, f"not there, or not once:\n{old}"
        code = f"\n{code}".replace(f"\n{old}", f"\n{new}")[1:]
    return code


def code_after(step: int) -> str:
    code = FIRST
    for diff in DIFFS[:step]:
        code = apply(diff, code)
    return code


Notes = Callable[[int], ModuleType]


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Notes:
    """Returns the module ``notes`` as it is after a step, in a folder of its own."""
    monkeypatch.setitem(os.environ, "SESSION_KEY", Fernet.generate_key().decode())
    monkeypatch.chdir(tmp_path)

    def made(step: int) -> ModuleType:
        module = ModuleType("notes")
        exec(compile(code_after(step), "notes.py", "exec"), vars(module))
        monkeypatch.setitem(sys.modules, "notes", module)
        return module

    return made


@contextlib.asynccontextmanager
async def browsing(notes: ModuleType) -> AsyncIterator[Browser]:
    app = notes.create_app()
    Clock.of(app)  # from now on, only tests move it
    async with Browser(app) as browser:
        yield browser


async def get(browser: Any, path: str = "/") -> str:
    async with browser.get(path) as response:
        return str(await response.text())


async def post(browser: Any, path: str, **form: str) -> str:
    async with browser.post(path, data=form) as response:
        return str(await response.text())


async def fields(browser: Any, path: str, **form: str) -> str:
    """Send a form, and return the cookies that the answer sets."""
    async with browser.post(path, data=form, allow_redirects=False) as response:
        return "\n".join(response.headers.getall("Set-Cookie"))


def after_step(first: int) -> pytest.MarkDecorator:
    """What a step brings stays so after all later ones."""
    return pytest.mark.parametrize("step", range(first, STEPS + 1))


async def test_the_app_that_you_have_keeps_a_month(
    notes: Notes, aiohttp_client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It signs in and out, and a copy of its cookie is good after the sign-out: what the page says is wrong with it."""
    client = await aiohttp_client(notes(0).create_app())
    assert "<h1>Sign in" in await get(client)
    assert "Wrong" in await post(client, "/login", **ALICE | {"password": "guess"})
    assert f"Max-Age={30 * 24 * 3600}" in await fields(client, "/login", **ALICE)
    assert "Hello, alice!" in await get(client)
    copy = {cookie.key: cookie.value for cookie in client.session.cookie_jar}
    assert "<h1>Sign in" in await post(client, "/logout")
    async with client.get("/", cookies=copy) as response:
        assert "Hello, alice!" in await response.text()


async def test_step_1_makes_the_session_short(notes: Notes) -> None:
    """The session lasts an hour, there is no token, and nothing brings it back."""
    async with browsing(notes(1)) as browser:
        set_cookies = await fields(browser, "/login", **ALICE)
        assert "Max-Age=3600" in set_cookies
        assert TOKEN not in set_cookies
        assert "Hello, alice!" in await get(browser)
        browser.clock.advance(timedelta(hours=2))
        assert "<h1>Sign in" in await get(browser)


async def test_step_1_serves_sessions_from_before(notes: Notes, aiohttp_client: Callable[..., Any]) -> None:
    """They have no record, and go on until they are an hour old."""
    client = await aiohttp_client(notes(0).create_app())
    await post(client, "/login", **ALICE)
    cookies = {cookie.key: cookie.value for cookie in client.session.cookie_jar}
    client = await aiohttp_client(notes(1).create_app(), cookies=cookies)
    assert "Hello, alice!" in await get(client)


@after_step(2)
async def test_step_2_brings_users_back(notes: Notes, step: int, caplog: pytest.LogCaptureFixture) -> None:
    """After an absence, also over a restart of the app, with a new session and a new secret; without a warning."""
    async with browsing(notes(step)) as browser:
        assert "<h1>Sign in" in await get(browser)
        assert "Hello, alice!" in await post(browser, "/login", **ALICE, keep="on")
        before = browser.cookies
        assert set(before) == {SESSION, TOKEN}
    async with browsing(notes(step)) as browser:
        browser.clock.advance(timedelta(days=7))
        async with browser.get("/", headers={"Cookie": f"{TOKEN}={before[TOKEN]}"}) as response:
            assert "Hello, alice!" in await response.text()
            after = response.cookies[TOKEN].value
        assert after.partition(".")[0] == before[TOKEN].partition(".")[0]
        assert after != before[TOKEN]
    assert [one for one in caplog.records if one.name == "aiohttp_persistent_session"] == []


@after_step(2)
async def test_step_2_forgets_whoever_signs_out_or_left_the_box_empty(notes: Notes, step: int) -> None:
    """A sign-out deletes the token. Without the box, the token goes with the browser, and the session with it."""
    async with browsing(notes(step)) as browser:
        await post(browser, "/login", **ALICE, keep="on")
        assert "<h1>Sign in" in await post(browser, "/logout")
        assert TOKEN not in browser.cookies
        assert "Hello, alice!" in await post(browser, "/login", **ALICE)
        browser.close_browser()
        assert set(browser.cookies) == {SESSION}
        assert "<h1>Sign in" in await get(browser)


@after_step(3)
async def test_step_3_says_try_again_while_the_store_is_down(
    notes: Notes, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A visitor who comes back is told so, one with a live session is served, and the cookie works later."""

    async def fails(*_: object) -> None:
        raise BackendError("down")

    async with browsing(notes(step)) as browser:
        await post(browser, "/login", **ALICE, keep="on")
        with monkeypatch.context() as outage:
            outage.setattr(SQLBackend, "get", fails)
            browser.clock.advance(timedelta(minutes=5))
            assert "Hello, alice!" in await get(browser)
            await browser.lose_session()
            async with browser.get("/") as response:
                assert response.status == 503
        assert "Hello, alice!" in await get(browser)


@after_step(4)
async def test_step_4_shows_browsers_and_ends_them(notes: Notes, step: int) -> None:
    """One browser ends another one, whose next request is anonymous."""
    async with browsing(notes(step)) as browser:
        await post(browser, "/login", **ALICE, keep="on")
        other = browser.another(headers={"User-Agent": "Other/1.0"})
        await post(other, "/login", **ALICE, keep="on")
        assert "/browsers" in await get(browser)
        text = await get(browser, "/browsers")
        assert text.count("<li>") == 2
        assert text.count("this one") == 1
        others = re.search(r"<li>Other/1.0.*?value=([\w-]{22})>", text)
        assert others is not None
        assert (await post(browser, "/browsers", id=others[1])).count("<li>") == 1
        assert "<h1>Sign in" in await get(other)
        assert "Hello, alice!" in await get(browser)


@after_step(5)
async def test_step_5_asks_a_restored_user_for_the_password(notes: Notes, step: int) -> None:
    """Not one who has just signed in; a new password ends all other browsers, and keeps this one."""
    module = notes(step)
    async with browsing(module) as browser:
        await post(browser, "/login", **ALICE, keep="on")
        assert "A new password" in await get(browser, "/password")
        other = browser.another()
        await post(other, "/login", **ALICE, keep="on")
        browser.clock.advance(timedelta(minutes=5))
        await browser.lose_session()
        assert "Is it you?" in await get(browser, "/password")
        assert "Is it you?" in await post(browser, "/password", new="stolen")
        assert module.PASSWORDS == {"alice": "wonderland"}
        assert "Wrong password" in await post(browser, "/confirm", password="guess")
        assert "A new password" in await post(browser, "/confirm", password="wonderland")
        before = browser.cookies[TOKEN]
        assert (await post(browser, "/password", new="looking-glass")).count("<li>") == 1
        assert module.PASSWORDS == {"alice": "looking-glass"}
        assert browser.cookies[TOKEN].partition(".")[0] != before.partition(".")[0]
        assert "<h1>Sign in" in await get(other)
        browser.clock.advance(timedelta(minutes=11))
        assert "Is it you?" in await get(browser, "/password")


async def test_step_6_hears_of_copies(notes: Notes, caplog: pytest.LogCaptureFixture) -> None:
    """Owner and thief go on in turns, twice a minute: within five minutes both are out, and the log says so."""
    async with browsing(notes(6)) as owner:
        await post(owner, "/login", **ALICE, keep="on")
        thief = owner.copy()
        await thief.lose_session()
        owner.clock.advance(timedelta(minutes=5))
        assert "Hello, alice!" in await get(thief)
        pages = ["", ""]
        for _ in range(10):
            owner.clock.advance(timedelta(seconds=30))
            pages = [await get(owner), await get(thief)]
        assert all("<h1>Sign in" in page for page in pages)
        assert await owner.app[PERSISTENT_SESSIONS].sessions("alice") == []
    assert "a copy of the cookie of alice was used" in caplog.text


def run_the_printed_tests(folder: Path, code: str) -> str:
    """Run them as the page says, over this app; return what pytest says."""
    (folder / "notes.py").write_text(code)
    (folder / "test_notes.py").write_text(TESTS)
    (folder / "pyproject.toml").write_text('[tool.pytest.ini_options]\nasyncio_mode = "auto"\n')
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:cov",
        "test_notes.py",
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


def test_the_printed_tests_pass(tmp_path: Path) -> None:
    """In a folder of their own, beside the whole file."""
    assert "2 passed" in run_the_printed_tests(tmp_path, WHOLE)


def test_the_printed_tests_notice_what_is_not_remembered(tmp_path: Path) -> None:
    """The app of step 1 fails the one that comes back after a week."""
    assert "1 failed, 1 passed" in run_the_printed_tests(tmp_path, code_after(1))


def test_the_whole_file_is_what_the_steps_lead_to() -> None:
    """Whoever pastes it has what whoever went step by step has."""
    assert code_after(STEPS) == WHOLE


def test_the_middleware_of_aiohttp_session_comes_first(notes: Notes) -> None:
    """Then ours, then the one that looks at the user, as the page says."""
    module = notes(STEPS)
    first, _, last = module.create_app().middlewares
    assert first.__module__ == aiohttp_session.__name__
    assert last is module.members_only
