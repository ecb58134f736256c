"""The snippets of docs/testing.md, as pytest runs them for an app; and what they find in one that is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()

APP = """
from datetime import timedelta

import aiohttp_session
from aiohttp import web
from aiohttp_persistent_session import MemoryBackend, forget, forget_everywhere, is_fresh, remember, setup

routes = web.RouteTableDef()


@routes.get("/")
async def home(request):
    user = (await aiohttp_session.get_session(request)).get("user")
    return web.Response(text=f"Hello, {user}" if user else "Sign in")


@routes.post("/login")
async def login(request):
    form = await request.post()
    await remember(request, form["name"], persistent="keep" in form)
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request):
    await forget(request)
    raise web.HTTPSeeOther("/")


@routes.post("/end-others")
async def end_others(request):
    await forget_everywhere(request, keep_current=True)
    raise web.HTTPSeeOther("/")


@routes.get("/email")
async def email(request):
    if not await is_fresh(request, within=timedelta(minutes=10)):
        raise web.HTTPSeeOther("/password")
    return web.Response()


def create_app():
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    app.add_routes(routes)
    return app
"""

SETTINGS = """[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings =
    error
    ignore:It is recommended to use web.RequestKey:aiohttp.web_exceptions.NotAppKeyWarning:aiohttp_session
"""


def snippets() -> dict[str, str]:
    """Return the page's snippets by their headings; there is one below each at most."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        codes = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert len(codes) <= 1
        found.update({section.partition("\n")[0]: code for code in codes})
    assert len(found) == PAGE.count("```python")
    return found


def outcomes(folder: Path, app: str = APP) -> dict[str, str]:
    """Run the page's tests over an app; return what became of each."""
    (folder / "myapp.py").write_text(app)
    (folder / "pytest.ini").write_text(SETTINGS)
    for number, (heading, code) in enumerate(snippets().items()):
        (folder / ("conftest.py" if heading == "Fixtures" else f"test_{number}.py")).write_text(code)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    found = dict(re.findall(r"^test_\d\.py::(\w+) (\w+)", result.stdout, re.MULTILINE))
    assert len(found) == len(re.findall(r"^async def test_", "".join(snippets().values()), re.MULTILINE)), result.stdout
    return found


def test_the_tests_of_the_page_pass(tmp_path: Path) -> None:
    """Over an app that is right, each as it is printed."""
    assert set(outcomes(tmp_path).values()) == {"PASSED"}


@pytest.mark.parametrize(
    ("right", "wrong", "failing"),
    [
        pytest.param(
            'await remember(request, form["name"], persistent="keep" in form)',
            '(await aiohttp_session.new_session(request))["user"] = form["name"]',
            {"test_with_the_box_the_user_stays_signed_in"},
            id="a login by the ordinary session alone",
        ),
        pytest.param(
            'persistent="keep" in form',
            "persistent=True",
            {"test_without_the_box_a_closed_browser_is_signed_out"},
            id="a box that does nothing",
        ),
        pytest.param(
            "setup(app, MemoryBackend())",
            "setup(app, MemoryBackend(), max_age=timedelta(days=90))",
            {"test_the_user_who_stays_away_for_31_days_has_to_sign_in"},
            id="a token that lasts",
        ),
        pytest.param(
            "not await is_fresh(request, within=timedelta(minutes=10))",
            'not (await aiohttp_session.get_session(request)).get("user")',
            {
                "test_a_restored_session_is_asked_for_the_password",
                "test_the_password_is_asked_for_again_after_ten_minutes",
            },
            id="a page that asks for no password",
        ),
        pytest.param(
            ", within=timedelta(minutes=10)",
            "",
            {"test_the_password_is_asked_for_again_after_ten_minutes"},
            id="a page that trusts a password of long ago",
        ),
        pytest.param(
            "await forget_everywhere(request, keep_current=True)",
            "pass",
            {"test_a_user_ends_the_phone_from_the_laptop"},
            id="a button that does nothing",
        ),
        pytest.param(
            "await forget(request)",
            "(await aiohttp_session.get_session(request)).invalidate()",
            {"test_a_sign_out_ends_the_persistent_session"},
            id="a sign-out that leaves the token",
        ),
    ],
)
def test_the_tests_of_the_page_find_what_is_wrong(tmp_path: Path, right: str, wrong: str, failing: set[str]) -> None:
    """An app with one fault fails those tests that are about it, and no others."""
    assert APP.count(right) == 1
    found = outcomes(tmp_path, APP.replace(right, wrong))
    assert {name for name, outcome in found.items() if outcome != "PASSED"} == failing
