"""What a command writes and asks: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from . import tables
from .faults import UsageFault, hide

_DRAWN_EVERY = 0.1
_BAR = 24
_CLEAR = "\r\x1b[K"


class Terminal:
    """The streams of one command.

    Args:
        as_json: whether results are for programs.
        url: of the store, whose password is never written.
    """

    def __init__(self, *, as_json: bool = False, url: str = "") -> None:
        self.as_json = as_json
        self._url = url
        self._out, self._err = sys.stdout, sys.stderr

    # Results

    def json(self, value: Any) -> None:
        """Write a value for programs: in ASCII, so that no terminal obeys what is in it."""
        print(json.dumps(value, indent=2), file=self._out)

    def lines(self, lines: Iterator[str]) -> None:
        for line in lines:
            print(line, file=self._out)

    def say(self, text: str) -> None:
        """Write a line of one's own about what was done."""
        print(self.safe(text), file=self._out)

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.lines(tables.table(headings, [[self.safe(cell) for cell in row] for row in rows], self.columns))

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.lines(tables.pairs([(name, self.safe(value)) for name, value in pairs], self.columns))

    def safe(self, text: str) -> str:
        """Return what may be written to stdout of a text that somebody else wrote."""
        return tables.printable(text, self._out.encoding or "utf-8")

    @property
    def columns(self) -> int | None:
        """How wide stdout is; None where it is no terminal."""
        return columns_of(self._out) if self._out.isatty() else None

    def flush(self) -> None:
        """Write what is left to be written, while a failure can still be told."""
        self._out.flush()

    # Besides

    @property
    def shows_progress(self) -> bool:
        return self._err.isatty()

    def warn(self, text: str) -> None:
        self._besides(f"warning: {text}")

    def advise(self, text: str) -> None:
        """Warn in words of this program's own, in which a short password would be read off the gaps."""
        print(f"warning: {text}", file=self._err)

    def error(self, text: str) -> None:
        self._besides(f"error: {text}")

    def _besides(self, text: str) -> None:
        line = hide(" ".join(text.split()), self._url)
        print(tables.printable(line, self._err.encoding or "utf-8"), file=self._err)

    def hidden(self, text: str) -> str:
        """Return ``text`` without passwords."""
        return hide(text, self._url)

    @contextmanager
    def logs(self) -> Iterator[None]:
        """Show this library's warnings as such, and no other log: an outage is told by the error that it causes."""
        handler = _Warnings(self.warn)
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Give a function that is called with how many more are done; they are shown where stderr is a terminal."""
        bar = _Progress(self._err, what, total)
        try:
            yield bar.advance
        finally:
            bar.clear()

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask before something that cannot be undone; True at once where ``yes`` was said already."""
        if yes:
            return True
        asked = f"{tables.printable(question, self._err.encoding or 'utf-8')} [y/N] "
        with _interruptible():
            print(asked, end="", file=self._err, flush=True)
            answer = sys.stdin.readline()
        if not answer:
            print(file=self._err)
        return answer.strip().lower() in {"y", "yes"}

    def must_be_asked(self, *, yes: bool) -> None:
        """Refuse where a question would have to be asked and nobody is there.

        Raises:
            UsageFault: nobody is there.
        """
        if not yes and not (sys.stdin is not None and sys.stdin.isatty()):
            raise UsageFault("nobody can be asked whether to end more than one, as stdin is no terminal: pass --yes")


@contextmanager
def _interruptible() -> Iterator[None]:
    # asyncio has Ctrl-C cancel the task, which does not wake a thread that reads.
    try:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
    except ValueError:  # this is not the main thread, which signals reach
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def columns_of(stream: TextIO) -> int:
    """Return how wide the terminal is, by COLUMNS or by itself, or 80."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


class _Warnings(logging.Handler):
    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "aiohttp_persistent_session" and not record.exc_info:
            self._warn(record.getMessage())


class _Progress:
    def __init__(self, stream: TextIO, what: str, total: int | None) -> None:
        self._stream = stream
        self._what = what
        self._total = total
        self._is_shown = stream.isatty()
        self._done = 0
        self._drawn_at = 0.0

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._is_shown and now - self._drawn_at >= _DRAWN_EVERY:
            self._drawn_at = now
            # The last column is left free: some terminals wrap as it is written.
            text = tables.fit(self._text(), columns_of(self._stream) - 1)
            print(f"{_CLEAR}{text}", end="", file=self._stream, flush=True)

    def _text(self) -> str:
        if not self._total:
            return f"{self._done:,} {self._what}"
        # The total is an estimate.
        share = min(self._done / self._total, 1.0)
        bar = "#" * round(share * _BAR)
        return f"[{bar:.<{_BAR}}] {share:4.0%}  {self._done:,} of about {self._total:,} {self._what}"

    def clear(self) -> None:
        if self._is_shown and self._drawn_at:
            print(_CLEAR, end="", file=self._stream, flush=True)
