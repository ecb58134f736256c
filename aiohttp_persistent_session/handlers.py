"""What handlers call.

Each raises a RuntimeError where :func:`.setup` was not called for the request.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from aiohttp import web

from . import options, sessions
from .backends.base import BackendError
from .current import change_session, own_record, refuse_if_prepared, signed_in_user, visit_for
from .options import Duration
from .record import PersistentSession, UserId, same_user
from .sessions import NO_RECORD, Mark
from .signals import on_behalf_of
from .visit import Origin, Visit

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")


async def remember(
    request: web.Request,
    user: UserId,
    *,
    persistent: bool = True,
    data: dict[str, Any] | None = None,
    max_age: Duration | None = None,
) -> PersistentSession:
    """Sign ``user`` in and keep this browser signed in. For the login handler, after the password was checked.

    Opens a new session that holds the user under ``session_key``, with a new identity (against session fixation, OWASP
    ASVS 5.0, 7.2.4) and with the data of the anonymous session. A persistent session that the browser brought is ended.
    If the handler then dies of an exception other than ``web.HTTPException``, nobody is remembered.

    Args:
        user: the user's id, a str (1 to 1024 bytes in UTF-8) or an int.
        persistent: whether the browser stays signed in when it is closed; False where the box was not ticked.
        data: a dict that JSON keeps as it is, at most 4096 bytes; shown with the persistent session.
        max_age: how long this browser may stay away (timedelta or seconds), where that is less than the options say;
            not less than ``grace_period`` and 10 times ``check_interval``. It counts from the last look at the record.

    Raises:
        BackendError: the store failed; nobody is remembered, and the session is not opened. With ``max_sessions``, the
            persistent session that was to give way may have ended. With ``persistent=False`` the user is signed in all
            the same, by an ordinary session without a record.
        RuntimeError: the response is prepared already; nothing is stored.
        TypeError, ValueError: ``user`` or ``data`` cannot be stored, or ``max_age`` is out of range; nothing is stored.
    """
    visit = visit_for(request)
    refuse_if_prepared(visit, "remember()")
    options.of_type("persistent", persistent, bool)
    registry = visit.wiring.manager.registry
    user, text = options.user_id(user), options.json_object(data)
    lifetime = options.lifetime(max_age, registry.policy)
    old = await sessions.load(request)
    previous = old.get(visit.wiring.session_key)
    previous = visit.user if visit.user is not None and str(previous) == str(visit.user) else previous
    opened = await visit.storage.new_session()
    browser = visit.wiring.browser_of(request)
    token, record = registry.new_record(user, browser, data=text, persistent=persistent, max_age=lifetime)
    mark = Mark(NO_RECORD, 0, int(record.created_at))
    try:
        with on_behalf_of(request):
            await registry.begin(record, replaces=visit.presented_ids())
    except BackendError:
        if persistent:
            raise
        logger.warning("the store failed as a user signed in for one browser session: it cannot be revoked")
        visit.sign_out()
        visit.deletes_cookie = bool(visit.values)
    else:
        mark = mark._replace(id=record.id)
        visit.take_token(token, record, Origin.SIGN_IN)
        visit.deletes_cookie, visit.to_undo = False, record.id
    carried = dict(old) if previous is None or same_user(previous, user) else {}
    carried.pop(sessions.MARK_KEY, None)
    await change_session(request, visit, old, carried | visit.content(user, mark), opened)
    return registry.shown(record, current=True)


async def forget(request: web.Request) -> None:
    """Sign this browser out: end its persistent session, delete its cookie and empty its session.

    After the response was prepared, as on a web-socket, the cookie stays, worth nothing.

    Raises:
        BackendError: the store failed; the cookie is deleted and the session emptied all the same.
    """
    visit = visit_for(request)
    ids = visit.presented_ids()
    visit.sign_out()
    try:
        with on_behalf_of(request):
            await _end_each(visit, ids)
    finally:
        await sessions.end(request)


async def forget_everywhere(request: web.Request, *, keep_current: bool = False) -> int:
    """End all persistent sessions of the signed-in user; return how many.

    Live sessions that they opened end within ``check_interval``. Sessions without one are out of reach.

    Args:
        keep_current: whether this browser stays signed in. It gets a new persistent session and token, so that no copy
            of the old one survives, which ends and counts. Its time of sign-in and data stay: where ``validate``
            compares a password's version in them, :func:`remember` anew. A request that merely joined is not kept.

    Raises:
        BackendError: the store failed; some may have been ended.
        RuntimeError: the response is prepared already, and ``keep_current`` is true.
    """
    visit = visit_for(request)
    user = await signed_in_user(visit, request)
    if user is None:
        return 0
    registry = visit.wiring.manager.registry
    with on_behalf_of(request):
        if keep_current and not visit.joined:
            kept = await _begin_anew(request, visit)
            return await registry.end_all(user, "signed out everywhere", kept)
        ids = visit.presented_ids()
        visit.sign_out()
        try:
            ended = await registry.end_all(user, "signed out everywhere")
            await _end_each(visit, ids)
            return ended
        finally:
            await sessions.end(request)


async def persistent_sessions(request: web.Request) -> list[PersistentSession]:
    """Return the signed-in user's persistent sessions, the newest first; none for an anonymous request.

    Raises:
        BackendError: the store failed.
    """
    visit = visit_for(request)
    user = await signed_in_user(visit, request)
    return [] if user is None else await visit.wiring.manager.sessions(user, current=visit.id)


async def current_persistent_session(request: web.Request) -> PersistentSession | None:
    """Return the persistent session of this browser, or None where it has none.

    Raises:
        BackendError: the store failed.
    """
    visit = visit_for(request)
    record = await own_record(visit, request)
    return None if record is None else visit.wiring.manager.registry.shown(record, current=True)


async def update_data(request: web.Request, data: dict[str, Any]) -> PersistentSession | None:
    """Put other ``data`` in the place of what :func:`remember` was given, for this browser's persistent session.

    Return it as it is from now on, or None where this browser has none.

    Args:
        data: a dict that JSON keeps as it is, at most 4096 bytes.

    Raises:
        BackendError: the store failed, or others wrote the record at each attempt.
        TypeError, ValueError: ``data`` cannot be stored.
    """
    visit, text = visit_for(request), options.json_object(data)
    record = await own_record(visit, request)
    if record is not None:
        record = await visit.wiring.manager.lifecycle.change_data(record, text)
    return None if record is None else visit.wiring.manager.registry.shown(record, current=True)


async def revoke(request: web.Request, id: str) -> bool:
    """End one of the signed-in user's own persistent sessions; return whether there was one.

    Somebody else's is left alone, as one that does not exist. This browser's own signs this browser out.

    Raises:
        BackendError: the store failed.
    """
    visit = visit_for(request)
    user = await signed_in_user(visit, request)
    registry = visit.wiring.manager.registry
    record = None if user is None else await registry.get(id)
    if record is None or not same_user(record.user, user):
        return False
    if id == visit.id:
        visit.sign_out()
        await sessions.end(request)
    with on_behalf_of(request):
        return await registry.end(record, registry.signals.on_revoke, "revoked")


def restore_failed(request: web.Request) -> bool:
    """Tell whether this request is anonymous because the store, or ``validate``, failed as its token was to be judged.

    The cookie is kept, and a later request is restored. Say "try again" then, in the place of a login form.
    """
    return visit_for(request).restore_failed


async def _end_each(visit: Visit, ids: list[str]) -> None:
    registry, failure = visit.wiring.manager.registry, None
    for id in ids:
        try:
            await registry.end_id(id, registry.signals.on_forget, "signed out")
        except BackendError as error:
            failure = error
    if failure is not None:
        raise failure


async def _begin_anew(request: web.Request, visit: Visit) -> str | None:
    """Give this browser a new record and token; return the new id."""
    registry = visit.wiring.manager.registry
    record = await own_record(visit, request)
    if record is None:
        return None
    refuse_if_prepared(visit, "forget_everywhere(keep_current=True)")
    session = await sessions.load(request)
    opened = await visit.storage.new_session()
    mark = Mark.of(session) or Mark(record.id, 0)
    kept = {name: getattr(record, name) for name in ("data", "persistent", "max_age")}
    token, anew = registry.new_record(record.user, visit.wiring.browser_of(request), **kept)
    anew = dataclasses.replace(anew, created_at=record.created_at)  # its lifetime does not begin anew
    await registry.insert(anew)
    visit.take_token(token, anew, Origin.SIGN_IN)
    visit.deletes_cookie = False
    content = dict(session) | {sessions.MARK_KEY: str(Mark(anew.id, 0, mark.typed_at))}
    await change_session(request, visit, session, content, opened)
    return anew.id
