"""Several worker processes on one store: one token presented to all of them at once, and answers that get lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from aiohttp_persistent_session import Backend, MongoBackend, PersistentSessionManager, RedisBackend, SQLBackend
from aiohttp_persistent_session.record import Outcome

from .browser import SESSION, TOKEN, cookies_set_by
from .exchanges import exchange, sign_in

WORKERS, BROWSERS, AT_ONCE = 4, 200, 8

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


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql", "redis", "mongodb"])
async def test_four_processes_race_for_each_token_and_hand_out_one_successor(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """200 browsers present a token 8 times at once across 4 workers: nobody is refused, each opens one session."""
    processes = [
        subprocess.Popen(  # noqa: ASYNC220 -- before anything else runs in this loop
            [sys.executable, "-m", "tests.worker_process", *arguments_of(scheme, request, tmp_path)],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(WORKERS)
    ]
    try:
        ports = [int(process.stdout.readline()) for process in processes if process.stdout]
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=64)
        ) as http:

            async def ask(port: int, token: str) -> tuple[Any, str, bool]:
                headers = {"Cookie": f"{TOKEN}={token}"}
                async with http.get(f"http://127.0.0.1:{port}/me", headers=headers) as response:
                    cookies = cookies_set_by(response.headers)
                    return (await response.json())["user"], cookies[TOKEN].value, SESSION in cookies

            async def browse(number: int) -> None:
                user = f"user{number}"
                url = f"http://127.0.0.1:{ports[number % WORKERS]}/login"
                async with http.post(url, data={"user": user}, allow_redirects=False) as response:
                    token = cookies_set_by(response.headers)[TOKEN].value
                answers = await asyncio.gather(*(ask(ports[n % WORKERS], token) for n in range(AT_ONCE)))
                assert [answer[0] for answer in answers] == [user] * AT_ONCE
                assert len({answer[1] for answer in answers} - {token}) == 1
                assert token not in {answer[1] for answer in answers}
                assert sum(answer[2] for answer in answers) == 1

            # In parties: what is raced for is one token, not the machine.
            for start in range(0, BROWSERS, 20):
                await asyncio.gather(*(browse(number) for number in range(start, start + 20)))
    finally:
        for process in processes:
            process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0] * WORKERS


class Proxy:
    """Passes TCP on to a server, counts round trips, and once cuts all connections in the place of an answer."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
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
        for writer in list(self._open):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        self._open |= {writer, server_writer}
        is_asked = False

        async def up() -> None:
            nonlocal is_asked
            while data := await reader.read(65536):
                self.round_trips += not is_asked
                is_asked = True
                server_writer.write(data)
                await server_writer.drain()

        async def down() -> None:
            nonlocal is_asked
            while data := await server_reader.read(65536):
                is_asked = False
                if self.cut_once is not None and await self.cut_once() and self.cut_once is not None:
                    self.cut_once = None
                    self.cuts += 1
                    for one in self._open:
                        one.close()
                if writer.is_closing():
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for one in (writer, server_writer):
                one.close()
                self._open.discard(one)


@pytest.fixture(params=["redis", "postgresql", "mongodb"])
async def through_proxy(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Proxy, PersistentSessionManager, Backend]]:
    """A manager whose connection to a real server leads through a proxy, and a backend whose connection does not."""
    kind, url, *options = arguments_of(request.param, request, tmp_path)
    cls: Any = {"RedisBackend": RedisBackend, "SQLBackend": SQLBackend, "MongoBackend": MongoBackend}[kind]
    make = partial(cls, **dict(option.split("=", 1) for option in options))
    parts = urlsplit(url)
    async with Proxy(parts.hostname or "127.0.0.1", parts.port or 0) as proxy:
        through = parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")).geturl()
        direct = make(url)
        async with PersistentSessionManager(make(through), timeout=20) as manager:
            await direct.open()
            yield proxy, manager, direct
            await direct.close()


async def test_an_exchange_takes_two_round_trips(
    through_proxy: tuple[Proxy, PersistentSessionManager, Backend],
) -> None:
    proxy, manager, _ = through_proxy
    token, taken = await sign_in(manager), []
    for _ in range(6):
        proxy.round_trips = 0
        token = (await exchange(manager, token)).token
        taken.append(proxy.round_trips)
    # At first connections are made and statements prepared; and the purge may come by.
    assert min(taken) == 2
    assert min(taken[-3:]) == 2


async def test_an_exchange_cut_off_before_its_answer_has_happened_once(
    through_proxy: tuple[Proxy, PersistentSessionManager, Backend],
) -> None:
    """Whether the driver repeats the command or gives up: one successor, and the browser is in."""
    proxy, manager, direct = through_proxy
    token = await sign_in(manager)

    async def has_happened() -> bool:
        return (await direct.get(token.id)).revision == 1

    proxy.cut_once = has_happened
    restored = await exchange(manager, token)
    assert proxy.cuts == 1
    assert restored.outcome is Outcome.CURRENT
    assert (await direct.get(token.id)).revision == 1
    again = await exchange(manager, token)
    assert (again.outcome, again.token) == (Outcome.RACE, restored.token)
    assert (await exchange(manager, restored.token)).outcome is Outcome.CURRENT


async def test_a_sign_in_cut_off_before_its_answer_has_happened(
    through_proxy: tuple[Proxy, PersistentSessionManager, Backend],
) -> None:
    proxy, manager, direct = through_proxy

    async def has_happened() -> bool:
        return len(await direct.of_user("alice")) == 1

    proxy.cut_once = has_happened
    token = await sign_in(manager)
    assert proxy.cuts == 1
    assert [session.id for session in await manager.sessions("alice")] == [token.id]
    assert (await exchange(manager, token)).outcome is Outcome.CURRENT


async def test_a_revocation_cut_off_before_its_answer_has_happened(
    through_proxy: tuple[Proxy, PersistentSessionManager, Backend],
) -> None:
    proxy, manager, direct = through_proxy
    token = await sign_in(manager)

    async def has_happened() -> bool:
        return await direct.get(token.id) is None

    proxy.cut_once = has_happened
    assert await manager.revoke(token.id) is True
    assert proxy.cuts == 1
    assert (await exchange(manager, token)).outcome is Outcome.UNKNOWN
