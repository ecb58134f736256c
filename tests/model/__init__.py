"""A model of the protocol: the project's own rules and lifecycle, in worlds where everything happens that may.

Read first ``invariants.py``, what must never happen, and ``cases.py``, the worlds that are walked.

    invariants.py     what must never happen
    scheduler.py      who owns every await: each call of the store is a step
    site.py           one worker: the real middleware, signal handler, manager and lifecycle, on a store of steps
    replay.py         coroutines as values, so that equal states of a world are known again
    world.py          a browser, two workers, a store, the network, a thief: what is kept of them
    worlds.py         what the site can do next
    surroundings.py   what the browser, the network and time can do next
    pure.py           the pure rules alone, for any number of requests
    explore.py        walks every state once
    cases.py          the small worlds
    random_worlds.py  random worlds in seconds
    thief.py          thieves beside the owner, and when they are found out
    mutations.py      rules that are bent, and the world that finds each out
    __main__.py       the long form: python -m tests.model [SECONDS]

Time in the small worlds passes in ticks, and only while no call of the store is under way. Not modelled there: clocks
that differ (random worlds have them), requests that share a look under way, answers of the store that overtake each
other, ``remember`` and ``forget``, strict mode.
"""
