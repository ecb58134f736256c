"""Tests that wait for hours and take a moment: where nothing is to be done, the clock goes on to the next timer.

Nothing in them may wait for anything but this process: no socket, no thread.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

BEGINNING = 1_700_000_000.0
"""The time of day at which virtual time begins."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Does not wait: it moves its clock to the next timer."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()
        selector: Any = self._selector  # type: ignore[attr-defined]  # an attribute of the standard library's own
        select = selector.select

        def go_on(timeout: float | None) -> Any:
            if timeout is None:
                raise RuntimeError("everybody waits, and no timer will ever wake anybody")
            self._now += timeout
            return select(0)

        selector.select = go_on

    def time(self) -> float:
        return self._now


def run(scenario: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Let an async test run in virtual time. Its fixtures must not be async."""

    @functools.wraps(test)
    def wrapper(*args: P.args, **options: P.kwargs) -> None:
        run(test(*args, **options))

    return wrapper


def now() -> float:
    """The time of day, in whole milliseconds."""
    return round(BEGINNING + asyncio.get_running_loop().time(), 3)
