"""Lets the links of the Markdown files, which work in the repository, work on the site as well.

There the README and its companions are pages under ``project/``, and a module that is named has a page of the
reference.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    ROOT / "README.md": "/project/readme.md",
    ROOT / "SECURITY.md": "/project/threat-model.md",
    ROOT / "CHANGES.md": "/project/changes.md",
    ROOT / "CONTRIBUTING.md": "/project/contributing.md",
    ROOT / "aiohttp_persistent_session" / "rules.py": "/reference/rules.rst",
    ROOT / "aiohttp_persistent_session" / "backends" / "base.py": "/reference/backends.rst",
}
"""What lies outside docs/, and where the site has it."""

_LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")


def rewrite(text: str, folder: Path) -> str:
    """Return Markdown of a file in ``folder`` with its links as the site needs them, from the site's root."""

    def target(link: re.Match[str]) -> str:
        path = (folder / link[1]).resolve()
        if path in PAGES:
            return PAGES[path]
        return f"/{path.relative_to(DOCS)}" if path.is_relative_to(DOCS) else link[1]

    return _LINK.sub(target, text)


def rewrite_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite a page's links."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md":
        source[0] = rewrite(source[0], path.parent)


def rewrite_included(app: Sphinx, path: Path, _: str, source: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    source[0] = rewrite(source[0], (Path(app.srcdir) / path).resolve().parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", rewrite_page)
    app.connect("include-read", rewrite_included)
    return {"parallel_read_safe": True}
