"""The signals: who is told of what, for how long at most."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from aiosignal import Signal

from . import options
from .record import PersistentSession
from .tasks import end_tasks, spawn

if TYPE_CHECKING:
    from aiohttp import web

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

SessionSignal: TypeAlias = "Signal[PersistentSession, web.Request | None]"

NAMES = ("on_remember", "on_restore", "on_forget", "on_new_client", "on_repeat", "on_reuse", "on_revoke")

_request: ContextVar[web.Request | None] = ContextVar("aiohttp_persistent_session_request", default=None)


@contextmanager
def on_behalf_of(request: web.Request) -> Iterator[None]:
    """Let receivers get ``request`` with each signal that is sent within."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


class Signals:
    """The signals of one manager, each also an attribute.

    Args:
        owner: the manager, for the signals' ``repr``.
        timeout: seconds that receivers are awaited. After them they go on by themselves.
    """

    on_remember: SessionSignal
    on_restore: SessionSignal
    on_forget: SessionSignal
    on_new_client: SessionSignal
    on_repeat: SessionSignal
    on_reuse: SessionSignal
    on_revoke: SessionSignal

    def __init__(self, owner: object, timeout: float) -> None:
        self._timeout = timeout
        self._running: set[asyncio.Task[Any]] = set()
        self.by_name: dict[str, SessionSignal] = {name: Signal(owner) for name in NAMES}
        for name, signal in self.by_name.items():
            setattr(self, name, signal)

    def freeze(self) -> None:
        """Take no receivers from now on.

        Raises:
            TypeError: a receiver is no coroutine function of two arguments; the message names it and its signal.
        """
        for name, signal in self.by_name.items():
            for receiver in signal:
                _check_receiver(name, receiver)
            signal.freeze()

    async def send(self, signal: SessionSignal, session: PersistentSession) -> None:
        """Call the receivers in turn. What one raises is logged, and changes nothing."""
        telling = spawn(_tell(tuple(signal), session, _request.get()), self._running)
        done, _ = await asyncio.wait((telling,), timeout=self._timeout)
        if not done:
            logger.warning(
                "receivers of a signal take longer than %g s for the persistent session %s: they go on by themselves",
                self._timeout,
                session.id,
            )

    async def close(self) -> None:
        """Give receivers that are still at it their time, and end them then."""
        await end_tasks(self._running, self._timeout)


async def _tell(receivers: tuple[Any, ...], session: PersistentSession, request: web.Request | None) -> None:
    for receiver in receivers:
        try:
            await receiver(session, request)
        except Exception:
            name = getattr(receiver, "__qualname__", None) or repr(receiver)
            logger.exception("%s, a receiver of a signal, failed for the persistent session %s", name, session.id)


def _check_receiver(signal: str, receiver: Any) -> None:
    function = receiver.func if isinstance(receiver, partial) else receiver
    is_coroutine = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    if not is_coroutine or not options.takes_two(receiver):
        name = getattr(function, "__qualname__", None) or repr(function)
        raise TypeError(
            f"{name}, a receiver of {signal}, must be a coroutine function (async def) of a persistent session and a "
            "request"
        )
