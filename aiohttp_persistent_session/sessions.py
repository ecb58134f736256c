"""Everything that is done to aiohttp-session's session. Owns the text under ``"persistent_session"`` in it."""

from __future__ import annotations

import logging
from http.cookies import CookieError
from typing import Any, NamedTuple, cast

import aiohttp_session
from aiohttp import web
from aiohttp_session import SESSION_KEY, STORAGE_KEY, AbstractStorage, Session

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")

MARK_KEY = "persistent_session"
"""The key in the session under which the persistent session that opened it leaves its mark."""

NO_RECORD = "-"
"""The id in the mark of a session that no persistent session opened, but whose password was typed at a known time."""

UNREADABLE = (ValueError, TypeError, AttributeError, CookieError)
"""What storages raise over a session's cookie that is not what they wrote: it counts as none."""


class Mark(NamedTuple):
    """What a session says of the persistent session that opened it.

    It is written as a text, which every encoder keeps, and as a short one: the session's cookie is parsed at every
    request.
    """

    id: str
    number: int
    """The session's, among those of its persistent session."""
    typed_at: int | None = None
    """When the password was typed in this session, in seconds since the epoch; None where it was not."""

    def __str__(self) -> str:
        typed = "" if self.typed_at is None else f" {self.typed_at}"
        return f"{self.id} {self.number}{typed}"

    @classmethod
    def of(cls, session: Session) -> Mark | None:
        """Return the session's mark; None where it has none.

        A mark that cannot be read is that of a persistent session that does not exist: the session ends, in the place
        of going on beyond revocation.
        """
        text = session.get(MARK_KEY)
        if text is None:
            return None
        try:
            id, number, *typed = text.split(" ")
            return cls(id, int(number), int(typed[0]) if typed else None)
        except (AttributeError, ValueError):
            return cls("", 0)


async def load(request: web.Request) -> Session:
    """Return the request's session; an empty one where its cookie does not parse, which would end in a 500."""
    try:
        return await aiohttp_session.get_session(request)
    except UNREADABLE:
        return await aiohttp_session.new_session(request)


def storage_of(request: web.Request) -> AbstractStorage:
    """Return the storage that aiohttp-session's middleware put into the request.

    Raises:
        RuntimeError: it is not set up before.
    """
    try:
        storage: AbstractStorage = request[STORAGE_KEY]
    except KeyError:
        raise RuntimeError(
            "aiohttp-session is not set up before aiohttp_persistent_session: "
            "call aiohttp_session.setup(app, storage) first"
        ) from None
    return storage


async def first_load(request: web.Request, storage: AbstractStorage) -> Session | None:
    """Load the request's session, as aiohttp_session.get_session does; None where its storage fails."""
    try:
        session = await storage.load_session(request)
    except UNREADABLE:
        session = await storage.new_session()
    except Exception as error:  # noqa: BLE001 -- a storage may raise what its driver raises
        # Whether it is live cannot be known, so no token is spent on it. The handler meets the same exception where it
        # asks for the session, as it would without this middleware.
        logger.warning("the ordinary session could not be loaded: %s", type(error).__name__)
        return None
    if not isinstance(session, Session):
        return None
    request[SESSION_KEY] = session
    return session


def of(request: web.Request) -> Session | None:
    """Return the session of the request, where somebody has asked for it."""
    # A key that is missing costs an exception.
    return cast("Session", request[SESSION_KEY]) if SESSION_KEY in iter(request) else None


def put(request: web.Request, session: Session) -> None:
    """Let this be the request's session."""
    request[SESSION_KEY] = session


def is_emptied(request: web.Request) -> bool:
    """Tell whether aiohttp-session deletes the session's cookie, if it does anything."""
    session = of(request)
    return session is None or session.empty


def unsaved(storage: AbstractStorage, content: dict[str, Any] | None = None) -> Session:
    """Return a session that is not saved unless the handler changes it."""
    session = Session(None, data={"session": content} if content else None, new=True)
    session.max_age = storage.max_age
    return session


async def end(request: web.Request) -> None:
    """Empty the request's session."""
    session = await load(request)
    if not session.empty:
        session.invalidate()


async def empty_in_storage(request: web.Request, session: Session) -> None:
    """Leave nothing under the old key of a server-side storage, where a new session alone would leave all."""
    if session.identity is not None:
        session.invalidate()
        await storage_of(request).save_session(request, web.Response(), session)


async def save_after_crash(request: web.Request) -> list[str]:
    """Save the session, which aiohttp-session does not where the handler raised; return its Set-Cookie fields."""
    session = of(request)
    if session is None:
        return []
    unsent = web.Response()
    try:
        await storage_of(request).save_session(request, unsent, session)
    except Exception:
        logger.exception("the session of a user who signed out could not be emptied")
    return [morsel.OutputString() for morsel in unsent.cookies.values()]
