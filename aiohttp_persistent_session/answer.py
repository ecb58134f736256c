"""What a response does with the cookie: one decision, and its header."""

from __future__ import annotations

import logging
from enum import Enum

from aiohttp import hdrs, web

from . import rules, sessions
from .caching import is_meant_for_shared_caches
from .cookies import is_set, leave_out
from .policy import RENEWED_AFTER_LOOK, RENEWED_WITHIN, SENT_WITHIN, cookie_max_age
from .rules import Outcome
from .seen import View
from .visit import NewToken, Origin, Visit
from .wiring import is_static

logger: logging.Logger = logging.getLogger("aiohttp_persistent_session")


class Action(Enum):
    """What a response does with the cookie."""

    KEEP = "keep"
    RENEW = "renew"
    SET = "set"
    DELETE = "delete"


def answer_plainly(visit: Visit, request: web.Request, response: web.StreamResponse, now: float) -> bool:
    """Renew the cookie, or leave it, where nothing is to be found out: the way of most responses. Tell whether so."""
    view = visit.view
    if (
        view is None
        or not visit.is_plain
        or view is not visit.wiring.manager.registry.seen.get(view.id)
        or not 0 <= now - visit.started <= RENEWED_WITHIN
    ):
        return False
    if now - view.looked_at <= RENEWED_AFTER_LOOK and not is_static(request):
        _renew(visit, view, response, now)
    return True


def _renew(visit: Visit, view: View, response: web.StreamResponse, now: float) -> None:
    """Send again what the request presented, with a new expiry."""
    max_age = cookie_max_age(view.max_age, view.ends_at, now)
    visit.wiring.cookie.renew(visit.values[0], max_age, response.headers)


async def answer(visit: Visit, request: web.Request, response: web.StreamResponse) -> None:
    """Decide on one action, and do it."""
    if not is_set(visit.storage.cookie_name, response.headers):
        response.headers.extend((hdrs.SET_COOKIE, field) for field in visit.fields_after_crash)
    action = await _decide(visit, request, response)
    cookie = visit.wiring.cookie
    if action is Action.RENEW and visit.view is not None:
        _renew(visit, visit.view, response, visit.wiring.manager.clock())
    if action not in {Action.SET, Action.DELETE}:
        return
    if is_meant_for_shared_caches(response.headers):
        logger.warning(
            "the response to %s %s is marked for shared caches but sets the cookie %s: it is made private",
            request.method,
            request.rel_url.raw_path,
            cookie.name,
        )
    cookie.put(cookie.deletion if visit.new_token is None else _field(visit, visit.new_token), response.headers)
    visit.wiring.warn_of_plain_http(request)
    visit.wiring.warn_of_inner_handlers(request)
    _warn_where_session_is_lost(visit, response)


async def _decide(visit: Visit, request: web.Request, response: web.StreamResponse) -> Action:
    if visit.deletes_cookie:
        return Action.DELETE
    if visit.new_token is not None:
        return await _decide_on(visit, visit.new_token, response)
    if visit.presented_copy:
        if _is_quick(visit):
            return Action.DELETE
        # It is useless, as the record is gone. A slow answer might hit the cookies of a sign-in meanwhile.
        if sessions.is_emptied(request):
            leave_out(visit.storage.cookie_name, response.headers)
        return Action.KEEP
    if visit.view is not None and not is_static(request) and await _renews(visit, visit.view.id):
        return Action.RENEW
    return Action.KEEP


async def _decide_on(visit: Visit, new: NewToken, response: web.StreamResponse) -> Action:
    """Decide whether a new token may be sent; leave out the session with it where that would be of no use."""
    manager = visit.wiring.manager
    view, issued = manager.registry.seen.get(new.token.id), rules.find(new.record, new.token.digest)
    now = manager.registry.now()
    outcome: Outcome | None = Outcome.LIVE
    if view is not None and view.record is None:
        outcome = Outcome.UNKNOWN
    elif issued is None or not 0 <= now - issued.issued_at <= SENT_WITHIN:
        outcome = await manager.lifecycle.stamp(new.token)
    if outcome is Outcome.LIVE or (outcome is None and new.origin is Origin.SIGN_IN):
        return Action.SET
    visit.new_token = None
    if new.origin is not Origin.ROTATION:
        leave_out(visit.storage.cookie_name, response.headers)
    return Action.KEEP


async def _renews(visit: Visit, id: str) -> bool:
    """Tell whether the request's token is still the one that live requests are sent again."""
    manager, is_slow = visit.wiring.manager, not _is_quick(visit)
    if is_slow and not await manager.lifecycle.read(id):
        return False
    view = manager.registry.seen.get(id)
    for token in visit.tokens_of(id):
        if view is not None and view.renews(token.digest, manager.registry.now(), is_slow=is_slow):
            visit.view, visit.values = view, [token.cookie_value]
            return True
    return False


def _is_quick(visit: Visit) -> bool:
    """Tell whether the browser can hold no newer token by now, which another worker gave it."""
    return 0 <= visit.wiring.manager.clock() - visit.started <= RENEWED_WITHIN


def _field(visit: Visit, new: NewToken) -> str:
    manager = visit.wiring.manager
    max_age = manager.policy.cookie_max_age(new.record, manager.clock())
    return visit.wiring.cookie.setting(new.token.cookie_value, max_age if new.record.persistent else None)


def _warn_where_session_is_lost(visit: Visit, response: web.StreamResponse) -> None:
    if visit.session is not None and visit.session_is_saved and not is_set(visit.storage.cookie_name, response.headers):
        visit.wiring.warn_once(
            "lost session",
            "aiohttp-session did not save the session that was opened with the token: a middleware between its own and "
            "aiohttp_persistent_session's passes on request.clone(); put it before aiohttp_session.setup()",
        )
