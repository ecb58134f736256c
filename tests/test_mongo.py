"""MongoDB: the contract over each way to reach it, its documents and indexes, and what happens when it fails."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import subprocess
import sys
import time
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import pytest
from bson import json_util
from pymongo import AsyncMongoClient, MongoClient, ReadPreference, WriteConcern
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener
from pymongo.read_concern import ReadConcern

from aiohttp_persistent_session import Backend, BackendError, PersistentSession, PersistentSessionManager
from aiohttp_persistent_session.backends.mongo import MongoBackend
from aiohttp_persistent_session.record import Secret
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.testing import BackendContract, make_record, make_secrets
from aiohttp_persistent_session.tokens import Token

from .exchanges import restore, sign_in
from .servers.mongo import (
    MongoServer,
    MongoStore,
    ReplicaSet,
    mongo_replica_set,
    mongo_server,
)

AnyClient = AsyncMongoClient[dict[str, Any]]

TIMEOUT = 1.0
"""The manager's, in the tests of failures."""

A_LITTLE = 0.5
A_MACHINE_THAT_STALLS = 5
"""Seconds that an answer may take beyond the manager's timeout, on a machine that is busy."""

RECOVERS_WITHIN = 30.0

KILLS_SERVERS = True

logger = logging.getLogger(__name__)


@pytest.fixture
async def store(mongodb_url: str) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url)
    yield store
    await store.clean()


@pytest.fixture
async def client(store: MongoStore) -> AsyncIterator[AnyClient]:
    async with AnyClient(store.url) as client:
        yield client


class MongoContract(BackendContract):
    expires_by_itself = True


class TestMongoBackend(MongoContract):
    @pytest.fixture
    async def backend(self, store: MongoStore) -> AsyncIterator[Backend]:
        backend = await store.backend()
        await backend.open()
        yield backend
        await backend.close()


class TestMongoBackendOnACollection(MongoContract):
    @pytest.fixture
    async def backend(self, store: MongoStore, client: AnyClient) -> AsyncIterator[Backend]:
        backend = MongoBackend(client[store.database].logins)
        await backend.open()
        yield backend
        await backend.close()


class TestMongoBackendOnAMotorCollection(MongoContract):
    @pytest.fixture
    async def backend(self, store: MongoStore) -> AsyncIterator[Backend]:
        from motor.motor_asyncio import AsyncIOMotorClient

        client = AsyncIOMotorClient(store.url)
        backend = MongoBackend(client[store.database].logins)
        await backend.open()
        yield backend
        await backend.close()
        client.close()


class TestMongoBackendOnAReplicaSet(MongoContract):
    @pytest.fixture
    async def backend(self, mongo_replica_set: ReplicaSet) -> AsyncIterator[Backend]:
        store = MongoStore(mongo_replica_set.url)
        backend = await store.backend()
        await backend.open()
        yield backend
        await backend.close()
        await store.clean()


# Clients: whose is closed, and what is asked of the server


async def answers(client: AnyClient) -> bool:
    return bool((await client.admin.command("ping"))["ok"])


def is_closed(client: AnyClient) -> bool:
    return bool(client._closed)


async def test_a_client_that_was_passed_in_stays_open(store: MongoStore, client: AnyClient) -> None:
    backend = MongoBackend(client[store.database].logins)
    await backend.open()
    await backend.close()
    assert await answers(client)
    await backend.open()
    await backend.insert(make_record())
    await backend.close()


async def test_a_motor_client_that_was_passed_in_stays_open(store: MongoStore) -> None:
    from motor.motor_asyncio import AsyncIOMotorClient

    client = AsyncIOMotorClient(store.url)
    backend = MongoBackend(client[store.database].logins)
    await backend.open()
    await backend.close()
    assert (await client.admin.command("ping"))["ok"]
    client.close()


async def test_our_own_client_is_closed_and_made_anew(store: MongoStore) -> None:
    backend, record = await store.backend(), make_record()
    await backend.open()
    first = backend._client
    await backend.insert(record)
    await backend.close()
    await backend.close()
    assert is_closed(first)
    with pytest.raises(BackendError, match="not open"):
        await backend.get(record.id)
    await backend.open()
    assert await backend.get(record.id) == record
    await backend.close()


async def test_our_own_client_is_closed_when_opening_fails_half_way(
    store: MongoStore, client: AnyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connected, and then the index cannot be made: another of its name exists already."""
    collection = client[store.database].persistent_sessions
    await collection.create_index("expires_at")
    made: list[AnyClient] = []

    class Noted(AnyClient):  # type: ignore[misc, valid-type] -- an alias with parameters may be a base
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    backend = await store.backend()
    monkeypatch.setattr("pymongo.AsyncMongoClient", Noted)
    with pytest.raises(BackendError) as caught:
        await backend.open()
    assert isinstance(caught.value.__cause__, OperationFailure)
    assert [is_closed(client) for client in made] == [True]
    await collection.drop_indexes()
    await backend.open()
    await backend.close()
    assert [is_closed(client) for client in made] == [True, True]


async def test_five_backends_open_at_once(store: MongoStore, client: AnyClient) -> None:
    for _ in range(3):
        backends = [await store.backend() for _ in range(5)]
        await asyncio.gather(*(backend.open() for backend in backends))
        await asyncio.gather(*(backend.insert(make_record()) for backend in backends))
        await asyncio.gather(*(backend.close() for backend in backends))
        indexes = await client[store.database].persistent_sessions.index_information()
        assert set(indexes) == {"_id_", "expires_at_1", "user_1"}
        await client.drop_database(store.database)


async def test_our_own_client_writes_to_a_majority_and_reads_from_the_primary(store: MongoStore) -> None:
    """Whatever the URL says, which may have been written for data that matters less."""
    backend = MongoBackend(store.url + "?w=1&readPreference=secondary&readConcernLevel=local")
    await backend.open()
    collection = backend._collection
    assert collection.write_concern == WriteConcern("majority", j=True)
    assert collection.read_concern == ReadConcern("majority")
    assert collection.read_preference == ReadPreference.PRIMARY
    assert collection.full_name == f"{store.database}.persistent_sessions"
    await backend.close()


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_a_collection_keeps_what_it_says_and_is_given_what_it_leaves_open(store: MongoStore, driver: str) -> None:
    if driver == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        client: Any = AsyncIOMotorClient(store.url)
    else:
        client = AnyClient(store.url)
    collection = client[store.database].logins
    silent = MongoBackend(collection)._collection
    assert silent.write_concern == WriteConcern("majority", j=True)
    assert silent.read_concern == ReadConcern("majority")
    assert silent.read_preference == ReadPreference.PRIMARY
    told = collection.with_options(
        write_concern=WriteConcern(1), read_concern=ReadConcern("local"), read_preference=ReadPreference.NEAREST
    )
    outspoken = MongoBackend(told)._collection
    assert outspoken.write_concern == WriteConcern(1)
    assert outspoken.read_concern == ReadConcern("local")
    assert outspoken.read_preference == ReadPreference.PRIMARY
    if driver == "motor":
        client.close()
    else:
        await client.close()


@pytest.mark.parametrize("options", ["w=1", "readPreference=secondaryPreferred", "w=2&readPreference=nearest"])
async def test_what_a_collection_was_given_for_other_data_makes_nobody_a_thief(
    mongo_replica_set: ReplicaSet,
    options: str,
) -> None:
    """An application that reads from secondaries, or writes to one member, hands out its collection."""
    store = MongoStore(mongo_replica_set.url)
    async with (
        AnyClient(f"{mongo_replica_set.url}&{options}") as client,
        PersistentSessionManager(MongoBackend(client[store.database].logins)) as manager,
    ):
        manager.clock = ticking()
        for number in range(20):
            token = await sign_in(manager, f"user {number}")
            for _ in range(3):
                restored = await restore(manager, token)
                assert restored.outcome is Outcome.EXCHANGE
                token = restored.token
    await store.clean()


async def test_a_collection_whose_writes_are_not_acknowledged_is_refused(store: MongoStore, client: AnyClient) -> None:
    with pytest.raises(ValueError, match="acknowledged"):
        MongoBackend(client[store.database].logins.with_options(write_concern=WriteConcern(0)))


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "127.0.0.1:27017", "", "mongodb:/x"])
def test_a_url_of_another_scheme_is_a_value_error_that_names_the_right_ones(url: str) -> None:
    with pytest.raises(ValueError, match="mongodb://"):
        MongoBackend(url)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("mongodb://h/?foo=hunter2", 'unknown option "foo"'),
        ("mongodb+srv://h/?retryWrites=true&foo=hunter2", 'unknown option "foo"'),
        ("mongodb://h/?connectTimeoutMS=hunter2", 'the option "connectTimeoutMS" cannot have this value'),
        ("mongodb://h/?tls=true&tlsCAFile=/hunter2", 'the option "tlsCAFile" cannot have this value'),
        ("mongodb://u@h/?authMechanism=hunter2", 'the option "authMechanism" cannot have this value'),
        ("mongodb://h,i/?directConnection=true", 'the option "directConnection" cannot have this value'),
        ("mongodb://h/?tlsInsecure=true&tlsAllowInvalidCertificates=true&tls=true", "the driver refuses it"),
        ("mongodb://u:hunter2/db", "the port is no number"),
        ("mongodb://h:27017,i:hunter2/db", "the port is no number"),
        ("mongodb://h:99999/db", "the port is too high a number"),
        ("mongodb://u:hunter/2@h/db", "percent-encode the user and the password"),
        ("mongodb://u:hunter@2@h/db", "percent-encode the user and the password"),
        ("mongodb://u:hunter?two=2@h/db", "percent-encode the user and the password"),
        ("mongodb://u:hunter%2@h/db", "percent-encode the user and the password"),
        ("mongodb+srv://u:hunter2@h:27017/db", "mongodb+srv:// takes one host and no port, which the DNS tells"),
        ("mongodb+srv://u:hunter2@h,g/db", "mongodb+srv:// takes one host and no port, which the DNS tells"),
        ("mongodb://", "the driver refuses it"),
    ],
)
def test_a_bad_url_is_a_value_error_that_says_why_and_quotes_nothing(url: str, cause: str) -> None:
    with pytest.raises(ValueError, match="URL of MongoBackend") as caught:
        MongoBackend(url)
    assert str(caught.value) == f"the URL of MongoBackend cannot be used: {cause}"
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://h",
        "mongodb://u:hunter%2F2@h:1,[::1]:2/db?replicaSet=a&w=majority",
        "mongodb://u:hunter#2@h/db",
        "mongodb://%2Ftmp%2Fmongodb.sock/db",
        "mongodb+srv://user:password@cluster.invalid/shop",
    ],
)
def test_a_good_url_is_taken_without_asking_the_dns(url: str) -> None:
    MongoBackend(url)


@pytest.mark.parametrize("option", ["database", "collection"])
@pytest.mark.parametrize(("name", "error"), [(5, TypeError), ("", ValueError), ("a$b", ValueError), (".", ValueError)])
def test_a_name_that_mongodb_does_not_take_is_an_error_that_names_it(
    option: str, name: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=option):
        MongoBackend("mongodb://127.0.0.1", **{option: name})


async def test_a_document_that_is_none_of_ours_is_a_store_that_fails(store: MongoStore, client: AnyClient) -> None:
    collection = client[store.database].logins
    backend = MongoBackend(collection)
    await backend.open()
    await collection.insert_one({"_id": "A" * 22, "user": "s:alice"})
    with pytest.raises(BackendError) as caught:
        await backend.get("A" * 22)
    assert isinstance(caught.value.__cause__, KeyError)
    record = make_record(user="alice")
    await backend.insert(record)
    assert await backend.of_user("alice", 10) == [record]
    await backend.close()


def test_what_is_neither_a_url_nor_a_collection_is_a_type_error_that_says_what_to_pass(mongodb_url: str) -> None:
    from motor.motor_asyncio import AsyncIOMotorClient

    with MongoClient[dict[str, Any]](mongodb_url) as synchronous:
        motor = AsyncIOMotorClient(mongodb_url, connect=False)
        for wrong in (None, 1, b"mongodb://h", AnyClient(mongodb_url, connect=False), motor, motor.db, synchronous.a.b):
            with pytest.raises(TypeError, match=r"mongodb:// URL, or a collection of .*, not \w+"):
                MongoBackend(wrong)
        motor.close()


def test_without_pymongo_the_import_says_what_to_install() -> None:
    program = "import sys; sys.modules['pymongo'] = None; import aiohttp_persistent_session.backends.mongo"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert 'ImportError: MongoBackend needs PyMongo 4.13 or newer: pip install "aiohttp-persistent-session[mongo]"' in (
        result.stderr
    )


def test_motor_is_never_imported() -> None:
    program = "import sys; import aiohttp_persistent_session.backends.mongo; sys.exit('motor' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


# Documents and indexes


async def test_an_id_that_exists_is_told_with_its_cause(store: MongoStore) -> None:
    backend, record = await store.backend(), make_record()
    await backend.open()
    await backend.insert(record)
    with pytest.raises(BackendError, match="exists already") as caught:
        await backend.insert(record)
    assert isinstance(caught.value.__cause__, DuplicateKeyError)
    await backend.close()


async def test_the_server_deletes_an_expired_document_by_itself(store: MongoStore, client: AnyClient) -> None:
    """The tests' servers look every second; one that has another interval may take its minute."""
    backend = await store.backend()
    await backend.open()
    expired, living = make_record(expires_at=round(time.time() - 60, 3)), make_record()
    await backend.insert(living)
    await backend.insert(expired)
    documents, deadline = client[store.database].persistent_sessions, time.monotonic() + 75
    while await documents.count_documents({}) > 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await backend.get(living.id) == living
    await backend.close()


async def test_a_document_can_be_read_by_others(store: MongoStore, client: AnyClient) -> None:
    """A time is a date, a secret a sub-document with the names of its fields, what is absent null."""
    backend, now = await store.backend(), 1_764_000_000.123
    secrets = make_secrets(2, now)
    record = make_record(created_at=now, issued_last_at=None, secrets=secrets, last_session=3, persistent=False)
    await backend.open()
    await backend.insert(record)
    document = await client[store.database].persistent_sessions.find_one()
    assert document["created_at"].isoformat() == "2025-11-24T16:00:00.123000"
    assert document["issued_last_at"] is None
    assert (document["last_session"], document["persistent"], document["version"]) == (3, False, 1)
    for secret, shown in zip(secrets, document["secrets"], strict=True):
        assert set(shown) == {field.name for field in fields(Secret)}
        assert shown["digest"] == secret.digest
        assert isinstance(shown["issued_at"], datetime)
        assert (shown["exchanged_at"] is None) == (secret.exchanged_at is None)
        assert shown["user_agent"] == secret.user_agent
    await backend.close()


async def later_version(collection: Any, count: int, **changes: Any) -> None:
    """Write so many documents of alice's that cannot be read."""
    await collection.insert_many([{"_id": f"{number:022}", "user": "s:alice", **changes} for number in range(count)])


async def test_a_thousand_documents_that_cannot_be_read_hide_none(
    store: MongoStore, client: AnyClient, caplog: pytest.LogCaptureFixture
) -> None:
    backend, record = await store.backend(), make_record(user="alice")
    await backend.open()
    await later_version(client[store.database].persistent_sessions, 1000, version=2)
    await backend.insert(record)
    assert await backend.of_user("alice", 1) == [record]
    assert await backend.of_user("alice", 10) == [record]
    assert await client[store.database].persistent_sessions.count_documents({}) == 1001
    await backend.close()


class Commands(CommandListener):
    """What the server is asked, and how many documents its answers have."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.documents = 0

    def started(self, event: Any) -> None:
        self.names.append(event.command_name)

    def succeeded(self, event: Any) -> None:
        cursor = event.reply.get("cursor", {})
        self.documents += len(cursor.get("firstBatch", cursor.get("nextBatch", ())))

    def failed(self, event: Any) -> None:
        pass


async def test_a_list_costs_what_is_asked_for_and_not_what_there_is(store: MongoStore) -> None:
    """A user whose password somebody has may have any number of records."""
    commands = Commands()
    async with AnyClient(store.url, event_listeners=[commands]) as client:
        collection = client[store.database].logins
        backend = MongoBackend(collection)
        await backend.open()
        await backend.insert(make_record(user="alice"))
        document = await collection.find_one()
        await collection.insert_many([document | {"_id": f"{number:022}"} for number in range(10_000)])
        for limit in (1, 100, 1000):
            commands.documents = 0
            commands.names.clear()
            assert len({record.id for record in await backend.of_user("alice", limit)}) == limit
            assert commands.documents == limit
            assert commands.names == ["find", "killCursors"]
        commands.names.clear()
        assert len(await backend.of_user("alice", 20_000)) == 10_001
        assert await backend.of_user("bob", 1000) == []
        assert commands.names == ["find", "find"]
        await backend.close()


async def test_a_document_of_a_later_version_is_an_error_until_it_is_deleted(
    store: MongoStore, client: AnyClient
) -> None:
    """Its fields need not be ours."""
    backend, record = await store.backend(), make_record(user="alice")
    await backend.open()
    await later_version(client[store.database].persistent_sessions, 1, version=2, revision=7)
    with pytest.raises(BackendError):
        await backend.get("0" * 22)
    assert not await backend.replace(replace(record, id="0" * 22, revision=7))
    assert await backend.delete("0" * 22)
    assert await backend.get("0" * 22) is None
    await backend.close()


async def test_every_look_up_uses_an_index(store: MongoStore, client: AnyClient) -> None:
    backend, record = await store.backend(), make_record()
    await backend.open()
    for _ in range(20):
        await backend.insert(make_record())
    await backend.insert(record)

    async def explain(**command: Any) -> str:
        return str(await client[store.database].command("explain", command, verbosity="queryPlanner"))

    name = "persistent_sessions"
    by_user = await explain(find=name, filter={"user": f"s:{record.user}"})
    by_id = await explain(find=name, filter={"_id": record.id})
    swap = await explain(update=name, updates=[{"q": {"_id": record.id, "revision": 0}, "u": {"x": 1}}])
    removal = await explain(delete=name, deletes=[{"q": {"_id": record.id}, "limit": 1}])
    assert "'IXSCAN'" in by_user
    assert "'user_1'" in by_user
    for plan in (by_id, removal):
        assert "'IDHACK'" in plan
    assert "'IXSCAN'" in swap
    assert "'_id_'" in swap
    for plan in (by_user, by_id, swap, removal):
        assert "COLLSCAN" not in plan
    await backend.close()


# Walks through all records


async def test_a_scan_tells_records_and_no_other_documents(store: MongoStore, client: AnyClient) -> None:
    """What another program put into the collection has another ``_id``; a record that was edited has ours."""
    backend = await store.backend()
    await backend.open()
    records = [make_record() for _ in range(7)]
    for record in records:
        await backend.insert(record)
    documents = client[store.database].persistent_sessions
    await documents.insert_many([{"x": 1}, {"_id": 5}, {"_id": {"a": 1}}])
    await documents.update_one({"_id": records[3].id}, {"$set": {"seen_at": "today"}})
    told = [batch async for batch in backend.scan(3)]
    assert sorted(one.id for batch in told for one in batch.records) == sorted(
        one.id for one in records if one is not records[3]
    )
    assert [id for batch in told for id in batch.unreadable] == [records[3].id]
    await backend.close()
    with pytest.raises(BackendError, match="not open"):
        await anext(backend.scan())


async def test_a_field_that_an_earlier_version_did_not_write_is_as_by_default(
    store: MongoStore, client: AnyClient
) -> None:
    backend, record = await store.backend(), make_record()
    await backend.open()
    await backend.insert(record)
    documents = client[store.database].persistent_sessions
    await documents.update_one({"_id": record.id}, {"$unset": {"issued_last_at": 1}})
    assert await backend.get(record.id) == record
    await documents.update_one({"_id": record.id}, {"$unset": {"seen_at": 1}})
    with pytest.raises(BackendError):
        await backend.get(record.id)
    await backend.close()


async def test_a_scan_holds_no_cursor(store: MongoStore, client: AnyClient) -> None:
    """However many are left half-way: each batch is a query that has ended."""
    backend = await store.backend()
    await backend.open()
    for _ in range(6):
        await backend.insert(make_record())
    before = (await client.admin.command("serverStatus"))["metrics"]["cursor"]["totalOpened"]
    scans = [backend.scan(2) for _ in range(20)]
    for scan in scans:
        assert len((await anext(scan)).records) == 2
    after = (await client.admin.command("serverStatus"))["metrics"]["cursor"]["totalOpened"]
    assert after - before < len(scans)  # others use the server, too
    await backend.close()


# Through the manager


def ticking() -> Callable[[], float]:
    """Return a clock that is 3 s later each time: a record issues one secret in 2 s at most."""
    return itertools.count(round(time.time(), 3), 3).__next__


async def test_no_document_holds_a_secret(store: MongoStore, client: AnyClient) -> None:
    async with PersistentSessionManager(await store.backend()) as manager:
        manager.clock = ticking()
        tokens = [await sign_in(manager)]
        for _ in range(5):
            tokens.append((await restore(manager, tokens[-1])).token)
        documents = await client[store.database].persistent_sessions.find().to_list()
    assert len(documents) == 1
    assert len(documents[0]["secrets"]) > 1
    dump = json_util.dumps(documents) + repr(documents)
    raw = b"".join([batch async for batch in client[store.database].persistent_sessions.find_raw_batches()])
    assert tokens[0].id in dump
    for token in tokens:
        for half in (token.selector, token.secret):
            assert half not in raw
            for text in (half.hex(), repr(half)[2:-1], b64encode(half).decode(), urlsafe_b64encode(half).decode()):
                assert text.rstrip("=") not in dump
                assert text.rstrip("=").encode() not in raw


async def until_it_answers(manager: PersistentSessionManager, id: str) -> PersistentSession | None:
    deadline = time.monotonic() + RECOVERS_WITHIN
    while True:
        try:
            return await manager.get(id)
        except BackendError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


@pytest.fixture(params=["pymongo", "motor"])
async def failing(request: pytest.FixtureRequest, mongo_server: MongoServer) -> AsyncIterator[MongoBackend]:
    """A backend on the server that is going to fail."""
    store = MongoStore(mongo_server.url)
    if request.param == "motor":
        from motor.motor_asyncio import AsyncIOMotorClient

        client = AsyncIOMotorClient(store.url, serverSelectionTimeoutMS=1000)
        yield MongoBackend(client[store.database].logins)
        client.close()
    else:
        yield await store.backend()
    await store.clean()


async def fails_in_time(manager: PersistentSessionManager, token: Token) -> None:
    """Administrators are told, browsers are anonymous; neither waits for longer than the timeout and a little."""
    taken = []
    for _ in range(2):
        started = time.monotonic()
        with pytest.raises(BackendError) as caught:
            await manager.get(token.id)
        assert caught.value.__cause__ is not None
        taken.append(time.monotonic() - started)
    started = time.monotonic()
    assert (await restore(manager, token)).failed
    taken.append(time.monotonic() - started)
    assert min(taken) < TIMEOUT + A_LITTLE
    assert max(taken) < TIMEOUT + A_MACHINE_THAT_STALLS


async def test_a_killed_server_is_an_error_in_time_and_is_used_again_once_it_is_back(
    failing: MongoBackend,
    mongo_server: MongoServer,
) -> None:
    async with PersistentSessionManager(failing, timeout=TIMEOUT) as manager:
        manager.clock = ticking()
        token = await sign_in(manager)
        token = (await restore(manager, token)).token
        mongo_server.kill()
        try:
            await fails_in_time(manager, token)
        finally:
            await asyncio.to_thread(mongo_server.start)
        assert await until_it_answers(manager, token.id)
        assert (await restore(manager, token)).outcome is Outcome.EXCHANGE


async def test_a_hung_server_is_an_error_in_time_and_is_used_again_once_it_goes_on(
    failing: MongoBackend,
    mongo_server: MongoServer,
) -> None:
    async with PersistentSessionManager(failing, timeout=TIMEOUT) as manager:
        token = await sign_in(manager)
        mongo_server.send(signal.SIGSTOP)
        try:
            await fails_in_time(manager, token)
        finally:
            mongo_server.send(signal.SIGCONT)
        assert await until_it_answers(manager, token.id)
        # The exchange that got no answer may have happened: then this one joins it.
        assert (await restore(manager, token)).outcome in (Outcome.EXCHANGE, Outcome.JOIN)


async def test_a_server_that_hangs_or_is_gone_does_not_keep_a_worker_from_ending(mongo_server: MongoServer) -> None:
    for fault, end in (
        (signal.SIGSTOP, lambda: mongo_server.send(signal.SIGCONT)),
        (signal.SIGKILL, mongo_server.start),
    ):
        backend = await MongoStore(mongo_server.url).backend()
        await backend.open()
        await backend.get("x" * 22)
        mongo_server.send(fault)
        try:
            started = time.monotonic()
            await backend.close()
            assert time.monotonic() - started < 9
        finally:
            if fault is signal.SIGKILL:
                mongo_server.kill()
            await asyncio.to_thread(end)


async def test_a_server_that_is_not_there_is_a_backend_error_at_opening() -> None:
    backend = MongoBackend("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100")
    with pytest.raises(BackendError) as caught:
        await backend.open()
    assert isinstance(caught.value.__cause__, PyMongoError)
    await backend.close()


@dataclass
class Browser:
    """Presents its token to two workers at once, and again where both had no answer."""

    token: Token
    successor: Token | None = None
    joined: bool = False

    async def present(self, workers: list[PersistentSessionManager]) -> list[Outcome | None]:
        deadline, outcomes = time.monotonic() + RECOVERS_WITHIN, []
        while not self.is_done:
            assert time.monotonic() < deadline
            results = await asyncio.gather(*(restore(manager, self.token) for manager in workers))
            outcomes += [result.outcome for result in results]
            issued = [result.token for result in results if result.token is not None]
            assert len(issued) + (self.successor is not None) <= 1
            self.successor = issued[0] if issued else self.successor
            self.joined |= any(result.outcome is Outcome.JOIN for result in results)
            await asyncio.sleep(0.01)
        return outcomes

    @property
    def is_done(self) -> bool:
        """Whether it is signed in: by a token of its own, or by one whose answer was lost."""
        return self.successor is not None or self.joined


async def test_a_step_down_amid_exchanges_gives_no_token_two_successors_and_raises_no_alarm(
    mongo_replica_set: ReplicaSet,
) -> None:
    store, workers = MongoStore(mongo_replica_set.url), []
    now, alarms = round(time.time(), 3), []

    async def alarm(session: PersistentSession, _: object) -> None:
        alarms.append(session.id)

    for _ in range(2):
        manager = PersistentSessionManager(await store.backend())
        manager.clock = lambda: now
        manager.on_reuse.append(alarm)
        await manager.open()
        workers.append(manager)
    browsers = [Browser(await sign_in(workers[0], f"user {number}")) for number in range(500)]
    outcomes: Counter[Outcome | None] = Counter()
    pending = iter(browsers)
    stepping: list[asyncio.Task[Any]] = []

    async def work() -> None:
        for browser in pending:
            outcomes.update(await browser.present(workers))
            if not stepping and sum(browser.is_done for browser in browsers) >= 150:
                stepping.append(asyncio.create_task(asyncio.to_thread(mongo_replica_set.step_down)))

    await asyncio.gather(*(work() for _ in range(10)))
    assert await stepping[0] is not await asyncio.to_thread(mongo_replica_set.primary)
    logger.info("500 exchanges across a step-down, each token presented to two workers: %s", outcomes)
    assert set(outcomes) <= {Outcome.EXCHANGE, Outcome.JOIN, None}
    now += 60
    for browser in browsers:
        token = browser.successor or browser.token
        await until_it_answers(workers[1], token.id)
        assert (await restore(workers[1], token)).outcome is Outcome.EXCHANGE
    assert alarms == []
    for manager in workers:
        await manager.close()
    await store.clean()
