"""The store fails, hangs, or loses its answers: nobody is logged out by it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from aiohttp_persistent_session import BackendError, MemoryBackend, forget

from .browser import ANSWERS_WITHIN, SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import DriverError, FaultyBackend

EVERY_STORE = True


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    browser = Browser(await workers(backend))
    await browser.sign_in()
    return browser


@pytest.fixture(params=["fails", "hangs"])
def outage(
    request: pytest.FixtureRequest, backend: FaultyBackend, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> object:
    heal = backend.heal

    def wait_no_longer_than(seconds: float) -> None:
        for worker in workers.running:
            worker.manager._store.timeout = seconds

    def hang(*names: str) -> None:
        wait_no_longer_than(0.5)
        backend.hang(*names)

    def go_on() -> None:
        wait_no_longer_than(ANSWERS_WITHIN)
        heal()

    monkeypatch.setattr(backend, "heal", go_on)
    return backend.break_down if request.param == "fails" else hang


async def test_a_restore_is_anonymous_for_this_request_and_keeps_the_cookie(
    browser: Browser, backend: FaultyBackend, outage: object
) -> None:
    browser.end_session()
    outage()
    for _ in range(3):
        reply = await browser.get()
        assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    backend.heal()
    assert (await browser.get()).user == "alice"


async def test_a_restore_whose_swap_fails_keeps_the_token(
    browser: Browser, backend: FaultyBackend, outage: object
) -> None:
    browser.end_session()
    outage("replace")
    reply = await browser.get()
    assert (reply.status, reply.user, reply.cookies) == (200, None, {})
    backend.heal()
    assert (await browser.get()).user == "alice"


async def test_a_live_session_is_served_on_and_not_renewed(
    browser: Browser, backend: FaultyBackend, clock: Clock, outage: object
) -> None:
    clock.advance(61)
    outage()
    for _ in range(3):
        reply = await browser.get()
        assert reply.user == "alice"
        assert reply.token is None
    backend.heal()
    assert (await browser.get()).token == browser.token


async def test_a_live_session_seen_lately_does_not_notice(browser: Browser, backend: FaultyBackend) -> None:
    backend.break_down()
    reply = await browser.get()
    assert (reply.user, reply.token) == ("alice", browser.token)


async def test_a_check_that_could_read_but_not_write_serves_on(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    clock.advance(61)
    backend.break_down("replace")
    assert (await browser.get()).user == "alice"
    assert (await browser.get()).token == browser.token


async def test_a_slow_response_is_not_renewed_where_no_fresh_read_can_be_had(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    async def slow(_: web.Request) -> web.Response:
        clock.advance(2)
        backend.break_down()
        return web.Response()

    browser = Browser(await workers(backend, handlers={"/slow": slow}))
    await browser.sign_in()
    reply = await browser.get("/slow")
    assert (reply.status, reply.token) == (200, None)


async def test_a_store_that_fails_now_and_then_does_not_flood_the_log(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    browser.end_session()
    caplog.set_level(logging.INFO, "aiohttp_persistent_session")
    for _ in range(10):
        backend.break_down("get")
        assert (await browser.send("GET", "/me")).user is None
        backend.heal()
        assert (await browser.send("GET", "/me")).user == "alice"
    fails, answers_again = (record.getMessage() for record in caplog.records)
    assert "fails at get" in fails
    assert "answers again at get" in answers_again


async def test_an_outage_is_logged_once_and_its_end_too(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp_persistent_session.store.QUIET_FOR", 0)
    browser.end_session()
    caplog.set_level(logging.INFO, "aiohttp_persistent_session")
    for _ in range(2):
        caplog.clear()
        backend.break_down()
        for _ in range(5):
            await browser.send("GET", "/me")
        assert [(record.levelno, record.name) for record in caplog.records] == [
            (logging.WARNING, "aiohttp_persistent_session")
        ]
        assert "DriverError: connection refused" in caplog.text
        backend.heal()
        await browser.get()
        assert "answers again" in caplog.text
        browser.end_session()


@pytest.mark.parametrize("path", ["/login", "/logout", "/logout-everywhere"])
async def test_remember_and_forget_tell_the_handler(
    workers: Workers, backend: FaultyBackend, path: str, outage: object, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(await workers(backend))
    await browser.sign_in()
    outage()
    reply = await browser.post(path, data={"user": "alice"})
    assert reply.status == 500
    errors = [record.exc_info[1] for record in caplog.records if record.exc_info and record.name == "aiohttp.server"]
    assert isinstance(errors[0], BackendError)
    assert errors[0].__cause__ is not None


@pytest.mark.parametrize("path", ["/devices", "/device", "/revoke/" + "A" * 22])
async def test_listing_and_revoking_tell_the_handler(
    browser: Browser, backend: FaultyBackend, path: str, outage: object
) -> None:
    outage()
    method = "POST" if path.startswith("/revoke") else "GET"
    assert (await browser.send(method, path)).status == 500


async def test_before_forget_raises_the_cookies_deletion_is_staged(workers: Workers, backend: FaultyBackend) -> None:
    """Also where the handler goes on: the browser is signed out although the record could not be deleted."""

    async def logout(request: web.Request) -> web.Response:
        try:
            await forget(request)
        except BackendError as error:
            return web.Response(text=f"signed out here, though {type(error.__cause__).__name__}")
        return web.Response(text="no error")

    browser = Browser(await workers(backend, handlers={"/bye": logout}))
    await browser.sign_in()
    backend.break_down()
    reply = await browser.get("/bye")
    assert reply.text == "signed out here, though DriverError"
    assert reply.token == ""
    assert TOKEN not in browser.cookies
    assert (await browser.get()).user is None


async def test_a_500_of_forget_deletes_the_cookie_too(browser: Browser, backend: FaultyBackend) -> None:
    backend.break_down()
    reply = await browser.post("/logout")
    assert (reply.status, reply.token) == (500, "")


@pytest.mark.parametrize("grace_period", [0, 10])
async def test_an_exchange_whose_answer_was_lost_is_found_to_have_happened(
    workers: Workers, backend: FaultyBackend, grace_period: float
) -> None:
    """The salt tells whose it was: the token was spent by this very request, which opens the session."""
    worker = await workers(backend, grace_period=grace_period)
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    old = browser.token
    backend.lose_answer("replace")
    reply = await browser.get()
    assert reply.user == "alice"
    assert SESSION in reply.cookies
    assert reply.token not in (None, "", old)
    assert [name for name, _ in worker.events] == ["remember", "restore"]
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_an_exchange_that_a_driver_repeats_opens_one_session(workers: Workers, backend: FaultyBackend) -> None:
    """The repeat of a swap that was applied reports that it lost."""
    browser = Browser(await workers(backend, grace_period=0))
    await browser.sign_in()
    browser.end_session()
    real = backend.inner.replace

    async def repeated(record: object) -> bool:
        await real(record)
        return await real(record)

    backend.inner.replace = repeated
    reply = await browser.get()
    assert reply.user == "alice"
    assert SESSION in reply.cookies


async def test_an_insert_that_a_driver_repeats_is_no_failure(workers: Workers, backend: FaultyBackend) -> None:
    worker = await workers(backend)
    real = backend.inner.insert

    async def repeated(record: object) -> None:
        await real(record)
        await real(record)

    backend.inner.insert = repeated
    browser = Browser(worker)
    await browser.sign_in()
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_deletion_whose_answer_was_lost_is_found_to_have_happened(
    browser: Browser, backend: FaultyBackend
) -> None:
    backend.lose_answer("delete")
    assert (await browser.post("/logout")).status == 302
    assert await backend.of_user("alice") == []
    assert [name for name, _ in browser.worker.events] == ["remember", "forget"]


async def test_an_insert_whose_answer_was_lost_is_found_to_have_happened(
    workers: Workers, backend: FaultyBackend
) -> None:
    browser = Browser(await workers(backend))
    backend.lose_answer("insert")
    await browser.sign_in()
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_a_sign_in_over_another_whose_deletion_lost_its_answer_stands(
    browser: Browser, backend: FaultyBackend
) -> None:
    backend.lose_answer("delete")
    await browser.sign_in("bob")
    assert await backend.of_user("alice") == []
    browser.end_session()
    assert (await browser.get()).user == "bob"


async def test_a_sign_in_that_cannot_make_room_leaves_the_old_one_as_it_was(
    workers: Workers, backend: FaultyBackend
) -> None:
    browser = Browser(await workers(backend, max_sessions=3))
    await browser.sign_in()
    backend.break_down("of_user")
    assert (await browser.post("/login", data={"user": "alice"})).status == 500
    backend.heal()
    browser.end_session()
    assert (await browser.get()).user == "alice"
    assert len(await backend.of_user("alice")) == 1


async def test_a_store_that_can_be_read_only_is_not_asked_over_and_over(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """One look tells that the write was not applied; trying again is the next request's business."""
    browser.end_session()
    backend.break_down("replace")
    backend.calls.clear()
    for _ in range(5):
        assert (await browser.send("GET", "/me")).user is None
    # Two gets and a swap each, and what sees to the exchanges that may yet happen: a get and a swap a second.
    assert backend.calls["get"] <= 13
    assert backend.calls["replace"] <= 8
    assert len(caplog.records) == 1


async def test_a_renewal_whose_answer_was_lost_does_no_harm(
    browser: Browser, backend: FaultyBackend, clock: Clock
) -> None:
    clock.advance(61)
    backend.lose_answer("replace")
    assert (await browser.get()).user == "alice"
    assert (await browser.get()).token == browser.token
    browser.end_session()
    assert (await browser.get()).user == "alice"


async def test_reuse_while_the_store_cannot_delete_is_found_again(browser: Browser, backend: FaultyBackend) -> None:
    selector = (browser.token or "").split(".")[0]
    thief = Browser(browser.worker, {TOKEN: f"{selector}.{'A' * 43}"})
    backend.break_down("delete")
    assert (await thief.get()).user is None
    assert "reuse" not in dict(browser.worker.events)
    backend.heal()
    assert (await thief.get()).token == ""
    assert "reuse" in dict(browser.worker.events)


async def test_a_hung_store_holds_a_request_up_for_the_timeout_and_little_more(workers: Workers) -> None:
    backend = FaultyBackend(MemoryBackend())
    browser = Browser(await workers(backend, timeout=0.5))
    await browser.sign_in()
    browser.end_session()
    backend.hang()
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await browser.get()).user is None
    # No boundary of a rule: a wide margin for a loaded machine, and still far from no limit at all.
    assert 0.49 < loop.time() - started < 5


async def test_a_swap_that_others_win_for_ever_gives_up(browser: Browser, backend: FaultyBackend) -> None:
    async def lost(_: object) -> bool:
        return False

    browser.end_session()
    backend.inner.replace = lost
    backend.calls.clear()
    reply = await browser.get()
    assert (reply.user, reply.cookies) == (None, {})
    assert backend.calls["replace"] == 10


async def test_a_session_storage_that_is_down_spends_no_token(
    workers: Workers, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the session is live cannot be known: the token may be needed once it can."""
    import aiohttp_session

    class Storage(aiohttp_session.SimpleCookieStorage):
        down = False

        async def load_session(self, request: web.Request) -> aiohttp_session.Session:
            if self.down:
                raise DriverError
            return await super().load_session(request)

    async def page(_: web.Request) -> web.Response:
        return web.Response()

    storage = Storage()
    browser = Browser(await workers(backend, storage=storage, handlers={"/": page}))
    await browser.sign_in()
    token = browser.token
    storage.down = True
    backend.calls.clear()
    reply = await browser.get("/")
    assert (reply.status, reply.cookies) == (200, {})
    assert not backend.calls
    assert (await browser.get("/me")).status == 500
    storage.down = False
    assert (await browser.get()).token == token


async def test_a_backend_that_returns_no_record_is_told_of(
    browser: Browser, backend: FaultyBackend, caplog: pytest.LogCaptureFixture
) -> None:
    async def a_dict(_: str) -> object:
        return {"id": "x"}

    browser.end_session()
    backend.inner.get = a_dict
    assert (await browser.get()).user is None
    assert "get must return a Record or None, not dict" in caplog.text


async def test_start_up_fails_with_the_store_and_closes_it(clock: Clock) -> None:
    from aiohttp_persistent_session import PersistentSessionManager

    backend = FaultyBackend(MemoryBackend())
    backend.break_down("open")
    manager = PersistentSessionManager(backend)
    with pytest.raises(BackendError) as caught:
        await manager.open()
    assert isinstance(caught.value.__cause__, DriverError)
    assert backend.closed == 1


async def test_the_worker_that_waits_for_a_shared_check_may_be_cancelled(
    worker: Worker, backend: FaultyBackend, clock: Clock
) -> None:
    """The first request that asked goes away; the others of the same browser are served by its check."""
    browser = Browser(worker)
    await browser.sign_in()
    clock.advance(61)
    id = (await backend.of_user("alice"))[0].id
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(name: str) -> None:
        reached.set()
        await go_on.wait()

    backend.fault = hold
    from aiohttp_persistent_session.record import Client

    first = asyncio.create_task(worker.manager.check(id, Client()))
    await reached.wait()
    second = asyncio.create_task(worker.manager.check(id, Client()))
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    sighting = await second
    assert sighting is not None
    assert not sighting.gone
