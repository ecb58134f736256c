"""Who owns every await: each call of the store is a step, and whoever drives the coroutine says when it is answered."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, NamedTuple

from aiohttp_persistent_session import BackendError, Record


class Call(NamedTuple):
    """A call of the store that is under way."""

    operation: str
    argument: Any


class Done(NamedTuple):
    """What a coroutine has returned."""

    result: Any


class Unanswered:
    """The answer of a call that gets none."""


UNANSWERED = Unanswered()


class Stepped:
    """A coroutine that is driven step by step, in a context of its own, as a task would be."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._context = Context()

    def advance(self, answer: Any = None) -> Call | Done:
        """Give it the answer that it waits for; return the next call, or what it returns in the end."""
        try:
            if answer is UNANSWERED:
                return self._context.run(self._coroutine.throw, BackendError("no answer"))
            return self._context.run(self._coroutine.send, answer)
        except StopIteration as stop:
            return Done(stop.value)

    def close(self) -> None:
        self._context.run(self._coroutine.close)


@types.coroutine
def _step(call: Call) -> Generator[Call, Any, Any]:
    return (yield call)


class SteppedStore:
    """Stands in the place of :class:`aiohttp_persistent_session.store.Store`."""

    timeout = 2.0

    def calls(self) -> SteppedCalls:
        return SteppedCalls()


class SteppedCalls:
    """Stands in the place of :class:`aiohttp_persistent_session.store.Calls`."""

    async def __aenter__(self) -> SteppedCalls:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    @contextmanager
    def paused(self) -> Iterator[None]:
        yield

    async def get(self, id: str) -> Record | None:
        return await _step(Call("get", id))

    async def replace(self, record: Record) -> bool:
        return await _step(Call("replace", record))

    async def delete(self, id: str) -> bool:
        try:
            return await _step(Call("delete", id))
        except BackendError:
            if await self.get(id) is None:
                return True
            raise
