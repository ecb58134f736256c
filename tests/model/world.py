"""A small world: one browser, two workers, a store, the network between them, and perhaps a thief.

A state is a tuple of small numbers; :meth:`Worlds.successors` yields each thing that can happen in it next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from aiohttp_persistent_session.rules import Outcome

from . import invariants
from .records import NOW, first_record
from .replay import NEWER, NEXT, OLDER, VIEWED, Begin, Look, Looked, Replayer, Step
from .scheduler import UNANSWERED
from .site import GONE, ID, NAMES, Answer, Presented

OWNER = "owner"
THIEF = "thief"
NOBODY = "nobody"
"""Who gets the answer of a request whose browser was killed."""


UNSEEN = -1
"""The view of a worker that has seen nothing."""


class Left(NamedTuple):
    """How often each thing may still happen; None for any number of times."""

    requests: int = 2
    thefts: int = 0
    thief_requests: int = 0
    losses: int | None = None
    kills: int | None = None
    failures: int | None = 0
    """Calls of the store that get no answer, whether they happen at once, later, or never."""
    deaths: int | None = 0
    lags: int | None = 0
    """Reads that show the record before."""
    revocations: int = 0

    def may(self, what: str) -> bool:
        return getattr(self, what) != 0

    def but(self, what: str) -> Left:
        """Return what is left after it has happened."""
        left = getattr(self, what)
        return self if left is None else self._replace(**{what: left - 1})


class Limits(NamedTuple):
    """What else a world allows."""

    tick: float = 30.0
    late: float = 0.0
    """For so long a request, and for so long an answer, may be on its way."""
    flush: float = 30.0
    """After so long a browser has put its cookies on disk."""
    at_once: int = 4
    """Requests that may wait for the store at the same time."""
    tokenless: bool = False
    """Whether the browser also sends its session without its token."""
    touches: bool = False
    """Whether handlers may change the session."""
    whole: bool = False
    """Whether a request's calls of the store are made without another's in between."""


class Browser(NamedTuple):
    """A jar, and what a kill takes it back to."""

    session: int | None
    token: int | None
    disk_session: int | None
    disk_token: int | None
    unflushed: float | None = None
    """For how long the two have differed."""


class Sent(NamedTuple):
    """What the browser held a moment ago: requests with it may still be on their way."""

    session: int | None
    token: int | None
    ago: float
    who: str


class Running(NamedTuple):
    """A coroutine that waits for the store."""

    run: int
    worker: int
    asked: int
    who: str


class Handled(NamedTuple):
    """A request whose response has not begun yet."""

    visit: int
    worker: int
    who: str


class Way(NamedTuple):
    """An answer on its way to the browser."""

    session: int | str | None
    token: int | str | None
    ago: float


class Over(NamedTuple):
    """A session's number, or a token, that was valid once."""

    kind: str
    name: int
    ago: float


class World(NamedTuple):
    record: int | None
    before: int | None
    """The record before, where reads may lag."""
    workers: tuple[tuple[int, int], tuple[int, int]]
    """Each one's number of its view, and the number of the view's question."""
    browser: Browser
    left: Left
    running: tuple[Running, ...] = ()
    handled: tuple[Handled, ...] = ()
    answers: tuple[Way, ...] = ()
    sent: tuple[Sent, ...] = ()
    swaps: tuple[int, ...] = ()
    """Those that were not answered, and may happen later."""
    stolen: tuple[tuple[int | None, ...], tuple[int | None, ...]] = ((), ())
    """The sessions and the tokens that the thief holds."""
    copy_was_presented: bool = False
    over: tuple[Over, ...] = ()
    ended_ago: float | None = None
    """How long ago the record was deleted."""
    reported: tuple[int, ...] = ()


Label = tuple[Any, ...]


class Worlds:
    """Every world of these limits."""

    def __init__(self, left: Left, limits: Limits = Limits(), *, persistent: bool = True, **options: Any) -> None:  # noqa: B008 -- it is immutable
        self.left = left
        self.limits = limits
        self.replayer = Replayer(**options)
        self.check_interval = self.replayer.policy.check_interval
        self.persistent = persistent
        self.happening: Label = ()
        """What is being tried, for who is told of a broken invariant."""
        self._valid_of: dict[int, frozenset[tuple[str, int]]] = {}

    def first(self) -> World:
        record = first_record(ID, NAMES.token(0).digest, persistent=self.persistent)
        number = self.replayer.record_number(record)
        return World(number, None, ((UNSEEN, 0), (UNSEEN, 0)), Browser(0, 0, 0, 0), self.left)

    def successors(self, world: World) -> Iterator[tuple[Label, World]]:
        """Yield what can happen next, and the world after it.

        Raises:
            Broken: something must not happen.
        """
        for label, after in self._happens(world):
            self._check(after)
            yield label, _mirrored(after if after.left.requests else self._rested(after))

    def _happens(self, world: World) -> Iterator[tuple[Label, World]]:
        if world.running and self.limits.whole:
            yield from self._steps(world)
            return
        yield from self._requests(world)
        yield from self._steps(world)
        yield from self._begins(world)
        if world.left.requests and (world.record is not None or world.answers):
            yield from self._arrivals(world)
            yield from self._browser(world)
        if world.left.requests or world.left.thief_requests or world.running or world.handled:
            yield from self._store(world)
            if not world.running:
                yield from self._tick(world)

    def _rested(self, world: World) -> World:
        """Return the world without the browser, which sends nothing any more."""
        return world._replace(browser=Browser(None, None, None, None), answers=(), sent=())

    # Requests

    def _requests(self, world: World) -> Iterator[tuple[Label, World]]:
        left = world.left
        if len(world.running) >= self.limits.at_once:
            return
        if left.may("requests"):
            after = world._replace(left=left.but("requests"))
            for presented in self._presented(world):
                yield from self._arrive(after, *presented)
        if left.may("thief_requests") and world.stolen != ((), ()):
            after = world._replace(left=left.but("thief_requests"))
            for session in (None, *world.stolen[0]):
                for token in (None, *world.stolen[1]):
                    if session is not None or token is not None:
                        used = after._replace(copy_was_presented=world.copy_was_presented or token is not None)
                        yield from self._arrive(used, session, token, THIEF)

    def _presented(self, world: World) -> list[tuple[int | None, int | None, str]]:
        browser = world.browser
        kinds = {(browser.session, browser.token, OWNER)}
        kinds.update((sent.session, sent.token, sent.who) for sent in world.sent)
        if self.limits.tokenless:
            kinds.update([(session, None, who) for session, _, who in kinds if session is not None])
        return sorted(kinds, key=repr)

    def _arrive(self, world: World, session: int | None, token: int | None, who: str) -> Iterator[tuple[Label, World]]:
        number = self.left.requests + self.left.thief_requests - world.left.requests - world.left.thief_requests - 1
        presented = Presented(session, token, number)
        for worker in range(len(world.workers)):
            for touches in (False, True) if self.limits.touches else (False,):
                start = Look(presented, touches)
                step = self.replayer.begin(start, self._view(world, worker))
                label = self.happening = (
                    "request",
                    who,
                    "with session",
                    session,
                    "and token",
                    token,
                    "at worker",
                    worker,
                )
                yield label, self._stepped(world, step, start, None, worker, VIEWED, who)

    # Steps of coroutines

    def _steps(self, world: World) -> Iterator[tuple[Label, World]]:
        for place, one in enumerate(world.running):
            if place and one == world.running[place - 1]:
                continue
            others = world._replace(running=world.running[:place] + world.running[place + 1 :])
            for name, after, answer in self._answers(others, one.run):
                question = world.workers[one.worker][1]
                asked = VIEWED if one.asked == question else OLDER if one.asked < question else NEWER
                start = self.replayer.runs[one.run].start
                label = self.happening = (name, "for", one.who, *self._of(start), "at worker", one.worker)
                step = self.replayer.go_on(one.run, self._view(world, one.worker), asked, answer)
                yield label, self._stepped(after, step, start, one, one.worker, one.asked, one.who)

    def _answers(self, world: World, run: int) -> Iterator[tuple[str, World, Any]]:
        """Yield how a call of the store may end: what happened, the world after it, and the answer."""
        operation, record = self.replayer.call_of(run)
        left = world.left
        failed = world._replace(left=left.but("failures")) if left.may("failures") else None
        if operation == "get":
            yield "get", world, world.record
            if world.before is not None and left.may("lags"):
                yield "lagging get", world._replace(left=left.but("lags")), world.before
            if failed:
                yield "unanswered get", failed, UNANSWERED
        elif operation == "replace":
            assert record is not None
            swapped = self._swapped(world, record)
            if swapped:
                self._check_exchange(world.record, record, self.replayer.runs[run].start)
            yield "swap" if swapped else "lost swap", swapped or world, swapped is not None
            if failed:
                yield "unanswered swap", failed, UNANSWERED
                if swapped:
                    yield "swap without an answer", self._swapped(failed, record), UNANSWERED
                    yield "swap for later", failed._replace(swaps=tuple(sorted((*world.swaps, record)))), UNANSWERED
        else:
            yield "delete", self._ended(world), world.record is not None
            if failed:
                yield "unanswered delete", failed, UNANSWERED
                yield "delete without an answer", self._ended(failed), UNANSWERED

    def _swapped(self, world: World, number: int) -> World | None:
        """Return the world after a swap; None where it fails."""
        if world.record is None:
            return None
        before, after = self.replayer.records[world.record], self.replayer.records[number]
        if after.revision != before.revision + 1:
            return None
        invariants.restores_at_once_make_one_exchange(before, after)
        invariants.a_record_is_bounded(after)
        was, now = self._valid(world.record), self._valid(number)
        over = {(one.kind, one.name): one for one in world.over if (one.kind, one.name) not in now}
        over.update({gone: Over(*gone, 0.0) for gone in was - now})
        kept = world.record if world.left.may("lags") else None
        return world._replace(record=number, before=kept, over=tuple(sorted(over.values())))

    def _check_exchange(self, before: int | None, after: int, start: Look | Begin) -> None:
        if isinstance(start, Look) and before is not None:
            record = self.replayer.records[before]
            secrets = [one for one in record.secrets if NAMES.by_digest[one.digest] == start.presented.token]
            if secrets and self.replayer.records[after].last_session > record.last_session:
                at = secrets[0].exchanged_at
                grace_period = self.replayer.policy.grace_period
                invariants.a_token_opens_one_session(None if at is None else NOW - at, grace_period)

    def _ended(self, world: World) -> World:
        if world.record is None:
            return world
        before = world.record if world.left.may("lags") else None
        return world._replace(record=None, before=before, ended_ago=0.0, over=())

    def _stepped(
        self, world: World, step: Step, start: Look | Begin, running: Running | None, worker: int, asked: int, who: str
    ) -> World:
        """Return the world after a step of a coroutine, whose effect on the store has been made."""
        question = world.workers[worker][1]
        waiting = [one.asked for one in world.running if one.worker == worker]
        top = max((question, asked, *waiting), default=0) + 1

        def number(code: int) -> int:
            return top + code - NEXT if code >= NEXT else question if code == VIEWED else asked

        view = (UNSEEN, 0) if step.view is None else (step.view, number(step.view_question))
        world = world._replace(workers=_with(world.workers, worker, view))
        world = self._told(world, step, running)
        if step.run is not None:
            one = Running(step.run, worker, number(step.asked), who)
            world = world._replace(running=tuple(sorted((*world.running, one))))
        elif isinstance(start, Look):
            world = self._looked(world, start, step.result, step, running, worker, who)
        else:
            world = self._begun(world, start, step.result, who)
        return _ranked(world, worker)

    def _looked(
        self, world: World, start: Look, looked: Looked, step: Step, running: Running | None, worker: int, who: str
    ) -> World:
        history = () if running is None else self.replayer.runs[running.run].history
        failed = step.answer is UNANSWERED or any(answer is UNANSWERED for _, answer in history)
        invariants.who_joins_is_handed_nothing(step.outcomes, looked.issued, looked.session, start.touches)
        over_for = self._over_for(world, start.presented)
        if not failed:
            invariants.what_is_over_is_not_served(looked.is_served, over_for, self.check_interval)
        invariants.a_closed_browser_is_signed_out(looked.is_served, self.persistent or failed, start.presented.token)
        if (
            start.presented.token is not None
            and who != THIEF
            and world.ended_ago is None
            and not world.copy_was_presented
        ):
            invariants.who_presents_a_valid_token_is_served(looked.is_served, failed)
        if looked.is_over:
            return world
        one = Handled(looked.visit, worker, who)
        return world._replace(handled=tuple(sorted((*world.handled, one))))

    def _over_for(self, world: World, presented: Presented) -> float | None:
        """Return for how long what a request presents has been over; None where some of it is not."""
        if world.ended_ago is not None:
            return world.ended_ago
        over = {(one.kind, one.name): one.ago for one in world.over}
        if presented.token is not None:
            return over.get(("token", presented.token))
        return over.get(("session", presented.session))

    def _told(self, world: World, step: Step, running: Running | None) -> World:
        for outcome in step.outcomes:
            invariants.no_record_is_lost(outcome, writes_were_lost=False)
            if outcome is Outcome.REUSE:
                invariants.nobody_honest_is_accused(world.copy_was_presented)
        for name, repeat in step.told:
            if name == "on_reuse":
                invariants.nobody_honest_is_accused(world.copy_was_presented)
            elif name == "on_repeat":
                world = self._reported(world, repeat, running)
        return world

    def _reported(self, world: World, user_agent: str, running: Running | None) -> World:
        answers = [answer for _, answer in self.replayer.runs[running.run].history] if running else []
        read = [self.replayer.records[answer] for answer in answers if type(answer) is int]
        secrets = {secret for record in read for secret in record.secrets if secret.user_agent == user_agent}
        names = {NAMES.by_digest[secret.digest] for secret in secrets}
        invariants.a_repeat_is_reported_once(secrets, names, world.reported)
        return world._replace(reported=tuple(sorted({*world.reported, *names})))

    # Answers

    def _begins(self, world: World) -> Iterator[tuple[Label, World]]:
        for place, one in enumerate(world.handled):
            if place and one == world.handled[place - 1]:
                continue
            others = world._replace(handled=world.handled[:place] + world.handled[place + 1 :])
            start = Begin(one.visit)
            step = self.replayer.begin(start, self._view(world, one.worker))
            label = self.happening = ("response begins", one.who, *self._of(start), "at worker", one.worker)
            yield label, self._stepped(others, step, start, None, one.worker, VIEWED, one.who)

    def _begun(self, world: World, start: Begin, answer: Answer, who: str) -> World:
        presented, _, attributes = self.replayer.visits[start.visit]
        invariants.a_response_carries_its_own_token(answer.token, presented.token, _issued(attributes))
        if answer == Answer() or who == NOBODY:
            return world
        if who == THIEF:
            sessions, tokens = map(set, world.stolen)
            sessions.update({answer.session} - {None, GONE})
            tokens.update({answer.token} - {None, GONE})
            return world._replace(stolen=(tuple(sorted(sessions)), tuple(sorted(tokens))))
        return world._replace(answers=tuple(sorted((*world.answers, Way(*answer, 0.0)), key=repr)))

    def _arrivals(self, world: World) -> Iterator[tuple[Label, World]]:
        for place, way in enumerate(world.answers):
            if place and way == world.answers[place - 1]:
                continue
            others = world._replace(answers=world.answers[:place] + world.answers[place + 1 :])
            browser = world.browser
            session = browser.session if way.session is None else None if way.session == GONE else way.session
            token = browser.token if way.token is None else None if way.token == GONE else way.token
            yield ("answer arrives", way.session, way.token), self._holds(others, session, token)
            if world.left.may("losses"):
                left = world.left.but("losses")
                yield ("answer is lost", way.session, way.token), others._replace(left=left)

    # The browser

    def _holds(self, world: World, session: int | None, token: int | None) -> World:
        """Return the world after something has changed the jar."""
        old = world.browser
        if not world.left.may("kills"):  # then it does not matter what is on disk
            return world._replace(browser=Browser(session, token, session, token), sent=self._still_sent(world, OWNER))
        same = (session, token) == (old.disk_session, old.disk_token)
        unflushed = None if same else old.unflushed or 0.0
        browser = Browser(session, token, old.disk_session, old.disk_token, unflushed)
        return world._replace(browser=browser, sent=self._still_sent(world, OWNER))

    def _still_sent(self, world: World, who: str) -> tuple[Sent, ...]:
        """Return what may be on its way once the jar changes; ``who`` is whom its answers reach."""
        if not self.limits.late:
            return ()
        sent = {one if who == OWNER else one._replace(who=who) for one in world.sent}
        sent.add(Sent(world.browser.session, world.browser.token, 0.0, who))
        return tuple(sorted(sent, key=repr))

    def _browser(self, world: World) -> Iterator[tuple[Label, World]]:
        browser = world.browser
        if browser.session is not None and world.left.may("requests"):
            ended = browser._replace(session=None, disk_session=None)
            if ended.token == ended.disk_token:
                ended = ended._replace(unflushed=None)
            yield ("the session ends",), world._replace(browser=ended, sent=self._still_sent(world, OWNER))
        if browser.unflushed is not None:
            flushed = Browser(browser.session, browser.token, browser.session, browser.token)
            yield ("cookies are put on disk",), world._replace(browser=flushed)
        if world.left.may("kills") and (
            browser.unflushed is not None or world.running or world.handled or world.answers
        ):
            left = world.left.but("kills")
            for session in {browser.disk_session, None}:
                back = Browser(session, browser.disk_token, session, browser.disk_token)
                yield (
                    ("the browser is killed", session, browser.disk_token),
                    world._replace(
                        browser=back,
                        left=left,
                        answers=(),
                        sent=self._still_sent(world, NOBODY),
                        running=tuple(sorted(map(_to_nobody, world.running))),
                        handled=tuple(sorted(map(_to_nobody, world.handled))),
                    ),
                )
        if world.left.may("thefts") and world.left.may("thief_requests"):
            # A thief who has both may use one alone.
            sessions, tokens = ({browser.session} - {None}, {browser.token} - {None})
            if sessions or tokens:
                stolen = (tuple(sessions), tuple(tokens))
                yield ("a thief copies", *stolen), world._replace(stolen=stolen, left=world.left.but("thefts"))

    # The rest

    def _store(self, world: World) -> Iterator[tuple[Label, World]]:
        for place, swap in enumerate(world.swaps):
            others = world._replace(swaps=world.swaps[:place] + world.swaps[place + 1 :])
            swapped = self._swapped(others, swap)
            yield ("an unanswered swap happens" if swapped else "an unanswered swap is lost",), swapped or others
        if world.left.may("revocations") and world.record is not None:
            left = world.left.but("revocations")
            yield ("an administrator revokes",), self._ended(world)._replace(left=left)
        if world.left.may("deaths"):
            yield from self._deaths(world)

    def _deaths(self, world: World) -> Iterator[tuple[Label, World]]:
        left = world.left.but("deaths")
        for worker, memory in enumerate(world.workers):
            dying = [one for one in world.running if one.worker == worker]
            if memory == (UNSEEN, 0) and not dying:
                continue
            calls = [self.replayer.call_of(one.run) for one in dying]
            swaps = sorted([*world.swaps, *(record for operation, record in calls if operation == "replace")])
            yield (
                ("a worker dies", worker),
                world._replace(
                    left=left,
                    swaps=tuple(swaps),
                    workers=_with(world.workers, worker, (UNSEEN, 0)),
                    running=tuple(one for one in world.running if one.worker != worker),
                    handled=tuple(one for one in world.handled if one.worker != worker),
                ),
            )

    def _tick(self, world: World) -> Iterator[tuple[Label, World]]:
        tick, limits, browser = self.limits.tick, self.limits, world.browser
        if (world.ended_ago or 0.0) > self.check_interval:
            return
        if (browser.unflushed is not None and browser.unflushed + tick > limits.flush) or any(
            one.ago + tick > limits.late for one in world.answers
        ):
            return
        aged = self._aged(world, tick)
        if aged != world:
            yield (f"{tick:g} s pass",), aged

    def _aged(self, world: World, tick: float) -> World:
        older, browser = self.replayer.older, world.browser
        return world._replace(
            record=None if world.record is None else older("record", world.record, tick),
            before=None if world.before is None else older("record", world.before, tick),
            workers=tuple(
                (view if view == UNSEEN else older("view", view, tick), question) for view, question in world.workers
            ),
            browser=browser._replace(unflushed=None if browser.unflushed is None else browser.unflushed + tick),
            handled=tuple(sorted(one._replace(visit=older("visit", one.visit, tick)) for one in world.handled)),
            answers=tuple(one._replace(ago=one.ago + tick) for one in world.answers),
            sent=tuple(one._replace(ago=one.ago + tick) for one in world.sent if one.ago + tick <= self.limits.late),
            swaps=tuple(sorted(older("record", one, tick) for one in world.swaps)),
            over=tuple(
                one._replace(ago=min(one.ago + tick, self.check_interval + 1))
                for one in world.over
                if (one.kind, one.name) in self._in_hands(world)
            ),
            ended_ago=None if world.ended_ago is None else min(world.ended_ago + tick, self.check_interval + 1),
        )

    def _in_hands(self, world: World) -> set[tuple[str, Any]]:
        """Return what somebody may present in time."""
        browser, visits = world.browser, self.replayer.visits
        sessions = {browser.session, browser.disk_session, *world.stolen[0]}
        tokens = {browser.token, browser.disk_token, *world.stolen[1]}
        for one in (*world.sent, *world.answers):
            sessions.add(one.session)
            tokens.add(one.token)
        for one in world.handled:
            sessions.add(visits[one.visit][1])
            tokens.add(_issued(visits[one.visit][2]))
        return {("session", one) for one in sessions} | {("token", one) for one in tokens}

    # Invariants of every state

    def _check(self, world: World) -> None:
        """Raise Broken where the state itself must not be."""
        if world.record is None or world.copy_was_presented:
            return
        valid = {name for kind, name in self._valid(world.record) if kind == "token"}
        browser = world.browser
        may_present = {browser.token, browser.disk_token}
        may_present.update(sent.token for sent in world.sent)
        may_present.update(way.token for way in world.answers)
        invariants.what_the_browser_may_present_is_valid(valid, may_present - {None})

    def _valid(self, record: int) -> frozenset[tuple[str, int]]:
        """Return what a record lets be presented: its tokens, and the numbers of their sessions."""
        valid = self._valid_of.get(record)
        if valid is None:
            secrets = self.replayer.records[record].secrets
            tokens = {("token", NAMES.by_digest[secret.digest]) for secret in secrets}
            valid = self._valid_of[record] = frozenset(tokens | {("session", one.session) for one in secrets})
        return valid

    def _view(self, world: World, worker: int) -> int | None:
        view = world.workers[worker][0]
        return None if view == UNSEEN else view

    def _of(self, start: Look | Begin) -> Label:
        presented = start.presented if isinstance(start, Look) else self.replayer.visits[start.visit][0]
        return ("with session", presented.session, "and token", presented.token)


def _issued(attributes: Any) -> int | None:
    """Return the name of the token that was issued for a visit."""
    kind, content = dict(attributes).get("new_token", ("is", None))
    return next(name for kind, name in content[1] if kind == "token") if kind == "tuple" else None


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _to_nobody(one: Any) -> Any:
    return one._replace(who=NOBODY) if one.who == OWNER else one


def _ranked(world: World, worker: int) -> World:
    """Return the world with a worker's questions counted from 1: only their order matters."""
    view, question = world.workers[worker]
    asked = sorted({question, *(one.asked for one in world.running if one.worker == worker)} | {0})
    rank = {number: place for place, number in enumerate(asked)}
    running = tuple(
        sorted(one._replace(asked=rank[one.asked]) if one.worker == worker else one for one in world.running)
    )
    return world._replace(workers=_with(world.workers, worker, (view, rank[question])), running=running)


def _mirrored(world: World) -> World:
    """Return the world, or the one with its workers exchanged: one stands for both."""
    one, other = world.workers
    if one > other or (one == other and not (world.running or world.handled)):
        return world
    running = tuple(sorted(each._replace(worker=1 - each.worker) for each in world.running))
    handled = tuple(sorted(each._replace(worker=1 - each.worker) for each in world.handled))
    if one == other and (running, handled) >= (world.running, world.handled):
        return world
    return world._replace(workers=(other, one), running=running, handled=handled)
