"""The command line over each store, as tables and as JSON; what it refuses, and what it never shows."""

# ruff: noqa: F401, F811 -- fixtures are imported, and named again as parameters

from __future__ import annotations

import asyncio
import io
import logging
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import sqlalchemy as sa
from pymongo import MongoClient
from redis.asyncio.cluster import RedisCluster

from aiohttp_persistent_session import Backend
from aiohttp_persistent_session.backends.redis import RedisBackend
from aiohttp_persistent_session.backends.sql import SQLBackend
from aiohttp_persistent_session.cli import views, walks
from aiohttp_persistent_session.cli.arguments import parse
from aiohttp_persistent_session.cli.faults import UsageFault, hide, passwords
from aiohttp_persistent_session.cli.tables import width
from aiohttp_persistent_session.record import VERSION, Record
from aiohttp_persistent_session.testing import make_record, make_secrets

from .cli_places import (
    CHROME,
    Command,
    Place,
    command,
    make_place,
    mongodb_url,
    place,
    postgresql_url,
    redis_url,
    sqlite,
)
from .servers.redis import ClusterSetup, redis_cluster

KILLS_SERVERS = True  # none is there, or it hangs, which leaves drivers with sockets all the same

DAY = 86400.0
PASSWORD = "ge-heim+42"


def seen(days_ago: float, **changes: Any) -> Record:
    """A record that was last seen so long ago, and expires 30 days after that."""
    at = round(time.time() - days_ago * DAY, 3)
    return make_record(created_at=at, seen_at=at, expires_at=round(at + 30 * DAY, 3), **changes)


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Tty:
    """Somebody sits at stdin; what they type is what the test writes into it."""
    typed = Tty()
    monkeypatch.setattr(sys, "stdin", typed)
    return typed


# list


def test_a_users_sessions_are_listed_the_newest_first(place: Place, command: Command) -> None:
    old = seen(3, user="alice", user_agent=CHROME, address="203.0.113.7")
    new = seen(1, user="alice", user_agent="Zoë's browser 日本", persistent=False)
    place.insert(old, new, seen(0, user="bob"))
    told = command(*place.argv("list", "alice"))
    assert (told.code, told.err) == (0, "")
    heading, *lines = told.out.splitlines()
    assert heading.split() == [
        "ID",
        "SIGNED",
        "IN",
        "(UTC)",
        "SEEN",
        "(UTC)",
        "EXPIRES",
        "(UTC)",
        "KEPT",
        "ADDRESS",
        "BROWSER",
    ]
    assert [line.split()[0] for line in lines] == [new.id, old.id]
    assert "Zoë's browser 日本" in lines[0]
    assert lines[1].endswith(f"yes   203.0.113.7  {CHROME}")
    told = command(*place.argv("list", "alice", "--json"))
    assert (told.code, told.err) == (0, "")
    assert [one["id"] for one in told.json] == [new.id, old.id]
    assert told.json[1] | {"valid_tokens": 0} == {
        "id": old.id,
        "user": "alice",
        "created_at": told.json[1]["created_at"],
        "seen_at": told.json[1]["seen_at"],
        "expires_at": told.json[1]["expires_at"],
        "expired": False,
        "persistent": True,
        "max_age": None,
        "address": "203.0.113.7",
        "user_agent": CHROME,
        "data": {},
        "valid_tokens": 0,
        "repeats": 0,
        "sessions": 1,
        "writes": 0,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", told.json[1]["seen_at"])


def test_a_number_and_its_digits_are_different_users(place: Place, command: Command) -> None:
    number, text = make_record(user=42), make_record(user="42")
    place.insert(number, text)
    for words, record in (
        (("42",), text),
        (("s:42",), text),
        (("i:42",), number),
        (("--int", "42"), number),
        (("--int", "i:42"), number),
    ):
        told = command(*place.argv("list", *words, "--json"))
        assert [(one["id"], one["user"]) for one in told.json] == [(record.id, record.user)]


def test_a_user_without_sessions_is_not_found(place: Place, command: Command) -> None:
    told = command(*place.argv("list", "7"))
    assert (told.code, told.out) == (1, "")
    assert told.err == "error: there are no persistent sessions of s:7; that is the text, and the number is i:7\n"
    told = command(*place.argv("list", "nobody", "--json"))
    assert (told.code, told.json) == (1, [])
    assert told.err == "error: there are no persistent sessions of s:nobody\n"


def test_expiry_is_what_the_app_wrote_unless_options_are_given(sqlite: Place, command: Command) -> None:
    record = replace(seen(3, user="alice"), expires_at=round(time.time() + 100 * DAY, 3))
    browser = seen(3, user="alice", persistent=False)
    over = replace(seen(3, user="alice"), expires_at=round(time.time() - 1, 3))
    sqlite.insert(record, browser, over)

    def listed(*options: str) -> dict[str, float]:
        told = command(*sqlite.argv("list", "alice", "--json", *options))
        return {one["id"]: _days_from_now(one["expires_at"]) for one in told.json}

    assert listed() == {record.id: pytest.approx(100, abs=0.01), browser.id: pytest.approx(27, abs=0.01)}
    # The default of browser sessions is a day: it is over by today's options.
    assert listed("--max-age", "10d") == {id: pytest.approx(7, abs=0.01) for id in (record.id, over.id)}
    assert listed("--max-age", "2d") == {}
    assert listed("--max-age", "2d", "--browser-session-max-age", "96h") == {browser.id: pytest.approx(1, abs=0.01)}
    assert listed("--max-lifetime", "4d") == {id: pytest.approx(1, abs=0.01) for id in (record.id, over.id)}
    assert len(listed("--max-lifetime", "none", "--check-interval", "1h")) == 2


def _days_from_now(text: str) -> float:
    return (datetime.fromisoformat(text) - datetime.now(UTC)).total_seconds() / DAY


# show and revoke


def test_one_session_is_shown_with_all_but_its_digests(place: Place, command: Command) -> None:
    (reported, *rest) = make_secrets(3, time.time())
    record = seen(
        1,
        user=7,
        address="2001:db8::1",
        data='{"device": "phone"}',
        secrets=(replace(reported, reported=True), *(replace(one, reported=False) for one in rest)),
        last_session=4,
        max_age=7 * DAY,
    )
    place.insert(record)
    told = command(*place.argv("show", record.id))
    assert (told.code, told.err) == (0, "")
    shown = {line[:14].strip(): line[14:] for line in told.out.splitlines()}
    assert shown["id"] == record.id
    assert shown["user"] == "i:7"
    assert shown["kept"] == "until it expires"
    assert shown["address"] == "2001:db8::1"
    assert shown["data"] == '{"device": "phone"}'
    assert shown["repeats"] == "1"
    assert shown["lifetime"] == "7 days"
    assert re.search(r"UTC \(in \d\d days\)$", shown["expires"])
    told = command(*place.argv("--json", "show", record.id))
    assert told.json["data"] == {"device": "phone"}
    assert (told.json["valid_tokens"], told.json["repeats"], told.json["sessions"]) == (3, 1, 5)
    assert "digest" not in told.out


def test_an_expired_session_is_shown_as_such(sqlite: Place, command: Command) -> None:
    record = seen(40, user="alice")
    sqlite.insert(record)
    assert "expired 10 days ago" in command(*sqlite.argv("show", record.id)).out
    assert command(*sqlite.argv("show", record.id, "--json")).json["expired"] is True


def test_one_session_is_ended(place: Place, command: Command) -> None:
    gone, other, third = make_record(), make_record(), make_record()
    place.insert(gone, other, third)
    told = command(*place.argv("revoke", gone.id))
    assert (told.code, told.out, told.err) == (0, f"ended the persistent session {gone.id}\n", "")
    told = command(*place.argv("revoke", third.id, "--json"))
    assert (told.code, told.json) == (0, {"id": third.id, "ended": 1})
    assert place.get(gone.id) is None
    assert place.get(other.id) == other
    for words in (("revoke", gone.id), ("show", gone.id)):
        told = command(*place.argv(*words))
        assert (told.code, told.out, told.err) == (1, "", f"error: there is no persistent session {gone.id}\n")


def test_what_cannot_be_read_is_told_and_can_be_ended(place: Place, command: Command) -> None:
    later = make_record(user="alice", version=VERSION + 1)
    edited = make_record(user="alice")
    place.insert(later, edited, make_record(user="alice"))
    _edit(place, edited.id)
    for record in (later, edited):
        told = command(*place.argv("show", record.id))
        assert (told.code, told.out) == (3, "")
        assert told.err.startswith(f"error: what is stored of {record.id} cannot be read (")
        assert told.err.count("\n") == 1
    told = command(*place.argv("list", "alice", "--json"))
    assert (told.code, len(told.json)) == (0, 1)
    assert told.err.startswith("warning: what is stored of 2 persistent sessions cannot be read: ")
    told = command(*place.argv("count"))
    assert (told.code, told.err) == (
        0,
        f"warning: what is stored of {', '.join(sorted((later.id, edited.id)))} cannot be read\n",
    )
    assert command(*place.argv("count", "--json")).json["unreadable_ids"] == sorted((later.id, edited.id))
    for record in (later, edited):
        assert command(*place.argv("revoke", record.id)).code == 0
    assert command(*place.argv("count", "--json")).json["unreadable"] == 0


def _edit(place: Place, id: str) -> None:
    """Do what somebody with a client of the store's might do to a record."""
    if place.kind == "redis":
        with redis_py.Redis.from_url(place.url) as client:
            client.set(f"{place.store.prefix}{id}", "{}")
    elif place.kind == "mongodb":
        with MongoClient[dict[str, Any]](place.url) as client:
            client[place.store.database].persistent_sessions.update_one({"_id": id}, {"$unset": {"secrets": 1}})
    else:

        async def work(backend: Any) -> None:
            async with backend._engine.connect() as connection:
                statement = "UPDATE persistent_sessions SET secrets = '[[]]' WHERE id = :id"
                await connection.execute(sa.text(statement), {"id": id})

        place.use(work)


def test_an_id_may_begin_with_a_dash(sqlite: Place, command: Command) -> None:
    records = [make_record(id=id) for id in ("-" * 22, "--json" + "x" * 16, "-h" + "x" * 20)]
    sqlite.insert(*records)
    for record in records:
        assert command(*sqlite.argv("show", record.id, "--json")).json["id"] == record.id
        assert command(*sqlite.argv("revoke", record.id)).code == 0


# revoke-user


def test_all_of_a_users_sessions_are_ended(place: Place, command: Command) -> None:
    records = [make_record(user="alice") for _ in range(3)]
    other = make_record(user="bob")
    place.insert(*records, other)
    told = command(*place.argv("revoke-user", "alice", "--yes"))
    assert (told.code, told.out, told.err) == (0, "ended 3 persistent sessions of s:alice\n", "")
    assert [place.get(record.id) for record in records] == [None] * 3
    assert place.get(other.id) == other
    told = command(*place.argv("revoke-user", "bob", "--yes", "--json"))
    assert (told.code, told.json) == (0, {"user": "bob", "ended": 1})
    told = command(*place.argv("revoke-user", "bob", "--yes", "--json"))
    assert (told.code, told.json) == (1, {"user": "bob", "ended": 0})


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("Yes\n", 0), ("n\n", 1), ("\n", 1), ("", 1), ("yeah\n", 1)])
def test_a_question_comes_before_more_than_one_is_ended(
    sqlite: Place, command: Command, at_a_terminal: Tty, answer: str, code: int
) -> None:
    sqlite.insert(make_record(user="alice"), make_record(user="alice"))
    at_a_terminal.write(answer)
    at_a_terminal.seek(0)
    told = command(*sqlite.argv("revoke-user", "alice"))
    assert told.code == code
    assert told.err.startswith("End 2 persistent sessions of s:alice? [y/N] ")
    assert ("error: none was ended" in told.err) == bool(code)
    assert len(command(*sqlite.argv("list", "alice", "--json")).json) == (2 if code else 0)


def test_one_alone_is_ended_without_a_question(sqlite: Place, command: Command, at_a_terminal: Tty) -> None:
    sqlite.insert(make_record(user="alice"))
    told = command(*sqlite.argv("revoke-user", "alice"))
    assert (told.code, told.out, told.err) == (0, "ended 1 persistent session of s:alice\n", "")


def test_where_nobody_can_be_asked_nothing_is_ended(
    sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are: a script must not work until the day when there are two."""
    sqlite.insert(make_record(user="alice"))
    for stdin in (io.StringIO("y\n"), None):
        monkeypatch.setattr(sys, "stdin", stdin)
        told = command(*sqlite.argv("revoke-user", "alice"))
        assert (told.code, told.out) == (2, "")
        assert told.err == (
            "error: nobody can be asked whether to end more than one, as stdin is no terminal: pass --yes\n"
        )
    assert command(*sqlite.argv("list", "alice")).code == 0


def test_a_long_absence_hides_nobody_from_revoke_user(sqlite: Place, command: Command) -> None:
    """The app's ``max_age`` may be 400 days: what it is, this command is not told."""
    record = replace(seen(300, user="alice"), expires_at=round(time.time() + 100 * DAY, 3))
    sqlite.insert(record)
    assert command(*sqlite.argv("revoke-user", "alice", "--yes", "--json")).json["ended"] == 1
    assert sqlite.get(record.id) is None


# count and purge


def test_sessions_and_users_are_counted(place: Place, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "BATCH", 3)
    place.insert(
        *(seen(0, user="alice") for _ in range(4)),
        seen(2, user="bob"),
        seen(2, user=1),
        seen(10, user="1", persistent=False),
        seen(29, user=2),
    )
    told = command(*place.argv("count", "--json"))
    assert (told.code, told.err) == (0, "")
    assert told.json == {
        "sessions": 8,
        "users": 5,
        "persistent": 7,
        "until_browser_closes": 1,
        "seen": {"day": 4, "week": 2, "month": 2, "longer": 0},
        "expired": 0,
        "unreadable": 0,
        "unreadable_ids": [],
    }
    told = command(*place.argv("count", "--max-age", "5d"))
    assert re.sub(r" +", " ", told.out).splitlines() == [
        "persistent sessions 6",
        " kept when the browser is closed 6",
        " until the browser is closed 0",
        " last seen in the last day 4",
        " last seen 1 to 7 days ago 2",
        " last seen 7 to 30 days ago 0",
        " last seen longer ago 0",
        "users 3",
        "expired, not deleted yet 2",
        "cannot be read 0",
    ]


def test_an_empty_store_is_counted(place: Place, command: Command) -> None:
    told = command(*place.argv("count", "--json"))
    assert (told.code, told.err) == (0, "")
    assert (told.json["sessions"], told.json["users"]) == (0, 0)


def test_what_a_store_tells_twice_is_counted_once() -> None:
    totals, record = walks.Totals(), make_record()
    for _ in range(2):
        totals.add(walks.Batch([record], ["x"]), lambda one: one.expires_at, time.time())
    assert (totals.values()["sessions"], totals.values()["users"], totals.values()["unreadable"]) == (1, 1, 1)


def test_what_expired_a_day_ago_is_purged(place: Place, command: Command) -> None:
    standing = seen(0)
    place.insert(standing)
    if place.kind in {"sqlite", "postgresql"}:
        place.insert(seen(30.5), seen(31.5), seen(40))
        told = command(*place.argv("purge"))
        assert (told.code, told.out) == (0, "deleted 2 records that expired more than a day ago\n")
        told = command(*place.argv("purge", "--json"))
        assert told.json == {"purged": 0, "expires_by_itself": False}
        assert command(*place.argv("count", "--json")).json["expired"] == 1
    else:
        told = command(*place.argv("purge"))
        assert told.code == 0
        assert re.fullmatch("nothing to do: (Redis|MongoDB) deletes expired records by itself\n", told.out)
        assert command(*place.argv("purge", "--json")).json == {"purged": 0, "expires_by_itself": True}
    assert place.get(standing.id) == standing


def test_progress_is_shown_at_a_terminal_and_nowhere_else(
    place: Place, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walks, "BATCH", 2)
    monkeypatch.setattr("aiohttp_persistent_session.cli.terminal._DRAWN_EVERY", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    place.insert(*(seen(0) for _ in range(6)))
    assert command(*place.argv("count")).err == ""
    shown = Tty()
    monkeypatch.setattr(sys, "stderr", shown)
    assert command(*place.argv("count", "--json")).json["sessions"] == 6
    frames = shown.getvalue().split("\r\x1b[K")
    assert frames[-1] == ""
    assert len(frames) >= 4
    assert all(len(frame) < 60 for frame in frames)
    assert "6 records" in frames[-2] or "100%  6 of about 6 records" in frames[-2]
    if place.kind in {"sqlite", "mongodb"}:
        assert frames[1].startswith("[########................]  33%  2 of about 6 records")


# Clusters


def test_a_cluster_is_reached_by_one_of_its_nodes(redis_cluster: ClusterSetup, command: Command) -> None:
    prefix = f"test:{secrets.token_hex(6)}:"
    url = f"redis://127.0.0.1:{redis_cluster.port}"
    argv = ("--backend", url, "--cluster", "--prefix", prefix)

    async def fill() -> None:
        async with RedisCluster.from_url(url) as client:
            backend = RedisBackend(client, prefix=prefix)
            for number in range(20):
                await backend.insert(make_record(user=number % 4))

    asyncio.run(fill())
    told = command(*argv, "count", "--json")
    assert (told.code, told.err) == (0, "")
    assert (told.json["sessions"], told.json["users"]) == (20, 4)
    assert command(*argv, "revoke-user", "i:1", "--yes", "--json").json["ended"] == 5
    told = command("--backend", url, "--prefix", prefix, "list", "i:2")
    assert told.code == 3
    assert "the server is a node of a cluster: pass --cluster" in told.err
    assert told.err.count("\n") == 1


def test_a_user_of_redis_needs_the_rights_that_the_pages_name(redis_url: str, command: Command) -> None:
    docs = Path(__file__).parent.parent / "docs"
    of_apps = re.search(r"`~persistent_session:\* (.*?)`", (docs / "redis.md").read_text(), re.DOTALL)
    page = (docs / "command-line.md").read_text()
    assert of_apps is not None
    assert "`+scan` for `count`" in page
    of_check = re.search(r"`(\+info[^`]*)`", page)
    assert of_check is not None
    prefix, name = f"test:{secrets.token_hex(6)}:", secrets.token_hex(8)
    url = redis_url.replace("://", f"://{name}:pass@")
    argv = ("--backend", "env:STORE", "--prefix", prefix)
    with redis_py.Redis.from_url(redis_url) as admin, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE", url)
        admin.execute_command("ACL", "SETUSER", name, "on", ">pass", f"~{prefix}*", *of_apps[1].split())
        try:
            assert command(*argv, "list", "alice").code == 1
            assert command(*argv, "check", "--json").json["faults"] == 0
            refused = command(*argv, "count")
            assert (refused.code, refused.out) == (3, "")
            admin.execute_command("ACL", "SETUSER", name, "+scan", *of_check[1].split())
            assert command(*argv, "count", "--json").json["sessions"] == 0
            notes = [one for one in command(*argv, "check", "--json").json["findings"] if one["severity"] == "note"]
            assert notes == []
        finally:
            admin.execute_command("ACL", "DELUSER", name)


# Usage


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["list", "alice"], "pass --backend URL"),
        (["--backend", "env:", "list", "alice"], "the environment variable '' of --backend env: is not set"),
        (["--backend", "env:NO_SUCH_NAME", "count"], "the environment variable 'NO_SUCH_NAME' of"),
        (["--backend", "mysql://x", "count"], "--backend must begin with env:, redis://"),
        (["--backend", "alice", "count"], "--backend must begin with env:, redis://"),
        (["--backend", "redis://x", "frobnicate"], "invalid choice: 'frobnicate'"),
        (["--backend", "redis://x", "list"], "the following arguments are required: USER"),
        (["--backend", "redis://x", "list", ""], "user must not be empty"),
        (["--backend", "redis://x", "list", "x" * 1025], "user must not exceed 1024 bytes"),
        (["--backend", "redis://x", "list", "--int", "alice"], "USER is no number"),
        (["--backend", "redis://x", "list", "i:1_0"], "USER is no number"),
        (["--backend", "redis://x", "list", "i:" + "9" * 5000], "USER is no number"),
        (["--backend", "redis://x", "list", "--int", "s:1"], "--int says that USER is a number, and s: that"),
        (["--backend", "redis://x", "show", "../../etc"], "ID is no id of a persistent session"),
        (["--backend", "redis://x", "revoke", "x" * 23], "ID is no id of a persistent session"),
        (["--backend", "redis://x", "--table", "t", "count"], "--table is for another store"),
        (["--backend", "sqlite:///x.db", "--cluster", "count"], "--cluster is for another store"),
        (["--backend", "mongodb://x", "--prefix", "p", "count"], "--prefix is for another store"),
        (["--backend", "mongodb://x", "--collection", "$x", "count"], "collection '$x' is no name that MongoDB takes"),
        (["--backend", "sqlite:///x.db", "--table", "", "count"], "table must be a name of 1 to 49 bytes"),
        (["--backend", "sqlite://", "check"], "records in memory are their process's own"),
        (["--backend", "redis://x/one", "count"], "the database is no number"),
        (["--backend", "redis://x", "--max-age", "-1", "count"], "--max-age"),
        (["--backend", "redis://x", "--max-age", "1y", "count"], "it is no duration: pass a number of seconds, or 12h"),
        (["--backend", "redis://x", "--max-age", "500d", "count"], "max_age must be at least 1 s and at most 400 days"),
        (["--backend", "redis://x", "--timeout", "0", "count"], "timeout must be more than 0"),
        (["--backend", "redis://x", "--max-ag=1d", "count"], "unrecognized arguments: --max-ag=1d"),
    ],
)  # fmt: skip
def test_wrong_usage_is_told_in_one_line(argv: list[str], says: str, command: Command) -> None:
    told = command(*argv)
    assert (told.code, told.out) == (2, "")
    assert told.err.startswith("error: ")
    assert says in told.err
    assert told.err.count("\n") == 1


def test_options_may_come_before_the_command_or_after_it() -> None:
    for argv in (
        ["--backend", "redis://x", "--json", "--max-age", "1.5h", "--prefix", "p:", "list", "alice"],
        ["list", "--backend", "redis://x", "alice", "--json", "--max-age", "5400", "--prefix", "p:"],
        [
            "--backend",
            "redis://y",
            "list",
            "alice",
            "--backend",
            "redis://x",
            "--json",
            "--max-age",
            "90m",
            "--prefix=p:",
        ],
    ):
        arguments = parse(argv)
        assert (arguments.command, arguments.url, arguments.user, arguments.as_json) == (
            "list",
            "redis://x",
            "alice",
            True,
        )
        assert arguments.durations == {"max_age": 5400}
        assert arguments.store_options == {"prefix": "p:"}
    assert parse(["--backend", "redis://x", "list", "--int", "-5"]).user == -5
    assert parse(["--backend", "redis://x", "list", "--", "-alice"]).user == "-alice"
    assert parse(["--backend", "redis://x", "list", "s:i:5"]).user == "i:5"


def test_help_says_how_the_command_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["--help"], ["list", "--help"]):
        with pytest.raises(SystemExit) as stopped:
            parse(argv)
        assert stopped.value.code == 0
        assert "--backend URL" in capsys.readouterr().out


def test_the_version_is_told_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"aiohttp-persistent-session {metadata.version('aiohttp-persistent-session')}\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (30 * DAY - 18, "30 days"),
        (36.4 * 3600, "2 days"),
        (7300, "2 hours"),
        (61, "1 minute"),
        (59.4, "59 s"),
        (0, "0 s"),
    ],
)
def test_a_time_that_is_left_is_rounded(seconds: float, text: str) -> None:
    assert views._about(seconds) == text


# What is not there


def test_nothing_is_made_where_a_name_is_misspelt(place: Place, command: Command) -> None:
    if place.kind == "redis":
        told = command("--backend", place.url, "--prefix", "no:such:", "list", "alice")
        assert (told.code, told.err) == (1, "error: there are no persistent sessions of s:alice\n")
        return
    option, what = {
        "sqlite": ("--table", "table 'misspelt' in the database"),
        "postgresql": ("--table", "table 'misspelt' in the database"),
        "mongodb": ("--collection", "collection 'misspelt' in the database"),
    }[place.kind]
    for words in (("list", "alice"), ("count",), ("purge",), ("revoke-user", "alice", "--yes")):
        for _ in range(2):
            told = command(*place.argv(option, "misspelt", *words))
            assert told.code == 3
            assert told.err.startswith(f"error: there is no {what}")


def test_no_sqlite_file_is_made(sqlite: Place, command: Command) -> None:
    path = sqlite.store.path.with_name("misspelt.db")
    told = command("--backend", f"sqlite:///{path}", "list", "alice")
    assert (told.code, told.err) == (3, f"error: there is no file {str(path)!r}\n")
    assert not path.exists()


def test_a_table_that_lacks_a_column_is_told(sqlite: Place, command: Command) -> None:
    async def work(backend: Any) -> None:
        async with backend._engine.connect() as connection:
            await connection.execute(sa.text("ALTER TABLE persistent_sessions DROP COLUMN address"))

    sqlite.use(work)
    told = command(*sqlite.argv("list", "alice"))
    assert (told.code, told.err) == (3, "error: the table 'persistent_sessions' lacks the columns address\n")


def test_a_driver_that_is_not_installed_is_told(
    sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("aiohttp_persistent_session.cli.inspect_redis", "aiohttp_persistent_session.backends.redis"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    told = command("--backend", "redis://x", "count")
    assert told.code == 2
    assert told.err == 'error: RedisBackend needs redis-py: pip install "aiohttp-persistent-session[redis]"\n'


# A store that is down, or hangs


def urls_at(port: int) -> dict[str, str]:
    # PyMongo waits for a server to come up for as long as it is told.
    return {
        "redis": f"redis://user:{PASSWORD}@127.0.0.1:{port}/0",
        "mongodb": f"mongodb://user:{PASSWORD}@127.0.0.1:{port}/?serverSelectionTimeoutMS=300",
        "postgresql": f"postgresql://user:{PASSWORD}@127.0.0.1:{port}/app",
    }


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken, and never answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


COMMANDS = (
    ("list", "alice"),
    ("show", "x" * 22),
    ("revoke", "x" * 22),
    ("revoke-user", "alice", "--yes"),
    ("count",),
    ("purge",),
    ("check",),
)


@pytest.mark.parametrize("kind", ["redis", "mongodb", "postgresql"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_store_that_is_down_is_told_in_one_line(
    kind: str, words: tuple[str, ...], closed_port: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORE", urls_at(closed_port)[kind])
    started = time.monotonic()
    told = command("--backend", "env:STORE", *words)
    assert time.monotonic() - started < 4
    assert (told.code, told.out) == (3, "")
    assert told.err.startswith("error: the store failed: ")
    assert str(closed_port) in told.err
    assert told.err.count("\n") == 1
    assert PASSWORD not in told.err


@pytest.mark.parametrize("kind", ["redis", "mongodb", "postgresql"])
def test_a_store_that_hangs_is_given_up(
    kind: str, silent_port: int, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = urls_at(silent_port)[kind].replace("=300", "=30000")
    monkeypatch.setenv("STORE", url)
    started = time.monotonic()
    told = command("--backend", "env:STORE", "--timeout", "0.3", "list", "alice", "--json")
    assert time.monotonic() - started < 8
    assert (told.code, told.out, told.err) == (3, "", "error: the store failed: no answer in time\n")


def test_an_outage_amid_a_walk_ends_it(sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite.insert(*(make_record() for _ in range(6)))
    monkeypatch.setattr(walks, "BATCH", 2)
    real, calls = SQLBackend._read, list[Any]()

    async def read(self: SQLBackend, statement: Any) -> Any:
        calls.append(statement)
        if len(calls) == 2:
            raise OSError("disk I/O error")
        return await real(self, statement)

    monkeypatch.setattr(SQLBackend, "_read", read)
    told = command(*sqlite.argv("count"))
    assert (told.code, told.out, told.err) == (3, "", "error: the store failed: disk I/O error\n")


# Passwords


def test_a_password_in_the_url_is_warned_of_unless_it_comes_from_the_environment(
    redis_url: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = redis_url.replace("://", f"://:{PASSWORD}@")
    monkeypatch.setenv("STORE", url)
    shown = command("--backend", url, "list", "alice")
    assert shown.err.startswith("warning: other users of this machine can see the password in --backend: put")
    hidden = command("--backend", "env:STORE", "list", "alice")
    assert "warning" not in hidden.err
    # A server without users accepts any password, and one with users refuses this one.
    assert PASSWORD not in shown.err + shown.out + hidden.err + hidden.out


def test_a_password_that_a_driver_or_argparse_quotes_is_hidden(command: Command) -> None:
    for argv in (
        ["--backnd", f"redis://:{PASSWORD}@h", "list", "alice"],
        ["--backend", "x", f"redis://:{PASSWORD}@h"],
        ["--backend", f"redis://:{PASSWORD}@h:port", "list", "alice"],
        ["--backend", f"redis://:{PASSWORD}/@h", "list", "alice"],
        ["--backend", f"mongodb://a:{PASSWORD}%@h", "list", "alice"],
        ["--backend", f"postgresql://a:{PASSWORD}@h/x?nope={PASSWORD}", "list", "alice"],
        ["--backend", f"http://a:{PASSWORD}@h", "list", "alice"],
    ):
        told = command(*argv)
        assert told.code == 2
        assert PASSWORD not in told.err + told.out


def test_what_is_secret_in_a_url() -> None:
    assert passwords("redis://localhost:6379/0") == set()
    assert passwords("sqlite:///x.db") == set()
    assert passwords("postgresql://alice@h/x") == set()
    assert passwords("redis://:a%2Bb@h") == {"a%2Bb", "a+b"}
    assert passwords("mongodb://u:p@ss@h/?tlsCertificateKeyFilePassword=k%20k") == {"p@ss", "k k"}
    assert passwords("postgresql://h/x?user=u&password=p") == {"p"}
    url = "postgresql://u:a%2Bb@h/x?sslpassword=key"
    assert hide("no a+b, no a%2Bb, no key", url) == "no ***, no ***, no ***"
    assert hide(f"cannot use {url}", url) == "cannot use postgresql://***@h/x?sslpassword=***"


def test_the_arguments_do_not_show_the_url() -> None:
    assert "geheim" not in repr(parse(["--backend", "redis://:geheim@h", "count"]))


# Terminals


def test_a_hostile_user_agent_cannot_write_to_the_terminal(sqlite: Place, command: Command) -> None:
    """It may neither move the cursor, nor fill the clipboard, nor turn the direction of the line."""
    user, agent = "alice\x1b[1m", "\x1b]52;c;ZXZpbA==\x07\x1b[2J\r\n\x9b31m\u202eevil\u2028"
    record = make_record(user=user, user_agent=agent, address="\x08\x7f", data='{"x": "\\u001b[3m"}')
    sqlite.insert(record, make_record(user=user))
    for words in (("list", user), ("show", record.id), ("list", "\x1b[2J"), ("revoke-user", user, "--yes")):
        for told in (command(*sqlite.argv(*words)), command(*sqlite.argv(*words, "--json"))):
            for line in (told.out + told.err).split("\n"):
                assert line.isprintable()
            if words[0] == "show" and "{" not in told.out.splitlines()[0]:
                assert r"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x0d\x0a\x9b31m\u202eevil\u2028" in told.out
                assert r"address       \x08\x7f" in told.out


@pytest.mark.parametrize("columns", [30, 40, 80, 120, 200])
def test_no_line_is_longer_than_the_terminal(
    sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    sqlite.insert(
        *(seen(1, user="alice", user_agent=agent, address="2001:db8::1") for agent in (CHROME, "日本" * 80, ""))
    )
    for words in (("list", "alice"), ("count",), ("check",)):
        out = Tty()
        monkeypatch.setattr(sys, "stdout", out)
        assert command(*sqlite.argv(*words)).code in {0, 1}
        lines = out.getvalue().splitlines()
        assert max(map(width, lines)) <= columns
        assert columns != 200 or words[0] != "list" or len(lines) == 4


def test_an_encoding_that_lacks_a_character_is_no_error(
    sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite.insert(seen(1, user="zoë", user_agent="日本"))
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert command(*sqlite.argv("list", "zoë")).code == 0
    assert rb"\u65e5\u672c" in raw.getvalue()


# Interruptions, and logs


def test_an_interrupt_is_told_in_one_line(sqlite: Place, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("aiohttp_persistent_session.cli.main._run", interrupted)
    told = command(*sqlite.argv("count"))
    assert (told.code, told.out, told.err) == (130, "", "error: interrupted\n")


def test_logs_are_as_before_afterwards(sqlite: Place, command: Command) -> None:
    before = list(logging.getLogger().handlers)
    command(*sqlite.argv("count"))
    assert logging.getLogger().handlers == before


def test_usage_faults_are_no_store_faults() -> None:
    with pytest.raises(UsageFault):
        parse(["--backend", "redis://x"])
