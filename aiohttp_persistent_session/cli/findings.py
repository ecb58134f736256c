"""What a check finds, and the ways to find it that the stores share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from ..backends.base import Backend
from ..options import in_words
from ..policy import CLOCK_TOLERANCE

Severity: TypeAlias = Literal["ok", "note", "warning", "fault"]

_NOTICED = 2.0
"""Seconds by which clocks differ that are kept by nobody."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check looked at."""

    severity: Severity
    """``fault``: a guarantee does not hold. ``warning``: it works, and something may be lost or slow. ``note``: it
    cannot be told. ``ok``: it was looked at, and is as it should be."""
    code: str
    """For programs: it stays the same from version to version."""
    text: str
    """What is so."""
    advice: str = ""
    """What to do."""


class Inspector(Protocol):
    """What the command line asks of a store besides the records, over a connection of its own."""

    name: str
    """The store's, for people."""
    backend: Backend
    """Not open yet."""
    expires_by_itself: str
    """How the store deletes expired records, or an empty text where :meth:`.Backend.purge` does."""

    async def missing(self) -> str | None:
        """Return what is missing that an app would have made: opening the backend would make it. None: nothing."""

    async def estimate(self) -> int | None:
        """Return about how many records there are, where the store can tell at once."""

    async def findings(self) -> list[Finding]:
        """Return what is to be said of the store's set-up, before the backend is opened."""

    async def findings_when_open(self) -> list[Finding]:
        """Return what can be told only once the backend is open."""

    async def close(self) -> None:
        """Close its connection."""


def clock(difference: float, where: str = "") -> Finding:
    """Judge by how many seconds the server's clock is ahead of this machine's."""
    size = abs(difference)
    text = f"the server's clock{where} is {in_words(round(size, 1))} {'ahead of' if difference > 0 else 'behind'} ours"
    advice = "Run a time service (NTP) on both: workers write times that other workers judge by."
    if size > CLOCK_TOLERANCE:
        return Finding("fault", "clock", text, advice)
    if size > _NOTICED:
        return Finding("warning", "clock", text, advice)
    return Finding("ok", "clock", f"the server's clock{where} and this machine's agree, within {size + 0.1:.1f} s")


def version(name: str, told: str, lowest: int) -> Finding:
    """Judge a server's version, as it tells it."""
    major = told.partition(".")[0]
    if not major.isdecimal():
        return Finding("note", "version", f"{name} does not tell its version")
    if int(major) < lowest:
        return Finding("fault", "version", f"{name} is of version {told}", f"Use {name} {lowest} or newer.")
    return Finding("ok", "version", f"{name} {told}")


def refused(code: str, what: str) -> Finding:
    """Say that the server does not let itself be asked."""
    return Finding("note", code, f"the server does not tell {what}", "Ask whoever runs it, or check it by hand.")


def faults(found: Iterable[Finding]) -> int:
    """Count them."""
    return sum(one.severity == "fault" for one in found)
