"""Keeps responses that carry a token out of shared caches (RFC 9111, RFC 9213)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from multidict import CIMultiDict, istr

CACHE_CONTROL = istr("Cache-Control")

# They override Cache-Control for the shared caches that they address (RFC 9213: any field ending in -Cache-Control).
_FOR_SHARED_CACHES = frozenset({"surrogate-control", "edge-control", "x-accel-expires"})
_ABOUT_CACHES = re.compile(r"^.*-(?:control|expires)$", re.IGNORECASE | re.MULTILINE)
_LEAVE = ("public", "s-maxage")
_DIRECTIVE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"|")+')  # up to a comma that no quotes enclose
_END_OF_NAME = re.compile(r"[\s=;]")


def says_nothing(headers: CIMultiDict[str]) -> bool:
    """Tell whether no field is about caches: the way of most responses."""
    return not _about_caches("\n".join(headers))


@lru_cache
def _about_caches(names: str) -> list[str]:
    """Return those of a response's field names that are about caches. Few sets of names make up most responses."""
    return _ABOUT_CACHES.findall(names)


def is_meant_for_shared_caches(headers: CIMultiDict[str]) -> bool:
    """Tell whether the handler marked its response ``public`` or ``s-maxage``, or a field addresses a shared cache."""
    return any(True for _ in _addressed(headers)) or any(name in _LEAVE for name, _ in _directives(headers))


def keep_private(headers: CIMultiDict[str]) -> None:
    """Add ``private`` where neither it nor ``no-store`` is said, and take back what a shared cache reads as leave.

    Set-Cookie alone does not keep a response out of a cache (RFC 9111, 7.3).
    """
    for addressed in list(_addressed(headers)):
        headers.popall(addressed, None)
    if CACHE_CONTROL not in headers:
        headers.add(CACHE_CONTROL, "private")
        return
    kept = [(name, text) for name, text in _directives(headers) if name not in _LEAVE]
    # private="Some-Field" restricts that field only; must-understand lets a cache ignore no-store (RFC 9111, 5.2.2).
    enough = {"private"} if ("must-understand", "must-understand") in kept else {"private", "no-store"}
    if not any(text.lower() in enough for _, text in kept):
        kept.append(("private", "private"))
    headers[CACHE_CONTROL] = ", ".join(text for _, text in kept)


def _addressed(headers: CIMultiDict[str]) -> Iterable[str]:
    for name in _about_caches("\n".join(headers)):
        lower = name.lower()
        if lower in _FOR_SHARED_CACHES or lower.endswith("-cache-control"):
            yield name


def _directives(headers: CIMultiDict[str]) -> Iterable[tuple[str, str]]:
    """Yield each Cache-Control directive as its lower-case name and its whole text."""
    for part in _DIRECTIVE.findall(",".join(headers.getall(CACHE_CONTROL, ()))):
        if text := part.strip():
            yield _END_OF_NAME.split(text, maxsplit=1)[0].lower(), text
