"""Nothing that signs anybody in is in a log, a repr, an exception or the store."""

from __future__ import annotations

import json
import logging
import re
import traceback
from base64 import b64encode, urlsafe_b64encode
from dataclasses import asdict

import pytest
from aiohttp import web

from aiohttp_persistent_session import remember
from aiohttp_persistent_session.record import Client, Policy, exchange
from aiohttp_persistent_session.testing import make_record
from aiohttp_persistent_session.tokens import Token, digest, new_salt, successor

from .browser import TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend


def spellings(token: str) -> list[str]:
    """Every way in which a half of the token might have been written down."""
    parsed = Token.parse(token)
    assert parsed
    raw = (parsed.selector, parsed.secret)
    texts = [part for half in raw for part in (half.hex(), b64encode(half).decode(), repr(half)[2:-1])]
    return [*token.split("."), *(urlsafe_b64encode(half).decode() for half in raw), *texts]


async def whole_life(workers: Workers, backend: FaultyBackend, clock: Clock) -> set[str]:
    """Sign in, restore, join, be late, be reused, be revoked, fail: return every token that there was."""
    tokens: set[str] = set()

    async def login_and_die(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise ZeroDivisionError

    async def validate(request: web.Request, _: object) -> bool:
        if "fail" in request.query:
            raise ZeroDivisionError
        return "refuse" not in request.query

    worker = await workers(backend, handlers={"/die": login_and_die}, validate=validate, timeout=0.05)
    browser = Browser(worker)

    async def get(path: str = "/me", **options: object) -> None:
        browser.take(await browser.send("GET", path, **options))
        tokens.add(browser.token or "")

    await browser.sign_in()
    tokens.add(browser.token or "")
    await get("/die")
    await browser.sign_in()
    stolen = browser.clone()
    stolen.end_session()
    for path in ("/me", "/me?fail", "/me"):
        browser.end_session()
        await get(path)
    for pause in (5, 30, 61):
        clock.advance(pause)
        await stolen.send("GET", "/me")
    for fault in (backend.break_down, backend.hang):
        backend.heal()
        await browser.sign_in()
        tokens.add(browser.token or "")
        fault()
        browser.end_session()
        await get()
        await browser.send("POST", "/logout")
        await browser.send("POST", "/login", data={"user": "alice"})
    backend.heal()
    browser.end_session()
    await get("/me?refuse")
    await browser.sign_in()
    await get("/devices")
    tokens.discard("")
    return tokens


async def test_no_log_line_at_debug_level_holds_a_secret(
    workers: Workers, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = await whole_life(workers, backend, clock)
    assert len(tokens) >= 5
    logged = caplog.text + "".join(repr(record.args) + str(record.__dict__) for record in caplog.records)
    assert "aiohttp_persistent_session" in logged
    for token in tokens:
        for text in spellings(token):
            assert text not in logged


async def test_the_store_holds_no_secret(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    tokens = await whole_life(workers, backend, clock)
    stored = backend.inner._records
    assert stored
    dump = repr(stored) + "".join(str(asdict(record)) for record in stored.values())
    dump += "".join(
        json.dumps(asdict(record), default=lambda raw: b64encode(raw).decode()) for record in stored.values()
    )
    for token in tokens:
        for text in spellings(token):
            assert text not in dump


def test_no_repr_holds_a_secret() -> None:
    token = Token.generate()
    salt, policy = new_salt(), Policy()
    record = make_record(id=token.id, digest=digest(token.secret))
    exchanged = exchange(record, token.secret, salt, record.created_at, policy, Client())
    shown = repr(token) + str(token) + f"{token}" + repr(record) + repr(exchanged) + repr([token, exchanged.spent])
    for text in spellings(token.cookie_value):
        assert text not in shown
    for raw in (record.digest, exchanged.digest, salt):
        assert repr(raw) not in shown


def test_no_exception_of_the_rules_holds_a_secret() -> None:
    token = Token.generate()
    record = make_record(id=token.id, digest=digest(token.secret))
    with pytest.raises(AttributeError) as caught:
        exchange(record, token.secret, new_salt(), record.created_at, None, Client())  # type: ignore[arg-type]
    text = "".join(traceback.format_exception(caught.value))
    for spelling in spellings(token.cookie_value):
        assert spelling not in text


async def test_the_id_is_safe_to_show(worker: Worker, browser: Browser) -> None:
    """It cannot be presented in the selector's place, not even to get somebody signed out."""
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", id)
    assert id not in (browser.token or "")
    for last in "AQgw":
        for value in (f"{id[:21]}{last}.{'A' * 43}", f"{id}.{'A' * 43}"):
            reply = await Browser(worker, {TOKEN: value}).get()
            assert reply.cookies == {}
            await Browser(worker, {TOKEN: value}).post("/logout")
    browser.end_session()
    assert (await browser.get()).user == "alice"


def test_a_reader_of_the_store_cannot_compute_the_successor() -> None:
    """Salt and digests are all that is stored; the key of the derivation is the secret itself."""
    secret, salt = Token.generate().secret, new_salt()
    following = successor(secret, salt)
    for key in (digest(secret), salt, digest(following), b""):
        for message in (digest(secret), salt, digest(following), b""):
            assert successor(key, message) != following
            assert successor(key, message) != secret


def test_the_successor_is_hmac_sha256_keyed_with_the_secret() -> None:
    """RFC 4231, test case 1, read as secret and salt."""
    key, data = bytes([0x0B]) * 20, b"Hi There"
    expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    assert successor(key, data).hex() == expected


async def test_one_browsers_token_is_never_in_anothers_response(worker: Worker) -> None:
    alice, bob = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    reply = await bob.sign_in("bob")
    assert alice.token not in str(reply.headers)
    assert alice.token not in (await bob.get("/devices")).text
