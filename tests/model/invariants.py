"""What must never happen, whatever is interleaved: section "guarantees" of the documentation, as code.

Each model calls these functions with facts of its world, which are plain: records as the store has them, names of
tokens, ages in seconds. What a function does not accept is a fault of the rules.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiohttp_persistent_session import rules
from aiohttp_persistent_session.policy import ISSUE_INTERVAL
from aiohttp_persistent_session.record import Record, Secret
from aiohttp_persistent_session.rules import Outcome


class Broken(AssertionError):
    """An invariant does not hold."""


def _must(holds: bool, text: str) -> None:
    if not holds:
        raise Broken(text)


# An honest browser is neither accused nor logged out


def what_the_browser_may_present_is_valid(valid: Collection[int], may_present: Iterable[int]) -> None:
    """Whatever the browser holds, has on disk, has sent or is being sent can be presented, so it must be valid."""
    for token in may_present:
        _must(token in valid, f"the browser may present token {token}, which is no longer valid")


def nobody_honest_is_accused(copy_was_presented: bool) -> None:
    """An accusation needs somebody who presented a copied token; to hold one, or a copied session, is not enough."""
    _must(copy_was_presented, "a browser is accused, and nobody presented a copy")


def who_presents_a_valid_token_is_served(is_served: bool, store_failed: bool) -> None:
    """No race, loss, kill or delay shows the owner a login form."""
    _must(is_served or store_failed, "the owner presented a valid token and is not served")


def no_record_is_lost(outcome: Outcome | None, writes_were_lost: bool) -> None:
    """A record is given up for lost only where the store has lost writes."""
    _must(outcome is not Outcome.LOST or writes_were_lost, "the store is said to have lost writes, and has not")


# Who gets a token


def a_response_carries_its_own_token(carried: int | str | None, presented: int | None, issued: int | None) -> None:
    """A response carries the token that its request presented, or one that was issued for it: no other request's."""
    _must(carried in {None, "gone", presented, issued}, f"a response carries token {carried} of another request")


def who_joins_is_handed_nothing(
    outcomes: Collection[Outcome | None], issued: int | None, session: int | str | None, touched: bool
) -> None:
    """A request that merely joined gets no token, and no session that its handler did not change."""
    joined = Outcome.JOIN in outcomes
    _must(not joined or issued is None, "a request that joined was handed a token")
    _must(not joined or touched or session is None, "a request that joined was handed a session")


def restores_at_once_make_one_exchange(before: Record, after: Record) -> None:
    """Within two seconds of any secret that the record issued there is no exchange: restored tabs make one together."""
    is_exchange = after.last_session > before.last_session
    if is_exchange and before.issued_last_at is not None and after.issued_last_at is not None:
        apart = after.issued_last_at - before.issued_last_at
        _must(apart > ISSUE_INTERVAL, f"an exchange was made {apart:g} s after another secret was issued")


def a_token_opens_one_session(exchanged_ago: float | None, grace_period: float) -> None:
    """Within the grace period after its first exchange a token is not exchanged again."""
    again = exchanged_ago is not None and exchanged_ago <= grace_period
    _must(not again, f"a token was exchanged again after {exchanged_ago} s")


def a_record_is_bounded(record: Record) -> None:
    """Valid secrets do not pile up without end."""
    _must(len(record.secrets) <= rules.MAX_SECRETS, "a record has more secrets than the bound")


# What is over stays over


def what_is_over_is_not_served(is_served: bool, over_for: float | None, check_interval: float) -> None:
    """A session or token that was superseded, accused or revoked is served for ``check_interval`` at most."""
    over = over_for is not None and over_for > check_interval
    _must(not (is_served and over), f"a request is served with what ended {over_for} s ago")


def what_has_ended_stays_ended(before: Record | None, after: Record | None) -> None:
    """No write that is under way brings back a record that was deleted."""
    _must(before is not None or after is None, "a record came back after it had ended")


def a_closed_browser_is_signed_out(is_served: bool, is_persistent: bool, token: int | None) -> None:
    """Where the browser does not keep the cookie, a session without its token is that of a closed browser."""
    _must(not is_served or is_persistent or token is not None, "a closed browser is still signed in")


# What is reported


def a_repeat_is_reported_once(secrets: Collection[Secret], names: Collection[int], reported: Collection[int]) -> None:
    """``on_repeat`` is sent once, for a secret that an exchange issued and that nobody moved on from."""
    fit = [secret for secret in secrets if secret.user_agent is not None and secret.exchanged_at is None]
    _must(bool(fit), "a repeat reports no token that an exchange issued and nobody moved on from")
    _must(not set(names) & set(reported), f"a repeat reports tokens {names} again")
