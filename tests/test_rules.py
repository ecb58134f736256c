"""The rules as what they are, functions: properties over any sequence of exchanges, joins and replays."""

from __future__ import annotations

import ast
import inspect
import secrets
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_persistent_session import record as rules
from aiohttp_persistent_session import tokens
from aiohttp_persistent_session.record import (
    LATE_WINDOW,
    MAX_SPENT,
    Attempt,
    Client,
    Outcome,
    Policy,
    Record,
    Spent,
    current_secret,
    exchange,
    judge,
    touch,
    was_exchanged_with,
    without_answer,
)
from aiohttp_persistent_session.testing import make_record
from aiohttp_persistent_session.tokens import digest, new_salt, successor

NOBODY = Client()


def fresh(policy: Policy) -> tuple[Record, bytes]:
    secret = secrets.token_bytes(32)
    record = make_record(digest=digest(secret), created_at=0.0, seen_at=0.0, expires_at=policy.expires_at(0.0, 0.0))
    return record, secret


pauses = st.one_of(
    st.sampled_from([0.0, 0.001, 1.0, 9.999, 10.0, 10.001, 59.999, 60.0, 60.001, 3600.0]),
    st.floats(0, 200, allow_nan=False),
)
steps = st.lists(st.tuples(pauses, st.integers(0, 25)), max_size=40)
policies = st.builds(
    Policy,
    grace_period=st.sampled_from([0.0, 1.0, 10.0, 60.0, 120.0]),
    max_age=st.sampled_from([3600.0, 30 * 24 * 3600.0]),
    max_lifetime=st.sampled_from([None, 1800.0]),
)


@settings(max_examples=300, deadline=None)
@given(policy=policies, steps=steps)
def test_any_sequence_keeps_the_rules(policy: Policy, steps: list[tuple[float, int]]) -> None:
    """Present any secret there ever was, at any time: one successor a secret, none accepted outside its window."""
    record, secret = fresh(policy)
    lineage = [secret]
    spent_at: dict[bytes, float] = {}
    successors: dict[bytes, bytes] = {}
    now = 0.0
    for pause, back in steps:
        now += pause
        presented = lineage[max(0, len(lineage) - 1 - back)]
        outcome = judge(record, presented, now, policy)
        age = now - spent_at.get(presented, now)
        if now >= record.expires_at:
            assert outcome is Outcome.EXPIRED
            return
        if presented == lineage[-1]:
            assert outcome is Outcome.CURRENT
            salt = new_salt()
            exchanged = exchange(record, presented, salt, now, policy, NOBODY)
            following = successor(presented, salt)
            assert exchanged.digest == digest(following)
            assert exchanged.revision == record.revision + 1
            assert was_exchanged_with(exchanged, salt)
            assert not was_exchanged_with(record, salt)
            assert successors.setdefault(presented, following) == following
            spent_at[presented] = now
            lineage.append(following)
            record = exchanged
        elif outcome is Outcome.RACE:
            assert policy.grace_period > 0
            assert age <= policy.grace_period
            assert current_secret(record, presented) == lineage[-1]
        elif outcome is Outcome.LATE:
            assert policy.grace_period == 0 or age > policy.grace_period
            assert age <= max(LATE_WINDOW, policy.grace_period)
        else:
            assert outcome is Outcome.REUSE
            forgotten = lineage.index(presented) < len(lineage) - 1 - MAX_SPENT
            assert forgotten or age > max(LATE_WINDOW, policy.grace_period)
        assert len(record.spent) <= MAX_SPENT
        assert all(a.at >= b.at for a, b in zip(record.spent, record.spent[1:], strict=False))
        if policy.max_lifetime is not None:
            assert record.expires_at <= policy.max_lifetime


@settings(deadline=None)
@given(policy=policies, other=st.binary(min_size=32, max_size=32), pause=pauses)
def test_a_secret_that_never_was_is_reuse(policy: Policy, other: bytes, pause: float) -> None:
    record, secret = fresh(policy)
    record = exchange(record, secret, new_salt(), 0.0, policy, NOBODY)
    if pause < record.expires_at:
        assert judge(record, other, pause, policy) is Outcome.REUSE


@settings(deadline=None)
@given(salts=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=MAX_SPENT, unique=True))
def test_each_member_of_a_lineage_leads_to_the_current_secret(salts: list[bytes]) -> None:
    policy = Policy()
    record, secret = fresh(policy)
    lineage = [secret]
    for salt in salts:
        record = exchange(record, lineage[-1], salt, 1.0, policy, NOBODY)
        lineage.append(successor(lineage[-1], salt))
    for member in lineage:
        assert current_secret(record, member) == lineage[-1]


@pytest.mark.parametrize(
    ("age", "outcome"),
    [
        (-5.0, Outcome.RACE),  # another worker's clock is ahead
        (0.0, Outcome.RACE),
        (10.0, Outcome.RACE),
        (10.0001, Outcome.LATE),
        (60.0, Outcome.LATE),
        (60.0001, Outcome.REUSE),
    ],
)
def test_both_sides_of_each_boundary(age: float, outcome: Outcome) -> None:
    policy = Policy()
    record, secret = fresh(policy)
    record = exchange(record, secret, new_salt(), 100.0, policy, NOBODY)
    assert judge(record, secret, 100.0 + age, policy) is outcome


@pytest.mark.parametrize("age", [-5.0, 0.0, 5.0])
def test_a_grace_period_of_0_refuses_at_once(age: float) -> None:
    policy = Policy(grace_period=0)
    record, secret = fresh(policy)
    record = exchange(record, secret, new_salt(), 100.0, policy, NOBODY)
    assert judge(record, secret, 100.0 + age, policy) is Outcome.LATE


def test_the_instant_of_expiry_belongs_to_what_is_expired() -> None:
    policy = Policy()
    record, secret = fresh(policy)
    assert judge(record, secret, record.expires_at - 0.001, policy) is Outcome.CURRENT
    assert judge(record, secret, record.expires_at, policy) is Outcome.EXPIRED


def test_no_record_is_unknown() -> None:
    assert judge(None, b"x" * 32, 0.0, Policy()) is Outcome.UNKNOWN


def test_a_lineage_that_a_store_mixed_up_is_never_joined() -> None:
    """Nor called reuse: it is not the browser's doing."""
    policy = Policy()
    record, secret = fresh(policy)
    for _ in range(3):
        salt = new_salt()
        record = exchange(record, secret, salt, 1.0, policy, NOBODY)
        secret, first = successor(secret, salt), secret
    broken = replace(record, spent=(Spent(digest(b"other"), new_salt(), 1.0), *record.spent[1:]))
    assert judge(broken, first, 2.0, policy) in (Outcome.LATE, Outcome.REUSE)
    reversed_ = replace(record, spent=(replace(record.spent[0], salt=new_salt()), *record.spent[1:]))
    assert judge(reversed_, first, 2.0, policy) is Outcome.LATE


def test_expiry_slides_and_stops_at_max_lifetime() -> None:
    policy = Policy(max_age=100, check_interval=10, max_lifetime=250)
    assert policy.expires_at(0, 0) == 110
    assert policy.expires_at(0, 100) == 210
    assert policy.expires_at(0, 200) == 250
    assert policy.cookie_max_age(policy.ends_at(0), 100) == 100
    assert policy.cookie_max_age(policy.ends_at(0), 249.5) == 0
    assert policy.cookie_max_age(policy.ends_at(0), 300) == 0


def test_a_touch_moves_time_and_client_and_no_secret() -> None:
    policy = Policy()
    record, _ = fresh(policy)
    touched = touch(record, 50.0, policy, Client("agent", "192.0.2.1"))
    assert touched == replace(
        record,
        seen_at=50.0,
        expires_at=policy.expires_at(0.0, 50.0),
        user_agent="agent",
        address="192.0.2.1",
        revision=1,
    )


@pytest.mark.parametrize("presented", [0, 1, 2, 3])
def test_of_exchanges_without_an_answer_any_secret_leads_to_one_that_nobody_holds(presented: int) -> None:
    policy = Policy()
    record, secret = fresh(policy)
    handed_out = [secret]
    for number in range(3):
        salt = bytes([number]) * 32
        record = exchange(record, secret, salt, 10.0 * number, policy, Client())
        attempt = Attempt(record.spent[0], digest(secret), record.revision)
        settled = without_answer(record, [attempt])
        assert settled is not None
        record = settled
        handed_out.append(current_secret(record, secret) or b"")
    assert judge(record, handed_out[presented], 3 * 24 * 3600.0, policy) is Outcome.CURRENT
    record = exchange(record, handed_out[presented], b"x" * 32, 1000.0, policy, Client())
    assert current_secret(record, secret) not in handed_out
    assert {judge(record, one, 1005.0, policy) for one in handed_out} == {Outcome.RACE}
    assert {judge(record, one, 1500.0, policy) for one in handed_out} == {Outcome.REUSE}


def test_more_exchanges_in_a_row_may_be_without_an_answer_than_a_record_remembers() -> None:
    """As with a store that does its writes, but is slow to acknowledge them, and a page that reloads by itself."""
    policy, now = Policy(), 0.0
    record, secret = fresh(policy)
    for _ in range(3 * MAX_SPENT):
        record = exchange(record, secret, new_salt(), now, policy, NOBODY)
        settled = without_answer(record, [Attempt(record.spent[0], digest(secret), record.revision)])
        assert settled is not None
        record, now = settled, now + 75
        assert judge(record, secret, now, policy) is Outcome.CURRENT
    record = exchange(record, secret, new_salt(), now, policy, NOBODY)
    following = current_secret(record, secret)
    assert following is not None
    assert judge(record, secret, now + 5, policy) is Outcome.RACE
    assert judge(record, secret, now + 61, policy) is Outcome.REUSE
    assert judge(record, following, now + 61, policy) is Outcome.CURRENT


def test_only_a_secret_that_was_judged_current_is_exchanged() -> None:
    policy = Policy()
    record, _ = fresh(policy)
    with pytest.raises(ValueError, match="current"):
        exchange(record, b"another" * 4, b"x" * 32, 1.0, policy, Client())


def test_a_touch_by_who_presents_the_current_secret_closes_what_had_no_answer() -> None:
    policy = Policy()
    record, secret = fresh(policy)
    record = exchange(record, secret, b"x" * 32, 1.0, policy, Client())
    record = without_answer(record, [Attempt(record.spent[0], digest(secret), record.revision)]) or record
    current = current_secret(record, secret)
    for presents, outcome in ((None, Outcome.CURRENT), (secret, Outcome.CURRENT), (current, Outcome.RACE)):
        assert judge(touch(record, 50.0, policy, Client(), presents), secret, 51.0, policy) is outcome


def test_spent_entries_are_dropped_when_nothing_asks_for_them_any_more() -> None:
    policy = Policy()
    record, secret = fresh(policy)
    for now in (0.0, 60.0, 120.1):
        salt = new_salt()
        record = exchange(record, secret, salt, now, policy, NOBODY)
        secret = successor(secret, salt)
    assert [entry.at for entry in record.spent] == [120.1]


@pytest.mark.parametrize("module", [rules, tokens])
def test_the_rules_know_no_clock_no_store_and_no_request(module: object) -> None:
    imported = {
        name
        for node in ast.walk(ast.parse(inspect.getsource(module)))  # type: ignore[arg-type]
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"time", "asyncio", "aiohttp", "aiohttp_session", "random"}
