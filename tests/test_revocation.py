"""Seeing and ending persistent sessions: one's own, from here or there; never anybody else's."""

from __future__ import annotations

import asyncio

import pytest

from .browser import SESSION, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend
from .stores import Store

EVERY_STORE = True


@pytest.fixture
async def two(workers: Workers, backend: FaultyBackend) -> tuple[Browser, Browser]:
    """Two browsers of one user, each on a worker of its own."""
    here, there = Browser(await workers(backend)), Browser(await workers(backend), user_agent="Phone/2.0")
    await here.sign_in()
    await there.sign_in()
    return here, there


async def own_id(browser: Browser) -> str:
    return (await browser.get("/me")).json["id"]


@pytest.mark.parametrize("keeps", ["both cookies", "only its session cookie"])
@pytest.mark.parametrize("place", ["the same worker", "another worker"])
async def test_a_revocation_reaches_a_live_session_within_check_interval(
    two: tuple[Browser, Browser], clock: Clock, keeps: str, place: str
) -> None:
    here, there = two
    if place == "the same worker":
        here.worker = there.worker
    id = await own_id(there)
    if keeps == "only its session cookie":
        del there.cookies[TOKEN]
    assert (await here.post(f"/revoke/{id}")).json is True
    if place == "the same worker":
        assert (await there.get()).user is None
    else:
        clock.advance(60)
        assert (await there.get()).user is None
    there.end_session()
    assert (await there.get()).user is None
    assert (await here.get()).user == "alice"


async def test_with_check_interval_0_a_revocation_reaches_the_next_request(workers: Workers, store: Store) -> None:
    backend = await store.backend()
    here = Browser(await workers(backend, check_interval=0))
    there = Browser(await workers(backend, check_interval=0))
    await here.sign_in()
    await there.sign_in()
    await here.post(f"/revoke/{await own_id(there)}")
    assert (await there.get()).user is None


async def test_a_revoked_session_is_emptied_and_the_request_goes_on_as_if_it_had_none(
    two: tuple[Browser, Browser], clock: Clock
) -> None:
    """A token of a later sign-in that came with it restores."""
    here, there = two
    await there.post("/cart", data={"item": "book"})
    await here.post(f"/revoke/{await own_id(there)}")
    clock.advance(61)
    newer = Browser(here.worker)
    await newer.sign_in("bob")
    there.cookies[TOKEN] = newer.cookies[TOKEN]
    reply = await there.get()
    assert (reply.user, reply.json["cart"], reply.json["fresh"]) == ("bob", None, False)


async def test_nobody_lists_or_ends_another_users(worker: Worker, backend: FaultyBackend) -> None:
    alice, mallory = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    await mallory.sign_in("mallory")
    id = await own_id(alice)
    assert [one[0] for one in (await mallory.get("/devices")).json] == [await own_id(mallory)]
    assert (await mallory.post(f"/revoke/{id}")).json is False
    assert (await alice.get()).user == "alice"
    alice.end_session()
    assert (await alice.get()).user == "alice"


async def test_user_1_and_user_text_1_are_different_users(worker: Worker, backend: FaultyBackend) -> None:
    from aiohttp_persistent_session.testing import make_record

    number = Browser(worker)
    await number.sign_in("1")
    record = make_record(user="1")
    await backend.insert(record)
    assert len((await number.get("/devices")).json) == 1
    assert (await number.post(f"/revoke/{record.id}")).json is False
    assert (await number.post("/logout-everywhere")).json == 1
    assert await backend.get(record.id) == record


async def test_an_anonymous_visitor_lists_and_ends_nothing(two: tuple[Browser, Browser]) -> None:
    here, there = two
    visitor = Browser(here.worker)
    assert (await visitor.get("/devices")).json == []
    assert (await visitor.get("/device")).json is None
    assert (await visitor.post(f"/revoke/{await own_id(there)}")).json is False
    assert (await visitor.post("/logout-everywhere")).json == 0


async def test_the_list_is_newest_first_and_knows_this_browser(two: tuple[Browser, Browser], clock: Clock) -> None:
    here, _ = two
    clock.advance(5)
    third = Browser(here.worker, user_agent="Tablet/3.0")
    await third.sign_in()
    listed = (await here.get("/devices")).json
    assert listed[0][2] == "Tablet/3.0"
    assert {(agent, current) for _, current, agent, _ in listed} == {
        ("Tablet/3.0", False),
        ("Phone/2.0", False),
        ("Test/1.0", True),
    }
    assert (await here.get("/device")).json == [await own_id(here), True]


async def test_expired_persistent_sessions_are_not_listed(two: tuple[Browser, Browser], clock: Clock) -> None:
    here, _ = two
    clock.advance(20 * 24 * 3600)
    await here.get()
    clock.advance(20 * 24 * 3600)
    assert [agent for _, _, agent, _ in (await here.get("/devices")).json] == ["Test/1.0"]


async def test_a_live_session_without_a_persistent_session_lists_the_users_own(worker: Worker) -> None:
    remembered, plain = Browser(worker), Browser(worker)
    await remembered.sign_in()
    await plain.post("/login-unremembered", data={"user": "alice"})
    assert [current for _, current, _, _ in (await plain.get("/devices")).json] == [False]
    assert (await plain.get("/device")).json is None


async def test_revoking_ones_own_signs_this_browser_out(worker: Worker, browser: Browser) -> None:
    await browser.sign_in()
    reply = await browser.post(f"/revoke/{await own_id(browser)}")
    assert reply.json is True
    assert reply.token == ""
    assert (await browser.get()).user is None


async def test_forget_everywhere_ends_all_of_the_users_browsers(two: tuple[Browser, Browser], clock: Clock) -> None:
    here, there = two
    other = Browser(here.worker)
    await other.sign_in("bob")
    reply = await here.post("/logout-everywhere")
    assert reply.json == 2
    assert reply.token == ""
    clock.advance(60)
    assert (await here.get()).user is None
    assert (await there.get()).user is None
    assert (await other.get()).user == "bob"


async def test_forget_everywhere_can_keep_this_browser(two: tuple[Browser, Browser], clock: Clock) -> None:
    here, there = two
    reply = await here.post("/logout-everywhere?keep=1")
    assert reply.json == 1
    assert reply.token == here.token
    clock.advance(60)
    assert (await there.get()).user is None
    assert (await here.get()).user == "alice"


async def test_forget_here_leaves_the_others_in(two: tuple[Browser, Browser], clock: Clock) -> None:
    here, there = two
    await here.post("/logout")
    clock.advance(61)
    assert (await there.get()).user == "alice"
    there.end_session()
    assert (await there.get()).user == "alice"


async def test_a_copied_session_cookie_dies_with_its_persistent_session(
    two: tuple[Browser, Browser], clock: Clock
) -> None:
    """Where the ordinary session lives in the cookie itself, nothing else could end it."""
    here, _ = two
    thief = here.clone()
    await here.post("/logout")
    assert (await thief.get()).user is None


async def test_a_check_under_way_does_not_bring_back_what_was_revoked_meanwhile(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Its answer was read before the deletion; this worker knows better when it arrives."""
    browser = Browser(await workers(backend))
    await browser.sign_in()
    id = await own_id(browser)
    clock.advance(61)
    read, go_on = asyncio.Event(), asyncio.Event()

    async def hold(name: str) -> None:
        if name == "get" and not read.is_set():
            read.set()
            await go_on.wait()

    backend.after = hold
    pending = asyncio.create_task(browser.send("GET", "/me"))
    await read.wait()
    assert await browser.worker.manager.revoke(id)
    go_on.set()
    await pending
    backend.heal()
    assert (await browser.get()).user is None


async def test_a_revocation_during_a_slow_request_is_not_undone_by_its_response(
    two: tuple[Browser, Browser],
) -> None:
    here, _ = two
    reply = await here.post(f"/revoke/{await own_id(here)}")
    assert reply.token == ""
    assert SESSION not in here.cookies or (await here.get()).user is None
