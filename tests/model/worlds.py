"""Every world of some limits: what the site can do next, and whether it may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiohttp_persistent_session.rules import Outcome

from . import invariants
from .records import NOW, first_record
from .replay import NEWER, NEXT, OLDER, VIEWED, Begin, Look, Looked, Replayer, Step
from .scheduler import UNANSWERED
from .site import GONE, ID, NAMES, Answer, Presented
from .surroundings import Surroundings
from .world import (
    NOBODY,
    OWNER,
    THIEF,
    UNSEEN,
    Browser,
    Handled,
    Label,
    Left,
    Limits,
    Over,
    Running,
    Way,
    World,
    issued,
    mirrored,
    ranked,
    with_,
)


class Worlds:
    """Every world of these limits."""

    def __init__(self, left: Left, limits: Limits = Limits(), *, persistent: bool = True, **options: Any) -> None:  # noqa: B008 -- it is immutable
        self.left = left
        self.limits = limits
        self.replayer = Replayer(**options)
        self.check_interval = self.replayer.policy.check_interval
        self._around = Surroundings(limits, self.replayer)
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
            yield label, mirrored(after if after.left.requests else self._rested(after))

    def _happens(self, world: World) -> Iterator[tuple[Label, World]]:
        if world.running and self.limits.whole:
            yield from self._steps(world)
            return
        yield from self._requests(world)
        yield from self._steps(world)
        yield from self._begins(world)
        if world.left.requests and (world.record is not None or world.answers):
            yield from self._around.arrivals(world)
            yield from self._around.browser(world)
        if world.left.requests or world.left.thief_requests or world.running or world.handled:
            yield from self._store(world)
            if not world.running:
                yield from self._around.tick(world)

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
        world = world._replace(workers=with_(world.workers, worker, view))
        world = self._told(world, step, running)
        if step.run is not None:
            one = Running(step.run, worker, number(step.asked), who)
            world = world._replace(running=tuple(sorted((*world.running, one))))
        elif isinstance(start, Look):
            world = self._looked(world, start, step.result, step, running, worker, who)
        else:
            world = self._begun(world, start, step.result, who)
        return ranked(world, worker)

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
        invariants.a_response_carries_its_own_token(answer.token, presented.token, issued(attributes))
        if answer == Answer() or who == NOBODY:
            return world
        if who == THIEF:
            sessions, tokens = map(set, world.stolen)
            sessions.update({answer.session} - {None, GONE})
            tokens.update({answer.token} - {None, GONE})
            return world._replace(stolen=(tuple(sorted(sessions)), tuple(sorted(tokens))))
        return world._replace(answers=tuple(sorted((*world.answers, Way(*answer, 0.0)), key=repr)))

    # The store

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
                    workers=with_(world.workers, worker, (UNSEEN, 0)),
                    running=tuple(one for one in world.running if one.worker != worker),
                    handled=tuple(one for one in world.handled if one.worker != worker),
                ),
            )

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
