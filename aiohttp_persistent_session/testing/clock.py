"""A clock that tests move."""

from __future__ import annotations

import time
from typing import Self

from aiohttp import web

from .. import options
from ..manager import PersistentSessionManager
from ..options import Duration
from .app import manager_of


class Clock:
    """A source of time that stands still until a test moves it.

    What the library does by time, it does by its manager's ``clock``. aiohttp-session reads the system's clock, which
    goes on as ever.

    Args:
        now: seconds since the epoch; None for the system's time.
    """

    def __init__(self, now: float | None = None) -> None:
        self.now: float = round(time.time() if now is None else now, 3)
        """Seconds since the epoch."""

    def __call__(self) -> float:
        return self.now

    def advance(self, by: Duration) -> None:
        """Move on.

        Args:
            by: a timedelta or a number of seconds.

        Raises:
            TypeError: ``by`` is neither.
            ValueError: it is negative, or not finite.
        """
        self.now = round(self.now + options.seconds("by", by), 3)

    @classmethod
    def of(cls, app: web.Application | PersistentSessionManager) -> Self:
        """Return the clock of an application, or of its manager.

        Where the manager goes by another source of time, as the system's, a new clock takes over from that one.

        Raises:
            RuntimeError: ``app`` is not set up.
        """
        manager = manager_of(app)
        clock = manager.clock
        if not isinstance(clock, cls):
            clock = manager.clock = cls(clock())
        return clock
