"""For tests: of an application, with :class:`Browser`, and of a store, with :class:`BackendContract`.

Nothing here needs pytest but ``BackendContract``. docs/testing.md shows how an application's tests use it.
"""

from typing import TYPE_CHECKING, Any

from ..backends.contract import make_record, make_secrets
from .browser import Browser
from .clock import Clock
from .jar import BrowserJar
from .recorder import SentSignal, SignalRecorder

if TYPE_CHECKING:
    from .contract import BackendContract

__all__ = (
    "BackendContract",
    "Browser",
    "BrowserJar",
    "Clock",
    "SentSignal",
    "SignalRecorder",
    "make_record",
    "make_secrets",
)


def __getattr__(name: str) -> Any:
    if name != "BackendContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # It imports pytest, which the tests of an application need not be written with.
    from .contract import BackendContract  # noqa: PLC0415 -- see above

    return BackendContract


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
