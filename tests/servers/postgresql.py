"""PostgreSQL for tests: Debian's package, in a folder of its own; and the stores of SQLBackend, each with its own data.

``POSTGRES_URL`` names a server that runs already, with a user who may create databases.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiohttp_persistent_session.backends.sql import SQLBackend

from .processes import STARTS_WITHIN, Server, free_port, missing, wait_until_stopped

USER = "postgres"
"""Whom the server runs as where the tests are run by root, whom it refuses."""


def binaries() -> Path:
    """Return the folder with ``postgres`` and ``initdb``, which Debian keeps out of the PATH."""
    folders = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if folders:
        return max(folders, key=lambda folder: int(folder.parent.name))
    if path := shutil.which("postgres"):
        return Path(path).resolve().parent
    missing("PostgreSQL is not installed: tests/servers/install.sh installs it on Debian")
    raise AssertionError


class PostgreSQL(Server):
    """A PostgreSQL server on a free port. Signals reach its children too: they are what answers.

    Args:
        settings: such as ``fsync=off``; by default it is as durable as PostgreSQL is.
    """

    def __init__(self, *settings: str) -> None:
        programs = binaries()
        user = USER if os.geteuid() == 0 else None
        folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        if user is not None:
            shutil.chown(folder, user, user)
        made = subprocess.run(
            [programs / "initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", USER, "data"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
        if made.returncode:
            pytest.fail(f"initdb failed:\n{made.stdout}{made.stderr}")
        self.port = free_port()
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={folder}", *settings]
        arguments = [str(programs / "postgres"), "-D", "data", *(word for option in options for word in ("-c", option))]
        asked = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        super().__init__(arguments, folder, lambda: subprocess.run(asked, check=False).returncode == 0, user=user)

    @property
    def url(self) -> str:
        """The URL of its database ``postgres``."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def children(self) -> list[int]:
        """Return the ids of the processes that the server has started."""
        if self.process is None or self.process.poll() is not None:
            return []
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def send(self, number: signal.Signals) -> None:
        """Send the server a signal; one that kills, stops or continues it is sent to its children too."""
        children = self.children()
        super().send(number)
        if number in {signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT}:
            for child in children:
                with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                    os.kill(child, number)
                    if number == signal.SIGSTOP:
                        wait_until_stopped(child)

    def kill(self) -> None:
        """End it as a power cut would. It does not start again before its children are gone."""
        children = self.children()
        super().kill()
        deadline = time.monotonic() + STARTS_WITHIN
        while any(_runs(child) for child in children) and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End it in order, without waiting for its clients."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGINT)
        super().stop()

    def remove(self) -> None:
        """Stop it and remove its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """The URL of a server for the whole run (of each worker, with pytest-xdist), or that of ``POSTGRES_URL``."""
    if url := os.environ.get("POSTGRES_URL"):
        yield url
        return
    server = PostgreSQL("fsync=off", "full_page_writes=off")
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture
def postgresql_server() -> Iterator[PostgreSQL]:
    """A server of the test's own, durable, to be killed, started again, stopped and continued."""
    server = PostgreSQL()
    try:
        server.start()
        yield server
    finally:
        server.remove()


class PostgreSQLStore:
    """A new, empty database of the server at ``server_url``."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self.name = f"test_{secrets.token_hex(8)}"
        self.url = f"{server_url.rpartition('/')[0]}/{self.name}"
        self._created = False
        self._backends: list[SQLBackend] = []

    @property
    def url_of_an_engine(self) -> str:
        """What SQLAlchemy's create_async_engine is to be passed."""
        return self.url.replace("postgresql:", "postgresql+asyncpg:")

    async def prepare(self) -> None:
        """Create the database, once."""
        if not self._created:
            self._created = True
            await self._run(f'CREATE DATABASE "{self.name}" TEMPLATE template0')

    async def backend(self) -> SQLBackend:
        """Return a new backend on the database, not open; :meth:`clean` closes it."""
        await self.prepare()
        self._backends.append(SQLBackend(self.url))
        return self._backends[-1]

    async def clean(self) -> None:
        """Close the backends and drop the database."""
        for backend in self._backends:
            await backend.close()
        if self._created:
            await self._run(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    async def _run(self, statement: str) -> None:
        import asyncpg

        connection = await asyncpg.connect(self.server_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class SQLiteStore:
    """A new file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{secrets.token_hex(8)}.db"
        self.url = f"sqlite:///{self.path}"
        self._backends: list[SQLBackend] = []

    @property
    def url_of_an_engine(self) -> str:
        """What SQLAlchemy's create_async_engine is to be passed."""
        return self.url.replace("sqlite:", "sqlite+aiosqlite:")

    async def backend(self) -> SQLBackend:
        """Return a new backend on the file, not open; :meth:`clean` closes it."""
        self._backends.append(SQLBackend(self.url))
        return self._backends[-1]

    async def clean(self) -> None:
        """Close the backends and remove the file with what belongs to it."""
        for backend in self._backends:
            await backend.close()
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink()
