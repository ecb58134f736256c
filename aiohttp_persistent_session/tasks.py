"""Work in tasks of its own, which outlives whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def spawn(work: Coroutine[Any, Any, T], running: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    """Start ``work`` in a task of its own, which is in ``running`` until it ends, whoever still waits for it."""

    def ended(task: asyncio.Task[T]) -> None:
        running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be there any more to whom it would matter

    task = asyncio.create_task(work)
    running.add(task)
    task.add_done_callback(ended)
    return task


async def end_tasks(tasks: Collection[asyncio.Task[Any]], patience: float) -> None:
    """Give ``tasks`` so many seconds, and end what goes on then."""
    left = list(tasks)
    if left and patience:
        await asyncio.wait(left, timeout=patience)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
