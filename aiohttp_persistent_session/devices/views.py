"""What each request of the page does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any

from aiohttp import hdrs, web
from multidict import MultiDictProxy

from ..backends.base import BackendError
from ..fresh import confirm_login, is_fresh
from ..handlers import forget, forget_everywhere, persistent_sessions, restore_failed, revoke
from ..record import PersistentSession
from . import answers
from .answers import END, END_OTHERS, Answers, devices_of
from .options import PageOptions

FORMS = {"application/x-www-form-urlencoded", "multipart/form-data"}
Sessions = Sequence[PersistentSession]
Action = Callable[["Views", web.Request, Answers, Sessions], Awaitable[web.Response]]


def for_the_signed_in(action: Action) -> Callable[[Views, web.Request], Awaitable[web.Response]]:
    """Let a handler run for a signed-in user, and for a form that this page sent; answer all others."""

    @wraps(action)
    async def handler(views: Views, request: web.Request) -> web.Response:
        answer = Answers(request, views.options)
        try:
            if request.method == hdrs.METH_POST:
                form = await form_of(request)
                if form is None:
                    return answer.unreadable()
                if not await views.options.was_sent_by_the_page(request, form):
                    return await answer.refused()
            if restore_failed(request):
                return await answer.unavailable()
            sessions = await persistent_sessions(request)
            # Without a record, a session that was opened by the password is that of a signed-in user all the same.
            if not sessions and not await is_fresh(request):
                return await answer.anonymous()
            return await action(views, request, answer, sessions)
        except BackendError:
            return await answer.unavailable()

    return handler


async def form_of(request: web.Request) -> MultiDictProxy[Any] | None:
    """Return the form that was sent; None where something else was, or where it cannot be read."""
    if request.body_exists and request.content_type not in FORMS:
        return None  # aiohttp would take it for an empty form
    try:
        return await request.post()
    except (ValueError, LookupError):
        return None


class Views:
    """The handlers."""

    def __init__(self, options: PageOptions) -> None:
        self.options = options

    @for_the_signed_in
    async def show(self, request: web.Request, answer: Answers, sessions: Sessions) -> web.Response:
        return await answer.show(sessions, asks=await self._asks(request))

    @for_the_signed_in
    async def end(self, request: web.Request, answer: Answers, sessions: Sessions) -> web.Response:
        """End the one that the form names, if it is the user's own."""
        form = await request.post()
        named = next((one for one in sessions if one.id == form.get("id")), None)
        if named is None:
            return answer.done("already")
        if named.current:
            await forget(request)  # no password: whoever holds a browser may sign it out, as at any logout
            return answer.done("this")
        if await self._asks(request):
            (device,) = await devices_of([named], answer.texts)
            message = answer.texts.ask_for_one.format(device=device.label)
            if not await self._is_confirmed(request, form, named):
                return await answer.ask(END, {"id": named.id}, message, wrong="password" in form)
        return answer.done("one" if await revoke(request, named.id) else "already")

    @for_the_signed_in
    async def end_others(self, request: web.Request, answer: Answers, sessions: Sessions) -> web.Response:
        """End all but this browser's."""
        form = await request.post()
        if all(one.current for one in sessions):
            return answer.done("others")
        if await self._asks(request) and not await self._is_confirmed(request, form, sessions[0]):
            message = answer.texts.ask_for_others
            return await answer.ask(END_OTHERS, {}, message, wrong="password" in form)
        await forget_everywhere(request, keep_current=True)
        return answer.done("others")

    async def back(self, request: web.Request) -> web.Response:
        """Lead to the page whoever reloads or bookmarks the address of a form."""
        return Answers(request, self.options).back()

    async def style(self, request: web.Request) -> web.Response:
        return answers.style(request)

    async def _asks(self, request: web.Request) -> bool:
        return self.options.confirm is not None and not await is_fresh(request, self.options.fresh_within)

    async def _is_confirmed(self, request: web.Request, form: MultiDictProxy[Any], session: PersistentSession) -> bool:
        """Check the password in the form, if there is one; where it is right, the session is fresh from now on."""
        password = form.get("password")
        # An empty one is not passed on: to some directories (LDAP), it is an anonymous bind, which succeeds.
        if self.options.confirm is None or not isinstance(password, str) or not password:
            return False
        if await self.options.confirm(request, session.user, password) is not True:  # nor what was not awaited
            return False
        await confirm_login(request)
        return True
