"""Options: durations in words, ids of users as they are stored, and the options of today over records of yesterday."""

from __future__ import annotations

import inspect
from datetime import timedelta
from enum import Enum, IntEnum
from typing import Any

import pytest
from aiohttp import web

from aiohttp_persistent_session import MemoryBackend, PersistentSessionManager, setup
from aiohttp_persistent_session.options import in_words, user_id
from aiohttp_persistent_session.policy import Policy

from .browser import DAY, TOKEN, Browser, Clock, Workers
from .faults import FaultyBackend

EVERY_STORE = ("memory", "redis")

HOUR = 3600.0


# Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.25, "0.25 s"),
        (1, "1 s"),
        (1.5, "1.5 s"),
        (59, "59 s"),
        (60, "1 minute"),
        (90, "1.5 minutes"),
        (600, "10 minutes"),
        (3600, "1 hour"),
        (5400, "1.5 hours"),
        (DAY, "1 day"),
        (30 * DAY, "30 days"),
        (400 * DAY, "400 days"),
        (500 * DAY, "500 days"),
        (-5, "-5 s"),
        (43_200_000, "500 days"),
    ],
)
def test_durations_are_said_as_a_person_says_them(seconds: float, words: str) -> None:
    """No exponent, and no more seconds than one can picture."""
    assert in_words(seconds) == words


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_age": timedelta(days=500)},
            "max_age must be at least 1 s and at most 400 days, not 500 days (a number counts seconds)",
        ),
        (
            {"max_age": 30 * DAY * 1000},
            "max_age must be at least 1 s and at most 400 days, not 30000 days (a number counts seconds)",
        ),
        (
            {"grace_period": 10_000},
            "grace_period must be at least 0 s and at most 1 hour, not 2.8 hours (a number counts seconds)",
        ),
        (
            {"timeout": 2000},
            "timeout must be at least 0 s and at most 5 minutes, not 33.3 minutes (a number counts seconds)",
        ),
        ({"rotate_interval": 5}, "rotate_interval must be at least 1 minute, not 5 s (a number counts seconds)"),
        ({"check_interval": -1}, "check_interval must be at least 0 s, not -1 s (a number counts seconds)"),
        ({"check_interval": 31 * DAY}, "check_interval (31 days) must not exceed max_age (30 days)"),
        ({"grace_period": 90, "max_age": 60}, "grace_period (1.5 minutes) must not exceed max_age (1 minute)"),
    ],
)
def test_a_duration_out_of_range_is_told_in_words(options: dict[str, Any], message: str) -> None:
    """The message says the option, its limits and what was given, and that numbers count seconds."""
    with pytest.raises(ValueError, match="must") as caught:
        PersistentSessionManager(MemoryBackend(), **options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"max_age": 400 * DAY + 1}, "400 days"),
        ({"grace_period": 3601}, "1 hour"),
        ({"timeout": 300.5}, "5 minutes"),
        ({"rotate_interval": 59.99}, "1 minute"),
    ],
)
def test_what_is_a_little_beyond_a_limit_does_not_read_like_the_limit(options: dict[str, Any], limit: str) -> None:
    """A message that said "at most 400 days, not 400.0 days" would be of no help."""
    with pytest.raises(ValueError, match=limit) as caught:
        PersistentSessionManager(MemoryBackend(), **options)
    number, unit = limit.split()
    given = str(caught.value).partition(", not ")[2]
    assert not given.startswith((f"{number} {unit}", f"{number}.0 {unit}"))


# Defaults and types


def test_the_defaults_of_setup_are_those_of_the_manager_and_the_rules() -> None:
    """An administrator's job that opens a manager with no option goes by the same rules as the application."""
    defaults = {name: one.default for name, one in inspect.signature(setup).parameters.items()}
    policy = PersistentSessionManager(MemoryBackend()).policy
    assert policy == Policy() == setup(web.Application(), backend=MemoryBackend()).policy
    for name in Policy.__slots__:
        default = defaults[name]
        expected = default.total_seconds() if isinstance(default, timedelta) else default
        assert getattr(policy, name) == expected, name
    of_manager = {name: one.default for name, one in inspect.signature(PersistentSessionManager).parameters.items()}
    for name in ("max_sessions", "timeout", "require_store"):
        assert of_manager[name] == defaults[name], name


def test_the_documented_defaults() -> None:
    """Each is what the documentation promises."""
    defaults = {name: one.default for name, one in inspect.signature(setup).parameters.items()}
    del defaults["app"], defaults["backend"]
    assert defaults == {
        "max_age": timedelta(days=30),
        "cookie_name": None,
        "path": "/",
        "domain": None,
        "secure": True,
        "samesite": "Lax",
        "partitioned": False,
        "session_key": "user",
        "grace_period": 10,
        "check_interval": 60,
        "rotate_interval": timedelta(days=1),
        "strict": False,
        "max_lifetime": None,
        "browser_session_max_age": timedelta(days=1),
        "max_sessions": 100,
        "validate": None,
        "timeout": 2,
        "require_store": False,
        "record_address": "full",
    }


def test_members_of_enumerations_are_stored_as_what_they_stand_for() -> None:
    """A member would not come back from a store as what it was."""

    class Name(str, Enum):  # noqa: UP042 -- its str() differs from its value, which is the point
        ALICE = "alice"

    class Number(IntEnum):
        ONE = 1

    assert (user_id(Name.ALICE), type(user_id(Name.ALICE))) == ("alice", str)
    assert (user_id(Number.ONE), type(user_id(Number.ONE))) == (1, int)


# Today's options over yesterday's records


async def test_a_max_age_that_was_cut_binds_the_records_of_before(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """After it is cut to a day, a browser that was away for ten days is not restored, and nothing is prolonged."""
    browser = Browser(await workers(backend))
    await browser.sign_in()
    clock.advance(10 * DAY)
    today = await workers(backend, max_age=timedelta(days=1))
    browser.end_session()
    reply = await browser.get(to=today)
    assert (reply.user, reply.cookies) == (None, {})
    assert await today.manager.sessions("alice") == []


async def test_a_live_session_is_renewed_by_the_max_age_of_today(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """Its cookie and what is shown of its expiry are cut with the first request."""
    browser = Browser(await workers(backend))
    await browser.sign_in()
    clock.advance(HOUR)
    today = await workers(backend, max_age=timedelta(days=1))
    reply = await browser.get(to=today)
    assert (reply.user, reply.cookies[TOKEN]["max-age"]) == ("alice", str(DAY))
    (session,) = await today.manager.sessions("alice")
    assert session.expires_at.timestamp() == pytest.approx(clock.now + DAY + 60, rel=0, abs=0.01)


async def test_a_max_age_that_was_raised_keeps_those_in_whose_record_would_have_expired(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """As long as the store still has the record: its own garbage collection goes by what was written."""
    browser = Browser(await workers(backend, max_age=10 * DAY))
    await browser.sign_in()
    clock.advance(5 * DAY)
    today = await workers(backend)
    browser.end_session()
    await browser.get(to=today)
    clock.advance(20 * DAY)
    browser.end_session()
    assert (await browser.get(to=today)).user == "alice"


@pytest.mark.parametrize("live", [True, False])
async def test_a_max_lifetime_that_was_introduced_lets_no_further_request_in(
    workers: Workers, backend: FaultyBackend, clock: Clock, live: bool
) -> None:
    """A persistent session that is older than it ends with the deployment, live or not."""
    browser = Browser(await workers(backend))
    await browser.sign_in()
    for _ in range(10):
        clock.advance(DAY)
        await browser.get()
    today = await workers(backend, max_lifetime=timedelta(days=5))
    if not live:
        browser.end_session()
    reply = await browser.get(to=today)
    assert (reply.user, reply.cookies) == (None, {})


async def test_max_lifetime_ends_a_live_session_in_the_instant_that_it_is_over(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """A millisecond before it the visitor is in; what a worker remembers of the record ends with it."""
    browser = Browser(await workers(backend, max_lifetime=100))
    await browser.sign_in()
    (record,) = await backend.of_user("alice", 10)
    clock.now = record.created_at + 99.999
    assert (await browser.get()).user == "alice"
    clock.now = record.created_at + 100
    assert (await browser.get()).user is None


@pytest.mark.parametrize("switched", [{"strict": True}, {"grace_period": 0}, {"rotate_interval": 60}])
async def test_a_deployment_that_changes_options_accuses_nobody(
    workers: Workers, backend: FaultyBackend, clock: Clock, switched: dict[str, Any]
) -> None:
    """Tokens that are under way while it happens stay valid."""
    before, after = await workers(backend), await workers(backend, **switched)
    browser = Browser(before)
    await browser.sign_in()
    browser.end_session()
    lost = browser.clone()
    await browser.get()
    clock.advance(30)
    assert (await lost.get(to=after)).user == "alice"
    for _ in range(3):
        clock.advance(30)
        assert (await lost.get(to=after)).user == "alice"
    assert "reuse" not in dict(before.events) | dict(after.events)


async def test_max_sessions_that_was_lowered_binds_the_next_sign_in(
    workers: Workers, backend: FaultyBackend, clock: Clock
) -> None:
    """The least recently seen give way, until as many are left as are allowed."""
    worker = await workers(backend, max_sessions=None)
    for _ in range(10):
        clock.advance(1)
        await Browser(worker).sign_in()
    clock.advance(1)
    today = await workers(backend, max_sessions=3)
    newest = Browser(today)
    await newest.sign_in()
    assert len(await today.manager.sessions("alice")) == 3
    assert (await newest.get()).user == "alice"
    assert [session.reason for name, session in today.told if name == "revoke"] == ["too many"] * 8
