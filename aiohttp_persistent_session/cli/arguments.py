"""What a command line says."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NoReturn, cast

from .. import options
from ..options import Durations
from ..policy import Policy
from ..record import UserId
from ..tokens import is_id
from .faults import UsageFault, hide, passwords

PROGRAM = "aiohttp-persistent-session"

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATIONS = ("max_age", "max_lifetime", "browser_session_max_age", "check_interval")
_EPILOG = """exit codes: 0 fine; 1 not found, not confirmed, or the check found faults; 2 wrong usage;
3 the store failed. All of it is described in docs/command-line.md."""
_BACKEND = (
    "the URL of the store: redis://, rediss://, unix://, mongodb://, mongodb+srv://, sqlite:/// or postgresql://; or "
    "env:NAME, for a URL in the environment variable NAME, where no list of processes shows its password"
)


@dataclass(frozen=True)
class Arguments:
    """What is to be done, checked."""

    command: str
    url: str = field(repr=False)
    is_url_shown: bool
    """Whether other users of this machine could read a password in it."""
    as_json: bool
    yes: bool
    timeout: float
    user: UserId
    """For ``list`` and ``revoke-user``."""
    id: str
    """For ``show`` and ``revoke``."""
    durations: Durations
    """Those that were given."""
    store_options: dict[str, Any]
    """Those that were given: ``prefix``, ``cluster``, ``table``, ``database``, ``collection``."""

    @property
    def policy(self) -> Policy | None:
        """What expiry is to be shown by; None: by what the app wrote with each record."""
        return options.policy(self.durations) if self.durations else None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageFault(f"{hide(message)} (see {PROGRAM} --help)")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        # Looked up only where it is asked for: all else works without the package's metadata, too.
        print(PROGRAM, version(PROGRAM))  # noqa: T201 -- as --help does
        parser.exit()


def parse(argv: Sequence[str] | None) -> Arguments:
    """Return what ``argv`` (by default this process's) says.

    Raises:
        UsageFault: it says nothing that can be done.
        SystemExit: it asked for help, or for the version, which was printed.
    """
    # One id in 64 begins with a "-"; behind a space argparse takes it for no option.
    words = [f" {word}" if is_id(word) else word for word in (sys.argv[1:] if argv is None else argv)]
    given = vars(_parser().parse_args(words))
    shown, url = given.get("backend", ""), _url(given.get("backend", ""))
    durations: dict[str, Any] = {name: given[name] for name in _DURATIONS if name in given}
    names = ("prefix", "cluster", "table", "database", "collection")
    try:
        options.policy(cast("Durations", durations))
        timeout = options.call_timeout(given.get("timeout", 5.0))
    except ValueError as error:
        raise UsageFault(str(error)) from None
    return Arguments(
        command=given["command"],
        url=url,
        is_url_shown=shown == url,
        as_json=given.get("json", False),
        yes=given.get("yes", False),
        timeout=timeout,
        user=_user(given["user"], is_int=given["int"]) if "user" in given else "",
        id=given.get("id", "").strip(),
        durations=cast("Durations", durations),
        store_options={name: given[name] for name in names if name in given},
    )


def warning_of(arguments: Arguments) -> str | None:
    """Return what is to be said of a password that others can see, or None."""
    if not arguments.is_url_shown or not passwords(arguments.url):
        return None
    return (
        "other users of this machine can see the password in --backend: put the URL into an environment variable, and "
        "pass --backend env:NAME"
    )


def _parser() -> _Parser:
    common = _common_options()
    parser = _Parser(
        prog=PROGRAM,
        description="Lists and ends persistent sessions, and checks their store.",
        epilog=_EPILOG,
        parents=[common],
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    def command(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, parents=[common], allow_abbrev=False)

    for name, help in (
        ("list", "list a user's persistent sessions, the newest sign-in first"),
        ("revoke-user", "end all persistent sessions of a user"),
    ):
        of_user = command(name, help)
        of_user.add_argument(
            "user", metavar="USER", help='the user\'s id: a text; 42 is the text "42", i:42 the number'
        )
        of_user.add_argument("--int", action="store_true", help="USER is a number")
    for name, help in (
        ("show", "show one persistent session, also one that has expired"),
        ("revoke", "end one persistent session, also one that cannot be read"),
    ):
        command(name, help).add_argument("id", metavar="ID", help="its id: 22 characters, as list shows it")
    command("count", "count persistent sessions and users: walks through all of the store")
    command("purge", "delete what expired a day ago, where the store does not do so by itself")
    command("check", "write and delete a record of its own, and say what is wrong with how the store is set up")
    return parser


def _common_options() -> _Parser:
    # Each may come before the command or after it. A default would overwrite what came before.
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--backend", metavar="URL", help=_BACKEND)
    common.add_argument("--json", action="store_true", help="write JSON, for programs")
    common.add_argument("--yes", action="store_true", help="ask no question before more than one is ended")
    common.add_argument("--timeout", type=_duration, metavar="DURATION", help="how long one call may take (5s)")
    common.add_argument("--version", action=_Version, nargs=0, help="print the version, and do nothing")
    redis = common.add_argument_group("with Redis")
    redis.add_argument("--prefix", help="of all keys, as passed to RedisBackend")
    redis.add_argument("--cluster", action="store_true", help="the URL names one node of a cluster")
    sql = common.add_argument_group("with SQLite and PostgreSQL")
    sql.add_argument("--table", help="the table's name, as passed to SQLBackend")
    mongo = common.add_argument_group("with MongoDB")
    mongo.add_argument("--database", help="as passed to MongoBackend, where the URL names none")
    mongo.add_argument("--collection", help="as passed to MongoBackend")
    expiry = common.add_argument_group(
        "expiry",
        "Without these, a persistent session expires when the app wrote that it would, at its last visit. Pass the "
        "app's options where they were changed since. A duration is a number of seconds, or 12h, 30d, 4w.",
    )
    expiry.add_argument("--max-age", type=_duration, metavar="DURATION")
    expiry.add_argument("--max-lifetime", type=_duration_or_none, metavar="DURATION")
    expiry.add_argument("--browser-session-max-age", type=_duration, metavar="DURATION")
    expiry.add_argument("--check-interval", type=_duration, metavar="DURATION")
    return common


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw]?)", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError("it is no duration: pass a number of seconds, or 12h, 30d, 4w")
    return float(match[1]) * _UNITS[match[2]]


def _duration_or_none(text: str) -> float | None:
    return None if text == "none" else _duration(text)


def _url(backend: str) -> str:
    if not backend:
        raise UsageFault("pass --backend URL, or --backend env:NAME for a URL in an environment variable")
    if not backend.startswith("env:"):
        return backend
    name = backend.removeprefix("env:")
    if not (url := os.environ.get(name, "").strip()):
        raise UsageFault(f"the environment variable {name!r} of --backend env:{name} is not set")
    return url


def _user(text: str, *, is_int: bool) -> UserId:
    kind, value = (text[:1], text[2:]) if text.startswith(("s:", "i:")) else ("i" if is_int else "s", text)
    if is_int and kind == "s":
        raise UsageFault("--int says that USER is a number, and s: that it is a text")
    if kind == "i" and not re.fullmatch(r"-?[0-9]{1,3000}", value):
        raise UsageFault("USER is no number: it is to be digits, with a minus sign where it is negative")
    try:
        return options.user_id(int(value) if kind == "i" else value)
    except ValueError as error:
        raise UsageFault(str(error)) from None
