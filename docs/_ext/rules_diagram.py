"""Draws the two tables of ``aiohttp_persistent_session.rules`` as one diagram, when the site is built.

A page says where by the comment ``<!-- rules-diagram -->``, which other viewers of Markdown do not show. A table of
another shape than :func:`read_tables` knows ends the build: a picture that lags behind the rules is worse than none.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from aiohttp_persistent_session import rules

MARKER = "<!-- rules-diagram -->"

KINDS = {"stays": "stays", "ends": "ends", "a": "written", "drops": "written"}
"""What becomes of the record, by the first word that a table says of it; each kind has a colour."""

WITHOUT = ["the secret", "outcome", "the record"]
WITH = ["the secret", "the session's number", "outcome", "the record"]
"""The heads of the two tables: for a request without a live session, and for one with it."""


class ShapeError(ExtensionError):
    """The tables are not what this extension draws; the text says how."""


class Row(NamedTuple):
    """One line of a table: on which conditions a request is what, and what becomes of the record."""

    conditions: tuple[str, ...]
    outcome: str
    record: str

    @property
    def kind(self) -> str:
        """Say whether the record stays, is written or ends: the colour."""
        return KINDS[_first_word(self.record)]


class Tables(NamedTuple):
    """Both tables, from top to bottom."""

    without: tuple[Row, ...]
    live: tuple[Row, ...]

    @property
    def outcomes(self) -> list[str]:
        """The outcomes of the first table alone, of both, and of the second alone: so the edges do not cross."""
        first, second = ([row.outcome for row in rows] for rows in self)
        ordered = [one for one in first if one not in second]
        ordered += [one for one in first if one in second]
        return list(dict.fromkeys([*ordered, *second]))


def read_tables(text: str) -> Tables:
    """Read the tables of a docstring.

    Raises:
        ShapeError: there are other tables than the two, or they do not name each outcome of the code.
    """
    found: list[list[list[str]]] = [[]]
    for line in map(str.strip, text.splitlines()):
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    heads = [table[0] for table in found if table]
    if heads != [WITHOUT, WITH]:
        raise ShapeError(f"the docstring of rules.py has tables with the heads {heads}, not {[WITHOUT, WITH]}")
    tables = Tables(*(tuple(_rows(table)) for table in found if table))
    named, known = set(tables.outcomes), {outcome.name for outcome in rules.Outcome}
    if named != known:
        raise ShapeError(f"the tables of rules.py and its Outcome differ in {sorted(named ^ known)}")
    return tables


def _rows(table: list[list[str]]) -> Iterator[Row]:
    head, line, *body = table
    if not body or any(set(cell) != {"-"} for cell in line):
        raise ShapeError("a table of rules.py has no line below its head, or nothing below that")
    for cells in body:
        if len(cells) != len(head) or not all(cells):
            raise ShapeError(f"a row of a table of rules.py has not {len(head)} cells that say something: {cells}")
        row = Row(tuple(cells[:-2]), *cells[-2:])
        if _first_word(row.record) not in KINDS:
            raise ShapeError(f'a table of rules.py says of the record "{row.record}": in which colour is that?')
        yield row


def _first_word(text: str) -> str:
    return text.split(maxsplit=1)[0].rstrip(":")


# The picture, in pixels of its own

ROW = 78
ARROW = 48
"""How far below the top of its row an arrow is."""
NODE = 92
STATE = 92
LEFT, RIGHT = 208, 252
"""How long the arrows of either side are."""
GAP = 10
LETTER = 6.3
"""A little more than the mean width of a letter."""
WIDTH = NODE + LEFT + STATE + RIGHT + NODE


def draw(tables: Tables) -> str:
    """Return the SVG: the outcomes in the middle, each once, and the two kinds of a request beside them."""
    top = 0
    parts: list[str] = []
    spans: tuple[list[int], list[int]] = ([], [])
    for outcome in tables.outcomes:
        sides = [[row for row in rows if row.outcome == outcome] for rows in tables]
        height = ROW * max(map(len, sides))
        kinds = {row.kind for rows in sides for row in rows}
        kind = "written" if "written" in kinds else kinds.pop()
        parts.append(_box(NODE + LEFT, top + GAP / 2, STATE, height - GAP, [outcome], f"state {kind}"))
        for side, rows in enumerate(sides):
            indent = (height - ROW * len(rows)) / 2
            for number, row in enumerate(rows):
                parts.append(_edge(side, row, top + indent + ROW * number))
            if rows:
                spans[side].extend((top, top + height))
        top += height
    for x, span, text in ((1, spans[0], "without a"), (WIDTH - NODE - 1, spans[1], "with a")):
        y, bottom = min(span) + GAP / 2, max(span) - GAP / 2
        parts.append(_box(x, y, NODE, bottom - y, ["a request", text, "live session"], "start"))
    title = "Which request is what, and what becomes of the record; the tables of rules.py say the same in words"
    arrow = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse"'
    kinds = sorted({*KINDS.values()})
    markers = (f'<marker id="rules-{kind}" class="{kind}" {arrow}><path d="M0 0 8 4 0 8z"/></marker>' for kind in kinds)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'role="img" aria-label="{title}"><defs>{"".join(markers)}</defs>'
        f"{''.join(parts)}</svg>"
    )


def _box(x: float, y: float, width: float, height: float, lines: Sequence[str], kind: str) -> str:
    middle = y + height / 2 - 16 * (len(lines) - 1) / 2
    texts = (_text(x + width / 2, middle + 16 * number + 4, line, "name") for number, line in enumerate(lines))
    box = f'<rect x="{x}" y="{y:g}" width="{width}" height="{height:g}" rx="8"/>'
    return f'<g class="{kind}">{box}{"".join(texts)}</g>'


def _edge(side: int, row: Row, top: float) -> str:
    """Return an arrow, with the conditions above it and the record below."""
    length = (LEFT, RIGHT)[side]
    start = NODE + side * (LEFT + STATE)
    x1, x2 = (start + 2, start + length - 3) if side == 0 else (start + length - 2, start + 3)
    y = top + ARROW
    names = ("secret", "session's number") if side else ("secret",)
    lines = [
        line
        for name, condition in zip(names, row.conditions, strict=True)
        for line in textwrap.wrap(f"{name}: {condition}", int(length / LETTER))
    ]
    above = (_text(start + length / 2, y - 7 - 14 * n, line, "when") for n, line in enumerate(reversed(lines)))
    record = _text(start + length / 2, y + 15, f"record: {row.record}", "then")
    line = f'<line x1="{x1:g}" y1="{y:g}" x2="{x2:g}" y2="{y:g}" marker-end="url(#rules-{row.kind})"/>'
    return f'<g class="edge {row.kind}">{line}{"".join(above)}{record}</g>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(text)}</text>'


CAPTION = (
    "Read downwards: the first condition that holds counts. Blue writes the record, red ends it, and grey leaves it as "
    "it is. The numbers are those of the rules."
)


class RulesDiagram(SphinxDirective):
    """The directive that the marker stands for."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(rules.__file__)
        svg = draw(read_tables(rules.__doc__ or ""))
        figure = f'<div tabindex="0">{svg}</div><figcaption>{CAPTION}</figcaption>'
        return [nodes.raw("", f'<figure class="rules-diagram">{figure}</figure>', format="html")]


def replace_marker(_: Sphinx, __: str, source: list[str]) -> None:
    """Put the directive in the marker's place."""
    source[0] = source[0].replace(MARKER, "```{rules-diagram}\n```")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("rules-diagram", RulesDiagram)
    app.connect("source-read", replace_marker)
    return {"parallel_read_safe": True}
