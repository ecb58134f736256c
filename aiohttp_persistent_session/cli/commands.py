"""The commands about one user, or one persistent session."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from ..backends.base import BackendError
from ..backends.drivers import readable_ones, user_to_text
from ..manager import LISTED, PersistentSessionManager
from ..options import LONGEST_MAX_AGE
from ..record import Record, readable, same_user
from ..tokens import is_id
from . import views
from .arguments import Arguments
from .faults import FINE, NOT_FOUND, StoreFault, UsageFault
from .stores import Place, opened
from .terminal import Terminal

_ANY_AGE = {"max_age": LONGEST_MAX_AGE, "browser_session_max_age": LONGEST_MAX_AGE}
"""For a manager that ends all that the store holds, whatever options the app has."""

_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""What reading raises of a record that somebody edited, or that a later version wrote; no driver's failure is one."""


async def list_of_user(arguments: Arguments, terminal: Terminal) -> int:
    async with opened(arguments) as place:
        records = await _of_user(place, arguments)
    if len(records) == LISTED:
        terminal.warn(f"only {LISTED} are listed; there may be more")
    expires_at = views.expiry(arguments)
    if terminal.as_json:
        terminal.json([views.values(record, expires_at(record)) for record in records])
    elif records:
        terminal.table(views.HEADINGS, [views.row(record, expires_at(record)) for record in records])
    if records:
        return FINE
    _say_there_is_none(arguments, terminal)
    return NOT_FOUND


async def show(arguments: Arguments, terminal: Terminal) -> int:
    id = _checked_id(arguments)
    async with opened(arguments) as place:
        record = await _get(place, id)
    if record is None:
        terminal.error(f"there is no persistent session {id}")
        return NOT_FOUND
    expires_at = views.expiry(arguments)(record)
    if terminal.as_json:
        terminal.json(views.values(record, expires_at))
    else:
        terminal.pairs(views.pairs(record, expires_at))
    return FINE


async def revoke(arguments: Arguments, terminal: Terminal) -> int:
    id = _checked_id(arguments)
    async with opened(arguments) as place:
        # Without reading it: what cannot be read must be possible to end, too.
        is_ended = await place.bounded(place.backend.delete(id))
    if terminal.as_json:
        terminal.json({"id": id, "ended": int(is_ended)})
    elif is_ended:
        terminal.say(f"ended the persistent session {id}")
    if not is_ended:
        terminal.error(f"there is no persistent session {id}")
    return FINE if is_ended else NOT_FOUND


async def revoke_user(arguments: Arguments, terminal: Terminal) -> int:
    terminal.must_be_asked(yes=arguments.yes)
    user = user_to_text(arguments.user)
    async with opened(arguments) as place:
        found = len(await _of_user(place, arguments))
        if not found:
            _say_there_is_none(arguments, terminal)
        elif found > 1 and not terminal.confirm(
            f"End {'at least ' if found == LISTED else ''}{found} persistent sessions of {user}?", yes=arguments.yes
        ):
            terminal.error("none was ended")
            return NOT_FOUND
        ended = await _end_all(place, arguments) if found else 0
    if terminal.as_json:
        terminal.json({"user": arguments.user, "ended": ended})
    elif ended:
        terminal.say(f"ended {ended} persistent session{'' if ended == 1 else 's'} of {user}")
    return FINE if ended else NOT_FOUND


async def _end_all(place: Place, arguments: Arguments) -> int:
    durations: Any = _ANY_AGE | arguments.durations
    manager = PersistentSessionManager(
        place.backend, timeout=timedelta(seconds=arguments.timeout), require_store=True, max_sessions=None, **durations
    )
    async with manager:
        return await manager.revoke_all(arguments.user)


async def _of_user(place: Place, arguments: Arguments) -> list[Record]:
    """Return the user's records that have not expired, the newest sign-in first."""
    found = await place.bounded(place.backend.of_user(arguments.user, LISTED))
    expires_at, now = views.expiry(arguments), time.time()
    standing = [
        one
        for one in readable_ones(lambda record: record, found)
        if same_user(one.user, arguments.user) and expires_at(one) > now
    ]
    return sorted(standing, key=lambda record: record.created_at, reverse=True)


async def _get(place: Place, id: str) -> Record | None:
    try:
        record = await place.bounded(place.backend.get(id))
        return None if record is None else readable(record)
    except (BackendError, ValueError, TypeError) as error:
        cause = error.__cause__ or error
        if not isinstance(cause, _UNREADABLE):
            raise
        text = f"what is stored of {id} cannot be read ({cause}); revoke ends it all the same"
        raise StoreFault(text) from error


def _checked_id(arguments: Arguments) -> str:
    if not is_id(arguments.id):
        raise UsageFault("ID is no id of a persistent session: these have 22 characters, as list shows them")
    return arguments.id


def _say_there_is_none(arguments: Arguments, terminal: Terminal) -> None:
    user = arguments.user
    hint = ""
    if isinstance(user, str) and user.removeprefix("-").isdecimal():
        hint = f"; that is the text, and the number is i:{user}"
    terminal.error(f"there are no persistent sessions of {user_to_text(user)}{hint}")
