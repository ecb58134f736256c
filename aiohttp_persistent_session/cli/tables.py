"""Text for a terminal: what somebody else wrote is made harmless, and columns fit."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Control characters, those that turn the direction of a line, and those that a terminal may read as it likes."""
_GAP = 2
_NARROWEST = 16
"""Columns that the last column of a table must have left; with fewer, each record is a block of lines."""


def printable(text: str, encoding: str = "utf-8") -> str:
    """Return ``text`` with everything escaped that a terminal could obey, or cannot show.

    A browser chooses its user agent: printed as it is, it could rewrite the screen, or what is on the clipboard.
    """
    safe = "".join(_escaped(one) if unicodedata.category(one) in _HARMFUL else one for one in text)
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """Return how many columns a printable text takes: Chinese characters take two, combining accents none."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fit(text: str, columns: int) -> str:
    """Return ``text``, cut to at most so many columns; what was cut ends with two points."""
    if width(text) <= columns:
        return text
    kept, left = "", columns - 2
    for character in text:
        left -= _columns(character)
        if left < 0:
            break
        kept += character
    return kept + ".."[:columns]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: int | None) -> Iterator[str]:
    """Yield the lines of a table of printable texts; or, where it is too wide for that, a block of lines each row.

    Args:
        columns: how many the terminal has; the last column is cut to fit them. None: nothing is cut.
    """
    widths = [max(map(width, cells)) for cells in zip(headings, *rows, strict=True)]
    fixed = sum(widths[:-1]) + _GAP * (len(widths) - 1)
    if columns is not None and columns - fixed < min(_NARROWEST, widths[-1]):
        yield from _blocks(headings, rows, columns)
        return
    for cells in (headings, *rows):
        padded = [cell + " " * (size + _GAP - width(cell)) for cell, size in zip(cells[:-1], widths, strict=False)]
        last = cells[-1] if columns is None else fit(cells[-1], columns - fixed)
        yield ("".join(padded) + last).rstrip()


def _blocks(headings: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> Iterator[str]:
    for number, row in enumerate(rows):
        if number:
            yield ""
        yield from pairs(list(zip(headings, row, strict=True)), columns)


def pairs(lines: Sequence[tuple[str, str]], columns: int | None) -> Iterator[str]:
    """Yield a line for each name and its value, cut to ``columns``."""
    size = max((width(name) for name, _ in lines), default=0) + _GAP
    for name, value in lines:
        line = f"{name}{' ' * (size - width(name))}{value}".rstrip()
        yield line if columns is None else fit(line, columns)


def hanging(heading: str, paragraphs: Sequence[str], columns: int | None, indent: int) -> Iterator[str]:
    """Yield paragraphs that are indented, with ``heading`` before the first; wrapped to ``columns``."""
    room = None if columns is None else max(columns, indent + _NARROWEST)
    for number, text in enumerate(paragraphs):
        first = heading.ljust(indent) if not number else " " * indent
        yield from (
            [first + text]
            if room is None
            else textwrap.wrap(text, room, initial_indent=first, subsequent_indent=" " * indent)
        )
