"""aiohttp-security over persistent sessions: an identity policy that changes one line of an app."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

try:
    from aiohttp_security import AbstractIdentityPolicy
except ImportError as error:
    raise ImportError(
        'PersistentSessionIdentityPolicy needs aiohttp-security: pip install "aiohttp-persistent-session[security]"'
    ) from error

from . import handlers
from .current import signed_in_user, visit_for
from .record import UserId

__all__ = ("PersistentSessionIdentityPolicy",)


class PersistentSessionIdentityPolicy(AbstractIdentityPolicy):
    """Keeps aiohttp-security's identity in a persistent session, in the place of its ``SessionIdentityPolicy``::

        aiohttp_session.setup(app, storage)
        aiohttp_persistent_session.setup(app, backend)
        aiohttp_security.setup(app, PersistentSessionIdentityPolicy(), authorization_policy)

    ``aiohttp_security.remember`` and ``forget`` then do what :func:`.remember` and :func:`.forget` do. The cookies come
    with whatever response the handler returns or raises, not only with the one that these functions are given.

    Args:
        user_type: str or int: what your users' ids are. aiohttp-security's identities are texts; with int, ``"42"`` is
            the user 42, whose identity is ``"42"`` again. A text that ``str`` would not make of a number is no id.

    Raises:
        TypeError: ``user_type`` is neither.
    """

    def __init__(self, *, user_type: type[str] | type[int] = str) -> None:
        if user_type not in (str, int):
            raise TypeError("user_type must be str or int")
        self._user_type = user_type

    async def identify(self, request: web.Request) -> str | None:
        """Return the signed-in user's id as text, or None for an anonymous request.

        Raises:
            RuntimeError: :func:`.setup` was not called for the request.
            TypeError, ValueError: the app keeps something else than a user's id under ``session_key``.
        """
        user = await signed_in_user(visit_for(request), request)
        return None if user is None else str(user)

    async def remember(self, request: web.Request, response: web.StreamResponse, identity: str, **options: Any) -> None:
        """Sign the identity in, with a new session, and keep this browser signed in; see :func:`.remember`.

        Args:
            response: not used.
            identity: the user's id, as text.
            options: those of :func:`.remember`: ``persistent``, ``data`` and ``max_age``.

        Raises:
            BackendError: the store failed; nobody is remembered. With ``persistent=False`` nothing is raised for that.
            RuntimeError: a response of this request was prepared already, or :func:`.setup` was not called for it;
                nothing is stored.
            TypeError, ValueError: the identity or an option cannot be stored, or with ``user_type=int`` the identity is
                no number; nothing is stored.
        """
        await handlers.remember(request, self._user(identity), **options)

    async def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Sign this browser out: its persistent session ends, and the token with it; see :func:`.forget`.

        Raises:
            BackendError: the store failed; the cookie is deleted and the session emptied all the same.
            RuntimeError: :func:`.setup` was not called for the request.
        """
        await handlers.forget(request)

    def _user(self, identity: str) -> UserId:
        if self._user_type is str:
            return identity
        # int() takes "1_0", " 42" and other alphabets' digits too: the names of other users would be taken for ids.
        if re.fullmatch(r"0|-?[1-9][0-9]*", identity) is None:
            raise ValueError("identity must be a number as str() writes it, as user_type is int")
        return int(identity)
