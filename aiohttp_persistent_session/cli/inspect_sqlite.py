"""Where a SQLite file lies, and how it is written."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from .findings import Finding

_MOUNTS = Path("/proc/mounts")
_ON_A_NETWORK = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre", "ncpfs", "nfs"}
    | {"nfs4", "smb3", "smbfs", "virtiofs", "vboxsf"}
)
_SYNCHRONOUS_FULL = 2


def sqlite_file(url: sa.URL) -> Path | None:
    """Return the file that a URL names, or None where the records are in memory."""
    name = url.database
    if not name or name == ":memory:" or name.startswith("file:"):
        return Path(name.removeprefix("file:").partition("?")[0]) if name and name.startswith("file:") else None
    return Path(name)


def sqlite_findings(file: Path) -> list[Finding]:
    """Judge where the file lies, and who may read it."""
    found = []
    if not file.exists():
        found.append(Finding("note", "file", f"there was no file {str(file)!r}; opening the store makes it"))
    kind = filesystem(file)
    if kind is None:
        found.append(Finding("note", "filesystem", "this system does not tell what filesystem the file is on"))
    elif kind in _ON_A_NETWORK:
        text = f"the file is on a network filesystem ({kind}): locks and WAL do not work there"
        found.append(Finding("fault", "filesystem", text, "Put it on a local disk."))
    elif kind in {"tmpfs", "ramfs"}:
        text = f"the file is in memory ({kind}): a restart of the machine signs everybody out"
        found.append(Finding("fault", "filesystem", text, "Put it on a local disk."))
    else:
        found.append(Finding("ok", "filesystem", f"the file is on a local filesystem ({kind})"))
    folder = file.absolute().parent
    if file.exists() and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) and _others_may_enter(folder):
        text = "other users of this machine may read the file: it holds users, addresses and user agents"
        found.append(Finding("warning", "permissions", text, f"chmod 700 {shlex.quote(str(folder))}"))
    return found


async def sqlite_findings_when_open(connection: AsyncConnection) -> list[Finding]:
    """Judge how it is written, once the backend has opened it."""
    mode = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()
    synchronous = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
    found = []
    if mode != "wal":
        text = f"journal_mode is {mode}, as the filesystem does not let SQLite use WAL: reads wait for writes"
        found.append(Finding("warning", "journal-mode", text, "Put the file on a local disk."))
    if synchronous is None or int(synchronous) < _SYNCHRONOUS_FULL:
        text = "synchronous is less than FULL: a power cut may lose acknowledged exchanges"
        found.append(Finding("fault", "synchronous", text, "Use a SQLite whose default is FULL."))
    return found or [Finding("ok", "journal-mode", "journal_mode is WAL, synchronous is FULL")]


def filesystem(file: Path) -> str | None:
    """Return the type of the filesystem that the file is on, or will be; None where the system does not tell."""
    try:
        mounts = [line.split() for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return None
    path = file.resolve()
    there = [
        (len(point.parts), kind)
        for _, where, kind, *_ in mounts
        if path.is_relative_to(point := Path(where.replace("\\040", " ")))
    ]
    # Of two that are mounted at one point, the later one is seen.
    return max(reversed(there), key=lambda one: one[0])[1] if there else None


def _others_may_enter(folder: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in (folder, *folder.parents))
