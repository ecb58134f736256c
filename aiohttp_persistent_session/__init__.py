"""Keep me signed in: persistent sessions for aiohttp."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .backends.base import Backend, BackendError, Batch
from .backends.memory import MemoryBackend
from .cookies import CookiePolicy
from .counters import Counters
from .fresh import confirm_login, fresh_required, is_fresh, way_back
from .handlers import (
    current_persistent_session,
    forget,
    forget_everywhere,
    persistent_sessions,
    remember,
    restore_failed,
    revoke,
    update_data,
)
from .manager import PersistentSessionManager
from .record import PersistentSession, Record, Repeat, Secret
from .setup import PERSISTENT_SESSIONS, persistent_session_middleware, send_persistent_session_cookie, setup

if TYPE_CHECKING:
    from .backends.mongo import MongoBackend
    from .backends.redis import RedisBackend
    from .backends.sql import SQLBackend

# fmt: off
__all__ = (  # noqa: RUF022 -- by kind, not one a line
    "setup", "persistent_session_middleware", "send_persistent_session_cookie", "PERSISTENT_SESSIONS", "CookiePolicy",
    "remember", "forget", "forget_everywhere", "persistent_sessions", "current_persistent_session", "revoke",
    "update_data", "is_fresh", "confirm_login", "fresh_required", "way_back", "restore_failed",
    "PersistentSessionManager", "PersistentSession", "Repeat", "Counters",
    "Backend", "BackendError", "Batch", "Record", "Secret",
    "MemoryBackend", "MongoBackend", "RedisBackend", "SQLBackend",
)
# fmt: on

_MODULES_WITH_DRIVERS = {"MongoBackend": "mongo", "RedisBackend": "redis", "SQLBackend": "sql"}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the drivers of the stores that are not used need not be installed.
    if name not in _MODULES_WITH_DRIVERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".backends.{_MODULES_WITH_DRIVERS[name]}", __name__), name)
    except ImportError as error:
        return _stand_in(name, error)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _stand_in(name: str, error: ImportError) -> type:
    """Return a class that says at its first use which extra to install: looking at the package fails nowhere."""

    def refuse(*_: object, **__: object) -> None:
        raise ImportError(str(error)) from error

    return type(name, (), {"__init__": refuse, "__doc__": str(error)})
