"""RedisBackend on real servers: one, one behind Sentinel, a cluster; and what happens when they fail."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import subprocess
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel

from aiohttp_persistent_session import BackendError, PersistentSessionManager
from aiohttp_persistent_session.backends.redis import RedisBackend
from aiohttp_persistent_session.record import Outcome
from aiohttp_persistent_session.testing import BackendContract, make_record
from aiohttp_persistent_session.tokens import Token, digest

from .exchanges import exchange, sign_in
from .servers.redis import (  # noqa: F401 -- fixtures
    ClusterSetup,
    RedisStore,
    SentinelSetup,
    redis_cluster,
    redis_sentinel,
    redis_sentinel_to_fail,
    redis_url,
)

KILLS_SERVERS = True

logger = logging.getLogger(__name__)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:  # noqa: F811 -- a fixture
    store = RedisStore(redis_url)
    yield store
    await store.clean()


class RedisContract(BackendContract):
    expires_by_itself = True

    async def test_a_lost_index_entry_comes_back_with_a_days_activity(self, backend: RedisBackend) -> None:
        """Index and record may be on different shards, of which one fails over."""
        record = make_record()
        await backend.insert(record)
        index = backend._index_key(record.user)
        await backend._client.delete(index)
        stored = await backend.get(record.id)
        record = replace(stored, revision=1, expires_at=record.expires_at + 2 * 86400)
        assert await backend.replace(record)
        assert not await backend.replace(record)
        assert await backend.of_user(record.user) == [record]
        assert await backend._client.pexpiretime(index) > record.expires_at * 1000


class TestRedisByUrl(RedisContract):
    @pytest.fixture
    async def backend(self, store: RedisStore) -> AsyncIterator[RedisBackend]:
        backend = await store.opened()
        yield backend
        await backend.close()


class TestRedisClientThatDecodes(RedisContract):
    @pytest.fixture
    async def backend(self, store: RedisStore) -> AsyncIterator[RedisBackend]:
        async with Redis.from_url(store.url, decode_responses=True) as client:
            yield RedisBackend(client, prefix=store.prefix)


class TestRedisBehindSentinel(RedisContract):
    @pytest.fixture
    async def backend(self, redis_sentinel: SentinelSetup) -> AsyncIterator[RedisBackend]:  # noqa: F811 -- a fixture
        sentinel = Sentinel(redis_sentinel.sentinels)
        client = sentinel.master_for("main")
        yield RedisBackend(client, prefix=f"test:{secrets.token_hex(6)}:")
        await client.aclose()
        for one in sentinel.sentinels:
            await one.aclose()


class TestRedisCluster(RedisContract):
    @pytest.fixture
    async def backend(self, redis_cluster: ClusterSetup) -> AsyncIterator[RedisBackend]:  # noqa: F811 -- a fixture
        async with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", redis_cluster.port)]) as client:
            yield RedisBackend(client, prefix=f"test:{secrets.token_hex(6)}:")


# Clients


async def test_a_client_that_was_passed_in_is_never_closed(redis_url: str) -> None:  # noqa: F811 -- a fixture
    async with Redis.from_url(redis_url) as client:
        backend = RedisBackend(client)
        await backend.open()
        await backend.close()
        connections = client.connection_pool._available_connections
        assert connections
        assert all(connection.is_connected for connection in connections)


async def test_a_client_of_its_own_is_always_closed_and_may_be_opened_again(store: RedisStore) -> None:
    backend = await store.backend()
    for _ in range(2):
        await backend.open()
        record = make_record()
        await backend.insert(record)
        assert await backend.get(record.id) == record
        connections = backend._client.connection_pool._available_connections
        assert connections
        await backend.close()
        assert not any(connection.is_connected for connection in connections)
        with pytest.raises(BackendError, match="not open"):
            await backend.get(record.id)


class RefusingServer:
    """Accepts connections, and answers whatever it is asked with an error: as a server with other access rules does."""

    def __init__(self) -> None:
        self.connected = 0
        self.ended = asyncio.Event()

    async def __aenter__(self) -> RefusingServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        while asked := await reader.read(65536):
            writer.write(b"-ERR not you\r\n" * asked.count(b"*"))
        writer.close()
        self.ended.set()


async def test_a_start_up_that_fails_half_way_closes_it() -> None:
    async with RefusingServer() as server:
        with pytest.raises(BackendError) as caught:
            await PersistentSessionManager(RedisBackend(server.url)).open()
        assert isinstance(caught.value.__cause__, redis.ResponseError)
        assert server.connected == 1
        async with asyncio.timeout(10):
            await server.ended.wait()


async def test_a_start_up_that_fails_half_way_leaves_a_client_open_that_was_passed_in() -> None:
    async with RefusingServer() as server, Redis.from_url(server.url, protocol=2) as client:
        with pytest.raises(BackendError):
            await PersistentSessionManager(RedisBackend(client)).open()
        (connection,) = client.connection_pool._available_connections
        assert connection.is_connected
        assert not server.ended.is_set()


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis:localhost", "mongodb://localhost", ""])
def test_a_wrong_url_is_a_value_error_that_names_the_right_ones(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisBackend(url)


@pytest.mark.parametrize("client", [None, 1, redis.Redis(), object()])
def test_what_is_no_client_is_a_type_error_that_says_what_to_pass(client: object) -> None:
    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        RedisBackend(client)  # type: ignore[arg-type]


def test_a_prefix_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="prefix"):
        RedisBackend("redis://localhost", prefix=b"x")  # type: ignore[arg-type]


async def test_a_cluster_client_that_reads_from_replicas_is_refused() -> None:
    try:
        from redis.cluster import LoadBalancingStrategy
    except ImportError:  # redis-py before 6
        client = RedisCluster(host="127.0.0.1", port=1, read_from_replicas=True)
    else:
        client = RedisCluster(host="127.0.0.1", port=1, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN)
    with pytest.raises(ValueError, match="replicas"):
        RedisBackend(client)
    await client.aclose()


async def test_a_client_of_sentinels_replicas_is_refused() -> None:
    client = Sentinel([("127.0.0.1", 1)]).slave_for("main")
    with pytest.raises(ValueError, match="replicas"):
        RedisBackend(client)
    await client.aclose()


async def test_a_pipeline_is_no_client() -> None:
    async with Redis(port=1) as client:
        with pytest.raises(TypeError, match="Pipeline"):
            RedisBackend(client.pipeline())


async def test_a_client_that_would_not_keep_every_user_is_refused() -> None:
    async with Redis(port=1, encoding="latin-1", encoding_errors="replace") as client:
        with pytest.raises(ValueError, match="utf-8, not latin-1"):
            RedisBackend(client)


def test_a_missing_driver_is_named_with_what_to_install() -> None:
    program = "import sys; sys.modules['redis'] = None; import aiohttp_persistent_session.backends.redis"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "ImportError: RedisBackend needs redis-py" in done.stderr
    assert 'pip install "aiohttp-persistent-session[redis]"' in done.stderr


# What is stored


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_record_and_its_users_index_expire_without_being_touched(store: RedisStore, swapped: bool) -> None:
    """Alone in a database, whose keys are counted: who asks for a key that has expired deletes it."""
    client, same = (kind.from_url(store.url, db=9 + swapped) for kind in (Redis, redis.Redis))
    backend = RedisBackend(client, prefix=store.prefix)
    others = same.dbsize()
    expires_at = round(time.time() + 2, 3)
    record = make_record(expires_at=expires_at + 3600 * swapped)
    await backend.insert(record)
    (index,) = same.keys(f"{store.prefix}user:*")
    assert same.pexpiretime(index) == round(record.expires_at * 1000) + 24 * 3600 * 1000
    if swapped:
        record = replace(await backend.get(record.id), revision=1, expires_at=expires_at)
        assert await backend.replace(record)
    assert same.pexpiretime(f"{store.prefix}{record.id}") == round(expires_at * 1000)
    assert same.dbsize() == others + 2
    async with asyncio.timeout(30):
        while same.dbsize() != others + 1:
            await asyncio.sleep(0.01)
    assert await backend.of_user(record.user) == []
    same.delete(index)
    await client.aclose()


async def test_the_index_is_kept_as_long_as_its_records_and_not_written_each_time(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    index = f"{store.prefix}user:s:alice"
    first = client.pexpiretime(index)
    for minutes in (1, 60, 1300):
        record = await backend.get(record.id)
        record = replace(record, revision=record.revision + 1, expires_at=round(record.expires_at + 60 * minutes, 3))
        assert await backend.replace(record)
        assert client.pexpiretime(index) == first
    record = await backend.get(record.id)
    record = replace(record, revision=record.revision + 1, expires_at=record.expires_at + 40 * 86400)
    assert await backend.replace(record)
    later = client.pexpiretime(index)
    assert later > record.expires_at * 1000
    await backend.insert(make_record(user="alice"))
    assert client.pexpiretime(index) == later
    assert json.loads(client.get(store.prefix + record.id))["indexed"].split()[1] == str(later)
    assert await backend.get(record.id) == record
    await backend.close()


async def test_entries_without_a_record_are_tolerated_and_pruned_once_they_are_old(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.zadd(f"{store.prefix}user:s:alice", {"about to be written": time.time(), "long gone": time.time() - 7200})
    assert await backend.of_user("alice") == [record]
    assert sorted(client.zrange(f"{store.prefix}user:s:alice", 0, -1)) == sorted(
        [b"about to be written", record.id.encode()]
    )
    await backend.close()


async def test_the_index_of_one_who_only_signs_in_does_not_grow_without_end(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    index = f"{store.prefix}user:s:alice"
    client.zadd(index, {f"gone{number}": time.time() - 7200 - number for number in range(45)})
    for _ in range(300):
        await backend.insert(make_record(user="alice"))
    assert client.zcard(index) == 300
    await backend.close()


async def test_an_index_is_pruned_also_where_its_oldest_entries_live_long(store: RedisStore) -> None:
    """An account that many share, or a robot's, whose list nobody reads."""
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    for _ in range(12):
        await backend.insert(make_record(user="robot", created_at=1.0))
    index = f"{store.prefix}user:s:robot"
    client.zadd(index, {f"gone{number}": time.time() - 7200 - number for number in range(100)})
    for _ in range(400):
        await backend.insert(make_record(user="robot"))
    assert client.zcard(index) == 12 + 400
    await backend.close()


async def test_what_cannot_be_read_hides_no_other_record_and_can_be_deleted(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record, broken = make_record(user="alice"), make_record(user="alice")
    await backend.insert(record)
    await backend.insert(broken)
    client.set(store.prefix + broken.id, "junk")
    assert await backend.of_user("alice") == [record]
    await backend.insert(make_record(user="alice"))
    assert await backend.delete(broken.id)
    assert await backend.get(broken.id) is None
    await backend.close()


async def test_an_index_of_thousands_is_read_in_parts(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.zadd(f"{store.prefix}user:s:alice", {f"gone{number}": time.time() - 7200 for number in range(3000)})
    assert await backend.of_user("alice") == [record]
    assert client.zcard(f"{store.prefix}user:s:alice") == 1
    await backend.close()


async def test_three_hundred_callers_at_once_are_all_served(store: RedisStore) -> None:
    """redis-py 8 allows a client 100 connections by default, and fails over the next call."""
    backend = await store.opened()
    record = make_record()
    await backend.insert(record)
    assert await asyncio.gather(*(backend.get(record.id) for _ in range(300))) == [record] * 300
    await backend.close()


async def test_what_is_no_record_is_a_backend_error(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    for junk in ("junk", "[]", "{}"):
        client.set(f"{store.prefix}{'A' * 22}", junk)
        with pytest.raises(BackendError):
            await backend.get("A" * 22)
    await backend.close()


@pytest.mark.parametrize("password", ["hunter#2", "hunter/2", "hunter?2"])
def test_a_malformed_url_does_not_quote_the_password(password: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded") as caught:
        RedisBackend(f"redis://bob:{password}@127.0.0.1:6379/0")
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_redis_cli_shows_a_record_readably(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="Zoë", address="192.0.2.1")
    await backend.insert(record)
    shown = json.loads(client.get(store.prefix + record.id))
    assert (shown["user"], shown["address"], shown["revision"]) == ("s:Zoë", "192.0.2.1", 0)
    await backend.close()


async def test_no_secret_is_in_redis(store: RedisStore) -> None:
    from .test_secrets import spellings

    client = redis.Redis.from_url(store.url)
    tokens = []
    async with PersistentSessionManager(await store.backend()) as manager:
        for _ in range(3):
            token = await sign_in(manager)
            tokens.append(token)
            for _ in range(3):
                token = (await exchange(manager, token)).token
                tokens.append(token)
    dump = b"".join(
        key + (client.get(key) if client.type(key) == b"string" else repr(client.zrange(key, 0, -1)).encode())
        for key in client.keys(f"{store.prefix}*")
    ).decode()
    assert dump
    for token in tokens:
        for text in spellings(token.cookie_value):
            assert text not in dump


async def test_a_swap_survives_a_flush_of_the_scripts(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record()
    await backend.insert(record)
    for revision in (1, 2):
        client.script_flush()
        assert await backend.replace(replace(record, revision=revision))
    await backend.close()


@pytest.mark.parametrize("away", [0, 3600, 5 * 86400])
async def test_an_exchange_takes_two_round_trips(store: RedisStore, monkeypatch: Any, away: int) -> None:
    """Also where the browser was away for so long that the index of its user is written anew."""
    sent = []
    original = AbstractConnection.send_packed_command

    async def send(connection: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(command)
        await original(connection, command, *args, **kwargs)

    async with PersistentSessionManager(await store.backend()) as manager:
        now = round(time.time(), 3)
        manager.clock = lambda: now
        token = (await exchange(manager, await sign_in(manager))).token
        now += away
        monkeypatch.setattr(AbstractConnection, "send_packed_command", send)
        assert (await exchange(manager, token)).outcome is Outcome.CURRENT
        monkeypatch.undo()
    client = redis.Redis.from_url(store.url)
    assert len(sent) == 2
    assert client.pexpiretime(f"{store.prefix}user:s:alice") > client.pexpiretime(f"{store.prefix}{token.id}")


async def test_a_lost_index_entry_comes_back_also_where_the_expiry_moves_no_more(store: RedisStore) -> None:
    """As with max_lifetime, in whose last weeks a day's activity changes seen_at alone."""
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.delete(f"{store.prefix}user:s:alice")
    for hours, listed in ((1, 0), (23, 0), (24, 1)):
        record = replace(await backend.get(record.id), seen_at=record.created_at + 3600 * hours)
        assert await backend.replace(replace(record, revision=record.revision + 1))
        assert len(await backend.of_user("alice")) == listed
    await backend.close()


async def test_an_index_entry_that_failed_beside_its_swap_is_made_at_the_next_one(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record, index = make_record(user="alice"), f"{store.prefix}user:s:alice"
    await backend.insert(record)
    client.delete(index)
    client.set(index, "no sorted set")
    later = replace(record, revision=1, seen_at=record.seen_at + 86400)
    with pytest.raises(BackendError):
        await backend.replace(later)
    client.delete(index)
    stored = await backend.get(record.id)
    assert stored == replace(later, revision=2)
    assert await backend.replace(replace(stored, revision=3))
    assert [one.id for one in await backend.of_user("alice")] == [record.id]
    await backend.close()


async def test_connections_that_the_server_closed_are_not_used(store: RedisStore) -> None:
    """After a restart, or a quiet spell with the server's ``timeout``: nobody is anonymous because of it."""
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record()
    await backend.insert(record)
    await asyncio.gather(*(backend.get(record.id) for _ in range(20)))
    for connection in list(backend._client.connection_pool._available_connections):
        port = connection._writer.get_extra_info("sockname")[1]
        client.execute_command("CLIENT", "KILL", "ADDR", f"127.0.0.1:{port}")
    await asyncio.sleep(0.1)
    assert await asyncio.gather(*(backend.get(record.id) for _ in range(20))) == [record] * 20
    await backend.close()


async def test_a_cluster_none_of_whose_nodes_answers_is_a_store_that_fails() -> None:
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", 1)])
    backend = RedisBackend(client)
    for call in (backend.open, lambda: backend.get("A" * 22)):
        with pytest.raises(BackendError) as caught:
            await call()
        assert caught.value.__cause__ is not None
    await client.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost/0?foo=1",
        "redis://localhost/abc",
        "redis://localhost/0/1",
        "unix://",
        "redis://localhost?protocol=9",
        "redis://localhost?retry=3",
        "rediss://localhost?ssl_cert_reqs=bogus",
    ],
)
def test_a_url_with_an_option_or_a_database_that_there_is_not_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match="URL of RedisBackend"):
        RedisBackend(url)


async def test_the_first_swap_that_also_enters_the_index_may_find_the_scripts_gone(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.script_flush()
    record = replace(record, revision=1, expires_at=record.expires_at + 5 * 86400)
    assert await backend.replace(record)
    assert not await backend.replace(record)
    assert await backend.get(record.id) == record
    assert client.pexpiretime(f"{store.prefix}user:s:alice") > record.expires_at * 1000
    await backend.close()


# Faults


@dataclass
class Browser:
    """Comes back again and again without its session."""

    token: Token
    exchanged: int = 0
    refused_as: Outcome | None = None

    async def come_back(self, manager: PersistentSessionManager) -> None:
        restored = await exchange(manager, self.token)
        if restored.token is not None:
            self.token = restored.token
            self.exchanged += 1
        else:
            self.refused_as = restored.outcome

    async def come_back_until(self, manager: PersistentSessionManager, exchanged: int) -> None:
        """Insist while the store fails; take a refusal for an answer."""
        while self.exchanged < exchanged and self.refused_as is None:
            await self.come_back(manager)
            await asyncio.sleep(0.01)


@dataclass
class Failover:
    """A hundred browsers that have signed in at a master, and its replica, which has all of them."""

    servers: SentinelSetup
    store: RedisStore
    manager: PersistentSessionManager
    browsers: list[Browser]
    alarms: list[str]

    @property
    def replica(self) -> redis.Redis:
        return redis.Redis(port=self.servers.replica_port)

    def unknown_to_the_replica(self) -> list[Browser]:
        """Return whose token is neither the current one of its record nor its predecessor, before it is promoted."""
        assert self.replica.info("replication")["role"] == "slave"
        return [browser for browser in self.browsers if not self._knows(browser.token)]

    def _knows(self, token: Token) -> bool:
        stored = self.replica.get(self.store.prefix + token.id)
        return stored is not None and b64encode(digest(token.secret)).decode() in stored.decode()


@pytest.fixture
async def failover(redis_sentinel_to_fail: SentinelSetup) -> AsyncIterator[Failover]:  # noqa: F811 -- a fixture
    sentinel = Sentinel(redis_sentinel_to_fail.sentinels)
    client = sentinel.master_for("main", socket_timeout=15, socket_connect_timeout=0.5)
    store, alarms = RedisStore("redis://by-sentinel"), []

    async def alarm(session: Any, _: object) -> None:
        alarms.append(session.id)

    manager = PersistentSessionManager(RedisBackend(client, prefix=store.prefix), timeout=10)
    manager.on_reuse.append(alarm)
    async with manager:
        browsers = [Browser(await sign_in(manager, f"user{number}")) for number in range(100)]
        assert await client.wait(1, 10_000) == 1
        manager._store.timeout = 1
        yield Failover(redis_sentinel_to_fail, store, manager, browsers, alarms)
    await client.aclose()
    for one in sentinel.sentinels:
        await one.aclose()


async def test_a_failover_by_sentinel_amid_500_exchanges_costs_only_what_the_replica_had_not(
    failover: Failover,
) -> None:
    """Redis replicates after it has answered. Who holds what was lost with the old master is refused, nobody else."""
    browsers, manager = failover.browsers, failover.manager
    async with asyncio.timeout(60):
        browsing = [asyncio.create_task(browser.come_back_until(manager, 5)) for browser in browsers]
        while sum(browser.exchanged for browser in browsers) < 250:
            await asyncio.sleep(0)
        failover.servers.servers[0].kill()
        await asyncio.sleep(0.1)  # what the old master answered is read, and by the replica
        lost = failover.unknown_to_the_replica()
        await asyncio.gather(*browsing)
    refused = [browser for browser in browsers if browser.refused_as is not None]
    fates = Counter(browser.refused_as or "in" for browser in browsers)
    exchanges = sum(browser.exchanged for browser in browsers)
    logger.info("%d exchanges across a failover by Sentinel; what became of the browsers: %s", exchanges, fates)
    assert refused == lost
    assert all(browser.exchanged == 5 for browser in browsers if browser not in lost)
    accused = [browser.token.id for browser in refused if browser.refused_as is Outcome.REUSE]
    assert sorted(failover.alarms) == sorted(accused)
    for browser in browsers:
        record = await manager._store.get(browser.token.id)
        assert (record is None) if browser in lost else (record.digest == digest(browser.token.secret))


async def test_who_holds_what_the_replica_never_got_is_taken_for_a_thief_and_nobody_else(
    failover: Failover,
) -> None:
    """What docs/redis.md says of a failover without WAIT."""
    browsers, manager = failover.browsers, failover.manager
    failover.replica.replicaof("127.0.0.1", 1)  # it loses its master, and takes it for alive
    unlucky = browsers[:20]
    for browser in unlucky:
        await browser.come_back(manager)
    failover.servers.servers[0].kill()
    assert failover.unknown_to_the_replica() == unlucky
    async with asyncio.timeout(60):
        await asyncio.gather(*(browser.come_back_until(manager, 2) for browser in browsers))
    assert [browser for browser in browsers if browser.refused_as is not None] == unlucky
    assert {browser.refused_as for browser in unlucky} == {Outcome.REUSE}
    assert sorted(failover.alarms) == sorted(browser.token.id for browser in unlucky)
    again = Browser(await sign_in(manager, "user0"))
    await again.come_back(manager)
    assert again.exchanged == 1
