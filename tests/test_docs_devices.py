"""docs/devices.md: each snippet runs as it is printed, and its tables say what there is."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Any

import aiohttp_jinja2
import aiohttp_session
import jinja2
import pytest
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, devices, setup
from aiohttp_persistent_session.devices import Texts
from aiohttp_persistent_session.devices.answers import CSS
from aiohttp_persistent_session.testing import Browser

from .snippets import Run, Snippets

PAGE = (Path(__file__).parent.parent / "docs" / "devices.md").read_text()
TEMPLATES = Path(devices.__file__).parent / "templates"
PATH = "/account/devices"
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}


def snippets(language: str) -> dict[str, str]:
    """Return the snippets in a language by their headings; the second below one has a number."""
    found: dict[str, str] = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        heading = section.partition("\n")[0]
        codes = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        found |= {f"{heading} #{number}" if number > 1 else heading: code for number, code in enumerate(codes, 1)}
    assert len(found) == PAGE.count(f"```{language}")
    return found


def table_after(heading: str, which: int = 0) -> list[list[str]]:
    """Return the rows of one of the tables below a heading."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[which]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]


SNIPPETS = Snippets(snippets("python"))
runs = SNIPPETS.runs


def test_each_snippet_has_a_test_that_runs_it() -> None:
    """None is skipped, and none that is gone is thought to be tested."""
    assert set(SNIPPETS.codes) == SNIPPETS.run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return SNIPPETS.runner(monkeypatch)


def an_app() -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend(), check_interval=0)
    return app


async def page(browser: Browser, path: str = PATH, **headers: str) -> str:
    async with browser.get(path, headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def end_others(browser: Browser, headers: dict[str, str] = FROM_HERE, **form: str) -> int:
    async with browser.post(f"{PATH}/end-others", data=form, headers=headers, allow_redirects=False) as response:
        return response.status


@runs("Mount it")
async def test_the_page_is_mounted_in_a_line(run: Run) -> None:
    """It lists, and sends anonymous visitors to the login page with the way back."""
    app = run("Mount it").app
    assert str(app.router["devices"].url_for()) == PATH
    async with Browser(app) as browser:
        async with browser.get(PATH, allow_redirects=False) as response:
            assert response.headers["Location"] == f"/login?next={PATH}"
        await browser.sign_in("alice")
        assert "This browser" in await page(browser)


@runs("Ask for the password")
async def test_the_password_is_asked_for_and_checked_by_the_app(run: Run) -> None:
    """After a restore, and ten minutes after it was typed."""

    async def password_is_right(user: str | int, password: str) -> bool:
        return (user, password) == ("alice", "wonderland")

    app = an_app()
    run("Ask for the password", app=app, password_is_right=password_is_right)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        await browser.another().sign_in("alice")
        browser.come_back(after=timedelta(days=1))
        assert await end_others(browser) == 200
        assert await end_others(browser, password="guess") == 403
        assert await end_others(browser, password="wonderland") == 303
        await browser.another().sign_in("alice")
        browser.clock.advance(timedelta(minutes=11))
        assert await end_others(browser) == 200


@runs("Which forms are taken")
async def test_tokens_of_an_app_are_in_each_form_and_checked(run: Run) -> None:
    """Without the session's own, nothing is taken."""
    app = an_app()
    run("Which forms are taken", app=app)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        assert await end_others(browser, csrf_token="None") == 403
        tokens = re.findall(r'<input type="hidden" name="csrf_token" value="([\w-]+)">', await page(browser))
        assert len(tokens) == 1
        assert await end_others(browser, csrf_token="guess") == 403
        assert await end_others(browser) == 403
        assert await end_others(browser, {}, csrf_token=tokens[0]) == 303


@runs("In a page of yours")
async def test_the_list_stands_in_a_page_of_the_app(run: Run, tmp_path: Path) -> None:
    """By the template that is printed."""
    (tmp_path / "mine.html").write_text(snippets("html")["In a page of yours"])
    (tmp_path / "base.html").write_text(
        "<head>{% block head %}{% endblock %}</head><nav>shop</nav><main>{% block content %}{% endblock %}</main>"
    )
    app = an_app()
    run("In a page of yours", app=app, templates=tmp_path)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        text = await page(browser)
        assert text.startswith(f'<head><link rel="stylesheet" href="{PATH}/style.css?v=')
        assert '<nav>shop</nav><main><div class="devices devices-view-list">' in text


async def test_the_table_has_what_a_template_gets() -> None:
    """In all views together, and nothing else."""
    got: dict[str, set[str]] = {}

    class Notes(jinja2.Environment):
        def get_template(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # the test's own
            return self

        def render(self, context: dict[str, Any]) -> str:
            got[context["view"]] = set(context)
            return ""

    async def confirm(*_: Any) -> bool:
        return False

    app = an_app()
    app[aiohttp_jinja2.APP_KEY] = Notes()
    devices.setup(app, template="mine.html", confirm=confirm)
    async with Browser(app) as browser:
        await browser.get(PATH)
        await browser.sign_in("alice")
        await browser.another().sign_in("alice")
        await page(browser)
        browser.come_back(after=60)
        assert await end_others(browser) == 200
        assert await end_others(browser, {}) == 403
    assert set(got) == {"anonymous", "list", "password", "refused"}
    rows = table_after("In a page of yours")
    named = {name: meaning for names, meaning in rows for name in re.findall(r"`(\w+)`", names)}
    assert set.union(*got.values()) == set(named)
    for view in ("list", "password"):
        ours = {name for name, meaning in named.items() if meaning.startswith(f"in `{view}`")}
        assert ours == got[view] - got["anonymous"]
    fields = {field.name for field in dataclasses.fields(devices.Device)}
    assert fields == set(re.findall(r"`(\w+)`", named["devices"])) - {"list", "PersistentSession"}


@runs("Its words", "Its words #2")
async def test_the_words_are_all_there_in_german(run: Run) -> None:
    """Each with the names that the English one has; for those who chose it."""
    german = run("Its words").GERMAN
    same = set()
    for field in dataclasses.fields(Texts):
        theirs, ours = getattr(german, field.name), getattr(Texts(), field.name)
        assert type(theirs) is type(ours)
        if theirs == ours:
            same.add(field.name)
        if isinstance(ours, str):
            assert {one[1] for one in Formatter().parse(theirs)} == {one[1] for one in Formatter().parse(ours)}
    assert same == {"dir", "sign_out_device"}
    app = an_app()
    run("Its words #2", app=app, GERMAN=german)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        assert "Your devices" in await page(browser)
        browser.session.cookie_jar.update_cookies({"language": "de"}, browser.make_url("/"))
        text = await page(browser)
        assert '<html lang="de"' in text
        assert "Ihre Geräte" in text


def test_the_tables_have_every_variable_and_class() -> None:
    """Of the style sheet and of the templates, and no other."""
    variables = {name for row in table_after("Its looks") for name in re.findall(r"`(--[\w-]+)`", row[0])}
    assert variables == set(re.findall(r"^\s+(--[\w-]+):", CSS, re.MULTILINE))
    classes = {name for row in table_after("Its looks", 1) for name in re.findall(r"`([\w-]+)`", row[0])}
    markup = "".join(path.read_text() for path in TEMPLATES.glob("*.html"))
    in_markup = {name for one in re.findall(r'class="(.*?)"', markup) for name in re.findall(r"devices[\w-]*", one)}
    in_markup = {"devices-view-list" if name == "devices-view-" else name for name in in_markup - {"device"}}
    assert classes == in_markup
    assert set(re.findall(r"\.(devices[\w-]*)", CSS)) <= classes


async def test_the_json_that_is_printed_has_the_names_that_programs_get() -> None:
    """At both levels."""
    printed = json.loads(snippets("json")["As JSON"])
    app = an_app()
    devices.setup(app)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        shown = json.loads(await page(browser, Accept="application/json"))
    assert list(shown) == list(printed)
    assert list(shown["devices"][0]) == list(printed["devices"][0])
