"""The pure rules in a world without workers: any number of requests of one browser, each judged at once.

What a worker remembers is not kept: a live request may be served from memory wherever some worker could remember its
token. So there is little to keep, and worlds without end are walked: where a token is called by its place in the
record, and a time is how long ago it was, all that can ever happen comes back to states that were walked before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace as changed
from typing import Any, NamedTuple

from aiohttp_persistent_session import policy, rules
from aiohttp_persistent_session.policy import RENEWED_WITHIN, SENT_WITHIN, Policy
from aiohttp_persistent_session.record import Browser, Record
from aiohttp_persistent_session.rules import Moment, Outcome
from aiohttp_persistent_session.seen import View

from . import invariants
from .records import A_WHILE_AGO, NOW, first_record, older, plain
from .tables import Table

DEAD = 99
"""What every token is called that is not valid."""
OFFERED = 98
DIGESTS = [place.to_bytes(32, "big") for place in range(100)]
PLACES = {digest: place for place, digest in enumerate(DIGESTS)}


class Limits(NamedTuple):
    """How much happens in these worlds."""

    requests: int | None = None
    """None for any number of them."""
    secrets: int = 3
    """Valid secrets that a record may have; elsewhere 64."""
    handled: int = 2
    """Responses that have not begun."""
    answers: int = 2
    """Responses on their way."""
    tick: float = 30.0
    late: float = 0.0
    """For so long a request may be on its way."""
    slow: float = A_WHILE_AGO
    """For so long a handler may run; this long stands for any time."""
    flush: float = 30.0


class Sent(NamedTuple):
    """A token that the browser held a moment ago: requests with it may still be on their way."""

    token: int
    ago: float
    is_heard: bool
    """Whether the browser was not killed since, so that it gets the answer."""


class Handled(NamedTuple):
    """A response that has not begun."""

    token: int
    """What it is to carry."""
    is_new: bool
    ago: float
    is_heard: bool


class Way(NamedTuple):
    """A response on its way."""

    token: int
    ago: float


class World(NamedTuple):
    record: int
    jar: int
    disk: int
    unflushed: float | None
    sent: tuple[Sent, ...]
    handled: tuple[Handled, ...]
    answers: tuple[Way, ...]
    left: int | None


class Judged(NamedTuple):
    """What a rule says, and the record after it."""

    outcome: Outcome
    record: int
    places: dict[int, int]
    """Where each token is from now on in the record."""
    issues: bool


class PureWorlds:
    """Every world of these limits."""

    def __init__(self, limits: Limits = Limits(), **options: Any) -> None:  # noqa: B008 -- it is immutable
        self.limits = limits
        self.policy = Policy(**{"rotate_interval": None} | options)
        self.happening: tuple[Any, ...] = ()
        self._records: Table[Record] = Table()
        self._judged: dict[Any, Judged] = {}
        self._older: dict[Any, int] = {}

    def first(self) -> World:
        number, _ = self._numbered(first_record("A" * 22, DIGESTS[0]))
        return World(number, 0, 0, None, (), (), (), self.limits.requests)

    def successors(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        for happening, after in self._happens(world):
            self.happening = happening
            may_present = {after.jar, after.disk, *(one.token for one in (*after.sent, *after.answers))}
            valid = range(len(self._records[after.record].secrets))
            invariants.what_the_browser_may_present_is_valid(valid, may_present)
            yield happening, after

    def _happens(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        if world.left != 0:
            yield from self._requests(world)
        yield from self._begins(world)
        yield from self._arrivals(world)
        yield from self._browser(world)
        yield from self._tick(world)

    # Requests

    def _requests(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        if len(world.handled) >= self.limits.handled:
            return
        world = world._replace(left=None if world.left is None else world.left - 1)
        for token, is_heard in {(world.jar, True), *((one.token, one.is_heard) for one in world.sent)}:
            if self._is_remembered_as_newest(world.record, token):
                answer = Handled(token, False, 0.0, is_heard)
                yield ("served from memory with token", token), world._replace(handled=_bag(world.handled, answer))
            for rule in ("restore", "check"):
                self.happening = (rule, "of token", token)
                judged = self._judge(world.record, rule, token)
                invariants.who_presents_a_valid_token_is_served(judged.outcome in _SERVED, store_failed=False)
                after = self._written(world, judged)
                token_now = judged.places.get(token, DEAD)
                if judged.issues:
                    answer = Handled(judged.places[OFFERED], True, 0.0, is_heard)
                    after = after._replace(handled=_bag(after.handled, answer))
                elif judged.outcome is Outcome.LIVE and self._is_newest(after.record, token_now):
                    answer = Handled(token_now, False, 0.0, is_heard)
                    after = after._replace(handled=_bag(after.handled, answer))
                yield (rule, "of token", token, judged.outcome.value), after

    def _judge(self, record: int, rule: str, token: int) -> Judged:
        key = (record, rule, token)
        judged = self._judged.get(key)
        if judged is None:
            judged = self._judged[key] = self._judge_anew(self._records[record], record, rule, token)
        return judged

    def _judge_anew(self, record: Record, number: int, rule: str, token: int) -> Judged:
        moment = Moment(NOW, self.policy, Browser("a browser"), DIGESTS[OFFERED])
        if rule == "check":
            verdict = rules.check(record, DIGESTS[token], record.secrets[token].session, moment)
        else:
            verdict = getattr(rules, rule)(record, DIGESTS[token], moment)
        if not verdict.writes or verdict.record is None:
            return Judged(verdict.outcome, number, {place: place for place in range(len(record.secrets))}, False)
        if verdict.outcome is Outcome.EXCHANGE and record.secrets[token].exchanged_at is not None:
            invariants.a_token_opens_one_session(NOW - record.secrets[token].exchanged_at, self.policy.grace_period)
        invariants.restores_at_once_make_one_exchange(record, verdict.record)
        invariants.a_record_is_bounded(verdict.record)
        after, places = self._numbered(verdict.record)
        return Judged(verdict.outcome, after, places, verdict.issued is not None)

    def _written(self, world: World, judged: Judged) -> World:
        """Return the world after a record was written: each token is called by its new place."""
        place = judged.places.get
        return world._replace(
            record=judged.record,
            jar=place(world.jar, DEAD),
            disk=place(world.disk, DEAD),
            sent=tuple(sorted({one._replace(token=place(one.token, DEAD)) for one in world.sent})),
            handled=tuple(sorted(one._replace(token=place(one.token, DEAD)) for one in world.handled)),
            answers=tuple(sorted(one._replace(token=place(one.token, DEAD)) for one in world.answers)),
        )

    # Responses

    def _begins(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        for place, answer in enumerate(world.handled):
            if answer in world.handled[:place]:
                continue
            after = world._replace(handled=world.handled[:place] + world.handled[place + 1 :])
            yield ("a response carries nothing",), after
            if answer.token == DEAD:
                continue
            token = answer.token
            if answer.is_new and answer.ago > SENT_WITHIN:
                judged = self._judge(world.record, "restamp", token)
                after, token = self._written(after, judged), judged.places[token]
            elif not answer.is_new and answer.ago > RENEWED_WITHIN and not self._may_renew_late(world.record, token):
                continue
            if answer.is_heard and len(after.answers) < self.limits.answers:
                yield ("a response carries token", token), after._replace(answers=_bag(after.answers, Way(token, 0.0)))

    def _arrivals(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        for place, way in enumerate(world.answers):
            if way in world.answers[:place]:
                continue
            others = world._replace(answers=world.answers[:place] + world.answers[place + 1 :])
            if way.token == world.jar:
                yield ("a response arrives that changes nothing",), others
                continue
            unflushed = None if way.token == world.disk else world.unflushed or 0.0
            yield (
                ("token", way.token, "arrives"),
                others._replace(jar=way.token, unflushed=unflushed, sent=self._still_sent(world, is_heard=True)),
            )

    # The browser, and time

    def _still_sent(self, world: World, *, is_heard: bool) -> tuple[Sent, ...]:
        if not self.limits.late:
            return ()
        sent = {one._replace(is_heard=one.is_heard and is_heard) for one in world.sent}
        return tuple(sorted({*sent, Sent(world.jar, 0.0, is_heard)}))

    def _browser(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        if world.disk == world.jar:
            return
        yield ("cookies are put on disk",), world._replace(disk=world.jar, unflushed=None)
        yield (
            ("the browser is killed, and has token", world.disk),
            world._replace(
                jar=world.disk,
                unflushed=None,
                answers=(),
                sent=self._still_sent(world, is_heard=False),
                handled=tuple(sorted(one._replace(is_heard=False) for one in world.handled)),
            ),
        )

    def _tick(self, world: World) -> Iterator[tuple[tuple[Any, ...], World]]:
        tick, limits = self.limits.tick, self.limits
        on_time = world.unflushed is None or world.unflushed + tick <= limits.flush
        if not on_time or any(way.ago + tick > limits.late for way in world.answers):
            return
        if limits.slow < A_WHILE_AGO and any(one.ago + tick > limits.slow for one in world.handled):
            return
        yield (
            (f"{tick:g} s pass",),
            world._replace(
                record=self._aged(world.record, tick),
                unflushed=None if world.unflushed is None else world.unflushed + tick,
                sent=tuple(one._replace(ago=one.ago + tick) for one in world.sent if one.ago + tick <= limits.late),
                handled=tuple(sorted(one._replace(ago=min(one.ago + tick, A_WHILE_AGO)) for one in world.handled)),
                answers=tuple(one._replace(ago=one.ago + tick) for one in world.answers),
            ),
        )

    def _aged(self, record: int, seconds: float) -> int:
        key = (record, seconds)
        if key not in self._older:
            self._older[key] = self._numbered(older(self._records[record], seconds))[0]
        return self._older[key]

    # Records

    def _numbered(self, record: Record) -> tuple[int, dict[int, int]]:
        """Return a record's number, and where each of its tokens is from now on.

        What an honest browser's safety does not depend on is made equal: what was shown and reported, and by how much
        the numbers of sessions differ.
        """
        places = {PLACES[secret.digest]: place for place, secret in enumerate(record.secrets)}
        sessions = sorted({secret.session for secret in record.secrets})
        secrets = tuple(
            changed(
                secret,
                digest=DIGESTS[place],
                session=sessions.index(secret.session),
                shown=True,
                reported=True,
                user_agent=None,
            )
            for place, secret in enumerate(record.secrets)
        )
        alike = changed(plain(record), secrets=secrets, last_session=len(sessions), revision=0)
        return self._records.number(plain(alike)), places

    def _is_newest(self, record: int, token: int) -> bool:
        newest = rules.newest(self._records[record])
        return newest is not None and newest.digest == DIGESTS[token]

    def _may_renew_late(self, record: int, token: int) -> bool:
        """Tell whether a response that begins late, and so has just looked at the record, sends a token again."""
        view = View("A" * 22, self._records[record], question=1, looked_at=NOW, until=NOW, ends_at=NOW)
        return view.renews(DIGESTS[token], NOW, is_slow=True)

    def _is_remembered_as_newest(self, record: int, token: int) -> bool:
        """Tell whether a worker that renews from memory can have seen the record when this token was the newest."""
        secrets = self._records[record].secrets
        since = [one.issued_at for one in secrets if one.issued_at > secrets[token].issued_at]
        remembers = min(self.policy.check_interval, policy.RENEWED_AFTER_LOOK)
        return all(NOW - at <= remembers for at in since)


_SERVED = frozenset({Outcome.EXCHANGE, Outcome.JOIN, Outcome.LIVE})


def _bag(values: Iterable[Any], value: Any) -> tuple[Any, ...]:
    return tuple(sorted((*values, value)))


@contextmanager
def bound_of(secrets: int) -> Iterator[None]:
    """Let a record have at most so many valid secrets."""
    bound, rules.MAX_SECRETS = rules.MAX_SECRETS, secrets
    try:
        yield
    finally:
        rules.MAX_SECRETS = bound
