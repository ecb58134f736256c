"""How a Redis is set up."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from ..backends.base import Backend
from ..backends.drivers import DriverErrors
from ..backends.redis import RedisBackend
from ..backends.redis_client import OPTIONS, checked_url
from . import findings
from .findings import Finding

_LOWEST = 7
_errors = DriverErrors("Redis")


class RedisInspector:
    """Asks one server, or each master of a cluster."""

    name = "Redis"
    expires_by_itself = "Redis deletes expired records by itself"

    def __init__(self, url: str, *, cluster: bool = False, **options: Any) -> None:
        checked_url(url)
        self._client: Any = RedisCluster.from_url(url) if cluster else Redis.from_url(url, **OPTIONS)
        self._is_cluster = cluster
        self.backend: Backend = RedisBackend(self._client if cluster else url, **options)

    async def missing(self) -> str | None:
        return None

    async def estimate(self) -> int | None:
        return None  # the number of keys is that of others' too

    async def findings(self) -> list[Finding]:
        found: list[Finding] = []
        with _errors:
            if not self._is_cluster:
                return await self._of_server({}, "")
            await self._client.initialize()
            for master in self._client.get_primaries():
                found += await self._of_server({"target_nodes": master}, f" (at {master.host}:{master.port})")
        return found

    async def findings_when_open(self) -> list[Finding]:
        return []

    async def close(self) -> None:
        await self._client.aclose()

    async def _of_server(self, where: dict[str, Any], at: str) -> list[Finding]:
        info: dict[str, Any] = {}
        for section in ("server", "replication", "cluster", "memory", "persistence"):
            info |= await self._asked("info", section, where=where)
        saves = (await self._asked("config_get", "save", where=where)).get("save")
        fsync = (await self._asked("config_get", "appendfsync", where=where)).get("appendfsync")
        return [
            findings.version("Redis", str(info.get("redis_version", "")), _LOWEST),
            *_role(info, at, is_cluster=self._is_cluster),
            _eviction(info, at),
            _persistence(info, at, saves, fsync),
            await self._clock(where, at),
        ]

    async def _asked(self, command: str, argument: str, *, where: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await getattr(self._client, command)(argument, **where)
        except ResponseError:  # managed servers, and users of an ACL, may not ask this
            return {}
        return answer

    async def _clock(self, where: dict[str, Any], at: str) -> Finding:
        before = time.time()
        try:
            seconds, microseconds = await self._client.time(**where)
        except ResponseError:
            return findings.refused("clock", f"the time{at}")
        return findings.clock(seconds + microseconds / 1e6 - (before + time.time()) / 2, at)


def _role(info: dict[str, Any], at: str, *, is_cluster: bool) -> list[Finding]:
    found = []
    role = info.get("role")
    if role is None:
        found.append(findings.refused("replica", f"whether it is a replica{at}"))
    elif role != "master":
        text = f"the server{at} is a replica: what it lacks looks like a copied token, and it takes no writes"
        found.append(Finding("fault", "replica", text, "Connect to the master, for one by Sentinel."))
    else:
        found.append(Finding("ok", "replica", f"the server{at} is no replica"))
    if info.get("cluster_enabled") and not is_cluster:
        text = "the server is a node of a cluster"
        advice = "Pass a RedisCluster to RedisBackend, and --cluster here."
        found.append(Finding("fault", "cluster", text, advice))
    return found


def _eviction(info: dict[str, Any], at: str) -> Finding:
    policy, limit = info.get("maxmemory_policy"), info.get("maxmemory")
    if policy is None:
        return findings.refused("eviction", f"its maxmemory-policy{at}")
    if policy == "noeviction":
        return Finding("ok", "eviction", f"nothing is evicted{at}: maxmemory-policy noeviction")
    text = f"maxmemory-policy is {policy}{at}: an evicted record is a browser signed out"
    if not limit:
        text += "; it has no effect while maxmemory is 0"
    return Finding("fault" if limit else "warning", "eviction", text, "Set maxmemory-policy noeviction.")


def _persistence(info: dict[str, Any], at: str, saves: Any, fsync: Any) -> Finding:
    aof = info.get("aof_enabled")
    if aof:
        if fsync == "no":
            text = f"appendfsync is no{at}: a power cut loses half a minute of acknowledged exchanges, or more"
            return Finding("warning", "persistence", text, "Set appendfsync everysec, or always.")
        lost = {"always": "nothing", "everysec": "at most a second's"}.get(str(fsync), "a second's, or more")
        return Finding("ok", "persistence", f"writes go to disk{at} (appendonly yes); a power cut loses {lost}")
    if aof is None or saves is None:
        return findings.refused("persistence", f"whether it writes to disk{at}")
    if saves:
        text = f"only snapshots are written to disk{at}: a crash loses the exchanges of minutes"
        return Finding("warning", "persistence", text, "Set appendonly yes.")
    text = f"nothing is written to disk{at}: a restart signs everybody out"
    return Finding("fault", "persistence", text, "Set appendonly yes, with appendfsync everysec or always.")
