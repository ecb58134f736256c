"""The signals that a manager sent."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from aiohttp import web

from ..manager import PersistentSessionManager
from ..record import PersistentSession
from ..signals import NAMES
from .app import manager_of


class SentSignal(NamedTuple):
    """One signal that was sent."""

    name: str
    """As the manager's attribute: ``on_restore``."""
    persistent_session: PersistentSession
    """What the receivers were shown."""


class SignalRecorder:
    """Records every signal that a manager sends from now on.

    Args:
        app: the application that :func:`.setup` was called for, or its manager. It takes receivers until it starts.

    Raises:
        RuntimeError: ``app`` is not set up, or has started.
    """

    def __init__(self, app: web.Application | PersistentSessionManager) -> None:
        self.sent: list[SentSignal] = []
        """In the order in which they were sent. By the time of a response, those of its request are here."""
        manager = manager_of(app)
        if manager.on_remember.frozen:
            raise RuntimeError("record before the application starts: its signals take no receivers any more")
        for name in NAMES:
            getattr(manager, name).append(partial(self._record, name))

    @property
    def names(self) -> list[str]:
        """The names of the signals, in the order in which they were sent: ``["on_remember", "on_restore"]``."""
        return [signal.name for signal in self.sent]

    def of(self, name: str) -> list[PersistentSession]:
        """Return what the receivers of one signal were shown.

        Raises:
            ValueError: no signal has this name.
        """
        if name not in NAMES:
            raise ValueError(f"there is no signal {name!r}; there are {', '.join(NAMES)}")
        return [signal.persistent_session for signal in self.sent if signal.name == name]

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self.sent.clear()

    async def _record(self, name: str, persistent_session: PersistentSession, _: web.Request | None) -> None:
        self.sent.append(SentSignal(name, persistent_session))
