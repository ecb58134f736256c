"""A store that counts its calls and fails as told, around one that works."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web

from aiohttp_persistent_session import Backend, Batch
from aiohttp_persistent_session.record import Record, UserId

T = TypeVar("T")


class DriverError(Exception):
    """What a driver might raise."""


class FaultyBackend(Backend):
    """Delegates to ``inner``; ``fault`` may raise or wait before a call, ``after`` once it is applied."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        self.fault: Callable[[str], Awaitable[None]] | None = None
        self.after: Callable[[str], Awaitable[None]] | None = None
        self.opened = self.closed = 0

    async def _run(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls[name] += 1
        if self.fault is not None:
            await self.fault(name)
        result = await call()
        if self.after is not None:
            await self.after(name)
        return result

    def break_down(self, *names: str) -> None:
        """Fail every call, or those of these names."""

        async def fail(name: str) -> None:
            if not names or name in names:
                raise DriverError("connection refused")

        self.fault = fail

    def hang(self, *names: str) -> None:
        """Never answer, as a stopped process."""

        async def wait(name: str) -> None:
            if not names or name in names:
                await asyncio.Event().wait()

        self.fault = wait

    def lose_answer(self, *names: str, times: int = 1) -> None:
        """Apply the next call, and cut the connection before the answer."""
        left = times

        async def cut(name: str) -> None:
            nonlocal left
            if name in names and left > 0:
                left -= 1
                raise DriverError("connection reset")

        self.after = cut

    def heal(self) -> None:
        self.fault = self.after = None

    async def open(self) -> None:
        self.opened += 1
        await self._run("open", self.inner.open)

    async def close(self) -> None:
        self.closed += 1
        # Several workers may share this one: each opens and closes it, and the last one closes what is within.
        if self.closed >= self.opened:
            await self.inner.close()

    async def insert(self, record: Record) -> None:
        await self._run("insert", lambda: self.inner.insert(record))

    async def get(self, id: str) -> Record | None:
        return await self._run("get", lambda: self.inner.get(id))

    async def replace(self, record: Record) -> bool:
        return await self._run("replace", lambda: self.inner.replace(record))

    async def delete(self, id: str) -> bool:
        return await self._run("delete", lambda: self.inner.delete(id))

    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        return await self._run("of_user", lambda: self.inner.of_user(user, limit))

    async def scan(self, batch: int = 100) -> AsyncGenerator[Batch, None]:
        async with contextlib.aclosing(self.inner.scan(batch)) as batches:
            while (read := await self._run("scan", lambda: anext(batches, None))) is not None:
                yield read

    async def purge(self, now: float) -> int:
        return await self._run("purge", lambda: self.inner.purge(now))


class Gate:
    """A place where a handler or a store stops until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self, *_: Any) -> None:
        self.reached.set()
        await self.opened.wait()

    async def answer(self, _: web.Request) -> web.Response:
        """A handler that is slow: it answers once the test lets it."""
        await self()
        return web.Response()
