"""The README's examples run as printed, and its tables say what the code does."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp_session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.fernet import Fernet

import aiohttp_persistent_session
from aiohttp_persistent_session.testing import BackendContract

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


async def test_the_whole_app_runs_as_printed() -> None:
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(EXAMPLES[0], namespace)
    async with TestClient(TestServer(namespace["app"]), cookie_jar=aiohttp.CookieJar(unsafe=True)) as client:
        jar = client.session.cookie_jar

        async def home() -> str:
            async with client.get("/") as response:
                return await response.text()

        assert "Sign in" in await home()
        async with client.post("/login", data={"name": "alice"}) as response:
            assert "Hello, alice!" in await response.text()
        before = {cookie.key: cookie.value for cookie in jar}
        jar.clear(lambda cookie: cookie.key == "AIOHTTP_SESSION")
        assert {cookie.key for cookie in jar} == {"persistent_session"}
        assert "Hello, alice!" in await home()
        after = {cookie.key: cookie.value for cookie in jar}
        assert after["persistent_session"] != before["persistent_session"]
        async with client.post("/logout") as response:
            assert "Sign in" in await response.text()
        jar.clear(lambda cookie: cookie.key == "AIOHTTP_SESSION")
        assert "Sign in" in await home()


@pytest.mark.parametrize("number", range(1, len(EXAMPLES)))
async def test_each_other_example_runs_in_the_context_that_it_names(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_KEY", Fernet.generate_key().decode())
    namespace: dict[str, Any] = {
        name: getattr(aiohttp_persistent_session, name) for name in aiohttp_persistent_session.__all__
    }
    namespace |= {
        "web": web,
        "contextlib": contextlib,
        "app": web.Application(),
        "backend": aiohttp_persistent_session.MemoryBackend(),
        "aiohttp_session": aiohttp_session,
        "timedelta": timedelta,
        "AsyncIterator": AsyncIterator,
        "BackendContract": BackendContract,
        "MyBackend": aiohttp_persistent_session.MemoryBackend,
        "pytest": pytest,
    }
    exec(EXAMPLES[number], namespace)


def test_the_table_names_every_option_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", README, re.MULTILINE))
    for name, parameter in inspect.signature(aiohttp_persistent_session.setup).parameters.items():
        if name == "app":
            continue
        default = parameter.default
        if default is inspect.Parameter.empty:
            expected = "required"
        elif isinstance(default, timedelta):
            expected = f"{default.days} days"
        elif isinstance(default, str):
            expected = f'`"{default}"`'
        elif default is None or isinstance(default, bool):
            expected = f"`{default}`"
        else:
            expected = str(default)
        assert rows[name] == expected


def test_every_function_for_handlers_is_in_the_readme() -> None:
    for name in aiohttp_persistent_session.__all__:
        assert name in README, name


def test_the_table_of_functions_has_their_signatures() -> None:
    rows = re.findall(r"^\| `await (\w+)\(([^)]*)\)`", README, re.MULTILINE)
    assert len(rows) == 7
    for name, parameters in rows:
        signature = inspect.signature(getattr(aiohttp_persistent_session, name))
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
        assert str(inspect.Signature(bare)) == f"({parameters})"


async def test_the_logins_of_the_readme_sign_in() -> None:
    namespace: dict[str, Any] = {
        name: getattr(aiohttp_persistent_session, name) for name in aiohttp_persistent_session.__all__
    } | {"web": web, "aiohttp_session": aiohttp_session}
    for example in EXAMPLES:
        if "async def login_" in example:
            exec(example, namespace)

    class Down(aiohttp_persistent_session.MemoryBackend):
        async def insert(self, record: aiohttp_persistent_session.Record) -> None:
            raise ConnectionError

    async def home(request: web.Request) -> web.Response:
        return web.json_response(dict(await aiohttp_session.get_session(request)))

    async def login(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["basket"] = "book"
        await namespace[request.match_info["how"]](request, "alice")
        raise web.HTTPFound("/")

    for how in ("login_for_now", "login_whatever_happens"):
        app = web.Application()
        aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
        aiohttp_persistent_session.setup(app, backend=Down(), secure=False)
        app.add_routes([web.get("/", home), web.get("/{how}", login)])
        async with (
            TestClient(TestServer(app), cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
            client.get(f"/{how}") as response,
        ):
            assert (await response.json())["user"] == "alice"
            assert {cookie.key for cookie in client.session.cookie_jar} == {"AIOHTTP_SESSION"}


DOCS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_examples_of_each_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as they go without the servers that they name: clients connect when they are used."""
    monkeypatch.chdir(tmp_path)
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        namespace: dict[str, Any] = {
            name: getattr(aiohttp_persistent_session, name) for name in aiohttp_persistent_session.__all__
        }
        exec(example, namespace | {"__name__": "example"})
