"""Random worlds in seconds, harsher than life: one browser, two workers, a store that fails, and nobody else.

Each follows from its number alone, so that what is found can be looked at again.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import replace as changed
from typing import Any, NamedTuple

from aiohttp_persistent_session.rules import Outcome

from . import invariants
from .records import NOW, first_record
from .scheduler import UNANSWERED, Call, Done, Stepped
from .site import GONE, ID, NAMES, Answer, Presented, Served, Worker


class Harsh(NamedTuple):
    """How harsh a world is. Probabilities, and seconds."""

    lost: float = 0.2
    """The probability of an answer to be lost."""
    killed: float = 0.25
    """The same of the browser, at each visit."""
    session_ends: float = 0.35
    """At each visit."""
    slow: float = 0.15
    """The same of a handler, to take up to 40 s; of half as many, to take up to ``slowest``."""
    slowest: float = 120.0
    skew: float = 5.0
    """By which a worker's clock may be off."""
    unanswered: float = 0.03
    """The same of a swap, to get no answer: it happens at once, within 5 minutes, or never."""
    failed: float = 0.02
    """The same of a read, to fail."""
    flush: float = 30.0
    """Within which a browser puts its cookies on disk."""
    requests_late: float = 3.0
    """For so long one request in ten may be on its way."""
    answers_late: float = 10.0
    hosts: int = 1
    """Hosts that share the token, each with a session of its own."""
    joined_changes: float = 0.3
    """The same of a handler, to change the session."""


class RandomWorld:
    """One world.

    Args:
        number: the world's.
        harsh: how harsh it is.
        workers: two real workers, whose memory is emptied.
    """

    def __init__(self, number: int, harsh: Harsh, workers: tuple[Worker, Worker]) -> None:
        self.random = random.Random(number)
        self.harsh = harsh
        self.workers = workers
        self.counted: Counter[str] = Counter()
        self.log: list[str] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self.now = 0.0
        NAMES.next = 1
        for worker in workers:
            worker.forget()
        self.skews = [self.random.uniform(-harsh.skew, harsh.skew) for _ in workers]
        record = first_record(ID, NAMES.token(0).digest)
        self.record = changed(record, secrets=(changed(record.secrets[0], issued_at=NOW - 1e5),))
        self.sessions: list[int | None] = [0] * harsh.hosts
        self.token = 0
        self.disk: tuple[list[int | None], int] = ([0] * harsh.hosts, 0)
        self.is_flushing = False
        self.running: set[Stepped] = set()
        self.life = 0
        """How often the browser was killed: what was sent in an earlier life gets no answer."""

    def run(self) -> None:
        """Let it happen.

        Raises:
            Broken: what must not happen did.
        """
        self._plan()
        try:
            while self._events:
                self.now, _, event, arguments = heapq.heappop(self._events)
                event(*arguments)
        finally:
            for stepped in self.running:
                stepped.close()

    def _plan(self) -> None:
        uniform, at = self.random.uniform, 0.0
        for _ in range(self.random.randint(4, 14)):
            at += self.random.choice((0.02, 0.5, 5, 11, 20, 35, 45, 58, 61, 65, 75, 100)) * uniform(0.8, 1.2)
            if self._happens(self.harsh.killed):
                self._at(at - uniform(0, 0.3), self._kill)
            if self._happens(self.harsh.session_ends):
                self._at(at - uniform(0, 0.01), self._end_session, self.random.randrange(self.harsh.hosts))
            for _ in range(self.random.choice((1, 1, 1, 2, 3, 5))):
                self._at(at + uniform(0, 0.05), self._send, self.random.randrange(self.harsh.hosts))

    def _at(self, at: float, event: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (max(at, self.now), next(self._order), event, arguments))

    def _in(self, seconds: float, event: Callable[..., None], *arguments: Any) -> None:
        self._at(self.now + seconds, event, *arguments)

    def _happens(self, probability: float) -> bool:
        return self.random.random() < probability

    def _sometimes(self, usually: float, late: float) -> float:
        return self.random.uniform(0, usually if self._happens(0.9) else max(usually, late))

    def _note(self, *parts: Any) -> None:
        self.log.append(f"{self.now:9.2f} " + " ".join(map(str, parts)))

    # The browser

    def _send(self, host: int) -> None:
        presented = Presented(self.sessions[host], self.token)
        worker = self.random.randrange(len(self.workers))
        self._note("sends", *presented[:2], "of host", host, "to worker", worker)
        visit = _Visit(self, worker, host, presented, self.life)
        self._in(self._sometimes(0.3, self.harsh.requests_late), visit.arrive)

    def _kill(self) -> None:
        self.life += 1
        sessions = list(self.disk[0]) if self._happens(0.5) else [None] * self.harsh.hosts
        self.sessions, self.token = sessions, self.disk[1]
        self.disk, self.is_flushing = (list(sessions), self.token), False
        self._note("killed, and has", sessions, self.token)

    def _end_session(self, host: int) -> None:
        self.sessions[host] = None

    def take(self, host: int, life: int, answer: Answer) -> None:
        """Receive an answer."""
        if life != self.life:
            return
        self._note("gets", *answer)
        if answer.session is not None:
            self.sessions[host] = None if answer.session == GONE else int(answer.session)
        if answer.token is not None and answer.token != GONE:
            self.token = int(answer.token)
        if not self.is_flushing:
            self.is_flushing = True
            self._in(self.random.uniform(0.5, 1) * self.harsh.flush, self._flush, self.life)

    def _flush(self, life: int) -> None:
        if life == self.life:
            self.disk, self.is_flushing = (list(self.sessions), self.token), False

    # The store

    def swap(self, record: Any) -> bool:
        """Swap a record in, if it follows the one that is stored."""
        swapped = self.record is not None and record.revision == self.record.revision + 1
        if swapped:
            self.record = record
        return swapped


class _Visit:
    """One request and its response."""

    def __init__(self, world: RandomWorld, worker: int, host: int, presented: Presented, life: int) -> None:
        self.world, self.host, self.presented, self.life = world, host, presented, life
        self.worker, self.skew = world.workers[worker], world.skews[worker]
        self.has_failed = False
        self.served: Served | None = None
        self.issued: int | None = None

    def arrive(self) -> None:
        touches = self.world._happens(self.world.harsh.joined_changes)
        self._start(self.worker.handle(self.presented, touches=touches), self._handled)

    def _start(self, coroutine: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        stepped = Stepped(coroutine)
        self.world.running.add(stepped)
        self._go_on(stepped, None, then)

    def _go_on(self, stepped: Stepped, answer: Any, then: Callable[[Any], None]) -> None:
        """Give a coroutine its answer now; let its next call be answered in a while."""
        world, worker = self.world, self.worker
        worker.now = NOW + world.now + self.skew
        waits = stepped.advance(answer)
        self._look_at_what_was_found()
        if isinstance(waits, Done):
            world.running.discard(stepped)
            then(waits.result)
            return
        self._answer(waits, lambda answer, seconds: world._in(seconds, self._go_on, stepped, answer, then))

    def _look_at_what_was_found(self) -> None:
        self.world.counted.update(name for name, _ in self.worker.told)
        self.worker.told.clear()
        for result in self.worker.found:
            invariants.no_record_is_lost(result.outcome, writes_were_lost=False)
            if result.outcome is Outcome.REUSE:
                self.world._note("accused", *self.presented[:2])
                invariants.nobody_honest_is_accused(copy_was_presented=False)
            self.world.counted["failed" if result.outcome is None else result.outcome.value] += 1
        self.worker.found.clear()

    def _answer(self, call: Call, answered: Callable[[Any, float], None]) -> None:
        world, uniform = self.world, self.world.random.uniform
        if world._happens(world.harsh.failed if call.operation == "get" else world.harsh.unanswered):
            self.has_failed = True
            self._leave_unanswered(call)
            answered(UNANSWERED, 2.0)
        elif call.operation == "get":
            world._in(uniform(0.001, 0.03), lambda: answered(world.record, world._sometimes(0.02, 20)))
        elif call.operation == "replace":
            world._in(world._sometimes(0.05, 1.9), lambda: answered(world.swap(call.argument), uniform(0, 0.002)))
        else:
            world.record, was_there = None, world.record is not None
            answered(was_there, 0.001)

    def _leave_unanswered(self, call: Call) -> None:
        """Let a swap happen at once, within 5 minutes, or never."""
        kind = self.world.random.random()
        if call.operation == "replace" and kind < 0.7:
            self.world._in(0.01 if kind < 0.4 else self.world.random.uniform(2, 300), self.world.swap, call.argument)

    def _handled(self, served: Served) -> None:
        world, harsh, uniform = self.world, self.world.harsh, self.world.random.uniform
        world._note("handled", *self.presented[:2], "served" if served.is_served else "anonymous")
        self.served = served
        new = served.visit.new_token
        self.issued = None if new is None else NAMES.by_digest[new.token.digest]
        invariants.who_presents_a_valid_token_is_served(served.is_served, self.has_failed)
        slow = harsh.slow
        lasts = uniform(0.01, 1)
        if world._happens(slow / 2):
            lasts = uniform(30, harsh.slowest)
        elif world._happens(slow):
            lasts = uniform(1, 40)
        world._in(lasts, self._begin)

    def _begin(self) -> None:
        assert self.served is not None
        self._start(self.worker.begin(self.presented, self.served), self._begun)

    def _begun(self, answer: Answer) -> None:
        invariants.a_response_carries_its_own_token(answer.token, self.presented.token, self.issued)
        world = self.world
        world._note("answers", *self.presented[:2], "with", *answer)
        if answer != Answer() and not world._happens(world.harsh.lost):
            world._in(world._sometimes(0.3, world.harsh.answers_late), world.take, self.host, self.life, answer)


class Run(NamedTuple):
    """What many random worlds came to."""

    worlds: int
    counted: Counter[str]
    broken: tuple[tuple[int, str], ...]
    """The numbers of worlds in which an invariant was broken, and which one."""


def run(harsh: Harsh, *, first: int = 0, worlds: int | None = None, seconds: float = 1e9, **options: Any) -> Run:
    """Run so many worlds, or for so many seconds. To be called within :func:`.site.modelled`."""
    until = time.monotonic() + seconds
    workers = (Worker(**options), Worker(**options))
    counted: Counter[str] = Counter()
    broken = []
    number = first
    while (worlds is None or number < first + worlds) and time.monotonic() < until:
        world = RandomWorld(number, harsh, workers)
        try:
            world.run()
        except invariants.Broken as error:
            broken.append((number, str(error)))
        counted.update(world.counted)
        number += 1
    return Run(number - first, counted, tuple(broken))


KINDS: dict[str, tuple[Harsh, dict[str, Any]]] = {
    "as it is set up": (Harsh(), {}),
    "two hosts that share the token": (Harsh(hosts=2), {}),
    "no grace period": (Harsh(), {"grace_period": 0}),
    "rotation each minute": (Harsh(), {"rotate_interval": 60}),
    "requests up to 45 s on their way": (Harsh(requests_late=45.0), {}),
}
"""How harsh the worlds are, and the options of the site."""
