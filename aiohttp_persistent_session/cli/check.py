"""The command that tries a store, and says what is wrong with how it is set up."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, TypeVar

from ..backends.base import BackendError
from ..record import Record, Secret
from ..tokens import Token
from . import findings, tables
from .arguments import Arguments
from .faults import FINE, NOT_FOUND, StoreFault, reason
from .findings import Finding
from .stores import Place
from .terminal import Terminal

T = TypeVar("T")

USER = "aiohttp_persistent_session check"
"""Whose record is written. Nobody signs in by it: its token is kept nowhere."""
_KEPT = 60.0
"""Seconds after which the record expires, should the check be killed before it deletes it."""
_SLOW = 0.25
"""Seconds for one call that are too many: a request makes several, and has 2 s for all of them by default."""
_INDENT = 9


async def check(arguments: Arguments, terminal: Terminal) -> int:
    place = Place(arguments)
    try:
        found = await place.bounded(place.inspector.findings())
        trial = Trial(place)
        found += await _try(place, trial)
    finally:
        await place.close()
    found = [dataclasses.replace(one, text=terminal.hidden(one.text)) for one in found]
    if terminal.as_json:
        terminal.json(_values(place.inspector.name, found, trial.latencies))
    else:
        _print(terminal, place.inspector.name, found)
    return NOT_FOUND if findings.faults(found) else FINE


async def _try(place: Place, trial: Trial) -> list[Finding]:
    try:
        await place.open()
    except StoreFault as error:
        return [Finding("fault", "open", f"the app does not start with this store: {error}")]
    try:
        found = await trial.run()
    except BackendError as error:
        return [Finding("fault", "trial", f"the store failed at {trial.step}: {reason(error)}")]
    return [*found, *await place.bounded(place.inspector.findings_when_open())]


class Trial:
    """An insert, swaps and a deletion of a record that is nobody's, each timed and looked at."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.latencies: dict[str, float] = {}
        """Seconds that each call took."""
        self.step = "the first call"
        self._wrong: list[Finding] = []

    async def run(self) -> list[Finding]:
        """Return what is wrong with what the store does, and how fast it is.

        Raises:
            BackendError: it failed at :attr:`step`.
        """
        record = _record()
        try:
            await self._write(record)
        except BaseException:
            # What is told is what failed first. The record expires in any case.
            with suppress(BackendError):
                await self._place.bounded(self._place.backend.delete(record.id))
            raise
        deleted = await self._timed("delete", self._place.backend.delete(record.id))
        self._expect("delete", deleted is True and await self._timed("get", self._place.backend.get(record.id)) is None)
        return self._wrong or [Finding("ok", "trial", "a record was inserted, swapped and deleted"), self._speed()]

    async def _write(self, record: Record) -> None:
        backend = self._place.backend
        swapped = dataclasses.replace(record, revision=1, address="192.0.2.1", data='{"\\u00fcml\\u00e4ut": 1}')
        late = dataclasses.replace(record, revision=1, address="192.0.2.2")
        await self._timed("insert", backend.insert(record))
        self._expect("insert", await self._timed("get", backend.get(record.id)) == record)
        self._expect("swap", await self._timed("swap", backend.replace(swapped)) is True)
        self._expect("losing-swap", await self._timed("losing swap", backend.replace(late)) is False)
        self._expect("get", await self._timed("get", backend.get(record.id)) == swapped)
        self._expect("list", swapped in await self._timed("list", backend.of_user(USER, 1000)))

    async def _timed(self, step: str, call: Awaitable[T]) -> T:
        self.step, started = step, time.perf_counter()
        answer = await self._place.bounded(call)
        self.latencies[step] = max(self.latencies.get(step, 0.0), time.perf_counter() - started)
        return answer

    def _expect(self, step: str, is_right: bool) -> None:
        if not is_right:
            text = f"{step}: the store did not do what its contract says"
            self._wrong.append(Finding("fault", f"trial-{step}", text, "Do not use it: tokens would be lost."))

    def _speed(self) -> Finding:
        took = ", ".join(f"{step} {seconds * 1000:.1f} ms" for step, seconds in self.latencies.items())
        if max(self.latencies.values()) > _SLOW:
            advice = "Bring app and store nearer, or raise the option timeout."
            return Finding("warning", "latency", f"the store is slow: {took}", advice)
        return Finding("ok", "latency", took)


def _record() -> Record:
    now, token = round(time.time(), 3), Token.generate()
    return Record(
        id=token.id,
        user=USER,
        created_at=now,
        seen_at=now,
        expires_at=round(now + _KEPT, 3),
        secrets=(Secret(token.digest, now),),
    )


def _values(name: str, found: list[Finding], latencies: dict[str, float]) -> dict[str, Any]:
    return {
        "store": name,
        "faults": findings.faults(found),
        "findings": [dataclasses.asdict(one) for one in found],
        "latencies_ms": {step: round(seconds * 1000, 2) for step, seconds in latencies.items()},
    }


def _print(terminal: Terminal, name: str, found: list[Finding]) -> None:
    for one in sorted(found, key=lambda one: ("fault", "warning", "note", "ok").index(one.severity)):
        paragraphs = [terminal.safe(text) for text in (one.text, one.advice) if text]
        terminal.lines(tables.hanging(one.severity, paragraphs, terminal.columns, _INDENT))
    counts = {severity: sum(one.severity == severity for one in found) for severity in ("fault", "warning")}
    words = (f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items())
    terminal.say(f"{name}: {', '.join(words)}")
