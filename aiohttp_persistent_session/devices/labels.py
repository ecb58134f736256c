"""What a browser is called, from its User-Agent header."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec

from .texts import Texts

if find_spec("ua_parser") is None:
    raise ImportError(
        'aiohttp_persistent_session.devices needs ua-parser: pip install "aiohttp-persistent-session[devices]"'
    )

Names = tuple[str | None, str | None]
"""A browser's and its system's; None where it is not known."""

_SYSTEMS = {"Mac OS X": "macOS"}
_LONGEST = 40
"""Characters of a name that are shown: some are copied out of the header, which says what it likes."""


async def names_of(user_agents: Iterable[str]) -> dict[str, Names]:
    """Return the names in each User-Agent.

    They are found in a thread: the first call compiles ua-parser's rules, for about 0.2 s, and each takes about 1 ms.
    """
    return await asyncio.to_thread(lambda: {one: _names(one) for one in set(user_agents)})


def label(names: Names, texts: Texts) -> str:
    """Return ``"Chrome on Windows"``, or as much of it as is known."""
    browser, system = names
    if browser and system and browser != system:
        return texts.browser_on_system.format(browser=browser, system=system)
    return browser or system or texts.unknown_browser


@lru_cache(maxsize=2048)
def _names(user_agent: str) -> Names:
    from ua_parser import parse  # noqa: PLC0415 -- lazily: it takes 20 ms and 10 MB, and few processes show the page

    found = parse(user_agent)
    browser = found.user_agent.family if found.user_agent else ""
    system = found.os.family if found.os else ""
    return _shown(browser), _shown(_SYSTEMS.get(system, system))


def _shown(name: str) -> str | None:
    """Return a name without what would turn or break the line that it is in."""
    text = "".join(one for one in name if one.isprintable()).strip()[:_LONGEST]
    return None if text in {"", "Other"} else text
