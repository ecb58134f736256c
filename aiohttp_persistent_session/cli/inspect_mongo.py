"""How a MongoDB is set up."""

from __future__ import annotations

import time
from datetime import UTC
from typing import Any

from pymongo.errors import OperationFailure
from pymongo.uri_parser import parse_uri

from ..backends.base import Backend
from ..backends.drivers import DriverErrors
from ..backends.mongo import MongoBackend
from ..backends.mongo_client import make_client
from . import findings
from .findings import Finding

_LOWEST = 6
_DATA_MEMBERS = 3
_NAME = "persistent_sessions"
_errors = DriverErrors("MongoDB")


class MongoInspector:
    """Asks the server, or the primary of the replica set."""

    name = "MongoDB"
    expires_by_itself = "MongoDB deletes expired records by itself"

    def __init__(self, url: str, *, database: str = _NAME, collection: str = _NAME) -> None:
        self.backend: Backend = MongoBackend(url, database=database, collection=collection)
        self._url = url
        self._client = make_client(url)
        self._database = self._client.get_default_database(database)
        self._collection = self._database[collection]

    async def missing(self) -> str | None:
        name = self._collection.name
        with _errors:
            try:
                there = await self._database.list_collection_names(filter={"name": name})
            except OperationFailure:  # its user may not list them
                return None
        return None if there else f"there is no collection {name!r} in the database {self._database.name!r}"

    async def estimate(self) -> int | None:
        with _errors:
            return await self._collection.estimated_document_count()

    async def findings(self) -> list[Finding]:
        with _errors:
            build = await self._client.server_info()
            before = time.time()
            hello = await self._client.admin.command("hello")
            now = (before + time.time()) / 2
            return [
                findings.version("MongoDB", str(build.get("version", "")), _LOWEST),
                _members(hello),
                *_options(self._url),
                findings.clock(hello["localTime"].replace(tzinfo=UTC).timestamp() - now),
                *await self._indexes(),
            ]

    async def findings_when_open(self) -> list[Finding]:
        return []

    async def close(self) -> None:
        await self._client.close()

    async def _indexes(self) -> list[Finding]:
        try:
            indexes = await self._collection.index_information()
        except OperationFailure:
            return [findings.refused("index", "which indexes there are")]
        if not indexes:
            return []  # no collection yet
        found = []
        keys = {name: [field for field, _ in index["key"]] for name, index in indexes.items()}
        advice = "Start the app, which creates it; on a large collection create it by hand first."
        if ["user"] not in keys.values():
            text = "the index on user is missing: each list of a user reads the whole collection"
            found.append(Finding("fault", "index", text, advice))
        expiring = [indexes[name] for name, fields in keys.items() if fields == ["expires_at"]]
        if not any(index.get("expireAfterSeconds") == 0 for index in expiring):
            text = "the index on expires_at with expireAfterSeconds 0 is missing: expired records are never deleted"
            found.append(Finding("fault", "index", text, advice))
        return found or [Finding("ok", "index", "both indexes are there")]


def _members(hello: dict[str, Any]) -> Finding:
    if hello.get("msg") == "isdbgrid":
        return Finding("note", "replica-set", "this is a sharded cluster: check the replica set of each shard")
    if "setName" not in hello:
        text = "the server is no member of a replica set: while it is down, nobody is restored"
        return Finding("warning", "replica-set", text, "Run a replica set of three members that hold data.")
    members = len(hello.get("hosts", ())) + len(hello.get("passives", ()))
    if members < _DATA_MEMBERS:
        text = f"the replica set has {members} members that hold data: when one is down, no write succeeds"
        return Finding("warning", "replica-set", text, "Run three members that hold data; an arbiter does not count.")
    return Finding("ok", "replica-set", f"a replica set of {members} members that hold data")


def _options(url: str) -> list[Finding]:
    # By another scheme, because what mongodb+srv:// names would be asked of the DNS.
    options = parse_uri(url.replace("mongodb+srv://", "mongodb://", 1))["options"]
    said = {name.lower(): value for name, value in options.items()}
    found = []
    advice = "Take it out of the URL; a client of your own that is made of this URL would do as it says."
    if str(said.get("w", "majority")) != "majority":
        text = f"the URL says w={said['w']}; the backend writes to a majority all the same"
        found.append(Finding("warning", "write-concern", text, advice))
    if str(said.get("readpreference", "primary")).lower() != "primary":
        text = f"the URL says readPreference={said['readpreference']}; the backend reads from the primary all the same"
        found.append(Finding("warning", "read-preference", text, advice))
    return found or [Finding("ok", "write-concern", "written to a majority, journaled; read from the primary")]
