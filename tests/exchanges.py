"""Signing in and exchanging tokens by the manager alone, without HTTP."""

from __future__ import annotations

from aiohttp_persistent_session import PersistentSession, PersistentSessionManager
from aiohttp_persistent_session.manager import Restoration
from aiohttp_persistent_session.record import Client
from aiohttp_persistent_session.tokens import Token


async def sign_in(manager: PersistentSessionManager, user: str | int = "alice") -> Token:
    token, _ = await manager.remember(user, data=None, client=Client(), replaces=(), request=None)
    return token


async def exchange(manager: PersistentSessionManager, token: Token) -> Restoration:
    return await manager.restore(token, client=Client(), accept=_anybody, request=None)


async def _anybody(_: PersistentSession) -> bool:
    return True
