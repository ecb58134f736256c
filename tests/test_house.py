"""The house: how large its parts may be, and which way imports run. What outgrows its limit is to be cut anew."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiohttp_persistent_session

PACKAGE = Path(aiohttp_persistent_session.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
CORE = [path for path in PACKAGE.glob("*.py") if path.name not in {"__main__.py", "security.py"}]

LINES_OF_A_MODULE = 300
LINES_OF_AN_ADAPTER = 290
LINES_OF_A_FUNCTION = 30
BRANCHES_OF_A_FUNCTION = 10
LINES_OF_A_CLASS = 200
LINES_OF_THE_CORE = 1900

LAYERS = (
    {"__init__", "__main__"},
    {"cli.main"},
    {"cli.commands", "cli.walks", "cli.check"},
    {"cli.views", "cli.stores"},
    {"cli.inspect_redis", "cli.inspect_mongo", "cli.inspect_sql", "cli.arguments", "cli.terminal"},
    {"cli.inspect_sqlite", "cli.faults", "cli.tables"},
    {"cli.findings"},
    {"testing"},
    {"testing.browser"},
    {"testing.clock", "testing.recorder", "testing.jar"},
    {"testing.app"},
    {"devices"},
    {"devices.views"},
    {"devices.answers"},
    {"devices.options", "devices.labels"},
    {"devices.csrf", "devices.texts"},
    {"security"},
    {"fresh", "handlers"},
    {"current"},
    {"setup"},
    {"answer"},
    {"visit"},
    {"wiring"},
    {"sessions", "cookies"},
    {"caching", "manager"},
    {"lifecycle"},
    {"swaps", "registry"},
    {"store", "seen", "signals"},
    {"rules", "options"},
    {"backends.memory", "backends.redis", "backends.mongo", "backends.sql", "testing.contract"},
    {"backends.sql_engine", "backends.redis_client", "backends.mongo_client", "backends.contract"},
    {"backends.drivers"},
    {"backends.base", "policy"},
    {"record"},
    {"tokens", "backends", "tasks", "counters", "cli"},
)
"""From the outside in: a module imports from later layers only."""

_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.BoolOp, ast.comprehension)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(node: ast.AST, source: str) -> set[int]:
    """Return the numbers of the lines of code in ``node``: no blank ones, no comments, no docstrings."""
    lines = source.splitlines()
    texts: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant) and isinstance(inner.value.value, str):
            texts.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    first = min((one.lineno for one in ast.walk(node) if hasattr(one, "lineno")), default=1)
    last = max((getattr(one, "end_lineno", 0) or 0 for one in ast.walk(node)), default=0)
    return {
        number
        for number in range(first, last + 1)
        if number not in texts and lines[number - 1].strip() and not lines[number - 1].strip().startswith("#")
    }


def parts(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST, str]]:
    for path in MODULES:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, kinds):
                yield f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}", node, source


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> int:
    return len({line for statement in function.body for line in code_lines(statement, source)})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_longer_than_300_lines(path: Path) -> None:
    """A store's adapter has 290 lines at most."""
    limit = LINES_OF_AN_ADAPTER if path.parent.name == "backends" else LINES_OF_A_MODULE
    assert len(path.read_text().splitlines()) <= limit


def test_no_function_is_longer_than_30_lines_of_code() -> None:
    """Signature and docstring do not count."""
    sizes = {name: body_lines(node, source) for name, node, source in parts(*FUNCTIONS)}  # type: ignore[arg-type]  # they are functions
    assert {name: size for name, size in sizes.items() if size > LINES_OF_A_FUNCTION} == {}


def test_no_function_has_more_than_10_branches() -> None:
    """Each condition, loop, handler of an exception and pair of conditions is one."""
    branches = {
        name: sum(isinstance(inner, _BRANCHES) for inner in ast.walk(node)) for name, node, _ in parts(*FUNCTIONS)
    }
    assert {name: count for name, count in branches.items() if count > BRANCHES_OF_A_FUNCTION} == {}


def test_no_class_is_longer_than_200_lines_of_code() -> None:
    """The contract's test class is no part of the library's own work."""
    sizes = {
        name: len(code_lines(node, source))
        for name, node, source in parts(ast.ClassDef)
        if not name.startswith(("testing/contract.py", "backends/contract.py"))
    }
    assert {name: size for name, size in sizes.items() if size > LINES_OF_A_CLASS} == {}


def test_the_core_has_at_most_1900_lines_of_code() -> None:
    """Imports, signatures and docstrings do not count, nor do the backends and the contract."""
    lines = 0
    for path in CORE:
        source = path.read_text()
        tree = ast.parse(source)
        counted = code_lines(tree, source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                counted -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
            elif isinstance(node, FUNCTIONS):
                counted -= set(range(node.lineno, node.body[0].lineno))
        lines += len(counted)
    assert lines <= LINES_OF_THE_CORE


def test_imports_run_one_way() -> None:
    """From set-up and handlers down to records and tokens, never back."""
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    backwards = []
    for path in MODULES:
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        name = name.removesuffix(".__init__")
        if name == "__init__":
            continue
        package = list(path.relative_to(PACKAGE).parent.parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = package[: len(package) - node.level + 1]
            origin = [*base, *(node.module.split(".") if node.module else [])]
            for target in [".".join(origin)] if node.module else [".".join([*origin, one.name]) for one in node.names]:
                if level[target] <= level[name]:
                    backwards.append(f"{name} imports {target}")
    assert backwards == []


def test_the_rules_know_no_store_clock_or_request() -> None:
    """They import the policy and the records, and nothing that waits."""
    for name in ("rules", "policy", "record"):
        tree = ast.parse((PACKAGE / f"{name}.py").read_text())
        imported = {
            alias.name if isinstance(node, ast.Import) else node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert not imported & {"asyncio", "time", "aiohttp", "aiohttp_session", "store", "random", "secrets"}
        assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree))
