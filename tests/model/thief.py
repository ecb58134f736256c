"""Thieves with a copy beside the owner, in seconds: how long they pass, and what is told of them."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from typing import Any, NamedTuple

from .site import Person, Site

HOUR = 3600.0
DAY = 24 * HOUR
COPIED_AT = HOUR
"""When a thief uses his copy of the token for the first time."""


class Part(NamedTuple):
    """Somebody's part in a scene: when he comes, and which cookies he shows."""

    every: tuple[float, float]
    """Seconds between two requests, at least and at most."""
    comes_at: float = 0.0
    goes_at: float = 1e9
    session_lasts: float = 1e9
    """After so long his session ends, and his token alone is left."""
    shows: str = "what he holds"
    """... or "the copy", which is all that he ever shows."""


class Scene(NamedTuple):
    """An owner, a thief, and how it ends."""

    name: str
    thief: Part
    owner: Part
    found_within: float | None
    """Seconds from when both were there; None where only a repeat is told."""


LIVE_OWNER = Part((15, 45))
SCENES = (
    *(
        Scene(
            f"goes on with the copy every {every:g} s",
            Part((every, every), COPIED_AT, shows="the copy"),
            LIVE_OWNER,
            300,
        )
        for every in (120, 50, 10.01, 3, 2.01, 1)
    ),
    Scene("lives on like a browser", Part((15, 45), COPIED_AT), LIVE_OWNER, 300),
    Scene(
        "goes on with the copy every 10.01 s beside an owner whose sessions are short",
        Part((10.01, 10.01), COPIED_AT, shows="the copy"),
        Part((3, 9), session_lasts=HOUR / 2),
        300,
    ),
    Scene(
        "goes on with the copy every 10.01 s beside an owner whose sessions last 2 minutes",
        Part((10.01, 10.01), COPIED_AT, shows="the copy"),
        Part((3, 9), session_lasts=120),
        300,
    ),
    Scene(
        "goes on with the copy every 10.01 s, and the owner comes back",
        Part((10.01, 10.01), COPIED_AT, shows="the copy"),
        Part((15, 45), comes_at=COPIED_AT + HOUR, session_lasts=HOUR / 2),
        300,
    ),
    Scene(
        "keeps the place of an owner who is away",
        Part((60, 60), COPIED_AT),
        Part((15, 45), comes_at=COPIED_AT + 6 * HOUR, session_lasts=6 * HOUR),
        300,
    ),
    Scene(
        "uses the copy once and leaves", Part((1, 1), COPIED_AT, COPIED_AT + 0.5, shows="the copy"), LIVE_OWNER, None
    ),
)


class Ending(NamedTuple):
    """How a scene ended."""

    found_after: float | None
    """Seconds from when both were there to the accusation."""
    thief_was_served_for: float
    told: Counter[str]
    owner_was_served: bool
    """Whether he was, until the accusation."""


def play(scene: Scene, until: float = 8 * HOUR, **options: Any) -> Ending:
    """Play a scene until the copy is found out. To be called within :func:`.site.modelled`."""
    site = Site(**options)
    chance = random.Random(1)
    both_there = max(scene.thief.comes_at, scene.owner.comes_at)
    parts = {"owner": scene.owner, "thief": scene.thief}
    holds = {"owner": Person(0, 0), "thief": Person(None, 0)}
    opened = {"owner": 0.0, "thief": 0.0}
    copy: int | None = None
    served_last, owner_was_served = scene.thief.comes_at, True
    order = itertools.count()
    coming = [(part.comes_at, next(order), who) for who, part in parts.items()]
    heapq.heapify(coming)
    while coming and site.reuse_at is None:
        site.now, _, who = heapq.heappop(coming)
        part = parts[who]
        if who == "thief" and copy is None:
            copy = holds["owner"].token
            holds["thief"] = Person(None, copy)
        person = holds[who]
        if site.now > min(part.goes_at, until):
            continue
        if site.now - opened[who] > part.session_lasts:
            person = person._replace(session=None)
        is_served, after = site.request(person, chance.randrange(2))
        if after.session != person.session:
            opened[who] = site.now
        holds[who] = after if part.shows == "what he holds" else Person(None, copy)
        if who == "thief" and is_served:
            served_last = site.now
        if who == "owner" and site.reuse_at is None:
            owner_was_served = owner_was_served and is_served
        heapq.heappush(coming, (site.now + chance.uniform(*part.every), next(order), who))
    found = None if site.reuse_at is None else site.reuse_at - both_there
    return Ending(found, served_last - scene.thief.comes_at, site.told, owner_was_served)


def is_as_told(scene: Scene, ending: Ending) -> bool:
    """Tell whether a scene ended as it must: found out in time, or told of; the owner served until then."""
    if scene.found_within is None:
        ended_well = ending.found_after is None and ending.told["on_repeat"] == 1
    else:
        ended_well = ending.found_after is not None and ending.found_after <= scene.found_within
    return ended_well and ending.owner_was_served
