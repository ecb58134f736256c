"""Static files are protected like any other route, and no response of theirs carries a new token or a renewed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp_session import get_session

from aiohttp_persistent_session import current_persistent_session, is_fresh, persistent_sessions, restore_failed
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend

LOGO = "/static/logo.svg"
SEEN = web.AppKey("SEEN", list)


@web.middleware
async def members_only(request: web.Request, handler: Any) -> web.StreamResponse:
    """What an application puts after ``setup`` to protect what is below it."""
    if request.path.startswith("/static"):
        current = await current_persistent_session(request)
        request.app[SEEN].append(
            (
                await is_fresh(request),
                current and current.user,
                len(await persistent_sessions(request)),
                restore_failed(request),
            )
        )
        if (await get_session(request)).get("user") is None:
            raise web.HTTPForbidden
    return await handler(request)


@pytest.fixture
async def worker(workers: Workers, backend: FaultyBackend, tmp_path: Path) -> Worker:
    return await static(workers, backend, tmp_path)


async def static(workers: Workers, backend: FaultyBackend, folder: Path) -> Worker:
    (folder / "logo.svg").write_text("<svg/>")

    def prepare(app: web.Application) -> None:
        app[SEEN] = []
        app.router.add_static("/static", folder)

    return await workers(backend, middlewares=[members_only], prepare=prepare)


async def test_a_live_request_is_served_and_costs_nothing(browser: Browser, backend: FaultyBackend) -> None:
    """A page's fifty images ask the store nothing, and stay cacheable: no cookie, no Cache-Control."""
    await browser.sign_in()
    backend.calls.clear()
    for _ in range(50):
        reply = await browser.get(LOGO)
        assert (reply.status, reply.text, reply.cookies) == (200, "<svg/>", {})
        assert "Cache-Control" not in reply.headers
    assert backend.calls == {"get": 50, "of_user": 50}  # what the middleware itself asks for


async def test_a_token_without_a_session_joins(browser: Browser, backend: FaultyBackend, worker: Worker) -> None:
    """The file is served to who holds a valid token, and the token is not spent on it."""
    await browser.sign_in()
    token = browser.token
    browser.end_session()
    for _ in range(3):
        reply = await browser.get(LOGO)
        assert (reply.status, reply.cookies) == (200, {})
        assert "Cache-Control" not in reply.headers
    assert backend.calls["replace"] == 0
    assert browser.token == token
    assert [name for name, _ in worker.events] == ["remember"]
    assert (await browser.get()).token not in (None, "", token)


@pytest.mark.parametrize("after", [61, DAY + 1, 29 * DAY])
async def test_a_static_file_is_never_an_occasion_to_rotate_or_renew(
    browser: Browser, clock: Clock, after: float
) -> None:
    """The check writes that the browser was seen; the cookie waits for the next page."""
    await browser.sign_in()
    clock.advance(after)
    reply = await browser.get(LOGO)
    assert (reply.status, reply.cookies) == (200, {})
    assert "Cache-Control" not in reply.headers
    assert (await browser.get()).token


async def test_a_token_that_was_exchanged_before_is_not_rotated_there(browser: Browser, clock: Clock) -> None:
    """An owner whose token somebody exchanged moves on with the next page."""
    await browser.sign_in()
    token = browser.token
    await Browser(browser.worker, {TOKEN: token or ""}).get()
    clock.advance(11)
    assert (await browser.get(LOGO)).cookies == {}
    clock.advance(11)
    assert (await browser.get()).token not in (None, "", token)


@pytest.mark.parametrize("keeps", ["both cookies", "the session alone", "the token alone"])
async def test_a_revocation_reaches_static_files_within_check_interval(
    workers: Workers, backend: FaultyBackend, browser: Browser, clock: Clock, keeps: str
) -> None:
    """A file behind a middleware that protects it is refused like a page."""
    elsewhere = await workers(backend)
    await browser.sign_in()
    assert (await browser.get(LOGO)).status == 200
    if keeps == "the session alone":
        del browser.cookies[TOKEN]
    elif keeps == "the token alone":
        browser.end_session()
    await elsewhere.manager.revoke_all("alice")
    clock.advance(60.001)
    reply = await browser.get(LOGO)
    assert (reply.status, reply.cookies) == (403, {})


async def test_a_revocation_on_the_same_worker_reaches_the_next_file(browser: Browser, worker: Worker) -> None:
    """As for a page."""
    await browser.sign_in()
    await worker.manager.revoke_all("alice")
    assert (await browser.get(LOGO)).status == 403


async def test_a_copied_token_is_found_out_at_a_static_file(browser: Browser, worker: Worker) -> None:
    """A copy is a copy, whatever it is used for."""
    await browser.sign_in()
    selector = (browser.token or "").partition(".")[0]
    wrong = f"{selector}.{Token.generate().cookie_value.partition('.')[2]}"
    assert (await Browser(worker, {TOKEN: wrong}).get(LOGO)).status == 403
    assert "reuse" in dict(worker.events)
    assert (await browser.get(LOGO)).status == 403


async def test_what_handlers_call_works_in_a_middleware_around_a_static_file(browser: Browser, worker: Worker) -> None:
    """No static file is a 500 because a middleware asks who is signed in."""
    assert (await browser.get(LOGO)).status == 403
    await browser.sign_in()
    await browser.get(LOGO)
    browser.end_session()
    await browser.get(LOGO)
    assert worker.app[SEEN] == [(False, None, 0, False), (True, "alice", 1, False), (False, "alice", 1, False)]


async def test_a_store_that_fails_leaves_a_static_file_to_the_middleware(
    browser: Browser, backend: FaultyBackend
) -> None:
    """A restore that fails is anonymous there too, and keeps the cookie."""
    await browser.sign_in()
    browser.end_session()
    token = browser.token
    backend.break_down()
    reply = await browser.get("/static/logo.svg")
    assert reply.status in (403, 500)
    assert reply.cookies == {}
    backend.heal()
    assert browser.token == token
    assert (await browser.get(LOGO)).status == 200


async def test_a_file_that_is_not_there_is_a_404_without_a_cookie(browser: Browser) -> None:
    """The route is static, whatever it answers."""
    await browser.sign_in()
    reply = await browser.get("/static/none.svg")
    assert (reply.status, reply.cookies) == (404, {})


async def test_static_files_of_a_sub_application_are_protected_too(
    workers: Workers, backend: FaultyBackend, tmp_path: Path
) -> None:
    """Routes of sub-applications are ours as well."""
    (tmp_path / "logo.svg").write_text("<svg/>")

    def prepare(app: web.Application) -> None:
        app[SEEN] = []
        sub = web.Application()
        sub.router.add_static("/files", tmp_path)
        app.add_subapp("/static", sub)

    worker = await workers(backend, middlewares=[members_only], prepare=prepare)
    browser = Browser(worker)
    await browser.sign_in()
    assert (await browser.get("/static/files/logo.svg")).cookies == {}
    browser.end_session()
    reply = await browser.get("/static/files/logo.svg")
    assert (reply.status, reply.cookies) == (200, {})
    await worker.manager.revoke_all("alice")
    assert (await browser.get("/static/files/logo.svg")).status == 403


async def test_a_visitor_without_cookies_costs_nothing(
    workers: Workers, backend: FaultyBackend, tmp_path: Path
) -> None:
    """No session is loaded for a file that needs none."""
    (tmp_path / "logo.svg").write_text("<svg/>")
    worker = await workers(backend, prepare=lambda app: app.router.add_static("/static", tmp_path) and None)
    backend.calls.clear()
    reply = await Browser(worker).get(LOGO)
    assert (reply.status, reply.cookies, SESSION in reply.cookies) == (200, {}, False)
    assert not backend.calls
