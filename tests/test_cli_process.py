"""The command line as a process: over SQLite, Redis and MongoDB, at a terminal, through a pipe, and interrupted."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aiohttp_persistent_session.testing import make_record

from .cli_places import CHROME, Place, make_place, mongodb_url, postgresql_url, redis_url, sqlite

PROGRAM = [sys.executable, "-m", "aiohttp_persistent_session"]
PASSWORD = "ge-heim+42"
ENDS_WITHIN = 60.0
"""Seconds after which a process that has not ended is a failure: for the slowest machine."""


def run(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *argv],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=ENDS_WITHIN,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


@pytest.fixture(params=["sqlite", "redis", "mongodb"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = make_place(request.param, request, tmp_path)
    made.insert()
    yield made
    asyncio.run(made.store.clean())


def test_an_administrator_lists_looks_and_ends(place: Place) -> None:
    """As a table and as JSON, with the URL in the environment."""
    now = round(time.time(), 3)
    records = [
        make_record(user="alice", user_agent=CHROME, address="203.0.113.7", created_at=round(now + number, 3))
        for number in (-3, -2, -1)
    ]
    place.insert(*records, make_record(user=42))
    argv = ("--backend", "env:STORE", *place.options)

    def ended(*words: str, code: int = 0) -> str:
        told = run(*argv, *words, STORE=place.url)
        assert (told.returncode, told.stderr) == (code, "")
        return told.stdout

    lines = ended("list", "alice").splitlines()
    assert [line.split()[0] for line in lines] == ["ID", *(one.id for one in reversed(records))]
    assert lines[1].endswith(CHROME)
    listed = json.loads(ended("--json", "list", "alice"))
    assert {one["id"] for one in listed} == {one.id for one in records}
    assert ended("revoke", records[0].id) == f"ended the persistent session {records[0].id}\n"
    assert json.loads(ended("revoke-user", "alice", "--yes", "--json")) == {"user": "alice", "ended": 2}
    assert json.loads(ended("count", "--json"))["users"] == 1
    # Servers of tests do not write to disk, which is a fault.
    checked = run(*argv, "check", STORE=place.url)
    assert checked.returncode in {0, 1}
    assert checked.stderr == ""
    assert "a record was inserted, swapped and deleted" in checked.stdout


@pytest.mark.parametrize("scheme", ["redis", "mongodb", "postgresql"])
def test_a_store_that_is_down_is_told_quickly_in_one_line(scheme: str) -> None:
    url = f"{scheme}://user:{PASSWORD}@127.0.0.1:1/0"
    started = time.monotonic()
    told = run("--backend", url, "--json", "list", "alice")
    assert time.monotonic() - started < 15
    assert (told.returncode, told.stdout) == (3, "")
    warning, error, *rest = told.stderr.splitlines()
    assert rest == []
    assert warning.startswith("warning: other users of this machine can see the password in --backend")
    assert error.startswith("error: the store failed: ")
    assert PASSWORD not in told.stderr


def test_wrong_usage_and_help(tmp_path: Path) -> None:
    told = run("list", "alice")
    assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
    told = run("--help")
    assert (told.returncode, told.stderr) == (0, "")
    for command in ("list", "show", "revoke", "revoke-user", "count", "purge", "check"):
        assert re.search(rf"^    {command} ", told.stdout, re.MULTILINE)


def test_no_driver_is_loaded_but_the_stores_own(sqlite: Place) -> None:
    program = (
        "import sys; from aiohttp_persistent_session.cli.main import main; "
        "assert main(sys.argv[1:]) == 0; print(*sorted({'redis', 'pymongo', 'motor', 'asyncpg'} & set(sys.modules)))"
    )
    argv = [sys.executable, "-c", program, *sqlite.argv("count", "--json")]
    told = subprocess.run(argv, capture_output=True, check=True)
    assert told.stdout.splitlines()[-1] == b""


def test_nobody_who_reads_is_no_error(sqlite: Place) -> None:
    """As ``list alice | head -1`` has it."""
    argv = [*PROGRAM, *sqlite.argv("list", "alice")]
    sqlite.insert(*(make_record(user="alice", user_agent="x" * 256) for _ in range(400)))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b"ID ")
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(ENDS_WITHIN) == 141
    process.stderr.close()


class Terminal:
    """A process at a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self.screen = b""
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*PROGRAM, *argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "COLUMNS": "72"},
        )
        os.close(slave)

    def read_until(self, text: bytes) -> None:
        deadline = time.monotonic() + ENDS_WITHIN
        while text not in self.screen:
            assert time.monotonic() < deadline, self.screen
            if not self._read():
                break
        assert text in self.screen, self.screen

    def _read(self) -> bool:
        if not select.select([self._master], [], [], 1)[0]:
            return True
        try:
            read = os.read(self._master, 65536)
        except OSError:  # Linux says so where the other end was closed
            return False
        self.screen += read
        return bool(read)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def wait(self) -> int:
        deadline = time.monotonic() + ENDS_WITHIN
        while self._read():
            assert time.monotonic() < deadline, self.screen
        code = self.process.wait(ENDS_WITHIN)
        os.close(self._master)
        return code


def test_a_question_at_a_terminal(sqlite: Place) -> None:
    sqlite.insert(*(make_record(user="alice") for _ in range(2)))
    for answer, code, end in (
        (b"n\n", 1, b"error: none was ended"),
        (b"y\n", 0, b"ended 2 persistent sessions of s:alice"),
    ):
        terminal = Terminal(*sqlite.argv("revoke-user", "alice"))
        terminal.read_until(b"End 2 persistent sessions of s:alice? [y/N] ")
        terminal.type(answer)
        assert terminal.wait() == code
        assert end in terminal.screen


def test_progress_and_tables_at_a_terminal(sqlite: Place) -> None:
    sqlite.insert(*(make_record(user="alice", user_agent="\x1b]0;evil\x07") for _ in range(600)))
    terminal = Terminal(*sqlite.argv("count"))
    assert terminal.wait() == 0
    assert b"[####################....]  83%  500 of about 600 records\r\x1b[K" in terminal.screen
    assert b"600" in terminal.screen.rpartition(b"\x1b[K")[2]
    assert b"\x1b]0" not in terminal.screen


def test_an_interrupt_ends_it_in_one_line(sqlite: Place) -> None:
    sqlite.insert(*(make_record(user="alice") for _ in range(2)))
    terminal = Terminal(*sqlite.argv("revoke-user", "alice"))
    terminal.read_until(b"[y/N] ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 130
    assert b"error: interrupted" in terminal.screen
    assert b"Traceback" not in terminal.screen


def test_the_program_is_installed_by_its_name() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"aiohttp-persistent-session": "aiohttp_persistent_session.cli.main:main"}


# The page


ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "command-line.md").read_text()


def test_the_page_has_every_command_and_option() -> None:
    """And none that is not there."""
    told = "".join(run(*words, "--help").stdout for words in ((), ("list",)))
    options = set(re.findall(r"--[a-z][a-z-]+", told)) - {"--help"}
    assert options <= set(re.findall(r"--[a-z][a-z-]+", PAGE))
    assert set(re.findall(r"^\| `(--.*?)` \|", PAGE, re.M)) >= {"--yes", "--json"}
    assert set(re.findall(r"(?<=[`, ])--[a-z][a-z-]+", PAGE)) == options
    commands = set(re.findall(r"^    ([a-z-]+) +\w", told.partition("COMMAND\n")[2].partition("options:")[0], re.M))
    assert set(re.findall(r"^\| `([a-z-]+)(?: [A-Z]+)?` \| \w", PAGE.partition("## Options")[0], re.M)) == commands


def test_the_page_has_every_code_of_a_finding() -> None:
    """And none that is not there."""
    codes: set[str] = set()
    for path in (ROOT / "aiohttp_persistent_session" / "cli").glob("*.py"):
        text = path.read_text()
        codes.update(re.findall(r'Finding\(\s*(?:"\w+"|"fault" if limit else "warning"), f?"([a-z-]+)"', text))
        codes.update(re.findall(r'refused\(\s*"([a-z-]+)"', text))
        codes.update(f"trial-{step}" for step in re.findall(r'_expect\(\s*"([a-z-]+)"', text))
        codes.update(name.replace("_", "-") for name in re.findall(r'^    "(\w+)": \("off"', text, re.M))
    table = PAGE.partition("## What `check` looks at")[2]
    named = {code for cell in re.findall(r"^\| (`.*?) \|", table, re.M) for code in re.findall(r"`([a-z-]+)`", cell)}
    assert codes - {"trial-"} == named
