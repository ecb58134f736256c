"""``check`` on real servers that are set up well, and wrong."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import sqlalchemy as sa
from pymongo import MongoClient

from aiohttp_persistent_session import Backend, MemoryBackend
from aiohttp_persistent_session.backends.base import BackendError
from aiohttp_persistent_session.cli import inspect_mongo, inspect_redis, inspect_sql, inspect_sqlite
from aiohttp_persistent_session.cli.check import USER, Trial
from aiohttp_persistent_session.cli.stores import Place as CheckedPlace
from aiohttp_persistent_session.record import Record, UserId
from aiohttp_persistent_session.testing import make_record

from .cli_places import Command, Place, Told, command, mongodb_url, place, postgresql_url, redis_url, sqlite
from .servers.mongo import MongoStore, ReplicaSet, mongo_replica_set
from .servers.postgresql import PostgreSQLStore
from .servers.redis import (
    ClusterSetup,
    DurableRedis,
    SentinelSetup,
    durable_redis,
    redis_cluster,
    redis_sentinel,
)

KILLS_SERVERS = True  # none is killed; the lowest redis-py leaves sockets of a cluster's nodes all the same

STEPS = ["insert", "get", "swap", "losing swap", "list", "delete"]


def severities(told: Told) -> dict[str, str]:
    """The worst that was found, by code; how fast the store is depends on what else the machine does."""
    worst: dict[str, str] = {}
    order = ("ok", "note", "warning", "fault")
    for one in told.json["findings"]:
        worst[one["code"]] = max(worst.get(one["code"], "ok"), one["severity"], key=order.index)
    assert worst.pop("latency", "ok") in {"ok", "warning"}
    return worst


def text_of(told: Told, code: str) -> str:
    return next(f"{one['text']} {one['advice']}" for one in told.json["findings"] if one["code"] == code)


# Every store


def test_a_store_is_tried_and_nothing_is_left_behind(place: Place, command: Command) -> None:
    record = make_record()
    place.insert(record)
    told = command(*place.argv("check", "--json"))
    assert told.err == ""
    found = severities(told)
    assert found["trial"] == "ok"
    if place.kind != "sqlite":
        assert found["clock"] == "ok"
    assert list(told.json["latencies_ms"]) == STEPS
    assert all(took > 0 for took in told.json["latencies_ms"].values())
    assert told.json["store"] == {
        "sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis", "mongodb": "MongoDB"
    }[place.kind]  # fmt: skip
    assert told.json["faults"] == sum(severity == "fault" for severity in found.values())
    assert told.code == min(told.json["faults"], 1)
    assert place.use(lambda backend: backend.of_user(USER, 10)) == []
    assert place.get(record.id) == record
    told = command(*place.argv("check"))
    last = told.out.splitlines()[-1]
    assert re.fullmatch(r"\w+: \d faults?, \d warnings?", last)
    assert re.search(r"^ok       a record was inserted, swapped and deleted$", told.out, re.MULTILINE)


def test_a_store_that_no_app_has_opened_is_opened(tmp_path: Path, mongodb_url: str, command: Command) -> None:
    told = command("--backend", f"sqlite:///{tmp_path}/new.db", "check", "--json")
    assert (told.code, severities(told)["file"]) == (0, "note")
    store = MongoStore(mongodb_url)
    try:
        told = command("--backend", store.url, "check", "--json")
        assert (told.code, severities(told)["trial"]) == (0, "ok")
        assert severities(command("--backend", store.url, "check", "--json"))["index"] == "ok"
    finally:
        asyncio.run(store.clean())


class Swaps(MemoryBackend):
    """A store that lets everybody win."""

    async def replace(self, record: Record) -> bool:
        self._records[record.id] = record
        return True


class Forgets(MemoryBackend):
    async def of_user(self, user: UserId, limit: int) -> list[Record]:
        return []


class Keeps(MemoryBackend):
    async def delete(self, id: str) -> bool:
        return True


class Changes(MemoryBackend):
    async def get(self, id: str) -> Record | None:
        record = await super().get(id)
        return None if record is None else replace(record, seen_at=0.0)


class Refuses(MemoryBackend):
    async def replace(self, record: Record) -> bool:
        raise BackendError("read only") from OSError("READONLY You can't write against a read only replica.")


def trial(backend: Backend) -> Trial:
    async def bounded(work: Any) -> Any:
        return await work

    return Trial(SimpleNamespace(backend=backend, bounded=bounded))  # type: ignore[arg-type]  # all of it that is used


@pytest.mark.parametrize(
    ("backend", "wrong"),
    [
        (Swaps, ["trial-losing-swap", "trial-get", "trial-list"]),
        (Forgets, ["trial-list"]),
        (Keeps, ["trial-delete"]),
        (Changes, ["trial-insert", "trial-get"]),
    ],
)
async def test_a_store_that_breaks_its_contract_is_found_out(backend: type[Backend], wrong: list[str]) -> None:
    found = await trial(backend()).run()
    assert [one.code for one in found if one.severity == "fault"] == wrong


async def test_a_store_that_refuses_writes_is_left_clean() -> None:
    backend = Refuses()
    tried = trial(backend)
    with pytest.raises(BackendError):
        await tried.run()
    assert tried.step == "swap"
    assert backend._records == {}


async def test_a_slow_store_is_told() -> None:
    tried = trial(MemoryBackend())
    assert [(one.code, one.severity) for one in await tried.run()] == [("trial", "ok"), ("latency", "ok")]
    tried.latencies["get"] = 0.4
    assert [(one.code, one.severity) for one in await tried.run()] == [("trial", "ok"), ("latency", "warning")]


@pytest.mark.parametrize(
    ("module", "url_of"),
    [(inspect_redis, "redis_url"), (inspect_mongo, "mongodb_url"), (inspect_sql, "postgresql_url")],
    ids=["redis", "mongodb", "postgresql"],
)
def test_a_clock_that_is_off_is_found(
    module: Any, url_of: str, request: pytest.FixtureRequest, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: time.time() + 60))
    told = command("--backend", request.getfixturevalue(url_of), "check", "--json")
    assert (told.code, severities(told)["clock"]) == (1, "fault")
    assert "1 minute behind ours" in text_of(told, "clock")


# Redis


def test_a_redis_that_is_set_up_well_has_no_faults(durable_redis: DurableRedis, command: Command) -> None:
    argv = ("--backend", durable_redis.url, "check", "--json")
    told = command(*argv)
    assert (told.code, told.json["faults"]) == (0, 0)
    assert set(severities(told).values()) == {"ok"}
    assert "a power cut loses nothing" in text_of(told, "persistence")
    with redis.Redis.from_url(durable_redis.url) as client:
        assert client.keys() == []
        for changed, expected in (
            ({"appendfsync": "everysec"}, {}),
            ({"appendfsync": "no"}, {"persistence": "warning"}),
            ({"maxmemory-policy": "volatile-ttl"}, {"persistence": "warning", "eviction": "warning"}),
            ({"maxmemory": "100mb"}, {"persistence": "warning", "eviction": "fault"}),
            ({"appendonly": "no"}, {"persistence": "fault", "eviction": "fault"}),
            ({"save": "60 1"}, {"persistence": "warning", "eviction": "fault"}),
        ):
            for name, value in changed.items():
                client.config_set(name, value)
            told = command(*argv)
            assert {code: found for code, found in severities(told).items() if found != "ok"} == expected
            assert told.code == ("fault" in expected.values())
        assert "Set maxmemory-policy noeviction." in text_of(told, "eviction")
        assert "volatile-ttl" in command("--backend", durable_redis.url, "check").out


def test_what_a_managed_redis_does_not_tell_is_unknown(durable_redis: DurableRedis, command: Command) -> None:
    url = durable_redis.url.replace("://", "://app:ge-heim@")
    with redis.Redis.from_url(durable_redis.url) as client:
        for refused, expected in (
            ("-config", set()),
            ("-config -time", {"clock"}),
            ("-config -time -info", {"clock", "version", "replica", "eviction", "persistence"}),
        ):
            client.execute_command("ACL", "SETUSER", "app", "reset", "on", ">ge-heim", "~*", "+@all", *refused.split())
            told = command("--backend", url, "check", "--json")
            assert {code for code, found in severities(told).items() if found == "note"} == expected
            assert told.code == 0
            assert "ge-heim" not in told.out + told.err
        client.config_set("appendonly", "no")
        client.execute_command("ACL", "SETUSER", "app", "+info")
        told = command("--backend", url, "check", "--json")
        assert severities(told)["persistence"] == "note"


def test_a_redis_replica_is_found(redis_sentinel: SentinelSetup, command: Command) -> None:
    told = command("--backend", f"redis://127.0.0.1:{redis_sentinel.replica_port}", "check", "--json")
    assert told.code == 1
    assert severities(told)["replica"] == severities(told)["trial"] == "fault"
    assert "the store failed at insert" in text_of(told, "trial")


def test_each_master_of_a_redis_cluster_is_asked(redis_cluster: ClusterSetup, command: Command) -> None:
    url = f"redis://127.0.0.1:{redis_cluster.port}"
    told = command("--backend", url, "--cluster", "check", "--json")
    assert sum(one["code"] == "persistence" for one in told.json["findings"]) == 3
    assert f"(at 127.0.0.1:{redis_cluster.port})" in told.out
    assert severities(told)["trial"] == "ok"
    told = command("--backend", url, "check", "--json")
    assert (told.code, severities(told)["cluster"]) == (1, "fault")
    refused = command("--backend", f"{url}?read_from_replicas=true", "--cluster", "check")
    assert (refused.code, refused.out) == (2, "")


# MongoDB


def test_a_mongodb_on_its_own_is_a_warning(place_of_mongo: Place, command: Command) -> None:
    told = command(*place_of_mongo.argv("check", "--json"))
    assert (told.code, told.json["faults"]) == (0, 0)
    assert {code for code, found in severities(told).items() if found != "ok"} == {"replica-set"}


def test_a_replica_set_of_three_is_fine(mongo_replica_set: ReplicaSet, command: Command) -> None:
    told = command("--backend", mongo_replica_set.url, "--database", "checked", "--timeout", "20", "check", "--json")
    assert told.code == 0
    assert set(severities(told).values()) == {"ok"}


def test_a_url_that_says_what_the_backend_does_not_do_is_a_warning(place_of_mongo: Place, command: Command) -> None:
    url = f"{place_of_mongo.url}{'&' if '?' in place_of_mongo.url else '?'}w=1&readPreference=secondaryPreferred"
    told = command("--backend", url, "check", "--json")
    assert (told.code, severities(told)["write-concern"], severities(told)["read-preference"]) == (
        0,
        "warning",
        "warning",
    )


def test_missing_indexes_are_faults_until_the_store_is_opened(place_of_mongo: Place, command: Command) -> None:
    with MongoClient[dict[str, Any]](place_of_mongo.url) as client:
        collection = client[place_of_mongo.store.database].persistent_sessions
        collection.drop_index("user_1")
        collection.drop_index("expires_at_1")
    told = command(*place_of_mongo.argv("check", "--json"))
    assert (told.code, told.json["faults"]) == (1, 2)
    assert severities(told)["index"] == "fault"
    assert command(*place_of_mongo.argv("check")).code == 0


def test_members_of_a_mongodb_are_judged() -> None:
    members = ["a:1", "b:1", "c:1"]
    for hello, severity in (
        ({"msg": "isdbgrid"}, "note"),
        ({}, "warning"),
        ({"setName": "x", "hosts": members[:2], "arbiters": ["c:1"]}, "warning"),
        ({"setName": "x", "hosts": members[:2], "passives": ["c:1"]}, "ok"),
        ({"setName": "x", "hosts": members}, "ok"),
    ):
        assert inspect_mongo._members(hello).severity == severity


@pytest.fixture
def place_of_mongo(request: pytest.FixtureRequest, mongodb_url: str) -> Any:
    store = MongoStore(mongodb_url)
    made = Place("mongodb", store.url, store)
    made.insert()
    yield made
    asyncio.run(store.clean())


# SQL


def change(place: Place, *statements: str) -> None:
    async def work(backend: Any) -> None:
        async with backend._engine.connect() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))

    place.use(work)


def test_missing_indexes_and_columns_of_a_table_are_found(sqlite: Place, command: Command) -> None:
    assert command(*sqlite.argv("check", "--json")).code == 0
    change(sqlite, "DROP INDEX ix_persistent_sessions_user_id")
    told = command(*sqlite.argv("check", "--json"))
    assert (told.code, severities(told)["index"], severities(told)["trial"]) == (1, "fault", "ok")
    assert "no index begins with user_id" in text_of(told, "index")
    change(
        sqlite, "DROP INDEX ix_persistent_sessions_expires_at", "ALTER TABLE persistent_sessions DROP COLUMN address"
    )
    told = command(*sqlite.argv("check", "--json"))
    assert (told.code, told.json["faults"]) == (1, 4)
    assert "lacks the columns address: the app does not start" in text_of(told, "columns")
    assert "the app does not start with this store" in text_of(told, "open")


def test_where_a_sqlite_file_lies_is_judged(sqlite: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts, file = tmp_path / "mounts", sqlite.store.path
    monkeypatch.setattr(inspect_sqlite, "_MOUNTS", mounts)

    def found() -> dict[str, str]:
        return {one.code: one.severity for one in inspect_sqlite.sqlite_findings(file)}

    assert found()["filesystem"] == "note"
    for kind, severity in (("ext4", "ok"), ("nfs4", "fault"), ("cifs", "fault"), ("tmpfs", "fault")):
        mounts.write_text(f"/dev/x / ext3 rw 0 0\nhost:/x {tmp_path} {kind} rw 0 0\n/dev/y /elsewhere nfs rw 0 0\n")
        assert found()["filesystem"] == severity
    mounts.write_text(f"a {tmp_path} nfs rw 0 0\nb {tmp_path} ext4 rw 0 0\n")
    assert inspect_sqlite.filesystem(file) == "ext4"


def test_a_sqlite_file_that_others_may_read_is_told(sqlite: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sqlite.store.path
    monkeypatch.setattr(inspect_sqlite, "_others_may_enter", lambda folder: True)
    for mode, is_told in ((0o600, False), (0o644, True), (0o660, True)):
        file.chmod(mode)
        assert ("permissions" in {one.code for one in inspect_sqlite.sqlite_findings(file)}) == is_told
    monkeypatch.undo()
    file.parent.chmod(0o700)
    assert "permissions" not in {one.code for one in inspect_sqlite.sqlite_findings(file)}


def test_how_a_sqlite_file_is_written_is_judged() -> None:
    class Connection:
        def __init__(self, **answers: Any) -> None:
            self.answers = answers

        async def exec_driver_sql(self, statement: str) -> Any:
            return SimpleNamespace(scalar=lambda: self.answers[statement.rsplit(maxsplit=1)[-1]])

    for mode, synchronous, expected in (
        ("wal", 2, [("journal-mode", "ok")]),
        ("wal", 3, [("journal-mode", "ok")]),
        ("delete", 2, [("journal-mode", "warning")]),
        ("wal", 1, [("synchronous", "fault")]),
        ("delete", 0, [("journal-mode", "warning"), ("synchronous", "fault")]),
    ):
        connection: Any = Connection(journal_mode=mode, synchronous=synchronous)
        found = asyncio.run(inspect_sqlite.sqlite_findings_when_open(connection))
        assert [(one.code, one.severity) for one in found] == expected


def test_settings_of_a_postgresql_are_judged(postgresql_url: str, command: Command) -> None:
    store = PostgreSQLStore(postgresql_url)
    place = Place("postgresql", store.url, store)
    try:
        place.insert()
        told = command(*place.argv("check", "--json"))
        # The tests' own server does not sync its writes, for speed.
        assert {code for code, found in severities(told).items() if found != "ok"} <= {"fsync"}
        change(place, f'ALTER DATABASE "{store.name}" SET synchronous_commit = off')
        change(place, f'ALTER DATABASE "{store.name}" SET default_transaction_isolation = serializable')
        told = command(*place.argv("check", "--json"))
        assert told.code == 1
        assert severities(told)["synchronous-commit"] == severities(told)["isolation"] == "fault"
        assert "Set synchronous_commit to on." in text_of(told, "synchronous-commit")
        change(place, f'ALTER DATABASE "{store.name}" SET default_transaction_read_only = on')
        told = command(*place.argv("check", "--json"))
        assert severities(told)["read-only"] == severities(told)["trial"] == "fault"
    finally:
        asyncio.run(store.clean())


async def test_a_postgresql_standby_is_found() -> None:
    answers: dict[str, Any] = {
        "SELECT clock_timestamp()": datetime.now(UTC),
        "SHOW server_version": "11.5",
        "SHOW synchronous_commit": "on",
        "SHOW fsync": "on",
        "SELECT pg_is_in_recovery()": True,
        "SHOW default_transaction_isolation": "read committed",
    }

    async def exec_driver_sql(statement: str) -> Any:
        return SimpleNamespace(scalar=lambda: answers[statement])

    connection: Any = SimpleNamespace(exec_driver_sql=exec_driver_sql)
    found = {one.code: one.severity for one in await inspect_sql._of_postgresql(connection)}
    assert {code for code, severity in found.items() if severity == "fault"} == {"replica", "version"}
