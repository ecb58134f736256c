"""Signing in and presenting tokens to a manager alone, without HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp_persistent_session import Backend, PersistentSessionManager
from aiohttp_persistent_session.lifecycle import Result
from aiohttp_persistent_session.record import Browser, Record
from aiohttp_persistent_session.tokens import Token

SOMEBODY = Browser("Test/1.0", "192.0.2.1")


async def the_record(backend: Backend, user: str = "alice") -> Record:
    """Return the only one of a user."""
    (record,) = await backend.of_user(user, 10)
    return record


async def sign_in(manager: PersistentSessionManager, user: str | int = "alice", *, persistent: bool = True) -> Token:
    token, record = manager.registry.new_record(user, SOMEBODY, persistent=persistent)
    await manager.registry.begin(record, replaces=())
    return token


async def restore(manager: PersistentSessionManager, token: Token) -> Result:
    """Present a token without a live session."""
    return await manager.lifecycle.restore([token], SOMEBODY)


async def check(manager: PersistentSessionManager, token: Token, session: int, *, shown: bool = True) -> Result:
    """Let a live session's record be read, with its token or without."""
    tokens: Sequence[Token] = [token] if shown else ()
    return await manager.lifecycle.check(token.id, tokens, session, SOMEBODY)
