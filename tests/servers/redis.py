"""Real Redis servers: one, one watched by a Sentinel with a replica, and a cluster of three masters."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from aiohttp_persistent_session.backends.redis import RedisBackend

from .processes import STARTS_WITHIN, Server, free_port, program

SLOTS = 16384


def redis_server(folder: Path, port: int, *options: str) -> Server:
    """Return a Redis server that is not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        program("redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    client = redis.Redis(port=port, socket_timeout=1)
    return Server([*arguments, *options], folder, lambda: bool(client.ping()))


def wait_for(what: str, holds: Callable[[], object]) -> None:
    """Poll until ``holds()``; fail where it takes too long."""
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"no {what} within {STARTS_WITHIN:g} s")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Redis; REDIS_URL names another."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    port = free_port()
    server = redis_server(tmp_path_factory.mktemp("redis"), port)
    server.start()
    yield f"redis://127.0.0.1:{port}/0"
    server.stop()


@dataclass
class DurableRedis:
    """A Redis that has written whatever it has acknowledged, to be killed and started again."""

    server: Server
    url: str


@pytest.fixture
def durable_redis(tmp_path: Path) -> Iterator[DurableRedis]:
    port = free_port()
    server = redis_server(tmp_path / "redis", port, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield DurableRedis(server, f"redis://127.0.0.1:{port}/0")
    server.stop()


@dataclass
class SentinelSetup:
    sentinels: list[tuple[str, int]]
    servers: list[Server]
    """The first master, its replica, and the sentinel."""
    replica_port: int


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetup]:
    """A master, a replica and a Sentinel that alone may decide; not to be failed over."""
    with _sentinel_setup(tmp_path_factory.mktemp("sentinel")) as setup:
        yield setup


@pytest.fixture
def redis_sentinel_to_fail(tmp_path: Path) -> Iterator[SentinelSetup]:
    """The same, for one test alone."""
    with _sentinel_setup(tmp_path) as setup:
        yield setup


@contextlib.contextmanager
def _sentinel_setup(parent: Path) -> Iterator[SentinelSetup]:
    master, replica, watch = free_port(), free_port(), free_port()
    at_once = ("--repl-diskless-sync-delay", "0")
    first = redis_server(parent / "master", master, *at_once)
    second = redis_server(parent / "replica", replica, "--replicaof", "127.0.0.1", str(master), *at_once)
    folder = parent / "sentinel"
    folder.mkdir()
    (folder / "sentinel.conf").write_text(
        f"port {watch}\nbind 127.0.0.1\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {master} 1\n"
        "sentinel down-after-milliseconds main 3000\nsentinel failover-timeout main 3000\n"
    )
    client = redis.Redis(port=watch, socket_timeout=1)
    sentinel = Server(
        [program("redis-server"), str(folder / "sentinel.conf"), "--sentinel"], folder, lambda: bool(client.ping())
    )
    servers = [first, second, sentinel]
    try:
        for server in servers:
            server.start()
        linked = redis.Redis(port=replica)
        wait_for("link to the master", lambda: linked.info("replication")["master_link_status"] == "up")
        wait_for("replica known to the sentinel", lambda: client.sentinel_slaves("main"))
        yield SentinelSetup([("127.0.0.1", watch)], servers, replica)
    finally:
        for server in reversed(servers):
            server.stop()


@dataclass
class ClusterSetup:
    port: int
    servers: list[Server]


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    """Three masters, each with a third of the slots."""
    folder = tmp_path_factory.mktemp("cluster")
    ports = [free_port() for _ in range(3)]
    servers = [
        redis_server(
            folder / str(port), port, "--cluster-enabled", "yes", "--cluster-port", str(port + 10000),
            "--cluster-node-timeout", "15000",
        )
        for port in ports
    ]  # fmt: skip
    try:
        for server in servers:
            server.start()
        clients = [redis.Redis(port=port, decode_responses=True) for port in ports]
        for number, client in enumerate(clients):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for port in ports[1:]:
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port)
        for client in clients:
            wait_for("cluster", lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        yield ClusterSetup(ports[0], servers)
    finally:
        for server in servers:
            server.stop()


class RedisStore:
    """Backends that share one test's keys."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"test:{secrets.token_hex(6)}:"

    async def backend(self) -> RedisBackend:
        return RedisBackend(self.url, prefix=self.prefix)

    async def opened(self) -> RedisBackend:
        backend = await self.backend()
        await backend.open()
        return backend

    async def clean(self) -> None:
        client = redis.Redis.from_url(self.url)
        for key in client.scan_iter(f"{self.prefix}*", count=1000):
            client.delete(key)
        client.close()
