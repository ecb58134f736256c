"""The long form of the model: ``python -m tests.model [SECONDS]``, of which each kind of random world gets so many."""

# ruff: noqa: T201 -- a program that prints

from __future__ import annotations

import sys
import time

from . import random_worlds, thief
from .cases import LONG, SHORT
from .mutations import MUTATIONS, mutated
from .site import modelled


def main(seconds: float) -> int:
    """Run everything; return how much of it failed."""
    failures = _walk() + _bend() + _steal() + _roll(seconds)
    print(f"{failures} failed")
    return failures


def _walk() -> int:
    failures = states = 0
    print("Small worlds, walked in full")
    for case in (*SHORT, *LONG):
        walked = case.walk()
        states += walked.states
        failures += walked.broken is not None
        print(
            f"  {case.name:<75} {walked.states:>9} states {walked.seconds:>7.1f} s  {walked.broken or ''}", flush=True
        )
        for step in walked.path:
            print(f"      {step}")
    print(f"  {states} states")
    return failures


def _bend() -> int:
    missed = 0
    print("Rules that are bent")
    for mutation in MUTATIONS:
        with mutated(mutation):
            found = mutation.finding()
        missed += found is None
        print(f"  ({mutation.rule}) {mutation.what:<60} {found or 'NOT FOUND OUT'}", flush=True)
    return missed


def _steal() -> int:
    failures = 0
    print("Thieves beside the owner")
    for scene in thief.SCENES:
        with modelled():
            ending = thief.play(scene)
        is_well = thief.is_as_told(scene, ending)
        failures += not is_well
        found = "not found out" if ending.found_after is None else f"found out after {ending.found_after:.0f} s"
        told = f"{ending.told['on_repeat']} repeats"
        print(f"  {scene.name:<85} {found}, {told} {'' if is_well else 'FAILED'}", flush=True)
    return failures


def _roll(seconds: float) -> int:
    failures = 0
    print("Random worlds")
    first = int(time.time()) * 1000  # other worlds each time
    for name, (harsh, options) in random_worlds.KINDS.items():
        with modelled():
            run = random_worlds.run(harsh, first=first, seconds=seconds, **options)
        failures += len(run.broken)
        print(f"  {name:<40} {run.worlds} worlds from {first}, {len(run.broken)} broken {run.broken[:5]}", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(bool(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)))
