"""Runs servers for tests: each on a free port of 127.0.0.1, in a folder of its own, ended by its own process id."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

STARTS_WITHIN = 60.0
"""Seconds until a server that has not come up is a failure: for the slowest machine, not a rule's boundary."""


def missing(message: str) -> None:
    """Fail under CI, where everything must run; skip elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def program(*names: str) -> str:
    """Return the path of the first of these programs that is installed; see :func:`missing` for where none is."""
    for name in names:
        if path := shutil.which(name):
            return path
    missing(f"none of {', '.join(names)} is installed: tests/servers/install.sh installs them on Debian")
    raise AssertionError


def _ports_of_this_process() -> Iterator[int]:
    # Below those that systems give away (RFC 6335: from 49152; Linux: from 32768), also with 10000 added, as Redis
    # Cluster does; and apart from those of other test processes.
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 8
    ports = range(11000 + 1000 * number, 12000 + 1000 * number)
    return itertools.islice(itertools.cycle(ports), os.getpid() % 1000, None)


_PORTS = _ports_of_this_process()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now, and that nobody is given who asks for any."""
    for port in _PORTS:
        with socket.socket() as listening, contextlib.suppress(OSError):
            listening.bind(("127.0.0.1", port))
            return port
    raise AssertionError


def wait_until_stopped(pid: int) -> None:
    """Wait until no thread of the process runs: on another core one may go on for a moment."""
    deadline = time.monotonic() + STARTS_WITHIN
    while any(
        stat.read_text().rpartition(")")[2].split()[0] not in "TtZ" for stat in Path(f"/proc/{pid}/task").glob("*/stat")
    ):
        assert time.monotonic() < deadline, f"the process {pid} did not stop"
        time.sleep(0.001)


class Server:
    """One server process. It can be killed, started again in its folder, stopped and continued."""

    def __init__(
        self, arguments: Sequence[str], folder: Path, is_ready: Callable[[], bool], *, user: str | None = None
    ) -> None:
        self.arguments = list(arguments)
        self.folder = folder
        self.is_ready = is_ready
        self.user = user if os.geteuid() == 0 else None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        log = self.folder / "server.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.arguments,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        deadline = time.monotonic() + STARTS_WITHIN
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{self.arguments[0]} did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.is_ready()
        except Exception:
            return False

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal, and nobody else; wait until one that stops it has stopped all its threads."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            if number == signal.SIGSTOP:
                wait_until_stopped(self.process.pid)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)

    def stop(self) -> None:
        """End it in order; kill it where that takes too long."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if self.process is not None:
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
