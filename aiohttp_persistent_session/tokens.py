"""The token in the cookie: how it is written, what is stored of it, and which token succeeds it.

A token is ``<selector>.<secret>``. The selector finds the record and stays for the life of the persistent session; the
secret proves that this browser may use it, and may be exchanged once. Finding by one half and comparing the other in
constant time is the split-token scheme (Paragon Initiative, "Implementing Secure User Authentication", 2015).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cached_property

SELECTOR_BYTES = 16
SECRET_BYTES = 32
SALT_BYTES = 32
ID_LENGTH = 22

# The last character of each half is restricted so that the spare bits are zero: one token has one spelling.
_WELL_FORMED = re.compile(r"([A-Za-z0-9_-]{21}[AQgw])\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])")


_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def is_id(text: object) -> bool:
    """Tell whether ``text`` could be a persistent session's id. A store is never asked for anything else."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def digest(secret: bytes) -> bytes:
    """Return the SHA-256 digest of ``secret``: 32 bytes, what a store holds in its place.

    A plain hash suffices: the secret has 256 random bits, so there is nothing to guess (OWASP ASVS 5.0, 11.4).
    """
    return hashlib.sha256(secret).digest()


def successor(secret: bytes, salt: bytes) -> bytes:
    """Return the secret that follows ``secret``: 32 bytes, HMAC-SHA256 keyed with it over ``salt``.

    Whoever holds the same secret and reads the same salt derives the same successor, so requests that race need no
    agreement; whoever reads the store alone has the salt but not the key (RFC 2104).
    """
    return hmac.digest(secret, salt, "sha256")


def new_salt() -> bytes:
    """Return 32 fresh random bytes."""
    return secrets.token_bytes(SALT_BYTES)


@dataclass(frozen=True, repr=False)
class Token:
    """What a browser's cookie holds. Its text comes only from :attr:`cookie_value`, never from ``str`` or ``repr``."""

    selector: bytes
    secret: bytes

    @classmethod
    def generate(cls) -> Token:
        """Return a new random token: 128 bits of selector, 256 bits of secret."""
        return cls(secrets.token_bytes(SELECTOR_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token that ``text`` spells, or None where it is malformed. Raises nothing, whatever the text."""
        match = _WELL_FORMED.fullmatch(text)
        if match is None:
            return None
        return cls(_decode(match[1]), _decode(match[2]))

    @property
    def cookie_value(self) -> str:
        """The token's text, 66 characters. It signs its holder in: only a Set-Cookie header may carry it."""
        return f"{_encode(self.selector)}.{_encode(self.secret)}"

    @cached_property
    def id(self) -> str:
        """The persistent session's id, 22 characters, safe to log: the selector cannot be computed from it."""
        return _encode(hashlib.sha256(self.selector).digest())[:ID_LENGTH]

    def with_secret(self, secret: bytes) -> Token:
        """Return the token of the same persistent session that holds ``secret``."""
        return Token(self.selector, secret)

    def __repr__(self) -> str:
        return f"<Token of {self.id}>"
