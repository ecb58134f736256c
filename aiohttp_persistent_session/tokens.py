"""The token in the cookie: how it is written, and what is stored of it.

A token is ``<selector>.<secret>``. The selector finds the record and stays for the life of the persistent session; the
secret proves that this browser may use it, and rotates. Finding by one half and comparing the other in constant time is
the split-token scheme (Paragon Initiative, "Implementing Secure User Authentication", 2015).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NoReturn

SELECTOR_BYTES = 16
SECRET_BYTES = 32
ID_LENGTH = 22

# The last character of each half is restricted so that the spare bits are zero: one token has one spelling.
_WELL_FORMED = re.compile(r"([A-Za-z0-9_-]{21}[AQgw])\.([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])")
_ID = re.compile(r"[A-Za-z0-9_-]{22}")


def is_id(text: object) -> bool:
    """Tell whether ``text`` could be a persistent session's id. A store is never asked for anything else."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def digest(secret: bytes) -> bytes:
    """Return the SHA-256 digest of ``secret``: 32 bytes, what a store holds in its place.

    A plain hash suffices: the secret has 256 random bits, so there is nothing to guess (OWASP ASVS 5.0, 11.4).
    """
    return hashlib.sha256(secret).digest()


class Token:
    """What a browser's cookie holds. Its text comes only from :attr:`cookie_value`, never from ``str`` or ``repr``."""

    __slots__ = ("digest", "id", "secret", "selector")

    def __init__(self, selector: bytes, secret: bytes) -> None:
        self.selector = selector
        self.secret = secret
        self.id = _encode(hashlib.sha256(selector).digest())[:ID_LENGTH]
        """The persistent session's id, 22 characters, safe to log: the selector cannot be computed from it."""
        self.digest = digest(secret)
        """The digest of the secret, 32 bytes."""

    @classmethod
    def generate(cls) -> Token:
        """Return a new random token: 128 bits of selector, 256 bits of secret."""
        return cls(secrets.token_bytes(SELECTOR_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """Return the token that ``text`` spells, or None where it is malformed. Raises nothing, whatever the text."""
        match = _WELL_FORMED.fullmatch(text)
        return None if match is None else cls(_decode(match[1]), _decode(match[2]))

    @property
    def cookie_value(self) -> str:
        """The token's text, 66 characters. It signs its holder in: only a Set-Cookie header may carry it."""
        return f"{_encode(self.selector)}.{_encode(self.secret)}"

    def with_new_secret(self) -> Token:
        """Return a token of the same persistent session with a secret of 256 new random bits."""
        return Token(self.selector, secrets.token_bytes(SECRET_BYTES))

    def __repr__(self) -> str:
        return f"<Token of {self.id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a token is not pickled: it signs its holder in")


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
