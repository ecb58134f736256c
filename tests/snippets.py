"""Snippets of the docs, run as they are printed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Run = Callable[..., SimpleNamespace]


def provide_myapp(patch: pytest.MonkeyPatch, **content: Any) -> None:
    """Let snippets import this from ``myapp``."""
    myapp = ModuleType("myapp")
    vars(myapp).update(content)
    patch.setitem(sys.modules, "myapp", myapp)


def run_code(code: str, name: str) -> SimpleNamespace:
    """Run a snippet; return what it defines. ``name`` is for the traceback."""
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, name, "exec"), namespace)
    return SimpleNamespace(**namespace)


class Snippets:
    """Snippets by their names, each of which some test is to run."""

    def __init__(self, codes: dict[str, str]) -> None:
        self.codes = codes
        self.run: set[str] = set()
        """Those that a test runs."""

    def runs(self, *names: str) -> Callable[[Any], Any]:
        """Mark a test that runs these snippets."""
        self.run.update(names)
        return lambda test: test

    def runner(self, patch: pytest.MonkeyPatch) -> Run:
        """Return what runs a snippet by its name, with what it imports from ``myapp``."""

        def run(name: str, **of_myapp: Any) -> SimpleNamespace:
            provide_myapp(patch, **of_myapp)
            return run_code(self.codes[name], name)

        return run
