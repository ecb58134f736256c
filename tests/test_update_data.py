"""The data that an app keeps with a persistent session, changed later."""

from __future__ import annotations

import pytest
from aiohttp import web

from aiohttp_persistent_session import BackendError, current_persistent_session, update_data

from .browser import Browser, Clock, Reply, Workers, comes_back
from .exchanges import the_record
from .faults import FaultyBackend


async def change(request: web.Request) -> web.Response:
    try:
        changed = await update_data(request, await request.json())
    except BackendError:
        return web.json_response("the store failed", status=503)
    except (TypeError, ValueError) as error:
        return web.json_response(str(error), status=400)
    return web.json_response(changed and changed.data)


async def read(request: web.Request) -> web.Response:
    current = await current_persistent_session(request)
    return web.json_response(current and current.data)


EVERY_STORE = ("memory", "redis")


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    browser = Browser(await workers(backend, handlers={"/change": change, "/read": read}))
    await browser.sign_in()
    return browser


async def test_the_data_are_replaced_whole_and_survive_a_restore(browser: Browser, clock: Clock) -> None:
    assert (await browser.post("/change", json={"name": "my laptop"})).json == {"name": "my laptop"}
    assert (await browser.post("/change", json={"colour": "red"})).json == {"colour": "red"}
    await comes_back(browser, clock)
    assert (await browser.get("/read")).json == {"colour": "red"}


async def test_nothing_else_changes(browser: Browser, backend: FaultyBackend) -> None:
    """Neither the secrets nor the expiry: a thief's change would otherwise tell for an owner's."""
    before = await the_record(backend)
    await browser.post("/change", json={"a": 1})
    after = await the_record(backend)
    assert (after.secrets, after.expires_at, after.seen_at) == (before.secrets, before.expires_at, before.seen_at)
    assert after.revision == before.revision + 1


async def test_the_same_data_again_write_nothing(browser: Browser, backend: FaultyBackend) -> None:
    """Whoever can call it over and over would otherwise keep others from swapping."""
    await browser.post("/change", json={"a": 1})
    before = await the_record(backend)
    assert (await browser.post("/change", json={"a": 1})).json == {"a": 1}
    assert await the_record(backend) == before


async def test_another_writer_at_the_same_time_loses_nothing(
    workers: Workers, browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    """The swap that lost is judged anew: the exchange stands, and so do the data."""
    other = Browser(await workers(backend), {**browser.cookies})
    restored: list[Reply] = []

    async def exchange_first(name: str) -> None:
        if name == "replace":
            backend.heal()
            restored.append(await comes_back(other, clock))

    backend.fault = exchange_first
    assert (await browser.post("/change", json={"a": 1})).json == {"a": 1}
    assert restored[0].user == "alice"
    record = await the_record(backend)
    assert (record.data, record.last_session) == ('{"a":1}', 1)


async def test_an_anonymous_request_has_none(browser: Browser) -> None:
    await browser.post("/logout")
    assert (await browser.post("/change", json={"a": 1})).json is None


async def test_a_persistent_session_that_ended_meanwhile_has_none(browser: Browser, backend: FaultyBackend) -> None:
    async def revoke_first(name: str) -> None:
        if name == "replace":
            backend.heal()
            await backend.delete((await the_record(backend)).id)

    backend.fault = revoke_first
    assert (await browser.post("/change", json={"a": 1})).json is None


async def test_data_that_no_store_could_keep_are_refused(browser: Browser) -> None:
    reply = await browser.post("/change", json={"a": "x" * 5000})
    assert (reply.status, "4096" in reply.json) == (400, True)
    assert (await browser.post("/change", json=[1])).status == 400


async def test_a_store_that_fails_is_told_of(browser: Browser, backend: FaultyBackend) -> None:
    backend.break_down()
    assert (await browser.post("/change", json={"a": 1})).status == 503
