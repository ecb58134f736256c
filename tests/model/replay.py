"""Coroutines as values: what is kept of one is what it was begun with and what it has been answered so far.

A coroutine cannot be copied. But it is determined by these two, so it is begun anew and given the same answers where
another one is to follow. Values are numbered, so that states of a world are tuples of small numbers.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import fields
from enum import Enum
from typing import Any, NamedTuple

from aiohttp_session import STORAGE_KEY, Session

from aiohttp_persistent_session.record import Record
from aiohttp_persistent_session.seen import View
from aiohttp_persistent_session.tokens import Token
from aiohttp_persistent_session.visit import Visit

from .records import NOW, older, plain
from .scheduler import Call, Done, Stepped
from .site import ID, NAMES, Presented, Request, Served, Worker, number_of, session_of
from .tables import Table

LATE = 30.0
"""Seconds after which a look, and the beginning of a request, get no older: no rule asks for more."""
VIEW_FIELDS = tuple(field.name for field in fields(View) if field.name not in {"id", "question"})
NAMES_EACH = 4
"""Tokens that one request may offer."""


class Look(NamedTuple):
    """The beginning of a request's handling."""

    presented: Presented
    touches: bool = False


class Begin(NamedTuple):
    """The beginning of its response."""

    visit: int


class Run(NamedTuple):
    """A coroutine that waits for the store."""

    start: Look | Begin
    history: tuple[tuple[float, Any], ...] = ()
    """How long ago each answer came, and the answer: a record's number, a bool, None, or UNANSWERED."""


class Step(NamedTuple):
    """What became of a coroutine that was given an answer."""

    answer: Any
    run: int | None
    """The coroutine as it is now; None where it has ended."""
    call: tuple[str, Any] | None
    """What it waits for: the operation, and the number of the record that is to be swapped in."""
    view: int | None
    """What its worker knows of the record from now on."""
    view_question: int
    asked: int
    """The question that it asked last. Both are numbers as of :data:`OLDER`, :data:`VIEWED`, ..."""
    result: Any
    """Where it has ended: :class:`Looked` or :class:`.site.Answer`."""
    told: tuple[tuple[str, Any], ...]
    outcomes: tuple[Any, ...]


class Looked(NamedTuple):
    """A request that was handled, and whose response may begin."""

    visit: int
    is_served: bool
    session: int | str | None
    """What its response does to the session's cookie."""
    issued: int | None
    """The name of the token that was issued for it."""
    is_over: bool
    """Whether its response has nothing to carry."""


OLDER, VIEWED, NEWER, NEXT = 0, 1, 2, 10
"""Questions to the store, in the order of asking: one from before the view, the view's, one from after it, new ones."""


class Replayer:
    """Goes on with coroutines on one real worker, whose memory is put right before each step."""

    def __init__(self, **options: Any) -> None:
        self.worker = Worker(**options)
        self.policy = self.worker.policy
        self.records: Table[Record] = Table()
        self.views: Table[Any] = Table()
        self.visits: Table[Any] = Table()
        self.runs: Table[Run] = Table()
        self._steps: dict[Any, Step] = {}
        self._older: dict[Any, Any] = {}
        self._calls: dict[int, tuple[str, Any]] = {}

    # Going on

    def begin(self, start: Look | Begin, view: int | None) -> Step:
        return self._memoized(Run(start), view, VIEWED, None)

    def go_on(self, run: int, view: int | None, asked: int, answer: Any) -> Step:
        return self._memoized(run, view, asked, answer)

    def call_of(self, run: int) -> tuple[str, Any]:
        """Return what a coroutine waits for."""
        return self._calls[run]

    def _memoized(self, run: Run | int, view: int | None, asked: int, answer: Any) -> Step:
        key = (run, view, asked, answer)
        step = self._steps.get(key)
        if step is None:
            one = run if isinstance(run, Run) else self.runs[run]
            step = self._steps[key] = self._step(one, view, asked, answer)
        return step

    def _step(self, run: Run, view: int | None, asked: int, answer: Any) -> Step:
        worker, seen = self.worker, self.worker.seen
        NAMES.next = 1 + NAMES_EACH * (run.start.presented.number if isinstance(run.start, Look) else 0)
        worker.now = NOW
        known = None if view is None else self._view(view)
        coroutine = Stepped(self._coroutine(run.start, view, known))
        seen._views.clear()
        seen._questions = itertools.repeat(asked)
        for ago, given in run.history:
            worker.now = NOW - ago
            waits = coroutine.advance(self._answer(given))
            assert isinstance(waits, Call), "a coroutine that is given the same answers goes another way"
        worker.now = NOW
        seen._views.clear()
        if known is not None:
            seen._views[ID] = known
        asking = _Counter()
        seen._questions = asking
        worker.told.clear()
        waits = coroutine.advance(self._answer(answer))
        view_now = seen._views.get(ID)
        number = call = result = None
        if isinstance(waits, Call):
            number = self.runs.number(Run(run.start, (*run.history, (0.0, answer))))
            argument = self.record_number(waits.argument) if waits.operation == "replace" else None
            call = self._calls[number] = (waits.operation, argument)
            coroutine.close()
        else:
            result = self._result(run.start, waits)
        told = tuple((name, self._shown(session)) for name, session in worker.told)
        outcomes = tuple(one.outcome for one in worker.found)
        worker.found.clear()
        return Step(
            answer,
            number,
            call,
            None if view_now is None else self.views.number(self._encoded_view(view_now)),
            VIEWED if view_now is None else view_now.question,
            asking.last or asked,
            result,
            told,
            outcomes,
        )

    def _coroutine(self, start: Look | Begin, view: int | None, known: View | None) -> Any:
        if isinstance(start, Look):
            return self.worker.handle(start.presented, touches=start.touches)
        presented, session, attributes = self.visits[start.visit]
        request = Request(presented)
        request[STORAGE_KEY] = self.worker.storage
        visit = Visit(self.worker.wiring, request)
        for name, value in attributes:
            setattr(visit, name, self._decoded(value, view, known))
        return self.worker.begin(presented, Served(visit, True, session))

    def _result(self, start: Look | Begin, done: Done) -> Any:
        if isinstance(start, Begin):
            return done.result
        served: Served = done.result
        visit = served.visit
        is_over = not (served.session or visit.view or visit.new_token or visit.deletes_cookie or visit.presented_copy)
        attributes = tuple(
            (name, self._encoded(value))
            for name, value in sorted(vars(visit).items())
            if name not in {"wiring", "storage", "values", "_judged", "request_number"}
        )
        number = self.visits.number((start.presented, served.session, attributes))
        issued = None if visit.new_token is None else NAMES.by_digest[visit.new_token.token.digest]
        return Looked(number, served.is_served, served.session, issued, is_over)

    def _answer(self, answer: Any) -> Any:
        return self.records[answer] if type(answer) is int else answer

    def _shown(self, session: Any) -> Any:
        return None if session.repeat is None else session.repeat.user_agent

    # Time

    def older(self, kind: str, number: int, seconds: float) -> int:
        """Return the number of a record, view, visit or run as it is so many seconds later."""
        key = (kind, number, seconds)
        aged = self._older.get(key)
        if aged is None:
            aged = self._older[key] = getattr(self, f"_older_{kind}")(number, seconds)
        return aged

    def _older_record(self, number: int, seconds: float) -> int:
        return self.records.number(older(self.records[number], seconds))

    def _older_view(self, number: int, seconds: float) -> int:
        return self.views.number(tuple(self._aged(value, seconds) for value in self.views[number]))

    def _older_visit(self, number: int, seconds: float) -> int:
        presented, session, attributes = self.visits[number]
        aged = tuple((name, self._aged(value, seconds)) for name, value in attributes)
        return self.visits.number((presented, session, aged))

    def _aged(self, value: Any, seconds: float) -> Any:
        kind, content = value
        if kind == "ago":
            return (kind, min(content + seconds, LATE))
        if kind == "left":
            return (kind, None if content is None or content < seconds else content - seconds)
        if kind in {"record", "view"}:
            return (kind, self.older(kind, content, seconds))
        if kind == "tuple":
            return (kind, (content[0], tuple(self._aged(one, seconds) for one in content[1])))
        return value

    # Values. A time is kept as how long ago it was, a cookie's hash as the token's name.

    def record_number(self, record: Record) -> int:
        return self.records.number(plain(record))

    def _encoded_view(self, view: View) -> tuple[Any, ...]:
        left = view.until - self.worker.now
        values = {name: self._encoded(getattr(view, name)) for name in VIEW_FIELDS}
        values["until"] = ("left", left if left >= 0 else None)
        values["max_age"] = ("is", view.max_age)  # a duration, unlike its other numbers
        return tuple(values.values())

    def _view(self, number: int) -> View:
        values = (self._decoded(value, None, None) for value in self.views[number])
        return View(id=ID, question=VIEWED, **dict(zip(VIEW_FIELDS, values, strict=True)))

    def _encoded(self, value: Any) -> Any:  # noqa: PLR0911 -- a case for each kind of value
        if isinstance(value, float):
            return ("is", value) if math.isinf(value) else ("ago", min(self.worker.now - value, LATE))
        if isinstance(value, View):
            return ("view", self.views.number(self._encoded_view(value)))
        if isinstance(value, Record):
            return ("record", self.record_number(value))
        if isinstance(value, Token):
            return ("token", NAMES.by_digest[value.digest])
        if isinstance(value, Session):
            return ("session", number_of(value))
        if isinstance(value, tuple):
            return ("tuple", (type(value), tuple(map(self._encoded, value))))
        if type(value) is int and value in NAMES.by_hash:
            return ("hash", NAMES.by_hash[value])
        assert value is None or isinstance(value, (bool, str, int, Enum)), value
        return ("is", value)

    def _decoded(self, value: Any, view: int | None, known: View | None) -> Any:  # noqa: PLR0911 -- likewise
        kind, content = value
        if kind == "ago":
            return NOW - content
        if kind == "left":
            return NOW - 1 if content is None else NOW + content
        if kind == "view":
            return known if content == view else self._view(content)
        if kind == "record":
            return self.records[content]
        if kind == "token":
            return NAMES.token(content)
        if kind == "session":
            return None if content is None else session_of(content)
        if kind == "tuple":
            made, parts = content[0], [self._decoded(one, view, known) for one in content[1]]
            return tuple(parts) if made is tuple else made(*parts)
        return hash(NAMES.token(content).cookie_value) if kind == "hash" else content


class _Counter:
    """Numbers of new questions."""

    def __init__(self) -> None:
        self.last = 0

    def __iter__(self) -> _Counter:
        return self

    def __next__(self) -> int:
        self.last = self.last + 1 if self.last else NEXT
        return self.last
