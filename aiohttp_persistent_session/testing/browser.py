"""A browser, for the tests of an application."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any

import aiohttp_session
from aiohttp import hdrs, web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.test_utils import BaseTestServer, TestClient, TestServer
from aiohttp_session import STORAGE_KEY, AbstractStorage
from yarl import URL

from .. import options
from ..handlers import remember
from ..options import Duration
from ..record import PersistentSession, UserId
from .app import manager_of, set_by
from .clock import Clock
from .jar import BrowserJar


class Browser(TestClient[web.Request, web.Application]):
    """aiohttp's test client as a browser that is signed in, closed, opened again and copied::

        async def test_who_closes_the_browser_stays_signed_in() -> None:
            async with Browser(create_app()) as browser:
                await browser.sign_in("alice")
                browser.come_back(after=timedelta(days=3))
                async with browser.get("/") as response:
                    assert "Hello, alice" in await response.text()

    Its cookies are in a :class:`.BrowserJar`, so they may be Secure. They expire by the clock of the app's manager.

    Args:
        server: the application, or a server of it.
        sub_app: the sub-application that :func:`.setup` was called for, where it was one.
        options: passed on to ``aiohttp.ClientSession``, as ``headers={"User-Agent": "..."}``.

    Raises:
        RuntimeError: the application is not set up.
        TypeError: ``server`` is neither an application nor a server of one.
    """

    def __init__(
        self, server: BaseTestServer | web.Application, *, sub_app: web.Application | None = None, **options: Any
    ) -> None:
        server = TestServer(server) if isinstance(server, web.Application) else server
        if not isinstance(server, TestServer):
            raise TypeError(f"a browser takes an application or a TestServer of one, not {type(server).__name__}")
        self._apps = [server.app] if sub_app is None else [server.app, sub_app]
        self._manager = manager_of(self._apps[-1])
        self._options = options
        self._others: list[Browser] = []
        self._jar = BrowserJar(self._now)
        super().__init__(server, cookie_jar=self._jar, **options)

    @property
    def clock(self) -> Clock:
        """The clock of the app's manager, which tests move: ``browser.clock.advance(timedelta(minutes=5))``."""
        return Clock.of(self._manager)

    @property
    def cookies(self) -> dict[str, str]:
        """What the browser holds, by name."""
        return {cookie.key: cookie.value for cookie in self._jar}

    # Signing in

    async def sign_in(
        self,
        user: UserId,
        *,
        persistent: bool = True,
        data: dict[str, Any] | None = None,
        max_age: Duration | None = None,
        session: Mapping[str, Any] | None = None,
        fresh: bool = True,
        path: str = "/",
    ) -> PersistentSession:
        """Sign a user in without the app's login form: the browser holds what :func:`.remember` sends it.

        Everything happens that happens there: the record is stored, ``on_remember`` is sent, and a persistent session
        that the browser had is ended. The app's own middlewares do not run.

        Args:
            user: the user's id.
            persistent: whether the box was ticked; see :func:`.remember`.
            data: kept with the persistent session; see :func:`.remember`.
            max_age: how long the browser may stay away; see :func:`.remember`.
            session: what the app's login handler puts into the session besides.
            fresh: whether the user has typed the password just now. If False, the browser holds the token alone, and
                its next request is restored.
            path: the page of the login form, where cookies are for a part of the site only.

        Raises:
            BackendError: the store failed.
            TypeError, ValueError: ``user``, ``data`` or ``max_age`` is refused.
        """

        signed_in: list[PersistentSession] = []

        async def log_in(request: web.Request) -> web.Response:
            signed_in.append(await remember(request, user, persistent=persistent, data=data, max_age=max_age))
            (await aiohttp_session.get_session(request)).update(session or {})
            return web.Response()

        await self.start_server()
        url = self.make_url(path)
        for field in await set_by(log_in, self._apps, url, self._headers(url)):
            cookies: SimpleCookie = SimpleCookie()
            # Python before 3.14 does not know this attribute, and would drop the cookie.
            cookies.load(re.sub(r";\s*Partitioned", "", field, flags=re.IGNORECASE))
            self._jar.update_cookies(cookies, url)
        if not fresh:
            await self.lose_session()
        return signed_in[0]

    # What becomes of its cookies

    def close_browser(self) -> None:
        """Close the browser, and open it again: every cookie is dropped that has neither Max-Age nor Expires.

        An ordinary session whose storage has a ``max_age`` survives that, as it does in browsers.
        """
        self._jar.close_browser()

    def come_back(self, after: Duration) -> None:
        """Close the browser, and come back after a time: the clock moves on, and what has expired by then is gone.

        Args:
            after: a timedelta or a number of seconds. After at most 2 s, the next request may join the last exchange.

        Raises:
            TypeError, ValueError: ``after`` is no duration.
        """
        seconds = options.seconds("after", after)
        self.close_browser()
        self.clock.advance(seconds)

    async def lose_session(self) -> None:
        """Drop the cookie of the ordinary session, and nothing else: as if that session had expired."""
        names: list[str] = []

        async def look(request: web.Request) -> web.Response:
            storage: AbstractStorage = request[STORAGE_KEY]
            names.append(storage.cookie_name)
            return web.Response()

        await self.start_server()
        await set_by(look, self._apps, self.make_url("/"), {})
        self._jar.drop(*names)

    # Other browsers of the same app

    def copy(self, **options: Any) -> Browser:
        """Return another browser with the same cookies: a thief's, who has copied them.

        Args:
            options: in the place of this browser's.
        """
        other = self.another(**options)
        other._jar.fill(self._jar)
        return other

    def another(self, **options: Any) -> Browser:
        """Return another browser of the same app, without any cookie; closed with this one.

        Args:
            options: in the place of this browser's.
        """
        sub_app = None if len(self._apps) == 1 else self._apps[-1]
        other = Browser(_SharedServer(self.server), sub_app=sub_app, **self._options | options)
        self._others.append(other)
        return other

    # As a client

    async def close(self) -> None:
        """Close this client, those that it was copied to, and the server."""
        while self._others:
            await self._others.pop().close()
        await super().close()

    # Inside

    def _now(self) -> float:
        return self._manager.clock()

    def _headers(self, url: URL) -> dict[str, str]:
        headers: dict[str, str] = {hdrs.USER_AGENT: self.session.headers.get(hdrs.USER_AGENT, SERVER_SOFTWARE)}
        cookies = self._jar.filter_cookies(url).values()
        if cookies:
            headers[hdrs.COOKIE] = "; ".join(f"{cookie.key}={cookie.coded_value}" for cookie in cookies)
        return headers


class _SharedServer(TestServer):
    """The server of another client, which closes it."""

    def __init__(self, server: Any) -> None:
        if not server.started:
            raise RuntimeError("start the browser's server before you copy the browser")
        super().__init__(server.app)
        vars(self).update(vars(server))

    async def close(self) -> None:
        pass
