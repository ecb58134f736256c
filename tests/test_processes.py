"""Several worker processes on one store: one token presented to all of them at once, and answers that get lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest

from aiohttp_persistent_session import Backend, MongoBackend, PersistentSessionManager, RedisBackend, SQLBackend
from aiohttp_persistent_session.rules import Outcome
from aiohttp_persistent_session.tokens import Token

from .browser import ANSWERS_WITHIN, SESSION, TOKEN, Clock, cookies_set_by
from .exchanges import check, restore, sign_in

WORKERS, BROWSERS, AT_ONCE = 4, 200, 8
IN_A_PARTY = 20
"""Browsers at once: what is raced for is one token, not the machine."""

KILLS_SERVERS = True


def arguments_of(scheme: str, request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Return class and arguments of a backend that keeps this test's records apart."""
    if scheme == "sqlite":
        return ["SQLBackend", f"sqlite:///{tmp_path / 'records.db'}"]
    url = request.getfixturevalue(f"{scheme}_url")
    own = tmp_path.name.replace("-", "_")[:40] + format(hash(tmp_path) % 2**32, "x")
    return {
        "postgresql": ["SQLBackend", url, f"table={own}"],
        "redis": ["RedisBackend", url, f"prefix={own}:"],
        "mongodb": ["MongoBackend", url, f"collection={own}"],
    }[scheme]


class Answer(NamedTuple):
    user: str
    token: str | None
    opens_a_session: bool


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "redis", "mongodb"])
async def test_four_processes_race_for_each_token_and_exchange_it_once(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """200 browsers present a token 8 times at once to 4 workers: all are served, one of each 8 gets a token."""
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 -- before anything else runs in this loop
            [sys.executable, "-m", "tests.worker_process", *arguments_of(scheme, request, tmp_path)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    try:
        ports = [int(process.stdout.readline()) for process in processes if process.stdout]
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=64)
        ) as http:

            async def ask(port: int, token: str) -> Answer:
                headers = {"Cookie": f"{TOKEN}={token}"}
                async with http.get(f"http://127.0.0.1:{port}/me", headers=headers) as response:
                    cookies = cookies_set_by(response.headers)
                    user = (await response.json())["user"]
                    return Answer(user, cookies[TOKEN].value if TOKEN in cookies else None, SESSION in cookies)

            async def browse(number: int) -> None:
                user = f"user{number}"
                url = f"http://127.0.0.1:{ports[number % WORKERS]}/login"
                async with http.post(url, data={"user": user}, allow_redirects=False) as response:
                    token = cookies_set_by(response.headers)[TOKEN].value
                answers = await asyncio.gather(*(ask(ports[n % WORKERS], token) for n in range(AT_ONCE)))
                assert [answer.user for answer in answers] == [user] * AT_ONCE
                (issued,) = [answer.token for answer in answers if answer.token is not None]
                assert issued not in ("", token)
                assert [answer.opens_a_session for answer in answers].count(True) == 1
                assert (await ask(ports[(number + 1) % WORKERS], issued)).user == user

            for start in range(0, BROWSERS, IN_A_PARTY):
                await asyncio.gather(*(browse(number) for number in range(start, start + IN_A_PARTY)))
    finally:
        told = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * WORKERS
    assert told == [""] * WORKERS


@dataclass
class Connection:
    """One connection through the proxy."""

    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    is_black_hole: bool = False
    is_asked: bool = False


class Proxy:
    """Passes TCP on to a server and counts round trips; it can cut connections, or let them lead nowhere."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._open: list[Connection] = []
        self.cut_once: Callable[[], Awaitable[bool]] | None = None
        """Asked at each answer, of whichever connection, whether a write has been applied by now."""
        self.cuts = 0
        self.round_trips = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._close_all()
        await self._server.wait_closed()

    def swallow(self) -> int:
        """Pass on nothing more over the connections that are open, without closing them; return how many."""
        for connection in self._open:
            connection.is_black_hole = True
        return len(self._open)

    def _close_all(self) -> None:
        for connection in self._open:
            for writer in connection.writers:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        connection = Connection((writer, server_writer))
        self._open.append(connection)

        async def up() -> None:
            while data := await reader.read(65536):
                if connection.is_black_hole:
                    continue
                self.round_trips += not connection.is_asked
                connection.is_asked = True
                server_writer.write(data)
                await server_writer.drain()

        async def down() -> None:
            while data := await server_reader.read(65536):
                connection.is_asked = False
                if self.cut_once is not None and await self.cut_once() and self.cut_once is not None:
                    self.cut_once = None
                    self.cuts += 1
                    self._close_all()
                if writer.is_closing():
                    return
                if not connection.is_black_hole:
                    writer.write(data)
                    await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in connection.writers:
                one.close()
            self._open.remove(connection)


@dataclass
class Proxied:
    """A manager whose connection to a real server leads through a proxy, and a backend whose connection does not."""

    proxy: Proxy
    manager: PersistentSessionManager
    direct: Backend
    clock: Clock
    alarms: list[str]


@pytest.fixture(params=["redis", "postgresql", "mongodb"])
async def proxied(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[Proxied]:
    kind, url, *options = arguments_of(request.param, request, tmp_path)
    cls: Any = {"RedisBackend": RedisBackend, "SQLBackend": SQLBackend, "MongoBackend": MongoBackend}[kind]
    make = partial(cls, **dict(option.split("=", 1) for option in options))
    parts = urlsplit(url)
    alarms: list[str] = []

    async def alarm(session: Any, _: object) -> None:
        alarms.append(session.id)

    async with Proxy(parts.hostname or "127.0.0.1", parts.port or 0) as proxy:
        through = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()
        direct = make(url)
        timeout = getattr(request.function, "timeout_of_calls", ANSWERS_WITHIN)
        manager = PersistentSessionManager(make(through), timeout=timeout)
        manager.clock = clock
        manager.on_reuse.append(alarm)
        async with manager:
            await direct.open()
            yield Proxied(proxy, manager, direct, clock, alarms)
            await direct.close()


def with_timeout(seconds: float) -> Callable[[Any], Any]:
    """Let the manager of a test's proxy wait no longer than this."""

    def mark(function: Any) -> Any:
        function.timeout_of_calls = seconds
        return function

    return mark


async def next_token(proxied: Proxied, token: Token) -> Token:
    proxied.clock.advance(3)
    result = await restore(proxied.manager, token)
    assert result.outcome is Outcome.EXCHANGE
    assert result.token is not None
    return result.token


async def fewest(proxied: Proxied, action: Callable[[], Awaitable[Any]]) -> int:
    """Return the fewest round trips of several runs: at first connections are made, and the purge may come by."""
    taken = []
    for _ in range(6):
        proxied.proxy.round_trips = 0
        await action()
        taken.append(proxied.proxy.round_trips)
    return min(taken)


async def test_an_exchange_takes_two_round_trips_and_a_join_one(proxied: Proxied) -> None:
    """A restore reads and swaps, a join reads, and a check does what a restore does."""
    token, old = await sign_in(proxied.manager), None
    session = 0

    async def exchange() -> None:
        nonlocal token, old, session
        token, old, session = await next_token(proxied, token), token, session + 1

    async def join() -> None:
        assert old is not None
        assert (await restore(proxied.manager, old)).outcome is Outcome.JOIN

    async def look() -> None:
        proxied.clock.advance(61)
        assert (await check(proxied.manager, token, session)).outcome is Outcome.LIVE

    assert await fewest(proxied, exchange) == 2
    assert await fewest(proxied, join) == 1
    assert await fewest(proxied, look) == 2


async def test_an_exchange_cut_off_before_its_answer_has_happened_once(proxied: Proxied) -> None:
    """Whether the driver repeats the command or gives up: one new secret, and the browser is in."""
    token = await sign_in(proxied.manager)

    async def revision() -> int:
        record = await proxied.direct.get(token.id)
        assert record is not None
        return record.revision

    async def has_happened() -> bool:
        return await revision() == 1

    proxied.proxy.cut_once = has_happened
    result = await restore(proxied.manager, token)
    assert proxied.proxy.cuts == 1
    assert result.outcome is Outcome.EXCHANGE
    assert result.token is not None
    assert await revision() == 1
    joined = await restore(proxied.manager, token)
    assert (joined.outcome, joined.token) == (Outcome.JOIN, None)
    await next_token(proxied, result.token)
    assert proxied.alarms == []


async def test_a_check_cut_off_before_its_answer_has_happened(proxied: Proxied) -> None:
    """A live session whose write lost its answer goes on."""
    token = await sign_in(proxied.manager)
    proxied.clock.advance(61)

    async def has_happened() -> bool:
        record = await proxied.direct.get(token.id)
        return record is not None and record.revision == 1

    proxied.proxy.cut_once = has_happened
    assert (await check(proxied.manager, token, 0)).outcome is Outcome.LIVE
    assert proxied.proxy.cuts == 1
    assert (await check(proxied.manager, token, 0)).outcome is Outcome.LIVE
    await next_token(proxied, token)


async def test_a_sign_in_cut_off_before_its_answer_has_happened(proxied: Proxied) -> None:
    """Nobody who was signed in is told otherwise."""

    async def has_happened() -> bool:
        return len(await proxied.direct.of_user("alice", 9)) == 1

    proxied.proxy.cut_once = has_happened
    token = await sign_in(proxied.manager)
    assert proxied.proxy.cuts == 1
    assert [session.id for session in await proxied.manager.sessions("alice")] == [token.id]
    await next_token(proxied, token)


async def test_a_revocation_cut_off_before_its_answer_has_happened(proxied: Proxied) -> None:
    """Who revokes is told that it was done, and it was."""
    token = await sign_in(proxied.manager)

    async def has_happened() -> bool:
        return await proxied.direct.get(token.id) is None

    proxied.proxy.cut_once = has_happened
    assert await proxied.manager.revoke(token.id) is True
    assert proxied.proxy.cuts == 1
    assert (await restore(proxied.manager, token)).outcome is Outcome.UNKNOWN


@with_timeout(1)
async def test_redis_py_722_idle_connections_that_lead_nowhere(proxied: Proxied) -> None:
    """Connections that a firewall has dropped silently cost a time-out each at most, and then service is as before."""

    async def signed_in(user: str) -> Token:
        async with asyncio.timeout(ANSWERS_WITHIN):
            while True:
                try:
                    return await sign_in(proxied.manager, user)
                except Exception:  # a slow machine's time-out
                    await asyncio.sleep(0.05)

    tokens = [await signed_in(f"user{number}") for number in range(4)]
    await asyncio.gather(*(restore(proxied.manager, token) for token in tokens))
    dead, failed = proxied.proxy.swallow(), 0
    loop = asyncio.get_running_loop()
    for token in tokens:
        proxied.clock.advance(11)
        started = loop.time()
        async with asyncio.timeout(ANSWERS_WITHIN):
            while (result := await restore(proxied.manager, token)).outcome is not Outcome.EXCHANGE:
                assert result.failed or result.outcome is Outcome.JOIN
                failed += loop.time() - started > 0.9
                await asyncio.sleep(0.05)
                started = loop.time()
                proxied.clock.advance(3)
    assert dead >= 1
    # A slow machine may take its time-outs too.
    assert failed <= 2 * dead + 2
    assert proxied.alarms == []
