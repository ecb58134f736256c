"""RedisBackend on real servers: one, one behind Sentinel, a cluster; and what happens when they fail."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import secrets
import subprocess
import sys
import time
import traceback
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel

from aiohttp_persistent_session import BackendError, PersistentSessionManager
from aiohttp_persistent_session.backends.redis import CHUNK, RedisBackend
from aiohttp_persistent_session.rules import Outcome, find
from aiohttp_persistent_session.testing import BackendContract, make_record
from aiohttp_persistent_session.tokens import Token

from .exchanges import restore, sign_in
from .servers.redis import (
    ClusterSetup,
    DurableRedis,
    RedisStore,
    SentinelSetup,
    durable_redis,
    redis_cluster,
    redis_sentinel,
    redis_sentinel_to_fail,
    redis_url,
    wait_for,
)

KILLS_SERVERS = True

DAY = 86400

logger = logging.getLogger(__name__)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis_url)
    yield store
    await store.clean()


class RedisContract(BackendContract):
    expires_by_itself = True

    async def test_a_lost_index_entry_comes_back_with_a_weeks_activity(self, backend: RedisBackend) -> None:
        """Index and record may be on different shards, of which one fails over."""
        record = make_record()
        await backend.insert(record)
        index = backend._index_key(f"s:{record.user}")
        await backend._client.delete(index)
        record = replace(record, revision=1, expires_at=record.expires_at + 6 * DAY)
        assert await backend.replace(record)
        assert await backend.of_user(record.user, 10) == []
        record = replace(record, revision=2, expires_at=record.expires_at + 2 * DAY)
        assert await backend.replace(record)
        assert not await backend.replace(record)
        assert await backend.of_user(record.user, 10) == [record]
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
    async def backend(self, redis_sentinel: SentinelSetup) -> AsyncIterator[RedisBackend]:
        sentinel = Sentinel(redis_sentinel.sentinels)
        client = sentinel.master_for("main")
        yield RedisBackend(client, prefix=f"test:{secrets.token_hex(6)}:")
        await client.aclose()
        for one in sentinel.sentinels:
            await one.aclose()


class TestRedisCluster(RedisContract):
    @pytest.fixture
    async def backend(self, redis_cluster: ClusterSetup) -> AsyncIterator[RedisBackend]:
        async with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", redis_cluster.port)]) as client:
            yield RedisBackend(client, prefix=f"test:{secrets.token_hex(6)}:")


# Walks through all records


@pytest.mark.parametrize("prefix", ["a*:", "a?[b-c]^\\:", "", "\u00fc:", "user:", "x" * 22])
async def test_a_scan_tells_what_its_prefix_says_and_nothing_else(redis_url: str, prefix: str) -> None:
    """Whatever it means in a pattern, and whatever else lies in the database."""
    name = secrets.token_hex(6)
    client = Redis.from_url(redis_url)
    mine, other = (RedisBackend(client, prefix=one) for one in (f"{name}:{prefix}", f"{name}:aXYbc:"))
    records = {one.id: one for one in (make_record() for _ in range(5))}
    foreign = make_record()
    try:
        for record in records.values():
            await mine.insert(record)
        await other.insert(foreign)
        for key in (b"\xff" * 22, b"short", b"user:s:" + b"x" * 15, b"-" * 23):
            await client.set(f"{name}:{prefix}".encode() + key, "{}")
        await client.rpush(f"{name}:{prefix}{make_record().id}", "no text")
        await client.set(f"{name}:{prefix}{(broken := make_record().id)}", "no JSON")
        told = [batch async for batch in mine.scan(2)]
        assert sorted(one.id for batch in told for one in batch.records) == sorted(records)
        assert [id for batch in told for id in batch.unreadable] == [broken]
        assert foreign.id in {one.id async for batch in other.scan() for one in batch.records}
    finally:
        for key in await client.keys(f"{name}:*"):
            await client.delete(key)
        await client.aclose()


async def test_a_scan_of_a_cluster_asks_each_master(redis_cluster: ClusterSetup) -> None:
    async with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", redis_cluster.port)]) as client:
        backend = RedisBackend(client, prefix=f"test:{secrets.token_hex(6)}:")
        records = {one.id for one in [make_record() for _ in range(60)] if await backend.insert(one) is None}
        assert len({client.get_node_from_key(backend._key(id)).port for id in records}) == 3
    # By a client that has not looked at the cluster yet.
    async with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", redis_cluster.port)]) as client:
        again = RedisBackend(client, prefix=backend._prefix)
        assert sorted([one.id async for batch in again.scan(7) for one in batch.records]) == sorted(records)


async def test_a_scan_ends_where_redis_fails(durable_redis: DurableRedis) -> None:
    backend = RedisBackend(durable_redis.url)
    await backend.open()
    for _ in range(5):
        await backend.insert(make_record())
    scan = backend.scan(2)
    assert len((await anext(scan)).records) == 2
    durable_redis.server.kill()
    with pytest.raises(BackendError):
        await anext(scan)
    assert await anext(scan, None) is None
    await backend.close()
    with pytest.raises(BackendError, match="not open"):
        await anext(backend.scan())


# Clients


async def test_a_client_that_was_passed_in_is_never_closed(redis_url: str) -> None:
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
            await RedisBackend(server.url).open()
        assert isinstance(caught.value.__cause__, redis.ResponseError)
        assert server.connected == 1
        async with asyncio.timeout(10):
            await server.ended.wait()


async def test_a_start_up_that_fails_half_way_leaves_a_client_open_that_was_passed_in() -> None:
    async with RefusingServer() as server, Redis.from_url(server.url, protocol=2) as client:
        with pytest.raises(BackendError):
            await RedisBackend(client).open()
        (connection,) = client.connection_pool._available_connections
        assert connection.is_connected
        assert not server.ended.is_set()


async def test_it_is_opened_again_after_it_failed(durable_redis: DurableRedis) -> None:
    backend = RedisBackend(durable_redis.url)
    durable_redis.server.kill()
    for _ in range(2):
        with pytest.raises(BackendError) as caught:
            await backend.open()
        assert caught.value.__cause__ is not None
    await asyncio.to_thread(durable_redis.server.start)
    await backend.open()
    assert await backend.get("A" * 22) is None
    await backend.close()


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "redis:localhost", "mongodb://localhost", ""])
def test_a_wrong_url_is_a_value_error_that_names_the_right_ones(url: str) -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisBackend(url)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://localhost/0?foo=hunter2", 'unknown option "foo"'),
        ("redis://localhost/0?socket_timeout=5&Foo_Bar=1", 'unknown option "Foo_Bar"'),
        ("redis://localhost/hunter2", "the database is no number"),
        ("redis://localhost/0/1", "the database is no number"),
        ("redis://localhost:hunter2/0", "the port is no number"),
        ("redis://[::1]:hunter2", "the port is no number"),
        ("redis://bob:hunter2", "the port is no number"),
        ("redis://localhost:63790000", "the port is too high a number"),
        ("unix://", "it names no socket"),
        ("redis://localhost?protocol=9", 'the option "protocol" cannot have this value'),
        ("redis://localhost?retry=3", 'the option "retry" cannot have this value'),
        ("redis://localhost?socket_timeout=hunter2", 'the option "socket_timeout" cannot have this value'),
        ("rediss://localhost?ssl_cert_reqs=bogus", 'the option "ssl_cert_reqs" cannot have this value'),
        ("redis://bob:hunter#2@127.0.0.1:6379/0", "percent-encode the user and the password"),
        ("redis://bob:hunter/2@127.0.0.1:6379/0", "percent-encode the user and the password"),
        ("redis://bob:hunter?two=2@127.0.0.1:6379/0", "percent-encode the user and the password"),
        ("redis://bob:12/hunter@127.0.0.1:6379/0", "percent-encode the user and the password"),
    ],
)
def test_a_bad_url_is_a_value_error_that_says_why_and_quotes_nothing(url: str, cause: str) -> None:
    with pytest.raises(ValueError, match="URL of RedisBackend") as caught:
        RedisBackend(url)
    assert str(caught.value) == f"the URL of RedisBackend cannot be used: {cause}"
    assert "hunter" not in "".join(traceback.format_exception(caught.value)[-1:])
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://localhost",
        "rediss://bob:hunter%232%40@[::1]:6379/15?ssl_cert_reqs=none",
        "redis://:hunter2@redis.internal/?socket_timeout=5&health_check_interval=30",
        "unix:///run/redis/redis.sock?db=2",
        "unix://bob:hunter2@/run/redis/redis.sock",
        "unix:///run/redis@2.sock",
        "rediss://localhost:6379/0?ssl_ca_certs=/etc/redis@2.pem",
    ],
)
def test_a_good_url_is_taken(url: str) -> None:
    RedisBackend(url)


@pytest.mark.parametrize("client", [None, 1, redis.Redis(), object()])
def test_what_is_no_client_is_a_type_error_that_says_what_to_pass(client: object) -> None:
    with pytest.raises(TypeError, match=r"redis\.asyncio"):
        RedisBackend(client)  # type: ignore[arg-type] -- the test is of what is no client


def test_a_prefix_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="prefix"):
        RedisBackend("redis://localhost", prefix=b"x")  # type: ignore[arg-type] -- the test is of what is no text


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


def ticking() -> Callable[[], float]:
    """Return a clock that is 3 s later each time: a record issues one secret in 2 s at most."""
    return itertools.count(round(time.time(), 3), 3).__next__


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
    assert same.pexpiretime(index) == round((record.expires_at + 7 * DAY) * 1000)
    if swapped:
        record = replace(await backend.get(record.id), revision=1, expires_at=expires_at)
        assert await backend.replace(record)
    assert same.pexpiretime(f"{store.prefix}{record.id}") == round(expires_at * 1000)
    assert same.dbsize() == others + 2
    async with asyncio.timeout(30):
        while same.dbsize() != others + 1:
            await asyncio.sleep(0.01)
    assert await backend.of_user(record.user, 10) == []
    same.delete(index)
    await client.aclose()


async def test_the_index_is_kept_as_long_as_its_records_and_not_written_each_time(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    index = f"{store.prefix}user:s:alice"
    first = client.pexpiretime(index)
    for minutes in (1, 60, 5 * 1440):
        record = replace(record, revision=record.revision + 1, expires_at=record.expires_at + 60 * minutes)
        assert await backend.replace(record)
        assert client.pexpiretime(index) == first
    record = replace(record, revision=record.revision + 1, expires_at=record.expires_at + 40 * DAY)
    assert await backend.replace(record)
    later = client.pexpiretime(index)
    assert later > record.expires_at * 1000
    await backend.insert(make_record(user="alice"))
    assert client.pexpiretime(index) == later
    assert json.loads(client.get(store.prefix + record.id))["indexed"] == later
    assert await backend.get(record.id) == record
    await backend.close()


async def test_a_browser_that_comes_each_day_is_entered_into_the_index_once_a_week(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    kept_until = []
    for _ in range(30):
        record = replace(record, revision=record.revision + 1, expires_at=record.expires_at + DAY)
        assert await backend.replace(record)
        kept_until.append(client.pexpiretime(f"{store.prefix}user:s:alice"))
        assert kept_until[-1] >= record.expires_at * 1000
    assert len(set(kept_until)) == 4
    await backend.close()


async def test_an_index_that_cannot_be_entered_leaves_the_record_as_it_was(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record, index = make_record(user="alice"), f"{store.prefix}user:s:alice"
    await backend.insert(record)
    client.delete(index)
    client.set(index, "no sorted set")
    later = replace(record, revision=1, expires_at=record.expires_at + 8 * DAY)
    with pytest.raises(BackendError):
        await backend.replace(later)
    assert await backend.get(record.id) == record
    client.delete(index)
    assert await backend.replace(later)
    assert await backend.of_user("alice", 10) == [later]
    await backend.close()


async def test_a_deleted_record_leaves_its_users_index(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    records = [make_record(user="alice"), make_record(user="alice", version=2), make_record(user="alice")]
    for record in records:
        await backend.insert(record)
    for record in records[:2]:
        assert await backend.delete(record.id)
    assert client.zrange(f"{store.prefix}user:s:alice", 0, -1) == [records[2].id.encode()]
    await backend.close()


async def test_entries_without_a_record_are_tolerated_and_pruned_once_they_are_old(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.zadd(f"{store.prefix}user:s:alice", {"about to be written": time.time(), "long gone": time.time() - 7200})
    assert await backend.of_user("alice", 10) == [record]
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
        await backend.insert(make_record(user="robot", seen_at=1.0))
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
    assert await backend.of_user("alice", 10) == [record]
    await backend.insert(make_record(user="alice"))
    assert await backend.delete(broken.id)
    assert await backend.get(broken.id) is None
    await backend.close()


def fill(store: RedisStore, count: int, **changes: Any) -> list[str]:
    """Write so many records of alice's, in the place of ``count`` inserts, and return their ids."""
    client = redis.Redis.from_url(store.url)
    (key,) = client.keys(f"{store.prefix}user:s:alice")
    (id,) = client.zrange(key, 0, -1)
    text = json.loads(client.get(store.prefix + id.decode())) | changes
    ids = [f"{number:022}" for number in range(count)]
    client.mset({store.prefix + one: json.dumps(text) for one in ids})
    client.zadd(key, dict.fromkeys(ids, time.time()))
    return ids


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries of an index each look at it has taken."""
    numbers, look_up = [], RedisBackend._look_up

    async def count(backend: RedisBackend, index: str, entries: Any) -> Any:
        numbers.append(len(entries))
        return await look_up(backend, index, entries)

    monkeypatch.setattr(RedisBackend, "_look_up", count)
    return numbers


async def test_a_list_costs_what_is_asked_for_and_not_what_there_is(store: RedisStore, looked_at: list[int]) -> None:
    """A user whose password somebody has may have any number of records."""
    backend = await store.opened()
    await backend.insert(make_record(user="alice"))
    ids = fill(store, 10_000)
    looked_at.clear()
    for limit in (1, 100, 1000):
        listed = {record.id for record in await backend.of_user("alice", limit)}
        assert len(listed) == limit
        assert sum(looked_at) < limit + 2 * CHUNK
        looked_at.clear()
    assert len({record.id for record in await backend.of_user("alice", 20_000)} & set(ids)) == 10_000
    await backend.close()


async def test_deleting_what_is_listed_ends_thousands_of_records(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    await backend.insert(make_record(user="alice"))
    fill(store, 1500)
    rounds = 0
    while listed := await backend.of_user("alice", 500):
        assert all(await asyncio.gather(*(backend.delete(record.id) for record in listed)))
        rounds += 1
    assert rounds == 4
    assert not client.keys(f"{store.prefix}*")
    await backend.close()


async def test_ten_thousand_entries_without_a_record_hide_none_and_are_dropped(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    records, index = [make_record(user="alice") for _ in range(3)], f"{store.prefix}user:s:alice"
    for record in records:
        await backend.insert(record)
    client.zadd(index, {f"gone{number}": time.time() - 7200 for number in range(9000)})
    client.zadd(index, {f"young{number}": time.time() for number in range(1000)})
    listed = await backend.of_user("alice", 10)
    assert {record.id for record in listed} == {record.id for record in records}
    assert client.zcard(index) == 1000 + 3
    assert len(await backend.of_user("alice", 2)) == 2
    await backend.close()


@pytest.mark.parametrize("changes", [{"user": "s:bob"}, {"secrets": "junk"}, {"version": 2}, {"of_later": 1}])
async def test_a_thousand_records_that_cannot_be_listed_hide_none(
    store: RedisStore, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    ids = fill(store, 1000, **changes)
    assert await backend.of_user("alice", 1) == [record]
    assert await backend.of_user("alice", 10) == [record]
    assert client.exists(*(store.prefix + id for id in ids)) == 1000
    assert len(caplog.records) < 100
    await backend.close()


async def test_a_record_of_a_later_version_is_an_error_until_it_is_deleted(store: RedisStore) -> None:
    """Its fields need not be ours, but for the beginning that a swap reads."""
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    later = '{"revision":0,"indexed":9000000000000,"version":2,"user":"s:alice","keys":{}}'
    client.set(store.prefix + record.id, later)
    with pytest.raises(BackendError):
        await backend.get(record.id)
    assert await backend.of_user("alice", 10) == []
    assert not await backend.replace(record)
    assert client.get(store.prefix + record.id) == later.encode()
    assert await backend.delete(record.id)
    assert not client.keys(f"{store.prefix}*")
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


async def test_redis_cli_shows_a_record_readably(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="Zoë", address="192.0.2.1")
    await backend.insert(record)
    shown = json.loads(client.get(store.prefix + record.id))
    assert (shown["user"], shown["address"], shown["revision"]) == ("s:Zoë", "192.0.2.1", 0)
    await backend.close()


async def test_no_secret_is_in_redis(store: RedisStore) -> None:
    client = redis.Redis.from_url(store.url)
    tokens = []
    async with PersistentSessionManager(await store.backend()) as manager:
        manager.clock = ticking()
        for _ in range(3):
            tokens.append(await sign_in(manager))
            for _ in range(3):
                tokens.append((await restore(manager, tokens[-1])).token)
    dump = b"".join(
        key + (client.get(key) if client.type(key) == b"string" else repr(client.zrange(key, 0, -1)).encode())
        for key in client.keys(f"{store.prefix}*")
    )
    assert b"alice" in dump
    for token in tokens:
        for half in (token.selector, token.secret):
            for spelling in (half, half.hex().encode(), b64encode(half), urlsafe_b64encode(half)):
                assert spelling.rstrip(b"=") not in dump


async def test_a_swap_survives_a_flush_of_the_scripts(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record()
    await backend.insert(record)
    for revision in (1, 2):
        client.script_flush()
        assert await backend.replace(replace(record, revision=revision))
    await backend.close()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is sent to the server from now on, a round trip each."""
    commands, send_packed_command = [], AbstractConnection.send_packed_command

    async def send(connection: Any, command: Any, *args: Any, **kwargs: Any) -> None:
        commands.append(b"".join([command] if isinstance(command, bytes) else command))
        await send_packed_command(connection, command, *args, **kwargs)

    monkeypatch.setattr(AbstractConnection, "send_packed_command", send)
    return commands


async def test_a_swap_is_one_round_trip(store: RedisStore, sent: list[bytes]) -> None:
    """Once a week it takes two more: it is told to enter the index, and does so."""
    backend = await store.opened()
    record = make_record()
    await backend.insert(record)
    for revision, days, trips in ((1, 1, 1), (2, 7, 1), (3, 8, 3), (4, 15, 1), (5, 16, 3)):
        sent.clear()
        assert await backend.replace(replace(record, revision=revision, expires_at=record.expires_at + days * DAY))
        assert len(sent) == trips
    await backend.close()


@pytest.mark.parametrize(("away", "trips"), [(60, 2), (5 * DAY, 2), (8 * DAY, 4)])
async def test_an_exchange_takes_two_round_trips(store: RedisStore, sent: list[bytes], away: int, trips: int) -> None:
    """It takes four where the browser was away for so long that its user's index is written anew."""
    async with PersistentSessionManager(await store.backend()) as manager:
        now = round(time.time(), 3)
        manager.clock = lambda: now
        token = await sign_in(manager)
        now += away
        sent.clear()
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE
        assert len(sent) == trips
    client = redis.Redis.from_url(store.url)
    assert client.pexpiretime(f"{store.prefix}user:s:alice") >= client.pexpiretime(f"{store.prefix}{token.id}")


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


async def test_the_swap_that_enters_the_index_may_find_the_scripts_gone(store: RedisStore) -> None:
    backend, client = await store.opened(), redis.Redis.from_url(store.url)
    record = make_record(user="alice")
    await backend.insert(record)
    client.script_flush()
    record = replace(record, revision=1, expires_at=record.expires_at + 8 * DAY)
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
        restored = await restore(manager, self.token)
        if restored.token is not None:
            self.token = restored.token
            self.exchanged += 1
        elif restored.outcome is not Outcome.JOIN:
            self.refused_as = restored.outcome

    async def come_back_until(
        self, manager: PersistentSessionManager, exchanged: int, pause: asyncio.Event | None = None
    ) -> None:
        """Insist while the store fails; take a refusal for an answer. End early once ``pause`` is set."""
        while self.exchanged < exchanged and self.refused_as is None and not (pause and pause.is_set()):
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
        """Return those whose token the replica does not know as valid, once it has read all that its master sent.
        Nobody may exchange meanwhile, since it may be promoted."""
        wait_for("end of the replication", lambda: not self._is_fed())
        return [browser for browser in self.browsers if not self._knows(browser.token)]

    def _is_fed(self) -> bool:
        told = self.replica.info("replication")
        return bool(told["role"] == "slave" and told["master_link_status"] == "up")

    def _knows(self, token: Token) -> bool:
        stored = self.replica.get(self.store.prefix + token.id)
        return stored is not None and b64encode(token.digest).decode() in stored.decode()


@pytest.fixture
async def failover(redis_sentinel_to_fail: SentinelSetup) -> AsyncIterator[Failover]:
    sentinel = Sentinel(redis_sentinel_to_fail.sentinels)
    client = sentinel.master_for("main", socket_timeout=15, socket_connect_timeout=0.5)
    store, alarms = RedisStore("redis://by-sentinel"), []

    async def alarm(session: Any, _: object) -> None:
        alarms.append(session.id)

    manager = PersistentSessionManager(RedisBackend(client, prefix=store.prefix), timeout=10)
    manager.on_reuse.append(alarm)
    manager.clock = ticking()
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
        killed = asyncio.Event()
        browsing = [asyncio.create_task(browser.come_back_until(manager, 5, killed)) for browser in browsers]
        while sum(browser.exchanged for browser in browsers) < 250:
            await asyncio.sleep(0)
        failover.servers.servers[0].kill()
        killed.set()
        await asyncio.gather(*browsing)  # what the old master answered is read
        lost = failover.unknown_to_the_replica()
        await asyncio.gather(*(browser.come_back_until(manager, 5) for browser in browsers))
    refused = [browser for browser in browsers if browser.refused_as is not None]
    fates = Counter(browser.refused_as or "in" for browser in browsers)
    exchanges = sum(browser.exchanged for browser in browsers)
    logger.info("%d exchanges across a failover by Sentinel; what became of the browsers: %s", exchanges, fates)
    assert refused == lost
    assert all(browser.exchanged == 5 for browser in browsers if browser not in lost)
    accused = [browser.token.id for browser in refused if browser.refused_as is Outcome.REUSE]
    assert sorted(failover.alarms) == sorted(accused)
    for browser in browsers:
        record = await manager._store.backend.get(browser.token.id)
        assert (record is None) if browser in lost else find(record, browser.token.digest)


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
