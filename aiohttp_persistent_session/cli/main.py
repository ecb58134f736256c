"""``python -m aiohttp_persistent_session``, and the program ``aiohttp-persistent-session``."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from ..backends.base import BackendError
from .arguments import Arguments, parse, warning_of
from .check import check
from .commands import list_of_user, revoke, revoke_user, show
from .faults import FAILED, INTERRUPTED, NOBODY_READS, USAGE, StoreFault, UsageFault
from .stores import told
from .terminal import Terminal
from .walks import count, purge

_COMMANDS: dict[str, Callable[[Arguments, Terminal], Awaitable[int]]] = {
    "list": list_of_user,
    "show": show,
    "revoke": revoke,
    "revoke-user": revoke_user,
    "count": count,
    "purge": purge,
    "check": check,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says, and return the exit code.

    Args:
        argv: its words; by default this process's.
    """
    terminal = Terminal()
    try:
        arguments = parse(argv)
        terminal = Terminal(as_json=arguments.as_json, url=arguments.url)
        if warning := warning_of(arguments):
            terminal.advise(warning)
        with terminal.logs():
            code = asyncio.run(_run(arguments, terminal))
        terminal.flush()
    except UsageFault as error:
        terminal.error(str(error))
        return USAGE
    except (StoreFault, BackendError) as error:
        terminal.error(told(error))
        return FAILED
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        _forget_stdout()
        return NOBODY_READS
    return code


async def _run(arguments: Arguments, terminal: Terminal) -> int:
    return await _COMMANDS[arguments.command](arguments, terminal)


def _forget_stdout() -> None:
    # Otherwise Python complains as it flushes stdout at its end.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
