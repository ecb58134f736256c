"""What the reference makes of the docstrings, beside what Sphinx itself does.

Code imports ``Record`` from ``aiohttp_persistent_session.record``, and a docstring names it as its own module does. The
reference has it under its public name: a name leads there if the site has one that ends so.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def find_name(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Element | None:
    """Resolve a reference to something of the package by the end of its name, where that is unambiguous."""
    python = env.domains.python_domain
    target = node.get("reftarget", "").lstrip(".~")
    if node.get("refdomain") != "py" or not target:
        return None
    parts = target.split(".")
    for end in (parts[-2:], parts[-1:]):
        ends_so = [one for one in python.objects if one.split(".")[-len(end) :] == end]
        names = {one for one in ends_so if not python.objects[one].aliased}
        if len(names) == 1:
            return python.resolve_xref(env, node["refdoc"], app.builder, "obj", names.pop(), node, content)
    return None


_written: dict[str, list[str]] = {}


def keep_sentences(_: Sphinx, what: str, name: str, __: object, ___: object, lines: list[str]) -> None:
    """Note what an attribute's docstring says, before Napoleon takes what precedes a colon there for a type."""
    if what in {"attribute", "data", "property"}:
        _written[name] = list(lines)


def restore_sentences(_: Sphinx, __: str, name: str, ___: object, ____: object, lines: list[str]) -> None:
    """Put it back."""
    lines[:] = _written.pop(name, lines)


def show_tables(_: Sphinx, __: str, ___: str, ____: object, _____: object, lines: list[str]) -> None:
    """Turn a table that is drawn as in Markdown into one of reStructuredText."""
    shown: list[str] = []
    for number, line in enumerate(lines):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.strip().startswith("|"):
            shown.append(line)
        elif number + 1 < len(lines) and set(lines[number + 1].strip()) == {"|", " ", "-"}:
            shown += [".. list-table::", "   :header-rows: 1", "", *_row(cells)]
        elif any(set(cell) != {"-"} for cell in cells):
            shown += _row(cells)
    lines[:] = shown


def _row(cells: list[str]) -> list[str]:
    return [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(cells)]


def add_public_anchor(_: Sphinx, doctree: nodes.document) -> None:
    """Let what is documented by its module be found as the package's, too: viewcode links to all of a module alike."""
    for signature in doctree.findall(addnodes.desc_signature):
        package = signature.get("module", "").partition(".")[0]
        anchor = f"{package}.{signature.get('fullname')}"
        if signature["ids"] and anchor not in signature["ids"] and anchor not in doctree.ids:
            signature["ids"].append(anchor)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("missing-reference", find_name)
    app.connect("autodoc-process-docstring", show_tables)
    app.connect("doctree-read", add_public_anchor)
    app.connect("autodoc-process-docstring", keep_sentences, priority=400)
    app.connect("autodoc-process-docstring", restore_sentences, priority=600)  # Napoleon's is 500
    return {"parallel_read_safe": True}
