"""What a release says of itself, and what its sdist holds."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def test_the_changes_begin_with_this_version() -> None:
    """With its date, or as unreleased."""
    heading = re.search(r"^## (.*)$", (ROOT / "CHANGES.md").read_text(), re.MULTILINE)
    assert heading is not None
    assert re.fullmatch(rf"{re.escape(PROJECT['version'])} \((unreleased|\d{{4}}-\d\d-\d\d)\)", heading[1])


def test_the_pythons_are_those_of_the_classifiers() -> None:
    """From the lowest that is required, without a gap; ruff goes by the same."""
    minors = [int(one) for one in re.findall(r":: Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{minors[0]}"


def test_it_says_that_it_is_typed_and_is() -> None:
    """By the marker that type checkers look for."""
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert (ROOT / "aiohttp_persistent_session" / "py.typed").exists()


def test_the_extra_all_has_every_other() -> None:
    """But those that it names are there."""
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    assert everything == f"aiohttp-persistent-session[{','.join(extras)}]"


def test_the_sdist_holds_everything() -> None:
    """Each file and folder beside pyproject.toml that git does not ignore, and none that is gone."""
    ignored = [*(ROOT / ".gitignore").read_text().split(), ".git", "PKG-INFO", "pyproject.toml"]
    there = {
        path.name for path in ROOT.iterdir() if not any(fnmatch(path.name, pattern.rstrip("/")) for pattern in ignored)
    }
    included = {name.removeprefix("/") for name in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    assert included == there
