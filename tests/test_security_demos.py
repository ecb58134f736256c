"""The apps that aiohttp-security shows in its demos, written anew over persistent sessions."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import AsyncIterator
from enum import Enum
from pathlib import Path
from typing import NoReturn

import aiohttp_security
import aiohttp_session
import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp_security.abc import AbstractAuthorizationPolicy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aiohttp_persistent_session import MemoryBackend, setup
from aiohttp_persistent_session.security import PersistentSessionIdentityPolicy
from aiohttp_persistent_session.testing import Browser

from .browser import DAY


def an_app(routes: web.RouteTableDef, policy: AbstractAuthorizationPolicy) -> web.Application:
    app = web.Application()
    aiohttp_session.setup(app, aiohttp_session.SimpleCookieStorage())
    setup(app, MemoryBackend())
    aiohttp_security.setup(app, PersistentSessionIdentityPolicy(), policy)
    app.add_routes(routes)
    return app


async def ask(browser: Browser, path: str) -> tuple[int, str]:
    async with browser.get(path) as answer:
        return answer.status, await answer.text()


async def post(browser: Browser, path: str, **form: str) -> tuple[int, str]:
    async with browser.post(path, data=form) as answer:
        return answer.status, await answer.text()


# One user, who may do one thing


class OnlyJack(AbstractAuthorizationPolicy):
    """He may listen."""

    async def authorized_userid(self, identity: str) -> str | None:
        return identity if identity == "jack" else None

    async def permits(self, identity: str | None, permission: str | Enum, context: object = None) -> bool:
        return (identity, permission) == ("jack", "listen")


jacks_routes = web.RouteTableDef()


@jacks_routes.get("/")
async def jacks_home(request: web.Request) -> web.Response:
    return web.Response(text="nobody" if await aiohttp_security.is_anonymous(request) else "jack")


@jacks_routes.post("/login")
async def jacks_login(request: web.Request) -> NoReturn:
    redirect = web.HTTPFound("/")
    await aiohttp_security.remember(request, redirect, "jack")
    raise redirect


@jacks_routes.post("/logout")
async def jacks_logout(request: web.Request) -> NoReturn:
    redirect = web.HTTPFound("/")
    await aiohttp_security.forget(request, redirect)
    raise redirect


@jacks_routes.get("/listen")
async def listen(request: web.Request) -> web.Response:
    await aiohttp_security.check_permission(request, "listen")
    return web.Response(text="a song")


@jacks_routes.get("/speak")
async def speak(request: web.Request) -> web.Response:
    await aiohttp_security.check_permission(request, "speak")
    return web.Response(text="a speech")


async def test_the_simple_example() -> None:
    """simple_example_auth.py: a visitor is sent off with 401, Jack with 403 where he may not go."""
    async with Browser(an_app(jacks_routes, OnlyJack())) as browser:
        for _ in range(2):
            assert await ask(browser, "/") == (200, "nobody")
            assert [(await ask(browser, path))[0] for path in ("/listen", "/speak")] == [401, 401]
            assert await post(browser, "/login") == (200, "jack")
            for _ in range(2):
                assert await ask(browser, "/listen") == (200, "a song")
                assert (await ask(browser, "/speak"))[0] == 403
                browser.come_back(after=DAY)
            assert await post(browser, "/logout") == (200, "nobody")
            browser.come_back(after=DAY)


# Users with passwords and permissions, in a dictionary and in a database


def hashed(password: str) -> str:
    return hashlib.scrypt(password.encode(), salt=b"of these tests", n=2, r=1, p=1).hex()


USERS = {"admin": (1, True, ""), "moderator": (2, False, "public protected"), "user": (3, False, "public")}
"""The name of each: its number, whether it may do everything, and its permissions."""


class Users(AbstractAuthorizationPolicy):
    """Knows the users: their names are the identities, their numbers as text are the user ids."""

    @abstractmethod
    async def password_is_right(self, name: str, password: str) -> bool: ...

    @abstractmethod
    async def disable(self, name: str, disabled: bool) -> None: ...


class DictionaryOfUsers(Users):
    def __init__(self) -> None:
        self.disabled: set[str] = set()

    def _find(self, name: str | None) -> tuple[int, bool, str] | None:
        return None if name is None or name in self.disabled else USERS.get(name)

    async def authorized_userid(self, identity: str) -> str | None:
        user = self._find(identity)
        return None if user is None else str(user[0])

    async def permits(self, identity: str | None, permission: str | Enum, context: object = None) -> bool:
        user = self._find(identity)
        return user is not None and (user[1] or permission in user[2].split())

    async def password_is_right(self, name: str, password: str) -> bool:
        return self._find(name) is not None and hashed(password) == hashed(f"{name}'s password")

    async def disable(self, name: str, disabled: bool) -> None:
        (self.disabled.add if disabled else self.disabled.discard)(name)


metadata = sa.MetaData()
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(256), unique=True, nullable=False),
    sa.Column("password", sa.String(256), nullable=False),
    sa.Column("is_superuser", sa.Boolean, nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False),
)
permissions = sa.Table(
    "permissions",
    metadata,
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
)


class DatabaseOfUsers(Users):
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def fill(self) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            for name, (id, is_superuser, allowed) in USERS.items():
                row = {"id": id, "name": name, "password": hashed(f"{name}'s password"), "is_superuser": is_superuser}
                await connection.execute(users.insert().values(disabled=False, **row))
                for permission in allowed.split():
                    await connection.execute(permissions.insert().values(user_id=id, name=permission))

    async def _scalar(self, column: sa.ColumnElement[object], name: str, *where: sa.ColumnElement[bool]) -> object:
        query = sa.select(column).select_from(users.outerjoin(permissions))
        async with self.engine.connect() as connection:
            return await connection.scalar(query.where(users.c.name == name, ~users.c.disabled, *where))

    async def authorized_userid(self, identity: str) -> str | None:
        id = await self._scalar(users.c.id, identity)
        return None if id is None else str(id)

    async def permits(self, identity: str | None, permission: str | Enum, context: object = None) -> bool:
        if identity is None:
            return False
        may = users.c.is_superuser | (permissions.c.name == permission)
        return await self._scalar(users.c.id, identity, may) is not None

    async def password_is_right(self, name: str, password: str) -> bool:
        return await self._scalar(users.c.password, name) == hashed(password)

    async def disable(self, name: str, disabled: bool) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(users.update().where(users.c.name == name).values(disabled=disabled))


@pytest.fixture(params=["dictionary", "database"])
async def known(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Users]:
    if request.param == "dictionary":
        yield DictionaryOfUsers()
        return
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'users.db'}")
    database = DatabaseOfUsers(engine)
    await database.fill()
    yield database
    await engine.dispose()


routes = web.RouteTableDef()
USERS_KEY: web.AppKey[Users] = web.AppKey("users")


@routes.get("/")
async def index(request: web.Request) -> web.Response:
    user_id = await aiohttp_security.authorized_userid(request)
    return web.Response(text="You need to log in" if user_id is None else f"Hello, user {user_id}")


@routes.post("/login")
async def login(request: web.Request) -> NoReturn:
    form = await request.post()
    name = str(form["name"])
    if not await request.app[USERS_KEY].password_is_right(name, str(form["password"])):
        raise web.HTTPUnauthorized(text="Wrong name or password")
    redirect = web.HTTPFound("/")
    await aiohttp_security.remember(request, redirect, name, persistent="keep" in form)
    raise redirect


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    await aiohttp_security.check_authorized(request)
    response = web.Response(text="You are logged out")
    await aiohttp_security.forget(request, response)
    return response


@routes.get("/public")
async def public(request: web.Request) -> web.Response:
    await aiohttp_security.check_permission(request, "public")
    return web.Response(text="For all who are registered")


@routes.get("/protected")
async def protected(request: web.Request) -> web.Response:
    await aiohttp_security.check_permission(request, "protected")
    return web.Response(text="For a few")


@pytest.fixture
async def browser(known: Users) -> AsyncIterator[Browser]:
    app = an_app(routes, known)
    app[USERS_KEY] = known
    async with Browser(app) as browser:
        yield browser


async def signs_in(browser: Browser, name: str, **form: str) -> tuple[int, str]:
    return await post(browser, "/login", name=name, password=f"{name}'s password", **form)


async def pages(browser: Browser) -> tuple[str, int, int]:
    """Return what the home page says, and how the other two answer."""
    return (await ask(browser, "/"))[1], (await ask(browser, "/public"))[0], (await ask(browser, "/protected"))[0]


ANONYMOUS = ("You need to log in", 401, 401)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("admin", ("Hello, user 1", 200, 200)),
        ("moderator", ("Hello, user 2", 200, 200)),
        ("user", ("Hello, user 3", 200, 403)),
    ],
)
async def test_who_may_go_where(browser: Browser, name: str, seen: tuple[str, int, int]) -> None:
    """Before the browser is closed and after, until the user signs out; the user id is not the identity."""
    assert await pages(browser) == ANONYMOUS
    assert await signs_in(browser, name, keep="on") == (200, seen[0])
    assert await pages(browser) == seen
    browser.come_back(after=DAY)
    assert await pages(browser) == seen
    assert await post(browser, "/logout") == (200, "You are logged out")
    assert await pages(browser) == ANONYMOUS
    browser.come_back(after=DAY)
    assert await pages(browser) == ANONYMOUS
    assert (await post(browser, "/logout"))[0] == 401


async def test_a_wrong_password_signs_nobody_in_and_nobody_out(browser: Browser) -> None:
    """The same for a name that nobody has."""
    for name in ("user", "nobody"):
        assert (await post(browser, "/login", name=name, password="wrong"))[0] == 401
    assert await pages(browser) == ANONYMOUS
    await signs_in(browser, "user")
    assert (await post(browser, "/login", name="admin", password="wrong"))[0] == 401
    assert await pages(browser) == ("Hello, user 3", 200, 403)


async def test_without_the_box_closing_the_browser_signs_out(browser: Browser) -> None:
    """With it, the user stays in: ``persistent`` is the form's."""
    await signs_in(browser, "user")
    browser.come_back(after=DAY / 2)
    assert await pages(browser) == ANONYMOUS


async def test_a_user_who_is_disabled_gets_nowhere_until_enabled_again(browser: Browser, known: Users) -> None:
    """With a live session and a restored one; the authorization policy is asked at every request."""
    await signs_in(browser, "admin", keep="on")
    with_session = await pages(browser)
    await known.disable("admin", True)
    assert await pages(browser) == ANONYMOUS
    browser.come_back(after=DAY)
    assert await pages(browser) == ANONYMOUS
    assert (await signs_in(browser, "admin"))[0] == 401
    await known.disable("admin", False)
    assert await pages(browser) == with_session == ("Hello, user 1", 200, 200)
