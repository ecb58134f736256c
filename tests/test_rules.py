"""The rules as what they are, functions: each of the 13, both sides of each boundary, and any sequence of them."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiohttp_persistent_session import MemoryBackend, PersistentSessionManager, Record, Secret, rules
from aiohttp_persistent_session.policy import CLOCK_TOLERANCE, ISSUE_INTERVAL, SETTLE_TIME, Policy
from aiohttp_persistent_session.record import Browser
from aiohttp_persistent_session.rules import MAX_SECRETS, Moment, Outcome, Verdict
from aiohttp_persistent_session.tokens import digest

BEGINNING = 1_700_000_000.0
"""When the persistent session of each example began."""
DAY = 24 * 3600.0
MILLISECOND = 0.001
BROWSER = Browser("Laptop/1.0", "192.0.2.1")
FIRST, SECOND, THIRD, OFFERED, STRANGER = (
    name.ljust(32, b".") for name in (b"first", b"second", b"third", b"offered", b"stranger")
)
"""What stands for digests of secrets."""


def issued(name: bytes = FIRST, age: float = 0, **fields: Any) -> Secret:
    """Return a secret that was issued so many seconds before the beginning."""
    return Secret(name, BEGINNING - age, **fields)


def record_of(*secrets: Secret, **fields: Any) -> Record:
    """Return a record that holds these secrets, or the one of a sign-in."""
    defaults: dict[str, Any] = {"user": "alice", "created_at": BEGINNING, "seen_at": BEGINNING, "expires_at": 0.0}
    return Record("A" * 22, secrets=secrets or (issued(),), **defaults | fields)


def moment(after: float = 0, offered: bytes | None = OFFERED, **policy: Any) -> Moment:
    """Return a moment so many seconds after the beginning, with these options."""
    return Moment(BEGINNING + after, Policy(**policy), BROWSER, offered)


def stored(verdict: Verdict) -> Record:
    """Return the record that the verdict stores."""
    assert verdict.writes
    assert verdict.record is not None
    return verdict.record


def names(record: Record | None) -> list[bytes]:
    assert record is not None
    return [secret.digest for secret in record.secrets]


def by_name(record: Record | None, name: bytes) -> Secret:
    assert record is not None
    (found,) = (secret for secret in record.secrets if secret.digest == name)
    return found


# Rule 1: sign-in


def test_a_sign_in_issues_the_first_secret_for_session_0() -> None:
    """A new record holds one secret, of session 0, that nobody has exchanged."""
    registry = PersistentSessionManager(MemoryBackend()).registry
    token, record = registry.new_record("alice", BROWSER)
    assert record.secrets == (Secret(token.digest, record.created_at),)
    assert (record.last_session, record.secrets[0].session, record.revision) == (0, 0, 0)
    assert (record.user_agent, record.address) == (BROWSER.user_agent, BROWSER.address)


def test_a_sign_in_does_not_count_as_an_issue() -> None:
    """A token that is presented in the moment of its sign-in is exchanged."""
    assert rules.restore(record_of(), FIRST, moment(0)).outcome is Outcome.EXCHANGE


# Rule 2: exchange


def test_an_exchange_issues_a_secret_beside_the_presented_one() -> None:
    """The new secret belongs to the next session number, the presented one stays valid, and the request is noted."""
    record = record_of(issued(session=3), last_session=5, revision=7)
    verdict = rules.restore(record, FIRST, moment(50))
    assert (verdict.outcome, verdict.session, verdict.issued) == (Outcome.EXCHANGE, 6, OFFERED)
    now = BEGINNING + 50
    assert stored(verdict) == replace(
        record,
        secrets=(
            Secret(FIRST, BEGINNING, session=3, exchanged_at=now, shown=True),
            Secret(OFFERED, now, session=6, user_agent=BROWSER.user_agent, address=BROWSER.address),
        ),
        last_session=6,
        issued_last_at=now,
        revision=8,
        seen_at=now,
        expires_at=now + 30 * DAY + 60,
        user_agent=BROWSER.user_agent,
        address=BROWSER.address,
    )


def test_the_time_of_a_first_exchange_never_moves() -> None:
    """A secret that is exchanged again keeps the time of its first exchange."""
    once = stored(rules.restore(record_of(), FIRST, moment(5)))
    again = stored(rules.restore(once, FIRST, moment(40, THIRD)))
    assert by_name(again, FIRST).exchanged_at == BEGINNING + 5
    assert names(again) == [FIRST, OFFERED, THIRD]
    assert [secret.session for secret in again.secrets] == [0, 1, 2]


def test_a_valid_secret_joins_where_none_may_be_issued() -> None:
    """After five lost swaps, and on a static route, nothing is offered: the request joins."""
    record = record_of(issued(session=4), last_session=4)
    assert rules.restore(record, FIRST, moment(50, None)) == Verdict(Outcome.JOIN, record, session=4)


# Rule 3: join


@pytest.mark.parametrize(
    ("grace_period", "age", "outcome"),
    [
        (10, -5, Outcome.JOIN),  # another worker's clock is ahead
        (10, 0, Outcome.JOIN),
        (10, 10, Outcome.JOIN),
        (10, 10 + MILLISECOND, Outcome.EXCHANGE),
        (120, 120, Outcome.JOIN),
        (120, 120 + MILLISECOND, Outcome.EXCHANGE),
        (0, 0, Outcome.JOIN),
        (0, MILLISECOND, Outcome.EXCHANGE),
    ],
)
def test_a_secret_joins_its_own_first_exchange(grace_period: float, age: float, outcome: Outcome) -> None:
    """Within the grace period of its first exchange, counted from that alone, a secret opens no second session."""
    record = record_of(issued(age=100, exchanged_at=BEGINNING))
    assert rules.restore(record, FIRST, moment(age, grace_period=grace_period)).outcome is outcome


@pytest.mark.parametrize(
    ("age", "outcome"),
    [
        (-5, Outcome.JOIN),
        (0, Outcome.JOIN),
        (ISSUE_INTERVAL, Outcome.JOIN),
        (ISSUE_INTERVAL + MILLISECOND, Outcome.EXCHANGE),
    ],
)
@pytest.mark.parametrize("grace_period", [0, 10])
def test_a_secret_joins_whatever_the_record_issued_within_2_s(
    age: float, outcome: Outcome, grace_period: float
) -> None:
    """A record issues one secret in 2 s at most, whichever was presented for it, an exchange or a rotation."""
    record = record_of(issued(age=100), issued_last_at=BEGINNING)
    assert rules.restore(record, FIRST, moment(age, grace_period=grace_period)).outcome is outcome


def test_a_join_writes_nothing_and_has_the_number_of_the_presented_secret() -> None:
    """Who joins gets no token, leaves the record as it is, and belongs to the session of what was presented."""
    record = record_of(issued(session=2, exchanged_at=BEGINNING), issued(SECOND, session=3), last_session=3)
    assert rules.restore(record, FIRST, moment(5)) == Verdict(Outcome.JOIN, record, session=2)


def test_a_thief_who_exchanges_every_10_s_does_not_keep_the_owner_joining() -> None:
    """The owner's grace period counts from the exchange of his own secret, not from the record's last one."""
    record, thiefs = stored(rules.restore(record_of(), FIRST, moment(0, SECOND))), SECOND
    for number in range(1, 5):
        successor = digest(b"thief's %d" % number)
        record = stored(rules.restore(record, thiefs, moment(10.5 * number, successor)))
        thiefs = successor
    assert rules.restore(record, FIRST, moment(45)).outcome is Outcome.EXCHANGE


# Rule 4: drop


@pytest.mark.parametrize("judge", ["restore", "check"])
@pytest.mark.parametrize(
    ("presented_age", "other_age", "stays"),
    [
        (SETTLE_TIME, SETTLE_TIME + 1, True),
        (SETTLE_TIME, 10 * DAY, True),
        (SETTLE_TIME + MILLISECOND, SETTLE_TIME, True),
        (SETTLE_TIME + MILLISECOND, SETTLE_TIME + MILLISECOND, False),
        (SETTLE_TIME + MILLISECOND, 10 * DAY, False),
        (10 * DAY, 0, True),
        (0, 10 * DAY, True),
    ],
)
def test_a_presented_secret_drops_others_once_both_have_settled(
    judge: str, presented_age: float, other_age: float, stays: bool
) -> None:
    """Both must have been issued more than 90 s ago, whichever is older; what was presented stays."""
    record = record_of(issued(SECOND, other_age, shown=True), issued(FIRST, presented_age))
    now = moment(0, rotate_interval=None)
    verdict = rules.restore(record, FIRST, now) if judge == "restore" else rules.check(record, FIRST, 0, now)
    assert (SECOND in names(stored(verdict))) is stays
    assert FIRST in names(verdict.record)


@pytest.mark.parametrize("offered", [OFFERED, None])
def test_a_join_drops_nothing(offered: bytes | None) -> None:
    """A request that joins presents nothing, whatever has settled."""
    record = record_of(issued(SECOND, DAY), issued(FIRST, DAY, exchanged_at=BEGINNING if offered else None))
    verdict = rules.restore(record, FIRST, moment(5, offered))
    assert (verdict.outcome, verdict.record) == (Outcome.JOIN, record)


def test_a_live_request_without_a_token_drops_nothing() -> None:
    """Its session says nothing of which tokens the browser still holds."""
    record = record_of(issued(SECOND, DAY), issued(FIRST, DAY, session=1), last_session=1)
    assert names(stored(rules.check(record, None, 1, moment(120)))) == [SECOND, FIRST]


# Rule 5: reuse


@pytest.mark.parametrize("after", [0, 5, DAY])
def test_a_secret_that_is_not_valid_is_a_copy(after: float) -> None:
    """Before anybody is accused, a swap of the judged revision takes all secrets away."""
    record = record_of(issued(exchanged_at=BEGINNING), issued(SECOND, session=1), last_session=1)
    verdict = rules.restore(record, STRANGER, moment(after))
    assert verdict.outcome is Outcome.REUSE
    assert stored(verdict) == replace(record, secrets=(), revision=1)
    assert verdict.issued is None
    assert verdict.left_behind == ()


def test_a_dropped_secret_is_a_copy() -> None:
    """What rule 4 has dropped is worth as much as what never was."""
    record = stored(rules.restore(record_of(), FIRST, moment(0)))
    record = stored(rules.check(record, OFFERED, 1, moment(SETTLE_TIME + MILLISECOND)))
    assert names(record) == [OFFERED]
    assert rules.restore(record, FIRST, moment(120, THIRD)).outcome is Outcome.REUSE


def test_an_accused_record_accuses_whoever_comes_next() -> None:
    """Where it could not be deleted, each secret that is presented ends it anew."""
    accused = stored(rules.restore(record_of(), STRANGER, moment(0)))
    assert rules.restore(accused, FIRST, moment(1)).outcome is Outcome.REUSE
    assert rules.check(accused, FIRST, 0, moment(1)).outcome is Outcome.REUSE


# Rule 6: a live session


SESSIONS = record_of(issued(session=2), issued(SECOND, session=4), last_session=5)


@pytest.mark.parametrize("session", [0, 1, 2, 3, 4, 5, 6, 99])
@pytest.mark.parametrize("presented", [FIRST, SECOND])
def test_a_live_session_goes_on_with_any_valid_token_whatever_its_number(session: int, presented: bytes) -> None:
    """The number stays the session's own."""
    verdict = rules.check(SESSIONS, presented, session, moment(5))
    assert (verdict.outcome, verdict.session) == (Outcome.LIVE, session)


@pytest.mark.parametrize("session", [0, 2, 4, 5])
def test_a_live_session_with_an_invalid_token_is_reuse(session: int) -> None:
    """So an owner who is browsing finds the thief out."""
    verdict = rules.check(SESSIONS, STRANGER, session, moment(5))
    assert verdict.outcome is Outcome.REUSE
    assert stored(verdict).secrets == ()


@pytest.mark.parametrize(
    ("session", "outcome"),
    [
        (0, Outcome.ENDED),
        (1, Outcome.ENDED),
        (2, Outcome.LIVE),
        (3, Outcome.ENDED),
        (4, Outcome.LIVE),
        (5, Outcome.ENDED),
        (6, Outcome.LOST),
    ],
)
def test_without_a_token_a_live_session_needs_the_number_of_a_valid_secret(session: int, outcome: Outcome) -> None:
    """Otherwise a later exchange has superseded it; a number that the record never gave shows that writes are lost."""
    assert rules.check(SESSIONS, None, session, moment(5)).outcome is outcome


@pytest.mark.parametrize("presented", [None, STRANGER])
def test_a_number_higher_than_any_accuses_nobody(presented: bytes | None) -> None:
    """The store has lost writes: the record ends, by a swap as well."""
    verdict = rules.check(SESSIONS, presented, 6, moment(5))
    assert verdict.outcome is Outcome.LOST
    assert stored(verdict) == replace(SESSIONS, secrets=(), revision=1)


def test_a_superseded_session_leaves_the_record_alone() -> None:
    """Its request is served as anonymous, and nothing is written."""
    assert rules.check(SESSIONS, None, 3, moment(300)) == Verdict(Outcome.ENDED, SESSIONS)


@pytest.mark.parametrize(
    ("after", "check_interval", "writes"),
    [
        (60 - MILLISECOND, 60, False),
        (60, 60, True),
        (-5, 60, False),
        (1 - MILLISECOND, 0, False),  # or each live request would write
        (1, 0, True),
    ],
)
@pytest.mark.parametrize("presented", [FIRST, None])
def test_a_check_writes_where_nobody_wrote_within_the_interval(
    after: float, check_interval: float, writes: bool, presented: bytes | None
) -> None:
    """The write moves when the session was seen, and the expiry."""
    record = record_of(issued(shown=True))
    verdict = rules.check(record, presented, 0, moment(after, check_interval=check_interval))
    assert (verdict.outcome, verdict.writes) == (Outcome.LIVE, writes)
    if writes:
        now = BEGINNING + after
        assert verdict.record == replace(
            record,
            secrets=(replace(record.secrets[0], seen_at=now),),
            seen_at=now,
            expires_at=now + 30 * DAY + max(check_interval, 1),
            user_agent=BROWSER.user_agent,
            address=BROWSER.address,
            revision=1,
        )
    else:
        assert verdict.record is record


def test_the_first_check_that_is_shown_a_secret_notes_it() -> None:
    """Only a token that was presented counts as shown; a session without one moves the time alone."""
    record = record_of(issued(session=1), last_session=1)
    assert by_name(stored(rules.check(record, FIRST, 1, moment(5))), FIRST).shown
    seen = by_name(stored(rules.check(record, None, 1, moment(60))), FIRST)
    assert (seen.shown, seen.seen_at) == (False, BEGINNING + 60)


def test_a_check_moves_the_time_of_its_own_sessions_secrets_alone() -> None:
    """The time tells how long a session was used, so another session must not move it."""
    record = record_of(issued(session=1), issued(SECOND, session=2), last_session=2)
    checked = stored(rules.check(record, SECOND, 1, moment(60)))
    assert (by_name(checked, FIRST).seen_at, by_name(checked, SECOND).seen_at) == (BEGINNING + 60, None)


# Rule 7: rotation while live


@pytest.mark.parametrize(
    ("secret", "after", "options", "rotates"),
    [
        (issued(), DAY, {}, False),
        (issued(), DAY + MILLISECOND, {}, True),
        (issued(), 60, {"rotate_interval": 60.0}, False),
        (issued(), 60 + MILLISECOND, {"rotate_interval": 60.0}, True),
        (issued(), 29 * DAY, {"rotate_interval": None}, False),
        (issued(age=20 * DAY, exchanged_at=BEGINNING), 10, {}, False),
        (issued(age=20 * DAY, exchanged_at=BEGINNING), 10 + MILLISECOND, {}, True),
        (issued(exchanged_at=BEGINNING), 10 + MILLISECOND, {"rotate_interval": None}, True),
        (issued(exchanged_at=BEGINNING), 120, {"grace_period": 120.0}, False),
        (issued(exchanged_at=BEGINNING), 120 + MILLISECOND, {"grace_period": 120.0}, True),
        (issued(exchanged_at=BEGINNING, until=BEGINNING + 60), 40, {}, False),
    ],
)
def test_a_live_session_moves_on_from_a_secret_that_is_old_or_spent(
    secret: Secret, after: float, options: dict[str, Any], rotates: bool
) -> None:
    """Older than the interval, or exchanged longer ago than the grace period: whichever was presented."""
    verdict = rules.check(record_of(secret), FIRST, 0, moment(after, **options))
    assert verdict.outcome is Outcome.LIVE
    assert (verdict.issued == OFFERED) is rotates
    assert (OFFERED in names(verdict.record)) is rotates


def test_a_rotation_issues_for_the_session_of_the_presented_secret() -> None:
    """No session number is given, no browser is noted, and the presented secret counts as spent from now on."""
    record = record_of(issued(session=3, age=2 * DAY), issued(SECOND, session=5), last_session=5)
    verdict = rules.check(record, FIRST, 5, moment(0))
    rotated = stored(verdict)
    assert (verdict.session, rotated.last_session, rotated.issued_last_at) == (5, 5, BEGINNING)
    assert by_name(rotated, OFFERED) == Secret(OFFERED, BEGINNING, session=3)
    assert by_name(rotated, FIRST).exchanged_at == BEGINNING
    assert by_name(rotated, SECOND) == replace(record.secrets[1], seen_at=BEGINNING)


@pytest.mark.parametrize(
    ("age", "rotates"), [(0, False), (ISSUE_INTERVAL, False), (ISSUE_INTERVAL + MILLISECOND, True)]
)
def test_a_session_rotates_once_in_2_s_at_most(age: float, rotates: bool) -> None:
    """Requests of one session at once get one new secret by a rotation."""
    record = record_of(issued(age=2 * DAY, exchanged_at=BEGINNING - DAY), issued(SECOND), issued_last_at=BEGINNING)
    assert (rules.check(record, FIRST, 0, moment(age)).issued == OFFERED) is rotates


@pytest.mark.parametrize("other", [issued(SECOND, session=1, user_agent="Thief/6.6"), issued(SECOND, session=1)])
def test_what_others_get_keeps_no_owner_from_moving_on(other: Secret) -> None:
    """A thief who exchanges, or whose session rotates, every 2 s would keep the owner on the copied secret."""
    record = record_of(
        issued(age=2 * DAY, exchanged_at=BEGINNING - DAY), other, last_session=1, issued_last_at=BEGINNING
    )
    assert rules.check(record, FIRST, 0, moment(1)).issued == OFFERED


@pytest.mark.parametrize(("presented", "offered"), [(None, OFFERED), (FIRST, None)])
def test_no_rotation_without_a_token_or_a_response_that_can_carry_one(
    presented: bytes | None, offered: bytes | None
) -> None:
    """Which secret the browser holds is not known without a token, and a static file stays cacheable."""
    verdict = rules.check(record_of(issued(age=2 * DAY)), presented, 0, moment(0, offered))
    assert (verdict.outcome, verdict.issued, names(verdict.record)) == (Outcome.LIVE, None, [FIRST])


def test_a_rotated_secret_is_not_rotated_again_within_the_grace_period() -> None:
    """Requests that were under way present the old secret for a while: they get no token each."""
    rotated = stored(rules.check(record_of(), FIRST, 0, moment(2 * DAY)))
    assert rules.check(rotated, FIRST, 0, moment(2 * DAY + 10, THIRD)).issued is None
    assert rules.check(rotated, FIRST, 0, moment(2 * DAY + 10 + MILLISECOND, THIRD)).issued == THIRD


# Rule 8: repeat


def exchanged_and_not_shown(**fields: Any) -> Record:
    """Return a record whose first secret was exchanged at the beginning, for one that nobody has shown."""
    record = stored(rules.restore(record_of(issued(age=30)), FIRST, moment(0, SECOND)))
    return replace(record, secrets=(record.secrets[0], replace(record.secrets[1], **fields)))


@pytest.mark.parametrize(
    ("after", "reported"), [(10, False), (10 + MILLISECOND, True), (SETTLE_TIME + 1, True), (29 * DAY, True)]
)
def test_an_exchange_reports_what_nobody_showed(after: float, reported: bool) -> None:
    """The secret is marked in the same swap, and whoever won it is told which one it is."""
    record = exchanged_and_not_shown()
    verdict = rules.restore(record, FIRST, moment(after))
    assert verdict.outcome is (Outcome.EXCHANGE if reported else Outcome.JOIN)
    assert verdict.left_behind == ((record.secrets[1],) if reported else ())
    if reported and after <= SETTLE_TIME:
        assert by_name(verdict.record, SECOND).reported
        assert not by_name(verdict.record, OFFERED).reported


def test_each_unseen_secret_is_reported_once() -> None:
    """A browser whose answers are all lost causes one report for each."""
    record, reported, offered = record_of(), [], FIRST
    for number in range(6):
        offered = digest(b"offered %d" % number)
        verdict = rules.restore(record, FIRST, moment(11 * number, offered))
        reported += [secret.digest for secret in verdict.left_behind]
        record = stored(verdict)
    assert reported == names(record)[1:-1]
    assert [secret.reported for secret in record.secrets] == [False, True, True, True, True, True, False]


@pytest.mark.parametrize(
    ("fields", "reported"),
    [
        ({}, True),
        ({"seen_at": BEGINNING + 9}, True),  # a session without its token was used: somebody received the answer
        ({"shown": True}, True),  # a thief who shows his once must not silence the report
        ({"exchanged_at": BEGINNING + 9}, False),  # its holder moved on, and holds another one
        ({"reported": True}, False),
        ({"user_agent": None, "address": None}, False),  # a rotation, or a sign-in
        ({"user_agent": "", "address": ""}, True),  # a client that says nothing of itself
    ],
)
def test_what_counts_as_left_behind(fields: dict[str, Any], reported: bool) -> None:
    """Issued by an exchange, neither exchanged nor rotated since, and not reported yet."""
    record = exchanged_and_not_shown(**fields)
    assert bool(rules.restore(record, FIRST, moment(60)).left_behind) is reported


def test_an_exchange_of_what_was_not_exchanged_before_is_no_repeat() -> None:
    """The other secret may still be on its way to the browser."""
    record = exchanged_and_not_shown()
    assert rules.restore(record, SECOND, moment(60)).left_behind == ()
    beside = record_of(issued(), issued(SECOND, user_agent="", session=1), last_session=1)
    assert rules.restore(beside, FIRST, moment(60)).left_behind == ()


@pytest.mark.parametrize(("after", "reported"), [(SETTLE_TIME, False), (SETTLE_TIME + MILLISECOND, True)])
@pytest.mark.parametrize("judge", ["restore", "check"])
def test_whoever_drops_an_unseen_secret_reports_it(judge: str, after: float, reported: bool) -> None:
    """Nobody can show it any more: an exchange tells of it, and so does a check."""
    record = record_of(issued(), issued(SECOND, session=1, user_agent="Other/1.0"), last_session=1)
    now = moment(after)
    verdict = rules.restore(record, FIRST, now) if judge == "restore" else rules.check(record, FIRST, 0, now)
    assert [secret.digest for secret in verdict.left_behind] == ([SECOND] if reported else [])
    assert (SECOND in names(verdict.record)) is not reported


def test_a_check_that_drops_nothing_reports_nothing() -> None:
    """A live owner presents the secret of before while the next one is under way."""
    verdict = rules.check(exchanged_and_not_shown(), FIRST, 0, moment(60))
    assert (verdict.outcome, verdict.left_behind) == (Outcome.LIVE, ())


def test_a_rotation_is_not_reported() -> None:
    """A live session whose new token was lost moves on to another one, silently."""
    record = stored(rules.check(record_of(), FIRST, 0, moment(2 * DAY)))
    for number in range(1, 20):
        verdict = rules.check(record, FIRST, 0, moment(2 * DAY + 30 * number, digest(b"%d" % number)))
        assert (verdict.outcome, verdict.left_behind) == (Outcome.LIVE, ())
        record = stored(verdict)
    assert rules.restore(record, FIRST, moment(3 * DAY)).left_behind == ()


# Rule 9: strict


def test_a_strict_exchange_drops_all_others_at_once() -> None:
    """The presented one stays for a grace period, limited; unseen ones that it drops are reported."""
    record = record_of(issued(), issued(SECOND, user_agent="Other/1.0"), issued(THIRD))
    verdict = rules.restore(record, FIRST, moment(5, strict=True))
    assert verdict.outcome is Outcome.EXCHANGE
    assert names(stored(verdict)) == [FIRST, OFFERED]
    assert by_name(verdict.record, FIRST).until == BEGINNING + 15
    assert by_name(verdict.record, OFFERED).until is None
    assert verdict.left_behind == (record.secrets[1],)


@pytest.mark.parametrize("grace_period", [0, 10])
@pytest.mark.parametrize(("late", "is_valid"), [(False, True), (True, False)])
def test_a_limited_secret_serves_joins_and_live_sessions_until_its_end(
    grace_period: float, late: bool, is_valid: bool
) -> None:
    """In the instant of its end it is valid still; a moment later it is a copy."""
    record = stored(rules.restore(record_of(), FIRST, moment(5, strict=True, grace_period=grace_period)))
    now = moment(5 + grace_period + (MILLISECOND if late else 0), THIRD, strict=True, grace_period=grace_period)
    assert rules.restore(record, FIRST, now).outcome is (Outcome.JOIN if is_valid else Outcome.REUSE)
    assert rules.check(record, FIRST, 0, now).outcome is (Outcome.LIVE if is_valid else Outcome.REUSE)
    assert rules.check(record, None, 0, now).outcome is (Outcome.LIVE if is_valid else Outcome.ENDED)


def test_a_limited_secret_joins_also_where_the_grace_period_was_cut() -> None:
    """Its end was set by the options of then."""
    record = record_of(issued(exchanged_at=BEGINNING, until=BEGINNING + 10))
    assert rules.restore(record, FIRST, moment(8, strict=True, grace_period=1)).outcome is Outcome.JOIN
    assert rules.restore(record, FIRST, moment(8, strict=False, grace_period=1)).outcome is Outcome.JOIN


def test_switching_strict_on_accuses_nobody() -> None:
    """What is valid in a record of before stays so until the first strict exchange."""
    record = stored(rules.restore(record_of(), FIRST, moment(0)))
    for presented in names(record):
        assert rules.restore(record, presented, moment(60, THIRD, strict=True)).outcome is Outcome.EXCHANGE
        assert rules.check(record, presented, 1, moment(60, THIRD, strict=True)).outcome is Outcome.LIVE


def test_a_strict_rotation_drops_nothing_at_once() -> None:
    """An answer to a live request may be lost as well."""
    record = record_of(issued(age=2 * DAY), issued(SECOND, session=1))
    rotated = stored(rules.check(record, FIRST, 0, moment(0, strict=True)))
    assert names(rotated) == [FIRST, SECOND, OFFERED]
    assert {secret.until for secret in rotated.secrets} == {None}


# Rule 10: bound


def crowd(count: int, age: float = 0) -> list[Secret]:
    return [Secret(digest(b"crowd %d" % number), BEGINNING - age, shown=True) for number in range(count)]


@pytest.mark.parametrize(("others", "outcome"), [(MAX_SECRETS - 2, Outcome.EXCHANGE), (MAX_SECRETS - 1, Outcome.JOIN)])
def test_a_record_of_64_secrets_joins_in_the_place_of_an_exchange(others: int, outcome: Outcome) -> None:
    """Nothing is written, and nothing is evicted."""
    record = record_of(*crowd(others), issued())
    verdict = rules.restore(record, FIRST, moment(30))
    assert verdict.outcome is outcome
    assert len(names(verdict.record)) == MAX_SECRETS
    assert outcome is Outcome.EXCHANGE or verdict.record is record


@pytest.mark.parametrize(("age", "outcome"), [(30, Outcome.JOIN), (SETTLE_TIME + 1, Outcome.EXCHANGE)])
def test_the_presented_secret_ages_and_makes_room(age: float, outcome: Outcome) -> None:
    """What counts is how many are left after the drop, so nobody is locked out for longer than 90 s."""
    record = record_of(*crowd(MAX_SECRETS - 1, DAY), issued())
    assert rules.restore(record, FIRST, moment(age)).outcome is outcome


@pytest.mark.parametrize(("others", "rotates"), [(MAX_SECRETS - 2, True), (MAX_SECRETS - 1, False)])
def test_a_record_of_64_secrets_skips_rotations(others: int, rotates: bool) -> None:
    """A live session goes on with what it presents."""
    record = record_of(*crowd(others), issued(age=2 * DAY, session=1), last_session=1)
    verdict = rules.check(record, FIRST, 0, moment(0))
    assert verdict.outcome is Outcome.LIVE
    assert (verdict.issued is not None) is rotates


# Rules 11 and 12: unknown, expired, clocks


@pytest.mark.parametrize("presented", [FIRST, STRANGER, None])
def test_no_record_is_unknown(presented: bytes | None) -> None:
    """An id of no record accuses nobody, whatever comes with it."""
    assert rules.check(None, presented, 3, moment()) == rules.UNKNOWN
    assert rules.restamp(None, presented or FIRST, moment()) == rules.UNKNOWN
    assert rules.restore(None, presented or FIRST, moment()) == rules.UNKNOWN


@pytest.mark.parametrize(
    ("lifetime", "options"),
    [
        (30 * DAY + 60, {}),
        (30 * DAY + 1, {"check_interval": 0}),
        (100 + 60, {"max_age": 100}),
        (50, {"max_age": 100, "max_lifetime": 50}),
        (100 + 60, {"max_age": 100, "max_lifetime": 3600}),
    ],
)
@pytest.mark.parametrize("presented", [FIRST, STRANGER])
def test_the_instant_of_expiry_belongs_to_what_is_expired(
    lifetime: float, options: dict[str, Any], presented: bytes
) -> None:
    """A millisecond before it a secret is judged; from it on the record is as good as gone."""
    before, then = moment(lifetime - MILLISECOND, **options), moment(lifetime, **options)
    for judge in (rules.restore, lambda *one: rules.check(one[0], one[1], 0, one[2])):
        assert judge(record_of(), presented, before).outcome is not Outcome.UNKNOWN
        assert judge(record_of(), presented, then) == rules.UNKNOWN
    assert rules.restamp(record_of(), FIRST, before).outcome is Outcome.LIVE
    assert rules.restamp(record_of(), FIRST, then) == rules.UNKNOWN


def test_expiry_slides_with_each_visit_and_stops_at_max_lifetime() -> None:
    """An exchange and a check move it by max_age, never past the end of the lifetime."""
    options = {"max_age": 100, "check_interval": 10, "max_lifetime": 250}
    record = record_of()
    for after, expires in ((50, 160), (100, 210), (140, 250), (240, 250)):
        record = stored(rules.check(record, FIRST, 0, moment(after, **options)))
        assert record.expires_at == BEGINNING + expires
    assert rules.restore(record, FIRST, moment(250, **options)) == rules.UNKNOWN


def test_the_cookie_does_not_outlive_the_record() -> None:
    """The record has the longest time on top for which cookies are renewed without a write."""
    policy = Policy(max_age=100, check_interval=10, max_lifetime=250)
    assert policy.expires_at(record_of()) == BEGINNING + 110
    assert [policy.cookie_max_age(record_of(), BEGINNING + at) for at in (0, 150, 150.5, 249.5, 250, 300)] == [
        100,
        100,
        99,
        0,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("written", "today", "outcome"),
    [
        ({}, {"max_age": DAY}, Outcome.UNKNOWN),
        ({"max_age": DAY}, {}, Outcome.EXCHANGE),
        ({}, {"max_lifetime": 5 * DAY}, Outcome.UNKNOWN),
        ({"max_lifetime": 5 * DAY}, {}, Outcome.EXCHANGE),
        ({}, {}, Outcome.EXCHANGE),
    ],
)
def test_todays_options_bind_the_records_of_yesterday(
    written: dict[str, Any], today: dict[str, Any], outcome: Outcome
) -> None:
    """What the record says of its expiry is for the store's garbage collection alone."""
    record = stored(rules.restore(record_of(), FIRST, moment(1, SECOND, **written)))
    assert rules.restore(record, SECOND, moment(10 * DAY, THIRD, **today)).outcome is outcome


@pytest.mark.parametrize("grace_period", [0, 10, 3600])
@pytest.mark.parametrize(("ahead", "counts"), [(CLOCK_TOLERANCE, True), (CLOCK_TOLERANCE + MILLISECOND, False)])
def test_a_time_that_a_wrong_clock_wrote_counts_as_none_or_now(grace_period: float, ahead: float, counts: bool) -> None:
    """More than 10 s in the future, whatever the grace period is; the next write stores what is right."""
    future, policy = BEGINNING + ahead, Policy(grace_period=grace_period)
    record = record_of(
        Secret(FIRST, future, exchanged_at=future, seen_at=future), issued_last_at=future, seen_at=future
    )
    expected = record
    if not counts:
        right = Secret(FIRST, BEGINNING, exchanged_at=None, seen_at=BEGINNING)
        expected = replace(record, secrets=(right,), issued_last_at=None, seen_at=BEGINNING)
    assert policy.as_of(record, BEGINNING) == expected
    now = moment(grace_period=grace_period)
    assert rules.restore(record, FIRST, now).outcome is (Outcome.JOIN if counts else Outcome.EXCHANGE)
    if not counts:
        assert stored(rules.restore(record, FIRST, now)).secrets[0].issued_at == BEGINNING


def test_a_limit_that_a_wrong_clock_has_set_is_cut_by_the_next_write() -> None:
    """A worker that is hours ahead must not keep a spent secret valid for hours."""
    record = record_of(issued(), issued(SECOND, exchanged_at=BEGINNING, until=BEGINNING + 3 * 3600))
    written = stored(rules.check(record, FIRST, 0, moment(5, strict=True)))
    assert by_name(written, SECOND).until == BEGINNING + 5 + CLOCK_TOLERANCE + 10
    assert rules.restore(written, SECOND, moment(26, strict=True)).outcome is Outcome.REUSE


def test_a_record_with_right_times_is_judged_as_it_is() -> None:
    """It is the same object, so that nothing is copied where nothing is wrong."""
    record = record_of(issued(exchanged_at=BEGINNING, seen_at=BEGINNING), issued(SECOND), issued_last_at=BEGINNING)
    assert Policy().as_of(record, BEGINNING) is record


def test_a_visit_in_the_future_does_not_prolong_a_record() -> None:
    """A worker whose clock was 20 days ahead gives nobody 20 days more."""
    record = record_of(seen_at=BEGINNING + 20 * DAY)
    assert rules.restore(record, FIRST, moment(0)).outcome is Outcome.EXCHANGE
    checked = stored(rules.check(record, FIRST, 0, moment(60)))
    assert checked.seen_at == BEGINNING + 60
    assert checked.expires_at == BEGINNING + 60 + 30 * DAY + 60


@pytest.mark.parametrize("back", [5, 3600, 400 * DAY])
def test_a_clock_that_is_set_back_accuses_nobody(back: float) -> None:
    """Whatever lies in the future by then, each valid secret stays valid."""
    record = stored(rules.restore(record_of(), FIRST, moment(0)))
    for presented, session in ((FIRST, 0), (OFFERED, 1)):
        assert rules.restore(record, presented, moment(-back, THIRD)).outcome in {Outcome.EXCHANGE, Outcome.JOIN}
        assert rules.check(record, presented, session, moment(-back, THIRD)).outcome is Outcome.LIVE


# Rule 13: not persistent


@pytest.mark.parametrize("after", [DAY + 60 - MILLISECOND, DAY + 60])
def test_a_record_that_is_not_persistent_expires_after_a_day_without_a_visit(after: float) -> None:
    """Its time counts from the last visit, by an option of its own."""
    record = record_of(persistent=False)
    is_over = after >= DAY + 60
    assert (rules.restore(record, FIRST, moment(after)).outcome is Outcome.UNKNOWN) is is_over
    visited = stored(rules.check(record, FIRST, 0, moment(DAY)))
    assert rules.restore(visited, FIRST, moment(DAY + after)).outcome is (
        Outcome.UNKNOWN if is_over else Outcome.EXCHANGE
    )
    assert rules.restore(record, FIRST, moment(after, browser_session_max_age=2 * DAY)).outcome is Outcome.EXCHANGE


@pytest.mark.parametrize("session", [0, 1])
def test_a_session_that_is_not_persistent_ends_without_its_token(session: int) -> None:
    """The browser was closed, and has kept a session cookie that it should not have."""
    record = record_of(issued(), issued(SECOND, session=1), last_session=1, persistent=False)
    assert rules.check(record, None, session, moment(5)) == Verdict(Outcome.ENDED, record)
    assert rules.check(record, SECOND, session, moment(5)).outcome is Outcome.LIVE
    assert rules.check(record, STRANGER, session, moment(5)).outcome is Outcome.REUSE
    assert rules.check(record, None, 2, moment(5)).outcome is Outcome.LOST


def test_a_record_that_is_not_persistent_is_restored_and_rotated_like_any_other() -> None:
    """The same rules hold: it is listed, revocable, and a copy shows."""
    record = record_of(persistent=False)
    assert not stored(rules.restore(record, FIRST, moment(5))).persistent
    assert rules.check(record_of(issued(age=2 * DAY), persistent=False), FIRST, 0, moment(5)).issued == OFFERED
    assert rules.restore(record, STRANGER, moment(5)).outcome is Outcome.REUSE


# Late responses


def test_a_token_that_is_sent_late_counts_as_issued_then() -> None:
    """Until the browser can hold it, the one before it must not be dropped."""
    record = stored(rules.restore(record_of(), FIRST, moment(0)))
    verdict = rules.restamp(record, OFFERED, moment(80))
    assert (verdict.outcome, verdict.session) == (Outcome.LIVE, 1)
    moved = stored(verdict)
    assert by_name(moved, OFFERED).issued_at == BEGINNING + 80
    assert moved.seen_at == record.seen_at  # nobody was seen
    assert names(stored(rules.restore(moved, FIRST, moment(85, THIRD)))) == [FIRST, OFFERED, THIRD]
    assert names(stored(rules.restore(record, FIRST, moment(SETTLE_TIME + 1, THIRD)))) == [FIRST, THIRD]


@pytest.mark.parametrize("secrets", [(issued(SECOND),), ()])
def test_a_token_that_is_no_longer_valid_is_not_sent(secrets: tuple[Secret, ...]) -> None:
    """A newer one has dropped it, or a copy was found out."""
    record = replace(record_of(), secrets=secrets)
    assert rules.restamp(record, FIRST, moment(20)) == Verdict(Outcome.ENDED, record)


# Which secret counts


def test_of_several_secrets_the_valid_one_that_was_issued_last_counts() -> None:
    """The others are leftovers of a cookie whose path or domain was changed, and accuse nobody."""
    record = record_of(issued(age=50), issued(SECOND, age=10), issued(THIRD, age=90))
    for digests, expected in (
        ((FIRST, SECOND, THIRD), SECOND),
        ((THIRD, FIRST), FIRST),
        ((STRANGER, THIRD), THIRD),
        ((THIRD, STRANGER), THIRD),
        ((STRANGER, OFFERED), STRANGER),
        ((STRANGER,), STRANGER),
    ):
        assert rules.best(record, digests, moment()) == expected
    assert rules.best(None, (STRANGER, FIRST), moment()) == STRANGER


def test_of_several_secrets_one_whose_limit_is_over_does_not_count() -> None:
    """What a strict exchange has ended is no longer valid, however lately it was issued."""
    record = record_of(issued(SECOND, until=BEGINNING - 1), issued(age=50))
    assert rules.best(record, (SECOND, FIRST), moment()) == FIRST


def test_the_newest_secret_is_that_of_the_latest_issue() -> None:
    """It goes by the time of issue, not by the place; of two at once the later place counts."""
    assert rules.newest(record_of(issued(age=1), issued(SECOND, age=5))) == issued(age=1)
    assert rules.newest(record_of(issued(), issued(SECOND))) == issued(SECOND)
    assert rules.newest(replace(record_of(), secrets=())) is None


# Comparisons


class Uncompared(bytes):
    """A digest that must be compared in constant time alone."""

    def __eq__(self, _: object) -> bool:
        raise AssertionError("compared byte by byte")

    def __ne__(self, _: object) -> bool:
        raise AssertionError("compared byte by byte")

    __hash__ = None  # type: ignore[assignment]  # a look-up by hash would compare byte by byte as well


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, STRANGER])
def test_what_is_presented_is_compared_in_constant_time_alone(name: bytes) -> None:
    """No judgement compares it in another way, whether it is valid or not."""
    record, presented = record_of(issued(age=100), issued(SECOND, age=95), issued(THIRD)), Uncompared(name)
    rules.restore(record, presented, moment(120))
    rules.check(record, presented, 0, moment(120))
    rules.restamp(record, presented, moment(120))
    rules.best(record, (presented, Uncompared(FIRST)), moment(120))


@pytest.mark.parametrize("name", [FIRST, SECOND, THIRD, STRANGER])
def test_a_comparison_takes_as_long_wherever_the_secret_stands(name: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each secret of the record is compared, also after the right one was found."""
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr(rules, "compare_digest", compare)
    record = record_of(issued(), issued(SECOND), issued(THIRD))
    assert (rules.find(record, name) is None) is (name == STRANGER)
    assert compared == [FIRST, SECOND, THIRD]


# The table


def tables() -> list[tuple[str, ...]]:
    """Return the rows of the two tables in the docstring: the function that judges, what comes, and what becomes."""
    rows: list[tuple[str, ...]] = []
    judge = ""
    for line in (rules.__doc__ or "").splitlines():
        if found := re.search(r"\(:func:`(\w+)`\)", line):
            judge = found[1]
        elif line.strip().startswith("|") and "---" not in line:
            rows.append((judge, *(cell.strip() for cell in line.strip().strip("|").split("|"))))
    return [row for row in rows if "outcome" not in row]


RESTORED: dict[tuple[str, ...], Callable[[], Verdict]] = {
    ("of no record, or of one that is over",): lambda: rules.restore(record_of(), FIRST, moment(40 * DAY)),
    ("valid, and first exchanged within the grace period",): lambda: rules.restore(
        record_of(issued(exchanged_at=BEGINNING)), FIRST, moment(5)
    ),
    ("valid, and the record issued one within 2 s",): lambda: rules.restore(
        record_of(issued_last_at=BEGINNING), FIRST, moment(1)
    ),
    ("valid, and limited by a strict exchange",): lambda: rules.restore(
        record_of(issued(until=BEGINNING + 30)), FIRST, moment(20)
    ),
    ("valid, and the record has 64 valid ones",): lambda: rules.restore(
        record_of(*crowd(63), issued()), FIRST, moment(20)
    ),
    ("valid",): lambda: rules.restore(record_of(), FIRST, moment(20)),
    ("not valid",): lambda: rules.restore(record_of(), STRANGER, moment(20)),
}
BROWSER_SESSIONS = replace(SESSIONS, persistent=False)
CHECKED: dict[tuple[str, ...], Callable[[], Verdict]] = {
    ("any", "of no record, or one that is over"): lambda: rules.check(record_of(), FIRST, 0, moment(40 * DAY)),
    ("valid", "any"): lambda: rules.check(record_of(issued(SECOND, DAY), issued(age=2 * DAY)), FIRST, 9, moment(5)),
    ("not valid", "one that the record has given"): lambda: rules.check(SESSIONS, STRANGER, 5, moment(5)),
    ("not valid", "a higher one"): lambda: rules.check(SESSIONS, STRANGER, 6, moment(5)),
    ("not presented", "a valid secret's"): lambda: rules.check(SESSIONS, None, 4, moment(5)),
    ("not presented", "the same, record not persistent"): lambda: rules.check(BROWSER_SESSIONS, None, 4, moment(5)),
    ("not presented", "another that the record has given"): lambda: rules.check(SESSIONS, None, 5, moment(5)),
    ("not presented", "a higher one"): lambda: rules.check(SESSIONS, None, 6, moment(5)),
}


def test_each_row_of_the_tables_has_an_example() -> None:
    """What the docstring says of the rules is tried, row by row, and nothing is tried that it does not say."""
    examples = [("restore", *row) for row in RESTORED] + [("check", *row) for row in CHECKED]
    assert [row[:-2] for row in tables()] == examples


def test_the_tables_name_every_outcome() -> None:
    """A new outcome wants a row."""
    assert {row[-2] for row in tables()} == {outcome.name for outcome in Outcome}


@pytest.mark.parametrize("row", tables(), ids=lambda row: " - ".join(row[:-2]))
def test_a_row_of_the_tables_is_what_the_functions_do(row: tuple[str, ...]) -> None:
    """The outcome is the row's, and the record stays, gains and loses secrets, or ends as the row says."""
    judge, *case, outcome, becomes = row
    verdict = (RESTORED if judge == "restore" else CHECKED)[tuple(case)]()
    assert verdict.outcome.name == outcome
    assert (verdict.issued is not None) is ("new secret" in becomes or "may rotate" in becomes)
    if becomes.startswith("stays"):
        assert not verdict.writes
    elif becomes.startswith("ends"):
        assert stored(verdict).secrets == ()
    else:
        assert FIRST in names(stored(verdict))
        assert ("drops old secrets" not in becomes) or SECOND not in names(verdict.record)


def test_the_tables_cite_a_rule_in_each_row() -> None:
    """A reader finds in the documentation why a row is as it is."""
    for row in tables():
        cited = [int(number) for numbers in re.findall(r"\(([\d, ]+)\)", row[-1]) for number in numbers.split(",")]
        assert cited, row
        assert all(1 <= number <= 13 for number in cited)


# Any sequence


pauses = st.one_of(
    st.sampled_from([0.0, MILLISECOND, 1.0, 2.0, 2.001, 9.999, 10.0, 10.001, 60.0, 90.0, 90.001, 3600.0, DAY]),
    st.floats(0, 200, allow_nan=False),
)
actions = st.sampled_from(["restore"] * 4 + ["check"] * 3 + ["check without a token"] * 2 + ["restamp", "stranger"])
steps = st.lists(st.tuples(pauses, actions, st.integers(0, 70), st.booleans()), max_size=50)
policies = st.builds(
    Policy,
    grace_period=st.sampled_from([0.0, 1.0, 10.0, 120.0]),
    max_age=st.sampled_from([3600.0, 30 * DAY]),
    max_lifetime=st.sampled_from([None, 1800.0]),
    rotate_interval=st.sampled_from([None, 60.0, DAY]),
    check_interval=st.sampled_from([0.0, 60.0]),
    strict=st.booleans(),
)


class Life:
    """One record's life, in which anybody presents any secret that there ever was, at any time."""

    def __init__(self, policy: Policy, *, persistent: bool) -> None:
        self.policy = policy
        self.now = BEGINNING
        self.record = record_of(persistent=persistent)
        self.lineage = [FIRST]
        self.issued_at = -1e9
        self.reported: set[bytes] = set()

    def step(self, action: str, back: int, may_issue: bool) -> bool:
        """Do one thing; return whether the life goes on."""
        presented = self.lineage[max(0, len(self.lineage) - 1 - back)]
        offered = digest(b"life %d" % len(self.lineage))
        now = Moment(self.now, self.policy, BROWSER, offered if may_issue else None)
        session = back % (self.record.last_session + 1)
        before = self.policy.as_of(self.record, self.now)
        is_over = self.policy.is_over(self.record, self.now)
        if action == "stranger":
            presented = STRANGER
        if action in {"restore", "stranger"}:
            verdict = rules.restore(self.record, presented, now)
        elif action == "restamp":
            verdict = rules.restamp(self.record, presented, now)
        else:
            verdict = rules.check(self.record, presented if action == "check" else None, session, now)
        if is_over:
            assert verdict == rules.UNKNOWN
            return False
        assert verdict.record is not None
        if action != "check without a token":
            is_valid = presented in names(before)
            invalid = Outcome.ENDED if action == "restamp" else Outcome.REUSE
            assert (verdict.outcome is not invalid) is is_valid
        if verdict.outcome is Outcome.REUSE:
            assert stored(verdict) == replace(before, secrets=(), revision=before.revision + 1)
            return False
        self._assert_kept(before, verdict, presented, action)
        self._assert_issued(before, verdict, action)
        self._assert_reported(before, verdict, presented)
        if verdict.writes:
            self.record = verdict.record
        return True

    def _assert_kept(self, before: Record, verdict: Verdict, presented: bytes, action: str) -> None:
        """Only the presented secret's age, and strict, make others invalid; what it was is not forgotten."""
        after = verdict.record
        assert after is not None
        assert after.revision == before.revision + verdict.writes
        assert len(after.secrets) <= MAX_SECRETS
        assert len(set(names(after))) == len(after.secrets)
        if action in {"restore", "check"}:
            assert presented in names(after)
        kept = {secret.digest: secret for secret in after.secrets}
        for secret in before.secrets:
            if secret.digest not in kept:
                is_strict = self.policy.strict and verdict.outcome is Outcome.EXCHANGE
                both = (secret, by_name(before, presented))
                assert is_strict or all(self.now - one.issued_at > SETTLE_TIME for one in both)
                assert verdict.outcome in {Outcome.EXCHANGE, Outcome.LIVE}
                assert action in {"restore", "check"}
                continue
            now = kept[secret.digest]
            assert now.session == secret.session
            assert secret.exchanged_at in {None, now.exchanged_at}
            assert now.shown >= secret.shown
            assert now.reported >= secret.reported
        if self.policy.max_lifetime is not None and verdict.writes and action != "restamp":
            assert after.expires_at <= BEGINNING + self.policy.max_lifetime

    def _assert_issued(self, before: Record, verdict: Verdict, action: str) -> None:
        """One exchange in 2 s at most, only in a swap, never for who joins; each exchange opens another session."""
        after = verdict.record
        assert after is not None
        new = [name for name in names(after) if name not in names(before)]
        assert new == ([] if verdict.issued is None else [verdict.issued])
        if verdict.outcome is Outcome.JOIN:
            assert (verdict.writes, verdict.issued, after) == (False, None, before)
        if verdict.issued is not None:
            assert verdict.writes
            if action != "check":
                assert self.now - self.issued_at > ISSUE_INTERVAL
            assert after.issued_last_at == self.now
            self.issued_at = self.now
            self.lineage.append(verdict.issued)
        is_exchange = verdict.outcome is Outcome.EXCHANGE
        assert after.last_session == before.last_session + is_exchange
        if is_exchange:
            assert verdict.session == after.last_session
            assert by_name(after, verdict.issued or b"").session == verdict.session
        assert is_exchange == (verdict.issued is not None and action in {"restore", "stranger"})

    def _assert_reported(self, before: Record, verdict: Verdict, presented: bytes) -> None:
        """Each secret that nobody moved on from is reported once, with the write that marks or drops it."""
        after = verdict.record
        for secret in verdict.left_behind:
            assert verdict.writes
            assert secret.digest not in self.reported
            assert secret.digest != presented
            assert secret in before.secrets
            assert secret.exchanged_at is None
            assert secret.user_agent is not None
            assert secret.digest not in names(after) or by_name(after, secret.digest).reported
            self.reported.add(secret.digest)


@settings(max_examples=400, deadline=None)
@given(policy=policies, persistent=st.booleans(), steps=steps)
def test_any_sequence_keeps_the_rules(
    policy: Policy, persistent: bool, steps: list[tuple[float, str, int, bool]]
) -> None:
    """Exchanges, joins, checks, late responses and replays of any secret at any time keep what each rule promises."""
    life = Life(policy, persistent=persistent)
    for pause, action, back, may_issue in steps:
        life.now = round(life.now + pause, 3)
        if not life.step(action, back, may_issue):
            return


@settings(max_examples=200, deadline=None)
@given(policy=policies, steps=st.lists(st.tuples(pauses, st.booleans(), st.booleans()), max_size=60))
def test_a_browser_that_takes_over_each_answer_is_never_accused(
    policy: Policy, steps: Sequence[tuple[float, bool, bool]]
) -> None:
    """Answers that are lost leave it with the token of before, which stays valid, but under strict."""
    policy = replace(policy, strict=False, max_lifetime=None, max_age=30 * DAY)
    record, held, session, now = record_of(), FIRST, 0, BEGINNING
    for number, (pause, is_live, is_lost) in enumerate(steps):
        now = round(now + pause, 3)
        judged = Moment(now, policy, BROWSER, digest(b"%d" % number))
        verdict = rules.check(record, held, session, judged) if is_live else rules.restore(record, held, judged)
        assert verdict.outcome in {Outcome.EXCHANGE, Outcome.JOIN, Outcome.LIVE}
        record = verdict.record or record
        if verdict.issued is not None and not is_lost:
            held, session = verdict.issued, verdict.session


# What the rules are made of


def test_the_rules_import_nothing_that_waits_or_tells_the_time() -> None:
    """They know their own durations and records, and of the standard library what is pure."""
    imported: set[str] = set()
    tree = ast.parse(inspect.getsource(rules))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global | ast.Nonlocal)
    assert imported == {
        "__future__",
        "collections.abc",
        "dataclasses",
        "enum",
        "hmac",
        "typing",
        ".policy",
        ".record",
    }


def test_the_rules_keep_no_state() -> None:
    """The same record, secret and moment give the same verdict, however often, and the record stays what it was."""
    record = record_of(issued(age=2 * DAY), issued(SECOND, exchanged_at=BEGINNING))
    copy = replace(record, secrets=tuple(replace(secret) for secret in record.secrets))
    for judge in (
        lambda: rules.restore(record, FIRST, moment(20)),
        lambda: rules.check(record, SECOND, 0, moment(20)),
        lambda: rules.restore(record, STRANGER, moment(20)),
    ):
        assert judge() == judge()
        assert record == copy


def test_records_and_secrets_cannot_be_changed_in_place() -> None:
    """What one worker remembers of a record is what it saw."""
    for one in (record_of(), issued()):
        for field in fields(one):
            with pytest.raises(AttributeError):
                setattr(one, field.name, None)


def test_the_limits_are_what_the_documentation_says() -> None:
    """Each is a promise to those who read it, and the reason for some test of the model."""
    assert (ISSUE_INTERVAL, SETTLE_TIME, CLOCK_TOLERANCE, MAX_SECRETS) == (2, 90, 10, 64)
