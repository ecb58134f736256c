"""What one worker has counted since it began, for metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Plain numbers that only grow; whoever collects them reads the attributes."""

    sign_ins: int = 0
    """Persistent sessions that began."""
    exchanges: int = 0
    """Tokens that were exchanged for a session."""
    joins: int = 0
    """Requests that joined an exchange."""
    rotations: int = 0
    """New tokens for live sessions."""
    repeats: int = 0
    """Tokens that ``on_repeat`` told of."""
    reuses: int = 0
    """Copies that were found out, each of which ended its persistent session."""
    new_clients: int = 0
    """Changes of a browser's family or network that ``on_new_client`` told of."""
    outages: int = 0
    """Times that an operation of the store began to fail; those within a minute of the last one are not counted."""
