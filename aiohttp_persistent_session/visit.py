"""One request: what it presents, what that is worth, and what its response is to carry."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import Any, NamedTuple

from aiohttp import hdrs, web
from aiohttp_session import Session

from . import sessions
from .backends.base import BackendError
from .lifecycle import FAILED, Result
from .record import Record, UserId
from .rules import Outcome
from .seen import View
from .sessions import MARK_KEY, NO_RECORD, Mark
from .signals import on_behalf_of
from .tokens import ID_LENGTH, Token
from .wiring import ValidateFailedError, Wiring, is_static


class Origin(Enum):
    """What a new token was issued for."""

    SIGN_IN = "sign-in"
    EXCHANGE = "exchange"
    ROTATION = "rotation"


class NewToken(NamedTuple):
    """A token that one response is to carry."""

    token: Token
    record: Record
    """As it was when the token was issued."""
    origin: Origin


class Visit:
    """One request's dealings with its persistent session. It is kept in the request, so it must not hold it too."""

    id: str | None = None
    """The persistent session that this request belongs to."""
    user: UserId | None = None
    """Its user, as the record has it; None where that is not known."""
    view: View | None = None
    """What is known of the record, where the request is live and its cookie may be renewed."""
    is_plain = False
    """Whether it presents the newest secret and its session, which the worker knows by sight."""
    new_token: NewToken | None = None
    joined = False
    """Whether it joined an exchange, and so gets no token."""
    deletes_cookie = presented_copy = False
    restore_failed = False
    """Whether the request is anonymous because the store, or ``validate``, failed."""
    to_undo: str | None = None
    """The persistent session that ends where the handler dies."""
    session_was_read = False
    """Whether a middleware read the session before it could be restored."""
    is_prepared = False
    """Whether the response's headers are written."""
    session: Session | None = None
    """The session that this visit put into the request."""
    request_number = 0
    """The ``id`` of the request that the middleware was given."""
    session_moved = session_is_saved = False
    """Whether a handler put it into a clone of the request; whether aiohttp-session saves it in the response."""
    fields_after_crash: Sequence[str] = ()
    """Set-Cookie fields of the ordinary session, where aiohttp-session will not write them."""
    _judged: Sequence[Token] = ()
    """The tokens that were judged without a live session."""

    def __init__(self, wiring: Wiring, request: web.Request) -> None:
        self.wiring = wiring
        self.storage = sessions.storage_of(request)
        self.started = wiring.manager.clock()
        self.values = wiring.cookie.read(request.headers.getall(hdrs.COOKIE, ()))
        """The different values of cookies of our name, whatever they spell."""
        if len(self.values) > 1:
            wiring.warn_once(
                "several",
                "a browser sent several cookies named %s: path or domain were changed, or another host of the domain "
                "sets one too (the prefix __Host- in cookie_name prevents that)",
                wiring.cookie.name,
            )

    # Before the handler

    def brings_a_session(self, request: web.Request) -> bool:
        """Tell whether a session may be in its cookies."""
        return any(self.storage.cookie_name in field for field in request.headers.getall(hdrs.COOKIE, ()))

    def is_served(self, session: Session) -> bool:
        """Tell whether the request goes on without a look: nothing is presented, or this worker knows what is."""
        user = session.get(self.wiring.session_key)
        if user is None:
            return not self.values
        text = session.get(MARK_KEY)
        if text is None:
            return True  # a login of its own is none of our business
        view = self.wiring.manager.registry.seen.get(str(text)[:ID_LENGTH])
        if view is None or view.record is None or not view.is_current(self.started):
            return str(text).startswith(f"{NO_RECORD} ")
        presented = (text, *map(hash, self.values))
        if presented != view.known and not self._is_known(session, view, presented):
            return False
        self.is_plain = self._belong_to(view.record, user, view) and presented == view.known
        return True

    def _is_known(self, session: Session, view: View, presented: tuple[str | int, ...]) -> bool:
        mark, policy = Mark.of(session), self.wiring.manager.policy
        digests = [token.digest for token in self.tokens_of(view.id)]
        if mark is None or mark.id != view.id or not view.knows(digests, mark.number, self.started, policy):
            return False
        if len(self.values) == len(digests) == 1 and view.is_unspent(digests[0]):
            view.known = presented
        return True

    async def look(self, request: web.Request, session: Session) -> None:
        """Check a live session, or restore one."""
        user, mark = session.get(self.wiring.session_key), Mark.of(session)
        with on_behalf_of(request):
            if user is None:
                await self._restore(request, session, self._candidates())
            elif mark is not None:
                view = self.wiring.manager.registry.seen.get(mark.id)
                is_known = view is not None and view.record is None and view.is_current(self.started)
                if not is_known and await self._check(request, mark, user):
                    return
                if self.presented_copy:
                    session.invalidate()
                    self.open_session(request, session)
                    return
                ended = sessions.unsaved(self.storage)
                self.open_session(request, ended)
                # A check has judged what it brought of this persistent session.
                await self._restore(request, ended, self._candidates(besides=None if is_known else mark.id))

    async def _check(self, request: web.Request, mark: Mark, user: object) -> bool:
        """Tell whether the session goes on."""
        manager = self.wiring.manager
        result = await manager.lifecycle.check(
            mark.id,
            self.tokens_of(mark.id),
            mark.number,
            self.wiring.browser_of(request),
            may_issue=not is_static(request),
        )
        if result.failed:
            return self._goes_on_unchecked(mark)
        self.presented_copy = result.outcome is Outcome.REUSE
        if result.outcome is not Outcome.LIVE or result.record is None:
            return False
        if self._belong_to(result.record, user, manager.registry.seen.get(mark.id)):
            self.take_token(result.token, result.record, Origin.ROTATION)
        return True

    def _goes_on_unchecked(self, mark: Mark) -> bool:
        """Tell whether a session goes on while the store fails: unless this worker saw that it had ended."""
        view = self.wiring.manager.registry.seen.get(mark.id)
        if view is not None and not view.may_go_on(mark.number, self.started, has_token=bool(self.tokens_of(mark.id))):
            return False
        self.id = mark.id
        return True

    def _belong_to(self, record: Record, user: object, view: View | None) -> bool:
        """Let the request be the record's, unless its session holds another user, whom the app signed in by itself."""
        if record.user != user and str(record.user) != str(user):
            self.wiring.warn_once(
                "another user",
                "a session holds another user under %r than the persistent session that opened it, which stays out of "
                "it: call forget() before a sign-in without remember(), and keep nothing but the user's id there",
                self.wiring.session_key,
            )
            return False
        self.id, self.user = record.id, record.user
        # The cookie of a browser session needs no renewal.
        self.view = view if record.persistent else None
        return True

    async def _restore(self, request: web.Request, session: Session, candidates: list[list[Token]]) -> None:
        if not candidates:
            return
        # Made beforehand, so that nothing that can fail is left to do once the token is spent.
        opened = await self.storage.new_session()
        result = await self._judge(request, candidates)
        self.restore_failed = result.failed
        self.presented_copy = result.outcome is Outcome.REUSE
        if result.record is None or result.outcome not in {Outcome.EXCHANGE, Outcome.JOIN}:
            return
        if self.session_was_read:
            self.wiring.warn_of_early_readers(request)
        record, registry = result.record, self.wiring.manager.registry
        content = dict(session) | self.content(record.user, Mark(record.id, result.session))
        self.take_token(result.token, record, Origin.EXCHANGE)
        if result.outcome is Outcome.JOIN:
            self.joined = True
            self.open_session(request, sessions.unsaved(self.storage, content))
            return
        opened.update(content)
        self.open_session(request, opened)
        await registry.tell(registry.signals.on_restore, record, current=True)

    async def _judge(self, request: web.Request, candidates: list[list[Token]]) -> Result:
        lifecycle = self.wiring.manager.lifecycle
        self._judged = candidates[0]
        try:
            if len(candidates) > 1:
                self._judged = await lifecycle.existing(candidates[:2])
                if not self._judged:
                    return Result(Outcome.UNKNOWN)
            return await lifecycle.restore(
                self._judged,
                self.wiring.browser_of(request),
                None if self.wiring.validate is None else partial(self.wiring.accept, request),
                may_issue=not is_static(request),
            )
        except (BackendError, ValidateFailedError):
            return FAILED

    # What it presents

    def tokens_of(self, id: str) -> list[Token]:
        """Return the tokens of this persistent session that the request brought."""
        return [token for token in map(Token.parse, self.values) if token is not None and token.id == id]

    def _candidates(self, besides: str | None = None) -> list[list[Token]]:
        """Return the tokens that the request brought, those of one selector together."""
        by_id: dict[str, list[Token]] = {}
        for token in map(Token.parse, self.values):
            if token is not None and token.id != besides:
                by_id.setdefault(token.id, []).append(token)
        return list(by_id.values())

    def presented_ids(self) -> list[str]:
        """Return the ids of the persistent sessions that this browser has shown: its session's, and one token's."""
        # A selector is enough to end one: it comes in cookies only, and a wrong secret would end it.
        tokens = self._judged or next(iter(self._candidates()), ())
        return list(dict.fromkeys([*([self.id] if self.id else []), *(token.id for token in tokens[:1])]))

    # For handlers

    def content(self, user: UserId, mark: Mark) -> dict[str, Any]:
        """Return what a session holds of a user who is signed in."""
        return {self.wiring.session_key: user, MARK_KEY: str(mark)}

    def open_session(self, request: web.Request, session: Session) -> None:
        """Let this be the session of the request, also where a handler has a clone of it."""
        sessions.put(request, session)
        self.session = session
        self.session_moved = self.request_number != id(request)

    def finish(self, request: web.Request) -> None:
        """Put back the session that a handler has put into a clone of the request; see also :meth:`check_storage`."""
        if self.session_moved and self.session is not None:
            sessions.put(request, self.session)
        if sessions.storage_of(request) is not self.storage:
            self.check_storage(request)

    def check_storage(self, request: web.Request) -> None:
        """Refuse to go on with two aiohttp-sessions in one request.

        Raises:
            RuntimeError: a sub-application has set up one of its own.
        """
        if sessions.storage_of(request) is not self.storage:
            raise RuntimeError(
                "a sub-application has an aiohttp-session of its own, and would mix it with the outer one: set up "
                "aiohttp_session on the outermost application alone, or aiohttp_persistent_session on that "
                "sub-application too, without any outside it"
            )

    def take_token(self, token: Token | None, record: Record, origin: Origin) -> None:
        """Belong to this record, whose new token the response carries."""
        self.id, self.user = record.id, record.user
        if token is not None:
            self.new_token, self.view = NewToken(token, record, origin), None

    def sign_out(self) -> None:
        """Let the response delete the cookie, and no longer belong to a persistent session."""
        self.id = self.user = self.view = self.new_token = self.to_undo = None
        self.deletes_cookie = True

    async def undo(self, request: web.Request) -> None:
        """Undo the sign-in of a handler that raised; a sign-out stands."""
        if self.is_prepared:
            return  # the token may be under way
        if self.to_undo is not None:
            id, self.to_undo, self.new_token = self.to_undo, None, None
            self.id = self.user = None
            self.open_session(request, sessions.unsaved(self.storage))
            await self.wiring.manager.registry.undo(id)
        if self.deletes_cookie:
            self.fields_after_crash = await sessions.save_after_crash(request)
