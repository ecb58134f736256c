"""Walks every state of a small world once, the nearest first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from .invariants import Broken


class Walkable(Protocol):
    """What can be walked: a first state, and what follows each. Where something must not be, Broken is raised."""

    happening: tuple[Any, ...]
    """What was tried when an invariant was found broken."""

    def first(self) -> Any: ...

    def successors(self, state: Any) -> Iterator[tuple[Any, Any]]: ...


class Walked(NamedTuple):
    """What a walk has found."""

    states: int
    is_complete: bool
    seconds: float
    broken: str | None = None
    """The invariant that does not hold."""
    path: tuple[str, ...] = ()
    """What happened until then."""


def walk(worlds: Walkable, *, limit: int = 10**9) -> Walked:
    """Walk all states, or as many as the limit says, or until an invariant is broken.

    The hashes of the states that were walked are kept: 64 bits, so that two of millions hardly ever fall together.
    """
    began = time.perf_counter()
    first = worlds.first()
    came_from: dict[int, int] = {hash(first): 0}
    layer = [first]

    def walked(broken: Broken | None = None, path: list[str] | None = None, *, is_complete: bool = False) -> Walked:
        text = None if broken is None else str(broken)
        return Walked(len(came_from), is_complete, time.perf_counter() - began, text, tuple(path or ()))

    while layer:
        following = []
        for state in layer:
            try:
                for _, after in worlds.successors(state):
                    fingerprint = hash(after)
                    if fingerprint not in came_from:
                        came_from[fingerprint] = hash(state)
                        following.append(after)
            except Broken as broken:
                last = " ".join(map(str, worlds.happening))  # before the path is found, which tries other things
                return walked(broken, [*_path(worlds, first, state, came_from), last])
        if len(came_from) >= limit:
            return walked()
        layer = following
    return walked(is_complete=True)


def _path(worlds: Walkable, first: Any, last: Any, came_from: dict[int, int]) -> list[str]:
    """Return what happened from the first state to the last, which is found again by the states' hashes."""
    hashes = [hash(last)]
    while came_from[hashes[-1]]:
        hashes.append(came_from[hashes[-1]])
    path, state = [], first
    for wanted in reversed(hashes[:-1]):
        label, state = next((label, after) for label, after in worlds.successors(state) if hash(after) == wanted)
        path.append(" ".join(str(part) for part in label))
    return path
