"""What handlers find out about their request, and change of it, together."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from aiohttp_session import Session

from . import options, sessions
from .record import Record, UserId
from .setup import visit_of
from .visit import Visit


def visit_for(request: web.Request) -> Visit:
    """Return the request's visit.

    Raises:
        RuntimeError: :func:`.setup` was not called for it.
    """
    visit = visit_of(request)
    if visit is None:
        raise RuntimeError(
            "aiohttp_persistent_session is not set up for this request: call setup(app, backend=...); in a middleware, "
            "call it before that middleware is appended"
        )
    visit.check_storage(request)
    return visit


def refuse_if_prepared(visit: Visit, function: str) -> None:
    """Raise a RuntimeError where the response's headers are written."""
    if visit.is_prepared:
        raise RuntimeError(f"{function} must be called before the response is prepared")


async def signed_in_user(visit: Visit, request: web.Request) -> UserId | None:
    """Return the user as the record has it: some encoders make a session's int a text."""
    key = visit.wiring.session_key
    user = (await sessions.load(request)).get(key)
    if user is None or (visit.user is not None and str(user) == str(visit.user)):
        return None if user is None else visit.user
    try:
        return options.user_id(user)
    except (TypeError, ValueError) as error:
        raise type(error)(f"the session holds no user's id under session_key={key!r}: {error}") from None


async def own_record(visit: Visit, request: web.Request) -> Record | None:
    """Return the record of this browser, if it is the signed-in user's."""
    user = await signed_in_user(visit, request)
    record = None if user is None or visit.id is None else await visit.wiring.manager.registry.get(visit.id)
    return record if record is not None and str(record.user) == str(user) else None


async def change_session(
    request: web.Request, visit: Visit, old: Session, content: dict[str, Any], opened: Session
) -> None:
    """Let ``opened`` hold ``content`` and be the request's session; leave nothing of the old one."""
    opened.update(content)
    visit.open_session(request, opened)
    await sessions.empty_in_storage(request, old)
