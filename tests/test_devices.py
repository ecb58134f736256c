"""The page of devices: what it shows, what it ends, what it asks for first, and what it refuses."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import aiohttp_jinja2
import aiohttp_session
import jinja2
import pytest
import ua_parser
from aiohttp import web
from yarl import URL

from aiohttp_persistent_session import PERSISTENT_SESSIONS, MemoryBackend, devices, is_fresh, setup
from aiohttp_persistent_session.devices import Texts
from aiohttp_persistent_session.devices.answers import VERSION, prefers_json
from aiohttp_persistent_session.devices.csrf import host_of
from aiohttp_persistent_session.devices.labels import label, names_of
from aiohttp_persistent_session.testing import Browser

from .faults import FaultyBackend

PATH = "/account/devices"
WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36"
)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Mobile/15E148 Safari/604.1"
)
MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.0 Safari/605.1.15"
)
FROM_HERE = {"Sec-Fetch-Site": "same-origin"}
JSON = {"Accept": "application/json"}


class Page(HTMLParser):
    """What a page shows: its text, its forms, and what tells about it."""

    def __init__(self, status: int, headers: Any, text: str) -> None:
        super().__init__()
        self.status, self.headers, self.text = status, headers, text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def shown(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        return [found for name, found in self.tags if name == tag and attributes.items() <= found.items()]

    def texts_of(self, tag: str, cls: str = "") -> list[str]:
        found = re.findall(rf"<{tag}[^>]*{cls}[^>]*>(.*?)</{tag}>", self.text, re.DOTALL)
        return [" ".join(re.sub("<[^>]*>", "", one).split()) for one in found]


async def get(browser: Browser, path: str = PATH, **headers: str) -> Page:
    async with browser.get(path, headers=headers, allow_redirects=False) as response:
        return Page(response.status, response.headers, await response.text())


async def post(browser: Browser, path: str, headers: dict[str, str] | None = None, **form: str) -> Page:
    sent = FROM_HERE if headers is None else headers
    async with browser.post(path, data=form, headers=sent, allow_redirects=False) as response:
        return Page(response.status, response.headers, await response.text())


async def who(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    return web.json_response({"user": session.get("user"), "fresh": await is_fresh(request)})


async def user(browser: Browser) -> Any:
    async with browser.get("/who") as response:
        return (await response.json())["user"]


class Passwords:
    """An app's check of passwords, which notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, str]] = []

    async def __call__(self, request: web.Request, user: Any, password: str) -> bool:
        assert request.path.startswith(PATH)
        self.asked.append((user, password))
        return password == "wonderland"


def an_app(backend: Any = None, path: str = PATH, **options: Any) -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, backend or MemoryBackend(), check_interval=0)
    devices.setup(app, path, **options)
    app.router.add_get("/who", who)
    return app


Opened = Callable[..., AbstractAsyncContextManager[SimpleNamespace]]


@pytest.fixture
def opened() -> Opened:
    """Opens a laptop and a phone of alice's, and a browser of bob's."""

    @asynccontextmanager
    async def open_them(app: web.Application | None = None, **options: Any) -> AsyncIterator[SimpleNamespace]:
        async with Browser(app or an_app(**options), headers={"User-Agent": WINDOWS}) as laptop:
            mine = await laptop.sign_in("alice")
            phone, bobs = (laptop.another(headers={"User-Agent": one}) for one in (IPHONE, FIREFOX))
            laptop.clock.advance(60)
            other, bob = await phone.sign_in("alice"), await bobs.sign_in("bob")
            yield SimpleNamespace(laptop=laptop, phone=phone, bobs=bobs, mine=mine, other=other, bob=bob)

    return open_them


# The page


async def test_the_page_lists_this_browser_first_with_names_times_and_addresses(opened: Opened) -> None:
    """Those of the user alone, and this one is marked."""
    async with opened() as all_of_them:
        page = await get(all_of_them.laptop)
        assert page.status == 200
        assert page.texts_of("h1") == ["Your devices"]
        assert page.texts_of("h2") == ["Chrome on Windows This browser", "Mobile Safari on iOS"]
        assert page.texts_of("dd", "devices-address") == ["127.0.0.1", "127.0.0.1"]
        times = [one["datetime"] for one in page.all("time")]
        seen, created = all_of_them.other.seen_at, all_of_them.other.created_at
        assert times[2:] == [seen.isoformat(), created.isoformat()]
        assert page.texts_of("time")[0] == "Active now"
        assert page.texts_of("time")[3] == Texts().time_of(created)
        phones = await get(all_of_them.phone)
        assert phones.texts_of("h2") == ["Mobile Safari on iOS This browser", "Chrome on Windows"]
        assert (await get(all_of_them.bobs)).texts_of("h2") == ["Firefox on Linux This browser"]


async def test_other_browsers_stand_in_the_order_in_which_they_were_last_seen(opened: Opened) -> None:
    """The latest first, however long ago they signed in."""
    async with opened() as all_of_them:
        tablet = all_of_them.laptop.another(headers={"User-Agent": MAC})
        all_of_them.laptop.clock.advance(60)
        await tablet.sign_in("alice")
        assert (await get(all_of_them.laptop)).texts_of("h2")[1:] == ["Safari on macOS", "Mobile Safari on iOS"]
        all_of_them.laptop.clock.advance(600)
        await user(all_of_them.phone)
        assert (await get(all_of_them.laptop)).texts_of("h2")[1:] == ["Mobile Safari on iOS", "Safari on macOS"]


async def test_the_page_loads_nothing_but_its_style_sheet_and_may_not_be_framed_or_kept(opened: Opened) -> None:
    """It has no script and no inline style, and says so to the browser."""
    async with opened() as all_of_them:
        page = await get(all_of_them.laptop)
        policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        assert page.headers["Content-Security-Policy"] == policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "same-origin"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Vary"] == "Accept"
        assert not {"script", "style", "img", "iframe"} & {tag for tag, _ in page.tags}
        assert not any(name == "style" or name.startswith("on") for _, found in page.tags for name in found)
        (link,) = page.all("link")
        async with all_of_them.laptop.get(link["href"]) as sheet:
            assert (sheet.status, sheet.content_type) == (200, "text/css")
            assert sheet.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert "light-dark(" in await sheet.text()
        async with all_of_them.laptop.get(f"{PATH}/style.css?v=another") as sheet:
            assert sheet.headers["Cache-Control"].startswith("no-cache")


async def test_each_part_has_its_name_for_screen_readers(opened: Opened) -> None:
    """A language, a landmark, headings, and buttons that say which browser they sign out."""
    async with opened() as all_of_them:
        page = await get(all_of_them.laptop)
        (html,) = page.all("html")
        assert html == {"lang": "en", "dir": "ltr"}
        assert len(page.all("main")) == len(page.all("h1")) == 1
        assert page.texts_of("button") == [
            "Sign out (Chrome on Windows)",
            "Sign out (Mobile Safari on iOS)",
            "Sign out all other browsers",
        ]


async def test_a_single_browser_has_no_others_to_sign_out() -> None:
    """There is no button for them, and a form that is sent all the same changes nothing."""
    async with Browser(an_app(), headers={"User-Agent": WINDOWS}) as browser:
        await browser.sign_in("alice")
        assert (await get(browser)).texts_of("button") == ["Sign out (Chrome on Windows)"]
        before = dict(browser.cookies)
        assert (await post(browser, f"{PATH}/end-others")).status == 303
        assert browser.cookies == before


async def test_a_user_without_a_record_sees_an_empty_list() -> None:
    """Who is signed in by the ordinary session alone is signed in."""
    app = an_app(login_url="/login")

    async def log_in(request: web.Request) -> web.Response:
        (await aiohttp_session.new_session(request))["user"] = "alice"
        return web.Response()

    app.router.add_post("/login", log_in)
    async with Browser(app) as browser:
        await browser.post("/login")
        page = await get(browser)
        assert page.status == 200
        assert "No browser is on record." in page.shown
        assert page.all("form") == []


@pytest.mark.parametrize(
    "hostile",
    [
        '<script>alert("1")</script>',
        '"><img src=x onerror=alert(1)>',
        "Mozilla/5.0 (Windows NT 10.0) <b>Bot</b>/1.0 bot",
        "<i>Bot</i>bot/1.0 {{ 7 * 7 }} {browser.__class__}",
        "' onmouseover='alert(1)",
        "\u202egnp.exe",
    ],
)
async def test_a_hostile_user_agent_is_text(opened: Opened, hostile: str) -> None:
    """Whatever the header says, the page has the same tags as for any other browser."""
    async with opened() as all_of_them:
        tags = [tag for tag, _ in (await get(all_of_them.laptop)).tags]
        await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)
        await all_of_them.laptop.another(headers={"User-Agent": hostile}).sign_in("alice")
        page = await get(all_of_them.laptop)
        assert [tag for tag, _ in page.tags] == tags
        assert not {"49", "\u202e"} & set(page.text)


async def test_a_hostile_address_is_text() -> None:
    """A middleware may take it from a header of the request's."""

    @web.middleware
    async def forwarded(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request.clone(remote=request.headers["X-Forwarded-For"]))
        return response

    app = an_app()
    app.middlewares.insert(0, forwarded)
    hostile = "<script>alert('1')</script>"
    async with Browser(app, headers={"X-Forwarded-For": hostile}) as browser:
        await browser.sign_in("alice")
        page = await get(browser)
        assert page.all("script") == []
        assert page.texts_of("dd", "devices-address") == ["&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"]


async def test_names_that_the_parser_copies_out_of_a_header_are_text(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it lets through: markup, a change of the direction of writing, and without end."""
    family = SimpleNamespace(family="<script>alert(\"'1'\")</script>\u202e\n" + "x" * 200)
    async with opened() as all_of_them:
        tags = [tag for tag, _ in (await get(all_of_them.laptop)).tags]
        monkeypatch.setattr(ua_parser, "parse", lambda _: SimpleNamespace(user_agent=family, os=None))
        await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)
        await all_of_them.laptop.another(headers={"User-Agent": "Hostile/1.0"}).sign_in("alice")
        page = await get(all_of_them.laptop)
        assert [tag for tag, _ in page.tags] == tags
        expected = "&lt;script&gt;alert(&#34;&#39;1&#39;&#34;)&lt;/script&gt;x"
        assert page.texts_of("h2")[1].startswith(expected)
        assert "\u202e" not in page.text
        assert "x" * 30 not in page.text


async def test_a_hundred_devices_are_shown_at_once() -> None:
    """As many as a user may have, each with its button."""
    app = an_app()
    async with Browser(app, headers={"User-Agent": WINDOWS}) as browser:
        await browser.sign_in("alice")
        for number in range(99):
            agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:{number}.0) Gecko/20100101 Firefox/{number}.0"
            await browser.another(headers={"User-Agent": agent}).sign_in("alice")
        page = await get(browser)
        assert page.texts_of("h2") == ["Chrome on Windows This browser", *["Firefox on Linux"] * 99]
        assert len(page.all("button", name="id")) == 100
        await post(browser, f"{PATH}/end-others")
        assert (await get(browser)).texts_of("h2") == ["Chrome on Windows This browser"]


# Ending


async def test_one_other_browser_is_signed_out(opened: Opened) -> None:
    """That one, at once; the page says so."""
    async with opened() as all_of_them:
        answer = await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)
        assert (answer.status, answer.headers["Location"]) == (303, f"{PATH}?done=one")
        assert answer.headers["Cache-Control"] == "no-store"
        page = await get(all_of_them.laptop, answer.headers["Location"])
        assert page.all("p", role="status")
        assert "That browser is signed out." in page.shown
        assert page.texts_of("title") == ["That browser is signed out. - Your devices"]
        assert page.texts_of("h2") == ["Chrome on Windows This browser"]
        assert await user(all_of_them.phone) is None
        assert await user(all_of_them.laptop) == "alice"
        assert await user(all_of_them.bobs) == "bob"


@pytest.mark.parametrize("whose", ["bob's", "nobody's", "none", "a file"])
async def test_the_id_of_another_user_ends_nothing(opened: Opened, whose: str) -> None:
    """It is answered as one that does not exist."""
    async with opened() as all_of_them:
        form: dict[str, Any] = {"bob's": {"id": all_of_them.bob.id}, "nobody's": {"id": "x" * 22}, "none": {}}.get(
            whose, {"id": io.BytesIO(b"a file")}
        )
        async with all_of_them.laptop.post(
            f"{PATH}/end", data=form, headers=FROM_HERE, allow_redirects=False
        ) as response:
            assert (response.status, response.headers["Location"]) == (303, f"{PATH}?done=already")
        assert "signed out already" in (await get(all_of_them.laptop, f"{PATH}?done=already")).shown
        assert [await user(one) for one in (all_of_them.laptop, all_of_them.phone)] == ["alice", "alice"]
        assert await user(all_of_them.bobs) == "bob"


async def test_what_the_address_says_was_done_is_one_of_three(opened: Opened) -> None:
    """A link can make the page say nothing of its own."""
    async with opened() as all_of_them:
        for query in ("?done=", "?done=title", "?done=<b>", "?message=x"):
            assert (await get(all_of_them.laptop, f"{PATH}{query}")).all("p", role="status") == []


async def test_signing_this_browser_out_leads_to_a_link_to_the_login_page(opened: Opened) -> None:
    """It forgets, and asks for no password, like any logout. A redirect would be a form's: see the browser's tests."""
    passwords = Passwords()
    async with opened(login_url="/login", confirm=passwords) as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        answer = await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.mine.id)
        assert (answer.status, answer.headers["Location"]) == (303, f"{PATH}?done=this")
        page = await get(all_of_them.laptop, answer.headers["Location"])
        assert (page.status, page.texts_of("title")) == (401, ["You are signed out"])
        assert page.all("a", href=f"/login?next={PATH}")
        assert "__Host-persistent_session" not in all_of_them.laptop.cookies
        assert passwords.asked == []
        assert await user(all_of_them.laptop) is None
        assert await user(all_of_them.phone) == "alice"


async def test_without_a_login_page_it_leads_to_a_page_that_says_so(opened: Opened) -> None:
    """A 401 for people."""
    async with opened() as all_of_them:
        answer = await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.mine.id)
        page = await get(all_of_them.laptop, answer.headers["Location"])
        assert (page.status, page.texts_of("h1")) == (401, ["You are signed out"])
        assert page.all("form") == page.all("a") == []


async def test_all_others_are_signed_out(opened: Opened) -> None:
    """This browser stays in with another token, so that no copy of its old one survives; bob stays in."""
    async with opened() as all_of_them:
        thief = all_of_them.laptop.copy()
        answer = await post(all_of_them.laptop, f"{PATH}/end-others")
        assert (answer.status, answer.headers["Location"]) == (303, f"{PATH}?done=others")
        page = await get(all_of_them.laptop, answer.headers["Location"])
        assert "All other browsers are signed out." in page.shown
        assert page.texts_of("h2") == ["Chrome on Windows This browser"]
        assert [await user(one) for one in (all_of_them.phone, thief)] == [None, None]
        assert [await user(one) for one in (all_of_them.laptop, all_of_them.bobs)] == ["alice", "bob"]


async def test_a_get_ends_nothing_and_leads_to_the_page(opened: Opened) -> None:
    """Links and images of other sites are GETs; so is what a browser sends that opens a form's address again."""
    async with opened() as all_of_them:
        for path in (f"end?id={all_of_them.other.id}", "end-others"):
            answer = await get(all_of_them.laptop, f"{PATH}/{path}")
            assert (answer.status, answer.headers["Location"]) == (303, PATH)
            assert answer.headers["Cache-Control"] == "no-store"
        assert (await get(all_of_them.laptop, f"{PATH}?id={all_of_them.other.id}")).status == 200
        assert await user(all_of_them.phone) == "alice"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", b"id=\xff"),
        ("application/x-www-form-urlencoded; charset=none", b"id=1"),
        ("multipart/form-data; boundary=x", b"no part"),
        ("multipart/form-data", b"no boundary"),
        ("application/json", b'{"id": "x"}'),
        ("text/plain", b"id=x"),
    ],
)
async def test_what_is_no_form_is_refused(opened: Opened, kind: str, body: bytes) -> None:
    """By a 400: it is no fault of the app, and a program is not to think that it ended something."""
    async with opened() as all_of_them:
        headers = FROM_HERE | {"Content-Type": kind}
        async with all_of_them.laptop.post(f"{PATH}/end", data=body, headers=headers) as response:
            assert response.status == 400
            assert response.headers["Cache-Control"] == "no-store"
        async with all_of_them.laptop.post(f"{PATH}/end", data=body, headers=headers | JSON) as response:
            assert (response.status, await response.json()) == (400, {"error": "no_form"})


async def test_a_program_may_send_no_body_at_all(opened: Opened) -> None:
    """All others have no field."""
    async with opened() as all_of_them:
        async with all_of_them.laptop.post(f"{PATH}/end-others", headers=FROM_HERE | JSON) as response:
            assert (response.status, await response.json()) == (200, {"done": "others"})
        assert await user(all_of_them.phone) is None


# The password


@pytest.mark.parametrize("what", ["end", "end-others"])
async def test_a_restored_session_is_asked_for_the_password_first(opened: Opened, what: str) -> None:
    """Nothing ends until it is right; then the session is fresh, and it is not asked for again."""
    passwords = Passwords()
    async with opened(confirm=passwords) as all_of_them:
        laptop, phone = all_of_them.laptop, all_of_them.phone
        laptop.come_back(after=timedelta(hours=1))
        form = {"id": all_of_them.other.id} if what == "end" else {}
        page = await post(laptop, f"{PATH}/{what}", **form)
        assert (page.status, page.texts_of("h1")) == (200, ["Type your password again"])
        assert page.all("form", action=f"{PATH}/{what}", method="post")
        assert {one["name"]: one["value"] for one in page.all("input", type="hidden")} == form
        assert page.all("input", type="password", name="password", autocomplete="current-password")
        assert page.all("label", **{"for": "devices-password"})
        assert page.all("p", role="alert") == []
        assert ("Mobile Safari on iOS" in page.shown) is (what == "end")
        assert await user(phone) == "alice"

        page = await post(laptop, f"{PATH}/{what}", **form, password="guess")
        assert page.status == 403
        assert page.all("p", role="alert")
        assert "That password is not right." in page.shown
        assert page.texts_of("title") == ["That password is not right. - Type your password again"]
        assert page.all(
            "input", type="password", **{"aria-invalid": "true", "aria-describedby": "devices-error devices-ask"}
        )
        assert "guess" not in page.text
        assert await user(phone) == "alice"
        assert (await (await laptop.get("/who")).json()) == {"user": "alice", "fresh": False}

        answer = await post(laptop, f"{PATH}/{what}", **form, password="wonderland")
        assert answer.status == 303
        assert passwords.asked == [("alice", "guess"), ("alice", "wonderland")]
        assert await user(phone) is None
        assert (await (await laptop.get("/who")).json()) == {"user": "alice", "fresh": True}

        again = await phone.sign_in("alice")
        assert (await post(laptop, f"{PATH}/end", id=again.id)).headers["Location"] == f"{PATH}?done=one"


async def test_a_password_of_long_ago_is_asked_for_again(opened: Opened) -> None:
    """With fresh_within; up to that moment it is not."""
    async with opened(confirm=Passwords(), fresh_within=timedelta(minutes=10)) as all_of_them:
        all_of_them.laptop.clock.advance(timedelta(minutes=8))  # a minute has passed, and the mark has whole seconds
        assert (await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)).status == 303
        another = await all_of_them.phone.sign_in("alice")
        all_of_them.laptop.clock.advance(timedelta(minutes=2))
        assert (await post(all_of_them.laptop, f"{PATH}/end", id=another.id)).status == 200
        assert await user(all_of_them.phone) == "alice"


async def test_without_confirm_nothing_is_asked(opened: Opened) -> None:
    """A restored session ends others, as documented."""
    async with opened(fresh_within=60) as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        assert (await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)).status == 303
        assert await user(all_of_them.phone) is None


async def test_an_empty_password_is_wrong_without_a_question(opened: Opened) -> None:
    """Some directories take it for an anonymous login, which succeeds."""
    passwords = Passwords()
    async with opened(confirm=passwords) as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        assert (await post(all_of_them.laptop, f"{PATH}/end-others", password="")).status == 403
        assert passwords.asked == []
        assert await user(all_of_them.phone) == "alice"


async def test_an_app_may_refuse_further_guesses(opened: Opened) -> None:
    """With a response of its own."""

    async def has_enough(request: web.Request, user: Any, password: str) -> bool:
        raise web.HTTPTooManyRequests

    async with opened(confirm=has_enough) as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        assert (await post(all_of_them.laptop, f"{PATH}/end-others", password="wonderland")).status == 429
        assert await user(all_of_them.phone) == "alice"


async def test_what_is_not_true_is_no_yes(opened: Opened) -> None:
    """An app that forgot an await returns a coroutine, which would count as one."""

    async def forgets(request: web.Request, user: Any, password: str) -> Any:
        return object()

    async with opened(confirm=forgets) as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        assert (await post(all_of_them.laptop, f"{PATH}/end-others", password="wonderland")).status == 403
        assert await user(all_of_them.phone) == "alice"


# Forms of other sites


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Sec-Fetch-Site": "", "Origin": "http://{host}"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"}, True),
        ({"Origin": "http://{host}"}, True),
        ({"Origin": "https://{host}"}, True),
        ({"Origin": "https://front.example"}, True),
        ({"Origin": "http://front.example"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "https://{host}.evil.example"}, False),
        ({"Origin": "https://evil.example/{host}"}, False),
        ({"Origin": "https://{host}@evil.example"}, False),
        ({"Origin": "https://127.0.0.1"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://[::1"}, False),
        ({"Referer": "http://{host}/account/devices"}, False),
        ({}, False),
    ],
)
async def test_a_form_is_taken_from_this_origin_alone(opened: Opened, headers: dict[str, str], taken: bool) -> None:
    """Sec-Fetch-Site decides; where it is missing Origin does; where both are, it is refused."""
    async with opened(origins=["https://front.example"]) as all_of_them:
        host = all_of_them.laptop.make_url("/").authority
        sent = {name: value.format(host=host) for name, value in headers.items()}
        for path, form in (("end", {"id": all_of_them.other.id}), ("end-others", {})):
            answer = await post(all_of_them.laptop, f"{PATH}/{path}", sent, **form)
            assert answer.status == (303 if taken else 403)
            assert taken or answer.texts_of("h1") == ["Nothing was done"]
        assert await user(all_of_them.phone) == (None if taken else "alice")


@pytest.mark.parametrize("origin", ["null", "", "https://", "ftp://a.example", "https://a.example/", "a.example"])
def test_what_is_no_origin_has_no_host(origin: str) -> None:
    """Except an empty one, which no request has."""
    assert not host_of(origin)


class Tokens:
    """An app's own tokens, of which each session has one."""

    async def field(self, request: web.Request) -> tuple[str, str]:
        session = await aiohttp_session.get_session(request)
        return "csrf_token", f"token of {session['user']}"

    async def check(self, request: web.Request, form: Any) -> bool:
        session = await aiohttp_session.get_session(request)
        return bool(form.get("csrf_token") == f"token of {session.get('user')}")


async def test_an_app_may_bring_its_own_tokens(opened: Opened) -> None:
    """Each form has the field, that of the password too; headers do not decide then."""
    async with opened(csrf=Tokens(), confirm=Passwords()) as all_of_them:
        laptop = all_of_them.laptop
        laptop.come_back(after=timedelta(hours=1))
        page = await get(laptop)
        fields = page.all("input", type="hidden", name="csrf_token", value="token of alice")
        assert len(fields) == len(page.all("form")) == 3
        assert (await post(laptop, f"{PATH}/end-others")).status == 403
        assert (await post(laptop, f"{PATH}/end-others", csrf_token="token of bob")).status == 403
        form = {"csrf_token": "token of alice"}
        page = await post(laptop, f"{PATH}/end-others", {}, **form)
        assert page.all("input", type="hidden", name="csrf_token", value="token of alice")
        assert (await post(laptop, f"{PATH}/end-others", {}, **form, password="wonderland")).status == 303
        assert await user(all_of_them.phone) is None


async def test_a_check_that_forgets_to_await_lets_nothing_pass(opened: Opened) -> None:
    """A coroutine would count as a yes."""

    class Forgets(Tokens):
        async def check(self, request: web.Request, form: Any) -> Any:
            return object()

    async with opened(csrf=Forgets()) as all_of_them:
        assert (await post(all_of_them.laptop, f"{PATH}/end-others")).status == 403
        assert await user(all_of_them.phone) == "alice"


async def test_a_field_may_come_from_a_plain_function(opened: Opened) -> None:
    """And programs are told of it."""

    class Plain(Tokens):
        def field(self, request: web.Request) -> tuple[str, str]:  # type: ignore[override]  # either is taken
            return "plain", "x"

    async with opened(csrf=Plain()) as all_of_them:
        assert len((await get(all_of_them.laptop)).all("input", name="plain", value="x")) == 3
        async with all_of_them.laptop.get(PATH, headers=JSON) as response:
            assert (await response.json())["csrf"] == ["plain", "x"]


# Anonymous visitors and outages


async def test_an_anonymous_visitor_is_sent_to_the_login_page_and_back() -> None:
    """Without a detour."""
    async with Browser(an_app(login_url="/login?from=devices")) as browser:
        answer = await get(browser)
        assert (answer.status, answer.headers["Location"]) == (303, f"/login?from=devices&next={PATH}")
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("login_url", ["/login", "https://login.example/start"])
async def test_a_form_is_never_led_to_the_login_page(login_url: str) -> None:
    """Nor is the page that a form leads to: who has signed out meanwhile gets a link."""
    async with Browser(an_app(login_url=login_url)) as browser:
        for page in (
            await post(browser, f"{PATH}/end", id="x"),
            await post(browser, f"{PATH}/end-others"),
            await get(browser, f"{PATH}?done=others"),
        ):
            assert page.status == 401
            assert page.texts_of("a") == ["Sign in"]
            assert page.all("a", href=f"{login_url}?next={PATH}")


async def test_an_anonymous_visitor_gets_401_without_a_login_page() -> None:
    """Programs always do."""
    async with Browser(an_app()) as browser:
        assert (await get(browser)).status == 401
        assert (await post(browser, f"{PATH}/end", id="x")).status == 401
    async with Browser(an_app(login_url="/login")) as browser:
        answer = await get(browser, **JSON)
        assert (answer.status, answer.text) == (401, '{"error": "anonymous"}')


async def test_an_outage_is_a_503(opened: Opened) -> None:
    """For a signed-in user, by a page and by JSON, and nothing ends."""
    backend = FaultyBackend(MemoryBackend())
    async with opened(backend=backend) as all_of_them:
        laptop = all_of_them.laptop
        backend.break_down()
        page = await get(laptop)
        assert (page.status, page.headers["Retry-After"]) == (503, "5")
        assert page.texts_of("h1") == ["Not available"]
        answer = await get(laptop, **JSON)
        assert (answer.status, answer.text) == (503, '{"error": "unavailable"}')
        for path, form in (("end", {"id": all_of_them.other.id}), ("end-others", {})):
            assert (await post(laptop, f"{PATH}/{path}", **form)).status == 503
        backend.heal()
        assert await user(all_of_them.phone) == "alice"
        assert (await get(laptop)).status == 200


async def test_an_outage_sends_nobody_to_the_login_page(opened: Opened) -> None:
    """Who could not be restored is asked to try again, and is in again afterwards."""
    backend = FaultyBackend(MemoryBackend())
    async with opened(backend=backend, login_url="/login") as all_of_them:
        all_of_them.laptop.come_back(after=timedelta(hours=1))
        backend.break_down()
        assert (await get(all_of_them.laptop)).status == 503
        assert (await post(all_of_them.laptop, f"{PATH}/end-others")).status == 503
        backend.heal()
        assert (await get(all_of_them.laptop)).status == 200


async def test_a_sign_out_that_the_store_does_not_take_signs_this_browser_out_all_the_same(opened: Opened) -> None:
    """The page says that it failed: the record is still there."""
    backend = FaultyBackend(MemoryBackend())
    async with opened(backend=backend) as all_of_them:
        backend.break_down("delete")
        assert (await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.mine.id)).status == 503
        backend.heal()
        assert await user(all_of_them.laptop) is None


# Programs


async def test_programs_get_json(opened: Opened) -> None:
    """The same as the page shows, with times as ISO 8601."""
    async with opened(confirm=Passwords()) as all_of_them:
        laptop, other = all_of_them.laptop, all_of_them.other
        async with laptop.get(PATH, headers=JSON) as response:
            assert response.headers["Cache-Control"] == "no-store"
            shown = await response.json()
        assert (shown["password_required"], shown["csrf"]) == (False, None)
        assert [one["current"] for one in shown["devices"]] == [True, False]
        assert shown["devices"][1] == {
            "id": other.id,
            "label": "Mobile Safari on iOS",
            "first_seen": other.created_at.isoformat(),
            "last_seen": other.seen_at.isoformat(),
            "expires_at": other.expires_at.isoformat(),
            "address": "127.0.0.1",
            "user_agent": IPHONE,
            "persistent": True,
            "current": False,
        }


async def test_programs_end_by_json_too(opened: Opened) -> None:
    """They are told that the password is needed, that it is wrong, what was done, and of a form of another site."""
    async with opened(confirm=Passwords()) as all_of_them:
        laptop = all_of_them.laptop
        laptop.come_back(after=timedelta(hours=1))
        sent = JSON | FROM_HERE
        assert '"password_required": true' in (await get(laptop, **JSON)).text
        form = {"id": all_of_them.other.id}
        answers = [
            await post(laptop, f"{PATH}/end", JSON, **form),
            await post(laptop, f"{PATH}/end", sent, **form),
            await post(laptop, f"{PATH}/end", sent, **form, password="guess"),
            await post(laptop, f"{PATH}/end", sent, **form, password="wonderland"),
            await post(laptop, f"{PATH}/end", sent, **form),
            await post(laptop, f"{PATH}/end-others", sent),
        ]
        assert [(answer.status, answer.text) for answer in answers] == [
            (403, '{"error": "cross_site"}'),
            (403, '{"error": "password_required"}'),
            (403, '{"error": "password_wrong"}'),
            (200, '{"done": "one"}'),
            (200, '{"done": "already"}'),
            (200, '{"done": "others"}'),
        ]
        (mine,) = await laptop.app[PERSISTENT_SESSIONS].sessions("alice")
        assert (await post(laptop, f"{PATH}/end", sent, id=mine.id)).text == '{"done": "this"}'
        assert await user(laptop) is None


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON ; charset=utf-8", True),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9", True),
        ("application/json;q=0.5, text/html;q=0.9", False),
        ("application/json;q=none", False),
    ],
)
def test_json_is_for_those_who_prefer_it(accept: str, expected: bool) -> None:
    """A browser that takes anything gets the page."""
    assert prefers_json(accept) is expected


# Set-up


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"path": "devices"}, ValueError, "path"),
        ({"path": 1}, TypeError, "path"),
        ({"csrf": "token"}, TypeError, "csrf"),
        ({"confirm": "wonderland"}, TypeError, "confirm"),
        ({"fresh_within": "10"}, TypeError, "fresh_within"),
        ({"fresh_within": -1}, ValueError, "fresh_within"),
        ({"login_url": 1}, TypeError, "login_url"),
        ({"texts": {"title": "Geräte"}}, TypeError, "texts"),
        ({"template": 1}, TypeError, "template"),
        ({"origins": "https://a.example"}, TypeError, "origins"),
        ({"origins": ["a.example"]}, ValueError, "origins"),
        ({"origins": [1]}, TypeError, "origins"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception], names: str) -> None:
    """At set-up, not at the first request."""
    with pytest.raises(error, match=names):
        an_app(**options)


async def test_the_page_works_in_a_sub_application(opened: Opened) -> None:
    """Its addresses have the prefix, wherever the library was set up."""
    app, sub_app = web.Application(), web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend(), check_interval=0)
    devices.setup(sub_app, "/devices", confirm=Passwords(), login_url="/login")
    app.add_subapp("/account", sub_app)
    app.router.add_get("/who", who)
    async with opened(app) as all_of_them:
        page = await get(all_of_them.laptop)
        assert page.all("form", action=f"{PATH}/end")
        assert page.all("form", action=f"{PATH}/end-others")
        assert page.all("link", rel="stylesheet", href=f"{PATH}/style.css?v={VERSION}")
        answer = await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)
        assert answer.headers["Location"] == f"{PATH}?done=one"
        assert (await get(all_of_them.laptop, f"{PATH}/end")).headers["Location"] == PATH
        anonymous = await get(all_of_them.laptop.another())
        assert anonymous.headers["Location"] == f"/login?next={PATH}"


@pytest.mark.parametrize("shop", ["%2Fevil.example", "%2F%2Fevil.example", "%5Cevil.example"])
async def test_a_varying_part_of_the_path_leads_to_no_other_host(shop: str) -> None:
    """Browsers take a path that begins with two slashes for a host, in a redirect and in a form's action."""
    async with Browser(an_app(path="/{shop}/devices", login_url="/login")) as browser:
        for _ in range(2):
            for path in ("devices", "devices/end"):
                url = URL(f"/{shop}/{path}", encoded=True)
                async with browser.get(url, allow_redirects=False) as response:
                    assert not response.headers.get("Location", "").startswith(("//", "/\\"))
                    assert 'action="//' not in await response.text()
            await browser.sign_in("alice")


@pytest.mark.parametrize(("path", "visited"), [("/", "/"), ("/devices/", "/devices/"), ("/of/{shop}", "/of/one%20two")])
async def test_the_path_may_be_the_root_end_with_a_slash_or_have_a_part_that_varies(path: str, visited: str) -> None:
    """The forms lead to where the page is."""
    async with Browser(an_app(path=path)) as browser:
        mine = await browser.sign_in("alice")
        page = await get(browser, visited)
        base = visited.rstrip("/")
        (form,) = page.all("form")
        assert form["action"] == f"{base}/end"
        async with browser.get(page.all("link")[0]["href"]) as sheet:
            assert sheet.status == 200
        answer = await post(browser, form["action"], id=mine.id)
        assert answer.headers["Location"] == f"{visited}?done=this"


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_app_may_put_the_list_into_a_page_of_its_own(opened: Opened, is_async: bool) -> None:
    """By aiohttp_jinja2's environment, with the context that is documented; what it loads is for the app to say."""
    app = an_app(template="mine.html")
    templates = {
        "base.html": "<title>{{ title }}</title><nav>My shop</nav>{% block content %}{% endblock %}",
        "mine.html": "{% extends 'base.html' %}{% block content %}<link href='{{ style_url }}'>"
        "<p id=count>{{ devices | length }} {{ devices[1].label }}</p>{{ body }}{% endblock %}",
    }
    aiohttp_jinja2.setup(app, loader=jinja2.DictLoader(templates), enable_async=is_async)
    async with opened(app) as all_of_them:
        page = await get(all_of_them.laptop)
        assert page.texts_of("nav") == ["My shop"]
        assert "2 Mobile Safari on iOS" in page.shown
        assert page.texts_of("h2")[0] == "Chrome on Windows This browser"
        assert page.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert (await post(all_of_them.laptop, f"{PATH}/end", id=all_of_them.other.id)).status == 303


@pytest.mark.parametrize("is_async", [False, True])
async def test_in_a_sub_application_the_template_may_be_the_outer_apps(opened: Opened, is_async: bool) -> None:
    """As with all that aiohttp_jinja2 renders."""
    app, sub_app = an_app(path="/unused"), web.Application()
    devices.setup(sub_app, "/devices", template="mine.html")
    app.add_subapp("/account", sub_app)
    loader = jinja2.DictLoader({"mine.html": "<nav>My shop</nav>{{ body }}"})
    aiohttp_jinja2.setup(app, loader=loader, enable_async=is_async)
    async with opened(app) as all_of_them:
        assert (await get(all_of_them.laptop)).texts_of("nav") == ["My shop"]


async def test_a_template_without_aiohttp_jinja2_set_up_says_so(opened: Opened) -> None:
    """As aiohttp_jinja2 does."""
    async with opened(template="mine.html") as all_of_them:
        page = await get(all_of_them.laptop)
        assert page.status == 500
        assert "call aiohttp_jinja2.setup() first" in page.text


GERMAN = Texts(lang="de", title="Ihre Geräte", sign_out="Abmelden", browser_on_system="{browser} unter {system}")


async def test_the_words_are_the_apps(opened: Opened) -> None:
    """For all requests, or by each: the language of the page is said, too."""
    async with opened(texts=GERMAN) as all_of_them:
        page = await get(all_of_them.laptop)
        assert page.all("html", lang="de")
        assert page.texts_of("h1") == ["Ihre Geräte"]
        assert page.texts_of("h2")[1] == "Mobile Safari unter iOS"

    def texts_for(request: web.Request) -> Texts:
        return GERMAN if request.headers.get("Accept-Language") == "de" else Texts()

    async with opened(texts=texts_for) as all_of_them:
        assert (await get(all_of_them.laptop)).texts_of("h1") == ["Your devices"]
        assert (await get(all_of_them.laptop, **{"Accept-Language": "de"})).texts_of("h1") == ["Ihre Geräte"]


def test_times_are_in_utc_and_by_the_texts_months() -> None:
    """Whatever the locale of the process."""
    when = datetime(2026, 3, 1, 0, 5, tzinfo=UTC)
    assert Texts().time_of(when.astimezone()) == "1 March 2026, 00:05 UTC"
    months = ("Jänner", "Februar", "März", *map(str, range(4, 13)))
    german = Texts(months=months, time="{day}. {month} {year}, {hour:02}.{minute:02} Uhr (UTC)")
    assert german.time_of(when) == "1. März 2026, 00.05 Uhr (UTC)"
    with pytest.raises(ValueError, match="months must be twelve, not 1"):
        Texts(months=("January",))


# Labels


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (WINDOWS, "Chrome on Windows"),
        (WINDOWS + " Edg/120.0.0.0", "Edge on Windows"),
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Mobile Safari on iOS"),
        (MAC, "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (Linux; U; Android 4.4; xx) Version/4.0", "Android"),
        ("", "Unknown browser"),
        ("Test/1.0", "Unknown browser"),
    ],
)
async def test_browsers_have_readable_names(user_agent: str, expected: str) -> None:
    """As much as is known of them."""
    assert label((await names_of([user_agent]))[user_agent], Texts()) == expected


async def test_user_agents_are_read_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes a fifth of a second."""
    threads = []
    parse = ua_parser.parse

    def noted(user_agent: str) -> Any:
        threads.append(threading.current_thread())
        return parse(user_agent)

    monkeypatch.setattr(ua_parser, "parse", noted)
    await names_of(["never seen before/1", "never seen before/2"])
    assert len(threads) == 2
    assert threading.main_thread() not in threads


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_parser_is_imported_at_the_first_page() -> None:
    """An app that mounts the page starts without it; the library alone imports nothing of all this."""
    look = "import sys; print('ua_parser' in sys.modules, 'jinja2' in sys.modules)"
    assert run_python(f"import aiohttp_persistent_session; {look}") == "False False\n"
    assert run_python(f"import aiohttp_persistent_session.devices; {look}") == "False True\n"


@pytest.mark.parametrize("missing", ["ua_parser", "jinja2"])
def test_what_is_not_installed_is_named_with_its_extra(missing: str) -> None:
    """When the module is imported."""
    code = f"""
import importlib.machinery as machinery
find = machinery.PathFinder.find_spec
machinery.PathFinder.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)
try:
    import aiohttp_persistent_session.devices
except ImportError as error:
    print(error)
"""
    said = run_python(code)
    assert "[devices]" in said
    assert missing.replace("_", "-") in said


def test_a_template_needs_aiohttp_jinja2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is not of the extra: an app that names a template has set it up."""
    monkeypatch.setattr(devices.options, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="aiohttp_jinja2"):
        an_app(template="mine.html")
