"""Records in a world where it is always now: time passes by making everything older.

Two records that differ in nothing that a rule can tell apart are made equal, so that they are walked once.
"""

from __future__ import annotations

from dataclasses import replace as changed

from aiohttp_persistent_session.record import Record, Secret

NOW = 1_000_000.0
LONG_AGO = 120.0
"""Seconds after which nothing gets any older: more than each duration that the rules go by."""
A_WHILE_AGO = 30.0
"""The same for what only the grace period and shorter times are asked about."""


def first_record(id: str, digest: bytes, *, persistent: bool = True) -> Record:
    """Return the record of a browser that signed in long ago."""
    at = NOW - LONG_AGO
    record = Record(id, "alice", at, at, at, (Secret(digest, at),), persistent=persistent)
    return plain(record)


def older(record: Record, seconds: float) -> Record:
    """Return the record as it looks so many seconds later."""
    secrets = tuple(
        changed(
            secret,
            issued_at=secret.issued_at - seconds,
            exchanged_at=None if secret.exchanged_at is None else secret.exchanged_at - seconds,
            until=None if secret.until is None else secret.until - seconds,
        )
        for secret in record.secrets
    )
    issued = None if record.issued_last_at is None else record.issued_last_at - seconds
    return plain(changed(record, secrets=secrets, seen_at=record.seen_at - seconds, issued_last_at=issued))


def plain(record: Record) -> Record:
    """Return the record without what is there for people and stores only, and no older than rules can tell."""
    secrets = tuple(
        changed(
            secret,
            issued_at=max(secret.issued_at, NOW - LONG_AGO),
            exchanged_at=None if secret.exchanged_at is None else max(secret.exchanged_at, NOW - A_WHILE_AGO),
            until=None if secret.until is None else max(secret.until, NOW - A_WHILE_AGO),
            seen_at=None,
            address=None,
        )
        for secret in record.secrets
    )
    issued = record.issued_last_at
    return changed(
        record,
        secrets=secrets,
        seen_at=max(record.seen_at, NOW - LONG_AGO),
        issued_last_at=None if issued is None or issued <= NOW - A_WHILE_AGO else issued,
        created_at=NOW - LONG_AGO,
        expires_at=NOW,
        user_agent="",
        address="",
    )
