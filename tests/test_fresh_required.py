"""Handlers that let in only who typed the password a short while ago, and the way back to them."""

from __future__ import annotations

from datetime import timedelta

import aiohttp_session
import pytest
from aiohttp import web

from aiohttp_persistent_session import fresh_required, way_back

from .browser import Browser, Clock, Workers, comes_back
from .faults import FaultyBackend

HOUR = 3600


async def page(_: web.Request) -> web.Response:
    return web.json_response("inside")


class Account(web.View):
    @fresh_required(within=timedelta(minutes=5), login_url="/password")
    async def get(self) -> web.Response:
        return web.json_response(f"inside for {self.request.method}")

    @fresh_required(login_url="/password")
    async def post(self) -> web.Response:
        return web.json_response("changed")


async def go_back(request: web.Request) -> web.Response:
    return web.json_response(way_back(request, "/home"))


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    handlers = {
        "/api": fresh_required(within=300)(page),
        "/form": fresh_required(within=300, login_url="/password?why=old")(page),
        "/account": Account,
        "/password": go_back,
    }
    browser = Browser(await workers(backend, handlers=handlers))  # type: ignore[arg-type]  # a view is a handler too
    await browser.sign_in()
    return browser


@pytest.mark.parametrize("path", ["/api", "/form", "/account"])
async def test_who_has_just_typed_the_password_gets_in(browser: Browser, path: str) -> None:
    assert "inside" in (await browser.get(path)).json


async def test_without_a_login_page_the_answer_is_401(browser: Browser, clock: Clock) -> None:
    """The session goes on: nobody is signed out."""
    clock.advance(301)
    assert (await browser.get("/api")).status == 401
    assert (await browser.get()).user == "alice"


@pytest.mark.parametrize("why", ["typed long ago", "restored", "anonymous"])
async def test_others_are_led_to_the_login_page_and_know_the_way_back(browser: Browser, clock: Clock, why: str) -> None:
    """Also who is not signed in at all."""
    if why == "restored":
        assert (await comes_back(browser, clock)).user == "alice"
    elif why == "anonymous":
        await browser.post("/logout")
    else:
        clock.advance(HOUR)
    reply = await browser.get("/form?tab=2&x=a%26b")
    assert reply.status == 303
    assert reply.headers["Location"].startswith("/password?why=old&next=")
    assert (await browser.get(reply.headers["Location"])).json == "/form?tab=2&x=a%26b"


async def test_confirm_login_lets_in_again(browser: Browser, clock: Clock) -> None:
    clock.advance(HOUR)
    assert (await browser.get("/api")).status == 401
    await browser.post("/confirm")
    assert (await browser.get("/api")).status == 200


async def test_a_form_that_was_sent_cannot_be_led_back_to(browser: Browser, clock: Clock) -> None:
    """A redirect loses what was typed into it: its address would open with a GET."""
    await comes_back(browser, clock)
    reply = await browser.post("/account")
    assert (reply.status, reply.headers["Location"]) == (303, "/password")


async def test_a_method_of_a_view_is_guarded_by_its_own_limit(browser: Browser, clock: Clock) -> None:
    clock.advance(301)
    assert (await browser.get("/account")).status == 303
    assert (await browser.post("/account")).json == "changed"


@pytest.mark.parametrize(
    "asked",
    ["//evil.example/", "/\\evil.example", "https://evil.example", "evil", "", "/\t/evil.example", "/a\nb", "\\/x"],
)
async def test_no_link_to_the_login_page_leads_to_another_site(browser: Browser, asked: str) -> None:
    """An open redirect (CWE-601)."""
    reply = await browser.send("GET", "/password", params={"next": asked})
    assert reply.json == "/home"


async def test_an_address_that_looks_like_another_site_is_not_led_back_to(browser: Browser, clock: Clock) -> None:
    """A path may begin with two slashes."""
    clock.advance(HOUR)
    reply = await browser.get("/password?next=/here/")
    assert reply.json == "/here/"


async def test_the_password_of_one_user_makes_no_other_one_fresh(workers: Workers, backend: FaultyBackend) -> None:
    """Where the app puts another user into the session by itself."""

    async def become_eve(request: web.Request) -> web.Response:
        (await aiohttp_session.get_session(request))["user"] = "eve"
        return web.Response()

    handlers = {"/become-eve": become_eve, "/api": fresh_required()(page)}
    browser = Browser(await workers(backend, handlers=handlers))
    await browser.sign_in()
    assert (await browser.get("/api")).status == 200
    await browser.get("/become-eve")
    assert (await browser.get("/api")).status == 401


def test_mistakes_are_told_where_the_decorator_is_written() -> None:
    with pytest.raises(TypeError, match="parentheses"):
        fresh_required()("no handler")  # type: ignore[type-var]  # the mistake
    with pytest.raises(ValueError, match="within"):
        fresh_required(within=-1)
    with pytest.raises(TypeError, match="login_url"):
        fresh_required(login_url=1)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError):
        fresh_required(page)  # type: ignore[misc]  # the mistake


def test_the_guarded_handler_keeps_its_name() -> None:
    assert fresh_required()(page).__name__ == "page"
