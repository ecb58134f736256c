"""The small worlds that are walked in full.

The short ones are walked by each test run, the long ones by ``python -m tests.model``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from . import pure, world
from .explore import Walked, walk
from .pure import PureWorlds, bound_of
from .site import modelled
from .world import Left
from .worlds import Worlds


class Case(NamedTuple):
    """A small world."""

    name: str
    left: Left | None
    """What may happen in it; None for a world of the pure rules."""
    limits: world.Limits | pure.Limits
    options: dict[str, Any] = {}  # noqa: RUF012 -- nobody changes it

    def walk(self, limit: int = 10**9) -> Walked:
        """Walk it, on the rules as they are."""
        if isinstance(self.limits, pure.Limits):
            with bound_of(self.limits.secrets):
                return walk(PureWorlds(self.limits, **self.options), limit=limit)
        assert self.left is not None
        with modelled():
            return walk(Worlds(self.left, self.limits, **self.options), limit=limit)


def _real(name: str, limits: dict[str, Any] | None = None, options: dict[str, Any] | None = None, **left: Any) -> Case:
    return Case(name, Left(**left), world.Limits(**(limits or {})), options or {})


def _pure(name: str, options: dict[str, Any] | None = None, **limits: Any) -> Case:
    return Case(name, None, pure.Limits(**limits), options or {})


FEW_MOMENTS = {"tick": 120.0}
"""All durations pass at once, so that longer stories are short to walk."""
WHOLE = {"whole": True}
ON_THE_WAY = {"secrets": 2, "handled": 1, "answers": 1}
NO_LOSS = {"kills": 0, "losses": 0}

SHORT = (
    # The real lifecycle. Any number of answers are lost, and browsers killed, unless a name says otherwise.
    _real("2 requests", requests=2),
    _real("2 requests, one call of the store unanswered", requests=2, failures=1),
    _real("2 requests, one read that lags", requests=2, lags=1),
    _real("2 requests, a worker that dies", requests=2, deaths=1),
    _real("2 requests up to 30 s on their way", {"late": 30.0}, requests=2),
    _real("2 requests, rotation", options={"rotate_interval": 100}, requests=2),
    _real("2 requests, no grace period", options={"grace_period": 0}, requests=2),
    _real("2 requests, a look at each", options={"check_interval": 0}, requests=2),
    _real(
        "2 requests, also without the token, whose handlers change sessions",
        {"tokenless": True, "touches": True},
        requests=2,
    ),
    _real("2 requests and a revocation", {"tokenless": True}, requests=2, revocations=1),
    _real("2 requests of a browser that forgets", {"tokenless": True}, {"persistent": False}, requests=2),
    _real("3 requests, one after the other, few moments", WHOLE | FEW_MOMENTS, requests=3),
    _real("1 request of the owner, 1 of a thief", requests=1, thefts=1, thief_requests=1),
    _real(
        "2 of the owner, 1 of a thief, few moments",
        WHOLE | FEW_MOMENTS,
        requests=2,
        thefts=1,
        thief_requests=1,
        **NO_LOSS,
    ),
    # The pure rules
    _pure("any number, at most 2 valid secrets, quick handlers", secrets=2, slow=0.0),
    _pure("any number, at most 3 valid secrets, quick handlers", secrets=3, slow=0.0),
    _pure("any number, rotation", {"rotate_interval": 100}, secrets=3, slow=0.0),
    _pure("any number, slow handlers", secrets=2),
    _pure("3 requests, slow handlers", requests=3, secrets=64),
    _pure("any number, each 5 s on its way, and its answer too", **ON_THE_WAY, late=5.0, tick=5.0),
    _pure("any number, each 15 s on its way, and its answer too", **ON_THE_WAY, late=15.0, tick=15.0),
)

LONG = (
    _real("2 requests, two calls of the store unanswered", requests=2, failures=2),
    _real("2 requests, everything fails once", {"tokenless": True}, requests=2, failures=1, lags=1, deaths=1),
    _real("3 requests", requests=3),
    _real("3 requests, rotation", options={"rotate_interval": 100}, requests=3),
    _real("3 requests, one call unanswered, few moments", FEW_MOMENTS, requests=3, failures=1),
    _real("3 requests, also without the token", {"tokenless": True} | WHOLE, requests=3),
    _real("1 request of the owner, 2 of a thief", {"tick": 50.0}, requests=1, thefts=1, thief_requests=2, **NO_LOSS),
    _real("2 requests of the owner, 1 of a thief", {"tick": 50.0}, requests=2, thefts=1, thief_requests=1, **NO_LOSS),
    _real("4 requests, one kill", WHOLE | FEW_MOMENTS, requests=4, kills=1, losses=0),
    _real("4 requests, one lost answer", WHOLE | FEW_MOMENTS, requests=4, kills=0, losses=1),
    _pure("4 requests, slow handlers", requests=4, secrets=64),
    _pure("any number, at most 3 valid secrets, two at once", secrets=3, answers=1),
    _pure("any number, at most 4 valid secrets", secrets=4, handled=1, answers=1),
)
