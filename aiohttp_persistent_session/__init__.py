""" "Keep me signed in" for aiohttp."""

from .backends.base import Backend, BackendError
from .backends.memory import MemoryBackend
from .cookies import CookiePolicy
from .manager import PersistentSessionManager
from .plugin import (
    PERSISTENT_SESSIONS,
    current_persistent_session,
    forget,
    forget_everywhere,
    is_fresh,
    persistent_session_middleware,
    persistent_sessions,
    remember,
    revoke,
    send_persistent_session_cookie,
    setup,
)
from .record import PersistentSession, Record, Spent

__all__ = (
    "PERSISTENT_SESSIONS",
    "Backend",
    "BackendError",
    "CookiePolicy",
    "MemoryBackend",
    "PersistentSession",
    "PersistentSessionManager",
    "Record",
    "Spent",
    "current_persistent_session",
    "forget",
    "forget_everywhere",
    "is_fresh",
    "persistent_session_middleware",
    "persistent_sessions",
    "remember",
    "revoke",
    "send_persistent_session_cookie",
    "setup",
)
