"""Rules that are taken away or bent, each with the world in which the model finds it out.

A model that accepts wrong rules proves nothing about the right ones.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from functools import reduce
from typing import Any, NamedTuple

from aiohttp_persistent_session import rules
from aiohttp_persistent_session.record import Record, Secret
from aiohttp_persistent_session.rules import Outcome, Verdict

from . import pure, random_worlds, thief, world
from .explore import walk
from .site import modelled
from .worlds import Worlds

Finding = Callable[[], str | None]
"""Runs a world; returns the invariant that it found broken, or None."""


# Worlds, of which each mutation names the one that finds it out


def any_number_of_requests(**limits: Any) -> Finding:
    """Return the walk of the pure rules, of quick handlers as a rule."""

    def run() -> str | None:
        chosen = pure.Limits(**{"secrets": 2, "handled": 1, "answers": 1, "slow": 0.0} | limits)
        with pure.bound_of(chosen.secrets):
            return walk(pure.PureWorlds(chosen)).broken

    return run


def interleaved(limits: world.Limits | None = None, *, persistent: bool = True, **left: Any) -> Finding:
    """Return the walk of the real lifecycle."""

    def run() -> str | None:
        with modelled():
            return walk(Worlds(world.Left(**left), limits or world.Limits(), persistent=persistent)).broken

    return run


def scene(name: str) -> Finding:
    """Return the thief's scene of this name."""

    def run() -> str | None:
        chosen = next(one for one in thief.SCENES if one.name == name)
        with modelled():
            ending = thief.play(chosen, until=3 * thief.HOUR)
        return None if thief.is_as_told(chosen, ending) else f"it ended otherwise: {ending}"

    return run


def random_ones(worlds: int, **harsh: Any) -> Finding:
    """Return random worlds."""

    def run() -> str | None:
        with modelled():
            broken = random_worlds.run(random_worlds.Harsh(**harsh), worlds=worlds).broken
        return broken[0][1] if broken else None

    return run


class Mutation(NamedTuple):
    """A rule that is bent, and the world that finds it out."""

    rule: str
    what: str
    bends: dict[str, Any]
    """By what the names of modules are replaced."""
    finding: Finding


# What rules are replaced by. Most bend what the right one returns.

_exchange, _accuse, _go_on, _is_due = rules._exchange, rules._accuse, rules._go_on, rules._is_due


def _keeps_all(record: Record, secret: Secret, moment: Any) -> tuple[Secret, ...]:
    return record.secrets


def _keeps_the_presented_alone(record: Record, secret: Secret, moment: Any) -> tuple[Secret, ...]:
    return (secret,)


def _drops_young_ones(record: Record, secret: Secret, moment: Any) -> tuple[Secret, ...]:
    settled = moment.now - secret.issued_at > rules.SETTLE_TIME
    return (secret,) if settled else record.secrets


def _drops_the_presented(record: Record, secret: Secret, kept: Any, offered: bytes, moment: Any) -> Verdict:
    verdict = _exchange(record, secret, kept, offered, moment)
    return _without(verdict, secret.digest)


def _without(verdict: Verdict, digest: bytes) -> Verdict:
    assert verdict.record is not None
    secrets = tuple(one for one in verdict.record.secrets if one.digest != digest)
    return verdict._replace(record=changed(verdict.record, secrets=secrets))


def _always_issues(record: Record, kept: Any, moment: Any) -> bool:
    return True


def _issues_at_any_time(record: Record, kept: Any, moment: Any) -> bool:
    return len(kept) < rules.MAX_SECRETS


def _evicts(record: Record, secret: Secret, kept: tuple[Secret, ...], offered: bytes, moment: Any) -> Verdict:
    if len(kept) >= rules.MAX_SECRETS:
        kept = tuple(one for one in kept if one is not min(kept, key=lambda one: one.issued_at))
    return _exchange(record, secret, kept, offered, moment)


def _counts_from_the_last(secret: Secret, now: float) -> Secret:
    return changed(secret, shown=True, exchanged_at=now)


def _accuses_nobody(record: Record) -> Verdict:
    return Verdict(Outcome.JOIN, record)


def _accuses_at_once(record: Record) -> Verdict:
    return Verdict(Outcome.REUSE, record)


def _any_number_lives(record: Record, secret: Secret | None, session: int) -> bool:
    return secret is not None or session <= record.last_session


def _is_due_by_age_alone(secret: Secret, moment: Any) -> bool:
    return secret.exchanged_at is None and _is_due(secret, moment)


def _lives_without_a_token(record: Record, secret: Secret | None, session: int) -> bool:
    return secret is not None or any(one.session == session for one in record.secrets)


def _forgets_reports(record: Record, secret: Secret, kept: Any, offered: bytes, moment: Any) -> Verdict:
    verdict = _exchange(record, secret, kept, offered, moment)
    assert verdict.record is not None
    secrets = tuple(changed(one, reported=False) for one in verdict.record.secrets)
    return verdict._replace(record=changed(verdict.record, secrets=secrets))


def _reports_all(record: Record, presented: Secret, kept: Any) -> tuple[Secret, ...]:
    return tuple(one for one in record.secrets if one is not presented and not one.reported and one not in kept)


def _accuses_on_a_number(record: Record, secrets: Any, session: int, moment: Any, unseen: Any = ()) -> Verdict:
    return _accuse(record) if session < record.last_session else _go_on(record, secrets, session, moment, unseen)


COPY = scene("goes on with the copy every 10.01 s")
BACK = scene("goes on with the copy every 10.01 s, and the owner comes back")
MANY = any_number_of_requests()
FEW = world.Limits(whole=True, tick=120.0)
LATE = world.Limits(whole=True, late=30.0)
MUTATIONS = (
    Mutation("2", "the exchange drops what was presented", {"rules._exchange": _drops_the_presented}, MANY),
    Mutation("3", "a join counts from the record's last exchange", {"rules.ISSUE_INTERVAL": 10.0}, BACK),
    Mutation("3", "a join counts from the secret's last exchange", {"rules._spend": _counts_from_the_last}, COPY),
    Mutation(
        "3",
        "a token is exchanged again at once",
        {"rules._joins": lambda secret, moment: False},
        any_number_of_requests(requests=2, tick=5.0, secrets=3),
    ),
    Mutation(
        "3",
        "two secrets may be issued within 2 s",
        {"rules._may_issue": _issues_at_any_time},
        any_number_of_requests(secrets=3),
    ),
    Mutation("4", "nothing is ever dropped", {"rules._keep": _keeps_all}, COPY),
    Mutation("4", "all others are dropped at once", {"rules._keep": _keeps_the_presented_alone}, MANY),
    Mutation("4", "a settled secret drops young ones", {"rules._keep": _drops_young_ones}, MANY),
    Mutation("4", "SETTLE_TIME is shorter than a disk takes", {"rules.SETTLE_TIME": 25.0}, MANY),
    Mutation("5", "nobody is accused", {"rules._accuse": _accuses_nobody}, COPY),
    Mutation(
        "5",
        "an accusation takes no secrets away first",
        {"rules._accuse": _accuses_at_once},
        interleaved(requests=2, lags=1),
    ),
    Mutation(
        "6",
        "a session without a token goes on, whatever its number",
        {"rules.is_live": _any_number_lives},
        interleaved(FEW, requests=2, thefts=1, thief_requests=1, kills=0, losses=0),
    ),
    Mutation(
        "6", "a superseded session is accused", {"rules._go_on": _accuses_on_a_number}, interleaved(LATE, requests=2)
    ),
    Mutation("7", "a live session keeps a secret that was exchanged", {"rules._is_due": _is_due_by_age_alone}, COPY),
    Mutation(
        "8", "a repeat is reported again", {"rules._exchange": _forgets_reports}, interleaved(FEW, requests=3, kills=0)
    ),
    Mutation(
        "8",
        "what somebody moved on from is reported",
        {"rules._left_behind": _reports_all},
        interleaved(FEW, requests=3, kills=0),
    ),
    Mutation("10", "there is no bound", {"rules._may_issue": _always_issues}, MANY),
    Mutation(
        "10", "the bound evicts the oldest", {"rules._may_issue": _always_issues, "rules._exchange": _evicts}, MANY
    ),
    Mutation(
        "13",
        "a closed browser's session goes on",
        {"rules.is_live": _lives_without_a_token},
        interleaved(world.Limits(tokenless=True), requests=1, persistent=False),
    ),
    Mutation(
        "section 3",
        "a late response sends its token as it is",
        {"answer.SENT_WITHIN": math.inf},
        interleaved(FEW, requests=2),
    ),
    Mutation(
        "section 3",
        "a late response renews what it presented",
        {"answer.RENEWED_WITHIN": math.inf, "answer.RENEWED_AFTER_LOOK": math.inf, "seen.RENEWED_AFTER_LOOK": math.inf},
        interleaved(FEW, requests=3, kills=0),
    ),
    Mutation(
        "section 3",
        "a worker renews from a memory of 60 s",
        {"policy.RENEWED_AFTER_LOOK": 60.0},
        any_number_of_requests(late=15.0, tick=15.0, slow=pure.Limits().slow),
    ),
)


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """Let a rule be bent."""
    right: list[tuple[Any, str, Any]] = []
    for path, bent in mutation.bends.items():
        module, *of, name = path.split(".")
        owner = reduce(getattr, of, importlib.import_module(f"aiohttp_persistent_session.{module}"))
        right.append((owner, name, getattr(owner, name)))
        setattr(owner, name, bent)
    try:
        yield
    finally:
        for owner, name, value in right:
            setattr(owner, name, value)
