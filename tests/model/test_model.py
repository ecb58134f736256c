"""The rules and the lifecycle in small worlds that are walked in full, in random worlds, and beside thieves."""

from __future__ import annotations

import pytest

from . import random_worlds, thief
from .cases import SHORT, Case
from .explore import Walked
from .mutations import MUTATIONS, Mutation, mutated
from .site import Person, Site, modelled

pytestmark = pytest.mark.usefixtures("uncounted")


def must_hold(case: Case) -> None:
    walked: Walked = case.walk()
    print(f"{case.name}: {walked.states} states in {walked.seconds:.1f} s")  # noqa: T201 -- the count is part of the result
    assert walked.broken is None, "\n".join((walked.broken, *walked.path))
    assert walked.is_complete


@pytest.mark.parametrize("case", SHORT, ids=lambda case: case.name)
def test_invariants_hold_in_every_interleaving(case: Case) -> None:
    """Whatever is lost, killed, delayed or overtaken, no honest browser is accused, and no copy passes."""
    must_hold(case)


def test_a_token_that_a_slow_response_renewed_is_valid() -> None:
    """Two tabs whose answers overtook each other: no browser is accused for a token that it was just sent."""
    with modelled():
        site = Site()
        site.now = 200
        # Two requests of the first session, of which one finds its session gone, and is answered first.
        quick = site.handle(Person(0, 0), worker=1)
        _, browser = site.request(Person(None, 0), worker=0)
        slow = site.handle(browser, worker=0)
        browser = browser.after(site.begin(quick))
        # Two minutes later the slow one is answered, while the next request is under way.
        site.now += 120
        answer = site.begin(slow)
        _, browser = site.request(browser, worker=1)
        browser = browser.after(answer)
        site.now += 100
        is_served, _ = site.request(browser, worker=1)
    assert is_served
    assert site.reuse_at is None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: f"{mutation.rule}: {mutation.what}")
def test_a_rule_that_is_bent_is_found_out(mutation: Mutation) -> None:
    """The model fails where a rule is bent, in a world in which it holds otherwise."""
    assert mutation.finding() is None
    with mutated(mutation):
        assert mutation.finding() is not None


@pytest.mark.parametrize("name", random_worlds.KINDS)
def test_nobody_is_accused_in_random_worlds(name: str) -> None:
    """A fifth of the answers is lost, handlers take minutes, clocks differ, swaps happen late: nobody is accused."""
    harsh, options = random_worlds.KINDS[name]
    with modelled():
        run = random_worlds.run(harsh, worlds=600, **options)
    print(f"{name}: {run.worlds} worlds, {dict(run.counted)}")  # noqa: T201 -- the count is part of the result
    assert run.broken == ()
    assert run.counted["exchange"] > run.worlds


@pytest.mark.parametrize("scene", thief.SCENES, ids=lambda scene: scene.name)
def test_a_thief_beside_the_owner_is_found_out(scene: thief.Scene) -> None:
    """Who goes on using a copy beside a live owner is found out within minutes; who uses it once is told of."""
    with modelled():
        ending = thief.play(scene)
    print(f"{scene.name}: {ending}")  # noqa: T201 -- the figure is part of the result
    assert thief.is_as_told(scene, ending), ending
