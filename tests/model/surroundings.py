"""What happens around the site: answers arrive or are lost, browsers are killed, cookies reach the disk, time goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .replay import Replayer
from .site import GONE
from .world import NOBODY, OWNER, UNSEEN, Browser, Label, Limits, Sent, World, issued, to_nobody


class Surroundings:
    """What happens in a world without the site's doing."""

    def __init__(self, limits: Limits, replayer: Replayer) -> None:
        self.limits = limits
        self.replayer = replayer
        self.check_interval = replayer.policy.check_interval

    def arrivals(self, world: World) -> Iterator[tuple[Label, World]]:
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

    def browser(self, world: World) -> Iterator[tuple[Label, World]]:
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
                        running=tuple(sorted(map(to_nobody, world.running))),
                        handled=tuple(sorted(map(to_nobody, world.handled))),
                    ),
                )
        if world.left.may("thefts") and world.left.may("thief_requests"):
            # A thief who has both may use one alone.
            sessions, tokens = ({browser.session} - {None}, {browser.token} - {None})
            if sessions or tokens:
                stolen = (tuple(sessions), tuple(tokens))
                yield ("a thief copies", *stolen), world._replace(stolen=stolen, left=world.left.but("thefts"))

    def tick(self, world: World) -> Iterator[tuple[Label, World]]:
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
            tokens.add(issued(visits[one.visit][2]))
        return {("session", one) for one in sessions} | {("token", one) for one in tokens}
