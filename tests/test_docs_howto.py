"""docs/howto/: each snippet runs as it is printed, and does what its page says."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp_session
import playwright.async_api
import prometheus_client
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from cryptography.fernet import Fernet
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from aiohttp_persistent_session import (
    PERSISTENT_SESSIONS,
    MemoryBackend,
    is_fresh,
    restore_failed,
    setup,
)
from aiohttp_persistent_session.testing import Browser, Clock, SignalRecorder

from .faults import FaultyBackend
from .snippets import Run, Snippets

FOLDER = Path(__file__).parent.parent / "docs" / "howto"
SESSION, TOKEN = "session", "__Host-persistent_session"


def snippets() -> dict[str, str]:
    """Return the snippets by page and heading."""
    found = {}
    for path in sorted(FOLDER.glob("*.md")):
        heading = ""
        for title, code in re.findall(r"^#+ ([^\n]*)$|^```\w+\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
            heading = title or heading
            if code:
                name = f"{path.name}: {heading}"
                assert name not in found, "two snippets below one heading"
                found[name] = code
    return found


SNIPPETS = Snippets(snippets())
runs = SNIPPETS.runs


def test_each_snippet_has_a_test_that_runs_it() -> None:
    """None is skipped, and none that is gone is thought to be tested."""
    assert set(SNIPPETS.codes) == SNIPPETS.run


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    return SNIPPETS.runner(monkeypatch)


async def password_is_right(user: str, password: str) -> bool:
    return (user, password) == ("alice", "secret")


def an_app(backend: Any = None, **options: Any) -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage(cookie_name=SESSION, samesite="Lax"))
    Clock.of(setup(app, backend or MemoryBackend(), **options))  # from now on, only tests move it
    return app


async def who(request: web.Request) -> web.Response:
    session = await aiohttp_session.get_session(request)
    shown = {"user": session.get("user"), "fresh": await is_fresh(request), "failed": restore_failed(request)}
    return web.json_response(shown)


# Single-page apps

KEEP = {"name": "alice", "password": "secret", "keep": True}


def a_single_page_app(run: Run, backend: Any = None) -> web.Application:
    snippet = run("single-page-apps.md: The server", password_is_right=password_is_right)
    app = an_app(backend)
    app.middlewares.append(snippet.guard)
    app.add_routes(snippet.routes)
    return app


@runs("single-page-apps.md: The server")
async def test_calls_at_once_are_all_served_and_one_exchanges(run: Run) -> None:
    """A page that is opened after a week needs no queue."""
    app = a_single_page_app(run)
    recorder = SignalRecorder(app)
    async with Browser(app, headers={"X-App": "1"}) as browser:
        await browser.post("/api/login", json=KEEP)
        browser.come_back(after=timedelta(days=7))
        answers = await asyncio.gather(*(browser.get("/api/me") for _ in range(8)))
        assert [answer.status for answer in answers] == [200] * 8
        assert recorder.names == ["on_remember", "on_restore"]


async def test_calls_of_anonymous_visitors_and_other_sites_are_refused(run: Run) -> None:
    """By a 401, and by a 403 before anything happens."""
    async with Browser(a_single_page_app(run)) as browser:
        assert (await browser.get("/api/me")).status == 401
        assert (await browser.post("/api/login", json=KEEP)).status == 403
        ours = {"X-App": "1"}
        assert (await browser.post("/api/login", json=KEEP | {"password": "guess"}, headers=ours)).status == 403
        assert (await browser.post("/api/login", json=KEEP, headers=ours)).status == 200
        assert (await browser.post("/api/logout")).status == 403
        assert (await (await browser.get("/api/me")).json()) == {"user": "alice"}
        assert (await browser.post("/api/logout", headers=ours)).status == 204
        assert (await browser.get("/api/me")).status == 401


async def test_without_the_box_a_sign_in_ends_with_the_browser(run: Run) -> None:
    """As the page's form says."""
    async with Browser(a_single_page_app(run), headers={"X-App": "1"}) as browser:
        await browser.post("/api/login", json=KEEP | {"keep": False})
        assert (await browser.get("/api/me")).status == 200
        browser.close_browser()
        assert (await browser.get("/api/me")).status == 401


async def test_an_outage_is_a_503_for_who_comes_back(run: Run) -> None:
    """The page tries again in the place of showing its form."""
    backend = FaultyBackend(MemoryBackend())
    async with Browser(a_single_page_app(run, backend), headers={"X-App": "1"}) as browser:
        await browser.post("/api/login", json=KEEP)
        browser.come_back(after=timedelta(days=1))
        backend.break_down()
        answer = await browser.get("/api/me")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        backend.heal()
        assert (await browser.get("/api/me")).status == 200


@runs("single-page-apps.md: The page")
async def test_the_page_rides_an_outage_out_and_notices_a_sign_out(
    run: Run, chromium: playwright.async_api.Browser
) -> None:
    """In Chromium, as printed: the call waits for the store; after a sign-out in another tab the event comes."""
    backend = FaultyBackend(MemoryBackend())
    app = a_single_page_app(run, backend)
    asked = 0

    async def index(_: web.Request) -> web.Response:
        return web.Response(
            text=f"<script>{SNIPPETS.codes['single-page-apps.md: The page']}</script>", content_type="text/html"
        )

    @web.middleware
    async def heals_after_two_answers(request: web.Request, handler: Any) -> web.StreamResponse:
        nonlocal asked
        asked += request.path == "/api/me"
        if asked == 3:
            backend.heal()
        response: web.StreamResponse = await handler(request)
        return response

    app.middlewares.insert(0, heals_after_two_answers)
    app.router.add_get("/", index)
    async with TestServer(app, host="localhost") as server:
        context = await chromium.new_context(base_url=str(server.make_url("/").with_host("localhost")))
        page = await context.new_page()
        await page.goto("/")
        sign_in = "form => api('/api/login', {method: 'POST', body: JSON.stringify(form)}).then(one => one.status)"
        assert await page.evaluate(sign_in, KEEP) == 200
        await context.clear_cookies(name=SESSION)
        Clock.of(app).advance(timedelta(hours=1))
        backend.break_down()
        assert await page.evaluate("api('/api/me').then(one => one.json())") == {"user": "alice"}
        assert asked == 3
        await page.evaluate("document.addEventListener('signed-out', () => { window.isOut = true; })")
        other = await context.new_page()
        await other.goto("/")
        assert await other.evaluate("api('/api/logout', {method: 'POST'}).then(one => one.status)") == 204
        assert await page.evaluate("api('/api/me').then(one => one.status)") == 401
        assert await page.evaluate("window.isOut") is True
        await context.close()


# Metrics


@pytest.fixture
def logger_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("aiohttp_persistent_session")
    before = list(logger.handlers)
    yield
    logger.handlers[:] = before


async def some_events(app: web.Application, backend: FaultyBackend) -> None:
    """Sign in, come back, find the store down, come back, be revoked."""
    app.router.add_get("/", who)
    async with Browser(app) as browser:
        await browser.sign_in("alice")
        browser.come_back(after=timedelta(days=1))
        await browser.get("/")
        browser.come_back(after=timedelta(days=1))
        backend.break_down()
        await browser.get("/")
        backend.heal()
        await browser.get("/")
        await app[PERSISTENT_SESSIONS].revoke_all("alice")


@pytest.mark.usefixtures("logger_as_it_was")
@runs("metrics.md: Prometheus")
async def test_prometheus_reads_what_happened(run: Run) -> None:
    """Signals by their names and reasons, and the log's warnings by their level."""
    snippet = run("metrics.md: Prometheus")
    try:
        backend = FaultyBackend(MemoryBackend())
        app = an_app(backend)
        snippet.measure(app[PERSISTENT_SESSIONS])
        await some_events(app, backend)
        pages = web.Application()
        snippet.add_metrics(pages)
        async with TestClient(TestServer(pages)) as client, client.get("/metrics") as answer:
            text = await answer.text()
    finally:
        prometheus_client.REGISTRY.unregister(snippet.EVENTS)
        prometheus_client.REGISTRY.unregister(snippet.MESSAGES)
    assert 'persistent_session_events_total{event="remember",reason=""} 1.0' in text
    assert 'persistent_session_events_total{event="restore",reason=""} 2.0' in text
    assert 'persistent_session_events_total{event="revoke",reason="signed out everywhere"} 1.0' in text
    assert re.search(r'persistent_session_messages_total\{level="warning"\} [1-9]', text)


@runs("metrics.md: OpenTelemetry")
async def test_opentelemetry_gets_what_happened(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a counter with the same names and reasons."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    backend = FaultyBackend(MemoryBackend())
    app = an_app(backend)
    run("metrics.md: OpenTelemetry").measure(app[PERSISTENT_SESSIONS])
    await some_events(app, backend)
    told = json.loads(reader.get_metrics_data().to_json())
    (metric,) = told["resource_metrics"][0]["scope_metrics"][0]["metrics"]
    counted = {tuple(sorted(one["attributes"].items())): one["value"] for one in metric["data"]["data_points"]}
    assert metric["name"] == "persistent_session.events"
    assert counted == {
        (("event", "remember"), ("reason", "")): 1,
        (("event", "restore"), ("reason", "")): 2,
        (("event", "revoke"), ("reason", "signed out everywhere")): 1,
    }
    provider.shutdown()


@runs("metrics.md: Counters")
async def test_prometheus_reads_the_counters(run: Run) -> None:
    """Each is a series of its own."""
    registry = prometheus_client.CollectorRegistry()
    backend = FaultyBackend(MemoryBackend())
    app = an_app(backend)
    run("metrics.md: Counters").count(app[PERSISTENT_SESSIONS], registry)
    await some_events(app, backend)
    text = prometheus_client.generate_latest(registry).decode()
    assert "persistent_session_sign_ins_total 1.0" in text
    assert "persistent_session_exchanges_total 2.0" in text
    assert "persistent_session_reuses_total 0.0" in text


# Moving


def a_moving_app(run: Run, old: SimpleNamespace, backend: Any = None, **options: Any) -> web.Application:
    snippet = run("moving.md: The exchange", OLD_COOKIE=old.OLD_COOKIE, user_of_old_cookie=old.user_of_old_cookie)
    app = an_app(backend, **options)
    app.middlewares.append(snippet.take_over)
    app.router.add_get("/", who)
    app.router.add_get("/picture", who)
    return app


def signed(run: Run, monkeypatch: pytest.MonkeyPatch) -> tuple[SimpleNamespace, str]:
    """Return the snippet for a signed cookie, and such a cookie, made as Flask-Login makes it."""
    monkeypatch.setenv("OLD_SECRET_KEY", "a key of the old app")
    signature = hmac.new(b"a key of the old app", b"alice", hashlib.sha512).hexdigest()
    return run("moving.md: From a signed cookie"), f"alice|{signature}"


async def shown(browser: Browser, path: str = "/", old: str | None = None) -> Any:
    """Ask for a page, with the old cookie in the browser's jar if one is given; return what it shows."""
    if old is not None:
        browser.session.cookie_jar.update_cookies({"remember_token": old}, browser.make_url("/"))
    async with browser.get(path) as response:
        return await response.json(content_type=None)


@runs("moving.md: The exchange", "moving.md: From a signed cookie")
async def test_an_old_cookie_is_taken_in_exchange_for_a_token(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is in, the password is still to be asked for, the old cookie is gone, and the token works next week."""
    old, cookie = signed(run, monkeypatch)
    app = a_moving_app(run, old)
    recorder = SignalRecorder(app)
    async with Browser(app) as browser:
        assert await shown(browser, old=cookie) == {"user": "alice", "fresh": False, "failed": False}
        assert set(browser.cookies) == {SESSION, TOKEN}
        browser.come_back(after=timedelta(days=7))
        assert (await shown(browser))["user"] == "alice"
        assert recorder.names == ["on_remember", "on_restore", "on_restore"]


@pytest.mark.parametrize("cookie", ["", "alice", "alice|", "|", "alice|00", "bob|{}", "alice2|{}"])
async def test_a_forged_old_cookie_is_dropped(run: Run, monkeypatch: pytest.MonkeyPatch, cookie: str) -> None:
    """Nobody is signed in by it, and it is looked at once."""
    old, good = signed(run, monkeypatch)
    app = a_moving_app(run, old)
    async with Browser(app) as browser:
        headers = {"Cookie": f"remember_token={cookie.format(good.partition('|')[2])}"}
        async with browser.get("/", headers=headers, allow_redirects=False) as answer:
            assert set(answer.cookies) == {"remember_token"}
            assert answer.cookies["remember_token"]["max-age"] == "0"
        assert (await shown(browser))["user"] is None
        assert await app[PERSISTENT_SESSIONS].sessions("alice") == []


async def test_only_pages_are_taken_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture or a form that comes with the old cookie leaves no record."""
    old, cookie = signed(run, monkeypatch)
    app = a_moving_app(run, old)
    async with Browser(app) as browser:
        headers = {"Cookie": f"remember_token={cookie}", "Sec-Fetch-Dest": "image"}
        async with browser.get("/picture", headers=headers) as response:
            assert (await response.json())["user"] is None
        assert await app[PERSISTENT_SESSIONS].sessions("alice") == []


async def test_an_old_cookie_beside_a_new_session_is_dropped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins no second persistent session."""
    old, cookie = signed(run, monkeypatch)
    app = a_moving_app(run, old)
    async with Browser(app) as browser:
        await browser.sign_in("bob")
        assert (await shown(browser, old=cookie))["user"] == "bob"
        assert set(browser.cookies) == {SESSION, TOKEN}
        assert await app[PERSISTENT_SESSIONS].sessions("alice") == []


async def test_an_outage_keeps_the_old_cookie(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser tries again later."""
    old, cookie = signed(run, monkeypatch)
    backend = FaultyBackend(MemoryBackend())
    async with Browser(a_moving_app(run, old, backend)) as browser:
        backend.break_down()
        browser.session.cookie_jar.update_cookies({"remember_token": cookie}, browser.make_url("/"))
        async with browser.get("/") as response:
            assert response.status == 503
        assert set(browser.cookies) == {"remember_token"}
        backend.heal()
        assert (await shown(browser))["user"] == "alice"


async def test_validate_refuses_a_user_who_is_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page says, it is asked right after the exchange."""
    old, cookie = signed(run, monkeypatch)
    app = a_moving_app(run, old, validate=lambda request, session: False)
    async with Browser(app) as browser:
        assert (await shown(browser, old=cookie))["user"] is None
        assert await app[PERSISTENT_SESSIONS].sessions("alice") == []


@runs("moving.md: From a long session")
async def test_a_long_session_is_taken_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app with a session of a month is replaced; its users stay in, by a token and a session of another name."""
    monkeypatch.setenv("SESSION_KEY", Fernet.generate_key().decode())
    before = web.Application()
    storage = EncryptedCookieStorage(os.environ["SESSION_KEY"], max_age=30 * 24 * 3600)
    aiohttp_session.setup(before, storage)

    async def log_in(request: web.Request) -> web.Response:
        (await aiohttp_session.new_session(request))["user"] = "alice"
        return web.Response()

    before.router.add_get("/", log_in)
    async with TestClient(TestServer(before)) as client, client.get("/") as response:
        cookie = response.cookies["AIOHTTP_SESSION"].value
    app = a_moving_app(run, run("moving.md: From a long session"))
    async with Browser(app) as browser:
        browser.session.cookie_jar.update_cookies({"AIOHTTP_SESSION": cookie}, browser.make_url("/"))
        assert await shown(browser) == {"user": "alice", "fresh": False, "failed": False}
        assert set(browser.cookies) == {SESSION, TOKEN}
    async with Browser(a_moving_app(run, run("moving.md: From a long session"))) as browser:
        browser.session.cookie_jar.update_cookies({"AIOHTTP_SESSION": cookie[:-9]}, browser.make_url("/"))
        assert (await shown(browser))["user"] is None
        assert set(browser.cookies) <= {SESSION}
