"""The store that a command line names."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any, TypeVar

from ..backends.base import Backend, BackendError
from ..store import SET_UP_WRONG
from .arguments import Arguments
from .faults import StoreFault, UsageFault, reason
from .findings import Inspector

T = TypeVar("T")

_REDIS = ("redis://", "rediss://", "unix://")
_MONGO = ("mongodb://", "mongodb+srv://")
_SQL = ("sqlite", "postgresql")
_OPTIONS = {"redis": {"prefix", "cluster"}, "mongo": {"database", "collection"}, "sql": {"table"}}
_INSPECTORS = {"redis": "RedisInspector", "mongo": "MongoInspector", "sql": "SQLInspector"}
_CLOSES_WITHIN = 3.0


class Place:
    """A store with a backend on it, and a connection besides to ask how it is set up.

    Args:
        arguments: the command line's.

    Raises:
        UsageFault: it names no store, or one whose driver is not installed.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._timeout = arguments.timeout
        kind = _kind(arguments.url)
        given = dict(arguments.store_options)
        if wrong := sorted(set(given) - _OPTIONS[kind]):
            raise UsageFault(f"--{wrong[0]} is for another store than the one that --backend names")
        try:
            self.inspector = _inspector(kind, arguments.url, given)
        except SET_UP_WRONG as error:
            raise UsageFault(str(error)) from None
        self.backend: Backend = self.inspector.backend

    async def bounded(self, work: Awaitable[T]) -> T:
        """Await one call of the store.

        Raises:
            BackendError: it failed, or gave no answer in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except BackendError:
            raise
        except TimeoutError as error:
            raise BackendError("the store gave no answer in time") from error
        except Exception as error:
            raise BackendError(f"the store failed: {type(error).__name__}") from error

    async def open(self) -> None:
        """Open the backend.

        Raises:
            BackendError: the store cannot be reached.
            StoreFault: it is set up wrong.
        """
        try:
            await self.bounded(self.backend.open())
        except BackendError as error:
            if isinstance(error.__cause__, SET_UP_WRONG):
                raise StoreFault(str(error.__cause__)) from error
            raise

    async def close(self) -> None:
        """Close both connections, whatever state they are in."""
        for closing in (self.backend.close(), self.inspector.close()):
            with suppress(Exception):
                async with asyncio.timeout(_CLOSES_WITHIN):
                    await closing


@asynccontextmanager
async def opened(arguments: Arguments) -> AsyncIterator[Place]:
    """Give the store, open. What is missing there is not made: a name that is misspelt would make a new store.

    Raises:
        BackendError: it cannot be reached.
        StoreFault: it is set up wrong, or an app never opened it.
    """
    place = Place(arguments)
    try:
        if missing := await place.bounded(place.inspector.missing()):
            raise StoreFault(missing)
        await place.open()
        yield place
    finally:
        await place.close()


def told(error: BaseException) -> str:
    """Return what to say of a store that failed."""
    return str(error) if isinstance(error, StoreFault) else f"the store failed: {reason(error)}"


def _kind(url: str) -> str:
    if url.startswith(_REDIS):
        return "redis"
    if url.startswith(_MONGO):
        return "mongo"
    if url.partition(":")[0].partition("+")[0] in _SQL:
        return "sql"
    known = ", ".join((*_REDIS, *_MONGO, "sqlite:"))
    raise UsageFault(f"--backend must begin with env:, {known} or postgresql:")


def _inspector(kind: str, url: str, given: dict[str, Any]) -> Inspector:
    # Imported when asked for: the drivers of the other stores need not be installed. The backend's own module says
    # which extra has the driver.
    import_module(f"..backends.{kind}", __package__)
    module = import_module(f".inspect_{kind}", __package__)
    inspector: Inspector = getattr(module, _INSPECTORS[kind])(url, **given)
    return inspector
