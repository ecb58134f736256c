"""A browser of another family or in another network: on_new_client; and what is recorded of an address."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from aiohttp import web

from aiohttp_persistent_session import setup
from aiohttp_persistent_session.backends.memory import MemoryBackend
from aiohttp_persistent_session.record import Browser as Seen
from aiohttp_persistent_session.record import is_another_client
from aiohttp_persistent_session.testing import make_record

from .browser import Browser, Clock, Worker, Workers, comes_back, names
from .exchanges import the_record
from .faults import FaultyBackend

CHROME = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{} Safari/537.36"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:{}) Gecko/20100101 Firefox/{}"


@web.middleware
async def behind_a_proxy(request: web.Request, handler: Any) -> web.StreamResponse:
    return await handler(request.clone(remote=request.headers.get("X-From", "203.0.113.7")))


async def a_worker(workers: Workers, backend: FaultyBackend, **options: Any) -> Worker:
    return await workers(backend, prepare=lambda app: app.middlewares.insert(0, behind_a_proxy), **options)


@pytest.fixture
async def browser(workers: Workers, backend: FaultyBackend) -> Browser:
    browser = Browser(await a_worker(workers, backend), user_agent=CHROME.format("130.0.0.0"))
    await browser.sign_in()
    return browser


def new_clients(browser: Browser) -> list[tuple[str, str]]:
    return [(one.user_agent, one.address) for name, one in browser.worker.told if name == "new_client"]


@pytest.mark.parametrize("comes", ["restored", "live"])
async def test_another_family_is_told_of_once(browser: Browser, clock: Clock, comes: str) -> None:
    """The persistent session shows the browser that was seen before."""
    browser.user_agent = FIREFOX.format("131.0", "131.0")
    for _ in range(3):
        clock.advance(61)
        if comes == "restored":
            browser.end_session()
        assert (await browser.get()).user == "alice"
    assert new_clients(browser) == [(CHROME.format("130.0.0.0"), "203.0.113.7")]
    assert browser.worker.manager.counters.new_clients == 1


@pytest.mark.parametrize(
    ("address", "told"),
    [("203.0.113.250", False), ("203.0.114.7", True), ("2001:db8::1", True), ("::ffff:203.0.113.9", False)],
)
async def test_another_network_is_told_of(browser: Browser, clock: Clock, address: str, told: bool) -> None:
    clock.advance(3)
    browser.end_session()
    assert (await browser.get(headers={"X-From": address})).user == "alice"
    assert new_clients(browser) == [(CHROME.format("130.0.0.0"), "203.0.113.7")] * told


async def test_an_update_of_the_browser_is_nothing_new(browser: Browser, clock: Clock) -> None:
    browser.user_agent = CHROME.format("131.0.6778.86")
    assert (await comes_back(browser, clock)).user == "alice"
    assert new_clients(browser) == []


async def test_requests_from_memory_and_joins_tell_nothing(browser: Browser, clock: Clock) -> None:
    """A join may be a copy's: it writes nothing, and it is told of when something is written."""
    browser.user_agent = FIREFOX.format("1", "1")
    clock.advance(30)
    assert (await browser.get()).user == "alice"
    thief = browser.clone()
    browser.user_agent = CHROME.format("130.0.0.0")
    clock.advance(3)
    browser.end_session()
    thief.end_session()
    await browser.get()
    assert (await thief.get()).user == "alice"
    assert "new_client" not in names(browser.worker)


@pytest.mark.parametrize(
    ("before", "now", "differs"),
    [
        (("A/1.0", "192.0.2.1"), ("A/2.0", "192.0.2.99"), False),
        (("A/1.0", "192.0.2.1"), ("B/1.0", "192.0.2.1"), True),
        (("A/1.0", "192.0.2.1"), ("A/1.0", ""), False),
        (("A/1.0", ""), ("A/1.0", "192.0.2.1"), False),
        (("A/1.0", "192.0.2.1"), ("", "192.0.2.1"), True),
        (("A Mobile/15E148", ""), ("A Mobile/22A3370", ""), False),
        (("A", "192.0.2.1:4711"), ("A", "192.0.2.1:4712"), False),
        (("A", "[2001:db8:1::1]:443"), ("A", "2001:db8:1::2"), False),
        (("A", "192.0.2.1"), ("A", "192.0.2.0/24"), False),
        (("A", "192.0.3.1"), ("A", "192.0.2.0/24"), True),
        (("A", "2001:db8:1::1"), ("A", "2001:db8:1:ffff::2"), False),
        (("A", "2001:db8:1::1"), ("A", "2001:db8:2::1"), True),
        (("A", "fe80::1%eth0"), ("A", "fe80::2%eth1"), False),
        (("A", "/run/app.sock"), ("A", "/run/app.sock"), False),
    ],
)
def test_what_is_another_client(before: tuple[str, str], now: tuple[str, str], differs: bool) -> None:
    """The User-Agent without what holds digits, and the /24 or /48; an address not recorded differs from nothing."""
    record = make_record(user_agent=before[0], address=before[1])
    assert is_another_client(record, Seen(*now)) is differs


@pytest.mark.parametrize(
    ("recorded", "address", "kept"),
    [
        ("full", "203.0.113.7", "203.0.113.7"),
        ("network", "203.0.113.7", "203.0.113.0/24"),
        ("network", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ("network", "::ffff:203.0.113.7", "203.0.113.0/24"),
        ("network", "203.0.113.7:4711", "203.0.113.0/24"),
        ("network", " [2001:db8:1:2::9]:443", "2001:db8:1::/48"),
        ("network", "2002:cb00:7109::1", "203.0.113.0/24"),
        ("network", "203.0.113.9, 10.0.0.1", ""),
        ("network", "for=203.0.113.9", ""),
        ("none", "203.0.113.7", ""),
    ],
)
async def test_record_address_says_what_is_kept(
    workers: Workers, backend: FaultyBackend, clock: Clock, recorded: str, address: str, kept: str
) -> None:
    """At the sign-in, at an exchange and at a look."""
    browser = Browser(await a_worker(workers, backend, record_address=recorded))
    await browser.sign_in(headers={"X-From": address})
    for comes in ("signed in", "restored", "live"):
        if comes != "signed in":
            clock.advance(100)
            browser.end_session() if comes == "restored" else None
            await browser.get(headers={"X-From": address})
        record = await the_record(backend)
        assert {record.address, *(one.address for one in record.secrets if one.address is not None)} == {kept}
    assert "new_client" not in names(browser.worker)


def test_the_networks_are_networks() -> None:
    """What is shown can be compared by whoever gets it."""
    for text in ("203.0.113.0/24", "2001:db8:1::/48"):
        assert str(ipaddress.ip_network(text)) == text


@pytest.mark.parametrize("wrong", ["all", "", None, True])
def test_record_address_is_one_of_three(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="record_address"):
        setup(web.Application(), MemoryBackend(), record_address=wrong)
