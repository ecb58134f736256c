"""A small world: one browser, two workers, a store, the network between them, and perhaps a thief.

A state is a tuple of small numbers; :class:`.worlds.Worlds` yields each thing that can happen in it next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


def issued(attributes: Any) -> int | None:
    """Return the name of the token that was issued for a visit."""
    kind, content = dict(attributes).get("new_token", ("is", None))
    return next(name for kind, name in content[1] if kind == "token") if kind == "tuple" else None


def with_(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def to_nobody(one: Any) -> Any:
    return one._replace(who=NOBODY) if one.who == OWNER else one


def ranked(world: World, worker: int) -> World:
    """Return the world with a worker's questions counted from 1: only their order matters."""
    view, question = world.workers[worker]
    asked = sorted({question, *(one.asked for one in world.running if one.worker == worker)} | {0})
    rank = {number: place for place, number in enumerate(asked)}
    running = tuple(
        sorted(one._replace(asked=rank[one.asked]) if one.worker == worker else one for one in world.running)
    )
    return world._replace(workers=with_(world.workers, worker, (view, rank[question])), running=running)


def mirrored(world: World) -> World:
    """Return the world, or the one with its workers exchanged: one stands for both."""
    one, other = world.workers
    if one > other or (one == other and not (world.running or world.handled)):
        return world
    running = tuple(sorted(each._replace(worker=1 - each.worker) for each in world.running))
    handled = tuple(sorted(each._replace(worker=1 - each.worker) for each in world.handled))
    if one == other and (running, handled) >= (world.running, world.handled):
        return world
    return world._replace(workers=(other, one), running=running, handled=handled)
