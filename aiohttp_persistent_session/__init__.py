"""Keep me signed in: persistent sessions for aiohttp."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .backends.mongo import MongoBackend
    from .backends.redis import RedisBackend
    from .backends.sql import SQLBackend

__all__ = (
    "PERSISTENT_SESSIONS",
    "Backend",
    "BackendError",
    "CookiePolicy",
    "MemoryBackend",
    "MongoBackend",
    "PersistentSession",
    "PersistentSessionManager",
    "Record",
    "RedisBackend",
    "SQLBackend",
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

_MODULES_WITH_DRIVERS = {"MongoBackend": "mongo", "RedisBackend": "redis", "SQLBackend": "sql"}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the drivers of the stores that are not used need not be installed.
    if name in _MODULES_WITH_DRIVERS:
        return getattr(import_module(f".backends.{_MODULES_WITH_DRIVERS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
